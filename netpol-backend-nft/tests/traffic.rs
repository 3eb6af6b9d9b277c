//! Packets under rendered rules: the kernel lets through exactly what the program allows.
//!
//! Any addresses, of every protocol: once through a node that forwards, which judges both ends in
//! one walk; and once within a namespace of their own, where they pass the output hook, which judges
//! what endpoints may receive, and the input hook, which judges what they may send.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/objects.rs"]
mod objects;
mod support;
#[path = "support/wire.rs"]
mod wire;

use std::collections::HashSet;
use std::net::IpAddr;

use netpol_backend_nft::Nft;
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{Flow, Traffic, name};
use netpol_core::program::{Program, Scope};
use netpol_core::testing::{Choices, flows_of_interest, world};
use nix::sched::{CloneFlags, unshare};
use support::{busiest_node, in_namespace, open};
use wire::{Probe, Wire, everything_is_local};

/// How many packets go before anybody looks what has arrived.
const BURST: usize = 64;

/// A world's program for one node, and what tells it from others: flows that it judges, few of the
/// many that are none of its business.
fn subject(seed: u64) -> (Program, Vec<Flow>, String) {
    let (objects, options) = world(&mut Choices::from_seed(seed, 600));
    let flows = flows_of_interest(&objects);
    let scope = busiest_node(&objects);
    let program = compile(&Cluster::from_objects(options, objects), scope);
    let (mut judged, others): (Vec<_>, Vec<_>) = flows.into_iter().partition(|flow| {
        let decision = program.decide(flow);
        decision.egress.is_some() || decision.ingress.is_some()
    });
    judged.extend(others.into_iter().step_by(16));
    let step = judged.len().div_ceil(4001).max(1);
    let flows = judged.into_iter().step_by(step).collect();
    (program, flows, format!("seed {seed}, {options:?}"))
}

#[derive(Default)]
struct Checked {
    probes: usize,
    allowed: usize,
    without_ports: usize,
    /// Nothing but the addresses tells two connections of other protocols apart, so answers cannot
    /// be told from beginnings.
    known: HashSet<(IpAddr, IpAddr)>,
}

impl Checked {
    fn check(&mut self, wire: &mut Wire, program: &Program, flows: &[Flow], context: &str) {
        let mut probes: Vec<(Probe, bool)> = Vec::new();
        for flow in flows {
            let Some(probe) = Probe::of(flow) else { continue };
            let allowed = program.decide(flow).is_allowed();
            if matches!(flow.traffic, Traffic::Other(number) if ![1, 58].contains(&number)) {
                if self.known.contains(&(probe.destination, probe.source)) {
                    continue;
                }
                self.known.insert((probe.source, probe.destination));
            }
            probes.push((probe, allowed));
        }
        for burst in probes.chunks(BURST) {
            let packets: Vec<Probe> = burst.iter().map(|(probe, _)| *probe).collect();
            for ((probe, allowed), passes) in burst.iter().zip(wire.burst(&packets)) {
                assert_eq!(passes, *allowed, "{context}: {probe:?}");
                self.probes += 1;
                self.allowed += usize::from(passes);
                self.without_ports += usize::from(matches!(probe.traffic, Traffic::Other(_)));
            }
        }
    }

    fn is_enough(&self) {
        let Self { probes, allowed, without_ports, .. } = self;
        let denied = probes - allowed;
        assert!(
            *allowed > 10_000 && denied > 5000 && *without_ports > 1000,
            "{allowed} allowed, {denied} denied, {without_ports} without ports"
        );
    }
}

#[test]
fn what_is_forwarded_is_judged_as_the_program_does() {
    in_namespace("what_is_forwarded_is_judged_as_the_program_does", || {
        let (testbed, mut wire) = Wire::through_a_node();
        let mut kernel: Nft = testbed.in_node("n", open).expect("a node");
        let mut checked = Checked::default();
        for seed in 0..120 {
            let (program, flows, context) = subject(seed);
            kernel.sync(&program).expect("written");
            checked.check(&mut wire, &program, &flows, &context);
        }
        checked.is_enough();
    });
}

/// What comes in by the interface of an endpoint is its own, or dropped, and what goes out by one is
/// judged as its own whatever the address.
#[test]
fn interfaces_stand_for_endpoints() {
    in_namespace("interfaces_stand_for_endpoints", || {
        let (testbed, mut wire) = Wire::through_a_node();
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        // The fence comes in by the same interface as what is tried.
        let [fence, own, other, beyond] =
            ["198.18.0.1", "10.9.0.1", "10.9.0.2", "10.9.1.1"].map(ip);
        let [inside, outside] = wire::interfaces(&testbed);
        let attached = [(fence, inside.clone()), (own, inside), (beyond, outside)];
        let mut cluster = Cluster::default();
        for (called, address) in [("fence", fence), ("a", own), ("b", beyond)] {
            cluster.upsert_endpoint(objects::pod(called, "n", &[address]));
        }
        let on_80 = |peer| objects::on_tcp(80, objects::with_pods(peer));
        let sends = objects::policy("a", None, Some(vec![on_80("b")]));
        let fenced = objects::with_block("198.18.0.0/16");
        let receives = objects::policy("b", Some(vec![on_80("a"), fenced]), None);
        let mut kernel = testbed.in_node("n", open).expect("a node");
        kernel.dispatch_by_interface(&attached.into());
        for (policy, source, destination, port, expected) in [
            (&sends, own, beyond, 80, true),
            (&sends, own, beyond, 81, false),
            (&sends, own, other, 80, false),
            (&sends, other, beyond, 80, false),
            (&receives, other, beyond, 80, false),
            (&receives, own, beyond, 80, true),
            (&receives, own, beyond, 81, false),
            (&receives, own, other, 80, true),
            (&receives, own, other, 81, false),
        ] {
            let mut cluster = cluster.clone();
            cluster.upsert_policy(policy.clone());
            let program = compile(&cluster, Scope::Node(name("n")));
            kernel.sync(&program).expect("written");
            assert_eq!(kernel.verify(&program).expect("read"), []);
            let probe = Probe { source, destination, traffic: Traffic::tcp(port) };
            assert_eq!(wire.passes(probe), expected, "{probe:?} {:?}", policy.key);
        }
    });
}

#[test]
fn what_is_local_is_judged_as_the_program_does() {
    in_namespace("what_is_local_is_judged_as_the_program_does", || {
        let mut checked = Checked::default();
        for seed in 0..120 {
            unshare(CloneFlags::CLONE_NEWNET).expect("a fresh namespace");
            assert!(everything_is_local(), "the ip tool is needed");
            let (program, flows, context) = subject(seed);
            open().sync(&program).expect("written");
            checked.known.clear();
            checked.check(&mut Wire::within(), &program, &flows, &context);
        }
        checked.is_enough();
    });
}
