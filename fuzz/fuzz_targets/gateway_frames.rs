//! Any frames of a guest, under rules of every kind: no panic, no connection to an address that no rule means, and
//! nothing that grows without end.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sbx_net::policy::{Action, AddressKind, Policy};
use sbx_net::testing::Net;

/// Bytes of the length before each frame.
const LENGTH_BYTES: usize = 2;

fuzz_target!(|bytes: &[u8]| {
    let [kind, frames @ ..] = bytes else { return };
    let default = if kind & 1 == 0 { Action::Allow } else { Action::Deny };
    let mut net = Net::with_services(Policy::new(default, Vec::new()), vec![5432]);
    net.host.echo = kind & 2 == 0;
    let link = net.guest.link();
    let mut rest = frames;
    while let Some((length, behind)) = rest.split_first_chunk::<LENGTH_BYTES>() {
        let length = usize::from(u16::from_le_bytes(*length) & 0x7ff).min(behind.len());
        let (frame, next) = behind.split_at(length);
        let mut frame = frame.to_vec();
        // Most frames would go nowhere if nothing of them were right.
        if kind & 4 == 0 && frame.len() >= 14 {
            frame[..6].copy_from_slice(&link.gateway_mac);
            frame[6..12].copy_from_slice(&link.guest_mac);
            frame[12..14].copy_from_slice(&[8, 0]);
        }
        if kind & 4 == 0 && frame.len() >= 34 {
            frame[14] = 0x45;
            frame[26..30].copy_from_slice(&link.guest_ipv4.octets());
        }
        net.guest.inject(frame);
        net.settle();
        net.now += Duration::from_millis(u64::from(*kind));
        if net.gateway.poll_timeout().is_some_and(|at| at <= net.now) {
            net.gateway.handle_timeout(net.now);
        }
        rest = next;
    }
    for remote in net.host.remotes.values().filter_map(|remote| remote.address) {
        let public = AddressKind::of(remote.ip()) == AddressKind::Public && default == Action::Allow;
        assert!(public || remote.to_string() == "127.0.0.1:5432", "{remote} is reached");
    }
    for (_, remote, _) in &net.host.datagrams {
        let public = AddressKind::of(remote.ip()) == AddressKind::Public && default == Action::Allow;
        assert!(public, "{remote} gets datagrams");
    }
});
