//! A small cluster with the programs that are kept up with it, and what to put into it.

use std::net::IpAddr;
use std::ops::{Deref, DerefMut};

use netpol_core::compile::Compiler;
use netpol_core::model::{
    Action, Direction, Endpoint, Family, Flow, Labels, Namespace, NamespaceScope, Node, Options,
    Peer, Peers, PodSelector, Policy, PolicyKey, PolicyKind, Ports, Protocol, Requirement, Rule,
    Selector, Subject, Tier, Traffic,
};
use netpol_core::program::{EndpointEntry, Members};
use netpol_core::{Cluster, Program, Scope, compile};

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// `app=a`, or nothing for everything.
pub(crate) fn selector(text: &str) -> Selector {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    Selector::new(pairs.map(|(key, value)| Requirement::is_in(key, [value])))
}

pub(crate) fn labels(text: &str) -> Labels {
    text.split(',').filter_map(|pair| pair.split_once('=')).collect()
}

/// A pod `namespace/name` on the node `n`.
pub(crate) fn pod(path: &str, labels_: &str, at: &str) -> Endpoint {
    let (namespace, name) = path.split_once('/').expect("namespace/name");
    let mut pod = Endpoint::new(namespace, name);
    pod.labels = labels(labels_);
    pod.addresses = at.split_whitespace().map(address).collect();
    pod.node = Some("n".into());
    pod
}

pub(crate) fn own(namespace: &str, pods: &str) -> Peer {
    let namespaces = NamespaceScope::Named(namespace.into());
    Peer::Pods(PodSelector { namespaces, pods: selector(pods) })
}

pub(crate) fn of_namespaces(namespaces: &str) -> Peer {
    let namespaces = NamespaceScope::Matching(selector(namespaces));
    Peer::Pods(PodSelector { namespaces, pods: selector("") })
}

pub(crate) fn rule(action: Action, peers: Vec<Peer>) -> Rule {
    Rule { name: None, action, peers: Peers::AnyOf(peers), ports: Ports::All }
}

/// A NetworkPolicy that isolates pods for ingress, and lets these peers in.
pub(crate) fn isolate(path: &str, pods: &str, from: Vec<Peer>) -> Policy {
    let (namespace, name) = path.split_once('/').expect("namespace/name");
    let kind = PolicyKind::NetworkPolicy;
    let namespaces = NamespaceScope::Named(namespace.into());
    Policy {
        key: PolicyKey { kind, namespace: namespace.into(), name: name.into() },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(PodSelector { namespaces, pods: selector(pods) }),
        ingress: Some(vec![rule(Action::Accept, from)]),
        egress: None,
    }
}

/// An Admin policy that denies egress to this peer to the pods of these namespaces.
pub(crate) fn forbid(name: &str, namespaces: &str, to: Peer) -> Policy {
    let kind = PolicyKind::ClusterNetworkPolicy;
    let namespaces = NamespaceScope::Matching(selector(namespaces));
    Policy {
        key: PolicyKey { kind, namespace: "".into(), name: name.into() },
        tier: Tier::Admin,
        priority: 0,
        subject: Subject::Pods(PodSelector { namespaces, pods: selector("") }),
        ingress: None,
        egress: Some(vec![rule(Action::Deny, vec![to])]),
    }
}

/// A cluster, and the programs that are kept up with it: of all of it, and of the node `n`.
pub(crate) struct Live {
    pub(crate) cluster: Cluster,
    pub(crate) compilers: [Compiler; 2],
}

impl Deref for Live {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl DerefMut for Live {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }
}

/// The pods `x/a` at 10.0.0.1, `x/b` at 10.0.0.2 and `y/c` at 10.0.1.1.
pub(crate) fn cluster() -> Live {
    let scopes = [Scope::Cluster, Scope::Node("n".into())];
    let compilers = scopes.map(|scope| Compiler::new(Options::default(), scope));
    let mut cluster = Live { cluster: Cluster::default(), compilers };
    cluster.upsert_namespace(Namespace::new("x", labels("team=x")));
    cluster.upsert_namespace(Namespace::new("y", labels("team=y")));
    let node = Node { name: "n".into(), labels: labels("zone=a"), addresses: Vec::new() };
    cluster.upsert_node(Node { addresses: vec![address("192.168.0.1")], ..node });
    cluster.upsert_endpoint(pod("x/a", "app=a", "10.0.0.1"));
    cluster.upsert_endpoint(pod("x/b", "app=b", "10.0.0.2"));
    cluster.upsert_endpoint(pod("y/c", "app=c", "10.0.1.1"));
    cluster
}

/// Whether the cluster as it is now allows it. The programs that were kept up must agree on it with those that are
/// compiled from scratch, and the node with the cluster.
pub(crate) fn allows(live: &mut Live, from: &str, to: &str) -> bool {
    let flow = Flow::new(address(from), address(to), Traffic::tcp(80));
    let changes = live.cluster.take_changes();
    let verdicts = live.compilers.each_mut().map(|compiler| {
        let kept = compiler.update(&live.cluster, &changes);
        let fresh = compile(&live.cluster, kept.scope().clone());
        assert_eq!(kept.decide(&flow), fresh.decide(&flow), "{flow}");
        assert!(*kept == fresh, "{flow}:\n{}\nnot\n{}", kept.dump(), fresh.dump());
        assert_eq!(sizes(kept), sizes(&fresh), "something has been left behind");
        assert_eq!(members(kept), members(&fresh));
        kept.decide(&flow).is_allowed()
    });
    assert_eq!(verdicts[0], verdicts[1], "{flow}");
    verdicts[0]
}

pub(crate) fn sizes(program: &Program) -> [usize; 3] {
    [program.profiles().count(), program.classes().count(), program.identity_count()]
}

/// What backends are given: for every endpoint and direction, whom it is open to on each range of ports.
pub(crate) fn members(program: &Program) -> Vec<(String, String, Vec<IpAddr>, Vec<Members>)> {
    let whom = |endpoint: &EndpointEntry| {
        let profiles = [Some(endpoint.profile()), endpoint.own_profile()];
        let profiles = profiles.into_iter().flatten().map(|id| program.profile(id));
        let sides = profiles.flat_map(|it| Direction::ALL.map(|direction| it.side(direction)));
        let classes = sides.flatten().flat_map(|side| {
            let intervals = Protocol::ALL.into_iter().flat_map(|it| side.intervals(it));
            intervals.map(|(_, class)| *class).chain([side.other()])
        });
        let members =
            classes.flat_map(|class| Family::ALL.map(|family| program.members(class, family)));
        members.collect()
    };
    let entries = program.endpoints().map(|it| {
        let (namespace, name) = (it.namespace().to_owned(), it.name().to_owned());
        (namespace, name, it.addresses().to_vec(), whom(it))
    });
    let mut entries: Vec<_> = entries.collect();
    // Endpoints may have name and addresses in common.
    entries.sort_by_cached_key(|it| format!("{it:?}"));
    entries
}
