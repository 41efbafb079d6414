//! What git ignores, by the rules of gitignore(5).
//!
//! The crate `ignore` matches; the files are read here, because it would follow links, wait for FIFOs and read without end.

use std::path::Path;

use ignore::{
    Match,
    gitignore::{Gitignore, GitignoreBuilder},
};

/// Name of the file with rules in each directory.
pub(super) const FILE: &str = ".gitignore";

/// Bytes of one such file that are read. The largest in public use have a few tens of kilobytes.
pub(super) const MAX_BYTES: u64 = 512 << 10;

/// Rules that hold in a directory, the ones of the directories above it included. Paths are relative to the top of the
/// repository.
#[derive(Debug)]
pub(super) struct Rules {
    /// From the least to the most specific.
    stack: Vec<Gitignore>,
}

impl Rules {
    /// The user's own rules, and then those of the repository that are in no directory of it (`info/exclude`).
    pub(super) fn new(exclude: &[u8]) -> Self {
        // What cannot be read in the user's own file ignores nothing, as with git.
        let (global, _) = GitignoreBuilder::new("/").build_global();
        Self { stack: vec![global, compile(Path::new(""), exclude)] }
    }

    /// Enters `directory`, whose file of rules has this text.
    pub(super) fn enter(&mut self, directory: &Path, text: &[u8]) {
        self.stack.push(compile(directory, text));
    }

    /// Leaves the directory that was entered last.
    pub(super) fn leave(&mut self) {
        self.stack.pop();
    }

    /// Whether `path` is ignored, given that nothing above it is.
    pub(super) fn ignore(&self, path: &Path, directory: bool) -> bool {
        let path = Path::new("/").join(path);
        for rules in self.stack.iter().rev() {
            match rules.matched(&path, directory) {
                Match::None => {}
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
            }
        }
        false
    }
}

/// The rules in `text`; lines that make no sense ignore nothing.
fn compile(directory: &Path, text: &[u8]) -> Gitignore {
    let mut builder = GitignoreBuilder::new(Path::new("/").join(directory));
    let text = String::from_utf8_lossy(text);
    for line in text.trim_start_matches('\u{feff}').lines() {
        let _ = builder.add_line(None, line);
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_rule_decides() {
        let mut rules = Rules::new(b"private\n");
        rules.enter(Path::new(""), b"*.log\n/build/\ntmp/\n!keep.log\n");
        rules.enter(Path::new("src"), b"!trace.log\n/only-here\n");
        for (path, directory, ignored) in [
            ("src/a.log", false, true),
            ("src/trace.log", false, false),
            ("src/keep.log", false, false),
            ("src/only-here", false, true),
            ("src/deep/only-here", false, false),
            ("src/build", true, false),
            ("src/tmp", true, true),
            ("src/tmp", false, false),
            ("src/private", false, true),
        ] {
            assert_eq!(rules.ignore(Path::new(path), directory), ignored, "{path}");
        }
        rules.leave();
        assert!(rules.ignore(Path::new("build"), true));
        assert!(rules.ignore(Path::new("trace.log"), false));
    }
}
