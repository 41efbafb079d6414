//! The way down: everybody is asked, then told, to leave; the disk is left clean; the machine is reset.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::system::{RebootCommand, reboot};

use crate::agent::Agent;
use crate::console;
use crate::home::Home;
use crate::overlay;
use crate::reap::Reaper;
use crate::scratch::Scratch;

/// How long processes may take to die of SIGKILL, which they do at once unless they are stuck in the kernel.
const KILL: Duration = Duration::from_secs(2);

/// How long exec connections may take to tell the host how their commands ended.
const FAREWELL: Duration = Duration::from_millis(500);

/// Ends every process, and lets the host hear of it.
pub(crate) fn end_processes(reaper: &Reaper, agent: &Agent, grace: Duration) {
    end_commands(reaper, grace);
    agent.wait_until_quiet(FAREWELL);
}

/// Ends every process: SIGTERM, and SIGKILL for what is still there after `grace`. None is started any more.
pub(crate) fn end_commands(reaper: &Reaper, grace: Duration) {
    reaper.close();
    signal_all(Signal::TERM);
    // Stopped processes get it only when they run again.
    signal_all(Signal::CONT);
    if !reaper.wait_until_idle(grace) {
        signal_all(Signal::KILL);
        if !reaper.wait_until_idle(KILL) {
            console::say("some processes cannot be ended");
        }
    }
}

/// Leaves the disk clean. If something still writes to it, its journal is replayed at the next boot.
pub(crate) fn close_disk(scratch: &Scratch, home: Option<&Home>) {
    let closed = overlay::close_root()
        .and_then(|()| home.map_or(Ok(()), Home::close))
        .map_err(std::io::Error::from)
        .and_then(|()| scratch.make_clean());
    if let Err(error) = closed {
        console::say(&format!("the disk is not clean: {error}"));
        rustix::fs::sync();
    }
}

/// Ends the machine. It has no power button (ACPI): a reset is what its engine takes for the end.
pub(crate) fn end_machine() -> ! {
    for command in [RebootCommand::Restart, RebootCommand::PowerOff, RebootCommand::Halt] {
        let result = reboot(command);
        console::say(&format!("the machine does not end: {result:?}"));
    }
    loop {
        std::thread::park();
    }
}

/// To every process but PID 1.
fn signal_all(signal: Signal) {
    // The process group 1 is -1 to kill(2), which is everybody.
    let _ = kill_process_group(Pid::INIT, signal);
}
