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
/// its set does, also beside blocks. Where the blocks of a class change it is worked out again.
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
    /// What they are but for single addresses.
    blocks: Arc<Blocks>,
}

/// The blocks among the exceptions.
#[derive(Debug)]
struct Blocks {
    /// As the program tells them, without single addresses.
    members: Members,
    /// As a set lists them.
    listed: BTreeMap<Block, bool>,
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
        self.known.retain(|(class, _), _| !since.classes.contains(class));
        if since.blocks {
            self.known.retain(|(class, family), known| {
                known.blocks.members == program.member_ranges(*class, *family)
            });
        }
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
        let blocks = covering(family, &ranges);
        // A set of single addresses cannot hold the unspecified one.
        let set = if ranges.is_empty() && !listed.iter().any(IpAddr::is_unspecified) {
            Set::Addresses(listed)
        } else {
            let mut all = blocks.clone();
            all.extend(listed.into_iter().map(|address| (Block::single(address), true)));
            all.extend(unlisted.into_iter().map(|address| (Block::single(address), false)));
            Set::Blocks(all.into_iter().collect())
        };
        let members = Members { default, ranges, allow: Vec::new(), deny: Vec::new() };
        let blocks = Arc::new(Blocks { members, listed: blocks });
        Self { default, set: Arc::new(set), blocks }
    }

    /// Lists an address or not, as the class says now. Whether that is possible is the result.
    fn place(&mut self, address: IpAddr, says: Option<Decision>) -> bool {
        match &*self.set {
            Set::Addresses(list) => {
                let is_listed = says.is_some_and(|says| says != self.default);
                match (list.binary_search(&address), is_listed) {
                    (Ok(_), true) | (Err(_), false) => {}
                    (Err(_), true) if address.is_unspecified() => return false,
                    (found, _) => {
                        if let Set::Addresses(list) = Arc::make_mut(&mut self.set) {
                            match found {
                                Ok(at) => _ = list.remove(at),
                                Err(at) => list.insert(at, address),
                            }
                        }
                    }
                }
            }
            // For the unspecified address alone; it may have gone.
            Set::Blocks(_) if self.blocks.listed.is_empty() => return false,
            Set::Blocks(list) => {
                let single = Block::single(address);
                let by_range = self.blocks.members.by_range(address);
                let wanted = match says.filter(|says| *says != by_range) {
                    Some(says) => Some(says != self.default),
                    // It may be all there is of a block, or of a hole in one.
                    None => self.blocks.listed.get(&single).copied(),
                };
                let found = list.binary_search_by_key(&single, |(block, _)| *block);
                let present = found.ok().and_then(|at| list.get(at)).map(|(_, inside)| *inside);
                if present != wanted
                    && let Set::Blocks(list) = Arc::make_mut(&mut self.set)
                {
                    if let Ok(at) = found {
                        list.remove(at);
                    }
                    let (Ok(at) | Err(at)) = found;
                    if let Some(inside) = wanted {
                        list.insert(at, (single, inside));
                    }
                }
            }
            Set::Foreign(_) => return false,
        }
        true
    }
}
