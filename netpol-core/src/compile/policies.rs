use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::hash::HashMap;
use crate::model::{Labels, Name, Options, Policy, PolicyKey, PortMatch, Ports, Subject, Tie};
use crate::program::AtomId;

use super::carvings::Carvings;
use super::interner::Interner;
use super::lower::{Lowered, lower};
use super::matching::PodSelectors;
use super::workload::Declared;
use crate::program::Atom;

/// One version of a policy: another one, or the same one changed, has another number, until 2^32 of them have been in
/// the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PolicyId {
    slot: u32,
    version: u32,
}

/// All policies, and which of them are in use.
#[derive(Debug, Default)]
pub(super) struct Policies {
    ids: HashMap<PolicyKey, PolicyId>,
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    subjects: PodSelectors<PolicyId>,
    /// The policies that look up a port name at the peer.
    by_port_name: HashMap<Name, BTreeSet<PolicyKey>>,
    pub(super) carvings: Carvings,
}

/// Holds one policy after another.
#[derive(Debug, Default)]
struct Slot {
    version: u32,
    state: Option<State>,
}

#[derive(Debug)]
struct State {
    policy: Arc<Policy>,
    /// How many policed workloads it selects.
    selected: u32,
    /// Only what is in use is worked out: a policy for other nodes' pods costs nothing here.
    lowered: Option<Arc<Lowered>>,
}

impl Policies {
    /// Makes room for as many more policies at once.
    pub(super) fn reserve_room(&mut self, count: usize) {
        self.ids.reserve(count);
        self.slots.reserve(count);
    }

    pub(super) fn insert(&mut self, policy: Arc<Policy>) {
        let at = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            #[expect(clippy::cast_possible_truncation, reason = "memory ends before 2^32")]
            let last = (self.slots.len() - 1) as u32;
            last
        });
        let Some(slot) = self.slots.get_mut(at as usize) else { return };
        slot.version = slot.version.wrapping_add(1);
        let id = PolicyId { slot: at, version: slot.version };
        slot.state = Some(State { policy: policy.clone(), selected: 0, lowered: None });
        self.subjects.insert(policy.subject.selector(), id);
        for name in egress_port_names(&policy) {
            self.by_port_name.entry(name.clone()).or_default().insert(policy.key.clone());
        }
        self.carvings.add(&policy);
        self.ids.insert(policy.key.clone(), id);
    }

    /// Takes a policy out, with the atoms that it used.
    pub(super) fn remove(
        &mut self,
        key: &PolicyKey,
        atoms: &mut Interner<Atom>,
    ) -> Option<Arc<Policy>> {
        let id = self.ids.remove(key)?;
        let state = self.slots.get_mut(id.slot as usize)?.state.take()?;
        self.vacant.push(id.slot);
        self.subjects.remove(state.policy.subject.selector(), &id);
        for name in egress_port_names(&state.policy) {
            if let Some(keys) = self.by_port_name.get_mut(name) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_port_name.remove(name);
                }
            }
        }
        self.carvings.remove(&state.policy);
        if let Some(lowered) = state.lowered {
            lowered.release(atoms);
        }
        Some(state.policy)
    }

    pub(super) fn get(&self, key: &PolicyKey) -> Option<&Arc<Policy>> {
        self.policy(*self.ids.get(key)?)
    }

    pub(super) fn policy(&self, id: PolicyId) -> Option<&Arc<Policy>> {
        self.state(id).map(|state| &state.policy)
    }

    fn state(&self, id: PolicyId) -> Option<&State> {
        let slot = self.slots.get(id.slot as usize);
        slot.filter(|slot| slot.version == id.version)?.state.as_ref()
    }

    fn state_mut(&mut self, id: PolicyId) -> Option<&mut State> {
        let slot = self.slots.get_mut(id.slot as usize);
        slot.filter(|slot| slot.version == id.version)?.state.as_mut()
    }

    /// The policies whose egress rules look up one of these port names.
    pub(super) fn looking_up(&self, names: &[Name]) -> BTreeSet<PolicyKey> {
        names.iter().filter_map(|name| self.by_port_name.get(name)).flatten().cloned().collect()
    }

    /// The policies that select a pod, in the order in which they are asked (C-TIER-1, C-PRIO-1, C-PRIO-3).
    pub(super) fn selecting(
        &self,
        namespace: &Name,
        namespace_labels: &Labels,
        labels: &Labels,
        tie: Tie,
    ) -> Vec<PolicyId> {
        let found = self.subjects.matching(namespace, namespace_labels, labels);
        let mut found: Vec<(&Policy, PolicyId)> =
            found.filter_map(|id| Some((&**self.policy(*id)?, *id))).collect();
        found.sort_by(|(a, _), (b, _)| order(a, b, tie));
        found.into_iter().map(|(_, id)| id).collect()
    }

    /// Merges policies found for several pods into one list in order.
    pub(super) fn merge(&self, ids: Vec<PolicyId>, tie: Tie) -> Vec<PolicyId> {
        let mut found: Vec<(&Policy, PolicyId)> =
            ids.into_iter().filter_map(|id| Some((&**self.policy(id)?, id))).collect();
        found.sort_by(|(a, _), (b, _)| order(a, b, tie));
        found.dedup_by_key(|(_, id)| *id);
        found.into_iter().map(|(_, id)| id).collect()
    }

    /// One more policed workload is selected.
    pub(super) fn select(
        &mut self,
        id: PolicyId,
        options: &Options,
        declared: &Declared,
        atoms: &mut Interner<Atom>,
    ) {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.version == id.version);
        if let Some(state) = slot.and_then(|slot| slot.state.as_mut()) {
            state.selected += 1;
            if state.lowered.is_none() {
                let lowered = lower(&state.policy, options, declared, &self.carvings, atoms);
                state.lowered = Some(Arc::new(lowered));
            }
        }
    }

    /// One policed workload less is selected; one that nobody is selected by is put away.
    pub(super) fn deselect(&mut self, id: PolicyId, atoms: &mut Interner<Atom>) {
        if let Some(state) = self.state_mut(id) {
            state.selected = state.selected.saturating_sub(1);
            let unused = state.selected == 0;
            if let Some(lowered) = state.lowered.take_if(|_| unused) {
                lowered.release(atoms);
            }
        }
    }

    pub(super) fn lowered(&self, id: PolicyId) -> Option<&Arc<Lowered>> {
        self.state(id)?.lowered.as_ref()
    }
}

impl Lowered {
    fn release(&self, atoms: &mut Interner<Atom>) {
        for AtomId(id) in &self.atoms {
            atoms.release(*id);
        }
    }
}

fn order(a: &Policy, b: &Policy, tie: Tie) -> Ordering {
    let by_name = a.key.name.cmp(&b.key.name);
    let by_name = match tie {
        Tie::NameAscending => by_name,
        Tie::NameDescending => by_name.reverse(),
    };
    let by_place = (a.tier, a.priority).cmp(&(b.tier, b.priority));
    by_place.then(by_name).then_with(|| a.key.cmp(&b.key))
}

fn egress_port_names(policy: &Policy) -> BTreeSet<&Name> {
    let rules = policy.egress.iter().flatten();
    let ports = rules.filter_map(|rule| match &rule.ports {
        Ports::AnyOf(ports) => Some(ports),
        Ports::All => None,
    });
    let names = ports.flatten().filter_map(|port| match port {
        PortMatch::Named(_, name) => Some(name),
        _ => None,
    });
    names.collect()
}

impl Subject {
    pub(super) fn selector(&self) -> &crate::model::PodSelector {
        match self {
            Self::Pods(selector) | Self::AtMost(selector) => selector,
        }
    }
}
