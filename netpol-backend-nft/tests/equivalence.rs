//! Rendered rules say what the program says: both are asked about every connection that the
//! objects of generated worlds can tell apart.
//!
//! Some hundred worlds, or 100,000 in a [long run](length).
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells its figures"
)]

#[path = "support/length.rs"]
mod length;
mod support;

use std::collections::BTreeSet;

use length::{first_seed, length};
use netpol_backend_nft::ruleset::Hook;
use netpol_backend_nft::{Options, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{End, Flow, Objects};
use netpol_core::program::{Program, Scope};
use netpol_core::testing::{Choices, flows_of_interest, world};
use support::packet;

fn scopes(objects: &Objects) -> Vec<Scope> {
    let of_endpoints = objects.endpoints.iter().filter_map(|endpoint| endpoint.node.clone());
    let nodes: BTreeSet<_> =
        objects.nodes.iter().map(|node| node.name.clone()).chain(of_endpoints).collect();
    nodes.into_iter().map(Scope::Node).collect()
}

/// Compares at most so many flows, every n-th.
fn check(program: &Program, flows: &[Flow], most: usize, context: &str) -> usize {
    let ruleset = render(program, &Options::default());
    let mut checked = 0;
    let step = flows.len().div_ceil(most).max(1);
    for flow in flows.iter().step_by(step) {
        let (End::Address(source), End::Address(destination)) = (&flow.source, &flow.destination)
        else {
            continue;
        };
        if source.is_ipv4() != destination.is_ipv4() {
            continue;
        }
        let decision = program.decide(flow);
        let packet = packet(*source, *destination, flow.traffic);
        let passes = ruleset.passes(Hook::Forward, &packet).expect("nothing foreign");
        assert_eq!(passes, decision.is_allowed(), "{context}: {flow}: {decision:?}\n{ruleset}");
        checked += 1;
    }
    checked
}

#[test]
fn rendered_rules_decide_as_the_program_does() {
    let worlds = length("NETPOL_WORLDS", 400, 100_000);
    let flows_of_each = if worlds > 1000 { 500 } else { usize::MAX };
    let (mut checked, mut programs) = (0, 0);
    for seed in first_seed()..first_seed() + worlds {
        let (objects, options) = world(&mut Choices::from_seed(seed, 600));
        let flows = flows_of_interest(&objects);
        let cluster = Cluster::from_objects(options, objects.clone());
        for scope in scopes(&objects) {
            let context = format!("seed {seed}, {scope:?}, {options:?}");
            let program = compile(&cluster, scope);
            checked += check(&program, &flows, flows_of_each, &context);
            programs += 1;
        }
    }
    assert!(checked > 100 * usize::try_from(worlds).expect("fits"), "{checked}");
    eprintln!("{checked} flows in {programs} programs of {worlds} worlds");
}
