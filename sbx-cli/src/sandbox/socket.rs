//! The control socket's address, however long the path of the sandbox is.
//!
//! A Unix socket's path holds 107 bytes (`unix(7)`). The directory is opened instead, and the socket named through
//! `/proc/self/fd`, which is always short.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

const NAME: &str = "control.sock";

/// Listens in `directory`, in place of whatever an earlier process left there.
pub(crate) fn listen(directory: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(directory.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let handle = File::open(directory)?;
    UnixListener::bind(short(&handle))
}

/// Connects to the process that listens in `directory`.
pub(crate) fn connect(directory: &Path) -> io::Result<UnixStream> {
    let handle = File::open(directory)?;
    UnixStream::connect(short(&handle))
}

fn short(directory: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_long_path_is_no_obstacle() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("d".repeat(200));
        fs::create_dir(&directory).unwrap();
        drop(listen(&directory).unwrap());
        let listener = listen(&directory).unwrap();
        connect(&directory).unwrap().write_all(b"x").unwrap();
        let mut received = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"x");
    }
}
