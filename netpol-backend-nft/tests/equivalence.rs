//! Rendered rules say what the program says: both are asked about every connection that the
//! objects of generated worlds can tell apart.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

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

fn check(program: &Program, flows: &[Flow], context: &str) -> usize {
    let ruleset = render(program, &Options::default());
    let mut checked = 0;
    for flow in flows {
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
    let mut checked = 0;
    for seed in 0..400 {
        let (objects, options) = world(&mut Choices::from_seed(seed, 600));
        let flows = flows_of_interest(&objects);
        let scopes = scopes(&objects);
        let cluster = Cluster::from_objects(options, objects);
        for scope in scopes {
            let context = format!("seed {seed}, {scope:?}, {options:?}");
            checked += check(&compile(&cluster, scope), &flows, &context);
        }
    }
    assert!(checked > 100_000, "{checked}");
}
