//! Packets under rendered rules: the kernel lets through exactly what the program allows, by both
//! variants, and also while rules change.
//!
//! Each world has a namespace of its own in which every address is local, so that a packet with
//! any source and destination passes the output hook, the loopback device and the input hook: the
//! one judges what endpoints may receive, the other what they may send.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

#[path = "support/kernel.rs"]
mod kernel;
#[path = "../../netpol-backend-nft/tests/support/length.rs"]
mod length;
#[path = "../../netpol-backend-nft/tests/support/wire.rs"]
mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kernel::{in_namespace, open};
use length::{first_seed, length};
use netpol_backend_iptables::plan::Plan;
use netpol_backend_iptables::{Options, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{Flow, Objects, Traffic, name};
use netpol_core::program::{Program, Scope, Verdict};
use netpol_core::testing::{Choices, edit, flows_of_interest, world};
use nix::sched::{CloneFlags, unshare};
use wire::{Probe, Wire, everything_is_local};

fn program(objects: &Objects, options: netpol_core::model::Options) -> Program {
    compile(&Cluster::from_objects(options, objects.clone()), Scope::Node(name("node0")))
}

/// How many packets go before anybody looks what has arrived.
const BURST: usize = 64;

/// The packet of a flow, unless nothing tells two of its connections apart.
fn probe_of(flow: &Flow) -> Option<Probe> {
    let other = matches!(flow.traffic, Traffic::Other(number) if ![1, 58].contains(&number));
    Probe::of(flow).filter(|_| !other)
}

#[test]
fn the_kernel_decides_as_the_program_does() {
    in_namespace("the_kernel_decides_as_the_program_does", |variant| {
        let mut probed = 0;
        for seed in 0..60 {
            unshare(CloneFlags::CLONE_NEWNET).expect("a fresh namespace");
            assert!(everything_is_local(), "the ip tool is needed");
            let (objects, options) = world(&mut Choices::from_seed(seed, 600));
            let flows = flows_of_interest(&objects);
            let program = program(&objects, options);
            open(variant).sync(&program).expect("written");
            let mut wire = Wire::within();
            // Every n-th of the many, so that all kinds are among them.
            let flows = flows.iter().step_by(flows.len().div_ceil(2001).max(1));
            let sent: Vec<_> = flows.filter_map(|flow| Some((flow, probe_of(flow)?))).collect();
            for burst in sent.chunks(BURST) {
                let probes: Vec<Probe> = burst.iter().map(|(_, probe)| *probe).collect();
                for ((flow, _), passes) in burst.iter().zip(wire.burst(&probes)) {
                    let decision = program.decide(flow);
                    assert_eq!(passes, decision.is_allowed(), "seed {seed}: {flow}: {decision:?}");
                    probed += 1;
                }
            }
        }
        assert!(probed > 10_000, "{probed}");
    });
}

/// A connection that both programs judge alike, and how.
struct Steady {
    probe: Probe,
    passes: bool,
}

fn steady(flow: &Flow, programs: [&Program; 2]) -> Option<Steady> {
    let probe = probe_of(flow)?;
    let decisions = programs.map(|program| program.decide(flow));
    // Here the two directions are judged in two hooks, one after the other.
    let denied = decisions.iter().all(|it| it.egress == Some(Verdict::Deny))
        || decisions.iter().all(|it| it.ingress == Some(Verdict::Deny));
    let allowed = decisions.iter().all(|it| it.is_allowed());
    let judged = decisions.iter().any(|it| it.egress.is_some() || it.ingress.is_some());
    let sent = matches!(flow.traffic, Traffic::Port(..)) && judged && (denied || allowed);
    sent.then_some(Steady { probe, passes: allowed })
}

/// Some of those that pass and of those that do not.
fn choose(all: Vec<Steady>) -> Vec<Steady> {
    let (passing, denied): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.passes);
    let few = |list: Vec<Steady>| {
        let step = list.len().div_ceil(BURST / 2).max(1);
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

/// How long two programs take turns.
const TURN: Duration = Duration::from_millis(700);

#[test]
fn no_packet_is_misjudged() {
    // Minutes of packets against changes, on request: a busy machine can hold up either side.
    let wanted = [("NETPOL_PACKETS", 1_000_000), ("NETPOL_CHANGES", 1000)];
    let [packets, changes_wanted] = wanted.map(|(variable, long)| length(variable, 0, long));
    if packets == 0 {
        eprintln!("SKIPPED: set NETPOL_LONG to send packets while rules change");
        return;
    }
    in_namespace("no_packet_is_misjudged", move |variant| {
        let (mut probed, mut changes) = (0, 0);
        for seed in first_seed().. {
            if probed >= packets && changes >= changes_wanted {
                break;
            }
            let mut choices = Choices::from_seed(seed, 3000);
            let (mut objects, options) = world(&mut choices);
            let (other, _) = world(&mut choices);
            let first = program(&objects, options);
            let flows = flows_of_interest(&objects);
            edit(&mut choices, &mut objects, &other);
            let second = program(&objects, options);
            let [old, new] = [&first, &second].map(|it| render(it, &Options::default()));
            if Plan::new(&old, new).steps().len() < 2 {
                continue;
            }
            let both = flows.iter().filter_map(|flow| steady(flow, [&first, &second]));
            let flows = choose(both.collect());
            if flows.is_empty() {
                continue;
            }
            unshare(CloneFlags::CLONE_NEWNET).expect("a fresh namespace");
            assert!(everything_is_local(), "the ip tool is needed");
            let mut kernel = open(variant);
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
                let mut wire = Wire::within();
                let probes: Vec<Probe> = flows.iter().map(|it| it.probe).collect();
                let start = Instant::now();
                while start.elapsed() < TURN {
                    for (steady, passed) in flows.iter().zip(wire.burst(&probes)) {
                        assert_eq!(passed, steady.passes, "seed {seed}: {:?}", steady.probe);
                        probed += 1;
                    }
                }
                over.store(true, Ordering::Relaxed);
                changes += writer.join().expect("it ends");
            });
        }
        eprintln!("{variant}: {probed} probes during {changes} changes, none misjudged");
    });
}
