//! Packets while rules change: what both programs say alike is never judged otherwise, not for a
//! moment.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;
#[path = "support/wire.rs"]
mod wire;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netpol_backend_nft::plan::Plan;
use netpol_backend_nft::{Options, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{End, Flow, Objects, Traffic, name};
use netpol_core::program::{Program, Scope, Verdict};
use netpol_core::testing::{Choices, flows_of_interest, world};
use nix::sched::{CloneFlags, unshare};
use support::{edit, in_namespace, open};
use wire::{Wire, everything_is_local, is_usable};

/// How long two programs take turns.
const TURN: Duration = Duration::from_millis(150);

/// A connection that both programs judge alike, and how.
struct Steady {
    source: IpAddr,
    destination: IpAddr,
    traffic: Traffic,
    passes: bool,
}

fn program(objects: &Objects, options: netpol_core::model::Options) -> Program {
    compile(&Cluster::from_objects(options, objects.clone()), Scope::Node(name("node0")))
}

fn steady(flow: &Flow, programs: [&Program; 2]) -> Option<Steady> {
    let (End::Address(source), End::Address(destination)) = (&flow.source, &flow.destination)
    else {
        return None;
    };
    let (source, destination, traffic) = (*source, *destination, flow.traffic);
    let usable = source.is_ipv4() == destination.is_ipv4()
        && matches!(traffic, Traffic::Port(..))
        && [source, destination].into_iter().all(is_usable);
    let decisions = programs.map(|program| program.decide(flow));
    // Here the two directions are judged in two hooks, one after the other.
    let denied = decisions.iter().all(|it| it.egress == Some(Verdict::Deny))
        || decisions.iter().all(|it| it.ingress == Some(Verdict::Deny));
    let allowed = decisions.iter().all(|it| it.is_allowed());
    let judged = decisions.iter().any(|it| it.egress.is_some() || it.ingress.is_some());
    (usable && judged && (denied || allowed)).then_some(Steady {
        source,
        destination,
        traffic,
        passes: allowed,
    })
}

/// Some of those that pass and of those that do not.
fn choose(all: Vec<Steady>) -> Vec<Steady> {
    let (passing, denied): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.passes);
    let few = |list: Vec<Steady>| {
        let step = list.len().div_ceil(4).max(1);
        list.into_iter().step_by(step)
    };
    few(passing).chain(few(denied)).collect()
}

/// Tells the writer that it is over, also when a probe panics.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_packet_is_misjudged() {
    // Minutes of packets against changes, on request: a busy machine can hold up either side.
    if std::env::var_os("NETPOL_LONG").is_none() {
        eprintln!("SKIPPED: set NETPOL_LONG to send packets while rules change");
        return;
    }
    in_namespace("no_packet_is_misjudged", || {
        let (mut probed, mut changes) = (0, 0);
        for seed in 0..400 {
            let mut choices = Choices::from_seed(seed, 3000);
            let (mut objects, options) = world(&mut choices);
            let (other, _) = world(&mut choices);
            let first = program(&objects, options);
            let flows = flows_of_interest(&objects);
            edit(&mut choices, &mut objects, &other);
            let second = program(&objects, options);
            let [old, new] = [&first, &second].map(|it| render(it, &Options::default()));
            if Plan::new(Some(&old), new).steps().len() < 2 {
                continue;
            }
            let both = flows.iter().filter_map(|flow| steady(flow, [&first, &second]));
            let flows = choose(both.collect());
            if flows.is_empty() {
                continue;
            }
            unshare(CloneFlags::CLONE_NEWNET).expect("a fresh namespace");
            assert!(everything_is_local(), "the ip tool is needed");
            let mut kernel = open();
            kernel.sync(&first).expect("written");
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                // However the probing ends, the writer has to.
                let _ended = Ended(&over);
                let writer = scope.spawn(|| {
                    let mut turns = 0;
                    while !over.load(Ordering::Relaxed) {
                        kernel.sync(&second).expect("written");
                        kernel.sync(&first).expect("written");
                        turns += 2;
                    }
                    turns
                });
                let mut wire = Wire::new();
                let start = Instant::now();
                while start.elapsed() < TURN {
                    for Steady { source, destination, traffic, passes } in &flows {
                        let passed = wire.passes(*source, *destination, *traffic);
                        if passed != *passes {
                            over.store(true, Ordering::Relaxed);
                        }
                        assert_eq!(
                            passed, *passes,
                            "seed {seed}: {source} {destination} {traffic}"
                        );
                        probed += 1;
                    }
                }
                over.store(true, Ordering::Relaxed);
                changes += writer.join().expect("it ends");
            });
        }
        assert!(probed > 10_000 && changes > 1000, "{probed} probes, {changes} changes");
        eprintln!("{probed} probes during {changes} changes");
    });
}
