//! What the kernel does that one would not expect, as far as no other test is about it; `TRAPS.md` lists all of it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/objects.rs"]
mod objects;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use netpol_backend_nft::ruleset::{
    Base, Chain, Elements, Family, Hook, Ruleset, Set, Statement, Table, Verdict,
};
use netpol_backend_nft::{Change, Error, Log, Name, Nft, Options, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{
    Block, Labels, Options as Readings, Peer, Peers, Policy, PortMatch, PortRange, Ports, Protocol,
    name as core_name,
};
use netpol_core::program::{Program, Scope};
use objects::{accept, on_tcp, pod, pods, policy, with_pods};
use support::{in_namespace, name, nft, open, program, unprivileged};

fn compiled(cluster: &Cluster) -> Program {
    compile(cluster, Scope::Node(core_name("here")))
}

/// A pod here, and so many that carry the label `peer`.
fn cluster(peers: u8) -> Cluster {
    let mut cluster = Cluster::new(Readings::default());
    cluster.upsert_endpoint(pod("a", "here", &[IpAddr::from([10, 0, 0, 1])]));
    (0..peers).for_each(|number| join(&mut cluster, number));
    cluster
}

fn join(cluster: &mut Cluster, number: u8) {
    let mut peer = pod(&format!("peer-{number}"), "there", &[IpAddr::from([10, 0, 1, number])]);
    peer.labels = Labels::default().with("app", "peer");
    cluster.upsert_endpoint(peer);
}

/// From the peers and from so many blocks of many lengths, on ports in many wide ranges.
fn with_blocks(blocks: u8) -> Policy {
    let blocks = (0..blocks).map(|number| {
        let block = format!("192.168.{number}.0/{}", 25 + number % 8).parse().expect("a block");
        Peer::Block(Block::new(block, []))
    });
    let peers = blocks.chain([Peer::Pods(pods("peer"))]).collect();
    let ports = (1..=20).map(|number| {
        let ports = PortRange::new(number * 1000, number * 1000 + 500).expect("not empty");
        PortMatch::Range(Protocol::Tcp, ports)
    });
    let rule = accept(Peers::AnyOf(peers), Ports::AnyOf(ports.collect()));
    policy("a", Some(vec![rule]), None)
}

fn ranges(kernel: &mut Nft) -> BTreeMap<Name, Set> {
    let read = kernel.read().expect("read").expect("present");
    let mut sets = read.tables[&Family::V4].sets.clone();
    sets.retain(|_, set| set.elements.is_interval());
    sets
}

/// Changes of an interval set show some time after the commit, and cost what the whole set costs. So there is none:
/// a peer that joins is an element of the hash set beside it, and other blocks are another set.
#[test]
fn interval_sets_are_never_changed() {
    in_namespace("interval_sets_are_never_changed", || {
        let mut kernel = open();
        let mut cluster = cluster(10);
        cluster.upsert_policy(with_blocks(200));
        kernel.sync(&compiled(&cluster)).expect("written");
        let before = ranges(&mut kernel);
        assert_eq!(before.len(), 2, "blocks and ports");

        join(&mut cluster, 10);
        let report = kernel.sync(&compiled(&cluster)).expect("written");
        assert_eq!((report.change, report.steps), (Change::Updated, 1));
        assert!(report.bytes < 400, "{report:?}");
        assert_eq!(ranges(&mut kernel), before);

        cluster.upsert_policy(with_blocks(199));
        kernel.sync(&compiled(&cluster)).expect("written");
        let after = ranges(&mut kernel);
        let is_block = |set: &Set| matches!(set.elements, Elements::AddressRanges(_));
        let [old, new] = [&before, &after].map(|sets| {
            sets.iter().filter(|it| is_block(it.1)).map(|it| it.0.clone()).collect::<Vec<_>>()
        });
        assert!(old.len() == 1 && new.len() == 1 && old != new, "{old:?} became {new:?}");
    });
}

/// The kernel looks for a set by walking a list of all. So there are as many as there are classes, not policies; and
/// interval sets, of 17 KB each, only where there are many blocks or wide ranges.
#[test]
fn sets_are_few() {
    let sets = |policies: u16| {
        let mut cluster = cluster(10);
        for number in 0..policies {
            let rule = on_tcp(80 + number % 8, with_pods("peer"));
            let mut policy = policy("a", Some(vec![rule]), None);
            policy.key.name = core_name(&format!("policy-{number}"));
            cluster.upsert_policy(policy);
        }
        let ruleset = render(&compiled(&cluster), &Options::default());
        let sets = ruleset.tables[&Family::V4].sets.values();
        assert!(sets.clone().all(|set| !set.elements.is_interval()), "{ruleset}");
        sets.count()
    };
    assert!(sets(10) < 10 && sets(10) == sets(1000), "{} and {}", sets(10), sets(1000));
}

/// Ranges in concatenations (pipapo) take seconds to delete from; a chain's policy is not there for a moment when
/// others restore it; marks are kube-proxy's. None of them occurs in anything that is rendered.
#[test]
fn what_is_never_used() {
    in_namespace("what_is_never_used", || {
        let log = Some(Log { group: 1, per_second: Some(5), accepted: true });
        let options = Options { log, counters: true, ..Options::default() };
        let mut kernel = Nft::open(options).expect("nf_tables");
        let (mut intervals, mut bases) = (0, 0);
        let mut cluster = cluster(10);
        cluster.upsert_policy(with_blocks(200));
        for program in (0..60).map(program).chain([compiled(&cluster)]) {
            kernel.sync(&program).expect("written");
            let Some(listed) = nft(&["list", "ruleset"]) else { return };
            for set in listed.split("\tset ").chain(listed.split("\tmap ")).skip(1) {
                let set = set.split("\n\t}").next().unwrap_or_default();
                let ranges = set.contains("flags interval");
                intervals += usize::from(ranges);
                let kind = set.lines().find(|line| line.trim().starts_with("type "));
                assert!(!ranges || kind.is_some_and(|it| !it.contains(" . ")), "{set}");
            }
            bases += listed.matches("policy accept").count();
            assert!(!listed.contains("policy drop"), "{listed}");
            assert!(!listed.contains(" mark "), "{listed}");
        }
        assert!(intervals > 1 && bases > 100, "{intervals}, {bases}");
    });
}

/// The kernel allows 16 chains one within the other, and counts those that are gone to.
#[test]
fn chains_are_few_levels_deep() {
    fn depth(table: &Table, chain: &Name) -> usize {
        let rules = table.chains.get(chain).into_iter().flat_map(|chain| &chain.rules);
        let mut next = BTreeSet::new();
        for statement in rules.flat_map(|rule| &rule.statements) {
            let map = match statement {
                Statement::Verdict(verdict) => {
                    next.extend(verdict.chain().cloned());
                    continue;
                }
                Statement::AddressMap(_, map)
                | Statement::PairMap(map)
                | Statement::PortMap(map) => map,
                _ => continue,
            };
            next.extend(table.sets.get(map).into_iter().flat_map(|set| chains(&set.elements)));
        }
        1 + next.iter().map(|chain| depth(table, chain)).max().unwrap_or(0)
    }
    fn chains(elements: &Elements) -> Vec<Name> {
        let of = |verdict: &Verdict| verdict.chain().cloned();
        match elements {
            Elements::AddressVerdicts(list) => {
                list.iter().filter_map(|it| of(&it.verdict)).collect()
            }
            Elements::PairVerdicts(list) => list.iter().filter_map(|it| of(&it.1)).collect(),
            Elements::PortVerdicts(list) => list.iter().filter_map(|it| of(&it.1)).collect(),
            Elements::PortRangeVerdicts(list) => list.iter().filter_map(|it| of(&it.1)).collect(),
            _ => Vec::new(),
        }
    }
    let log = Some(Log { group: 1, per_second: None, accepted: true });
    let mut deepest = 0;
    for seed in 0..200 {
        for options in [Options::default(), Options { log, counters: true, ..Options::default() }] {
            for table in render(&program(seed), &options).tables.values() {
                let bases = table.chains.iter().filter(|(_, chain)| chain.base.is_some());
                deepest =
                    bases.map(|(name, _)| depth(table, name)).max().max(Some(deepest)).unwrap_or(0);
            }
        }
    }
    assert!((4..=6).contains(&deepest), "{deepest}");
}

/// Whoever is not root has small buffers: a change goes in pieces, and one acknowledgement is all that is asked for,
/// where one for each of a thousand messages would be more than there is room for.
#[test]
fn small_buffers() {
    unprivileged("small_buffers", || {
        let most = std::fs::read_to_string("/proc/sys/net/core/wmem_max").expect("read");
        let most: u32 = most.trim().parse().expect("a number");
        // Some 30 bytes each, and twice the limit is what the kernel allows.
        let addresses =
            (0..most / 10).map(|n| IpAddr::V6(Ipv6Addr::from_bits((0xfd << 120) + u128::from(n))));
        let elements = Elements::Addresses(addresses.collect());
        let size = Some(most / 10);
        let set = Set { comment: None, size, elements };
        let chains = (0..1500).map(|number| (name(&format!("chain-{number}")), Chain::default()));
        let sets = [(name("peers"), set)].into();
        let table = Table { sets, chains: chains.collect(), ..Table::default() };
        let ruleset = Ruleset { name: name("netpol"), tables: [(Family::V6, table)].into() };
        let mut kernel = open();
        let report = kernel.apply(ruleset.clone()).expect("written");
        assert!(report.steps > 1, "{report:?}");
        assert_eq!(kernel.read().expect("read"), Some(ruleset));
    });
}

/// Chains that lead to each other, and ranges that overlap: what is refused is named.
#[test]
fn contradictions_are_refused() {
    in_namespace("contradictions_are_refused", || {
        let ruleset =
            |table| Ruleset { name: name("netpol"), tables: BTreeMap::from([(Family::V4, table)]) };
        let to = |chain: &str| [Statement::Verdict(Verdict::Jump(name(chain)))].into();
        let chain = |next: &str| Chain { rules: vec![to(next)], ..Chain::default() };
        let base = Some(Base { hook: Hook::Forward, priority: 0 });
        let first = Chain { base, ..chain("second") };
        let chains = [
            (name("first"), first),
            (name("second"), chain("third")),
            (name("third"), chain("second")),
        ];
        let table = Table { chains: chains.into(), ..Table::default() };
        let mut kernel = open();
        let error = kernel.apply(ruleset(table)).expect_err("a loop");
        assert!(matches!(error, Error::Refused(_)), "{error:?}");
        assert!(error.to_string().contains("chain `"), "{error}");
        // They are made before anything leads to them, and nothing does.
        let left = kernel.read().expect("read").expect("present");
        assert!(left.tables[&Family::V4].chains.values().all(|it| it.base.is_none()), "{left}");

        let at = |last| IpAddr::from([10, 0, 0, last]);
        let elements = Elements::AddressRanges(vec![(at(1), at(9)), (at(5), at(20))]);
        let set = Set { comment: None, size: None, elements };
        let table = Table { sets: [(name("blocks"), set)].into(), ..Table::default() };
        let error = kernel.apply(ruleset(table)).expect_err("an overlap");
        assert!(error.to_string().contains("set `blocks` of table ip netpol"), "{error}");
        let left = kernel.read().expect("read").expect("present");
        assert!(left.tables[&Family::V4].sets.is_empty(), "{left}");
    });
}
