//! Well-formed chains with any packets: connections come and go, lie about credit, and end in every way.
//!
//! Each packet is 12 bytes of the input: operation, ports, flags, credit, length of data, kind and addresses.

#![no_main]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use libfuzzer_sys::fuzz_target;
use sbx_vmm::testing::{Buffer, Guest};
use sbx_vmm::virtio::VirtioDevice;
use sbx_vmm::virtio::vsock::VsockDevice;

/// Bytes of a header.
const HEADER: u32 = 44;

/// Bytes of a receive buffer.
const RECEIVE: u32 = 256;

/// The first port that the host gives to a connection of its own.
const FIRST_PORT: u32 = 0x4000_0000;

fn header(packet: &[u8; 12]) -> Vec<u8> {
    let [operation, host, guest, flags, allocation, forwarded, high, low, kind, cids, _, _] = *packet;
    let host = if host & 0x80 == 0 { u32::from(host % 4) } else { FIRST_PORT + u32::from(host % 4) };
    let source = if cids & 0xf == 0xf { 9 } else { 3_u64 };
    let destination = if cids & 0xf0 == 0xf0 { 1 } else { 2_u64 };
    let length = u32::from(u16::from_le_bytes([low, high]));
    [
        &source.to_le_bytes()[..],
        &destination.to_le_bytes(),
        &u32::from(guest % 4).to_le_bytes(),
        &host.to_le_bytes(),
        &length.to_le_bytes(),
        &(if kind == 0xff { 2_u16 } else { 1 }).to_le_bytes(),
        &u16::from(operation % 10).to_le_bytes(),
        &u32::from(flags).to_le_bytes(),
        &(u32::from(allocation) << 6).to_le_bytes(),
        &(u32::from(forwarded) << 24 | u32::from(forwarded)).to_le_bytes(),
    ]
    .concat()
}

fuzz_target!(|bytes: &[u8]| {
    let (mut device, handle) = VsockDevice::new(3).expect("a device");
    let mut guest = Guest::new(device.queue_sizes());
    device.activate(0);
    let listener = handle.listen(1);
    let mut streams = Vec::new();
    for _ in 0..8 {
        let place = guest.allocate(RECEIVE);
        guest.add(0, &[Buffer::Writable(place, RECEIVE)]);
    }
    let data = guest.allocate(0x10000);
    for packet in bytes.as_chunks().0.iter().take(500) {
        let place = guest.store(&header(packet));
        guest.add(1, &[Buffer::Readable(place, HEADER), Buffer::Readable(data, 0x10000)]);
        guest.kick(&mut device, 1).expect("the ring is in order");
        while guest.take_used(1).is_some() {}
        // The host's program does something, too.
        match packet[10] % 8 {
            0 => {
                let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
                handle.connect(u32::from(packet[11] % 4), theirs).expect("the device is active");
                streams.push(ours);
            }
            1 => drop(streams.pop()),
            2 => streams.extend(listener.try_iter()),
            3 => device.reset(),
            4 => device.activate(0),
            action => {
                if let Some(stream) = streams.get_mut(usize::from(packet[11]) % 4) {
                    stream.set_nonblocking(true).expect("a socket");
                    let _ = match action {
                        5 => stream.write(&[7; 500]),
                        6 => stream.read(&mut [0; 5000]),
                        _ => stream.shutdown(Shutdown::Write).map(|()| 0),
                    };
                }
            }
        }
        if packet[10] % 8 == 3 {
            device.activate(0);
        }
        guest.wake(&mut device).expect("the ring is in order");
        while let Some((head, length)) = guest.take_used(0) {
            assert!((HEADER..=RECEIVE).contains(&length));
            guest.offer(0, head);
        }
        guest.kick(&mut device, 0).expect("the ring is in order");
    }
});
