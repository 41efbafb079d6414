//! `sandbox.lock`: every input of a machine, exactly, one per line.

mod model;

pub use model::{
    Installer, Lock, LockedAgent, LockedImage, LockedMachine, LockedSetup, LockedSnapshot, Pin, Request,
};
