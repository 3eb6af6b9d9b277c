//! The clusters that Antrea's controller is tested with (`networkpolicy_controller_perf_test.go`), so that the
//! figures can be laid beside those it publishes.

use netpol_core::model::{Endpoint, Namespace, Objects, Policy, Selector, name};

use super::parts::{Nodes, allow, here, label, labels, policy, there};
use crate::random::Random;

const NODES: usize = 1000;

/// Small namespaces: in each four pods of two kinds, a policy that denies everything, and one per kind that lets
/// the kind talk to itself. Antrea's test has 25,000 of them: 100,000 pods, 75,000 policies.
pub fn small_namespaces(namespaces: usize) -> Objects {
    let mut builder = Builder::new();
    for at in 0..namespaces {
        let namespace = builder.namespace(at, "app", &format!("ns-{at:05}"));
        builder.policy(policy(&namespace, "default-deny-all", Selector::everything()));
        for kind in ["1", "2"] {
            let (key, value) = (format!("app-{kind}"), format!("scale-{kind}"));
            let mut own = policy(&namespace, &format!("np-{kind}"), label(&key, &value));
            own.ingress = Some(vec![allow(vec![here(&namespace, label(&key, &value))], &[])]);
            builder.policy(own);
            for replica in ["a", "b"] {
                builder.pod(&namespace, &format!("pod-{kind}{replica}"), &key, &value);
            }
        }
    }
    builder.finish()
}

/// One namespace in which every policy selects every pod, and allows every pod. Antrea's test has 10,000 of each.
pub fn one_namespace(size: usize) -> Objects {
    let mut builder = Builder::new();
    let namespace = builder.namespace(0, "app", "ns");
    for at in 0..size {
        let mut all = policy(&namespace, &format!("np-{at:05}"), label("app-1", "scale-1"));
        all.ingress = Some(vec![allow(vec![here(&namespace, label("app-1", "scale-1"))], &[])]);
        builder.policy(all);
        builder.pod(&namespace, &format!("pod-{at:05}"), "app-1", "scale-1");
    }
    builder.finish()
}

/// Policies whose peers are in other namespaces: of a hundred pods and ten policies in each namespace, every policy
/// allows a hundred pods of the ten namespaces of one company. Antrea's test has 1,000 namespaces.
pub fn cross_namespace(namespaces: usize) -> Objects {
    let mut builder = Builder::new();
    for at in 0..namespaces {
        let company = format!("company-{}", at % 100);
        let namespace = builder.namespace(at, "company", &company);
        for kind in 0..10 {
            let app = format!("scale-{kind}");
            let mut own = policy(&namespace, &format!("np-{kind}"), label("app", &app));
            let peer = there(label("company", &company), label("app", &app));
            own.ingress = Some(vec![allow(vec![peer], &[])]);
            builder.policy(own);
            for replica in 0..10 {
                builder.pod(&namespace, &format!("pod-{kind}-{replica}"), "app", &app);
            }
        }
    }
    builder.finish()
}

struct Builder {
    objects: Objects,
    nodes: Nodes,
    random: Random,
}

impl Builder {
    fn new() -> Self {
        Self { objects: Objects::default(), nodes: Nodes::new(NODES), random: Random::new(1) }
    }

    fn namespace(&mut self, at: usize, key: &str, value: &str) -> netpol_core::model::Name {
        let namespace = Namespace::new(&format!("ns-{at:05}"), labels([(key, value)]));
        let name = namespace.name.clone();
        self.objects.namespaces.push(namespace);
        name
    }

    /// A policy that isolates in both directions, whatever rules it has.
    fn policy(&mut self, mut policy: Policy) {
        policy.ingress.get_or_insert_default();
        policy.egress.get_or_insert_default();
        self.objects.policies.push(policy);
    }

    fn pod(&mut self, namespace: &str, pod: &str, key: &str, value: &str) {
        let (address, node) = self.nodes.place(self.random.below(NODES));
        let mut endpoint = Endpoint::new(namespace, pod);
        endpoint.uid = name(&format!("{:016x}", self.random.number()));
        endpoint.labels = labels([(key, value)]);
        endpoint.addresses.push(address);
        endpoint.node = Some(node);
        self.objects.endpoints.push(endpoint);
    }

    fn finish(mut self) -> Objects {
        self.objects.nodes = self.nodes.objects();
        self.objects
    }
}
