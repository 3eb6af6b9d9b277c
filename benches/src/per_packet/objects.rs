//! The objects as the API server has them, in stores like those of client-go's informers.

use ahash::{HashMap, HashMapExt, HashSet};
use netpol_core::model::{
    DeclaredPort, Direction, Endpoint, Labels, Name, NamespaceScope, Objects, Peer, Peers, Policy,
    PortMatch, Ports, Subject,
};

use super::selector::LabelSelector;

/// Objects by their keys, and the keys by one property: an `Indexer` of `k8s.io/client-go/tools/cache`.
#[derive(Debug)]
pub(super) struct Store<T> {
    items: HashMap<String, T>,
    index: HashMap<String, HashSet<String>>,
}

/// What a packet's evaluation needs of a pod.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) namespace: Name,
    pub(super) name: Name,
    pub(super) labels: Labels,
    pub(super) ports: Vec<DeclaredPort>,
}

/// A NetworkPolicy: selectors and CIDRs are as they were written.
#[derive(Debug)]
pub(super) struct NetworkPolicy {
    pub(super) namespace: Name,
    pub(super) pod_selector: LabelSelector,
    pub(super) policy_types: Vec<Direction>,
    pub(super) ingress: Vec<Rule>,
    pub(super) egress: Vec<Rule>,
}

#[derive(Debug)]
pub(super) struct Rule {
    /// Empty for all.
    pub(super) ports: Vec<PortMatch>,
    /// Empty for everyone.
    pub(super) peers: Vec<NetworkPolicyPeer>,
}

#[derive(Debug)]
pub(super) enum NetworkPolicyPeer {
    IpBlock { cidr: String, except: Vec<String> },
    Selectors { pods: Option<LabelSelector>, namespaces: Option<LabelSelector> },
}

impl<T> Store<T> {
    fn new() -> Self {
        Self { items: HashMap::new(), index: HashMap::new() }
    }

    fn add(&mut self, key: String, item: T, indexed_by: impl IntoIterator<Item = String>) {
        for value in indexed_by {
            self.index.entry(value).or_default().insert(key.clone());
        }
        self.items.insert(key, item);
    }

    pub(super) fn get(&self, key: &str) -> Option<&T> {
        self.items.get(key)
    }

    /// `ByIndex`: a list of the objects, each looked up by its key.
    pub(super) fn by_index(&self, value: &str) -> Vec<&T> {
        let keys = self.index.get(value);
        let mut list = Vec::with_capacity(keys.map_or(0, HashSet::len));
        list.extend(keys.into_iter().flatten().filter_map(|key| self.items.get(key)));
        list
    }
}

/// The key of a namespaced object.
pub(super) fn key(namespace: &str, name: &str) -> String {
    [namespace, name].join("/")
}

/// Pods by address.
pub(super) fn pods(objects: &Objects) -> Store<Pod> {
    let mut store = Store::new();
    for endpoint in objects.endpoints.iter().filter(|it| it.is_ordinary()) {
        let Endpoint { namespace, name, labels, ports, addresses, .. } = endpoint.clone();
        let addresses = addresses.iter().map(ToString::to_string);
        store.add(key(&namespace, &name), Pod { namespace, name, labels, ports }, addresses);
    }
    store
}

/// NetworkPolicies by namespace.
pub(super) fn policies(objects: &Objects) -> Store<NetworkPolicy> {
    let mut store = Store::new();
    for policy in &objects.policies {
        let of_namespace = policy.key.namespace.to_string();
        let key = key(&policy.key.namespace, &policy.key.name);
        if let Some(policy) = NetworkPolicy::new(policy) {
            store.add(key, policy, [of_namespace]);
        }
    }
    store
}

impl NetworkPolicy {
    fn new(policy: &Policy) -> Option<Self> {
        let Subject::Pods(subject) = &policy.subject else { return None };
        let rules = |direction| {
            let rules = policy.rules(direction).into_iter().flatten();
            rules.filter_map(Rule::new).collect()
        };
        let directions = [Direction::Ingress, Direction::Egress].into_iter();
        Some(Self {
            namespace: policy.key.namespace.clone(),
            pod_selector: LabelSelector::new(&subject.pods),
            policy_types: directions.filter(|it| policy.rules(*it).is_some()).collect(),
            ingress: rules(Direction::Ingress),
            egress: rules(Direction::Egress),
        })
    }
}

impl Rule {
    /// `None` for what matches nothing, which cannot be written: no entry stands for every one.
    fn new(rule: &netpol_core::model::Rule) -> Option<Self> {
        let ports = match &rule.ports {
            Ports::All => Vec::new(),
            Ports::AnyOf(ports) => Some(ports.clone()).filter(|it| !it.is_empty())?,
        };
        let peers = match &rule.peers {
            Peers::Everyone => Vec::new(),
            Peers::AnyOf(peers) => {
                let peers: Vec<_> = peers.iter().filter_map(NetworkPolicyPeer::new).collect();
                Some(peers).filter(|it| !it.is_empty())?
            }
        };
        Some(Self { ports, peers })
    }
}

impl NetworkPolicyPeer {
    fn new(peer: &Peer) -> Option<Self> {
        match peer {
            Peer::Pods(selector) => {
                let namespaces = match &selector.namespaces {
                    NamespaceScope::Named(_) => None,
                    NamespaceScope::Matching(wanted) => Some(LabelSelector::new(wanted)),
                };
                let pods = LabelSelector::new(&selector.pods);
                let pods = Some(pods).filter(|it| namespaces.is_none() || !it.is_empty());
                Some(Self::Selectors { pods, namespaces })
            }
            Peer::Block(block) => Some(Self::IpBlock {
                cidr: block.cidr().to_string(),
                except: block.except().iter().map(ToString::to_string).collect(),
            }),
            Peer::Nodes(_) | Peer::Domain(_) | Peer::Unknown(_) => None,
        }
    }
}
