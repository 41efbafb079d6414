//! Both ends of the network's figures: `network_load serve` on the host, `network_load measure SERVER NAMESERVER` in the guest.
//!
//! Compiled alone and statically, so that it runs in every image. `measure` prints lines `figure NAME VALUE`: bits, connections
//! and queries per second. `network_load hold SERVER` opens a connection, says `held`, and does nothing.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Takes all that comes, and says at the end how much that was.
const SINK: u16 = 5201;
/// Sends until nobody listens.
const SOURCE: u16 = 5202;
/// Sends one byte back.
const ECHO: u16 = 5203;
const DNS: u16 = 53;

/// How long each part is measured, and how long it runs before: an emulator has to translate what runs for the first time.
const TIME: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_millis(300);
/// Flows of the parts with many.
const MANY_FLOWS: usize = 16;
/// Connections and queries that wait for an answer at a time.
const PARALLEL: usize = 4;
/// Names that are asked for again and again, from `n0.test` on.
const KNOWN_NAMES: u64 = 8;
/// Behind them, names that are asked for once.
const FRESH_NAMES: u64 = 1000;
/// Bytes of a read or write of a program.
const BLOCK: usize = 128 * 1024;
/// Until then a query is answered, or lost.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["serve"] => serve(),
        ["measure", server, name_server] => match (server.parse(), name_server.parse()) {
            (Ok(server), Ok(name_server)) => measure(server, name_server),
            _ => return ExitCode::from(2),
        },
        ["hold", server] => match server.parse() {
            Ok(server) => hold(server),
            Err(_) => return ExitCode::from(2),
        },
        _ => return ExitCode::from(2),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// What is done with each connection to a port.
type Service = fn(TcpStream) -> io::Result<()>;

fn serve() -> io::Result<()> {
    let names = UdpSocket::bind((Ipv4Addr::LOCALHOST, DNS))?;
    let services: [(u16, Service); 3] = [(SINK, sink), (SOURCE, source), (ECHO, echo)];
    for (port, service) in services {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A guest that has measured enough hangs up.
                thread::spawn(move || drop(service(stream)));
            }
        });
    }
    writeln!(io::stdout(), "ready")?;
    answer_names(&names)
}

fn sink(mut stream: TcpStream) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut total = 0_u64;
    loop {
        let count = stream.read(&mut block)?;
        if count == 0 {
            return stream.write_all(&total.to_be_bytes());
        }
        total += count as u64;
    }
}

fn source(mut stream: TcpStream) -> io::Result<()> {
    let block = vec![0x5a; BLOCK];
    loop {
        stream.write_all(&block)?;
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

/// Answers every question with one address (RFC 1035, 4.1).
fn answer_names(socket: &UdpSocket) -> io::Result<()> {
    let mut message = [0; 512];
    loop {
        let (count, from) = socket.recv_from(&mut message)?;
        let question = message.get(12..count).unwrap_or_default();
        // Behind the name, which ends with the empty label, are two numbers.
        let Some(end) = question.iter().position(|byte| *byte == 0).map(|end| end + 5) else { continue };
        let Some(question) = question.get(..end) else { continue };
        let mut answer = message[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        answer.extend(question);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 93, 184, 216, 34]);
        socket.send_to(&answer, from)?;
    }
}

fn measure(server: IpAddr, name_server: IpAddr) -> io::Result<()> {
    type Part<'a> = (&'a str, &'a dyn Fn(Duration) -> io::Result<f64>);
    let parts: [Part<'_>; 6] = [
        ("up", &|time| up(server, 1, time)),
        ("up-many", &|time| up(server, MANY_FLOWS, time)),
        ("down", &|time| down(server, 1, time)),
        ("down-many", &|time| down(server, MANY_FLOWS, time)),
        ("connections", &|time| repeated(time, |_| connect_once(server))),
        ("names-known", &|time| repeated(time, |number| ask(name_server, number % KNOWN_NAMES))),
    ];
    let say = |name: &str, value: f64| writeln!(io::stdout(), "figure {name} {value:.1}");
    for (name, part) in parts {
        part(WARM_UP)?;
        say(name, part(TIME)?)?;
    }
    say("names-fresh", fresh(name_server)?)
}

fn hold(server: IpAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect((server, ECHO))?;
    let mut byte = [1];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)?;
    writeln!(io::stdout(), "held")?;
    // Until the connection or this process ends.
    stream.read_exact(&mut byte)
}

/// Bits per second to the host, from the first byte to the last that the host has got.
fn up(server: IpAddr, flows: usize, time: Duration) -> io::Result<f64> {
    let begin = Instant::now();
    let total = in_parallel(flows, |_| {
        let mut stream = TcpStream::connect((server, SINK))?;
        let block = vec![0xa5; BLOCK];
        while begin.elapsed() < time {
            stream.write_all(&block)?;
        }
        stream.shutdown(Shutdown::Write)?;
        let mut total = [0; 8];
        stream.read_exact(&mut total)?;
        Ok(u64::from_be_bytes(total))
    })?;
    Ok(rate(total.saturating_mul(8), begin))
}

/// Bits per second from the host.
fn down(server: IpAddr, flows: usize, time: Duration) -> io::Result<f64> {
    let begin = Instant::now();
    let total = in_parallel(flows, |_| {
        let mut stream = TcpStream::connect((server, SOURCE))?;
        let mut block = vec![0; BLOCK];
        let mut total = 0_u64;
        while begin.elapsed() < time {
            total += stream.read(&mut block)? as u64;
        }
        Ok(total)
    })?;
    Ok(rate(total.saturating_mul(8), begin))
}

/// One connection, from the first packet to the last.
fn connect_once(server: IpAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect((server, ECHO))?;
    let mut byte = [1];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)
}

/// Queries per second for names that are asked for the first time.
fn fresh(name_server: IpAddr) -> io::Result<f64> {
    let begin = Instant::now();
    let next = AtomicU64::new(KNOWN_NAMES);
    let total = in_parallel(PARALLEL, |_| {
        let mut total = 0;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= KNOWN_NAMES + FRESH_NAMES {
                return Ok(total);
            }
            ask(name_server, number)?;
            total += 1;
        }
    })?;
    Ok(rate(total, begin))
}

/// Asks for the address of a name, with a socket of its own as the C library does.
fn ask(name_server: IpAddr, number: u64) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((name_server, DNS))?;
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [&*format!("n{number}"), "test"] {
        query.push(u8::try_from(label.len()).unwrap_or(0));
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    socket.send(&query)?;
    let mut answer = [0; 512];
    let count = socket.recv(&mut answer)?;
    // One answer, and no error.
    if count > query.len() && answer[3] & 15 == 0 && answer[7] == 1 {
        return Ok(());
    }
    Err(io::Error::other(format!("n{number}.test: {:?}", answer.get(..count))))
}

/// How often `call` can be done in a second.
fn repeated(time: Duration, call: impl Fn(u64) -> io::Result<()> + Sync) -> io::Result<f64> {
    let begin = Instant::now();
    let next = AtomicU64::new(0);
    let total = in_parallel(PARALLEL, |_| {
        let mut total = 0;
        while begin.elapsed() < time {
            call(next.fetch_add(1, Ordering::Relaxed))?;
            total += 1;
        }
        Ok(total)
    })?;
    Ok(rate(total, begin))
}

/// The sum of what `count` threads give back.
fn in_parallel(count: usize, call: impl Fn(usize) -> io::Result<u64> + Sync) -> io::Result<u64> {
    let failed = AtomicBool::new(false);
    let (call, failed) = (&call, &failed);
    let total = thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|index| {
                scope.spawn(move || {
                    call(index).unwrap_or_else(|error| {
                        let _ = writeln!(io::stderr(), "{error}");
                        failed.store(true, Ordering::Relaxed);
                        0
                    })
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    if failed.load(Ordering::Relaxed) { Err(io::Error::other("a flow has failed")) } else { Ok(total) }
}

#[allow(clippy::cast_precision_loss, reason = "shown with a few digits")]
fn rate(total: u64, begin: Instant) -> f64 {
    total as f64 / begin.elapsed().as_secs_f64()
}
