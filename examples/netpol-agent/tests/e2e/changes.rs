//! What changes in the life of a cluster.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kube::api::PostParams;
use netpol_testbed::{Place, Probe, Traffic};
use serde_json::{Value, json};

use crate::Check;
use crate::traffic::{Connection, End};
use crate::world::{
    NODES, World, addresses, api_of, documents, eventually, fresh, namespace, network_policy, pod,
};

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
    ("the_chart_is_good", the_chart_is_good),
    ("an_agent_may_do_what_it_has_to", an_agent_may_do_what_it_has_to),
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
    let dual = |name: &str, node: usize, number: u8| {
        let mut pod = pod("x", name, node, number, json!({}));
        let addresses = pod["status"]["podIPs"].as_array_mut().unwrap();
        addresses.push(json!({"ip": format!("fd00:10:244:{node}::{number}")}));
        pod
    };
    world.start_pod(&dual("known", 1, 20));
    let unknown = dual("unknown", 2, 40);
    world.wire_pod(&unknown);
    let ways = [("x/unknown", "x/known"), ("x/known", "x/unknown")];
    let mut probes = ways.map(|(from, to)| world.probe(from, to, WEB)).to_vec();
    // The nodes' ranges of IPv6 addresses are too large for backends that do not know of ranges, which is told.
    let told = world.log(NODES[1]).contains("pods nobody has told of are not denied");
    assert_eq!(told, !world.uses_nft());
    if world.uses_nft() {
        let address = |name: &str| addresses(world.pod(name).unwrap())[1];
        probes.extend(ways.map(|(from, to)| Probe {
            from: Place::Pod(from.to_owned()),
            source: address(from),
            to: address(to),
            traffic: WEB,
        }));
    }
    let all = |allowed| probes.iter().map(|it| (it.clone(), allowed)).collect::<Vec<_>>();
    world.expect("unknown", &all(false));
    world.tell_pod(&unknown);
    world.expect("known", &all(true));
    world.delete(&unknown);
    world.expect("unknown again", &all(false));
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
        let list = || Command::new("nft").args(["list", "ruleset"]).output().unwrap();
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

/// What the chart makes of its values, in their defaults and otherwise, is what the API server knows; and an agent's
/// rights are those that the agents of these tests have.
fn the_chart_is_good(world: &mut World) -> Result<(), String> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let render = |set: &[&str]| {
        let mut helm = Command::new(std::env::var_os("HELM").unwrap_or_else(|| "helm".into()));
        helm.args(["template", "netpol-agent", "--namespace", "netpol-agent"]);
        helm.arg(deploy.join("helm/netpol-agent"));
        set.iter().for_each(|value| _ = helm.args(["--set", value]));
        let output = helm.output().map_err(|error| format!("there is no helm: {error}"))?;
        assert!(output.status.success(), "{output:?}");
        Ok::<_, String>(documents(&String::from_utf8(output.stdout).unwrap()))
    };
    let role = |objects: &[Value]| {
        let role = objects.iter().find(|it| it["kind"] == "ClusterRole").expect("a role");
        role["rules"].clone()
    };
    let own = documents(&fs::read_to_string(deploy.join("kustomize/rbac.yaml")).unwrap());
    let default = render(&[])?;
    assert_eq!(role(&default), role(&own));
    let silent = render(&["report=false"])?;
    assert_eq!(role(&silent).as_array().unwrap().len(), 3, "it only reads");
    let other = render(&[
        "backend=iptables-nft",
        "whenUnknown=allow",
        "podCidrs={10.0.0.0/24,fd00::/64}",
        "revoke=false",
        "logDenied=0",
        "listen=127.0.0.1",
        "port=1234",
        "nodeSelector.disk=ssd",
        "image.tag=2.0",
    ])?;
    for object in default.iter().chain(&silent).chain(&other) {
        world.try_out(object).unwrap();
    }
    let container = |objects: &[Value]| {
        let set = objects.iter().find(|it| it["kind"] == "DaemonSet").expect("a DaemonSet");
        set["spec"]["template"]["spec"]["containers"][0].clone()
    };
    let env = &container(&other)["env"];
    let value = |name: &str| {
        let found = env.as_array().unwrap().iter().find(|it| it["name"] == name);
        found.unwrap_or_else(|| panic!("no {name}"))["value"].clone()
    };
    assert_eq!(value("NETPOL_POD_CIDRS"), "10.0.0.0/24,fd00::/64");
    assert_eq!(value("NETPOL_REVOKE"), "false");
    assert_eq!(value("NETPOL_LISTEN"), "127.0.0.1:1234");
    assert_eq!(container(&other)["image"], "netpol-agent:2.0");
    assert_eq!(container(&default)["image"], "netpol-agent:0.1.0");
    Ok(())
}

/// The agents of all these tests have the rights of the manifests. These are no more than they need.
fn an_agent_may_do_what_it_has_to(world: &mut World) -> Result<(), String> {
    let control_plane = &world.control_plane;
    let may = |verb: &str, group: &str, resource: &str| {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "metadata": {},
            "spec": {"resourceAttributes": {"verb": verb, "group": group, "resource": resource}},
        });
        let answer = world.api(async |_| {
            let api = api_of(&control_plane.agent().await, &review);
            let review = serde_json::from_value(review.clone()).unwrap();
            api.create(&PostParams::default(), &review).await.unwrap()
        });
        answer.data["status"]["allowed"] == true
    };
    const POLICY: &str = "policy.networking.k8s.io";
    for (verb, group, resource, expected) in [
        ("watch", "", "pods", true),
        ("list", "", "nodes", true),
        ("watch", "networking.k8s.io", "networkpolicies", true),
        ("watch", POLICY, "clusternetworkpolicies", true),
        ("patch", POLICY, "clusternetworkpolicies/status", true),
        ("create", "events.k8s.io", "events", true),
        ("get", "", "secrets", false),
        ("list", "", "secrets", false),
        ("list", "", "configmaps", false),
        ("delete", "", "pods", false),
        ("patch", "", "nodes", false),
        ("create", "", "pods/exec", false),
        ("update", "networking.k8s.io", "networkpolicies", false),
        ("patch", POLICY, "clusternetworkpolicies", false),
        ("create", "rbac.authorization.k8s.io", "clusterrolebindings", false),
    ] {
        assert_eq!(may(verb, group, resource), expected, "{verb} {resource}");
    }
    Ok(())
}
