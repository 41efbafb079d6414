//! What was written to the root file system, thrown away: set aside at once, removed while the machine is already used.
//!
//! ```text
//! upper/ work/ docker/ ──rename──▶ discarded/upper, discarded/work, …  ──▶ nothing, now or after the next boot
//! ```
//!
//! A directory is removed without going into it deeper than one level: what is not empty is moved up, so neither the stack nor
//! the number of descriptors depends on what a guest has made.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use rustix::io::Errno;

use crate::console;
use crate::mount::{MountError, make_directory};

/// What is thrown away. `upper` first: without it, the next boot lays the disk out anew.
const PARTS: [&str; 3] = ["upper", "work", "docker"];

/// Where it waits to be removed.
const DISCARDED: &str = "discarded";

/// How many names of a directory are read before they are acted upon.
const MAX_BATCH: usize = 4096;

/// How many names are tried for something that is set aside.
const MAX_NAMES: u64 = 1 << 20;

/// What was set aside, on its way to be removed.
#[derive(Debug)]
pub(crate) struct Removal {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Sets aside what was written to the root file system of the disk at `scratch`, which is mounted nowhere else.
pub(crate) fn set_aside(scratch: &Path) -> Result<(), MountError> {
    make_directory(&scratch.join(DISCARDED))?;
    let set_aside = || -> io::Result<()> {
        let (disk, discarded) = (File::open(scratch)?, File::open(scratch.join(DISCARDED))?);
        let mut number = 0;
        for part in PARTS {
            let name = CString::new(part)?;
            match move_up(&disk, &name, &discarded, &mut number) {
                Err(Errno::NOENT) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    };
    set_aside().map_err(|source| MountError::Prepare { what: "set the old files aside".to_owned(), source })
}

/// Begins to remove what was set aside on the disk `scratch`, if anything was.
///
/// # Errors
/// If there is no thread to be had.
pub(crate) fn start(scratch: &File) -> io::Result<Option<Removal>> {
    let discarded = match open_directory(scratch, c"discarded") {
        Ok(discarded) => discarded,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let scratch = scratch.try_clone()?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread =
        std::thread::Builder::new().name("discard".to_owned()).stack_size(64 * 1024).spawn(move || {
            let removed = remove_all(&discarded, &stopped).and_then(|done| {
                if done { unlinkat(&scratch, DISCARDED, AtFlags::REMOVEDIR) } else { Ok(()) }
            });
            if let Err(error) = removed {
                console::say(&format!("cannot remove what was thrown away: {error}"));
            }
        })?;
    Ok(Some(Removal { stop, thread }))
}

impl Removal {
    /// Stops after the current file; the next boot does the rest.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}

/// Empties `directory`; whether it is empty then.
fn remove_all(directory: &OwnedFd, stop: &AtomicBool) -> Result<bool, Errno> {
    let mut number = 0;
    loop {
        let names = names(directory)?;
        if names.is_empty() {
            return Ok(true);
        }
        for name in names {
            if !remove(directory, &name, &mut number, stop)? {
                return Ok(false);
            }
        }
    }
}

/// Removes `name` from `parent`, to which the directories in it are moved; whether that was done before `stop`.
fn remove(parent: &OwnedFd, name: &CStr, number: &mut u64, stop: &AtomicBool) -> Result<bool, Errno> {
    if remove_leaf(parent, name)? {
        return Ok(true);
    }
    let directory = open_directory(parent, name)?;
    loop {
        let names = names(&directory)?;
        if names.is_empty() {
            break;
        }
        for inner in names {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if !remove_leaf(&directory, &inner)? {
                move_up(&directory, &inner, parent, number)?;
            }
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR).map(|()| true)
}

/// Removes `name` from `parent`, unless it is a directory with something in it; whether it was removed.
fn remove_leaf(parent: &OwnedFd, name: &CStr) -> Result<bool, Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error),
    }
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Moves `name` to the directory `to`, under a name that nothing has there.
fn move_up(from: impl AsFd, name: &CStr, to: impl AsFd, number: &mut u64) -> Result<(), Errno> {
    while *number < MAX_NAMES {
        let free = format!("{number}");
        match renameat_with(&from, name, &to, free, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => *number = number.saturating_add(1),
            result => {
                *number = number.saturating_add(1);
                return result;
            }
        }
    }
    // All of them will be free again.
    *number = 0;
    Err(Errno::EXIST)
}

fn open_directory(parent: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Some of the names in `directory`; none only if there are none.
fn names(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
        if names.len() >= MAX_BATCH {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn removed(scratch: &Path) {
        let disk = File::open(scratch).unwrap();
        let Removal { thread, .. } = start(&disk).unwrap().unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn what_is_thrown_away_goes_and_the_home_stays() {
        let disk = tempfile::tempdir().unwrap();
        let scratch = disk.path();
        // Deeper than a path may be long, and than a stack is deep.
        let mut directory = open_directory(File::open(scratch).unwrap(), c".").unwrap();
        for name in std::iter::once(c"upper").chain(std::iter::repeat_n(c"deeper", 3000)) {
            rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755)).unwrap();
            directory = open_directory(&directory, name).unwrap();
            let _ = File::from(
                openat(&directory, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644))
                    .unwrap(),
            );
        }
        fs::create_dir_all(scratch.join("work/work")).unwrap();
        fs::create_dir_all(scratch.join("home/upper")).unwrap();
        set_aside(scratch).unwrap();
        assert!(!scratch.join("upper").exists() && !scratch.join("work").exists());

        // Thrown away once more before the first was removed.
        fs::create_dir_all(scratch.join("upper/again")).unwrap();
        set_aside(scratch).unwrap();
        removed(scratch);
        let left: Vec<_> = fs::read_dir(scratch).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["home"]);
        assert!(start(&File::open(scratch).unwrap()).unwrap().is_none());
    }

    #[test]
    fn a_directory_with_many_names_is_removed_in_batches() {
        let disk = tempfile::tempdir().unwrap();
        let scratch = disk.path();
        for number in 0..MAX_BATCH + 10 {
            fs::create_dir_all(scratch.join(format!("upper/{number}/x"))).unwrap();
        }
        set_aside(scratch).unwrap();
        removed(scratch);
        assert_eq!(fs::read_dir(scratch).unwrap().count(), 0);
    }
}
