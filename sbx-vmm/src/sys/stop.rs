//! Stopping a processor that runs in another thread and may never leave the guest by itself.
//!
//! KVM leaves the guest when its thread gets a signal, but a signal that comes a moment before it enters is over by
//! then. So before the signal is sent a byte in the page that KVM and we share (`immediate_exit` of `struct kvm_run`)
//! says not to enter at all; the two together have no gap. The page is mapped once more here, because kvm-ioctls
//! lets only the owner of the processor have it.

use std::io;
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::os::unix::thread::JoinHandleExt;
use std::ptr::{self, NonNull};
use std::sync::Once;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;

/// Bytes of the shared page that are needed.
const PAGE_BYTES: usize = 4096;

/// Where the byte is.
const IMMEDIATE_EXIT: usize = offset_of!(kvm_run, immediate_exit);

/// Stops one processor, for good.
#[derive(Debug)]
pub(crate) struct Brake {
    page: NonNull<u8>,
}

// SAFETY: the page belongs to this value alone, as far as this process's Rust code knows, and is accessed atomically.
unsafe impl Send for Brake {}
// SAFETY: as above.
unsafe impl Sync for Brake {}

impl Brake {
    /// For `vcpu`, which may be closed before the brake is dropped.
    pub(super) fn new(vcpu: &VcpuFd) -> io::Result<Self> {
        install_handler()?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory; KVM's descriptor has
        // at least one page (KVM_GET_VCPU_MMAP_SIZE), which a mapping keeps alive after the descriptor is closed.
        let page = unsafe {
            libc::mmap(
                ptr::null_mut(),
                PAGE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(page.cast()).map(|page| Self { page }).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Makes KVM leave the guest, and not enter it again, in `thread`, which runs the processor.
    pub(crate) fn pull<T>(&self, thread: &JoinHandle<T>) {
        // SAFETY: `IMMEDIATE_EXIT` is within the page, which is mapped as long as `self` is; the kernel reads the byte
        // at any time, and the owner of the processor does not touch it, so that atomic accesses are all there are.
        let immediate_exit = unsafe { AtomicU8::from_ptr(self.page.as_ptr().add(IMMEDIATE_EXIT)) };
        immediate_exit.store(1, Ordering::SeqCst);
        // SAFETY: the thread has not been joined, as its handle is borrowed, so that its pthread_t is valid even if the
        // thread has ended; the signal has a handler that does nothing.
        unsafe { libc::pthread_kill(thread.as_pthread_t(), signal()) };
    }
}

impl Drop for Brake {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, and nobody has a reference into it.
        unsafe { libc::munmap(self.page.as_ptr().cast(), PAGE_BYTES) };
    }
}

/// The first real-time signal that the C library leaves to programs.
fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

extern "C" fn ignore(_: libc::c_int) {}

/// Gives the signal a handler that does nothing: system calls in that thread end with EINTR, and that is all.
fn install_handler() -> io::Result<()> {
    static INSTALLED: Once = Once::new();
    let mut result = 0;
    INSTALLED.call_once(|| {
        // SAFETY: all-zero is a valid sigaction: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = ignore as *const () as libc::sighandler_t;
        // SAFETY: the handler is async-signal-safe, as it does nothing; the old action is not asked for.
        result = unsafe { libc::sigaction(signal(), &raw const action, ptr::null_mut()) };
    });
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
