//! A network of our own to measure in: nobody else's traffic, servers on its loopback, and a resolv.conf that names one of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::BenchError;
use super::bed::failed;

/// Makes the network and becomes the servers. passt wants an interface with a default route, which leads nowhere.
const SETUP: &str = "set -e; export PATH=\"$PATH:/usr/sbin:/sbin\"
    ip link set lo up
    ip link add outside type veth peer name nowhere
    ip link set outside up
    ip link set nowhere up
    ip address add 192.0.2.2/24 dev outside
    ip route add default via 192.0.2.1
    mount --bind \"$1\" /etc/resolv.conf
    exec \"$0\" serve";

/// Runs a command in a directory, which is another one in each namespace of mounts.
const IN_DIRECTORY: &str = "cd \"$0\" && exec \"$@\"";

/// The namespaces, held by the servers in them.
#[derive(Debug)]
pub(super) struct Namespace {
    servers: Child,
}

impl Namespace {
    /// With the servers of `load`; `directory` is for a small file.
    pub(super) fn new(load: &Path, directory: &Path) -> Result<Self, BenchError> {
        let resolv_conf = directory.join("resolv.conf");
        fs::write(&resolv_conf, "nameserver 127.0.0.1\n")
            .map_err(|source| failed("write resolv.conf", source))?;
        let start_failed = |source| failed("start servers in a network of their own", source);
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "--mount", "setpriv", "--pdeathsig", "KILL", "--"]);
        command.args(["sh", "-c", SETUP]).arg(load).arg(resolv_conf);
        let mut servers =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(start_failed)?;
        let mut line = String::new();
        if let Some(stdout) = servers.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(start_failed)?;
        }
        let this = Self { servers };
        if line.trim() == "ready" { Ok(this) } else { Err(BenchError::Unreadable { output: line }) }
    }

    /// `command`, to be run here in `directory`.
    pub(super) fn command(&self, directory: &Path, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--target", &self.servers.id().to_string()]);
        inside.args(["--user", "--preserve-credentials", "--net", "--mount", "--"]);
        inside.args(["sh", "-c", IN_DIRECTORY]).arg(directory);
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.servers.kill();
        let _ = self.servers.wait();
    }
}
