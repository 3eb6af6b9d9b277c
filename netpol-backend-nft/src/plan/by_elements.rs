//! Changes of elements alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::change::{Change, Purpose};
use crate::name::Name;
use crate::ruleset::{AddressVerdict, Elements, Set, Side, Statement, Table, Verdict};

/// What it means to packets that an element is in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It is allowed.
    Allows,
    /// It is denied.
    Denies,
    /// It becomes judged.
    Judges(Side),
    /// A pair that is allowed whatever else is said, now or before.
    Exempts,
}

/// How one set differs.
#[derive(Debug)]
struct Difference {
    role: Role,
    removed: Elements,
    added: Elements,
}

/// The changes that make `new` of `old`, if elements of hash sets are all that differs in what
/// packets can meet, and no packet can tell the steps apart from the two. Objects that are only in
/// one of the two are not looked at.
pub(super) fn changes(old: &Table, new: &Table) -> Option<Vec<(Purpose, Change)>> {
    let differs = new.chains.iter().any(|(name, chain)| match old.chains.get(name) {
        Some(found) => found.rules != chain.rules,
        None => chain.base.is_some(),
    });
    let loses_base = old
        .chains
        .iter()
        .any(|(name, chain)| chain.base.is_some() && !new.chains.contains_key(name));
    if differs || loses_base {
        return None;
    }
    let roles = roles([old, new]);
    let mut differences: BTreeMap<&Name, Difference> = BTreeMap::new();
    for (name, set) in &new.sets {
        let Some(found) = old.sets.get(name) else { continue };
        if !has_room(found, set) {
            return None;
        }
        let (removed, added) = found.elements.difference(&set.elements)?;
        if removed.is_empty() && added.is_empty() {
            continue;
        }
        let role = (*roles.get(name)?)?;
        if role != Role::Allows && !holds(found, found.elements.len() + added.len()) {
            // What comes is there before what goes is gone.
            return None;
        }
        differences.insert(name, Difference { role, removed, added });
    }
    if loses_a_peer(old, new, &differences)? {
        return None;
    }
    let mut changes = Vec::new();
    for (name, Difference { role, removed, added }) in differences {
        let mut put = |purpose, change: fn(Name, Elements) -> Change, elements: Elements| {
            if !elements.is_empty() {
                changes.push((purpose, change(name.clone(), elements)));
            }
        };
        let (remove, add) = match role {
            Role::Allows => (Purpose::Close, Purpose::Open),
            Role::Denies => (Purpose::Open, Purpose::Close),
            Role::Exempts => (Purpose::Clean, Purpose::Prepare),
            Role::Judges(_) => {
                // The same verdict under another comment: replaced within one transaction.
                let (kept, removed) = split(removed, &added);
                put(Purpose::Close, Change::DeleteElements, kept);
                put(Purpose::Close, Change::AddElements, added);
                put(Purpose::Open, Change::DeleteElements, removed);
                continue;
            }
        };
        put(remove, Change::DeleteElements, removed);
        put(add, Change::AddElements, added);
    }
    Some(changes)
}

/// The sets of `new` that `old` has under the same name and that cannot be left as they are there.
/// With `exempting` changes, which are never in a packet's way, left out.
pub(super) fn differing(old: &Table, new: &Table) -> Vec<Name> {
    let roles = roles([old, new]);
    let differs = |(name, set): &(&Name, &Set)| {
        old.sets.get(*name).is_some_and(|found| {
            let exempts = roles.get(name).is_some_and(|role| *role == Some(Role::Exempts));
            let stays = exempts && holds(found, found.elements.len() + set.elements.len());
            !has_room(found, set) || (!stays && found.elements != set.elements)
        })
    };
    new.sets.iter().filter(differs).map(|(name, _)| name.clone()).collect()
}

/// What changes in the sets that are [left out](differing).
pub(super) fn exemptions(old: &Table, new: &Table) -> Vec<(Purpose, Change)> {
    let mut changes = Vec::new();
    for (name, set) in &new.sets {
        let Some((removed, added)) =
            old.sets.get(name).and_then(|found| found.elements.difference(&set.elements))
        else {
            continue;
        };
        if !added.is_empty() {
            changes.push((Purpose::Prepare, Change::AddElements(name.clone(), added)));
        }
        if !removed.is_empty() {
            changes.push((Purpose::Clean, Change::DeleteElements(name.clone(), removed)));
        }
    }
    changes
}

/// Whether the elements of `new` could be those of `found`.
fn has_room(found: &Set, new: &Set) -> bool {
    found.comment == new.comment
        && found.size.is_some() == new.size.is_some()
        && found.elements.is_interval() == new.elements.is_interval()
        && found.elements.is_map() == new.elements.is_map()
        && holds(found, new.elements.len())
}

/// Whether a set takes so many elements.
fn holds(set: &Set, count: usize) -> bool {
    set.size.is_none_or(|size| u32::try_from(count).is_ok_and(|count| count <= size))
}

/// What the sets are for; `None` for those that cannot be changed while they are used.
fn roles<'t>(tables: [&'t Table; 2]) -> HashMap<&'t Name, Option<Role>> {
    let mut roles: HashMap<&Name, Option<Role>> = HashMap::new();
    let rules = |table: &'t Table| {
        let rules = table.chains.values().flat_map(|chain| &chain.rules);
        rules.map(move |rule| (table, rule))
    };
    for (table, rule) in tables.into_iter().flat_map(rules) {
        let role = match rule.statements.as_slice() {
            [Statement::AddressIn(_, _), Statement::Verdict(Verdict::Accept | Verdict::Return)] => {
                Some(Role::Allows)
            }
            [Statement::AddressIn(_, _), Statement::Verdict(Verdict::Goto(chain))]
                if denies(table, chain) =>
            {
                Some(Role::Denies)
            }
            [Statement::PairIn(_), Statement::Verdict(Verdict::Accept)] => Some(Role::Exempts),
            [Statement::AddressMap(side, _)] => Some(Role::Judges(*side)),
            _ => None,
        };
        for set in rule.statements.iter().filter_map(Statement::set) {
            let interval = table.sets.get(set).is_some_and(|set| set.elements.is_interval());
            let role = role.filter(|_| !interval);
            let known = roles.entry(set).or_insert(role);
            if *known != role {
                *known = None;
            }
        }
    }
    roles
}

/// Whether a chain drops whatever is not exempt.
fn denies(table: &Table, chain: &Name) -> bool {
    table.chains.get(chain).is_some_and(|chain| {
        let (last, others) = match chain.rules.split_last() {
            Some((last, others)) => (last, others),
            None => return false,
        };
        let exempt = |statements: &[Statement]| {
            matches!(
                statements,
                [Statement::PairIn(_), Statement::Verdict(Verdict::Accept)]
                    | [Statement::Limit(_), Statement::Log { .. }]
            )
        };
        last.statements.last() == Some(&Statement::Verdict(Verdict::Drop))
            && last.statements.iter().all(|it| {
                matches!(it, Statement::Counter | Statement::Log { .. } | Statement::Verdict(_))
            })
            && others.iter().all(|rule| exempt(&rule.statements))
    })
}

/// Splits removed elements into those that come back with the same verdict, and the others.
fn split(removed: Elements, added: &Elements) -> (Elements, Elements) {
    match (removed, added) {
        (Elements::AddressVerdicts(removed), Elements::AddressVerdicts(added)) => {
            let (kept, gone) =
                removed.into_iter().partition(|it| find(added, it.address).is_some());
            (Elements::AddressVerdicts(kept), Elements::AddressVerdicts(gone))
        }
        (removed, _) => (Elements::AddressVerdicts(Vec::new()), removed),
    }
}

fn find(list: &[AddressVerdict], address: IpAddr) -> Option<&AddressVerdict> {
    let at = list.binary_search_by_key(&address, |element| element.address).ok()?;
    list.get(at)
}

/// Whether a packet could be denied between the steps although both rulesets let it pass: an
/// endpoint starts or ceases to be judged, by sets that at the same time gain or lose others than
/// the endpoint itself. `None` if a verdict changes, which the steps cannot do at all.
fn loses_a_peer(
    old: &Table,
    new: &Table,
    differences: &BTreeMap<&Name, Difference>,
) -> Option<bool> {
    let mut reached: HashMap<(&Name, bool), Vec<&Name>> = HashMap::new();
    let exempt: HashSet<(IpAddr, IpAddr)> = new
        .sets
        .values()
        .filter_map(|set| match &set.elements {
            Elements::AddressPairs(pairs) => Some(pairs),
            _ => None,
        })
        .flatten()
        .copied()
        .chain(differences.values().flat_map(|difference| match &difference.removed {
            Elements::AddressPairs(pairs) => pairs.clone(),
            _ => Vec::new(),
        }))
        .collect();
    for difference in differences.values() {
        let Role::Judges(side) = difference.role else { continue };
        let (Elements::AddressVerdicts(removed), Elements::AddressVerdicts(added)) =
            (&difference.removed, &difference.added)
        else {
            return None;
        };
        let replaced = |it: &AddressVerdict| {
            find(added, it.address).is_some_and(|other| other.verdict != it.verdict)
        };
        if removed.iter().any(replaced) {
            return None;
        }
        let starts = added.iter().map(|it| (it, true));
        let ceases = removed.iter().map(|it| (it, false));
        for (element, starts) in starts.chain(ceases) {
            let Some(chain) = element.verdict.chain() else { continue };
            let table = if starts { new } else { old };
            let sets = reached.entry((chain, starts)).or_insert_with(|| sets_behind(table, chain));
            let behind = sets.iter().filter_map(|set| differences.get(set));
            for difference in behind.filter(|it| it.role != Role::Exempts) {
                let opens = (difference.role == Role::Allows) == starts;
                let moved = if opens { &difference.added } else { &difference.removed };
                let Elements::Addresses(moved) = moved else { return None };
                let pair = |other: &IpAddr| match side {
                    Side::Source => (element.address, *other),
                    Side::Destination => (*other, element.address),
                };
                if moved.iter().any(|other| !exempt.contains(&pair(other))) {
                    return Some(true);
                }
            }
        }
    }
    Some(false)
}

/// The sets that packets may be looked up in from a chain on.
fn sets_behind<'t>(table: &'t Table, chain: &'t Name) -> Vec<&'t Name> {
    let mut sets = BTreeSet::new();
    let mut seen = HashSet::new();
    let mut rest = vec![chain];
    while let Some(name) = rest.pop() {
        if !seen.insert(name) {
            continue;
        }
        let rules = table.chains.get(name).into_iter().flat_map(|chain| &chain.rules);
        for statement in rules.flat_map(|rule| &rule.statements) {
            if let Statement::Verdict(verdict) = statement {
                rest.extend(verdict.chain());
            }
            let Some(set) = statement.set() else { continue };
            sets.insert(set);
            match table.sets.get(set).map(|set| &set.elements) {
                Some(Elements::PortVerdicts(list)) => {
                    rest.extend(list.iter().filter_map(|(_, verdict)| verdict.chain()));
                }
                Some(Elements::PortRangeVerdicts(list)) => {
                    rest.extend(list.iter().filter_map(|(_, verdict)| verdict.chain()));
                }
                _ => {}
            }
        }
    }
    sets.into_iter().collect()
}
