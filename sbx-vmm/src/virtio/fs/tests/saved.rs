//! A mount is saved, and goes on in another server.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::virtio::{DeviceState, RestoreError};

impl Client {
    /// The same mount on another server of `list`, by way of bytes.
    fn resumed(self, list: &[Share]) -> Self {
        let bytes = postcard::to_stdvec(&self.device.save()).unwrap();
        let state: DeviceState = postcard::from_bytes(&bytes).unwrap();
        let client = self.resumed_from(list, state.clone()).unwrap();
        assert_eq!(client.device.save(), state, "what was restored is saved as the same");
        client
    }

    fn resumed_from(self, list: &[Share], state: DeviceState) -> Result<Self, RestoreError> {
        let mut device = shares(list, ids()).unwrap();
        device.activate(0);
        device.restore(state)?;
        Ok(Self { device, ..self })
    }

    /// The saved state as a tree that can be changed.
    fn tree(&self) -> Value {
        serde_json::to_value(self.device.save()).unwrap()
    }
}

fn ws(directory: &TempDir) -> [Share; 1] {
    [share("ws", directory.path(), false)]
}

#[test]
fn nodes_and_open_files_go_on() {
    let (mut client, directory) = Client::workspace();
    fs::create_dir_all(directory.path().join("a/b")).unwrap();
    fs::write(directory.path().join("a/b/file"), "first").unwrap();
    let file = client.walk("ws/a/b/file");
    let attributes = client.attributes(file).unwrap();
    let (read, write) = (client.open(file, O_RDONLY).unwrap(), client.open(file, O_WRONLY).unwrap());
    let parent = client.walk("ws/a");
    let (made, new) = client.create(parent, "new", O_RDWR | O_EXCL, 0o644).unwrap();
    assert_eq!(client.write(made.node, new, 0, b"12345", 0).unwrap(), 5);

    let mut client = client.resumed(&ws(&directory));
    assert_eq!(client.attributes(file).unwrap().inode, attributes.inode);
    assert_eq!(client.read(file, read, 0, 100).unwrap(), b"first");
    assert_eq!(client.write(file, read, 0, b"x", 0).unwrap_err(), Errno::BADF, "opened for reading");
    assert_eq!(client.write(file, write, 5, b" second", 0).unwrap(), 7);
    assert_eq!(client.write(file, write, 0, b" third", O_APPEND).unwrap(), 6);
    assert_eq!(client.read(file, write, 0, 1).unwrap_err(), Errno::BADF, "opened for writing");
    assert_eq!(fs::read(directory.path().join("a/b/file")).unwrap(), b"first second third");
    assert_eq!(client.read(made.node, new, 1, 3).unwrap(), b"234");
    assert_eq!(client.walk("ws/a/b/file"), file);
    // What comes next has numbers of its own.
    let other = client.open(file, O_RDONLY).unwrap();
    assert!(![read, write, new].contains(&other));
    for handle in [read, write, other] {
        client.release(file, handle).unwrap();
        assert_eq!(client.read(file, handle, 0, 1).unwrap_err(), Errno::BADF);
    }
    let (fresh, _) = client.create(ROOT + 1, "fresh", O_RDWR, 0o644).unwrap();
    assert!(fresh.node > made.node);

    // Looked up twice before and once after.
    client.forget(file, 1);
    assert!(client.attributes(file).is_ok());
    client.forget(file, 1);
    assert_eq!(client.attributes(file).unwrap_err(), Errno::STALE);
}

#[test]
fn files_are_found_where_the_guest_moved_them() {
    let (mut client, directory) = Client::workspace();
    fs::create_dir_all(directory.path().join("one/two")).unwrap();
    fs::write(directory.path().join("one/two/file"), "moved").unwrap();
    let (share, file) = (client.walk("ws"), client.walk("ws/one/two/file"));
    let (one, two) = (client.walk("ws/one"), client.walk("ws/one/two"));
    let handle = client.open(file, O_RDONLY).unwrap();
    client.rename((two, "file"), (one, "renamed"), 0).unwrap();
    client.rename((share, "one"), (share, "uno"), 0).unwrap();
    client.link(file, share, "linked").unwrap();
    client.unlink(one, "renamed").unwrap();
    let mut client = client.resumed(&ws(&directory));
    assert_eq!(client.read(file, handle, 0, 10).unwrap(), b"moved");
    assert_eq!(client.attributes(file).unwrap().links, 1);
    assert_eq!(client.mkdir(two, "below").unwrap().attributes.mode & 0o777, 0o755);
    assert!(directory.path().join("uno/two/below").is_dir());
}

#[test]
fn what_is_not_the_same_file_any_more_is_stale() {
    let (mut client, directory) = Client::workspace();
    let path = |name: &str| directory.path().join(name);
    let names = ["deleted", "replaced", "renamed", "unlinked", "linked", "kept"];
    for name in names {
        fs::write(path(name), "secret").unwrap();
    }
    let files = names.map(|name| {
        let node = client.walk(&format!("ws/{name}"));
        (node, client.open(node, O_RDWR).unwrap())
    });
    // By the guest, which has it open still.
    client.unlink(ROOT + 1, "unlinked").unwrap();
    assert_eq!(client.read(files[3].0, files[3].1, 0, 10).unwrap(), b"secret");
    let state = client.device.save();
    // By the host, while the guest stands still.
    fs::remove_file(path("deleted")).unwrap();
    fs::write(path("other"), "other").unwrap();
    fs::rename(path("other"), path("replaced")).unwrap();
    fs::rename(path("renamed"), path("gone")).unwrap();
    fs::remove_file(path("linked")).unwrap();
    std::os::unix::fs::symlink("kept", path("linked")).unwrap();

    let mut client = client.resumed_from(&ws(&directory), state).unwrap();
    let (lost, [kept]) = files.split_at(5) else { unreachable!() };
    for (node, handle) in lost.iter().copied() {
        assert_eq!(client.read(node, handle, 0, 10).unwrap_err(), Errno::STALE);
        assert_eq!(client.write(node, handle, 0, b"x", 0).unwrap_err(), Errno::STALE);
        assert_eq!(client.attributes(node).unwrap_err(), Errno::STALE);
        assert_eq!(client.open(node, O_RDONLY).unwrap_err(), Errno::STALE);
    }
    assert_eq!(client.read(kept.0, kept.1, 0, 10).unwrap(), b"secret");
    assert_eq!(fs::read(path("replaced")).unwrap(), b"other");

    // It stays so over another save, even if the file comes back, until the guest closes it.
    fs::rename(path("gone"), path("renamed")).unwrap();
    let mut client = client.resumed(&ws(&directory));
    let (node, handle) = lost[2];
    assert_eq!(client.read(node, handle, 0, 10).unwrap_err(), Errno::STALE);
    assert_eq!(client.read(node + 1, handle, 0, 10).unwrap_err(), Errno::BADF, "another node's");
    assert_eq!(client.attributes(node).unwrap().size, 6, "but the node is that file");
    client.release(node, handle).unwrap();
    assert_eq!(client.read(node, handle, 0, 10).unwrap_err(), Errno::BADF);
    assert_eq!(client.walk("ws/renamed"), node);
}

#[test]
fn rules_are_those_of_the_configuration() {
    let (mut client, directory) = Client::workspace();
    for name in ["file", "other"] {
        fs::write(directory.path().join(name), "as it was").unwrap();
    }
    let (file, other) = (client.walk("ws/file"), client.walk("ws/other"));
    let (read, write) = (client.open(file, O_RDONLY).unwrap(), client.open(file, O_RDWR).unwrap());
    let written = client.open(other, O_WRONLY).unwrap();
    let state = client.device.save();

    let mut list = ws(&directory);
    list[0].protected.push("file".into());
    let mut client = client.resumed_from(&list, state.clone()).unwrap();
    assert_eq!(client.read(file, read, 0, 10).unwrap(), b"as it was");
    assert_eq!(client.write(file, write, 0, b"x", 0).unwrap_err(), Errno::STALE);
    assert_eq!(client.open(file, O_WRONLY).unwrap_err(), Errno::PERM);
    assert_eq!(client.write(other, written, 0, b"x", 0).unwrap(), 1);

    list[0].read_only = true;
    let mut client = client.resumed_from(&list, state).unwrap();
    assert_eq!(client.read(file, read, 0, 10).unwrap(), b"as it was");
    assert_eq!(client.write(other, written, 0, b"x", 0).unwrap_err(), Errno::STALE);
    assert_eq!(client.create(ROOT + 1, "new", O_RDWR, 0o644).unwrap_err(), Errno::ROFS);
    let mut client = client.resumed(&list);
    assert_eq!(client.read(file, read, 0, 10).unwrap(), b"as it was");
    assert_eq!(client.open(file, O_WRONLY).unwrap_err(), Errno::ROFS);
}

#[test]
fn a_read_only_share_goes_on_beside_another_one() {
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::write(first.path().join("file"), "read").unwrap();
    let list = [share("ro", first.path(), true), share("rw", second.path(), false)];
    let mut client = Client::new(&list);
    let file = client.walk("ro/file");
    let handle = client.open(file, O_RDONLY).unwrap();
    let (ro, rw) = (client.walk("ro"), client.walk("rw"));
    let (made, new) = client.create(rw, "made", O_RDWR, 0o600).unwrap();
    let mut client = client.resumed(&list);
    assert_eq!(client.read(file, handle, 0, 10).unwrap(), b"read");
    assert_eq!(client.open(file, O_RDWR).unwrap_err(), Errno::ROFS);
    assert_eq!(client.write(made.node, new, 0, b"new", 0).unwrap(), 3);
    assert_eq!(client.link(made.node, ro, "there").unwrap_err(), Errno::ROFS);
}

#[test]
fn the_shares_must_be_those_that_the_guest_knows() {
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let one = share("one", first.path(), false);
    let two = share("two", second.path(), false);
    let state = Client::new(&[one.clone(), two.clone()]).device.save();
    let refused = |list: &[Share]| {
        let mut device = shares(list, ids()).unwrap();
        device.activate(0);
        device.restore(state.clone()).unwrap_err().to_string()
    };
    let gone = "the guest knows a share \"two\" that the sandbox does not have any more";
    assert_eq!(refused(std::slice::from_ref(&one)), gone);
    assert!(refused(&[two.clone(), one.clone()]).contains("\"one\""));
    let three = share("three", first.path(), true);
    let new = "the sandbox has a share \"three\" that the guest does not know";
    assert_eq!(refused(&[one.clone(), two.clone(), three]), new);
    let mut device = shares(&[one, two], ids()).unwrap();
    assert!(matches!(device.restore(DeviceState::Rng), Err(RestoreError::Kind { .. })));
}

#[test]
fn a_listing_goes_on_from_its_position() {
    let (mut client, directory) = Client::workspace();
    for number in 0..100 {
        fs::write(directory.path().join(format!("file-{number}")), "").unwrap();
    }
    let (mut names, mut position) = (Vec::new(), 0);
    loop {
        let entries = client.list(ROOT + 1, position, 700).unwrap();
        let Some((_, last)) = entries.last() else { break };
        position = *last;
        names.extend(entries.into_iter().map(|(name, _)| name));
        client = client.resumed(&ws(&directory));
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 102);
}

#[test]
fn a_file_loses_its_privileges_with_the_first_write_after_a_restore() {
    let (mut client, directory) = Client::workspace();
    let path = directory.path().join("program");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o4755)).unwrap();
    let file = client.walk("ws/program");
    let handle = client.open(file, O_RDWR).unwrap();
    let mut client = client.resumed(&ws(&directory));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o4755);
    let mut arguments = longs(&[handle, 0, 1]);
    arguments.extend(words(&[0, 0]));
    client.call(opcode::FALLOCATE, file, &arguments).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_file_that_may_not_be_opened_again_is_stale() {
    let (mut client, directory) = Client::workspace();
    let (made, handle) = client.create(ROOT + 1, "object", O_RDWR, 0o444).unwrap();
    assert_eq!(client.write(made.node, handle, 0, b"written", 0).unwrap(), 7);
    let state = client.device.save();
    let mut client = client.resumed_from(&ws(&directory), state).unwrap();
    let answer = client.read(made.node, handle, 0, 10);
    if rustix::process::geteuid().is_root() {
        assert_eq!(answer.unwrap(), b"written");
    } else {
        assert_eq!(answer.unwrap_err(), Errno::STALE);
    }
    let again = client.open(made.node, O_RDONLY).unwrap();
    assert_eq!(client.read(made.node, again, 0, 10).unwrap(), b"written");
}

#[test]
fn a_new_directory_in_a_shares_place_is_the_share_and_has_nothing_of_the_old_one() {
    let (mut client, directory) = Client::workspace();
    fs::create_dir(directory.path().join("inner")).unwrap();
    fs::write(directory.path().join("inner/file"), "old").unwrap();
    fs::write(directory.path().join("file"), "outer").unwrap();
    let inner = client.walk("ws/inner");
    client.walk("ws/inner/file");
    let outer = client.walk("ws/file");
    // What was a directory of the share is now the share.
    let list = [share("ws", &directory.path().join("inner"), false)];
    let state = client.device.save();
    let mut client = client.resumed_from(&list, state).unwrap();
    assert_eq!(client.attributes(inner).unwrap_err(), Errno::STALE);
    assert_eq!(client.attributes(outer).unwrap_err(), Errno::STALE);
    let found = client.lookup(ROOT + 1, "file").unwrap();
    assert_eq!(found.attributes.size, 3);
    client.forget(inner, 1);
    client.mkdir(ROOT + 1, "below").unwrap();
}

/// Two shares, of which one is read-only, with a file each that is known and open: nodes 4 and 5, handles 1 and 2.
fn two_shares() -> (Client, [TempDir; 2], [Share; 2]) {
    let directories = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    for directory in &directories {
        fs::create_dir(directory.path().join("inner")).unwrap();
        fs::write(directory.path().join("file"), "untouched").unwrap();
    }
    let [first, second] = &directories;
    let list = [share("ro", first.path(), true), share("rw", second.path(), false)];
    let mut client = Client::new(&list);
    let files = [client.walk("ro/file"), client.walk("rw/file")];
    assert_eq!(files, [4, 5]);
    client.open(files[0], O_RDONLY).unwrap();
    client.open(files[1], O_RDWR).unwrap();
    (client, directories, list)
}

#[test]
fn states_that_cannot_be_are_refused() {
    let cases: [(&str, Value); 14] = [
        ("/Fs/next_node", 3.into()),
        ("/Fs/next_node", u64::MAX.into()),
        ("/Fs/nodes/0/number", 1.into()),
        ("/Fs/nodes/0/number", 3.into()),
        ("/Fs/nodes/0/number", 5.into()),
        ("/Fs/nodes/0/number", 6.into()),
        ("/Fs/nodes/0/share", 2.into()),
        ("/Fs/nodes/0/lookups", u64::MAX.into()),
        // Found in the other share, whose rules are others; in a file; in more places than are kept.
        ("/Fs/nodes/1/locations/0/parent", 2.into()),
        ("/Fs/nodes/1/locations/0/parent", 5.into()),
        ("/Fs/nodes/1/locations/0/name", Value::from(b"../file".to_vec())),
        ("/Fs/next_file", 0.into()),
        ("/Fs/files/0/handle", 2.into()),
        ("/Fs/files/0/handle", 77.into()),
    ];
    for (place, value) in cases {
        let (client, _directories, list) = two_shares();
        let mut state = client.tree();
        *state.pointer_mut(place).unwrap() = value;
        let mut device = shares(&list, ids()).unwrap();
        device.activate(0);
        let error = device.restore(serde_json::from_value(state).unwrap()).unwrap_err();
        assert!(matches!(error, RestoreError::Malformed { device: "fs", .. }), "{place}: {error}");
        // Nothing of it is left.
        let mut client = Client { device, ..client };
        assert_eq!(client.attributes(4).unwrap_err(), Errno::STALE);
        assert_eq!(client.read(4, 1, 0, 1).unwrap_err(), Errno::BADF);
        assert!(client.lookup(ROOT, "ro").is_ok());
    }
    let (client, _directories, list) = two_shares();
    let mut state = client.tree();
    let identity = state["Fs"]["nodes"][0]["identity"].clone();
    state["Fs"]["nodes"][1]["identity"] = identity;
    state["Fs"]["nodes"][1]["share"] = 0.into();
    let error = client.resumed_from(&list, serde_json::from_value(state).unwrap()).err().unwrap();
    assert_eq!(error.to_string(), "the state of the fs device is damaged: two nodes are one file");
}

#[test]
fn a_state_opens_nothing_that_the_guest_could_not_open() {
    let (client, directories, list) = two_shares();
    let mut state = client.tree();
    // A read-only share's file for writing, another one to be cut; a share's root and the device's; no node.
    state["Fs"]["files"][0]["flags"] = O_RDWR.into();
    state["Fs"]["files"][1]["flags"] = (O_RDWR | O_TRUNC).into();
    let mut more = state["Fs"]["files"].as_array().unwrap().clone();
    for (handle, node) in [(3, 2), (4, 1), (5, 99)] {
        let mut file = more[0].clone();
        (file["handle"], file["node"]) = (handle.into(), node.into());
        more.push(file);
    }
    state["Fs"]["files"] = more.into();
    state["Fs"]["next_file"] = 6.into();
    let mut client = client.resumed_from(&list, serde_json::from_value(state).unwrap()).unwrap();
    for (node, handle) in [(4, 1), (2, 3), (1, 4), (99, 5)] {
        assert_eq!(client.read(node, handle, 0, 1).unwrap_err(), Errno::STALE);
        assert_eq!(client.write(node, handle, 0, b"x", 0).unwrap_err(), Errno::STALE);
        client.release(node, handle).unwrap();
    }
    assert_eq!(client.read(5, 2, 0, 9).unwrap(), b"untouched");
    assert_eq!(fs::read(directories[0].path().join("file")).unwrap(), b"untouched");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever a state says, the server survives, and the read-only share and what is outside stay as they are.
    #[test]
    fn altered_states_change_nothing_that_may_not_be_changed(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (client, directories, list) = two_shares();
        let mut bytes = postcard::to_stdvec(&client.device.save()).unwrap();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let Ok(state) = postcard::from_bytes::<DeviceState>(&bytes) else { return Ok(()) };
        let Ok(mut client) = client.resumed_from(&list, state) else { return Ok(()) };
        for node in 1..8 {
            let _ = client.attributes(node);
            let _ = client.list(node, 0, 4096);
            let _ = client.create(node, "new", O_RDWR, 0o644);
            for handle in 1..4 {
                let _ = client.write(node, handle, 0, b"overwritten", 0);
                let _ = client.release(node, handle);
            }
            if let Ok(handle) = client.open(node, O_RDWR) {
                let _ = client.write(node, handle, 0, b"overwritten", 0);
            }
            client.forget(node, 3);
        }
        let [read_only, _] = directories;
        prop_assert_eq!(fs::read(read_only.path().join("file")).unwrap(), b"untouched");
        prop_assert_eq!(fs::read_dir(read_only.path()).unwrap().count(), 2);
        prop_assert!(client.lookup(ROOT, "rw").is_ok());
    }
}
