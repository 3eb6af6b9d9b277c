//! A cluster of many teams: deployments of replicas, and the policies that people write for them.

use std::net::IpAddr;

use netpol_core::model::{
    DeclaredPort, Endpoint, Name, Namespace, Objects, Policy, PortMatch, PortRange, Protocol,
    Requirement, Rule, Selector, name,
};

use super::low_byte;
use super::parts::{
    Nodes, allow, block, cidr, here, label, labels, node_name, policy, tcp, there, udp,
};
use crate::random::Random;

/// How large a [`mixed`] cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Namespaces of teams; four of the platform come on top.
    pub namespaces: usize,
    /// Pods in them. Fourteen of the platform come on top, and two with the network of their host for each node.
    pub pods: usize,
    /// NetworkPolicies, spread evenly over the namespaces.
    pub policies: usize,
    /// Nodes. The first one is full: 110 pods.
    pub nodes: usize,
}

const APPS: [(&str, &str, u16); 12] = [
    ("web", "frontend", 80),
    ("api", "backend", 8080),
    ("db", "data", 5432),
    ("worker", "backend", 9000),
    ("cache", "data", 6379),
    ("auth", "backend", 443),
    ("queue", "data", 5672),
    ("search", "backend", 9200),
    ("mail", "backend", 25),
    ("admin", "frontend", 8443),
    ("report", "backend", 8081),
    ("gateway", "frontend", 443),
];
/// The namespaces of the platform, with what runs there.
const PLATFORM: [(&str, &str, usize); 4] = [
    ("kube-system", "coredns", 4),
    ("monitoring", "prometheus", 2),
    ("ingress-nginx", "controller", 6),
    ("logging", "collector", 2),
];
const TEAMS: usize = 50;
const ENVIRONMENTS: [&str; 3] = ["prod", "staging", "dev"];
/// How many pods a full node has.
const FULL: usize = 110;

/// A cluster of this size; the same for the same seed.
pub fn mixed(size: Size, seed: u64) -> Objects {
    let mut random = Random::new(seed);
    let mut nodes = Nodes::new(size.nodes);
    let mut objects = Objects::default();
    let mut names = Vec::with_capacity(size.namespaces);
    for at in 0..size.namespaces {
        let team = format!("team-{}", at % TEAMS);
        let labels = labels([("team", &team), ("env", ENVIRONMENTS[at % 3])]);
        let namespace = Namespace::new(&format!("{team}-{at}"), labels);
        names.push(namespace.name.clone());
        objects.namespaces.push(namespace);
    }
    objects.endpoints = pods(size, &names, &mut nodes, &mut random);
    for (platform, app, replicas) in PLATFORM {
        let labels = labels([("team", "platform"), ("env", "prod")]);
        objects.namespaces.push(Namespace::new(platform, labels));
        let pod = |at| platform_pod(platform, app, at, nodes.place(at % size.nodes));
        objects.endpoints.extend((0..replicas).map(pod));
    }
    objects.endpoints.extend(host_network_pods(size.nodes));
    for at in 0..size.policies {
        let namespace = &names[at % names.len()];
        objects.policies.push(written_policy(namespace, at, &mut random));
    }
    objects.nodes = nodes.objects();
    objects
}

/// Adds a policy to every namespace that isolates all of its pods in both directions, and opens them to each other.
pub fn isolate(objects: &mut Objects) {
    for namespace in &objects.namespaces {
        let mut all = policy(&namespace.name, "isolate", Selector::everything());
        let inside = || vec![here(&namespace.name, Selector::everything())];
        all.ingress = Some(vec![allow(inside(), &[tcp(80), tcp(443)])]);
        all.egress = Some(vec![allow(inside(), &[]), dns()]);
        objects.policies.push(all);
    }
}

/// Deployments of up to ten replicas, as many as there are pods for.
fn pods(size: Size, names: &[Name], nodes: &mut Nodes, random: &mut Random) -> Vec<Endpoint> {
    let mut endpoints = Vec::with_capacity(size.pods);
    let step = (size.pods / FULL).max(1);
    while endpoints.len() < size.pods {
        let namespace = &names[(endpoints.len() * names.len()) / size.pods];
        let (app, tier, port) = random.pick(&APPS);
        let hash = format!("{:010x}", random.number() >> 24);
        let version = random.pick(&["v1", "v2", "v3"]);
        let labels = labels([
            ("app", app),
            ("tier", tier),
            ("version", version),
            ("pod-template-hash", &hash),
        ]);
        let replicas = (1 + random.below(10)).min(size.pods - endpoints.len());
        for _ in 0..replicas {
            let at = endpoints.len();
            let others = size.nodes.saturating_sub(1);
            let node = if at % step == 0 || others == 0 { 0 } else { 1 + at % others };
            let (address, node) = nodes.place(node);
            let mut pod = Endpoint::new(namespace, &format!("{app}-{hash}-{at:05x}"));
            pod.uid = name(&format!("{:016x}", random.number()));
            pod.labels = labels.clone();
            pod.addresses.push(address);
            pod.node = Some(node);
            pod.ports = declared(port);
            endpoints.push(pod);
        }
    }
    endpoints
}

fn declared(port: u16) -> Vec<DeclaredPort> {
    let declare =
        |port_name, number| DeclaredPort { name: name(port_name), protocol: Protocol::Tcp, number };
    vec![declare("main", port), declare("metrics", 9090)]
}

fn platform_pod(namespace: &str, app: &str, at: usize, place: (IpAddr, Name)) -> Endpoint {
    let mut pod = Endpoint::new(namespace, &format!("{app}-{at}"));
    pod.labels = labels([("app", app), ("tier", "platform")]);
    pod.addresses.push(place.0);
    pod.node = Some(place.1);
    pod
}

fn host_network_pods(nodes: usize) -> impl Iterator<Item = Endpoint> {
    let pod = |at: usize| {
        let app = ["kube-proxy", "node-exporter"][at % 2];
        let mut pod = Endpoint::new("kube-system", &format!("{app}-{at}"));
        pod.labels = labels([("app", app)]);
        pod.host_network = true;
        pod.node = Some(node_name(at / 2));
        pod
    };
    (0..2 * nodes).map(pod)
}

/// One policy in the proportions in which they are written: most for ingress, between apps, to one or two ports.
pub(super) fn written_policy(namespace: &Name, at: usize, random: &mut Random) -> Policy {
    let (app, tier, port) = random.pick(&APPS);
    let (other, other_tier, _) = random.pick(&APPS);
    let subject = match random.below(10) {
        0 => Selector::everything(),
        1 => label("tier", tier),
        2 => Selector::new([Requirement::is_in("app", [app, other])]),
        _ => label("app", app),
    };
    let mut policy = policy(namespace, &format!("policy-{at}"), subject);
    let main = [tcp(port)];
    match random.below(100) {
        0..8 => {
            policy = self::policy(namespace, &format!("default-deny-{at}"), Selector::everything());
            policy.ingress = Some(Vec::new());
            if random.percent(25) {
                policy.egress = Some(Vec::new());
            }
        }
        8..16 => {
            policy.ingress = Some(vec![allow(vec![here(namespace, Selector::everything())], &[])]);
        }
        16..46 => {
            policy.ingress = Some(vec![allow(vec![here(namespace, label("app", other))], &main)]);
        }
        46..60 => {
            let team = label("team", &format!("team-{}", random.below(TEAMS)));
            policy.ingress = Some(vec![allow(vec![there(team, label("app", other))], &main)]);
        }
        60..64 => {
            let peer = Requirement::is_not_in("env", ["dev", "staging"]);
            let peer = there(Selector::new([peer]), label("tier", other_tier));
            policy.ingress = Some(vec![allow(vec![peer], &main)]);
        }
        64..69 => {
            let monitoring = there(named("monitoring"), Selector::everything());
            let metrics = PortMatch::Named(Some(Protocol::Tcp), name("metrics"));
            policy.ingress = Some(vec![allow(vec![monitoring], &[metrics])]);
        }
        69..75 => {
            let peer = there(named("ingress-nginx"), Selector::everything());
            policy.ingress = Some(vec![allow(vec![peer], &[tcp(80), tcp(443)])]);
        }
        75..78 => {
            let [a, b] = [low_byte(random), low_byte(random)];
            let length = random.pick(&[16, 20, 24]);
            let office = block(cidr([192, a, b, 0], length), &[cidr([192, a, b, 16], 28)]);
            policy.ingress = Some(vec![allow(vec![office], &main)]);
        }
        78..80 => {
            let range =
                PortRange::new(8000, 8100).map(|range| PortMatch::Range(Protocol::Tcp, range));
            let ports: Vec<PortMatch> = range.into_iter().collect();
            policy.ingress = Some(vec![allow(vec![here(namespace, label("app", other))], &ports)]);
        }
        80..88 => policy.egress = Some(vec![dns()]),
        88..95 => {
            let data = allow(vec![here(namespace, label("tier", "data"))], &[tcp(5432), tcp(6379)]);
            policy.egress = Some(vec![data, dns()]);
        }
        _ => {
            let private =
                [cidr([10, 0, 0, 0], 8), cidr([172, 16, 0, 0], 12), cidr([192, 168, 0, 0], 16)];
            let internet = block(cidr([0, 0, 0, 0], 0), &private);
            policy.egress = Some(vec![allow(vec![internet], &[tcp(443)]), dns()]);
        }
    }
    policy
}

fn dns() -> Rule {
    allow(vec![there(named("kube-system"), label("app", "coredns"))], &[udp(53), tcp(53)])
}

fn named(namespace: &str) -> Selector {
    label("kubernetes.io/metadata.name", namespace)
}
