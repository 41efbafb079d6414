//! Reading files that grow, once or for as long as a sandbox lives.

use std::{
    fs::{self, File},
    io::{self, Read, Seek},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    thread,
};

use crate::{
    error::{CommandError, Result},
    sandbox::directory::SandboxDirectory,
    watch::Watch,
};

/// How much is read at a time, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// A file that may not be there yet, that may start anew, and that may be moved away for another one.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    file: Option<File>,
}

impl Tail {
    /// Of the file at `path`, from its beginning.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// Hands to `sink` what came since the last time.
    ///
    /// # Errors
    /// If the file is there and cannot be read, or if the sink fails.
    pub(crate) fn read(&mut self, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
        self.read_all(&mut sink).map_err(|error| {
            CommandError::failed(format!("cannot read {}", self.path.display())).with_source(error)
        })
    }

    fn read_all(&mut self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        // What was moved away is read to its end before the one that took its place.
        if let Some(file) = &mut self.file {
            rest_of(file, sink)?;
            if is_still_at(file, &self.path) {
                return Ok(());
            }
        }
        self.file = match File::open(&self.path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        self.file.as_mut().map_or(Ok(()), |file| rest_of(file, sink))
    }
}

/// Reads from where the last reading ended; from the beginning, if the file has become shorter since.
fn rest_of(file: &mut File, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    if file.metadata()?.len() < file.stream_position()? {
        file.rewind()?;
    }
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => sink(buffer.get(..count).unwrap_or_default())?,
        }
    }
}

/// Whether the name still means this file. One that is gone for a moment is on its way to be replaced.
fn is_still_at(file: &File, path: &std::path::Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(own), Ok(named)) => identity(own) == identity(named),
        _ => true,
    }
}

/// Calls `step` now, and whenever something in the sandbox's directory changed, until the sandbox has stopped and once
/// more.
///
/// # Errors
/// If the directory cannot be watched, or if `step` fails.
pub(crate) fn until_stopped(
    directory: &SandboxDirectory,
    mut step: impl FnMut() -> Result<()>,
) -> Result<()> {
    let failed =
        |error: io::Error| CommandError::failed("cannot watch the logs of the sandbox").with_source(error);
    let watch = Watch::new([directory.path(), &directory.run()]).map_err(failed)?;
    // The end of the process is no change of a file; a thread waits for it, and its end of the pipe tells.
    let (ended, ending) = io::pipe().map_err(failed)?;
    let waited_for = directory.clone();
    thread::spawn(move || {
        let _ = waited_for.wait_until_dead();
        drop(ending);
    });
    loop {
        let alive = directory.is_alive();
        step()?;
        if !alive {
            return Ok(());
        }
        watch.wait_or(&ended).map_err(failed)?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn news(tail: &mut Tail) -> String {
        let mut text = Vec::new();
        tail.read(|bytes| text.write_all(bytes)).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_file_is_read_on_through_truncation_and_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut tail = Tail::new(path.clone());
        assert_eq!(news(&mut tail), "", "it need not be there yet");
        fs::write(&path, "one\n").unwrap();
        assert_eq!(news(&mut tail), "one\n");
        assert_eq!(news(&mut tail), "");
        fs::write(&path, "2\n").unwrap();
        assert_eq!(news(&mut tail), "2\n", "a shorter file has started anew");

        let mut old = File::options().append(true).open(&path).unwrap();
        fs::rename(&path, directory.path().join("log.1")).unwrap();
        assert_eq!(news(&mut tail), "", "between the two");
        old.write_all(b"last of the old\n").unwrap();
        fs::write(&path, "the new one is longer than the old one was\n").unwrap();
        assert_eq!(news(&mut tail), "last of the old\nthe new one is longer than the old one was\n");
    }
}
