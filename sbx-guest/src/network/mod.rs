//! The machine's names, and its way to itself and to others.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::net::{AddressFamily, SocketType, socket};
use sbx_proto::Network;

use crate::accounts::read_bounded;
use crate::sys::loopback;

mod card;
mod rtnetlink;

pub(crate) use card::set_up;

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

/// Tells the C library who resolves names, in place of whatever the image has there, and adds names to `/etc/hosts`.
///
/// # Errors
/// What could not be written.
pub(crate) fn set_resolver(etc: &Path, network: &Network) -> io::Result<()> {
    let resolver = etc.join("resolv.conf");
    let contents = card::resolver(&network.name_servers, &network.search);
    // In images with systemd it is a link into /run, where nobody will write it.
    if resolver.symlink_metadata().is_ok_and(|status| !status.is_file()) {
        fs::remove_file(&resolver)?;
    }
    write_if_different(&resolver, contents.as_bytes())?;
    let hosts = etc.join("hosts");
    let before = read_bounded(&hosts).unwrap_or_default();
    write_if_different(&hosts, &with_names(&before, &network.hosts))
}

/// `/etc/hosts` with these names, and with no other addresses for them that an earlier boot may have left.
fn with_names(before: &[u8], names: &[(IpAddr, String)]) -> Vec<u8> {
    let is_ours = |line: &[u8]| {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).skip(1);
        words.next().is_some_and(|word| names.iter().any(|(_, name)| name.as_bytes() == word))
            && words.next().is_none()
    };
    let lines = before.split_inclusive(|byte| *byte == b'\n');
    let mut after = lines.filter(|line| !is_ours(line)).collect::<Vec<_>>().concat();
    if !after.is_empty() && !after.ends_with(b"\n") {
        after.push(b'\n');
    }
    for (address, name) in names {
        after.extend_from_slice(format!("{address}\t{name}\n").as_bytes());
    }
    after
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
    fn the_networks_names_replace_those_of_an_earlier_boot_only() {
        let names = [("10.0.2.2", "host.sbx.internal"), ("fd00::2", "host.sbx.internal")];
        let names = names.map(|(address, name)| (address.parse().unwrap(), name.to_owned()));
        let before =
            "127.0.0.1\tlocalhost\n1.2.3.4 host.sbx.internal other\n9.9.9.9  host.sbx.internal # old";
        let expected = "127.0.0.1\tlocalhost\n1.2.3.4 host.sbx.internal other\n\
            10.0.2.2\thost.sbx.internal\nfd00::2\thost.sbx.internal\n";
        let after = with_names(before.as_bytes(), &names);
        assert_eq!(String::from_utf8(after.clone()).unwrap(), expected);
        assert_eq!(with_names(&after, &names), after);
        assert_eq!(with_names(b"1.2.3.4 a", &[]), b"1.2.3.4 a\n");
    }

    #[test]
    fn the_resolvers_file_is_replaced_whatever_it_is() {
        let etc = tempfile::tempdir().unwrap();
        let path = etc.path().join("resolv.conf");
        let elsewhere = etc.path().join("stub-resolv.conf");
        fs::write(&elsewhere, "nameserver 127.0.0.53\n").unwrap();
        std::os::unix::fs::symlink("stub-resolv.conf", &path).unwrap();
        let network = Network {
            mac: [2; 6],
            mtu: 65_520,
            addresses: Vec::new(),
            gateways: Vec::new(),
            name_servers: vec!["10.0.2.3".parse().unwrap()],
            search: Vec::new(),
            hosts: vec![("10.0.2.2".parse().unwrap(), "host.sbx.internal".to_owned())],
        };
        for _ in 0..2 {
            set_resolver(etc.path(), &network).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "nameserver 10.0.2.3\noptions edns0\n");
            let hosts = fs::read_to_string(etc.path().join("hosts")).unwrap();
            assert_eq!(hosts, "10.0.2.2\thost.sbx.internal\n");
        }
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read_to_string(elsewhere).unwrap(), "nameserver 127.0.0.53\n");
    }

    #[test]
    fn what_is_there_is_kept() {
        let before = "127.0.0.1 localhost\n10.0.0.1 other # box\n";
        assert_eq!(hosts(before), format!("{before}127.0.1.1\tbox\n"));
        assert_eq!(hosts(&hosts(before)), hosts(before));
        assert_eq!(hosts("127.0.0.1 localhost box"), "127.0.0.1 localhost box\n");
    }
}
