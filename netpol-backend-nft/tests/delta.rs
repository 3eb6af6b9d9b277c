//! What a change costs, and the kernel's limits on the way.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netpol_backend_nft::nflog::Prefix;
use netpol_backend_nft::plan::{Plan, Purpose};
use netpol_backend_nft::ruleset::{Elements, Family, Ruleset, Statement};
use netpol_backend_nft::{Change, Error, Log, Nft, Options, render};
use netpol_core::backend::Closed;
use netpol_core::model::{
    Action, Endpoint, Labels, NamespaceScope, Options as Readings, Peer, Peers, PodSelector,
    Policy, PolicyKey, PolicyKind, PortMatch, PortRange, Ports, Protocol, Requirement, Rule,
    Selector, Subject, Tier, name,
};
use netpol_core::{Cluster, Program, Scope, compile};
use support::{in_namespace, nft, nft_load, open};

fn endpoint(pod: &str, app: &str, node: &str, number: u16) -> Endpoint {
    let mut endpoint = Endpoint::new("x", pod);
    endpoint.labels = Labels::default().with("app", app);
    endpoint.node = Some(name(node));
    let [high, low] = number.to_be_bytes();
    let v6 = [0xfd00, 0, 0, 0, 0, 0, 0, number];
    endpoint.addresses = [IpAddr::from([10, 0, high, low]), IpAddr::from(v6)].into_iter().collect();
    endpoint
}

fn app(app: &str) -> PodSelector {
    let pods = Selector::new([Requirement::is_in("app", [app])]);
    PodSelector { namespaces: NamespaceScope::Named(name("x")), pods }
}

/// One isolated pod, and so many elsewhere that may reach it.
fn cluster(peers: u16) -> Cluster {
    let mut cluster = Cluster::new(Readings::default());
    cluster.upsert_endpoint(endpoint("db", "db", "here", 1));
    (0..peers).for_each(|number| join(&mut cluster, number));
    let port = PortMatch::Range(Protocol::Tcp, PortRange::single(5432));
    let rule = Rule {
        name: None,
        action: Action::Accept,
        peers: Peers::AnyOf(vec![Peer::Pods(app("api"))]),
        ports: Ports::AnyOf(vec![port]),
    };
    let key = PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: name("x"), name: name("db") };
    cluster.upsert_policy(Policy {
        key,
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(app("db")),
        ingress: Some(vec![rule]),
        egress: None,
    });
    cluster
}

fn join(cluster: &mut Cluster, number: u16) {
    let pod = format!("api-{number}");
    cluster.upsert_endpoint(endpoint(&pod, "api", "elsewhere", 256 + number));
}

fn program(cluster: &Cluster) -> Program {
    compile(cluster, Scope::Node(name("here")))
}

fn rendered(cluster: &Cluster) -> Ruleset {
    render(&program(cluster), &Options::default())
}

fn assert_in_force(kernel: &mut Nft, cluster: &Cluster) {
    assert_in_force_with(kernel, cluster, &Options::default());
}

fn assert_in_force_with(kernel: &mut Nft, cluster: &Cluster, options: &Options) {
    let read = kernel.read().expect("read").expect("present");
    assert_eq!(read.normalised(), render(&program(cluster), options).normalised());
    assert_eq!(kernel.verify(&program(cluster)).expect("read"), []);
}

/// The purposes of the steps of a change.
fn purposes(old: &Cluster, new: &Cluster) -> Vec<Purpose> {
    let plan = Plan::new(Some(&rendered(old)), rendered(new));
    plan.steps().iter().map(|step| step.purpose()).collect()
}

#[test]
fn common_events_change_elements_alone() {
    let old = cluster(20);
    let mut joined = cluster(20);
    join(&mut joined, 20);
    assert_eq!(purposes(&old, &joined), [Purpose::Open]);
    assert_eq!(purposes(&joined, &old), [Purpose::Close]);

    // A pod of our own node: isolated at once, and known to nobody before.
    let mut created = cluster(20);
    created.upsert_endpoint(endpoint("db-2", "db", "here", 2));
    assert_eq!(purposes(&old, &created), [Purpose::Prepare, Purpose::Close]);
    assert_eq!(purposes(&created, &old), [Purpose::Open, Purpose::Clean]);

    // One peer for another.
    let mut moved = cluster(19);
    join(&mut moved, 20);
    assert_eq!(purposes(&old, &moved), [Purpose::Close, Purpose::Open]);
    assert_eq!(purposes(&old, &old), []);
}

/// A change does not grow with what does not change.
#[test]
fn a_change_is_as_small_as_it_is() {
    in_namespace("a_change_is_as_small_as_it_is", || {
        for peers in [20, 5000] {
            let mut kernel = open();
            kernel.remove().expect("removed");
            let mut cluster = cluster(peers);
            kernel.sync(&program(&cluster)).expect("written");
            join(&mut cluster, peers);
            let report = kernel.sync(&program(&cluster)).expect("written");
            assert_eq!((report.change, report.steps), (Change::Updated, 1));
            assert!(report.bytes < 400, "{peers}: {report:?}");
            assert_in_force(&mut kernel, &cluster);
        }
    });
}

/// ENFILE: a hash set takes no more than it was declared for, so a larger one takes its place.
#[test]
fn full_sets_are_replaced_by_larger_ones() {
    in_namespace("full_sets_are_replaced_by_larger_ones", || {
        let mut kernel = open();
        let mut cluster = cluster(1);
        let mut replaced = 0;
        for peers in 1..400 {
            join(&mut cluster, peers);
            let report = kernel.sync(&program(&cluster)).expect("written");
            replaced += usize::from(report.steps > 1);
        }
        // The first time all is new; then at 48, 96 and so on.
        assert_eq!(replaced, 1 + 4);
        assert_in_force(&mut kernel, &cluster);
        let read = kernel.read().expect("read").expect("present");
        for table in read.tables.values() {
            let room = |set: &netpol_backend_nft::ruleset::Set| match set.elements {
                Elements::Addresses(_) => set.size,
                _ => None,
            };
            let largest = table.sets.values().filter_map(room).max();
            assert!(largest.is_some_and(|size| (400..2000).contains(&size)), "{largest:?}");
        }
    });
}

/// ENFILE as well: where all pods of a node are replaced at once, both are in the sets for a moment.
#[test]
fn all_pods_replaced_at_once() {
    in_namespace("all_pods_replaced_at_once", || {
        let mut kernel = open();
        for count in [30, 36, 37, 60, 72, 74] {
            let mut cluster = cluster(3);
            kernel.remove().expect("removed");
            kernel.sync(&program(&cluster)).expect("written");
            for generation in 0..4i32 {
                for number in 0..count {
                    let old = format!("db-{}-{number}", generation - 1);
                    cluster.remove_endpoint("x", &old, "");
                    let (pod, at) =
                        (format!("db-{generation}-{number}"), 2 + (generation & 1) as u16);
                    cluster.upsert_endpoint(endpoint(&pod, "db", "here", at * 100 + number));
                }
                let report = kernel.sync(&program(&cluster));
                report.unwrap_or_else(|error| panic!("{count} pods: {error}"));
                assert_in_force(&mut kernel, &cluster);
            }
        }
    });
}

/// EEXIST: an element that is there cannot be added with another verdict or comment.
#[test]
fn addresses_that_change_hands() {
    in_namespace("addresses_that_change_hands", || {
        let mut kernel = open();
        let mut cluster = cluster(3);
        kernel.sync(&program(&cluster)).expect("written");
        for pod in ["db-2", "db-3", "db"] {
            for old in ["db", "db-2", "db-3"] {
                cluster.remove_endpoint("x", old, "");
            }
            cluster.upsert_endpoint(endpoint(pod, "db", "here", 1));
            let report = kernel.sync(&program(&cluster)).expect("written");
            assert_eq!(report.steps, 1, "{pod}");
            assert_in_force(&mut kernel, &cluster);
        }
    });
}

/// Denials that have been counted stay counted.
#[test]
fn counters_survive_changes() {
    in_namespace("counters_survive_changes", || {
        let mut kernel = open();
        let mut cluster = cluster(3);
        kernel.sync(&program(&cluster)).expect("written");
        if nft(&["list", "tables"]).is_none() {
            return;
        }
        // As if 7 packets had been denied: the same rule, with another count.
        nft_load(
            "flush chain ip netpol denied-in\n\
             add rule ip netpol denied-in ip saddr . ip daddr @self accept\n\
             add rule ip netpol denied-in counter packets 7 bytes 420 drop\n",
        );
        for peers in 3..200 {
            join(&mut cluster, peers);
            kernel.sync(&program(&cluster)).expect("written");
        }
        let denied = kernel.status().expect("read").tables[&Family::V4].denied_ingress;
        assert_eq!((denied.packets, denied.bytes), (7, 420));
    });
}

/// Dumps of set elements do not say that they were interrupted; what is read is a state that was
/// there, all the same.
#[test]
fn reading_while_others_write() {
    in_namespace("reading_while_others_write", || {
        let mut clusters = [cluster(3000), cluster(3000)];
        for number in 3000..3010 {
            join(&mut clusters[1], number);
        }
        let programs = clusters.each_ref().map(program);
        let states = clusters.each_ref().map(|it| rendered(it).normalised());
        let mut writer = open();
        writer.sync(&programs[0]).expect("written");
        let mut reader = open();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    writer.sync(&programs[round % 2]).expect("written");
                }
            });
            let (mut read, mut contended) = (0, 0);
            while read + contended < 100 {
                match reader.read() {
                    Ok(Some(state)) => {
                        read += 1;
                        let known = states.contains(&state.normalised());
                        over.store(!known || over.load(Ordering::Relaxed), Ordering::Relaxed);
                        assert!(known, "neither the one nor the other");
                    }
                    Err(Error::Contended) => contended += 1,
                    other => panic!("{other:?}"),
                }
            }
            over.store(true, Ordering::Relaxed);
        });
    });
}

/// Somebody who changes other tables makes nothing be read back; our own are read if he changes them.
#[test]
fn changes_of_other_tables_cost_little() {
    in_namespace("changes_of_other_tables_cost_little", || {
        let program = program(&cluster(20_000));
        let mut kernel = open();
        kernel.sync(&program).expect("written");
        let mut fastest = |foreign: &dyn Fn(usize) -> String, interferes: bool| {
            let rounds = (0..4).map(|round| {
                let loaded = nft_load(&foreign(round));
                let begin = Instant::now();
                let report = kernel.sync(&program).expect("in force");
                let took = begin.elapsed();
                assert_eq!(report.interfered, interferes && loaded, "{round}");
                took
            });
            rounds.min().unwrap_or_default()
        };
        let others = fastest(
            &|round| format!("table ip other {{ set s{round} {{ type mark; }}\n}}\n"),
            false,
        );
        let ours =
            fastest(&|_| "add element ip netpol ingress { 192.0.2.1 : drop }\n".to_owned(), true);
        if nft(&["--version"]).is_some() {
            assert!(others * 5 < ours, "{others:?} and {ours:?}");
        }
    });
}

/// The generations of the profiles whose denied packets are reported.
fn generations(kernel: &mut Nft) -> BTreeMap<String, u32> {
    let ruleset = kernel.read().expect("read").expect("present");
    let chains = ruleset.tables[&Family::V4].chains.values();
    let statements = chains.flat_map(|chain| &chain.rules).flat_map(|rule| &rule.statements);
    let prefixes = statements.filter_map(|statement| match statement {
        Statement::Log { prefix, .. } => Prefix::parse(prefix.as_str()),
        _ => None,
    });
    prefixes.filter_map(|prefix| Some((prefix.profile?, prefix.generation?))).collect()
}

/// Reports tell since when their profile has been in force, whoever has written the rules.
#[test]
fn generations_last_as_long_as_profiles() {
    in_namespace("generations_last_as_long_as_profiles", || {
        let log = Some(Log { group: 7, per_second: None, accepted: false });
        let open = || Nft::open(Options { log, ..Options::default() }).expect("nf_tables");
        let mut cluster = cluster(3);
        let mut kernel = open();
        kernel.sync(&program(&cluster)).expect("written");
        let first = generations(&mut kernel);
        assert_eq!(first.len(), 1);
        std::thread::sleep(Duration::from_millis(1100));

        let mut kernel = open();
        assert_eq!(kernel.sync(&program(&cluster)).expect("there").change, Change::None);
        join(&mut cluster, 3);
        cluster.upsert_endpoint(endpoint("web", "web", "here", 2));
        let key =
            PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: name("x"), name: name("web") };
        cluster.upsert_policy(Policy {
            key,
            tier: Tier::NetworkPolicy,
            priority: 0,
            subject: Subject::Pods(app("web")),
            ingress: Some(Vec::new()),
            egress: None,
        });
        kernel.sync(&program(&cluster)).expect("written");
        let second = generations(&mut kernel);
        let (kept, new): (Vec<_>, Vec<_>) =
            second.iter().partition(|(it, _)| first.contains_key(*it));
        assert_eq!((kept.len(), new.len()), (1, 1), "{second:?}");
        assert!(first.iter().eq(kept), "{first:?} {second:?}");
        let oldest = first.values().max().expect("one");
        assert!(new.iter().all(|(_, generation)| *generation > oldest), "{first:?} {second:?}");
        assert_in_force_with(&mut kernel, &cluster, &Options { log, ..Options::default() });
    });
}

/// Pods come and go in a range in which nobody else may say anything: by elements alone, and right.
#[test]
fn a_new_pod_is_known_by_an_element() {
    in_namespace("a_new_pod_is_known_by_an_element", || {
        let ranges = ["10.0.0.0/16", "fd00::/64"].map(|range| range.parse().expect("a range"));
        let deny_unknown = ranges.into_iter().collect();
        let mut options = Options { deny_unknown, ..Options::default() };
        let mut kernel = open();
        let mut cluster = cluster(0);
        kernel.sync(&program(&cluster)).expect("written");
        kernel.deny_unknown(&options.deny_unknown);
        assert_eq!(kernel.sync(&program(&cluster)).expect("written").change, Change::Updated);
        assert_in_force_with(&mut kernel, &cluster, &options);
        for number in 2..60 {
            let pod = format!("web-{number}");
            let app = if number % 2 == 0 { "web" } else { "db" };
            let before = render(&program(&cluster), &options);
            cluster.upsert_endpoint(endpoint(&pod, app, "here", number));
            let plan = Plan::new(Some(&before), render(&program(&cluster), &options));
            let by_rules = plan.steps().iter().any(|step| step.purpose() == Purpose::Switch);
            assert!(!by_rules || number > 30, "{plan:?}");
            kernel.sync(&program(&cluster)).expect("written");
        }
        assert_in_force_with(&mut kernel, &cluster, &options);
        cluster.remove_endpoint("x", "web-2", "");
        kernel.sync(&program(&cluster)).expect("written");
        assert_in_force_with(&mut kernel, &cluster, &options);
        // An address is lent to a host elsewhere: one element, and one when it comes back.
        for except in [vec!["10.0.0.2".parse().expect("an address")], vec![]] {
            let before = render(&program(&cluster), &options);
            options.deny_unknown.except = except.into_iter().collect();
            let plan = Plan::new(Some(&before), render(&program(&cluster), &options));
            let [step] = plan.steps() else { panic!("{plan:?}") };
            assert_ne!(step.purpose(), Purpose::Switch, "{plan:?}");
            kernel.deny_unknown(&options.deny_unknown);
            assert_eq!(kernel.sync(&program(&cluster)).expect("written").steps, 1);
            assert_in_force_with(&mut kernel, &cluster, &options);
        }
        kernel.deny_unknown(&Closed::default());
        kernel.sync(&program(&cluster)).expect("written");
        assert_in_force(&mut kernel, &cluster);
    });
}
