//! A program that was kept up to date equals one that is compiled from scratch, after every event of generated
//! histories: whole programs are compared, by their dumps.
//!
//! `NETPOL_HISTORIES` sets how many histories are gone through (150 by default), `NETPOL_SEED` where they begin.

use netpol_core::cluster::Changes;
use netpol_core::compile::Compiler;
use netpol_core::model::{
    Action, Endpoint, Labels, Name, Namespace, NamespaceScope, Options, Peer, Peers, PodSelector,
    Policy, PolicyKey, PolicyKind, Ports, Requirement, Rule, Selector, Subject, Tier,
};
use netpol_core::testing::{Choices, History, world};
use netpol_core::{Cluster, Scope, compile};
use proptest::prelude::*;

fn scopes(history: &History) -> Vec<Scope> {
    let nodes = history.objects.iter().flat_map(|it| &it.nodes).map(|it| it.name.clone());
    let nodes: std::collections::BTreeSet<Name> = nodes.collect();
    [Scope::Cluster].into_iter().chain(nodes.into_iter().take(2).map(Scope::Node)).collect()
}

fn compare(cluster: &Cluster, compiler: &Compiler, scope: &Scope, told: &[String]) {
    let (kept, fresh) = (compiler.program().dump(), compile(cluster, scope.clone()).dump());
    let differing = |a: &str, b: &str| {
        let lines: std::collections::BTreeSet<&str> = b.lines().collect();
        a.lines().filter(|line| !lines.contains(line)).collect::<Vec<_>>().join("\n")
    };
    assert!(
        kept == fresh,
        "{scope:?} after {}\nonly kept up:\n{}\nonly from scratch:\n{}",
        told.join(", "),
        differing(&kept, &fresh),
        differing(&fresh, &kept)
    );
}

/// Goes through a history; after each step the compilers are told, some steps are told together, and some twice.
fn go(choices: &mut Choices<'_>, steps: usize) -> usize {
    let history = History::new(choices);
    let mut cluster = Cluster::new(history.options);
    let scopes = scopes(&history);
    let mut compilers: Vec<Compiler> =
        scopes.iter().map(|scope| Compiler::new(history.options, scope.clone())).collect();
    let mut told = Vec::new();
    let mut changes: Vec<Changes> = Vec::new();
    let mut compared = 0;
    for step in 0..steps {
        told.push(history.step(choices, &mut cluster));
        changes.push(cluster.take_changes());
        let squash = choices.one_in(4) && step + 1 < steps;
        if squash {
            continue;
        }
        if choices.one_in(2) {
            changes.reverse();
        }
        let twice = choices.one_in(8);
        for (compiler, scope) in compilers.iter_mut().zip(&scopes) {
            // Whoever still holds the program before must not see it change.
            let held = compiler.program().clone();
            let held_dump = (step % 8 == 0).then(|| held.dump());
            for change in &changes {
                compiler.update(&cluster, change);
                if twice {
                    compiler.update(&cluster, change);
                }
            }
            compare(&cluster, compiler, scope, &told);
            compared += 1;
            if let Some(dump) = held_dump {
                assert_eq!(held.dump(), dump, "a program changed after it was handed out");
            }
        }
        changes.clear();
    }
    // What is left when everything is gone is what was there before anything came.
    let all = cluster.all_as_changes();
    let empty = Cluster::new(history.options);
    for (compiler, scope) in compilers.iter_mut().zip(&scopes) {
        compiler.update(&empty, &all);
        compare(&empty, compiler, scope, &["everything gone".to_owned()]);
    }
    compared
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn recompile_equals_compile(tape in prop::collection::vec(any::<u8>(), 0..2000)) {
        go(&mut Choices::new(&tape), 30);
    }
}

#[test]
fn recompile_equals_compile_in_long_histories() {
    let number = |variable: &str, default: u64| {
        std::env::var(variable).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
    };
    let first = number("NETPOL_SEED", 1);
    let mut compared = 0;
    for seed in first..first + number("NETPOL_HISTORIES", 150) {
        compared += go(&mut Choices::from_seed(seed, 4000), 80);
    }
    println!("{compared} programs compared, no difference");
}

/// A referent that is removed while what refers to it lives, and comes back: the sequence that a symmetric history
/// never has.
#[test]
fn referents_go_before_their_referrers() {
    for seed in 0..60 {
        let mut choices = Choices::from_seed(seed, 2000);
        let (objects, options) = world(&mut choices);
        let mut cluster = Cluster::from_objects(options, objects.clone());
        let mut compiler = Compiler::new(options, Scope::Cluster);
        let sync = |cluster: &mut Cluster, compiler: &mut Compiler, what: &str| {
            let changes = cluster.take_changes();
            compiler.update(cluster, &changes);
            compare(cluster, compiler, &Scope::Cluster, &[what.to_owned()]);
        };
        sync(&mut cluster, &mut compiler, "all");
        for endpoint in &objects.endpoints {
            cluster.remove_endpoint(&endpoint.namespace, &endpoint.name, &endpoint.uid);
            sync(&mut cluster, &mut compiler, "endpoint gone");
        }
        for node in &objects.nodes {
            cluster.remove_node(&node.name);
            sync(&mut cluster, &mut compiler, "node gone");
        }
        for namespace in &objects.namespaces {
            let renamed = Namespace::new(&namespace.name, Labels::from_iter([("app", "b")]));
            cluster.upsert_namespace(renamed);
            cluster.remove_namespace(&namespace.name);
            sync(&mut cluster, &mut compiler, "namespace gone");
        }
        for endpoint in objects.endpoints.iter().rev() {
            cluster.upsert_endpoint(endpoint.clone());
            sync(&mut cluster, &mut compiler, "endpoint back");
        }
        for policy in &objects.policies {
            cluster.remove_policy(&policy.key);
            sync(&mut cluster, &mut compiler, "policy gone");
        }
        for node in &objects.nodes {
            cluster.upsert_node(node.clone());
            sync(&mut cluster, &mut compiler, "node back");
        }
    }
}

/// Two pods of one name, and a node that is told of the one and then of the other: who is meant is the first by uid,
/// whom the node may not know, and never the one that came into its sight last.
#[test]
fn a_name_is_not_taken_over_by_whoever_comes_into_sight() {
    let pod = |name: &str, uid: &str, app: &str, node: &str, address: &str| {
        let mut pod = Endpoint::new("x", name);
        pod.uid = uid.into();
        pod.labels = Labels::from_iter([("app", app)]);
        pod.node = Some(node.into());
        pod.addresses.push(address.parse().unwrap());
        pod
    };
    let within = |pods| PodSelector { namespaces: NamespaceScope::Named("x".into()), pods };
    let allows = |app: &str| {
        let peer = Peer::Pods(within(Selector::new([Requirement::is_in("app", [app])])));
        let (peers, ports) = (Peers::AnyOf(vec![peer]), Ports::All);
        Policy {
            key: PolicyKey {
                kind: PolicyKind::NetworkPolicy,
                namespace: "x".into(),
                name: app.into(),
            },
            tier: Tier::NetworkPolicy,
            priority: 0,
            subject: Subject::Pods(within(Selector::everything())),
            ingress: Some(vec![Rule { name: None, action: Action::Accept, peers, ports }]),
            egress: None,
        }
    };
    let (scope, options) = (Scope::Node("own".into()), Options::default());
    let mut cluster = Cluster::new(options);
    let mut compiler = Compiler::new(options, scope.clone());
    let mut sync = |cluster: &mut Cluster, what: &str| {
        let changes = cluster.take_changes();
        compiler.update(cluster, &changes);
        compare(cluster, &compiler, &scope, &[what.to_owned()]);
    };
    cluster.upsert_endpoint(pod("here", "0", "c", "own", "10.0.0.1"));
    cluster.upsert_endpoint(pod("twin", "2", "a", "other", "10.0.0.2"));
    sync(&mut cluster, "the later twin, alone");
    cluster.upsert_policy(allows("a"));
    sync(&mut cluster, "in sight");
    cluster.remove_policy(&allows("a").key);
    sync(&mut cluster, "out of sight");
    cluster.upsert_endpoint(pod("twin", "1", "b", "other", "10.0.0.3"));
    sync(&mut cluster, "the first twin, out of sight");
    cluster.upsert_policy(allows("a"));
    sync(&mut cluster, "the later one in sight");
    cluster.upsert_policy(allows("b"));
    sync(&mut cluster, "both in sight");
    cluster.remove_endpoint("x", "twin", "1");
    sync(&mut cluster, "the later one, alone again");
    cluster.remove_policy(&allows("a").key);
    sync(&mut cluster, "out of sight again");
    cluster.upsert_endpoint(pod("twin", "3", "b", "other", "10.0.0.3"));
    sync(&mut cluster, "a third comes, in sight");
}
