//! A private copy of a workspace.

use std::{io, path::Path};

use super::{
    files::{self, Scope},
    tree::{self, Kind, Tree, TreeError},
};

/// Mode of a file before the umask.
pub(super) const FILE_MODE: u32 = 0o666;
/// Mode of a program before the umask.
pub(super) const PROGRAM_MODE: u32 = 0o777;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Copied {
    /// Files and links.
    pub(crate) files: u64,
    /// Their contents.
    pub(crate) bytes: u64,
}

/// Copies the files of the workspace at `root` that git does not ignore, and those that it tracks although it ignores them, into
/// the directory `to`, which is there and has none of them. Links stay links, modification times stay, and of the modes whether a
/// file is a program. Git's own directory is not copied. No link is followed, and git is not run.
///
/// # Errors
/// If something cannot be read or written, or is more than a repository has.
pub(crate) fn copy(root: &Path, to: &Path) -> Result<Copied, TreeError> {
    let (from, into) = (Tree::open(root)?, Tree::open(to)?);
    let mut copied = Copied::default();
    for (path, kind) in files::list(&from, &Scope::of(root)?)?.found {
        if let Some(parent) = path.parent() {
            into.make_directories(parent)?;
        }
        copied.files = copied.files.saturating_add(1);
        if kind == Kind::Link {
            into.new_link(&path, &from.link_target(&path)?)?;
            continue;
        }
        let mode = if kind == (Kind::File { executable: true }) { PROGRAM_MODE } else { FILE_MODE };
        let (source, target) = (from.file(&path)?, into.new_file(&path, mode)?);
        let length = tree::copy_contents(&source, &target)
            .and_then(|()| tree::copy_time(&source, &target))
            .and_then(|()| target.metadata())
            .map_err(|source: io::Error| TreeError::Io {
                action: "copy",
                path: from.path().join(&path),
                source,
            })?
            .len();
        copied.bytes = copied.bytes.saturating_add(length);
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        ffi::OsStr,
        fs,
        os::unix::{
            ffi::OsStrExt,
            fs::{PermissionsExt, symlink},
        },
        process::Command,
    };

    use super::*;

    fn git(directory: &Path, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("git").arg("-C").arg(directory).args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}");
        output.stdout
    }

    /// Everything below `root` but `.git`, as paths.
    fn all(root: &Path) -> BTreeSet<Vec<u8>> {
        let mut found = BTreeSet::new();
        let mut left = vec![root.to_path_buf()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                if entry.file_name() == ".git" {
                } else if entry.file_type().unwrap().is_dir() {
                    left.push(entry.path());
                } else {
                    found.insert(entry.path().strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec());
                }
            }
        }
        found
    }

    fn write(root: &Path, name: impl AsRef<OsStr>, text: &str) {
        let path = root.join(name.as_ref());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn repository() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        git(root, &["init", "-q"]);
        write(root, ".gitignore", "*.log\n/out/\n!keep.log\nsecret\n");
        write(root, "sub/.gitignore", "local\n!/deep.log\n");
        for name in
            ["a", "x.log", "keep.log", "out/b", "out/forced", "sub/local", "sub/deep.log", "sub/in/local"]
        {
            write(root, name, name);
        }
        write(root, "secret/of/mine", "");
        write(root, "sub/src/main.rs", "fn main() {}");
        write(root, OsStr::from_bytes(b"caf\xe9\n"), "latin");
        write(root, "run", "#!/bin/sh");
        fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("/etc/passwd", root.join("link")).unwrap();
        symlink("secret", root.join("directory-link")).unwrap();
        git(root, &["add", "a", "run"]);
        git(root, &["add", "-f", "out/forced"]);
        directory
    }

    #[test]
    fn a_copy_has_what_git_lists() {
        let repository = repository();
        let to = tempfile::tempdir().unwrap();
        let copied = copy(repository.path(), to.path()).unwrap();
        let listed =
            git(repository.path(), &["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let expected: BTreeSet<_> =
            listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
        assert_eq!(all(to.path()), expected);
        assert_eq!(usize::try_from(copied.files).unwrap(), expected.len());
        assert!(expected.contains(&b"out/forced"[..]) && !expected.contains(&b"out/b"[..]));
        assert!(to.path().join("link").is_symlink() && to.path().join("directory-link").is_symlink());
        assert_eq!(fs::metadata(to.path().join("run")).unwrap().permissions().mode() & 0o111, 0o111);
        let time = |root: &Path| fs::metadata(root.join("a")).unwrap().modified().unwrap();
        assert_eq!(time(to.path()), time(repository.path()));
        assert!(!to.path().join(".git").exists());
    }

    #[test]
    fn a_part_of_a_repository_goes_by_the_rules_above_it() {
        let repository = repository();
        let to = tempfile::tempdir().unwrap();
        copy(&repository.path().join("sub"), to.path()).unwrap();
        let expected: BTreeSet<_> =
            [".gitignore", "deep.log", "src/main.rs"].iter().map(|name| name.as_bytes().to_vec()).collect();
        assert_eq!(all(to.path()), expected);
    }

    #[test]
    fn a_directory_without_git_has_rules_too() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["a", "b/c", "node_modules/x", "b/d.tmp"] {
            write(from.path(), name, name);
        }
        write(from.path(), ".gitignore", "node_modules\n*.tmp\n");
        copy(from.path(), to.path()).unwrap();
        let expected: BTreeSet<_> =
            [".gitignore", "a", "b/c"].iter().map(|name| name.as_bytes().to_vec()).collect();
        assert_eq!(all(to.path()), expected);
    }

    #[test]
    fn a_hostile_repository_makes_nobody_wait_or_read_elsewhere() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = from.path();
        fs::create_dir_all(root.join("a")).unwrap();
        symlink("/dev/zero", root.join(".gitignore")).unwrap();
        let fifo = root.join("a/.gitignore");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        write(root, ".git", "gitdir: /proc/self/root/dev\n");
        write(root, "a/b", "b");
        let copied = copy(root, to.path()).unwrap();
        assert_eq!(copied.files, 2);
        assert!(to.path().join(".gitignore").is_symlink());
        assert!(!to.path().join("a/.gitignore").exists());
    }
}
