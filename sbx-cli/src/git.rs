//! Who the user is to git, told to the git in the sandbox.
//!
//! Name and address are read from the user's own configuration, and nothing else is; the repository's is never looked at, since
//! it is in the sandbox anyway and could make git run programs here. In the sandbox they are the *system's* configuration, which
//! the repository's and the agent's own go before. That nothing is signed goes before all others: the keys are not there.

use std::{
    io::Read,
    process::{Command, Stdio},
};

use sbx_proto::PlacedFile;

/// Where the guest has them.
const PLACE: &str = "/run/sbx/gitconfig";

/// The image's own, which git would have read.
const IMAGES: &str = "/etc/gitconfig";

/// What every program in the sandbox is told besides (git-config(1), ENVIRONMENT).
pub(crate) const VARIABLES: [(&str, &str); 6] = [
    ("GIT_CONFIG_SYSTEM", PLACE),
    ("GIT_CONFIG_COUNT", "2"),
    ("GIT_CONFIG_KEY_0", "commit.gpgSign"),
    ("GIT_CONFIG_VALUE_0", "false"),
    ("GIT_CONFIG_KEY_1", "tag.gpgSign"),
    ("GIT_CONFIG_VALUE_1", "false"),
];

/// More than any name and address have, in bytes.
const MAX_BYTES: u64 = 16 << 10;

/// Name and address of the user.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Identity {
    name: Option<String>,
    email: Option<String>,
}

/// Who the user of this host is; none if there is no git, or if it does not know.
pub(crate) fn identity() -> Option<Identity> {
    // Not in the repository, and in none: from there git finds none, whatever the environment says of one.
    let mut git = Command::new("git")
        .args(["config", "--global", "--includes", "--null", "--get-regexp", r"^user\.(name|email)$"])
        .current_dir("/")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_CONFIG_PARAMETERS")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut output = Vec::new();
    let read = git.stdout.take().map(|stdout| stdout.take(MAX_BYTES).read_to_end(&mut output));
    let ended = git.wait().is_ok_and(|status| status.success());
    (ended && matches!(read, Some(Ok(_))))
        .then(|| parse(&output))
        .filter(|found| *found != Identity::default())
}

/// The system's configuration in the sandbox.
pub(crate) fn system_configuration(identity: Option<&Identity>) -> PlacedFile {
    let mut text = format!("[include]\n\tpath = {IMAGES}\n");
    if let Some(Identity { name, email }) = identity {
        text.push_str("[user]\n");
        for (key, value) in [("name", name), ("email", email)] {
            if let Some(value) = value {
                text.push_str(&format!("\t{key} = {}\n", quoted(value)));
            }
        }
    }
    PlacedFile { path: PLACE.as_bytes().to_vec(), content: text.into_bytes() }
}

/// `key\nvalue\0` for each setting; the last of a key counts.
fn parse(output: &[u8]) -> Identity {
    let mut identity = Identity::default();
    for setting in output.split(|byte| *byte == 0) {
        let Ok(setting) = std::str::from_utf8(setting) else { continue };
        match setting.split_once('\n') {
            Some(("user.name", value)) => identity.name = Some(value.to_owned()),
            Some(("user.email", value)) => identity.email = Some(value.to_owned()),
            _ => {}
        }
    }
    identity
}

/// A value as git-config(1) writes it, on one line.
fn quoted(value: &str) -> String {
    let mut quoted = String::from("\"");
    for character in value.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            character if character.is_control() => quoted.push(' '),
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_setting_counts() {
        let output =
            b"user.name\nA\0user.email\na@example.com\0user.name\nB = \"C\"\0user.signingkey\nx\0user.flag\0";
        let expected =
            Identity { name: Some("B = \"C\"".to_owned()), email: Some("a@example.com".to_owned()) };
        assert_eq!(parse(output), expected);
    }

    #[test]
    fn git_reads_back_what_is_written() {
        let name = "Ann \"the\" O'Neil \\ # ; \u{fc}";
        let identity = Identity { name: Some(name.to_owned()), email: Some("a@b.example".to_owned()) };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), system_configuration(Some(&identity)).content).unwrap();
        let git = Command::new("git")
            .args(["config", "--null", "--file"])
            .arg(file.path())
            .args(["--get-regexp", "^user"])
            .current_dir("/")
            .output()
            .unwrap();
        assert_eq!(parse(&git.stdout), identity);
    }

    #[test]
    fn a_value_stays_on_its_line() {
        let identity = Identity { name: Some("x\n[core]\nsshCommand = y".to_owned()), email: None };
        let text = String::from_utf8(system_configuration(Some(&identity)).content).unwrap();
        assert_eq!(
            text,
            "[include]\n\tpath = /etc/gitconfig\n[user]\n\tname = \"x [core] sshCommand = y\"\n"
        );
    }
}
