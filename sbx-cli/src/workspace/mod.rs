//! The files of a workspace: which they are, and copies of them.
//!
//! ```text
//! tree     a directory out of which no path leads
//! git      repositories, understood without running git
//! ignored  what git ignores
//! files    which files a workspace consists of
//! remove   removing what a guest wrote
//! copy     a copy of them
//! clone    the copy that a sandbox in clone mode works on, and how it differs from what it was made of
//! diff     that difference for people and for git
//! apply    that difference brought back: into the working tree, as a patch, or as a branch
//! ```

pub(crate) mod apply;
pub(crate) mod clone;
mod copy;
pub(crate) mod diff;
mod files;
pub(crate) mod git;
mod ignored;
mod remove;
#[cfg(test)]
mod testing;
mod tree;

pub(crate) use self::copy::copy;
use self::tree::TreeError;
pub(crate) use self::{remove::remove_all, tree::Tree};
use crate::error::CommandError;

impl From<TreeError> for CommandError {
    fn from(error: TreeError) -> Self {
        let message = error.to_string();
        match error {
            TreeError::Io { source, .. } => Self::failed(message).with_source(source),
            _ => Self::failed(message),
        }
    }
}
