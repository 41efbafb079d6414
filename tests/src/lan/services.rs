//! Servers.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt};
use sha2::{Digest, Sha256};

use super::{
    disturbances::Disturbances,
    files::{self, Answer},
    protocol::{Disturbance, Service},
};

/// Bytes that are moved at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// The servers that were started, with how often each was visited.
#[derive(Default)]
pub(super) struct Services {
    visits: Arc<Mutex<HashMap<SocketAddr, usize>>>,
    disturbances: Arc<Disturbances>,
}

impl Services {
    /// Starts a server.
    pub(super) fn start(&self, address: SocketAddr, service: Service) -> io::Result<SocketAddr> {
        let (visits, disturbances) = (Arc::clone(&self.visits), Arc::clone(&self.disturbances));
        match service {
            Service::Silent => return silent(address),
            Service::Datagrams => {
                let socket = UdpSocket::bind(address)?;
                let address = socket.local_addr()?;
                thread::spawn(move || {
                    let mut datagram = [0; CHUNK_BYTES];
                    while let Ok((count, peer)) = socket.recv_from(&mut datagram) {
                        *visits.lock().unwrap().entry(address).or_default() += 1;
                        let _ = socket.send_to(&datagram[..count], peer);
                    }
                });
                return Ok(address);
            }
            _ => {}
        }
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *visits.lock().unwrap().entry(address).or_default() += 1;
                // A guest that goes away in the middle is nothing to complain about.
                let (service, disturbances) = (service.clone(), Arc::clone(&disturbances));
                thread::spawn(move || drop(handle(stream, &service, &disturbances)));
            }
        });
        Ok(address)
    }

    /// What does not arrive whole.
    pub(super) fn disturbances(&self) -> &Disturbances {
        &self.disturbances
    }

    /// How many connections and datagrams came to `address`.
    pub(super) fn visits(&self, address: SocketAddr) -> usize {
        self.visits.lock().unwrap().get(&address).copied().unwrap_or(0)
    }
}

fn handle(mut stream: TcpStream, service: &Service, disturbances: &Disturbances) -> io::Result<()> {
    match service {
        Service::Http => {
            let answer = |method: &str, host: &str, path: &str| Answer {
                status: 200,
                kind: "text/plain",
                body: format!("{method} {host} {path}\n").into_bytes(),
            };
            http(&stream, &answer, None)
        }
        Service::Files(directory) => {
            http(&stream, &|_, _, path| files::answer(directory, path), Some(disturbances))
        }
        Service::Echo => {
            io::copy(&mut stream.try_clone()?, &mut stream)?;
            stream.shutdown(Shutdown::Write)
        }
        Service::Digest => {
            let digest = digest(&mut stream)?;
            writeln!(stream, "{digest}")
        }
        Service::Source(count) => pour(&mut stream, *count),
        Service::Reset => {
            stream.read_exact(&mut [0])?;
            // With a linger of nothing, closing is a reset (socket(7), SO_LINGER).
            Ok(sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?)
        }
        Service::Silent | Service::Datagrams => Ok(()),
    }
}

/// Answers requests by method, host and path.
fn http(
    stream: &TcpStream,
    answer: &dyn Fn(&str, &str, &str) -> Answer,
    disturbances: Option<&Disturbances>,
) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while let Some(request) = lines.next().transpose()? {
        let (mut host, mut keep) = (String::new(), request.ends_with("1.1"));
        for line in lines.by_ref() {
            let line = line?;
            match line.split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("host") => value.clone_into(&mut host),
                Some((name, "close")) if name.eq_ignore_ascii_case("connection") => keep = false,
                _ if line.is_empty() => break,
                _ => {}
            }
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let Answer { status, kind, body } = answer(method, &host, path);
        let head = format!(
            "HTTP/1.1 {status} answer\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let body = if method == "HEAD" { Vec::new() } else { body };
        if let Some((disturbances, disturbance)) = disturbances.and_then(|all| Some((all, all.of(path)?))) {
            let (Disturbance::Stall(bytes) | Disturbance::Cut(bytes)) = disturbance;
            let part = &body[..bytes.min(body.len())];
            (&*stream).write_all(&[head.as_bytes(), part].concat())?;
            disturbances.tell();
            if matches!(disturbance, Disturbance::Stall(_)) {
                // Until whoever asked goes away.
                lines.try_for_each(|line| line.map(drop))?;
            }
            return Ok(());
        }
        (&*stream).write_all(&[head.into_bytes(), body].concat())?;
        if !keep {
            break;
        }
    }
    Ok(())
}

/// A listener whose queue is full: the kernel drops what else comes, as a host behind a firewall does.
fn silent(address: SocketAddr) -> io::Result<SocketAddr> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let listener = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&listener, &address)?;
    listen(&listener, 0)?;
    let address = SocketAddr::try_from(rustix::net::getsockname(&listener)?)?;
    // One connection fits into a queue of length 0; it is held as long as the process lives.
    let client = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    connect(&client, &address)?;
    std::mem::forget((listener, client));
    Ok(address)
}

/// Bytes that do not repeat soon, the same in every run: the numbers from 0, each as four bytes.
pub(super) fn pattern(count: usize) -> impl Iterator<Item = u8> {
    (0_u32..).flat_map(u32::to_le_bytes).take(count)
}

/// Writes `count` bytes of the pattern.
pub(super) fn pour(stream: &mut impl Write, count: usize) -> io::Result<()> {
    let mut bytes = pattern(count);
    loop {
        let chunk: Vec<u8> = bytes.by_ref().take(CHUNK_BYTES).collect();
        if chunk.is_empty() {
            return Ok(());
        }
        stream.write_all(&chunk)?;
    }
}

/// How many bytes come until the end, and their digest.
pub(super) fn digest(stream: &mut impl Read) -> io::Result<String> {
    let (mut hash, mut count, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK_BYTES]);
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        count += read;
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{count} {digest}"))
}

/// The digest of `count` bytes of the pattern, as [`digest`] tells it.
#[must_use]
pub fn digest_of_pattern(count: usize) -> String {
    let bytes: Vec<u8> = pattern(count).collect();
    digest(&mut bytes.as_slice()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_poured_whole() {
        let mut poured = Vec::new();
        pour(&mut poured, CHUNK_BYTES + 3).unwrap();
        assert_eq!(poured.len(), CHUNK_BYTES + 3);
        assert_eq!(poured[..9], [0, 0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(digest(&mut poured.as_slice()).unwrap(), digest_of_pattern(CHUNK_BYTES + 3));
    }

    #[test]
    fn a_silent_server_answers_nobody() {
        let address = silent("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = TcpStream::connect_timeout(&address, Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
