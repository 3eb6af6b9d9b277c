//! What endpoints may do: port chains, port maps, peer chains and peer sets, each made once however
//! many profiles share it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write};
use std::net::IpAddr;

use netpol_core::model::{Direction, Family, Flow, PortRange, Protocol, Traffic};
use netpol_core::program::{
    ClassId, EndpointEntry, Members, Profile, ProfileId, Program, Verdict as Decision,
};
use sha2::{Digest, Sha256};

use super::{denied_chain, size};
use crate::name::{Comment, Name};
use crate::ruleset::{Chain, Elements, Rule, Set, Side, Statement, Table, Verdict};

/// Ranges of more ports than this go to the interval map, which costs 70 to 170 ns a look-up where
/// the hash map costs 25; smaller ones are listed port by port.
const WIDEST_LISTED: u32 = 16;

/// Stands for all protocols without ports; this number is kept free for experiments (RFC 3692).
const EXPERIMENTAL: Traffic = Traffic::Other(253);

/// Collects the chains and sets that profiles need, for one family.
pub(super) struct Profiles<'p> {
    program: &'p Program,
    family: Family,
    table: Table,
    /// Which other ends a class allows.
    peers: HashMap<ClassId, Peers>,
    /// Where an endpoint's packets are sent to, by profile and direction.
    entries: HashMap<(ProfileId, Direction), Option<Verdict>>,
}

/// The part of a class that is about one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Peers {
    /// Everyone is allowed.
    All,
    /// Nobody is.
    None,
    /// It depends on the address, as a class says that has this key.
    Some(ClassId, ContentKey),
}

impl<'p> Profiles<'p> {
    pub(super) fn new(program: &'p Program, family: Family) -> Self {
        Self {
            program,
            family,
            table: Table::default(),
            peers: HashMap::new(),
            entries: HashMap::new(),
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
        let profile = self.program.profile(id);
        let entry = self.judge(profile, direction, |this, class, _| this.peers(class));
        self.entries.insert((id, direction), entry.clone());
        entry
    }

    /// What to do with packets from one address to another of the same endpoint, which its profile
    /// for such traffic judges. They concern these two addresses alone, so the peers are decided
    /// here; and the exemption of the own node is not for the node itself (NP-NODE-1).
    pub(super) fn own(&mut self, [sender, receiver]: [(IpAddr, &EndpointEntry); 2]) -> Verdict {
        let program = self.program;
        let decide = |traffic| program.decide(&Flow::new(sender.0, receiver.0, traffic));
        let [sends, receives] = [(sender.1, Direction::Egress), (receiver.1, Direction::Ingress)]
            .map(|(entry, direction)| {
                let profile = program.profile(entry.own_profile()?);
                self.judge(profile, direction, |_, _, traffic| {
                    let decision = decide(traffic);
                    let decision = match direction {
                        Direction::Egress => decision.egress,
                        Direction::Ingress => decision.ingress,
                    };
                    if decision == Some(Decision::Deny) { Peers::None } else { Peers::All }
                })
            });
        let verdicts = [sends, Some(receives.unwrap_or(Verdict::Accept))];
        let verdicts: Vec<Verdict> = verdicts.into_iter().flatten().collect();
        if let [only] = verdicts.as_slice() {
            return only.clone();
        }
        let text: Vec<String> = verdicts.iter().map(ToString::to_string).collect();
        let name = name("own", ContentKey::of(&text.join(", ")));
        let rules = verdicts.into_iter().map(|it| [Statement::Verdict(it)].into()).collect();
        self.table.chains.insert(name.clone(), Chain { base: None, comment: None, rules });
        Verdict::Goto(name)
    }

    /// Judges by port, unless the port does not matter; `None` if all is allowed.
    fn judge(
        &mut self,
        profile: &Profile,
        direction: Direction,
        peers: impl Fn(&mut Self, ClassId, Traffic) -> Peers,
    ) -> Option<Verdict> {
        let side = profile.side(direction)?;
        let rest = peers(self, side.other(), EXPERIMENTAL);
        let protocols = Protocol::ALL.map(|protocol| {
            let mut merged: Vec<(PortRange, Peers)> = Vec::new();
            for (range, class) in side.intervals(protocol) {
                let peers = peers(self, *class, Traffic::Port(protocol, range.first()));
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
        let verdict = if protocols.iter().all(|(_, plan)| plan.is_just(rest)) {
            self.verdict(rest, direction)
        } else {
            let comment = policies(profile);
            let key = Self::side_key(rest, &protocols, &comment);
            let name = directed_name("ports", direction, key);
            if !self.table.chains.contains_key(&name) {
                let chain = self.port_chain(rest, &protocols, comment, direction, key);
                self.table.chains.insert(name.clone(), chain);
            }
            Verdict::Goto(name)
        };
        match (verdict, direction) {
            (Verdict::Accept | Verdict::Return, _) => None,
            // The base chain has still to ask the destination.
            (Verdict::Goto(chain), Direction::Egress) => Some(Verdict::Jump(chain)),
            (verdict, _) => Some(verdict),
        }
    }

    fn port_chain(
        &mut self,
        rest: Peers,
        protocols: &[(Protocol, Plan)],
        comment: Comment,
        direction: Direction,
        key: ContentKey,
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
                let map = directed_name(&word, direction, key);
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
                let map = directed_name(&format!("{word}-ranges"), direction, key);
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
        Chain { base: None, comment: Some(comment), rules }
    }

    /// What to do with packets of certain peers.
    fn verdict(&mut self, peers: Peers, direction: Direction) -> Verdict {
        match peers {
            Peers::All => allowed(direction),
            Peers::None => Verdict::Goto(denied_chain(direction)),
            Peers::Some(class, key) => {
                let name = directed_name("peers", direction, key);
                if !self.table.chains.contains_key(&name) {
                    let chain = self.peer_chain(class, direction, key);
                    self.table.chains.insert(name.clone(), chain);
                }
                Verdict::Goto(name)
            }
        }
    }

    fn peer_chain(&mut self, class: ClassId, direction: Direction, key: ContentKey) -> Chain {
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
            let set = name(prefix, key);
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
            (false, _) => Peers::Some(class, ContentKey::of(&self.program.class_text(class))),
        };
        self.peers.insert(class, peers);
        peers
    }

    /// A key of all that a port chain says, but for its direction: equal keys, equal content.
    fn side_key(rest: Peers, protocols: &[(Protocol, Plan)], comment: &Comment) -> ContentKey {
        let mut text = String::new();
        let mut push = |what: &dyn fmt::Display, peers: Peers| {
            let peers = match peers {
                Peers::All => "all".to_owned(),
                Peers::None => "none".to_owned(),
                Peers::Some(_, key) => key.to_string(),
            };
            _ = write!(text, "{what} {peers};");
        };
        push(&"other", rest);
        for (protocol, plan) in protocols {
            push(protocol, plan.rest);
            plan.listed.iter().for_each(|(port, peers)| push(port, *peers));
            plan.ranges.iter().for_each(|(range, peers)| push(range, *peers));
        }
        text.push_str(comment.as_str());
        ContentKey::of(&text)
    }
}

fn directed_name(prefix: &str, direction: Direction, key: ContentKey) -> Name {
    let suffix = match direction {
        Direction::Egress => "out",
        Direction::Ingress => "in",
    };
    name(&format!("{prefix}-{suffix}"), key)
}

fn name(prefix: &str, key: ContentKey) -> Name {
    Name::known(&format!("{prefix}-{key}"))
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

/// Names content: 80 bits of SHA-256 of an unambiguous text about it, so that nobody finds two
/// contents of one name, not even on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ContentKey([u8; 10]);

impl ContentKey {
    fn of(text: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(text).into();
        Self(digest.first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Display for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
