//! The peer is the front end of the `vhost` crate, the guest the fake driver.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use tempfile::TempDir;
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{FileOffset, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::{ServerHandle, serve};
use crate::gate::Gate;
use crate::testing::watched::{Event, Watched};
use crate::testing::{Buffer, FakeLink, Guest, LinkEvent, MEMORY_BYTES};
use crate::virtio::net::{Checksum, NetDevice};
use crate::virtio::rng::RngDevice;
use crate::virtio::{DeviceKind, VirtioDevice};

const SIZE: u16 = 64;

/// A front end with a guest, before it has said anything.
struct Peer {
    _directory: TempDir,
    front: Frontend,
    guest: Guest,
    sizes: Vec<u16>,
    kicks: Vec<EventFd>,
    calls: Vec<EventFd>,
    server: Option<ServerHandle>,
    events: Receiver<Event>,
}

impl Peer {
    fn new(seals: SealFlags) -> Self {
        // One whose configuration space QEMU asks for.
        let (device, events) = Watched::new(DeviceKind::Vsock);
        Self::with(Box::new(device), events, &[SIZE], seals)
    }

    fn with(device: Box<dyn VirtioDevice>, events: Receiver<Event>, sizes: &[u16], seals: SealFlags) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let gate = Gate::default();
        let server = serve(device, listener, gate.clone()).unwrap();
        gate.open();
        let event = |_: &u16| EventFd::new(libc::EFD_NONBLOCK).unwrap();
        Self {
            front: Frontend::connect(&path, sizes.len() as u64).unwrap(),
            _directory: directory,
            guest: Guest::with_memory(shared_memory(seals), sizes),
            sizes: sizes.to_vec(),
            kicks: sizes.iter().map(event).collect(),
            calls: sizes.iter().map(event).collect(),
            server: Some(server),
            events,
        }
    }

    /// Negotiates as QEMU does.
    fn negotiate(&mut self) -> u64 {
        self.front.set_owner().unwrap();
        let features = self.front.get_features().unwrap();
        assert_ne!(features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits(), 0);
        let protocol = self.front.get_protocol_features().unwrap();
        assert!(protocol.contains(VhostUserProtocolFeatures::REPLY_ACK));
        self.front.set_protocol_features(protocol).unwrap();
        self.front.set_hdr_flags(vhost::vhost_user::message::VhostUserHeaderFlag::NEED_REPLY);
        self.front.set_features(features).unwrap();
        features & !VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn share_memory(&self) -> Result<(), vhost::Error> {
        let region = self.guest.memory().iter().next().unwrap();
        self.front.set_mem_table(&[VhostUserMemoryRegionInfo::from_guest_region(region).unwrap()])
    }

    fn set_up_ring(&mut self) {
        let region = self.guest.memory().iter().next().unwrap();
        let base = region.get_host_address(vm_memory::MemoryRegionAddress(0)).unwrap() as u64;
        for (index, size) in self.sizes.iter().enumerate() {
            let [descriptors, available, used] = self.guest.addresses(index).map(|address| base + address);
            self.front.set_vring_num(index, *size).unwrap();
            let data = VringConfigData {
                queue_max_size: *size,
                queue_size: *size,
                flags: 0,
                desc_table_addr: descriptors,
                used_ring_addr: used,
                avail_ring_addr: available,
                log_addr: None,
            };
            self.front.set_vring_addr(index, &data).unwrap();
            self.front.set_vring_base(index, 0).unwrap();
            self.front.set_vring_call(index, &self.calls[index]).unwrap();
            self.front.set_vring_kick(index, &self.kicks[index]).unwrap();
        }
    }

    fn start(&mut self) {
        self.negotiate();
        self.share_memory().unwrap();
        self.set_up_ring();
        self.front.set_vring_enable(0, true).unwrap();
        assert!(matches!(self.events.recv().unwrap(), Event::Activated(_)));
    }

    /// Waits for the interrupt, and says whether it came.
    fn wait(&self, milliseconds: i32) -> bool {
        self.wait_for(0, milliseconds)
    }

    fn wait_for(&self, ring: usize, milliseconds: i32) -> bool {
        let epoll = Epoll::new().unwrap();
        let mut events = [EpollEvent::new(EventSet::IN, 0)];
        epoll.ctl(ControlOperation::Add, self.calls[ring].as_raw_fd(), events[0]).unwrap();
        epoll.wait(milliseconds, &mut events).unwrap() == 1 && self.calls[ring].read().unwrap() > 0
    }

    /// Asks for 16 random bytes and says how many came.
    fn request(&mut self) -> Option<u32> {
        let place = self.guest.allocate(16);
        self.guest.add(0, &[Buffer::Writable(place, 16)]);
        self.kicks[0].write(1).unwrap();
        self.wait(900).then(|| self.guest.take_used(0).unwrap().1)
    }

    /// Waits for the thread to end by itself.
    fn ends(&self) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(5) {
            if self.server.as_ref().unwrap().is_finished() {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }
}

fn shared_memory(seals: SealFlags) -> GuestMemoryMmap {
    let memory = memfd_create("guest", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memory, MEMORY_BYTES).unwrap();
    fcntl_add_seals(&memory, seals).unwrap();
    let file = FileOffset::new(File::from(memory), 0);
    let size = usize::try_from(MEMORY_BYTES).unwrap();
    GuestMemoryMmap::from_ranges_with_files([(GuestAddress(0), size, Some(file))]).unwrap()
}

#[test]
fn serves_requests() {
    let mut peer = Peer::new(SealFlags::SHRINK);
    let features = peer.negotiate();
    assert_eq!(features, 1 << 5 | 1 << 28 | 1 << 29 | 1 << 32 | 1 << 40);
    peer.share_memory().unwrap();
    peer.set_up_ring();
    peer.front.set_vring_enable(0, true).unwrap();
    assert_eq!(peer.events.recv().unwrap(), Event::Activated(features));
    for _ in 0..200 {
        assert_eq!(peer.request(), Some(16));
    }
}

#[test]
fn a_network_card_carries_frames_both_ways() {
    let (link, far) = FakeLink::new();
    let card = NetDevice::new([2, 0, 0, 0, 0, 1], 65_520, Box::new(link));
    let (_events, received) = channel();
    let mut peer = Peer::with(Box::new(card), received, &[256, 256], SealFlags::SHRINK);
    peer.negotiate();
    peer.share_memory().unwrap();
    peer.set_up_ring();
    (0..2).for_each(|ring| peer.front.set_vring_enable(ring, true).unwrap());

    let place = peer.guest.store(&[&[0; 12][..], &[7; 60]].concat());
    peer.guest.add(1, &[Buffer::Readable(place, 72)]);
    peer.kicks[1].write(1).unwrap();
    assert!(peer.wait_for(1, 5000));
    assert_eq!(far.events(), [LinkEvent::Started(true), LinkEvent::Frame(vec![7; 60], Checksum::Complete)]);

    let place = peer.guest.allocate(3000);
    let heads = [0, 1000, 2000].map(|offset| peer.guest.add(0, &[Buffer::Writable(place + offset, 1000)]));
    peer.kicks[0].write(1).unwrap();
    far.send(&[9; 2500]);
    assert!(peer.wait_for(0, 5000));
    for (head, length) in heads.into_iter().zip([1000, 1000, 512]) {
        assert_eq!(peer.guest.take_used(0), Some((head, length)));
    }
    assert!(peer.guest.read(place + 12, 2500) == [9; 2500]);
    peer.server.take().unwrap().stop();
}

#[test]
fn takes_the_ring_size_that_qemu_gives_every_guest() {
    let peer = Peer::new(SealFlags::SHRINK);
    peer.front.set_owner().unwrap();
    peer.front.set_vring_num(0, 1024).unwrap();
    peer.front.set_vring_num(0, 2048).unwrap();
    assert!(peer.ends());
}

#[test]
fn reads_the_configuration() {
    let mut peer = Peer::new(SealFlags::SHRINK);
    peer.negotiate();
    let flags = VhostUserConfigFlags::empty();
    let (_, bytes) = peer.front.get_config(6, 20, flags, &[0; 20]).unwrap();
    assert_eq!(bytes, b"uration\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn a_kick_before_the_ring_is_enabled_is_not_lost() {
    let mut peer = Peer::new(SealFlags::SHRINK);
    peer.negotiate();
    peer.share_memory().unwrap();
    peer.set_up_ring();
    assert_eq!(peer.request(), None);
    peer.front.set_vring_enable(0, true).unwrap();
    assert!(peer.wait(900));
}

#[test]
fn stops_and_starts_again() {
    let mut peer = Peer::new(SealFlags::SHRINK);
    peer.start();
    for _ in 0..3 {
        assert_eq!(peer.request(), Some(16));
    }
    assert_eq!(peer.front.get_vring_base(0).unwrap(), 3);
    assert_eq!(peer.events.recv().unwrap(), Event::Reset);
    // The guest reboots: its rings begin anew, and nothing of the old ones is remembered.
    let memory = peer.guest.memory().clone();
    let zeros = vec![0; 0x20000];
    peer.guest.write(0, &zeros);
    peer.guest = Guest::with_memory(memory, &[SIZE]);
    peer.set_up_ring();
    assert!(matches!(peer.events.recv().unwrap(), Event::Activated(_)));
    assert_eq!(peer.request(), Some(16));
}

#[test]
fn a_broken_ring_stops_the_device_until_it_is_set_up_anew() {
    let mut peer = Peer::new(SealFlags::SHRINK);
    peer.start();
    peer.guest.set_available_index(0, SIZE + 1);
    peer.kicks[0].write(1).unwrap();
    assert!(!peer.wait(100));
    peer.guest.set_available_index(0, 0);
    assert_eq!(peer.request(), None);
    peer.front.get_vring_base(0).unwrap();
    assert_eq!(peer.events.recv().unwrap(), Event::Reset);
    peer.set_up_ring();
    assert!(peer.wait(900), "what was asked for meanwhile");
}

#[test]
fn ends_when_the_peer_hangs_up() {
    let mut peer = Peer::new(SealFlags::SHRINK);
    peer.start();
    let (other, _) = UnixStream::pair().unwrap();
    peer.front = Frontend::from_stream(other, 1);
    assert!(peer.ends());
    assert_eq!(peer.events.recv().unwrap(), Event::Reset);
}

#[test]
fn stops_when_told() {
    let mut peer = Peer::new(SealFlags::SHRINK);
    peer.start();
    peer.server.take().unwrap().stop();
    assert_eq!(peer.events.recv().unwrap(), Event::Reset);

    let directory = TempDir::new().unwrap();
    let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
    serve(Box::new(RngDevice::new()), listener, Gate::default()).unwrap().stop();
}

#[test]
fn refuses_memory_that_may_shrink() {
    let mut peer = Peer::new(SealFlags::GROW);
    peer.negotiate();
    assert!(peer.share_memory().is_err());
    assert!(peer.ends());
}

#[test]
fn refuses_features_that_were_not_offered() {
    let peer = Peer::new(SealFlags::SHRINK);
    peer.front.set_owner().unwrap();
    let features = peer.front.get_features().unwrap();
    let _ = peer.front.set_features(features | 1 << 6);
    assert!(peer.ends());
}

#[test]
fn survives_rubbish() {
    let requests = (0..64_u32).flat_map(|request| {
        [0_u32, 8, 12, 40, 4096].map(|length| {
            let mut message = [request, 1, length].map(u32::to_le_bytes).concat();
            message.extend((0..length).map(|index| (index.wrapping_mul(37) ^ request).to_le_bytes()[0]));
            message
        })
    });
    for message in requests {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let gate = Gate::default();
        let server = serve(Box::new(RngDevice::new()), listener, gate.clone()).unwrap();
        gate.open();
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(&message).unwrap();
        drop(stream);
        server.stop();
    }
}
