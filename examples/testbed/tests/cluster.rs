//! The testbed itself, with the kernel of this machine.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use netpol_testbed::{Node, Outcome, Place, Pod, Probe, ProbeOptions, Testbed, Topology, Traffic};

fn main() {
    let privilege = netpol_testbed::enter().unwrap();
    println!("{privilege:?}");
    let t = Instant::now();
    let topology = topology();
    let testbed = Testbed::build(&topology, |what| println!("{:?} {what}", t.elapsed())).unwrap();
    println!("built in {:?}", t.elapsed());
    let probes = all_pairs(&topology);
    for _ in 0..2 {
        let t = Instant::now();
        let outcomes = testbed.probe(&probes, &ProbeOptions::default(), |_, _| ());
        println!("{} probes in {:?}", probes.len(), t.elapsed());
        let mut bad = 0;
        for (probe, outcome) in probes.iter().zip(outcomes) {
            if outcome != Outcome::Allowed {
                bad += 1;
                if bad < 20 {
                    println!("{probe:?}: {outcome}");
                }
            }
        }
        println!("{bad} bad");
    }
    if std::env::args().nth(1).as_deref() == Some("keep") {
        for p in [Place::Outside, Place::Node("n1".into()), Place::Pod("x/a".into())] {
            println!("{}", testbed.shell_command(&p, privilege).unwrap());
        }
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn places(topology: &Topology) -> Vec<(Place, Vec<IpAddr>)> {
    let mut places = vec![(Place::Outside, topology.outside.clone())];
    places
        .extend(topology.nodes.iter().map(|n| (Place::Node(n.name.clone()), n.addresses.clone())));
    places.extend(topology.pods.iter().map(|n| (Place::Pod(n.name.clone()), n.addresses.clone())));
    places
}

fn all_pairs(topology: &Topology) -> Vec<Probe> {
    let places = places(topology);
    let mut probes = vec![];
    for (from, sources) in &places {
        for (_, targets) in &places {
            for source in sources {
                for to in targets {
                    if source.is_ipv4() == to.is_ipv4() {
                        for traffic in
                            [Traffic::Tcp(80), Traffic::Udp(80), Traffic::Sctp(80), Traffic::Icmp]
                        {
                            probes.push(Probe {
                                from: from.clone(),
                                source: *source,
                                to: *to,
                                traffic,
                            });
                        }
                    }
                }
            }
        }
    }
    probes
}

fn topology() -> Topology {
    let ip = |s: &str| s.parse::<IpAddr>().unwrap();
    Topology {
        nodes: vec![
            Node { name: "n1".into(), addresses: vec![ip("192.168.10.1"), ip("fd00:10::1")] },
            Node {
                name: "n2".into(),
                addresses: vec![ip("172.18.0.9"), ip("fd00:18::9"), ip("172.19.0.9")],
            },
        ],
        pods: ["x/a", "x/b", "x/c", "y/a", "y/b", "y/c", "z/a", "z/b", "z/c"]
            .iter()
            .enumerate()
            .map(|(i, name)| Pod {
                name: name.to_string(),
                node: ["n1", "n2"][i % 2].into(),
                addresses: vec![ip(&format!("10.{i}.77.{i}")), ip(&format!("fd77:{i}::1"))],
            })
            .collect(),
        outside: vec![ip("203.0.113.7"), ip("2001:db8::7"), ip("169.254.169.254")],
    }
}
