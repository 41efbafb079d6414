//! One line of `policy.log`.

use chrono::{DateTime, Local};
use sbx_net::policy::Origin;
use serde::Deserialize;

use crate::ui::printable;

/// Columns of what was to be reached: enough for most names with a port, so that the lines below each other are aligned.
const SUBJECT_COLUMNS: usize = 36;

/// Columns of why it was decided so.
const REASON_COLUMNS: usize = 44;

/// Something that the network decided, as the sandbox process wrote it. The guest chose the names in it.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    time: String,
    kind: String,
    verdict: String,
    protocol: Option<String>,
    address: Option<String>,
    name: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    rule: Option<Origin>,
    advice: Option<String>,
    repeated: Option<u64>,
}

impl Entry {
    /// Reads a line; none if it is not whole, as the last before a `kill -9` may be.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Whether it was refused.
    pub(super) fn is_refused(&self) -> bool {
        self.verdict == "refuse"
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let verdict = match self.verdict.as_str() {
            "allow" => "allowed".to_owned(),
            "refuse" => "refused".to_owned(),
            other => printable(other),
        };
        let (subject, reason) = (printable(&self.subject()), printable(&self.why()));
        let mut line =
            format!("{}  {verdict}  {subject:SUBJECT_COLUMNS$}  {reason:REASON_COLUMNS$}", self.local_time());
        if let Some(advice) = self.advice.as_deref().filter(|_| self.is_refused()) {
            line.push_str("  ");
            line.push_str(&printable(advice));
        }
        line.truncate(line.trim_end().len());
        line
    }

    /// The time of day where the user is.
    fn local_time(&self) -> String {
        DateTime::parse_from_rfc3339(&self.time).map_or_else(
            |_| "--:--:--".to_owned(),
            |time| time.with_timezone(&Local).format("%H:%M:%S").to_string(),
        )
    }

    /// What was to be reached.
    fn subject(&self) -> String {
        let name = self.name.as_deref();
        let address = self.address.as_deref().unwrap_or("?");
        match self.kind.as_str() {
            "connect" => {
                let port = address.rsplit_once(':').map(|(_, port)| port);
                let udp = if self.protocol.as_deref() == Some("udp") { "/udp" } else { "" };
                match (name, port) {
                    (Some(name), Some(port)) => format!("{name}:{port}{udp}"),
                    _ => format!("{address}{udp}"),
                }
            }
            "answer" => format!("{} at {address}", name.unwrap_or("?")),
            "echo" => format!("ping {address}"),
            _ => name.unwrap_or(address).to_owned(),
        }
    }

    /// The rule that decided and its place, or else the reason.
    fn why(&self) -> String {
        let why = match &self.rule {
            Some(rule) => format!("{}  {}", rule.text, rule.place),
            None => self.message.clone().or_else(|| self.reason.clone()).unwrap_or_default(),
        };
        match self.repeated {
            Some(times) if times > 1 => format!("{why} ({times} times)"),
            _ => why,
        }
    }
}

/// A line of JSON as it was written, with every control character escaped: a terminal must not obey what a guest says.
pub(super) fn json_line(line: &[u8]) -> String {
    let mut shown = String::with_capacity(line.len());
    for character in String::from_utf8_lossy(line).trim().chars() {
        match character {
            // In a string they are escaped already; between values they mean as much as a space.
            '\t' | '\r' => shown.push(' '),
            character if character.is_control() => {
                shown.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            character => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_not_whole_are_none() {
        for line in [
            "",
            "{",
            "{\"time\":\"2026-11-25T00:12:03.123Z\",\"kind\":\"conn",
            "null",
            "[]",
            "{\"kind\":\"x\"}",
        ] {
            assert!(Entry::read(line.as_bytes()).is_none(), "{line}");
        }
        let least = Entry::read(br#"{"time":"?","kind":"?","verdict":"?","more":1}"#).unwrap();
        assert_eq!(least.line(), "--:--:--  ?  ?");
    }

    #[test]
    fn what_was_to_be_reached_is_told_by_its_kind() {
        let subject = |fields: &str| {
            let line = format!(r#"{{"time":"","verdict":"allow",{fields}}}"#);
            Entry::read(line.as_bytes()).unwrap().subject()
        };
        for (fields, shown) in [
            (r#""kind":"connect","protocol":"tcp","address":"1.2.3.4:443","name":"a.com""#, "a.com:443"),
            (r#""kind":"connect","protocol":"udp","address":"1.2.3.4:53","name":"a.com""#, "a.com:53/udp"),
            (r#""kind":"connect","protocol":"tcp","address":"[fd00::1]:80","name":null"#, "[fd00::1]:80"),
            (r#""kind":"connect","protocol":"tcp","address":"[fd00::1]:80","name":"b.com""#, "b.com:80"),
            (r#""kind":"resolve","name":"a.com""#, "a.com"),
            (r#""kind":"answer","name":"a.com","address":"10.0.0.1""#, "a.com at 10.0.0.1"),
            (r#""kind":"echo","address":"8.8.8.8""#, "ping 8.8.8.8"),
        ] {
            assert_eq!(subject(fields), shown);
        }
    }

    #[test]
    fn no_control_character_gets_through() {
        let hostile = "{\"time\":\"\\u001b[2J\",\"kind\":\"resolve\",\"verdict\":\"\\u001b[31m\",\"name\":\"a\\u001b[2Jb\u{9b}31m\\n\",\"advice\":\"\\u0007\"}";
        let line = Entry::read(hostile.as_bytes()).unwrap().line();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        let json = json_line(hostile.as_bytes());
        assert!(!json.chars().any(char::is_control), "{json:?}");
        let same = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(same(&json), same(hostile));
        assert_eq!(json_line(b"{\t\"a\":\r1}\r\n"), "{ \"a\": 1}");
    }
}
