//! What KVM holds of a machine that stands still, as plain data.
//!
//! ```text
//! VmState    interrupt controllers (two PICs, I/O APIC), timer, clock
//! VcpuState  registers of every kind, local APIC, what is about to happen to the processor
//! ```
//!
//! KVM's own structs are kept as their bytes. They are part of the kernel's interface, whose layout does not change: what
//! is added goes into fields that are reserved today. On the way back their length is checked here and their contents by
//! KVM, which lets a state break its guest and nothing else.
//!
//! A processor is restored into one that was set up with the same configuration, on a computer with the same features:
//! what CPUID says is not part of the state.

use std::fmt;
use std::io;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes};

mod msrs;
mod vcpu;
mod vm;

pub use msrs::ModelSpecific;
pub use vcpu::VcpuState;
pub use vm::VmState;

#[cfg(test)]
mod tests;

/// Why the state of a processor or a machine could not be taken, or taken up.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// KVM said no.
    #[error("KVM could not {doing} {what}")]
    Kvm {
        /// `save` or `restore`.
        doing: &'static str,
        /// Which part.
        what: &'static str,
        /// Its error.
        #[source]
        source: io::Error,
    },
    /// A model-specific register has another value and cannot be set.
    #[error("KVM could not set the model-specific register {index:#x} to {value:#x}")]
    Msr {
        /// Which.
        index: u32,
        /// To what.
        value: u64,
    },
    /// The processor had left the guest for something that is not done yet.
    #[error("the processor is in the middle of an access to a device")]
    Unfinished,
    /// A part is too short, too long, or there are too many of them.
    #[error("the state is damaged: {what} cannot have this size")]
    Size {
        /// Which part.
        what: &'static str,
    },
}

/// A struct of KVM's as its bytes.
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub(super) struct Raw<T> {
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    #[serde(skip)]
    of: PhantomData<fn() -> T>,
}

impl<T: FromBytes + IntoBytes + Immutable> Raw<T> {
    /// What KVM gave.
    fn of(value: &T) -> Self {
        Self { bytes: value.as_bytes().to_vec(), of: PhantomData }
    }

    /// What KVM is to be given.
    fn get(&self, what: &'static str) -> Result<T, StateError> {
        T::read_from_bytes(&self.bytes).map_err(|_| StateError::Size { what })
    }
}

impl<T> Clone for Raw<T> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), of: PhantomData }
    }
}

impl<T> PartialEq for Raw<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<T> Eq for Raw<T> {}

impl<T> fmt::Debug for Raw<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.bytes.len())
    }
}

/// The part `what`, as KVM gave it.
fn saved<T>(what: &'static str, result: Result<T, kvm_ioctls::Error>) -> Result<T, StateError> {
    result.map_err(|error| failed("save", what, error))
}

/// Whether KVM took the part `what`.
fn restored<T>(what: &'static str, result: Result<T, kvm_ioctls::Error>) -> Result<T, StateError> {
    result.map_err(|error| failed("restore", what, error))
}

fn failed(doing: &'static str, what: &'static str, error: kvm_ioctls::Error) -> StateError {
    StateError::Kvm { doing, what, source: crate::sys::vm::from_kvm(error) }
}
