//! Messages between the host and the guest agent.
//!
//! Two kinds of vsock connection carry them, both with the frames of [`frame`]:
//!
//! ```text
//! control   guest dials host:CONTROL_PORT, once, first thing after boot
//!           guest  Hello{version}                → host
//!           host   Boot(BootConfig)              → guest    mounts, user, clock
//!           guest  Ready | Failed{stage,message} → host
//!           host   SetClock | PowerOff           → guest    any time after
//!
//! exec      host dials guest:AGENT_PORT, one connection per command
//!           host   Exec(ExecRequest)             → guest
//!           guest  Started | Refused             → host
//!           host   Stdin, StdinEnd, Resize, Signal   guest  Stdout, Stderr, StdinWindow
//!           guest  Exited                        → host     always the last frame
//! ```
//!
//! Back-pressure: output rests on vsock's own credit. Input cannot, because a command that does not read would
//! then hold back `Signal` and `Resize` behind it in the same stream; so the host sends at most as many bytes of
//! stdin as the guest has granted with `StdinWindow` ([`STDIN_WINDOW_BYTES`] to begin with).

#![forbid(unsafe_code)]

pub mod decoder;
pub mod frame;
pub mod message;

pub use decoder::FrameDecoder;
pub use frame::{FrameError, MAX_FRAME_BYTES, encode_frame, read_frame, write_frame};
pub use message::{
    AgentReply, AgentRequest, BootConfig, ControlReply, ControlRequest, ExecRequest, Exit, Home, Mount,
    Network, PlacedFile, RefusedKind, Registry, User, WindowSize,
};

/// Version of everything in this crate; the first frame of a control connection carries it.
pub const VERSION: u16 = 5;

/// vsock port on the host that the guest dials for its control connection.
pub const CONTROL_PORT: u32 = 1024;

/// vsock port in the guest on which the agent takes exec connections.
pub const AGENT_PORT: u32 = 1025;

/// Context id of the guest; 0 to 2 are reserved (virtio 1.2, 5.10.4).
pub const GUEST_CID: u32 = 3;

/// Bytes of stdin that the host may send before the first `StdinWindow`.
pub const STDIN_WINDOW_BYTES: u32 = 256 * 1024;

/// Largest payload of one `Stdin`, `Stdout` or `Stderr` frame, in bytes.
pub const MAX_CHUNK_BYTES: usize = 64 * 1024;

/// Where setup commands find the workspace, and where what they made in it is in the image: the same for everybody, so
/// that the same commands make the same files.
pub const SETUP_WORKSPACE: &str = "/workspace";
