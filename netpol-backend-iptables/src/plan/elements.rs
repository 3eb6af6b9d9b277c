//! Changes of sets in place.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use netpol_core::model::Direction;

use super::step::{Purpose, SetChange};
use crate::name::{Instance, Name};
use crate::render::entry_chain;
use crate::ruleset::{Block, Match, Rule, Set, Table, Target};

/// The sets that both have under one name, and that have to be made anew beside what is there.
pub(super) fn not_in_place(name: &Instance, old: &Table, new: &Table) -> Vec<Name> {
    let mut moved: BTreeMap<&Name, Option<Vec<IpAddr>>> = BTreeMap::new();
    for (set, wanted) in &new.sets {
        if let Some(found) = old.sets.get(set).filter(|found| *found != wanted) {
            let uses = [old, new].into_iter().flat_map(|table| uses(table, set));
            let one_meaning = uses.collect::<BTreeSet<bool>>().len() == 1;
            moved.insert(set, moved_addresses(found, wanted).filter(|_| one_meaning));
        }
    }
    if moved.is_empty() {
        return Vec::new();
    }
    let exempt: HashSet<(IpAddr, IpAddr)> = [old, new].into_iter().flat_map(exempt).collect();
    let mut anew = BTreeSet::new();
    for direction in Direction::ALL {
        let [before, after] = [old, new].map(|table| judged(name, table, direction));
        let all: BTreeSet<IpAddr> = before.keys().chain(after.keys()).copied().collect();
        let mut behind: HashMap<(&Name, bool), BTreeSet<&Name>> = HashMap::new();
        for address in all {
            let targets = [before.get(&address), after.get(&address)];
            if targets[0] == targets[1] {
                continue;
            }
            for (is_new, target) in [false, true].into_iter().zip(targets) {
                let Some(target) = target.copied() else { continue };
                let table = if is_new { new } else { old };
                let sets =
                    behind.entry((target, is_new)).or_insert_with(|| sets_behind(table, target));
                let changed = sets.iter().filter_map(|set| Some((*set, moved.get(set)?.as_ref()?)));
                for (set, moved) in changed {
                    let is_own = |other: &IpAddr| exempt.contains(&(address, *other));
                    if !moved.iter().all(is_own) {
                        anew.insert(set.clone());
                    }
                }
            }
        }
    }
    let impossible = moved.iter().filter(|(_, moved)| moved.is_none()).map(|(set, _)| *set);
    anew.extend(impossible.cloned());
    anew.into_iter().collect()
}

/// The changes that make `new` of `old`, a set that rules of `table` use.
pub(super) fn changes(
    name: &Name,
    old: &Arc<Set>,
    new: &Arc<Set>,
    table: &Table,
) -> Vec<(Purpose, SetChange)> {
    let mut changes = Vec::new();
    if old == new {
        return changes;
    }
    let denies = uses(table, name).next().unwrap_or_default();
    let mut put = |opens: bool, change: fn(Name, Set) -> SetChange, set: Set| {
        if !set.is_empty() {
            // Whether it opens is told for sets whose members are allowed.
            let purpose = if opens != denies { Purpose::Open } else { Purpose::Close };
            changes.push((purpose, change(name.clone(), set)));
        }
    };
    match (&**old, &**new) {
        (Set::Addresses(old), Set::Addresses(new)) => {
            let (removed, added) = difference(old, new);
            put(false, SetChange::Delete, Set::Addresses(removed));
            put(true, SetChange::Add, Set::Addresses(added));
        }
        (Set::Blocks(old), Set::Blocks(new)) => {
            let (removed, added) = difference(old, new);
            let split = |list: Vec<(Block, bool)>| {
                let (inside, exceptions): (Vec<_>, _) = list.into_iter().partition(|it| it.1);
                (Set::Blocks(inside), Set::Blocks(exceptions))
            };
            let (members, exceptions) = split(removed);
            put(false, SetChange::Delete, members);
            put(true, SetChange::Delete, exceptions);
            let (members, exceptions) = split(added);
            put(true, SetChange::Add, members);
            put(false, SetChange::Add, exceptions);
        }
        _ => {}
    }
    changes
}

/// The addresses that come or go; `None` if the one cannot be made of the other in place.
fn moved_addresses(old: &Set, new: &Set) -> Option<Vec<IpAddr>> {
    match (old, new) {
        (Set::Addresses(old), Set::Addresses(new)) => {
            let (removed, added) = difference(old, new);
            Some([removed, added].concat())
        }
        (Set::Blocks(old), Set::Blocks(new)) => {
            let (removed, added) = difference(old, new);
            let blocks = || removed.iter().chain(&added).map(|(block, _)| block);
            let lengths = |list: &[(Block, bool)]| -> BTreeSet<u8> {
                list.iter().map(|(block, _)| block.prefix()).collect()
            };
            let (lost, _) = difference(old, &removed);
            let fits = blocks().all(Block::is_single)
                && blocks().collect::<BTreeSet<_>>().len() == removed.len() + added.len()
                && lengths(old) == lengths(&lost);
            fits.then(|| blocks().map(Block::first).collect())
        }
        _ => None,
    }
}

/// How rules use a set: whether who is in it is denied.
fn uses<'t>(table: &'t Table, set: &'t Name) -> impl Iterator<Item = bool> + 't {
    let rules = table.chains.values().flatten().filter_map(Rule::set);
    rules.filter(move |(used, ..)| *used == set).map(|(_, _, inverted)| inverted)
}

/// Pairs of one endpoint's addresses, about which no set is asked.
fn exempt(table: &Table) -> impl Iterator<Item = (IpAddr, IpAddr)> {
    table.chains.values().flatten().filter_map(|rule| match rule.matches.as_slice() {
        [Match::Source(a), Match::Destination(b)] if a.is_single() && b.is_single() => {
            Some((a.first(), b.first()))
        }
        _ => None,
    })
}

/// Where packets from or to judged addresses are sent to.
fn judged<'t>(
    name: &Instance,
    table: &'t Table,
    direction: Direction,
) -> HashMap<IpAddr, &'t Name> {
    let mut found = HashMap::new();
    let mut seen = HashSet::new();
    let mut rest = vec![entry_chain(name, direction)];
    while let Some(chain) = rest.pop() {
        for rule in table.chains.get(&chain).into_iter().flatten() {
            let Target::Goto(target) = &rule.target else { continue };
            match rule.matches.as_slice() {
                [Match::Source(block) | Match::Destination(block), Match::Comment(_)] => {
                    found.insert(block.first(), target);
                }
                [Match::Source(_) | Match::Destination(_)] if seen.insert(target) => {
                    rest.push(target.clone());
                }
                _ => {}
            }
        }
    }
    found
}

/// The sets that packets may be looked up in from a chain on.
fn sets_behind<'t>(table: &'t Table, chain: &'t Name) -> BTreeSet<&'t Name> {
    let mut sets = BTreeSet::new();
    let mut seen = HashSet::new();
    let mut rest = vec![chain];
    while let Some(chain) = rest.pop() {
        if seen.insert(chain) {
            for rule in table.chains.get(chain).into_iter().flatten() {
                sets.extend(rule.set().map(|(set, ..)| set));
                rest.extend(rule.target.chain());
            }
        }
    }
    sets
}

/// What only the first, and what only the second of two ascending lists holds.
fn difference<T: Ord + Clone>(old: &[T], new: &[T]) -> (Vec<T>, Vec<T>) {
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (Some(a), Some(b)) if a == b => {
                old.next();
                new.next();
            }
            (Some(a), Some(b)) if a < b => removed.extend(old.next().cloned()),
            (Some(_), None) => removed.extend(old.next().cloned()),
            (_, Some(_)) => added.extend(new.next().cloned()),
            (None, None) => return (removed, added),
        }
    }
}
