//! What one program has to say about another: nothing that differs is left out.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use netpol_core::cluster::Cluster;
use netpol_core::compile::{Compiler, compile};
use netpol_core::model::{
    Action, Endpoint, Family, Labels, Namespace, NamespaceScope, Options, Peer, Peers, PodSelector,
    Policy, PolicyKey, PolicyKind, Ports, Requirement, Rule, Selector, Subject, Tier, name,
};
use netpol_core::program::{Members, Program, Scope, Verdict};
use netpol_core::testing::{Choices, History};

/// Puts an address where it belongs, or takes it away.
fn place(members: &mut Members, address: std::net::IpAddr, says: Option<Verdict>) {
    members.allow.retain(|it| *it != address);
    members.deny.retain(|it| *it != address);
    match says.filter(|says| members.by_range(address) != *says) {
        Some(Verdict::Allow) => members.allow.push(address),
        Some(Verdict::Deny) => members.deny.push(address),
        None => {}
    }
    members.allow.sort_unstable();
    members.deny.sort_unstable();
}

/// Tells whether any class was found that both have.
fn check(before: &Program, now: &Program, context: &str) -> bool {
    let since = now.since(Some(before));
    let then: BTreeMap<_, _> = before.classes().collect();
    let mut compared = false;
    for (id, _) in now.classes() {
        if since.classes.contains(&id) {
            continue;
        }
        assert!(then.contains_key(&id), "{context}: a new class is not told of");
        assert_eq!(now.class_text(id), before.class_text(id), "{context}");
        compared = true;
        for family in Family::ALL {
            let ranges = now.member_ranges(id, family);
            let mut patched = before.members(id, family);
            if since.blocks {
                patched = Members { allow: Vec::new(), deny: Vec::new(), ..ranges.clone() };
                let all = now.members(id, family);
                all.allow.iter().chain(&all.deny).for_each(|address| {
                    place(&mut patched, *address, now.member(id, now.single(*address)));
                });
            }
            assert_eq!(patched.ranges, ranges.ranges, "{context}: ranges");
            for address in since.addresses.iter().filter(|it| Family::of(**it) == family) {
                place(&mut patched, *address, now.member(id, now.single(*address)));
            }
            assert_eq!(patched, now.members(id, family), "{context}: {}", now.class_text(id));
        }
    }
    for (id, profile) in now.profiles().filter(|(id, _)| !since.profiles.contains(id)) {
        assert_eq!(profile, before.profile(id), "{context}");
    }
    let told: Vec<_> = since.endpoints.iter().filter_map(|slot| slot.now).collect();
    let known: Vec<_> = before.endpoints().collect();
    for endpoint in now.endpoints().filter(|it| !told.contains(it)) {
        assert!(known.contains(&endpoint), "{context}: {}", endpoint.name());
    }
    compared
}

#[test]
fn what_is_not_told_of_is_the_same() {
    let mut compared = 0;
    for seed in 0..1000_u64 {
        let mut choices = Choices::from_seed(seed, 4000);
        let history = History::new(&mut choices);
        let scope = if seed % 2 == 0 { Scope::Node(name("node0")) } else { Scope::Cluster };
        let mut cluster = Cluster::new(history.options);
        let mut compiler = Compiler::new(history.options, scope.clone());
        let mut held = compiler.program().clone();
        let mut events = Vec::new();
        for _ in 0..40 {
            events.push(history.step(&mut choices, &mut cluster));
            let changes = cluster.take_changes();
            let program = compiler.update(&cluster, &changes);
            // Some are never asked about.
            if choices.one_in(2) {
                let context = format!("seed {seed}: {events:?}");
                compared += usize::from(check(&held, program, &context));
                held = program.clone();
                events.clear();
            }
        }
        // One that shares nothing.
        check(&held, &compile(&cluster, scope), &format!("seed {seed}, anew"));
    }
    assert!(compared > 2000, "{compared}");
}

/// Numbers of identities are given again: of two programs that have one in common it may be another's in the second.
#[test]
fn a_number_that_is_given_again_is_told_of() {
    let app = |value: &str| Selector::new([Requirement::is_in("app", [value])]);
    let pods = |value: &str| PodSelector {
        namespaces: NamespaceScope::Named(name("x")),
        pods: app(value),
    };
    let pod = |pod_name: &str, app: &str, last| {
        let mut pod = Endpoint::new("x", pod_name);
        pod.labels = [("app", app)].into_iter().collect();
        pod.addresses.push([10, 0, 0, last].into());
        pod
    };
    let mut cluster = Cluster::new(Options::default());
    cluster.upsert_namespace(Namespace::new("x", Labels::default()));
    for from in 0..6 {
        let [subject, peer] = ["to", "from"].map(|it| format!("{it}-{from}"));
        let peers = Peers::AnyOf(vec![Peer::Pods(pods(&peer))]);
        cluster.upsert_policy(Policy {
            key: PolicyKey {
                kind: PolicyKind::NetworkPolicy,
                namespace: name("x"),
                name: name(&subject),
            },
            tier: Tier::NetworkPolicy,
            priority: 0,
            subject: Subject::Pods(pods(&subject)),
            ingress: Some(vec![Rule {
                name: None,
                action: Action::Accept,
                peers,
                ports: Ports::All,
            }]),
            egress: None,
        });
        cluster.upsert_endpoint(pod(&subject, &subject, 100 + from));
    }
    let mut compiler = Compiler::new(Options::default(), Scope::Cluster);
    let mut programs = Vec::new();
    for turn in 0..40_u8 {
        // Several pods change at once, so that numbers wander.
        for at in 0..1 + turn % 4 {
            let app = format!("from-{}", (turn + 3 * at) % 6);
            cluster.upsert_endpoint(pod(&format!("pod-{at}"), &app, at));
        }
        let changes = cluster.take_changes();
        programs.push(compiler.update(&cluster, &changes).clone());
    }
    for (at, now) in programs.iter().enumerate() {
        for (earlier, before) in programs[..at].iter().enumerate() {
            check(before, now, &format!("from {earlier} to {at}"));
        }
    }
}

#[test]
fn after_an_event_little_is_told() {
    let mut choices = Choices::from_seed(3, 4000);
    let history = History::new(&mut choices);
    let mut cluster = Cluster::new(history.options);
    let mut compiler = Compiler::new(history.options, Scope::Cluster);
    for _ in 0..60 {
        history.step(&mut choices, &mut cluster);
    }
    let changes = cluster.take_changes();
    let program = compiler.update(&cluster, &changes).clone();
    let same = program.since(Some(compiler.program()));
    assert!(same.endpoints.is_empty() && same.profiles.is_empty() && same.classes.is_empty());
    assert!(!same.blocks);
    assert_eq!(program.since(None).classes.len(), program.classes().count());
}
