use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown as Direction;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::TryRecvError;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::packet::{HEADER_BYTES, Header, Operation};
use super::{VsockDevice, VsockHandle};
use crate::testing::{Buffer, Guest};
use crate::virtio::VirtioDevice;

mod hostile;
mod limits;
mod saved;
mod streams;

const CID: u64 = 3;
const RX: usize = 0;
const TX: usize = 1;

/// What the fake guest says that it takes, unless a test says otherwise.
const ALLOCATION: u32 = 1 << 20;

/// Data that a receive buffer holds.
const SPACE: u32 = 4096;

/// A guest's driver for the device.
struct Driver {
    device: VsockDevice,
    handle: VsockHandle,
    guest: Guest,
    /// Head and address of each receive buffer.
    buffers: Vec<(u16, u64)>,
    data: u64,
    header: Header,
}

impl Driver {
    /// With `buffers` receive buffers.
    fn new(buffers: usize) -> Self {
        let (mut device, handle) = VsockDevice::new(CID).unwrap();
        let sizes = device.queue_sizes().to_vec();
        let mut guest = Guest::new(&sizes);
        let buffers = (0..buffers)
            .map(|_| {
                let place = guest.allocate(SPACE + 44);
                (guest.add(RX, &[Buffer::Writable(place, SPACE + 44)]), place)
            })
            .collect();
        let data = guest.allocate(1 << 20);
        device.activate(0);
        let header = Header {
            source_cid: U64::new(CID),
            destination_cid: U64::new(2),
            kind: U16::new(1),
            buffer_allocation: U32::new(ALLOCATION),
            ..Header::default()
        };
        Self { device, handle, guest, buffers, data, header }
    }

    /// Sends a packet as it is, without kicking.
    fn queue(&mut self, header: &Header, data: &[u8]) {
        let place = self.guest.store(header.as_bytes());
        let mut chain = vec![Buffer::Readable(place, 44)];
        // Two descriptors of data, as Linux may send.
        self.guest.write(self.data, data);
        let half = data.len() / 2;
        for (start, piece) in [(0, &data[..half]), (half, &data[half..])] {
            if !piece.is_empty() {
                chain.push(Buffer::Readable(self.data + start as u64, u32::try_from(piece.len()).unwrap()));
            }
        }
        self.guest.add(TX, &chain);
    }

    fn kick(&mut self) {
        self.guest.kick(&mut self.device, TX).unwrap();
        while self.guest.take_used(TX).is_some() {}
    }

    /// Sends a packet on the connection between `host` and `guest` port.
    fn send(&mut self, operation: Operation, host: u32, guest: u32, flags: u32, data: &[u8]) {
        let header = Header {
            source_port: U32::new(guest),
            destination_port: U32::new(host),
            length: U32::new(u32::try_from(data.len()).unwrap()),
            operation: operation.code(),
            flags: U32::new(flags),
            ..self.header
        };
        self.queue(&header, data);
        self.kick();
    }

    /// Everything that the device has sent, the receive buffers being given back at once.
    fn receive(&mut self) -> Vec<(Header, Vec<u8>)> {
        let mut packets = Vec::new();
        loop {
            self.guest.wake(&mut self.device).unwrap();
            let Some((head, length)) = self.guest.take_used(RX) else { return packets };
            let place = self.buffers.iter().find(|(known, _)| *known == head).unwrap().1;
            let bytes = self.guest.read(place, length as usize);
            let header = Header::read_from_bytes(&bytes[..HEADER_BYTES]).unwrap();
            assert_eq!(header.length.get() as usize, bytes.len() - HEADER_BYTES);
            assert_eq!((header.source_cid.get(), header.destination_cid.get()), (2, CID));
            packets.push((header, bytes[HEADER_BYTES..].to_vec()));
            self.guest.offer(RX, head);
            self.guest.kick(&mut self.device, RX).unwrap();
        }
    }

    /// The same, only what the packets are for and say.
    fn operations(&mut self) -> Vec<(Operation, u32)> {
        let packets = self.receive();
        packets.iter().map(|(header, _)| (operation(header), header.flags.get())).collect()
    }

    /// All data sent.
    fn received(&mut self) -> Vec<u8> {
        self.receive().into_iter().flat_map(|(_, data)| data).collect()
    }

    /// A connection that the host makes to port 52, with the port that it has on the host.
    fn connected(&mut self) -> (UnixStream, u32) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.handle.connect(52, theirs).unwrap();
        let packets = self.receive();
        assert_eq!(packets.len(), 1);
        let header = packets[0].0;
        assert_eq!((operation(&header), header.destination_port.get()), (Operation::Request, 52));
        let port = header.source_port.get();
        self.send(Operation::Response, port, 52, 0, &[]);
        (ours, port)
    }
}

fn operation(header: &Header) -> Operation {
    Operation::from_code(header.operation).unwrap()
}

fn read_all(mut stream: &UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}
