//! Which addresses we connect to on somebody else's word.
//!
//! A URL of a relationship is an administrator's word, a redirect's target the peer's, and what a name resolves to whoever runs the name. So each
//! address is judged after it was resolved, and the connection goes to the very address that was judged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where metadata services of clouds listen outside of the link-local range: they give credentials to whoever can reach them.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// The first 32 bits of IPv6 networks that clouds keep for such services.
const METADATA_V6: [[u16; 2]; 2] = [[0xfd00, 0x0ec2], [0xfd20, 0x00ce]];

/// What may be connected to. Private networks may always: that is where most peers are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AddressRule {
    /// Whether this machine itself may.
    pub allow_loopback: bool,
}

/// An address that is not connected to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{address} is {what} address, to which no bundle endpoint may lead")]
pub struct ForbiddenAddress {
    address: IpAddr,
    what: &'static str,
}

impl AddressRule {
    /// Whether `address` may be connected to.
    ///
    /// # Errors
    /// When it is this machine's own, link-local, a metadata service's, or no machine's at all.
    pub fn check(self, address: IpAddr) -> Result<(), ForbiddenAddress> {
        let what = match address {
            IpAddr::V4(v4) => forbidden_v4(v4),
            IpAddr::V6(v6) => forbidden_v6(v6),
        };
        match what {
            None => Ok(()),
            Some(Forbidden::Loopback) if self.allow_loopback => Ok(()),
            Some(what) => Err(ForbiddenAddress {
                address,
                what: what.name(),
            }),
        }
    }
}

#[derive(Clone, Copy)]
enum Forbidden {
    Loopback,
    LinkLocal,
    Metadata,
    Nobody,
}

impl Forbidden {
    fn name(self) -> &'static str {
        match self {
            Self::Loopback => "a loopback",
            Self::LinkLocal => "a link-local",
            Self::Metadata => "a metadata service's",
            Self::Nobody => "no single machine's",
        }
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<Forbidden> {
    let [first, ..] = address.octets();
    match () {
        () if address.is_loopback() => Some(Forbidden::Loopback),
        () if address.is_link_local() => Some(Forbidden::LinkLocal),
        () if METADATA_V4.contains(&address) => Some(Forbidden::Metadata),
        // Linux connects 0.0.0.0 to itself.
        () if first == 0 || address.is_multicast() || first >= 240 => Some(Forbidden::Nobody),
        () => None,
    }
}

fn forbidden_v6(address: Ipv6Addr) -> Option<Forbidden> {
    let segments = address.segments();
    // An IPv4 address in IPv6's clothes is that address.
    if let Some(v4) = embedded_v4(address) {
        return forbidden_v4(v4);
    }
    match () {
        () if address.is_loopback() => Some(Forbidden::Loopback),
        () if address.is_unspecified() || address.is_multicast() => Some(Forbidden::Nobody),
        () if segments[0] & 0xffc0 == 0xfe80 || segments[0] & 0xffc0 == 0xfec0 => Some(Forbidden::LinkLocal),
        () if METADATA_V6.contains(&[segments[0], segments[1]]) => Some(Forbidden::Metadata),
        () => None,
    }
}

/// The IPv4 address in a mapped, compatible, translated (RFC 6052, and RFC 8215 for a network's own translation) or 6to4 address.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0, 0, 0, 0, 0xffff, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => Some(v4(high, low)),
        // ::1 and :: are IPv6's own.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(rule: AddressRule, address: &str) -> bool {
        rule.check(address.parse().unwrap()).is_ok()
    }

    #[test]
    fn private_and_public_networks_may_be_connected_to() {
        for address in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "203.0.113.9",
            "2001:db8::1",
            "fd12::1",
            "fd00:ec3::254",
            "64:ff9b:1::a01:203",
        ] {
            assert!(allowed(AddressRule::default(), address), "{address}");
        }
    }

    #[test]
    fn what_leads_inward_may_not_in_whatever_clothes_it_comes() {
        let inward = [
            "127.0.0.1",
            "127.255.0.9",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::",
            "::127.0.0.1",
        ];
        let never = [
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1:2:3:4:a9fe:a9fe",
            "169.254.0.1",
            "fe80::1",
            "fec0::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd00:ec2:1::1",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "240.0.0.1",
        ];
        let open = AddressRule { allow_loopback: true };
        for address in inward {
            assert!(!allowed(AddressRule::default(), address), "{address}");
            assert!(allowed(open, address), "{address}");
        }
        for address in never {
            assert!(!allowed(AddressRule::default(), address), "{address}");
            assert!(!allowed(open, address), "{address}");
        }
    }
}
