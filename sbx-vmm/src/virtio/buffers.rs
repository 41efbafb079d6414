//! The memory that a descriptor chain names, checked once.

use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemory, GuestMemoryMmap, VolatileSlice};

/// Why a chain cannot be used. The device gives it back with nothing written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ChainError {
    /// A descriptor names addresses that are not guest memory.
    #[error("a descriptor names what is not guest memory")]
    Address,
    /// A readable descriptor follows a writable one (forbidden by virtio 1.2, 2.7.4.2).
    #[error("a readable descriptor follows a writable one")]
    Order,
    /// The chain goes on where there is nothing: a loop, an index out of range, a broken or nested indirect table.
    #[error("the chain has no end")]
    Endless,
}

/// A sequence of pieces of guest memory, to be read or written as if it were one.
///
/// The guest can change the bytes at any time, so they are to be looked at once only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers<'a> {
    slices: Vec<VolatileSlice<'a>>,
    length: usize,
}

impl<'a> Buffers<'a> {
    /// The part of `chain` that the device may read, and the one that it may write.
    pub(crate) fn split_chain(
        memory: &'a GuestMemoryMmap,
        chain: DescriptorChain<&GuestMemoryMmap>,
    ) -> Result<(Self, Self), ChainError> {
        let (mut readable, mut writable) = (Self::default(), Self::default());
        Self::append_chain(&mut readable, &mut writable, memory, chain)?;
        Ok((readable, writable))
    }

    /// Adds the part of `chain` that the device may read to `readable`, and the one that it may write to `writable`, or
    /// nothing if the chain cannot be used. For a device that has so many chains that it keeps the space for their pieces.
    pub(crate) fn append_chain(
        readable: &mut Self,
        writable: &mut Self,
        memory: &'a GuestMemoryMmap,
        chain: DescriptorChain<&GuestMemoryMmap>,
    ) -> Result<(), ChainError> {
        let before = (readable.end(), writable.end());
        let appended = Self::append_parts(readable, writable, memory, chain);
        if appended.is_err() {
            readable.cut(before.0);
            writable.cut(before.1);
        }
        appended
    }

    fn append_parts(
        readable: &mut Self,
        writable: &mut Self,
        memory: &'a GuestMemoryMmap,
        chain: DescriptorChain<&GuestMemoryMmap>,
    ) -> Result<(), ChainError> {
        let mut writes = false;
        let mut goes_on = true;
        for descriptor in chain {
            goes_on = descriptor.has_next();
            if writes && !descriptor.is_write_only() {
                return Err(ChainError::Order);
            }
            writes = descriptor.is_write_only();
            let part = if writes { &mut *writable } else { &mut *readable };
            let length = usize::try_from(descriptor.len()).map_err(|_| ChainError::Address)?;
            for slice in memory.get_slices(descriptor.addr(), length) {
                part.push(slice.map_err(|_| ChainError::Address)?);
            }
        }
        if goes_on { Err(ChainError::Endless) } else { Ok(()) }
    }

    /// Forgets all pieces, but not the space for them.
    pub(crate) fn clear(&mut self) {
        self.cut((0, 0));
    }

    /// Number of pieces and of bytes.
    fn end(&self) -> (usize, usize) {
        (self.slices.len(), self.length)
    }

    fn cut(&mut self, (pieces, bytes): (usize, usize)) {
        self.slices.truncate(pieces);
        self.length = bytes;
    }

    fn push(&mut self, slice: VolatileSlice<'a>) {
        // A chain is at most 4 GiB long, which virtio-queue checks.
        self.length = self.length.saturating_add(slice.len());
        self.slices.push(slice);
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The pieces.
    pub(crate) fn slices(&self) -> &[VolatileSlice<'a>] {
        &self.slices
    }

    /// Takes the first `length` bytes off, or fewer if there are not so many.
    pub(crate) fn take_front(&mut self, length: usize) -> Self {
        let mut front = Self::default();
        let mut rest = Self::default();
        for slice in std::mem::take(&mut self.slices) {
            let wanted = length.saturating_sub(front.length).min(slice.len());
            match (slice.subslice(0, wanted), slice.offset(wanted)) {
                (Ok(before), Ok(behind)) => {
                    if wanted > 0 {
                        front.push(before);
                    }
                    if !behind.is_empty() {
                        rest.push(behind);
                    }
                }
                // Cannot be, `wanted` is at most the slice's length; leaving the piece out is the safe answer.
                _ => continue,
            }
        }
        *self = rest;
        front
    }

    /// Takes the last `length` bytes off, or all if there are not so many.
    pub(crate) fn take_back(&mut self, length: usize) -> Self {
        let front = self.take_front(self.length.saturating_sub(length));
        std::mem::replace(self, front)
    }

    /// Copies the first bytes into `bytes`; `None` if there are fewer.
    pub(crate) fn read<const N: usize>(&self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (self.copy_to(&mut bytes) == N).then_some(bytes)
    }

    /// Copies as much as fits into `bytes`, and returns how much that was.
    pub(crate) fn copy_to(&self, bytes: &mut [u8]) -> usize {
        let mut done = 0_usize;
        for slice in &self.slices {
            let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) else { break };
            done = done.saturating_add(slice.copy_to(rest));
        }
        done
    }

    /// Writes as much of `bytes` as fits, and returns how much that was.
    pub(crate) fn copy_from(&self, bytes: &[u8]) -> usize {
        self.copy_from_at(0, bytes)
    }

    /// The same behind the first `offset` bytes.
    pub(crate) fn copy_from_at(&self, offset: usize, bytes: &[u8]) -> usize {
        let (mut skipped, mut done) = (0_usize, 0_usize);
        for slice in &self.slices {
            let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) else { break };
            let skip = offset.saturating_sub(skipped).min(slice.len());
            skipped = skipped.saturating_add(skip);
            // It is at most the slice's length, so that there is such a rest of it.
            let Ok(place) = slice.offset(skip) else { break };
            place.copy_from(rest);
            done = done.saturating_add(rest.len().min(place.len()));
        }
        done
    }

    /// Writes zeros everywhere.
    pub(crate) fn zero(&self) {
        const ZEROS: [u8; 4096] = [0; 4096];
        for slice in &self.slices {
            let mut rest = *slice;
            while !rest.is_empty() {
                rest.copy_from(&ZEROS);
                match rest.offset(ZEROS.len().min(rest.len())) {
                    Ok(behind) => rest = behind,
                    Err(_) => break,
                }
            }
        }
    }
}
