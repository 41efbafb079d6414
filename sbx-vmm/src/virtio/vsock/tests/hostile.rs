//! What no driver should send.

use super::*;

#[test]
fn refuses_what_nobody_serves() {
    let mut driver = Driver::new(8);
    let listener = driver.handle.listen(1024);
    driver.send(Operation::Request, 1025, 77, 0, &[]);
    assert_eq!(driver.operations(), [(Operation::Reset, 0)], "nobody listens");
    for operation in [Operation::Data, Operation::Response, Operation::Shutdown, Operation::CreditRequest] {
        driver.send(operation, 1024, 77, 0, &[]);
        assert_eq!(driver.operations(), [(Operation::Reset, 0)], "there is no such connection");
    }
    driver.send(Operation::Reset, 1024, 77, 0, &[]);
    assert_eq!(driver.operations(), [], "a reset is not answered");

    let plain = Header { operation: U16::new(1), destination_port: U32::new(1024), ..driver.header };
    driver.queue(&Header { source_cid: U64::new(4), ..plain }, &[]);
    driver.kick();
    assert_eq!(driver.operations(), [], "a packet of somebody else");
    driver.queue(&Header { kind: U16::new(2), ..plain }, &[]);
    driver.kick();
    assert_eq!(driver.operations(), [(Operation::Reset, 0)], "not a stream");
    driver.queue(&Header { operation: U16::new(8), ..plain }, &[]);
    driver.kick();
    assert_eq!(driver.operations(), [(Operation::Reset, 0)], "no such operation");
    assert_eq!(listener.try_recv().unwrap_err(), TryRecvError::Empty);
    drop(listener);
    driver.queue(&plain, &[]);
    driver.kick();
    assert_eq!(driver.operations(), [(Operation::Reset, 0)], "the listener is gone");
}

#[test]
fn refuses_other_addresses_with_their_own() {
    let mut driver = Driver::new(1);
    for cid in [0, 1, 4, u64::from(u32::MAX)] {
        let header = Header { operation: U16::new(1), destination_cid: U64::new(cid), ..driver.header };
        driver.queue(&header, &[]);
        driver.kick();
        let (head, _) = driver.guest.take_used(RX).unwrap();
        let bytes = driver.guest.read(driver.buffers[0].1, HEADER_BYTES);
        let answer = Header::read_from_bytes(&bytes).unwrap();
        assert_eq!((answer.source_cid.get(), operation(&answer)), (cid, Operation::Reset));
        driver.guest.offer(RX, head);
    }
}

#[test]
fn survives_malformed_chains() {
    let mut driver = Driver::new(0);
    let place = driver.guest.allocate(4096);
    let header = Header { operation: U16::new(5), length: U32::new(100), ..driver.header };
    driver.guest.write(place, header.as_bytes());
    for chain in [
        vec![Buffer::Readable(place, 44)],
        vec![Buffer::Readable(place, 43)],
        vec![Buffer::Readable(place, 143)],
        vec![Buffer::Writable(place, 144)],
        vec![Buffer::Readable(place, 0)],
        vec![Buffer::Readable(1 << 40, 44)],
        vec![Buffer::Readable(place, 44), Buffer::Readable(u64::MAX - 50, 100)],
    ] {
        let head = driver.guest.add(TX, &chain);
        driver.guest.kick(&mut driver.device, TX).unwrap();
        assert_eq!(driver.guest.take_used(TX), Some((head, 0)), "{chain:?}");
    }
    // One packet that is a packet, in one descriptor, so that there is an answer to give.
    driver.guest.add_indirect(TX, &[Buffer::Readable(place, 144)]);
    driver.guest.kick(&mut driver.device, TX).unwrap();
    for chain in [
        vec![Buffer::Writable(place, 43)],
        vec![Buffer::Readable(place, 44)],
        vec![Buffer::Writable(1 << 40, 44)],
    ] {
        let head = driver.guest.add(RX, &chain);
        driver.guest.kick(&mut driver.device, RX).unwrap();
        assert_eq!(driver.guest.take_used(RX), Some((head, 0)), "{chain:?}");
    }
    let head = driver.guest.add_loop(RX);
    driver.guest.kick(&mut driver.device, RX).unwrap();
    assert_eq!(driver.guest.take_used(RX), Some((head, 0)));
    let head = driver.guest.add(RX, &[Buffer::Writable(place, 20), Buffer::Writable(place + 20, 24)]);
    driver.guest.kick(&mut driver.device, RX).unwrap();
    assert_eq!(driver.guest.take_used(RX), Some((head, 44)), "a header in two pieces is fine");
}
