//! Frames on their way to the guest.

use std::collections::VecDeque;

/// Frames that may wait for the guest. What fills them stops when it is full and goes on when the guest has taken some, so it
/// is as long as it takes to keep a guest busy: 64 of the largest are 4 MiB.
const MAX_FRAMES: usize = 64;

/// Frames kept for reuse, with their memory.
const MAX_SPARE: usize = MAX_FRAMES;

/// A queue of frames, bounded, that reuses their memory.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    waiting: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl Frames {
    /// Whether no frame should be added for now.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_FRAMES
    }

    /// Whether it is worth to look for what may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() <= MAX_FRAMES / 2
    }

    /// The next frame.
    pub(crate) fn front(&self) -> Option<&[u8]> {
        self.waiting.front().map(Vec::as_slice)
    }

    /// Takes the next frame out.
    pub(crate) fn pop(&mut self) {
        if let Some(frame) = self.waiting.pop_front() {
            self.discard(frame);
        }
    }

    /// A frame to write and to [`push`](Self::push). It may still have what it had before: clearing what is written over anyway
    /// would cost as much as the writing.
    pub(crate) fn blank(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Gives a frame back that was not needed.
    pub(crate) fn discard(&mut self, frame: Vec<u8>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(frame);
        }
    }

    /// Adds a frame. One that comes to a full queue is lost, as on any cable.
    pub(crate) fn push(&mut self, frame: Vec<u8>) {
        if self.is_full() {
            self.discard(frame);
        } else {
            self.waiting.push_back(frame);
        }
    }

    /// Forgets all frames.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_in_their_order_and_no_more_than_fit() {
        let mut frames = Frames::default();
        for number in 0..=MAX_FRAMES {
            let mut frame = frames.blank();
            frame.clear();
            frame.push(u8::try_from(number).unwrap());
            frames.push(frame);
        }
        assert!(frames.is_full() && !frames.has_room());
        for number in 0..MAX_FRAMES {
            assert_eq!(frames.front(), Some(&[u8::try_from(number).unwrap()][..]));
            frames.pop();
        }
        assert_eq!(frames.front(), None);
    }
}
