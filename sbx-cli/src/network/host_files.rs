//! How the host finds names: `/etc/resolv.conf` and `/etc/hosts`, read again when they have changed.

use std::{
    fs::{self, File},
    io::{self, Read},
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
    resolv_conf: HostFile,
    hosts: HostFile,
}

impl HostFiles {
    pub(super) fn new() -> Self {
        Self { resolv_conf: HostFile::new(RESOLV_CONF), hosts: HostFile::new(HOSTS) }
    }

    /// What they say.
    pub(super) fn read(&mut self) -> (ResolvConf, Vec<(IpAddr, Name)>) {
        self.resolv_conf.renew();
        self.hosts.renew();
        (ResolvConf::parse(&self.resolv_conf.text), hosts(&self.hosts.text))
    }

    /// What they say, if that is not what they said before.
    pub(super) fn changed(&mut self) -> Option<(ResolvConf, Vec<(IpAddr, Name)>)> {
        let resolv_conf = self.resolv_conf.renew();
        (self.hosts.renew() || resolv_conf)
            .then(|| (ResolvConf::parse(&self.resolv_conf.text), hosts(&self.hosts.text)))
    }
}

/// One of them.
#[derive(Debug)]
struct HostFile {
    path: &'static str,
    stamp: Option<Stamp>,
    text: String,
}

impl HostFile {
    const fn new(path: &'static str) -> Self {
        Self { path, stamp: None, text: String::new() }
    }

    /// Reads it, if it is not as it was; true if it was read. What cannot be read any more, for another file of its name is outside of
    /// the cage, says what it said before; that is told once for each time that it has changed.
    fn renew(&mut self) -> bool {
        let now = stamp(self.path);
        if now == self.stamp {
            return false;
        }
        self.stamp = now;
        match read(self.path) {
            Ok(text) => {
                self.text = text;
                true
            }
            Err(error) => {
                let path = self.path;
                tracing::warn!(path, %error, "cannot read it as it is now; a new start of the sandbox can");
                false
            }
        }
    }
}

fn stamp(path: &str) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Domains in which the host looks for short names.
pub(crate) fn search_domains() -> Vec<String> {
    ResolvConf::parse(&read(RESOLV_CONF).unwrap_or_default()).search.iter().map(ToString::to_string).collect()
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

/// A small file of the system.
fn read(path: &str) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
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

    #[test]
    fn a_file_is_read_again_when_it_has_changed_and_believed_when_it_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let path: &str = directory.path().join("file").to_str().unwrap().to_owned().leak();
        let mut file = HostFile::new(path);
        assert!(!file.renew(), "it is not there");
        fs::write(path, "one").unwrap();
        assert!(file.renew() && file.text == "one");
        assert!(!file.renew());
        fs::write(path, "another").unwrap();
        assert!(file.renew() && file.text == "another");
        // Root could read a file without any permission, but nobody reads a directory.
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        assert!(!file.renew() && file.text == "another");
    }
}
