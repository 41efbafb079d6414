//! What a test and its helper say to each other, a line each.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// What a server does.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Service {
    /// Answers each HTTP request with `METHOD HOST PATH`.
    Http,
    /// Serves the files of a directory over HTTP; of a directory its `index.html` or `index.json`.
    Files(PathBuf),
    /// Sends back what comes, as it comes.
    Echo,
    /// Reads to the end and then tells how many bytes came and their SHA-256: `BYTES DIGEST`.
    Digest,
    /// Sends so many bytes of [`pattern`](super::services::pattern), and ends.
    Source(usize),
    /// Resets the connection at the first byte.
    Reset,
    /// Never answers a SYN: its queue is full.
    Silent,
    /// Sends datagrams back.
    Datagrams,
}

/// What a program beside the sandbox does with a connection.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Visit {
    /// Sends this, ends its direction, and reads to the end.
    Say(String),
    /// Sends so many bytes of the pattern, ends its direction, and reads to the end meanwhile: `BYTES DIGEST` of what came.
    Pour(usize),
}

/// What becomes of an answer that is a file.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Disturbance {
    /// So many of its bytes are sent, and then nothing.
    Stall(usize),
    /// So many of its bytes are sent, and the connection ends.
    Cut(usize),
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Request {
    Ready,
    Serve { address: SocketAddr, service: Service },
    Name { name: String, kind: String, records: Vec<String> },
    Questions,
    Disturb { path: String, disturbance: Disturbance },
    AwaitDisturbed,
    Mend,
    Served { path: String },
    Visits { address: SocketAddr },
    Visit { address: SocketAddr, visit: Visit },
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Reply {
    Done,
    Listening(SocketAddr),
    Questions(Vec<String>),
    Count(usize),
    Seen(String),
    Failed(String),
}
