//! Names of sets that stand beside sets of the same meaning.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::name::Name;
use crate::ruleset::{Match, Rule, Ruleset, Table};

/// Between the name that a rendering gives to a set, and the version.
const SEPARATOR: char = '.';

/// The name without its version.
fn plain(name: &str) -> &str {
    match name.rsplit_once(SEPARATOR) {
        Some((plain, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => plain,
        _ => name,
    }
}

/// The wanted table with the names that its sets have in the old one already.
pub(super) fn as_in_force(wanted: Table, old: &Table) -> Table {
    let rules = old.chains.values().flatten();
    let used: BTreeSet<&Name> = rules.filter_map(Rule::set).map(|(set, ..)| set).collect();
    let mut known: HashMap<&str, &Name> = HashMap::with_capacity(old.sets.len());
    for name in old.sets.keys() {
        let candidate = known.entry(plain(name.as_str())).or_insert(name);
        // A version that nothing uses was left behind by a change that was interrupted.
        if used.contains(name) && !used.contains(*candidate) {
            *candidate = name;
        }
    }
    let names: BTreeMap<Name, Name> = wanted
        .sets
        .keys()
        .filter_map(|name| Some((name, *known.get(plain(name.as_str()))?)))
        .filter(|(name, known)| name != known)
        .map(|(name, known)| (name.clone(), known.clone()))
        .collect();
    rename(wanted, &names)
}

/// The table with new versions of these sets, named as no set of the old table is.
pub(super) fn beside(sets: Vec<Name>, new: Table, old: &Table) -> Table {
    let next = |name: &Name| {
        let plain = plain(name.as_str());
        let versions = (1u64..).map(|version| format!("{plain}{SEPARATOR}{version}"));
        let names = std::iter::once(plain.to_owned()).chain(versions);
        names.map(|it| Name::found(&it)).find(|it| !old.sets.contains_key(it))
    };
    let names = sets.into_iter().filter_map(|name| Some((name.clone(), next(&name)?))).collect();
    rename(new, &names)
}

fn rename(mut table: Table, names: &BTreeMap<Name, Name>) -> Table {
    if names.is_empty() {
        return table;
    }
    table.sets = table
        .sets
        .into_iter()
        .map(|(name, set)| (names.get(&name).cloned().unwrap_or(name), set))
        .collect();
    let rules = table.chains.values_mut().flatten();
    for each in rules.flat_map(|rule| &mut rule.matches) {
        if let Match::InSet { set, .. } = each
            && let Some(name) = names.get(set)
        {
            *set = name.clone();
        }
    }
    table
}

impl Ruleset {
    /// The same with the names that a fresh rendering would give to its sets: what is in force after
    /// changes, made comparable with what was meant.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let mut ruleset = self.clone();
        for table in ruleset.tables.values_mut() {
            let plain = |name: &Name| (name.clone(), Name::found(plain(name.as_str())));
            let names = table.sets.keys().map(plain).collect();
            *table = rename(std::mem::take(table), &names);
        }
        ruleset
    }
}
