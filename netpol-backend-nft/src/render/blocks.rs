//! How the address blocks of a class are looked up.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};
use netpol_core::model::Family;

use super::key::{ContentKey, name};
use super::size;
use crate::name::Name;
use crate::price;
use crate::ruleset::{Elements, Set, Side, Statement};

/// A range of more blocks than this has a rule of its own, where others are found by their lengths.
const MOST_BLOCKS: usize = 2;

/// The blocks of a class, by the way in which they are looked up: whichever costs a packet least.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Blocks {
    /// By a rule each.
    ruled: Vec<(IpAddr, IpAddr)>,
    /// Those of one length by their first addresses, in a hash set.
    by_length: BTreeMap<u8, Vec<IpAddr>>,
    /// In an interval set.
    intervals: Vec<(IpAddr, IpAddr)>,
}

impl Blocks {
    /// The ranges are ascending, disjoint and not adjacent.
    pub(super) fn new(family: Family, ranges: &[RangeInclusive<IpAddr>]) -> Self {
        let all = || ranges.iter().map(|range| (*range.start(), *range.end())).collect();
        let ruled = Self { ruled: all(), ..Self::default() };
        let intervals = Self { intervals: all(), ..Self::default() };
        let ways = [ruled, Self::of_lengths(family, ranges), intervals];
        let least = ways.into_iter().min_by_key(|way| way.nanoseconds(family));
        least.unwrap_or_default()
    }

    /// Finds blocks by their lengths, as far as that costs less than a rule each.
    fn of_lengths(family: Family, ranges: &[RangeInclusive<IpAddr>]) -> Self {
        let mut found = Self::default();
        for range in ranges {
            let blocks: Vec<IpNet> = blocks(range).take(MOST_BLOCKS + 1).collect();
            if blocks.len() > MOST_BLOCKS {
                found.ruled.push((*range.start(), *range.end()));
                continue;
            }
            for block in blocks {
                found.by_length.entry(block.prefix_len()).or_default().push(block.network());
            }
        }
        let is_few = |blocks: &Vec<IpAddr>| {
            let by_hash = price::of_block_hash(family, blocks.len(), size::of(blocks.len()));
            price::of_address_rules(family, blocks.len()).is_least(by_hash)
        };
        let (few, many): (BTreeMap<_, _>, _) =
            found.by_length.into_iter().partition(|(_, blocks)| is_few(blocks));
        found.by_length = many;
        let few = few.into_iter();
        let few = few.flat_map(|(length, blocks)| blocks.into_iter().map(move |it| (length, it)));
        let few = few.filter_map(|(length, first)| IpNet::new(first, length).ok());
        found.ruled.extend(few.map(|block| (block.network(), block.broadcast())));
        found.ruled.sort_unstable();
        found
    }

    /// What it costs an address that is in none of them.
    fn nanoseconds(&self, family: Family) -> u32 {
        let rules = price::of_address_rules(family, self.ruled.len()).nanoseconds;
        let lengths = self.by_length.values().map(|blocks| {
            price::of_block_hash(family, blocks.len(), size::of(blocks.len())).nanoseconds
        });
        let intervals = match self.intervals.len() {
            0 => 0,
            count => price::of_address_intervals(family, count).nanoseconds,
        };
        lengths.fold(rules.saturating_add(intervals), u32::saturating_add)
    }

    /// What matches addresses that are in one of the blocks, a rule each.
    pub(super) fn statements(&self, side: Side, key: ContentKey) -> Vec<Statement> {
        let lengths = self.by_length.keys();
        let lengths =
            lengths.map(|length| Statement::BlockIn(side, *length, set_of_length(*length, key)));
        let ruled = self.ruled.iter();
        let ruled = ruled.map(|(first, last)| Statement::AddressBetween(side, *first, *last));
        let intervals = Statement::AddressIn(side, set_of_intervals(key));
        let intervals = Some(intervals).filter(|_| !self.intervals.is_empty());
        lengths.chain(ruled).chain(intervals).collect()
    }

    /// The sets that the statements use.
    pub(super) fn sets(&self, key: ContentKey) -> BTreeMap<Name, Set> {
        let mut sets = BTreeMap::new();
        for (length, blocks) in &self.by_length {
            let (size, elements) = (size::of(blocks.len()), Elements::Addresses(blocks.clone()));
            let set = Set { comment: None, size: Some(size), elements };
            sets.insert(set_of_length(*length, key), set);
        }
        if !self.intervals.is_empty() {
            let elements = Elements::AddressRanges(self.intervals.clone());
            sets.insert(set_of_intervals(key), Set { comment: None, size: None, elements });
        }
        sets
    }
}

/// The blocks that a range is made of, ascending.
fn blocks(range: &RangeInclusive<IpAddr>) -> impl Iterator<Item = IpNet> + use<> {
    let subnets: Option<IpSubnets> = match (*range.start(), *range.end()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Some(Ipv4Subnets::new(first, last, 0).into()),
        (IpAddr::V6(first), IpAddr::V6(last)) => Some(Ipv6Subnets::new(first, last, 0).into()),
        _ => None,
    };
    subnets.into_iter().flatten()
}

/// The two directions of a class share its sets.
fn set_of_length(length: u8, key: ContentKey) -> Name {
    name(&format!("blocks-{length}"), key)
}

fn set_of_intervals(key: ContentKey) -> Name {
    name("blocks", key)
}
