//! What works as on any file system, though the host changes things meanwhile.

use std::ffi::OsStr;
use std::fs;

use super::*;

#[test]
fn writes_and_reads() {
    let (mut client, directory) = Client::workspace();
    let root = client.walk("ws");
    let (file, handle) = client.create(root, "f", O_RDWR, 0o644).unwrap();
    assert_eq!(client.write(file.node, handle, 0, b"hello", 0).unwrap(), 5);
    assert_eq!(client.write(file.node, handle, 10, b"there", 0).unwrap(), 5);
    assert_eq!(client.read(file.node, handle, 0, 100).unwrap(), b"hello\0\0\0\0\0there");
    assert_eq!(client.read(file.node, handle, 15, 100).unwrap(), b"");
    assert_eq!(fs::read(directory.path().join("f")).unwrap(), b"hello\0\0\0\0\0there");
    assert_eq!(client.attributes(file.node).unwrap().size, 15);
    let large = vec![7; 900 << 10];
    assert_eq!(client.write(file.node, handle, 0, &large, 0).unwrap(), 900 << 10);
    assert_eq!(client.read(file.node, handle, 0, 900 << 10).unwrap(), large);
    client.release(file.node, handle).unwrap();
    assert_eq!(client.read(file.node, handle, 0, 1).unwrap_err(), Errno::BADF);
}

#[test]
fn appending_goes_to_the_end_that_the_host_knows() {
    let (mut client, directory) = Client::workspace();
    fs::write(directory.path().join("log"), "guest\n").unwrap();
    let node = client.walk("ws/log");
    let handle = client.open(node, O_WRONLY | O_APPEND).unwrap();
    fs::write(directory.path().join("log"), "guest\nhost\n").unwrap();
    client.write(node, handle, 6, b"again\n", O_APPEND).unwrap();
    assert_eq!(fs::read(directory.path().join("log")).unwrap(), b"guest\nhost\nagain\n");
    // The pages of a mapping go where they belong all the same.
    let mut arguments = longs(&[handle, 0]);
    arguments.extend(words(&[1, 1, 0, 0, O_APPEND, 0]));
    arguments.push(b'G');
    client.call(opcode::WRITE, node, &arguments).unwrap();
    assert_eq!(fs::read(directory.path().join("log")).unwrap(), b"Guest\nhost\nagain\n");
}

#[test]
fn an_open_file_survives_losing_its_name() {
    let (mut client, _directory) = Client::workspace();
    let root = client.walk("ws");
    let (file, handle) = client.create(root, "f", O_RDWR, 0o644).unwrap();
    client.write(file.node, handle, 0, b"still here", 0).unwrap();
    client.unlink(root, "f").unwrap();
    assert_eq!(client.lookup(root, "f").unwrap_err(), Errno::NOENT);
    assert_eq!(client.read(file.node, handle, 0, 100).unwrap(), b"still here");
    assert_eq!(client.attributes(file.node).unwrap().links, 0);
    client.set(file.node, Wanted { valid: SIZE, size: 5, ..Wanted::default() }).unwrap();
    let again = client.open(file.node, O_RDONLY).unwrap();
    assert_eq!(client.read(file.node, again, 0, 100).unwrap(), b"still");
    // As the kernel does when the last user closes it.
    client.forget(file.node, 1);
    client.release(file.node, handle).unwrap();
    client.release(file.node, again).unwrap();
    assert_eq!(client.attributes(file.node).unwrap_err(), Errno::STALE);
}

#[test]
fn a_rename_over_an_open_file_leaves_both_intact() {
    let (mut client, directory) = Client::workspace();
    let root = client.walk("ws");
    let (old, handle) = client.create(root, "f", O_RDWR, 0o644).unwrap();
    client.write(old.node, handle, 0, b"old", 0).unwrap();
    let (new, new_handle) = client.create(root, "f.new", O_RDWR, 0o644).unwrap();
    client.write(new.node, new_handle, 0, b"new", 0).unwrap();
    client.release(new.node, new_handle).unwrap();
    client.rename((root, "f.new"), (root, "f"), 0).unwrap();
    assert_eq!(client.read(old.node, handle, 0, 10).unwrap(), b"old");
    assert_eq!(client.lookup(root, "f").unwrap().node, new.node);
    let handle = client.open(new.node, O_RDONLY).unwrap();
    assert_eq!(client.read(new.node, handle, 0, 10).unwrap(), b"new");
    assert_eq!(fs::read(directory.path().join("f")).unwrap(), b"new");
}

#[test]
fn a_rename_takes_along_what_is_below() {
    let (mut client, _directory) = Client::workspace();
    let root = client.walk("ws");
    let one = client.mkdir(root, "one").unwrap().node;
    let inner = client.mkdir(one, "inner").unwrap().node;
    let (file, handle) = client.create(inner, "f", O_RDWR, 0o644).unwrap();
    client.release(file.node, handle).unwrap();
    let two = client.mkdir(root, "two").unwrap().node;
    client.rename((one, "inner"), (two, "moved"), 0).unwrap();
    client.rename((root, "one"), (root, "two"), EXCHANGE).unwrap();
    client.device_reopens();
    assert_eq!(client.attributes(file.node).unwrap().size, 0);
    assert_eq!(client.lookup(inner, "f").unwrap().node, file.node);
    assert_eq!(client.walk("ws/one/moved/f"), file.node);
}

#[test]
fn a_file_with_several_names_is_found_by_those_that_are_left() {
    let (mut client, _directory) = Client::workspace();
    let root = client.walk("ws");
    let (file, handle) = client.create(root, "a", O_RDWR, 0o644).unwrap();
    client.release(file.node, handle).unwrap();
    for name in ["b", "c"] {
        assert_eq!(client.link(file.node, root, name).unwrap().node, file.node);
    }
    client.unlink(root, "c").unwrap();
    client.unlink(root, "a").unwrap();
    assert_eq!(client.attributes(file.node).unwrap().links, 1);
    assert!(client.open(file.node, O_RDWR).is_ok());
}

#[test]
fn a_file_that_the_host_replaced_is_another_one() {
    let (mut client, directory) = Client::workspace();
    fs::write(directory.path().join("f"), "first").unwrap();
    let first = client.walk("ws/f");
    fs::write(directory.path().join("f.new"), "second").unwrap();
    fs::rename(directory.path().join("f.new"), directory.path().join("f")).unwrap();
    assert_eq!(
        client.attributes(first).unwrap_err(),
        Errno::STALE,
        "upon which the kernel looks it up again"
    );
    assert_eq!(client.open(first, O_RDWR | O_TRUNC).unwrap_err(), Errno::STALE);
    let second = client.walk("ws/f");
    assert_ne!(first, second);
    let handle = client.open(second, O_RDONLY).unwrap();
    assert_eq!(client.read(second, handle, 0, 10).unwrap(), b"second");
}

#[test]
fn open_keeps_the_cache_only_of_unchanged_files() {
    let (mut client, directory) = Client::workspace();
    let path = directory.path().join("f");
    fs::write(&path, "text").unwrap();
    let age = |seconds| {
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    let node = client.walk("ws/f");
    let keeps = |client: &mut Client| {
        word(&client.call(opcode::OPEN, node, &words(&[O_RDONLY, 0])).unwrap(), 8) & 2 != 0
    };
    assert!(!keeps(&mut client));
    assert!(!keeps(&mut client), "too young to be certain that nothing comes after it");
    age(60);
    assert!(!keeps(&mut client));
    assert!(keeps(&mut client));
    age(30);
    assert!(!keeps(&mut client), "changed");
}

#[test]
fn names_may_be_any_bytes() {
    let (mut client, directory) = Client::workspace();
    let name = b"\xff\xfe caf\xe9\n";
    fs::write(directory.path().join(OsStr::from_bytes(name)), "x").unwrap();
    let root = client.walk("ws");
    assert_eq!(client.lookup_bytes(root, name).unwrap().attributes.size, 1);
    let names: Vec<_> = client.list(root, 0, 4096).unwrap().into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().any(|found| found == name), "{names:?}");
}

#[test]
fn modes_are_what_the_guest_asked_for_whatever_our_own_mask() {
    let (mut client, directory) = Client::workspace();
    let root = client.walk("ws");
    for mode in [0o666, 0o600, 0o777, 0o111] {
        let name = format!("f{mode:o}");
        client.create(root, &name, O_RDWR, mode).unwrap();
        assert_eq!(fs::metadata(directory.path().join(name)).unwrap().mode() & 0o7777, mode);
    }
    client.mknod(root, "fifo", 0o010_666).unwrap();
    assert_eq!(fs::metadata(directory.path().join("fifo")).unwrap().mode() & 0o7777, 0o666);
    let mut arguments = words(&[0o1777, 0]);
    arguments.extend(text(b"sticky"));
    client.call(opcode::MKDIR, root, &arguments).unwrap();
    assert_eq!(fs::metadata(directory.path().join("sticky")).unwrap().mode() & 0o7777, 0o1777);
}

#[test]
fn create_is_exclusive_only_on_request() {
    let (mut client, directory) = Client::workspace();
    fs::write(directory.path().join("f"), "there").unwrap();
    let root = client.walk("ws");
    assert_eq!(client.create(root, "f", O_RDWR | O_EXCL, 0o644).unwrap_err(), Errno::EXIST);
    let (file, handle) = client.create(root, "f", O_RDWR, 0o644).unwrap();
    assert_eq!(client.read(file.node, handle, 0, 10).unwrap(), b"there");
    client.create(root, "f", O_RDWR | O_TRUNC, 0o644).unwrap();
    assert_eq!(client.read(file.node, handle, 0, 10).unwrap(), b"");
}

#[test]
fn holes_are_found_and_made() {
    let (mut client, directory) = Client::workspace();
    let root = client.walk("ws");
    let (file, handle) = client.create(root, "f", O_RDWR, 0o644).unwrap();
    client.write(file.node, handle, 1 << 20, &[1; 4096], 0).unwrap();
    let seek = |client: &mut Client, offset, whence| {
        let arguments = [longs(&[handle, offset]), words(&[whence, 0])].concat();
        client.call(opcode::LSEEK, file.node, &arguments).map(|answer| long(&answer, 0))
    };
    assert_eq!(seek(&mut client, 0, 3).unwrap(), 1 << 20);
    assert_eq!(seek(&mut client, 1 << 20, 4).unwrap(), (1 << 20) + 4096);
    assert_eq!(seek(&mut client, 2 << 20, 3).unwrap_err(), Errno::NXIO);
    assert_eq!(seek(&mut client, 0, 9).unwrap_err(), Errno::INVAL);
    let allocate = |client: &mut Client, mode| {
        let arguments = [longs(&[handle, 1 << 20, 4096]), words(&[mode, 0])].concat();
        client.call(opcode::FALLOCATE, file.node, &arguments)
    };
    allocate(&mut client, 3).unwrap();
    assert_eq!(fs::metadata(directory.path().join("f")).unwrap().blocks(), 0);
    assert_eq!(allocate(&mut client, 8).unwrap_err(), Errno::OPNOTSUPP);
}

#[test]
fn a_directory_is_listed_completely_while_it_is_emptied() {
    let (mut client, directory) = Client::workspace();
    let path = directory.path().join("many");
    fs::create_dir(&path).unwrap();
    for number in 0..3000 {
        fs::write(path.join(format!("file-{number}")), "").unwrap();
    }
    let node = client.walk("ws/many");
    let (mut seen, mut position) = (0, 0);
    loop {
        let entries = client.list(node, position, 4096).unwrap();
        let Some((_, last)) = entries.last() else { break };
        position = *last;
        for (name, _) in entries.iter().filter(|(name, _)| name != b"." && name != b"..") {
            client.unlink(node, std::str::from_utf8(name).unwrap()).unwrap();
            seen += 1;
        }
    }
    assert_eq!(seen, 3000);
    assert_eq!(client.list(node, 0, 4096).unwrap().len(), 2, "only . and .. are left");
}

#[test]
fn readdirplus_counts_lookups_only_of_what_it_told() {
    let (mut client, directory) = Client::workspace();
    for number in 0..50 {
        fs::write(directory.path().join(format!("file-{number}")), "").unwrap();
    }
    let root = client.walk("ws");
    let mut arguments = longs(&[0, 0]);
    arguments.extend(words(&[1024, 0, 0, 0, 0, 0]));
    let answer = client.call(opcode::READDIRPLUS, root, &arguments).unwrap();
    assert!(answer.len() <= 1024);
    let mut rest = &answer[..];
    let mut nodes = Vec::new();
    while !rest.is_empty() {
        let entry = found(rest);
        let length = usize::try_from(word(&rest[128..], 16)).unwrap();
        if entry.node != 0 {
            assert_eq!(entry.attributes.inode, long(&rest[128..], 0), "both inode numbers agree");
            nodes.push(entry.node);
        }
        rest = &rest[(128 + 24 + length).next_multiple_of(8)..];
    }
    assert!(!nodes.is_empty());
    for node in nodes {
        client.forget(node, 1);
        assert_eq!(client.attributes(node).unwrap_err(), Errno::STALE);
    }
}

#[test]
fn twenty_thousand_files_cost_few_descriptors() {
    let (mut client, directory) = Client::workspace();
    for outer in 0..200 {
        let path = directory.path().join(format!("d{outer}"));
        fs::create_dir(&path).unwrap();
        for inner in 0..100 {
            fs::write(path.join(format!("f{inner}")), "").unwrap();
        }
    }
    let root = client.walk("ws");
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    let mut nodes = Vec::new();
    for outer in 0..200 {
        let parent = client.lookup(root, &format!("d{outer}")).unwrap().node;
        for inner in 0..100 {
            nodes.push(client.lookup(parent, &format!("f{inner}")).unwrap().node);
        }
    }
    let after = fs::read_dir("/proc/self/fd").unwrap().count();
    // Other tests of this process open files, too.
    assert!(after < before + 1000, "{before} → {after}");
    client.device_reopens();
    for node in nodes.into_iter().step_by(997) {
        assert_eq!(client.attributes(node).unwrap().size, 0);
    }
}
