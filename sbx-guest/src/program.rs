//! Which file a command name means.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Shells that are looked for when a user has none that exists, the most comfortable first.
const SHELLS: [&str; 6] = ["/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh", "/bin/ash", "/busybox/sh"];

/// Why a name means no program.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ProgramError {
    /// A bare name that is in no directory of `PATH`.
    #[error("{name}: executable file not found in $PATH")]
    NotInPath {
        /// The name.
        name: String,
    },
    /// A path to nothing.
    #[error("{name}: no such file or directory")]
    Missing {
        /// The path.
        name: String,
    },
    /// Something is there, but nobody may execute it.
    #[error("{name}: permission denied (not an executable file)")]
    NotExecutable {
        /// The name or path.
        name: String,
    },
    /// The user asked for a shell and the image has none.
    #[error("the image has no shell; name a program of the image to run")]
    NoShell,
}

/// Finds what `name` means for a command that starts in `directory` with this `PATH`.
///
/// The path that is returned is the one to execute *from* `directory`. Whether the user in question may execute
/// it is for the kernel to say.
pub(crate) fn find(name: &[u8], path: &[u8], directory: &Path) -> Result<PathBuf, ProgramError> {
    let shown = String::from_utf8_lossy(name).into_owned();
    let name = Path::new(OsStr::from_bytes(name));
    if shown.is_empty() {
        return Err(ProgramError::NotInPath { name: "\"\"".to_owned() });
    }
    if shown.contains('/') {
        return match probe(&directory.join(name)) {
            Probe::Executable => Ok(name.to_owned()),
            Probe::NotExecutable => Err(ProgramError::NotExecutable { name: shown }),
            Probe::Missing => Err(ProgramError::Missing { name: shown }),
        };
    }
    let mut denied = false;
    for entry in path.split(|byte| *byte == b':') {
        // An empty entry means the current directory (POSIX, XBD 8.3).
        let entry = if entry.is_empty() { b".".as_slice() } else { entry };
        let candidate = Path::new(OsStr::from_bytes(entry)).join(name);
        match probe(&directory.join(&candidate)) {
            Probe::Executable => return Ok(candidate),
            Probe::NotExecutable => denied = true,
            Probe::Missing => {}
        }
    }
    Err(if denied {
        ProgramError::NotExecutable { name: shown }
    } else {
        ProgramError::NotInPath { name: shown }
    })
}

/// The user's shell: the one the image names if it exists and is a shell one can work in, else the first found.
pub(crate) fn shell(preferred: Option<&[u8]>) -> Result<Vec<u8>, ProgramError> {
    let preferred = preferred.filter(|shell| !shell.ends_with(b"/nologin") && !shell.ends_with(b"/false"));
    let known = SHELLS.iter().map(|shell| shell.as_bytes());
    preferred
        .into_iter()
        .chain(known)
        .find(|shell| matches!(probe(Path::new(OsStr::from_bytes(shell))), Probe::Executable))
        .map(<[u8]>::to_vec)
        .ok_or(ProgramError::NoShell)
}

/// `PATH` with `first` before everything else.
pub(crate) fn path_with(first: &str, path: &[u8]) -> OsString {
    let already = path.split(|byte| *byte == b':').next() == Some(first.as_bytes());
    if already || path.is_empty() {
        return OsStr::from_bytes(if path.is_empty() { first.as_bytes() } else { path }).to_owned();
    }
    OsStr::from_bytes(&[first.as_bytes(), path].join(&b':')).to_owned()
}

enum Probe {
    Executable,
    NotExecutable,
    Missing,
}

fn probe(path: &Path) -> Probe {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => Probe::Executable,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Probe::Missing
        }
        _ => Probe::NotExecutable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, mode) in [("one/tool", 0o644), ("two/tool", 0o755), ("one/plain", 0o644), ("here", 0o755)]
        {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        directory
    }

    #[test]
    fn the_first_executable_in_path_wins() {
        let directory = directory();
        assert_eq!(find(b"tool", b"/nowhere:one:two", directory.path()), Ok(PathBuf::from("two/tool")));
        assert_eq!(find(b"here", b":one", directory.path()), Ok(PathBuf::from("./here")));
    }

    #[test]
    fn the_reason_is_told_apart() {
        let directory = directory();
        let error = |name: &[u8]| find(name, b"one", directory.path()).unwrap_err().to_string();
        assert_eq!(error(b"plain"), "plain: permission denied (not an executable file)");
        assert_eq!(error(b"nothing"), "nothing: executable file not found in $PATH");
        assert_eq!(error(b"one/nothing"), "one/nothing: no such file or directory");
        assert_eq!(error(b"here/below"), "here/below: no such file or directory");
        assert_eq!(error(b"./one"), "./one: permission denied (not an executable file)");
        assert_eq!(error(b""), "\"\": executable file not found in $PATH");
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        assert_eq!(find(b"./here", b"", directory().path()), Ok(PathBuf::from("./here")));
    }

    #[test]
    fn an_unusable_shell_is_replaced() {
        assert_eq!(shell(Some(b"/bin/sh")).unwrap(), b"/bin/sh");
        assert!(shell(Some(b"/usr/sbin/nologin")).unwrap().ends_with(b"sh"));
        assert!(shell(Some(b"/no/such/shell")).unwrap().ends_with(b"sh"));
    }

    #[test]
    fn our_directory_comes_first_in_path() {
        assert_eq!(path_with("/x", b"/a:/b"), "/x:/a:/b");
        assert_eq!(path_with("/x", b"/x:/b"), "/x:/b");
        assert_eq!(path_with("/x", b""), "/x");
    }
}
