//! The entropy device: fills the guest's buffers from the host's random number generator.

use rustix::rand::{GetRandomFlags, getrandom};

use super::buffers::Buffers;
use super::{DeviceError, DeviceKind, DeviceState, RestoreError, VirtioDevice, Virtqueue};

/// One queue for requests. Linux has one request outstanding.
const QUEUE_SIZES: [u16; 1] = [64];

/// Bytes given for one request. A driver that offers more gets less, which virtio 1.2, 5.4.6.1 allows: Linux asks for
/// a cache line, a reader of /dev/hwrng for a page, and nobody shall keep the thread busy for free.
const MAX_REQUEST_BYTES: usize = 4096;

/// The entropy device. It has no state.
#[derive(Debug, Default)]
pub struct RngDevice(());

impl RngDevice {
    /// A new device.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl VirtioDevice for RngDevice {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Rng
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn activate(&mut self, _features: u64) {}

    fn handle_queue(&mut self, index: usize, queues: &mut [Virtqueue<'_>]) -> Result<(), DeviceError> {
        let Some(queue) = queues.get_mut(index) else { return Ok(()) };
        loop {
            queue.disable_notification()?;
            while let Some(chain) = queue.pop()? {
                let head = chain.head_index();
                // A chain that names no writable memory gets nothing.
                let length = match Buffers::split_chain(queue.memory(), chain) {
                    Ok((_, writable)) => fill(writable)?,
                    Err(_) => 0,
                };
                queue.push(head, length)?;
            }
            if !queue.enable_notification()? {
                return Ok(());
            }
        }
    }

    fn reset(&mut self) {}

    fn save(&self) -> DeviceState {
        DeviceState::Rng
    }

    fn restore(&mut self, state: DeviceState) -> Result<(), RestoreError> {
        match state {
            DeviceState::Rng => Ok(()),
            other => Err(RestoreError::kind(self.kind(), &other)),
        }
    }
}

/// Fills the beginning of `buffers` and returns how much.
fn fill(mut buffers: Buffers<'_>) -> Result<u32, DeviceError> {
    let wanted = buffers.take_front(MAX_REQUEST_BYTES);
    let mut bytes = vec![0_u8; wanted.len()];
    let mut done = 0_usize;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(count) => done = done.saturating_add(count),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(DeviceError::Host { what: "cannot get random numbers", source: error.into() });
            }
        }
    }
    Ok(u32::try_from(wanted.copy_from(&bytes)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Buffer, Guest};

    #[test]
    fn fills_what_the_guest_offers() {
        let mut device = RngDevice::new();
        let mut guest = Guest::new(&QUEUE_SIZES);
        let (first, second) = (guest.allocate(24), guest.allocate(40));
        let head = guest.add(0, &[Buffer::Writable(first, 24), Buffer::Writable(second, 40)]);
        guest.kick(&mut device, 0).unwrap();
        assert_eq!(guest.take_used(0), Some((head, 64)));
        assert_ne!(guest.read(first, 24), vec![0; 24]);
        assert_ne!(guest.read(second, 40), vec![0; 40]);
    }

    #[test]
    fn bounds_a_request() {
        let mut device = RngDevice::new();
        let mut guest = Guest::new(&QUEUE_SIZES);
        let place = guest.allocate(0x10000);
        let head = guest.add(0, &[Buffer::Writable(place, 0x10000)]);
        guest.kick(&mut device, 0).unwrap();
        assert_eq!(guest.take_used(0), Some((head, 4096)));
        assert_eq!(guest.read(place + 4096, 4096), vec![0; 4096]);
    }

    #[test]
    fn gives_back_what_it_cannot_fill() {
        let mut device = RngDevice::new();
        let mut guest = Guest::new(&QUEUE_SIZES);
        let place = guest.allocate(64);
        for chain in [
            vec![Buffer::Readable(place, 64)],
            vec![Buffer::Writable(place, 0)],
            vec![Buffer::Writable(u64::MAX - 10, 64)],
            vec![Buffer::Writable(0xffff_0000_0000, 64)],
            vec![Buffer::Writable(place, 8), Buffer::Readable(place, 8)],
        ] {
            let head = guest.add(0, &chain);
            guest.kick(&mut device, 0).unwrap();
            assert_eq!(guest.take_used(0), Some((head, 0)), "{chain:?}");
        }
        let head = guest.add_loop(0);
        guest.kick(&mut device, 0).unwrap();
        assert_eq!(guest.take_used(0), Some((head, 0)));
    }

    #[test]
    fn serves_a_full_ring_in_rounds() {
        let mut device = RngDevice::new();
        let mut guest = Guest::new(&QUEUE_SIZES);
        let place = guest.allocate(16);
        for _ in 0..64 {
            guest.add(0, &[Buffer::Writable(place, 16)]);
        }
        guest.kick(&mut device, 0).unwrap();
        assert_eq!(std::iter::from_fn(|| guest.take_used(0)).count(), 64);
    }

    #[test]
    fn reports_a_ring_that_cannot_be() {
        let mut device = RngDevice::new();
        let mut guest = Guest::new(&QUEUE_SIZES);
        guest.set_available_index(0, 65);
        assert!(matches!(guest.kick(&mut device, 0), Err(DeviceError::Queue { index: 0, .. })));
    }
}
