//! What happens to a layer's bytes between the network and the store, in three threads.
//!
//! ```text
//!   pieces ─verify→ pieces ─uncompress→ buffers ─store→ layer directory
//!            │ blob digest      │ limits             │ diff-id, tar
//!            └ partial file
//! ```
//!
//! The stages run at the same time, so the slowest of them (uncompressing, usually) sets the pace. A stage that fails
//! lets go of both its channels, which stops its neighbours; only `verify` reads on when those behind it have failed,
//! because whether the bytes were the right ones decides what the failure means.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bytes::Bytes;

use super::PullLimits;
use super::channel::{BufferReader, Filled, Piece, PieceReader, Pieces};
use super::decompress::{self, Format};
use super::partial::Partial;
use crate::digest::{Digest, Hasher};
use crate::layer::{self, LayerError, LayerSummary};
use crate::manifest::Blob;

/// Bytes that are uncompressed at a time: two such buffers stay in a core's second-level cache.
const BUFFER_BYTES: usize = 256 * 1024;

/// Pieces and buffers that may wait between two stages. Enough to even out their pace, and a few MiB at most.
const QUEUE: usize = 8;

/// What to do with a layer.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// What the compressed bytes must be; none when nobody said.
    pub(super) blob: Option<Blob>,
    pub(super) diff_id: &'a Digest,
    pub(super) directory: &'a Path,
    pub(super) limits: &'a PullLimits,
}

/// What the stages found out. Whoever looks at it decides which of several failures is the cause.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Digest of the compressed bytes; none when they did not arrive completely, or need none.
    pub(super) blob: Option<Digest>,
    /// Reading what an earlier pull left failed.
    pub(super) partial: Option<io::Error>,
    /// Uncompressed length in bytes.
    pub(super) uncompressed: Result<u64, UncompressError>,
    /// Digest of the uncompressed bytes, and what they are.
    pub(super) stored: Result<(Digest, LayerSummary), StoreFailure>,
}

/// Why the bytes could not be uncompressed.
#[derive(Debug)]
pub(super) enum UncompressError {
    /// They stopped coming.
    Cut,
    /// They are malformed.
    Format(io::Error),
    /// There are too many.
    Length(u64),
    /// They are too many for so few compressed ones.
    Ratio(u64),
}

/// Why the layer could not be stored.
#[derive(Debug)]
pub(super) enum StoreFailure {
    /// The tar is not one that we take, or the disk is full.
    Layer(LayerError),
    /// The bytes stopped coming after the tar's end.
    Cut,
}

/// Runs all stages until the pieces end. Returns the partial file for the caller to delete or keep.
pub(super) fn run(
    job: &Job<'_>,
    pieces: tokio::sync::mpsc::Receiver<Piece>,
    mut partial: Option<Partial>,
) -> (Outcome, Option<Partial>) {
    let (verified, to_uncompress) = sync_channel(QUEUE);
    let (uncompressed, to_store) = sync_channel(QUEUE);
    let (empty, recycled) = sync_channel(QUEUE + 2);
    let hopeless = AtomicBool::new(false);
    let (blob, partial_error, uncompressed, stored) = thread::scope(|scope| {
        let hopeless = &hopeless;
        let uncompress = scope.spawn(move || {
            let result = uncompress(job, to_uncompress, &uncompressed, &recycled);
            if matches!(result, Err(UncompressError::Length(_) | UncompressError::Ratio(_))) {
                hopeless.store(true, Ordering::Relaxed);
            }
            result
        });
        let store = scope.spawn(move || {
            let result = store(job, BufferReader::new(to_store, empty));
            if let Err(StoreFailure::Layer(error)) = &result
                && super::error::disk_full(error).is_some()
            {
                hopeless.store(true, Ordering::Relaxed);
            }
            result
        });
        let (blob, error) = verify(job, pieces, &mut partial, verified, hopeless);
        let cut = |_| Err(UncompressError::Cut);
        (blob, error, uncompress.join().unwrap_or_else(cut), store.join().unwrap_or(Err(StoreFailure::Cut)))
    });
    (Outcome { blob, partial: partial_error, uncompressed, stored }, partial)
}

/// Hashes the compressed bytes, those of an earlier pull first, and passes them on.
fn verify(
    job: &Job<'_>,
    mut pieces: tokio::sync::mpsc::Receiver<Piece>,
    partial: &mut Option<Partial>,
    next: SyncSender<Piece>,
    hopeless: &AtomicBool,
) -> (Option<Digest>, Option<io::Error>) {
    let mut next = Some(next);
    let mut hasher = job.blob.as_ref().map(|blob| Hasher::new(blob.digest.algorithm()));
    let mut see = |bytes: &Bytes, hasher: &mut Option<Hasher>| {
        if let Some(sender) = &next
            && sender.send(Piece::Bytes(bytes.clone())).is_err()
        {
            next = None;
        }
        if let Some(hasher) = hasher {
            hasher.update(bytes);
        }
    };
    if let Some(kept) = partial.as_ref().filter(|partial| partial.length() > 0)
        && let Err(error) = replay(kept, |bytes| see(&bytes, &mut hasher))
    {
        return (None, Some(error));
    }
    loop {
        match pieces.receive() {
            Some(Piece::Bytes(_)) if hopeless.load(Ordering::Relaxed) => return (None, None),
            Some(Piece::Bytes(bytes)) => {
                see(&bytes, &mut hasher);
                let written = partial.as_mut().map_or(Ok(()), |partial| partial.append(&bytes));
                if written.is_err()
                    && let Some(partial) = partial.take()
                {
                    partial.remove();
                }
            }
            Some(Piece::End) => {
                if let Some(sender) = next {
                    let _ = sender.send(Piece::End);
                }
                return (hasher.map(Hasher::finish), None);
            }
            None => return (None, None),
        }
    }
}

fn replay(partial: &Partial, mut see: impl FnMut(Bytes)) -> io::Result<()> {
    let mut reader = partial.reader()?;
    let mut left = partial.length();
    while left > 0 {
        let mut buffer = vec![0; BUFFER_BYTES];
        let count = fill(&mut reader, &mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        buffer.truncate(count);
        see(buffer.into());
    }
    Ok(())
}

fn uncompress(
    job: &Job<'_>,
    pieces: Receiver<Piece>,
    next: &SyncSender<Option<Filled>>,
    recycled: &Receiver<Vec<u8>>,
) -> Result<u64, UncompressError> {
    let consumed = std::cell::Cell::new(0_u64);
    let mut input = PieceReader::new(Counted { pieces, bytes: &consumed });
    let format = {
        use io::BufRead as _;
        // The first piece may be shorter than the magic number only if the whole blob is.
        Format::sniff(input.fill_buf().map_err(fault)?)
    };
    let mut output = decompress::decoder(format, input).map_err(fault)?;
    let mut total: u64 = 0;
    loop {
        let mut buffer = recycled.try_recv().unwrap_or_else(|_| vec![0; BUFFER_BYTES]);
        let length = fill(&mut output, &mut buffer).map_err(fault)?;
        if length == 0 {
            let _ = next.send(None);
            return Ok(total);
        }
        total = total.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        if total > job.limits.layer_bytes {
            return Err(UncompressError::Length(job.limits.layer_bytes));
        }
        let allowed = consumed.get().saturating_mul(job.limits.ratio);
        if total > job.limits.ratio_free_bytes && total > allowed {
            return Err(UncompressError::Ratio(job.limits.ratio));
        }
        if next.send(Some(Filled { buffer, length })).is_err() {
            return Err(UncompressError::Cut);
        }
    }
}

fn store(job: &Job<'_>, buffers: BufferReader) -> Result<(Digest, LayerSummary), StoreFailure> {
    let mut reader = Hashing { buffers, hasher: Hasher::new(job.diff_id.algorithm()) };
    let summary =
        layer::ingest(&mut reader, job.directory, &job.limits.layer).map_err(StoreFailure::Layer)?;
    let mut rest = vec![0; BUFFER_BYTES];
    loop {
        match reader.read(&mut rest) {
            Ok(0) => return Ok((reader.hasher.finish(), summary)),
            Ok(_) => {}
            Err(_) => return Err(StoreFailure::Cut),
        }
    }
}

/// Hashes buffers as they are read.
struct Hashing {
    buffers: BufferReader,
    hasher: Hasher,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let hasher = &mut self.hasher;
        self.buffers.read_with(buffer, |bytes| hasher.update(bytes))
    }
}

/// Counts the bytes that were taken.
struct Counted<'a> {
    pieces: Receiver<Piece>,
    bytes: &'a std::cell::Cell<u64>,
}

impl Pieces for Counted<'_> {
    fn receive(&mut self) -> Option<Piece> {
        let piece = self.pieces.receive();
        if let Some(Piece::Bytes(bytes)) = &piece {
            let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.bytes.set(self.bytes.get().saturating_add(count));
        }
        piece
    }
}

/// Reads until the buffer is full or nothing is left.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => length = length.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn fault(error: io::Error) -> UncompressError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        UncompressError::Cut
    } else {
        UncompressError::Format(error)
    }
}
