//! A program beside the sandbox, which comes in through published ports.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use super::{
    protocol::Visit,
    services::{digest, pour},
};

/// How long nothing may come before the test is told so.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connects to `address`; what it sees there.
pub(super) fn visit(address: SocketAddr, visit: &Visit) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    match visit {
        Visit::Say(text) => {
            stream.write_all(text.as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        }
        Visit::Pour(count) => {
            let (mut writer, count) = (stream.try_clone()?, *count);
            let sender = thread::spawn(move || {
                pour(&mut writer, count)?;
                writer.shutdown(Shutdown::Write)
            });
            let digest = digest(&mut stream)?;
            sender.join().map_err(|_| io::Error::other("the sender failed"))??;
            Ok(digest)
        }
    }
}
