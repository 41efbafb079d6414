//! File names in a patch: as git quotes them, so that any bytes are a name and none drives a terminal.

use std::{os::unix::ffi::OsStrExt, path::Path};

/// `path` as it is, or in quotes with octal escapes if it has anything but printable ASCII in it.
pub(crate) fn quoted(path: &Path) -> String {
    with_prefix("", path)
}

/// The same with `prefix` (`a/`, `b/`) in front of it, inside of the quotes.
pub(super) fn with_prefix(prefix: &str, path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if bytes.iter().all(plain) {
        return format!("{prefix}{}", String::from_utf8_lossy(bytes));
    }
    let mut text = format!("\"{prefix}");
    for byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\{byte:03o}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn odd_names_are_quoted_as_by_git() {
        let name = |bytes: &[u8]| with_prefix("a/", Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(name(b"src/main.rs"), "a/src/main.rs");
        assert_eq!(name(b"with space"), "a/with space");
        assert_eq!(name(b"new\nline\t\"\\"), r#""a/new\nline\t\"\\""#);
        assert_eq!(name("caf\u{e9}\u{1b}[2J".as_bytes()), r#""a/caf\303\251\033[2J""#);
    }
}
