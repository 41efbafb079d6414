//! `.gitattributes`: git is told to merge a lock by taking the lines of both sides, which is what they mean.

use std::path::Path;

use super::LOCK;
use crate::{context::Context, error::Result, repository_file::RepositoryFile};

/// Where git looks for it.
const ATTRIBUTES: &str = ".gitattributes";

/// The line, without its end.
const LINE: &str = "sandbox.lock merge=union";

/// Adds the line beside the lock in `root`, if that is in a git repository and nothing there speaks of the lock. Said in one
/// line; that it cannot be written is no reason to fail.
pub(super) fn ask_for_union(context: &Context, root: &Path) {
    match add(root) {
        Ok(true) => context.ui.status("git", format_args!("{ATTRIBUTES}  {LINE}")),
        Ok(false) => {}
        Err(error) => context.ui.warning(error.chain().join(": ")),
    }
}

/// Whether the line was added.
fn add(root: &Path) -> Result<bool> {
    // A worktree and a submodule have a file of that name.
    let Some(top) = root.ancestors().find(|directory| directory.join(".git").exists()) else {
        return Ok(false);
    };
    let above = root.ancestors().skip(1).take_while(|directory| directory.starts_with(top));
    for directory in above {
        // What cannot be read there, git does not follow either.
        if RepositoryFile::open(directory, ATTRIBUTES)
            .and_then(|file| file.read())
            .is_ok_and(|text| speaks(text.as_deref()))
        {
            return Ok(false);
        }
    }
    let file = RepositoryFile::open(root, ATTRIBUTES)?;
    let old = file.read()?;
    if speaks(old.as_deref()) {
        return Ok(false);
    }
    let mut new = old.clone().unwrap_or_default();
    if !new.is_empty() && !new.ends_with(b"\n") {
        new.push(b'\n');
    }
    new.extend_from_slice(LINE.as_bytes());
    new.push(b'\n');
    file.replace(old.as_deref(), &new)?;
    Ok(true)
}

/// Whether a text has a word about the lock.
fn speaks(text: Option<&[u8]>) -> bool {
    let name = LOCK.as_bytes();
    text.is_some_and(|text| text.windows(name.len()).any(|window| window == name))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_line_is_added_once_and_only_where_git_is() {
        let directory = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(directory.path()).unwrap();
        let root = top.join("a/b");
        fs::create_dir_all(&root).unwrap();
        let attributes = root.join(ATTRIBUTES);
        assert!(!add(&root).unwrap(), "no repository");
        fs::create_dir(top.join(".git")).unwrap();
        fs::write(&attributes, "*.png binary").unwrap();
        assert!(add(&root).unwrap());
        assert_eq!(fs::read_to_string(&attributes).unwrap(), format!("*.png binary\n{LINE}\n"));
        assert!(!add(&root).unwrap());
        fs::remove_file(&attributes).unwrap();
        fs::write(top.join(ATTRIBUTES), "**/sandbox.lock merge=ours\n").unwrap();
        assert!(!add(&root).unwrap(), "it was decided above");
    }
}
