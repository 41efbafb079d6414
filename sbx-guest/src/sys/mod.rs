//! The only unsafe code of the guest: system calls that rustix and the standard library have no safe door to.

pub(crate) mod child;
pub(crate) mod ext4;
pub(crate) mod loopback;
pub(crate) mod zombie;
