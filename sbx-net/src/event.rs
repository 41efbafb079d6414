//! What the gateway decided, for logs and people.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::name::Name;
use crate::policy::{Decision, Protocol};

/// Something that was decided. Serialises as the fields of a line of the policy log.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// What the guest wanted.
    #[serde(flatten)]
    pub subject: Subject,
    /// What was decided, by which rule and why.
    #[serde(flatten)]
    pub decision: Decision,
}

/// What the guest wanted.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Subject {
    /// A name resolved.
    Resolve {
        /// The name.
        name: Name,
    },
    /// An address out of the answer for a name.
    Answer {
        /// The name.
        name: Name,
        /// The address that was left out.
        address: IpAddr,
    },
    /// A connection, or datagrams.
    Connect {
        /// What carries it.
        protocol: Protocol,
        /// Where to.
        address: SocketAddr,
        /// The name that was resolved to the address, or that the guest named.
        name: Option<Name>,
    },
    /// A ping to somebody else than the gateway.
    Echo {
        /// To whom.
        address: IpAddr,
    },
}
