//! Addresses that are denied because no endpoint is known to have them.

use std::net::IpAddr;

use ipnet::IpNet;
use netpol_core::model::{Direction, Family};

use super::exits::denied_chain;
use crate::name::Name;
use crate::price;
use crate::ruleset::{Elements, Rule, Set, Side, Statement, Verdict};

/// The ranges of one family, ascending, disjoint and not adjacent.
pub(super) fn closed_ranges(all: &[IpNet], family: Family) -> Vec<(IpAddr, IpAddr)> {
    let mut ranges: Vec<_> = all
        .iter()
        .filter(|range| Family::of(range.addr()) == family)
        .map(|range| (range.network(), range.broadcast()))
        .collect();
    ranges.sort_unstable();
    let mut joined: Vec<(IpAddr, IpAddr)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if first <= *end || number(first) == number(*end) + 1 => {
                *end = last.max(*end);
            }
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        // The last address of all is followed by none, and is never the smaller of two.
        IpAddr::V6(address) => address.to_bits().min(u128::MAX - 1),
    }
}

/// The rules of a base chain that deny what addresses of these ranges send, or receive.
pub(super) fn rules(direction: Direction, ranges: &[(IpAddr, IpAddr)]) -> Vec<Rule> {
    let side = match direction {
        Direction::Egress => Side::Source,
        Direction::Ingress => Side::Destination,
    };
    // In an audit the other end is asked as well, so this may come back.
    let denied = Verdict::Jump(denied_chain(direction));
    let rule = |in_range| -> Rule {
        let is_unknown = Statement::AddressNotIn(side, known_set());
        [in_range, is_unknown, Statement::Verdict(denied.clone())].into()
    };
    let Some((first, _)) = ranges.first() else { return Vec::new() };
    let family = Family::of(*first);
    if price::of_address_rules(family, ranges.len())
        .is_least(price::of_address_intervals(family, ranges.len()))
    {
        let ranges = ranges.iter();
        ranges.map(|(first, last)| rule(Statement::AddressBetween(side, *first, *last))).collect()
    } else {
        vec![rule(Statement::AddressIn(side, closed_set()))]
    }
}

/// The set of the ranges, if rules use one.
pub(super) fn set(ranges: &[(IpAddr, IpAddr)]) -> Option<(Name, Set)> {
    let rules = rules(Direction::Egress, ranges);
    let used =
        rules.iter().flat_map(|rule| &rule.statements).any(|it| it.set() == Some(&closed_set()));
    let elements = Elements::AddressRanges(ranges.to_vec());
    used.then(|| (closed_set(), Set { comment: None, size: None, elements }))
}

/// The addresses of the endpoints of this host, and of others who have an address of a range that is closed.
pub(super) fn known_set() -> Name {
    Name::known("endpoints")
}

fn closed_set() -> Name {
    Name::known("closed")
}
