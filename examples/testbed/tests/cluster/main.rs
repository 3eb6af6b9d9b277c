//! The testbed itself, on the kernel of this machine.
//!
//! Run as root, it runs once more as an ordinary user in a user namespace. Arguments pick the
//! checks whose names contain them.

#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test; but without the test harness it does not look like one to the lints"
)]

mod life;
mod reach;
mod rules;

use std::env;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::Instant;

use netpol_testbed::{
    Node, Outcome, Place, Pod, Privilege, Probe, ProbeOptions, Testbed, Topology, Traffic, enter,
};

/// A check by its name; one that cannot run says why.
type Check = (&'static str, fn() -> Result<(), String>);

const CHECKS: &[&[Check]] = &[reach::CHECKS, rules::CHECKS, life::CHECKS];

const NOBODY: u32 = 65534;

fn main() -> ExitCode {
    let filters: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let privilege = match enter() {
        Ok(privilege) => privilege,
        Err(error) => {
            println!("SKIPPED EVERYTHING: {error:#}");
            return ExitCode::SUCCESS;
        }
    };
    println!("checking with {privilege:?}");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, check) in CHECKS.iter().copied().flatten() {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(check));
        let millis = start.elapsed().as_millis();
        match result {
            Ok(Ok(())) => {
                passed += 1;
                println!("passed  {name} ({millis} ms)");
            }
            Ok(Err(reason)) => {
                skipped += 1;
                println!("SKIPPED {name}: {reason}");
            }
            Err(_) => {
                failed += 1;
                println!("FAILED  {name} ({millis} ms)");
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped\n");
    let also = privilege == Privilege::UserNamespace || as_ordinary_user();
    if failed == 0 && also { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the same checks as an ordinary user.
fn as_ordinary_user() -> bool {
    let program = env::current_exe().unwrap();
    let status = Command::new(program).args(env::args().skip(1)).uid(NOBODY).gid(NOBODY).status();
    match status {
        Ok(status) => status.success(),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            println!("SKIPPED the same as an ordinary user, who may not run the program: {error}");
            true
        }
        Err(error) => panic!("{error}"),
    }
}

const PROTOCOLS: [Traffic; 4] =
    [Traffic::Tcp(80), Traffic::Udp(80), Traffic::Sctp(80), Traffic::Icmp];

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn node(name: &str, addresses: &[&str]) -> Node {
    Node { name: name.to_owned(), addresses: addresses.iter().map(|a| ip(a)).collect() }
}

fn pod(name: &str, node: &str, addresses: &[&str]) -> Pod {
    Pod {
        name: name.to_owned(),
        node: node.to_owned(),
        addresses: addresses.iter().map(|a| ip(a)).collect(),
    }
}

/// Two nodes with nothing in common, three pods on them with both families, one with IPv4 only.
fn topology() -> Topology {
    Topology {
        nodes: vec![
            node("n1", &["192.168.10.1", "fd00:10::1"]),
            node("n2", &["172.18.0.9", "172.19.0.9", "fd00:18::9"]),
        ],
        pods: vec![
            pod("x/a", "n1", &["10.0.1.1", "fd77:1::1"]),
            pod("x/b", "n1", &["10.9.4.2", "10.9.4.3", "fd77:2::1"]),
            pod("y/a", "n2", &["10.0.1.2", "fd77:3::1", "fd77:3::2"]),
            pod("y/b", "n2", &["192.168.10.2"]),
        ],
        outside: vec![ip("203.0.113.7"), ip("169.254.169.254"), ip("2001:db8::7")],
    }
}

fn build(topology: &Topology) -> Testbed {
    Testbed::build(topology, |_| ()).unwrap()
}

fn probe(from: Place, source: &str, to: &str, traffic: Traffic) -> Probe {
    Probe { from, source: ip(source), to: ip(to), traffic }
}

fn in_pod(name: &str) -> Place {
    Place::Pod(name.to_owned())
}

fn on_node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

/// From every address to every address of its family, those of the same place included.
fn all_pairs(topology: &Topology, traffic: &[Traffic]) -> Vec<Probe> {
    let mut places: Vec<(Place, IpAddr)> = Vec::new();
    places.extend(topology.outside.iter().map(|a| (Place::Outside, *a)));
    for node in &topology.nodes {
        places.extend(node.addresses.iter().map(|a| (on_node(&node.name), *a)));
    }
    for pod in &topology.pods {
        places.extend(pod.addresses.iter().map(|a| (in_pod(&pod.name), *a)));
    }
    let mut probes = Vec::new();
    for (from, source) in &places {
        for (_, to) in places.iter().filter(|(_, to)| to.is_ipv4() == source.is_ipv4()) {
            probes.extend(traffic.iter().map(|traffic| Probe {
                from: from.clone(),
                source: *source,
                to: *to,
                traffic: *traffic,
            }));
        }
    }
    probes
}

/// Probes, and compares every outcome with what is expected of it.
fn expect(testbed: &Testbed, probes: &[Probe], expected: impl Fn(&Probe) -> Outcome) {
    let outcomes = testbed.probe(probes, &ProbeOptions::default(), |_, _| ());
    assert_eq!(outcomes.len(), probes.len());
    let wrong: Vec<String> = probes
        .iter()
        .zip(&outcomes)
        .filter(|(probe, outcome)| **outcome != expected(probe))
        .map(|(probe, outcome)| {
            let Probe { from, source, to, traffic } = probe;
            format!("{traffic} from {source} ({from}) to {to}: {outcome}")
        })
        .collect();
    let first = &wrong[..wrong.len().min(10)];
    assert!(wrong.is_empty(), "{} of {} wrong: {first:#?}", wrong.len(), probes.len());
}
