//! The cable between the machine's network card and the gateway.

use std::os::fd::BorrowedFd;

use sbx_net::{driver::Driver, packet};
use sbx_vmm::virtio::net::{Checksum, Link};

use super::capture::Capture;

/// The gateway's end, as the network card sees it, and perhaps somebody who writes down what passes.
#[derive(Debug)]
pub(super) struct Cable {
    driver: Driver,
    capture: Option<Capture>,
}

impl Cable {
    pub(super) fn new(driver: Driver, capture: Option<Capture>) -> Self {
        Self { driver, capture }
    }
}

impl Link for Cable {
    fn wake_fd(&self) -> BorrowedFd<'_> {
        self.driver.wake_fd()
    }

    fn start(&mut self, checksums: bool) {
        self.driver.start(checksums);
    }

    fn transmit(&mut self, frame: &[u8], checksum: Checksum) {
        if let Some(capture) = &mut self.capture {
            capture.frame(frame);
        }
        let checksum = match checksum {
            Checksum::Complete => packet::Checksum::Complete,
            Checksum::Partial => packet::Checksum::Partial,
        };
        self.driver.transmit(frame, checksum);
    }

    fn poll(&mut self) {
        self.driver.poll();
    }

    fn frame(&self) -> Option<&[u8]> {
        self.driver.frame()
    }

    fn pop_frame(&mut self) {
        if let (Some(capture), Some(frame)) = (&mut self.capture, self.driver.frame()) {
            capture.frame(frame);
        }
        self.driver.pop_frame();
    }

    fn stop(&mut self) {
        self.driver.stop();
    }
}
