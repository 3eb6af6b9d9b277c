//! Changes of elements alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::change::{Change, Purpose};
use crate::name::Name;
use crate::ruleset::{
    AddressVerdict, Chain, Elements, Rule, Set, SetDifference, Side, Statement, Table,
    TableDifference, Verdict,
};

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

/// How a set that is there differs from what it has to be.
#[derive(Debug)]
pub(super) struct Differing<'t> {
    found: &'t Set,
    removed: Elements,
    added: Elements,
    role: Option<Role>,
    /// It could be what it has to be, if only the elements were others.
    fits: bool,
}

/// A table as it has to be.
#[derive(Clone, Copy)]
struct Wanted<'t> {
    old: &'t Table,
    difference: Option<&'t TableDifference>,
}

/// The sets that are there and differ. Empty differences are left out, unless the set itself does
/// not fit.
pub(super) fn differing<'t>(
    old: &'t Table,
    difference: &'t TableDifference,
) -> BTreeMap<&'t Name, Differing<'t>> {
    let mut all = BTreeMap::new();
    for (name, set) in &difference.sets {
        let Some(found) = old.sets.get(name) else { continue };
        let none = || (Elements::Addresses(Vec::new()), Elements::Addresses(Vec::new()));
        let (removed, added, fits) = match set {
            SetDifference::Gone => continue,
            SetDifference::Elements { removed, added, .. } => {
                let count = (found.elements.len() + added.len()).saturating_sub(removed.len());
                (removed.clone(), added.clone(), holds(found, count))
            }
            SetDifference::Whole(new) => match found.elements.difference(&new.elements) {
                Some((removed, added)) => (removed, added, has_room(found, new)),
                None => (none().0, none().1, false),
            },
        };
        if !fits || !removed.is_empty() || !added.is_empty() {
            all.insert(name, Differing { found, removed, added, role: None, fits });
        }
    }
    if !all.is_empty() {
        assign_roles(old, difference, &mut all);
    }
    all
}

/// The changes that make the new table of the old one, if elements of hash sets are all that differs
/// in what packets can meet, and no packet can tell the steps apart from the two. Objects that are
/// only in one of the two are not looked at.
pub(super) fn changes(
    old: &Table,
    difference: &TableDifference,
    differing: &BTreeMap<&Name, Differing<'_>>,
) -> Option<Vec<(Purpose, Change)>> {
    let by_rules = |(name, chain): (&Name, &Option<Chain>)| match (old.chains.get(name), chain) {
        (Some(found), Some(chain)) => found.rules != chain.rules,
        (Some(gone), None) => gone.base.is_some(),
        (None, Some(new)) => new.base.is_some(),
        (None, None) => false,
    };
    if difference.chains.iter().any(by_rules) {
        return None;
    }
    for Differing { found, added, role, fits, .. } in differing.values() {
        // What comes is there before what goes is gone, but where less is allowed first.
        let all = found.elements.len() + added.len();
        let fits = *fits && ((*role)? == Role::Allows || holds(found, all));
        fits.then_some(())?;
    }
    if loses_a_peer(old, difference, differing)? {
        return None;
    }
    let mut changes = Vec::new();
    for (name, Differing { removed, added, role, .. }) in differing {
        let mut put = |purpose, change: fn(Name, Elements) -> Change, elements: Elements| {
            if !elements.is_empty() {
                changes.push((purpose, change((*name).clone(), elements)));
            }
        };
        let (removed, added) = (removed.clone(), added.clone());
        let (remove, add) = match (*role)? {
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

impl Differing<'_> {
    /// Whether it only grants exemptions, which are never in a packet's way: it can be changed while
    /// rules change around it.
    pub(super) fn exempts(&self) -> bool {
        self.fits
            && self.role == Some(Role::Exempts)
            && holds(self.found, self.found.elements.len() + self.added.len())
    }

    /// The changes of a set that [exempts](Self::exempts).
    pub(super) fn exemptions(&self, name: &Name) -> Vec<(Purpose, Change)> {
        let mut changes = Vec::new();
        if !self.added.is_empty() {
            let change = Change::AddElements(name.clone(), self.added.clone());
            changes.push((Purpose::Prepare, change));
        }
        if !self.removed.is_empty() {
            let change = Change::DeleteElements(name.clone(), self.removed.clone());
            changes.push((Purpose::Clean, change));
        }
        changes
    }
}

/// Whether the elements of `new` could be those of `found`.
fn has_room(found: &Set, new: &Set) -> bool {
    found.comment == new.comment
        && found.size.is_some() == new.size.is_some()
        && holds(found, new.elements.len())
}

/// Whether a set takes so many elements.
fn holds(set: &Set, count: usize) -> bool {
    set.size.is_none_or(|size| u32::try_from(count).is_ok_and(|count| count <= size))
}

/// Finds out what sets are for: nothing, for those that cannot be changed while they are used.
fn assign_roles<'t>(
    old: &'t Table,
    difference: &'t TableDifference,
    sets: &mut BTreeMap<&'t Name, Differing<'t>>,
) {
    let before = Wanted { old, difference: None };
    let now = Wanted { old, difference: Some(difference) };
    let mut conflicting: HashSet<&Name> = HashSet::new();
    let rules = |table, chain: &'t Chain| chain.rules.iter().map(move |rule| (table, rule));
    let there = old.chains.values().flat_map(|chain| rules(before, chain));
    let new = difference.chains.values().flatten().flat_map(|chain| rules(now, chain));
    for (table, rule) in there.chain(new) {
        for name in rule.statements.iter().filter_map(Statement::set) {
            let Some(set) = sets.get_mut(name) else { continue };
            let role = role(table, rule).filter(|_| !set.found.elements.is_interval());
            if role.is_none() || set.role.is_some_and(|known| Some(known) != role) {
                conflicting.insert(name);
            }
            set.role = role;
        }
    }
    for name in conflicting {
        if let Some(set) = sets.get_mut(name) {
            set.role = None;
        }
    }
}

/// What a rule does with the elements of the set that it uses.
fn role(table: Wanted<'_>, rule: &Rule) -> Option<Role> {
    let counted = |statements: &[Statement]| match statements {
        [Statement::Counter, Statement::Verdict(verdict)] | [Statement::Verdict(verdict)] => {
            table.allows(verdict)
        }
        _ => None,
    };
    match rule.statements.as_slice() {
        // What is in none of these sets is denied: the endpoints of a range that are known.
        [.., Statement::AddressNotIn(..), Statement::Verdict(Verdict::Jump(chain))] => {
            (!table.allows(&Verdict::Goto(chain.clone()))?).then_some(Role::Allows)
        }
        [Statement::AddressIn(..), rest @ ..] => {
            Some(if counted(rest)? { Role::Allows } else { Role::Denies })
        }
        [Statement::PairIn(_), Statement::Verdict(Verdict::Accept)] => Some(Role::Exempts),
        [Statement::AddressMap(side, _)] => Some(Role::Judges(*side)),
        _ => None,
    }
}

impl<'t> Wanted<'t> {
    fn chain(self, name: &Name) -> Option<&'t Chain> {
        let changed = self.difference.and_then(|it| it.chains.get(name));
        changed.map_or_else(|| self.old.chains.get(name), Option::as_ref)
    }

    fn elements(self, name: &Name) -> Option<&'t Elements> {
        match self.difference.and_then(|it| it.sets.get(name)) {
            Some(SetDifference::Whole(set)) => Some(&set.elements),
            Some(SetDifference::Gone) => None,
            // Only of sets that lead nowhere are elements told.
            Some(SetDifference::Elements { .. }) | None => {
                self.old.sets.get(name).map(|set| &set.elements)
            }
        }
    }

    /// Whether a verdict lets packets pass, or drops all that are not exempt; `None` if it depends.
    fn allows(self, verdict: &Verdict) -> Option<bool> {
        let chain = match verdict {
            Verdict::Accept | Verdict::Return => return Some(true),
            Verdict::Drop => return Some(false),
            Verdict::Jump(_) => return None,
            Verdict::Goto(chain) => self.chain(chain)?,
        };
        let (last, others) = chain.rules.split_last()?;
        let exempt = |statements: &[Statement]| {
            matches!(
                statements,
                [Statement::PairIn(_), Statement::Verdict(Verdict::Accept)]
                    | [Statement::Limit(_), Statement::Log { .. }]
            )
        };
        let (end, reports) = last.statements.split_last()?;
        let silent = |it: &Statement| matches!(it, Statement::Counter | Statement::Log { .. });
        let plain =
            reports.iter().all(silent) && others.iter().all(|rule| exempt(&rule.statements));
        match end {
            Statement::Verdict(Verdict::Accept | Verdict::Return) if plain => Some(true),
            Statement::Verdict(Verdict::Drop) if plain => Some(false),
            _ => None,
        }
    }

    /// The sets that packets may be looked up in from a chain on.
    fn sets_behind(self, chain: &'t Name) -> Vec<&'t Name> {
        let mut sets = BTreeSet::new();
        let mut seen = HashSet::new();
        let mut rest = vec![chain];
        while let Some(name) = rest.pop() {
            if !seen.insert(name) {
                continue;
            }
            let rules = self.chain(name).into_iter().flat_map(|chain| &chain.rules);
            for statement in rules.flat_map(|rule| &rule.statements) {
                if let Statement::Verdict(verdict) = statement {
                    rest.extend(verdict.chain());
                }
                let Some(set) = statement.set() else { continue };
                sets.insert(set);
                match self.elements(set) {
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

fn pairs(elements: &Elements) -> Option<&Vec<(IpAddr, IpAddr)>> {
    match elements {
        Elements::AddressPairs(pairs) => Some(pairs),
        _ => None,
    }
}

/// Whether a packet could be denied between the steps although both rulesets let it pass: an
/// endpoint starts or ceases to be judged, by sets that at the same time gain or lose others than
/// the endpoint itself. `None` if a verdict changes, which the steps cannot do at all.
fn loses_a_peer(
    old: &Table,
    difference: &TableDifference,
    differing: &BTreeMap<&Name, Differing<'_>>,
) -> Option<bool> {
    if !differing.values().any(|it| matches!(it.role, Some(Role::Judges(_)))) {
        return Some(false);
    }
    let there = old.sets.values().filter_map(|set| pairs(&set.elements));
    let new = difference.sets.values().filter_map(|set| match set {
        SetDifference::Whole(set) => pairs(&set.elements),
        SetDifference::Elements { added, .. } => pairs(added),
        SetDifference::Gone => None,
    });
    let exempt: HashSet<(IpAddr, IpAddr)> = there.chain(new).flatten().copied().collect();
    let mut reached: HashMap<(&Name, bool), Vec<&Name>> = HashMap::new();
    for judging in differing.values() {
        let Some(Role::Judges(side)) = judging.role else { continue };
        let (Elements::AddressVerdicts(removed), Elements::AddressVerdicts(added)) =
            (&judging.removed, &judging.added)
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
            let table = Wanted { old, difference: starts.then_some(difference) };
            let sets = reached.entry((chain, starts)).or_insert_with(|| table.sets_behind(chain));
            let behind = sets.iter().filter_map(|set| differing.get(set));
            for set in behind.filter(|it| it.role != Some(Role::Exempts)) {
                let opens = (set.role == Some(Role::Allows)) == starts;
                let moved = if opens { &set.added } else { &set.removed };
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
