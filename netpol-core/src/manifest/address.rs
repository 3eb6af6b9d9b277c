//! Addresses and CIDR blocks as text: what the API server ever accepted, and what of it is still good.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A CIDR block as old API servers read it, and what newer ones have against it (NP-V-24).
pub(super) struct Cidr {
    /// The block without host bits (NP-IPB-5).
    pub(super) block: IpNet,
    /// Why it is not accepted any more.
    pub(super) flaw: Option<Flaw>,
    /// It is in the canonical spelling.
    pub(super) canonical: bool,
}

/// What strict servers refuse and others read all the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Bits are set behind the prefix.
    HostBits,
    /// A number begins with 0, which some read as octal.
    LeadingZeros,
    /// An IPv4 block in IPv6 clothing.
    Mapped,
}

/// Reads a block. Octets and prefix lengths are decimal, whatever they begin with.
pub(super) fn cidr(text: &str) -> Option<Cidr> {
    let (address_text, prefix_text) = text.split_once('/')?;
    let written = loose_address(address_text)?;
    if prefix_text.is_empty() || !prefix_text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let prefix: u8 = without_zeros(prefix_text).parse().ok()?;
    let strict = address_text.parse() == Ok(written) && without_zeros(prefix_text) == prefix_text;

    let given = IpNet::new(written, prefix).ok()?;
    let mapped = matches!(written, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let given = match (written.to_canonical(), prefix.checked_sub(96)) {
        (v4 @ IpAddr::V4(_), Some(prefix)) => IpNet::new(v4, prefix).ok()?,
        _ => given,
    };
    let block = given.trunc();
    let flaw = if mapped {
        Some(Flaw::Mapped)
    } else if !strict {
        Some(Flaw::LeadingZeros)
    } else {
        (block != given).then_some(Flaw::HostBits)
    };
    let canonical = given.to_string() == text;
    Some(Cidr { block, flaw, canonical })
}

/// Reads an address as Kubernetes components write it; IPv4 in IPv6 clothing is IPv4.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    loose_address(text).map(|address| address.to_canonical())
}

/// Reads an address without regard to leading zeros.
fn loose_address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let mut plain = String::with_capacity(text.len());
    for piece in text.split_inclusive([':', '.']) {
        let number = piece.trim_end_matches([':', '.']);
        plain.push_str(without_zeros(number));
        plain.push_str(&piece[number.len()..]);
    }
    plain.parse().ok()
}

/// The number without leading zeros; a zero stays one.
fn without_zeros(number: &str) -> &str {
    match number.trim_start_matches('0') {
        "" if !number.is_empty() => "0",
        rest => rest,
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostBits => "no bits may be set behind the prefix",
            Self::LeadingZeros => "numbers must not begin with 0",
            Self::Mapped => "an IPv4 block must be written as such, not as an IPv6 one",
        })
    }
}
