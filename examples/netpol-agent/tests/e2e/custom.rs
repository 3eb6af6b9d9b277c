//! Kinds that the API server does not have from the beginning.

use netpol_testbed::Traffic;
use serde_json::{Value, json};

use crate::Check;
use crate::world::{NODES, World, eventually, fresh, namespace, pod};

pub(crate) const CHECKS: &[Check] =
    &[("cluster_network_policies_appear_and_are_reported_on", cluster_network_policies_appear)];

const API: &str = "policy.networking.k8s.io/v1alpha2";

/// As lax as can be: what the agent makes of a policy is to be seen, not what the API server does.
fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "clusternetworkpolicies.policy.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": "policy.networking.k8s.io", "scope": "Cluster",
            "names": {
                "kind": "ClusterNetworkPolicy", "listKind": "ClusterNetworkPolicyList",
                "plural": "clusternetworkpolicies", "singular": "clusternetworkpolicy",
            },
            "versions": [{
                "name": "v1alpha2", "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "status": {"type": "object", "properties": {"conditions": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["type"],
                        "items": {
                            "type": "object", "required": ["type"],
                            "properties": {"type": {"type": "string"}},
                            "x-kubernetes-preserve-unknown-fields": true,
                        },
                    }}},
                }}},
            }],
        },
    })
}

fn policy(action: &str, peer: Value) -> Value {
    json!({
        "apiVersion": API, "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "between-teams"},
        "spec": {
            "tier": "Admin", "priority": 10,
            "subject": {"namespaces": {"matchLabels": {"team": "blue"}}},
            "ingress": [{"action": action, "from": [peer]}],
        },
    })
}

fn cluster_network_policies_appear(world: &mut World) -> Result<(), String> {
    fresh(world);
    world.start_pod(&pod("x", "server", 1, 20, json!({})));
    world.start_pod(&pod("y", "client", 2, 20, json!({})));
    world.apply(&namespace("x", json!({"team": "blue"})));
    world.apply(&namespace("y", json!({"team": "red"})));
    let probe = world.probe("y/client", "x/server", Traffic::Tcp(80));
    world.expect("no policy", &[(probe.clone(), true)]);

    world.apply(&definition());
    let red = json!({"namespaces": {"matchLabels": {"team": "red"}}});
    let deny = policy("Deny", red);
    eventually("the kind is there", || world.try_apply(&deny).is_ok());
    world.expect("denied", &[(probe.clone(), false)]);
    let condition = |world: &World, generation: u64| {
        let policies = world.list(API, "ClusterNetworkPolicy");
        let conditions = policies[0]["status"]["conditions"].as_array().cloned();
        let own = |it: &Value| it["type"] == "netpol-agent/Accepted";
        let condition = conditions.into_iter().flatten().find(own);
        condition.filter(|it| it["observedGeneration"] == generation)
    };
    eventually("it is said to be understood", || {
        condition(world, 1).is_some_and(|it| it["status"] == "True")
    });

    // A peer of a later version of the API: an Accept rule with it allows nothing.
    world.apply(&policy("Accept", json!({"zodiacSigns": ["Leo"]})));
    world.expect("allowed by default", &[(probe.clone(), true)]);
    eventually("it is said what is not understood", || {
        condition(world, 2).is_some_and(|it| {
            it["status"] == "False"
                && it["message"].as_str().unwrap().contains("spec.ingress[0].from[0]")
        })
    });
    let is_counted = |world: &World| {
        world.get(NODES[0], "/metrics").contains("\nnetpol_diagnostics{code=\"FailClosed\"} 1\n")
    };
    eventually("it is counted", || is_counted(world));
    eventually("there is an Event", || {
        let events = world.list("events.k8s.io/v1", "Event");
        events.iter().any(|event| {
            event["reason"] == "NotUnderstood" && event["regarding"]["name"] == "between-teams"
        })
    });

    world.apply(&deny);
    world.expect("denied again", &[(probe.clone(), false)]);
    assert!(!is_counted(world));
    world.delete(&definition());
    world.expect("the kind and its objects are gone", &[(probe, true)]);
    Ok(())
}
