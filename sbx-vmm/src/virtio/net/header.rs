//! The header in front of every frame, and what its fields may say (virtio 1.2, 5.1.6).
//!
//! ```text
//! 0 flags u8    1 gso_type u8     2 header_length u16    4 gso_size u16
//! 6 checksum_start u16            8 checksum_offset u16  10 buffers u16
//! ```
//!
//! All numbers are little-endian. Where the guest's stack would have cut a segment and where its checksum would be does not
//! matter to a receiver that takes segments of any size and believes the guest's memory.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_HDR_F_DATA_VALID, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE,
    VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6,
};
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = size_of::<Header>();

/// The header as it is in guest memory (`struct virtio_net_hdr_v1`).
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub(super) flags: u8,
    pub(super) gso_type: u8,
    pub(super) header_length: U16,
    pub(super) gso_size: U16,
    pub(super) checksum_start: U16,
    pub(super) checksum_offset: U16,
    /// In frames for the guest: over how many chains this one is spread.
    pub(super) buffers: U16,
}

/// The state of the TCP or UDP checksum of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Checksum {
    /// It is there; whether it is right is for the receiver to find out.
    Complete,
    /// It was left to the device (VIRTIO_NET_HDR_F_NEEDS_CSUM). The frame has not been on a wire, so that there is nothing
    /// to be found out.
    Partial,
}

impl Header {
    /// The header of a frame for the guest that fills `buffers` chains; `checked` if its checksums need not be looked at.
    pub(super) fn for_guest(checked: bool, buffers: u16) -> Self {
        let flags = if checked { VIRTIO_NET_HDR_F_DATA_VALID } else { 0 };
        Self { flags: u8::try_from(flags).unwrap_or(0), buffers: U16::new(buffers), ..Self::default() }
    }

    /// What a header of the guest's says of the checksum; nothing if no driver writes such a header. `partial` if the
    /// driver may leave checksums out, without which it may not leave segments whole, either.
    pub(super) fn checksum(&self, partial: bool) -> Option<Checksum> {
        let left_out = u32::from(self.flags) & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0;
        let whole = match u32::from(self.gso_type) {
            VIRTIO_NET_HDR_GSO_NONE => false,
            VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_TCPV6 => true,
            _ => return None,
        };
        match (left_out, whole) {
            (true, _) => partial.then_some(Checksum::Partial),
            (false, true) => None,
            (false, false) => Some(Checksum::Complete),
        }
    }
}
