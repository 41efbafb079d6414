//! Telling a guest that was restored that all its connections are gone (virtio 1.2, 5.10.6.7).
//!
//! ```text
//!          restore()        the event is in a buffer of the guest     the guest gives a buffer back
//! settled ──────────▶ due ──────────────────────────────────────▶ told ──────────────────────────▶ settled
//! ```
//!
//! Until it is settled nobody makes a connection: the guest would reset it along with the old ones. That the guest has
//! dealt with the event is told by the next buffer that it offers for events.

use crate::virtio::buffers::Buffers;
use crate::virtio::{DeviceError, Virtqueue};

/// The event: `struct virtio_vsock_event` with the id VIRTIO_VSOCK_EVENT_TRANSPORT_RESET.
const EVENT: [u8; 4] = 0_u32.to_le_bytes();

/// How far the guest is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum TransportReset {
    /// There is nothing to tell, or it is done.
    #[default]
    Settled,
    /// The guest is to be told.
    Due,
    /// It was told.
    Told,
}

impl TransportReset {
    /// The event queue was kicked. Says whether that settled it.
    pub(super) fn handle(&mut self, queue: &mut Virtqueue<'_>) -> Result<bool, DeviceError> {
        match self {
            Self::Settled => return Ok(false),
            // A driver without an event queue cannot be told, and has got by without.
            Self::Due if !queue.is_ready() => *self = Self::Settled,
            Self::Due => {
                if tell(queue)? {
                    *self = Self::Told;
                    if queue.enable_notification_of_more()? {
                        *self = Self::Settled;
                    }
                }
            }
            Self::Told => *self = Self::Settled,
        }
        Ok(*self == Self::Settled)
    }
}

/// Puts the event into the next buffer; `false` if there is none yet.
fn tell(queue: &mut Virtqueue<'_>) -> Result<bool, DeviceError> {
    loop {
        let Some(chain) = queue.pop()? else {
            if queue.enable_notification()? {
                continue;
            }
            return Ok(false);
        };
        let head = chain.head_index();
        let space = Buffers::split_chain(queue.memory(), chain).map(|(_, writable)| writable);
        // A buffer that cannot hold an event is of no use.
        let space = space.ok().filter(|space| space.len() >= EVENT.len());
        let written = space.as_ref().map_or(0, |space| space.copy_from(&EVENT));
        queue.push(head, u32::try_from(written).unwrap_or(0))?;
        if space.is_some() {
            return Ok(true);
        }
    }
}
