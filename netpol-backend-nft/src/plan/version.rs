//! Names of sets that stand beside sets of the same meaning.

use std::collections::BTreeMap;

use crate::name::Name;
use crate::nflog::Prefix;
use crate::ruleset::{Chain, Ruleset, Set, SetDifference, Statement, Table, TableDifference};

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
    let names = wanted.sets.keys().filter_map(|name| Some((name, in_force(name, old)?)));
    let names: BTreeMap<Name, Name> = names
        .filter(|(name, known)| name != known)
        .map(|(name, known)| (name.clone(), known.clone()))
        .collect();
    rename(wanted, &names)
}

/// The difference in the names that the sets have in the old table already.
pub(super) fn localised(difference: TableDifference, old: &Table) -> TableDifference {
    let name = |name: Name| in_force(&name, old).cloned().unwrap_or(name);
    let sets = difference.sets.into_iter().map(|(set, it)| (name(set), it)).collect();
    let mut chains = difference.chains;
    for set in chains.values_mut().flatten().flat_map(sets_of) {
        *set = name(set.clone());
    }
    TableDifference { sets, chains }
}

/// The name that a set has in a table, its version apart.
fn in_force<'t>(name: &Name, table: &'t Table) -> Option<&'t Name> {
    let from = table.sets.range::<Name, _>(name..).map(|(found, _)| found);
    let similar = from.take_while(|found| found.as_str().starts_with(name.as_str()));
    let mut versions = similar.filter(|found| plain(found.as_str()) == name.as_str());
    let first = versions.next()?;
    let others: Vec<&Name> = versions.collect();
    if others.is_empty() {
        return Some(first);
    }
    // A version that nothing uses was left behind by a change that was interrupted.
    let used = |name: &&&Name| {
        let rules = table.chains.values().flat_map(|chain| &chain.rules);
        rules.flat_map(|rule| &rule.statements).any(|it| it.set() == Some(**name))
    };
    std::iter::once(&first).chain(&others).find(used).copied().or(Some(first))
}

/// Has new sets made beside these, under names that no set of the old table has, and the chains
/// that use them lead to the new ones.
pub(super) fn put_beside(sets: &[Name], difference: &mut TableDifference, old: &Table) {
    let next = |name: &Name| {
        let plain = plain(name.as_str());
        let free = |candidate: &Name| !old.sets.contains_key(candidate);
        let versions = (1u64..).map(|version| Name::known(&format!("{plain}{SEPARATOR}{version}")));
        std::iter::once(Name::known(plain)).chain(versions).find(free)
    };
    let names: BTreeMap<Name, Name> =
        sets.iter().filter_map(|name| Some((name.clone(), next(name)?))).collect();
    if names.is_empty() {
        return;
    }
    for (name, beside) in &names {
        let (Some(set), Some(found)) = (difference.sets.remove(name), old.sets.get(name)) else {
            continue;
        };
        let whole = match set {
            SetDifference::Whole(set) => set,
            SetDifference::Elements { removed, added, size } => {
                let mut set = Set { size, ..found.clone() };
                set.elements.remove(&removed);
                set.elements.insert(&added);
                set
            }
            SetDifference::Gone => continue,
        };
        difference.sets.insert(beside.clone(), SetDifference::Whole(whole));
        difference.sets.insert(name.clone(), SetDifference::Gone);
    }
    let uses = |chain: &Chain| {
        let statements = chain.rules.iter().flat_map(|rule| &rule.statements);
        statements.filter_map(Statement::set).any(|set| names.contains_key(set))
    };
    for (name, chain) in old.chains.iter().filter(|(_, chain)| uses(chain)) {
        difference.chains.entry(name.clone()).or_insert_with(|| Some(chain.clone()));
    }
    for set in difference.chains.values_mut().flatten().flat_map(sets_of) {
        if let Some(beside) = names.get(set) {
            *set = beside.clone();
        }
    }
}

fn sets_of(chain: &mut Chain) -> impl Iterator<Item = &mut Name> {
    let statements = chain.rules.iter_mut().flat_map(|rule| &mut rule.statements);
    statements.filter_map(Statement::set_mut)
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
    for set in table.chains.values_mut().flat_map(sets_of) {
        if let Some(name) = names.get(set) {
            *set = name.clone();
        }
    }
    table
}

impl Ruleset {
    /// The same with the names and sizes that a fresh rendering would give to its sets, and reports that
    /// name no generation: what is in force after changes, made comparable with what was meant.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let mut ruleset = self.clone();
        for table in ruleset.tables.values_mut() {
            let names =
                table.sets.keys().map(|name| (name.clone(), Name::known(plain(name.as_str()))));
            let names = names.collect();
            *table = rename(std::mem::take(table), &names);
            let rules = table.chains.values_mut().flat_map(|chain| &mut chain.rules);
            for statement in rules.flat_map(|rule| &mut rule.statements) {
                if let Statement::Log { prefix, .. } = statement
                    && let Some(parsed) = Prefix::parse(prefix.as_str())
                {
                    *prefix = Prefix { generation: None, ..parsed }.text();
                }
            }
            for set in table.sets.values_mut() {
                set.size = set.size.map(|_| set.elements.len().try_into().unwrap_or(u32::MAX));
            }
        }
        ruleset
    }
}
