//! The virtio-mmio transport (virtio 1.2, 4.2; version 2 of the interface): devices inside of this process.
//!
//! ```text
//!  vCPU threads                                       thread of the devices
//!  registers ──MmioDevice::read, write──▶ Transport   (features, queues, status)
//!  QueueNotify ──▶ kick eventfds ──▶ EventLoop ──▶ VirtioDevice::handle_queue ──▶ interrupt eventfd ──▶ guest
//!                  wake_fd       ──▶           ──▶ VirtioDevice::handle_wake
//! ```
//!
//! A kick does not leave the kernel's KVM but as an eventfd, and an interrupt enters it as one; what a vCPU comes here
//! for is setting up, and the reading and acknowledging of interrupts, which wait for nobody. A driver that breaks the
//! rules finds its device in DEVICE_NEEDS_RESET, is told so by an interrupt, and is logged a few times.

mod device;
mod event_loop;
mod registers;
mod transport;

pub use device::MmioDevice;
pub use event_loop::{EventLoop, LoopHandle};
pub use registers::{QUEUE_NOTIFY, WINDOW_BYTES};
pub use transport::MmioState;

#[cfg(test)]
mod tests;
