//! The one thing that changes: the objects as they are now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{
    DomainName, Endpoint, Labels, Name, Namespace, Node, Objects, Options, Policy, PolicyKey,
};

/// The objects of a cluster as they are now, to be compiled into a [`Program`](crate::program::Program).
///
/// `upsert_*` and `remove_*` are idempotent and may come in any order: a policy before its namespace, an endpoint
/// before its node. The last value of an object wins.
///
/// Everything is kept in order, so that what belongs to a namespace is found together: a first compilation goes
/// through memory as it lies.
///
/// ```
/// use netpol_core::cluster::Cluster;
/// use netpol_core::compile::compile;
/// use netpol_core::model::{Endpoint, Flow, Labels, Namespace, Traffic};
/// use netpol_core::program::Scope;
///
/// let mut cluster = Cluster::default();
/// cluster.upsert_namespace(Namespace::new("shop", Labels::default()));
/// let mut web = Endpoint::new("shop", "web");
/// web.addresses.push("10.0.0.1".parse()?);
/// cluster.upsert_endpoint(web);
/// let program = compile(&cluster, Scope::Cluster);
/// let flow = Flow::new("192.0.2.1".parse()?, "10.0.0.1".parse()?, Traffic::tcp(80));
/// assert!(program.decide(&flow).is_allowed());
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub(crate) options: Options,
    pub(crate) namespaces: BTreeMap<Name, Labels>,
    pub(crate) endpoints: BTreeMap<EndpointKey, Arc<Endpoint>>,
    pub(crate) nodes: BTreeMap<Name, Arc<Node>>,
    pub(crate) policies: BTreeMap<PolicyKey, Arc<Policy>>,
    /// What domain names stand for, each with the time at which that expires.
    pub(crate) domains: BTreeMap<(Name, IpAddr), Option<u64>>,
    changes: Changes,
}

/// Which objects have changed: what a [`Compiler`](crate::compile::Compiler) has to look at again.
///
/// It names objects and does not say what became of them, so that noting one twice, or one that has not changed, does
/// no harm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub(crate) namespaces: BTreeSet<Name>,
    pub(crate) endpoints: BTreeSet<EndpointKey>,
    pub(crate) nodes: BTreeSet<Name>,
    pub(crate) policies: BTreeSet<PolicyKey>,
    pub(crate) domains: BTreeSet<(Name, IpAddr)>,
}

impl Changes {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Namespace, name and uid: a pod and the one that takes its name after it are two endpoints.
pub(crate) type EndpointKey = (Name, Name, Name);

impl Cluster {
    /// An empty cluster in which the APIs' open points are read as `options` say.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// A cluster of these objects.
    pub fn from_objects(options: Options, objects: Objects) -> Self {
        let mut cluster = Self::new(options);
        objects.namespaces.into_iter().for_each(|it| cluster.upsert_namespace(it));
        objects.endpoints.into_iter().for_each(|it| cluster.upsert_endpoint(it));
        objects.nodes.into_iter().for_each(|it| cluster.upsert_node(it));
        objects.policies.into_iter().for_each(|it| cluster.upsert_policy(it));
        for domain in objects.domains {
            cluster.observe_domain(&domain, None);
        }
        cluster
    }

    /// What has changed since this was last asked, or since the beginning.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Every object there is: the changes that lead from nothing to here.
    pub fn all_as_changes(&self) -> Changes {
        Changes {
            namespaces: self.namespaces.keys().cloned().collect(),
            endpoints: self.endpoints.keys().cloned().collect(),
            nodes: self.nodes.keys().cloned().collect(),
            policies: self.policies.keys().cloned().collect(),
            domains: self.domains.keys().cloned().collect(),
        }
    }

    /// The readings of the APIs' open points.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Adds a namespace or replaces its labels.
    pub fn upsert_namespace(&mut self, namespace: Namespace) {
        self.changes.namespaces.insert(namespace.name.clone());
        self.namespaces.insert(namespace.name, namespace.labels);
    }

    /// Removes a namespace; what lives in it stays until it is removed itself.
    pub fn remove_namespace(&mut self, name: &str) {
        if let Some((name, _)) = self.namespaces.remove_entry(name) {
            self.changes.namespaces.insert(name);
        }
    }

    /// Adds an endpoint or replaces the one of the same namespace, name and uid.
    pub fn upsert_endpoint(&mut self, endpoint: Endpoint) {
        let key = (endpoint.namespace.clone(), endpoint.name.clone(), endpoint.uid.clone());
        self.changes.endpoints.insert(key.clone());
        self.endpoints.insert(key, Arc::new(endpoint));
    }

    /// Removes the endpoint of this namespace, name and uid; another one of the same name stays.
    pub fn remove_endpoint(&mut self, namespace: &str, name: &str, uid: &str) {
        let key = (namespace.into(), name.into(), uid.into());
        if self.endpoints.remove(&key).is_some() {
            self.changes.endpoints.insert(key);
        }
    }

    /// Adds a node or replaces the one of the same name.
    pub fn upsert_node(&mut self, node: Node) {
        self.changes.nodes.insert(node.name.clone());
        self.nodes.insert(node.name.clone(), Arc::new(node));
    }

    /// Removes a node.
    pub fn remove_node(&mut self, name: &str) {
        if let Some((name, _)) = self.nodes.remove_entry(name) {
            self.changes.nodes.insert(name);
        }
    }

    /// Adds a policy or replaces the one of the same key.
    pub fn upsert_policy(&mut self, policy: Policy) {
        self.changes.policies.insert(policy.key.clone());
        self.policies.insert(policy.key.clone(), Arc::new(policy));
    }

    /// Removes a policy.
    pub fn remove_policy(&mut self, key: &PolicyKey) {
        if self.policies.remove(key).is_some() {
            self.changes.policies.insert(key.clone());
        }
    }

    /// Notes that a domain name stands for an address, until `expires` if that is given.
    ///
    /// Times are seconds on a clock of the caller's choice, the one of [`expire_domains`](Self::expire_domains). Of
    /// several observations the one that lasts longest counts.
    pub fn observe_domain(&mut self, domain: &DomainName, expires: Option<u64>) {
        let key = (Name::from(domain.name()), domain.address);
        self.changes.domains.insert(key.clone());
        let entry = self.domains.entry(key).or_insert(expires);
        *entry = match (*entry, expires) {
            (Some(a), Some(b)) => Some(a.max(b)),
            _ => None,
        };
    }

    /// Forgets the observations that expire at `now` or before.
    pub fn expire_domains(&mut self, now: u64) {
        let changes = &mut self.changes.domains;
        self.domains.retain(|key, expires| {
            let lasts = expires.is_none_or(|at| at > now);
            if !lasts {
                changes.insert(key.clone());
            }
            lasts
        });
    }

    /// The policies in the order of their keys.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values().map(|policy| &**policy)
    }

    /// The endpoints in the order of namespace, name and uid.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.values().map(|endpoint| &**endpoint)
    }

    /// The nodes in the order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(|node| &**node)
    }

    /// The labels of a namespace. One that is not listed has its name label only (SEL-9).
    pub fn namespace_labels(&self, name: &Name) -> Labels {
        match self.namespaces.get(name) {
            Some(labels) => labels.clone(),
            None => Namespace::new(name, Labels::default()).labels,
        }
    }
}
