use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown as Direction;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::TryRecvError;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::packet::{HEADER_BYTES, Header, Operation};
use super::{VsockDevice, VsockHandle};
use crate::testing::{Buffer, Guest};
use crate::virtio::VirtioDevice;

mod saved;

const CID: u64 = 3;
const RX: usize = 0;
const TX: usize = 1;

/// What the fake guest says that it takes, unless a test says otherwise.
const ALLOCATION: u32 = 1 << 20;

/// Data that a receive buffer holds.
const SPACE: u32 = 4096;

/// A guest's driver for the device.
struct Driver {
    device: VsockDevice,
    handle: VsockHandle,
    guest: Guest,
    /// Head and address of each receive buffer.
    buffers: Vec<(u16, u64)>,
    data: u64,
    header: Header,
}

impl Driver {
    /// With `buffers` receive buffers.
    fn new(buffers: usize) -> Self {
        let (mut device, handle) = VsockDevice::new(CID).unwrap();
        let sizes = device.queue_sizes().to_vec();
        let mut guest = Guest::new(&sizes);
        let buffers = (0..buffers)
            .map(|_| {
                let place = guest.allocate(SPACE + 44);
                (guest.add(RX, &[Buffer::Writable(place, SPACE + 44)]), place)
            })
            .collect();
        let data = guest.allocate(1 << 20);
        device.activate(0);
        let header = Header {
            source_cid: U64::new(CID),
            destination_cid: U64::new(2),
            kind: U16::new(1),
            buffer_allocation: U32::new(ALLOCATION),
            ..Header::default()
        };
        Self { device, handle, guest, buffers, data, header }
    }

    /// Sends a packet as it is, without kicking.
    fn queue(&mut self, header: &Header, data: &[u8]) {
        let place = self.guest.store(header.as_bytes());
        let mut chain = vec![Buffer::Readable(place, 44)];
        // Two descriptors of data, as Linux may send.
        self.guest.write(self.data, data);
        let half = data.len() / 2;
        for (start, piece) in [(0, &data[..half]), (half, &data[half..])] {
            if !piece.is_empty() {
                chain.push(Buffer::Readable(self.data + start as u64, u32::try_from(piece.len()).unwrap()));
            }
        }
        self.guest.add(TX, &chain);
    }

    fn kick(&mut self) {
        self.guest.kick(&mut self.device, TX).unwrap();
        while self.guest.take_used(TX).is_some() {}
    }

    /// Sends a packet on the connection between `host` and `guest` port.
    fn send(&mut self, operation: Operation, host: u32, guest: u32, flags: u32, data: &[u8]) {
        let header = Header {
            source_port: U32::new(guest),
            destination_port: U32::new(host),
            length: U32::new(u32::try_from(data.len()).unwrap()),
            operation: operation.code(),
            flags: U32::new(flags),
            ..self.header
        };
        self.queue(&header, data);
        self.kick();
    }

    /// Everything that the device has sent, the receive buffers being given back at once.
    fn receive(&mut self) -> Vec<(Header, Vec<u8>)> {
        let mut packets = Vec::new();
        loop {
            self.guest.wake(&mut self.device).unwrap();
            let Some((head, length)) = self.guest.take_used(RX) else { return packets };
            let place = self.buffers.iter().find(|(known, _)| *known == head).unwrap().1;
            let bytes = self.guest.read(place, length as usize);
            let header = Header::read_from_bytes(&bytes[..HEADER_BYTES]).unwrap();
            assert_eq!(header.length.get() as usize, bytes.len() - HEADER_BYTES);
            assert_eq!((header.source_cid.get(), header.destination_cid.get()), (2, CID));
            packets.push((header, bytes[HEADER_BYTES..].to_vec()));
            self.guest.offer(RX, head);
            self.guest.kick(&mut self.device, RX).unwrap();
        }
    }

    /// The same, only what the packets are for and say.
    fn operations(&mut self) -> Vec<(Operation, u32)> {
        let packets = self.receive();
        packets.iter().map(|(header, _)| (operation(header), header.flags.get())).collect()
    }

    /// All data sent.
    fn received(&mut self) -> Vec<u8> {
        self.receive().into_iter().flat_map(|(_, data)| data).collect()
    }

    /// A connection that the host makes to port 52, with the port that it has on the host.
    fn connected(&mut self) -> (UnixStream, u32) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.handle.connect(52, theirs).unwrap();
        let packets = self.receive();
        assert_eq!(packets.len(), 1);
        let header = packets[0].0;
        assert_eq!((operation(&header), header.destination_port.get()), (Operation::Request, 52));
        let port = header.source_port.get();
        self.send(Operation::Response, port, 52, 0, &[]);
        (ours, port)
    }
}

fn operation(header: &Header) -> Operation {
    Operation::from_code(header.operation).unwrap()
}

fn read_all(mut stream: &UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}

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
