//! The machine's names, and its way to itself.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::net::{AddressFamily, SocketType, socket};

use crate::accounts::read_bounded;
use crate::sys::loopback;

/// What `/etc/hosts` begins with where the image has none.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// Brings up the loopback interface.
///
/// # Errors
/// If there is none.
pub(crate) fn bring_up_loopback() -> io::Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    loopback::bring_up(socket.as_fd())
}

/// Gives the machine its name: in the kernel, in `/etc/hostname`, and in `/etc/hosts` beside what is there.
///
/// # Errors
/// What could not be written.
pub(crate) fn set_names(etc: &Path, hostname: &str) -> io::Result<()> {
    rustix::system::sethostname(hostname.as_bytes())?;
    fs::create_dir_all(etc)?;
    write_if_different(&etc.join("hostname"), format!("{hostname}\n").as_bytes())?;
    let hosts = etc.join("hosts");
    let before = read_bounded(&hosts).unwrap_or_default();
    write_if_different(&hosts, &with_hosts(&before, hostname))?;
    // A program that looks up a name in an image without the file would ask 127.0.0.1, and wait for it.
    let resolver = etc.join("resolv.conf");
    if resolver.symlink_metadata().is_err() {
        fs::write(resolver, "")?;
    }
    Ok(())
}

/// `/etc/hosts` with `localhost` and this host name in it.
fn with_hosts(before: &[u8], hostname: &str) -> Vec<u8> {
    let knows = |name: &str| {
        before.split(|byte| *byte == b'\n').any(|line| {
            let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
            line.split(u8::is_ascii_whitespace).skip(1).any(|word| word == name.as_bytes())
        })
    };
    let mut after = before.to_vec();
    if !after.is_empty() && !after.ends_with(b"\n") {
        after.push(b'\n');
    }
    if !knows("localhost") {
        after.extend_from_slice(LOCALHOST.as_bytes());
    }
    if !knows(hostname) {
        after.extend_from_slice(format!("127.0.1.1\t{hostname}\n").as_bytes());
    }
    after
}

fn write_if_different(path: &Path, contents: &[u8]) -> io::Result<()> {
    if read_bounded(path).is_ok_and(|before| before == contents) {
        return Ok(());
    }
    fs::write(path, contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(before: &str) -> String {
        String::from_utf8(with_hosts(before.as_bytes(), "box")).unwrap()
    }

    #[test]
    fn an_image_without_hosts_gets_them() {
        assert_eq!(hosts(""), format!("{LOCALHOST}127.0.1.1\tbox\n"));
    }

    #[test]
    fn what_is_there_is_kept() {
        let before = "127.0.0.1 localhost\n10.0.0.1 other # box\n";
        assert_eq!(hosts(before), format!("{before}127.0.1.1\tbox\n"));
        assert_eq!(hosts(&hosts(before)), hosts(before));
        assert_eq!(hosts("127.0.0.1 localhost box"), "127.0.0.1 localhost box\n");
    }
}
