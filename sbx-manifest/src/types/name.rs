//! Names of sandboxes, environment variables and HTTP headers.

use super::Refusal;

/// Longest DNS label in bytes (RFC 1035, 2.3.4); a sandbox's name is the host name inside.
const MAX_LABEL_BYTES: usize = 63;

/// Checks the name of a sandbox or profile: a DNS label in lower case.
pub(crate) fn sandbox_name(text: &str) -> Result<(), Refusal> {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let problem = if text.is_empty() {
        "is empty"
    } else if text.len() > MAX_LABEL_BYTES {
        "longer than 63 characters"
    } else if !text.bytes().all(known) {
        "only a-z, 0-9 and `-` are possible"
    } else if text.starts_with('-') || text.ends_with('-') {
        "must begin and end with a letter or a digit"
    } else {
        return Ok(());
    };
    let refusal = Refusal::new(format!("`{}` cannot be a name", shorten(text)), problem);
    let fitting: String = text
        .chars()
        .map(|character| character.to_ascii_lowercase())
        .map(|character| if character.is_ascii_alphanumeric() { character } else { '-' })
        .take(MAX_LABEL_BYTES)
        .collect();
    let fitting = fitting.trim_matches('-');
    Err(if fitting.is_empty() { refusal } else { refusal.instead(fitting) })
}

/// Checks the name of an environment variable (POSIX, 8.1, and lower case, which programs use too).
pub(crate) fn environment_name(text: &str) -> Result<(), Refusal> {
    if is_environment_name(text) {
        return Ok(());
    }
    let refusal = Refusal::new(
        format!("`{}` cannot be an environment variable", shorten(text)),
        "only letters, digits and `_`, and no digit first",
    );
    let before_equals = text.split('=').next().unwrap_or_default();
    let fitting: String = before_equals
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character } else { '_' })
        .collect();
    Err(if is_environment_name(&fitting) { refusal.instead(fitting) } else { refusal })
}

fn is_environment_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Checks the name of an HTTP header (RFC 9110, 5.1: a token).
pub(crate) fn header_name(text: &str) -> Result<(), Refusal> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(token) {
        return Ok(());
    }
    let refusal = Refusal::new(format!("`{}` cannot be an HTTP header", shorten(text)), "the name alone");
    let name = text.split(':').next().unwrap_or_default().trim();
    Err(if name != text && header_name(name).is_ok() { refusal.instead(name) } else { refusal })
}

/// Enough of a text to recognise it, without characters that a terminal obeys.
pub(crate) fn shorten(text: &str) -> String {
    const MAX_CHARACTERS: usize = 64;
    let mut characters = text.chars();
    let mut short = String::new();
    for character in characters.by_ref().take(MAX_CHARACTERS) {
        if is_obeyed(character) {
            short.extend(character.escape_unicode());
        } else {
            short.push(character);
        }
    }
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

/// Whether a terminal does something else with `character` than show it.
pub(crate) fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandbox_names_are_dns_labels() {
        let longest = "a".repeat(63);
        for text in ["a", "payments", "web-2", "0", &longest] {
            assert_eq!(sandbox_name(text), Ok(()), "{text}");
        }
        for (text, instead) in [
            ("Payments", Some("payments")),
            ("my app", Some("my-app")),
            ("-a-", Some("a")),
            ("a.b", Some("a-b")),
            ("", None),
            ("--", None),
            ("../x", Some("x")),
            ("ä", None),
        ] {
            assert_eq!(sandbox_name(text).unwrap_err().instead.as_deref(), instead, "{text}");
        }
        assert!(sandbox_name(&"a".repeat(64)).is_err());
    }

    #[test]
    fn environment_names_are_words() {
        for text in ["A", "_", "RUST_LOG", "http_proxy", "A1"] {
            assert_eq!(environment_name(text), Ok(()), "{text}");
        }
        for (text, instead) in
            [("MY-VAR", Some("MY_VAR")), ("A=b", Some("A")), ("1A", None), ("", None), ("a b", Some("a_b"))]
        {
            assert_eq!(environment_name(text).unwrap_err().instead.as_deref(), instead, "{text}");
        }
    }

    #[test]
    fn header_names_are_tokens() {
        for text in ["x-api-key", "Authorization"] {
            assert_eq!(header_name(text), Ok(()), "{text}");
        }
        for (text, instead) in [("x-api-key: ", Some("x-api-key")), ("", None), ("a b", None)] {
            assert_eq!(header_name(text).unwrap_err().instead.as_deref(), instead, "{text}");
        }
    }
}
