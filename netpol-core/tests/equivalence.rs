//! The compiled program says what the specification says: it is compared with the reference evaluator over generated
//! worlds with all kinds of policies, options and flows.
//!
//! `NETPOL_WORLDS` sets how many worlds the long comparison goes through (1,000 by default), `NETPOL_SEED` where it
//! begins.

use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{Direction, End, Flow, Objects, Options};
use netpol_core::program::{Program, Scope, Verdict};
use netpol_core::reference::{self, Judgement};
use netpol_core::testing::{Choices, flow, flows_of_interest, world};
use proptest::prelude::*;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn judgement(verdict: Option<Verdict>) -> Judgement {
    match verdict {
        None => Judgement::NotJudged,
        Some(Verdict::Allow) => Judgement::Allow,
        Some(Verdict::Deny) => Judgement::Deny,
    }
}

/// Compares one flow, side by side.
fn compare(objects: &Objects, options: &Options, program: &Program, flow: &Flow) {
    let expected = reference::decide(objects, options, flow);
    let decision = program.decide(flow);
    assert_eq!(
        (judgement(decision.egress), judgement(decision.ingress)),
        (expected.egress, expected.ingress),
        "{flow}\n{options:#?}\n{objects:#?}"
    );
    let explanation = program.explain(flow);
    assert_eq!(explanation.decision(), decision, "{flow}\n{options:#?}\n{objects:#?}");
    for judgement in explanation.judgements() {
        let verdict = judgement.reason.verdict().unwrap_or(judgement.verdict);
        assert_eq!(
            verdict, judgement.verdict,
            "{flow}: {judgement:#?}\n{options:#?}\n{objects:#?}"
        );
    }
}

/// A program of one node judges its endpoints as the whole program does, and no others.
fn compare_scoped(objects: &Objects, options: &Options, flows: &[Flow]) {
    let cluster = Cluster::from_objects(*options, objects.clone());
    for node in objects.nodes.iter().map(|node| &node.name) {
        let program = compile(&cluster, Scope::Node(node.clone()));
        for flow in flows {
            let expected = reference::decide(objects, options, flow);
            let decision = program.decide(flow);
            let sides = [
                (Direction::Egress, &flow.source, decision.egress, expected.egress),
                (Direction::Ingress, &flow.destination, decision.ingress, expected.ingress),
            ];
            for (direction, subject, got, whole) in sides {
                let wanted =
                    if is_on(objects, subject, node) { whole } else { Judgement::NotJudged };
                assert_eq!(
                    judgement(got),
                    wanted,
                    "{direction} of {flow} on {node}\n{options:#?}\n{objects:#?}"
                );
            }
        }
    }
}

/// Whether an end is an endpoint of this node, or the node itself.
fn is_on(objects: &Objects, end: &End, node: &str) -> bool {
    let mut ordinary: Vec<_> = objects.endpoints.iter().filter(|it| it.is_ordinary()).collect();
    ordinary.sort_by_key(|it| (&it.namespace, &it.name, &it.uid));
    let is_node = |address| {
        objects.nodes.iter().any(|it| &*it.name == node && it.addresses.contains(address))
    };
    match end {
        End::Address(address) => match ordinary.iter().find(|it| it.addresses.contains(address)) {
            Some(owner) => owner.node.as_deref() == Some(node),
            None => is_node(address),
        },
        End::Endpoint { namespace, name } => {
            match ordinary.iter().find(|it| it.namespace == *namespace && it.name == *name) {
                Some(found) => found.node.as_deref() == Some(node),
                None => {
                    let mut hosts: Vec<_> = objects
                        .endpoints
                        .iter()
                        .filter(|it| {
                            it.host_network
                                && it.phase == netpol_core::model::Phase::Live
                                && it.namespace == *namespace
                                && it.name == *name
                        })
                        .collect();
                    hosts.sort_by_key(|it| &it.uid);
                    let host = hosts.first().and_then(|it| it.node.as_ref());
                    let address = objects
                        .nodes
                        .iter()
                        .find(|it| Some(&it.name) == host)
                        .and_then(|it| it.addresses.first());
                    address.is_some_and(|address| is_on(objects, &End::Address(*address), node))
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A failing tape is shrunk to a small world.
    #[test]
    fn program_equals_reference(tape in prop::collection::vec(any::<u8>(), 0..1200)) {
        let mut choices = Choices::new(&tape);
        let (objects, options) = world(&mut choices);
        let flows: Vec<Flow> = (0..40).map(|_| flow(&mut choices, &objects)).collect();
        let program = compile(&Cluster::from_objects(options, objects.clone()), Scope::Cluster);
        for flow in &flows {
            compare(&objects, &options, &program, flow);
        }
        compare_scoped(&objects, &options, &flows);
    }
}

#[test]
fn program_equals_reference_in_many_worlds() {
    let first = number("NETPOL_SEED", 1);
    let mut decisions = 0_u64;
    for seed in first..first + number("NETPOL_WORLDS", 1000) {
        let mut choices = Choices::from_seed(seed, 1500);
        let (objects, options) = world(&mut choices);
        let program = compile(&Cluster::from_objects(options, objects.clone()), Scope::Cluster);
        for _ in 0..100 {
            compare(&objects, &options, &program, &flow(&mut choices, &objects));
        }
        decisions += 100;
        if seed % 50 == 0 {
            let flows = flows_of_interest(&objects);
            flows.iter().for_each(|flow| compare(&objects, &options, &program, flow));
            decisions += flows.len() as u64;
        }
    }
    println!("{decisions} decisions compared, no difference");
}

/// The order in which objects come means nothing (M8).
#[test]
fn order_of_objects_means_nothing() {
    for seed in 0..200 {
        let mut choices = Choices::from_seed(seed, 1500);
        let (objects, options) = world(&mut choices);
        let mut reversed = objects.clone();
        reversed.namespaces.reverse();
        reversed.endpoints.reverse();
        reversed.nodes.reverse();
        reversed.policies.reverse();
        reversed.domains.reverse();
        let programs = [objects, reversed]
            .map(|objects| compile(&Cluster::from_objects(options, objects), Scope::Cluster));
        assert!(programs[0] == programs[1], "seed {seed}");
    }
}
