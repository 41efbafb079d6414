//! The program of the bare-metal test guests: it carries out a list of steps that it finds in its initramfs.
//!
//! It is entered as a kernel is, in 64-bit mode with RSI at the boot parameters. A step has four words of 64 bits, the
//! first of which says what to do; [`crate::testing::bare_metal`] makes them. What goes wrong is said on the console.
//! Nothing is used that a poor emulation of KVM may lack: no stack in handlers but the processor's own, no vector
//! instructions, no loops over memory that are not needed.
//!
//! ```text
//! 0x3_0000  interrupt descriptors, 64 of them: 0 to 31 are faults, 32 to 63 count
//! 0x3_1000  number of interrupts so far
//! ```

use std::arch::global_asm;
use std::slice;

global_asm!(
    ".pushsection .rodata.sbx_bare_metal, \"a\"",
    ".globl sbx_bare_metal_start",
    ".globl sbx_bare_metal_end",
    ".balign 16",
    "sbx_bare_metal_start:",
    "    mov   ebx, dword ptr [rsi + 0x218]", // boot_params.hdr.ramdisk_image
    "    mov   r15, rbx",
    "    mov   r12, 0x9e3779b97f4a7c15", // seed of the random numbers
    // The interrupt descriptors: 16 bytes each, 64-bit interrupt gates of the code segment.
    "    mov   edi, 0x30000",
    "    xor   ecx, ecx",
    "2:  lea   rax, [rip + 80f]",
    "    cmp   ecx, 32",
    "    jb    3f",
    "    lea   rax, [rip + 81f]",
    "3:  mov   word ptr [rdi], ax",
    "    mov   word ptr [rdi + 2], 0x10",
    "    mov   word ptr [rdi + 4], 0x8e00",
    "    shr   rax, 16",
    "    mov   word ptr [rdi + 6], ax",
    "    mov   dword ptr [rdi + 8], 0",
    "    add   edi, 16",
    "    inc   ecx",
    "    cmp   ecx, 64",
    "    jb    2b",
    "    lidt  [rip + 90f]",
    // The old interrupt controllers off, interrupts on.
    "    mov   al, 0xff",
    "    out   0x21, al",
    "    out   0xa1, al",
    "    sti",
    // The next step.
    "10: mov   rax, [rbx]",
    "    mov   rdi, [rbx + 8]",
    "    mov   rsi, [rbx + 16]",
    "    mov   rcx, [rbx + 24]",
    "    add   rbx, 32",
    "    lea   r8, [rip + 91f]",
    "    movsxd rax, dword ptr [r8 + rax * 4]",
    "    add   rax, r8",
    "    jmp   rax",
    // 0: write byte rsi to port rdi.
    "20: mov   edx, edi",
    "    mov   eax, esi",
    "    out   dx, al",
    "    jmp   10b",
    // 1: write rsi to address rdi, in rcx bytes.
    "21: cmp   ecx, 1",
    "    jne   4f",
    "    mov   byte ptr [rdi], sil",
    "    jmp   10b",
    "4:  cmp   ecx, 2",
    "    jne   4f",
    "    mov   word ptr [rdi], si",
    "    jmp   10b",
    "4:  cmp   ecx, 4",
    "    jne   4f",
    "    mov   dword ptr [rdi], esi",
    "    jmp   10b",
    "4:  mov   [rdi], rsi",
    "    jmp   10b",
    // 2: the rcx bytes at address rdi are rsi.
    "22: call  50f",
    "    cmp   rax, rsi",
    "    je    10b",
    "    jmp   60f",
    // 3: wait until the rcx bytes at address rdi are rsi.
    "23: call  50f",
    "    cmp   rax, rsi",
    "    je    10b",
    "    pause",
    "    jmp   23b",
    // 4: sleep until there were rdi interrupts.
    "24: cli",
    "    cmp   qword ptr [0x31000], rdi",
    "    jae   10b",
    "    sti",
    "    hlt",
    "    jmp   24b",
    // 5: copy rcx bytes to address rdi from address rsi.
    "25: rep   movsb",
    "    jmp   10b",
    // 6: triple fault.
    "26: lidt  [rip + 92f]",
    "    ud2",
    // 7: never do anything again.
    "27: jmp   27b",
    // 8: say the rsi bytes at address rdi.
    "28: mov   edx, 0x3f8",
    "5:  mov   al, byte ptr [rdi]",
    "    out   dx, al",
    "    inc   rdi",
    "    dec   rsi",
    "    jnz   5b",
    "    jmp   10b",
    // 9: add rsi to the two bytes at address rdi.
    "29: add   word ptr [rdi], si",
    "    jmp   10b",
    // 10: wait until the two bytes at addresses rdi and rsi are the same.
    "30: mov   ax, word ptr [rdi]",
    "    cmp   ax, word ptr [rsi]",
    "    je    10b",
    "    pause",
    "    jmp   30b",
    // 11: write a random number, of which only the bits of rsi are kept, to address rdi.
    "31: mov   rax, r12",
    "    shl   rax, 13",
    "    xor   r12, rax",
    "    mov   rax, r12",
    "    shr   rax, 7",
    "    xor   r12, rax",
    "    mov   rax, r12",
    "    shl   rax, 17",
    "    xor   r12, rax",
    "    mov   rax, r12",
    "    and   rax, rsi",
    "    mov   [rdi], rax",
    "    jmp   10b",
    // 12: count down at address rdi, and go back rsi bytes of steps until it is 0.
    "32: dec   qword ptr [rdi]",
    "    jz    10b",
    "    sub   rbx, rsi",
    "    jmp   10b",
    // 13: go to address rdi.
    "33: jmp   rdi",
    // 14: go to sleep for ever, interrupts on.
    "34: sti",
    "    hlt",
    "    jmp   34b",
    // 15: the rcx bytes at address rdi have all bits of rsi.
    "35: call  50f",
    "    mov   rdx, rax",
    "    and   rdx, rsi",
    "    cmp   rdx, rsi",
    "    je    10b",
    "    jmp   60f",
    // The rcx bytes at address rdi, in rax.
    "50: xor   eax, eax",
    "    cmp   ecx, 1",
    "    jne   4f",
    "    mov   al, byte ptr [rdi]",
    "    ret",
    "4:  cmp   ecx, 2",
    "    jne   4f",
    "    mov   ax, word ptr [rdi]",
    "    ret",
    "4:  cmp   ecx, 4",
    "    jne   4f",
    "    mov   eax, dword ptr [rdi]",
    "    ret",
    "4:  mov   rax, [rdi]",
    "    ret",
    // Failed: says the number of the step and what was found, and resets the machine.
    "60: mov   r9, rax",
    "    lea   rdi, [rip + 93f]",
    "    call  70f",
    "    mov   rax, rbx",
    "    sub   rax, r15",
    "    shr   rax, 5",
    "    dec   rax",
    "    call  71f",
    "    mov   rax, r9",
    "    call  71f",
    "61: mov   al, 10",
    "    out   dx, al",
    "    mov   al, 0xfe",
    "    out   0x64, al",
    "62: jmp   62b",
    // Says the text at rdi, which ends with 0.
    "70: mov   edx, 0x3f8",
    "7:  mov   al, byte ptr [rdi]",
    "    test  al, al",
    "    jz    8f",
    "    out   dx, al",
    "    inc   rdi",
    "    jmp   7b",
    "8:  ret",
    // Says a space and rax in hexadecimal.
    "71: mov   r10, rax",
    "    mov   edx, 0x3f8",
    "    mov   al, 32",
    "    out   dx, al",
    "    mov   ecx, 16",
    "7:  rol   r10, 4",
    "    mov   eax, r10d",
    "    and   eax, 15",
    "    cmp   eax, 10",
    "    jb    8f",
    "    add   eax, 39",
    "8:  add   eax, 48",
    "    out   dx, al",
    "    dec   ecx",
    "    jnz   7b",
    "    ret",
    // A fault: says what the processor has pushed, which begins with an error code or with the place.
    "80: lea   rdi, [rip + 94f]",
    "    call  70b",
    "    mov   rax, [rsp]",
    "    call  71b",
    "    mov   rax, [rsp + 8]",
    "    call  71b",
    "    jmp   61b",
    // An interrupt: counts it and tells the local APIC.
    "81: push  rax",
    "    inc   qword ptr [0x31000]",
    "    mov   eax, 0xfee000b0",
    "    mov   dword ptr [rax], 0",
    "    pop   rax",
    "    iretq",
    "90: .word 64 * 16 - 1",
    "    .quad 0x30000",
    "92: .word 0",
    "    .quad 0",
    ".balign 4",
    "91: .long 20b - 91b, 21b - 91b, 22b - 91b, 23b - 91b",
    "    .long 24b - 91b, 25b - 91b, 26b - 91b, 27b - 91b",
    "    .long 28b - 91b, 29b - 91b, 30b - 91b, 31b - 91b",
    "    .long 32b - 91b, 33b - 91b, 34b - 91b, 35b - 91b",
    "93: .asciz \"FAILED at step\"",
    "94: .asciz \"FAULT\"",
    "sbx_bare_metal_end:",
    ".popsection",
);

unsafe extern "C" {
    static sbx_bare_metal_start: u8;
    static sbx_bare_metal_end: u8;
}

/// The program, which runs at any address.
pub(crate) fn program() -> &'static [u8] {
    let (start, end) = (&raw const sbx_bare_metal_start, &raw const sbx_bare_metal_end);
    let length = end.addr().saturating_sub(start.addr());
    // SAFETY: both symbols are in one section of constants above, with nothing but the program between them, and what
    // is constant is never written.
    unsafe { slice::from_raw_parts(start, length) }
}
