//! What a network card is connected to.

use std::os::fd::BorrowedFd;

use super::Checksum;

/// The other end of the guest's cable.
///
/// ```text
///            start()              transmit() …, poll(), frame() / pop_frame() …          stop()
/// unplugged ─────────▶ connected ──────────────────────────────────────────▶ connected ─────────▶ unplugged
/// ```
///
/// All calls but `wake_fd` come from the one thread that serves the device, which may use sockets as its list of system calls
/// says (`seccomp/net.rules`). A driver that the device does not hear of any more has stopped: `stop` may come as late as
/// right before the next `start`, and not at all if the machine ends.
pub trait Link: Send {
    /// Becomes readable when `poll` has something to do (sockets, timers). Asked for once. After `poll` it must not stay
    /// readable for what waits for the guest: the thread would not rest.
    fn wake_fd(&self) -> BorrowedFd<'_>;

    /// The driver is there. With `checksums` it takes frames without valid TCP and UDP checksums
    /// (VIRTIO_NET_F_GUEST_CSUM): all frames for it are marked as checked (VIRTIO_NET_HDR_F_DATA_VALID).
    fn start(&mut self, checksums: bool);

    /// A frame from the guest: Ethernet, without the virtio header, from 14 to [`MAX_FRAME_BYTES`](super::MAX_FRAME_BYTES)
    /// bytes long, and whatever the guest put into it.
    fn transmit(&mut self, frame: &[u8], checksum: Checksum);

    /// Lets the host side work: after `wake_fd` was readable, after a batch of `transmit`s, and after the guest took
    /// frames, so that there may be more.
    fn poll(&mut self);

    /// The next frame for the guest, if there is one; the same until `pop_frame`. Called while the guest has room, so
    /// that it should cost nothing to ask.
    fn frame(&self) -> Option<&[u8]>;

    /// The frame was written to the guest's memory, or cannot be.
    fn pop_frame(&mut self);

    /// The driver reset the device or went away: all that belongs to its connections goes.
    fn stop(&mut self);
}
