//! Credit, buffers, and how much there may be of anything.

use super::*;

#[test]
fn sends_no_more_than_the_guest_takes() {
    let mut driver = Driver::new(8);
    driver.header.buffer_allocation = U32::new(10);
    let (mut ours, port) = driver.connected();
    ours.write_all(&pattern(25)).unwrap();
    let packets = driver.receive();
    assert_eq!(packets[0].1, pattern(25)[..10]);
    assert_eq!(
        packets[1..].iter().map(|(header, _)| operation(header)).collect::<Vec<_>>(),
        [Operation::CreditRequest]
    );
    // The guest takes 4 bytes out, then lies, then takes the rest.
    driver.header.forward_count = U32::new(4);
    driver.send(Operation::CreditUpdate, port, 52, 0, &[]);
    assert_eq!(driver.received(), pattern(25)[10..14]);
    driver.header.forward_count = U32::new(15);
    driver.send(Operation::CreditUpdate, port, 52, 0, &[]);
    assert_eq!(driver.received(), b"");
    driver.header.forward_count = U32::new(14);
    driver.send(Operation::CreditUpdate, port, 52, 0, &[]);
    assert_eq!(driver.received(), pattern(25)[14..24]);
}

#[test]
fn keeps_what_the_host_does_not_read_and_not_more() {
    let mut driver = Driver::new(8);
    let (mut ours, port) = driver.connected();
    driver.receive();
    let mut sent = Vec::new();
    // The socket's own buffer comes on top of the device's; the guest goes by what it is told.
    let mut last = Header::default();
    loop {
        let credit = 262_144_u32
            .wrapping_sub(u32::try_from(sent.len()).unwrap().wrapping_sub(last.forward_count.get()));
        if credit < 65536 {
            break;
        }
        let bytes = pattern(65536);
        driver.send(Operation::Data, port, 52, 0, &bytes);
        sent.extend(bytes);
        if let Some((header, _)) = driver.receive().last() {
            last = *header;
        }
    }
    assert!(sent.len() >= 262_144);
    driver.send(Operation::CreditRequest, port, 52, 0, &[]);
    let packets = driver.receive();
    assert_eq!(operation(&packets[0].0), Operation::CreditUpdate);
    assert_eq!(packets[0].0.buffer_allocation.get(), 262_144);

    let mut bytes = vec![0; 200_000];
    ours.read_exact(&mut bytes).unwrap();
    assert_eq!(driver.operations(), [(Operation::CreditUpdate, 0)], "there is room again");

    // Now a guest that does not care.
    for _ in 0..8 {
        driver.send(Operation::Data, port, 52, 0, &pattern(65536));
    }
    assert!(driver.operations().contains(&(Operation::Reset, 0)));
    bytes.extend(read_all(&ours));
    assert!(bytes.len() < sent.len() + 8 * 65536);
    assert!(bytes.chunks(65536).all(|chunk| pattern(65536).starts_with(chunk)), "what was taken is in order");
}

#[test]
fn serves_connections_in_turn() {
    let mut driver = Driver::new(6);
    let (mut first, first_port) = driver.connected();
    let (mut second, second_port) = driver.connected();
    driver.receive();
    first.write_all(&pattern(20_000)).unwrap();
    second.write_all(&pattern(20_000)).unwrap();
    let data: Vec<u32> = driver
        .receive()
        .iter()
        .filter(|(header, _)| operation(header) == Operation::Data)
        .map(|(header, _)| header.source_port.get())
        .collect();
    assert_eq!(data.len(), 10);
    assert!(data.chunks(2).all(|pair| pair.contains(&first_port) && pair.contains(&second_port)));
}

#[test]
fn waits_for_receive_buffers() {
    let mut driver = Driver::new(0);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    driver.handle.connect(52, theirs).unwrap();
    ours.write_all(b"early").unwrap();
    driver.guest.wake(&mut driver.device).unwrap();
    assert_eq!(driver.guest.take_used(RX), None);
    let place = driver.guest.allocate(SPACE + 44);
    driver.buffers.push((driver.guest.add(RX, &[Buffer::Writable(place, SPACE + 44)]), place));
    driver.guest.kick(&mut driver.device, RX).unwrap();
    let port = driver.receive()[0].0.source_port.get();
    driver.send(Operation::Response, port, 52, 0, &[]);
    assert_eq!(driver.received(), b"early");
}

#[test]
fn bounds_connections_and_refusals() {
    let mut driver = Driver::new(0);
    let listeners: Vec<_> = (0..4).map(|port| driver.handle.listen(port)).collect();
    let mut left = 0;
    // The transmit queue holds 256 packets; nobody takes the answers.
    for guest in 0..1500_u32 {
        let header = Header {
            operation: Operation::Request.code(),
            source_port: U32::new(guest),
            destination_port: U32::new(guest % 4),
            ..driver.header
        };
        driver.queue(&header, &[]);
        left += 1;
        driver.guest.kick(&mut driver.device, TX).unwrap();
        while driver.guest.take_used(TX).is_some() {
            left -= 1;
        }
        if left == 200 {
            break;
        }
    }
    assert_eq!(left, 200, "the device stops reading");
    let accepted: usize = listeners.iter().map(|listener| listener.try_iter().count()).sum();
    assert_eq!(accepted, 256);

    // Once the guest takes its answers, all is answered.
    for _ in 0..8 {
        let place = driver.guest.allocate(SPACE + 44);
        driver.buffers.push((driver.guest.add(RX, &[Buffer::Writable(place, SPACE + 44)]), place));
    }
    driver.guest.kick(&mut driver.device, RX).unwrap();
    let answers = driver.operations();
    let resets = answers.iter().filter(|(operation, _)| *operation == Operation::Reset).count();
    let responses = answers.iter().filter(|(operation, _)| *operation == Operation::Response).count();
    assert_eq!((responses, resets), (256, 256 + 200));
}

#[test]
fn data_waits_for_a_buffer_with_room_for_it() {
    let mut driver = Driver::new(0);
    let add = |driver: &mut Driver| {
        let place = driver.guest.allocate(44);
        driver.buffers.push((driver.guest.add(RX, &[Buffer::Writable(place, 44)]), place));
    };
    add(&mut driver);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(b"data").unwrap();
    driver.handle.connect(52, theirs).unwrap();
    let port = driver.receive()[0].0.source_port.get();
    driver.send(Operation::Response, port, 52, 0, &[]);
    assert_eq!(driver.operations(), []);
    driver.send(Operation::Shutdown, port, 52, 3, &[]);
    assert_eq!(driver.operations(), [(Operation::Reset, 0)]);
}
