//! Proof that a ruleset says what a program says: both are asked about one packet of every kind
//! that either of them can tell apart.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::IpAddr;

use netpol_core::backend::proof::{self, Boundaries, Difference, Path};
use netpol_core::model::{Direction, Family, Flow, Traffic};
use netpol_core::program::Program;

use crate::name::Name;
use crate::render::{entry_chain, stray_chain};
use crate::ruleset::{
    Block, Hook, Match, Packet, Ruleset, Set, Standing, Table, Target, Transport, Undecided,
};

/// A kind of packet that a ruleset does not treat as the program would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// It passes although it should not, or the other way round.
    Verdict {
        /// An example.
        flow: Flow,
        /// Where in the packet path.
        hook: Hook,
        /// What the program says.
        allowed: bool,
    },
    /// Packets of a known connection do not pass (NP-CONN-1).
    Established {
        /// An example.
        flow: Flow,
        /// Where in the packet path.
        hook: Hook,
    },
    /// Packets from the middle of a connection that nobody knows pass, although they may be those
    /// of a connection that is denied: this one, or one the other way round.
    Stray {
        /// An example.
        flow: Flow,
        /// Where in the packet path.
        hook: Hook,
    },
    /// There are no rules for the packets of a family.
    NoRules(Family),
    /// There is something that cannot be judged.
    Undecided(Undecided),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict { flow, hook, allowed: true } => {
                write!(f, "{flow} is allowed and does not pass the {hook} hook")
            }
            Self::Verdict { flow, hook, allowed: false } => {
                write!(f, "{flow} is denied and passes the {hook} hook")
            }
            Self::Established { flow, hook } => {
                write!(f, "{flow} does not pass the {hook} hook once it is established")
            }
            Self::Stray { flow, hook } => {
                write!(
                    f,
                    "packets from the middle of {flow} pass the {hook} hook, and may be answers of \
                     a denied connection"
                )
            }
            Self::NoRules(family) => write!(f, "there are no rules for {family:?}"),
            Self::Undecided(undecided) => undecided.fmt(f),
        }
    }
}

impl From<Difference> for Mismatch {
    fn from(difference: Difference) -> Self {
        match difference {
            Difference::Verdict { flow, path, allowed } => {
                Self::Verdict { flow, hook: hook(path), allowed }
            }
            Difference::Established { flow, path } => Self::Established { flow, hook: hook(path) },
            Difference::Stray { flow, path } => Self::Stray { flow, hook: hook(path) },
        }
    }
}

/// Compares a ruleset with the program that it should carry out, for what can be told apart by
/// either: addresses by the rules and sets that they are in and the classes that know them, ports by
/// both sides of every boundary. One example of every kind that differs is returned; nothing is, if
/// the ruleset is right.
///
/// The program must be of the node that the ruleset is for. Takes some microseconds per kind; there
/// are about (kinds of addresses)² × (ports that policies mention).
#[must_use]
pub fn verify(ruleset: &Ruleset, program: &Program) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    for family in Family::ALL {
        let is_of = |address: &IpAddr| Family::of(*address) == family;
        let local = program.endpoints().any(|entry| entry.addresses().iter().any(is_of));
        let Some(table) = ruleset.tables.get(&family).filter(|table| !table.is_empty()) else {
            mismatches.extend(local.then_some(Mismatch::NoRules(family)));
            continue;
        };
        let compared = proof::compare(
            program,
            boundaries(ruleset, table, family),
            |it| ruleset.passes(hook(it.path), &packet(it)),
            |difference| mismatches.push(difference.into()),
        );
        mismatches.extend(compared.err().map(Mismatch::Undecided));
    }
    mismatches
}

/// By what a table tells packets apart.
fn boundaries(ruleset: &Ruleset, table: &Table, family: Family) -> Boundaries {
    let mut boundaries = Boundaries::new(family);
    for set in table.sets.values() {
        match &**set {
            Set::Addresses(list) => boundaries.addresses(list.iter().copied()),
            Set::Blocks(list) => {
                let mut by_length: BTreeMap<(u8, bool), Vec<Block>> = BTreeMap::new();
                for (block, inside) in list {
                    by_length.entry((block.prefix(), *inside)).or_default().push(*block);
                }
                for blocks in by_length.into_values() {
                    boundaries.ranges(blocks.iter().map(|it| (it.first(), it.last())));
                }
            }
            Set::Foreign(_) => {}
        }
    }
    let trees = Trees { table, proper: proper(table) };
    let mut singles: HashSet<IpAddr> = HashSet::new();
    for rule in table.chains.values().flatten() {
        // Within a tree blocks only lead to addresses.
        let in_tree = rule.target.chain().is_some_and(|chain| trees.proper.contains(chain));
        for each in &rule.matches {
            match each {
                Match::Source(block) | Match::Destination(block) if block.is_single() => {
                    singles.insert(block.first());
                }
                Match::Source(block) | Match::Destination(block) if !in_tree => {
                    boundaries.ranges([(block.first(), block.last())]);
                }
                Match::Ports(slots) => {
                    slots.iter().for_each(|range| boundaries.ports(range.first(), range.last()));
                }
                _ => {}
            }
        }
        if let [Match::Source(a), Match::Destination(b)] = rule.matches.as_slice() {
            boundaries.pair(a.first(), b.first());
        }
    }
    let name = &ruleset.name;
    let roots = Direction::ALL.into_iter().flat_map(|direction| {
        let opposite = match direction {
            Direction::Egress => Direction::Ingress,
            Direction::Ingress => Direction::Egress,
        };
        [(entry_chain(name, direction), direction), (stray_chain(name, direction), opposite)]
    });
    for (root, direction) in roots {
        let mut by_target: BTreeMap<Option<&Target>, Vec<IpAddr>> = BTreeMap::new();
        for address in &singles {
            let target = trees.find(&root, direction, *address);
            by_target.entry(target).or_default().push(*address);
        }
        by_target.into_values().for_each(|list| boundaries.addresses(list));
    }
    boundaries
}

/// The chains that look addresses up.
struct Trees<'t> {
    table: &'t Table,
    proper: HashSet<&'t Name>,
}

/// The chains in which every rule asks for an address, but perhaps the last one, which sends
/// everything else to one other chain.
fn proper(table: &Table) -> HashSet<&Name> {
    let by_address =
        |it: &Match| matches!(it, Match::Source(_) | Match::Destination(_) | Match::Comment(_));
    let chains = table.chains.iter().filter(|(_, rules)| {
        let (last, others) = match rules.split_last() {
            Some((last, others)) if last.matches.is_empty() => (Some(last), others),
            _ => (None, rules.as_slice()),
        };
        others.iter().all(|rule| !rule.matches.is_empty() && rule.matches.iter().all(by_address))
            && last.is_none_or(|last| matches!(last.target, Target::Goto(_)))
    });
    chains.map(|(name, _)| name).collect()
}

impl<'t> Trees<'t> {
    /// What becomes of packets from or to an address.
    fn find(&self, chain: &Name, direction: Direction, address: IpAddr) -> Option<&'t Target> {
        let mut chain = chain;
        // No deeper than the kernel goes.
        for _ in 0..16 {
            let rules = self.table.chains.get(chain)?;
            let rule = rules.iter().find(|rule| match (rule.matches.as_slice(), direction) {
                (
                    [Match::Source(block), Match::Comment(_)] | [Match::Source(block)],
                    Direction::Egress,
                ) => block.contains(address),
                (
                    [Match::Destination(block), Match::Comment(_)] | [Match::Destination(block)],
                    Direction::Ingress,
                ) => block.contains(address),
                _ => false,
            })?;
            match &rule.target {
                Target::Goto(next) if self.proper.contains(next) => chain = next,
                target => return Some(target),
            }
        }
        None
    }
}

fn hook(path: Path) -> Hook {
    match path {
        Path::ToHost => Hook::Input,
        Path::Forwarded => Hook::Forward,
        Path::FromHost => Hook::Output,
    }
}

fn packet(asked: &proof::Packet) -> Packet {
    let proof::Packet { source, destination, traffic, standing, .. } = *asked;
    let transport = match traffic {
        Traffic::Port(protocol, port) => Transport::Port(protocol.number(), port),
        Traffic::ICMP => Transport::Icmp(1, 8),
        Traffic::ICMPV6 => Transport::Icmp(58, 128),
        Traffic::Other(number) => Transport::Other(number),
    };
    let standing = match standing {
        proof::Standing::New => Standing::New,
        proof::Standing::Established => Standing::Established,
        proof::Standing::Stray => Standing::Stray,
    };
    Packet { source, destination, transport, standing }
}
