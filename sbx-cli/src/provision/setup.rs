//! A step that is a setup command of the manifest.
//!
//! It runs as the agent in a private copy of the workspace, which has every file that git does not ignore, so that it sees the
//! same in every checkout. What it makes outside of the copy, and directories that are new in it, are the layer.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    io,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
};

use sbx_image::normalisation::Workspace;
use sbx_manifest::lock::LockedSetup;
use sbx_proto::SETUP_WORKSPACE;

use super::{
    bench::Reach,
    builder::{Builder, There},
    client::Script,
    inputs,
    key::Hasher,
    machine::{Machine, Workbench},
    script::{self, Log, Order},
    step::{Setup, Step},
    turn::Turn,
};
use crate::{
    error::{CommandError, Result},
    sandbox::blueprint,
    workspace,
};

/// The copy in the `in` directory of the machine.
const COPY: &str = "workspace";

/// Makes the directory for the copy, as root.
const PLACE: &str = include_str!("place.sh");

/// Fills it, as the user who is to own what is in it.
const COPY_IN: &str = include_str!("copy.sh");

/// Runs a command.
const COMMAND: &str = include_str!("command.sh");

impl Builder<'_> {
    /// Takes a step that is a setup command.
    ///
    /// # Errors
    /// If it fails, with its place.
    pub(super) fn take_setup(&mut self, step: &Step, setup: &Setup) -> Result<()> {
        let root = &self.bench.project.root;
        let inputs = inputs::hash(root, &setup.inputs)
            .map_err(|error| error.at(&format!("{}: setup \"{}\"", step.place, step.title)))?;
        let key = self.setup_key(setup, &inputs);
        let locked = LockedSetup { command: setup.command.clone(), inputs };
        if !self.locked.setup.contains(&locked) {
            self.lacking.push(format!("the inputs of setup \"{}\"", step.title));
        }
        self.note_setup(locked);
        let There::ToMake { earlier } = self.look(step, &key)? else { return Ok(()) };
        let mut taking = self.begin(step);
        let turn = Turn::take(self, &key, &taking.progress, || {})?;
        if turn.waited && earlier.is_none() && self.look(step, &key)? == There::Used {
            taking.progress.clear();
            return Ok(());
        }
        taking.progress.doing("copying the workspace", false);
        let workbench = Workbench::new(self.bench.context)?;
        let directories = copy_workspace(root, &workbench).map_err(|error| taking.place(error))?;
        let machine = self.bench.boot(&self.snapshot()?, Reach::Manifest, &[], workbench, &taking.progress);
        let machine = machine.map_err(|error| taking.place(error))?;
        place_workspace(&machine, &mut taking.log).map_err(|error| taking.place(error))?;
        taking.progress.doing("running", true);
        let order = Order { user: None, directory: SETUP_WORKSPACE, timeout: setup.timeout, ..Order::root() };
        let script = Script::new(COMMAND, [&setup.command]);
        let progress = taking.progress.clone();
        let end = script::run(&machine, &script, &order, &mut taking.log, &mut |line| progress.said(line));
        let end = end.map_err(|error| taking.place(error))?;
        if !end.succeeded() {
            return Err(taking.failed("the command failed", &end));
        }
        let ids = blueprint::ids();
        let workspace = Workspace {
            name: SETUP_WORKSPACE.trim_start_matches('/').to_owned(),
            directories,
            owner: (ids.guest_uid, ids.guest_gid),
        };
        let added = self.keep(&taking, &key, machine, Some(workspace), earlier)?;
        taking.done("done", &added);
        Ok(())
    }

    /// Everything that decides what a setup command makes, as far as it is known: what it reads besides its inputs is not.
    fn setup_key(&self, setup: &Setup, inputs: &str) -> String {
        let environment = self.bench.project.manifest().environment();
        let mut key = Hasher::new("setup");
        key.text(&self.key).text(&setup.command).text(inputs);
        for text in [PLACE, COPY_IN, COMMAND] {
            key.text(text);
        }
        for (name, value) in &environment {
            key.text(name).text(value);
        }
        key.finish()
    }
}

/// Copies the workspace into the `in` directory; the directories that it has.
pub(super) fn copy_workspace(root: &Path, workbench: &Workbench) -> Result<BTreeSet<Vec<u8>>> {
    let to = workbench.input().join(COPY);
    let failed = |error: io::Error| {
        CommandError::failed("cannot copy the workspace for a setup command").with_source(error)
    };
    fs::create_dir(&to).map_err(failed)?;
    workspace::copy(root, &to).map_err(|error| {
        CommandError::failed("cannot copy the workspace for a setup command").with_source(error)
    })?;
    let mut directories = BTreeSet::new();
    fs::set_permissions(&to, Permissions::from_mode(0o755)).map_err(failed)?;
    level(&to, Path::new(""), &mut directories).map_err(failed)?;
    Ok(directories)
}

/// Puts the copy where setup commands find it.
pub(super) fn place_workspace(machine: &Machine, log: &mut Log) -> Result<()> {
    let user = blueprint::user();
    let place = Script::new(PLACE, [SETUP_WORKSPACE, &format!("{}:{}", user.uid, user.gid)]);
    let copy = Script::new(COPY_IN, [&format!("{}/{COPY}", super::client::IN), SETUP_WORKSPACE]);
    let agent = Order { user: None, ..Order::root() };
    for (script, order) in [(place, Order::root()), (copy, agent)] {
        let end = script::run(machine, &script, &order, log, &mut |_| {})?;
        if !end.succeeded() {
            return Err(CommandError::failed(format!(
                "cannot copy the workspace into the machine: {}",
                end.words()
            ))
            .with_lines("it said", end.tail));
        }
    }
    Ok(())
}

/// Collects the directories of the copy, and gives everything in it the mode that it would have had with the usual umask, so that
/// what a command copies has the same for everybody. The copy is in a directory that is its user's alone.
fn level(root: &Path, inside: &Path, directories: &mut BTreeSet<Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(inside))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            continue;
        }
        let program = kind.is_dir() || entry.metadata()?.permissions().mode() & 0o100 != 0;
        fs::set_permissions(entry.path(), Permissions::from_mode(if program { 0o755 } else { 0o644 }))?;
        if kind.is_dir() {
            let path = inside.join(entry.file_name());
            directories.insert(path.as_os_str().as_bytes().to_vec());
            level(root, &path, directories)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_do_not_depend_on_the_umask() {
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str, mode: u32| {
            let path = root.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        fs::create_dir(root.path().join("d")).unwrap();
        for (name, mode) in
            [("d/private", 0o600), ("shared", 0o664), ("private-program", 0o700), ("program", 0o775)]
        {
            make(name, mode);
        }
        fs::set_permissions(root.path().join("d"), Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("/nowhere", root.path().join("link")).unwrap();
        let mut directories = BTreeSet::new();
        level(root.path(), Path::new(""), &mut directories).unwrap();
        let mode = |name: &str| fs::metadata(root.path().join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            ["d", "d/private", "shared", "private-program", "program"].map(mode),
            [0o755, 0o644, 0o644, 0o755, 0o755]
        );
        assert_eq!(directories, [b"d".to_vec()].into());
    }
}
