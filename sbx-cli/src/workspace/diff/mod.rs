//! How a copy differs from what it was made of, for people and for git.

mod binary;
mod lines;
pub(crate) mod name;
pub(crate) mod patch;
pub(crate) mod rename;
pub(crate) mod stat;

use std::path::{Path, PathBuf};

pub(crate) use self::lines::{Class, Line};
use super::clone::record::Entry;

/// One difference: a file that is new, gone, changed or renamed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Delta {
    /// Where and what it was.
    pub(crate) from: Option<(PathBuf, Entry)>,
    /// Where and what it is.
    pub(crate) to: Option<(PathBuf, Entry)>,
    /// How much of a renamed file stayed, in percent.
    pub(crate) similarity: Option<u8>,
}

impl Delta {
    /// Where it is, or where it was if it is gone.
    pub(crate) fn path(&self) -> &Path {
        self.to.as_ref().or(self.from.as_ref()).map_or_else(|| Path::new(""), |(path, _)| path.as_path())
    }
}
