//! What never enters a layer: what programs write for themselves, and what a machine has for itself.

use thiserror::Error;

/// What becomes of the files that a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// They do not enter the layer, with all that is below them.
    Drop,
    /// Of what is below them only directories enter: packages make them for their programs, which do not start without.
    DropFiles,
    /// They enter, with all that is below them, whatever later rules say.
    Keep,
}

/// One rule. Of several that name a path the first counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    action: Action,
    names: Vec<Box<[u8]>>,
}

/// A pattern that names nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{pattern}` is no pattern of a path: it must begin with a slash, and its names may hold one `*` each"
)]
pub struct RuleError {
    /// The pattern.
    pattern: String,
}

/// Homes of users, which `~` stands for in the patterns below.
const HOMES: [&str; 2] = ["/home/*", "/root"];

/// What is kept below what is dropped. Programs that setup commands install lie in caches as well.
const KEEP: [&str; 5] = [
    "~/.cache/ms-playwright",
    "~/.cache/puppeteer",
    "~/.cache/Cypress",
    // Answers that were given when packages were installed; without them they would be asked for again.
    "/var/cache/debconf/*.dat",
    // Debian's own package, which keeps what it installs there.
    "/var/cache/dictionaries-common",
];

const DROP: [&str; 49] = [
    // Mount points, and what is behind them in a running machine only.
    "/dev",
    "/proc",
    "/run",
    "/sys",
    "/var/lib/docker",
    "/var/run",
    // Temporary files.
    "/tmp",
    "/var/tmp",
    // What is a machine's own.
    "/etc/.pwd.lock",
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/machine-id",
    "/etc/mtab",
    "/etc/passwd-",
    "/etc/resolv.conf",
    "/etc/shadow-",
    "/etc/ssh/ssh_host_*",
    "/etc/subgid-",
    "/etc/subuid-",
    "/var/lib/dbus/machine-id",
    "/var/lib/systemd/random-seed",
    "/var/lib/urandom/random-seed",
    // Certificates of the host.
    "/etc/ca-certificates/trust-source/anchors/sbx-host-*",
    "/etc/pki/ca-trust/source/anchors/sbx-host-*",
    "/etc/pki/trust/anchors/sbx-host-*",
    "/etc/ssl/certs/sbx-host-*",
    "/usr/local/share/ca-certificates/sbx-host-*",
    // What package managers remember of when and from where; `apt-get update` and `apk update` make it again.
    "/etc/apk/cache",
    "/lib/apk/db/lock",
    "/lib/apk/db/scripts.tar.old",
    "/var/cache/ldconfig",
    "/var/lib/apt/daily_lock",
    "/var/lib/apt/periodic",
    "/var/lib/dpkg/*-old",
    "/var/lib/dpkg/lock*",
    // Caches and histories of users.
    "~/.bash_history",
    "~/.cache",
    "~/.cargo/.package-cache*",
    "~/.lesshst",
    "~/.node_repl_history",
    "~/.npm/_cacache",
    "~/.npm/_logs",
    "~/.npm/_update-notifier-last-checked",
    "~/.python_history",
    "~/.sudo_as_admin_successful",
    "~/.viminfo",
    "~/.wget-hsts",
];

const DROP_FILES: [&str; 5] =
    ["/var/cache", "/var/lib/apt/lists", "/var/lib/apt/mirrors", "/var/log", "/var/mail"];

/// The rules that hold for every machine.
pub(super) fn usual() -> Vec<Rule> {
    let parse = |action, patterns: &[&str]| -> Vec<Rule> {
        let patterns = patterns.iter().flat_map(|pattern| places(pattern));
        patterns.filter_map(|pattern| Rule::new(action, &pattern).ok()).collect()
    };
    let mut rules = parse(Action::Keep, &KEEP);
    rules.extend(parse(Action::Drop, &DROP));
    rules.extend(parse(Action::DropFiles, &DROP_FILES));
    rules
}

/// The paths that a pattern stands for.
fn places(pattern: &str) -> Vec<String> {
    match pattern.strip_prefix('~') {
        Some(rest) => HOMES.iter().map(|home| format!("{home}{rest}")).collect(),
        None => vec![pattern.to_owned()],
    }
}

impl Rule {
    /// Makes the rule for the files that `pattern` names: an absolute path, in whose names `*` stands for anything.
    ///
    /// # Errors
    /// When it is not absolute, names the root, or has a name that is empty, `.`, `..` or has more than one `*`.
    pub fn new(action: Action, pattern: &str) -> Result<Self, RuleError> {
        let error = || RuleError { pattern: pattern.escape_default().to_string() };
        let names = pattern.strip_prefix('/').ok_or_else(error)?.split('/');
        let is_name = |name: &str| {
            !matches!(name, "" | "." | "..") && name.bytes().filter(|byte| *byte == b'*').count() <= 1
        };
        let names = names.map(|name| is_name(name).then(|| name.as_bytes().into()));
        Ok(Self { action, names: names.collect::<Option<_>>().ok_or_else(error)? })
    }

    /// What becomes of the file of this path, if the rule says so.
    pub(super) fn verdict(&self, path: &[&[u8]], is_directory: bool) -> Option<bool> {
        let depth = self.names.len();
        let named =
            path.len() >= depth && self.names.iter().zip(path).all(|(name, found)| matches(name, found));
        match self.action {
            _ if !named => None,
            Action::Keep => Some(true),
            Action::Drop => Some(false),
            Action::DropFiles => (path.len() > depth && !is_directory).then_some(false),
        }
    }
}

/// Whether a name of a pattern, in which one `*` may stand for anything, is `found`.
fn matches(name: &[u8], found: &[u8]) -> bool {
    match name.iter().position(|byte| *byte == b'*') {
        None => name == found,
        Some(star) => {
            let (before, after) = name.split_at(star);
            let after = after.get(1..).unwrap_or_default();
            found.len() >= before.len().saturating_add(after.len())
                && found.starts_with(before)
                && found.ends_with(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(rules: &[Rule], path: &str, is_directory: bool) -> bool {
        let names: Vec<&[u8]> = path.split('/').skip(1).map(str::as_bytes).collect();
        rules.iter().find_map(|rule| rule.verdict(&names, is_directory)).unwrap_or(true)
    }

    #[test]
    fn every_usual_pattern_is_one() {
        let patterns = KEEP.iter().chain(&DROP).chain(&DROP_FILES);
        assert_eq!(usual().len(), patterns.map(|pattern| places(pattern).len()).sum::<usize>());
    }

    #[test]
    fn the_usual_rules_leave_out_what_is_a_machines_own() {
        let rules = usual();
        for (path, kept) in [
            ("/etc/hosts", false),
            ("/etc/hosts.allow", true),
            ("/etc/ssh/ssh_host_ed25519_key", false),
            ("/etc/ssh/sshd_config", true),
            ("/tmp/x/y", false),
            ("/usr/tmp", true),
            ("/var/cache/apt/pkgcache.bin", false),
            ("/var/cache/debconf/config.dat", true),
            ("/var/cache/debconf/config.dat-old", false),
            ("/var/lib/dpkg/status", true),
            ("/var/lib/dpkg/status-old", false),
            ("/home/agent/.cache/pip/x", false),
            ("/home/agent/.cache/ms-playwright/chromium", true),
            ("/root/x", true),
            ("/home/agent/.npmrc", true),
            ("/home/agent/.npm/_cacache/index", false),
            ("/homes/agent/.cache", true),
        ] {
            assert_eq!(verdict(&rules, path, false), kept, "{path}");
        }
        for (path, kept) in
            [("/var/log/postgresql", true), ("/var/cache", true), ("/tmp", false), ("/run/lock", false)]
        {
            assert_eq!(verdict(&rules, path, true), kept, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_no_pattern() {
        for pattern in ["", "/", "etc", "/etc/", "/etc//x", "/etc/..", "/a/*b*"] {
            assert!(Rule::new(Action::Drop, pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_star_is_anything_in_one_name() {
        assert!(matches(b"*", b"x") && matches(b"a*", b"a") && matches(b"a*c", b"abc"));
        assert!(!matches(b"ab*bc", b"abc") && !matches(b"a", b"ab"));
    }
}
