//! What is accepted, rejected and how it is understood, by the numbers of the specification.
#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

#[path = "manifest/rejected.rs"]
mod rejected;

#[path = "manifest/accepted.rs"]
mod accepted;

#[path = "manifest/lenient.rs"]
mod lenient;

#[path = "manifest/workloads.rs"]
mod workloads;

#[path = "manifest/robust.rs"]
mod robust;

use netpol_core::manifest::{
    self, Loaded, Object, ReadOptions, Reading, Rejected, Strictness, Value,
};
use netpol_core::model::Policy;

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn strict() -> ReadOptions {
    ReadOptions::default()
}

fn lenient() -> ReadOptions {
    ReadOptions { strictness: Strictness::Lenient, ..ReadOptions::default() }
}

fn read(text: &str, options: &ReadOptions) -> Result<Reading, Rejected> {
    manifest::read_object(&yaml(text), options)
}

fn load(text: &str, options: &ReadOptions) -> Loaded {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    manifest::load(&documents, options)
}

/// The policy, with the warnings as `path message`.
fn policy(text: &str, options: &ReadOptions) -> (Policy, Vec<String>) {
    let reading = read(text, options).unwrap_or_else(|rejected| panic!("{rejected}\n{text}"));
    let warnings = reading.warnings.iter().map(|w| format!("{:?} {}", w.concern, w.path)).collect();
    match reading.object {
        Object::Policy(policy) => (policy, warnings),
        other => panic!("not a policy: {other:?}"),
    }
}

/// A NetworkPolicy `x/p` with this spec in flow style.
fn np(spec: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, \
         metadata: {{name: p, namespace: x}}, spec: {spec}}}"
    )
}

/// A NetworkPolicy with one ingress rule.
fn np_rule(rule: &str) -> String {
    np(&format!("{{podSelector: {{}}, ingress: [{rule}]}}"))
}

/// A cluster-wide policy with this spec in flow style.
fn wide(version: &str, kind: &str, name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: policy.networking.k8s.io/{version}, kind: {kind}, \
         metadata: {{name: {name}}}, spec: {spec}}}"
    )
}

fn cnp(spec: &str) -> String {
    wide("v1alpha2", "ClusterNetworkPolicy", "p", spec)
}

/// A ClusterNetworkPolicy with these rules, written as `ingress: [...]` or `egress: [...]`.
fn cnp_rules(rules: &str) -> String {
    cnp(&format!("{{tier: Admin, priority: 10, subject: {{namespaces: {{}}}}, {rules}}}"))
}

fn anp_rules(rules: &str) -> String {
    let spec = format!("{{priority: 10, subject: {{namespaces: {{}}}}, {rules}}}");
    wide("v1alpha1", "AdminNetworkPolicy", "p", &spec)
}

/// `count` times the same list entry.
fn repeated(entry: &str, count: usize) -> String {
    vec![entry; count].join(", ")
}
