//! The proof holds for what is right, and finds what is wrong.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/kernel.rs"]
mod kernel;
mod support;

use std::sync::Arc;

use kernel::{feed, in_namespace, iptables, open, run};
use netpol_backend_iptables::ruleset::{Hook, Ruleset, Set};
use netpol_backend_iptables::{Mismatch, Options, render, verify};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{Family, Flow, name};
use netpol_core::program::{Program, Scope};
use netpol_core::testing::{Choices, flows_of_interest, world};
use support::packet_of;

fn program(seed: u64) -> (Program, Vec<Flow>) {
    let (objects, options) = world(&mut Choices::from_seed(seed, 600));
    let flows = flows_of_interest(&objects);
    (compile(&Cluster::from_objects(options, objects), Scope::Node(name("node0"))), flows)
}

#[test]
fn renderings_are_proven() {
    for seed in 0..200 {
        let (program, _) = program(seed);
        let ruleset = render(&program, &Options::default());
        assert_eq!(verify(&ruleset, &program), [], "seed {seed}\n{ruleset}");
    }
}

/// Leaves out one element or one rule at a time. What changes the verdict about any connection that
/// the objects can tell apart is found.
#[test]
fn what_is_missing_is_found() {
    let (mut found, mut harmless) = (0, 0);
    for seed in 0..40 {
        let (program, flows) = program(seed);
        let ruleset = render(&program, &Options::default());
        for broken in broken(&ruleset) {
            let differs = flows.iter().any(|flow| {
                packet_of(flow).is_some_and(|packet| {
                    let passes = broken.passes(Hook::Forward, &packet);
                    passes != Ok(program.decide(flow).is_allowed())
                })
            });
            let mismatches = verify(&broken, &program);
            assert!(!differs || !mismatches.is_empty(), "seed {seed}\n{broken}");
            *(if mismatches.is_empty() { &mut harmless } else { &mut found }) += 1;
        }
    }
    assert!(found > 100, "{found} found, {harmless} make no difference");
}

fn broken(ruleset: &Ruleset) -> Vec<Ruleset> {
    let mut all = Vec::new();
    for (family, table) in &ruleset.tables {
        for set in table.sets.keys() {
            let mut broken = ruleset.clone();
            let table = broken.tables.get_mut(family).expect("there");
            match Arc::make_mut(table.sets.get_mut(set).expect("there")) {
                Set::Addresses(list) => _ = list.pop(),
                Set::Blocks(list) => _ = list.pop(),
                Set::Foreign(_) => {}
            }
            all.push(broken);
        }
        for (chain, rules) in &table.chains {
            for at in 0..rules.len() {
                let mut broken = ruleset.clone();
                let table = broken.tables.get_mut(family).expect("there");
                table.chains.get_mut(chain).expect("there").remove(at);
                all.push(broken);
            }
        }
    }
    all
}

#[test]
fn what_is_in_the_kernel_is_proven() {
    in_namespace("what_is_in_the_kernel_is_proven", |variant| {
        let (program, _) = (0..)
            .map(program)
            .find(|(it, _)| {
                let text = render(it, &Options::default()).to_string();
                text.len() > 6000 && text.lines().any(|it| it.starts_with("add netpol-4-"))
            })
            .expect("a large one");
        let mut kernel = open(variant);
        let missing = kernel.verify(&program).expect("read");
        assert!(missing.contains(&Mismatch::NoRules(Family::V4)), "{missing:?}");
        kernel.sync(&program).expect("written");
        let is_open = |it: &Mismatch| matches!(it, Mismatch::Verdict { allowed: false, .. });
        for (change, is_wrong) in [
            ("-F netpol-forward", is_open as fn(&Mismatch) -> bool),
            ("-D FORWARD -j netpol-forward", is_open),
            ("-I FORWARD -j ACCEPT", |it| matches!(it, Mismatch::Undecided(_))),
            ("-I netpol-forward -i eth0 -j ACCEPT", |it| matches!(it, Mismatch::Undecided(_))),
            ("-I netpol-input -m conntrack --ctstate RELATED,ESTABLISHED -j DROP", |it| {
                matches!(it, Mismatch::Established { .. })
            }),
            ("-A netpol-egress -j DROP", |it| matches!(it, Mismatch::Verdict { .. })),
            ("-I netpol-egress -s 10.0.0.0/8 -j RETURN", is_open),
        ] {
            assert_eq!(kernel.verify(&program).expect("read"), [], "before {change}");
            iptables(variant, change);
            let found = kernel.verify(&program).expect("read");
            assert!(found.iter().any(is_wrong), "{change}: {found:?}");
            assert!(kernel.sync(&program).expect("repaired").interfered, "{change}");
        }
        let sets = run("ipset list -n");
        let set = sets.lines().find(|it| it.starts_with("netpol-4")).expect("a set");
        feed("ipset restore -!", &format!("flush {set}\n"));
        assert!(!kernel.verify(&program).expect("read").is_empty());
    });
}
