//! Bytes on their way from one thread to the next.
//!
//! A stream ends with an explicit mark. When the sender is gone without one, the stream was cut, and the reader sees
//! an error instead of a file that happens to be short.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender};

use bytes::Bytes;

/// One message.
#[derive(Debug)]
pub(super) enum Piece {
    /// More bytes, never none.
    Bytes(Bytes),
    /// There are no more.
    End,
}

/// Where pieces come from.
pub(super) trait Pieces {
    /// The next piece; `None` when the sender is gone.
    fn receive(&mut self) -> Option<Piece>;
}

/// Reads pieces as one stream.
#[derive(Debug)]
pub(super) struct PieceReader<P> {
    pieces: P,
    current: Bytes,
    ended: bool,
}

impl<P: Pieces> PieceReader<P> {
    pub(super) fn new(pieces: P) -> Self {
        Self { pieces, current: Bytes::new(), ended: false }
    }
}

impl<P: Pieces> BufRead for PieceReader<P> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.is_empty() && !self.ended {
            match self.pieces.receive() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.ended = true,
                None => return Err(cut()),
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, count: usize) {
        let _ = self.current.split_to(count.min(self.current.len()));
    }
}

impl<P: Pieces> Read for PieceReader<P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), available.get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }
}

impl Pieces for Receiver<Piece> {
    fn receive(&mut self) -> Option<Piece> {
        self.recv().ok()
    }
}

impl Pieces for tokio::sync::mpsc::Receiver<Piece> {
    fn receive(&mut self) -> Option<Piece> {
        self.blocking_recv()
    }
}

/// A buffer with bytes in its first part, which goes back to its owner after use.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) buffer: Vec<u8>,
    pub(super) length: usize,
}

/// Reads recycled buffers as one stream, sending each back when it has been read.
#[derive(Debug)]
pub(super) struct BufferReader {
    filled: Receiver<Option<Filled>>,
    empty: SyncSender<Vec<u8>>,
    current: Option<Filled>,
    position: usize,
    ended: bool,
}

impl BufferReader {
    pub(super) fn new(filled: Receiver<Option<Filled>>, empty: SyncSender<Vec<u8>>) -> Self {
        Self { filled, empty, current: None, position: 0, ended: false }
    }

    /// Calls `see` with each buffer when it arrives, and copies from it.
    pub(super) fn read_with(&mut self, buffer: &mut [u8], see: impl FnOnce(&[u8])) -> io::Result<usize> {
        if self.current.is_none() && !self.ended {
            match self.filled.recv() {
                Ok(Some(filled)) => {
                    see(filled.buffer.get(..filled.length).unwrap_or_default());
                    self.position = 0;
                    self.current = Some(filled);
                }
                Ok(None) => self.ended = true,
                Err(_) => return Err(cut()),
            }
        }
        let Some(filled) = &self.current else { return Ok(0) };
        let available = filled.buffer.get(self.position..filled.length).unwrap_or_default();
        let count = available.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), available.get(..count)) {
            to.copy_from_slice(from);
        }
        self.position = self.position.saturating_add(count);
        if self.position >= filled.length
            && let Some(filled) = self.current.take()
        {
            // Nobody may want it any more.
            let _ = self.empty.try_send(filled.buffer);
        }
        Ok(count)
    }
}

/// The error of a stream that was cut.
fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the stream was cut")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn pieces_are_one_stream() {
        let (sender, receiver) = sync_channel(8);
        for piece in
            [Piece::Bytes(Bytes::from_static(b"one")), Piece::Bytes(Bytes::from_static(b"two")), Piece::End]
        {
            sender.send(piece).unwrap();
        }
        let mut text = String::new();
        let mut reader = PieceReader::new(receiver);
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "onetwo");
        assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let (sender, receiver) = sync_channel(8);
        sender.send(Piece::Bytes(Bytes::from_static(b"one"))).unwrap();
        drop(sender);
        let error = PieceReader::new(receiver).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
