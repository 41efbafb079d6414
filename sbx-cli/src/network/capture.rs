//! Every frame on the cable, in a file that Wireshark and tcpdump read (`sbx up --pcap`).

use std::{fs::File, io, path::Path, time::SystemTime};

use pcap_file::{
    DataLink, PcapError,
    pcap::{PcapHeader, PcapPacket, PcapWriter},
};

/// Bytes of a frame that are kept: all of the largest.
const SNAPSHOT_BYTES: u32 = 65_550;

/// A file that is written.
pub(super) struct Capture {
    /// Not buffered: whoever kills the sandbox wants to know what its last packet was. None once it could not be written.
    writer: Option<PcapWriter<File>>,
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Capture").finish_non_exhaustive()
    }
}

impl Capture {
    /// Begins a file at `path`, in place of one that is there.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let header =
            PcapHeader { snaplen: SNAPSHOT_BYTES, datalink: DataLink::ETHERNET, ..PcapHeader::default() };
        let writer = PcapWriter::with_header(File::create(path)?, header).map_err(into_io)?;
        Ok(Self { writer: Some(writer) })
    }

    /// Writes a frame. A capture that cannot be written ends; the network does not.
    pub(super) fn frame(&mut self, frame: &[u8]) {
        let Some(writer) = &mut self.writer else { return };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        if let Err(error) = writer.write_packet(&PcapPacket::new(now, length, frame)) {
            tracing::warn!(%error, "the capture ends");
            self.writer = None;
        }
    }
}

fn into_io(error: PcapError) -> io::Error {
    io::Error::other(error)
}
