//! A guest's kernel that breaks the rules of FUSE and virtio.

use std::fs;

use super::*;

/// A message with a header of the client's choice.
fn header(length: u32, opcode: u32, node: u64) -> Vec<u8> {
    [words(&[length, opcode]), longs(&[99, node]), words(&[0, 0, 0, 0])].concat()
}

#[test]
fn every_opcode_with_no_arguments_is_answered_or_dropped() {
    let (mut client, _directory) = Client::workspace();
    let root = client.walk("ws");
    for opcode in (0..64).chain([2016, 4096, u32::MAX]) {
        for node in [0, ROOT, root, 77, u64::MAX] {
            let answer = client.send(opcode, node, &[], BUFFER);
            assert!(answer.is_empty() || answer.len() >= 16, "opcode {opcode}: {answer:?}");
        }
        client.call(opcode::INIT, 0, &words(&[7, 41, 0, 0])).unwrap();
    }
    assert!(client.lookup(ROOT, "ws").is_ok(), "still served");
}

#[test]
fn every_opcode_with_arguments_of_all_ones_or_zeros_is_survived() {
    let (mut client, directory) = Client::workspace();
    fs::write(directory.path().join("f"), "contents").unwrap();
    let file = client.walk("ws/f");
    let root = client.walk("ws");
    for opcode in 0..64 {
        for fill in [0_u8, 0xff, 0x41] {
            for length in [1, 8, 16, 40, 64, 88, 104, 4096] {
                client.send(opcode, root, &vec![fill; length], BUFFER);
                client.send(opcode, file, &vec![fill; length], 16);
            }
        }
    }
    assert_eq!(fs::read(directory.path().join("f")).unwrap(), b"contents");
    assert!(client.lookup(ROOT, "ws").is_ok());
}

#[test]
fn lengths_that_lie_are_refused() {
    let (mut client, _directory) = Client::workspace();
    for length in [0, 1, 39, 40, 41, 4096, 1 << 20, u32::MAX] {
        let mut message = header(length, opcode::LOOKUP, ROOT);
        message.extend(text(b"ws"));
        client.guest.write(client.request, &message);
        let request = Buffer::Readable(client.request, u32::try_from(message.len()).unwrap());
        client.guest.add(REQUESTS, &[request, Buffer::Writable(client.answer, 4096)]);
        client.guest.kick(&mut client.device, REQUESTS).unwrap();
        let (_, written) = client.guest.take_used(REQUESTS).unwrap();
        let answer = client.guest.read(client.answer, usize::try_from(written).unwrap());
        assert_eq!(long(&answer, 8), 99, "length {length}");
        assert_ne!(word(&answer, 4), 0, "length {length}");
    }
}

#[test]
fn broken_chains_are_given_back() {
    let (mut client, _directory) = Client::workspace();
    let message = header(43, opcode::LOOKUP, ROOT);
    client.guest.write(client.request, &message);
    let (request, answer) = (client.request, client.answer);
    let chains: [&[Buffer]; 7] = [
        &[Buffer::Readable(request, 40)],
        &[Buffer::Writable(answer, 4096)],
        &[Buffer::Readable(request, 3), Buffer::Writable(answer, 3)],
        &[Buffer::Readable(request, 43), Buffer::Writable(answer, 15)],
        &[Buffer::Readable(u64::MAX - 8, 43), Buffer::Writable(answer, 4096)],
        &[Buffer::Readable(request, 43), Buffer::Writable(1 << 40, 4096)],
        &[Buffer::Readable(request, 43), Buffer::Writable(answer, u32::MAX)],
    ];
    for (index, chain) in chains.into_iter().enumerate() {
        let head = client.guest.add(REQUESTS, chain);
        client.guest.kick(&mut client.device, REQUESTS).unwrap();
        assert_eq!(client.guest.take_used(REQUESTS).expect("given back").0, head, "chain {index}");
    }
    let head = client.guest.add_loop(REQUESTS);
    client.guest.kick(&mut client.device, REQUESTS).unwrap();
    assert_eq!(client.guest.take_used(REQUESTS).unwrap().0, head);
    assert!(client.lookup(ROOT, "ws").is_ok());
}

#[test]
fn handles_of_other_files_are_refused() {
    let (mut client, _directory) = Client::workspace();
    let root = client.walk("ws");
    let (one, handle) = client.create(root, "one", O_RDWR, 0o644).unwrap();
    let (two, _) = client.create(root, "two", O_RDWR, 0o644).unwrap();
    assert_eq!(client.read(two.node, handle, 0, 1).unwrap_err(), Errno::BADF);
    assert_eq!(client.write(root, handle, 0, b"x", 0).unwrap_err(), Errno::BADF);
    assert_eq!(client.release(two.node, handle).unwrap_err(), Errno::BADF);
    assert_eq!(client.read(one.node, handle + 1000, 0, 1).unwrap_err(), Errno::BADF);
    assert!(client.read(one.node, handle, u64::MAX, 1).is_err());
    assert_eq!(client.read(one.node, handle, 0, u32::MAX).unwrap_err(), Errno::INVAL);
    assert_eq!(client.write(one.node, handle, u64::MAX - 1, b"x", 0).unwrap_err(), Errno::INVAL);
}

#[test]
fn forgetting_too_much_forgets_no_share() {
    let (mut client, directory) = Client::workspace();
    fs::write(directory.path().join("f"), "").unwrap();
    let root = client.walk("ws");
    client.forget(root, u64::MAX);
    client.forget(ROOT, u64::MAX);
    client.forget(12345, 1);
    assert!(client.lookup(root, "f").is_ok());
    let file = client.lookup(root, "f").unwrap().node;
    client.forget(file, u64::MAX);
    assert_eq!(client.attributes(file).unwrap_err(), Errno::STALE);
    let directory = client.mkdir(root, "d").unwrap().node;
    let inner = client.mkdir(directory, "inner").unwrap().node;
    client.forget(directory, 1);
    client.device_reopens();
    assert_eq!(client.mkdir(inner, "x").unwrap_err(), Errno::STALE, "its way up is forgotten");
}

#[test]
fn a_reset_drops_all_that_the_guest_had() {
    let (mut client, directory) = Client::workspace();
    fs::write(directory.path().join("f"), "x").unwrap();
    let file = client.walk("ws/f");
    let handle = client.open(file, O_RDONLY).unwrap();
    client.device.reset();
    assert_eq!(client.read(file, handle, 0, 1).unwrap_err(), Errno::BADF);
    assert_eq!(client.attributes(file).unwrap_err(), Errno::STALE);
    assert!(client.lookup(ROOT, "ws").is_ok());
}
