//! How a guest ends, by itself or not.

use super::*;

#[test]
fn a_guest_that_never_began_can_be_ended() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let config = machine(directory.path(), Steps::new().reset(), 1 << 20);
    let machine = Machine::build(&config, &Engine::Kvm, None).unwrap();
    let waiter = machine.waiter();
    drop(machine);
    assert_eq!(waiter.wait().reason, ExitReason::Killed);
}

#[test]
fn a_triple_fault_is_a_reset() {
    needs_kvm!();
    assert_eq!(said(Steps::new().say("now\n").triple_fault()), ["now"]);
}

#[test]
fn a_panic_on_the_console_is_told_from_a_power_off() {
    needs_kvm!();
    let mut steps = Steps::new();
    steps.say("[    0.1] Kernel panic - not syncing: no init\n").triple_fault();
    let exit = run_in(TempDir::new().unwrap().path(), &steps);
    assert_eq!(exit.reason, ExitReason::Panicked { message: "no init".to_owned() });
}

#[test]
fn a_guest_that_never_yields_is_stopped() {
    needs_kvm!();
    for vcpus in [1, 3] {
        let directory = TempDir::new().unwrap();
        let machine =
            start_in(directory.path(), Steps::new().say("spinning\n").spin(), |config| config.vcpus = vcpus);
        wait_for(directory.path(), "spinning");
        let begin = Instant::now();
        machine.kill();
        assert_eq!(machine.wait().reason, ExitReason::Killed);
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        machine.kill();
        assert_eq!(machine.wait().reason, ExitReason::Killed, "whoever asks later gets the same answer");
    }
}

#[test]
fn a_guest_that_sleeps_for_ever_ends_when_it_is_dropped() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let machine = start_in(directory.path(), Steps::new().say("asleep\n").sleep(), |_| ());
    wait_for(directory.path(), "asleep");
    let waiter = machine.waiter();
    drop(machine);
    assert_eq!(waiter.wait().reason, ExitReason::Killed);
}

#[test]
fn a_guest_that_kvm_cannot_run_ends_with_the_reason() {
    needs_kvm!();
    // There is no memory behind the devices from which instructions could come.
    let exit = run_in(TempDir::new().unwrap().path(), Steps::new().go_to(0xd010_0000));
    let ExitReason::ProcessorFailed { what } = &exit.reason else { panic!("{exit:?}") };
    assert!(what.starts_with("processor 0: ") && what.contains("rip 0x00000000d0100000"), "{what}");
    assert!(exit.engine_tail.iter().any(|line| line.contains("instruction bytes")), "{exit:?}");
    assert!(exit.engine_tail.iter().any(|line| line.contains("cr3 0x9000")), "{exit:?}");
}
