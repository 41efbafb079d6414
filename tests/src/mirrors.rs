//! Where the registries are that the tests' images are set up for.

use std::{
    collections::BTreeSet,
    net::{IpAddr, ToSocketAddrs},
    process::Command,
};

/// The addresses of this computer's registries. A company's mirrors, and those of some build machines, have the registries'
/// names and private addresses, which need a rule.
///
/// # Panics
/// If apt does not say where it is set up for.
#[must_use]
pub fn mirrors() -> BTreeSet<IpAddr> {
    let targets = Command::new("apt-get").args(["indextargets", "--format", "$(SITE)"]).output().unwrap();
    let sites = String::from_utf8(targets.stdout).unwrap();
    let hosts = sites.lines().filter_map(|site| site.split_once("://")).map(|(_, rest)| rest);
    let hosts: BTreeSet<&str> = hosts.filter_map(|rest| rest.split(['/', ':']).next()).collect();
    hosts.iter().filter_map(|host| (*host, 443).to_socket_addrs().ok()).flatten().map(|at| at.ip()).collect()
}
