//! A person at a terminal.

use sbx_tests::{Environment, terminal};

#[test]
fn a_shell_has_a_terminal_of_the_right_size() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let mut command = env.command(&["shell"]);
    command.env("TERM", "xterm");
    let mut session = terminal::open(command);
    session.get_process_mut().set_window_size(100, 30).unwrap();
    session.send("stty size; tty\n").unwrap();
    use expectrl::Expect;
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
    use expectrl::Expect;
    session.send("echo rea''dy; sleep 1000; echo af''ter\n").unwrap();
    terminal::wait_for(&mut session, "ready");
    session.send([3_u8]).unwrap();
    session.send("echo still he''re\n").unwrap();
    terminal::wait_for(&mut session, "still here");
    session.send("exit\n").unwrap();
    let _ = session.get_process().wait().unwrap();
    env.exec("true").success();
}
