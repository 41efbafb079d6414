//! What commands say to a sandbox process over its control socket.
//!
//! Each connection begins with one [`Call`] frame. What follows depends on it:
//!
//! ```text
//! Lease    process answers Stopping, or Granted once the guest is ready; the lease lasts as long as the connection
//! Exec     the connection becomes one with the guest's agent (sbx-proto): the process hands it to the vsock device
//! Stop     process answers Stopping; the caller then waits for `alive.lock`
//! Linger   process answers Granted: the sandbox stays up without leases (`sbx up -d`)
//! Network  process answers with a NetworkAnswer
//! Sync     process answers Granted when it has dealt with everything that happened before
//! ```
//!
//! Over a lease, that of the launching command included, come [`Notice`]s once the guest is ready.

use std::{
    io,
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    thread::{self, JoinHandle},
    time::Duration,
};

use sbx_net::{
    driver::PublishedPort,
    policy::{Action, Rule},
};
use sbx_proto::{FrameError, read_frame, write_frame};
use serde::{Deserialize, Serialize};

use super::socket;
use crate::{
    error::{CommandError, Result},
    network::plan::RegistryGrant,
};

/// How long a process may take to say that it has told everything: it does so at once, unless it is on its way down.
const SYNC_PATIENCE: Duration = Duration::from_secs(1);

/// The first frame of a connection.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) enum Call {
    /// Keep the sandbox up while this connection is open.
    Lease,
    /// Connect me to the agent.
    Exec,
    /// Power off.
    Stop {
        /// Milliseconds that the guest's processes get between SIGTERM and SIGKILL.
        grace_milliseconds: u32,
    },
    /// Stay up when the last lease is gone.
    Linger,
    /// Something about the network.
    Network(NetworkCall),
    /// Answer when all is done that happened before.
    Sync,
}

/// What a sandbox's network can be asked to do while it runs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) enum NetworkCall {
    /// Put these rules into force; connections that they do not allow end.
    SetRules {
        /// What happens without a rule.
        default: Action,
        /// The rules.
        rules: Vec<Rule>,
        /// Where the registries that the image named when it booted are allowed.
        registries: Vec<RegistryGrant>,
    },
    /// Publish a port of the guest on the host's loopback addresses.
    Publish {
        /// The guest's port.
        guest: u16,
        /// The host's; 0 chooses one.
        host: u16,
    },
    /// Publish a port of the host no more.
    Unpublish {
        /// The host's port.
        host: u16,
    },
    /// Which ports are published?
    Ports,
}

/// The answer to a [`NetworkCall`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) enum NetworkAnswer {
    /// Done.
    Done,
    /// The ports that are published now, or the one that was asked for.
    Ports(Vec<PublishedPort>),
    /// The sandbox runs without a network: it had no rules when it started.
    NoNetwork,
    /// Not published.
    Unpublished,
    /// Somebody else has the port of the host.
    Taken {
        /// That port.
        host: u16,
    },
    /// It did not work.
    Failed {
        /// The message and its causes, outermost first.
        chain: Vec<String>,
        /// What the user can do.
        hints: Vec<String>,
    },
}

/// What the sandbox process tells the holder of a lease while it lasts.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Notice {
    /// One line.
    pub(crate) line: String,
}

/// The answer to all calls but `Exec`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Done.
    Granted,
    /// The sandbox is on its way down.
    Stopping,
}

/// What the sandbox process tells the command that started it, over the socket that is its standard input.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) enum Launch {
    /// Something that the user should know.
    Warning {
        /// One line.
        message: String,
    },
    /// The agent answers; from now on the socket is a lease.
    Ready,
    /// It did not come up; the process ends.
    Failed {
        /// The message and its causes, outermost first.
        chain: Vec<String>,
        /// What the user can do.
        hints: Vec<String>,
        /// Titled last lines of the engine and of the guest's console.
        details: Vec<(String, Vec<String>)>,
    },
}

/// A sandbox that stays up as long as this lives.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: UnixStream,
    listener: Option<JoinHandle<()>>,
}

impl Lease {
    /// The socket over which a process was started is its first lease.
    pub(crate) fn from_launch(connection: UnixStream) -> Self {
        Self { connection, listener: None }
    }

    /// Passes on what the sandbox process has to tell, from now on and on a thread of its own.
    pub(crate) fn listen(&mut self, tell: impl Fn(&str) + Send + 'static) {
        let Ok(mut connection) = self.connection.try_clone() else { return };
        self.listener = Some(thread::spawn(move || {
            while let Ok(Notice { line }) = read_frame(&mut connection) {
                tell(&line);
            }
        }));
    }

    /// Passes on what the process in `directory` has had to tell until now, and nothing after that: what was refused to a
    /// command that has just ended is what its user wants to know.
    pub(crate) fn hear_out(&mut self, directory: &Path) {
        let Some(listener) = self.listener.take() else { return };
        // Its answer comes after everything that it has told before; a process that has no time to answer is not waited for.
        if let Ok(mut connection) = call(directory, &Call::Sync)
            && connection.set_read_timeout(Some(SYNC_PATIENCE)).is_ok()
        {
            let _ = read_frame::<Answer>(&mut connection);
        }
        // What has arrived can still be read.
        if self.connection.shutdown(Shutdown::Read).is_ok() {
            let _ = listener.join();
        }
    }

    /// Asks the process in `directory`; none if there is no process, or if it is on its way down.
    pub(crate) fn take(directory: &Path) -> Option<Self> {
        let mut connection = socket::connect(directory).ok()?;
        write_frame(&mut connection, &Call::Lease).ok()?;
        match read_frame(&mut connection).ok()? {
            Answer::Granted => Some(Self { connection, listener: None }),
            Answer::Stopping => None,
        }
    }
}

/// Connects to the agent of the guest.
pub(crate) fn open_agent(directory: &Path) -> Result<UnixStream> {
    call(directory, &Call::Exec).map_err(|error| unreachable_process(&error))
}

/// Keeps the sandbox up without leases.
pub(crate) fn linger(directory: &Path) -> Result<Answer> {
    ask(directory, &Call::Linger).map_err(|error| unreachable_process(&error))
}

/// Starts the power-off; false if there is nobody to ask.
pub(crate) fn stop(directory: &Path, grace_milliseconds: u32) -> bool {
    ask(directory, &Call::Stop { grace_milliseconds }).is_ok()
}

/// Asks the network of the sandbox in `directory` for something; none if the sandbox does not run.
pub(crate) fn network(directory: &Path, question: NetworkCall) -> Option<NetworkAnswer> {
    let mut connection = call(directory, &Call::Network(question)).ok()?;
    read_frame(&mut connection).ok()
}

fn call(directory: &Path, call: &Call) -> io::Result<UnixStream> {
    let mut connection = socket::connect(directory)?;
    write_frame(&mut connection, call).map_err(into_io)?;
    Ok(connection)
}

fn ask(directory: &Path, question: &Call) -> io::Result<Answer> {
    let mut connection = call(directory, question)?;
    read_frame(&mut connection).map_err(into_io)
}

fn into_io(error: FrameError) -> io::Error {
    match error {
        FrameError::Io { source } => source,
        other => io::Error::other(other),
    }
}

fn unreachable_process(error: &io::Error) -> CommandError {
    CommandError::failed("cannot reach the sandbox process")
        .with_source(io::Error::new(error.kind(), error.to_string()))
        .with_hint("`sbx ls` tells whether it runs, `sbx logs` what it last said")
}
