//! Real sockets on loopback, which a guest reaches as services of the host and as published ports.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use super::*;
use crate::ethernet::Link;
use crate::gateway::Settings;
use crate::policy::{self, Policy};
use crate::testing::{Guest, resolver};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

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
}

impl Cable {
    fn new(host_services: Vec<u16>) -> Self {
        let settings = Settings { link: Link::default(), host_services, seed: 3 };
        let policy = Policy::new(policy::Action::Deny, Vec::new());
        let gateway = Gateway::new(settings, policy, resolver(&Link::default()), Instant::now());
        let (mut driver, controller) =
            Driver::new(gateway, Box::new(Recorder(channel().0)), Box::new(|| None)).unwrap();
        driver.start(false);
        Self { guest: Guest::new(Link::default()), driver, controller }
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
