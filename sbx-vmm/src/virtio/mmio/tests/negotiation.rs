//! What a driver reads and agrees on before it starts, and what a reset takes back.

use super::*;

#[test]
fn a_device_says_what_it_is() {
    let driver = Driver::new();
    let identity = [0x00, 0x04, 0x08, 0x0c].map(|offset| driver.read(offset));
    assert_eq!(identity, [0x7472_6976, 2, 4, 0x0078_6273]);
    assert_eq!(driver.features(), 1 << 5 | 1 << 28 | 1 << 29 | 1 << 32 | 1 << 40);
    driver.write(0x14, 2);
    assert_eq!(driver.read(0x10), 0, "there are no more features");
    driver.write(0x14, u32::MAX);
    assert_eq!(driver.read(0x10), 0);
    assert_eq!(driver.read(0x34), 64);
    driver.write(0x30, 1);
    assert_eq!((driver.read(0x34), driver.read(0x44)), (0, 0), "there is one queue");
    assert_eq!([0xb0, 0xb4].map(|offset| driver.read(offset)), [u32::MAX; 2], "and no shared memory");
}

#[test]
fn the_configuration_is_read_in_any_width_and_not_written() {
    let driver = Driver::new();
    driver.device.write(0x100, b"CONF");
    let read = |offset, length| {
        let mut bytes = vec![0xee; length];
        driver.device.read(offset, &mut bytes);
        bytes
    };
    assert_eq!(read(0x100, 4), b"conf");
    assert_eq!(read(0x10b, 1), b"o");
    assert_eq!(read(0x103, 2), b"fi");
    assert_eq!(read(0x10c, 8), b"n\0\0\0\0\0\0\0");
    assert_eq!(read(u64::MAX - 7, 8), [0; 8]);
}

#[test]
fn features_are_agreed_on_or_refused() {
    let driver = Driver::new();
    for features in [0, 1 << 5, 1 << 32 | 1 << 6, u64::MAX] {
        assert!(!driver.negotiate(features), "{features:#x}");
        driver.write(0x70, 0);
    }
    assert!(driver.negotiate(1 << 32));
    // From now on they stand.
    driver.write(0x24, 0);
    driver.write(0x20, 1 << 5);
    assert_eq!(driver.status(), 11 | NEEDS_RESET);
    assert_eq!(driver.interrupt(), None, "before it is up the driver is not interrupted");
}

#[test]
fn a_start_without_features_is_a_fault() {
    let driver = Driver::new();
    driver.write(0x70, 7);
    assert_eq!(driver.status(), 3 | NEEDS_RESET);
    assert!(driver.events.try_recv().is_err());
}

#[test]
fn a_reset_brings_everything_back() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    assert_eq!(driver.request(), Some(16));
    driver.write(0x70, 0);
    assert_eq!((driver.status(), driver.read(0x60), driver.read(0x44)), (0, 0, 0));
    driver.kick(0);
    let events: Vec<Event> = driver.events.try_iter().collect();
    assert!(matches!(events[..], [Event::Activated(_), Event::Reset]), "{events:?}");
    driver.write(0x70, 0);
    assert!(driver.events.try_recv().is_err(), "a device that nobody used need not be reset");

    let memory = driver.guest.memory().clone();
    driver.guest.write(0, &[0; 0x20000]);
    driver.guest = Guest::with_memory(memory, &[SIZE]);
    driver.start(&[SIZE]);
    driver.settle();
    assert_eq!(driver.request(), Some(16));
}

#[test]
fn a_driver_that_gives_up_is_left_alone() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    driver.write(0x70, 15 | 128);
    assert_eq!(driver.request(), None);
    assert_eq!(driver.status(), 15 | 128);
}

#[test]
fn writes_of_another_width_and_to_nothing_are_ignored() {
    let driver = Driver::new();
    driver.device.write(0x70, &[1]);
    driver.device.write(0x70, &[1, 0, 0, 0, 0, 0, 0, 0]);
    driver.device.write(0x72, &[1, 0, 0, 0]);
    driver.device.write(0x70, &[]);
    driver.write(0x74, 1);
    driver.write(0x00, 1);
    assert_eq!((driver.status(), driver.read(0x00)), (0, 0x7472_6976));
    let mut bytes = [7; 2];
    driver.device.read(0x00, &mut bytes);
    assert_eq!(bytes, [0; 2]);
}
