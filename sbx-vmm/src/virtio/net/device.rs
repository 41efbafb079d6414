//! The network card: takes frames out of the tx queue, and puts frames into the rx queue's buffers.

use std::fmt;
use std::os::fd::BorrowedFd;

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
};
use zerocopy::{FromBytes, IntoBytes};

use super::header::{HEADER_BYTES, Header};
use super::link::Link;
use super::saved::NetState;
use crate::virtio::buffers::Buffers;
use crate::virtio::{DeviceError, DeviceKind, DeviceState, RestoreError, VirtioDevice, Virtqueue};

/// Frames for the guest and frames from it. Linux's buffers for receiving are of at most a page: with 1024 of them some
/// sixty of the largest frames are on their way.
const QUEUE_SIZES: [u16; 2] = [1024, 256];
const RX: usize = 0;
const TX: usize = 1;

const FEATURES: u64 = (1 << VIRTIO_NET_F_CSUM)
    | (1 << VIRTIO_NET_F_GUEST_CSUM)
    | (1 << VIRTIO_NET_F_MTU)
    | (1 << VIRTIO_NET_F_MAC)
    | (1 << VIRTIO_NET_F_HOST_TSO4)
    | (1 << VIRTIO_NET_F_HOST_TSO6)
    | (1 << VIRTIO_NET_F_MRG_RXBUF);

/// The longest frame that the guest may send, in bytes: an IP packet of 65,535 and an Ethernet header, with a byte to
/// spare (virtio 1.2, 5.1.6.3.1).
pub const MAX_FRAME_BYTES: usize = 65_550;

/// Bytes of an Ethernet header, without which there is no frame.
const ETHERNET_HEADER_BYTES: usize = 14;

/// Frames taken from the guest before the link works on them: enough to make the cost of a call vanish, few enough that
/// the answers to the first do not wait for the last.
const BATCH_FRAMES: usize = 16;

/// Chains that one frame may be spread over. A driver's smallest are of 1.5 KB, of which the largest frame needs 44; a guest
/// that offers smaller ones gets only the frames that fit, and does not make us walk through its whole ring for each.
const MAX_CHAINS: usize = 64;

/// The network card of one guest.
pub struct NetDevice {
    link: Box<dyn Link>,
    config: Vec<u8>,
    card: NetState,
    /// What the driver accepted.
    features: u64,
    plug: Plug,
    /// A frame of the guest's with its header, while the link looks at it.
    frame: Box<[u8]>,
    /// The chains that a frame for the guest is written to, and how many bytes to each.
    chains: Vec<(u16, u32)>,
    dropped: Dropped,
}

/// What the link was told of the driver, and has to be told. It is told in the thread that serves the queues, while `activate`
/// and `reset` may come from a thread of the guest's processors, which may do less.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Plug {
    /// There is no driver.
    Out,
    /// There is a driver, and another one before it if so.
    Due { another: bool },
    /// The link knows the driver.
    In,
    /// The driver that the link knows is gone.
    Gone,
}

/// Frames that were thrown away.
#[derive(Clone, Copy, Debug, Default)]
struct Dropped {
    /// What the guest sent and was no frame.
    malformed: u64,
    /// What the guest has no buffers for that are large enough.
    unfit: u64,
}

/// How the writing of frames for the guest ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Given {
    /// There was none.
    Nothing,
    /// All that there were.
    All,
    /// The guest has to offer buffers first, or this round has been long enough.
    Full,
}

impl NetDevice {
    /// A card with the address `mac` for packets of up to `mtu` bytes, connected to `link`.
    #[must_use]
    pub fn new(mac: [u8; 6], mtu: u16, link: Box<dyn Link>) -> Self {
        Self {
            link,
            config: config_space(mac, mtu),
            card: NetState { mac, mtu },
            features: 0,
            plug: Plug::Out,
            frame: vec![0; HEADER_BYTES.saturating_add(MAX_FRAME_BYTES)].into_boxed_slice(),
            chains: Vec::with_capacity(MAX_CHAINS),
            dropped: Dropped::default(),
        }
    }

    fn has(&self, feature: u32) -> bool {
        self.features & 1_u64.checked_shl(feature).unwrap_or(0) != 0
    }

    /// Tells the link of a driver that came, before anything else. `false` if there is none.
    fn plug_in(&mut self) -> bool {
        if let Plug::Due { another } = self.plug {
            if another {
                self.link.stop();
            }
            self.link.start(self.has(VIRTIO_NET_F_GUEST_CSUM));
            self.plug = Plug::In;
        }
        self.plug == Plug::In
    }

    /// Takes frames from the guest in batches, the link working on each.
    fn transmit(&mut self, queues: &mut [Virtqueue<'_>]) -> Result<(), DeviceError> {
        let mut more = true;
        while more {
            let Some(queue) = queues.get_mut(TX) else { return Ok(()) };
            more = self.take_frames(queue)?;
            self.receive(queues, true)?;
        }
        Ok(())
    }

    /// Gives frames to the guest until there are no more or it has no room; with `poll` the link works first.
    fn receive(&mut self, queues: &mut [Virtqueue<'_>], poll: bool) -> Result<(), DeviceError> {
        let Some(queue) = queues.get_mut(RX) else { return Ok(()) };
        let mut poll = poll;
        loop {
            if poll {
                self.link.poll();
            }
            match self.give_frames(queue)? {
                Given::All => poll = true,
                Given::Nothing | Given::Full => return Ok(()),
            }
        }
    }

    /// Takes a batch of frames from the guest; `true` if there may be more.
    fn take_frames(&mut self, queue: &mut Virtqueue<'_>) -> Result<bool, DeviceError> {
        let (mut readable, mut writable) = (Buffers::default(), Buffers::default());
        let mut left = BATCH_FRAMES;
        queue.disable_notification()?;
        while let Some(rest) = left.checked_sub(1) {
            let Some(chain) = queue.pop()? else {
                if queue.enable_notification()? {
                    queue.disable_notification()?;
                    continue;
                }
                return Ok(false);
            };
            left = rest;
            let head = chain.head_index();
            readable.clear();
            writable.clear();
            let chain = Buffers::append_chain(&mut readable, &mut writable, queue.memory(), chain);
            if chain.is_err() || !self.take_frame(&readable) {
                self.dropped.malformed = self.dropped.malformed.saturating_add(1);
                tracing::debug!(frames = self.dropped.malformed, "the guest sent what is no frame");
            }
            queue.push(head, 0)?;
        }
        Ok(true)
    }

    /// Passes on the frame in `bytes`, behind its header; `false` if it is none.
    fn take_frame(&mut self, bytes: &Buffers<'_>) -> bool {
        if bytes.len() > self.frame.len() {
            return false;
        }
        let length = bytes.copy_to(&mut self.frame);
        let Some((header, frame)) =
            self.frame.get(..length).and_then(|bytes| Header::ref_from_prefix(bytes).ok())
        else {
            return false;
        };
        let Some(checksum) = header.checksum(self.has(VIRTIO_NET_F_CSUM)) else { return false };
        if frame.len() < ETHERNET_HEADER_BYTES {
            return false;
        }
        self.link.transmit(frame, checksum);
        true
    }

    /// Gives the link's frames to the guest.
    fn give_frames(&mut self, queue: &mut Virtqueue<'_>) -> Result<Given, DeviceError> {
        let mut space = Buffers::default();
        let mut given = Given::Nothing;
        while let Some(length) = self.link.frame().map(<[u8]>::len) {
            match self.gather(queue, &mut space, HEADER_BYTES.saturating_add(length))? {
                Gathered::Enough => self.write_frame(queue, &space)?,
                Gathered::Unfit => {
                    self.dropped.unfit = self.dropped.unfit.saturating_add(1);
                    tracing::debug!(frames = self.dropped.unfit, length, "the guest's buffers are too small");
                }
                Gathered::TooFew => return Ok(Given::Full),
            }
            self.link.pop_frame();
            given = Given::All;
        }
        Ok(given)
    }

    /// Takes as many chains as `length` bytes need: their memory into `space`, their heads and what is to be written to each
    /// into `self.chains`. None is taken if it is not `Gathered::Enough`.
    fn gather<'a>(
        &mut self,
        queue: &mut Virtqueue<'a>,
        space: &mut Buffers<'a>,
        length: usize,
    ) -> Result<Gathered, DeviceError> {
        let most = if self.has(VIRTIO_NET_F_MRG_RXBUF) { MAX_CHAINS } else { 1 };
        let mut readable = Buffers::default();
        self.chains.clear();
        space.clear();
        loop {
            if self.chains.len() >= most {
                self.put_back(queue);
                return Ok(Gathered::Unfit);
            }
            let Some(chain) = queue.pop()? else {
                self.put_back(queue);
                if !queue.is_unfinished() && queue.enable_notification_of_more()? {
                    space.clear();
                    continue;
                }
                return Ok(Gathered::TooFew);
            };
            let head = chain.head_index();
            let before = space.len();
            readable.clear();
            // A chain that cannot be used has no room.
            let _ = Buffers::append_chain(&mut readable, space, queue.memory(), chain);
            if self.chains.is_empty() && space.len() < HEADER_BYTES {
                // Nobody could find the header of a frame that begins here.
                space.clear();
                queue.push(head, 0)?;
                continue;
            }
            let room = space.len().min(length).saturating_sub(before);
            self.chains.push((head, u32::try_from(room).unwrap_or(u32::MAX)));
            if space.len() >= length {
                return Ok(Gathered::Enough);
            }
        }
    }

    fn put_back(&mut self, queue: &mut Virtqueue<'_>) {
        queue.undo_pop(u16::try_from(self.chains.len()).unwrap_or(u16::MAX));
        self.chains.clear();
    }

    /// Writes the link's next frame into the chains that were gathered for it.
    fn write_frame(&self, queue: &mut Virtqueue<'_>, space: &Buffers<'_>) -> Result<(), DeviceError> {
        let buffers = u16::try_from(self.chains.len()).unwrap_or(u16::MAX);
        let header = Header::for_guest(self.has(VIRTIO_NET_F_GUEST_CSUM), buffers);
        space.copy_from(header.as_bytes());
        space.copy_from_at(HEADER_BYTES, self.link.frame().unwrap_or_default());
        queue.push_together(&self.chains)
    }
}

/// What became of the search for room for a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Gathered {
    /// There is room.
    Enough,
    /// There will never be.
    Unfit,
    /// Not yet: the guest was asked to say when there is more.
    TooFew,
}

/// The configuration space (virtio 1.2, 5.1.4): address, `status` and `max_virtqueue_pairs`, which belong to features that
/// are not offered, and the MTU.
fn config_space(mac: [u8; 6], mtu: u16) -> Vec<u8> {
    let mut bytes = mac.to_vec();
    bytes.extend([0; 4]);
    bytes.extend(mtu.to_le_bytes());
    bytes
}

impl fmt::Debug for NetDevice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NetDevice")
            .field("card", &self.card)
            .field("plug", &self.plug)
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

impl VirtioDevice for NetDevice {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Net
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, features: u64) {
        self.features = features;
        self.plug = Plug::Due { another: self.plug == Plug::Gone };
    }

    fn handle_queue(&mut self, index: usize, queues: &mut [Virtqueue<'_>]) -> Result<(), DeviceError> {
        if !self.plug_in() {
            return Ok(());
        }
        match index {
            RX => self.receive(queues, false),
            TX => self.transmit(queues),
            _ => Ok(()),
        }
    }

    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.link.wake_fd())
    }

    fn handle_wake(&mut self, queues: &mut [Virtqueue<'_>]) -> Result<(), DeviceError> {
        if !self.plug_in() {
            return Ok(());
        }
        self.receive(queues, true)
    }

    fn reset(&mut self) {
        self.plug = match self.plug {
            Plug::In | Plug::Gone | Plug::Due { another: true } => Plug::Gone,
            Plug::Out | Plug::Due { another: false } => Plug::Out,
        };
        self.features = 0;
    }

    fn save(&self) -> DeviceState {
        DeviceState::Net(self.card)
    }

    /// The link begins anew, as with a driver that has just come.
    fn restore(&mut self, state: DeviceState) -> Result<(), RestoreError> {
        let DeviceState::Net(card) = state else {
            return Err(RestoreError::kind(self.kind(), &state));
        };
        if card == self.card { Ok(()) } else { Err(RestoreError::NetworkCard) }
    }
}
