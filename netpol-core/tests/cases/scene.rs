//! Short constructors, so that a table reads like the text it checks.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a table that cannot be read is a bug in it"
)]

use std::net::IpAddr;

use netpol_core::model::{
    Action, Block, DeclaredPort, DomainName, DomainPattern, End, Endpoint, Flow, Labels, Namespace,
    NamespaceScope, Node, Objects, Options, Peer, Peers, Phase, PodSelector, Policy, PolicyKey,
    PolicyKind, PortMatch, PortRange, Ports, Protocol, Requirement, Rule, Selector, Subject, Tier,
    Traffic, name,
};
use netpol_core::reference::Judgement;

use super::Case;

/// Objects, and the cases about them so far.
#[derive(Default)]
pub(crate) struct Scene {
    objects: Objects,
    options: Options,
    cases: Vec<Case>,
}

/// Two namespaces with two pods each, spread over two nodes, and a host-network pod on the first:
///
/// | pod      | labels       | addresses          | node |
/// |----------|--------------|--------------------|------|
/// | `x/a`    | `app=a`      | 10.0.0.1 fd00::1   | one  |
/// | `x/b`    | `app=b`      | 10.0.0.2 fd00::2   | two  |
/// | `y/a`    | `app=a`      | 10.0.1.1 fd00:1::1 | one  |
/// | `y/b`    | `app=b`      | 10.0.1.2 fd00:1::2 | two  |
/// | `x/host` | `app=host`   |                    | one  |
///
/// Node `one` (`zone=a`) has 10.1.0.1 and fd01::1, `two` (`zone=b`) 10.1.0.2 and fd01::2. Namespaces are labelled
/// `team=x` and `team=y`.
pub(crate) fn cluster() -> Scene {
    Scene::default()
        .namespace("x", "team=x")
        .namespace("y", "team=y")
        .node("one", "zone=a", "10.1.0.1 fd01::1")
        .node("two", "zone=b", "10.1.0.2 fd01::2")
        .pod(pod("x/a", "app=a", "10.0.0.1 fd00::1").on("one"))
        .pod(pod("x/b", "app=b", "10.0.0.2 fd00::2").on("two"))
        .pod(pod("y/a", "app=a", "10.0.1.1 fd00:1::1").on("one"))
        .pod(pod("y/b", "app=b", "10.0.1.2 fd00:1::2").on("two"))
        .pod(pod("x/host", "app=host", "").on("one").on_host_network())
}

impl Scene {
    pub(crate) fn namespace(mut self, name: &str, labels_: &str) -> Self {
        self.objects.namespaces.push(Namespace::new(name, labels(labels_)));
        self
    }

    pub(crate) fn node(mut self, name_: &str, labels_: &str, at: &str) -> Self {
        self.objects.nodes.push(Node {
            name: name(name_),
            labels: labels(labels_),
            addresses: addresses(at),
        });
        self
    }

    /// Adds a pod, or replaces the one of this name and uid.
    pub(crate) fn pod(mut self, pod: Pod) -> Self {
        let same = |e: &Endpoint| {
            (&e.namespace, &e.name, &e.uid) == (&pod.0.namespace, &pod.0.name, &pod.0.uid)
        };
        self.objects.endpoints.retain(|e| !same(e));
        self.objects.endpoints.push(pod.0);
        self
    }

    /// Adds a policy, or replaces the one of this kind and name.
    pub(crate) fn policy(mut self, policy: Draft) -> Self {
        self.objects.policies.retain(|other| other.key != policy.0.key);
        self.objects.policies.push(policy.0);
        self
    }

    pub(crate) fn without_policies(mut self) -> Self {
        self.objects.policies.clear();
        self
    }

    pub(crate) fn domain(mut self, name: &str, at: &str) -> Self {
        self.objects.domains.push(DomainName::new(name, address(at)));
        self
    }

    pub(crate) fn options(mut self, set: impl FnOnce(&mut Options)) -> Self {
        self.options = Options::default();
        set(&mut self.options);
        self
    }

    /// What the specification says on a connection, written `x/b > 10.0.0.1 80/tcp`: a pod stands for its first
    /// address, `x/b@6` for its first IPv6 address, and `name:x/b` asks by name. With `via a service` behind it, the connection is made to a
    /// service's address.
    pub(crate) fn expect(
        mut self,
        cites: &'static str,
        asks: &str,
        egress: Judgement,
        ingress: Judgement,
    ) -> Self {
        let direct = asks.strip_suffix(" via a service");
        let (via_service, direct) = (direct.is_some(), direct.unwrap_or(asks));
        let words: Vec<&str> = direct.split_whitespace().collect();
        let [source, ">", destination, traffic_] = words[..] else {
            panic!("not a question: {asks}");
        };
        let flow = Flow {
            source: self.end(source),
            destination: self.end(destination),
            traffic: traffic(traffic_),
            via_service,
        };
        let (objects, options, asks) = (self.objects.clone(), self.options, asks.to_owned());
        self.cases.push(Case { cites, asks, objects, options, flow, egress, ingress });
        self
    }

    pub(crate) fn cases(self) -> Vec<Case> {
        self.cases
    }

    fn end(&self, text: &str) -> End {
        if let Ok(address) = text.parse() {
            return End::Address(address);
        }
        if let Some((namespace, pod)) = text.strip_prefix("name:").and_then(|t| t.split_once('/')) {
            return End::Endpoint { namespace: name(namespace), name: name(pod) };
        }
        let (path, v6) = text.strip_suffix("@6").map_or((text, false), |path| (path, true));
        let pod =
            self.objects.endpoints.iter().find(|e| format!("{}/{}", e.namespace, e.name) == path);
        let addresses = &pod.unwrap_or_else(|| panic!("no pod {path}")).addresses;
        let address = addresses.iter().find(|address| !v6 || address.is_ipv6());
        End::Address(*address.unwrap_or_else(|| panic!("{path} has no address")))
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("not an address: {text}"))
}

fn addresses(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(address).collect()
}

fn traffic(text: &str) -> Traffic {
    match text.split_once('/') {
        Some((port, protocol)) => {
            let protocol = Protocol::from_api(&protocol.to_ascii_uppercase());
            Traffic::Port(protocol.expect("a protocol"), port.parse().expect("a port"))
        }
        None if text == "icmp" => Traffic::ICMP,
        None => panic!("not traffic: {text}"),
    }
}

/// `app=a,tier=`.
fn labels(text: &str) -> Labels {
    text.split(',').filter_map(|label| label.split_once('=')).collect()
}

/// `app=a,tier!=x,zone in a|b,zone notin c,exists,!absent`; nothing is everything.
pub(crate) fn selector(text: &str) -> Selector {
    Selector::new(text.split(',').filter(|part| !part.is_empty()).map(|part| {
        if let Some((key, values)) = part.split_once(" in ") {
            Requirement::is_in(key, values.split('|'))
        } else if let Some((key, values)) = part.split_once(" notin ") {
            Requirement::is_not_in(key, values.split('|'))
        } else if let Some((key, value)) = part.split_once("!=") {
            Requirement::is_not_in(key, [value])
        } else if let Some((key, value)) = part.split_once('=') {
            Requirement::is_in(key, [value])
        } else if let Some(key) = part.strip_prefix('!') {
            Requirement::does_not_exist(key)
        } else {
            Requirement::exists(part)
        }
    }))
}

/// A pod being described.
pub(crate) struct Pod(Endpoint);

pub(crate) fn pod(path: &str, labels_: &str, at: &str) -> Pod {
    let (namespace, name) = path.split_once('/').expect("namespace/name");
    let mut endpoint = Endpoint::new(namespace, name);
    endpoint.labels = labels(labels_);
    endpoint.addresses = addresses(at).into();
    Pod(endpoint)
}

impl Pod {
    pub(crate) fn on(mut self, node: &str) -> Self {
        self.0.node = Some(name(node));
        self
    }

    pub(crate) fn uid(mut self, uid: &str) -> Self {
        self.0.uid = name(uid);
        self
    }

    pub(crate) fn finished(mut self) -> Self {
        self.0.phase = Phase::Finished;
        self
    }

    pub(crate) fn on_host_network(mut self) -> Self {
        self.0.host_network = true;
        self
    }

    /// Declares a port by name, such as `http` for `80/tcp`.
    pub(crate) fn declares(mut self, name_: &str, port: &str) -> Self {
        let Traffic::Port(protocol, number) = traffic(port) else { panic!("not a port: {port}") };
        self.0.ports.push(DeclaredPort { name: name(name_), protocol, number });
        self
    }
}

/// A policy being described.
pub(crate) struct Draft(Policy);

fn draft(kind: PolicyKind, name_: &str, tier: Tier, priority: u16, subject: PodSelector) -> Draft {
    let namespace = match &subject.namespaces {
        NamespaceScope::Named(namespace) => namespace.clone(),
        NamespaceScope::Matching(_) => name(""),
    };
    let key = PolicyKey { kind, namespace, name: name(name_) };
    let subject = Subject::Pods(subject);
    Draft(Policy { key, tier, priority, subject, ingress: None, egress: None })
}

/// A NetworkPolicy `namespace/name` for the pods that `pods` selects.
pub(crate) fn np(path: &str, pods: &str) -> Draft {
    let (namespace, name) = path.split_once('/').expect("namespace/name");
    draft(PolicyKind::NetworkPolicy, name, Tier::NetworkPolicy, 0, in_namespace(namespace, pods))
}

/// A ClusterNetworkPolicy of the tier Admin for all pods of the namespaces that `namespaces` selects.
pub(crate) fn admin(name: &str, priority: u16, namespaces: &str) -> Draft {
    let subject = in_namespaces(namespaces, "");
    draft(PolicyKind::ClusterNetworkPolicy, name, Tier::Admin, priority, subject)
}

/// A ClusterNetworkPolicy of the tier Baseline for all pods of the namespaces that `namespaces` selects.
pub(crate) fn baseline(name: &str, priority: u16, namespaces: &str) -> Draft {
    let subject = in_namespaces(namespaces, "");
    draft(PolicyKind::ClusterNetworkPolicy, name, Tier::Baseline, priority, subject)
}

/// An AdminNetworkPolicy.
pub(crate) fn anp(name: &str, priority: u16, namespaces: &str) -> Draft {
    let subject = in_namespaces(namespaces, "");
    draft(PolicyKind::AdminNetworkPolicy, name, Tier::Admin, priority, subject)
}

/// The BaselineAdminNetworkPolicy.
pub(crate) fn banp(namespaces: &str) -> Draft {
    let subject = in_namespaces(namespaces, "");
    draft(PolicyKind::BaselineAdminNetworkPolicy, "default", Tier::Baseline, 0, subject)
}

impl Draft {
    /// Narrows the subject down to these pods.
    pub(crate) fn of_pods(mut self, pods: &str) -> Self {
        let (Subject::Pods(subject) | Subject::AtMost(subject)) = &mut self.0.subject;
        subject.pods = selector(pods);
        self
    }

    /// As if part of the subject were not understood.
    pub(crate) fn at_most(mut self) -> Self {
        if let Subject::Pods(subject) = self.0.subject {
            self.0.subject = Subject::AtMost(subject);
        }
        self
    }

    pub(crate) fn ingress(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.0.ingress = Some(rules.into_iter().collect());
        self
    }

    pub(crate) fn egress(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.0.egress = Some(rules.into_iter().collect());
        self
    }
}

pub(crate) fn rule(action: Action, peers: Peers, ports: Ports) -> Rule {
    Rule { name: None, action, peers, ports }
}

/// A rule of a NetworkPolicy, or one that accepts.
pub(crate) fn accept(peers: Peers, ports: Ports) -> Rule {
    rule(Action::Accept, peers, ports)
}

pub(crate) fn deny(peers: Peers, ports: Ports) -> Rule {
    rule(Action::Deny, peers, ports)
}

pub(crate) fn pass(peers: Peers, ports: Ports) -> Rule {
    rule(Action::Pass, peers, ports)
}

pub(crate) const EVERYONE: Peers = Peers::Everyone;
pub(crate) const ALL: Ports = Ports::All;

pub(crate) fn any<const N: usize>(peers: [Peer; N]) -> Peers {
    Peers::AnyOf(peers.into())
}

/// Every ordinary pod: what the cluster-wide kinds have for "everyone".
pub(crate) fn every_pod() -> Peers {
    any([pods("", "")])
}

/// Pods of one namespace: a peer with `podSelector` alone.
pub(crate) fn own(namespace: &str, pods: &str) -> Peer {
    Peer::Pods(in_namespace(namespace, pods))
}

/// Pods of all namespaces that `namespaces` selects.
pub(crate) fn pods(namespaces: &str, pods: &str) -> Peer {
    Peer::Pods(in_namespaces(namespaces, pods))
}

fn in_namespace(namespace: &str, pods: &str) -> PodSelector {
    PodSelector { namespaces: NamespaceScope::Named(name(namespace)), pods: selector(pods) }
}

fn in_namespaces(namespaces: &str, pods: &str) -> PodSelector {
    let namespaces = NamespaceScope::Matching(selector(namespaces));
    PodSelector { namespaces, pods: selector(pods) }
}

pub(crate) fn block<const N: usize>(cidr: &str, except: [&str; N]) -> Peer {
    let parse = |text: &str| text.parse().unwrap_or_else(|_| panic!("not a block: {text}"));
    Peer::Block(Block::new(parse(cidr), except.map(parse)))
}

pub(crate) fn nodes(labels: &str) -> Peer {
    Peer::Nodes(selector(labels))
}

pub(crate) fn domain(pattern: &str) -> Peer {
    Peer::Domain(DomainPattern::new(pattern))
}

pub(crate) fn unknown_peer() -> Peer {
    Peer::Unknown(name("galaxies"))
}

pub(crate) fn ports<const N: usize>(entries: [PortMatch; N]) -> Ports {
    Ports::AnyOf(entries.into())
}

/// `80/tcp`, `80-90/tcp`, or `tcp` for all its ports.
pub(crate) fn port(text: &str) -> PortMatch {
    let (range, protocol) = text.split_once('/').unwrap_or(("0-65535", text));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse().expect("a port");
    let range = PortRange::new(number(first), number(last)).expect("a range");
    let protocol = Protocol::from_api(&protocol.to_ascii_uppercase()).expect("a protocol");
    PortMatch::Range(protocol, range)
}

/// A name as NetworkPolicy has it, with a protocol.
pub(crate) fn named(name_: &str, protocol: Protocol) -> PortMatch {
    PortMatch::Named(Some(protocol), name(name_))
}

/// A name as the cluster-wide kinds have it, without a protocol.
pub(crate) fn named_any(name_: &str) -> PortMatch {
    PortMatch::Named(None, name(name_))
}

pub(crate) fn unknown_port() -> PortMatch {
    PortMatch::Unknown(name("quic"))
}
