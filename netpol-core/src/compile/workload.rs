use std::net::IpAddr;

use ahash::{HashMap, HashMapExt};
use smallvec::SmallVec;

use crate::cluster::Cluster;
use crate::model::{
    DeclaredPort, DuplicatePortNames, Endpoint, HostNetworkPortNames, HostNetworkSubjects, Labels,
    Name, Phase,
};
use crate::program::{NodeId, Scope};

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

/// All that counts (M2), and who has which address.
#[derive(Debug)]
pub(super) struct Workloads<'a> {
    pub(super) list: Vec<Workload>,
    /// The ordinary endpoints in the order of their keys.
    pub(super) ordinary: Vec<(&'a Endpoint, WorkloadId)>,
    /// The ordinary endpoint that has an address: the first one that claims it (M3).
    pub(super) owners: HashMap<IpAddr, usize>,
    /// The nodes that have an address.
    pub(super) nodes: HashMap<IpAddr, SmallVec<[NodeId; 1]>>,
    /// The host-network workloads of each node.
    pub(super) hosts: HashMap<NodeId, Vec<WorkloadId>>,
}

/// Something that may be policed: an ordinary endpoint, or on request the host-network endpoints behind a node's
/// addresses.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) namespace: Name,
    pub(super) name: Name,
    pub(super) addresses: SmallVec<[IpAddr; 2]>,
    pub(super) node: Option<NodeId>,
    pub(super) workloads: SmallVec<[WorkloadId; 1]>,
    pub(super) is_host: bool,
    pub(super) in_scope: bool,
}

impl<'a> Workloads<'a> {
    pub(super) fn collect(cluster: &'a Cluster) -> Self {
        let mut interner = Interner { ids: HashMap::new(), list: Vec::new() };
        let mut this = Self {
            list: Vec::new(),
            ordinary: Vec::new(),
            owners: HashMap::new(),
            nodes: HashMap::new(),
            hosts: HashMap::new(),
        };
        let node_ids: HashMap<&Name, NodeId> =
            cluster.nodes.keys().zip((0..).map(NodeId)).collect();
        for (node, id) in cluster.nodes.values().zip((0..).map(NodeId)) {
            for address in &node.addresses {
                let at = this.nodes.entry(*address).or_default();
                if !at.contains(&id) {
                    at.push(id);
                }
            }
        }
        for endpoint in cluster.endpoints.values().filter(|it| it.phase == Phase::Live) {
            let workload = interner.intern(cluster, endpoint);
            if endpoint.is_ordinary() {
                for address in &endpoint.addresses {
                    this.owners.entry(*address).or_insert(this.ordinary.len());
                }
                this.ordinary.push((endpoint, workload));
            } else if let Some(id) = endpoint.node.as_ref().and_then(|node| node_ids.get(node)) {
                let hosts = this.hosts.entry(*id).or_default();
                if !hosts.contains(&workload) {
                    hosts.push(workload);
                }
            }
        }
        this.list = interner.list;
        this
    }

    pub(super) fn get(&self, id: WorkloadId) -> Option<&Workload> {
        self.list.get(id.0 as usize)
    }

    /// Whom to police: ordinary endpoints first, then what CH-HOST-SUBJECT adds.
    pub(super) fn subjects(&self, cluster: &Cluster, scope: &Scope) -> Vec<Subject> {
        let node_id = |name: &Name| {
            let at = cluster.nodes.keys().position(|node| node == name);
            at.and_then(|at| u32::try_from(at).ok()).map(NodeId)
        };
        let scope_node = match scope {
            Scope::Cluster => None,
            Scope::Node(name) => Some((name, node_id(name))),
        };
        let node_ids: HashMap<&Name, NodeId> =
            cluster.nodes.keys().zip((0..).map(NodeId)).collect();
        let ordinary = self.ordinary.iter().enumerate().map(|(at, (endpoint, workload))| Subject {
            namespace: endpoint.namespace.clone(),
            name: endpoint.name.clone(),
            addresses: endpoint
                .addresses
                .iter()
                .copied()
                .filter(|it| self.owners.get(it) == Some(&at))
                .collect(),
            node: endpoint.node.as_ref().and_then(|node| node_ids.get(node)).copied(),
            workloads: SmallVec::from_slice(&[*workload]),
            is_host: false,
            in_scope: scope_node.is_none_or(|(name, _)| endpoint.node.as_ref() == Some(name)),
        });
        let mut subjects: Vec<Subject> = ordinary.collect();
        if cluster.options.host_network_subjects == HostNetworkSubjects::Policed {
            let in_scope = |nodes: &[NodeId]| match &scope_node {
                None => true,
                Some((_, id)) => id.is_some_and(|id| nodes.contains(&id)),
            };
            subjects.extend(self.host_subjects(cluster).into_iter().map(|(nodes, mut host)| {
                host.in_scope = in_scope(&nodes);
                host
            }));
        }
        subjects
    }

    /// One subject per set of nodes that share addresses, which is nearly always one node.
    fn host_subjects(&self, cluster: &Cluster) -> Vec<(SmallVec<[NodeId; 1]>, Subject)> {
        let names: Vec<&Name> = cluster.nodes.keys().collect();
        let mut by_nodes: std::collections::BTreeMap<_, SmallVec<[IpAddr; 2]>> = Default::default();
        for (address, nodes) in self.nodes.iter().filter(|(it, _)| !self.owners.contains_key(it)) {
            by_nodes.entry(nodes.clone()).or_default().push(*address);
        }
        let mut subjects = Vec::new();
        for (nodes, mut addresses) in by_nodes {
            addresses.sort_unstable();
            let workloads = self.hosts_of(&nodes);
            if workloads.is_empty() {
                continue;
            }
            let first = nodes.first().and_then(|id| names.get(id.0 as usize));
            let name = first.map_or_else(|| Name::from(""), |name| (*name).clone());
            let namespace = Name::from("");
            let subject = Subject {
                namespace,
                name,
                addresses,
                node: None,
                workloads,
                is_host: true,
                in_scope: true,
            };
            subjects.push((nodes, subject));
        }
        subjects
    }

    /// The host-network workloads of these nodes, each once.
    pub(super) fn hosts_of(&self, nodes: &[NodeId]) -> SmallVec<[WorkloadId; 1]> {
        let of_node = |id: &NodeId| self.hosts.get(id).into_iter().flatten().copied();
        let mut workloads: SmallVec<[WorkloadId; 1]> = nodes.iter().flat_map(of_node).collect();
        workloads.sort_unstable();
        workloads.dedup();
        workloads
    }

    /// What these workloads declare by name, to whoever asks for it from a rule that counts `hosts` (CH-NAME-HOST).
    pub(super) fn declared(&self, ids: &[WorkloadId], hosts: bool) -> Vec<DeclaredPort> {
        let listed = ids.iter().filter_map(|id| self.get(*id));
        let counted = listed.filter(|it| hosts || !it.host_network);
        let mut ports: Vec<DeclaredPort> = counted.flat_map(|it| it.ports.clone()).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

/// Whether rules of the NetworkPolicy tier resolve port names of host-network endpoints (CH-NAME-HOST).
pub(super) fn host_names_count(cluster: &Cluster) -> bool {
    cluster.options.host_network_port_names == HostNetworkPortNames::Resolved
}

struct Interner {
    ids: HashMap<Workload, WorkloadId>,
    list: Vec<Workload>,
}

impl Interner {
    fn intern(&mut self, cluster: &Cluster, endpoint: &Endpoint) -> WorkloadId {
        let workload = Workload {
            namespace: endpoint.namespace.clone(),
            labels: endpoint.labels.clone(),
            ports: declared_ports(endpoint, cluster.options.duplicate_port_names),
            host_network: endpoint.host_network,
        };
        if let Some(id) = self.ids.get(&workload) {
            return *id;
        }
        #[expect(clippy::cast_possible_truncation, reason = "memory ends before 2^32 workloads")]
        let id = WorkloadId(self.list.len() as u32);
        self.ids.insert(workload.clone(), id);
        self.list.push(workload);
        id
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
