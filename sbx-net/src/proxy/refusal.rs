//! Why nothing came of a connection through a proxy.

use std::fmt;

use serde::Serialize;

use crate::action::ConnectFailure;

/// What the proxy said, or did not say.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// This status of HTTP.
    Status(u16),
    /// This reply of SOCKS (RFC 1928, 6).
    Reply(u8),
    /// It does not take who we say that we are, or wants to know it.
    Credentials,
    /// Something that is no answer.
    Nonsense,
    /// Nothing in time.
    TimedOut,
    /// It is not there.
    Unreachable,
}

impl Refusal {
    /// How it looks to the guest.
    #[must_use]
    pub const fn failure(self) -> ConnectFailure {
        match self {
            // Bad gateway, unavailable, gateway time-out; network or host unreachable, time to live expired.
            Self::Status(502..=504) | Self::Reply(3 | 4 | 6) | Self::TimedOut | Self::Unreachable => {
                ConnectFailure::Unreachable
            }
            _ => ConnectFailure::Refused,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(formatter, "the host's proxy refused it with status {status}"),
            Self::Reply(reply) => {
                let words = match reply {
                    2 => "its rules do not allow it",
                    3 => "it has no way to the network",
                    4 => "it has no way to the host",
                    5 => "the host refused",
                    6 => "the host is too far away",
                    7 | 8 => "it does not know how",
                    _ => "it failed",
                };
                write!(formatter, "the host's proxy refused it: {words} (SOCKS reply {reply})")
            }
            Self::Credentials => formatter.write_str("the host's proxy wants another user name or password"),
            Self::Nonsense => formatter.write_str("the host's proxy answered what is no answer"),
            Self::TimedOut => formatter.write_str("the host's proxy did not answer in time"),
            Self::Unreachable => formatter.write_str("the host's proxy cannot be reached"),
        }
    }
}
