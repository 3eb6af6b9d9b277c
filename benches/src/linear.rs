//! What [`per_packet`](crate::per_packet) does, with everything prepared that can be without compiling policies: the
//! lower bound of what it costs to walk them.
//!
//! It is written as kindly as that can be: endpoints are found by address and policies by namespace in hash maps,
//! labels of namespaces likewise, and nothing is parsed or allocated. What is left is the work itself: every policy
//! of the namespace is asked whether it selects the pod, and the rules of those that do are tried in turn.
//! NetworkPolicies only, and the default reading of every open point.

use std::net::IpAddr;

use ahash::{HashMap, HashMapExt};
use netpol_core::model::{
    Direction, End, Endpoint, Flow, Labels, Name, NamespaceScope, Objects, Peer, Peers,
    PodSelector, Policy, PortMatch, Ports, Protocol, Rule, Subject, Traffic,
};

/// Judges packets by walking policies.
#[derive(Debug)]
pub struct Linear<'a> {
    endpoints: HashMap<IpAddr, &'a Endpoint>,
    nodes: HashMap<IpAddr, &'a Name>,
    policies: HashMap<&'a Name, Vec<&'a Policy>>,
    namespaces: HashMap<&'a Name, &'a Labels>,
}

impl<'a> Linear<'a> {
    /// Files the objects.
    pub fn new(objects: &'a Objects) -> Self {
        let mut this = Self {
            endpoints: HashMap::new(),
            nodes: HashMap::new(),
            policies: HashMap::new(),
            namespaces: objects.namespaces.iter().map(|it| (&it.name, &it.labels)).collect(),
        };
        for endpoint in objects.endpoints.iter().filter(|it| it.is_ordinary()) {
            this.endpoints.extend(endpoint.addresses.iter().map(|it| (*it, endpoint)));
        }
        for node in &objects.nodes {
            this.nodes.extend(node.addresses.iter().map(|it| (*it, &node.name)));
        }
        for policy in &objects.policies {
            this.policies.entry(&policy.key.namespace).or_default().push(policy);
        }
        this
    }

    /// Whether the connection may be made. Ends are known by address.
    pub fn allows(&self, flow: &Flow) -> bool {
        let (End::Address(source), End::Address(destination)) = (&flow.source, &flow.destination)
        else {
            return false;
        };
        source == destination
            || self.judge(Direction::Egress, *source, *destination, flow.traffic)
                && self.judge(Direction::Ingress, *destination, *source, flow.traffic)
    }

    fn judge(&self, direction: Direction, subject: IpAddr, peer: IpAddr, traffic: Traffic) -> bool {
        let Some(pod) = self.endpoints.get(&subject) else { return true };
        let own_node = self.nodes.get(&peer).is_some_and(|node| pod.node.as_ref() == Some(*node));
        if own_node {
            return true;
        }
        let other = self.endpoints.get(&peer).copied();
        let destination = if direction == Direction::Ingress { Some(*pod) } else { other };
        let mut isolated = false;
        for policy in self.policies.get(&pod.namespace).into_iter().flatten() {
            let Subject::Pods(subject) = &policy.subject else { continue };
            if !subject.pods.matches(&pod.labels) {
                continue;
            }
            let Some(rules) = policy.rules(direction) else { continue };
            isolated = true;
            let matches =
                |rule: &Rule| ports(rule, traffic, destination) && self.peers(rule, peer, other);
            if rules.iter().any(matches) {
                return true;
            }
        }
        !isolated
    }

    fn peers(&self, rule: &Rule, address: IpAddr, pod: Option<&Endpoint>) -> bool {
        let Peers::AnyOf(peers) = &rule.peers else { return true };
        peers.iter().any(|peer| match peer {
            Peer::Pods(selector) => pod.is_some_and(|pod| self.selects(selector, pod)),
            Peer::Block(block) => {
                let outside = !block.except().iter().any(|except| except.contains(&address));
                block.cidr().contains(&address) && outside
            }
            Peer::Nodes(_) | Peer::Domain(_) | Peer::Unknown(_) => false,
        })
    }

    fn selects(&self, selector: &PodSelector, pod: &Endpoint) -> bool {
        let inside = match &selector.namespaces {
            NamespaceScope::Named(name) => *name == pod.namespace,
            NamespaceScope::Matching(wanted) => {
                self.namespaces.get(&pod.namespace).is_some_and(|labels| wanted.matches(labels))
            }
        };
        inside && selector.pods.matches(&pod.labels)
    }
}

fn ports(rule: &Rule, traffic: Traffic, destination: Option<&Endpoint>) -> bool {
    let Ports::AnyOf(entries) = &rule.ports else { return true };
    let Traffic::Port(protocol, port) = traffic else { return false };
    let declares = |wanted: &Option<Protocol>, name: &Name| {
        let declared = destination.map_or(&[][..], |pod| &pod.ports);
        declared.iter().any(|it| {
            it.name == *name
                && (it.protocol, it.number) == (protocol, port)
                && wanted.is_none_or(|wanted| wanted == protocol)
        })
    };
    entries.iter().any(|entry| match entry {
        PortMatch::Range(of, range) => *of == protocol && range.contains(port),
        PortMatch::Named(wanted, name) => declares(wanted, name),
        PortMatch::Unknown(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use netpol_core::model::Options;
    use netpol_core::{Cluster, Scope, compile, reference};

    use super::*;
    use crate::per_packet::PerPacket;
    use crate::random::Random;
    use crate::world::{self, Size};

    /// All ways of judging agree on what the figures are measured on.
    #[test]
    fn baselines_reference_and_program_agree() {
        let size = Size { namespaces: 6, pods: 300, policies: 120, nodes: 4 };
        let worlds = [
            world::mixed(size, 1),
            world::mixed(Size { namespaces: 1, ..size }, 2),
            world::small_namespaces(20),
            world::one_namespace(30),
            world::cross_namespace(4),
            world::deep(20, 3),
            world::deep_ports(20, 3),
            world::wide(200, 5),
            world::blocks(60, 10),
        ];
        for (at, objects) in worlds.iter().enumerate() {
            let linear = Linear::new(objects);
            let per_packet = PerPacket::new(objects);
            let options = Options::default();
            let program = compile(&Cluster::from_objects(options, objects.clone()), Scope::Cluster);
            let flows = world::flows(objects, 2000, &mut Random::new(9));
            let mut allowed = 0;
            for flow in &flows {
                let expected = reference::decide(objects, &options, flow).is_allowed();
                assert_eq!(linear.allows(flow), expected, "world {at}: {flow}");
                assert_eq!(per_packet.allows(flow), expected, "world {at}: {flow}");
                assert_eq!(program.decide(flow).is_allowed(), expected, "world {at}: {flow}");
                allowed += usize::from(expected);
            }
            assert!(allowed > 0 && allowed < flows.len(), "world {at}: {allowed} allowed");
        }
    }
}
