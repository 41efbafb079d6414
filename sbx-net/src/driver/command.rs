//! What other threads ask of the driver.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel as queue, sync_channel};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};

use super::Driver;
use crate::policy::Policy;

/// A port of the guest that the host has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PublishedPort {
    /// The guest's port.
    pub guest: u16,
    /// The host's.
    pub host: u16,
    /// The host's address; of the loopback addresses IPv4's, which stands for both.
    pub address: IpAddr,
}

/// Why a port was not published.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The host does not give the port.
    #[error("cannot listen on port {port}")]
    Bind {
        /// The port.
        port: u16,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The network is gone.
    #[error("the sandbox's network has ended")]
    Gone,
}

/// What is asked, and where the answer goes.
enum Command {
    SetPolicy(Box<Policy>),
    Publish {
        guest: u16,
        host: u16,
        address: Option<IpAddr>,
        answer: SyncSender<Result<PublishedPort, PortError>>,
    },
    Unpublish {
        host: u16,
        answer: SyncSender<bool>,
    },
    Ports {
        answer: SyncSender<Vec<PublishedPort>>,
    },
}

/// The way of other threads to the driver. Its calls return when the driver has done what was asked.
#[derive(Clone, Debug)]
pub struct Controller {
    sender: Sender<Command>,
    bell: Arc<OwnedFd>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::SetPolicy(_) => "SetPolicy",
            Self::Publish { .. } => "Publish",
            Self::Unpublish { .. } => "Unpublish",
            Self::Ports { .. } => "Ports",
        })
    }
}

/// The driver's end.
#[derive(Debug)]
pub(super) struct Inbox {
    receiver: Receiver<Command>,
    bell: Arc<OwnedFd>,
}

pub(super) fn channel() -> io::Result<(Inbox, Controller)> {
    let bell = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
    let (sender, receiver) = queue();
    Ok((Inbox { receiver, bell: Arc::clone(&bell) }, Controller { sender, bell }))
}

impl Inbox {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Controller {
    /// Puts other rules into force.
    pub fn set_policy(&self, policy: Policy) {
        let _ = self.send(Command::SetPolicy(Box::new(policy)));
    }

    /// Publishes the port `guest` as `host` at the loopback addresses, or at `address`; 0 chooses one.
    ///
    /// # Errors
    /// If the host does not give the port.
    pub fn publish(
        &self,
        guest: u16,
        host: u16,
        address: Option<IpAddr>,
    ) -> Result<PublishedPort, PortError> {
        self.ask(|answer| Command::Publish { guest, host, address, answer }).ok_or(PortError::Gone)?
    }

    /// Publishes the host's port no more; false if it was not published.
    #[must_use]
    pub fn unpublish(&self, host: u16) -> bool {
        self.ask(|answer| Command::Unpublish { host, answer }).unwrap_or(false)
    }

    /// What is published.
    #[must_use]
    pub fn ports(&self) -> Vec<PublishedPort> {
        self.ask(|answer| Command::Ports { answer }).unwrap_or_default()
    }

    fn ask<A>(&self, command: impl FnOnce(SyncSender<A>) -> Command) -> Option<A> {
        let (sender, receiver) = sync_channel(1);
        self.send(command(sender)).then(|| receiver.recv().ok()).flatten()
    }

    fn send(&self, command: Command) -> bool {
        self.sender.send(command).is_ok() && rustix::io::write(&self.bell, &1_u64.to_ne_bytes()).is_ok()
    }
}

impl Driver {
    /// Does what other threads have asked.
    pub(super) fn take_commands(&mut self, now: Instant) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.inbox.bell, &mut count);
        while let Ok(command) = self.inbox.receiver.try_recv() {
            // Who asked may have given up waiting.
            match command {
                Command::SetPolicy(policy) => self.gateway.set_policy(now, *policy),
                Command::Publish { guest, host, address, answer } => {
                    let _ = answer.send(self.publish(guest, host, address));
                }
                Command::Unpublish { host, answer } => {
                    let _ = answer.send(self.unpublish(host));
                }
                Command::Ports { answer } => {
                    let _ = answer.send(self.ports());
                }
            }
        }
    }
}
