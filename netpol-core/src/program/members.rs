use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::model::{Block, Family, HostNetworkSubjects};

use super::{
    Atom, AtomId, Class, ClassId, IdentityId, Known, NodeId, Program, Scope, Union, Verdict, Within,
};

/// The addresses of one family that a class allows: what a backend puts into the kernel's sets.
///
/// For an address, the first of these that knows it decides: `allow`, `deny`, `ranges`, `default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The verdict for every address that is nowhere else.
    pub default: Verdict,
    /// Disjoint, ascending, never adjacent: addresses with the opposite of `default`.
    pub ranges: Vec<RangeInclusive<IpAddr>>,
    /// Single addresses that are allowed although `ranges` and `default` deny them; ascending.
    pub allow: Vec<IpAddr>,
    /// Single addresses that are denied although `ranges` and `default` allow them; ascending.
    pub deny: Vec<IpAddr>,
}

/// Who an address is to classes: found once, for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Single {
    identity: IdentityId,
    /// It means something of its own.
    known: bool,
    /// It is the own node's and no ordinary endpoint's.
    own_node: bool,
}

impl Program {
    /// The addresses that a class allows.
    ///
    /// In a program that is scoped to a node, the node's own addresses are among them where its endpoints accept
    /// them (NP-NODE-1). `O(n log n)` in the addresses of the class.
    pub fn members(&self, id: ClassId, family: Family) -> Members {
        let class = self.class(id);
        let mut members = self.member_ranges(id, family);
        for identity in class.exceptions.iter().filter_map(|id| self.inner.identities.get(id.0)) {
            for address in identity.addresses.iter().filter(|it| Family::of(*it) == family) {
                members.set(address, class.default.opposite());
            }
        }
        // A union never denies what lies in one of its blocks; anything else may.
        if !members.ranges.is_empty() && self.stack(id).as_union().is_none() {
            for (address, known) in self.inner.addresses.all_known() {
                if Family::of(address) == family && class.verdict(known.identity()) == class.default
                {
                    members.set(address, class.default);
                }
            }
        }
        for (address, identity) in self.own_node_addresses(family) {
            if class.allows_own_node(identity) {
                members.deny.retain(|denied| *denied != address);
                members.set(address, Verdict::Allow);
            }
        }
        for list in [&mut members.allow, &mut members.deny] {
            list.sort_unstable();
            list.dedup();
        }
        members
    }

    /// What is among the members of a class, single addresses left out: `default` and `ranges`.
    pub fn member_ranges(&self, id: ClassId, family: Family) -> Members {
        let class = self.class(id);
        let ranges = match self.stack(id).as_union() {
            Some(union) => self.ranges_of(union, family),
            None => self.ranges(class, family),
        };
        Members { default: class.default, ranges, allow: Vec::new(), deny: Vec::new() }
    }

    /// Who an address is to classes.
    pub fn single(&self, address: IpAddr) -> Single {
        let found = self.inner.addresses.lookup(address);
        Single {
            identity: found.identity(),
            known: self.inner.addresses.known(address).is_some(),
            own_node: self.is_at_own_node(address, found),
        }
    }

    /// What a class says of an address that means something of its own; `None` of all others, whose verdict follows from
    /// `default` and `ranges` of the [`members`](Self::members). Single addresses are listed there if it differs.
    pub fn member(&self, id: ClassId, single: Single) -> Option<Verdict> {
        let class = self.class(id);
        if single.own_node && class.allows_own_node(single.identity) {
            return Some(Verdict::Allow);
        }
        single.known.then(|| class.verdict(single.identity))
    }

    /// With which addresses an address has the traffic of a host with itself, where hosts are policed: those of every
    /// node that has it, its own among them, as far as no ordinary endpoint has them (M4). Nodes may share addresses.
    ///
    /// `O(n)` in the addresses of nodes.
    pub fn same_host(&self, address: IpAddr) -> impl Iterator<Item = IpAddr> {
        let policed = self.inner.options.host_network_subjects == HostNetworkSubjects::Policed;
        let addresses = &self.inner.addresses;
        let nodes_at = |address| match self.endpoint_at(address) {
            Some(entry) if !entry.host => &[],
            _ => addresses.nodes_at(address),
        };
        let nodes = if policed { nodes_at(address) } else { &[] };
        let shares = move |other: &IpAddr| nodes_at(*other).iter().any(|it| nodes.contains(it));
        addresses.nodes.keys().copied().filter(shares)
    }

    /// The block that an atom asks for, if it asks for one.
    pub(super) fn block(&self, id: AtomId) -> Option<&Block> {
        match self.inner.atoms.get(id.0) {
            Some(Atom::Block(block)) => Some(block),
            _ => None,
        }
    }

    /// The addresses of the blocks of a union. Follows from these alone, however many others there are.
    fn ranges_of(&self, union: &Union, family: Family) -> Vec<RangeInclusive<IpAddr>> {
        let whole = union.atoms.iter().filter_map(|id| self.block(*id));
        let whole = whole.map(|block| (block.cidr(), block.except().to_vec()));
        let net = |id: &AtomId| self.block(*id).map(Block::cidr);
        let by_parts = union.blocks.iter().filter_map(|Within { block, except }| {
            Some((net(block)?, except.iter().filter_map(net).collect()))
        });
        let mut ranges = Vec::new();
        for (block, except) in whole.chain(by_parts) {
            if Family::of_block(&block) == family {
                without(block, except, &mut ranges);
            }
        }
        ranges.sort_unstable_by_key(|range| *range.start());
        coalesce(ranges)
    }

    /// The addresses of the blocks that a class makes an exception of, single addresses aside.
    fn ranges(&self, class: &Class, family: Family) -> Vec<RangeInclusive<IpAddr>> {
        let exceptions = class.exceptions.iter().filter_map(|id| self.inner.identities.get(id.0));
        let blocks = exceptions.flat_map(|identity| identity.blocks.iter());
        let blocks = blocks.filter(|net| Family::of_block(net) == family);
        let mut ranges: Vec<_> =
            blocks.flat_map(|net| self.inner.addresses.longest_in(net)).collect();
        ranges.sort_unstable_by_key(|range| *range.start());
        coalesce(ranges)
    }

    /// The addresses of the node that the program is scoped to, as far as no ordinary endpoint has them.
    fn own_node_addresses(&self, family: Family) -> impl Iterator<Item = (IpAddr, IdentityId)> {
        let addresses = &self.inner.addresses;
        addresses
            .nodes
            .keys()
            .filter(move |address| Family::of(**address) == family)
            .map(|address| (*address, addresses.lookup(*address)))
            .filter(|(address, known)| self.is_at_own_node(*address, *known))
            .map(|(address, known)| (address, known.identity()))
    }

    /// Whether an address is one of the node that the program is scoped to, and no ordinary endpoint's.
    fn is_at_own_node(&self, address: IpAddr, known: Known) -> bool {
        let nodes = self.inner.addresses.nodes_at(address);
        !nodes.is_empty()
            && self.own_node().is_some_and(|own| nodes.contains(&own))
            && known.endpoint().and_then(|id| self.entry(id)).is_none_or(|entry| entry.host)
    }

    pub(super) fn own_node(&self) -> Option<NodeId> {
        let Scope::Node(own) = &self.inner.scope else { return None };
        self.inner.nodes.iter().find(|(_, name)| *name == own).map(|(id, _)| NodeId(id))
    }
}

impl Members {
    /// The verdict for one address.
    pub fn verdict(&self, address: IpAddr) -> Verdict {
        if self.allow.binary_search(&address).is_ok() {
            Verdict::Allow
        } else if self.deny.binary_search(&address).is_ok() {
            Verdict::Deny
        } else {
            self.by_range(address)
        }
    }

    /// The verdict for an address that is not listed by itself.
    pub fn by_range(&self, address: IpAddr) -> Verdict {
        let at = self.ranges.partition_point(|range| *range.end() < address);
        match self.ranges.get(at) {
            Some(range) if range.contains(&address) => self.default.opposite(),
            _ => self.default,
        }
    }

    /// Lists a single address, unless its verdict follows from the rest.
    fn set(&mut self, address: IpAddr, verdict: Verdict) {
        if self.by_range(address) != verdict {
            match verdict {
                Verdict::Allow => self.allow.push(address),
                Verdict::Deny => self.deny.push(address),
            }
        }
    }
}

/// The addresses of a block that are in none of others.
fn without(block: IpNet, mut others: Vec<IpNet>, out: &mut Vec<RangeInclusive<IpAddr>>) {
    others.sort_unstable_by_key(|other| other.network());
    let mut next = Some(block.network());
    for other in others {
        let Some(first) = next.filter(|first| *first <= other.broadcast()) else { continue };
        if first < other.network() {
            out.push(first..=predecessor(other.network()));
        }
        next = successor(other.broadcast());
    }
    out.extend(next.filter(|first| block.contains(first)).map(|first| first..=block.broadcast()));
}

/// Joins ranges that overlap or follow one another without a gap, if they are sorted by where they begin.
pub(crate) fn coalesce(ranges: Vec<RangeInclusive<IpAddr>>) -> Vec<RangeInclusive<IpAddr>> {
    let mut joined: Vec<RangeInclusive<IpAddr>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start() <= last.end() || follows(last, &range) => {
                *last = *last.start()..=(*last.end()).max(*range.end());
            }
            _ => joined.push(range),
        }
    }
    joined
}

fn follows(before: &RangeInclusive<IpAddr>, after: &RangeInclusive<IpAddr>) -> bool {
    successor(*before.end()) == Some(*after.start())
}

/// The address before, of the same family; the lowest one is before itself.
pub(crate) fn predecessor(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).saturating_sub(1).into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).saturating_sub(1).into()),
    }
}

/// The next address of the same family.
pub(crate) fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_without_parts() {
        let left = |block: &str, others: &[&str]| {
            let others = others.iter().map(|it| it.parse().unwrap()).collect();
            let mut ranges = Vec::new();
            without(block.parse().unwrap(), others, &mut ranges);
            ranges.iter().map(|it| format!("{}-{}", it.start(), it.end())).collect::<Vec<_>>()
        };
        // In any order, and one in another.
        let parts = ["10.128.0.0/9", "10.0.1.0/24", "10.0.0.0/16"];
        assert_eq!(left("10.0.0.0/8", &parts), ["10.1.0.0-10.127.255.255"]);
        assert_eq!(left("10.0.0.0/31", &["10.0.0.0/32"]), ["10.0.0.1-10.0.0.1"]);
        assert_eq!(left("::/0", &["8000::/1"]), ["::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
        assert!(left("10.0.0.0/8", &["0.0.0.0/0"]).is_empty());
    }
}
