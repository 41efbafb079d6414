//! A device at work: requests, kicks, the host's side, its thread.

use super::*;

#[test]
fn requests_are_served_and_interrupt() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    assert_eq!(driver.events.recv().unwrap(), Event::Activated(driver.features()));
    for _ in 0..100 {
        assert_eq!(driver.request(), Some(16));
        assert_eq!(driver.interrupt(), Some(1));
    }
    assert_eq!(driver.interrupt(), None);
}

#[test]
fn what_was_made_available_before_the_start_is_served_at_the_start() {
    let mut driver = Driver::new();
    let place = driver.guest.allocate(16);
    driver.guest.add(0, &[Buffer::Writable(place, 16)]);
    driver.start(&[SIZE]);
    driver.settle();
    assert_eq!(driver.guest.take_used(0).unwrap().1, 16);
}

#[test]
fn a_kick_of_nothing_does_nothing() {
    let mut driver = Driver::new();
    driver.kick(0);
    driver.start(&[]);
    for queue in [0, 1, 77, u32::MAX] {
        driver.kick(queue);
    }
    assert_eq!((driver.status(), driver.interrupt()), (15, None));
    assert_eq!(driver.request(), None, "a queue that was not set up");
}

#[test]
fn the_host_side_is_watched_while_the_driver_is_there() {
    let (device, handle) = VsockDevice::new(3).unwrap();
    let sizes = [256, 256, 16];
    let (_sender, events) = channel();
    let mut driver = Driver::with(Box::new(device), events, &sizes);
    driver.start(&sizes);
    let space = driver.guest.allocate(4096);
    driver.guest.add(0, &[Buffer::Writable(space, 4096)]);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    handle.connect(1024, theirs).unwrap();
    driver.settle();
    // A request for a connection came without any kick.
    assert_eq!(driver.guest.take_used(0), Some((0, 44)));
    assert_eq!(driver.interrupt(), Some(1));
    driver.write(0x70, 0);
    assert!(handle.connect(1024, UnixStream::pair().unwrap().0).is_err());
    ours.write_all(b"nobody").unwrap_or(());
    assert!(!driver.is_ready(), "a device without a driver does not wake the loop");
    assert_eq!(ours.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_network_card_interrupts_once_for_a_batch_of_frames() {
    let (link, far) = FakeLink::new();
    let card = NetDevice::new([2, 0, 0, 0, 0, 1], 65_520, Box::new(link));
    let sizes = [256, 256];
    let (_sender, events) = channel();
    let mut driver = Driver::with(Box::new(card), events, &sizes);
    driver.start(&sizes);
    let space = driver.guest.allocate(8192);
    let heads: Vec<u16> =
        (0..8).map(|number| driver.guest.add(0, &[Buffer::Writable(space + 1024 * number, 1024)])).collect();
    driver.kick(0);
    assert_eq!(far.events(), [LinkEvent::Started(true)]);
    // The second is spread over three buffers, and the driver's event lies in the middle of those.
    [500, 2500, 1012].iter().for_each(|length| far.send(&vec![7; *length]));
    driver.settle();
    assert_eq!((driver.interrupt(), driver.interrupt()), (Some(1), None));
    for (head, length) in heads.iter().zip([512, 1024, 1024, 464, 1024]) {
        assert_eq!(driver.guest.take_used(0), Some((*head, length)));
    }
    // A driver that polls its ring wants no interrupt until it has come to a chain that is not used yet.
    let event = driver.guest.addresses(0)[1] + 4 + 2 * 256;
    driver.guest.write(event, &100_u16.to_le_bytes());
    far.send(&[7; 1500]);
    driver.settle();
    assert_eq!(driver.interrupt(), None);
    driver.guest.write(event, &7_u16.to_le_bytes());
    far.send(&[7; 500]);
    driver.settle();
    assert_eq!(driver.interrupt(), Some(1));
    driver.write(0x70, 0);
    far.send(&[7; 500]);
    assert!(!driver.is_ready(), "a card without a driver does not wake the loop");
}

#[test]
fn a_thread_serves_until_it_is_dropped() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    let bus = std::mem::replace(&mut driver.bus, EventLoop::new().unwrap());
    let running = bus.start("test", Role::DeviceLoop).unwrap();
    let place = driver.guest.allocate(16);
    driver.guest.add(0, &[Buffer::Writable(place, 16)]);
    driver.write(0x50, 0);
    let mut sources = [PollFd::new(driver.device.interrupt(), PollFlags::IN)];
    rustix::event::poll(&mut sources, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })).unwrap();
    assert_eq!(driver.guest.take_used(0).unwrap().1, 16);
    assert!(matches!(driver.events.recv().unwrap(), Event::Activated(_)));
    drop(running);
    assert_eq!(driver.events.recv().unwrap(), Event::Reset);
}
