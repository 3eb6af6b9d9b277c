//! What a profile says in one direction: a chain that looks ports up, unless the port does not
//! matter. Content-addressed, so that it is never changed and profiles that say the same share it.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use netpol_core::model::{Direction, PortRange, Protocol, Traffic};
use netpol_core::program::{ClassId, PortMap};

use super::exits::{Exits, directed_name};
use super::key::ContentKey;
use super::size;
use crate::name::{Comment, Name};
use crate::price;
use crate::ruleset::{Chain, Elements, Rule, Set, Statement, Verdict};

/// Ranges of more ports than this go to the interval map, which costs 70 to 170 ns a look-up where
/// the hash map costs 25; smaller ones are listed port by port.
pub(crate) const WIDEST_LISTED: u32 = 16;

/// Stands for all protocols without ports; this number is kept free for experiments (RFC 3692).
const EXPERIMENTAL: Traffic = Traffic::Other(253);

/// The part of a class that is about one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Peers {
    /// Everyone is allowed.
    All,
    /// Nobody is.
    None,
    /// It depends on the address, as the class of this key says.
    Some(ContentKey),
}

/// Where packets of a profile are sent to in one direction, with what has to be there for it.
#[derive(Debug)]
pub(super) struct Judged {
    /// `None` if all is allowed.
    pub(super) entry: Option<Verdict>,
    /// The chain that looks ports up and its maps, unless the port does not matter.
    pub(super) ports: Option<(Name, PortChain)>,
}

/// A chain that looks ports up.
#[derive(Debug)]
pub(super) struct PortChain {
    pub(super) chain: Chain,
    pub(super) maps: Vec<(Name, Set)>,
}

/// Judges by port, unless the port does not matter. `peers` says who is allowed.
pub(super) fn judge(
    side: &PortMap,
    exits: &Exits,
    comment: &Comment,
    mut peers: impl FnMut(ClassId, Traffic) -> Peers,
) -> Judged {
    let rest = peers(side.other(), EXPERIMENTAL);
    let protocols = Protocol::ALL.map(|protocol| {
        let mut merged: Vec<(PortRange, Peers)> = Vec::new();
        for (range, class) in side.intervals(protocol) {
            let peers = peers(*class, Traffic::Port(protocol, range.first()));
            // Classes that differ may be the same in this family.
            match merged.last_mut() {
                Some((last, same)) if *same == peers => {
                    *last = PortRange::new(last.first(), range.last()).unwrap_or(*last);
                }
                _ => merged.push((*range, peers)),
            }
        }
        (protocol, Plan::new(&merged))
    });
    let mut ports = None;
    let verdict = if protocols.iter().all(|(_, plan)| plan.is_just(rest)) {
        exits.of(rest)
    } else {
        let key = side_key(rest, &protocols, exits, comment);
        let name = directed_name("ports", exits.direction, key);
        let chain = port_chain(rest, &protocols, comment, exits, key);
        ports = Some((name.clone(), chain));
        Verdict::Goto(name)
    };
    let entry = match (verdict, exits.direction) {
        (Verdict::Accept | Verdict::Return, _) => None,
        // The base chain has still to ask the destination.
        (Verdict::Goto(chain), Direction::Egress) => Some(Verdict::Jump(chain)),
        (verdict, _) => Some(verdict),
    };
    Judged { entry, ports }
}

fn port_chain(
    rest: Peers,
    protocols: &[(Protocol, Plan)],
    comment: &Comment,
    exits: &Exits,
    key: ContentKey,
) -> PortChain {
    let mut rules: Vec<Rule> = Vec::new();
    let mut maps = Vec::new();
    for (protocol, plan) in protocols {
        let transport = Statement::Protocol(protocol.number());
        let word = protocol.as_str().to_ascii_lowercase();
        for (range, peers) in &plan.ruled {
            let ports = Statement::PortBetween(range.first(), range.last());
            let verdict = Statement::Verdict(exits.of(*peers));
            rules.push([transport.clone(), ports, verdict].into());
        }
        if !plan.listed.is_empty() {
            let listed = plan.listed.iter();
            let elements: Vec<_> = listed.map(|(port, peers)| (*port, exits.of(*peers))).collect();
            let size = Some(size::of(elements.len()));
            let map = directed_name(&word, exits.direction, key);
            let elements = Elements::PortVerdicts(elements);
            maps.push((map.clone(), Set { comment: None, size, elements }));
            rules.push([transport.clone(), Statement::PortMap(map)].into());
        }
        if !plan.ranges.is_empty() {
            let ranges = plan.ranges.iter();
            let elements = ranges
                .map(|(range, peers)| ((range.first(), range.last()), exits.of(*peers)))
                .collect();
            let map = directed_name(&format!("{word}-ranges"), exits.direction, key);
            let elements = Elements::PortRangeVerdicts(elements);
            maps.push((map.clone(), Set { comment: None, size: None, elements }));
            rules.push([transport.clone(), Statement::PortMap(map)].into());
        }
        if plan.rest != rest {
            rules.push([transport, Statement::Verdict(exits.of(plan.rest))].into());
        }
    }
    rules.push([Statement::Verdict(exits.of(rest))].into());
    PortChain { chain: Chain { base: None, comment: Some(comment.clone()), rules }, maps }
}

/// A key of all that a port chain says, but for its direction: equal keys, equal content.
fn side_key(
    rest: Peers,
    protocols: &[(Protocol, Plan)],
    exits: &Exits,
    comment: &Comment,
) -> ContentKey {
    let mut text = String::new();
    let mut push = |what: &dyn fmt::Display, peers: Peers| {
        let peers = match peers {
            Peers::All => "all".to_owned(),
            Peers::None => "none".to_owned(),
            Peers::Some(key) => key.to_string(),
        };
        _ = write!(text, "{what} {peers};");
    };
    push(&"other", rest);
    for (protocol, plan) in protocols {
        push(protocol, plan.rest);
        plan.ruled.iter().for_each(|(range, peers)| push(range, *peers));
        plan.listed.iter().for_each(|(port, peers)| push(port, *peers));
        plan.ranges.iter().for_each(|(range, peers)| push(range, *peers));
    }
    if let Some(profile) = exits.profile {
        _ = write!(text, "{profile};");
    }
    text.push_str(comment.as_str());
    ContentKey::of(&text)
}

/// How the ports of one protocol are looked up.
#[derive(Debug)]
struct Plan {
    /// By a rule each, where they are so few.
    ruled: Vec<(PortRange, Peers)>,
    /// In a hash map.
    listed: Vec<(u16, Peers)>,
    /// In an interval map.
    ranges: Vec<(PortRange, Peers)>,
    /// For all other ports.
    rest: Peers,
}

impl Plan {
    /// The peers of most ports need no entry: usually those who are allowed on none in particular.
    fn new(intervals: &[(PortRange, Peers)]) -> Self {
        let mut ports: BTreeMap<usize, u32> = BTreeMap::new();
        let first_of = |peers: Peers| intervals.iter().position(|(_, other)| *other == peers);
        for (range, peers) in intervals {
            *ports.entry(first_of(*peers).unwrap_or_default()).or_default() += width(*range);
        }
        let most = ports.iter().max_by_key(|(_, ports)| **ports).map(|(at, _)| *at);
        let rest = most.and_then(|at| intervals.get(at)).map_or(Peers::None, |(_, peers)| *peers);
        let others = intervals.iter().filter(|(_, peers)| *peers != rest).copied();
        let (wide, narrow): (Vec<_>, Vec<_>) =
            others.partition(|(range, _)| width(*range) > WIDEST_LISTED);
        let mut plan = Self { ruled: Vec::new(), listed: Vec::new(), ranges: Vec::new(), rest };
        let count = narrow.iter().map(|(range, _)| width(*range) as usize).sum();
        if price::of_port_rules(narrow.len()).is_least(price::of_port_hash(count, size::of(count)))
        {
            plan.ruled.extend(narrow);
        } else {
            let ports = |(range, peers): (PortRange, Peers)| {
                (range.first()..=range.last()).map(move |port| (port, peers))
            };
            plan.listed.extend(narrow.into_iter().flat_map(ports));
        }
        let by_rules = price::of_port_rules(wide.len());
        if by_rules.is_least(price::of_port_intervals(wide.len())) {
            plan.ruled.extend(wide);
        } else {
            plan.ranges = wide;
        }
        plan
    }

    /// Whether it says the same of all ports.
    fn is_just(&self, peers: Peers) -> bool {
        let maps = self.listed.is_empty() && self.ranges.is_empty();
        maps && self.ruled.is_empty() && self.rest == peers
    }
}

fn width(range: PortRange) -> u32 {
    u32::from(range.last()) - u32::from(range.first()) + 1
}
