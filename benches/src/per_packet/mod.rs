//! Packets judged one by one as kube-network-policies does it, as baseline.
//!
//! What its engine does for every packet that is handed to it (`pkg/networkpolicy`, `pkg/podinfo`; `tools/cache` of
//! client-go; `pkg/labels` of apimachinery), and what is done here likewise:
//!
//! 1. For both addresses, `GetPodInfoByIP`: the address as text is looked up in an index of the pods, which gives a
//!    list; the first pod's `namespace/name` is put together and looked up; so is the namespace, for its labels; all is
//!    put into a new `PodInfo` with a list of the container ports.
//! 2. For egress of the source and, unless that denies, for ingress of the destination, `getNetworkPoliciesForPod`: the
//!    policies of the pod's namespace are listed, each looked up by its key, and copied into a second list. Of each,
//!    `LabelSelectorAsSelector` turns the `podSelector` into requirements: a list of them, a list of values for each,
//!    key and values checked, all copied into another list and sorted by key. Those that match are listed a third time.
//! 3. `evaluatePolicyDirection` walks their rules until one matches: ports first, then peers. `podSelector` and
//!    `namespaceSelector` of a peer are turned into requirements as above, and the text of a CIDR and of its exceptions is
//!    parsed.
//!
//! Whatever is not that is left out, to the advantage of this evaluator: nothing is locked; there is no way from the
//! kernel and back, no interface value, context or logger; labels are sorted arrays where the original has hash maps that
//! it asks twice; checks of keys and values are loops over bytes where it has regular expressions and puts together the
//! paths of fields for errors; parsing a CIDR allocates nothing here and twice there; and Go's collector has no part.
//!
//! Packets of a pod to itself and from its node never come to that engine. Here the first are allowed, and there are
//! none of the second. NetworkPolicies only.

mod objects;
mod selector;

use std::net::IpAddr;

use ahash::HashMap;
use ipnet::IpNet;
use netpol_core::model::{
    DeclaredPort, Direction, End, Flow, Labels, Name, Objects, PortMatch, Protocol, Traffic,
};

use objects::{NetworkPolicy, NetworkPolicyPeer, Pod, Rule, Store};
use selector::LabelSelector;

/// Judges packets from the objects as they were written.
#[derive(Debug)]
pub struct PerPacket {
    pods: Store<Pod>,
    policies: Store<NetworkPolicy>,
    namespaces: HashMap<Name, Labels>,
}

/// What is put together about a pod for one packet.
#[derive(Debug)]
struct PodInfo<'a> {
    namespace: &'a str,
    namespace_labels: Option<&'a Labels>,
    labels: &'a Labels,
    ports: Vec<&'a DeclaredPort>,
}

impl PerPacket {
    /// Files the objects as informers do.
    pub fn new(objects: &Objects) -> Self {
        let namespaces = objects.namespaces.iter();
        Self {
            pods: objects::pods(objects),
            policies: objects::policies(objects),
            namespaces: namespaces.map(|it| (it.name.clone(), it.labels.clone())).collect(),
        }
    }

    /// Whether the connection may be made. Ends are known by address.
    pub fn allows(&self, flow: &Flow) -> bool {
        let (End::Address(source), End::Address(destination)) = (&flow.source, &flow.destination)
        else {
            return false;
        };
        if source == destination {
            return true;
        }
        let [from, to] = [source, destination].map(|it| self.pod_info(*it));
        let [from, to] = [from.as_ref(), to.as_ref()];
        let egress = Packet { peer: *destination, other: to, destination: to, flow };
        let ingress = Packet { peer: *source, other: from, destination: to, flow };
        self.evaluate(Direction::Egress, from, &egress)
            && self.evaluate(Direction::Ingress, to, &ingress)
    }

    /// `GetPodInfoByIP`
    fn pod_info(&self, address: IpAddr) -> Option<PodInfo<'_>> {
        let found = self.pods.by_index(&address.to_string());
        let found = found.first()?;
        let pod = self.pods.get(&objects::key(&found.namespace, &found.name))?;
        Some(PodInfo {
            namespace: &pod.namespace,
            namespace_labels: self.namespaces.get(&pod.namespace),
            labels: &pod.labels,
            ports: pod.ports.iter().collect(),
        })
    }

    /// `getNetworkPoliciesForPod`
    fn policies_for(&self, pod: &PodInfo<'_>) -> Vec<&NetworkPolicy> {
        let mut listed = Vec::new();
        for policy in self.policies.by_index(pod.namespace) {
            listed.push(policy);
        }
        let mut selecting = Vec::new();
        for policy in listed {
            let selector = policy.pod_selector.as_selector();
            if selector.is_some_and(|it| selector::matches(&it, pod.labels)) {
                selecting.push(policy);
            }
        }
        selecting
    }

    /// `evaluatePolicyDirection`
    fn evaluate(
        &self,
        direction: Direction,
        pod: Option<&PodInfo<'_>>,
        packet: &Packet<'_>,
    ) -> bool {
        let Some(pod) = pod else { return true };
        let mut verdict = true;
        for policy in self.policies_for(pod) {
            for _ in policy.policy_types.iter().filter(|it| **it == direction) {
                verdict = false;
                let rules = match direction {
                    Direction::Ingress => &policy.ingress,
                    Direction::Egress => &policy.egress,
                };
                if rules.iter().any(|rule| packet.matches(rule, &policy.namespace)) {
                    return true;
                }
            }
        }
        verdict
    }
}

/// One direction of a packet.
struct Packet<'a> {
    /// The address of the other end.
    peer: IpAddr,
    /// The pod that has it.
    other: Option<&'a PodInfo<'a>>,
    /// The pod whose ports are meant.
    destination: Option<&'a PodInfo<'a>>,
    flow: &'a Flow,
}

impl Packet<'_> {
    fn matches(&self, rule: &Rule, namespace: &str) -> bool {
        self.matches_ports(&rule.ports)
            && (rule.peers.is_empty()
                || rule.peers.iter().any(|peer| self.matches_peer(peer, namespace)))
    }

    /// `evaluatePorts`
    fn matches_ports(&self, ports: &[PortMatch]) -> bool {
        if ports.is_empty() {
            return true;
        }
        let Traffic::Port(protocol, port) = self.flow.traffic else { return false };
        let declares = |wanted: &Option<Protocol>, name: &Name| {
            let is_it = |it: &&DeclaredPort| {
                it.name == *name && (it.protocol, it.number) == (protocol, port)
            };
            let declared = self.destination.map_or(&[][..], |pod| &pod.ports);
            wanted.is_none_or(|wanted| wanted == protocol) && declared.iter().any(is_it)
        };
        ports.iter().any(|entry| match entry {
            PortMatch::Range(of, range) => *of == protocol && range.contains(port),
            PortMatch::Named(wanted, name) => declares(wanted, name),
            PortMatch::Unknown(_) => false,
        })
    }

    fn matches_peer(&self, peer: &NetworkPolicyPeer, namespace: &str) -> bool {
        match (peer, self.other) {
            (NetworkPolicyPeer::IpBlock { cidr, except }, _) => {
                let contains =
                    |cidr: &String| cidr.parse::<IpNet>().is_ok_and(|it| it.contains(&self.peer));
                contains(cidr) && !except.iter().any(contains)
            }
            (NetworkPolicyPeer::Selectors { .. }, None) => false,
            (NetworkPolicyPeer::Selectors { pods, namespaces }, Some(pod)) => {
                pod.is_selected(pods.as_ref(), namespaces.as_ref(), namespace)
            }
        }
    }
}

impl PodInfo<'_> {
    /// `evaluateSelectors`
    fn is_selected(
        &self,
        pods: Option<&LabelSelector>,
        namespaces: Option<&LabelSelector>,
        namespace: &str,
    ) -> bool {
        if let Some(pods) = pods
            && !pods.as_selector().is_some_and(|it| selector::matches(&it, self.labels))
        {
            return false;
        }
        let Some(namespaces) = namespaces else { return self.namespace == namespace };
        if namespaces.is_empty() {
            return true;
        }
        let selector = namespaces.as_selector();
        let labels = self.namespace_labels;
        selector.zip(labels).is_some_and(|(selector, labels)| selector::matches(&selector, labels))
    }
}
