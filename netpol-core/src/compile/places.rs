use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use smallvec::SmallVec;

use crate::cluster::EndpointKey;
use crate::hash::HashMap;
use crate::model::{DomainPattern, Endpoint, Name, Node, Selector};
use crate::program::{IdentityId, NodeId};

use super::interner::Interner;
use super::workload::WorkloadId;

/// Who is where: endpoints, nodes and domain names by address and by name.
#[derive(Debug, Default)]
pub(super) struct Places {
    endpoints: Vec<Option<Placed>>,
    vacant: Vec<u32>,
    addresses: HashMap<IpAddr, At>,
    /// The addresses that have an identity of their own.
    located: BTreeSet<IpAddr>,
    by_name: HashMap<(Name, Name), SmallVec<[u32; 1]>>,
    pub(super) node_names: Interner<Name>,
    nodes: HashMap<NodeId, Arc<Node>>,
    by_node_address: HashMap<IpAddr, SmallVec<[NodeId; 1]>>,
    /// The host-network endpoints of a node.
    hosts: HashMap<NodeId, BTreeSet<u32>>,
    domains: BTreeMap<Name, BTreeSet<IpAddr>>,
    domains_at: HashMap<IpAddr, BTreeSet<Name>>,
}

/// What there is at an address.
#[derive(Debug, Default)]
struct At {
    /// The ordinary endpoints that say it is theirs.
    claimants: SmallVec<[u32; 1]>,
    /// What it was found to mean, if it means something of its own.
    identity: Option<IdentityId>,
}

/// An endpoint that counts (M2).
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) workload: WorkloadId,
    pub(super) node: Option<NodeId>,
    pub(super) in_scope: bool,
    /// No other goes by its name.
    pub(super) alone: bool,
}

impl Places {
    /// Makes room for as many more endpoints at once.
    pub(super) fn reserve_room(&mut self, count: usize) {
        self.endpoints.reserve(count);
        self.addresses.reserve(count);
        self.by_name.reserve(count);
    }

    /// The number of the endpoint of this namespace, name and uid.
    pub(super) fn id(&self, (namespace, name, uid): &EndpointKey) -> Option<u32> {
        let ids = self.by_name.get(&(namespace.clone(), name.clone()))?;
        let is_it = |id: &u32| self.endpoint(*id).is_some_and(|it| it.endpoint.uid == *uid);
        ids.iter().copied().find(is_it)
    }

    pub(super) fn endpoint(&self, id: u32) -> Option<&Placed> {
        self.endpoints.get(id as usize)?.as_ref()
    }

    /// A number for something that has an entry in the program.
    pub(super) fn reserve(&mut self) -> u32 {
        self.vacant.pop().unwrap_or_else(|| {
            self.endpoints.push(None);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "memory ends before 2^32 endpoints"
            )]
            let last = (self.endpoints.len() - 1) as u32;
            last
        })
    }

    pub(super) fn vacate(&mut self, id: u32) {
        self.vacant.push(id);
    }

    pub(super) fn node_id(&mut self, name: &Name) -> NodeId {
        NodeId(self.node_names.acquire(name))
    }

    /// Puts an endpoint at the number reserved for it.
    pub(super) fn place(&mut self, id: u32, mut placed: Placed) {
        let endpoint = &placed.endpoint;
        let name = (endpoint.namespace.clone(), endpoint.name.clone());
        let alike = self.by_name.entry(name).or_default();
        placed.alone = alike.is_empty();
        for other in alike.iter() {
            if let Some(Some(other)) = self.endpoints.get_mut(*other as usize) {
                other.alone = false;
            }
        }
        alike.push(id);
        if endpoint.host_network {
            if let Some(node) = placed.node {
                self.hosts.entry(node).or_default().insert(id);
            }
        } else {
            for address in &endpoint.addresses {
                let claimants = &mut self.addresses.entry(*address).or_default().claimants;
                if !claimants.contains(&id) {
                    claimants.push(id);
                }
            }
        }
        if let Some(slot) = self.endpoints.get_mut(id as usize) {
            *slot = Some(placed);
        }
    }

    /// Takes an endpoint away; its number stays reserved.
    pub(super) fn displace(&mut self, id: u32) -> Option<Placed> {
        let placed = self.endpoints.get_mut(id as usize)?.take()?;
        let endpoint = &placed.endpoint;
        let name = (endpoint.namespace.clone(), endpoint.name.clone());
        if let Some(ids) = self.by_name.get_mut(&name) {
            ids.retain(|it| *it != id);
            match ids.as_slice() {
                [] => drop(self.by_name.remove(&name)),
                [only] => {
                    if let Some(Some(only)) = self.endpoints.get_mut(*only as usize) {
                        only.alone = true;
                    }
                }
                _ => {}
            }
        }
        if let Some(node) = placed.node {
            if let Some(hosts) = self.hosts.get_mut(&node) {
                hosts.remove(&id);
                if hosts.is_empty() {
                    self.hosts.remove(&node);
                }
            }
            self.node_names.release(node.0);
        }
        for address in &endpoint.addresses {
            if let Some(at) = self.addresses.get_mut(address) {
                at.claimants.retain(|it| *it != id);
                if at.claimants.is_empty() && at.identity.is_none() {
                    self.addresses.remove(address);
                }
            }
        }
        Some(placed)
    }

    /// The ordinary endpoint that has an address: of several that claim it the first by key (M3).
    pub(super) fn owner(&self, address: IpAddr) -> Option<u32> {
        self.first_of(self.claimants(address))
    }

    /// The endpoint that has an address which these claim.
    pub(super) fn first_of(&self, claimants: &[u32]) -> Option<u32> {
        match claimants {
            [] => None,
            [only] => Some(*only),
            several => {
                let key = |id: &u32| self.endpoint(*id).map(|it| key_of(&it.endpoint));
                several.iter().copied().min_by_key(key)
            }
        }
    }

    /// The ordinary endpoints that claim an address.
    pub(super) fn claimants(&self, address: IpAddr) -> &[u32] {
        self.addresses.get(&address).map_or(&[], |at| &at.claimants)
    }

    /// Notes what an address was found to mean; tells what it meant before.
    pub(super) fn locate(
        &mut self,
        address: IpAddr,
        identity: Option<IdentityId>,
    ) -> Option<IdentityId> {
        let Some(identity) = identity else {
            let at = self.addresses.get_mut(&address)?;
            let before = at.identity.take()?;
            if at.claimants.is_empty() {
                self.addresses.remove(&address);
            }
            self.located.remove(&address);
            return Some(before);
        };
        let before = self.addresses.entry(address).or_default().identity.replace(identity);
        if before.is_none() {
            self.located.insert(address);
        }
        before
    }

    /// The addresses of a block that mean something of their own.
    pub(super) fn located_in(&self, net: IpNet) -> impl Iterator<Item = IpAddr> {
        self.located.range(net.network()..=net.broadcast()).copied()
    }

    /// All that goes by a name, in the order of uids.
    pub(super) fn named(&self, name: &(Name, Name)) -> SmallVec<[u32; 1]> {
        let mut ids = self.by_name.get(name).cloned().unwrap_or_default();
        if ids.len() > 1 {
            ids.sort_by_key(|id| self.endpoint(*id).map(|it| it.endpoint.uid.clone()));
        }
        ids
    }

    /// Adds, replaces or removes a node. Returns the addresses that it had or has.
    pub(super) fn set_node(&mut self, name: &Name, node: Option<Arc<Node>>) -> Vec<IpAddr> {
        let id = NodeId(self.node_names.acquire(name));
        let mut touched = Vec::new();
        if let Some(old) = self.nodes.remove(&id) {
            self.node_names.release(id.0);
            for address in &old.addresses {
                if let Some(at) = self.by_node_address.get_mut(address) {
                    at.retain(|it| *it != id);
                    if at.is_empty() {
                        self.by_node_address.remove(address);
                    }
                }
            }
            touched.extend_from_slice(&old.addresses);
        }
        if let Some(node) = node {
            self.node_names.retain(id.0);
            for address in &node.addresses {
                let at = self.by_node_address.entry(*address).or_default();
                if !at.contains(&id) {
                    at.push(id);
                }
            }
            touched.extend_from_slice(&node.addresses);
            self.nodes.insert(id, node);
        }
        self.node_names.release(id.0);
        touched
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    pub(super) fn node_named(&self, name: &Name) -> Option<&Arc<Node>> {
        self.nodes.get(&NodeId(self.node_names.find(name)?))
    }

    /// The nodes that have an address.
    pub(super) fn nodes_at(&self, address: IpAddr) -> &[NodeId] {
        self.by_node_address.get(&address).map_or(&[], |nodes| nodes)
    }

    /// The addresses of all nodes, with the nodes that have them.
    pub(super) fn node_addresses(&self) -> impl Iterator<Item = (IpAddr, &[NodeId])> {
        self.by_node_address.iter().map(|(address, nodes)| (*address, nodes.as_slice()))
    }

    /// The addresses of the nodes that a selector matches.
    pub(super) fn addresses_of_nodes(&self, selector: &Selector) -> Vec<IpAddr> {
        let matching = self.nodes.values().filter(|node| selector.matches(&node.labels));
        matching.flat_map(|node| &node.addresses).copied().collect()
    }

    /// The host-network endpoints of these nodes.
    pub(super) fn hosts_of(&self, nodes: &[NodeId]) -> BTreeSet<u32> {
        nodes.iter().filter_map(|node| self.hosts.get(node)).flatten().copied().collect()
    }

    /// Adds or takes away an observation.
    pub(super) fn set_domain(&mut self, name: &Name, address: IpAddr, known: bool) {
        if known {
            self.domains.entry(name.clone()).or_default().insert(address);
            self.domains_at.entry(address).or_default().insert(name.clone());
            return;
        }
        if let Some(addresses) = self.domains.get_mut(name) {
            addresses.remove(&address);
            if addresses.is_empty() {
                self.domains.remove(name);
            }
        }
        if let Some(names) = self.domains_at.get_mut(&address) {
            names.remove(name);
            if names.is_empty() {
                self.domains_at.remove(&address);
            }
        }
    }

    /// The names that were seen to stand for an address.
    pub(super) fn domains_at(&self, address: IpAddr) -> impl Iterator<Item = &Name> {
        self.domains_at.get(&address).into_iter().flatten()
    }

    /// The addresses of the names that a pattern matches.
    pub(super) fn addresses_of_domains(&self, pattern: &DomainPattern) -> Vec<IpAddr> {
        let matching = self.domains.iter().filter(|(name, _)| pattern.matches(name));
        matching.flat_map(|(_, addresses)| addresses).copied().collect()
    }

    /// Whether any name was seen to stand for an address.
    pub(super) fn has_domains(&self, address: IpAddr) -> bool {
        self.domains_at.contains_key(&address)
    }
}

pub(super) fn key_of(endpoint: &Endpoint) -> EndpointKey {
    (endpoint.namespace.clone(), endpoint.name.clone(), endpoint.uid.clone())
}
