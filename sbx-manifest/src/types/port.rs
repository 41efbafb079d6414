//! Ports, ranges of them, and transport protocols.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use super::Refusal;

/// One or more TCP or UDP ports in a row. Serialises as it is written.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// Why a text is not a port or a range of them.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {}", .0.message, .0.label)]
pub struct NotAPort(Refusal);

impl FromStr for PortRange {
    type Err = NotAPort;

    fn from_str(text: &str) -> Result<Self, NotAPort> {
        Self::from_text(text).map_err(NotAPort)
    }
}

impl PortRange {
    /// Whether every port of `other` is one of these.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// A port alone from the manifest's number.
    pub(crate) fn from_number(number: i128) -> Result<Self, Refusal> {
        port(number).map(|port| Self { first: port, last: port })
    }

    /// A range as text: `8000-8100`.
    pub(crate) fn from_text(text: &str) -> Result<Self, Refusal> {
        let refusal = || {
            Refusal::new(format!("`{text}` is not a port"), "a number from 1 to 65535, or a range")
                .advice("for example port=443 or port=\"8000-8100\"")
        };
        let number = |text: &str| text.trim().parse::<i128>().map_err(|_| refusal());
        let Some((first, last)) = text.split_once('-') else {
            return port(number(text)?).map(|port| Self { first: port, last: port });
        };
        let (first, last) = (port(number(first)?)?, port(number(last)?)?);
        if first > last {
            return Err(Refusal::new(
                format!("the range `{text}` is empty"),
                "the first port is the higher one",
            )
            .instead(format!("{last}-{first}")));
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(formatter, "{}", self.first)
        } else {
            write!(formatter, "{}-{}", self.first, self.last)
        }
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As the manifest writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port number, which is never 0.
pub(super) fn port(number: i128) -> Result<u16, Refusal> {
    match u16::try_from(number) {
        Ok(0) | Err(_) => {
            Err(Refusal::new(format!("there is no port {number}"), "ports are from 1 to 65535"))
        }
        Ok(port) => Ok(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges() {
        assert_eq!(PortRange::from_number(443), Ok(PortRange { first: 443, last: 443 }));
        assert_eq!(PortRange::from_text("8000-8100"), Ok(PortRange { first: 8000, last: 8100 }));
        assert_eq!(PortRange::from_text("80").map(|range| range.to_string()), Ok("80".to_owned()));
        for number in [0, -1, 65536, i128::MAX] {
            assert!(PortRange::from_number(number).is_err(), "{number}");
        }
        for text in ["", "-", "80-", "-80", "http", "80-81-82", "0-5", "1-65536", "5 432x"] {
            assert!(PortRange::from_text(text).is_err(), "{text}");
        }
        assert_eq!(PortRange::from_text("90-80").unwrap_err().instead.as_deref(), Some("80-90"));
    }
}
