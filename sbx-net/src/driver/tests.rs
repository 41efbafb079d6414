//! Real sockets on loopback, which a guest reaches as services of the host and as published ports.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use super::*;
use crate::ethernet::Link;
use crate::gateway::Settings;
use crate::policy::{self, Policy};
use crate::proxy::Proxy;
use crate::testing::{Guest, resolver};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// An address of the internet, which nobody is to hear of in a test.
const FAR: &str = "93.184.216.34";

struct Recorder(Sender<Event>);

impl Observer for Recorder {
    fn observe(&mut self, event: Event) {
        let _ = self.0.send(event);
    }
}

/// A guest at the driver's cable.
struct Cable {
    guest: Guest,
    driver: Driver,
    controller: Controller,
    events: Receiver<Event>,
}

impl Cable {
    fn new(host_services: Vec<u16>) -> Self {
        let settings = Settings { link: Link::default(), host_services, seed: 3 };
        let policy = Policy::new(policy::Action::Allow, Vec::new());
        let (sender, events) = channel();
        let gateway = Gateway::new(settings, policy, resolver(&Link::default()), Instant::now());
        let (mut driver, controller) =
            Driver::new(gateway, Box::new(Recorder(sender)), Box::new(|| None)).unwrap();
        driver.start(false);
        Self { guest: Guest::new(Link::default()), driver, controller, events }
    }

    /// With this proxy for everything.
    fn through(proxy: &str) -> Self {
        let mut proxy: Proxy = proxy.parse().unwrap();
        let address = format!("{}:{}", proxy.host, proxy.port).parse();
        // The first address is one at which nobody is.
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        proxy.addresses = std::iter::once(nobody).chain(address).collect();
        let mut cable = Self::new(Vec::new());
        cable.driver.use_proxies(Proxies { all: Some(proxy), ..Proxies::default() });
        cable
    }

    fn connect_far(&mut self, port: u16) -> SocketHandle {
        self.guest.connect(format!("{FAR}:{port}").parse().unwrap())
    }

    /// The last thing that was decided.
    fn last_reason(&self) -> String {
        self.events.try_iter().last().unwrap().decision.reason.to_string()
    }

    /// Moves frames until `done` holds, and waits for the host in between.
    fn run_until(&mut self, mut done: impl FnMut(&mut Guest) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut moved = self.guest.poll(Instant::now());
            for frame in self.guest.take_frames() {
                self.driver.transmit(&frame, Checksum::Complete);
                moved = true;
            }
            self.driver.poll();
            while let Some(frame) = self.driver.frame() {
                self.guest.give_frame(frame.to_vec());
                self.driver.pop_frame();
                moved = true;
            }
            if done(&mut self.guest) {
                return;
            }
            assert!(Instant::now() < end, "it did not happen");
            if !moved {
                let wait = rustix::time::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
                poll(&mut [PollFd::from_borrowed_fd(self.driver.wake_fd(), PollFlags::IN)], Some(&wait))
                    .unwrap();
            }
        }
    }

    fn connect(&mut self, port: u16) -> SocketHandle {
        let gateway = self.guest.link().gateway_ipv4;
        self.guest.connect(SocketAddr::from((gateway, port)))
    }

    /// How many descriptors the driver keeps for connections.
    fn sockets(&self) -> usize {
        self.driver.sockets.len()
    }
}

/// Sends back what comes, on a port of its own.
fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut reader, &mut stream);
                let _ = stream.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    port
}

#[test]
fn megabytes_come_back_as_they_went() {
    let port = echo_server();
    let mut cable = Cable::new(vec![port]);
    let socket = cable.connect(port);
    let data: Vec<u8> = (0_u32..2_000_000).flat_map(u32::to_le_bytes).collect();
    let (mut sent, mut received) = (0, Vec::new());
    cable.run_until(|guest| {
        sent += guest.send(socket, &data[sent..]);
        received.extend(guest.receive(socket));
        received.len() == data.len()
    });
    assert!(received == data);
    cable.guest.close(socket);
    cable.run_until(|guest| guest.state(socket) == State::TimeWait || guest.state(socket) == State::Closed);
    assert_eq!(cable.sockets(), 0);
}

#[test]
fn datagrams_have_sockets_of_their_own() {
    let port = echo_server();
    let mut cable = Cable::new(vec![port]);
    let socket = cable.connect(port);
    cable.run_until(|guest| guest.state(socket) == State::Established);
    // The first exchange has the number that the first connection has.
    let exchange = SlotMap::<ExchangeId, ()>::with_key().insert(());
    assert_eq!(
        slotmap::Key::data(&exchange),
        slotmap::Key::data(&cable.driver.sockets.keys().next().unwrap())
    );
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    cable.driver.send_datagram(exchange, server.local_addr().unwrap(), b"a datagram");
    let mut came = [0; 64];
    assert_eq!(server.recv(&mut came).unwrap(), b"a datagram".len());

    let mut received = Vec::new();
    cable.guest.send(socket, b"a stream");
    cable.run_until(|guest| {
        received.extend(guest.receive(socket));
        received.len() >= b"a stream".len()
    });
    assert_eq!(received, b"a stream");
    cable.driver.end_exchange(exchange);
    assert_eq!(cable.sockets(), 1);
}

#[test]
fn a_port_that_nobody_listens_on_refuses() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut cable = Cable::new(vec![port]);
    let socket = cable.connect(port);
    cable.run_until(|guest| guest.state(socket) == State::Closed);
    assert_eq!(cable.sockets(), 0);
}

#[test]
fn a_service_on_the_other_loopback_address_is_found() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || listener.accept().unwrap().0.write_all(b"six").unwrap());
    let mut cable = Cable::new(vec![port]);
    let socket = cable.connect(port);
    let mut received = Vec::new();
    cable.run_until(|guest| {
        received.extend(guest.receive(socket));
        received == b"six"
    });
    server.join().unwrap();
}

#[test]
fn a_published_port_leads_into_the_guest_as_long_as_it_is_published() {
    let mut cable = Cable::new(Vec::new());
    let server = cable.guest.listen(3000);
    let controller = cable.controller.clone();
    let visitor = thread::spawn(move || {
        let port = controller.publish(3000, 0, None).unwrap();
        assert_eq!(controller.ports(), [port]);
        for (number, address) in ["127.0.0.1", "[::1]"].into_iter().enumerate() {
            let mut stream = TcpStream::connect(format!("{address}:{}", port.host)).unwrap();
            let mut answer = String::new();
            if number == 0 {
                stream.write_all(b"hello").unwrap();
                stream.read_to_string(&mut answer).unwrap();
                assert_eq!(answer, "hello to you");
            }
        }
        assert!(controller.unpublish(port.host) && !controller.unpublish(port.host));
        assert!(TcpStream::connect(("127.0.0.1", port.host)).is_err());
        assert!(controller.ports().is_empty());
    });
    let mut heard = Vec::new();
    cable.run_until(|guest| {
        heard.extend(guest.receive(server));
        if heard == b"hello" {
            guest.send(server, b"hello to you");
            guest.close(server);
            heard.clear();
        }
        visitor.is_finished()
    });
    visitor.join().unwrap();
}

#[test]
fn a_port_that_is_taken_is_an_error_with_its_number() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut cable = Cable::new(Vec::new());
    let error = cable.driver.publish(3000, port, None).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on port {port}"));
    let PortError::Bind { source, .. } = error else { panic!("{error}") };
    assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
    assert!(cable.driver.ports().is_empty());
}

#[test]
fn an_idle_connection_wakes_nobody() {
    let port = echo_server();
    let mut cable = Cable::new(vec![port]);
    let socket = cable.connect(port);
    cable.run_until(|guest| guest.state(socket) == State::Established);
    // What was armed for the handshake goes off at most once.
    let mut wakes = 0;
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let wait = rustix::time::Timespec { tv_sec: 1, tv_nsec: 0 };
        let mut descriptors = [PollFd::from_borrowed_fd(cable.driver.wake_fd(), PollFlags::IN)];
        if poll(&mut descriptors, Some(&wait)).unwrap() > 0 {
            wakes += 1;
            cable.driver.poll();
        }
    }
    assert!(wakes <= 1, "{wakes}");
}

/// A proxy for one connection: hears as many bytes as each question has, and answers.
fn proxy(dialogue: Vec<(&'static [u8], &'static [u8])>) -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for (question, answer) in dialogue {
            let mut heard = vec![0; question.len()];
            stream.read_exact(&mut heard).unwrap();
            assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(question));
            stream.write_all(answer).unwrap();
        }
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest
    });
    (address, server)
}

#[test]
fn a_connection_goes_through_an_http_proxy_and_the_hosts_first_words_are_kept() {
    let request =
        b"CONNECT 93.184.216.34:2222 HTTP/1.1\r\nHost: 93.184.216.34:2222\r\nProxy-Authorization: Basic bWU6cHc=\r\n\r\n";
    let (address, server) =
        proxy(vec![(request, b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nSSH-2.0-x\r\n")]);
    let mut cable = Cable::through(&format!("http://me:pw@{address}"));
    let socket = cable.connect_far(2222);
    let mut received = Vec::new();
    cable.run_until(|guest| {
        received.extend(guest.receive(socket));
        received == b"SSH-2.0-x\r\n"
    });
    cable.guest.send(socket, b"hello");
    cable.guest.close(socket);
    cable.run_until(|_| server.is_finished());
    assert_eq!(server.join().unwrap(), b"hello");
}

#[test]
fn a_connection_goes_through_a_socks_proxy() {
    let (address, server) = proxy(vec![
        (b"\x05\x02\x00\x02", b"\x05\x02"),
        (b"\x01\x02me\x02pw", b"\x01\x00"),
        (b"\x05\x01\x00\x01\x5d\xb8\xd8\x22\x08\xae", b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00first"),
    ]);
    let mut cable = Cable::through(&format!("socks5://me:pw@{address}"));
    let socket = cable.connect_far(2222);
    let mut received = Vec::new();
    cable.run_until(|guest| {
        received.extend(guest.receive(socket));
        received == b"first"
    });
    cable.guest.close(socket);
    cable.run_until(|_| server.is_finished());
    assert!(server.join().unwrap().is_empty());
}

#[test]
fn what_a_proxy_refuses_is_refused_and_told_with_its_reason() {
    let request: &[u8] = b"CONNECT 93.184.216.34:2222 HTTP/1.1\r\nHost: 93.184.216.34:2222\r\n\r\n";
    let table: [(&'static [u8], &str); 3] = [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "the host's proxy refused it with status 403"),
        (b"HTTP/1.1 407 Who?\r\n\r\n", "the host's proxy wants another user name or password"),
        (b"220 smtp.example.org\r\n", "the host's proxy answered what is no answer"),
    ];
    for (answer, reason) in table {
        let (address, _server) = proxy(vec![(request, answer)]);
        let mut cable = Cable::through(&format!("http://{address}"));
        let socket = cable.connect_far(2222);
        cable.run_until(|guest| guest.state(socket) == State::Closed);
        assert_eq!(cable.last_reason(), reason);
        assert_eq!(cable.sockets(), 0);
    }
}

#[test]
fn a_proxy_that_is_not_there_or_says_nothing_is_given_up() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut cable = Cable::through(&format!("http://{gone}"));
    cable.connect_far(2222);
    let mut reasons = Vec::new();
    let end = Instant::now() + PATIENCE;
    while reasons.len() < 2 && Instant::now() < end {
        let mut rounds = 0;
        cable.run_until(|_| {
            rounds += 1;
            rounds > 3
        });
        reasons.extend(cable.events.try_iter().map(|event| event.decision.reason.to_string()));
    }
    assert_eq!(reasons.last().unwrap(), "the host's proxy cannot be reached");

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut cable = Cable::through(&format!("http://{}", silent.local_addr().unwrap()));
    cable.connect_far(2222);
    let mut rounds = 0;
    cable.run_until(|_| {
        rounds += 1;
        rounds > 20
    });
    assert_eq!(cable.sockets(), 1);
    cable.driver.expire_negotiations(Instant::now() + Duration::from_secs(29));
    assert_eq!(cable.sockets(), 1);
    cable.driver.expire_negotiations(Instant::now() + Duration::from_secs(31));
    cable.driver.poll();
    assert_eq!(cable.sockets(), 0);
    assert_eq!(cable.last_reason(), "the host's proxy did not answer in time");
}

#[test]
fn services_of_the_host_are_reached_without_a_proxy() {
    let port = echo_server();
    let mut cable = Cable::new(vec![port]);
    let proxy: Proxy = "http://proxy.example:3128".parse().unwrap();
    cable.driver.use_proxies(Proxies { all: Some(proxy), ..Proxies::default() });
    let socket = cable.connect(port);
    cable.run_until(|guest| guest.state(socket) == State::Established);
}
