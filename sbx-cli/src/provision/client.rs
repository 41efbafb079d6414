//! What a package manager has to be able to do inside a machine, and how it is asked.
//!
//! ```text
//! wanted ─ resolve ─▶ pins ─ fetch ─▶ files, hashed by the host ─ install ─▶ layer
//!          network           network                             none
//! ```
//! A client never touches a machine: it writes programs for the shell of the image, and reads what they print. What they
//! print comes from a guest, so that it is bounded, and checked before it is a pin, a file name or a word for a shell.

use sbx_manifest::lock::{Installer, Pin};
use thiserror::Error;

/// A package manager that is asked inside a machine.
pub(crate) trait Client: std::fmt::Debug {
    /// Whose pins these are.
    fn installer(&self) -> Installer;

    /// A program of the image that [`Self::resolve`] and [`Self::fetch`] cannot do without, if its lack is to be told before a
    /// machine boots.
    fn needed(&self) -> Option<Needed> {
        None
    }

    /// A program, run as root where the registries can be reached, that prints what the manager would take for `wanted`,
    /// in a form that [`Self::read`] knows. It installs and runs nothing of that. It keeps to `held` where that is possible.
    /// Called only when a pin is missing or is to be moved.
    fn resolve(&self, wanted: &[String], held: &[Pin]) -> Script;

    /// The pins in what the program of [`Self::resolve`] printed on its standard output. A pin whose hash the manager does
    /// not know has an empty one: its file is fetched next, and the host hashes it.
    ///
    /// # Errors
    /// If that is not what the program prints.
    fn read(&self, output: &[u8]) -> Result<Vec<Pin>, ClientError>;

    /// A program, run as root where the registries can be reached, that downloads the files of `pins` into [`OUT`], each
    /// under its [`Self::file_name`]. It installs and runs nothing of them. In the machine of [`Self::resolve`] if that ran,
    /// after it, otherwise in a fresh one.
    fn fetch(&self, pins: &[Pin]) -> Script;

    /// The name of the file of `pin` in [`OUT`] and [`IN`]: one path component. `pin` may come from a lock, which is as
    /// hostile as a guest.
    fn file_name(&self, pin: &Pin) -> String;

    /// Whether [`Self::install`] finds in place of a gzip file what is in it, under the same name. Where that is not possible it
    /// finds the file, too.
    fn wants_inflated(&self) -> bool {
        false
    }

    /// Hosts, at port 443, that the programs of [`Self::resolve`] and [`Self::fetch`] need besides the registries that the
    /// image names: a vendor's, in the definition of an agent.
    fn hosts(&self) -> Vec<String> {
        Vec::new()
    }

    /// The version of the program that `wanted` names, among `pins`; for agents only, whose line in the lock has it.
    fn version(&self, wanted: &[String], pins: &[Pin]) -> Option<String> {
        let _ = (wanted, pins);
        None
    }

    /// A program, run as root without a network, that installs exactly `pins` from [`IN`], where each is under its
    /// [`Self::file_name`] and has the hash that it should have.
    fn install(&self, wanted: &[String], pins: &[Pin]) -> Script;
}

/// A program of the image, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needed {
    /// The program.
    pub(crate) program: &'static str,
    /// Programs that come with it.
    pub(crate) with: &'static [&'static str],
    /// The package that has it, in every distribution.
    pub(crate) package: &'static str,
    /// An image that has it.
    pub(crate) image: &'static str,
    /// Parts of the names of packages that may bring it.
    pub(crate) brought_by: &'static [&'static str],
    /// Whether the packages do without it once they are downloaded. The programs of [`Client::resolve`] then find in
    /// [`LENT`] what the image will not have when they are installed.
    pub(crate) can_be_lent: bool,
}

/// A variable with programs, separated by spaces.
pub(crate) const LENT: &str = "SBX_LENT";

impl Needed {
    /// Whether the program may come with this package.
    pub(crate) fn comes_with(&self, package: &str) -> bool {
        self.brought_by.iter().any(|part| package.contains(part))
    }
}

/// What a program of [`Client::resolve`] or [`Client::fetch`] prints before it fails because a registry has no such version
/// any more: a line of this, the package's name and its version, with tabs between them. Whoever runs it says what to do.
pub(crate) const VANISHED: &str = "sbx-vanished";

/// The directory in a machine from which programs take what the host gives them, read-only.
pub(crate) const IN: &str = "/run/sbx/in";

/// The directory in a machine into which programs put what the host is to have.
pub(crate) const OUT: &str = "/run/sbx/out";

/// A program for the image's `sh`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Script {
    /// The program, most likely from a file beside the client.
    pub(crate) text: &'static str,
    /// Its arguments, which the shell does not look at.
    pub(crate) arguments: Vec<String>,
    /// Variables besides those that every program of a machine has.
    pub(crate) environment: Vec<(String, String)>,
    /// Files that it finds in [`IN`] under these names.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl Script {
    /// A program with arguments.
    pub(crate) fn new(text: &'static str, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { text, arguments: arguments.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Everything that decides what it does, for the key of a step.
    pub(super) fn hash(&self, hasher: &mut super::key::Hasher) {
        hasher.text(self.text);
        hasher.texts(&self.arguments);
        for (name, value) in &self.environment {
            hasher.text(name).text(value);
        }
        hasher.text("files");
        for (name, content) in &self.files {
            hasher.text(name).bytes(content);
        }
    }
}

/// The last line of what a program of [`Client::resolve`] prints by lines, or of a part of it: without it, it broke off.
pub(crate) const END: &str = "sbx-end";

/// The lines of what a program printed, up to the one that says that it is whole.
///
/// # Errors
/// If there is none.
pub(crate) fn whole(output: &[u8]) -> Result<Vec<&[u8]>, ClientError> {
    let mut lines: Vec<&[u8]> = Vec::new();
    for line in output.split(|byte| *byte == b'\n') {
        if line == END.as_bytes() {
            return Ok(lines);
        }
        lines.push(line);
    }
    Err(ClientError::Missing { what: "the last packages".to_owned() })
}

/// The lines of [`whole`] output that follow the line `begin`, before which the manager may have said something, too.
///
/// # Errors
/// If there is no such line, or the output is not whole.
pub(crate) fn packages_after<'o>(begin: &str, output: &'o [u8]) -> Result<Vec<&'o [u8]>, ClientError> {
    let mut lines = whole(output)?;
    let begin = lines.iter().position(|line| *line == begin.as_bytes());
    let begin = begin.ok_or_else(|| ClientError::Missing { what: "the packages".to_owned() })?;
    Ok(lines.split_off(begin.saturating_add(1)))
}

/// Pins in their order, each once.
///
/// # Errors
/// If there are more than any installation has.
pub(crate) fn in_order(mut pins: Vec<Pin>) -> Result<Vec<Pin>, ClientError> {
    if pins.len() > ClientError::MAX_PINS {
        return Err(ClientError::TooMany { limit: ClientError::MAX_PINS });
    }
    pins.sort_unstable();
    pins.dedup();
    Ok(pins)
}

/// Why what a manager printed is of no use.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(crate) enum ClientError {
    /// A line is not as it should be.
    #[error("`{line}` is not {expected}")]
    Malformed {
        /// The line, as far as it is shown.
        line: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// Nothing, or an end in the middle.
    #[error("it said nothing about {what}")]
    Missing {
        /// What is missing.
        what: String,
    },
    /// More than any real installation has.
    #[error("it named more than {limit} packages")]
    TooMany {
        /// How many are taken.
        limit: usize,
    },
    /// There is nothing for this machine.
    #[error("{package} is not for {platform}")]
    Unsuitable {
        /// The package.
        package: String,
        /// Operating system, processor and C library.
        platform: String,
    },
}

impl ClientError {
    /// Packages of one manager, dependencies included, that are taken.
    pub(crate) const MAX_PINS: usize = 20_000;

    /// A line that is not `expected`.
    pub(crate) fn malformed(line: &[u8], expected: &'static str) -> Self {
        const SHOWN_BYTES: usize = 120;
        let line = String::from_utf8_lossy(line.get(..SHOWN_BYTES).unwrap_or(line));
        Self::Malformed { line: crate::ui::printable(&line), expected }
    }
}
