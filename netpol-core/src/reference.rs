//! The specification as code: one question answered by walking every policy, rule and peer.
//!
//! There is no index and nothing is prepared, so that the text can be checked line by line against the API
//! documents; the numbers are those of the specification. It shares nothing with the compiled program and is what
//! that program is tested against. A question costs the product of everything: use it for tests only.
//!
//! ```
//! use netpol_core::model::{End, Flow, Objects, Options, Traffic};
//! use netpol_core::reference::{Judgement, decide};
//!
//! let flow = Flow::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), Traffic::tcp(80));
//! let verdict = decide(&Objects::default(), &Options::default(), &flow);
//! assert_eq!((verdict.egress, verdict.ingress), (Judgement::NotJudged, Judgement::NotJudged));
//! assert!(verdict.is_allowed());
//! ```

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::model::{
    Action, BaselineSkip, DeclaredPort, Direction, DuplicatePortNames, End, Endpoint, Flow,
    HostNetworkPeers, HostNetworkPortNames, HostNetworkSubjects, Labels, Name, NamespaceScope,
    Node, NodeEgress, Objects, Options, OtherProtocols, Peer, Peers, Phase, PodSelector, Policy,
    PortMatch, Ports, Protocol, Rule, SelfTraffic, Subject, Tie, Tier, Traffic, UnknownProtocol,
};

/// What the policies say on one new connection, for either side of it (M6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// What the policies of the source say.
    pub egress: Judgement,
    /// What the policies of the destination say.
    pub ingress: Judgement,
}

/// What the policies of one end say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// Policies have no say in it: the end is nobody they could select, or both ends are the same.
    NotJudged,
    /// It may pass.
    Allow,
    /// It may not.
    Deny,
}

impl Verdict {
    /// Whether every judged side allows the connection (M6).
    pub fn is_allowed(self) -> bool {
        self.egress != Judgement::Deny && self.ingress != Judgement::Deny
    }
}

/// Judges one new connection (M1). The order of the objects and what they are called mean nothing, but for the
/// names of cluster-wide policies of equal priority (M8, C-PRIO-3).
pub fn decide(objects: &Objects, options: &Options, flow: &Flow) -> Verdict {
    let (source, destination) = (party(objects, &flow.source), party(objects, &flow.destination));
    let question = Question {
        objects,
        options,
        traffic: flow.traffic,
        via_service: flow.via_service,
        direction: Direction::Egress,
        subject: &source,
        peer: &destination,
    };
    let reverse = Question {
        direction: Direction::Ingress,
        subject: &destination,
        peer: &source,
        ..question
    };
    Verdict { egress: question.judge(), ingress: reverse.judge() } // M6, NP-ISO-2, NP-ISO-6, C-ACT-2
}

/// What is known about one end of the connection.
#[derive(Default)]
struct Party<'a> {
    /// Where it is; unknown if it was asked about by name.
    address: Option<IpAddr>,
    /// The ordinary endpoint that it is (M2).
    pod: Option<&'a Endpoint>,
    /// The nodes that have the address, unless an ordinary endpoint has it.
    nodes: Vec<&'a Node>,
    /// The live host-network endpoints of these nodes: their traffic is that of the node (M4).
    hosts: Vec<&'a Endpoint>,
}

fn party<'a>(objects: &'a Objects, end: &End) -> Party<'a> {
    match end {
        End::Address(address) => party_at(objects, *address),
        End::Endpoint { namespace, name } => {
            let named = |e: &&Endpoint| e.namespace == *namespace && e.name == *name;
            let mut found: Vec<_> = objects.endpoints.iter().filter(named).collect();
            found.sort_by_key(|e| &e.uid);
            if let Some(pod) = found.iter().find(|e| e.is_ordinary()) {
                return Party { pod: Some(pod), ..Party::default() };
            }
            let host = found.iter().find(|e| is_live_host(e));
            let node = host.and_then(|e| objects.nodes.iter().find(|n| runs_on(e, n)));
            let address = node.and_then(|n| n.addresses.first());
            address.map_or_else(Party::default, |address| party_at(objects, *address)) // M4
        }
    }
}

fn party_at(objects: &Objects, address: IpAddr) -> Party<'_> {
    let claims = |e: &&Endpoint| e.is_ordinary() && e.addresses.contains(&address); // M3, NP-LIFE-1, NP-LIFE-6
    let identity = |e: &&Endpoint| (e.namespace.clone(), e.name.clone(), e.uid.clone());
    let address = Some(address);
    if let Some(pod) = objects.endpoints.iter().filter(claims).min_by_key(identity) {
        return Party { address, pod: Some(pod), ..Party::default() };
    }
    let nodes = objects.nodes.iter().filter(|n| n.addresses.iter().any(|a| Some(*a) == address));
    let nodes: Vec<_> = nodes.collect();
    let here = |e: &&Endpoint| is_live_host(e) && nodes.iter().any(|n| runs_on(e, n));
    let hosts = objects.endpoints.iter().filter(here).collect();
    Party { address, pod: None, nodes, hosts }
}

fn is_live_host(endpoint: &Endpoint) -> bool {
    endpoint.host_network && endpoint.phase == Phase::Live
}

fn runs_on(endpoint: &Endpoint, node: &Node) -> bool {
    endpoint.node.as_ref() == Some(&node.name)
}

/// One side of the connection: may `subject` have this traffic in `direction`, with `peer` at the other end?
#[derive(Clone, Copy)]
struct Question<'a> {
    objects: &'a Objects,
    options: &'a Options,
    traffic: Traffic,
    via_service: bool,
    direction: Direction,
    subject: &'a Party<'a>,
    peer: &'a Party<'a>,
}

impl Question<'_> {
    fn judge(&self) -> Judgement {
        let policed_host = self.options.host_network_subjects == HostNetworkSubjects::Policed
            && !self.subject.hosts.is_empty(); // CH-HOST-SUBJECT
        if self.subject.pod.is_none() && !policed_host {
            return Judgement::NotJudged; // M6, NP-HOST-1
        }
        let decision = if self.is_self_traffic() && !self.via_service {
            match self.options.self_traffic {
                SelfTraffic::Allowed => return Judgement::NotJudged, // NP-SELF-1, C-HAIR-1
                SelfTraffic::Policed => self.network_policies(),     // CH-SELF, C-HAIR-1
            }
        } else if self.subject.pod.is_none() {
            self.network_policies() // C-SUBJ-1: host-network endpoints are none of the cluster-wide kinds' subjects
        } else {
            self.ordered_tier(Tier::Admin) // C-TIER-1, C-HAIR-2
                .or_else(|| self.network_policies())
                .or_else(|| self.ordered_tier(Tier::Baseline))
        };
        decision.unwrap_or(Judgement::Allow) // C-TIER-1, NP-ISO-1: open unless something decides
    }

    /// Both ends are the same ordinary endpoint, or the same node.
    fn is_self_traffic(&self) -> bool {
        match (self.subject.pod, self.peer.pod) {
            (Some(subject), Some(peer)) => std::ptr::eq(subject, peer),
            _ => self.subject.nodes.iter().any(|n| self.peer.nodes.contains(n)),
        }
    }

    // The NetworkPolicy tier.

    fn network_policies(&self) -> Option<Judgement> {
        let in_tier = self.objects.policies.iter().filter(|p| p.tier == Tier::NetworkPolicy);
        let selecting: Vec<_> = in_tier.filter(|p| self.selects_subject(p)).collect();
        if selecting.iter().all(|p| p.rules(self.direction).is_none()) {
            let other_direction =
                selecting.iter().any(|p| p.ingress.is_some() || p.egress.is_some());
            let keeps_baseline_out =
                other_direction && self.options.baseline_skip == BaselineSkip::AnySelected;
            return keeps_baseline_out.then_some(Judgement::Allow); // NP-ISO-1, C-TIER-2, C-TIER-3, CH-BASELINE-DIR
        }
        // NP-SELF-1: nor is a pod cut off from itself by way of a service, which is left undefined.
        let reaches_itself =
            self.is_self_traffic() && self.options.self_traffic == SelfTraffic::Allowed;
        let allowed = self.is_own_node()
            || reaches_itself
            || match (self.traffic, self.options.other_protocols) {
                (Traffic::Other(_), OtherProtocols::Allowed) => true, // CH-PROTO-OPEN
                (Traffic::Other(_), OtherProtocols::Denied) => false, // CH-PROTO-CLOSED
                _ => selecting.iter().any(|p| self.some_rule_allows(p)), // NP-ISO-3
            };
        Some(if allowed { Judgement::Allow } else { Judgement::Deny }) // NP-ISO-5, C-TIER-2
    }

    fn some_rule_allows(&self, policy: &Policy) -> bool {
        let counts = matches!(policy.subject, Subject::Pods(_)); // C-FAIL-3
        let rules = policy.rules(self.direction).unwrap_or_default(); // NP-TYPE-4
        let allows =
            |rule: &Rule| rule.action == Action::Accept && !self.is_spoilt(policy.tier, rule);
        counts && rules.iter().any(|rule| allows(rule) && self.matches(policy.tier, rule))
    }

    /// Ingress from the subject's own node is never cut off; egress to it by choice.
    fn is_own_node(&self) -> bool {
        let exempt = match self.direction {
            Direction::Ingress => true, // NP-NODE-1
            Direction::Egress => self.options.node_egress == NodeEgress::Allowed, // CH-NODE-EGRESS
        };
        let own = |pod: &Endpoint| self.peer.nodes.iter().any(|n| runs_on(pod, n)); // NP-NODE-2
        exempt && self.subject.pod.is_some_and(own)
    }

    // The Admin and the Baseline tier.

    fn ordered_tier(&self, tier: Tier) -> Option<Judgement> {
        let in_tier = self.objects.policies.iter().filter(|p| p.tier == tier);
        let mut policies: Vec<_> = in_tier.filter(|p| self.selects_subject(p)).collect();
        policies.sort_by(|a, b| self.order(a, b));
        for policy in policies {
            let certain = matches!(policy.subject, Subject::Pods(_));
            // C-PRIO-2, C-PRIO-4, C-ACT-5
            for rule in policy.rules(self.direction).unwrap_or_default() {
                let spoilt = self.is_spoilt(tier, rule);
                match rule.action {
                    Action::Accept if spoilt || !certain => {} // C-FAIL-1, C-FAIL-3
                    Action::Deny | Action::Pass if spoilt => return Some(Judgement::Deny), // C-FAIL-1
                    _ if !self.matches(tier, rule) => {}
                    Action::Accept => return Some(Judgement::Allow), // C-ACT-1
                    Action::Deny => return Some(Judgement::Deny),    // C-ACT-3
                    Action::Pass if certain => return None,          // C-ACT-4
                    Action::Pass => return Some(Judgement::Deny),    // C-FAIL-3
                }
            }
        }
        None // C-PRIO-4, C-TIER-4
    }

    fn order(&self, a: &Policy, b: &Policy) -> Ordering {
        let by_name = a.key.name.cmp(&b.key.name);
        let by_name = match self.options.tie {
            Tie::NameAscending => by_name,
            Tie::NameDescending => by_name.reverse(),
        };
        // C-PRIO-1, A-2, then C-PRIO-3 and CH-TIE
        a.priority.cmp(&b.priority).then(by_name).then(a.key.kind.cmp(&b.key.kind))
    }

    // Rules.

    /// Something in the rule is not understood, so that it must not open anything (C-FAIL-1, C-FAIL-2).
    fn is_spoilt(&self, tier: Tier, rule: &Rule) -> bool {
        let unknown_peer = match &rule.peers {
            Peers::Everyone => false,
            Peers::AnyOf(peers) => peers.iter().any(|peer| matches!(peer, Peer::Unknown(_))),
        };
        let unknown_port = match &rule.ports {
            Ports::All => false,
            Ports::AnyOf(ports) => ports.iter().any(|port| matches!(port, PortMatch::Unknown(_))),
        };
        let port_spoils = tier != Tier::NetworkPolicy
            && self.options.unknown_protocol == UnknownProtocol::FailClosed; // CH-PROTO-FAIL
        unknown_peer || (unknown_port && port_spoils)
    }

    /// The rule's peers and its ports match (NP-ISO-4).
    fn matches(&self, tier: Tier, rule: &Rule) -> bool {
        match &rule.peers {
            Peers::Everyone => self.matches_ports(tier, rule, true), // NP-PEER-1
            // NP-PEER-2, C-PEER-6
            Peers::AnyOf(peers) => peers.iter().any(|peer| {
                let towards_pods =
                    matches!(peer, Peer::Pods(_)) || self.direction == Direction::Ingress;
                let names_count = tier == Tier::NetworkPolicy || towards_pods; // NP-PORT-13, C-PROTO-6
                self.matches_peer(tier, peer) && self.matches_ports(tier, rule, names_count)
            }),
        }
    }

    fn matches_peer(&self, tier: Tier, peer: &Peer) -> bool {
        let address = self.peer.address;
        match peer {
            Peer::Pods(selector) => {
                let hosts_count = tier == Tier::NetworkPolicy
                    && self.options.host_network_peers == HostNetworkPeers::ByLabel; // CH-HOST-PEER
                let hosts = self.peer.hosts.iter().filter(|_| hosts_count);
                // NP-PEER-6, NP-HOST-2, C-PEER-1
                self.peer.pod.iter().chain(hosts).any(|pod| self.selects(selector, pod))
            }
            Peer::Block(block) => address.is_some_and(|address| {
                block.cidr().contains(&address) // NP-IPB-1, NP-IPB-2, NP-IPB-6, C-PEER-2
                    && !block.except().iter().any(|except| except.contains(&address)) // NP-IPB-4
            }),
            Peer::Nodes(selector) => address.is_some_and(|address| {
                let selected = self.objects.nodes.iter().filter(|n| selector.matches(&n.labels));
                selected.flat_map(|n| &n.addresses).any(|a| *a == address) // C-PEER-4
            }),
            Peer::Domain(pattern) => address.is_some_and(|address| {
                let mut seen = self.objects.domains.iter().filter(|d| d.address == address);
                seen.any(|d| pattern.matches(d.name())) // C-PEER-5
            }),
            Peer::Unknown(_) => false, // C-FAIL-1
        }
    }

    fn matches_ports(&self, tier: Tier, rule: &Rule, names_count: bool) -> bool {
        let Ports::AnyOf(entries) = &rule.ports else {
            return true; // NP-PORT-1, C-PROTO-1
        };
        let Traffic::Port(protocol, number) = self.traffic else {
            return false; // NP-PROTO-1, C-PROTO-1
        };
        // NP-PORT-2, NP-PORT-15, C-PROTO-2
        entries.iter().any(|entry| match entry {
            PortMatch::Range(of, range) => *of == protocol && range.contains(number), // NP-PORT-4…7
            PortMatch::Named(of, name) => {
                names_count
                    && of.is_none_or(|of| of == protocol) // NP-PORT-9, C-PROTO-5
                    && self.declared_at_destination(tier, name).contains(&(protocol, number))
            }
            PortMatch::Unknown(_) => false, // C-FAIL-2
        })
    }

    /// What the destination means by a port name, whoever is the subject (NP-PORT-8, NP-PORT-14).
    fn declared_at_destination(&self, tier: Tier, name: &Name) -> Vec<(Protocol, u16)> {
        let destination = match self.direction {
            Direction::Ingress => self.subject,
            Direction::Egress => self.peer,
        };
        let hosts_count = tier == Tier::NetworkPolicy
            && self.options.host_network_port_names == HostNetworkPortNames::Resolved; // CH-NAME-HOST, C-PROTO-6
        let hosts = destination.hosts.iter().filter(|_| hosts_count);
        // NP-PORT-12, NP-PORT-13: nobody there, or no such declaration, no port
        let pods = destination.pod.iter().chain(hosts);
        pods.flat_map(|pod| self.declared(pod, name)).collect()
    }

    fn declared(&self, pod: &Endpoint, name: &Name) -> Vec<(Protocol, u16)> {
        let mut ports = Vec::new();
        for DeclaredPort { name: of, protocol, number } in &pod.ports {
            if of == name && !ports.contains(&(*protocol, *number)) {
                ports.push((*protocol, *number));
            }
        }
        match self.options.duplicate_port_names {
            DuplicatePortNames::Union => {}                 // NP-PORT-11
            DuplicatePortNames::First => ports.truncate(1), // CH-DUP-NAME
            DuplicatePortNames::None if ports.len() > 1 => ports.clear(), // CH-DUP-NAME
            DuplicatePortNames::None => {}
        }
        ports
    }

    // Selectors.

    fn selects_subject(&self, policy: &Policy) -> bool {
        let (Subject::Pods(selector) | Subject::AtMost(selector)) = &policy.subject;
        let mut subjects = self.subject.pod.iter().chain(&self.subject.hosts);
        subjects.any(|pod| self.selects(selector, pod))
    }

    /// The labels of the namespace and those of the pod both match (NP-PEER-5, C-SUBJ-3, SEL-10).
    fn selects(&self, selector: &PodSelector, pod: &Endpoint) -> bool {
        let namespace_matches = match &selector.namespaces {
            NamespaceScope::Named(name) => *name == pod.namespace, // NP-PEER-3
            NamespaceScope::Matching(selector) => {
                let listed = self.objects.namespaces.iter().find(|n| n.name == pod.namespace);
                let by_name_only =
                    || Labels::from_iter([("kubernetes.io/metadata.name", &*pod.namespace)]); // SEL-9
                let labels = listed.map_or_else(by_name_only, |namespace| namespace.labels.clone());
                selector.matches(&labels) // NP-PEER-4, C-SUBJ-2
            }
        };
        namespace_matches && selector.pods.matches(&pod.labels)
    }
}
