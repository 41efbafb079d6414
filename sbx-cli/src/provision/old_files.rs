//! Files that are kept because they may be of use once more, and go when they were not for long.

use std::{fs, iter::Sum, path::Path, time::Duration};

/// What was removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Removed {
    /// Files.
    pub(crate) files: usize,
    /// What was in them.
    pub(crate) bytes: u64,
}

impl Sum for Removed {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            files: sum.files.saturating_add(one.files),
            bytes: sum.bytes.saturating_add(one.bytes),
        })
    }
}

/// Removes the files in `directory` whose time is so long ago.
pub(super) fn remove(directory: &Path, age: Duration) -> Removed {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let removed = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        // A time that is yet to come is of a clock that was wrong, and says nothing.
        let old = metadata.modified().ok()?.elapsed().is_ok_and(|elapsed| elapsed >= age);
        (metadata.is_file() && old && fs::remove_file(entry.path()).is_ok())
            .then_some(Removed { files: 1, bytes: metadata.len() })
    });
    removed.sum()
}
