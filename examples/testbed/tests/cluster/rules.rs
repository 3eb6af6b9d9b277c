//! With rules in the nodes: exactly what they say is denied or refused, in the hooks that packets
//! must pass.

use std::io::Write;
use std::process::Stdio;

use netpol_testbed::Refusal;

use super::*;

pub(crate) const CHECKS: &[Check] = &[
    ("a_dropped_pair_is_denied_and_nothing_else", a_dropped_pair_is_denied_and_nothing_else),
    ("both_nodes_forward", both_nodes_forward),
    ("a_node_reaches_its_pods_through_the_output_hook", node_to_own_pod),
    ("a_pod_reaches_its_node_through_the_input_hook", pod_to_own_node),
    ("a_pod_reaches_itself_whatever_its_node_says", a_pod_reaches_itself),
    ("a_refusal_says_who_refused", a_refusal_says_who_refused),
    ("every_probe_is_a_new_connection", every_probe_is_a_new_connection),
    ("connection_tracking_finds_every_packet_valid", every_packet_is_valid),
    ("a_lost_packet_is_no_denial", a_lost_packet_is_no_denial),
    ("data_must_pass_after_the_handshake", data_must_pass_after_the_handshake),
    ("the_time_of_486_probes", the_time_of_486_probes),
];

/// Runs `nft -f -` in a node, for a table `inet t` with these contents.
fn load(testbed: &Testbed, node: &str, table: &str) -> Result<(), String> {
    let script = format!("table inet t\ndelete table inet t\ntable inet t {{\n{table}\n}}\n");
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match testbed.in_node(node, || nft.spawn()).unwrap() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err("there is no program `nft` here".to_owned());
        }
        child => child.unwrap(),
    };
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A chain of type filter with these rules.
fn chain(hook: &str, rules: &str) -> String {
    format!("chain {hook} {{ type filter hook {hook} priority 0;\n{rules}\n}}")
}

fn denied_if(denied: bool) -> Outcome {
    if denied { Outcome::Denied } else { Outcome::Allowed }
}

fn owner(topology: &Topology, address: IpAddr) -> Place {
    let node = topology.nodes.iter().find(|node| node.addresses.contains(&address));
    let pod = topology.pods.iter().find(|pod| pod.addresses.contains(&address));
    match (node, pod) {
        (Some(node), _) => on_node(&node.name),
        (_, Some(pod)) => in_pod(&pod.name),
        _ => Place::Outside,
    }
}

fn a_dropped_pair_is_denied_and_nothing_else() -> Result<(), String> {
    let topology = topology();
    let testbed = build(&topology);
    let traffic =
        [&PROTOCOLS[..], &[Traffic::Tcp(81), Traffic::Udp(81), Traffic::Sctp(81)]].concat();
    let rules = "ip saddr 10.0.1.1 ip daddr 10.9.4.2 tcp dport 80 drop
        ip6 daddr fd77:2::1 udp dport 81 drop
        ip daddr 10.9.4.3 meta l4proto sctp ct state new drop
        ip saddr 203.0.113.7 icmp type echo-request drop
        ip6 saddr 2001:db8::7 icmpv6 type echo-request drop";
    load(&testbed, "n1", &chain("forward", rules))?;
    expect(&testbed, &all_pairs(&topology, &traffic), |probe| {
        let on_n1 = |name: &str| name.starts_with("x/");
        let forwarded_by_n1 = |probe: &Probe| {
            let to = owner(&topology, probe.to);
            to != probe.from
                && [to, probe.from.clone()].iter().any(|place| match place {
                    Place::Pod(name) => on_n1(name),
                    _ => false,
                })
        };
        // A packet between n1 itself and its pods is not forwarded.
        let with_n1 = probe.from == on_node("n1") || owner(&topology, probe.to) == on_node("n1");
        let dropped = match probe.traffic {
            Traffic::Tcp(80) => probe.source == ip("10.0.1.1") && probe.to == ip("10.9.4.2"),
            Traffic::Udp(81) => probe.to == ip("fd77:2::1"),
            Traffic::Sctp(_) => probe.to == ip("10.9.4.3"),
            Traffic::Icmp => [ip("203.0.113.7"), ip("2001:db8::7")].contains(&probe.source),
            _ => false,
        };
        denied_if(forwarded_by_n1(probe) && !with_n1 && dropped)
    });
    Ok(())
}

/// Every address of a pod on the other node passes the forward hooks of both nodes.
fn both_nodes_forward() -> Result<(), String> {
    let topology = topology();
    for node in ["n1", "n2"] {
        let testbed = build(&topology);
        load(&testbed, node, &chain("forward", "drop"))?;
        expect(&testbed, &all_pairs(&topology, &PROTOCOLS), |probe| {
            let to = owner(&topology, probe.to);
            let below = |place: &Place| match place {
                Place::Pod(name) => name.starts_with("x/") == (node == "n1"),
                _ => false,
            };
            let ends_here = [&probe.from, &to].contains(&&on_node(node));
            denied_if(probe.from != to && !ends_here && (below(&probe.from) || below(&to)))
        });
    }
    Ok(())
}

fn node_to_own_pod() -> Result<(), String> {
    let topology = topology();
    let testbed = build(&topology);
    let rules = "ip saddr 192.168.10.1 ip daddr 10.0.1.1 ct state new drop
        ip6 saddr fd00:10::1 ip6 daddr fd77:1::1 ct state new drop";
    load(&testbed, "n1", &chain("output", rules))?;
    expect(&testbed, &all_pairs(&topology, &PROTOCOLS), |probe| {
        denied_if(probe.from == on_node("n1") && owner(&topology, probe.to) == in_pod("x/a"))
    });
    Ok(())
}

fn pod_to_own_node() -> Result<(), String> {
    let topology = topology();
    let testbed = build(&topology);
    let rules = "iifname \"pod*\" ct state new meta l4proto { tcp, udp, sctp } drop
        iifname \"pod*\" ct state new icmp type echo-request drop
        iifname \"pod*\" ct state new icmpv6 type echo-request drop";
    load(&testbed, "n1", &chain("input", rules))?;
    expect(&testbed, &all_pairs(&topology, &PROTOCOLS), |probe| {
        let from_x = matches!(&probe.from, Place::Pod(name) if name.starts_with("x/"));
        denied_if(from_x && owner(&topology, probe.to) == on_node("n1"))
    });
    Ok(())
}

/// NP-SELF-1 needs nothing from a backend that works in the node.
fn a_pod_reaches_itself() -> Result<(), String> {
    let topology = topology();
    let testbed = build(&topology);
    let table: Vec<_> =
        ["forward", "input", "output"].iter().map(|hook| chain(hook, "drop")).collect();
    load(&testbed, "n1", &table.join("\n"))?;
    load(&testbed, "n2", &table.join("\n"))?;
    expect(&testbed, &all_pairs(&topology, &PROTOCOLS), |probe| {
        let same = probe.from == owner(&topology, probe.to);
        denied_if(!same || matches!(probe.from, Place::Node(_)))
    });
    Ok(())
}

fn a_refusal_says_who_refused() -> Result<(), String> {
    let topology = topology();
    let testbed = build(&topology);
    let rules = "tcp dport 80 reject with tcp reset
        ip daddr 10.0.1.1 reject with icmp admin-prohibited
        ip6 daddr fd77:1::1 reject with icmpv6 port-unreachable";
    load(&testbed, "n1", &chain("forward", rules))?;
    let traffic = [&PROTOCOLS[..], &[Traffic::Tcp(81)]].concat();
    let mut probes = Vec::new();
    for traffic in traffic {
        probes.push(probe(in_pod("x/b"), "10.9.4.2", "10.0.1.1", traffic));
        probes.push(probe(in_pod("y/a"), "fd77:3::1", "fd77:1::1", traffic));
    }
    expect(&testbed, &probes, |probe| {
        Outcome::Refused(match (probe.traffic, probe.to) {
            (Traffic::Tcp(80), _) => Refusal::Reset,
            (_, IpAddr::V4(_)) => Refusal::Unreachable { from: ip("192.168.10.1"), code: 13 },
            (_, IpAddr::V6(_)) => Refusal::Unreachable { from: ip("fd00:10::1"), code: 4 },
        })
    });
    Ok(())
}

fn every_probe_is_a_new_connection() -> Result<(), String> {
    let topology = topology();
    let testbed = build(&topology);
    let probes: Vec<Probe> = all_pairs(&topology, &PROTOCOLS)
        .into_iter()
        .filter(|probe| {
            matches!(probe.from, Place::Pod(_)) && owner(&topology, probe.to) == Place::Outside
        })
        .collect();
    // The rule of the first table makes connection tracking remember all that passes.
    for node in ["n1", "n2"] {
        load(&testbed, node, &chain("forward", "ct state invalid drop"))?;
    }
    expect(&testbed, &probes, |_| Outcome::Allowed);
    for node in ["n1", "n2"] {
        load(&testbed, node, &chain("forward", "ct state established,related accept; drop"))?;
    }
    expect(&testbed, &probes, |_| Outcome::Denied);
    Ok(())
}

fn every_packet_is_valid() -> Result<(), String> {
    let topology = topology();
    let testbed = build(&topology);
    // Replies pass only as such, so an answer proves that its packet was recognised (M7).
    let new = "ct state new tcp flags & (syn | ack) != syn drop; ct state new accept";
    let rules = format!("ct state established,related accept; {new}; drop");
    for node in ["n1", "n2"] {
        load(&testbed, node, &chain("forward", &rules))?;
    }
    expect(&testbed, &all_pairs(&topology, &PROTOCOLS), |_| Outcome::Allowed);
    Ok(())
}

/// The first two packets of every probe get lost.
fn a_lost_packet_is_no_denial() -> Result<(), String> {
    for traffic in PROTOCOLS {
        for (source, to) in [("10.0.1.1", "10.0.1.2"), ("fd77:1::1", "fd77:3::1")] {
            let testbed = build(&topology());
            let rules = "meta l4proto icmpv6 icmpv6 type nd-neighbor-solicit accept
                ct state new numgen inc mod 3 0-1 drop";
            load(&testbed, "n1", &chain("forward", rules))?;
            let lossy = probe(in_pod("x/a"), source, to, traffic);
            expect(&testbed, &[lossy], |_| Outcome::Allowed);
        }
    }
    Ok(())
}

fn data_must_pass_after_the_handshake() -> Result<(), String> {
    let testbed = build(&topology());
    load(&testbed, "n1", &chain("forward", "tcp flags & psh == psh drop"))?;
    let connection = probe(in_pod("x/a"), "10.0.1.1", "10.0.1.2", Traffic::Tcp(80));
    expect(&testbed, &[connection], |_| {
        Outcome::Failed("the connection was opened, but no data came through".to_owned())
    });
    Ok(())
}

/// The truth table of nine pods with six ports each, half of it denied.
fn the_time_of_486_probes() -> Result<(), String> {
    let names = ["x/a", "x/b", "x/c", "y/a", "y/b", "y/c", "z/a", "z/b", "z/c"];
    let address = |number: usize| format!("10.0.0.{}", number + 1);
    let topology = Topology {
        nodes: vec![node("n1", &["192.168.0.1"]), node("n2", &["192.168.0.2"])],
        pods: names
            .iter()
            .enumerate()
            .map(|(number, name)| pod(name, ["n1", "n2"][number % 2], &[address(number).as_str()]))
            .collect(),
        outside: vec![],
    };
    let start = Instant::now();
    let testbed = build(&topology);
    let built = start.elapsed();
    for node in ["n1", "n2"] {
        load(
            &testbed,
            node,
            &chain("forward", "meta l4proto { tcp, udp, sctp } th dport 81 drop"),
        )?;
    }
    let mut probes = Vec::new();
    for (from, name) in names.iter().enumerate() {
        for to in 0..names.len() {
            for port in [80, 81] {
                for traffic in [Traffic::Tcp(port), Traffic::Udp(port), Traffic::Sctp(port)] {
                    probes.push(probe(in_pod(name), &address(from), &address(to), traffic));
                }
            }
        }
    }
    assert_eq!(probes.len(), 486);
    let start = Instant::now();
    expect(&testbed, &probes, |probe| {
        let open = matches!(probe.traffic, Traffic::Tcp(80) | Traffic::Udp(80) | Traffic::Sctp(80));
        denied_if(!open && probe.source != probe.to)
    });
    println!("        built in {built:?}, 486 probes in {:?}", start.elapsed());
    Ok(())
}
