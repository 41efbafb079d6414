//! A network of a test's own: public addresses, servers behind them, and a name server whose answers the test changes.
//!
//! ```text
//! test ◀── JSON lines over stdin and stdout ──▶ sbx-test-lan, in network and mount namespaces of its own
//!   │                                             │ lo has the addresses, /etc/resolv.conf names the name server,
//!   │                                             │ /etc/passwd gives the ordinary user a home and a shell
//!   └── nsenter ──▶ sbx up, exec, … ──────────────┘ the sandbox reaches these servers and nothing else
//! ```
//!
//! Nothing of the machine's own network is used or changed, and tests do not see each other. The helper ends with its
//! standard input, so a test that is killed leaves nothing behind either.

mod disturbances;
mod files;
mod names;
mod program;
mod protocol;
mod server;
mod services;
mod visitor;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
};

use tempfile::TempDir;

pub use program::{Program, User};
pub use protocol::{Disturbance, Service, Visit};
use protocol::{Reply, Request};
pub use server::serve;
pub use services::digest_of_pattern;

/// Where the name server is: an address that no rule of a test is about.
const NAME_SERVER: &str = "192.0.2.53";

/// A network; a copy is the same one.
#[derive(Clone, Debug)]
pub struct Lan(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    child: Mutex<Child>,
    channel: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    directory: TempDir,
}

impl Lan {
    /// A network with these addresses, and nobody behind them yet.
    ///
    /// # Panics
    /// If the system gives no namespaces.
    #[must_use]
    pub fn new(addresses: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("sbx-lan-").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(directory.path().join("resolv.conf"), format!("nameserver {NAME_SERVER}\n")).unwrap();
        fs::write(directory.path().join("hosts"), "127.0.0.1 localhost\n::1 localhost\n").unwrap();
        let home = directory.path().join("home");
        fs::create_dir(&home).unwrap();
        fs::write(directory.path().join("passwd"), program::users(&home)).unwrap();
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--net", "--mount", "--"]).arg(helper()).arg(directory.path()).arg(NAME_SERVER);
        let mut child = command.args(addresses).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let inner = Inner { child: Mutex::new(child), channel: Mutex::new((stdin, stdout)), directory };
        let lan = Self(Arc::new(inner));
        lan.give(&home);
        // Answered once everything is set up.
        lan.ask(&Request::Ready);
        lan
    }

    /// Starts a server at `address`; port 0 chooses one.
    ///
    /// # Panics
    /// If the port is taken, or the network does not have the address.
    pub fn serve(&self, address: &str, service: Service) -> SocketAddr {
        let request = Request::Serve { address: address.parse().unwrap(), service };
        let Reply::Listening(address) = self.ask(&request) else { panic!("{request:?}: no address") };
        address
    }

    /// Has the name server know records of one kind (`A`, `AAAA`, `TXT`) of `name`, in place of those that it knew.
    pub fn name(&self, name: &str, kind: &str, records: &[&str]) {
        let records = records.iter().map(|record| (*record).to_owned()).collect();
        self.ask(&Request::Name { name: name.to_owned(), kind: kind.to_owned(), records });
    }

    /// Changes what the host knows of its name servers, in nothing that matters: whoever looks believes no older answers.
    ///
    /// # Panics
    /// If the disk does not take it.
    pub fn renew(&self) {
        let path = self.0.directory.path().join("resolv.conf");
        let before = fs::read_to_string(&path).unwrap();
        // In place, as the namespace has this very file.
        fs::write(path, format!("{before}# again\n")).unwrap();
    }

    /// The names that the name server was asked for so far, in their order.
    #[must_use]
    pub fn questions(&self) -> Vec<String> {
        let Reply::Questions(names) = self.ask(&Request::Questions) else { panic!("no questions") };
        names
    }

    /// From now on files whose path ends with `path` do not arrive whole, until [`mend`](Self::mend) or until others do not.
    pub fn disturb(&self, path: &str, disturbance: Disturbance) {
        self.ask(&Request::Disturb { path: path.to_owned(), disturbance });
    }

    /// Waits until a file did not arrive whole, for each call another one.
    ///
    /// # Panics
    /// If nobody asks for such a file.
    pub fn await_disturbed(&self) {
        self.ask(&Request::AwaitDisturbed);
    }

    /// From now on all files arrive.
    pub fn mend(&self) {
        self.ask(&Request::Mend);
    }

    /// How often files whose path ends with `path` were asked for.
    ///
    /// # Panics
    /// If the helper does not know.
    #[must_use]
    pub fn served(&self, path: &str) -> usize {
        let Reply::Count(count) = self.ask(&Request::Served { path: path.to_owned() }) else {
            panic!("no count")
        };
        count
    }

    /// How many connections and datagrams have come to the servers at `address`.
    #[must_use]
    pub fn visits(&self, address: &str) -> usize {
        let request = Request::Visits { address: address.parse().unwrap() };
        let Reply::Count(count) = self.ask(&request) else { panic!("no count") };
        count
    }

    /// Connects to `address` as a program beside the sandbox does; what it sees.
    ///
    /// # Errors
    /// What the system says, in its words.
    pub fn visit(&self, address: &str, visit: &Visit) -> Result<String, String> {
        match self.ask(&Request::Visit { address: address.parse().unwrap(), visit: visit.clone() }) {
            Reply::Seen(seen) => Ok(seen),
            Reply::Failed(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// A command that begins with the way into the network, and goes on in `directory`.
    pub(crate) fn enter(&self, directory: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.0.child.lock().unwrap().id()));
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        // Entering a mount namespace changes the working directory to its root.
        command.args(["--net", "--mount", "--no-fork", "--", "env", "-C"]).arg(directory);
        command
    }

    fn ask(&self, request: &Request) -> Reply {
        let mut channel = self.0.channel.lock().unwrap();
        let line = serde_json::to_string(request).unwrap();
        writeln!(channel.0, "{line}").unwrap();
        let mut answer = String::new();
        channel.1.read_line(&mut answer).unwrap();
        match serde_json::from_str(&answer) {
            Ok(Reply::Failed(error)) if !matches!(request, Request::Visit { .. }) => {
                panic!("{request:?}: {error}")
            }
            Ok(reply) => reply,
            Err(error) => panic!("{request:?}: the helper ended or says `{answer}`: {error}"),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The helper, which cargo puts beside the programs.
fn helper() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let helper = test.parent().and_then(Path::parent).unwrap().join("sbx-test-lan");
    assert!(helper.is_file(), "{} is not built; `cargo build -p sbx-tests` builds it", helper.display());
    helper
}
