//! What happens in a cluster, one thing at a time.

use netpol_core::Cluster;
use netpol_core::model::{Endpoint, Name, Namespace, Node, Objects, Policy, PolicyKey, name};

use super::mixed::written_policy;
use super::parts::Nodes;
use crate::random::Random;

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A pod comes, or is seen to have changed.
    Pod(Endpoint),
    /// A pod of this namespace, name and uid goes.
    PodGone(Name, Name, Name),
    /// A namespace changes.
    Namespace(Namespace),
    /// A node comes, or changes.
    Node(Node),
    /// A node of this name goes.
    NodeGone(Name),
    /// A policy comes, or changes.
    Policy(Policy),
    /// A policy goes.
    PolicyGone(PolicyKey),
}

/// An event and the one that takes it back, so that a cluster is as large after many as before; each with a name.
#[derive(Clone, Debug)]
pub struct Change {
    /// What kind of event it is.
    pub there: (&'static str, Event),
    /// What kind of event takes it back.
    pub back: (&'static str, Event),
}

/// What most often happens in a [`mixed`](super::mixed) cluster: of every kind `count` changes, in no order.
///
/// Kinds that begin with `pod` happen to pods of the whole cluster, each as likely as any other; those that begin with
/// `local-pod` on the first node only.
pub fn changes(objects: &Objects, count: usize, random: &mut Random) -> Vec<Change> {
    let ordinary: Vec<&Endpoint> = objects.endpoints.iter().filter(|it| it.is_ordinary()).collect();
    let mut places = Nodes::beside(objects.nodes.len());
    let mut changes = Vec::with_capacity(8 * count);
    for at in 0..count {
        let mut pod = || random.pick(&ordinary).clone();
        let [on_node, replicated, relabelled, renamed, readdressed] = [(); 5].map(|()| pod());
        // One more replica, on the first node and on the node of any pod.
        let other = pod().node;
        let other = objects.nodes.iter().position(|it| other.as_ref() == Some(&it.name));
        let other = other.unwrap_or_default();
        changes.push(replica(
            ["local-pod-added", "local-pod-removed"],
            at,
            on_node,
            places.place(0),
        ));
        changes.push(replica(["pod-added", "pod-removed"], at, replicated, places.place(other)));
        changes.push(relabelled_pod("pod-relabelled", &relabelled, "version", "v4"));
        changes.push(relabelled_pod("pod-app-changed", &renamed, "app", "web"));
        let addresses = [places.place(other).0].into_iter().collect();
        changes.push(Change::both(
            "pod-readdressed",
            Event::Pod(Endpoint { addresses, ..readdressed.clone() }),
            Event::Pod(readdressed),
        ));

        let node = Node {
            name: name(&format!("new-node-{at}")),
            labels: objects.nodes[0].labels.clone(),
            addresses: vec![places.place(other).0],
        };
        changes.push(Change {
            back: ("node-removed", Event::NodeGone(node.name.clone())),
            there: ("node-added", Event::Node(node)),
        });

        let namespace = &objects.namespaces[random.below(objects.namespaces.len())];
        let changed =
            Namespace { labels: namespace.labels.with("env", "test"), ..namespace.clone() };
        changes.push(Change::both(
            "namespace-relabelled",
            Event::Namespace(changed),
            Event::Namespace(namespace.clone()),
        ));

        let added = written_policy(&namespace.name, objects.policies.len() + at, random);
        let gone = Event::PolicyGone(added.key.clone());
        changes.push(Change {
            there: ("policy-added", Event::Policy(added)),
            back: ("policy-removed", gone),
        });
        let old = &objects.policies[random.below(objects.policies.len())];
        let new = written_policy(&old.key.namespace, 0, random);
        changes.push(Change::both(
            "policy-changed",
            Event::Policy(Policy { key: old.key.clone(), ..new }),
            Event::Policy(old.clone()),
        ));
    }
    random.shuffle(&mut changes);
    changes
}

fn replica(
    [added, removed]: [&'static str; 2],
    at: usize,
    mut pod: Endpoint,
    (address, node): (std::net::IpAddr, Name),
) -> Change {
    pod.name = name(&format!("{}-{at}", pod.name));
    pod.uid = name(&format!("{added}-{at}"));
    pod.addresses = [address].into_iter().collect();
    pod.node = Some(node);
    let gone = Event::PodGone(pod.namespace.clone(), pod.name.clone(), pod.uid.clone());
    Change { there: (added, Event::Pod(pod)), back: (removed, gone) }
}

fn relabelled_pod(kind: &'static str, pod: &Endpoint, key: &str, value: &str) -> Change {
    let changed = Endpoint { labels: pod.labels.with(key, value), ..pod.clone() };
    Change::both(kind, Event::Pod(changed), Event::Pod(pod.clone()))
}

impl Change {
    fn both(kind: &'static str, there: Event, back: Event) -> Self {
        Self { there: (kind, there), back: (kind, back) }
    }
}

impl Event {
    /// Makes it happen.
    pub fn apply(self, cluster: &mut Cluster) {
        match self {
            Self::Pod(pod) => cluster.upsert_endpoint(pod),
            Self::PodGone(namespace, name, uid) => cluster.remove_endpoint(&namespace, &name, &uid),
            Self::Namespace(namespace) => cluster.upsert_namespace(namespace),
            Self::Node(node) => cluster.upsert_node(node),
            Self::NodeGone(name) => cluster.remove_node(&name),
            Self::Policy(policy) => cluster.upsert_policy(policy),
            Self::PolicyGone(key) => cluster.remove_policy(&key),
        }
    }
}
