//! How fast the gateway is by itself, for measuring: frames and bytes in memory, no machine, no sockets.
//!
//! Prints lines `figure NAME VALUE`: bits per second of one connection each way, and nanoseconds per event while ten thousand
//! connections are open. The guest's frames are made by hand, so that no other TCP is measured.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use sbx_net::action::{Action, Outgoing};
use sbx_net::ethernet::Link;
use sbx_net::flow::FlowId;
use sbx_net::gateway::{Gateway, Settings};
use sbx_net::packet::Checksum;
use sbx_net::policy::{self, Policy};
use sbx_net::testing::resolver;

/// How long each part is measured.
const TIME: Duration = Duration::from_secs(1);
/// Open connections.
const FLOWS: u16 = 10_000;
/// Bytes of a message.
const MESSAGE: usize = 100;
/// Bytes behind the headers of the largest frames: what Linux sends in one (GSO_MAX_SIZE and the link's MTU).
const LARGE: usize = 65_160;
/// Frames that a network card hands over at a time.
const BATCH: usize = 16;
/// Where all connections go; a port that nobody looks into.
const REMOTE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(93, 184, 216, 34)), 9000);

const HEADERS: usize = 14 + 20 + 20;
const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;
/// Largest segment (1,460 × n is what others say; this link's MTU less its headers) and a window in units of 2^8 bytes.
const SYN_OPTIONS: [u8; 8] = [2, 4, 0xff, 0xc8, 1, 3, 3, 8];

fn main() -> io::Result<()> {
    let say = |name: &str, value: f64| writeln!(io::stdout(), "figure {name} {value:.1}");
    say("up", bulk(Core::send_large))?;
    say("down", bulk(Core::receive_large))?;
    let mut core = Core::new();
    let mut flows: Vec<Flow> = (0..FLOWS).map(|number| core.open(10_000 + number)).collect();
    say("event-up", per_event(&mut core, &mut flows, 1, Core::send_message))?;
    say("event-down", per_event(&mut core, &mut flows, 2, Core::receive_message))?;
    // Four segments of the guest, two of the host's doing.
    say("event-connection", per_event(&mut core, &mut flows, 6, Core::reopen))
}

/// Bits per second of one connection; `call` says how many bytes it has moved.
fn bulk(call: impl Fn(&mut Core, &mut Flow) -> usize) -> f64 {
    let mut core = Core::new();
    let mut flow = core.open(10_000);
    let begin = Instant::now();
    let mut bytes = 0;
    while begin.elapsed() < TIME {
        bytes += call(&mut core, &mut flow);
    }
    float(bytes * 8) / begin.elapsed().as_secs_f64()
}

/// Nanoseconds per event, of which `call` is so many, each time at another connection.
fn per_event(core: &mut Core, flows: &mut [Flow], events: usize, call: impl Fn(&mut Core, &mut Flow)) -> f64 {
    let begin = Instant::now();
    let (mut count, mut index) = (0, 0);
    while begin.elapsed() < TIME {
        for _ in 0..BATCH {
            // A prime, so that neighbours in memory do not follow each other and each has its turn.
            index = (index + 7919) % flows.len();
            call(core, &mut flows[index]);
        }
        count += BATCH * events;
    }
    begin.elapsed().as_secs_f64() * 1e9 / float(count)
}

/// One connection, as the guest knows it.
struct Flow {
    id: FlowId,
    port: u16,
    /// The next byte to send, and the next to come.
    sequence: u32,
    expected: u32,
}

/// The gateway with a guest and a host that do as little as possible.
struct Core {
    gateway: Gateway,
    link: Link,
    now: Instant,
    frame: Vec<u8>,
    source: Vec<u8>,
}

impl Core {
    fn new() -> Self {
        let link = Link::default();
        let settings = Settings { link, host_services: Vec::new(), seed: 1 };
        let policy = Policy::new(policy::Action::Allow, Vec::new());
        let now = Instant::now();
        let mut gateway = Gateway::new(settings, policy, resolver(&link), now);
        gateway.start(now, true);
        Self { gateway, link, now, frame: Vec::new(), source: vec![0x5a; 4 << 20] }
    }

    /// A segment of the guest. Nothing of it has to be right that the gateway does not look at.
    fn segment(&mut self, flow: (u16, u32, u32), flags: u8, options: &[u8], length: usize) {
        let (port, sequence, expected) = flow;
        let (IpAddr::V4(remote), frame) = (REMOTE.ip(), &mut self.frame) else { return };
        let total = HEADERS - 14 + options.len() + length;
        // What the largest frame has behind its headers stays from frame to frame.
        frame.resize((total + 14).max(frame.len()), 0xa5);
        frame[..6].copy_from_slice(&self.link.gateway_mac);
        frame[6..12].copy_from_slice(&self.link.guest_mac);
        frame[12..14].copy_from_slice(&[8, 0]);
        let ip = &mut frame[14..34];
        ip.copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        ip[2..4].copy_from_slice(&u16::try_from(total).expect("fits into a packet").to_be_bytes());
        ip[12..16].copy_from_slice(&self.link.guest_ipv4.octets());
        ip[16..20].copy_from_slice(&remote.octets());
        let sum: u32 = ip.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        let sum = !((sum & 0xffff) + (sum >> 16));
        ip[10..12].copy_from_slice(&sum.to_be_bytes()[2..]);
        let tcp = &mut frame[34..];
        tcp[..2].copy_from_slice(&port.to_be_bytes());
        tcp[2..4].copy_from_slice(&REMOTE.port().to_be_bytes());
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        tcp[8..12].copy_from_slice(&expected.to_be_bytes());
        tcp[12] = u8::try_from(((20 + options.len()) / 4) << 4).expect("few options");
        tcp[13] = flags;
        tcp[14..20].copy_from_slice(&[0x40, 0, 0, 0, 0, 0]);
        tcp[20..20 + options.len()].copy_from_slice(options);
        self.gateway.handle_frame(self.now, &self.frame[..total + 14], Checksum::Partial);
    }

    /// Does what the gateway wants, with a host that takes everything; how many bytes it took.
    fn work(&mut self) -> usize {
        let mut taken = 0;
        self.now += Duration::from_micros(1);
        while let Some(action) = self.gateway.poll_action() {
            match action {
                Action::Connect { flow, .. } => self.gateway.connected(self.now, flow),
                Action::Transfer(flow) => {
                    loop {
                        match self.gateway.outgoing(self.now, flow) {
                            Outgoing::Bytes(bytes) => {
                                let count = bytes.len();
                                taken += count;
                                self.gateway.sent(flow, count);
                            }
                            Outgoing::End => self.gateway.host_ended(flow),
                            Outgoing::Nothing => break,
                        }
                    }
                    self.gateway.settle(self.now, flow);
                }
                _ => {}
            }
        }
        while self.gateway.poll_event().is_some() {}
        taken
    }

    /// Takes the frames for the guest, which are of `flow`.
    fn take_frames(&mut self, flow: &mut Flow) -> usize {
        let mut bytes = 0;
        while let Some(frame) = self.gateway.frame() {
            let length = frame.len() - 34 - usize::from(frame[46] >> 4) * 4;
            let ends = usize::from(frame[47] & (SYN | FIN) != 0);
            let sequence = u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]]);
            flow.expected = sequence.wrapping_add(u32::try_from(length + ends).expect("a frame is short"));
            bytes += length;
            self.gateway.pop_frame();
        }
        bytes
    }

    /// A connection from `port`.
    fn open(&mut self, port: u16) -> Flow {
        self.segment((port, 1000, 0), SYN, &SYN_OPTIONS, 0);
        let Some(Action::Connect { flow: id, .. }) = self.gateway.poll_action() else {
            panic!("the gateway does not connect");
        };
        self.gateway.connected(self.now, id);
        let mut flow = Flow { id, port, sequence: 1001, expected: 0 };
        self.take_frames(&mut flow);
        self.acknowledge(&flow);
        self.work();
        self.take_frames(&mut flow);
        flow
    }

    fn acknowledge(&mut self, flow: &Flow) {
        self.segment((flow.port, flow.sequence, flow.expected), ACK, &[], 0);
    }

    fn send(&mut self, flow: &mut Flow, length: usize) {
        self.segment((flow.port, flow.sequence, flow.expected), ACK, &[], length);
        flow.sequence = flow.sequence.wrapping_add(u32::try_from(length).expect("a frame is short"));
    }

    fn receive(&mut self, flow: &mut Flow, most: usize) -> usize {
        let source = &self.source;
        let _ = self.gateway.incoming(flow.id, |space| {
            let count = space.len().min(most);
            space[..count].copy_from_slice(&source[..count]);
            (count, ())
        });
        self.gateway.settle(self.now, flow.id);
        let bytes = self.take_frames(flow);
        self.acknowledge(flow);
        self.work();
        bytes
    }

    fn send_large(&mut self, flow: &mut Flow) -> usize {
        // As many as there is room for in the window.
        for _ in 0..BATCH / 2 {
            self.send(flow, LARGE);
        }
        let taken = self.work();
        self.take_frames(flow);
        taken
    }

    fn receive_large(&mut self, flow: &mut Flow) -> usize {
        self.receive(flow, usize::MAX)
    }

    fn send_message(&mut self, flow: &mut Flow) {
        self.send(flow, MESSAGE);
        assert_eq!(self.work(), MESSAGE);
        self.take_frames(flow);
    }

    fn receive_message(&mut self, flow: &mut Flow) {
        assert_eq!(self.receive(flow, MESSAGE), MESSAGE);
    }

    /// Ends a connection, and begins another from the same port.
    fn reopen(&mut self, flow: &mut Flow) {
        self.segment((flow.port, flow.sequence, flow.expected), ACK | FIN, &[], 0);
        flow.sequence = flow.sequence.wrapping_add(1);
        self.work();
        self.take_frames(flow);
        self.acknowledge(flow);
        self.work();
        *flow = self.open(flow.port);
    }
}

#[allow(clippy::cast_precision_loss, reason = "shown with a few digits")]
fn float(count: usize) -> f64 {
    count as f64
}
