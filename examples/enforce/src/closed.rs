//! What is enforced while it is not known what to enforce.

use netpol_core::model::{
    NamespaceScope, PodSelector, Policy, PolicyKey, PolicyKind, Selector, Subject, Tier, name,
};

/// A policy that isolates every endpoint in both directions, under a name that tells why: for a host that finds nothing
/// in the kernel and cannot read its input yet. What comes from the own node is still let in (NP-NODE-1).
pub fn closed() -> Policy {
    let everything = PodSelector {
        namespaces: NamespaceScope::Matching(Selector::everything()),
        pods: Selector::everything(),
    };
    Policy {
        key: PolicyKey {
            kind: PolicyKind::NetworkPolicy,
            namespace: name(""),
            name: name("closed-until-the-input-is-complete"),
        },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(everything),
        ingress: Some(Vec::new()),
        egress: Some(Vec::new()),
    }
}
