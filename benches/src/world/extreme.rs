//! Shapes that push one dimension and leave the others alone.

use netpol_core::model::{
    Endpoint, Name, Namespace, Objects, PortMatch, PortRange, Ports, Protocol, Rule, Selector, name,
};

use super::parts::{Nodes, allow, block, cidr, here, label, labels, policy, tcp};
use crate::random::Random;

/// `policies` that all select every pod of one namespace; each allows `peers` apps to the same port, all of them out
/// of one tenth of the apps.
pub fn deep(policies: usize, peers: usize) -> Objects {
    let (mut objects, namespace) = namespace_of_apps(10_000, 1_000);
    let mut random = Random::new(2);
    for at in 0..policies {
        let apps = (0..peers).map(|_| format!("app-{}", random.below(100)));
        let peers = apps.map(|app| here(&namespace, label("app", &app))).collect();
        let mut all = policy(&namespace, &format!("deep-{at:05}"), Selector::everything());
        all.ingress = Some(vec![allow(peers, &[tcp(80)])]);
        objects.policies.push(all);
    }
    objects
}

/// The same, with a port of its own for each policy.
pub fn deep_ports(policies: usize, peers: usize) -> Objects {
    let mut objects = deep(policies, peers);
    for (policy, port) in objects.policies.iter_mut().zip(1024..) {
        for rule in policy.ingress.iter_mut().flatten() {
            rule.ports = Ports::AnyOf(vec![tcp(port)]);
        }
    }
    objects
}

/// `pods` of which each is selected by `selecting` policies, by a label of its own for each.
pub fn wide(pods: usize, selecting: usize) -> Objects {
    let apps = pods.div_ceil(10);
    let (mut objects, namespace) = namespace_of_apps(pods, apps);
    let mut random = Random::new(3);
    for app in 0..apps {
        for at in 0..selecting {
            let peer = label("app", &format!("app-{}", random.below(apps)));
            let subject = label("app", &format!("app-{app}"));
            let mut own = policy(&namespace, &format!("wide-{app:05}-{at}"), subject);
            let port = 8000 + u16::try_from(at).unwrap_or(0);
            own.ingress = Some(vec![allow(vec![here(&namespace, peer)], &[tcp(port)])]);
            objects.policies.push(own);
        }
    }
    objects
}

/// Policies of CIDR peers only, half of them ingress and half egress, as k8s-netpol-scale makes them: each selects
/// one app and allows `cidrs` blocks to one port.
pub fn blocks(policies: usize, cidrs: usize) -> Objects {
    let (mut objects, namespace) = namespace_of_apps(500, 50);
    let mut random = Random::new(4);
    for at in 0..policies {
        let subject = label("app", &format!("app-{}", at % 50));
        let mut own = policy(&namespace, &format!("cidr-{at:05}"), subject);
        let peer = |_| {
            let length = random.pick(&[16, 20, 24, 24, 28, 32]);
            let address = u32::try_from(random.number() >> 32).unwrap_or(0);
            let within = cidr(address, (length + 3).min(32));
            match random.percent(20) {
                true => block(cidr(address, length), &[within]),
                false => block(cidr(address, length), &[]),
            }
        };
        let peers = (0..cidrs).map(peer).collect();
        let rules = Some(vec![allow(peers, &[tcp(1024 + u16::try_from(at % 7).unwrap_or(0))])]);
        match at % 2 {
            0 => own.ingress = rules,
            _ => own.egress = rules,
        }
        objects.policies.push(own);
    }
    objects
}

/// One policy for one pod, as large as an API server takes: `rules` that each allow 10.0.0.0/8 but one address of it, on
/// all ports or on a port of its own each.
pub fn carved(rules: u16, a_port_each: bool) -> Objects {
    let allowed = (0..rules).map(|at| {
        let part = cidr(0x0a01_0000 | u32::from(at), 32);
        let ports = if a_port_each { vec![tcp(at)] } else { Vec::new() };
        allow(vec![block(cidr(0x0a00_0000, 8), &[part])], &ports)
    });
    one_policy(|_| allowed.collect())
}

/// The same, of `rules` that each allow an app of its own, on ports around those of the next.
pub fn nested_ports(rules: u16) -> Objects {
    let allowed = |namespace: &Name, at: u16| {
        let peers = vec![here(namespace, label("app", &format!("other-{at}")))];
        let ports = PortRange::new(at, u16::MAX - at).map(|it| PortMatch::Range(Protocol::Tcp, it));
        allow(peers, &ports.into_iter().collect::<Vec<_>>())
    };
    one_policy(|namespace| (0..rules).map(|at| allowed(namespace, at)).collect())
}

fn one_policy(rules: impl FnOnce(&Name) -> Vec<Rule>) -> Objects {
    let (mut objects, namespace) = namespace_of_apps(1, 1);
    let mut policy = policy(&namespace, "large", Selector::everything());
    policy.ingress = Some(rules(&namespace));
    objects.policies.push(policy);
    objects
}

fn namespace_of_apps(pods: usize, apps: usize) -> (Objects, Name) {
    let namespace = Namespace::new("apps", labels([("env", "prod")]));
    let mut nodes = Nodes::new(pods.div_ceil(100));
    let pod = |at: usize| {
        let (address, node) = nodes.place(at / 100);
        let mut endpoint = Endpoint::new(&namespace.name, &format!("pod-{at}"));
        endpoint.labels = labels([("app", &format!("app-{}", at % apps))]);
        endpoint.uid = name(&format!("uid-{at}"));
        endpoint.addresses.push(address);
        endpoint.node = Some(node);
        endpoint
    };
    let endpoints = (0..pods).map(pod).collect();
    let name = namespace.name.clone();
    let nodes = nodes.objects();
    (Objects { namespaces: vec![namespace], endpoints, nodes, ..Objects::default() }, name)
}
