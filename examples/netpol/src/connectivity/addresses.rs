//! Sets of addresses, and how people call them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use netpol_core::model::{Family, Name};

use super::End;

/// What stands at the addresses of the cluster.
#[derive(Debug, Default)]
pub(super) struct Atlas {
    /// Addresses that are those of pods, which are told of by name.
    pub(super) pods: BTreeSet<IpAddr>,
    pub(super) nodes: BTreeMap<IpAddr, Name>,
    /// The families that any pod has; the others do not matter.
    pub(super) families: Vec<Family>,
}

/// The first and the last address of a family, as numbers.
fn bounds(family: Family) -> (u128, u128) {
    match family {
        Family::V4 => (0, u128::from(u32::MAX)),
        Family::V6 => (0, u128::MAX),
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

impl Atlas {
    /// The names of a set of addresses, none of which is a pod's: what pods leave out in the midst of it is not told.
    pub(super) fn names(&self, ranges: &[RangeInclusive<IpAddr>]) -> Vec<End> {
        let of = |family: &Family| (*family, self.fill(*family, ranges));
        let sets: Vec<_> = self.families.iter().map(of).collect();
        let listed: Vec<IpNet> =
            sets.iter().flat_map(|(family, set)| blocks(*family, set)).collect();
        let missing: Vec<IpNet> = sets
            .iter()
            .flat_map(|(family, set)| {
                blocks(*family, &self.fill_gaps(*family, complement(*family, set)))
            })
            .collect();
        if listed.is_empty() {
            return Vec::new();
        }
        if missing.len() < listed.len() {
            return vec![End::World { except: missing }];
        }
        let mut ends: Vec<End> = listed.into_iter().map(|block| self.block(block)).collect();
        ends.sort();
        ends.dedup();
        ends
    }

    fn block(&self, block: IpNet) -> End {
        let single = block.prefix_len() == block.max_prefix_len();
        match self.nodes.get(&block.addr()).filter(|_| single) {
            Some(node) => End::Node(node.clone()),
            None => End::Block(block),
        }
    }

    /// The numbers of one family in the set, gaps closed in which there is nothing but pods.
    fn fill(&self, family: Family, ranges: &[RangeInclusive<IpAddr>]) -> Vec<(u128, u128)> {
        let own = ranges.iter().filter(|range| Family::of(*range.start()) == family);
        self.fill_gaps(family, own.map(|it| (number(*it.start()), number(*it.end()))).collect())
    }

    fn fill_gaps(&self, family: Family, ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
        let (lowest, highest) = bounds(family);
        let mut filled: Vec<(u128, u128)> = Vec::new();
        for (mut first, mut last) in ranges {
            match filled.last_mut() {
                Some((_, before)) if self.only_pods(family, *before + 1, first - 1) => {
                    *before = last;
                    continue;
                }
                None if first > lowest && self.only_pods(family, lowest, first - 1) => {
                    first = lowest
                }
                _ => {}
            }
            if last < highest && self.only_pods(family, last + 1, highest) {
                last = highest;
            }
            filled.push((first, last));
        }
        filled
    }

    /// Whether there is nothing but pods from `first` to `last`.
    fn only_pods(&self, family: Family, first: u128, last: u128) -> bool {
        if first > last {
            return true;
        }
        let wanted = last - first;
        let pods = self.pods.range(address(family, first)..=address(family, last));
        // One more than there are pods is enough to know.
        wanted < self.pods.len() as u128 && pods.count() as u128 == wanted + 1
    }
}

fn complement(family: Family, ranges: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let (lowest, highest) = bounds(family);
    let (mut next, mut gaps) = (Some(lowest), Vec::new());
    for (first, last) in ranges {
        if let Some(begin) = next.filter(|begin| begin < first) {
            gaps.push((begin, first - 1));
        }
        next = last.checked_add(1).filter(|next| *next <= highest);
    }
    gaps.extend(next.map(|begin| (begin, highest)));
    gaps
}

/// The fewest blocks that make up these ranges.
fn blocks(family: Family, ranges: &[(u128, u128)]) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for (first, last) in ranges {
        match (address(family, *first), address(family, *last)) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                nets.extend(Ipv4Subnets::new(first, last, 0).map(IpNet::V4));
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                nets.extend(Ipv6Subnets::new(first, last, 0).map(IpNet::V6));
            }
            _ => {}
        }
    }
    nets
}

/// The part of a range that is in a block.
pub(super) fn within(
    range: &RangeInclusive<IpAddr>,
    block: &IpNet,
) -> Option<RangeInclusive<IpAddr>> {
    if Family::of(*range.start()) != Family::of_block(block) {
        return None;
    }
    let first = *range.start().max(&block.network());
    let last = *range.end().min(&block.broadcast());
    (first <= last).then_some(first..=last)
}

/// A set of addresses as ranges, by their bounds.
type Ranges = BTreeSet<(IpAddr, IpAddr)>;

/// These ranges without single addresses.
pub(super) fn without(ranges: Ranges, holes: &BTreeSet<IpAddr>) -> Ranges {
    let mut left = Ranges::new();
    for (first, last) in ranges {
        let family = Family::of(first);
        let (mut begin, end) = (number(first), number(last));
        for hole in holes.range(first..=last).map(|it| number(*it)) {
            if begin < hole {
                left.insert((address(family, begin), address(family, hole - 1)));
            }
            begin = hole.saturating_add(1);
        }
        if begin <= end && !holes.contains(&last) {
            left.insert((address(family, begin), last));
        }
    }
    left
}

/// Where any of these ranges begins, or another may follow.
pub(super) fn cuts(ranges: &Ranges) -> BTreeSet<IpAddr> {
    let starts = ranges.iter().flat_map(|(first, last)| {
        let family = Family::of(*last);
        let next = number(*last).checked_add(1).filter(|next| *next <= bounds(family).1);
        [Some(*first), next.map(|next| address(family, next))]
    });
    starts.flatten().collect()
}

/// The same addresses, cut at these places.
pub(super) fn cut(ranges: &Ranges, cuts: &BTreeSet<IpAddr>) -> Ranges {
    let mut pieces = Ranges::new();
    for (first, last) in ranges {
        let mut begin = *first;
        for at in cuts.range(*first..=*last).filter(|at| *at > first) {
            pieces.insert((begin, address(Family::of(*at), number(*at) - 1)));
            begin = *at;
        }
        pieces.insert((begin, *last));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(families: &[Family], pods: &[&str], ranges: &[(&str, &str)]) -> Vec<String> {
        let pods = pods.iter().map(|it| it.parse().unwrap()).collect();
        let nodes = BTreeMap::from([("172.18.0.1".parse().unwrap(), Name::from("a"))]);
        let atlas = Atlas { pods, nodes, families: families.to_vec() };
        let ranges: Vec<_> =
            ranges.iter().map(|(a, b)| a.parse().unwrap()..=b.parse().unwrap()).collect();
        atlas.names(&ranges).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pods_are_no_holes_in_the_world() {
        let v4 = [Family::V4];
        let world = [("0.0.0.0", "10.0.0.0"), ("10.0.0.2", "255.255.255.255")];
        assert_eq!(names(&v4, &["10.0.0.1"], &world), ["world"]);
        assert_eq!(names(&v4, &[], &world), ["world except 10.0.0.1/32"]);
        let both = Family::ALL;
        assert_eq!(names(&both, &["10.0.0.1"], &world), ["0.0.0.0/0"]);
        assert_eq!(
            names(&v4, &["0.0.0.0", "255.255.255.255"], &[("0.0.0.1", "255.255.255.254")]),
            ["world"]
        );
    }

    #[test]
    fn blocks_and_nodes_have_names() {
        let v4 = [Family::V4];
        assert_eq!(
            names(&v4, &["10.0.0.1"], &[("10.0.0.0", "10.0.0.0"), ("10.0.0.2", "10.0.0.3")]),
            ["10.0.0.0/30"]
        );
        assert_eq!(names(&v4, &[], &[("172.18.0.1", "172.18.0.1")]), ["node/a"]);
        assert!(names(&v4, &[], &[("::", "::ff")]).is_empty());
        assert_eq!(
            names(&Family::ALL, &[], &[("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]),
            ["::/0"]
        );
    }
}
