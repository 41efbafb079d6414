//! QEMU as a child process: started, watched, ended.
//!
//! The thread that starts QEMU waits for it until it ends, because the kernel kills a child with a parent death signal
//! when the *thread* that made it ends. Once QEMU is there, it may not do anything else.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cage;
use crate::config::MachineConfig;
use crate::console::Tail;
use crate::engine::end::End;
use crate::engine::{Logs, RunningGuest};
use crate::gate::Gate;
use crate::machine::{ExitReason, StartError};
use crate::seccomp::{self, Role, Unfiltered};
use crate::sys::child;
use crate::virtio::vhost_user::ServerHandle;

/// Stack of the thread that waits, in bytes: starting a program needs the most of it.
const STACK_BYTES: usize = 128 * 1024;

/// How long the last words may take to come out of the pipes. QEMU's are there when it is gone; a wrapper around it
/// may have left a child that holds them open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The running program.
pub(super) struct Qemu {
    shared: Arc<Shared>,
    waiter: Option<JoinHandle<()>>,
    /// Stopped after QEMU has gone.
    served: Served,
}

/// The devices.
pub(super) struct Served {
    pub(super) servers: Vec<ServerHandle>,
    /// What they wait for before they answer QEMU.
    pub(super) gate: Gate,
}

struct Shared {
    process: OwnedFd,
    killed: AtomicBool,
    end: End,
}

impl Qemu {
    /// Starts `program` for the machine of `config`, kept from the network that this process has for a network card.
    pub(super) fn start(
        program: &Path,
        arguments: Vec<OsString>,
        config: &MachineConfig,
        served: Served,
        logs: Logs,
    ) -> Result<Self, StartError> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&config.directory)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        child::tie(&mut command);
        let (started, start) = sync_channel(1);
        let body = Waiter {
            program: program.to_path_buf(),
            offline: config.network.is_some(),
            logs,
            unfiltered: Unfiltered::announce(),
        };
        let waiter = thread::Builder::new()
            .name("qemu".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || body.run(command, &started))
            .map_err(|source| StartError::Host { doing: "start a thread", source })?;
        let shared = start.recv().unwrap_or_else(|_| {
            Err(StartError::Host { doing: "start a thread", source: io::Error::other("it ended") })
        })?;
        Ok(Self { shared, waiter: Some(waiter), served })
    }
}

impl RunningGuest for Qemu {
    fn begin(&self) {
        self.served.gate.open();
    }

    fn kill(&self) {
        self.shared.killed.store(true, Ordering::SeqCst);
        // It fails if QEMU has ended, which is what is wanted.
        let _ = pidfd_send_signal(&self.shared.process, Signal::KILL);
    }

    fn wait(&self) -> ExitReason {
        self.shared.end.wait()
    }
}

impl fmt::Debug for Qemu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Qemu").field("process", &self.shared.process).finish_non_exhaustive()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
        if let Some(waiter) = self.waiter.take()
            && waiter.join().is_err()
        {
            tracing::error!("the thread that waits for QEMU panicked");
        }
        self.served.servers.clear();
    }
}

/// What the thread needs that starts QEMU and waits for it.
struct Waiter {
    program: PathBuf,
    /// Whether the process has a network of which it and QEMU are to have nothing.
    offline: bool,
    logs: Logs,
    unfiltered: Unfiltered,
}

impl Waiter {
    fn run(self, mut command: Command, started: &SyncSender<Result<Arc<Shared>, StartError>>) {
        if self.offline
            && let Err(error) = cage::forbid_network()
        {
            let failed = |source| StartError::Host { doing: "take the network from QEMU", source };
            let _ = started.send(Err(failed(io::Error::other(error))));
            return;
        }
        let (console, engine) = (self.logs.console.tail(), self.logs.engine.tail());
        let (mut child, shared, drained) = match launch(&mut command, self.logs, &self.program) {
            Ok((child, shared, drained)) => (child, shared, drained),
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        seccomp::install(Role::Qemu);
        drop(self.unfiltered);
        let _ = started.send(Ok(Arc::clone(&shared)));
        let status = child.wait();
        let _ = drained.recv_timeout(LAST_WORDS);
        let reason = match status {
            _ if shared.killed.load(Ordering::SeqCst) => ExitReason::Killed,
            Ok(status) => explain(status, &console, &engine),
            Err(error) => ExitReason::EngineFailed { status: error.to_string() },
        };
        shared.end.set(reason);
    }
}

/// Starts the program, and the threads that drain it; the receiver hangs up when they are done.
fn launch(
    command: &mut Command,
    logs: Logs,
    program: &Path,
) -> Result<(Child, Arc<Shared>, std::sync::mpsc::Receiver<()>), StartError> {
    let failed = |source| StartError::Spawn { program: program.to_path_buf(), source };
    let mut child = command.spawn().map_err(failed)?;
    let prepared = watch(&mut child, logs);
    match prepared {
        Ok((shared, drained)) => Ok((child, shared, drained)),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(failed(error))
        }
    }
}

fn watch(child: &mut Child, logs: Logs) -> io::Result<(Arc<Shared>, std::sync::mpsc::Receiver<()>)> {
    // Not reaped yet, so that the number means our child.
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let shared = Shared { process, killed: AtomicBool::new(false), end: End::default() };
    let (done, drained): (Sender<()>, _) = channel();
    if let Some(output) = child.stdout.take() {
        logs.console.drain("console", Held { source: output, _done: done.clone() })?;
    }
    if let Some(output) = child.stderr.take() {
        logs.engine.drain("engine-log", Held { source: output, _done: done })?;
    }
    Ok((Arc::new(shared), drained))
}

/// A pipe whose reader holds one end of a channel, and lets go of it with the pipe.
struct Held<R> {
    source: R,
    _done: Sender<()>,
}

impl<R: io::Read> io::Read for Held<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.read(buffer)
    }
}

/// Why QEMU ended by itself.
fn explain(status: ExitStatus, console: &Tail, engine: &Tail) -> ExitReason {
    if let Some(message) = console.panic() {
        return ExitReason::Panicked { message };
    }
    if status.success() {
        return ExitReason::PoweredOff;
    }
    let status = match status.signal() {
        Some(libc::SIGSYS) => "killed by signal 31, SIGSYS: a system call that its filters forbid".to_owned(),
        Some(signal) => format!("killed by signal {signal}"),
        None => status.code().map_or_else(|| status.to_string(), |code| format!("exit status {code}")),
    };
    // Without a word on the console, the guest has never run.
    match (console.lines().is_empty(), engine.lines().is_empty()) {
        (true, false) => ExitReason::EngineFailed { status },
        _ => ExitReason::Crashed { status },
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::NetworkCard;
    use crate::console::Log;
    use crate::seccomp::Violation;
    use crate::testing::bare_metal::{self, Steps};

    /// How a QEMU ends that connects to `listener` and then finds no such device as it is told to have. The thread that asks for it
    /// is one of a process with a network, as the one of a sandbox whose guest has one; the machine of QEMU has `network`.
    fn connect(listener: &TcpListener, network: Option<NetworkCard>) -> ExitReason {
        let directory = tempfile::tempdir().unwrap();
        let mut config = bare_metal::machine(directory.path(), &Steps::new(), 4096);
        config.network = network;
        let port = listener.local_addr().unwrap().port();
        let arguments = format!(
            "-machine none -nodefaults -display none -chardev socket,id=out,host=127.0.0.1,port={port} -device none"
        );
        let arguments = arguments.split(' ').map(OsString::from).collect();
        let program = super::super::inspect(None).unwrap().program;
        let log = |name| Log::create(&config.directory.join(name)).unwrap();
        let logs = Logs { console: log("console.log"), engine: log("engine.log") };
        let served = Served { servers: Vec::new(), gate: Gate::default() };
        let qemu = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                seccomp::forbid(Violation::Kill, true).unwrap();
                Qemu::start(&program, arguments, &config, served, logs).unwrap()
            });
            thread.join().unwrap()
        });
        qemu.wait()
    }

    #[test]
    fn qemu_has_no_network_in_a_process_that_has_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let with_network = connect(&listener, Some(NetworkCard { mac: [2, 0, 0, 0, 0, 1], mtu: 1500 }));
        assert!(with_network.to_string().contains("SIGSYS"), "{with_network}");
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // What the same QEMU does where nothing keeps it from it.
        let free = connect(&listener, None);
        assert!(free.to_string().contains("exit status 1"), "{free}");
        listener.accept().unwrap();
    }
}
