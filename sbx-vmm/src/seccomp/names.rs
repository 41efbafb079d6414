//! What the names in the lists stand for: system calls, their arguments, error numbers.

/// `libc`'s constants with their names.
macro_rules! named {
    ($($constant:ident)*) => {
        &[$((stringify!($constant), libc::$constant)),*]
    };
}

/// Calls that every architecture has.
const CALLS: &[(&str, libc::c_long)] = named! {
    SYS_accept4 SYS_acct SYS_add_key SYS_adjtimex SYS_bind SYS_bpf SYS_brk SYS_capset SYS_chroot SYS_clock_adjtime
    SYS_clock_gettime SYS_clock_settime SYS_clone SYS_clone3 SYS_close SYS_connect SYS_delete_module SYS_epoll_create1
    SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_execveat SYS_exit SYS_exit_group SYS_fallocate
    SYS_fchmod SYS_fchmodat SYS_fcntl SYS_fdatasync SYS_finit_module SYS_fsconfig SYS_fsmount SYS_fsopen SYS_fspick
    SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex SYS_getcwd SYS_getdents64 SYS_getpeername SYS_getpid
    SYS_getrandom SYS_getsockname SYS_getsockopt SYS_gettid SYS_getxattr SYS_init_module SYS_io_uring_enter
    SYS_io_uring_register SYS_io_uring_setup SYS_ioctl SYS_kcmp SYS_kexec_file_load SYS_kexec_load SYS_keyctl
    SYS_linkat SYS_listen SYS_listxattr SYS_lseek SYS_madvise SYS_mkdirat SYS_mknodat SYS_mmap SYS_mount
    SYS_mount_setattr SYS_move_mount SYS_mprotect SYS_mremap SYS_munmap SYS_newfstatat SYS_open_by_handle_at
    SYS_open_tree SYS_openat SYS_openat2 SYS_perf_event_open SYS_pidfd_getfd SYS_pidfd_send_signal SYS_pivot_root
    SYS_ppoll SYS_prctl SYS_preadv SYS_process_madvise SYS_process_vm_readv SYS_process_vm_writev SYS_ptrace
    SYS_pwrite64 SYS_pwritev SYS_quotactl SYS_read SYS_readlinkat SYS_readv SYS_reboot SYS_recvfrom SYS_recvmsg
    SYS_removexattr SYS_renameat SYS_renameat2 SYS_request_key SYS_restart_syscall SYS_rseq SYS_rt_sigaction
    SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sched_getaffinity SYS_sched_yield SYS_seccomp SYS_sendmsg SYS_sendto
    SYS_set_robust_list SYS_setdomainname SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups SYS_sethostname SYS_setns
    SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setsockopt SYS_settimeofday SYS_setuid SYS_setxattr
    SYS_shutdown SYS_sigaltstack SYS_socket SYS_socketpair SYS_statx SYS_swapoff SYS_swapon SYS_symlinkat SYS_syslog
    SYS_tgkill SYS_timerfd_create SYS_timerfd_settime SYS_umount2 SYS_unlinkat SYS_unshare SYS_userfaultfd
    SYS_utimensat SYS_vhangup SYS_wait4 SYS_waitid SYS_write SYS_writev
};

/// Calls that only x86-64 has: elsewhere the C library has to use one of the above.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[(&str, libc::c_long)] = named! {
    SYS_epoll_wait SYS_ioperm SYS_iopl SYS_modify_ldt SYS_open SYS_poll SYS_readlink SYS_rename SYS_unlink
};

/// Values of arguments, of which the kernel looks at 32 bits.
const VALUES: &[(&str, libc::c_int)] = named! {
    AF_INET AF_INET6 AF_UNIX CLONE_NEWCGROUP CLONE_NEWIPC CLONE_NEWNET CLONE_NEWNS CLONE_NEWPID CLONE_NEWUSER
    CLONE_NEWUTS CLONE_THREAD F_DUPFD_CLOEXEC F_GETFD F_GETFL F_GET_SEALS F_SETFL O_ACCMODE PROT_EXEC PR_SET_NAME
    PR_SET_NO_NEW_PRIVS PR_SET_VMA SIGABRT SOCK_DGRAM SOCK_STREAM
};

/// Requests of ioctl(2): of terminals and sockets (asm-generic/ioctls.h), and of KVM (linux/kvm.h).
const REQUESTS: &[(&str, u32)] = &[
    ("FIONBIO", 0x5421),
    ("TIOCSTI", 0x5412),
    ("TIOCLINUX", 0x541c),
    ("KVM_RUN", 0xae80),
    ("KVM_KVMCLOCK_CTRL", 0xaead),
    ("KVM_TRANSLATE", 0xc018_ae85),
    ("KVM_GET_REGS", 0x8090_ae81),
    ("KVM_GET_SREGS", 0x8138_ae83),
    ("KVM_GET_MSRS", 0xc008_ae88),
    ("KVM_GET_FPU", 0x81a0_ae8c),
    ("KVM_GET_LAPIC", 0x8400_ae8e),
    ("KVM_GET_MP_STATE", 0x8004_ae98),
    ("KVM_GET_VCPU_EVENTS", 0x8040_ae9f),
    ("KVM_GET_DEBUGREGS", 0x8080_aea1),
    ("KVM_GET_TSC_KHZ", 0xaea3),
    ("KVM_GET_XSAVE", 0x9000_aea4),
    ("KVM_GET_XCRS", 0x8188_aea6),
];

/// Error numbers with which a call can be refused.
const ERRORS: &[(&str, libc::c_int)] = named! { EACCES ENOSYS };

/// What a name of a system call means here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Call {
    /// This number.
    Number(i64),
    /// Nothing: this architecture never had it.
    #[cfg_attr(target_arch = "x86_64", expect(dead_code, reason = "x86-64 has them all"))]
    Elsewhere,
}

/// The system call `name`, if it is known.
pub(super) fn call(name: &str) -> Option<Call> {
    let number = |calls: &[(&str, libc::c_long)]| {
        let found = calls.binary_search_by_key(&name, |(known, _)| known.trim_start_matches("SYS_"));
        found.ok().and_then(|index| calls.get(index)).map(|(_, number)| Call::Number(*number))
    };
    number(CALLS).or_else(|| old_call(name, number))
}

#[cfg(target_arch = "x86_64")]
fn old_call(_name: &str, number: impl Fn(&[(&str, libc::c_long)]) -> Option<Call>) -> Option<Call> {
    number(OLD_CALLS)
}

#[cfg(not(target_arch = "x86_64"))]
fn old_call(name: &str, _number: impl Fn(&[(&str, libc::c_long)]) -> Option<Call>) -> Option<Call> {
    const NAMES: &[&str] =
        &["epoll_wait", "ioperm", "iopl", "modify_ldt", "open", "poll", "readlink", "rename", "unlink"];
    NAMES.contains(&name).then_some(Call::Elsewhere)
}

/// The value of an argument.
pub(super) fn value(name: &str) -> Option<u32> {
    if name == "SIGRTMIN" {
        // The C library keeps some of the kernel's for itself.
        return Some(libc::SIGRTMIN().cast_unsigned());
    }
    let flag = VALUES.iter().find(|(known, _)| *known == name).map(|(_, value)| value.cast_unsigned());
    flag.or_else(|| REQUESTS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
}

/// An error number.
pub(super) fn error(name: &str) -> Option<u32> {
    ERRORS.iter().find(|(known, _)| *known == name).map(|(_, value)| value.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_found() {
        for (name, number) in CALLS {
            assert_eq!(call(name.trim_start_matches("SYS_")), Some(Call::Number(*number)), "{name}");
        }
        assert_eq!(call("no_such_call"), None);
        assert!(call("poll").is_some() && call("iopl").is_some());
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn requests_to_kvm_are_numbered_as_in_its_interface() {
        use kvm_bindings::{kvm_fpu, kvm_lapic_state, kvm_regs, kvm_sregs, kvm_translation, kvm_xcrs};
        // _IOR and _IOWR of asm-generic/ioctl.h, with the sizes of the structures that kvm-bindings has.
        let request = |direction: u32, size: usize, number: u32| {
            Some((direction << 30) | (u32::try_from(size).unwrap() << 16) | number)
        };
        let read = |size, number| request(2, size, number);
        assert_eq!(value("KVM_GET_REGS"), read(size_of::<kvm_regs>(), 0xae81));
        assert_eq!(value("KVM_GET_SREGS"), read(size_of::<kvm_sregs>(), 0xae83));
        assert_eq!(value("KVM_TRANSLATE"), request(3, size_of::<kvm_translation>(), 0xae85));
        assert_eq!(value("KVM_GET_FPU"), read(size_of::<kvm_fpu>(), 0xae8c));
        assert_eq!(value("KVM_GET_LAPIC"), read(size_of::<kvm_lapic_state>(), 0xae8e));
        assert_eq!(value("KVM_GET_XCRS"), read(size_of::<kvm_xcrs>(), 0xaea6));
    }
}
