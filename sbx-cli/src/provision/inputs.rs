//! What a setup command depends on: a hash over names and contents of files.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use sbx_manifest::lock::LockedSetup;

use super::key::Hasher;
use crate::{
    error::{CommandError, Result},
    project::Project,
};

/// Files that the inputs of one command may have in all.
const MAX_FILES: usize = 20_000;

/// Bytes of one input file.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// What the setup commands of `project` depend on now, in their order: what `sbx lock --check` compares.
///
/// # Errors
/// If an input is not there, or cannot be read.
pub(crate) fn of(project: &Project) -> Result<Vec<LockedSetup>> {
    let setup = project.manifest().settings.setup.iter();
    let locked = setup.map(|setup| {
        let inputs: Vec<String> = setup.inputs.iter().map(|input| input.value.clone()).collect();
        let command = setup.command.value.clone();
        Ok(LockedSetup { command, inputs: hash(&project.root, &inputs)? })
    });
    locked.collect()
}

/// A hash over the files below `root` that `inputs` name; of a directory all files in it count. Links count as what they
/// say, and are not followed.
///
/// # Errors
/// If one is not there, or cannot be read.
pub(super) fn hash(root: &Path, inputs: &[String]) -> Result<String> {
    let mut files = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            return Err(CommandError::usage(format!("`{input}` is not in the workspace")));
        }
        collect(root, path, &mut files).map_err(|error| unreadable(input, error))?;
    }
    files.sort_unstable();
    files.dedup();
    let mut hasher = Hasher::new("inputs");
    for path in &files {
        let name = path.to_string_lossy();
        add(&root.join(path), path, &mut hasher).map_err(|error| unreadable(&name, error))?;
    }
    Ok(hasher.finish())
}

fn collect(root: &Path, path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(root.join(path))?;
    if !metadata.is_dir() {
        // `./a` is `a`.
        files.push(path.components().filter(|part| matches!(part, Component::Normal(_))).collect());
        return if files.len() > MAX_FILES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) };
    }
    for entry in fs::read_dir(root.join(path))? {
        collect(root, &path.join(entry?.file_name()), files)?;
    }
    Ok(())
}

fn add(file: &Path, path: &Path, hasher: &mut Hasher) -> io::Result<()> {
    hasher.bytes(path.as_os_str().as_encoded_bytes());
    let metadata = fs::symlink_metadata(file)?;
    if metadata.is_symlink() {
        hasher.text("link").bytes(fs::read_link(file)?.as_os_str().as_encoded_bytes());
        return Ok(());
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut content = Vec::new();
    File::open(file)?.take(MAX_FILE_BYTES.saturating_add(1)).read_to_end(&mut content)?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // As git has it: whether a file is a program decides what a command can do with it.
    let program = metadata.permissions().mode() & 0o111 != 0;
    hasher.text(if program { "program" } else { "file" }).bytes(&content);
    Ok(())
}

fn unreadable(input: &str, error: io::Error) -> CommandError {
    if error.kind() == io::ErrorKind::NotFound {
        return CommandError::usage(format!("there is no `{input}`, which `inputs` names"));
    }
    CommandError::usage(format!("cannot read `{input}`, which `inputs` names")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contents_count_and_their_order_does_not() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        let hash_of = |inputs: &[&str]| {
            let inputs: Vec<String> = inputs.iter().map(|input| (*input).to_owned()).collect();
            hash(root.path(), &inputs).unwrap()
        };
        write("package.json", "{}");
        write("patches/a.patch", "a");
        let before = hash_of(&["package.json", "patches"]);
        assert_eq!(before, hash_of(&["patches/", "./package.json", "patches/a.patch"]));
        assert_ne!(before, hash_of(&["package.json"]));
        write("patches/b.patch", "b");
        let with_another = hash_of(&["package.json", "patches"]);
        assert_ne!(before, with_another);
        let set_mode = |mode: u32| {
            let path = root.path().join("patches/b.patch");
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set_mode(0o600);
        assert_eq!(with_another, hash_of(&["package.json", "patches"]));
        set_mode(0o755);
        assert_ne!(with_another, hash_of(&["package.json", "patches"]));
        set_mode(0o644);
        write("patches/b.patch", "c");
        assert_ne!(with_another, hash_of(&["package.json", "patches"]));
    }

    #[test]
    fn what_is_not_there_or_outside_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("link")).unwrap();
        for input in ["none", "../x", "/etc/passwd"] {
            assert!(hash(root.path(), &[input.to_owned()]).is_err(), "{input}");
        }
        // The link itself, not what it leads to.
        hash(root.path(), &["link".to_owned()]).unwrap();
    }
}
