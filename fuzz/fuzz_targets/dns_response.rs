//! Any bytes as the answer of a name server, its number and question set right: no panic, and no address inside.

#![no_main]

use std::net::Ipv4Addr;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use sbx_net::dns::{Action, Configuration, Context, Event, ResolvConf, Resolver, Source, Transport};
use sbx_net::name::Name;
use sbx_net::pins::Pins;
use sbx_net::policy::{Action as Default, AddressKind, Policy};

/// `a.com`, an address, of the internet; asked with the number 1.
const QUERY: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\x03com\0\0\x01\0\x01";

fuzz_target!(|bytes: &[u8]| {
    let upstream = ResolvConf::parse("nameserver 192.0.2.1\noptions attempts:1");
    let configuration =
        Configuration { gateway: Vec::new(), hosts: Vec::new(), upstream, random: Box::new(|| 7) };
    let mut resolver = Resolver::new(configuration);
    let (policy, mut pins, now) = (Policy::new(Default::Allow, Vec::new()), Pins::default(), Instant::now());
    let mut context = Context { policy: &policy, pins: &mut pins };
    resolver.handle_query(now, &mut context, QUERY, Source { token: 1, transport: Transport::Tcp });
    let Some(Action::SendUdp { token, .. }) = resolver.poll_action() else { panic!("nothing is asked") };
    // Flags and counts are the input's, number and question are ours: without those nothing would be read.
    let [first, second, counts @ .., last] = &bytes[..bytes.len().min(9)] else { return };
    let mut response = vec![0, 7, first | 0x80, second & 0x70, 0, 1, 0, *last];
    response.extend(counts.iter().take(1).flat_map(|count| [0, count & 0xf, 0, count >> 4]));
    response.resize(12, 0);
    response.extend_from_slice(&QUERY[12..]);
    response.extend(bytes.iter().skip(9));
    resolver.handle_response(now, &mut context, token, &response);
    while resolver.poll_action().is_some() {}
    while let Some(event) = resolver.poll_event() {
        if let Event::Resolved { addresses, .. } = event {
            assert!(addresses.iter().all(|address| AddressKind::of(*address) == AddressKind::Public));
        }
    }
    let name = Name::new("a.com").expect("a name");
    for address in pins.addresses_of(&name, now) {
        assert_eq!(AddressKind::of(address), AddressKind::Public, "{address} is pinned");
    }
    assert!(pins.names_of(Ipv4Addr::LOCALHOST.into(), now).is_empty());
});
