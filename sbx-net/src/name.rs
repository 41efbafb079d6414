//! Host names, as policies compare them.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name in bytes, without the final dot (RFC 1035, 2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// Longest label in bytes (RFC 1035, 2.3.4).
const MAX_LABEL_BYTES: usize = 63;

/// A host name: lower case, without the final dot, of letters, digits, hyphens and underscores.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(String);

/// What was given is not a host name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a host name")]
pub struct NameError;

impl Name {
    /// Reads a name in any case, with or without the final dot.
    ///
    /// # Errors
    /// If it is empty or too long, or has a label or a character that names of hosts do not have. Underscores are taken,
    /// since services are found under such names (RFC 2782).
    pub fn new(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() || text.len() > MAX_NAME_BYTES {
            return Err(NameError);
        }
        let is_label = |label: &str| {
            !label.is_empty()
                && label.len() <= MAX_LABEL_BYTES
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        if text.split('.').all(is_label) { Ok(Self(text.to_ascii_lowercase())) } else { Err(NameError) }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is left of it without its first label, its first two, and so on.
    pub fn suffixes(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.as_str()), |name| name.split_once('.').map(|(_, rest)| rest)).skip(1)
    }

    /// The host of which this name finds a service, as `_http._tcp.host` does (RFC 2782).
    #[must_use]
    pub fn host_of_service(&self) -> Option<Self> {
        let (service, rest) = self.0.split_once('.')?;
        let (protocol, host) = rest.split_once('.')?;
        (service.starts_with('_') && protocol.starts_with('_')).then(|| Self(host.to_owned()))
    }

    /// The labels before `.suffix`, if there are any.
    #[must_use]
    pub fn below<'n>(&'n self, suffix: &Self) -> Option<&'n str> {
        let labels = self.0.strip_suffix(suffix.as_str())?.strip_suffix('.')?;
        (!labels.is_empty()).then_some(labels)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_in_any_case_and_with_a_final_dot() {
        assert_eq!(Name::new("API.GitHub.com.").unwrap().as_str(), "api.github.com");
        for wrong in
            ["", ".", "a..b", "a b", "ü.de", "-".repeat(64).as_str(), &"a.".repeat(128), "a/b", "a:1"]
        {
            assert_eq!(Name::new(wrong), Err(NameError), "{wrong}");
        }
        assert!(Name::new("_sip._tcp.example.com").is_ok());
    }

    #[test]
    fn suffixes_are_shorter_by_a_label_each() {
        let name = Name::new("a.b.example.com").unwrap();
        assert_eq!(name.suffixes().collect::<Vec<_>>(), ["b.example.com", "example.com", "com"]);
    }

    #[test]
    fn a_service_is_two_labels_before_a_host() {
        let host = |name: &str| Name::new(name).unwrap().host_of_service().map(|host| host.to_string());
        assert_eq!(host("_http._tcp.a.com").as_deref(), Some("a.com"));
        for none in ["a.com", "_http.tcp.a.com", "http._tcp.a.com", "_dmarc.a.com", "_http._tcp"] {
            assert_eq!(host(none), None, "{none}");
        }
    }

    #[test]
    fn below_wants_whole_labels() {
        let suffix = Name::new("example.com").unwrap();
        assert_eq!(Name::new("a.b.example.com").unwrap().below(&suffix), Some("a.b"));
        assert_eq!(Name::new("badexample.com").unwrap().below(&suffix), None);
        assert_eq!(suffix.below(&suffix), None);
    }
}
