//! What a repository's `config` says, as far as it can be told without running anything.
//!
//! Only a few keys are ever looked at, and of these only values of a harmless form are handed on: a repository's configuration
//! can name programs, and its addresses can carry passwords.

use std::fmt::Write;

/// Bytes of a `config` that are read.
pub(crate) const MAX_BYTES: u64 = 1 << 20;

/// Keys of `core` that say how files are to be read, and only take words.
const CORE: [&str; 6] = ["filemode", "ignorecase", "symlinks", "autocrlf", "eol", "precomposeunicode"];
/// Extensions of the format that a copy has to have as well.
const EXTENSIONS: [&str; 3] = ["objectformat", "refstorage", "compatobjectformat"];

/// One setting.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Setting {
    /// In lower case.
    section: String,
    subsection: String,
    /// In lower case.
    key: String,
    value: String,
}

/// The settings of one file, includes left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct GitConfig {
    settings: Vec<Setting>,
}

impl GitConfig {
    /// Reads `text`; lines that make no sense are left out.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text).replace("\r\n", "\n").replace("\\\n", "");
        let (mut section, mut subsection) = (String::new(), String::new());
        let mut settings = Vec::new();
        for line in text.lines().map(str::trim) {
            let mut rest = line;
            if let Some(heading) = line.strip_prefix('[') {
                let Some((name, inner, after)) = split_heading(heading) else { continue };
                (section, subsection, rest) = (name.to_lowercase(), inner, after.trim());
            }
            if rest.is_empty() || rest.starts_with(['#', ';']) {
                continue;
            }
            let (key, value) = rest.split_once('=').unwrap_or((rest, "true"));
            settings.push(Setting {
                section: section.clone(),
                subsection: subsection.clone(),
                key: key.trim().to_lowercase(),
                value: unquote(value.trim()),
            });
        }
        Self { settings }
    }

    /// The last value of `section.key`.
    pub(crate) fn get(&self, section: &str, key: &str) -> Option<&str> {
        let fits = |setting: &&Setting| {
            setting.section == section && setting.subsection.is_empty() && setting.key == key
        };
        self.settings.iter().rev().find(fits).map(|setting| setting.value.as_str())
    }

    /// Bytes of an object's name.
    pub(crate) fn hash_bytes(&self) -> usize {
        if self.get("extensions", "objectformat").is_some_and(|format| format.eq_ignore_ascii_case("sha256"))
        {
            32
        } else {
            20
        }
    }

    /// The configuration of a copy: how files are read, and where remotes are, without passwords. Nothing in it runs anything.
    pub(crate) fn for_copy(&self) -> String {
        let version = if self.settings.iter().any(|setting| setting.section == "extensions") { 1 } else { 0 };
        let mut text = format!("[core]\n\trepositoryformatversion = {version}\n\tbare = false\n");
        // The copy's files have other inode numbers than the index says; times and sizes are the same.
        text.push_str("\tlogallrefupdates = true\n\tcheckStat = minimal\n\ttrustctime = false\n");
        for key in CORE {
            if let Some(value) = self.get("core", key).filter(|value| is_word(value)) {
                let _ = writeln!(text, "\t{key} = {value}");
            }
        }
        let extensions =
            EXTENSIONS.iter().filter_map(|key| Some((key, self.get("extensions", key)?))).collect::<Vec<_>>();
        if !extensions.is_empty() {
            text.push_str("[extensions]\n");
            for (key, value) in extensions.into_iter().filter(|(_, value)| is_word(value)) {
                let _ = writeln!(text, "\t{key} = {value}");
            }
        }
        for setting in &self.settings {
            let value = match (setting.section.as_str(), setting.key.as_str()) {
                ("remote", "url") => without_password(&setting.value),
                ("remote", "fetch") | ("branch", "remote" | "merge") => Some(setting.value.clone()),
                _ => None,
            };
            if let Some(value) = value
                && is_plain(&value)
                && is_plain(&setting.subsection)
                && !setting.subsection.is_empty()
            {
                let _ = writeln!(
                    text,
                    "[{} \"{}\"]\n\t{} = {value}",
                    setting.section, setting.subsection, setting.key
                );
            }
        }
        text
    }
}

/// `name`, `name.sub` or `name "sub"` and what follows the bracket.
fn split_heading(text: &str) -> Option<(&str, String, &str)> {
    let name_end = text.find([']', ' ', '\t', '"'])?;
    let (name, rest) = text.split_at(name_end);
    let rest = rest.trim_start();
    if let Some(after) = rest.strip_prefix(']') {
        return Some((name, String::new(), after));
    }
    let mut inner = String::new();
    let mut characters = rest.strip_prefix('"')?.char_indices();
    while let Some((_, character)) = characters.next() {
        match character {
            '\\' => inner.push(characters.next()?.1),
            '"' => {
                let after = characters.as_str().trim_start().strip_prefix(']')?;
                return Some((name, inner, after));
            }
            other => inner.push(other),
        }
    }
    None
}

/// A value without quotes, escapes and the comment behind it.
fn unquote(text: &str) -> String {
    let (mut value, mut quoted) = (String::new(), false);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '\\' => match characters.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some(other) => value.push(other),
                None => {}
            },
            '#' | ';' if !quoted => break,
            other => value.push(other),
        }
    }
    value.trim().to_owned()
}

fn is_word(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether `value` can be written without quotes and means nothing but itself.
fn is_plain(value: &str) -> bool {
    const MAX_BYTES: usize = 1024;
    value.len() <= MAX_BYTES
        && value.chars().all(|character| {
            !character.is_control()
                && !matches!(character, '"' | '\\' | '#' | ';')
                && !character.is_whitespace()
        })
}

/// An address of a remote without the name and password in it; nothing for one that runs a program.
fn without_password(url: &str) -> Option<String> {
    if url.contains("::") || url.starts_with('-') {
        return None;
    }
    let Some((scheme, rest)) = url.split_once("://") else { return Some(url.to_owned()) };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = match authority.rsplit_once('@') {
        // The name is not a secret, and ssh needs it.
        Some((user, host)) if matches!(scheme, "ssh" | "git+ssh") => {
            format!("{}@{host}", user.split(':').next().unwrap_or_default())
        }
        Some((_, host)) => host.to_owned(),
        None => authority.to_owned(),
    };
    Some(format!("{scheme}://{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_gets_nothing_that_runs_or_is_secret() {
        let config = GitConfig::parse(
            br#"[core]
	repositoryformatversion = 0
	fileMode = true
	fsmonitor = /tmp/evil
	hooksPath = ".husky"	; a comment
	sshCommand = evil
	worktree = /elsewhere
[include]
	path = /tmp/evil
[remote "origin"]
	url = https://me:secret@example.com/a/b.git
	fetch = +refs/heads/*:refs/remotes/origin/*
	uploadpack = evil
[remote "run"]
	url = "ext::sh -c evil"
[remote "ssh"]
	url = ssh://git@example.com/x
[branch "main"]
	remote = origin
	merge = refs/heads/main
[filter "lfs"]
	clean = evil
[alias]
	st = !evil
"#,
        );
        assert_eq!(config.get("core", "hookspath"), Some(".husky"));
        let text = config.for_copy();
        for absent in ["evil", "secret", "husky", "elsewhere", "include", "alias"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
        let copied = GitConfig::parse(text.as_bytes());
        assert_eq!(copied.get("core", "filemode"), Some("true"));
        assert!(text.contains("url = https://example.com/a/b.git\n"), "{text}");
        assert!(text.contains("url = ssh://git@example.com/x\n"), "{text}");
        assert!(text.contains("[branch \"main\"]\n\tmerge = refs/heads/main\n"), "{text}");
    }

    #[test]
    fn the_format_of_objects_is_kept() {
        let config = GitConfig::parse(b"[extensions]\n\tobjectFormat = sha256\n");
        assert_eq!(config.hash_bytes(), 32);
        assert!(config.for_copy().contains("repositoryformatversion = 1"));
        assert!(config.for_copy().contains("[extensions]\n\tobjectformat = sha256\n"));
        assert_eq!(GitConfig::parse(b"[core]\nbare").hash_bytes(), 20);
    }
}
