//! The device with the fake driver at one end and the test at the other.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
    VIRTIO_NET_HDR_GSO_ECN, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4,
};
use zerocopy::{FromBytes, IntoBytes};

use super::header::{HEADER_BYTES, Header};
use super::{Checksum, MAX_FRAME_BYTES, NetDevice, NetState};
use crate::testing::{Buffer, FakeLink, FarEnd, Guest, LinkEvent, WRITE};
use crate::virtio::{DeviceError, DeviceState, RestoreError, VirtioDevice};

const RX: usize = 0;
const TX: usize = 1;
const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0f];
const MTU: u16 = 65_520;
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

const OFFLOADS: u64 = (1 << VIRTIO_NET_F_CSUM) | (1 << VIRTIO_NET_F_GUEST_CSUM);
const MERGEABLE: u64 = 1 << VIRTIO_NET_F_MRG_RXBUF;

struct Driver {
    device: NetDevice,
    guest: Guest,
    far: FarEnd,
    /// Receive buffers: head, address and length, in the order in which they were offered.
    buffers: Vec<(u16, u64, u32)>,
}

impl Driver {
    fn new(features: u64) -> Self {
        let (link, far) = FakeLink::new();
        let mut device = NetDevice::new(MAC, MTU, Box::new(link));
        let guest = Guest::new(device.queue_sizes());
        device.activate(features);
        Self { device, guest, far, buffers: Vec::new() }
    }

    /// Offers receive buffers of `length` bytes.
    fn offer(&mut self, count: usize, length: u32) {
        for _ in 0..count {
            let place = self.guest.allocate(length);
            let head = self.guest.add(RX, &[Buffer::Writable(place, length)]);
            self.buffers.push((head, place, length));
        }
    }

    fn kick(&mut self, queue: usize) {
        self.guest.kick(&mut self.device, queue).unwrap();
    }

    fn wake(&mut self) {
        self.guest.wake(&mut self.device).unwrap();
    }

    /// Queues `bytes`, header and all, in two pieces.
    fn queue(&mut self, bytes: &[u8]) {
        let place = self.guest.store(bytes);
        let (length, first) = (u32::try_from(bytes.len()).unwrap(), 5.min(bytes.len()));
        let first = u32::try_from(first).unwrap();
        let rest = Buffer::Readable(place + u64::from(first), length - first);
        self.guest.add(TX, &[Buffer::Readable(place, first), rest]);
    }

    /// Sends a frame, and gives what the other end sees of it.
    fn send(&mut self, header: Header, frame: &[u8]) -> Option<(Vec<u8>, Checksum)> {
        self.queue(&[header.as_bytes(), frame].concat());
        self.kick(TX);
        assert_eq!(self.guest.take_used(TX).map(|(_, length)| length), Some(0), "the chain is given back");
        self.far.events().into_iter().find_map(|event| match event {
            LinkEvent::Frame(frame, checksum) => Some((frame, checksum)),
            _ => None,
        })
    }

    /// The next frame in the guest's buffers, and its header.
    fn received(&mut self) -> Option<(Header, Vec<u8>)> {
        let mut bytes = self.take_buffer()?;
        let (header, _) = Header::read_from_prefix(&bytes).unwrap();
        for _ in 1..header.buffers.get() {
            bytes.extend(self.take_buffer().expect("all chains of a frame come together"));
        }
        Some((header, bytes.split_off(HEADER_BYTES)))
    }

    fn take_buffer(&mut self) -> Option<Vec<u8>> {
        let (head, written) = self.guest.take_used(RX)?;
        let (expected, place, length) = self.buffers.remove(0);
        assert_eq!(head, expected);
        assert!(written <= length);
        Some(self.guest.read(place, written as usize))
    }
}

/// A frame that differs from others, in every place.
fn frame(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from((index * 7 + length) % 251).unwrap()).collect()
}

fn header(flags: u8, gso_type: u32) -> Header {
    Header { flags, gso_type: u8::try_from(gso_type).unwrap(), ..Header::default() }
}

#[test]
fn the_card_says_what_it_is() {
    let driver = Driver::new(0);
    assert_eq!(driver.device.config(), [2, 0, 0, 0, 0, 15, 0, 0, 0, 0, 0xf0, 0xff]);
    assert_ne!(driver.device.features() & (1 << VIRTIO_NET_F_MTU), 0);
}

#[test]
fn frames_from_the_guest_arrive_as_they_were_sent() {
    let mut driver = Driver::new(OFFLOADS);
    for length in [14, 60, 1514, 4096, 65_534, MAX_FRAME_BYTES] {
        let sent = frame(length);
        assert_eq!(driver.send(Header::default(), &sent), Some((sent, Checksum::Complete)), "{length}");
    }
    let sent = frame(100);
    assert_eq!(driver.send(header(NEEDS_CSUM, 0), &sent), Some((sent.clone(), Checksum::Partial)));
    for kind in [VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6] {
        assert_eq!(driver.send(header(NEEDS_CSUM, kind), &sent), Some((sent.clone(), Checksum::Partial)));
    }
}

#[test]
fn what_is_no_frame_is_dropped_and_given_back() {
    let mut driver = Driver::new(OFFLOADS);
    for (header, length) in [
        (Header::default(), 13),
        (Header::default(), 0),
        (Header::default(), MAX_FRAME_BYTES + 1),
        (header(0, VIRTIO_NET_HDR_GSO_TCPV4), 100),
        (header(NEEDS_CSUM, VIRTIO_NET_HDR_GSO_UDP_L4), 100),
        (header(NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN), 100),
        (header(NEEDS_CSUM, 77), 100),
    ] {
        assert_eq!(driver.send(header, &frame(length)), None, "{header:?} {length}");
    }
    driver.queue(&[0; 11]);
    driver.kick(TX);
    assert_eq!(driver.guest.take_used(TX).unwrap().1, 0);

    let place = driver.guest.allocate(4096);
    for chain in [
        vec![Buffer::Writable(place, 200)],
        vec![Buffer::Writable(place, 200), Buffer::Readable(place, 200)],
        vec![Buffer::Readable(1 << 40, 200)],
        vec![Buffer::Readable(u64::MAX - 5, 200)],
    ] {
        let head = driver.guest.add(TX, &chain);
        driver.kick(TX);
        assert_eq!(driver.guest.take_used(TX), Some((head, 0)), "{chain:?}");
    }
    let head = driver.guest.add_loop(TX);
    driver.kick(TX);
    assert_eq!(driver.guest.take_used(TX), Some((head, 0)));
    assert_eq!(driver.far.events(), []);

    let mut strict = Driver::new(0);
    assert_eq!(strict.send(header(NEEDS_CSUM, 0), &frame(100)), None, "checksums were not negotiated");
}

#[test]
fn many_frames_are_taken_in_one_go() {
    let mut driver = Driver::new(0);
    for _ in 0..120 {
        driver.queue(&[&[0; HEADER_BYTES][..], &frame(60)].concat());
    }
    driver.kick(TX);
    assert_eq!(std::iter::from_fn(|| driver.guest.take_used(TX)).count(), 120);
    let frames = driver.far.events().into_iter().filter(|event| matches!(event, LinkEvent::Frame(..)));
    assert_eq!(frames.count(), 120);
}

#[test]
fn a_frame_for_the_guest_fills_as_many_buffers_as_it_needs() {
    let mut driver = Driver::new(OFFLOADS | MERGEABLE);
    driver.offer(64, 1536);
    let frames: Vec<Vec<u8>> = [60, 1524, 1525, 65_534].map(frame).to_vec();
    for frame in &frames {
        driver.far.send(frame);
    }
    driver.wake();
    for (frame, buffers) in frames.into_iter().zip([1, 1, 2, 43]) {
        let (header, received) = driver.received().unwrap();
        assert_eq!((header.flags, header.gso_type, header.buffers.get()), (DATA_VALID, 0, buffers));
        assert!(received == frame, "{}", frame.len());
    }
    assert!(driver.received().is_none());
}

#[test]
fn a_frame_waits_whole_until_there_is_room_for_it() {
    let mut driver = Driver::new(MERGEABLE);
    driver.far.send(&frame(5000));
    driver.far.send(&frame(70));
    driver.wake();
    assert!(driver.received().is_none());
    // Three of four.
    driver.offer(3, 1536);
    driver.kick(RX);
    assert_eq!(driver.guest.take_used(RX), None, "it is not written by half");
    assert!(driver.guest.wants_kick(RX), "it waits for a kick");
    driver.offer(2, 1536);
    driver.kick(RX);
    let (header, received) = driver.received().unwrap();
    assert_eq!((header.flags, header.buffers.get()), (0, 4), "checksums were not negotiated");
    assert!(received == frame(5000));
    assert!(driver.received().unwrap().1 == frame(70));
}

#[test]
fn a_driver_without_mergeable_buffers_gets_what_fits_into_one() {
    let mut driver = Driver::new(0);
    driver.offer(3, 1526);
    for length in [1514, 1515, 60] {
        driver.far.send(&frame(length));
    }
    driver.wake();
    for length in [1514, 60] {
        let (header, received) = driver.received().unwrap();
        assert_eq!(header.buffers.get(), 1);
        assert!(received == frame(length), "{length}");
    }
    assert!(driver.received().is_none());
}

#[test]
fn a_header_may_share_its_chain_or_have_a_descriptor_of_its_own() {
    let mut driver = Driver::new(MERGEABLE);
    let (first, second) = (driver.guest.allocate(12), driver.guest.allocate(100));
    let head = driver.guest.add(RX, &[Buffer::Writable(first, 12), Buffer::Writable(second, 100)]);
    driver.far.send(&frame(90));
    driver.wake();
    assert_eq!(driver.guest.take_used(RX), Some((head, 102)));
    assert_eq!(driver.guest.read(second, 90), frame(90));
}

#[test]
fn buffers_that_cannot_be_used_are_given_back_and_cost_no_frame() {
    let mut driver = Driver::new(MERGEABLE);
    let place = driver.guest.allocate(4096);
    let mut unusable = Vec::new();
    for chain in [
        vec![Buffer::Writable(place, 11)],
        vec![Buffer::Readable(place, 100)],
        vec![Buffer::Writable(1 << 40, 100)],
        vec![Buffer::Writable(place, 100), Buffer::Readable(place, 100)],
    ] {
        unusable.push(driver.guest.add(RX, &chain));
    }
    unusable.push(driver.guest.add_loop(RX));
    driver.far.send(&frame(60));
    driver.wake();
    for head in unusable {
        assert_eq!(driver.guest.take_used(RX), Some((head, 0)));
    }
    // One in the middle of a frame is used for nothing.
    let first = driver.guest.add(RX, &[Buffer::Writable(place, 40)]);
    let middle = driver.guest.add(RX, &[Buffer::Writable(1 << 40, 100)]);
    let last = driver.guest.add(RX, &[Buffer::Writable(place + 40, 100)]);
    driver.kick(RX);
    for used in [(first, 40), (middle, 0), (last, 32)] {
        assert_eq!(driver.guest.take_used(RX), Some(used));
    }
    assert_eq!(driver.guest.read(place + 10, 62), [&[3, 0][..], &frame(60)].concat());
}

#[test]
fn a_guest_that_offers_crumbs_gets_small_frames_only() {
    let mut driver = Driver::new(MERGEABLE);
    driver.offer(1000, 16);
    driver.far.send(&frame(1100));
    driver.far.send(&frame(60));
    driver.wake();
    let (header, received) = driver.received().unwrap();
    assert_eq!(header.buffers.get(), 5);
    assert!(received == frame(60));
    assert!(driver.received().is_none());
}

#[test]
fn a_ring_that_cannot_be_is_reported() {
    let mut driver = Driver::new(MERGEABLE);
    driver.guest.set_available_index(TX, 300);
    assert!(matches!(driver.guest.kick(&mut driver.device, TX), Err(DeviceError::Queue { index: TX, .. })));
    driver.guest.set_descriptor(RX, 0, 0, 16, WRITE, 0);
    driver.guest.offer(RX, 5000);
    driver.far.send(&frame(60));
    assert!(driver.guest.wake(&mut driver.device).is_err());
}

#[test]
fn the_link_hears_of_drivers_in_the_thread_that_serves_them() {
    let mut driver = Driver::new(OFFLOADS);
    assert_eq!(driver.far.events(), [], "activation may come from elsewhere");
    driver.kick(RX);
    assert_eq!(driver.far.events(), [LinkEvent::Started(true)]);
    driver.device.reset();
    driver.wake();
    driver.device.activate(0);
    assert_eq!(driver.far.events(), []);
    driver.wake();
    assert_eq!(driver.far.events(), [LinkEvent::Stopped, LinkEvent::Started(false)]);
    // A driver that did nothing is none.
    driver.device.reset();
    driver.device.activate(0);
    driver.device.reset();
    driver.device.activate(0);
    driver.kick(TX);
    assert_eq!(driver.far.events(), [LinkEvent::Stopped, LinkEvent::Started(false)]);
}

#[test]
fn a_card_goes_on_only_as_the_same_card() {
    let mut driver = Driver::new(0);
    let state = driver.device.save();
    assert_eq!(state, DeviceState::Net(NetState { mac: MAC, mtu: MTU }));
    driver.device.restore(state.clone()).unwrap();
    let mut other = NetDevice::new(MAC, 1500, Box::new(FakeLink::echoing()));
    assert!(matches!(other.restore(state), Err(RestoreError::NetworkCard)));
    assert!(matches!(other.restore(DeviceState::Rng), Err(RestoreError::Kind { .. })));
}
