//! Whatever a driver may write.

use proptest::prelude::*;
use virtio_queue::{Queue, QueueT};

use super::*;

proptest! {
    /// The check agrees with arithmetic that cannot overflow.
    #[test]
    fn a_ring_fits_if_its_last_byte_does(
        exponent in 0_u32..=10,
        descriptors in address(),
        available in address(),
        used in address(),
    ) {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0x1000), 0x3000), (GuestAddress(0x8000), 0x1000)]).unwrap();
        let mut queue = Queue::new(1024).unwrap();
        let size = 1_u16 << exponent;
        queue.try_set_size(size).unwrap();
        let [descriptors, available, used] = [(descriptors, 16), (available, 2), (used, 4)].map(|(place, align)| place / align * align);
        queue.try_set_desc_table_address(GuestAddress(descriptors)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(available)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(used)).unwrap();
        let inside = |place: u64, length: u128| {
            let (begin, end) = (u128::from(place), u128::from(place) + length);
            [(0x1000, 0x4000), (0x8000, 0x9000)].iter().any(|(first, last)| begin >= *first && end <= *last)
        };
        let entries = u128::from(size);
        let expected = inside(descriptors, 16 * entries) && inside(available, 6 + 2 * entries) && inside(used, 6 + 8 * entries);
        prop_assert_eq!(round::fits(&queue, &memory), expected);
    }

    /// Whatever is written to the registers, nothing panics, and a reset always brings the device back.
    #[test]
    fn any_writes_leave_a_device_that_a_reset_mends(
        writes in prop::collection::vec((register(), any::<u32>().prop_map(small_or_any)), 0..60),
    ) {
        let mut driver = Driver::new();
        for (offset, value) in writes {
            driver.write(offset, value);
            driver.read(offset);
        }
        driver.settle();
        driver.write(0x70, 0);
        driver.guest.write(0, &[0; 0x20000]);
        driver.start(&[SIZE]);
        prop_assert_eq!(driver.request(), Some(16));
    }
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..0xa000, any::<u64>(), u64::MAX - 0x2000..=u64::MAX]
}

fn register() -> impl Strategy<Value = u64> {
    prop_oneof![(0_u64..0x40).prop_map(|index| index * 4), Just(0x70), Just(0x44), 0_u64..0x200]
}

/// Half of all values are small ones, which mean something.
fn small_or_any(value: u32) -> u32 {
    if value & 0x8000_0000 == 0 { value % 16 } else { value }
}
