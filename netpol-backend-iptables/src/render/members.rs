//! The endpoints that are policed and the sets of classes, kept from one program to the next.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use netpol_core::model::Family;
use netpol_core::program::{ClassId, EndpointEntry, Members, Program, Verdict as Decision};

use crate::ruleset::{Block, Set, covering};

/// The addresses with a verdict other than the default, by class and family.
///
/// A class of 100,000 addresses is worked out once; when one of them comes or goes, one element of
/// its set does.
#[derive(Debug, Default)]
pub(crate) struct ClassSets {
    /// What they are of.
    program: Option<Program>,
    /// The endpoints that are policed, few of all that there are.
    locals: BTreeMap<u32, EndpointEntry>,
    known: HashMap<(ClassId, Family), ClassSet>,
}

/// The part of a class that is about one family.
#[derive(Debug, Clone)]
pub(super) struct ClassSet {
    /// What holds for everybody else.
    pub(super) default: Decision,
    /// The exceptions.
    pub(super) set: Arc<Set>,
}

impl ClassSets {
    /// Follows to another program: what says something else is forgotten or changed.
    pub(super) fn follow(&mut self, program: &Program) {
        let before = self.program.replace(program.clone());
        let since = program.since(before.as_ref());
        for slot in since.endpoints {
            match slot.now.filter(|entry| entry.is_policed()) {
                Some(entry) => _ = self.locals.insert(slot.number, entry.clone()),
                None => _ = self.locals.remove(&slot.number),
            }
        }
        if since.blocks {
            self.known.clear();
        }
        self.known.retain(|(class, _), _| !since.classes.contains(class));
        for address in since.addresses.into_iter().filter(|_| before.is_some()) {
            let now = program.single(address);
            self.known.retain(|(class, family), known| {
                *family != Family::of(address) || known.place(address, program.member(*class, now))
            });
        }
    }

    /// The endpoints that are policed.
    pub(super) fn locals(&self) -> Vec<EndpointEntry> {
        self.locals.values().cloned().collect()
    }

    pub(super) fn of(&mut self, class: ClassId, family: Family) -> Option<ClassSet> {
        let program = self.program.as_ref()?;
        let known = self.known.entry((class, family));
        Some(known.or_insert_with(|| ClassSet::new(program.members(class, family), family)).clone())
    }
}

impl ClassSet {
    fn new(members: Members, family: Family) -> Self {
        let Members { default, ranges, allow, deny } = members;
        let (listed, unlisted) = match default {
            Decision::Deny => (allow, deny),
            Decision::Allow => (deny, allow),
        };
        // A set of single addresses cannot hold the unspecified one.
        let set = if ranges.is_empty() && !listed.iter().any(IpAddr::is_unspecified) {
            Set::Addresses(listed)
        } else {
            let mut blocks = covering(family, &ranges);
            blocks.extend(listed.into_iter().map(|address| (Block::single(address), true)));
            blocks.extend(unlisted.into_iter().map(|address| (Block::single(address), false)));
            Set::Blocks(blocks.into_iter().collect())
        };
        Self { default, set: Arc::new(set) }
    }

    /// Lists an address or not, as the class says now. Whether that is possible is the result.
    fn place(&mut self, address: IpAddr, says: Option<Decision>) -> bool {
        let Set::Addresses(list) = &*self.set else { return false };
        let is_listed = says.is_some_and(|says| says != self.default);
        match (list.binary_search(&address), is_listed) {
            (Ok(_), true) | (Err(_), false) => true,
            (Err(_), true) if address.is_unspecified() => false,
            (found, _) => {
                if let Set::Addresses(list) = Arc::make_mut(&mut self.set) {
                    match found {
                        Ok(at) => _ = list.remove(at),
                        Err(at) => list.insert(at, address),
                    }
                }
                true
            }
        }
    }
}
