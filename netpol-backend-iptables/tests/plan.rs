//! No window: in every moment on the way from one program to another, between calls of the tools and
//! between the lines that ipset reads, a packet is judged as by the one or by the other.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::net::IpAddr;

use netpol_backend_iptables::plan::{Plan, Purpose, SetChange, Step};
use netpol_backend_iptables::ruleset::{Hook, Packet, Ruleset, Set, Standing};
use netpol_backend_iptables::{Options, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{
    Action, Block, Endpoint, Labels, NamespaceScope, Objects, Options as Readings, Peer, Peers,
    PodSelector, Policy, PolicyKey, PolicyKind, PortMatch, PortRange, Ports, Protocol, Requirement,
    Rule as PolicyRule, Selector, Subject, Tier, Traffic, name,
};
use netpol_core::program::Scope;
use netpol_core::testing::{Choices, edit, flows_of_interest, world};
use support::{packet, packet_of};

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
    let flows = [old, new].into_iter().flat_map(flows_of_interest);
    let all: Vec<Packet> = flows.filter_map(|flow| packet_of(&flow)).collect();
    let step = all.len().div_ceil(most).max(1);
    let some = all.into_iter().step_by(step);
    some.flat_map(|it| [it, Packet { standing: Standing::Stray, ..it }]).collect()
}

/// The lines that ipset reads, one after the other.
fn lines(step: &Step) -> Vec<Step> {
    let Step::Sets { purpose, changes } = step else { return vec![step.clone()] };
    let single = |change| Step::Sets { purpose: *purpose, changes: vec![change] };
    let of_change = |change: &SetChange| match change {
        SetChange::Add(set, it) => {
            one_by_one(it).into_iter().map(|it| SetChange::Add(set.clone(), it)).collect()
        }
        SetChange::Delete(set, it) => {
            one_by_one(it).into_iter().map(|it| SetChange::Delete(set.clone(), it)).collect()
        }
        other => vec![other.clone()],
    };
    changes.iter().flat_map(of_change).map(single).collect()
}

fn one_by_one(set: &Set) -> Vec<Set> {
    match set {
        Set::Addresses(list) => list.iter().map(|it| Set::Addresses(vec![*it])).collect(),
        Set::Blocks(list) => list.iter().map(|it| Set::Blocks(vec![*it])).collect(),
        Set::Foreign(_) => Vec::new(),
    }
}

fn check(old: &Ruleset, plan: &Plan, packets: &[Packet], context: &str) {
    let verdict = |ruleset: &Ruleset, hook, packet| ruleset.passes(hook, packet).expect("ours");
    let fitting: Vec<[[bool; 2]; 3]> = packets
        .iter()
        .map(|packet| {
            Hook::ALL.map(|hook| [old, plan.target()].map(|it| verdict(it, hook, packet)))
        })
        .collect();
    let mut state = old.clone();
    for step in plan.steps().iter().flat_map(lines) {
        step.apply(&mut state);
        for (packet, fitting) in packets.iter().zip(&fitting) {
            for (hook, fitting) in Hook::ALL.into_iter().zip(fitting) {
                let outcome = verdict(&state, hook, packet);
                assert!(
                    fitting.contains(&outcome),
                    "{context}: {packet:?} in {hook:?} after {step:?}: {outcome}\n{:#?}\n{old}\n{}",
                    plan.steps(),
                    plan.target(),
                );
            }
        }
    }
    assert_eq!(state.tables, plan.target().tables, "{context}");
}

#[test]
fn every_moment_is_the_old_or_the_new_program() {
    let mut purposes: BTreeMap<Purpose, usize> = BTreeMap::new();
    for seed in 0..120 {
        let scope = scope(seed);
        let mut choices = Choices::from_seed(seed, 3000);
        let (mut objects, options) = world(&mut choices);
        let (other, _) = world(&mut choices);
        let mut present = rendered(&objects, options, &scope);
        for round in 0..5 {
            let before = objects.clone();
            edit(&mut choices, &mut objects, &other);
            let wanted = rendered(&objects, options, &scope);
            let plan = Plan::new(&present, wanted.clone());
            let context = format!("seed {seed}, round {round}");
            assert_eq!(plan.target().normalised(), wanted.normalised(), "{context}");
            check(&present, &plan, &packets(&before, &objects, 200), &context);
            for step in plan.steps() {
                *purposes.entry(step.purpose()).or_default() += 1;
            }
            present = plan.target().clone();
        }
    }
    assert!(purposes[&Purpose::Switch] > 50 && purposes.len() == 5, "{purposes:?}");
}

/// Pods that fulfil selectors and cease to, some of them judged themselves, in blocks and beside
/// them, while policies come and go.
#[test]
fn members_come_and_go() {
    let mut purposes: BTreeMap<Purpose, usize> = BTreeMap::new();
    let mut without_rules = 0;
    for seed in 0..40 {
        let mut choices = Choices::from_seed(seed, 4000);
        let mut cluster = Cluster::new(Readings::default());
        let mut policies = [
            policy("l0", Tier::NetworkPolicy, vec![rule(Action::Accept, pods("a"), None)]),
            policy(
                "l1",
                Tier::NetworkPolicy,
                vec![
                    rule(Action::Accept, pods("a"), Some(80)),
                    rule(Action::Accept, pods("b"), Some(81)),
                    rule(Action::Accept, block("10.1.0.0/28", "10.1.0.4/30"), Some(82)),
                ],
            ),
            policy(
                "l2",
                Tier::Admin,
                vec![
                    rule(Action::Deny, pods("b"), Some(80)),
                    rule(Action::Accept, pods("a"), None),
                    rule(Action::Deny, block("10.1.0.0/29", "10.1.0.2/32"), Some(82)),
                ],
            ),
            policy("l3", Tier::Baseline, vec![rule(Action::Deny, pods("c"), None)]),
        ];
        for policy in &mut policies[..2] {
            policy.egress.clone_from(&policy.ingress);
        }
        let addresses: Vec<IpAddr> = (0..4).map(|n| [10, 0, 0, n].into()).collect();
        let addresses: Vec<IpAddr> =
            addresses.into_iter().chain((0..12).map(|n| [10, 1, 0, n].into())).collect();
        let place = |choices: &mut Choices<'_>, cluster: &mut Cluster, at: usize| {
            let mut endpoint = Endpoint::new("x", &format!("p{at}"));
            let role = choices.of(["a", "b", "c", "none"]);
            endpoint.labels = Labels::default().with("role", role).with("app", &format!("l{at}"));
            endpoint.node = Some(name(if at < 4 { "node0" } else { "node1" }));
            endpoint.addresses = [addresses[at]].into_iter().collect();
            cluster.upsert_endpoint(endpoint);
        };
        (0..addresses.len()).for_each(|at| place(&mut choices, &mut cluster, at));
        let mut packets = Vec::new();
        for (a, b) in addresses[..4].iter().flat_map(|a| addresses.iter().map(move |b| (*a, *b))) {
            for port in [80, 81, 82, 83] {
                for (a, b) in [(a, b), (b, a)] {
                    let packet = packet(a, b, Traffic::tcp(port));
                    packets.extend([packet, Packet { standing: Standing::Stray, ..packet }]);
                }
            }
        }
        let render_it = |cluster: &Cluster| {
            render(&compile(cluster, Scope::Node(name("node0"))), &Options::default())
        };
        let mut present = render_it(&cluster);
        for round in 0..12 {
            for _ in 0..=choices.pick(3) {
                let at = choices.pick(addresses.len());
                place(&mut choices, &mut cluster, at);
            }
            if choices.one_in(4) {
                let policy = policies[choices.pick(policies.len())].clone();
                if choices.one_in(2) {
                    cluster.remove_policy(&policy.key);
                } else {
                    cluster.upsert_policy(policy);
                }
            }
            let wanted = render_it(&cluster);
            let plan = Plan::new(&present, wanted);
            check(&present, &plan, &packets, &format!("seed {seed}, round {round}"));
            for step in plan.steps() {
                *purposes.entry(step.purpose()).or_default() += 1;
            }
            let switches = plan.steps().iter().any(|step| step.purpose() == Purpose::Switch);
            without_rules += usize::from(!plan.steps().is_empty() && !switches);
            present = plan.target().clone();
        }
    }
    assert!(without_rules > 50, "{without_rules} {purposes:?}");
    assert!(purposes.len() == 5 && purposes.values().all(|count| *count > 10), "{purposes:?}");
}

fn pods(role: &str) -> Peer {
    let pods = Selector::new([Requirement::is_in("role", [role])]);
    Peer::Pods(PodSelector { namespaces: NamespaceScope::Named(name("x")), pods })
}

fn block(cidr: &str, except: &str) -> Peer {
    Peer::Block(Block::new(cidr.parse().expect("a block"), [except.parse().expect("a block")]))
}

fn rule(action: Action, peer: Peer, port: Option<u16>) -> PolicyRule {
    let port = port.map(|it| PortMatch::Range(Protocol::Tcp, PortRange::single(it)));
    let ports = port.map_or(Ports::All, |port| Ports::AnyOf(vec![port]));
    PolicyRule { name: None, action, peers: Peers::AnyOf(vec![peer]), ports }
}

fn policy(app: &str, tier: Tier, ingress: Vec<PolicyRule>) -> Policy {
    let kind = match tier {
        Tier::Admin => PolicyKind::AdminNetworkPolicy,
        Tier::NetworkPolicy => PolicyKind::NetworkPolicy,
        Tier::Baseline => PolicyKind::BaselineAdminNetworkPolicy,
    };
    let pods = Selector::new([Requirement::is_in("app", [app])]);
    let subject = PodSelector { namespaces: NamespaceScope::Named(name("x")), pods };
    Policy {
        key: PolicyKey { kind, namespace: name("x"), name: name(app) },
        tier,
        priority: 0,
        subject: Subject::Pods(subject),
        ingress: Some(ingress),
        egress: None,
    }
}

/// A change that is interrupted after any line, by a crash for one, is completed by the next plan,
/// which leaves nothing behind and opens no window either.
#[test]
fn interrupted_changes_are_completed() {
    let mut interrupted = 0;
    for seed in 0..60 {
        let scope = scope(seed);
        let mut choices = Choices::from_seed(seed, 3000);
        let (mut objects, options) = world(&mut choices);
        let (other, _) = world(&mut choices);
        let mut state = rendered(&objects, options, &scope);
        for round in 0..6 {
            let before = objects.clone();
            edit(&mut choices, &mut objects, &other);
            let wanted = rendered(&objects, options, &scope);
            let plan = Plan::new(&state, wanted.clone());
            let steps: Vec<Step> = plan.steps().iter().flat_map(lines).collect();
            for step in steps.iter().take(choices.pick(steps.len().max(1))) {
                step.apply(&mut state);
                interrupted += 1;
            }
            let completed = Plan::new(&state, wanted.clone());
            let context = format!("seed {seed}, round {round}");
            check(&state, &completed, &packets(&before, &objects, 60), &context);
            assert_eq!(completed.target().normalised(), wanted.normalised(), "{context}");
            // The next change finds this one half done.
        }
    }
    assert!(interrupted > 50, "{interrupted}");
}

/// From nothing to the first program, from that to an unrelated one, and back to nothing.
#[test]
fn unrelated_programs() {
    for seed in 0..60 {
        let scope = scope(seed);
        let mut choices = Choices::from_seed(seed, 3000);
        let (first, options) = world(&mut choices);
        let (second, _) = world(&mut choices);
        let context = format!("seed {seed}");
        let packets = packets(&first, &second, 150);
        let wanted = rendered(&first, options, &scope);
        let mut nothing = wanted.clone();
        nothing.tables.values_mut().for_each(|table| *table = Default::default());
        let plan = Plan::new(&nothing, wanted);
        check(&nothing, &plan, &packets, &context);
        let present = plan.target().clone();
        let plan = Plan::new(&present, rendered(&second, options, &scope));
        check(&present, &plan, &packets, &context);
        let present = plan.target().clone();
        check(&present, &Plan::new(&present, nothing), &packets, &context);
    }
}
