//! Each device, driven by a real processor.

use super::*;

#[test]
fn devices_are_where_the_command_line_says_and_agree_on_features() {
    needs_kvm!();
    let mut steps = Steps::new();
    for (number, kind) in [(ROOT, 2), (SCRATCH, 2), (SHARES, 26), (SOCKETS, 19), (ENTROPY, 4)] {
        let device = Steps::device(number);
        steps.expect(device.register(0), 0x7472_6976, 4).expect(device.register(4), 2, 4);
        steps.expect(device.register(8), kind, 4);
        device.set(&mut steps, 0x14, 1);
        steps.expect_bits(device.register(0x10), 1, 4);
        device.negotiate(&mut steps, 1 << 32);
        device.set(&mut steps, 0x70, 0);
        // Without version 1 there is no agreement.
        for status in [1, 3, 11] {
            device.set(&mut steps, 0x70, status);
        }
        steps.expect(device.register(0x70), 3, 4);
    }
    // A sector count of eight, the tag of the file system, the guest's address.
    steps.expect(Steps::device(ROOT).register(0x100), 8, 8);
    steps.say_memory(Steps::device(SHARES).register(0x100), 6).say("\n");
    steps.expect(Steps::device(SOCKETS).register(0x100), 3, 8);
    assert_eq!(said(steps.reset()), ["shares"]);
}

#[test]
fn blocks_are_written_and_read_back_with_interrupts() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let mut steps = Steps::new();
    let (disk, ring) = (device(&mut steps, SCRATCH), rings(1)[0]);
    disk.start(&mut steps, &[ring]);
    // Write sector 5.
    describe_block(&mut steps, &ring, BUFFERS, 512, 0);
    steps.put(BUFFERS, 1, 8).put(BUFFERS + 8, 5, 8).put_bytes(BUFFERS + 0x1000, b"written by a guest");
    ring.offer(&mut steps, 0, 0);
    disk.kick(&mut steps, 0);
    steps.interrupted(1);
    disk.acknowledge(&mut steps, 1);
    ring.expect_used(&mut steps, 0, 0, 1);
    steps.expect(BUFFERS + 0x10, 0, 1);
    // Read it to another place.
    let other = BUFFERS + 0x2000;
    describe_block(&mut steps, &ring, other, 512, WRITE);
    steps.put(other, 0, 8).put(other + 8, 5, 8);
    ring.offer(&mut steps, 1, 0);
    disk.kick(&mut steps, 0);
    steps.interrupted(2);
    disk.acknowledge(&mut steps, 1);
    ring.expect_used(&mut steps, 1, 0, 513);
    steps.say_memory(other + 0x1000, 18).say("\n").reset();
    assert_eq!(said_in(directory.path(), &steps), ["written by a guest"]);
    let bytes = std::fs::read(directory.path().join("scratch")).unwrap();
    assert!(bytes[..5 * 512].iter().all(|byte| *byte == 0));
    assert_eq!(&bytes[5 * 512..][..20], b"written by a guest\0\0");
}

#[test]
fn a_disk_that_is_read_only_stays_as_it_is() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let mut steps = Steps::new();
    let (disk, ring) = (device(&mut steps, ROOT), rings(1)[0]);
    disk.start(&mut steps, &[ring]);
    describe_block(&mut steps, &ring, BUFFERS, 512, 0);
    steps.put(BUFFERS, 1, 8).put(BUFFERS + 8, 0, 8);
    ring.offer(&mut steps, 0, 0);
    disk.kick(&mut steps, 0);
    steps.interrupted(1).expect(BUFFERS + 0x10, 1, 1).say("refused\n").reset();
    assert_eq!(said_in(directory.path(), &steps), ["refused"]);
    assert!(std::fs::read(directory.path().join("root")).unwrap() == [7; 4096]);
}

#[test]
fn entropy_comes() {
    needs_kvm!();
    let mut steps = Steps::new();
    let (entropy, ring) = (device(&mut steps, ENTROPY), rings(1)[0]);
    entropy.start(&mut steps, &[ring]);
    ring.describe(&mut steps, 0, BUFFERS, 64, WRITE);
    for position in 0..3 {
        ring.offer(&mut steps, position, 0);
        entropy.kick(&mut steps, 0);
        steps.interrupted(position + 1);
        entropy.acknowledge(&mut steps, 1);
        ring.expect_used(&mut steps, position, 0, 64);
        steps.say_memory(BUFFERS, 64);
    }
    let directory = TempDir::new().unwrap();
    said_in(directory.path(), steps.reset());
    let said = std::fs::read(directory.path().join("run/console.log")).unwrap();
    assert_eq!(said.len(), 3 * 64);
    assert!(said.chunks(8).all(|bytes| bytes != [0; 8]), "{said:?}");
    assert!(said[..64] != said[64..128] && said[64..128] != said[128..]);
}

#[test]
fn a_host_that_connects_is_answered() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let mut steps = Steps::new();
    let sockets = device(&mut steps, SOCKETS);
    let rings = rings(3);
    let (rx, tx) = (rings[0], rings[1]);
    sockets.start(&mut steps, &rings);
    let (request, data, answer) = (BUFFERS, BUFFERS + 0x1000, BUFFERS + 0x2000);
    for (position, place) in [(0, request), (1, data)] {
        rx.describe(&mut steps, position, place, 0x1000, WRITE);
        rx.offer(&mut steps, position, position);
    }
    sockets.kick(&mut steps, 0);
    steps.say("listening\n");
    // A request for a connection to port 1024 of context 3 (virtio 1.2, 5.10.6): its stream and operation.
    steps.until(rx.indexes()[1], 1, 2).expect(request + 8, 3, 8).expect(request + 20, 1024, 4);
    steps.expect(request + 28, 1 << 16 | 1, 4);
    // The answer goes back where it came from: the port is copied by a write of the device's own bytes.
    let send = |steps: &mut Steps, operation: u64, length: u64, position: u64| {
        steps.put(answer, 3, 8).put(answer + 8, 2, 8).put(answer + 16, 1024, 4);
        steps.copy(answer + 20, request + 16, 4).put(answer + 24, length, 4);
        steps.put(answer + 28, operation << 16 | 1, 4).put(answer + 32, 0, 4);
        steps.put(answer + 36, 0x1_0000, 4).put(answer + 40, 0, 4);
        tx.describe(steps, 0, answer, 44 + length, 0);
        tx.offer(steps, position, 0);
        sockets.kick(steps, 1);
        steps.until(tx.indexes()[1], position + 1, 2);
    };
    send(&mut steps, 2, 0, 0);
    // What the host says comes back.
    steps.until(rx.indexes()[1], 2, 2).expect(data + 24, 5, 4).expect(data + 28, 5 << 16 | 1, 4);
    steps.copy(answer + 44, data + 44, 5);
    send(&mut steps, 5, 5, 1);
    steps.say("echoed\n").spin();

    let machine = start_in(directory.path(), &steps, |_| ());
    wait_for(directory.path(), "listening");
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    machine.vsock().connect(1024, theirs).unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    ours.write_all(b"hello").unwrap();
    let mut echo = [0; 5];
    ours.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"hello");
    wait_for(directory.path(), "echoed");
    machine.kill();
    assert_eq!(machine.wait().reason, ExitReason::Killed);
}

/// A FUSE message (fuse_in_header of Linux's include/uapi/linux/fuse.h): header, then `body`.
fn fuse(opcode: u32, unique: u64, node: u64, body: &[u8]) -> Vec<u8> {
    let mut message = u32::try_from(40 + body.len()).unwrap().to_le_bytes().to_vec();
    message.extend(opcode.to_le_bytes());
    message.extend(unique.to_le_bytes());
    message.extend(node.to_le_bytes());
    message.extend([0; 16]);
    message.extend(body);
    message
}

#[test]
fn a_file_is_looked_up_and_read() {
    needs_kvm!();
    const LOOKUP: u32 = 1;
    const OPEN: u32 = 14;
    const READ: u32 = 15;
    const INIT: u32 = 26;
    let directory = TempDir::new().unwrap();
    let mut steps = Steps::new();
    let shares = device(&mut steps, SHARES);
    let rings = rings(2);
    let requests = rings[1];
    shares.start(&mut steps, &rings);
    let answer_at = |number: u64| BUFFERS + 0x4000 * number + 0x1000;
    let mut number = 0;
    // `handle` is where a file handle is, for the arguments of the message.
    let mut send = |steps: &mut Steps, opcode: u32, node: u64, body: &[u8], handle: Option<u64>| {
        let (question, answer) = (answer_at(number) - 0x1000, answer_at(number));
        let message = fuse(opcode, number + 1, node, body);
        steps.put_bytes(question, &message);
        if let Some(handle) = handle {
            steps.copy(question + 40, handle, 8);
        }
        requests.describe(steps, 0, question, message.len() as u64, NEXT);
        requests.describe(steps, 1, answer, 0x2000, WRITE);
        requests.offer(steps, number, 0);
        shares.kick(steps, 1);
        number += 1;
        steps.interrupted(number);
        shares.acknowledge(steps, 1);
        // No error, and the number of the message.
        steps.expect(answer + 4, 0, 4).expect(answer + 8, number, 8);
        answer + 16
    };
    let version = [7_u32, 31, 0x2_0000, 0].map(u32::to_le_bytes).concat();
    let answer = send(&mut steps, INIT, 0, &version, None);
    steps.expect(answer, 7, 4);
    let (shared, file) = (2, 3);
    let answer = send(&mut steps, LOOKUP, 1, b"shared\0", None);
    steps.expect(answer, shared, 8);
    let answer = send(&mut steps, LOOKUP, shared, b"file\0", None);
    steps.expect(answer, file, 8);
    let handle = send(&mut steps, OPEN, file, &[0; 8], None);
    // Handle, offset, size, four words without meaning here.
    let wanted = [&[0; 16][..], &4096_u32.to_le_bytes(), &[0; 20]].concat();
    let answer = send(&mut steps, READ, file, &wanted, Some(handle));
    steps.expect(answer - 16, 16 + 14, 4).say_memory(answer, 14).reset();
    std::fs::create_dir_all(directory.path().join("shared")).unwrap();
    std::fs::write(directory.path().join("shared/file"), "from the host\n").unwrap();
    assert_eq!(said_in(directory.path(), &steps), ["from the host"]);
}
