//! How the host finds names: `/etc/resolv.conf` and `/etc/hosts`, read again when they have changed.

use std::{
    fs::{self, File},
    io::Read,
    net::IpAddr,
    os::unix::fs::MetadataExt,
};

use sbx_net::{dns::ResolvConf, name::Name};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Bytes of these files that are read.
const MAX_BYTES: u64 = 1 << 20;

/// What tells a file's content from what it was before: inode, size, time of the change in seconds and nanoseconds.
type Stamp = (u64, u64, i64, i64);

/// The two files, as they were when they were read last.
#[derive(Debug)]
pub(super) struct HostFiles {
    stamps: [Option<Stamp>; 2],
}

impl HostFiles {
    pub(super) fn new() -> Self {
        Self { stamps: [None; 2] }
    }

    /// What they say.
    pub(super) fn read(&mut self) -> (ResolvConf, Vec<(IpAddr, Name)>) {
        self.stamps = [RESOLV_CONF, HOSTS].map(stamp);
        (ResolvConf::parse(&read(RESOLV_CONF)), hosts(&read(HOSTS)))
    }

    /// What they say, if that is not what they said before. Files that cannot be looked at any more have not changed.
    pub(super) fn changed(&mut self) -> Option<(ResolvConf, Vec<(IpAddr, Name)>)> {
        let now = [RESOLV_CONF, HOSTS].map(stamp);
        (now != self.stamps && now.iter().all(Option::is_some) && File::open(RESOLV_CONF).is_ok())
            .then(|| self.read())
    }
}

fn stamp(path: &str) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Domains in which the host looks for short names.
pub(crate) fn search_domains() -> Vec<String> {
    ResolvConf::parse(&read(RESOLV_CONF)).search.iter().map(ToString::to_string).collect()
}

/// What `/etc/hosts` says (hosts(5)), without the machine's own names, which mean the guest to the guest.
fn hosts(text: &str) -> Vec<(IpAddr, Name)> {
    let mut hosts = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        if address.is_loopback() || address.is_multicast() || address.is_unspecified() {
            continue;
        }
        hosts.extend(words.filter_map(|word| Name::new(word).ok()).map(|name| (address, name)));
    }
    hosts
}

/// A small file of the system, or nothing.
fn read(path: &str) -> String {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text));
    if let Err(error) = read {
        tracing::warn!(path, %error, "cannot read");
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_the_host_are_known_and_its_own_names_are_not() {
        let text = "127.0.0.1 localhost box\n::1 ip6-localhost\n10.1.2.3\tdb.internal db # the database\nnonsense here\n";
        let found: Vec<String> =
            hosts(text).iter().map(|(address, name)| format!("{address} {name}")).collect();
        assert_eq!(found, ["10.1.2.3 db.internal", "10.1.2.3 db"]);
    }
}
