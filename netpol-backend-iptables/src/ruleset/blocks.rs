//! Address blocks, and sets of them in which the smallest counts.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use netpol_core::model::Family;

/// An address block in canonical form: no bits are set behind the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    first: IpAddr,
    prefix: u8,
}

impl Block {
    /// The block of an address with a prefix of this length; all of it, if that is too long.
    #[must_use]
    pub fn of(address: IpAddr, prefix: u8) -> Self {
        let prefix = prefix.min(width(Family::of(address)));
        let first = match IpNet::new(address, prefix) {
            Ok(net) => net.network(),
            Err(_) => address,
        };
        Self { first, prefix }
    }

    /// The block of one address.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        Self { first: address, prefix: width(Family::of(address)) }
    }

    /// The smallest block that holds both addresses, which are of one family.
    #[must_use]
    pub fn spanning(a: IpAddr, b: IpAddr) -> Self {
        let width = width(Family::of(a));
        let common = (bits(a) ^ bits(b)).leading_zeros().saturating_sub(128 - u32::from(width));
        Self::of(a, u8::try_from(common).unwrap_or(width))
    }

    /// Its first address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// Its last address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        let family = Family::of(self.first);
        address(family, bits(self.first) | host_mask(family, self.prefix))
    }

    /// The length of its prefix.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && Self::of(address, self.prefix) == *self
    }

    /// Whether it is just one address.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.prefix == width(Family::of(self.first))
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// The number of bits of an address.
pub(super) fn width(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
        Family::V6 => Ipv6Addr::from_bits(bits).into(),
    }
}

/// The bits behind a prefix.
fn host_mask(family: Family, prefix: u8) -> u128 {
    let host = u32::from(width(family).saturating_sub(prefix));
    1u128.checked_shl(host).map_or(u128::MAX, |bit| bit - 1)
}

/// Whether the smallest block with the address in it says so.
pub(super) fn contains(list: &[(Block, bool)], address: IpAddr) -> bool {
    let found = (0..=width(Family::of(address))).rev().find_map(|prefix| {
        let block = Block::of(address, prefix);
        let at = list.binary_search_by_key(&block, |(block, _)| *block).ok()?;
        list.get(at)
    });
    found.is_some_and(|(_, inside)| *inside)
}

/// The fewest blocks, and exceptions from blocks, that hold exactly these ranges, which are disjoint
/// and ascending. A block with a hole is two elements, not one for every bit of the hole's address:
/// the kernel tries every length of prefix in turn that occurs in a set.
pub(crate) fn covering(family: Family, ranges: &[RangeInclusive<IpAddr>]) -> BTreeMap<Block, bool> {
    let ranges: Vec<(u128, u128)> =
        ranges.iter().map(|range| (bits(*range.start()), bits(*range.end()))).collect();
    let root = Node { family, first: 0, prefix: 0 };
    let [outside, _] = root.cover(&ranges);
    let blocks = outside.into_iter();
    blocks
        .map(|(node, inside)| (Block::of(address(family, node.first), node.prefix), inside))
        .collect()
}

/// A block while it is being cut.
#[derive(Clone, Copy)]
struct Node {
    family: Family,
    first: u128,
    prefix: u8,
}

impl Node {
    fn last(&self) -> u128 {
        self.first | host_mask(self.family, self.prefix)
    }

    /// What has to be listed for the ranges within it: if what is around it is outside of the set,
    /// and if that is inside.
    fn cover(self, ranges: &[(u128, u128)]) -> [Vec<(Self, bool)>; 2] {
        let begin = ranges.partition_point(|(_, last)| *last < self.first);
        let end = ranges.partition_point(|(first, _)| *first <= self.last());
        let Some(within @ [(first, last), ..]) = ranges.get(begin..end) else {
            return [Vec::new(), self.listed(false)];
        };
        if *first <= self.first && self.last() <= *last {
            return [self.listed(true), Vec::new()];
        }
        let prefix = self.prefix + 1;
        let middle = self.first | (host_mask(self.family, prefix) + 1);
        let low = Self { prefix, ..self }.cover(within);
        let high = Self { prefix, first: middle, ..self }.cover(within);
        let [[low_out, low_in], [high_out, high_in]] = [low, high];
        let [outside, inside] = [[low_out, high_out].concat(), [low_in, high_in].concat()];
        // A block of all addresses cannot be listed.
        let cheaper = |a: &Vec<_>, b: &Vec<_>| self.prefix > 0 && a.len() + 1 < b.len();
        if cheaper(&inside, &outside) {
            [[vec![(self, true)], inside.clone()].concat(), inside]
        } else if cheaper(&outside, &inside) {
            [outside.clone(), [vec![(self, false)], outside].concat()]
        } else {
            [outside, inside]
        }
    }

    fn listed(self, inside: bool) -> Vec<(Self, bool)> {
        if self.prefix > 0 {
            return vec![(self, inside)];
        }
        let middle = host_mask(self.family, 1) + 1;
        let halves = [0, middle].map(|first| Self { prefix: 1, first, ..self });
        halves.into_iter().map(|half| (half, inside)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cover(ranges: &[(&str, &str)]) -> Vec<String> {
        let ranges: Vec<_> = ranges
            .iter()
            .map(|(first, last)| first.parse().unwrap()..=last.parse().unwrap())
            .collect();
        let family = ranges.first().map_or(Family::V4, |range| Family::of(*range.start()));
        let blocks = covering(family, &ranges).into_iter();
        blocks.map(|(block, inside)| format!("{}{block}", if inside { "" } else { "!" })).collect()
    }

    #[test]
    fn holes_are_exceptions() {
        assert_eq!(cover(&[]), [""; 0]);
        assert_eq!(cover(&[("10.0.0.0", "10.255.255.255")]), ["10.0.0.0/8"]);
        let hole = [("10.0.0.0", "10.1.1.255"), ("10.1.3.0", "10.255.255.255")];
        assert_eq!(cover(&hole), ["10.0.0.0/8", "!10.1.2.0/24"]);
        assert_eq!(cover(&[("0.0.0.0", "255.255.255.255")]), ["0.0.0.0/1", "128.0.0.0/1"]);
        let all_but_one =
            [("::", "fd00::4"), ("fd00::6", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")];
        assert_eq!(cover(&all_but_one), ["::/1", "8000::/1", "!fd00::5/128"]);
        assert_eq!(cover(&[("10.0.0.1", "10.0.0.2")]), ["10.0.0.1/32", "10.0.0.2/32"]);
    }

    #[test]
    fn coverings_are_exact() {
        let address = |bits: u32| IpAddr::from(bits.to_be_bytes());
        let mut state = 1u64;
        for _ in 0..300 {
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                u32::try_from(state >> 32).unwrap() % 600
            };
            let mut edges: Vec<u32> = (0..8).map(|_| random()).collect();
            edges.sort_unstable();
            edges.dedup();
            let ranges: Vec<_> =
                edges.chunks_exact(2).map(|edge| address(edge[0])..=address(edge[1] - 1)).collect();
            let list: Vec<_> = covering(Family::V4, &ranges).into_iter().collect();
            for bits in 0..1024 {
                let inside = ranges.iter().any(|range| range.contains(&address(bits)));
                assert_eq!(contains(&list, address(bits)), inside, "{bits} {ranges:?} {list:?}");
            }
        }
    }

    #[test]
    fn spans() {
        let span =
            |a: &str, b: &str| Block::spanning(a.parse().unwrap(), b.parse().unwrap()).to_string();
        assert_eq!(span("10.0.0.1", "10.0.0.1"), "10.0.0.1/32");
        assert_eq!(span("10.0.0.1", "10.0.0.2"), "10.0.0.0/30");
        assert_eq!(span("0.0.0.0", "255.0.0.0"), "0.0.0.0/0");
        assert_eq!(span("fd00::1", "fd00::ff"), "fd00::/120");
    }
}
