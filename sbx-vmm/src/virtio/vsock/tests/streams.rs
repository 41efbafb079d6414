//! Connections from both sides: bytes, and the end of each direction.

use super::*;

#[test]
fn carries_bytes_of_a_connection_that_the_host_makes() {
    let mut driver = Driver::new(8);
    let (mut ours, port) = driver.connected();
    ours.write_all(b"question").unwrap();
    assert_eq!(driver.received(), b"question");
    driver.send(Operation::Data, port, 52, 0, b"the answer");
    let mut bytes = [0; 10];
    ours.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"the answer");
}

#[test]
fn carries_bytes_of_a_connection_that_the_guest_makes() {
    let mut driver = Driver::new(8);
    let listener = driver.handle.listen(1024);
    driver.send(Operation::Request, 1024, 77, 0, &[]);
    assert_eq!(driver.operations(), [(Operation::Response, 0)]);
    let mut ours = listener.try_recv().unwrap();
    driver.send(Operation::Data, 1024, 77, 0, b"hello");
    ours.write_all(b"welcome").unwrap();
    assert_eq!(driver.received(), b"welcome");
    let mut bytes = [0; 5];
    ours.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
}

#[test]
fn closes_the_stream_when_the_guest_refuses() {
    let mut driver = Driver::new(8);
    let (ours, theirs) = UnixStream::pair().unwrap();
    driver.handle.connect(52, theirs).unwrap();
    let port = driver.receive()[0].0.source_port.get();
    driver.send(Operation::Reset, port, 52, 0, &[]);
    assert_eq!(read_all(&ours), b"");
}

#[test]
fn takes_back_a_request_when_the_host_gives_up() {
    let mut driver = Driver::new(8);
    let (ours, theirs) = UnixStream::pair().unwrap();
    driver.handle.connect(52, theirs).unwrap();
    assert_eq!(driver.operations(), [(Operation::Request, 0)]);
    drop(ours);
    assert_eq!(driver.operations(), [(Operation::Reset, 0)]);
}

#[test]
fn passes_the_end_of_one_direction_on() {
    let mut driver = Driver::new(8);
    let (mut ours, port) = driver.connected();
    ours.write_all(b"last words").unwrap();
    ours.shutdown(Direction::Write).unwrap();
    let packets = driver.receive();
    assert_eq!(packets[0].1, b"last words");
    assert_eq!((operation(&packets[1].0), packets[1].0.flags.get()), (Operation::Shutdown, 2));
    driver.send(Operation::Data, port, 52, 0, b"still here");
    driver.send(Operation::Shutdown, port, 52, 2, &[]);
    assert_eq!(read_all(&ours), b"still here");
    driver.send(Operation::Shutdown, port, 52, 1, &[]);
    assert_eq!(driver.operations().last(), Some(&(Operation::Reset, 0)));
}

#[test]
fn tells_the_guest_that_the_host_reads_no_more() {
    let mut driver = Driver::new(8);
    let (ours, port) = driver.connected();
    drop(ours);
    assert_eq!(driver.operations(), [(Operation::Shutdown, 3)]);
    driver.send(Operation::Data, port, 52, 0, b"too late");
    assert_eq!(driver.operations(), []);
    driver.send(Operation::Reset, port, 52, 0, &[]);
    driver.send(Operation::Data, port, 52, 0, b"gone");
    assert_eq!(driver.operations(), [(Operation::Reset, 0)]);
}

#[test]
fn delivers_everything_before_the_end() {
    let mut driver = Driver::new(8);
    let (mut ours, port) = driver.connected();
    ours.write_all(b"never read").unwrap();
    let bytes = pattern(65536);
    let mut sent = Vec::new();
    for _ in 0..4 {
        driver.send(Operation::Data, port, 52, 0, &bytes);
        sent.extend_from_slice(&bytes);
    }
    driver.send(Operation::Shutdown, port, 52, 3, &[]);
    assert!(driver.operations().contains(&(Operation::Reset, 0)), "the guest need not wait for the host");
    assert_eq!(ours.write_all(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    ours.set_nonblocking(true).unwrap();
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let mut bytes = vec![0; 65536];
        let count = ours.read(&mut bytes).expect("there is always something to read after a wake-up");
        received.extend_from_slice(&bytes[..count]);
        driver.receive();
    }
    assert!(received == sent);
    assert_eq!(read_all(&ours), b"");
    driver.send(Operation::Request, port, 52, 0, &[]);
    assert_eq!(driver.operations(), [(Operation::Reset, 0)], "the device has forgotten it");
}

#[test]
fn drops_everything_at_a_reset() {
    let mut driver = Driver::new(8);
    let (ours, _) = driver.connected();
    let (waiting, theirs) = UnixStream::pair().unwrap();
    driver.handle.connect(52, theirs).unwrap();
    driver.device.reset();
    assert_eq!((read_all(&ours), read_all(&waiting)), (vec![], vec![]));
    let (_ours, theirs) = UnixStream::pair().unwrap();
    assert_eq!(driver.handle.connect(52, theirs).unwrap_err().kind(), ErrorKind::NotConnected);

    let listener = driver.handle.listen(1024);
    driver.device.activate(0);
    driver.connected();
    let handle = driver.handle.clone();
    drop(driver);
    assert_eq!(listener.try_recv().unwrap_err(), TryRecvError::Disconnected);
    assert_eq!(handle.listen(1025).try_recv().unwrap_err(), TryRecvError::Disconnected);
}

#[test]
fn carries_much_data_exactly() {
    let mut driver = Driver::new(64);
    let (mut ours, port) = driver.connected();
    let sent = pattern(4 << 20);
    let copy = sent.clone();
    // The host's program sends back whatever it reads, at its own pace.
    let echo = std::thread::spawn(move || {
        let mut bytes = vec![0; copy.len()];
        ours.read_exact(&mut bytes).unwrap();
        ours.write_all(&bytes).unwrap();
        ours.shutdown(Direction::Write).unwrap();
        bytes == copy
    });
    let (mut offset, mut told, mut received) = (0_usize, 0_u32, Vec::new());
    loop {
        let credit = 262_144 - (offset - told as usize);
        let length = credit.min(60_000).min(sent.len() - offset);
        if length > 0 {
            driver.send(Operation::Data, port, 52, 0, &sent[offset..offset + length]);
            offset += length;
        } else {
            rustix::event::poll(
                &mut [rustix::event::PollFd::from_borrowed_fd(
                    driver.device.wake_fd().unwrap(),
                    rustix::event::PollFlags::IN,
                )],
                None,
            )
            .unwrap();
        }
        for (header, data) in driver.receive() {
            told = header.forward_count.get();
            received.extend(data);
            driver.header.forward_count = U32::new(u32::try_from(received.len()).unwrap());
            if operation(&header) == Operation::Shutdown {
                assert!(echo.join().unwrap());
                assert!(received == sent);
                return;
            }
        }
        if received.len() > offset.saturating_sub(sent.len()) {
            driver.send(Operation::CreditUpdate, port, 52, 0, &[]);
        }
    }
}
