//! A guest and a host for the gateway, without a machine, a socket or a clock.
//!
//! ```text
//! Guest (smoltcp, as another system's TCP would) ◀─ frames, with Faults ─▶ Gateway ◀─ actions ─▶ Host (buffers)
//! ```

mod faults;
mod guest;
mod host;

use std::time::{Duration, Instant};

pub use faults::Faults;
pub use guest::Guest;
pub use host::{Answer, Host, Remote};

use crate::dns::{Configuration, ResolvConf, Resolver};
use crate::ethernet::Link;
use crate::event::Event;
use crate::gateway::{Gateway, Settings};
use crate::packet::Checksum;
use crate::policy::Policy;

/// Time that passes with each step in which nothing happened.
const STEP: Duration = Duration::from_millis(1);

/// Guest, gateway and host, in steps of one clock.
pub struct Net {
    /// What runs in the sandbox.
    pub guest: Guest,
    /// What is tested.
    pub gateway: Gateway,
    /// What runs outside of it.
    pub host: Host,
    /// What becomes of frames on their way.
    pub faults: Faults,
    /// What was decided so far.
    pub events: Vec<Event>,
    /// The time.
    pub now: Instant,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Net").finish_non_exhaustive()
    }
}

impl Net {
    /// A network under `policy` where every host accepts every connection.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self::with_services(policy, Vec::new())
    }

    /// The same, with ports of the host's loopback.
    #[must_use]
    pub fn with_services(policy: Policy, host_services: Vec<u16>) -> Self {
        let now = Instant::now();
        let link = Link::default();
        let settings = Settings { link, host_services, seed: 1 };
        let mut gateway = Gateway::new(settings, policy, resolver(&link), now);
        gateway.start(now, false);
        Self {
            guest: Guest::new(link),
            gateway,
            host: Host::default(),
            faults: Faults::none(),
            events: Vec::new(),
            now,
        }
    }

    /// Moves frames and bytes until nothing moves any more.
    pub fn settle(&mut self) {
        while self.exchange() {}
    }

    /// Lets time pass, in steps, until `done` holds.
    ///
    /// # Panics
    /// If it does not within `limit`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        loop {
            self.settle();
            if done(self) {
                return;
            }
            assert!(self.now < end, "it did not happen in {limit:?}");
            self.now += STEP;
            if self.gateway.poll_timeout().is_some_and(|at| at <= self.now) {
                self.gateway.handle_timeout(self.now);
            }
        }
    }

    /// One round; whether anything moved.
    fn exchange(&mut self) -> bool {
        let mut moved = self.guest.poll(self.now);
        for frame in self.faults.pass(self.guest.take_frames()) {
            self.gateway.handle_frame(self.now, &frame, Checksum::Complete);
            moved = true;
        }
        moved |= self.serve();
        let mut frames = Vec::new();
        while let Some(frame) = self.gateway.frame() {
            frames.push(frame.to_vec());
            self.gateway.pop_frame();
        }
        if self.gateway.wants_to_send() {
            self.gateway.send_stalled(self.now);
            moved = true;
        }
        for frame in self.faults.pass(frames) {
            self.guest.give_frame(frame);
            moved = true;
        }
        moved
    }

    /// Has the host do what the gateway wants.
    fn serve(&mut self) -> bool {
        let mut moved = self.host.work(&mut self.gateway, self.now);
        while let Some(action) = self.gateway.poll_action() {
            moved = true;
            self.host.act(&mut self.gateway, self.now, action);
        }
        while let Some(event) = self.gateway.poll_event() {
            self.events.push(event);
        }
        moved
    }
}

/// A resolver that asks a server of the host, with numbers that everybody can guess.
///
/// # Panics
/// Never.
#[must_use]
pub fn resolver(link: &Link) -> Resolver {
    let mut number = 0_u16;
    Resolver::new(Configuration {
        gateway: vec![link.gateway_ipv4.into(), link.gateway_ipv6.into()],
        hosts: Vec::new(),
        upstream: ResolvConf::parse("nameserver 192.0.2.53"),
        random: Box::new(move || {
            number = number.wrapping_add(1);
            number
        }),
    })
}
