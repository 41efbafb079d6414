//! Figures of the network: our card and gateway against QEMU's user network (slirp) and passt, under the same QEMU and kernel.
//!
//! The work is `examples/network_load.rs`, which is the servers on the host as well. For ours it runs in a sandbox; for theirs the same
//! kernel boots with the machine options of the sandbox's QEMU and an initramfs that sets the address and runs it. Every run is
//! a machine of its own, in turns.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::bed::{Bed, failed};
use super::measure::{figures, median};
use super::namespace::Namespace;
use super::{BenchError, Figure, Limit, floor, peers};
use crate::cache;
use crate::program;

/// Machines of each kind.
const ROUNDS: usize = 3;
const SANDBOX: &str = "net";
/// The gateway, which is the name server and the way to services of the host.
const GATEWAY: &str = "100.127.255.253";
/// Names that the load program asks for, and services that it connects to.
const NAMES: u32 = 1008;
const SERVICES: [u16; 3] = [5201, 5202, 5203];
/// A connection that was just used is idle when this has passed; then for how long it is looked at.
const IDLE_AFTER: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(10);

/// What the load program measures, what it is, and what a unit is in its own.
const PARTS: [(&str, &str, &str, f64); 7] = [
    ("up", "net to the host", "Gb/s", 1e9),
    ("up-many", "net to the host, 16 flows", "Gb/s", 1e9),
    ("down", "net to the guest", "Gb/s", 1e9),
    ("down-many", "net to the guest, 16 flows", "Gb/s", 1e9),
    ("connections", "net connections", "/s", 1.0),
    ("names-known", "net names asked again", "/s", 1.0),
    ("names-fresh", "net names asked first", "/s", 1.0),
];
/// So many of them are bytes in bulk.
const BULK: usize = 4;

/// The init of the others' machines: address, way out, work. Its arguments come with the kernel's command line.
const INIT: &str = "#!/busybox sh
/busybox mkdir -p /proc
/busybox mount -t proc proc /proc
for word in $(/busybox cat /proc/cmdline); do
    case $word in measure=*) IFS=,; set -- ${word#measure=} ;; esac
done
/busybox ip link set eth0 mtu $4 up
/busybox ip address add $1 dev eth0
/busybox ip route add default via $2
/load measure $2 $3
/busybox reboot -f
";

/// A peer: its words for the guest are address, gateway, name server and MTU.
#[derive(Clone, Copy, Debug)]
enum Peer {
    /// What QEMU's guests have without anything else.
    Slirp,
    /// With the MTU that it tells guests who ask.
    Passt,
}

impl Peer {
    fn words(self) -> &'static str {
        match self {
            Self::Slirp => "10.0.2.15/24,10.0.2.2,10.0.2.3,1500",
            Self::Passt => "192.0.2.2/24,192.0.2.1,192.0.2.1,65520",
        }
    }
}

/// All figures of a guest that works.
pub(super) fn load(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    let site = Site::make(bed)?;
    let words = {
        let _up = site.up()?;
        floor::machine(site.bed)?
    };
    let (mut ours, mut slirp, mut passt) = (Values::new(), Values::new(), Values::new());
    for _ in 0..ROUNDS {
        add(&mut ours, site.ours()?);
        add(&mut slirp, site.theirs(Peer::Slirp, &words)?);
        add(&mut passt, site.theirs(Peer::Passt, &words)?);
    }
    let mut result = Vec::new();
    for (index, (part, title, unit, scale)) in PARTS.into_iter().enumerate() {
        let [ours, slirp, passt] = [&ours, &slirp, &passt]
            .map(|values| median(values.get(part).cloned().unwrap_or_default()) / scale);
        let figure = |what, value| Figure::new(title, ours, unit).against(what, value);
        if index < BULK {
            result.push(figure("slirp", slirp).at_least(Limit::Ratio(1.5)));
            result.push(figure("passt", passt).at_least(Limit::Ratio(1.0)));
        } else {
            result.push(figure("slirp", slirp).at_least(Limit::Ratio(1.0)));
            result.push(figure("passt", passt));
        }
    }
    Ok(result)
}

/// How often the network card's thread wakes up while a connection is open and idle.
pub(super) fn idle(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    let site = Site::make(bed)?;
    let up = site.up()?;
    let mut hold = up.load(&["hold", GATEWAY]);
    let child = hold.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|source| failed("run the load program", source))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(|source| failed("read from a sandbox", source))?;
    }
    let woken = || {
        thread::sleep(IDLE_AFTER);
        let status = card_status(site.bed)?;
        let before = wake_ups(&status)?;
        thread::sleep(IDLE);
        Ok(wake_ups(&status)? - before)
    };
    let woken = if line.trim() == "held" { woken() } else { Err(BenchError::Unreadable { output: line }) };
    let _ = child.kill();
    let _ = child.wait();
    Ok(vec![Figure::new("net-idle wake-ups in 10 s", woken?, "").at_most(Limit::Value(0.0))])
}

/// /proc's file about the thread of the network card.
fn card_status(bed: &Bed) -> Result<PathBuf, BenchError> {
    let home = bed.home().display().to_string();
    let ours = |words: &[String]| words.iter().any(|word| word.contains(&home));
    let threads = floor::processes().filter(|(_, words)| ours(words)).flat_map(|(process, _)| {
        fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten()
    });
    let mut threads = threads.map(|thread| thread.path());
    let is_card = |thread: &PathBuf| {
        fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "virtio-net")
    };
    let thread = threads.find(is_card).ok_or(BenchError::NoProcess { what: "the network card's thread" })?;
    Ok(thread.join("status"))
}

/// How often a thread has gone to sleep by itself.
fn wake_ups(status: &Path) -> Result<f64, BenchError> {
    let text = fs::read_to_string(status).map_err(|source| failed("look at a thread", source))?;
    let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).ok_or(BenchError::Unreadable { output: text })
}

/// Values of each part.
type Values = BTreeMap<String, Vec<f64>>;

fn add(values: &mut Values, figures: BTreeMap<String, f64>) {
    for (part, value) in figures {
        values.entry(part).or_default().push(value);
    }
}

/// Where it is measured: the servers' network, and a repository with a sandbox.
struct Site<'a> {
    bed: &'a Bed,
    namespace: Namespace,
    directory: PathBuf,
}

impl<'a> Site<'a> {
    fn make(bed: &'a mut Bed) -> Result<Self, BenchError> {
        bed.pull()?;
        let directory = bed.path("net");
        cache::create(&directory)?;
        let load = directory.join("load");
        let mut compile = Command::new("rustc");
        compile.args([
            "--edition",
            "2024",
            "-O",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "strip=symbols",
            "-o",
        ]);
        compile.arg(&load).arg(cache::repository().join("xtask/examples/network_load.rs"));
        program::output(&mut compile)?;
        let services: String = SERVICES.map(|port| format!("    host-service {port}\n")).concat();
        let names: String = (0..NAMES).map(|number| format!("    allow \"n{number}.test\"\n")).collect();
        let manifest = format!(
            "sandbox \"{SANDBOX}\"\nagent \"shell\"\nimage \"docker.io/{}\"\nresources cpus=1 memory=\"1GiB\"\n\
             network \"deny\" {{\n{services}{names}}}\n",
            crate::image::DEBIAN.full_name()
        );
        let write_failed = |source| failed("write the manifest", source);
        fs::write(directory.join("sandbox.kdl"), manifest).map_err(write_failed)?;
        let namespace = Namespace::new(&load, &directory)?;
        Ok(Self { bed, namespace, directory })
    }

    /// The sandbox is up until what is given back is dropped.
    fn up(&self) -> Result<Up<'_>, BenchError> {
        let up = self.bed.sbx(&["up", "--yes", "--engine", "qemu", "-d"]);
        program::output(&mut self.namespace.command(&self.directory, &up))?;
        Ok(Up { site: self })
    }

    fn ours(&self) -> Result<BTreeMap<String, f64>, BenchError> {
        let said = program::output(&mut self.up()?.load(&["measure", GATEWAY, GATEWAY]));
        figures(&said?, PARTS.len())
    }

    fn theirs(&self, peer: Peer, words: &[String]) -> Result<BTreeMap<String, f64>, BenchError> {
        let mut command = Command::new(words.first().map_or("qemu-system-x86_64", String::as_str));
        command.args(floor::machine_options(words));
        let line = floor::command_line(words);
        let kept = line.split(' ').filter(|word| !word.starts_with("console=")).collect::<Vec<_>>().join(" ");
        command.arg("-append").arg(format!("{kept} console=ttyS0 measure={}", peer.words()));
        command.arg("-initrd").arg(self.initramfs()?);
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-serial",
            "stdio",
        ]);
        let socket = self.directory.join("passt.sock");
        let mut server = None;
        match peer {
            Peer::Slirp => command.args(["-netdev", "user,id=net"]),
            Peer::Passt => {
                server = Some(self.serve(&socket)?);
                let socket = socket.display();
                command
                    .arg("-netdev")
                    .arg(format!("stream,id=net,server=off,addr.type=unix,addr.path={socket}"))
            }
        };
        command.args(["-device", "virtio-net-device,netdev=net"]);
        let said = program::output(&mut self.namespace.command(&self.directory, &command));
        if let Some(mut server) = server {
            let _ = server.kill();
            let _ = server.wait();
        }
        figures(&said?, PARTS.len())
    }

    /// The load program with an init.
    fn initramfs(&self) -> Result<PathBuf, BenchError> {
        let init = self.directory.join("init");
        let write_failed = |source| failed("write the init program", source);
        fs::write(&init, INIT).map_err(write_failed)?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).map_err(write_failed)?;
        fs::copy("/bin/busybox", self.directory.join("busybox")).map_err(write_failed)?;
        floor::pack(&self.directory, &["init", "busybox", "load"])
    }

    fn serve(&self, socket: &Path) -> Result<Child, BenchError> {
        let mut command = Command::new("passt");
        command.args(["--foreground", "--quiet", "--runas", "0", "--socket"]).arg(socket);
        let mut command = self.namespace.command(&self.directory, &command);
        peers::serve(&mut command, socket, "passt")
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        let _ = program::output(&mut self.bed.sbx(&["rm", "--force", "-n", SANDBOX]));
    }
}

/// The sandbox, while it runs.
struct Up<'a> {
    site: &'a Site<'a>,
}

impl Up<'_> {
    /// The load program in the guest.
    fn load(&self, arguments: &[&str]) -> Command {
        let load = self.site.directory.join("load").display().to_string();
        let exec = ["exec", "-u", "root", "--", &load];
        let mut command = self.site.bed.sbx(&[&exec, arguments].concat());
        command.current_dir(&self.site.directory);
        command
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let _ = program::output(&mut self.site.bed.sbx(&["stop", "-n", SANDBOX]));
    }
}
