//! Queues that cannot be, move, break, or are taken out of use.

use super::*;

#[test]
fn queues_that_cannot_be_need_a_reset() {
    let good = Guest::new(&[SIZE]).addresses(0);
    let end = MEMORY_BYTES;
    for (size, [descriptors, available, used]) in [
        (0, good),
        (3, good),
        (128, good),
        (SIZE, [good[0] + 8, good[1], good[2]]),
        (SIZE, [good[0], good[1] + 1, good[2]]),
        (SIZE, [good[0], good[1], good[2] + 2]),
        (SIZE, [end - 16 * u64::from(SIZE) + 16, good[1], good[2]]),
        (SIZE, [good[0], end, good[2]]),
        (SIZE, [good[0], good[1], u64::MAX - 3]),
        (SIZE, [1 << 63, good[1], good[2]]),
    ] {
        let driver = Driver::new();
        assert!(driver.negotiate(driver.features()));
        driver.set_up_queue(0, size, [descriptors, available, used]);
        assert_eq!((driver.read(0x44), driver.status()), (0, 11 | NEEDS_RESET), "{size} {descriptors:#x}");
        driver.write(0x70, 15);
        driver.kick(0);
        assert!(driver.events.try_recv().is_err(), "it is not activated");
    }
}

#[test]
fn a_queue_may_end_where_memory_ends() {
    let mut driver = Driver::new();
    assert!(driver.negotiate(driver.features()));
    let bytes = u64::from(SIZE) * 16;
    driver.set_up_queue(0, SIZE, [MEMORY_BYTES - bytes, 0x2000, 0x3000]);
    assert_eq!((driver.read(0x44), driver.status()), (1, 11));
    driver.write(0x70, 15);
    assert_eq!(driver.request(), None, "the ring in the middle of nowhere is empty");
}

#[test]
fn a_broken_ring_needs_a_reset_and_interrupts_once() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    driver.guest.set_available_index(0, SIZE + 1);
    driver.kick(0);
    assert_eq!((driver.status(), driver.interrupt()), (15 | NEEDS_RESET, Some(2)));
    driver.guest.set_available_index(0, 0);
    assert_eq!(driver.request(), None);
    assert_eq!(driver.interrupt(), None);
    driver.write(0x70, 0);
    driver.start(&[SIZE]);
    driver.settle();
    assert_eq!(driver.guest.take_used(0).unwrap().1, 16, "what was asked for meanwhile");
}

#[test]
fn a_queue_that_moves_under_the_devices_feet_needs_a_reset() {
    for (offset, value) in [(0x80, 0x4000), (0x84, 1), (0x90, 0), (0x94, 7), (0xa0, 0), (0xa4, 9), (0x38, 8)]
    {
        let mut driver = Driver::new();
        driver.start(&[SIZE]);
        assert_eq!(driver.request(), Some(16));
        assert_eq!(driver.interrupt(), Some(1));
        driver.write(offset, value);
        assert_eq!(driver.status(), 15 | NEEDS_RESET, "{offset:#x}");
        assert_eq!(driver.interrupt(), Some(2));
        assert_eq!(driver.request(), None);
    }
    // What is written again as it is moves nothing.
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    driver.write(0x38, u32::from(SIZE));
    driver.write(0x80, low(driver.guest.addresses(0)[0]));
    assert_eq!(driver.request(), Some(16));
}

#[test]
fn a_queue_is_taken_out_of_use_and_back_into_it() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    assert_eq!(driver.request(), Some(16));
    driver.write(0x44, 0);
    assert_eq!(driver.request(), None);
    let memory = driver.guest.memory().clone();
    driver.guest.write(0, &[0; 0x20000]);
    driver.guest = Guest::with_memory(memory, &[SIZE]);
    let place = driver.guest.allocate(16);
    driver.guest.add(0, &[Buffer::Writable(place, 16)]);
    driver.write(0x44, 1);
    driver.settle();
    assert_eq!(driver.guest.take_used(0).unwrap().1, 16, "what is in it is looked at without a kick");
}
