//! What endpoints may do: port chains, port maps, peer chains and peer sets, each made once however
//! many profiles share it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use netpol_core::model::{Direction, Family, PortRange, Protocol};
use netpol_core::program::{
    ClassId, Members, PortMap, Profile, ProfileId, Program, Verdict as Decision,
};

use super::{denied_chain, size};
use crate::name::{Comment, Name};
use crate::ruleset::{Chain, Elements, Rule, Set, Side, Statement, Table, Verdict};

/// Ranges of more ports than this go to the interval map, which costs 70 to 170 ns a look-up where
/// the hash map costs 25; smaller ones are listed port by port.
const WIDEST_LISTED: u32 = 16;

/// Collects the chains and sets that profiles need, for one family.
pub(super) struct Profiles<'p> {
    program: &'p Program,
    family: Family,
    table: Table,
    /// Which other ends a class allows.
    peers: HashMap<ClassId, Peers>,
    /// Where an endpoint's packets are sent to, by profile and direction.
    entries: HashMap<(ProfileId, Direction), Option<Verdict>>,
    names: HashMap<String, u128>,
}

/// The part of a class that is about one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Peers {
    /// Everyone is allowed.
    All,
    /// Nobody is.
    None,
    /// It depends on the address.
    Some(ClassId),
}

impl<'p> Profiles<'p> {
    pub(super) fn new(program: &'p Program, family: Family) -> Self {
        Self {
            program,
            family,
            table: Table::default(),
            peers: HashMap::new(),
            entries: HashMap::new(),
            names: HashMap::new(),
        }
    }

    pub(super) fn finish(self) -> Table {
        self.table
    }

    /// What to do with the packets of endpoints of a profile; `None` if they are not judged.
    pub(super) fn entry(&mut self, id: ProfileId, direction: Direction) -> Option<Verdict> {
        if let Some(entry) = self.entries.get(&(id, direction)) {
            return entry.clone();
        }
        let program = self.program;
        let profile = program.profile(id);
        let entry = profile.side(direction).and_then(|side| {
            match (self.side(side, profile, direction), direction) {
                (Verdict::Accept | Verdict::Return, _) => None,
                // The base chain has still to ask the destination.
                (Verdict::Goto(chain), Direction::Egress) => Some(Verdict::Jump(chain)),
                (verdict, _) => Some(verdict),
            }
        });
        self.entries.insert((id, direction), entry.clone());
        entry
    }

    /// Judges by port, unless the port does not matter.
    fn side(&mut self, side: &PortMap, profile: &Profile, direction: Direction) -> Verdict {
        let rest = self.peers(side.other());
        let protocols =
            Protocol::ALL.map(|protocol| (protocol, self.plan(side.intervals(protocol))));
        if protocols.iter().all(|(_, plan)| plan.is_just(rest)) {
            return self.verdict(rest, direction);
        }
        let key = self.side_key(rest, &protocols);
        let name = self.name("ports", direction, key);
        if !self.table.chains.contains_key(&name) {
            let chain = self.port_chain(rest, &protocols, profile, direction, key);
            self.table.chains.insert(name.clone(), chain);
        }
        Verdict::Goto(name)
    }

    fn port_chain(
        &mut self,
        rest: Peers,
        protocols: &[(Protocol, Plan)],
        profile: &Profile,
        direction: Direction,
        key: u128,
    ) -> Chain {
        let mut rules: Vec<Rule> = Vec::new();
        for (protocol, plan) in protocols {
            let transport = Statement::Protocol(protocol.number());
            let word = protocol.as_str().to_ascii_lowercase();
            if !plan.listed.is_empty() {
                let elements: Vec<_> = plan
                    .listed
                    .iter()
                    .map(|(port, peers)| (*port, self.verdict(*peers, direction)))
                    .collect();
                let size = Some(size::of(elements.len()));
                let map = self.name(&word, direction, key);
                let elements = Elements::PortVerdicts(elements);
                self.table.sets.insert(map.clone(), Set { comment: None, size, elements });
                rules.push([transport.clone(), Statement::PortMap(map)].into());
            }
            if !plan.ranges.is_empty() {
                let elements: Vec<_> = plan
                    .ranges
                    .iter()
                    .map(|(range, peers)| {
                        ((range.first(), range.last()), self.verdict(*peers, direction))
                    })
                    .collect();
                let map = self.name(&format!("{word}-ranges"), direction, key);
                let elements = Elements::PortRangeVerdicts(elements);
                self.table.sets.insert(map.clone(), Set { comment: None, size: None, elements });
                rules.push([transport.clone(), Statement::PortMap(map)].into());
            }
            if plan.rest != rest {
                let verdict = self.verdict(plan.rest, direction);
                rules.push([transport, Statement::Verdict(verdict)].into());
            }
        }
        rules.push([Statement::Verdict(self.verdict(rest, direction))].into());
        Chain { base: None, comment: Some(policies(profile)), rules }
    }

    /// What to do with packets of certain peers.
    fn verdict(&mut self, peers: Peers, direction: Direction) -> Verdict {
        match peers {
            Peers::All => allowed(direction),
            Peers::None => Verdict::Goto(denied_chain(direction)),
            Peers::Some(class) => {
                let key = self.program.class(class).key();
                let name = self.name("peers", direction, key);
                if !self.table.chains.contains_key(&name) {
                    let chain = self.peer_chain(class, direction, key);
                    self.table.chains.insert(name.clone(), chain);
                }
                Verdict::Goto(name)
            }
        }
    }

    fn peer_chain(&mut self, class: ClassId, direction: Direction, key: u128) -> Chain {
        let Members { default, ranges, allow, deny } = self.program.members(class, self.family);
        let side = match direction {
            Direction::Egress => Side::Destination,
            Direction::Ingress => Side::Source,
        };
        let verdict = |decision| match decision {
            Decision::Allow => Statement::Verdict(allowed(direction)),
            Decision::Deny => Statement::Verdict(Verdict::Goto(denied_chain(direction))),
        };
        let ranges = ranges.iter().map(|range| (*range.start(), *range.end())).collect();
        // The two directions of a class share its sets.
        let parts = [
            ("allow", Elements::Addresses(allow), Decision::Allow),
            ("deny", Elements::Addresses(deny), Decision::Deny),
            ("blocks", Elements::AddressRanges(ranges), default.opposite()),
        ];
        let mut rules: Vec<Rule> = Vec::new();
        for (prefix, elements, decision) in parts {
            if elements.is_empty() {
                continue;
            }
            let size = (!elements.is_interval()).then(|| size::of(elements.len()));
            let set = self.undirected_name(prefix, key);
            self.table.sets.entry(set.clone()).or_insert_with(|| Set {
                comment: None,
                size,
                elements,
            });
            rules.push([Statement::AddressIn(side, set), verdict(decision)].into());
        }
        rules.push([verdict(default)].into());
        Chain { base: None, comment: None, rules }
    }

    fn peers(&mut self, class: ClassId) -> Peers {
        if let Some(peers) = self.peers.get(&class) {
            return *peers;
        }
        let members = self.program.members(class, self.family);
        let constant =
            members.ranges.is_empty() && members.allow.is_empty() && members.deny.is_empty();
        let peers = match (constant, members.default) {
            (true, Decision::Allow) => Peers::All,
            (true, Decision::Deny) => Peers::None,
            (false, _) => Peers::Some(class),
        };
        self.peers.insert(class, peers);
        peers
    }

    fn plan(&mut self, intervals: &[(PortRange, ClassId)]) -> Plan {
        let mut merged: Vec<(PortRange, Peers)> = Vec::with_capacity(intervals.len());
        for (range, class) in intervals {
            let peers = self.peers(*class);
            // Classes that differ may be the same in this family.
            match merged.last_mut() {
                Some((last, same)) if *same == peers => {
                    *last = PortRange::new(last.first(), range.last()).unwrap_or(*last);
                }
                _ => merged.push((*range, peers)),
            }
        }
        Plan::new(&merged)
    }

    /// A key of all that a port chain says, but for its direction: equal keys, equal content.
    fn side_key(&self, rest: Peers, protocols: &[(Protocol, Plan)]) -> u128 {
        let key = |peers: Peers| match peers {
            Peers::All => "all".to_owned(),
            Peers::None => "none".to_owned(),
            Peers::Some(class) => format!("{:032x}", self.program.class(class).key()),
        };
        let mut digest = Digest::new();
        digest.push(&key(rest));
        for (protocol, plan) in protocols {
            digest.push(&format!(";{protocol} {}", key(plan.rest)));
            for (port, peers) in &plan.listed {
                digest.push(&format!(",{port} {}", key(*peers)));
            }
            for (range, peers) in &plan.ranges {
                digest.push(&format!(",{}-{} {}", range.first(), range.last(), key(*peers)));
            }
        }
        digest.0
    }

    fn name(&mut self, prefix: &str, direction: Direction, key: u128) -> Name {
        let suffix = match direction {
            Direction::Egress => "out",
            Direction::Ingress => "in",
        };
        self.undirected_name(&format!("{prefix}-{suffix}"), key)
    }

    /// A name for something with this key: short, unless that is taken already.
    fn undirected_name(&mut self, prefix: &str, key: u128) -> Name {
        let short = format!("{prefix}-{:012x}", key >> 80);
        let owner = *self.names.entry(short.clone()).or_insert(key);
        if owner == key {
            Name::known(&short)
        } else {
            Name::known(&format!("{prefix}-{key:032x}"))
        }
    }
}

/// How the ports of one protocol are looked up.
#[derive(Debug)]
struct Plan {
    listed: Vec<(u16, Peers)>,
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
        let mut plan = Self { listed: Vec::new(), ranges: Vec::new(), rest };
        for (range, peers) in intervals.iter().filter(|(_, peers)| *peers != rest) {
            if width(*range) > WIDEST_LISTED {
                plan.ranges.push((*range, *peers));
            } else {
                plan.listed.extend((range.first()..=range.last()).map(|port| (port, *peers)));
            }
        }
        plan
    }

    /// Whether it says the same of all ports.
    fn is_just(&self, peers: Peers) -> bool {
        self.listed.is_empty() && self.ranges.is_empty() && self.rest == peers
    }
}

fn width(range: PortRange) -> u32 {
    u32::from(range.last()) - u32::from(range.first()) + 1
}

fn allowed(direction: Direction) -> Verdict {
    match direction {
        Direction::Egress => Verdict::Return,
        Direction::Ingress => Verdict::Accept,
    }
}

/// The policies behind a profile, for the operator.
fn policies(profile: &Profile) -> Comment {
    let mut text = String::new();
    for policy in profile.policies() {
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}{}", policy.key);
    }
    Comment::new(&text)
}

/// FNV-1a of 128 bits, the same everywhere and always.
struct Digest(u128);

impl Digest {
    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            self.0 =
                (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}
