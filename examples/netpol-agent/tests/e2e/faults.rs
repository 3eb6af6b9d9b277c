//! What must not matter: agents and API servers that die at any moment.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use netpol_testbed::{Place, Probe, Traffic};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::Check;
use crate::traffic::{Denied, End, Steady};
use crate::world::{NODES, World, eventually, fresh, network_policy, pod};

pub(crate) const CHECKS: &[Check] = &[
    ("nothing_dies_with_agents_and_api_servers", nothing_dies_with_them),
    ("a_node_comes_up_without_the_api_server", a_node_comes_up_without_the_api_server),
    ("a_new_node_is_closed_until_it_hears", a_new_node_is_closed_until_it_hears),
    ("changes_that_no_watch_has_heard_of", changes_that_no_watch_has_heard_of),
    ("the_api_server_is_away_for_long", the_api_server_is_away_for_long),
    ("what_is_not_in_force_is_reported", what_is_not_in_force_is_reported),
    ("an_agent_that_is_told_to_end_leaves_enforcement", told_to_end),
    ("what_others_change_is_repaired", what_others_change_is_repaired),
    ("enforcement_can_be_ended", enforcement_can_be_ended),
];

const WEB: Traffic = Traffic::Tcp(80);

/// x/server is for x/friend, and x/stranger is none.
fn prepare(world: &mut World) {
    fresh(world);
    for (name, node) in [("server", 1), ("friend", 2), ("stranger", 3)] {
        world.start_pod(&pod("x", name, node, 20, json!({"app": name})));
    }
    // A neighbour on the server's node: one kernel decides alone.
    world.start_pod(&pod("x", "neighbour", 1, 21, json!({})));
    world.apply(&network_policy(
        "x",
        "server",
        json!({
            "podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
        }),
    ));
    expect(world, "before");
}

fn expect(world: &World, when: &str) {
    let to_server = |from: &str| world.probe(from, "x/server", WEB);
    world.expect(
        when,
        &[
            (to_server("x/friend"), true),
            (to_server("x/stranger"), false),
            (to_server("x/neighbour"), false),
        ],
    );
}

/// Not one packet is allowed that the policies deny, and connections that they allow go on.
fn nothing_dies_with_them(world: &mut World) -> Result<(), String> {
    prepare(world);
    let end = |name: &str| End::new(&world.testbed, name, world.address(name));
    let server = end("x/server");
    let denied = [("x/stranger", 9001), ("x/neighbour", 9002)]
        .map(|(from, port)| Denied::begin(&end(from), &server, port));
    let steady = Steady::begin(&end("x/friend"), &server, 9003);
    let rounds = if std::env::var_os("NETPOL_LONG").is_some() { 20 } else { 1 };
    for round in 0..rounds {
        // At a moment of the start that differs from round to round.
        for pause in [0, 30, 100, 300, 1000] {
            world.kill_agents();
            NODES.iter().for_each(|node| world.start_agent(node));
            sleep(Duration::from_millis(pause + 7 * round));
        }
        NODES.iter().for_each(|node| world.wait_until_ready(node));

        world.control_plane.kill_server();
        sleep(Duration::from_millis(500));
        world.start_server();
        expect(world, "after the API server");

        world.kill_agents();
        world.control_plane.kill_server();
        NODES.iter().for_each(|node| world.start_agent(node));
        sleep(Duration::from_millis(500));
        world.kill_agents();
        world.start_server();
        world.start_agents();
        expect(world, "after both");
    }
    let (mut sent, mut received) = (0, 0);
    for denied in denied {
        let (more_sent, more_received) = denied.end();
        sent += more_sent;
        received += more_received;
    }
    let (count, longest) = steady.end().expect("the allowed connection broke");
    println!(
        "        {received} of {sent} forbidden datagrams received; {count} bytes to and fro, the slowest in {longest:?}"
    );
    assert!(sent > 1000 && count > 1000);
    assert_eq!(received, 0);
    Ok(())
}

/// After a reboot the kernel has nothing, and what is known is on disk.
fn a_node_comes_up_without_the_api_server(world: &mut World) -> Result<(), String> {
    prepare(world);
    // What is in force gets to disk within seconds.
    let path = world.directory.join(NODES[0]).join("objects.jsonl");
    eventually("the pods are on disk", || {
        fs::read_to_string(&path).is_ok_and(|text| text.contains("neighbour"))
    });
    world.kill_agents();
    world.control_plane.kill_server();
    for node in NODES {
        nft(world, node, &["flush", "ruleset"]);
    }
    let open = world.probe("x/stranger", "x/server", WEB);
    world.expect("nothing is in force", &[(open, true)]);
    NODES.iter().for_each(|node| world.start_agent(node));
    expect(world, "from disk");
    assert!(world.get(NODES[0], "/readyz").starts_with("HTTP/1.1 503"), "that is not ready");
    world.start_server();
    NODES.iter().for_each(|node| world.wait_until_ready(node));
    expect(world, "from the API server");
    Ok(())
}

/// Nothing is in the kernel, nothing is on disk, and nobody is there to ask: no pod reaches another one.
fn a_new_node_is_closed_until_it_hears(world: &mut World) -> Result<(), String> {
    prepare(world);
    world.kill_agents();
    world.control_plane.kill_server();
    for node in NODES {
        assert!(world.run_agent(node, &["--remove"]).success());
        fs::remove_dir_all(world.directory.join(node)).unwrap();
    }
    let [friend, stranger, neighbour] = ["friend", "stranger", "neighbour"]
        .map(|it| world.probe(&format!("x/{it}"), "x/server", WEB));
    world.expect("nothing is in force", &[(stranger.clone(), true)]);
    NODES.iter().for_each(|node| world.start_agent(node));
    let back = world.probe("x/server", "x/friend", WEB);
    // Of the node itself nothing is denied: kubelets, other nodes.
    let from_node = |at: u8, to| Probe {
        from: Place::Node(NODES[usize::from(at) - 1].to_owned()),
        source: IpAddr::from([172, 18, 0, 10 + at]),
        to,
        traffic: WEB,
    };
    let kubelet = from_node(1, world.address("x/server"));
    let other = from_node(2, IpAddr::from([172, 18, 0, 11]));
    let closed = [
        (friend, false),
        (stranger, false),
        (neighbour, false),
        (back, false),
        (kubelet, true),
        (other, true),
    ];
    world.expect("closed", &closed);
    assert!(world.get(NODES[0], "/readyz").starts_with("HTTP/1.1 503"), "that is not ready");
    world.kill_agents();
    world.expect("closed, with nobody there", &closed);
    NODES.iter().for_each(|node| world.start_agent(node));
    if world.uses_nft() {
        eventually("it hears of what others do", || !world.get(NODES[0], "/healthz").is_empty());
        nft(world, NODES[0], &["flush", "ruleset"]);
        world.expect("closed again", &closed);
    }
    world.start_server();
    NODES.iter().for_each(|node| world.wait_until_ready(node));
    expect(world, "from the API server");
    Ok(())
}

/// While the agents hear nothing, objects change, and an API server starts that cannot tell how it came to that: the
/// watches cannot go on from where they were (410 Gone).
fn changes_that_no_watch_has_heard_of(world: &mut World) -> Result<(), String> {
    prepare(world);
    world.apply(&network_policy(
        "x",
        "other",
        json!({"podSelector": {"matchLabels": {"app": "friend"}}}),
    ));
    let back = world.probe("x/server", "x/friend", WEB);
    world.expect("before", &[(back.clone(), false)]);
    let heard = world.log(NODES[0]).len();
    world.signal_agents(Signal::SIGSTOP);
    world.delete(&network_policy("x", "other", json!({})));
    world.label_pod("x/friend", &json!({"app": "stranger"}));
    world.label_pod("x/stranger", &json!({"app": "friend"}));
    world.stop_pod("x/neighbour");
    world.start_pod(&pod("x", "newcomer", 1, 21, json!({"app": "friend"})));
    world.control_plane.kill_server();
    world.control_plane.compact(&world.testbed);
    world.start_server();
    world.signal_agents(Signal::SIGCONT);
    let to_server = |from: &str| world.probe(from, "x/server", WEB);
    world.expect(
        "after",
        &[
            (back, true),
            (to_server("x/friend"), false),
            (to_server("x/stranger"), true),
            (to_server("x/newcomer"), true),
        ],
    );
    eventually("a watch was told that it is too old", || is_gone(&world.log(NODES[0])[heard..]));
    Ok(())
}

/// Whether a watch was told that it cannot go on from where it was: 410 Gone.
fn is_gone(log: &str) -> bool {
    log.contains("too old resource version") || log.contains("mvcc: required revision")
}

/// Hours without it differ from seconds in that the store has forgotten what the agents know; and so it is made to.
fn the_api_server_is_away_for_long(world: &mut World) -> Result<(), String> {
    prepare(world);
    let heard = world.log(NODES[0]).len();
    world.control_plane.kill_server();
    world.control_plane.compact(&world.testbed);
    for _ in 0..3 {
        sleep(Duration::from_millis(500));
        expect(world, "while it is away");
    }
    for node in NODES {
        assert!(world.get(node, "/readyz").starts_with("HTTP/1.1 200"), "the kernel has it all");
    }
    let log = world.log(NODES[0]);
    assert!(log[heard..].contains("enforcement stays as it is"), "{}", &log[heard..]);
    world.start_server();
    expect(world, "when it is back");
    world.label_pod("x/stranger", &json!({"app": "friend"}));
    world.expect("what is new is heard", &[(world.probe("x/stranger", "x/server", WEB), true)]);
    Ok(())
}

/// The tables are somebody else's, and so nothing can be put into force.
fn what_is_not_in_force_is_reported(world: &mut World) -> Result<(), String> {
    if !world.uses_nft() {
        return Err("only tables of nft can be owned".to_owned());
    }
    prepare(world);
    let mut owner = world
        .testbed
        .in_node(NODES[0], || Command::new("nft").arg("-i").stdin(Stdio::piped()).spawn())
        .unwrap()
        .unwrap();
    let mut orders = owner.stdin.take().unwrap();
    writeln!(orders, "delete table ip netpol; add table ip netpol {{ flags owner; }}").unwrap();
    eventually("there is an Event", || {
        let events = world.list("events.k8s.io/v1", "Event");
        events.iter().any(|event| {
            event["reason"] == "PoliciesNotInForce"
                && event["regarding"]["kind"] == "Node"
                && event["regarding"]["name"] == NODES[0]
        })
    });
    assert!(world.get(NODES[0], "/readyz").starts_with("HTTP/1.1 503"), "that is not ready");
    drop(orders);
    assert!(owner.wait().unwrap().success());
    expect(world, "when the tables are free");
    world.wait_until_ready(NODES[0]);
    Ok(())
}

fn told_to_end(world: &mut World) -> Result<(), String> {
    prepare(world);
    for node in NODES {
        assert!(world.end_agent(node).success());
    }
    expect(world, "nobody there");
    world.start_agents();
    expect(world, "after them");
    Ok(())
}

fn what_others_change_is_repaired(world: &mut World) -> Result<(), String> {
    prepare(world);
    for command in [&["flush", "ruleset"][..], &["delete", "table", "ip", "netpol"]] {
        nft(world, NODES[0], command);
        expect(world, "repaired");
    }
    let metrics = world.get(NODES[0], "/metrics");
    let drift = "netpol_kernel_drift_total{backend=\"nft\"} ";
    let drift = metrics.lines().find_map(|line| line.strip_prefix(drift)).expect("drift");
    assert!(drift.parse::<u32>().unwrap() >= 2, "{drift}");
    Ok(())
}

fn enforcement_can_be_ended(world: &mut World) -> Result<(), String> {
    prepare(world);
    world.kill_agents();
    for node in NODES {
        assert!(world.run_agent(node, &["--remove"]).success());
        assert!(!nft(world, node, &["list", "ruleset"]).to_lowercase().contains("netpol"));
    }
    let stranger = world.probe("x/stranger", "x/server", WEB);
    world.expect("not policed", &[(stranger, true)]);
    world.start_agents();
    expect(world, "again");
    Ok(())
}

/// Runs the nft tool on a node.
fn nft(world: &World, node: &str, arguments: &[&str]) -> String {
    let run = || Command::new("nft").args(arguments).output().unwrap();
    let output = world.testbed.in_node(node, run).unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
