//! Events without end: what is in force is right after any number of them, and neither the process
//! nor the kernel grows.
//!
//! Some thousand events, or a million in a [long run](length).
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells its figures"
)]

#[path = "support/length.rs"]
mod length;
#[path = "support/objects.rs"]
mod objects;
mod support;

use std::net::IpAddr;
use std::time::Instant;

use length::length;
use netpol_backend_nft::{Options, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::{Compiler, compile};
use netpol_core::model::{
    Block, Labels, Options as Readings, Peer, Peers, Policy, PortMatch, PortRange, Ports, Protocol,
    name,
};
use netpol_core::program::Scope;
use netpol_core::testing::Choices;
use objects::{accept, pods};
use support::{in_namespace, nft, open};

/// How often to look whether what is in force is right.
const LOOKS: usize = 20;
/// The node whose endpoints are judged.
const HERE: &str = "here";

/// What this process and the kernel use, in KiB.
#[derive(Debug, Clone, Copy)]
struct Memory {
    process: u64,
    kernel: u64,
}

impl Memory {
    fn now() -> Self {
        let find = |path: &str, key: &str| {
            let text = std::fs::read_to_string(path).expect("read");
            let line = text.lines().find(|line| line.starts_with(key)).expect("there");
            line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
        };
        Self {
            process: find("/proc/self/status", "VmRSS:"),
            kernel: find("/proc/meminfo", "SUnreclaim:"),
        }
    }
}

/// Endpoints of ten apps, a third of them here, and policies between the apps; any of them comes,
/// changes or goes.
fn event(choices: &mut Choices<'_>, cluster: &mut Cluster) {
    let number = choices.pick(90);
    let goes = choices.one_in(6);
    if choices.one_in(6) {
        let policy = policy(number % 20, choices);
        match goes {
            true => cluster.remove_policy(&policy.key),
            false => cluster.upsert_policy(policy),
        }
        return;
    }
    let pod = format!("pod-{number}");
    if goes {
        cluster.remove_endpoint("x", &pod, "");
        return;
    }
    let host = u8::try_from(number).expect("small");
    let addresses =
        [IpAddr::from([10, 0, 0, host]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, host.into()])];
    let node = if number.is_multiple_of(3) { HERE } else { "there" };
    let mut endpoint = objects::pod(&pod, node, &addresses);
    endpoint.labels = Labels::default().with("app", &app(choices));
    cluster.upsert_endpoint(endpoint);
}

fn app(choices: &mut Choices<'_>) -> String {
    format!("app-{}", choices.pick(10))
}

fn policy(number: usize, choices: &mut Choices<'_>) -> Policy {
    let mut rules = || {
        let first = 1 + u16::try_from(choices.pick(200)).expect("small");
        let last = first + [0, 0, 5, 500][choices.pick(4)];
        let ports = PortRange::new(first, last).expect("not empty");
        let ports = Ports::AnyOf(vec![PortMatch::Range(Protocol::Tcp, ports)]);
        let mut peers = vec![Peer::Pods(pods(&app(choices)))];
        if choices.one_in(4) {
            let block = format!("192.0.{}.0/24", choices.pick(8)).parse().expect("a block");
            peers.push(Peer::Block(Block::new(block, [])));
        }
        vec![accept(Peers::AnyOf(peers), ports)]
    };
    let (ingress, egress) = (Some(rules()), number.is_multiple_of(2).then(rules));
    let mut policy = objects::policy(&format!("app-{}", number % 10), ingress, egress);
    policy.key.name = name(&format!("policy-{number}"));
    policy
}

#[test]
fn events_without_end() {
    in_namespace("events_without_end", || {
        let events = length("NETPOL_EVENTS", 2000, 1_000_000);
        let long = events > 20_000;
        let events = usize::try_from(events).expect("fits");
        let mut cluster = Cluster::new(Readings::default());
        let scope = Scope::Node(name(HERE));
        let mut compiler = Compiler::new(Readings::default(), scope.clone());
        let mut kernel = open();
        let (mut changes, mut most_elements) = (0, 0);
        let mut memory: Vec<Memory> = Vec::new();
        let start = Instant::now();
        for look in 0..LOOKS {
            for block in 0..events / LOOKS / 100 {
                let seed = length::first_seed() + (look * 1_000_000 + block) as u64;
                let mut choices = Choices::from_seed(seed, 2000);
                for _ in 0..100 {
                    event(&mut choices, &mut cluster);
                    let changed = cluster.take_changes();
                    let report = kernel.sync(compiler.update(&cluster, &changed)).expect("written");
                    assert!(!report.interfered);
                    changes += usize::from(report.steps > 0);
                }
            }
            let wanted = compile(&cluster, scope.clone());
            let found = kernel.read().expect("read").expect("present").normalised();
            let rendered = render(&wanted, &Options::default()).normalised();
            assert_eq!(found, rendered, "after {} events", (look + 1) * events / LOOKS);
            if long && look + 1 == LOOKS {
                assert_eq!(kernel.verify(&wanted).expect("read"), []);
            }
            let sets = found.tables.values().flat_map(|table| table.sets.values());
            most_elements = most_elements.max(sets.map(|set| set.elements.len()).sum());
            memory.push(Memory::now());
            if long {
                let (events, now) = ((look + 1) * events / LOOKS, memory[look]);
                eprintln!("{events} events after {:?}: {now:?}", start.elapsed());
            }
        }
        kernel.remove().expect("removed");
        if let Some(left) = nft(&["list", "ruleset"]) {
            assert_eq!(left, "");
        }
        // The first looks are over until everything that is kept has been allocated once.
        let (early, late) = (memory[LOOKS / 5], memory[LOOKS - 1]);
        eprintln!(
            "{events} events, {changes} changes of rules, {:?}, at most {most_elements} elements; \
             process {} -> {} KiB, kernel (unreclaimable, whole machine) {} -> {} KiB",
            start.elapsed(),
            early.process,
            late.process,
            early.kernel,
            late.kernel,
        );
        assert!(changes > events / 4, "{changes} of {events} events changed rules");
        assert!(most_elements > 200, "{most_elements}");
        assert!(late.process < early.process + 8 * 1024, "{memory:?}");
        if long {
            // A leak of one element in a hundred events would be larger; others use the machine, too.
            assert!(late.kernel < early.kernel + 64 * 1024, "{memory:?}");
        }
    });
}
