use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::{Endpoint, Name};
use crate::program::{
    Addresses, AtomId, EndpointEntry, EndpointId, Identity, IdentityId, Known, NamedEnd, NodeId,
    Scope,
};

use super::places::Placed;
use super::workload::WorkloadId;
use super::{Compiler, take};

impl Compiler {
    /// The identity for which exactly these atoms hold, with one more user.
    pub(super) fn acquire_identity(&mut self, mut atoms: Vec<AtomId>) -> IdentityId {
        atoms.sort_unstable();
        atoms.dedup();
        let atoms: Arc<[AtomId]> = atoms.into();
        let id = self.identities.acquire(&atoms);
        let identities = &mut self.program.edit().identities;
        if identities.get(id).is_none_or(|it| it.atoms != atoms) {
            identities.set(id, Arc::new(Identity { atoms, ..Identity::default() }));
        }
        IdentityId(id)
    }

    /// Cuts the address space where any block begins or ends.
    pub(super) fn settle_blocks(&mut self) {
        let (changed, recut) = self.blocks.settle();
        for cut in recut {
            let now = cut.atoms.map(|atoms| self.acquire_identity(atoms));
            if now != cut.before {
                let inner = self.program.edit();
                inner.addresses.set_block(cut.net, now);
                if let Some(identity) = cut.before.and_then(|it| inner.identity_mut(it)) {
                    identity.blocks.remove(cut.net);
                }
                if let Some(identity) = now.and_then(|it| inner.identity_mut(it)) {
                    identity.blocks.insert(cut.net);
                }
            }
            if let Some(now) = now {
                self.blocks.identify(cut.net, now);
            }
            if let Some(before) = cut.before {
                self.identities.release(before.0);
            }
        }
        for net in changed {
            self.dirty.addresses.extend(self.places.located_in(net));
        }
    }

    /// Finds out who has each address.
    pub(super) fn settle_addresses(&mut self) {
        for address in take(&mut self.dirty.addresses) {
            self.locate(address);
        }
        self.located.clear();
    }

    fn locate(&mut self, address: IpAddr) {
        let addresses = &self.program.edit().addresses;
        let known_before = addresses.known(address);
        let by_block = addresses.longest_prefix(address);
        // Whose an address is changes the entries of all that claim it.
        let claimants = self.places.claimants(address);
        self.dirty.entries.extend_from_slice(claimants);
        let owner = self.places.first_of(claimants);
        let nodes: SmallVec<[NodeId; 1]> = self.places.nodes_at(address).into();
        let is_known = owner.is_some() || !nodes.is_empty() || self.places.has_domains(address);
        let now = is_known.then(|| self.identify(address, owner, &nodes, by_block));
        let nodes = self.in_scope(nodes);
        let is_kept = |identity: &IdentityId| {
            // What is not policed here, and what no rule can tell from the addresses around it, is left out where only
            // one node is in scope.
            let placed = owner.and_then(|id| self.places.endpoint(id));
            self.scope == Scope::Cluster
                || placed.is_some_and(|it| it.in_scope)
                || *identity != by_block
                || !nodes.is_empty()
        };
        let kept = now.filter(is_kept);
        let before = self.places.locate(address, now);
        let known = kept.map(|identity| {
            let known = Known::new(identity);
            // Which profile the endpoint has is filled in with its entry, as are nodes that are policed.
            owner.map_or(known, |id| known.of(EndpointId(id), None))
        });

        let nodes = if kept.is_some() { nodes } else { SmallVec::new() };
        let inner = self.program.edit();
        if inner.addresses.nodes_at(address) != nodes.as_slice() {
            let at = Arc::make_mut(&mut inner.addresses.nodes);
            if nodes.is_empty() {
                at.remove(&address);
            } else {
                at.insert(address, nodes);
            }
        }
        if known != known_before {
            let [after, before] = [known, known_before].map(|it| it.map(Known::identity));
            if after != before {
                if let Some(it) = before.and_then(|id| inner.identity_mut(id)) {
                    it.addresses.remove(address);
                }
                if let Some(it) = after.and_then(|id| inner.identity_mut(id)) {
                    it.addresses.insert(address);
                }
            }
            inner.addresses.set_known(address, known);
        }
        if let Some(before) = before {
            self.identities.release(before.0);
        }
    }

    /// Who has an address that means something of its own.
    fn identify(
        &mut self,
        address: IpAddr,
        owner: Option<u32>,
        nodes: &[NodeId],
        by_block: IdentityId,
    ) -> IdentityId {
        let workload = owner.and_then(|id| self.places.endpoint(id)).map(|it| it.workload);
        let mut atoms = self.labelled_atoms(address, nodes);
        let cached = workload.filter(|_| atoms.is_empty());
        // Most have nothing but what their workload has.
        let state = cached.filter(|_| by_block == Addresses::NOTHING);
        let state = state.and_then(|id| self.workloads.peek(id));
        if let Some(named) = state.filter(|it| !it.depends_on_address).and_then(|it| it.named) {
            self.identities.retain(named.0);
            return named;
        }
        if let Some(id) = cached.and_then(|it| self.located.get(&(it, by_block))).copied() {
            self.identities.retain(id.0);
            return id;
        }
        let inner = self.program.edit();
        if let Some(identity) = inner.identities.get(by_block.0) {
            atoms.extend_from_slice(&identity.atoms);
        }
        let mut depends_on_address = false;
        match workload {
            Some(id) => {
                let workload = self.workloads.get(id).cloned();
                if let (Some(state), Some(workload)) = (self.workloads.peek(id), workload) {
                    atoms.extend_from_slice(&state.holding);
                    depends_on_address = state.depends_on_address;
                    if depends_on_address {
                        self.special.add_declared(workload.ports.iter(), false, &mut atoms);
                    }
                }
            }
            None => self.add_hosts(nodes, &mut atoms),
        }
        let id = self.acquire_identity(atoms);
        if let Some(workload) = cached.filter(|_| !depends_on_address) {
            self.located.insert((workload, by_block), id);
        }
        id
    }

    /// The atoms that hold for an address because of a node's labels or a domain's name.
    fn labelled_atoms(&self, address: IpAddr, nodes: &[NodeId]) -> Vec<AtomId> {
        let nodes = || nodes.iter().filter_map(|id| self.places.node(*id));
        let by_node = self
            .special
            .nodes
            .iter()
            .filter(|(_, selector)| nodes().any(|node| selector.matches(&node.labels)));
        let by_name =
            self.special.domains.iter().filter(|(_, pattern)| {
                self.places.domains_at(address).any(|it| pattern.matches(it))
            });
        by_node.map(|(id, _)| *id).chain(by_name.map(|(id, _)| *id)).collect()
    }

    /// The atoms that hold for a node's address because of the host-network endpoints there.
    fn add_hosts(&self, nodes: &[NodeId], atoms: &mut Vec<AtomId>) {
        let hosts = self.places.hosts_of(nodes).into_iter();
        let hosts = hosts.filter_map(|id| self.places.endpoint(id)).map(|it| it.workload);
        let mut workloads: Vec<WorkloadId> = hosts.collect();
        workloads.sort_unstable();
        workloads.dedup();
        let states = workloads.iter().filter_map(|id| self.workloads.peek(*id));
        atoms.extend(states.flat_map(|state| &state.holding));
        let listed = workloads.iter().filter_map(|id| self.workloads.get(*id));
        self.special.add_declared(listed.flat_map(|it| &it.ports), true, atoms);
    }

    /// The nodes of these that matter: of other nodes only those that share an address with ours could, and only where
    /// nodes are policed.
    fn in_scope(&self, mut nodes: SmallVec<[NodeId; 1]>) -> SmallVec<[NodeId; 1]> {
        let all = self.own_node.is_none() || self.hosts_are_policed();
        nodes.retain(|id| all || self.own_node == Some(*id));
        nodes.sort_unstable();
        nodes
    }

    /// Brings the entries of endpoints up to date, and who goes by which name.
    pub(super) fn settle_entries(&mut self) {
        // Whoever goes by a name alone has it if the program knows of them.
        let mut alone: Vec<(u32, Arc<Endpoint>)> = Vec::new();
        for id in take(&mut self.dirty.entries) {
            let placed = self.places.endpoint(id).cloned();
            let entry = match &placed {
                Some(placed) => self.entry(id, placed),
                None => self.host_entry(id),
            };
            let inner = self.program.edit();
            if let Some(Placed { endpoint, alone: is_alone, .. }) = placed {
                let before = inner.endpoints.get(id).map(|it| (&it.namespace, &it.name));
                let now = entry.as_ref().map(|it| (&it.namespace, &it.name));
                if !is_alone || endpoint.host_network {
                    let name = (endpoint.namespace.clone(), endpoint.name.clone());
                    self.dirty.names.push(name);
                } else if before != now {
                    alone.push((id, endpoint));
                }
            }
            if let Some(entry) = &entry {
                for address in &entry.addresses {
                    let known = inner.addresses.known(*address);
                    let complete = known.map(|it| it.of(EndpointId(id), entry.profile));
                    if known != complete {
                        inner.addresses.set_known(*address, complete);
                    }
                }
            }
            let endpoints = &mut inner.endpoints;
            match entry {
                Some(entry) => {
                    if endpoints.get(id).is_none_or(|it| **it != entry) {
                        endpoints.set(id, Arc::new(entry));
                    }
                }
                None => endpoints.clear(id),
            }
        }
        let inner = self.program.edit();
        for (id, endpoint) in alone {
            let end = inner.endpoints.get(id).map(|_| EndpointId(id));
            inner.names.set(&endpoint.namespace, &endpoint.name, end, &inner.endpoints);
        }
        for name in take(&mut self.dirty.names) {
            let end = self.named_end(&name);
            self.program.edit().set_named(&name, end);
        }
        self.settle_nodes();
    }

    fn entry(&mut self, id: u32, placed: &Placed) -> Option<EndpointEntry> {
        let endpoint = &placed.endpoint;
        if endpoint.host_network {
            return None;
        }
        let state = self.workloads.peek(placed.workload)?;
        let identity = state.named.unwrap_or(Addresses::NOTHING);
        let (profile, own) = match placed.in_scope {
            true => (state.profile, state.own),
            false => (None, None),
        };
        let owned = endpoint.addresses.iter().copied();
        let mut addresses: SmallVec<[IpAddr; 2]> = SmallVec::new();
        for address in owned.filter(|it| self.places.owner(*it) == Some(id)) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let known = &self.program.edit().addresses;
        let is_located = addresses.iter().any(|address| known.known(*address).is_some());
        let needed = placed.in_scope || identity != Addresses::NOTHING || is_located;
        let node_counts = |node: &NodeId| self.own_node.is_none_or(|own| own == *node);
        needed.then(|| EndpointEntry {
            namespace: endpoint.namespace.clone(),
            name: endpoint.name.clone(),
            addresses,
            node: placed.node.filter(node_counts),
            profile,
            own,
            identity,
            host: false,
        })
    }

    fn host_entry(&mut self, id: u32) -> Option<EndpointEntry> {
        let (profile, own) = self.hosts.profile_of(id);
        let host = self.hosts.subjects.get(&id)?;
        Some(EndpointEntry {
            namespace: "".into(),
            name: host.name.clone(),
            addresses: host.addresses.clone(),
            node: None,
            profile,
            own,
            identity: Addresses::NOTHING,
            host: true,
        })
    }

    /// Who is meant by a name: the ordinary endpoint of the lowest uid, or else the node of a host-network one.
    fn named_end(&self, name: &(Name, Name)) -> Option<NamedEnd> {
        let ids = self.places.named(name);
        let placed = |id: &u32| self.places.endpoint(*id);
        let is_host = |id: &u32| placed(id).is_some_and(|it| it.endpoint.host_network);
        if let Some(id) = ids.iter().find(|id| !is_host(id)) {
            let id = EndpointId(*id);
            return self.program.entry(id).map(|_| NamedEnd::Ordinary(id));
        }
        let host = ids.first().and_then(placed)?;
        let node = host.endpoint.node.as_ref().and_then(|node| self.places.node_named(node))?;
        node.addresses.first().copied().map(NamedEnd::Host)
    }
}
