//! The control connection: the guest dials the host, and is told what to be.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use sbx_proto::{
    BootConfig, CONTROL_PORT, ControlReply, ControlRequest, FrameError, VERSION, read_frame, write_frame,
};
use vsock::{VMADDR_CID_HOST, VsockStream};

/// How long the host may be unreachable. The device is built into the kernel and there before us; the rest is for
/// a host that is busy starting.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two attempts to reach the host.
const PAUSE: Duration = Duration::from_millis(2);

/// The connection to the host.
#[derive(Debug)]
pub(crate) struct Control {
    stream: File,
}

/// Why there is nothing more to hear from the host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// Nobody answers.
    #[error("cannot reach the host over vsock port {CONTROL_PORT}")]
    Dial {
        /// What the last attempt said.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the control connection failed")]
    Frame {
        /// How.
        #[source]
        source: FrameError,
    },
    /// The host said something else than it has to.
    #[error("the host did not send the boot configuration first")]
    NotBoot,
}

impl Control {
    /// Dials the host and greets it.
    pub(crate) fn dial() -> Result<Self, ControlError> {
        let since = Instant::now();
        let stream = loop {
            match VsockStream::connect_with_cid_port(VMADDR_CID_HOST, CONTROL_PORT) {
                Ok(stream) => break stream,
                Err(source) if since.elapsed() >= PATIENCE => return Err(ControlError::Dial { source }),
                Err(_) => std::thread::sleep(PAUSE),
            }
        };
        let mut control = Self { stream: File::from(OwnedFd::from(stream)) };
        control.send(&ControlReply::Hello { version: VERSION })?;
        Ok(control)
    }

    /// Waits for the host's answer to the greeting.
    pub(crate) fn boot_config(&mut self) -> Result<BootConfig, ControlError> {
        match self.next()? {
            ControlRequest::Boot(config) => Ok(*config),
            _ => Err(ControlError::NotBoot),
        }
    }

    /// Waits for the next thing that the host wants.
    pub(crate) fn next(&mut self) -> Result<ControlRequest, ControlError> {
        read_frame(&mut self.stream).map_err(|source| ControlError::Frame { source })
    }

    /// Tells the host something.
    pub(crate) fn send(&mut self, reply: &ControlReply) -> Result<(), ControlError> {
        write_frame(&mut self.stream, reply).map_err(|source| ControlError::Frame { source })
    }

    /// Sends the last frame and waits until the host has read it: what is on its way when the machine powers off is
    /// lost.
    pub(crate) fn send_last(&mut self, reply: &ControlReply, limit: Duration) {
        if self.send(reply).is_err()
            || rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write).is_err()
        {
            return;
        }
        let _ = rustix::net::sockopt::set_socket_timeout(
            &self.stream,
            rustix::net::sockopt::Timeout::Recv,
            Some(limit),
        );
        let mut rest = [0_u8; 256];
        while let Ok(1..) = io::Read::read(&mut self.stream, &mut rest) {}
    }
}
