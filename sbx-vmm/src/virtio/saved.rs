//! What devices keep across a save and a restore: plain data, and why it is not taken.

use serde::{Deserialize, Serialize};

use super::DeviceKind;
use super::block::BlockState;
use super::fs::FsState;
use super::net::NetState;
use super::vsock::VsockState;

/// What a device has to know to go on, besides its configuration and the transport's part.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum DeviceState {
    /// Of a disk.
    Block(BlockState),
    /// Of the entropy device, which has nothing to remember.
    Rng,
    /// Of the socket device.
    Vsock(VsockState),
    /// Of the file system device.
    Fs(FsState),
    /// Of the network card.
    Net(NetState),
}

impl DeviceState {
    /// Of which device it is.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        match self {
            Self::Block(_) => DeviceKind::Block,
            Self::Rng => DeviceKind::Rng,
            Self::Vsock(_) => DeviceKind::Vsock,
            Self::Fs(_) => DeviceKind::Fs,
            Self::Net(_) => DeviceKind::Net,
        }
    }
}

/// Why a device does not go on from a state.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is of another device.
    #[error("the state is that of a {found} device, and this is a {expected} device")]
    Kind {
        /// What the device is.
        expected: &'static str,
        /// What the state is of.
        found: &'static str,
    },
    /// The guest uses what the device does not have any more.
    #[error("the guest uses features of the {device} device that it does not offer any more ({missing:#x})")]
    Features {
        /// The device.
        device: &'static str,
        /// Their bits.
        missing: u64,
    },
    /// The disk has got another length.
    #[error("the disk has {found} bytes, and the guest knows one of {expected}")]
    Disk {
        /// Length when the state was saved, in bytes.
        expected: u64,
        /// Length now, in bytes.
        found: u64,
    },
    /// A share that the guest has mounted is not there, or in another place.
    #[error("the guest knows a share {name:?} that the sandbox does not have any more")]
    Share {
        /// Its name.
        name: String,
    },
    /// There is a share that the guest does not know.
    #[error("the sandbox has a share {name:?} that the guest does not know")]
    NewShare {
        /// Its name.
        name: String,
    },
    /// The guest is another one.
    #[error("the guest has context id {expected} on its socket device, and this is for {found}")]
    ContextId {
        /// Id when the state was saved.
        expected: u64,
        /// Id now.
        found: u64,
    },
    /// The network card is another one.
    #[error("the guest has a network card of another address or packet size than the sandbox")]
    NetworkCard,
    /// No device ever was in this state.
    #[error("the state of the {device} device is damaged: {what}")]
    Malformed {
        /// The device.
        device: &'static str,
        /// What cannot be.
        what: &'static str,
    },
}

impl RestoreError {
    /// `state` is not that of a device of the kind `expected`.
    pub(super) fn kind(expected: DeviceKind, state: &DeviceState) -> Self {
        Self::Kind { expected: expected.name(), found: state.kind().name() }
    }

    /// The state of a device of this kind says something that cannot be.
    pub(super) fn malformed(device: DeviceKind, what: &'static str) -> Self {
        Self::Malformed { device: device.name(), what }
    }
}
