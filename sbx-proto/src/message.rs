//! The messages themselves; [`crate`] tells who sends which, and when.
//!
//! Paths, arguments and environment are bytes: Linux does not promise UTF-8 in any of them.
//! The chunks of a stream go through `serde_bytes`: one copy instead of a call per byte, which a guest under software
//! emulation would feel.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Guest to host on the control connection.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum ControlReply {
    /// The first frame: which version of this crate the guest speaks.
    Hello {
        /// [`crate::VERSION`] of the guest.
        version: u16,
    },
    /// Everything is mounted and the agent listens on [`crate::AGENT_PORT`].
    Ready,
    /// The guest cannot go on and powers off after this frame.
    Failed {
        /// What it was doing, for example `mount /srv/app`.
        stage: String,
        /// Why that failed.
        message: String,
    },
    /// Something the user should hear of, but that does not stop the boot.
    Warning {
        /// One line.
        message: String,
    },
    /// What [`BootConfig::registries`] asked for; once, before `Ready`.
    Registries {
        /// Every host at most once for each file that names it.
        registries: Vec<Registry>,
    },
}

/// A host from which a package client of the image is set up to get packages.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Registry {
    /// The client, for example `apt`.
    pub client: String,
    /// What names the host: a file of the image, or a variable of the environment.
    pub source: String,
    /// Name or address.
    pub host: String,
    /// Port there.
    pub port: u16,
}

/// Host to guest on the control connection.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum ControlRequest {
    /// The answer to `Hello`.
    Boot(Box<BootConfig>),
    /// Step the clock: sent after boot, when the host was suspended, and now and then.
    SetClock {
        /// Nanoseconds since the Unix epoch.
        unix_nanoseconds: u64,
    },
    /// Stop every process (SIGTERM, then SIGKILL after the grace time), sync, unmount, power off.
    PowerOff {
        /// Milliseconds between SIGTERM and SIGKILL.
        grace_milliseconds: u32,
    },
}

/// All that the guest must know to become the machine that the manifest describes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct BootConfig {
    /// Host name; also goes into `/etc/hosts`.
    pub hostname: String,
    /// Nanoseconds since the Unix epoch, the host's clock when this was sent.
    pub unix_nanoseconds: u64,
    /// The user that commands run as.
    pub user: User,
    /// virtio-fs tag of the one device that serves all of `mounts`.
    pub shares_tag: String,
    /// Directories of the host.
    pub mounts: Vec<Mount>,
    /// Environment of every command, before `ExecRequest::environment`.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// Directory that commands start in when they name none.
    pub directory: Vec<u8>,
    /// The network, if the machine has a network card.
    pub network: Option<Network>,
    /// Whether the host wants to know which registries the image's package clients are set up for.
    pub registries: bool,
    /// Certificates that the host trusts beyond the usual ones, each in PEM.
    pub certificates: Vec<String>,
    /// Files that are there when the first command runs.
    pub files: Vec<PlacedFile>,
    /// Where the user's home is.
    pub home: Home,
    /// Whether what was written to the root file system is forgotten at this boot; a home of its own stays.
    pub fresh_root: bool,
    /// Directories that setup commands made in the workspace, relative to it: they are in the image, below
    /// [`crate::SETUP_WORKSPACE`], and go over those of the same name in the workspace.
    pub setup_directories: Vec<Vec<u8>>,
}

/// A file that the guest places.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct PlacedFile {
    /// Relative to the user's home: the user's own, placed only where there is nothing. Absolute: the system's, in the place of
    /// what is there.
    pub path: Vec<u8>,
    /// What is in it.
    #[serde(with = "serde_bytes")]
    pub content: Vec<u8>,
}

/// Where the home of [`BootConfig::user`] is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Home {
    /// An overlay of its own over the image's, which stays when the rest of what was written is thrown away.
    OfItsOwn,
    /// In the root file system, so that it is captured with it.
    InRoot,
}

/// How the guest sets its network card up: everything is said, nothing is asked for (DHCP, router solicitations).
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Ethernet address of the card, by which the guest finds it.
    pub mac: [u8; 6],
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Addresses of the guest, each with the length of its prefix.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The way to everywhere else, one for each family.
    pub gateways: Vec<IpAddr>,
    /// Who resolves names.
    pub name_servers: Vec<IpAddr>,
    /// Domains in which short names are looked for.
    pub search: Vec<String>,
    /// Names that need no resolver, for `/etc/hosts`.
    pub hosts: Vec<(IpAddr, String)>,
}

/// A user of the guest, made if the image does not have it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Name, `agent` by default.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Home directory, made and owned by the user.
    pub home: Vec<u8>,
}

/// One directory of the host in the guest.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// Name of the directory at the root of the virtio-fs device.
    pub share: String,
    /// Absolute path in the guest, made if it is not there.
    pub at: Vec<u8>,
    /// Mounted read-only too; the server enforces it in any case.
    pub read_only: bool,
    /// Paths relative to `at` that the server refuses to change; bind-mounted read-only so that tools see it.
    pub protected: Vec<Vec<u8>>,
}

/// Host to guest on an exec connection.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum AgentRequest {
    /// The first frame.
    Exec(Box<ExecRequest>),
    /// The first frame, instead of `Exec`: send everything that differs from the image as a tar with OCI whiteouts, by
    /// `Stdout` frames, then `Exited`. Every process of commands is ended before.
    Capture,
    /// Bytes for the command's standard input.
    Stdin(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Standard input is at its end.
    StdinEnd,
    /// The user's terminal has a new size.
    Resize(WindowSize),
    /// Send this signal to the command (to the foreground process group, with a terminal).
    Signal(i32),
}

/// A command to run.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments. Empty: the user's login shell.
    pub arguments: Vec<Vec<u8>>,
    /// Added to, and winning over, `BootConfig::environment`.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// Directory to start in; `BootConfig::directory` if none.
    pub directory: Option<Vec<u8>>,
    /// `NAME`, `UID`, or either with `:GROUP`; `BootConfig::user` if none.
    pub user: Option<String>,
    /// Give the command a terminal of this size.
    pub terminal: Option<WindowSize>,
    /// Whether `Stdin` frames will follow; if not, standard input is `/dev/null`.
    pub stdin: bool,
}

/// Size of a terminal, in characters.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// Guest to host on an exec connection.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum AgentReply {
    /// The command runs.
    Started {
        /// Its process id in the guest.
        pid: u32,
    },
    /// The command could not be started; the last frame.
    Refused {
        /// Decides between exit codes 125, 126 and 127.
        kind: RefusedKind,
        /// One line for the user.
        message: String,
    },
    /// Bytes of standard output (and of the terminal, if there is one).
    Stdout(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Bytes of standard error.
    Stderr(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The host may send this many more bytes of stdin.
    StdinWindow {
        /// In bytes, added to what is left of earlier windows.
        bytes: u32,
    },
    /// The command closed its standard input; more `Stdin` is thrown away.
    StdinClosed,
    /// The command ended and all its output was sent; the last frame.
    Exited(Exit),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

/// Why a command could not be started.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum RefusedKind {
    /// No such program, exit code 127.
    NotFound,
    /// There, but not executable, exit code 126.
    NotExecutable,
    /// Anything else (no such user or directory, a malformed request), exit code 125.
    Failed,
}
