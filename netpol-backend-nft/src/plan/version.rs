//! Names of sets that stand beside sets of the same meaning.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::name::Name;
use crate::ruleset::{Ruleset, Statement, Table};

/// Between the name that a rendering gives to a set, and the version.
const SEPARATOR: char = '.';

/// The name without its version.
pub(super) fn plain(name: &str) -> &str {
    match name.rsplit_once(SEPARATOR) {
        Some((plain, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => plain,
        _ => name,
    }
}

/// The wanted table with the names that its sets have in the old one already.
pub(super) fn as_in_force(wanted: Table, old: &Table) -> Table {
    let used = used_sets(old);
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
        let free = |candidate: &Name| !old.sets.contains_key(candidate);
        let versions = (1u64..).map(|version| Name::known(&format!("{plain}{SEPARATOR}{version}")));
        std::iter::once(Name::known(plain)).chain(versions).find(free)
    };
    let names = sets.into_iter().filter_map(|name| Some((name.clone(), next(&name)?))).collect();
    rename(new, &names)
}

/// The sets that rules use.
fn used_sets(table: &Table) -> BTreeSet<&Name> {
    let statements = table.chains.values().flat_map(|chain| &chain.rules);
    statements.flat_map(|rule| &rule.statements).filter_map(Statement::set).collect()
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
    for rule in table.chains.values_mut().flat_map(|chain| &mut chain.rules) {
        for set in rule.statements.iter_mut().filter_map(Statement::set_mut) {
            if let Some(name) = names.get(set) {
                *set = name.clone();
            }
        }
    }
    table
}

impl Ruleset {
    /// The same with the names and sizes that a fresh rendering would give to its sets: what is in
    /// force after changes, made comparable with what was meant.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let mut ruleset = self.clone();
        for table in ruleset.tables.values_mut() {
            let names =
                table.sets.keys().map(|name| (name.clone(), Name::known(plain(name.as_str()))));
            let names = names.collect();
            *table = rename(std::mem::take(table), &names);
            for set in table.sets.values_mut() {
                set.size = set.size.map(|_| set.elements.len().try_into().unwrap_or(u32::MAX));
            }
        }
        ruleset
    }
}
