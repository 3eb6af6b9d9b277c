use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hash::HashMap;
use crate::model::{
    DeclaredPort, DuplicatePortNames, Endpoint, Labels, Name, NamespaceScope, PodSelector, Protocol,
};
use crate::program::{AtomId, IdentityId, ProfileId, SortedSet};

use super::interner::Interner;
use super::matching::LabelIndex;
use super::policies::PolicyId;

/// What selectors and port names see of an endpoint. The replicas of a deployment are one workload, so that they are
/// matched once, however many there are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Workload {
    pub(super) namespace: Name,
    pub(super) labels: Labels,
    /// What it declares by name, as CH-DUP-NAME has it; sorted.
    pub(super) ports: Vec<DeclaredPort>,
    pub(super) host_network: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct WorkloadId(pub(super) u32);

/// What is worked out for a workload.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Its endpoints.
    pub(super) endpoints: SortedSet<u32>,
    /// How many of them are policed.
    pub(super) policed: u32,
    /// The atoms that hold for it, its addresses aside; sorted.
    pub(super) holding: Vec<AtomId>,
    /// It declares a port that some rule asks for together with something that depends on the address.
    pub(super) depends_on_address: bool,
    /// Who an endpoint is when its addresses are left aside.
    pub(super) named: Option<IdentityId>,
    /// The policies that select it, if it is policed.
    pub(super) selected_by: Vec<PolicyId>,
    pub(super) profile: Option<ProfileId>,
    /// The profile for traffic with itself, where that is policed.
    pub(super) own: Option<ProfileId>,
}

/// A namespace that workloads are in.
#[derive(Debug)]
struct Inhabited {
    name: Name,
    labels: Labels,
    workloads: SortedSet<u32>,
}

/// All workloads, and ways to find them.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    ids: Interner<Arc<Workload>>,
    states: Vec<State>,
    namespace_ids: HashMap<Name, u32>,
    namespaces: Vec<Option<Inhabited>>,
    vacant: Vec<u32>,
    namespaces_by_label: LabelIndex,
    by_label: LabelIndex,
    by_declared: HashMap<DeclaredPort, SortedSet<u32>>,
    pub(super) declared: Declared,
}

/// What any destination declares under a name, with the number of workloads that do: with host-network endpoints and
/// without.
#[derive(Debug, Default)]
pub(super) struct Declared {
    all: HashMap<Name, BTreeMap<(Protocol, u16), u32>>,
    ordinary: HashMap<Name, BTreeMap<(Protocol, u16), u32>>,
    /// The names of which the meanings have changed.
    pub(super) changed: Vec<Name>,
}

impl Workload {
    pub(super) fn of(endpoint: &Endpoint, duplicates: DuplicatePortNames) -> Self {
        Self {
            namespace: endpoint.namespace.clone(),
            labels: endpoint.labels.clone(),
            ports: declared_ports(endpoint, duplicates),
            host_network: endpoint.host_network,
        }
    }
}

impl Workloads {
    /// The workload of an endpoint, one more of its endpoints. `namespace_labels` are used if nothing else is in the
    /// namespace. Tells whether the workload is new.
    pub(super) fn join(
        &mut self,
        workload: Workload,
        endpoint: u32,
        namespace_labels: impl FnOnce() -> Labels,
    ) -> (WorkloadId, bool) {
        let workload = Arc::new(workload);
        let (id, is_new) = self.ids.intern(&workload);
        if is_new {
            self.index(id, &workload, namespace_labels);
        }
        self.state(WorkloadId(id)).endpoints.insert(endpoint);
        (WorkloadId(id), is_new)
    }

    /// One endpoint less, unless it `stays`, having joined the same workload again. Returns the state of a workload
    /// that has none left.
    pub(super) fn leave(&mut self, id: WorkloadId, endpoint: u32, stays: bool) -> Option<State> {
        self.ids.release(id.0);
        if stays {
            return None;
        }
        let state = self.state(id);
        state.endpoints.remove(endpoint);
        if !state.endpoints.is_empty() {
            return None;
        }
        let state = std::mem::take(state);
        if let Some(workload) = self.ids.get(id.0).cloned() {
            self.unindex(id.0, &workload);
        }
        self.ids.settle();
        self.ids.sweep();
        Some(state)
    }

    pub(super) fn get(&self, id: WorkloadId) -> Option<&Arc<Workload>> {
        self.ids.get(id.0)
    }

    pub(super) fn peek(&self, id: WorkloadId) -> Option<&State> {
        self.states.get(id.0 as usize)
    }

    pub(super) fn state(&mut self, id: WorkloadId) -> &mut State {
        let at = id.0 as usize;
        if self.states.len() <= at {
            self.states.resize_with(at + 1, State::default);
        }
        #[expect(clippy::indexing_slicing, reason = "resized just above")]
        &mut self.states[at]
    }

    /// The labels of the namespace that a workload is in.
    pub(super) fn namespace_labels(&self, namespace: &Name) -> Option<&Labels> {
        Some(&self.inhabited(namespace)?.labels)
    }

    fn inhabited(&self, namespace: &Name) -> Option<&Inhabited> {
        let id = self.namespace_ids.get(namespace)?;
        self.namespaces.get(*id as usize)?.as_ref()
    }

    /// Takes over the labels of a namespace; returns the workloads in it, if that changes anything.
    pub(super) fn relabel(&mut self, namespace: &Name, labels: Labels) -> Vec<WorkloadId> {
        let Some(id) = self.namespace_ids.get(namespace).copied() else { return Vec::new() };
        let Some(Some(inhabited)) = self.namespaces.get_mut(id as usize) else { return Vec::new() };
        if inhabited.labels == labels {
            return Vec::new();
        }
        self.namespaces_by_label.remove(&inhabited.labels, id);
        self.namespaces_by_label.insert(&labels, id);
        inhabited.labels = labels;
        inhabited.workloads.iter().map(WorkloadId).collect()
    }

    /// The workloads that a pod selector matches.
    pub(super) fn matching(&self, selector: &PodSelector) -> Vec<WorkloadId> {
        let count = |sets: &[&SortedSet<u32>]| sets.iter().map(|set| set.len()).sum::<usize>();
        let by_label = self.by_label.candidates(&selector.pods);
        let labelled = count(&by_label);
        let listed = || by_label.iter().flat_map(|set| set.iter());
        let matches =
            |id: &u32| self.ids.get(*id).is_some_and(|it| selector.pods.matches(&it.labels));
        // Labels are all over the heap, and the index is not: what it rules out is not looked at.
        let of_namespace = |inhabited: &Inhabited| -> Vec<WorkloadId> {
            let inside = &inhabited.workloads;
            if selector.pods.is_everything() {
                return inside.iter().map(WorkloadId).collect();
            }
            if labelled < inside.len() {
                let ids = listed().filter(|id| inside.contains(*id));
                return ids.filter(matches).map(WorkloadId).collect();
            }
            let ids = inside.iter().filter(|id| by_label.iter().any(|set| set.contains(*id)));
            ids.filter(matches).map(WorkloadId).collect()
        };
        let namespaces = match &selector.namespaces {
            NamespaceScope::Named(name) => {
                return self.inhabited(name).map(of_namespace).unwrap_or_default();
            }
            NamespaceScope::Matching(namespaces) => namespaces,
        };
        let by_namespace = self.namespaces_by_label.candidates(namespaces);
        if count(&by_namespace) <= labelled {
            let ids = by_namespace.into_iter().flat_map(SortedSet::iter);
            let inhabited = ids.filter_map(|id| self.namespaces.get(id as usize)?.as_ref());
            let matching = inhabited.filter(|it| namespaces.matches(&it.labels));
            return matching.flat_map(of_namespace).collect();
        }
        let ids = listed().map(WorkloadId);
        let matches = |id: &WorkloadId| {
            self.get(*id).is_some_and(|it| {
                let labels = self.namespace_labels(&it.namespace);
                selector.pods.matches(&it.labels) && labels.is_some_and(|it| namespaces.matches(it))
            })
        };
        ids.filter(matches).collect()
    }

    /// The workloads that declare a port.
    pub(super) fn declaring(&self, port: &DeclaredPort) -> Vec<WorkloadId> {
        let ids = self.by_declared.get(port).into_iter().flat_map(SortedSet::iter);
        ids.map(WorkloadId).collect()
    }

    fn index(&mut self, id: u32, workload: &Workload, labels: impl FnOnce() -> Labels) {
        let namespace = match self.namespace_ids.get(&workload.namespace) {
            Some(namespace) => *namespace,
            None => {
                let labels = labels();
                let namespace = self.vacant.pop().unwrap_or_else(|| {
                    self.namespaces.push(None);
                    #[expect(clippy::cast_possible_truncation, reason = "memory ends before 2^32")]
                    let last = (self.namespaces.len() - 1) as u32;
                    last
                });
                self.namespaces_by_label.insert(&labels, namespace);
                let name = workload.namespace.clone();
                let workloads = SortedSet::default();
                if let Some(slot) = self.namespaces.get_mut(namespace as usize) {
                    *slot = Some(Inhabited { name: name.clone(), labels, workloads });
                }
                self.namespace_ids.insert(name, namespace);
                namespace
            }
        };
        if let Some(Some(inhabited)) = self.namespaces.get_mut(namespace as usize) {
            inhabited.workloads.insert(id);
        }
        self.by_label.insert(&workload.labels, id);
        for port in &workload.ports {
            self.by_declared.entry(port.clone()).or_default().insert(id);
        }
        self.declared.add(workload);
    }

    fn unindex(&mut self, id: u32, workload: &Workload) {
        let namespace = self.namespace_ids.get(&workload.namespace).copied();
        let slot = namespace.and_then(|at| self.namespaces.get_mut(at as usize));
        if let (Some(namespace), Some(slot)) = (namespace, slot)
            && let Some(inhabited) = slot
        {
            inhabited.workloads.remove(id);
            if inhabited.workloads.is_empty() {
                self.namespaces_by_label.remove(&inhabited.labels, namespace);
                self.namespace_ids.remove(&inhabited.name);
                *slot = None;
                self.vacant.push(namespace);
            }
        }
        self.by_label.remove(&workload.labels, id);
        for port in &workload.ports {
            if let Some(ids) = self.by_declared.get_mut(port) {
                ids.remove(id);
                if ids.is_empty() {
                    self.by_declared.remove(port);
                }
            }
        }
        self.declared.remove(workload);
    }
}

impl Declared {
    /// What a name means to some destination, host-network endpoints counted or not.
    pub(super) fn meanings(&self, name: &Name, hosts: bool) -> Vec<(Protocol, u16)> {
        let declared = if hosts { &self.all } else { &self.ordinary };
        declared.get(name).into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    fn add(&mut self, workload: &Workload) {
        let Self { all, ordinary, changed } = self;
        for port in &workload.ports {
            let counted = [Some(&mut *all), (!workload.host_network).then_some(&mut *ordinary)];
            for declared in counted.into_iter().flatten() {
                let meanings = declared.entry(port.name.clone()).or_default();
                let count = meanings.entry((port.protocol, port.number)).or_default();
                *count += 1;
                if *count == 1 {
                    changed.push(port.name.clone());
                }
            }
        }
    }

    fn remove(&mut self, workload: &Workload) {
        let Self { all, ordinary, changed } = self;
        for port in &workload.ports {
            let counted = [Some(&mut *all), (!workload.host_network).then_some(&mut *ordinary)];
            for declared in counted.into_iter().flatten() {
                let Some(meanings) = declared.get_mut(&port.name) else { continue };
                let meaning = (port.protocol, port.number);
                let Some(count) = meanings.get_mut(&meaning) else { continue };
                *count -= 1;
                if *count == 0 {
                    meanings.remove(&meaning);
                    changed.push(port.name.clone());
                }
                if meanings.is_empty() {
                    declared.remove(&port.name);
                }
            }
        }
    }
}

/// The declared ports with the names that are declared twice read as CH-DUP-NAME says; sorted.
fn declared_ports(endpoint: &Endpoint, duplicates: DuplicatePortNames) -> Vec<DeclaredPort> {
    let all = &endpoint.ports;
    let first = |port: &&DeclaredPort| all.iter().find(|it| it.name == port.name) == Some(*port);
    let only = |port: &&DeclaredPort| !all.iter().any(|it| it.name == port.name && it != *port);
    let mut ports: Vec<DeclaredPort> = match duplicates {
        DuplicatePortNames::Union => all.clone(),
        DuplicatePortNames::First => all.iter().filter(first).cloned().collect(),
        DuplicatePortNames::None => all.iter().filter(only).cloned().collect(),
    };
    ports.sort_unstable();
    ports.dedup();
    ports
}
