//! A pod that nobody has told of yet gets no access: the addresses that it may have are denied until it is known.
//!
//! Every address of the node's pod ranges that no pod has is an endpoint, and a policy above all others denies it
//! everything. The moment a pod is known its address changes hands within one program, so there is no instant at which
//! it is judged by neither. As this is done by a policy, every backend does it, and explanations tell. Ranges that are
//! too large for that, as those of IPv6 are, are left to backends that know of ranges
//! ([`Backend::deny_unknown`](netpol_core::backend::Backend::deny_unknown)).

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netpol_core::Cluster;
use netpol_core::backend::Closed;
use netpol_core::model::{
    Action, Endpoint, Name, NamespaceScope, Peers, PodSelector, Policy, PolicyKey, PolicyKind,
    Ports, Rule, Selector, Subject, Tier, name,
};

/// The addresses of a range of more than this are not endpoints: each costs the kernel some hundred bytes.
const MOST: u128 = 1 << 12;

/// The namespace of addresses without a pod. No other namespace has no name.
const NAMESPACE: &str = "";

/// The addresses of this node that no pod is known to have.
#[derive(Debug)]
pub(crate) struct Unprogrammed {
    node: Name,
    /// Ranges that are guarded beside those that the node is said to have.
    given: Vec<IpNet>,
    denied: BTreeSet<IpAddr>,
    /// What is left to the backend.
    closed: Closed,
}

impl Unprogrammed {
    /// Guards `given` and what the node's pod ranges turn out to be.
    pub(crate) fn new(node: &str, given: Vec<IpNet>, cluster: &mut Cluster) -> Self {
        cluster.upsert_policy(deny_everything());
        Self { node: name(node), given, denied: BTreeSet::new(), closed: Closed::default() }
    }

    /// Brings the denied addresses up to date with the pods and nodes of the cluster. `O(n)` in pods and addresses.
    pub(crate) fn settle(&mut self, ranges: &[IpNet], cluster: &mut Cluster) {
        let all = self.given.iter().chain(ranges).copied();
        let (small, large): (Vec<IpNet>, Vec<IpNet>) = all.partition(|range| size(range) <= MOST);
        let mut free: BTreeSet<IpAddr> = small.iter().flat_map(IpNet::hosts).collect();
        let mut closed: Closed = large.into_iter().collect();
        let mut taken = |address: IpAddr, elsewhere: bool| {
            free.remove(&address);
            if elsewhere && closed.contains(address) {
                closed.except.insert(address);
            }
        };
        for pod in
            cluster.endpoints().filter(|pod| pod.is_ordinary() && &*pod.namespace != NAMESPACE)
        {
            // Some networks lend addresses to the pods of other nodes.
            let elsewhere = pod.node.as_ref() != Some(&self.node);
            pod.addresses.iter().for_each(|address| taken(*address, elsewhere));
        }
        for address in cluster.nodes().flat_map(|node| &node.addresses) {
            taken(*address, true);
        }
        self.closed = closed;
        for address in self.denied.difference(&free) {
            cluster.remove_endpoint(NAMESPACE, &address.to_string(), "");
        }
        for address in free.difference(&self.denied) {
            let mut endpoint = Endpoint::new(NAMESPACE, &address.to_string());
            endpoint.node = Some(self.node.clone());
            endpoint.addresses.push(*address);
            cluster.upsert_endpoint(endpoint);
        }
        self.denied = free;
    }

    /// What is too large for this, when it was settled.
    pub(crate) fn closed(&self) -> &Closed {
        &self.closed
    }

    /// Whether there is no range at all.
    pub(crate) fn is_blind(&self, ranges: &[IpNet]) -> bool {
        self.given.is_empty() && ranges.is_empty()
    }
}

/// How many addresses a range has.
fn size(range: &IpNet) -> u128 {
    1_u128.checked_shl((range.max_prefix_len() - range.prefix_len()).into()).unwrap_or(u128::MAX)
}

/// Comes before every policy that can be made: nothing has a priority below 0, and of those with 0 the one whose name
/// comes first counts; no object's name begins with a sign.
fn deny_everything() -> Policy {
    let deny = || {
        Some(vec![Rule {
            name: None,
            action: Action::Deny,
            peers: Peers::Everyone,
            ports: Ports::All,
        }])
    };
    Policy {
        key: PolicyKey {
            kind: PolicyKind::ClusterNetworkPolicy,
            namespace: name(""),
            name: name("(not programmed yet)"),
        },
        tier: Tier::Admin,
        priority: 0,
        subject: Subject::Pods(PodSelector {
            namespaces: NamespaceScope::Named(name(NAMESPACE)),
            pods: Selector::everything(),
        }),
        ingress: deny(),
        egress: deny(),
    }
}

#[cfg(test)]
mod tests {
    use netpol_core::model::{Flow, Node, Options, Traffic};
    use netpol_core::{Scope, compile};

    use super::*;

    #[test]
    fn an_address_is_denied_until_a_pod_has_it() {
        let mut cluster = Cluster::new(Options::default());
        let mut unprogrammed = Unprogrammed::new("n1", Vec::new(), &mut cluster);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let node =
            Node { name: name("n1"), labels: Default::default(), addresses: vec![ip("10.0.0.1")] };
        cluster.upsert_node(node);
        // Even what everybody may do, it may not.
        let mut open = deny_everything();
        open.key.name = name("a");
        open.subject = Subject::Pods(PodSelector {
            namespaces: NamespaceScope::Matching(Selector::everything()),
            pods: Selector::everything(),
        });
        for rule in open.ingress.iter_mut().chain(&mut open.egress).flatten() {
            rule.action = Action::Accept;
        }
        cluster.upsert_policy(open);
        let ranges = ["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
        let may = |cluster: &Cluster, from: &str, to: &str| {
            let flow = Flow::new(ip(from), ip(to), Traffic::tcp(80));
            compile(cluster, Scope::Node(name("n1"))).decide(&flow).is_allowed()
        };
        unprogrammed.settle(&ranges, &mut cluster);
        assert_eq!(*unprogrammed.closed(), ranges[1..].iter().copied().collect());
        assert!(!may(&cluster, "10.0.0.7", "192.0.2.1"));
        assert!(!may(&cluster, "192.0.2.1", "10.0.0.7"));
        assert!(may(&cluster, "192.0.2.1", "10.0.1.7"), "not of this node");
        assert!(may(&cluster, "192.0.2.1", "10.0.0.1"), "the node's own");

        let mut pod = Endpoint::new("shop", "db");
        pod.addresses.push(ip("10.0.0.7"));
        pod.node = Some(name("n1"));
        cluster.upsert_endpoint(pod);
        unprogrammed.settle(&ranges, &mut cluster);
        assert!(may(&cluster, "10.0.0.7", "192.0.2.1"));
        assert!(!may(&cluster, "192.0.2.1", "10.0.0.8"));

        cluster.remove_endpoint("shop", "db", "");
        unprogrammed.settle(&ranges, &mut cluster);
        assert!(!may(&cluster, "10.0.0.7", "192.0.2.1"));
    }

    #[test]
    fn addresses_that_are_lent_are_left_out() {
        let mut cluster = Cluster::new(Options::default());
        let mut unprogrammed = Unprogrammed::new("n1", Vec::new(), &mut cluster);
        let ranges: [IpNet; 1] = ["fd00::/64".parse().unwrap()];
        for (pod, node, address) in [("own", "n1", "fd00::7"), ("other", "n2", "fd00::9")] {
            let mut pod = Endpoint::new("shop", pod);
            pod.addresses.push(address.parse().unwrap());
            pod.node = Some(name(node));
            cluster.upsert_endpoint(pod);
        }
        unprogrammed.settle(&ranges, &mut cluster);
        let is_closed = |unprogrammed: &Unprogrammed, address: &str| {
            unprogrammed.closed().contains(address.parse().unwrap())
        };
        for (address, expected) in
            [("fd00::7", true), ("fd00::8", true), ("fd00::9", false), ("fd00::ffff:a", true)]
        {
            assert_eq!(is_closed(&unprogrammed, address), expected, "{address}");
        }
        cluster.remove_endpoint("shop", "other", "");
        unprogrammed.settle(&ranges, &mut cluster);
        assert!(is_closed(&unprogrammed, "fd00::9"));
    }

    #[test]
    fn sizes_of_ranges() {
        for (range, expected) in [("10.0.0.0/24", 256), ("10.0.0.1/32", 1), ("0.0.0.0/0", 1 << 32)]
        {
            assert_eq!(size(&range.parse().unwrap()), expected);
        }
        assert_eq!(size(&"::/0".parse().unwrap()), u128::MAX);
    }
}
