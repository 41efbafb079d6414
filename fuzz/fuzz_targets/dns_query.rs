//! Any bytes as queries of a guest: no panic, and each is replied to, asked outside or ignored, within bounds.

#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use sbx_net::dns::{Action, Configuration, Context, ResolvConf, Resolver, Source, Transport};
use sbx_net::pins::Pins;
use sbx_net::policy::{Action as Default, Policy};

/// Longest datagram of a guest that does not say that it takes more than we send.
const MAX_UDP_BYTES: usize = 1232;

fuzz_target!(|bytes: &[u8]| {
    let upstream = ResolvConf::parse("nameserver 192.0.2.1");
    let gateway = vec![[10, 0, 0, 1].into()];
    let configuration = Configuration { gateway, hosts: Vec::new(), upstream, random: Box::new(|| 7) };
    let mut resolver = Resolver::new(configuration);
    let (policy, mut pins) = (Policy::new(Default::Allow, Vec::new()), Pins::default());
    let mut now = Instant::now();
    for (token, part) in (0..).zip(bytes.split(|byte| *byte == 0xfe).take(300)) {
        for transport in [Transport::Udp, Transport::Tcp] {
            let mut context = Context { policy: &policy, pins: &mut pins };
            resolver.handle_query(now, &mut context, part, Source { token, transport });
            let mut actions = 0;
            while let Some(action) = resolver.poll_action() {
                actions += 1;
                if let Action::Answer { source, bytes } = action {
                    assert_eq!(source, Source { token, transport });
                    assert!(bytes.len() >= 12, "no header");
                    assert!(transport == Transport::Tcp || bytes.len() <= MAX_UDP_BYTES, "too long");
                }
            }
            assert!(actions <= 1, "one query, {actions} actions");
        }
        while resolver.poll_event().is_some() {}
        now += Duration::from_millis(100);
        resolver.handle_timeout(now, &mut Context { policy: &policy, pins: &mut pins });
        while resolver.poll_action().is_some() {}
    }
});
