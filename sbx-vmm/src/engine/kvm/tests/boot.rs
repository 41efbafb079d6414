//! How a guest begins, and what it finds.

use super::*;
use crate::engine::kvm::command_line;

#[test]
fn a_guest_says_something_and_resets() {
    needs_kvm!();
    let lines = said(Steps::new().say("hello, world\nhalf a line").reset());
    assert_eq!(lines, ["hello, world", "half a line"]);
}

#[test]
fn no_guest_begins_before_every_thread_has_its_filter() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let config = machine(directory.path(), Steps::new().say("hello\n").reset(), 1 << 20);
    let machine = Machine::build(&config, &Engine::Kvm, None).unwrap();
    let late = Unfiltered::announce();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| machine.run());
        // Many times what the guest takes to its end.
        std::thread::sleep(Duration::from_millis(500));
        assert!(!running.is_finished());
        let said = std::fs::read_to_string(config.directory.join("console.log")).unwrap();
        assert_eq!(said, "", "the guest waits");
        drop(late);
    });
    let exit = end_of(&machine);
    assert_eq!((exit.reason, exit.console_tail), (ExitReason::PoweredOff, vec!["hello".to_owned()]));
}

#[test]
fn a_guest_that_fails_says_where() {
    needs_kvm!();
    let lines = said(Steps::new().put(MEMORY, 7, 4).expect(MEMORY, 8, 4).spin());
    assert_eq!(lines, ["FAILED at step 0000000000000001 0000000000000007"]);
}

#[test]
fn the_machine_is_described_to_the_kernel() {
    needs_kvm!();
    let mut steps = Steps::new();
    // The signature of the boot protocol, the number of pieces of memory, the MP table.
    steps.expect(0x7000 + 0x202, u64::from(u32::from_le_bytes(*b"HdrS")), 4);
    steps.expect(0x7000 + 0x1e8, 3, 1).expect(0xf_0000, u64::from(u32::from_le_bytes(*b"_MP_")), 4);
    steps.say_memory(0x2_0000, 4 + 12);
    steps.say("\n").reset();
    assert_eq!(said(&steps), ["console=ttyS0 qu"]);
}

#[test]
fn a_guest_runs_in_the_cage() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let config = machine(directory.path(), Steps::new().say("caged\n").reset(), 1 << 20);
    let exit = std::thread::scope(|scope| {
        let machine = scope.spawn(|| {
            cage::confine_thread(&config, &Engine::Kvm, &[]).unwrap();
            seccomp::forbid(Violation::Kill, false).unwrap();
            Machine::start(&config, &Engine::Kvm, None).unwrap().wait()
        });
        machine.join().unwrap()
    });
    assert_eq!((exit.reason, exit.console_tail), (ExitReason::PoweredOff, vec!["caged".to_owned()]));
}

#[test]
fn the_second_processor_starts_when_the_first_one_says_so() {
    needs_kvm!();
    const PAGE: u8 = 8;
    const FLAG: u64 = 0x6000;
    // mov al, 'A'; mov dx, 0x3f8; out dx, al; mov al, 10; out dx, al; mov byte [0x6000], 1; cli; hlt
    const CODE: &[u8] = b"\xb0A\xba\xf8\x03\xee\xb0\x0a\xee\xc6\x06\x00\x60\x01\xfa\xf4";
    let directory = TempDir::new().unwrap();
    let mut steps = Steps::new();
    steps.put(FLAG, 0, 1).put_bytes(u64::from(PAGE) << 12, CODE);
    steps.start_processor(1, PAGE).until(FLAG, 1, 1).say("B\n").reset();
    let exit = end_of(&start_in(directory.path(), &steps, |config| config.vcpus = 2));
    assert_eq!((exit.reason, exit.console_tail), (ExitReason::PoweredOff, vec!["A".into(), "B".into()]));
}

#[test]
fn ports_and_addresses_that_are_nobodys_read_as_ones() {
    needs_kvm!();
    let mut steps = Steps::new();
    steps.put(0xd010_0000, 1, 4).expect(0xd010_0000, 0xffff_ffff, 4);
    steps.expect(0xd000_5000, 0xff, 1).expect(0xffff_f000, u64::MAX, 8);
    steps.port(0x80, 1).port(0x64, 0xd1).say("fine\n").reset();
    assert_eq!(said(&steps), ["fine"]);
}

#[test]
fn a_kernel_that_cannot_be_booted_is_an_error_at_once() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let config = machine(directory.path(), &Steps::new(), 1 << 20);
    let start = |change: &dyn Fn(&mut MachineConfig)| {
        let mut config = config.clone();
        change(&mut config);
        Machine::start(&config, &Engine::Kvm, None).unwrap_err()
    };
    let error = start(&|config| config.kernel = "/nowhere/vmlinux".into());
    assert_eq!(error.to_string(), "cannot boot /nowhere/vmlinux");
    let error = start(&|config| config.kernel.clone_from(&config.root[0].file));
    assert!(matches!(error, StartError::Boot { .. }), "{error}");
    let error = start(&|config| config.kernel_parameters = vec!["x".repeat(2000)]);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.starts_with("the kernel takes a command line of 2047 bytes, and this one has 2"),
        "{cause}"
    );
}

#[test]
fn words_of_the_caller_reach_the_kernel_last() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let words = command_line(5, &["last=1".to_owned()]);
    let mut steps = Steps::new();
    steps.say_memory(0x2_0000, words.len() as u64).say("\n").reset();
    let exit = end_of(&start_in(directory.path(), &steps, |config| {
        config.kernel_parameters = vec!["last=1".to_owned()];
    }));
    assert_eq!(exit.console_tail, [words.as_str()]);
    assert!(words.ends_with("virtio_mmio.device=0x1000@0xd0004000:10 last=1"), "{words}");
}
