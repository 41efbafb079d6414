//! Instructions before a filter of seccompiler's, which knows one answer besides permission and sees one set of calls.
//!
//! They are not put into a filter of their own, because each filter costs every thread some fifty microseconds at its start:
//! the kernel runs it for every call that there is, to know which ones need not be looked at later.

use seccompiler::{BpfProgram, SeccompAction, sock_filter};

/// Loads the number of the call: the word at offset 0 of `struct seccomp_data` (linux/bpf_common.h, linux/seccomp.h).
const LOAD_NUMBER: sock_filter = sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
const JUMP_IF_EQUAL: u16 = 0x15;
#[cfg(target_arch = "x86_64")]
const JUMP_IF_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;

/// System calls of x86-64's x32 variant have this bit (asm/unistd.h, `__X32_SYSCALL_BIT`).
#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

/// Answers `calls`, given by number, each with an error.
///
/// A call of another architecture, which `program` would end the process for, may happen to have such a number. It is
/// not made, either.
pub(super) fn refuse(program: &mut BpfProgram, calls: impl Iterator<Item = (u32, u32)>) {
    let answers = calls.flat_map(|(number, error)| {
        let answer = SeccompAction::Errno(error);
        [sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: number }, returning(answer)]
    });
    let instructions: Vec<_> = std::iter::once(LOAD_NUMBER).chain(answers).collect();
    program.splice(0..0, instructions);
}

/// Does `action` to x86-64's second set of system calls as a whole: under other numbers it has everything that a list of
/// forbidden calls names.
#[cfg(target_arch = "x86_64")]
pub(super) fn close_x32(program: &mut BpfProgram, action: SeccompAction) {
    let compare = sock_filter { code: JUMP_IF_NOT_LESS, jt: 0, jf: 1, k: X32_BIT };
    program.splice(0..0, [LOAD_NUMBER, compare, returning(action)]);
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn close_x32(_program: &mut BpfProgram, _action: SeccompAction) {}

fn returning(action: SeccompAction) -> sock_filter {
    sock_filter { code: RETURN, jt: 0, jf: 0, k: action.into() }
}
