//! No window: whatever a packet meets on the way from one program to another, it is judged as by the
//! one or by the other.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use netpol_backend_nft::plan::{Plan, Purpose, Step};
use netpol_backend_nft::ruleset::{Hook, Packet, Ruleset, Standing};
use netpol_backend_nft::{Options, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{End, Flow, Objects, Options as Readings, name};
use netpol_core::program::Scope;
use netpol_core::testing::{Choices, edit, flows_of_interest, world};
use support::packet;

fn rendered(objects: &Objects, options: Readings, scope: &Scope) -> Ruleset {
    let cluster = Cluster::from_objects(options, objects.clone());
    render(&compile(&cluster, scope.clone()), &Options::default())
}

/// One node, or as if all endpoints were on one.
fn scope(seed: u64) -> Scope {
    if seed.is_multiple_of(3) { Scope::Node(name("node0")) } else { Scope::Cluster }
}

/// Packets that tell both worlds apart, at most so many.
fn packets(old: &Objects, new: &Objects, most: usize) -> Vec<Packet> {
    let of = |flow: &Flow| match (&flow.source, &flow.destination) {
        (End::Address(a), End::Address(b)) if a.is_ipv4() == b.is_ipv4() => {
            Some(packet(*a, *b, flow.traffic))
        }
        _ => None,
    };
    let all: Vec<Packet> =
        [old, new].into_iter().flat_map(flows_of_interest).filter_map(|flow| of(&flow)).collect();
    let step = all.len().div_ceil(most).max(1);
    let first = all.into_iter().step_by(step);
    // Some of them from the middle of a connection.
    let standings = [Standing::New, Standing::New, Standing::Stray].into_iter().cycle();
    first.zip(standings).map(|(packet, standing)| Packet { standing, ..packet }).collect()
}

fn check(old: &Ruleset, plan: &Plan, packets: &[Packet], context: &str) {
    let pieces = |step: &Step| step.split(1).unwrap_or_else(|| vec![step.clone()]);
    let in_pieces: Vec<Step> = plan.steps().iter().flat_map(pieces).collect();
    for steps in [plan.steps(), &in_pieces] {
        check_steps(old, plan.target(), steps, packets, context);
    }
}

fn check_steps(old: &Ruleset, new: &Ruleset, steps: &[Step], packets: &[Packet], context: &str) {
    let verdict = |ruleset: &Ruleset, hook, packet| ruleset.passes(hook, packet).expect("ours");
    let mut states = vec![old.clone()];
    for step in steps {
        let mut next = states.last().expect("the first").clone();
        step.apply(&mut next);
        states.push(next);
    }
    assert_eq!(states.last().expect("the last").tables, new.tables, "{context}");
    for set in states.iter().flat_map(|it| it.tables.values()).flat_map(|it| it.sets.values()) {
        assert!(set.size.is_none_or(|size| set.elements.len() <= size as usize), "{context}");
    }
    for packet in packets {
        for hook in Hook::ALL {
            let fitting = [verdict(old, hook, packet), verdict(new, hook, packet)];
            for (pair, step) in states.windows(2).zip(steps) {
                let outcomes = pair[0].passes_during(&pair[1], hook, packet).expect("ours");
                assert!(
                    outcomes.iter().all(|outcome| fitting.contains(outcome)),
                    "{context}: {packet:?} in {hook:?} during {:?}: {outcomes:?}, not {fitting:?}\n\
                     {steps:#?}\n{old}",
                    step.purpose(),
                );
            }
        }
    }
}

#[test]
fn every_moment_is_the_old_or_the_new_program() {
    let mut purposes: BTreeMap<Purpose, usize> = BTreeMap::new();
    let mut by_elements = 0;
    for seed in 0..250 {
        let scope = scope(seed);
        let mut choices = Choices::from_seed(seed, 3000);
        let (mut objects, options) = world(&mut choices);
        let (other, _) = world(&mut choices);
        let mut present = rendered(&objects, options, &scope);
        for round in 0..4 {
            let before = objects.clone();
            edit(&mut choices, &mut objects, &other);
            let wanted = rendered(&objects, options, &scope);
            let plan = Plan::new(Some(&present), wanted.clone());
            let context = format!("seed {seed}, round {round}");
            assert_eq!(plan.target().normalised(), wanted.normalised(), "{context}");
            check(&present, &plan, &packets(&before, &objects, 400), &context);
            let is = |purpose| plan.steps().iter().any(|step| step.purpose() == purpose);
            for step in plan.steps() {
                *purposes.entry(step.purpose()).or_default() += 1;
            }
            by_elements += usize::from(is(Purpose::Close) || is(Purpose::Open));
            assert!(!is(Purpose::Replace), "{context}");
            present = plan.target().clone();
        }
    }
    assert!(by_elements > 40, "{by_elements} {purposes:?}");
    assert!(purposes[&Purpose::Switch] > 50, "{purposes:?}");
}

/// A change that is interrupted after any of its steps, by a crash for one, is completed by the next
/// plan, which leaves nothing behind and opens no window either.
#[test]
fn interrupted_changes_are_completed() {
    let mut interrupted = 0;
    for seed in 0..100 {
        let scope = scope(seed);
        let mut choices = Choices::from_seed(seed, 3000);
        let (mut objects, options) = world(&mut choices);
        let (other, _) = world(&mut choices);
        let mut state = rendered(&objects, options, &scope);
        for round in 0..6 {
            let before = objects.clone();
            edit(&mut choices, &mut objects, &other);
            let wanted = rendered(&objects, options, &scope);
            let plan = Plan::new(Some(&state), wanted.clone());
            let steps = plan.steps();
            for step in steps.iter().take(choices.pick(steps.len().max(1))) {
                step.apply(&mut state);
                interrupted += 1;
            }
            let completed = Plan::new(Some(&state), wanted.clone());
            let context = format!("seed {seed}, round {round}");
            check(&state, &completed, &packets(&before, &objects, 100), &context);
            assert_eq!(completed.target().normalised(), wanted.normalised(), "{context}");
            // The next change finds this one half done.
        }
    }
    assert!(interrupted > 100, "{interrupted}");
}

/// From no table to the first, and from a program to an unrelated one.
#[test]
fn unrelated_programs() {
    for seed in 0..100 {
        let scope = scope(seed);
        let mut choices = Choices::from_seed(seed, 3000);
        let (first, options) = world(&mut choices);
        let (second, _) = world(&mut choices);
        let context = format!("seed {seed}");
        let packets = packets(&first, &second, 300);
        let wanted = rendered(&first, options, &scope);
        let nothing = Ruleset { name: wanted.name.clone(), tables: BTreeMap::new() };
        let plan = Plan::new(None, wanted);
        check(&nothing, &plan, &packets, &context);
        let present = plan.target().clone();
        let plan = Plan::new(Some(&present), rendered(&second, options, &scope));
        check(&present, &plan, &packets, &context);
    }
}
