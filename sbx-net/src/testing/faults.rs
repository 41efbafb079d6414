//! A bad cable: frames lost, doubled and out of order.

/// What becomes of frames, in percent, by a generator that always gives the same numbers.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Frames that are lost.
    pub lost: u64,
    /// Frames that come twice.
    pub doubled: u64,
    /// Frames that come after the next one.
    pub reordered: u64,
    state: u64,
}

impl Faults {
    /// A good cable.
    #[must_use]
    pub fn none() -> Self {
        Self { lost: 0, doubled: 0, reordered: 0, state: 1 }
    }

    /// A bad one.
    #[must_use]
    pub fn new(lost: u64, doubled: u64, reordered: u64, seed: u64) -> Self {
        Self { lost, doubled, reordered, state: seed | 1 }
    }

    /// What comes out at the other end.
    pub(super) fn pass(&mut self, frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        if self.lost == 0 && self.doubled == 0 && self.reordered == 0 {
            return frames;
        }
        let mut out: Vec<Vec<u8>> = Vec::new();
        for frame in frames {
            if self.happens(self.lost) {
                continue;
            }
            if self.happens(self.doubled) {
                out.push(frame.clone());
            }
            out.push(frame);
            let last = out.len() - 1;
            if last > 0 && self.happens(self.reordered) {
                out.swap(last - 1, last);
            }
        }
        out
    }

    fn happens(&mut self, percent: u64) -> bool {
        // xorshift64: Marsaglia, "Xorshift RNGs", 2003.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % 100 < percent
    }
}
