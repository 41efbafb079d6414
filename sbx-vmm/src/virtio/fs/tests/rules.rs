//! What a guest may not do: names, ids, read-only shares, protected paths.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A repository with everything that sbx protects, and an alias that was there before.
fn repository() -> (Client, TempDir, u64) {
    let (mut client, directory) = Client::workspace();
    let path = directory.path();
    fs::create_dir_all(path.join(".git/hooks")).unwrap();
    fs::write(path.join(".git/hooks/sample"), "#!/bin/sh\n").unwrap();
    fs::write(path.join(".git/config"), "").unwrap();
    fs::write(path.join("sandbox.kdl"), "image \"debian\"\n").unwrap();
    fs::hard_link(path.join("sandbox.kdl"), path.join("alias")).unwrap();
    fs::hard_link(path.join(".git/hooks/sample"), path.join("hook")).unwrap();
    fs::write(path.join("file"), "free\n").unwrap();
    fs::create_dir(path.join("other")).unwrap();
    fs::create_dir(path.join("other/hooks")).unwrap();
    let root = client.walk("ws");
    (client, directory, root)
}

/// Names, contents, modes of everything below `path`.
fn snapshot(path: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut all = Vec::new();
    let mut left = vec![path.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let status = fs::symlink_metadata(&path).unwrap();
            if status.is_dir() {
                left.push(path.clone());
            }
            let contents = if status.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            all.push((path, status.mode(), contents));
        }
    }
    all.sort();
    all
}

#[test]
fn names_are_one_component() {
    let (mut client, _directory) = Client::workspace();
    let root = client.walk("ws");
    client.mkdir(root, "d").unwrap();
    for name in ["", ".", "..", "/", "d/..", "../..", "/etc/passwd", "d/"] {
        assert_eq!(client.lookup(root, name).unwrap_err(), Errno::INVAL, "{name:?}");
        assert_eq!(client.create(root, name, O_RDWR, 0o644).unwrap_err(), Errno::INVAL, "{name:?}");
        assert_eq!(client.mkdir(root, name).unwrap_err(), Errno::INVAL, "{name:?}");
        assert_eq!(client.rename((root, "d"), (root, name), 0).unwrap_err(), Errno::INVAL, "{name:?}");
        assert_eq!(client.unlink(root, name).unwrap_err(), Errno::INVAL, "{name:?}");
    }
    let long = "x".repeat(256);
    assert_eq!(client.lookup(root, &long).unwrap_err(), Errno::NAMETOOLONG);
    assert_eq!(client.mkdir(root, &long).unwrap_err(), Errno::NAMETOOLONG);
}

#[test]
fn the_device_root_lists_the_shares_and_nothing_can_be_changed_there() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut client = Client::new(&[share("one", one.path(), false), share("two", two.path(), true)]);
    let names: Vec<_> = client.list(ROOT, 0, 4096).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [b"one", b"two"]);
    assert_eq!(client.lookup(ROOT, "three").unwrap_err(), Errno::NOENT);
    assert_eq!(client.lookup(ROOT, "..").unwrap_err(), Errno::NOENT);
    assert_eq!(client.mkdir(ROOT, "x").unwrap_err(), Errno::ROFS);
    assert_eq!(client.rmdir(ROOT, "one").unwrap_err(), Errno::ROFS);
    let first = client.walk("one");
    assert_eq!(client.rename((ROOT, "one"), (first, "x"), 0).unwrap_err(), Errno::ROFS);
}

#[test]
fn symbolic_links_are_not_followed() {
    let (mut client, directory) = Client::workspace();
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), directory.path().join("way-out")).unwrap();
    symlink(outside.path().join("secret"), directory.path().join("leak")).unwrap();
    let root = client.walk("ws");
    let link = client.lookup(root, "way-out").unwrap();
    assert_eq!(link.attributes.mode & 0o170_000, 0o120_000);
    assert_eq!(client.lookup(link.node, "secret").unwrap_err(), Errno::NOTDIR);
    assert_eq!(client.mkdir(link.node, "x").unwrap_err(), Errno::NOTDIR);
    let leak = client.walk("ws/leak");
    assert!(client.open(leak, O_RDONLY).is_err());
    assert!(client.create(root, "leak", O_RDWR, 0o644).is_err(), "not even by making the file it names");
    assert!(client.set(leak, Wanted { valid: MODE, mode: 0o777, ..Wanted::default() }).is_err());
    assert!(client.set(leak, Wanted { valid: SIZE, ..Wanted::default() }).is_err());
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
    assert_eq!(
        client.call(opcode::READLINK, leak, &[]).unwrap(),
        outside.path().join("secret").as_os_str().as_bytes()
    );
}

#[test]
fn a_directory_that_becomes_a_link_leads_nowhere() {
    let (mut client, directory) = Client::workspace();
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("f"), "outside").unwrap();
    fs::create_dir(directory.path().join("d")).unwrap();
    fs::write(directory.path().join("d/f"), "inside").unwrap();
    let node = client.walk("ws/d");
    let file = client.lookup(node, "f").unwrap().node;
    fs::rename(directory.path().join("d"), directory.path().join("moved")).unwrap();
    symlink(outside.path(), directory.path().join("d")).unwrap();
    client.device_reopens();
    assert_eq!(client.lookup(node, "f").unwrap_err(), Errno::STALE);
    assert_eq!(client.open(file, O_RDONLY).unwrap_err(), Errno::STALE);
}

#[test]
fn files_belong_to_the_agent_and_to_nobody_it_could_be_mistaken_for() {
    let (mut client, directory) = Client::workspace();
    let root = client.walk("ws");
    let (file, _) = client.create(root, "f", O_RDWR, 0o640).unwrap();
    assert_eq!((file.attributes.uid, file.attributes.gid), (AGENT, AGENT));
    assert_eq!(file.attributes.mode, 0o100_640);
    let status = fs::metadata(directory.path().join("f")).unwrap();
    assert_eq!(status.uid(), rustix::process::geteuid().as_raw());
    for (uid, gid) in [(AGENT, AGENT), (0, 0), (AGENT, 0)] {
        let wanted = Wanted { valid: UID | GID, uid, gid, ..Wanted::default() };
        client.set(file.node, wanted).unwrap();
    }
    for (valid, uid, gid) in [(UID, 33, 0), (GID, 0, 33), (UID | GID, AGENT, 12)] {
        let wanted = Wanted { valid, uid, gid, ..Wanted::default() };
        assert_eq!(client.set(file.node, wanted).unwrap_err(), Errno::PERM);
    }
    let after = fs::metadata(directory.path().join("f")).unwrap();
    assert_eq!((after.uid(), after.gid()), (status.uid(), status.gid()));
}

#[test]
fn no_file_gets_the_rights_of_its_owner_or_becomes_a_device() {
    let (mut client, directory) = Client::workspace();
    let root = client.walk("ws");
    let (file, handle) = client.create(root, "f", O_RDWR, 0o6755).unwrap();
    client.mknod(root, "n", 0o106_755).unwrap();
    client.set(file.node, Wanted { valid: MODE, mode: 0o6777, ..Wanted::default() }).unwrap();
    for name in ["f", "n"] {
        let mode = fs::metadata(directory.path().join(name)).unwrap().mode();
        assert_eq!(mode & 0o6000, 0, "{name}: {mode:o}");
    }
    for mode in [0o020_666, 0o060_666] {
        assert_eq!(client.mknod(root, "device", mode).unwrap_err(), Errno::PERM);
    }
    client.mknod(root, "fifo", 0o010_644).unwrap();
    client.mknod(root, "socket", 0o140_644).unwrap();
    let fifo = client.walk("ws/fifo");
    assert_eq!(client.open(fifo, O_RDONLY).unwrap_err(), Errno::NXIO, "and does not wait for a writer");

    // A file of the host's that has such rights loses them when a guest writes to it.
    fs::set_permissions(directory.path().join("f"), PermissionsExt::from_mode(0o4755)).unwrap();
    client.release(file.node, handle).unwrap();
    let handle = client.open(file.node, O_WRONLY).unwrap();
    let mut arguments = longs(&[handle, 0]);
    arguments.extend(words(&[1, 4, 0, 0, 0, 0]));
    arguments.push(b'x');
    client.call(opcode::WRITE, file.node, &arguments).unwrap();
    assert_eq!(fs::metadata(directory.path().join("f")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn only_the_users_own_attributes_exist() {
    let (mut client, directory) = Client::workspace();
    fs::write(directory.path().join("f"), "").unwrap();
    let file = client.walk("ws/f");
    match client.set_xattr(file, "user.colour", b"green") {
        // The file system of the temporary directory may have none.
        Err(Errno::OPNOTSUPP) => return,
        result => result.unwrap(),
    }
    assert_eq!(client.xattr(file, "user.colour").unwrap(), b"green");
    for name in ["security.capability", "system.posix_acl_access", "trusted.overlay.opaque", "user.", "x"] {
        assert_eq!(client.set_xattr(file, name, b"x").unwrap_err(), Errno::OPNOTSUPP, "{name}");
        assert_eq!(client.xattr(file, name).unwrap_err(), Errno::OPNOTSUPP, "{name}");
    }
    assert_eq!(client.call(opcode::LISTXATTR, file, &words(&[4096, 0])).unwrap(), b"user.colour\0");
    client.call(opcode::REMOVEXATTR, file, &text(b"user.colour")).unwrap();
    assert_eq!(client.xattr(file, "user.colour").unwrap_err(), Errno::NODATA);
}

#[test]
fn a_read_only_share_refuses_every_change() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    fs::create_dir(path.join("d")).unwrap();
    fs::write(path.join("f"), "contents").unwrap();
    let mut client = Client::new(&[share("ro", path, true)]);
    let before = snapshot(path);
    let root = client.walk("ro");
    let file = client.walk("ro/f");
    let refused = [
        client.create(root, "new", O_RDWR, 0o644).map(drop),
        client.create(root, "f", O_RDONLY, 0o644).map(drop),
        client.mkdir(root, "new").map(drop),
        client.mknod(root, "new", 0o100_644).map(drop),
        client.symlink(root, "new", "f").map(drop),
        client.link(file, root, "new").map(drop),
        client.unlink(root, "f"),
        client.rmdir(root, "d"),
        client.rename((root, "f"), (root, "g"), 0),
        client.rename((root, "f"), (root, "d"), EXCHANGE),
        client.open(file, O_WRONLY).map(drop),
        client.open(file, O_RDWR).map(drop),
        client.open(file, O_RDONLY | O_TRUNC).map(drop),
        client.set(file, Wanted { valid: MODE, mode: 0o777, ..Wanted::default() }).map(drop),
        client.set(file, Wanted { valid: SIZE, ..Wanted::default() }).map(drop),
        client.set(file, Wanted { valid: MTIME, ..Wanted::default() }).map(drop),
        client.set(file, Wanted { valid: UID, uid: AGENT, ..Wanted::default() }).map(drop),
        client.set_xattr(file, "user.x", b"x"),
        client.call(opcode::REMOVEXATTR, file, &text(b"user.x")).map(drop),
    ];
    for (index, result) in refused.into_iter().enumerate() {
        assert_eq!(result.unwrap_err(), Errno::ROFS, "change {index}");
    }
    let handle = client.open(file, O_RDONLY).unwrap();
    assert_eq!(client.read(file, handle, 0, 100).unwrap(), b"contents");
    assert_eq!(client.write(file, handle, 0, b"x", 0).unwrap_err(), Errno::BADF);
    let mut arguments = longs(&[handle, 0, 10]);
    arguments.extend(words(&[0, 0]));
    assert_eq!(client.call(opcode::FALLOCATE, file, &arguments).unwrap_err(), Errno::BADF);
    assert_eq!(snapshot(path), before);
}

#[test]
fn protected_files_are_read_and_nothing_else() {
    let (mut client, directory, root) = repository();
    let before = snapshot(directory.path());
    let git = client.walk("ws/.git");
    let hooks = client.walk("ws/.git/hooks");
    for (parent, name, path) in
        [(root, "sandbox.kdl", "ws/sandbox.kdl"), (hooks, "sample", "ws/.git/hooks/sample")]
    {
        let node = client.walk(path);
        let handle = client.open(node, O_RDONLY).unwrap();
        assert!(!client.read(node, handle, 0, 100).unwrap().is_empty());
        client.release(node, handle).unwrap();
        let refused = [
            client.open(node, O_WRONLY).map(drop),
            client.open(node, O_RDONLY | O_TRUNC).map(drop),
            client.create(parent, name, O_RDWR, 0o644).map(drop),
            client.unlink(parent, name),
            client.rename((parent, name), (root, "away"), 0),
            client.rename((root, "file"), (parent, name), 0),
            client.rename((root, "file"), (parent, name), EXCHANGE),
            client.rename((parent, name), (root, "file"), EXCHANGE),
            client.link(node, root, "hard").map(drop),
        ];
        let set = [
            Wanted { valid: MODE, mode: 0o777, ..Wanted::default() },
            Wanted { valid: SIZE, ..Wanted::default() },
            Wanted { valid: MTIME, ..Wanted::default() },
        ]
        .map(|wanted| client.set(node, wanted).map(drop));
        let xattr = client.set_xattr(node, "user.x", b"x");
        for (index, result) in refused.into_iter().chain(set).chain([xattr]).enumerate() {
            assert_eq!(result.unwrap_err(), Errno::PERM, "{path}: change {index}");
        }
    }
    let file = client.walk("ws/file");
    for (parent, name) in [(root, "sandbox.lock"), (root, "SANDBOX.LOCK"), (hooks, "pre-commit")] {
        let refused = [
            client.create(parent, name, O_RDWR, 0o755).map(drop),
            client.mkdir(parent, name).map(drop),
            client.mknod(parent, name, 0o100_755).map(drop),
            client.symlink(parent, name, "file").map(drop),
            client.link(file, parent, name).map(drop),
            client.rename((root, "file"), (parent, name), 0),
        ];
        for (index, result) in refused.into_iter().enumerate() {
            assert_eq!(result.unwrap_err(), Errno::PERM, "{name}: change {index}");
        }
    }
    assert_eq!(client.rmdir(git, "hooks").unwrap_err(), Errno::PERM);
    assert_eq!(snapshot(directory.path()), before);
}

#[test]
fn what_is_above_a_protected_path_stays_where_it_is() {
    let (mut client, directory, root) = repository();
    let before = snapshot(directory.path());
    let git = client.walk("ws/.git");
    let other = client.walk("ws/other");
    let refused = [
        client.rename((root, ".git"), (root, ".git2"), 0),
        client.rename((root, ".git"), (other, "x"), 0),
        client.rename((root, "other"), (root, ".git"), 0),
        client.rename((root, "other"), (root, ".git"), EXCHANGE),
        client.rename((root, ".git"), (root, "other"), EXCHANGE),
        client.rename((git, "hooks"), (git, "h"), 0),
        client.rename((other, "hooks"), (git, "hooks"), 0),
        client.rename((git, "hooks"), (other, "hooks"), EXCHANGE),
    ];
    for (index, result) in refused.into_iter().enumerate() {
        assert_eq!(result.unwrap_err(), Errno::PERM, "change {index}");
    }
    assert_eq!(snapshot(directory.path()), before);
    // The rest of .git is the agent's to work with.
    let (config, handle) = client.create(git, "config.lock", O_WRONLY, 0o644).unwrap();
    client.write(config.node, handle, 0, b"[core]\n", 0).unwrap();
    client.rename((git, "config.lock"), (git, "config"), 0).unwrap();
    client.rename((root, "other"), (root, "renamed"), 0).unwrap();
}

#[test]
fn a_repository_can_be_made_inside_but_not_its_hooks() {
    let (mut client, directory) = Client::workspace();
    let root = client.walk("ws");
    fs::create_dir(directory.path().join("evil")).unwrap();
    assert_eq!(client.symlink(root, ".git", "evil").unwrap_err(), Errno::PERM);
    assert_eq!(client.create(root, ".git", O_RDWR, 0o644).unwrap_err(), Errno::PERM);
    assert_eq!(client.rename((root, "evil"), (root, ".git"), 0).unwrap_err(), Errno::PERM);
    let git = client.mkdir(root, ".git").unwrap().node;
    client.create(git, "HEAD", O_RDWR, 0o644).unwrap();
    assert_eq!(client.mkdir(git, "hooks").unwrap_err(), Errno::PERM);
    assert_eq!(client.symlink(git, "hooks", "../evil").unwrap_err(), Errno::PERM);
    client.unlink(git, "HEAD").unwrap();
    client.rmdir(root, ".git").unwrap();
    // Elsewhere such names mean nothing.
    let inner = client.mkdir(root, "vendored").unwrap().node;
    let git = client.mkdir(inner, ".git").unwrap().node;
    client.mkdir(git, "hooks").unwrap();
    client.create(inner, "sandbox.kdl", O_RDWR, 0o644).unwrap();
}

#[test]
fn another_name_of_a_protected_file_does_not_help() {
    let (mut client, directory, root) = repository();
    let before = snapshot(directory.path());
    for alias in ["alias", "hook"] {
        let node = client.lookup(root, alias).unwrap().node;
        assert_eq!(client.open(node, O_WRONLY).unwrap_err(), Errno::PERM, "{alias}");
        assert_eq!(
            client.create(root, alias, O_WRONLY | O_TRUNC, 0o644).unwrap_err(),
            Errno::PERM,
            "{alias}"
        );
        let mode = Wanted { valid: MODE, mode: 0o777, ..Wanted::default() };
        assert_eq!(client.set(node, mode).unwrap_err(), Errno::PERM, "{alias}");
        let size = Wanted { valid: SIZE, ..Wanted::default() };
        assert_eq!(client.set(node, size).unwrap_err(), Errno::PERM, "{alias}");
        assert_eq!(client.set_xattr(node, "user.x", b"x").unwrap_err(), Errno::PERM, "{alias}");
        assert_eq!(client.link(node, root, "more").unwrap_err(), Errno::PERM, "{alias}");
    }
    assert_eq!(snapshot(directory.path()), before);
    // Two names of a file that is not protected are the guest's.
    let file = client.walk("ws/file");
    let twin = client.link(file, root, "twin").unwrap();
    assert_eq!((twin.node, twin.attributes.links), (file, 2));
    client.open(file, O_WRONLY).unwrap();
}

#[test]
fn what_the_host_moves_to_a_protected_path_is_protected_from_then_on() {
    let (mut client, directory, root) = repository();
    let (draft, handle) = client.create(root, "sandbox.kdl.new", O_RDWR, 0o644).unwrap();
    client.write(draft.node, handle, 0, b"a", 0).unwrap();
    fs::rename(directory.path().join("sandbox.kdl.new"), directory.path().join("sandbox.kdl")).unwrap();
    assert_eq!(client.write(draft.node, handle, 0, b"b", 0).unwrap_err(), Errno::PERM);

    let other = client.walk("ws/other");
    client.create(other, "mine", O_RDWR, 0o755).unwrap();
    fs::rename(directory.path().join("other"), directory.path().join(".git/hooks/other")).unwrap();
    assert_eq!(client.create(other, "pre-commit", O_RDWR, 0o755).unwrap_err(), Errno::PERM);
    assert_eq!(client.unlink(other, "mine").unwrap_err(), Errno::PERM);

    let outside = TempDir::new().unwrap();
    let gone = client.mkdir(root, "gone").unwrap().node;
    fs::rename(directory.path().join("gone"), outside.path().join("gone")).unwrap();
    assert_eq!(client.mkdir(gone, "x").unwrap_err(), Errno::STALE, "moved out of the share");
}

#[test]
fn one_share_is_no_way_around_another() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    fs::create_dir_all(path.join(".git/hooks")).unwrap();
    fs::create_dir_all(path.join("docs/deep")).unwrap();
    fs::write(path.join("file"), "").unwrap();
    let open = |name: &str, host: PathBuf, read_only| Share {
        name: name.into(),
        host,
        read_only,
        protected: Vec::new(),
    };
    let mut client = Client::new(&[
        share("ws", path, false),
        open("git", path.join(".git"), false),
        open("hooks", path.join(".git/hooks"), false),
        open("docs", path.join("docs"), true),
    ]);
    let (ws, git, hooks) = (client.walk("ws"), client.walk("git"), client.walk("hooks"));
    assert_eq!(client.mkdir(hooks, "x").unwrap_err(), Errno::ROFS);
    assert_eq!(client.rename((git, "hooks"), (git, "h"), 0).unwrap_err(), Errno::PERM);
    let inner = client.lookup(git, "hooks").unwrap().node;
    assert_eq!(client.create(inner, "pre-commit", O_RDWR, 0o755).unwrap_err(), Errno::PERM);
    let deep = client.walk("ws/docs/deep");
    assert_eq!(client.mkdir(deep, "x").unwrap_err(), Errno::PERM);
    assert_eq!(client.rename((ws, "docs"), (ws, "d"), 0).unwrap_err(), Errno::PERM);
    let file = client.walk("ws/file");
    assert_eq!(client.link(file, git, "file").unwrap_err(), Errno::XDEV);
    assert_eq!(client.rename((ws, "file"), (git, "file"), 0).unwrap_err(), Errno::XDEV);
}

#[test]
fn bad_shares_are_refused() {
    let directory = TempDir::new().unwrap();
    let ids = IdMap { host_uid: 0, host_gid: 0, guest_uid: 0, guest_gid: 0 };
    for name in ["", ".", "..", "a/b"] {
        let error = shares(&[share(name, directory.path(), false)], ids).unwrap_err();
        assert_eq!(error.to_string(), format!("{name:?} cannot be the name of a share"));
    }
    let twice = [share("a", directory.path(), false), share("a", directory.path(), false)];
    assert!(shares(&twice, ids).is_err());
    let missing = shares(&[share("a", Path::new("/nonexistent/x"), false)], ids).unwrap_err();
    assert_eq!(missing.to_string(), "cannot share /nonexistent/x");
}
