//! The time stamp counter of the processor.

/// Its value now; 0 on an architecture that has none.
pub(crate) fn now() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC touches no memory and is allowed in user mode unless the process has forbidden it to itself with
    // PR_SET_TSC, which nothing here does.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}
