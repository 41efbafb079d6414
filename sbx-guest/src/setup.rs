//! What setup commands made in the workspace: directories of the image, each over the one of the same name in the
//! workspace of the host.
//!
//! ```text
//!   image     /workspace/node_modules ──────┐ bound over
//!   host      <workspace>/node_modules  ◀───┘ made, empty, where it is missing
//!   /workspace ◀── <workspace>, with all that is bound in it
//! ```
//!
//! The workspace is the host's, and anything may be in it: no symbolic link of it is followed.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, mkdirat, open, openat, openat2,
};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use sbx_proto::User;

/// How a directory is opened to be mounted on.
const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directories, held on to while the workspace is mounted over where they may be.
#[derive(Debug)]
pub(crate) struct SetupDirectories<'a> {
    /// Where they are in the root file system, and where the workspace is to be seen as well.
    place: &'a Path,
    held: Vec<(Vec<u8>, Result<OwnedFd, Errno>)>,
    /// Whether it is to be seen there.
    is_wanted: bool,
}

/// One directory is not there.
#[derive(Debug, thiserror::Error)]
#[error("cannot put the image's {directory} into the workspace")]
pub(crate) struct SetupError {
    directory: String,
    #[source]
    source: io::Error,
}

impl<'a> SetupDirectories<'a> {
    /// Takes hold of `directories`, relative to `place` (as a rule [`sbx_proto::SETUP_WORKSPACE`]).
    pub(crate) fn hold(place: &'a Path, directories: &[Vec<u8>]) -> Self {
        let top = open(place, DIRECTORY, Mode::empty());
        let held = directories.iter().map(|path| {
            let tree = top.as_ref().map_err(|error| *error).and_then(|top| hold_one(top, path));
            (path.clone(), tree)
        });
        let held: Vec<_> = held.collect();
        // An empty one is what is left of a setup command that made no directories.
        let is_empty = fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none());
        Self { place, is_wanted: !held.is_empty() || is_empty, held }
    }

    /// Binds all of them over those in `workspace`, and that to their place; tells what could not be done.
    pub(crate) fn bind(self, workspace: &Path, user: &User) -> Vec<SetupError> {
        let mut failures = Vec::new();
        let mut note = |directory: &[u8], result: Result<(), Errno>| {
            if let Err(error) = result {
                let directory = directory.escape_ascii().to_string();
                failures.push(SetupError { directory, source: error.into() });
            }
        };
        let top = open(workspace, DIRECTORY, Mode::empty());
        for (path, tree) in self.held {
            let top = top.as_ref().map_err(|error| *error);
            note(&path, top.and_then(|top| mount_over(&tree?, &make(top, &path, user)?)));
        }
        // One inside the other would hide itself.
        let is_apart = !workspace.starts_with(self.place) && !self.place.starts_with(workspace);
        if self.is_wanted && is_apart {
            note(self.place.as_os_str().as_bytes(), alias(workspace, self.place));
        }
        failures
    }
}

fn hold_one(top: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let found = openat2(top, OsStr::from_bytes(path), DIRECTORY, Mode::empty(), resolve)?;
    let clone =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(&found, "", clone)
}

/// Opens a directory of the workspace, making what is missing on the way as the user.
fn make(top: &OwnedFd, path: &[u8], user: &User) -> Result<OwnedFd, Errno> {
    let mut directory = openat(top, ".", DIRECTORY, Mode::empty())?;
    for name in path.split(|byte| *byte == b'/') {
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::INVAL);
        }
        let name = OsStr::from_bytes(name);
        match mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
                chownat(&directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        directory = openat(&directory, name, DIRECTORY, Mode::empty())?;
    }
    Ok(directory)
}

/// Lets the workspace be seen at `place` as well, where programs that setup commands installed look for it.
fn alias(workspace: &Path, place: &Path) -> Result<(), Errno> {
    match mkdirat(CWD, place, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let place = open(place, DIRECTORY, Mode::empty())?;
    let clone =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    mount_over(&open_tree(CWD, workspace, clone)?, &place)
}

fn mount_over(tree: impl AsFd, place: impl AsFd) -> Result<(), Errno> {
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", place, "", onto)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    /// Where the test below finds its directories, in a mount name space of its own.
    const ROOT: &str = "SBX_TEST_SETUP_ROOT";

    #[test]
    fn directories_of_setup_are_in_the_workspace_and_at_their_place() {
        if let Some(root) = std::env::var_os(ROOT) {
            return in_own_name_space(Path::new(&root));
        }
        if !rustix::process::geteuid().is_root() {
            // Only root may mount. The end-to-end tests do, in machines.
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let name = "setup::tests::directories_of_setup_are_in_the_workspace_and_at_their_place";
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(ROOT, root.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // What was mounted is gone with the name space; what was made in the workspace is not.
        let made = fs::metadata(root.path().join("project/packages/a/node_modules")).unwrap();
        assert_eq!((made.uid(), made.gid()), (1234, 1235));
        assert!(!root.path().join("outside/node_modules").exists());
    }

    fn in_own_name_space(root: &Path) {
        let (image, workspace) = (root.join("workspace"), root.join("project"));
        for directory in [
            "workspace/node_modules/x",
            "workspace/packages/a/node_modules",
            "workspace/led/out",
            "project/src",
            "outside",
        ] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::write(image.join("node_modules/x/index.js"), "of the image").unwrap();
        fs::write(image.join("packages/a/node_modules/here"), "").unwrap();
        fs::create_dir(workspace.join("node_modules")).unwrap();
        fs::set_permissions(workspace.join("node_modules"), Permissions::from_mode(0o700)).unwrap();
        fs::write(workspace.join("package.json"), "of the host").unwrap();
        symlink(root.join("outside"), workspace.join("led")).unwrap();

        let user = User { name: "agent".to_owned(), uid: 1234, gid: 1235, home: b"/home/agent".to_vec() };
        let directories = ["node_modules", "packages/a/node_modules", "led/out", "missing", "../outside"]
            .map(|path| path.into());
        let failures = SetupDirectories::hold(&image, &directories).bind(&workspace, &user);
        let failed: Vec<&str> = failures.iter().map(|failure| failure.directory.as_str()).collect();
        assert_eq!(failed, ["led/out", "missing", "../outside"]);

        let read = |path: &Path| fs::read_to_string(path).unwrap();
        for top in [&workspace, &image] {
            assert_eq!(read(&top.join("node_modules/x/index.js")), "of the image");
            assert!(top.join("packages/a/node_modules/here").exists());
            assert_eq!(read(&top.join("package.json")), "of the host");
            assert!(top.join("src").is_dir());
        }
        assert_eq!(fs::read_dir(root.join("outside")).unwrap().count(), 0, "no link was followed");
    }
}
