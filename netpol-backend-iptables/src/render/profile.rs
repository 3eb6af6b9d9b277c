//! What endpoints may do: chains by port, and sets of peers, each made once however many profiles
//! share it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::net::IpAddr;

use netpol_core::model::{Direction, Family, Flow, PortRange, Protocol, Traffic};
use netpol_core::program::{
    ClassId, EndpointEntry, Profile, ProfileId, Program, Verdict as Decision,
};

use super::dispatch::WIDTH;
use super::members::{ClassSet, ClassSets};
use super::{Builder, allowed_chain, denied_chain};
use crate::name::{Comment, ContentKey, Name};
use crate::ruleset::{Match, Rule, Side, Target};

/// How many ports one rule can list; a range counts twice.
const SLOTS: usize = 15;
/// How many parts ports are cut into. To compare a port costs 23 ns or more, ten times as much as to compare an address
/// does, but to enter a chain costs no more: so they are fewer.
const PARTS: usize = 4;
/// The most chains below the first one of a profile, as for addresses.
const LEVELS: usize = 3;

/// Stands for all protocols without ports; this number is kept free for experiments (RFC 3692).
const EXPERIMENTAL: Traffic = Traffic::Other(253);

/// Collects the chains and sets that profiles need, for one family.
pub(super) struct Profiles<'p> {
    builder: Builder<'p>,
    sets: &'p mut ClassSets,
    /// Allowed connections are reported.
    reports_allowed: bool,
    /// Which other ends a class allows.
    peers: HashMap<ClassId, Peers>,
    /// Where an endpoint's packets are sent to, by profile and direction.
    entries: HashMap<(ProfileId, Direction), Option<Name>>,
}

/// The part of a class that is about one family.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Peers {
    /// Everyone is allowed.
    All,
    /// Nobody is.
    None,
    /// Those in the set are, or those that are not.
    Some {
        /// The set.
        set: Name,
        /// Who is in the set is denied.
        inverted: bool,
    },
}

/// How the ports of one protocol are told apart.
struct Ports {
    protocol: Protocol,
    /// Ascending.
    listed: Vec<(PortRange, Peers)>,
    /// For all other ports.
    rest: Peers,
}

impl<'p> Profiles<'p> {
    pub(super) fn new(
        builder: Builder<'p>,
        sets: &'p mut ClassSets,
        reports_allowed: bool,
    ) -> Self {
        Self { builder, sets, reports_allowed, peers: HashMap::new(), entries: HashMap::new() }
    }

    pub(super) fn finish(self) -> Builder<'p> {
        self.builder
    }

    /// The chain for the packets of endpoints of a profile; `None` if they are not judged.
    pub(super) fn entry(&mut self, id: ProfileId, direction: Direction) -> Option<Name> {
        if let Some(entry) = self.entries.get(&(id, direction)) {
            return entry.clone();
        }
        let profile = self.builder.program.profile(id);
        let entry = self.judge(profile, direction, |this, class, _| this.peers(class));
        self.entries.insert((id, direction), entry.clone());
        entry
    }

    /// What to do with packets from one address to another of the same endpoint, when it sends and
    /// when it receives them: its profile for such traffic judges. They concern these two addresses
    /// alone, so the peers are decided here; and the exemption of the own node is not for the node
    /// itself (NP-NODE-1).
    pub(super) fn own(&mut self, sender: IpAddr, receiver: IpAddr) -> [Target; 2] {
        let program: &Program = self.builder.program;
        let decide = |traffic| program.decide(&Flow::new(sender, receiver, traffic));
        [(sender, Direction::Egress), (receiver, Direction::Ingress)].map(|(address, direction)| {
            let own = program.endpoint_at(address).and_then(EndpointEntry::own_profile);
            let chain = own.and_then(|id| {
                self.judge(program.profile(id), direction, |_, _, traffic| {
                    let decision = decide(traffic);
                    let decision = match direction {
                        Direction::Egress => decision.egress,
                        Direction::Ingress => decision.ingress,
                    };
                    if decision == Some(Decision::Deny) { Peers::None } else { Peers::All }
                })
            });
            chain.map_or(Target::Return, Target::Goto)
        })
    }

    /// Judges by port, unless the port does not matter; `None` if all is allowed.
    fn judge(
        &mut self,
        profile: &Profile,
        direction: Direction,
        peers: impl Fn(&mut Self, ClassId, Traffic) -> Peers,
    ) -> Option<Name> {
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
            Ports::new(protocol, merged)
        });
        if rest == Peers::All && protocols.iter().all(|it| it.is_just(&rest)) {
            return None;
        }
        let mut rules = Vec::new();
        for ports in protocols {
            rules.extend(self.by_port(&ports, &ports.listed, direction, LEVELS));
            if ports.rest != rest {
                let protocol = Match::Protocol(ports.protocol.number());
                rules.extend(self.last(&[protocol], &ports.rest, direction));
            }
        }
        rules.extend(self.last(&[], &rest, direction));
        // Where it costs nothing, except to packets that are denied.
        if let Some(last) = rules.last_mut() {
            last.matches.push(Match::Comment(policies(profile)));
        }
        let kind = match direction {
            Direction::Egress => "out",
            Direction::Ingress => "in",
        };
        Some(self.builder.chain(kind, rules))
    }

    /// The rules for listed ports: few rules with many ports each, or a tree of ranges.
    fn by_port(
        &mut self,
        ports: &Ports,
        listed: &[(PortRange, Peers)],
        direction: Direction,
        levels: usize,
    ) -> Vec<Rule> {
        let rows = rows(listed);
        if rows.len() <= WIDTH || levels == 0 {
            return rows
                .into_iter()
                .map(|(slots, peers)| self.one_class(ports, slots, peers, direction))
                .collect();
        }
        let deep = u32::try_from(levels).map_or(usize::MAX, |it| PARTS.saturating_pow(it));
        let parts = if listed.len() <= WIDTH * deep { PARTS } else { WIDTH };
        let size = listed.len().div_ceil(parts);
        let mut rules = Vec::new();
        for (at, part) in listed.chunks(size).enumerate() {
            let mut inner = self.by_port(ports, part, direction, levels - 1);
            // What is in no other part goes through the last one.
            if (at + 1) * size >= listed.len() {
                rules.extend(inner);
                break;
            }
            inner.extend(self.last(&[], &ports.rest, direction));
            let kind = match direction {
                Direction::Egress => "po",
                Direction::Ingress => "pi",
            };
            let chain = self.builder.chain(kind, inner);
            let span = part.first().zip(part.last());
            let span = span.and_then(|((a, _), (b, _))| PortRange::new(a.first(), b.last()));
            rules
                .extend(span.map(|span| Rule::new(ports.matches(vec![span]), Target::Goto(chain))));
        }
        rules
    }

    /// The rule for ports of one class.
    fn one_class(
        &mut self,
        ports: &Ports,
        slots: Vec<PortRange>,
        peers: &Peers,
        direction: Direction,
    ) -> Rule {
        let mut matches = ports.matches(slots);
        let target = match peers {
            Peers::All => self.allowed(direction),
            Peers::None => self.denied(direction),
            // Whoever is not allowed here falls through to where all are denied.
            Peers::Some { set, inverted } if ports.rest == Peers::None => {
                matches.push(in_set(set, *inverted, direction));
                self.allowed(direction)
            }
            Peers::Some { .. } => {
                let rules = self.last(&[], peers, direction);
                let kind = match direction {
                    Direction::Egress => "co",
                    Direction::Ingress => "ci",
                };
                Target::Goto(self.builder.chain(kind, rules))
            }
        };
        Rule::new(matches, target)
    }

    /// Rules that decide about whatever the matches let through.
    fn last(&mut self, matches: &[Match], peers: &Peers, direction: Direction) -> Vec<Rule> {
        let denied = Rule::new(matches, self.denied(direction));
        match peers {
            Peers::All => vec![Rule::new(matches, self.allowed(direction))],
            Peers::None => vec![denied],
            Peers::Some { set, inverted } => {
                let allowed = [matches, &[in_set(set, *inverted, direction)]].concat();
                vec![Rule::new(allowed, self.allowed(direction)), denied]
            }
        }
    }

    fn allowed(&self, direction: Direction) -> Target {
        match self.reports_allowed {
            true => Target::Goto(allowed_chain(self.builder.name, direction)),
            false => Target::Return,
        }
    }

    fn denied(&self, direction: Direction) -> Target {
        Target::Goto(denied_chain(self.builder.name, direction))
    }

    fn peers(&mut self, class: ClassId) -> Peers {
        if let Some(peers) = self.peers.get(&class) {
            return peers.clone();
        }
        let Builder { program, family, name, .. } = self.builder;
        let peers = match self.sets.of(class, family) {
            Some(ClassSet { default, set: exceptions, .. }) if !exceptions.is_empty() => {
                let set = name.keyed(set_kind(family), ContentKey::of(&program.class_text(class)));
                self.builder.sets.insert(set.clone(), exceptions);
                Peers::Some { set, inverted: default == Decision::Allow }
            }
            Some(ClassSet { default: Decision::Allow, .. }) => Peers::All,
            _ => Peers::None,
        };
        self.peers.insert(class, peers.clone());
        peers
    }
}

impl Ports {
    /// The peers of most ports need no rule: usually those who are allowed on none in particular.
    fn new(protocol: Protocol, mut intervals: Vec<(PortRange, Peers)>) -> Self {
        let mut ports: BTreeMap<usize, u32> = BTreeMap::new();
        let first_of = |peers: &Peers| intervals.iter().position(|(_, other)| other == peers);
        for (range, peers) in &intervals {
            let width = u32::from(range.last()) - u32::from(range.first()) + 1;
            *ports.entry(first_of(peers).unwrap_or_default()).or_default() += width;
        }
        let most = ports.iter().max_by_key(|(_, ports)| **ports).map(|(at, _)| *at);
        let rest = most.and_then(|at| intervals.get(at)).map_or(Peers::None, |it| it.1.clone());
        intervals.retain(|(_, peers)| *peers != rest);
        Self { protocol, listed: intervals, rest }
    }

    /// Whether it says the same of all ports.
    fn is_just(&self, peers: &Peers) -> bool {
        self.listed.is_empty() && self.rest == *peers
    }

    fn matches(&self, slots: Vec<PortRange>) -> Vec<Match> {
        vec![Match::Protocol(self.protocol.number()), Match::Ports(slots)]
    }
}

/// As few rules as list all the ports: per class as many ports as fit into a rule.
fn rows(listed: &[(PortRange, Peers)]) -> Vec<(Vec<PortRange>, &Peers)> {
    let mut rows: Vec<(Vec<PortRange>, &Peers)> = Vec::new();
    let slots = |range: &PortRange| if range.first() == range.last() { 1 } else { 2 };
    for (range, peers) in listed {
        let row = rows.iter_mut().find(|(ranges, of)| {
            *of == peers && ranges.iter().map(slots).sum::<usize>() + slots(range) <= SLOTS
        });
        match row {
            Some((ranges, _)) => ranges.push(*range),
            None => rows.push((vec![*range], peers)),
        }
    }
    rows
}

/// Whether the other end is allowed.
fn in_set(set: &Name, inverted: bool, direction: Direction) -> Match {
    let side = match direction {
        Direction::Egress => Side::Destination,
        Direction::Ingress => Side::Source,
    };
    Match::InSet { set: set.clone(), side, inverted }
}

/// The names of sets are shared by both families.
fn set_kind(family: Family) -> &'static str {
    match family {
        Family::V4 => "4",
        Family::V6 => "6",
    }
}

/// The policies behind a profile, for the operator.
fn policies(profile: &Profile) -> Comment {
    let mut text = String::new();
    for policy in profile.policies() {
        let separator = if text.is_empty() { "" } else { ", " };
        _ = write!(text, "{separator}{}", policy.key);
    }
    Comment::new(&text)
}
