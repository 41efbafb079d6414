//! Which addresses are not simply hosts of the internet.
//!
//! What is known of an address space is what IANA's special-purpose registries say (RFC 6890 and its successors); in
//! IPv6 everything outside of global unicast (2000::/3) is special. An IPv6 address that leads to an IPv4 one (mapped,
//! compatible, 6to4, NAT64) is as special as that.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

/// Where clouds tell a machine its credentials: EC2, ECS, EKS, Oracle, Alibaba, Azure; EC2, EKS, Google.
const METADATA: [IpAddr; 9] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Addresses that stand for names which only a proxy can resolve: the first, and how many. They are set aside for benchmarks
/// (RFC 2544, 198.18.0.0/15), and a network in which hosts have them is no network to connect to.
pub(crate) const STAND_INS: (Ipv4Addr, u32) = (Ipv4Addr::new(198, 18, 0, 0), 1 << 17);

/// Whether an address is one of [`STAND_INS`].
pub(super) fn stands_in(address: IpAddr) -> bool {
    let (first, count) = STAND_INS;
    matches!(address, IpAddr::V4(address) if address.to_bits().checked_sub(first.to_bits()).is_some_and(|at| at < count))
}

/// What an address is for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressKind {
    /// A host of the internet.
    Public,
    /// The machine itself.
    Loopback,
    /// No host: 0.0.0.0/8 and ::.
    Unspecified,
    /// Many hosts.
    Multicast,
    /// All hosts of the link.
    Broadcast,
    /// A private network (RFC 1918, RFC 4193).
    Private,
    /// The link (RFC 3927, RFC 4291).
    LinkLocal,
    /// The network between a provider and its customers (RFC 6598).
    Shared,
    /// The metadata service of a cloud.
    Metadata,
    /// Set aside for protocols, benchmarks, documentation or the future.
    Reserved,
}

impl AddressKind {
    /// What this address is for.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        if METADATA.contains(&address) {
            return Self::Metadata;
        }
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    /// Whether no rule can open it: such an address means the host itself, or no single one.
    #[must_use]
    pub const fn is_never(self) -> bool {
        matches!(self, Self::Loopback | Self::Unspecified | Self::Multicast | Self::Broadcast)
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            [0, ..] => Self::Unspecified,
            [127, ..] => Self::Loopback,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Self::Private,
            [169, 254, ..] => Self::LinkLocal,
            [100, 64..=127, ..] => Self::Shared,
            [255, 255, 255, 255] => Self::Broadcast,
            [224..=239, ..] => Self::Multicast,
            // Protocol assignments, documentation (three), 6to4 relays, benchmarking, the former class E.
            [192, 0, 0 | 2, _]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            | [192, 88, 99, _]
            | [198, 18..=19, ..]
            | [240..=255, ..] => Self::Reserved,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if let Some(embedded) = embedded(address) {
            return Self::of(IpAddr::V4(embedded));
        }
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0] => Self::Unspecified,
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            [0xff00..=0xffff, ..] => Self::Multicast,
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            // Unique local, and what came before it (site-local).
            [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Self::Private,
            // Protocol assignments (Teredo and others), documentation (two).
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Self::Reserved,
            [0x2000..=0x3fff, ..] => Self::Public,
            _ => Self::Reserved,
        }
    }
}

impl fmt::Display for AddressKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Public => "a public address",
            Self::Loopback => "a loopback address",
            Self::Unspecified => "an unspecified address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "a broadcast address",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::Shared => "an address of a provider's shared network",
            Self::Metadata => "the address of a cloud's metadata service",
            Self::Reserved => "a reserved address",
        })
    }
}

/// The IPv4 address to which a translator or a relay brings what is sent to this one.
pub(super) fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // `::` and `::1` look like compatible addresses, but are themselves.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        let table = [
            ("8.8.8.8", AddressKind::Public),
            ("0.0.0.0", AddressKind::Unspecified),
            ("0.1.2.3", AddressKind::Unspecified),
            ("127.0.0.53", AddressKind::Loopback),
            ("10.1.2.3", AddressKind::Private),
            ("172.15.0.1", AddressKind::Public),
            ("172.31.255.255", AddressKind::Private),
            ("172.32.0.1", AddressKind::Public),
            ("192.168.1.1", AddressKind::Private),
            ("100.63.0.1", AddressKind::Public),
            ("100.64.0.1", AddressKind::Shared),
            ("169.254.1.1", AddressKind::LinkLocal),
            ("169.254.169.254", AddressKind::Metadata),
            ("168.63.129.16", AddressKind::Metadata),
            ("192.0.0.8", AddressKind::Reserved),
            ("192.0.1.8", AddressKind::Public),
            ("198.19.1.1", AddressKind::Reserved),
            ("203.0.113.9", AddressKind::Reserved),
            ("224.0.0.251", AddressKind::Multicast),
            ("240.0.0.1", AddressKind::Reserved),
            ("255.255.255.255", AddressKind::Broadcast),
            ("::", AddressKind::Unspecified),
            ("::1", AddressKind::Loopback),
            ("::127.0.0.1", AddressKind::Loopback),
            ("::ffff:127.0.0.1", AddressKind::Loopback),
            ("::ffff:8.8.8.8", AddressKind::Public),
            ("::ffff:0:10.0.0.1", AddressKind::Private),
            ("64:ff9b::10.0.0.1", AddressKind::Private),
            ("64:ff9b::169.254.169.254", AddressKind::Metadata),
            ("64:ff9b::8.8.8.8", AddressKind::Public),
            ("64:ff9b:1::8.8.8.8", AddressKind::Reserved),
            ("2002:a00:1::", AddressKind::Private),
            ("2002:7f00:1::5", AddressKind::Loopback),
            ("2001:0:1::1", AddressKind::Reserved),
            ("2001:db8::1", AddressKind::Reserved),
            ("2606:4700::1111", AddressKind::Public),
            ("fd00:ec2::254", AddressKind::Metadata),
            ("fd12::1", AddressKind::Private),
            ("fe80::1", AddressKind::LinkLocal),
            ("fec0::1", AddressKind::Private),
            ("ff02::fb", AddressKind::Multicast),
            ("100::1", AddressKind::Reserved),
            ("5f00::1", AddressKind::Reserved),
        ];
        for (address, kind) in table {
            assert_eq!(AddressKind::of(address.parse().unwrap()), kind, "{address}");
        }
    }
}
