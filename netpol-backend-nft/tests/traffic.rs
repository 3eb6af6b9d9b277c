//! Packets under rendered rules: the kernel lets through exactly what the program allows.
//!
//! Each world has a namespace of its own in which every address is local, so that a packet with
//! any source and destination passes the output hook, the loopback device and the input hook: the
//! one judges what endpoints may receive, the other what they may send.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;
#[path = "support/wire.rs"]
mod wire;

use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{End, Traffic, name};
use netpol_core::program::{Program, Scope};
use netpol_core::testing::{Choices, flows_of_interest, world};
use nix::sched::{CloneFlags, unshare};
use support::{in_namespace, open};
use wire::{Wire, everything_is_local, is_usable};

fn probe(program: &Program, flows: &[netpol_core::model::Flow], context: &str) -> usize {
    let mut wire = Wire::new();
    let mut probed = 0;
    for flow in flows {
        let (End::Address(source), End::Address(destination)) = (&flow.source, &flow.destination)
        else {
            continue;
        };
        let same_family = source.is_ipv4() == destination.is_ipv4();
        let of_family = match flow.traffic {
            Traffic::ICMP => source.is_ipv4(),
            Traffic::ICMPV6 => source.is_ipv6(),
            // Nothing tells two connections of another protocol apart.
            Traffic::Other(_) => false,
            Traffic::Port(..) => true,
        };
        if !same_family || !of_family || ![*source, *destination].into_iter().all(is_usable) {
            continue;
        }
        let decision = program.decide(flow);
        let passes = wire.passes(*source, *destination, flow.traffic);
        assert_eq!(passes, decision.is_allowed(), "{context}: {flow}: {decision:?}");
        probed += 1;
    }
    probed
}

#[test]
fn the_kernel_decides_as_the_program_does() {
    in_namespace("the_kernel_decides_as_the_program_does", || {
        let mut probed = 0;
        for seed in 0..120 {
            unshare(CloneFlags::CLONE_NEWNET).expect("a fresh namespace");
            assert!(everything_is_local(), "the ip tool is needed");
            let (objects, options) = world(&mut Choices::from_seed(seed, 600));
            let mut flows = flows_of_interest(&objects);
            let cluster = Cluster::from_objects(options, objects);
            let program = compile(&cluster, Scope::Node(name("node0")));
            open().sync(&program).expect("written");
            // Every n-th of the many, so that all kinds are among them.
            let step = flows.len().div_ceil(4001);
            flows = flows.into_iter().step_by(step.max(1)).collect();
            probed += probe(&program, &flows, &format!("seed {seed}, {options:?}"));
        }
        assert!(probed > 50_000, "{probed}");
    });
}
