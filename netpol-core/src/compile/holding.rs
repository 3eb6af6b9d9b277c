use std::collections::BTreeMap;

use crate::hash::HashMap;
use crate::model::{DeclaredPort, DomainPattern, Name, Protocol, Selector};
use crate::program::{Atom, AtomId, Declares, Term};

use super::workload::WorkloadId;
use super::{Compiler, take};

/// Atoms that are found by other ways than pod selectors and blocks.
#[derive(Debug, Default)]
pub(super) struct SpecialAtoms {
    /// By what must be declared.
    declares: HashMap<(Name, Protocol, u16), Vec<Asking>>,
    pub(super) nodes: BTreeMap<AtomId, Selector>,
    pub(super) domains: BTreeMap<AtomId, DomainPattern>,
}

/// An atom that asks for a declared port.
#[derive(Debug)]
struct Asking {
    atom: AtomId,
    /// What else must hold.
    also: Option<Term>,
    /// Host-network endpoints count.
    host: bool,
}

impl SpecialAtoms {
    /// Adds the atoms that ask for one of these declared ports and otherwise for what holds, of those that count hosts or
    /// of all. Tells whether any asked for something that does not.
    pub(super) fn add_declared<'p>(
        &self,
        ports: impl Iterator<Item = &'p DeclaredPort>,
        only_hosts: bool,
        atoms: &mut Vec<AtomId>,
    ) -> bool {
        if self.declares.is_empty() {
            return false;
        }
        let mut unanswered = false;
        let base = atoms.clone();
        for port in ports {
            let asked = self.declares.get(&(port.name.clone(), port.protocol, port.number));
            for Asking { atom, also, host } in asked.into_iter().flatten() {
                match also {
                    _ if only_hosts && !host => {}
                    Some(also) if !also.holds(&base) => unanswered = true,
                    _ => atoms.push(*atom),
                }
            }
        }
        unanswered
    }

    fn declares(&mut self, declares: &Declares) -> &mut Vec<Asking> {
        let key = (declares.name.clone(), declares.protocol, declares.number);
        self.declares.entry(key).or_default()
    }
}

impl Compiler {
    /// Takes in the atoms that policies begin and cease to ask for, and finds those that hold for each workload.
    pub(super) fn settle_atoms(&mut self) {
        let settled = self.atoms.settle();
        for id in settled.born {
            if let Some(atom) = self.atoms.get(id).cloned() {
                self.program.edit().atoms.set(id, atom.clone());
                self.begin(AtomId(id), &atom);
            }
        }
        for id in settled.dying {
            if let Some(atom) = self.atoms.get(id).cloned() {
                self.program.edit().atoms.clear(id);
                self.cease(AtomId(id), &atom);
            }
        }
        for id in take(&mut self.dirty.holding) {
            self.settle_holding(id);
        }
    }

    fn begin(&mut self, id: AtomId, atom: &Atom) {
        match atom {
            Atom::Pods { selector, .. } => self.peers.insert(selector, id),
            Atom::Block(block) => self.blocks.add(block, id),
            Atom::Nodes(selector) => drop(self.special.nodes.insert(id, selector.clone())),
            Atom::Domain(pattern) => drop(self.special.domains.insert(id, pattern.clone())),
            Atom::Declares(it) => {
                let (also, host) = (it.also.clone(), it.host);
                self.special.declares(it).push(Asking { atom: id, also, host });
            }
        }
        self.touch_holders(atom);
    }

    fn cease(&mut self, id: AtomId, atom: &Atom) {
        match atom {
            Atom::Pods { selector, .. } => self.peers.remove(selector, &id),
            Atom::Block(block) => self.blocks.remove(block, id),
            Atom::Nodes(_) => drop(self.special.nodes.remove(&id)),
            Atom::Domain(_) => drop(self.special.domains.remove(&id)),
            Atom::Declares(it) => {
                let asked = self.special.declares(it);
                asked.retain(|asking| asking.atom != id);
                if asked.is_empty() {
                    let key = (it.name.clone(), it.protocol, it.number);
                    self.special.declares.remove(&key);
                }
            }
        }
        self.touch_holders(atom);
    }

    /// Whom an atom holds for has to be looked at again.
    fn touch_holders(&mut self, atom: &Atom) {
        match atom {
            Atom::Pods { selector, .. } => {
                self.dirty.holding.extend(self.workloads.matching(selector));
            }
            Atom::Block(_) => {}
            Atom::Nodes(selector) => {
                self.dirty.addresses.extend(self.places.addresses_of_nodes(selector));
            }
            Atom::Domain(pattern) => {
                self.dirty.addresses.extend(self.places.addresses_of_domains(pattern));
            }
            Atom::Declares(Declares { name, protocol, number, .. }) => {
                let port =
                    DeclaredPort { name: name.clone(), protocol: *protocol, number: *number };
                self.dirty.holding.extend(self.workloads.declaring(&port));
            }
        }
    }

    fn settle_holding(&mut self, id: WorkloadId) {
        let Some(workload) = self.workloads.get(id).cloned() else { return };
        let Some(labels) = self.workloads.namespace_labels(&workload.namespace) else { return };
        let found = self.peers.matching(&workload.namespace, labels, &workload.labels);
        let mut atoms: Vec<AtomId> = found.copied().collect();
        let mut depends_on_address = false;
        if workload.host_network {
            // What host-network endpoints declare is looked at by address, theirs all together.
            atoms.retain(|id| matches!(self.atoms.get(id.0), Some(Atom::Pods { host: true, .. })));
        } else {
            depends_on_address =
                self.special.add_declared(workload.ports.iter(), false, &mut atoms);
        }
        atoms.sort_unstable();
        let state = self.workloads.state(id);
        let changed = state.holding != atoms
            || state.depends_on_address != depends_on_address
            || depends_on_address
            || state.named.is_none()
            || workload.host_network;
        if !changed {
            return;
        }
        let before = state.named.take();
        state.holding = atoms.clone();
        state.depends_on_address = depends_on_address;
        let endpoints: Vec<u32> = state.endpoints.iter().collect();
        let named = self.acquire_identity(atoms);
        self.workloads.state(id).named = Some(named);
        if let Some(before) = before {
            self.identities.release(before.0);
        }
        for endpoint in endpoints {
            if let Some(placed) = self.places.endpoint(endpoint).cloned() {
                self.touch_addresses(&placed);
            }
            self.dirty.entries.push(endpoint);
        }
    }
}
