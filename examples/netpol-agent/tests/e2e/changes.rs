//! What changes in the life of a cluster.

use std::fs;
use std::path::Path;
use std::time::Duration;

use netpol_testbed::Traffic;
use serde_json::{Value, json};

use crate::Check;
use crate::traffic::{Connection, End};
use crate::world::{NODES, World, documents, eventually, fresh, namespace, network_policy, pod};

pub(crate) const CHECKS: &[Check] = &[
    ("labels_of_a_pod_change", labels_of_a_pod_change),
    ("labels_of_a_namespace_change", labels_of_a_namespace_change),
    ("policies_change_and_go", policies_change_and_go),
    ("an_address_goes_from_pod_to_pod", an_address_goes_from_pod_to_pod),
    ("an_unknown_pod_gets_no_access", an_unknown_pod_gets_no_access),
    ("forbidden_connections_are_cut_and_others_are_not", forbidden_connections_are_cut),
    ("what_was_denied_is_recorded", what_was_denied_is_recorded),
    ("a_policy_is_enforced_since", a_policy_is_enforced_since),
    ("only_the_nodes_concerned_have_rules", only_the_nodes_concerned_have_rules),
    ("the_manifests_are_good", the_manifests_are_good),
];

const WEB: Traffic = Traffic::Tcp(80);

/// Only clients may reach the server.
fn for_clients(from: Value) -> Value {
    network_policy(
        "x",
        "for-clients",
        json!({
            "podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"from": [from]}],
        }),
    )
}

fn labels_of_a_pod_change(world: &mut World) -> Result<(), String> {
    fresh(world);
    world.start_pod(&pod("x", "server", 1, 20, json!({"app": "server"})));
    world.start_pod(&pod("x", "one", 2, 20, json!({"app": "client"})));
    world.start_pod(&pod("x", "two", 3, 20, json!({})));
    world.apply(&for_clients(json!({"podSelector": {"matchLabels": {"app": "client"}}})));
    let expect = |world: &World, one, two| {
        let to_server = |from: &str| world.probe(from, "x/server", WEB);
        world.expect("labels", &[(to_server("x/one"), one), (to_server("x/two"), two)]);
    };
    expect(world, true, false);
    world.label_pod("x/two", &json!({"app": "client"}));
    expect(world, true, true);
    world.label_pod("x/one", &json!({"app": "other"}));
    expect(world, false, true);
    // The server is none any more.
    world.label_pod("x/server", &json!({}));
    expect(world, true, true);
    Ok(())
}

fn labels_of_a_namespace_change(world: &mut World) -> Result<(), String> {
    fresh(world);
    world.start_pod(&pod("x", "server", 1, 20, json!({"app": "server"})));
    world.start_pod(&pod("y", "client", 2, 20, json!({})));
    world.apply(&for_clients(json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}})));
    let probe = world.probe("y/client", "x/server", WEB);
    for (team, allowed) in [("red", false), ("blue", true), ("red", false)] {
        world.apply(&namespace("y", json!({"team": team})));
        world.expect(team, &[(probe.clone(), allowed)]);
    }
    Ok(())
}

fn policies_change_and_go(world: &mut World) -> Result<(), String> {
    fresh(world);
    world.start_pod(&pod("x", "server", 1, 20, json!({"app": "server"})));
    world.start_pod(&pod("x", "client", 2, 20, json!({})));
    let probes = [80, 81].map(|port| world.probe("x/client", "x/server", Traffic::Tcp(port)));
    let policy = |ingress| network_policy("x", "p", json!({"podSelector": {}, "ingress": ingress}));
    let expect = |world: &World, [first, second]: [bool; 2]| {
        let [one, two] = probes.clone();
        world.expect("ports", &[(one, first), (two, second)]);
    };
    expect(world, [true, true]);
    for (ingress, expected) in [
        (json!([{"ports": [{"port": 80}]}]), [true, false]),
        (json!([{"ports": [{"port": 81}]}]), [false, true]),
        (json!([]), [false, false]),
        (json!([{}]), [true, true]),
        (json!([]), [false, false]),
    ] {
        world.apply(&policy(ingress));
        expect(world, expected);
    }
    world.delete(&policy(json!([])));
    expect(world, [true, true]);
    Ok(())
}

/// A pod ends and another one gets its address: whether the API server tells of the one or of the other first.
fn an_address_goes_from_pod_to_pod(world: &mut World) -> Result<(), String> {
    fresh(world);
    world.start_pod(&pod("x", "server", 1, 20, json!({"app": "server"})));
    world.apply(&for_clients(json!({"podSelector": {"matchLabels": {"app": "client"}}})));
    for round in 0..3 {
        let client = pod("x", "client", 2, 30, json!({"app": "client"}));
        world.start_pod(&client);
        world.expect("a client", &[(world.probe("x/client", "x/server", WEB), true)]);
        // It restarts under its name, as a pod of a StatefulSet does.
        world.stop_pod("x/client");
        world.start_pod(&client);
        world.expect("again", &[(world.probe("x/client", "x/server", WEB), true)]);
        let stranger = pod("x", "stranger", 2, 30, json!({}));
        if round == 0 {
            world.stop_pod("x/client");
            world.start_pod(&stranger);
        } else {
            // It is done, but its object stays.
            world.finish_pod("x/client");
            world.start_pod(&stranger);
        }
        let probe = world.probe("x/stranger", "x/server", WEB);
        world.expect("a stranger", &[(probe.clone(), false)]);
        if round > 0 {
            world.delete(&client);
            world.expect("a stranger", &[(probe, false)]);
        }
        world.stop_pod("x/stranger");
    }
    Ok(())
}

fn an_unknown_pod_gets_no_access(world: &mut World) -> Result<(), String> {
    fresh(world);
    world.start_pod(&pod("x", "known", 1, 20, json!({})));
    let unknown = pod("x", "unknown", 2, 40, json!({}));
    world.wire_pod(&unknown);
    let probes = [("x/unknown", "x/known"), ("x/known", "x/unknown")]
        .map(|(from, to)| world.probe(from, to, WEB));
    world.expect("unknown", &probes.clone().map(|probe| (probe, false)));
    world.tell_pod(&unknown);
    world.expect("known", &probes.clone().map(|probe| (probe, true)));
    world.delete(&unknown);
    world.expect("unknown again", &probes.map(|probe| (probe, false)));
    world.forget_pod("x/unknown");
    Ok(())
}

fn forbidden_connections_are_cut(world: &mut World) -> Result<(), String> {
    fresh(world);
    for (name, node) in [("server", 1), ("one", 2), ("two", 3)] {
        world.start_pod(&pod("x", name, node, 20, json!({"app": name})));
    }
    world.expect("open", &[(world.probe("x/one", "x/server", WEB), true)]);
    let end = |name: &str| End::new(&world.testbed, name, world.address(name));
    let mut one = Connection::open(&end("x/one"), &end("x/server"), 7001);
    let mut two = Connection::open(&end("x/two"), &end("x/server"), 7002);
    let second = Duration::from_secs(1);
    assert!(one.works_within(second) && two.works_within(second));
    world.apply(&for_clients(json!({"podSelector": {"matchLabels": {"app": "two"}}})));
    world.expect("one is forbidden", &[(world.probe("x/one", "x/server", WEB), false)]);
    eventually("the connection is cut", || !one.works_within(second));
    assert!(two.works_within(second), "what is allowed goes on");
    Ok(())
}

fn what_was_denied_is_recorded(world: &mut World) -> Result<(), String> {
    fresh(world);
    world.start_pod(&pod("x", "server", 1, 20, json!({"app": "server"})));
    world.start_pod(&pod("x", "client", 2, 20, json!({})));
    world.apply(&for_clients(json!({"podSelector": {"matchLabels": {"app": "client"}}})));
    world.expect("denied", &[(world.probe("x/client", "x/server", Traffic::Tcp(4711)), false)]);
    let path = world.directory.join(NODES[0]).with_extension("records");
    eventually("there is a record", || {
        let records = fs::read_to_string(&path).unwrap();
        let mut records = records.lines().map(|it| serde_json::from_str::<Value>(it).unwrap());
        records.any(|record| {
            record["dst"]["port"] == 4711
                && record["src"]["name"] == "client"
                && record["dst"]["name"] == "server"
                && record["direction"] == "ingress"
                && record["policies"][0]["name"] == "for-clients"
        })
    });
    Ok(())
}

fn a_policy_is_enforced_since(world: &mut World) -> Result<(), String> {
    fresh(world);
    let lines = |world: &World| {
        let answer = world.get(NODES[0], "/policies");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        let lines = body.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["name"] == "for-clients").collect::<Vec<_>>()
    };
    world.apply(&for_clients(json!({"podSelector": {}})));
    eventually("it is enforced", || {
        let lines = lines(world);
        lines.len() == 1 && lines[0]["generation"] == 1 && lines[0]["enforcedSince"].is_string()
    });
    world.apply(&for_clients(json!({"podSelector": {"matchLabels": {"a": "b"}}})));
    eventually("the second generation is", || {
        lines(world).iter().any(|it| it["generation"] == 2 && it["enforcedSince"].is_string())
    });
    let metrics = world.get(NODES[0], "/metrics");
    assert!(metrics.contains("netpol_in_sync 1"), "{metrics}");
    Ok(())
}

/// A policy that concerns no pod of a node costs nothing in its kernel.
fn only_the_nodes_concerned_have_rules(world: &mut World) -> Result<(), String> {
    fresh(world);
    world.start_pod(&pod("x", "server", 1, 20, json!({"app": "server"})));
    world.start_pod(&pod("x", "client", 2, 20, json!({})));
    let rules = |world: &World, node: &str| {
        let list = || std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
        String::from_utf8(world.testbed.in_node(node, list).unwrap().stdout).unwrap()
    };
    let probe = world.probe("x/client", "x/server", WEB);
    world.expect("open", &[(probe.clone(), true)]);
    let before = rules(world, NODES[2]);
    world.apply(&for_clients(json!({"podSelector": {"matchLabels": {"app": "nobody"}}})));
    world.expect("closed", &[(probe, false)]);
    assert!(rules(world, NODES[0]).contains("x/server"));
    assert_eq!(rules(world, NODES[2]), before);
    Ok(())
}

/// What there is to install is what the API server knows, field by field.
fn the_manifests_are_good(world: &mut World) -> Result<(), String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kustomize");
    for file in ["namespace.yaml", "rbac.yaml", "daemonset.yaml"] {
        for object in documents(&fs::read_to_string(directory.join(file)).unwrap()) {
            world.try_out(&object).unwrap();
        }
    }
    let mut wrong = documents(&fs::read_to_string(directory.join("daemonset.yaml")).unwrap());
    wrong[0]["spec"]["template"]["spec"]["hostNetworks"] = true.into();
    assert!(world.try_out(&wrong[0]).is_err());
    Ok(())
}
