//! Proof that a ruleset says what a program says: both are asked about one packet of every kind
//! that either of them can tell apart.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use netpol_core::backend::proof::{self, Boundaries};
use netpol_core::model::{Direction, Family};
use netpol_core::program::Program;

use crate::name::Name;
use crate::render::{entry_chain, stray_chain};
use crate::ruleset::{Block, Match, Ruleset, Set, Table, Target, Undecided};

/// A kind of packet that a ruleset does not treat as the program would.
pub type Mismatch = proof::Mismatch<Undecided>;

/// Compares a ruleset with the program that it should carry out, for what can be told apart by
/// either: addresses by the rules and sets that they are in and the classes that know them, ports by
/// both sides of every boundary. One example of every kind that differs is returned; nothing is, if
/// the ruleset is right.
///
/// The program must be of the node that the ruleset is for. Takes some microseconds per kind; there
/// are about (kinds of addresses)² × (ports that policies mention).
#[must_use]
pub fn verify(ruleset: &Ruleset, program: &Program) -> Vec<Mismatch> {
    let table = |family| ruleset.tables.get(&family).filter(|table| !table.is_empty());
    proof::verify(
        program,
        |family| Some(boundaries(ruleset, table(family)?, family)),
        |asked| ruleset.passes(asked.path.into(), &asked.into()),
    )
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
