//! Real servers in the network of a test: programs of this computer, which end with the test.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use super::Lan;

/// The ordinary user that some servers insist on being: in every Debian there is one with this number.
const ORDINARY: u32 = 65534;

/// What the network calls this user.
const ORDINARY_NAME: &str = "git";

/// How long a program may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// As whom a program runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum User {
    /// Whoever runs the tests; in the network, root.
    Root,
    /// `git`, whose home is [`Lan::home`].
    Ordinary,
}

/// A program that runs in a network. Dropped, it ends.
#[derive(Debug)]
pub struct Program {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Lan {
    /// Starts the program of `words` in `directory`, and returns when it has said `ready` in a line.
    ///
    /// # Panics
    /// If it cannot be started, or ends before.
    #[must_use]
    pub fn start(&self, user: User, directory: &Path, words: &[&str], ready: &str) -> Program {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = self.enter(directory);
        command.args(identity(user)).args(["setpriv", "--pdeathsig", "KILL", "--"]).args(words);
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        // The command has its ends of the pipe for as long as it lives.
        drop(command);
        let program = Program { child, said: Arc::default() };
        let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
        let mut hear = {
            let said = Arc::clone(&program.said);
            move || {
                let line = lines.next()?;
                let mut said = said.lock().unwrap();
                said.push_str(&line);
                said.push('\n');
                Some(line)
            }
        };
        loop {
            let line = hear().unwrap_or_else(|| panic!("{words:?} ended: {}", program.said()));
            if line.contains(ready) {
                break;
            }
        }
        // A server whose pipe is full would wait.
        thread::spawn(move || while hear().is_some() {});
        program
    }

    /// Runs the program of `words` in `directory` to its end.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, user: User, directory: &Path, words: &[&str]) {
        let output = self.enter(directory).args(identity(user)).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
    }

    /// The home of the ordinary user.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.0.directory.path().join("home")
    }

    /// Gives `path` to the ordinary user. In a user namespace that is whoever runs the tests, and has it already.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn give(&self, path: &Path) {
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(path, Some(ORDINARY), Some(ORDINARY)).unwrap();
        }
    }
}

impl Program {
    /// What it has said so far.
    ///
    /// # Panics
    /// If the thread that listens has panicked.
    #[must_use]
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A server that is asked to end takes with it what it has in the system; PostgreSQL has shared memory.
        if let Some(process) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::INT);
        }
        let begin = Instant::now();
        while begin.elapsed() < FAREWELL && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `/etc/passwd` of a network: this computer's, with an ordinary user who has a home and a shell.
pub(super) fn users(home: &Path) -> String {
    let all = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = ORDINARY.to_string();
    let others = all.lines().filter(|line| line.split(':').nth(2) != Some(&number));
    let others: String = others.flat_map(|line| [line, "\n"]).collect();
    format!("{others}{ORDINARY_NAME}:x:{number}:{number}::{}:/bin/sh\n", home.display())
}

/// The words before a command that make it run as `user`.
fn identity(user: User) -> Vec<String> {
    let number = ORDINARY;
    let words = match user {
        User::Root => return Vec::new(),
        User::Ordinary if rustix::process::geteuid().is_root() => {
            vec![
                "setpriv".to_owned(),
                format!("--reuid={number}"),
                format!("--regid={number}"),
                "--clear-groups".to_owned(),
            ]
        }
        User::Ordinary => vec![
            "unshare".to_owned(),
            "--user".to_owned(),
            format!("--map-user={number}"),
            format!("--map-group={number}"),
        ],
    };
    [words, vec!["--".to_owned()]].concat()
}
