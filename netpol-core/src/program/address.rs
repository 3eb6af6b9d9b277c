use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use smallvec::SmallVec;

use crate::hash::HashMap;

use super::address_map::AddressMap;
use super::members::{predecessor, successor};
use super::{EndpointId, IdentityId, NodeId, ProfileId};

/// Who an address is.
///
/// Most addresses of packets belong to an endpoint, and a hash look-up finds those several times faster than a trie
/// does (2-7 ns against 16-30 ns for 100,000 of them). So the two are kept apart: single addresses that mean
/// something of their own in a hash map per family, and the CIDR blocks of policies in one trie per family, where the longest
/// prefix that covers an address decides. Every prefix of the trie carries the identity of the addresses for which
/// it is the longest, so that one look-up answers for all blocks that overlap there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    known_v4: AddressMap<u32>,
    known_v6: AddressMap<u128>,
    pub(crate) nodes: Arc<HashMap<IpAddr, SmallVec<[NodeId; 1]>>>,
    pub(crate) v4: Arc<PrefixMap<Ipv4Net, IdentityId>>,
    pub(crate) v6: Arc<PrefixMap<Ipv6Net, IdentityId>>,
}

/// An address that means something of its own, with all that a decision needs to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    identity: u32,
    endpoint: u32,
    profile: u32,
}

impl Known {
    /// No address at all.
    pub(super) const VACANT: Self = Self { identity: NONE, endpoint: NONE, profile: NONE };

    /// An end about which nothing is known.
    pub(super) const NOBODY: Self = Self { identity: Addresses::NOTHING.0, ..Self::VACANT };

    /// An address that no endpoint has.
    pub(crate) fn new(identity: IdentityId) -> Self {
        Self { identity: identity.0, ..Self::VACANT }
    }

    /// The same address, had by an endpoint of this profile.
    pub(crate) fn of(self, endpoint: EndpointId, profile: Option<ProfileId>) -> Self {
        let profile = profile.map_or(NONE, |profile| profile.0);
        Self { endpoint: endpoint.0, profile, ..self }
    }

    #[inline]
    pub(super) fn is_vacant(self) -> bool {
        self.identity == NONE
    }

    #[inline]
    pub(crate) fn identity(self) -> IdentityId {
        IdentityId(self.identity)
    }

    /// The endpoint that has the address.
    #[inline]
    pub(crate) fn endpoint(self) -> Option<EndpointId> {
        (self.endpoint != NONE).then_some(EndpointId(self.endpoint))
    }

    /// What the endpoint may do, if it is policed.
    #[inline]
    pub(crate) fn profile(self) -> Option<ProfileId> {
        (self.profile != NONE).then_some(ProfileId(self.profile))
    }
}

/// No number that anything has.
const NONE: u32 = u32::MAX;

impl Addresses {
    /// The identity of an address about which nothing is known, in no block either.
    pub(crate) const NOTHING: IdentityId = IdentityId(0);

    #[inline(always)]
    pub(crate) fn lookup(&self, address: IpAddr) -> Known {
        match self.known(address) {
            Some(known) => known,
            None => self.by_block(address),
        }
    }

    #[inline(always)]
    pub(crate) fn known(&self, address: IpAddr) -> Option<Known> {
        match address {
            IpAddr::V4(address) => self.known_v4.get(address.to_bits()),
            IpAddr::V6(address) => self.known_v6.get(address.to_bits()),
        }
    }

    pub(crate) fn set_known(&mut self, address: IpAddr, known: Option<Known>) {
        match (address, known) {
            (IpAddr::V4(address), Some(known)) => self.known_v4.insert(address.to_bits(), known),
            (IpAddr::V6(address), Some(known)) => self.known_v6.insert(address.to_bits(), known),
            (IpAddr::V4(address), None) => self.known_v4.remove(address.to_bits()),
            (IpAddr::V6(address), None) => self.known_v6.remove(address.to_bits()),
        }
    }

    /// The addresses that mean something of their own, in no particular order.
    pub(crate) fn all_known(&self) -> impl Iterator<Item = (IpAddr, Known)> {
        let v4 = self.known_v4.iter().map(|(bits, it)| (IpAddr::V4(Ipv4Addr::from_bits(bits)), it));
        let v6 = self.known_v6.iter().map(|(bits, it)| (IpAddr::V6(Ipv6Addr::from_bits(bits)), it));
        v4.chain(v6)
    }

    #[cold]
    fn by_block(&self, address: IpAddr) -> Known {
        Known::new(self.longest_prefix(address))
    }

    pub(crate) fn longest_prefix(&self, address: IpAddr) -> IdentityId {
        let found = match IpNet::from(address) {
            IpNet::V4(host) => self.v4.get_lpm(&host).map(|(_, id)| *id),
            IpNet::V6(host) => self.v6.get_lpm(&host).map(|(_, id)| *id),
        };
        found.unwrap_or(Self::NOTHING)
    }

    /// Sets or removes the identity of the addresses for which a block is the longest that covers them.
    pub(crate) fn set_block(&mut self, net: IpNet, identity: Option<IdentityId>) {
        match (net, identity) {
            (IpNet::V4(net), Some(id)) => drop(Arc::make_mut(&mut self.v4).insert(net, id)),
            (IpNet::V6(net), Some(id)) => drop(Arc::make_mut(&mut self.v6).insert(net, id)),
            (IpNet::V4(net), None) => drop(Arc::make_mut(&mut self.v4).remove(&net)),
            (IpNet::V6(net), None) => drop(Arc::make_mut(&mut self.v6).remove(&net)),
        }
    }

    /// The addresses for which this block is the longest that covers them, as ranges.
    pub(crate) fn longest_in(&self, net: IpNet) -> Vec<RangeInclusive<IpAddr>> {
        let inside: Vec<IpNet> = match net {
            IpNet::V4(net) => self.v4.children(&net).map(|(it, _)| IpNet::V4(it)).collect(),
            IpNet::V6(net) => self.v6.children(&net).map(|(it, _)| IpNet::V6(it)).collect(),
        };
        let mut ranges = Vec::new();
        let mut next = Some(net.network());
        // In ascending order, and each before those inside of it.
        for inner in inside.into_iter().filter(|it| *it != net) {
            let Some(first) = next.filter(|first| *first <= inner.network()) else { continue };
            if first < inner.network() {
                ranges.push(first..=predecessor(inner.network()));
            }
            next = successor(inner.broadcast());
        }
        if let Some(first) = next.filter(|first| *first <= net.broadcast()) {
            // The last block inside may have ended where this one does.
            if net.contains(&first) {
                ranges.push(first..=net.broadcast());
            }
        }
        ranges
    }

    /// The nodes that have this address.
    pub(crate) fn nodes_at(&self, address: IpAddr) -> &[NodeId] {
        self.nodes.get(&address).map_or(&[], |nodes| nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest_in(blocks: &[&str], net: &str) -> Vec<String> {
        let mut addresses = Addresses::default();
        for block in blocks {
            addresses.set_block(block.parse().unwrap(), Some(IdentityId(1)));
        }
        let ranges = addresses.longest_in(net.parse().unwrap());
        ranges.iter().map(|range| format!("{}-{}", range.start(), range.end())).collect()
    }

    #[test]
    fn a_block_without_those_inside() {
        let blocks =
            ["10.0.0.0/8", "10.0.0.0/30", "10.0.0.2/31", "10.255.255.255/32", "11.0.0.0/8"];
        assert_eq!(longest_in(&blocks, "10.0.0.0/8"), ["10.0.0.4-10.255.255.254"]);
        assert_eq!(longest_in(&blocks, "10.0.0.0/30"), ["10.0.0.0-10.0.0.1"]);
        assert_eq!(longest_in(&blocks, "10.0.0.2/31"), ["10.0.0.2-10.0.0.3"]);
        assert_eq!(longest_in(&["::/0", "::/1"], "::/0").len(), 1);
        assert!(longest_in(&["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"], "0.0.0.0/0").is_empty());
        let whole = longest_in(&["0.0.0.0/0"], "0.0.0.0/0");
        assert_eq!(whole, ["0.0.0.0-255.255.255.255"]);
    }
}
