//! The lines that a lock can have: what each says, and how its values look.
//!
//! A lock comes from a repository, and its values end up as arguments of programs and as names of files. So each has a
//! pattern.

use super::{model::Installer, request::Request};
use crate::{
    model::PackageManager,
    types::{check_image, check_platform, is_name, is_version, sandbox_name},
};

/// Longest address of a download.
const MAX_URL_BYTES: usize = 2048;

/// Longest architecture: a wheel can have many tags.
const MAX_ARCHITECTURE_BYTES: usize = 512;

/// Longest place in npm's tree.
const MAX_PLACE_BYTES: usize = 2048;

/// A value of a line.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) name: &'static str,
    /// In a sentence, as in "this is not a version".
    pub(super) what: &'static str,
    pub(super) fits: fn(&str) -> bool,
}

/// What a line has to have, and may have.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) arguments: &'static [Value],
    pub(super) required: &'static [Value],
    pub(super) optional: &'static [Value],
    /// One that can be pasted.
    pub(super) example: &'static str,
}

/// The property that every line can have.
pub(super) const PROFILE: Value = named("profile", "the name of a profile", is_label);

const VERSION: Value = named("version", "a version", is_version);

const LOCK: &Form = &Form {
    arguments: &[named("format", "a format that this version of sbx reads", |text| matches!(text, "1"))],
    required: &[],
    optional: &[],
    example: "lock 1",
};

const IMAGE: &Form = &Form {
    arguments: &[named("image", "an image", |text| check_image(text).is_ok())],
    required: &[
        named("platform", "a platform", |text| check_platform(text).is_ok()),
        named("digest", "a sha256 digest", |text| is_hash("sha256:", text)),
    ],
    optional: &[],
    example: r#"image "debian:12" platform="linux/amd64" digest="sha256:…""#,
};

const KERNEL: &Form = &Form {
    arguments: &[named("hash", "a hash in hexadecimal digits", is_short_hash)],
    required: &[],
    optional: &[],
    example: r#"kernel "…""#,
};

const GUEST: &Form = &Form { example: r#"guest "…""#, ..*KERNEL };

const AGENT: &Form = &Form {
    arguments: &[named("name", "the name of an agent", is_label), VERSION],
    required: &[digits("definition")],
    optional: &[named("wanted", "a version", is_range)],
    example: r#"agent "claude" "2.0.1" definition="…""#,
};

const PACKAGE: &Form = &Form {
    arguments: &[named("package", "a package as in \"apt:git\"", |text| text.parse::<Request>().is_ok())],
    required: &[],
    optional: &[],
    example: r#"package "apt:git""#,
};

const PIN: &Form = &Form {
    arguments: &[named("name", "a name", |text| !text.is_empty()), VERSION],
    required: &[named("hash", "a hash", is_file_hash)],
    optional: &[
        named("architecture", "an architecture", is_architecture),
        named("for", "an agent or a tool", is_owner),
        named("url", "an address of a file", is_url),
    ],
    example: r#"apt "git" "1:2.39.5-0+deb12u2" architecture="amd64" hash="sha256:…""#,
};

const NPM_PIN: &Form = &Form {
    arguments: &[
        named("name", "a place in node_modules", |text| !text.is_empty()),
        named("version", "a version", |text| is_version(text) || is_npm_alias(text)),
    ],
    example: r#"npm "node_modules/a" "1.0.0" hash="sha512-…""#,
    ..*PIN
};

const SETUP: &Form = &Form {
    arguments: &[named("command", "a command", |text| !text.trim().is_empty() && !text.contains('\0'))],
    required: &[digits("inputs")],
    optional: &[],
    example: r#"setup "npm ci" inputs="…""#,
};

const SNAPSHOT: &Form = &Form {
    arguments: &[named("digest", "a blake3 digest", |text| is_hash("blake3:", text))],
    required: &[digits("inputs")],
    optional: &[],
    example: r#"snapshot "blake3:…" inputs="…""#,
};

/// The form of the lines called `name`.
pub(super) const fn form(name: Name) -> &'static Form {
    match name {
        Name::Lock => LOCK,
        Name::Image => IMAGE,
        Name::Kernel => KERNEL,
        Name::Guest => GUEST,
        Name::Agent => AGENT,
        Name::Package => PACKAGE,
        Name::Pin(Installer::Package(PackageManager::Npm)) => NPM_PIN,
        Name::Pin(_) => PIN,
        Name::Setup => SETUP,
        Name::Snapshot => SNAPSHOT,
    }
}

/// What a line begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Name {
    Lock,
    Image,
    Kernel,
    Guest,
    Agent,
    Package,
    Pin(Installer),
    Setup,
    Snapshot,
}

impl Name {
    /// All of them, in the order in which a lock has them.
    pub(super) const ALL: [Self; 15] = [
        Self::Lock,
        Self::Image,
        Self::Kernel,
        Self::Guest,
        Self::Agent,
        Self::Package,
        Self::Pin(Installer::Package(PackageManager::Apk)),
        Self::Pin(Installer::Package(PackageManager::Apt)),
        Self::Pin(Installer::Package(PackageManager::Dnf)),
        Self::Pin(Installer::Package(PackageManager::Npm)),
        Self::Pin(Installer::Package(PackageManager::Pip)),
        Self::Pin(Installer::Package(PackageManager::Cargo)),
        Self::Pin(Installer::Download),
        Self::Setup,
        Self::Snapshot,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Image => "image",
            Self::Kernel => "kernel",
            Self::Guest => "guest",
            Self::Agent => "agent",
            Self::Package => "package",
            Self::Pin(installer) => installer.as_str(),
            Self::Setup => "setup",
            Self::Snapshot => "snapshot",
        }
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.as_str() == text)
    }
}

/// Whether `name` can be that of a file that `installer` installs.
pub(super) fn is_pin_name(installer: Installer, name: &str) -> bool {
    match installer {
        Installer::Package(PackageManager::Npm) => is_npm_place(name),
        Installer::Package(manager) => is_name(manager, name),
        Installer::Download => {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            name.len() <= 128 && name.bytes().all(known) && !name.starts_with(['.', '-'])
        }
    }
}

const fn named(name: &'static str, what: &'static str, fits: fn(&str) -> bool) -> Value {
    Value { name, what, fits }
}

const fn digits(name: &'static str) -> Value {
    named(name, "a blake3 hash in 64 hexadecimal digits", |text| is_hash("", text))
}

fn is_label(text: &str) -> bool {
    sandbox_name(text).is_ok()
}

/// What a manifest may ask of an agent: any text that a terminal only shows.
fn is_range(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// 64 hexadecimal digits behind `prefix`.
fn is_hash(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        digits.len() == 64
            && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

/// sbx's own hashes of its parts are short: they tell versions apart, and nothing else is found by them.
fn is_short_hash(text: &str) -> bool {
    (16..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A digest, or the integrity of npm: SHA-512 in base64.
fn is_file_hash(text: &str) -> bool {
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    is_hash("sha256:", text)
        || text
            .strip_prefix("sha512-")
            .and_then(|rest| rest.strip_suffix("=="))
            .is_some_and(|digits| digits.len() == 86 && digits.bytes().all(base64))
}

/// `node_modules/a/node_modules/@b/c`: packages in packages.
fn is_npm_place(text: &str) -> bool {
    let packages = text.strip_prefix("node_modules/").map(|rest| rest.split("/node_modules/"));
    text.len() <= MAX_PLACE_BYTES
        && packages.is_some_and(|mut packages| packages.all(|package| is_name(PackageManager::Npm, package)))
}

/// `npm:@acme/tool@1.0.0-linux-x64`: the package at a place that has another name.
fn is_npm_alias(text: &str) -> bool {
    let package = text.strip_prefix("npm:").and_then(|package| package.rsplit_once('@'));
    package.is_some_and(|(name, version)| is_name(PackageManager::Npm, name) && is_version(version))
}

/// `amd64`, `x86_64-musl`, or the tags of a wheel: `cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64`.
fn is_architecture(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= MAX_ARCHITECTURE_BYTES
        && text.bytes().all(known)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

fn is_owner(text: &str) -> bool {
    match text.strip_prefix("agent:") {
        Some(agent) => is_label(agent),
        None => is_name(PackageManager::Cargo, text),
    }
}

/// The hash says what is in it; the address is only where to ask.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    text.len() <= MAX_URL_BYTES
        && rest.is_some_and(|rest| !rest.is_empty())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'`' | b'\'' | b'$'))
}
