//! How fast, and how large: on request, as it takes minutes and a machine that does nothing else.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use kube::Client;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::Check;
use crate::traffic::{End, Stream};
use crate::world::{NODES, World, api_of, fresh, name_of, namespace, network_policy, pod};

pub(crate) const CHECKS: &[Check] =
    &[("latency_from_api_to_packet", latency), ("ten_thousand_policies", ten_thousand_policies)];

fn on_request() -> Result<(), String> {
    let long = std::env::var_os("NETPOL_LONG").is_some();
    if long { Ok(()) } else { Err("takes minutes; set NETPOL_LONG to run it".to_owned()) }
}

/// From the API write to the first packet that is judged by it, in both directions.
fn latency(world: &mut World) -> Result<(), String> {
    on_request()?;
    fresh(world);
    world.start_pod(&pod("x", "server", 1, 20, json!({"app": "server"})));
    world.start_pod(&pod("y", "client", 2, 20, json!({"app": "client"})));
    world.apply(&network_policy(
        "x",
        "deny",
        json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
    ));
    let allow = network_policy(
        "x",
        "allow",
        json!({"podSelector": {}, "ingress": [{"ports": [{"port": 9, "protocol": "UDP"}]}]}),
    );
    let end = |name: &str| End::new(&world.testbed, name, world.address(name));
    let stream = Stream::begin(&end("y/client"), &end("x/server"), 9);
    // The API server's first writes of a kind take longer than all others.
    for _ in 0..3 {
        world.apply(&allow);
        world.delete(&allow);
    }
    sleep(Duration::from_secs(1));
    stream.last();
    let mut policies = 2;
    for wanted in [10, 100, 1000] {
        let more: Vec<Value> = (policies..wanted).map(|number| {
            let label = || json!({"matchLabels": {"app": format!("app-{number}")}});
            network_policy("x", &format!("p{number}"), json!({
                // Every other one is about the server.
                "podSelector": if number % 2 == 0 { json!({}) } else { label() },
                "ingress": [{"from": [{"namespaceSelector": {}, "podSelector": label()}], "ports": [{"port": 1000 + number}]}],
            }))
        }).collect();
        policies = wanted;
        create_all(world, &more);
        sleep(Duration::from_secs(2));
        let [mut opened, mut closed, mut written] = [const { Vec::new() }; 3];
        for _ in 0..50 {
            let begin = Instant::now();
            world.apply(&allow);
            written.push(begin.elapsed());
            opened.push(stream.first_after(begin) - begin);
            sleep(Duration::from_millis(50));
            let begin = Instant::now();
            world.delete(&allow);
            sleep(Duration::from_millis(400));
            closed.push(stream.last().saturating_duration_since(begin));
        }
        for (what, times) in [
            ("first packet that is allowed", &mut opened),
            ("first packet that is denied", &mut closed),
            ("API server's answer", &mut written),
        ] {
            times.sort();
            let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
            println!(
                "        {wanted} policies, from the API write to the {what}: p50 {:?}, p90 {:?}, p99 {:?}",
                at(50),
                at(90),
                at(99)
            );
        }
    }
    stream.end();
    Ok(())
}

/// 10,000 policies and 5,000 pods, a hundred of them on this node; what that costs its agent.
fn ten_thousand_policies(world: &mut World) -> Result<(), String> {
    on_request()?;
    fresh(world);
    let node = NODES[0];
    let (mut namespaces, mut pods, mut policies) = (Vec::new(), Vec::new(), Vec::new());
    for ns in 0..100 {
        let name = format!("team-{ns}");
        namespaces.push(namespace(&name, json!({"team": name, "tier": format!("t{}", ns % 5)})));
        for number in 0..50 {
            let at = ns * 50 + number;
            let mut it = pod(
                &name,
                &format!("pod-{number}"),
                1,
                1,
                json!({"app": format!("app-{}", number % 10), "pod": format!("{at}")}),
            );
            it["spec"]["nodeName"] =
                if at % 50 == 0 { node.into() } else { format!("other-{}", at % 50).into() };
            it["status"]["podIPs"][0]["ip"] =
                format!("10.{}.{}.{}", 100 + at % 50, at / 250, at % 250 + 1).into();
            pods.push(it);
        }
        for number in 0..100 {
            policies.push(network_policy(&name, &format!("policy-{number}"), json!({
                "podSelector": {"matchLabels": {"app": format!("app-{}", number % 10)}},
                "ingress": [{
                    "from": [
                        {"podSelector": {"matchLabels": {"app": format!("app-{}", (number + 1) % 10)}}},
                        {"namespaceSelector": {"matchLabels": {"tier": format!("t{}", number % 5)}}},
                        {"ipBlock": {"cidr": format!("192.168.{number}.0/24")}},
                    ],
                    "ports": [{"port": 1000 + number}, {"port": 53, "protocol": "UDP"}],
                }],
            })));
        }
    }
    let begin = Instant::now();
    create_all(world, &namespaces);
    create_all(world, &pods);
    create_all(world, &policies);
    println!("        created in {:?}", begin.elapsed());
    world.kill_agent(node);
    let begin = Instant::now();
    world.start_agent(node);
    world.wait_until_ready(node);
    println!("        from start to ready {:?}", begin.elapsed());
    let process = format!("/proc/{}", world.agent_pid(node));
    let ticks = || {
        let stat = fs::read_to_string(format!("{process}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    sleep(Duration::from_secs(10));
    let (begin, before) = (Instant::now(), ticks());
    sleep(Duration::from_secs(60));
    // A tick is a hundredth of a second.
    let share = (ticks() - before) as f64 / begin.elapsed().as_secs_f64();
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let now = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim();
    println!("        peak memory {peak}, now {now}; idle CPU {share:.2} %");
    let kilobytes: u64 = peak.split(' ').next().unwrap().parse().unwrap();
    assert!(kilobytes < 150 * 1024, "{peak}");
    assert!(share < 1.0, "{share} % of a CPU");
    Ok(())
}

/// Creates many objects, some at a time.
fn create_all(world: &World, objects: &[Value]) {
    let create = async |client: Client, object: &Value| {
        let mut object = object.clone();
        let api = api_of(&client, &object);
        let status = object.as_object_mut().unwrap().remove("status");
        let name = name_of(&object).to_owned();
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
        if let Some(status) = status {
            let patch = Patch::Merge(json!({"status": status}));
            api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
        }
    };
    world.api(async |client| {
        let created = objects.iter().map(|object| create(client.clone(), object));
        stream::iter(created).buffer_unordered(32).collect::<()>().await;
    });
}
