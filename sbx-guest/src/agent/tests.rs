//! Commands run through the agent over a socket pair, seen from the host's end.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use sbx_proto::{ExecRequest, Exit, STDIN_WINDOW_BYTES, User, WindowSize};

use super::*;

/// Longest that any reply may take; only a hang takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// One agent for the process, because there can be only one reaper.
fn agent() -> &'static Arc<Agent> {
    static AGENT: OnceLock<Arc<Agent>> = OnceLock::new();
    AGENT.get_or_init(|| Agent::new(defaults(), Reaper::start().unwrap(), None))
}

fn defaults() -> Defaults {
    let user = User {
        name: "agent".to_owned(),
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        home: b"/home/agent".to_vec(),
    };
    let environment = vec![(b"ONE".to_vec(), b"boot".to_vec()), (b"TWO".to_vec(), b"boot".to_vec())];
    Defaults { user, environment, directory: b"/".to_vec(), etc: PathBuf::from("/etc") }
}

fn request(arguments: &[&str]) -> ExecRequest {
    ExecRequest {
        arguments: arguments.iter().map(|word| word.as_bytes().to_vec()).collect(),
        environment: Vec::new(),
        directory: None,
        user: None,
        terminal: None,
        stdin: false,
    }
}

fn script(text: &str) -> ExecRequest {
    request(&["/bin/sh", "-c", text])
}

fn with_terminal(request: ExecRequest) -> ExecRequest {
    ExecRequest { terminal: Some(WindowSize { rows: 24, columns: 80 }), stdin: true, ..request }
}

/// The host's end of a connection.
struct Host {
    stream: UnixStream,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    credit: u64,
    stdin_closed: bool,
}

impl Host {
    fn exec(request: ExecRequest) -> Self {
        Self::exec_on(agent(), request)
    }

    fn exec_on(agent: &Arc<Agent>, request: ExecRequest) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        agent.take(theirs.into());
        let mut host = Self {
            stream: ours,
            stdout: Vec::new(),
            stderr: Vec::new(),
            credit: u64::from(STDIN_WINDOW_BYTES),
            stdin_closed: false,
        };
        host.send(&AgentRequest::Exec(Box::new(request)));
        host
    }

    fn send(&mut self, request: &AgentRequest) {
        write_frame(&mut self.stream, request).unwrap();
    }

    /// Takes one reply; gives back what is not a stream.
    fn next(&mut self) -> Option<AgentReply> {
        match read_frame(&mut self.stream).unwrap() {
            AgentReply::Stdout(bytes) => self.stdout.extend(bytes),
            AgentReply::Stderr(bytes) => self.stderr.extend(bytes),
            AgentReply::StdinWindow { bytes } => self.credit += u64::from(bytes),
            AgentReply::StdinClosed => self.stdin_closed = true,
            reply => return Some(reply),
        }
        None
    }

    fn started(&mut self) -> u32 {
        match self.next() {
            Some(AgentReply::Started { pid }) => pid,
            other => panic!("not started: {other:?}"),
        }
    }

    /// Reads until standard output has `text` in it.
    fn wait_for(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.stdout).contains(text) {
            let reply = self.next();
            assert!(matches!(reply, None | Some(AgentReply::Started { .. })), "before {text}: {reply:?}");
        }
    }

    fn exit(&mut self) -> Exit {
        loop {
            match self.next() {
                None | Some(AgentReply::Started { .. }) => {}
                Some(AgentReply::Exited(exit)) => return exit,
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn refused(&mut self) -> (RefusedKind, String) {
        match self.next() {
            Some(AgentReply::Refused { kind, message }) => (kind, message),
            other => panic!("not refused: {other:?}"),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

fn output_of(request: ExecRequest) -> String {
    let mut host = Host::exec(request);
    assert_eq!(host.exit(), Exit::Code(0), "{}", String::from_utf8_lossy(&host.stderr));
    host.text()
}

#[test]
fn a_command_says_what_it_has_to_and_how_it_ended() {
    let mut host = Host::exec(script("echo out; echo err >&2; exit 7"));
    assert!(host.started() > 1);
    assert_eq!(host.exit(), Exit::Code(7));
    assert_eq!((host.text().as_str(), host.stderr.as_slice()), ("out\n", b"err\n".as_slice()));
    assert_eq!(
        read_frame::<AgentReply>(&mut host.stream).unwrap_err().to_string(),
        "the peer closed the connection"
    );
}

#[test]
fn a_signal_that_ends_a_command_is_told() {
    assert_eq!(Host::exec(script("kill -KILL $$")).exit(), Exit::Signal(9));
}

#[test]
fn many_commands_at_once() {
    let mut hosts: Vec<_> =
        (0..40).map(|code| Host::exec(script(&format!("sleep 0.0{code}; exit {code}")))).collect();
    for (code, host) in (0_u8..).zip(&mut hosts) {
        assert_eq!(host.exit(), Exit::Code(code));
    }
}

#[test]
fn a_signal_reaches_the_whole_process_group() {
    let mut host = Host::exec(script("sleep 1000 & echo ready; wait"));
    host.wait_for("ready");
    host.send(&AgentRequest::Signal(15));
    assert_eq!(host.exit(), Exit::Signal(15));
    // Had the sleeper survived, it would hold the output open.
}

#[test]
fn environment_is_the_users_then_the_boots_then_the_requests() {
    let mut wanted = script("echo $HOME $USER $LOGNAME $ONE $TWO ${TERM-none}; echo $PATH");
    wanted.environment =
        vec![(b"TWO".to_vec(), b"request".to_vec()), (b"PATH".to_vec(), b"/usr/bin:/bin".to_vec())];
    assert_eq!(output_of(wanted), "/home/agent agent agent boot request none\n/run/sbx/bin:/usr/bin:/bin\n");
}

#[test]
fn the_working_directory_is_the_one_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap();
    let mut wanted = request(&["pwd"]);
    wanted.directory = Some(path.to_str().unwrap().into());
    assert_eq!(output_of(wanted), format!("{}\n", path.display()));
}

#[test]
fn bytes_that_are_not_text_pass_through() {
    let mut wanted = request(&["printf", "%s"]);
    wanted.arguments.push(vec![0xff, 0xfe, b'\n', 0x80]);
    let mut host = Host::exec(wanted);
    assert_eq!(host.exit(), Exit::Code(0));
    assert_eq!(host.stdout, [0xff, 0xfe, b'\n', 0x80]);
}

#[test]
fn no_arguments_mean_a_shell() {
    let mut host = Host::exec(ExecRequest { stdin: true, ..request(&[]) });
    host.send(&AgentRequest::Stdin(b"echo shell $SHELL; exit 3\n".to_vec()));
    assert_eq!(host.exit(), Exit::Code(3));
    assert!(host.text().starts_with("shell /"), "{}", host.text());
}

#[test]
fn commands_that_cannot_be_started_say_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    for (name, contents, mode) in
        [("plain", "", 0o644), ("garbage", "\u{7f}ELF", 0o755), ("orphan", "#!/no/such/sh\n", 0o755)]
    {
        fs::write(path(name), contents).unwrap();
        fs::set_permissions(path(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let refused = |arguments: &[&str]| Host::exec(request(arguments)).refused();
    assert_eq!(
        refused(&["no-such-program"]),
        (RefusedKind::NotFound, "no-such-program: executable file not found in $PATH".to_owned())
    );
    assert_eq!(refused(&[&path("missing")]).0, RefusedKind::NotFound);
    assert_eq!(refused(&[&path("plain")]).0, RefusedKind::NotExecutable);
    assert_eq!(refused(&["/tmp"]).0, RefusedKind::NotExecutable);
    let (kind, message) = refused(&[&path("orphan")]);
    assert_eq!(kind, RefusedKind::NotFound);
    assert!(message.contains("its interpreter"), "{message}");

    let (kind, message) =
        Host::exec(ExecRequest { directory: Some(b"/no/such".to_vec()), ..script("") }).refused();
    assert_eq!(
        (kind, message.as_str()),
        (RefusedKind::Failed, "cannot start in /no/such: there is no such directory in the sandbox")
    );
    let (kind, message) =
        Host::exec(ExecRequest { user: Some("nosuchuser".to_owned()), ..script("") }).refused();
    assert_eq!(kind, RefusedKind::Failed);
    assert!(message.starts_with("the image has no user \"nosuchuser\""), "{message}");
    assert_eq!(
        refused(&["echo", "a\0b"]),
        (RefusedKind::Failed, "an argument contains a NUL byte".to_owned())
    );
}

#[test]
fn something_else_than_a_request_is_refused() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    agent().take(theirs.into());
    let mut host = Host { stream: ours, stdout: vec![], stderr: vec![], credit: 0, stdin_closed: false };
    host.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(host.refused().0, RefusedKind::Failed);
}

#[test]
fn a_machine_that_powers_off_starts_nothing() {
    let reaper = Arc::new(Reaper::default());
    reaper.close();
    let agent = Agent::new(defaults(), reaper, None);
    assert_eq!(
        Host::exec_on(&agent, request(&["true"])).refused(),
        (RefusedKind::Failed, "the sandbox is powering off".to_owned())
    );
}

#[test]
fn standard_input_comes_back_byte_for_byte() {
    let mut host = Host::exec(ExecRequest { stdin: true, ..request(&["cat"]) });
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        while host.credit == 0 {
            assert!(matches!(host.next(), None | Some(AgentReply::Started { .. })));
        }
        let count = rest.len().min(usize::try_from(host.credit).unwrap()).min(50_000);
        let (now, later) = rest.split_at(count);
        host.send(&AgentRequest::Stdin(now.to_vec()));
        host.credit -= count as u64;
        rest = later;
    }
    host.send(&AgentRequest::StdinEnd);
    assert_eq!(host.exit(), Exit::Code(0));
    assert!(host.stdout == bytes);
}

#[test]
fn a_command_without_input_reads_nothing() {
    assert_eq!(output_of(request(&["cat"])), "");
}

#[test]
fn input_that_nobody_reads_does_not_hold_back_a_signal() {
    let mut host = Host::exec(ExecRequest { stdin: true, ..script("echo ready; exec sleep 1000") });
    host.wait_for("ready");
    for _ in 0..STDIN_WINDOW_BYTES / 65_536 {
        host.send(&AgentRequest::Stdin(vec![0; 65_536]));
    }
    host.send(&AgentRequest::Signal(2));
    assert_eq!(host.exit(), Exit::Signal(2));
    // The pipe took some of it, which is not worth a whole grant.
    assert!(host.credit < u64::from(STDIN_WINDOW_BYTES) + 65_537, "{}", host.credit);
}

#[test]
fn a_closed_input_is_told_and_more_is_thrown_away() {
    let mut host =
        Host::exec(ExecRequest { stdin: true, ..script("exec <&-; echo closed; exec sleep 1000") });
    host.wait_for("closed");
    while !host.stdin_closed {
        assert!(host.next().is_none());
    }
    for _ in 0..100 {
        host.send(&AgentRequest::Stdin(vec![0; 65_536]));
    }
    host.send(&AgentRequest::Signal(15));
    assert_eq!(host.exit(), Exit::Signal(15));
}

#[test]
fn a_host_that_sends_more_than_granted_is_hung_up_on() {
    let mut host = Host::exec(ExecRequest { stdin: true, ..script("exec sleep 1000") });
    host.started();
    for _ in 0..100 {
        if write_frame(&mut host.stream, &AgentRequest::Stdin(vec![0; 65_536])).is_err() {
            return;
        }
    }
    panic!("took 6 MiB that nobody reads");
}

#[test]
fn much_output_arrives_whole() {
    let mut host = Host::exec(request(&["head", "-c", "100000000", "/dev/zero"]));
    let mut total = 0;
    let exit = loop {
        match host.next() {
            Some(AgentReply::Exited(exit)) => break exit,
            _ => total += std::mem::take(&mut host.stdout).len(),
        }
    };
    assert_eq!((exit, total + host.stdout.len()), (Exit::Code(0), 100_000_000));
}

#[test]
fn a_host_that_does_not_read_can_still_send_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let text = format!(
        "trap 'echo $n > {}; exit 9' TERM; while :; do head -c 65536 /dev/zero; done",
        fifo.display()
    );
    let mut host = Host::exec(script(&text));
    host.started();
    // Long after that, `head` blocks for good: pipe, outbox and socket are full.
    std::thread::sleep(Duration::from_millis(300));
    host.send(&AgentRequest::Signal(15));
    assert_eq!(fs::read_to_string(&fifo).unwrap(), "\n");
    assert_eq!(host.exit(), Exit::Code(9));
    assert!(host.stdout.len() < 4_000_000, "the outbox grew to {}", host.stdout.len());
}

#[test]
fn last_words_of_a_background_process_are_heard() {
    assert_eq!(output_of(script("(sleep 0.03; echo second) & echo first")), "first\nsecond\n");
}

#[test]
fn a_background_process_neither_holds_up_the_end_nor_dies_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    // Writes far more than a pipe holds after its parent has ended, and then says that it lives.
    let text =
        format!("(sleep 0.5; head -c 300000 /dev/zero; echo alive > {}) & echo started", fifo.display());
    assert_eq!(output_of(script(&text)), "started\n");
    assert_eq!(fs::read_to_string(&fifo).unwrap(), "alive\n");
}

#[test]
fn a_background_process_that_never_stops_talking_is_left_at_some_point() {
    let mut host = Host::exec(script("(while echo chatter; do sleep 0.01; done) & echo $!"));
    assert_eq!(host.exit(), Exit::Code(0));
    let pid = host.text().lines().find_map(|line| line.parse().ok()).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

#[test]
fn a_host_that_goes_away_hangs_up() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let text =
        format!("trap 'echo hup > {}; exit' HUP; echo ready; while :; do sleep 0.01; done", fifo.display());
    for request in [script(&text), with_terminal(script(&text))] {
        let mut host = Host::exec(request);
        host.wait_for("ready");
        drop(host);
        assert_eq!(fs::read_to_string(&fifo).unwrap(), "hup\n");
    }
}

#[test]
fn a_terminal_is_one() {
    let wanted =
        with_terminal(script("test -t 0 && test -t 1 && test -t 2 && echo $TERM && stty size < /dev/tty"));
    assert_eq!(output_of(wanted), "xterm\r\n24 80\r\n");
}

#[test]
fn a_terminal_changes_its_size() {
    let mut host = Host::exec(with_terminal(script(
        "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done",
    )));
    host.wait_for("ready");
    host.send(&AgentRequest::Resize(WindowSize { rows: 50, columns: 132 }));
    assert_eq!(host.exit(), Exit::Code(0));
    assert_eq!(host.text(), "ready\r\n50 132\r\n");
}

#[test]
fn control_c_typed_into_a_terminal_interrupts() {
    let mut host = Host::exec(with_terminal(script("echo ready; exec sleep 1000")));
    host.wait_for("ready");
    host.send(&AgentRequest::Stdin(vec![0x03]));
    assert_eq!(host.exit(), Exit::Signal(2));
}

#[test]
fn a_signal_goes_to_the_foreground_of_a_terminal() {
    // With job control the foreground job is a process group of its own; the shell itself goes on.
    let mut host = Host::exec(with_terminal(request(&[
        "/bin/sh",
        "-mc",
        "sh -c 'echo ready; exec sleep 1000'; echo then $?",
    ])));
    host.wait_for("ready");
    host.send(&AgentRequest::Signal(15));
    assert_eq!(host.exit(), Exit::Code(0));
    assert!(host.text().contains("then 143"), "{}", host.text());
}

#[test]
fn the_end_of_input_reaches_a_terminal() {
    let mut host = Host::exec(with_terminal(request(&["cat"])));
    host.send(&AgentRequest::Stdin(b"line\n".to_vec()));
    host.send(&AgentRequest::StdinEnd);
    assert_eq!(host.exit(), Exit::Code(0));
    assert_eq!(host.text(), "line\r\nline\r\n");
}

#[test]
fn the_last_output_to_a_terminal_is_not_lost() {
    for _ in 0..100 {
        assert_eq!(output_of(with_terminal(request(&["echo", "the end"]))), "the end\r\n");
    }
}

#[test]
fn another_user_can_open_its_own_streams() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let text = "id -u; id -g; id -G; echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin";
    for (request, end) in
        [(ExecRequest { stdin: true, ..script(text) }, "\n"), (with_terminal(script(text)), "\r\n")]
    {
        let mut host = Host::exec(ExecRequest { user: Some("12345:54321".to_owned()), ..request });
        host.send(&AgentRequest::StdinEnd);
        assert_eq!(host.exit(), Exit::Code(0));
        let mut all = host.text();
        all.push_str(&String::from_utf8_lossy(&host.stderr));
        assert_eq!(all, ["12345", "54321", "54321", "out", "err", ""].join(end));
    }
}
