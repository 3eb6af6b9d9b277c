//! Cluster -> program: where tiers, priorities, Pass, excepts and named ports are resolved, once.
//!
//! ```text
//! policies  --rank, lower--> entries over atoms and ports --+
//! endpoints --collect------> workloads --match subjects-----+--> profiles --> port maps --> stacks --+
//! addresses --collect------> atoms that hold --> identities -----------------------------------------+--> classes
//! ```
//!
//! - `workload`: what selectors see of an endpoint, each once, and who has which address;
//! - `matching`: finds the selectors that match an object without trying all of them;
//! - `lower`: a rule's peers become atoms, its ports intervals; what is not understood fails closed here;
//! - `ports`: the rules of a profile become elementary intervals, each with a stack of what it asks;
//! - `identity`: which atoms hold for an address, and the ranges that blocks cut the address space into;
//! - `classes`: a stack becomes the set of identities that it allows.

mod classes;
mod identity;
mod lower;
mod matching;
mod ports;
mod workload;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use ahash::{HashMap, HashMapExt};
use ipnet::IpNet;

use crate::cluster::Cluster;
use crate::model::{
    DeclaredPort, Direction, HostNetworkSubjects, Name, Phase, Policy, SelfTraffic,
    Subject as PolicySubject, Tie, Tier,
};
use crate::program::{
    Addresses, EndpointEntry, EndpointId, Inner, Known, NamedEnd, NodeId, Profile, ProfileId,
    Program, Scope,
};

use classes::Classes;
use identity::Identities;
use lower::{LoweredPolicy, Lowering};
use matching::{ByNamespace, SelectorIndex};
use ports::PortMaps;
use workload::{Subject, WorkloadId, Workloads, host_names_count};

pub(crate) use lower::atom_of;

/// Compiles what a cluster is now.
///
/// Never fails: everything that can be wrong with an object was found when it was read. The result depends on what
/// the objects say only, not on the order in which they came.
pub fn compile(cluster: &Cluster, scope: Scope) -> Program {
    let policies = rank(cluster);
    let workloads = Workloads::collect(cluster);
    let subjects = workloads.subjects(cluster, &scope);
    let mut profiles = Profiles::new(cluster, &workloads, &policies);
    let applied = profiles.apply(cluster, &workloads, &policies, &subjects);
    let Profiles { lowering, classes, list: profiles, .. } = profiles;

    let mut identities = Identities::new(cluster, &workloads, &lowering.atoms);
    let mut places = Places::new(cluster, &scope, &subjects);
    places.locate(&workloads, &mut identities);
    let endpoints = places.endpoints(&mut identities, &applied);
    let endpoint_ids = places.names(&workloads);
    identities.fill_ranges();
    let classes = classes.evaluate(&lowering.atoms, &identities);

    let Places { addresses, nodes, .. } = places;
    Program::new(Inner {
        options: cluster.options,
        scope,
        addresses,
        identities: identities.list,
        atoms: lowering.atoms,
        atom_ids: lowering.ids,
        endpoints,
        endpoint_ids,
        profiles,
        classes,
        nodes,
    })
}

/// The policies in the order in which they are asked (C-TIER-1, C-PRIO-1, C-PRIO-3).
fn rank(cluster: &Cluster) -> Vec<Arc<Policy>> {
    let mut policies: Vec<Arc<Policy>> = cluster.policies.values().cloned().collect();
    policies.sort_by(|a, b| {
        let by_name = a.key.name.cmp(&b.key.name);
        let by_name = match cluster.options.tie {
            Tie::NameAscending => by_name,
            Tie::NameDescending => by_name.reverse(),
        };
        let by_place = (a.tier, a.priority).cmp(&(b.tier, b.priority));
        by_place.then(by_name).then_with(|| a.key.cmp(&b.key))
    });
    policies
}

/// The profiles of a subject: for its traffic with others, and with itself where that is policed.
#[derive(Clone, Copy, Debug, Default)]
struct Applied {
    profile: Option<ProfileId>,
    own: Option<ProfileId>,
}

/// Profiles by what makes them: the policies and the declared ports that these ask for.
struct Profiles<'a> {
    lowering: Lowering<'a>,
    port_maps: PortMaps,
    classes: Classes,
    ids: HashMap<(Vec<u32>, Vec<DeclaredPort>), ProfileId>,
    list: Vec<Profile>,
}

impl<'a> Profiles<'a> {
    fn new(cluster: &Cluster, workloads: &Workloads<'_>, policies: &'a [Arc<Policy>]) -> Self {
        Self {
            lowering: Lowering::new(cluster, workloads, policies),
            port_maps: PortMaps::default(),
            classes: Classes::default(),
            ids: HashMap::new(),
            list: Vec::new(),
        }
    }

    /// Finds out which policies apply to each subject in scope.
    fn apply(
        &mut self,
        cluster: &Cluster,
        workloads: &Workloads<'_>,
        policies: &[Arc<Policy>],
        subjects: &[Subject],
    ) -> Vec<Applied> {
        let selectors = policies.iter().zip(0..).map(|(policy, rank)| match &policy.subject {
            PolicySubject::Pods(selector) | PolicySubject::AtMost(selector) => (selector, rank),
        });
        let index = SelectorIndex::new(selectors);
        let mut index = ByNamespace::new(&index);
        let is_network = |rank: &u32| {
            policies.get(*rank as usize).is_some_and(|it| it.tier == Tier::NetworkPolicy)
        };
        let mut selecting: HashMap<WorkloadId, Vec<u32>> = HashMap::new();
        let mut applied = Vec::with_capacity(subjects.len());
        for subject in subjects {
            if !subject.in_scope {
                applied.push(Applied::default());
                continue;
            }
            let mut ranks = Vec::new();
            for id in &subject.workloads {
                let found = selecting.entry(*id).or_insert_with(|| {
                    let Some(workload) = workloads.get(*id) else { return Vec::new() };
                    let labels = || cluster.namespace_labels(&workload.namespace);
                    index.matches(&workload.namespace, labels, &workload.labels)
                });
                ranks.extend_from_slice(found);
            }
            ranks.sort_unstable();
            ranks.dedup();
            if subject.is_host {
                // C-SUBJ-1
                ranks.retain(is_network);
            }
            let names_count = !subject.is_host || host_names_count(cluster);
            let declared = match names_count {
                true => workloads.declared(&subject.workloads, true),
                false => Vec::new(),
            };
            let own = (cluster.options.self_traffic == SelfTraffic::Policed).then(|| {
                let ranks = ranks.iter().copied().filter(is_network).collect();
                self.intern(ranks, &declared)
            });
            let profile = Some(self.intern(ranks, &declared));
            applied.push(Applied { profile, own });
        }
        applied
    }

    fn intern(&mut self, ranks: Vec<u32>, declared: &[DeclaredPort]) -> ProfileId {
        let lowered: Vec<Rc<LoweredPolicy>> =
            ranks.iter().filter_map(|rank| self.lowering.policy(*rank)).collect();
        let is_asked = |port: &&DeclaredPort| {
            lowered.iter().any(|policy| policy.own_names.contains(&port.name))
        };
        let declared: Vec<DeclaredPort> = declared.iter().filter(is_asked).cloned().collect();
        let key = (ranks, declared);
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let (ranks, declared) = &key;
        let options = self.lowering.options;
        let mut side = |direction| {
            self.port_maps.side(&options, &lowered, declared, direction, &mut self.classes)
        };
        let [ingress, egress] = [Direction::Ingress, Direction::Egress].map(&mut side);
        let policies =
            ranks.iter().filter_map(|rank| self.lowering.source(*rank)).cloned().collect();
        #[expect(clippy::cast_possible_truncation, reason = "memory ends before 2^32 profiles")]
        let id = ProfileId(self.list.len() as u32);
        let declared = declared.clone();
        self.list.push(Profile { ingress, egress, policies, declared });
        self.ids.insert(key, id);
        id
    }
}

/// Where everything is: addresses and names of what the program has to know.
struct Places<'a> {
    cluster: &'a Cluster,
    scope: &'a Scope,
    subjects: &'a [Subject],
    addresses: Addresses,
    nodes: Vec<Name>,
    /// The numbers that the nodes of the cluster have in the program, for those in scope.
    node_ids: Vec<Option<NodeId>>,
    /// The entries of the subjects that the program has to know.
    entries: Vec<Option<EndpointId>>,
}

impl<'a> Places<'a> {
    fn new(cluster: &'a Cluster, scope: &'a Scope, subjects: &'a [Subject]) -> Self {
        // Of other nodes only the nodes that share an address with ours could matter, and only where nodes are policed.
        let hosts_policed = cluster.options.host_network_subjects == HostNetworkSubjects::Policed;
        let in_scope = |name: &&Name| match scope {
            Scope::Cluster => true,
            Scope::Node(own) => hosts_policed || *name == own,
        };
        let nodes = cluster.nodes.keys().filter(in_scope).cloned().collect();
        let mut next = (0..).map(NodeId);
        let node_ids = cluster
            .nodes
            .keys()
            .map(|name| in_scope(&name).then(|| next.next()).flatten())
            .collect();
        let entries = vec![None; subjects.len()];
        let addresses = Addresses::default();
        Self { cluster, scope, subjects, addresses, nodes, node_ids, entries }
    }

    /// Finds the identity of every address that means something of its own, and numbers the subjects that are needed.
    fn locate(&mut self, workloads: &Workloads<'_>, identities: &mut Identities) {
        for (net, id) in &identities.blocks {
            match net {
                IpNet::V4(net) => self.addresses.v4.insert(*net, *id),
                IpNet::V6(net) => self.addresses.v6.insert(*net, *id),
            };
        }
        let hosts = self.subjects.iter().enumerate().filter(|(_, it)| it.is_host);
        let hosts: HashMap<IpAddr, usize> = hosts
            .flat_map(|(at, it)| it.addresses.iter().map(move |address| (*address, at)))
            .collect();
        let domains = self.cluster.domains.keys().map(|(_, address)| *address);
        let owned = workloads.owners.keys().chain(workloads.nodes.keys()).copied();
        let all: BTreeSet<IpAddr> = owned.chain(domains).collect();
        let mut located = Vec::with_capacity(all.len());
        for address in all {
            let by_block = self.addresses.longest_prefix(address);
            let owner = workloads.owners.get(&address).copied();
            let nodes = workloads.nodes.get(&address).map_or(&[][..], |nodes| nodes);
            let behind =
                if owner.is_some() { Default::default() } else { workloads.hosts_of(nodes) };
            let workload = owner.and_then(|at| workloads.ordinary.get(at)).map(|(_, id)| *id);
            let identity = identities.at(address, by_block, workload, &behind, workloads);
            let subject = owner.or_else(|| hosts.get(&address).copied());
            let local = subject.and_then(|at| self.subjects.get(at)).is_some_and(|it| it.in_scope);
            let own_nodes =
                nodes.iter().filter_map(|id| self.node(*id)).collect::<smallvec::SmallVec<_>>();
            // Whatever is not policed here, and that no rule can tell from the addresses around it, is left out.
            if *self.scope != Scope::Cluster
                && !local
                && identity == by_block
                && own_nodes.is_empty()
            {
                continue;
            }
            if !own_nodes.is_empty() {
                self.addresses.nodes.insert(address, own_nodes);
            }
            if let Some(entry) = subject.and_then(|at| self.entries.get_mut(at)) {
                *entry = Some(EndpointId(0));
            }
            located.push((address, identity, subject));
            if let Some(identity) = identities.list.get_mut(identity.0 as usize) {
                identity.addresses.push(address);
            }
        }
        let mut next = (0..).map(EndpointId);
        for (subject, entry) in self.subjects.iter().zip(&mut self.entries) {
            let needed = entry.is_some()
                || subject.in_scope
                || subject.workloads.iter().any(|it| identities.by_name(*it) != Addresses::NOTHING);
            *entry = if needed { next.next() } else { None };
        }
        for (address, identity, subject) in located {
            let endpoint = subject.and_then(|at| self.entries.get(at).copied().flatten());
            self.addresses.known.insert(address, Known { identity, endpoint });
        }
    }

    /// The number that a node of the cluster has in the program, if it is in scope.
    fn node(&self, id: NodeId) -> Option<NodeId> {
        self.node_ids.get(id.0 as usize).copied().flatten()
    }

    fn endpoints(&self, identities: &mut Identities, applied: &[Applied]) -> Vec<EndpointEntry> {
        let known = self.subjects.iter().zip(&self.entries).zip(applied);
        let known = known.filter(|((_, entry), _)| entry.is_some());
        let entries = known.map(|((subject, _), applied)| {
            let workload = subject.workloads.first().filter(|_| !subject.is_host);
            EndpointEntry {
                namespace: subject.namespace.clone(),
                name: subject.name.clone(),
                addresses: subject.addresses.clone(),
                node: subject.node.and_then(|id| self.node(id)),
                profile: applied.profile,
                own: applied.own,
                identity: workload.map_or(Addresses::NOTHING, |id| identities.by_name(*id)),
                host: subject.is_host,
            }
        });
        entries.collect()
    }

    /// Who is meant by a name: the ordinary endpoint of the lowest uid, or else the node of a host-network one.
    fn names(&self, workloads: &Workloads<'_>) -> HashMap<(Name, Name), NamedEnd> {
        let mut names = HashMap::new();
        let mut seen = BTreeSet::new();
        for ((endpoint, _), entry) in workloads.ordinary.iter().zip(&self.entries) {
            let name = (endpoint.namespace.clone(), endpoint.name.clone());
            if let (true, Some(id)) = (seen.insert(name.clone()), entry) {
                names.insert(name, NamedEnd::Ordinary(*id));
            }
        }
        let live = self.cluster.endpoints.values().filter(|it| it.phase == Phase::Live);
        for endpoint in live.filter(|it| it.host_network) {
            let name = (endpoint.namespace.clone(), endpoint.name.clone());
            let node = endpoint.node.as_ref().and_then(|node| self.cluster.nodes.get(node));
            let address = node.and_then(|node| node.addresses.first());
            if let (true, Some(address)) = (seen.insert(name.clone()), address) {
                names.entry(name).or_insert(NamedEnd::Host(*address));
            }
        }
        names
    }
}
