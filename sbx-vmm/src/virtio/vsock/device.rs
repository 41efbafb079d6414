//! The socket device: takes packets out of the tx queue, and puts packets into the rx queue's buffers.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use zerocopy::IntoBytes;

use super::handle::{Shared, VsockHandle};
use super::muxer::Muxer;
use super::packet::{HEADER_BYTES, Header};
use super::transport_reset::TransportReset;
use crate::virtio::buffers::Buffers;
use crate::virtio::{DeviceError, DeviceKind, DeviceState, RestoreError, VirtioDevice, Virtqueue};

/// Packets to the guest, packets from it, and events, of which there is one after a restore.
const QUEUE_SIZES: [u16; 3] = [256, 256, 16];
const RX: usize = 0;
const TX: usize = 1;
const EVENTS: usize = 2;

/// The socket device of one guest.
#[derive(Debug)]
pub struct VsockDevice {
    muxer: Muxer,
    shared: Arc<Shared>,
    config: [u8; 8],
    /// Whether packets were left in the tx queue because the guest has to take some first.
    stalled: bool,
    transport_reset: TransportReset,
}

impl VsockDevice {
    /// A device for the guest with this context id, at least 3, and the host's door to it.
    ///
    /// # Errors
    /// When the host gives no epoll or eventfd.
    pub fn new(guest_cid: u64) -> io::Result<(Self, VsockHandle)> {
        let shared = Arc::new(Shared::new()?);
        let device = Self {
            muxer: Muxer::new(guest_cid, Arc::clone(&shared))?,
            shared: Arc::clone(&shared),
            config: guest_cid.to_le_bytes(),
            stalled: false,
            transport_reset: TransportReset::Settled,
        };
        Ok((device, VsockHandle::new(shared)))
    }

    /// Moves packets both ways until the guest has to do something first.
    fn exchange(&mut self, queues: &mut [Virtqueue<'_>], transmit: bool) -> Result<(), DeviceError> {
        let mut transmit = transmit;
        loop {
            if transmit && let Some(queue) = queues.get_mut(TX) {
                self.take_packets(queue)?;
            }
            let Some(queue) = queues.get_mut(RX) else { return Ok(()) };
            self.give_packets(queue)?;
            transmit = self.stalled && !self.muxer.is_congested();
            if !transmit {
                return Ok(());
            }
        }
    }

    /// Takes packets from the guest.
    fn take_packets(&mut self, queue: &mut Virtqueue<'_>) -> Result<(), DeviceError> {
        loop {
            queue.disable_notification()?;
            self.stalled = self.muxer.is_congested();
            while !self.stalled {
                let Some(chain) = queue.pop()? else { break };
                let head = chain.head_index();
                // A packet that is no packet is dropped: there is nobody to tell.
                if let Ok((readable, _)) = Buffers::split_chain(queue.memory(), chain)
                    && let Some((header, data)) = Header::parse(readable)
                {
                    self.muxer.receive(&header, data);
                }
                queue.push(head, 0)?;
                self.stalled = self.muxer.is_congested();
            }
            if self.stalled || !queue.enable_notification()? {
                return Ok(());
            }
        }
    }

    /// Gives packets to the guest.
    fn give_packets(&mut self, queue: &mut Virtqueue<'_>) -> Result<(), DeviceError> {
        queue.disable_notification()?;
        while self.muxer.has_output() {
            let Some(chain) = queue.pop()? else {
                if queue.enable_notification()? {
                    continue;
                }
                return Ok(());
            };
            let head = chain.head_index();
            let Ok((_, mut space)) = Buffers::split_chain(queue.memory(), chain) else {
                queue.push(head, 0)?;
                continue;
            };
            let place = space.take_front(HEADER_BYTES);
            if place.len() < HEADER_BYTES {
                queue.push(head, 0)?;
                continue;
            }
            let Some(header) = self.muxer.next_packet(&space) else {
                queue.undo_pop(1);
                return Ok(());
            };
            place.copy_from(header.as_bytes());
            let written = u32::try_from(HEADER_BYTES).unwrap_or(0).saturating_add(header.length.get());
            queue.push(head, written)?;
        }
        Ok(())
    }
}

impl VirtioDevice for VsockDevice {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Vsock
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, _features: u64) {
        self.shared.set_active(true);
    }

    fn handle_queue(&mut self, index: usize, queues: &mut [Virtqueue<'_>]) -> Result<(), DeviceError> {
        match index {
            RX => self.exchange(queues, false),
            TX => self.exchange(queues, true),
            EVENTS => {
                if let Some(queue) = queues.get_mut(EVENTS)
                    && self.transport_reset.handle(queue)?
                {
                    self.shared.set_active(true);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.muxer.wake_fd())
    }

    fn handle_wake(&mut self, queues: &mut [Virtqueue<'_>]) -> Result<(), DeviceError> {
        self.muxer
            .handle_host()
            .map_err(|source| DeviceError::Host { what: "cannot wait for the host's streams", source })?;
        self.exchange(queues, false)
    }

    fn reset(&mut self) {
        self.shared.set_active(false);
        self.muxer.reset();
        self.stalled = false;
        self.transport_reset = TransportReset::Settled;
    }

    fn save(&self) -> DeviceState {
        DeviceState::Vsock(self.muxer.save())
    }

    /// Active, without connections; until the guest knows that, as if its driver were not there.
    fn restore(&mut self, state: DeviceState) -> Result<(), RestoreError> {
        let DeviceState::Vsock(state) = state else {
            return Err(RestoreError::kind(self.kind(), &state));
        };
        self.muxer.restore(&state)?;
        self.shared.set_active(false);
        self.transport_reset = TransportReset::Due;
        Ok(())
    }
}

impl Drop for VsockDevice {
    fn drop(&mut self) {
        self.shared.close();
    }
}
