//! What every engine says to the guest's kernel.

/// Words that hold everywhere, and why.
const COMMON: &[&str] = &[
    // The UART is there from the first instruction on, so that even an early panic reaches the log.
    "console=ttyS0",
    // Each character on the console costs an exit of the guest.
    "quiet",
    // The end of the guest is a reset, which ends the machine: by the keyboard controller it may take a second, by a
    // triple fault it is at once. A panic ends it, too.
    "reboot=t",
    "panic=-1",
    // No interrupt of the PIT is lost here, and no other clock is better than the TSC: not checked, not watched.
    "no_timer_check",
    "tsc=reliable",
];

/// The command line: what holds everywhere, what the engine adds, and last what the caller wants, which may so take
/// back what is before it.
pub(super) fn command_line(of_engine: &[String], of_caller: &[String]) -> String {
    let common = COMMON.iter().copied();
    let words = common.chain(of_engine.iter().chain(of_caller).map(String::as_str));
    words.collect::<Vec<_>>().join(" ")
}
