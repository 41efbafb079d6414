//! The files of a workspace: which they are, and copies of them.
//!
//! ```text
//! tree     a directory out of which no path leads
//! git      repositories, understood without running git
//! ignored  what git ignores
//! files    which files a workspace consists of
//! copy     a copy of them
//! ```

mod copy;
mod files;
mod git;
mod ignored;
mod tree;

pub(crate) use self::copy::copy;
