use std::fmt::{self, Write};

use ahash::{HashMap, HashMapExt, HashSet};

use crate::model::Action;
use crate::program::{Atom, Class, ClassId, IdentityId, OwnNode, Segment, Stack, Terms, Verdict};

use super::identity::Identities;

/// Stacks by content: what asks the same of the other end is one class.
#[derive(Debug, Default)]
pub(super) struct Classes {
    ids: HashMap<Stack, ClassId>,
    stacks: Vec<Stack>,
}

impl Classes {
    pub(super) fn intern(&mut self, stack: Stack) -> ClassId {
        if let Some(id) = self.ids.get(&stack) {
            return *id;
        }
        #[expect(clippy::cast_possible_truncation, reason = "memory ends before 2^32 classes")]
        let id = ClassId(self.stacks.len() as u32);
        self.stacks.push(stack.clone());
        self.ids.insert(stack, id);
        id
    }

    /// Finds out whom each stack allows.
    pub(super) fn evaluate(self, atoms: &[Atom], identities: &Identities) -> Vec<Class> {
        let keys = AtomKeys::new(atoms);
        let mut taken = HashSet::default();
        let evaluated = self.stacks.into_iter().map(|stack| {
            let mut key = keys.of_stack(&stack);
            // Two different stacks of one key: as unlikely as it gets, and still not to be mistaken for one.
            while !taken.insert(key) {
                key = key.wrapping_add(1);
            }
            evaluate(stack, key, identities)
        });
        evaluated.collect()
    }
}

fn evaluate(stack: Stack, key: u128, identities: &Identities) -> Class {
    let admin = FirstMatch::new(&stack.admin, identities);
    let baseline = FirstMatch::new(&stack.baseline, identities);
    let network: HashSet<IdentityId> = match &stack.network {
        Some(Terms::AnyOf(atoms)) => {
            atoms.iter().flat_map(|it| identities.with(*it)).copied().collect()
        }
        _ => HashSet::default(),
    };
    let verdict = |identity: Option<IdentityId>| {
        match admin.action(identity) {
            Some(Action::Accept) => return Verdict::Allow,
            Some(Action::Deny) => return Verdict::Deny,
            Some(Action::Pass) | None => {}
        }
        match &stack.network {
            Some(Terms::Everyone) => Verdict::Allow,
            Some(Terms::AnyOf(_)) if identity.is_some_and(|it| network.contains(&it)) => {
                Verdict::Allow
            }
            Some(Terms::AnyOf(_)) => Verdict::Deny,
            None if baseline.action(identity) == Some(Action::Deny) => Verdict::Deny,
            None => Verdict::Allow,
        }
    };
    let default = verdict(None);
    let mentioned = admin.actions.keys().chain(&network).chain(baseline.actions.keys());
    let mut exceptions: Vec<IdentityId> =
        mentioned.copied().filter(|it| verdict(Some(*it)) != default).collect();
    exceptions.sort_unstable();
    exceptions.dedup();
    let own_node = match (stack.own_node, admin.everyone) {
        (false, _) => OwnNode::Never,
        (true, Some(Action::Accept | Action::Deny)) => OwnNode::Only(admin.doing(Action::Pass)),
        (true, Some(Action::Pass) | None) => OwnNode::AllBut(admin.doing(Action::Deny)),
    };
    Class { key, default, exceptions, own_node, stack }
}

/// The first segment of an ordered tier that matches an identity.
struct FirstMatch {
    actions: HashMap<IdentityId, Action>,
    everyone: Option<Action>,
}

impl FirstMatch {
    fn new(segments: &[Segment], identities: &Identities) -> Self {
        let mut first = Self { actions: HashMap::new(), everyone: None };
        for segment in segments {
            match &segment.terms {
                Terms::Everyone => first.everyone = Some(segment.action),
                Terms::AnyOf(atoms) => {
                    for identity in atoms.iter().flat_map(|atom| identities.with(*atom)) {
                        first.actions.entry(*identity).or_insert(segment.action);
                    }
                }
            }
        }
        first
    }

    /// The identities for which a segment of this action is the first, in ascending order.
    fn doing(&self, action: Action) -> Vec<IdentityId> {
        let doing = self.actions.iter().filter(|(_, first)| **first == action);
        let mut doing: Vec<IdentityId> = doing.map(|(identity, _)| *identity).collect();
        doing.sort_unstable();
        doing
    }

    /// `None` asks for an identity that no atom holds for.
    fn action(&self, identity: Option<IdentityId>) -> Option<Action> {
        identity.and_then(|it| self.actions.get(&it).copied()).or(self.everyone)
    }
}

/// A number for each atom that depends on nothing but what it asks.
struct AtomKeys(Vec<u128>);

impl AtomKeys {
    fn new(atoms: &[Atom]) -> Self {
        let mut keys: Vec<u128> = Vec::with_capacity(atoms.len());
        for atom in atoms {
            let mut key = Fnv::new();
            // The derived form quotes all text, so that different atoms are written differently. What it refers to
            // was numbered before it, and goes in by its key.
            let _ = match atom {
                Atom::Declares(it) => {
                    let also = it.also.and_then(|id| keys.get(id.0 as usize));
                    write!(key, "{:?}", (&it.name, it.protocol, it.number, it.host, also))
                }
                atom => write!(key, "{atom:?}"),
            };
            keys.push(key.0);
        }
        Self(keys)
    }

    fn of_stack(&self, stack: &Stack) -> u128 {
        let mut key = Fnv::new();
        for (tag, segments) in [("admin", &stack.admin), ("baseline", &stack.baseline)] {
            for segment in segments {
                self.write(&mut key, tag, Some(segment.action), &segment.terms);
            }
        }
        if let Some(terms) = &stack.network {
            self.write(&mut key, "network", None, terms);
        }
        let _ = write!(key, "own node {}", stack.own_node);
        key.0
    }

    fn write(&self, key: &mut Fnv, tier: &str, action: Option<Action>, terms: &Terms) {
        let atoms = match terms {
            Terms::Everyone => None,
            Terms::AnyOf(atoms) => {
                let keys = atoms.iter().filter_map(|atom| self.0.get(atom.0 as usize));
                let mut keys: Vec<u128> = keys.copied().collect();
                keys.sort_unstable();
                Some(keys)
            }
        };
        let _ = write!(key, "{tier} {action:?} {atoms:?};");
    }
}

/// FNV-1a of 128 bits: the same in every process and on every machine, which the hasher of the maps is not.
struct Fnv(u128);

impl Fnv {
    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 =
                (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
        Ok(())
    }
}
