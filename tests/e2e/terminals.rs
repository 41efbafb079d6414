//! A person at a terminal.

use std::fs;

use expectrl::{Expect, session::OsSession};
use rustix::process::{Pid, Signal, kill_process};
use sbx_tests::{Environment, terminal};

use crate::robustness;

/// The `sbx` that a person started in the repository.
fn user_interface(env: &Environment) -> Pid {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let program = fs::read_link(process.path().join("exe")).unwrap_or_default();
        let directory = fs::read_link(process.path().join("cwd")).unwrap_or_default();
        if program.ends_with("sbx") && directory == env.repo() {
            found.push(process.file_name().to_str().unwrap().parse().unwrap());
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    Pid::from_raw(found[0]).unwrap()
}

/// The settings of the terminal that `process` has as its standard input.
fn settings(process: Pid) -> String {
    let terminal = fs::read_link(format!("/proc/{}/fd/0", process.as_raw_nonzero())).unwrap();
    let output = std::process::Command::new("stty").arg("-F").arg(terminal).arg("-a").output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `stty -a` calls a terminal in which a person can type lines.
fn is_cooked(settings: &str) -> bool {
    let words: Vec<&str> = settings.split_whitespace().collect();
    ["icanon", "isig", "opost"].iter().all(|word| words.contains(word))
}

/// The exit code, once the terminal is as it was.
fn ended(session: &mut OsSession) -> String {
    terminal::wait_for(session, "ended ");
    let rest = terminal::wait_for(session, "over");
    assert!(is_cooked(&rest), "{rest}");
    rest.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_shell_has_a_terminal_of_the_right_size() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let mut command = env.command(&["shell"]);
    command.env("TERM", "xterm");
    let mut session = terminal::open(command);
    session.get_process_mut().set_window_size(100, 30).unwrap();
    session.send("stty size; tty\n").unwrap();
    terminal::wait_for(&mut session, "30 100");
    terminal::wait_for(&mut session, "/dev/pts/");
    session.send("exit 5\n").unwrap();
    let status = session.get_process().wait().unwrap();
    assert!(format!("{status:?}").contains('5'), "{status:?}");
}

#[test]
fn control_c_interrupts_the_command_not_the_sandbox() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let mut session = terminal::open(env.command(&["shell"]));
    // The job itself says that it is there: before, the key would be for the shell, which may go on to wait for the job.
    session.send("sh -c \"echo rea''dy; exec sleep 1000\"; echo af''ter\n").unwrap();
    terminal::wait_for(&mut session, "ready");
    session.send([3_u8]).unwrap();
    session.send("echo still he''re\n").unwrap();
    terminal::wait_for(&mut session, "still here");
    session.send("exit\n").unwrap();
    let _ = session.get_process().wait().unwrap();
    env.exec("true").success();
}

#[test]
fn control_z_stops_the_command_and_sigtstp_stops_sbx() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let mut session = terminal::open_in_shell(&env.command(&["shell"]));
    // The job itself says that it is there: before, the key would be for the shell, which ignores it.
    session.send("sh -c \"echo rea''dy; exec sleep 1000\"\n").unwrap();
    terminal::wait_for(&mut session, "ready");
    session.send([26_u8]).unwrap();
    terminal::wait_for(&mut session, "Stopped");

    // The key went to the command; a signal is for sbx, which gives the terminal back while it is stopped.
    let sbx = user_interface(&env);
    assert!(!is_cooked(&settings(sbx)), "raw while it runs");
    kill_process(sbx, Signal::TSTP).unwrap();
    let stat = format!("/proc/{}/stat", sbx.as_raw_nonzero());
    while !fs::read_to_string(&stat).unwrap().contains(") T ") {
        std::thread::yield_now();
    }
    assert!(is_cooked(&settings(sbx)), "as it was while it is stopped");
    kill_process(sbx, Signal::CONT).unwrap();
    while is_cooked(&settings(sbx)) {
        std::thread::yield_now();
    }
    session.send("kill -9 %1; wait; echo still he''re\n").unwrap();
    terminal::wait_for(&mut session, "still here");
    // A shell that has not noticed yet that its stopped job is gone wants to be told twice.
    session.send("exit 7\nexit 7\n").unwrap();
    assert_eq!(ended(&mut session), "7");
}

#[test]
fn a_resized_window_is_resized_inside() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let script = "trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 1; done";
    let mut session = terminal::open_in_shell(&env.command(&["exec", "--", "sh", "-c", script]));
    terminal::wait_for(&mut session, "ready");
    session.get_process_mut().set_window_size(91, 33).unwrap();
    terminal::wait_for(&mut session, "33 91");
    assert_eq!(ended(&mut session), "3");
}

#[test]
fn the_terminal_is_as_it_was_on_every_way_out() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let start = || {
        let command = env.command(&["exec", "--", "sh", "-c", "echo ready; exec sleep 1000"]);
        let mut session = terminal::open_in_shell(&command);
        terminal::wait_for(&mut session, "ready");
        session
    };
    let mut session = start();
    kill_process(user_interface(&env), Signal::TERM).unwrap();
    assert_eq!(ended(&mut session), "143", "the signal was for the command, which died of it");

    let mut session = terminal::open_in_shell(&env.command(&["exec", "--", "no-such-command"]));
    assert_eq!(ended(&mut session), "127");

    let mut session = start();
    robustness::processes(&env).into_iter().for_each(robustness::kill);
    assert_eq!(ended(&mut session), "125", "the sandbox is gone");
}
