//! Questions about whole programs: what differs, who reaches whom, how large it is. Checked against single decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::Ipv4Net;
use netpol_core::model::{
    Action, Block, Direction, End, Endpoint, Family, Flow, HostNetworkSubjects, Labels, Name,
    NamespaceScope, Node, Objects, Options, Peer, Peers, Phase, PodSelector, Policy, PolicyKey,
    PolicyKind, Ports, Requirement, Rule, Selector, Subject, Tier, Traffic,
};
use netpol_core::program::{Difference, Party, Verdict};
use netpol_core::reference::{self, Judgement};
use netpol_core::testing::{Choices, History, flows_of_interest, options, world};
use netpol_core::{Cluster, Program, Scope, compile, effect_of, manifest};

fn program(options: Options, objects: &Objects) -> Program {
    compile(&Cluster::from_objects(options, objects.clone()), Scope::Cluster)
}

type Owner = Option<(Name, Name)>;

/// The policed endpoints that ends stand for.
#[derive(Default)]
struct Owners(BTreeMap<End, Owner>);

impl Owners {
    fn of(&mut self, program: &Program, end: &End) -> Owner {
        let owner = self.0.entry(end.clone()).or_insert_with(|| {
            let destination = End::Address(IpAddr::from([198, 51, 100, 77]));
            let flow = Flow::between(end.clone(), destination, Traffic::ICMP);
            program.explain(&flow).egress.map(|judged| judged.subject)
        });
        owner.clone()
    }
}

/// Whether an end stands for something in these objects, if it is a name.
fn is_known(objects: &Objects, end: &End) -> bool {
    let End::Endpoint { namespace, name } = end else { return true };
    let has_address =
        |node: &Name| objects.nodes.iter().any(|it| it.name == *node && !it.addresses.is_empty());
    let called =
        objects.endpoints.iter().filter(|it| (&it.namespace, &it.name) == (namespace, name));
    // Ordinary endpoints first, then by uid.
    let first =
        called.filter(|it| it.phase == Phase::Live).min_by_key(|it| (it.host_network, &it.uid));
    first.is_some_and(|it| !it.host_network || it.node.as_ref().is_some_and(has_address))
}

/// Every flow that changes is in exactly one cell, which says what it becomes; no other flow is in any.
fn check_difference(worlds: [&Objects; 2], programs: [&Program; 2], seed: u64) -> [usize; 2] {
    let [before, after] = programs;
    let difference = before.diff(after);
    let mut owners = [Owners::default(), Owners::default()];
    let mut flows: Vec<Flow> = worlds.iter().flat_map(|it| flows_of_interest(it)).collect();
    flows.sort_unstable_by_key(|it| (it.source.clone(), it.destination.clone(), it.traffic));
    flows.dedup();
    let known = |end: &End| worlds.iter().any(|it| is_known(it, end));
    let (mut same, mut changed) = (0, 0);
    for flow in flows.iter().filter(|it| known(&it.source) && known(&it.destination)) {
        let decisions = programs.map(|it| it.decide(flow));
        for direction in Direction::ALL {
            let (subject, verdicts) = match direction {
                Direction::Egress => (&flow.source, decisions.map(|it| it.egress)),
                Direction::Ingress => (&flow.destination, decisions.map(|it| it.ingress)),
            };
            let cells = difference.cells.iter().filter(|it| it.direction == direction);
            let covering: Vec<_> = cells.filter(|it| it.covers(flow)).collect();
            let [first, second] = &mut owners;
            let (from, to) = (first.of(before, subject), second.of(after, subject));
            if from != to {
                let follows = from.as_ref().is_none_or(|it| difference.removed.contains(it))
                    && to.as_ref().is_none_or(|it| difference.added.contains(it));
                let told = difference.moved.iter().find(|it| it.end == *subject);
                let told = told.map(|it| (it.from.clone(), it.to.clone()));
                assert_eq!(told, (!follows).then_some((from, to)), "{subject}, seed {seed}");
                assert!(covering.is_empty(), "{direction} {flow}, seed {seed}");
                continue;
            }
            let [then, now] = verdicts.map(|it| it.unwrap_or(Verdict::Allow));
            let becomes: Vec<_> = covering.iter().map(|it| it.verdict).collect();
            let expected: Vec<_> = (then != now).then_some(now).into_iter().collect();
            assert_eq!(becomes, expected, "{direction} {flow}, seed {seed}");
            *(if then == now { &mut same } else { &mut changed }) += 1;
        }
    }
    [same, changed]
}

fn add(sum: &mut [usize; 2], counts: [usize; 2]) {
    for (sum, count) in sum.iter_mut().zip(counts) {
        *sum += count;
    }
}

#[test]
fn the_effect_of_a_policy_is_what_changes_without_it() {
    let mut sum = [0; 2];
    for seed in 0..60 {
        let mut choices = Choices::from_seed(seed, 1500);
        let (objects, options) = world(&mut choices);
        if objects.policies.is_empty() {
            continue;
        }
        let key = objects.policies[choices.pick(objects.policies.len())].key.clone();
        let mut without = objects.clone();
        without.policies.retain(|it| it.key != key);
        let worlds = [&without, &objects];
        let [before, after] = worlds.map(|it| program(options, it));
        add(&mut sum, check_difference(worlds, [&before, &after], seed));
        let effect = effect_of(&Cluster::from_objects(options, objects.clone()), &key);
        assert_eq!(effect, before.diff(&after), "seed {seed}");
        // And once more with nothing that was compiled.
        let flows = flows_of_interest(&objects).into_iter().step_by(11);
        for flow in
            flows.filter(|it| is_known(&objects, &it.source) && is_known(&objects, &it.destination))
        {
            let verdicts = worlds.map(|it| reference::decide(it, &options, &flow));
            for direction in Direction::ALL {
                let [then, now] = verdicts.map(|it| match direction {
                    Direction::Egress => it.egress != Judgement::Deny,
                    Direction::Ingress => it.ingress != Judgement::Deny,
                });
                let cells = effect.cells.iter().filter(|it| it.direction == direction);
                let told: Vec<_> = cells
                    .filter(|it| it.covers(&flow))
                    .map(|it| it.verdict == Verdict::Allow)
                    .collect();
                let expected: Vec<_> = (then != now).then_some(now).into_iter().collect();
                assert_eq!(told, expected, "{direction} {flow}, seed {seed}");
            }
        }
    }
    assert!(sum.iter().all(|count| *count > 1000), "{sum:?}");
}

#[test]
fn the_difference_of_two_worlds_is_exact() {
    let mut sum = [0; 2];
    for seed in 0..25 {
        let history = History::new(&mut Choices::from_seed(seed, 2000));
        let [first, second] = &history.objects;
        let [before, after] = [first, second].map(|it| program(history.options, it));
        add(&mut sum, check_difference([first, second], [&before, &after], seed));
    }
    assert!(sum.iter().all(|count| *count > 1000), "{sum:?}");
}

#[test]
fn the_difference_of_two_readings_is_exact() {
    let mut sum = [0; 2];
    for seed in 0..40 {
        let mut choices = Choices::from_seed(seed, 1500);
        let (objects, one) = world(&mut choices);
        let other = options(&mut Choices::from_seed(seed + 1000, 50));
        let [before, after] = [one, other].map(|it| program(it, &objects));
        add(&mut sum, check_difference([&objects, &objects], [&before, &after], seed));
    }
    assert!(sum.iter().all(|count| *count > 1000), "{sum:?}");
}

/// A policy is split, the order of objects is reversed, rules are repeated: the programs say other things and mean the
/// same.
#[test]
fn what_means_the_same_has_no_difference() {
    let mut said_otherwise = 0;
    for seed in 0..300 {
        let (objects, options) = world(&mut Choices::from_seed(seed, 1500));
        let mut other = objects.clone();
        other.policies.reverse();
        other.endpoints.reverse();
        other.policies = other.policies.iter().flat_map(split).collect();
        for policy in &mut other.policies {
            for rules in [&mut policy.ingress, &mut policy.egress].into_iter().flatten() {
                // Whatever a rule decides, or passes on, it has decided before it is asked again.
                rules.extend(rules.clone());
            }
        }
        let [before, after] = [&objects, &other].map(|it| program(options, it));
        assert_eq!(before.diff(&after), Difference::default(), "seed {seed}");
        assert!(after.diff(&before).is_empty(), "seed {seed}");
        said_otherwise += usize::from(before != after);
    }
    assert!(said_otherwise > 100, "{said_otherwise}");
}

/// A NetworkPolicy as two that say half of it each; those of other kinds are left alone.
fn split(policy: &Policy) -> Vec<Policy> {
    let (mut one, mut other) = (policy.clone(), policy.clone());
    if policy.tier != Tier::NetworkPolicy {
        return vec![one];
    }
    other.key.name = format!("{}-more", policy.key.name).into();
    let rest = |rules: &mut Option<Vec<_>>| {
        rules.as_mut().map(|rules: &mut Vec<_>| rules.split_off(rules.len() / 2))
    };
    other.ingress = rest(&mut one.ingress);
    other.egress = rest(&mut one.egress);
    vec![one, other]
}

/// There is a difference the other way round, with the opposite verdicts; and none of a program to itself.
#[test]
fn a_difference_is_the_opposite_of_the_one_back() {
    let mut cells = 0;
    for seed in 0..300 {
        let history = History::new(&mut Choices::from_seed(seed, 2000));
        let [first, second] = &history.objects;
        let [before, after] = [first, second].map(|it| program(history.options, it));
        let (there, back) = (before.diff(&after), after.diff(&before));
        assert_eq!((&there.added, &there.removed), (&back.removed, &back.added));
        let key = |cell: &netpol_core::program::Cell, verdict| {
            format!(
                "{} {verdict:?} {:?}",
                cell.direction,
                (&cell.subjects, &cell.peers, &cell.traffic)
            )
        };
        let forth: BTreeSet<_> = there.cells.iter().map(|it| key(it, it.verdict)).collect();
        let reversed = back.cells.iter().map(|it| key(it, it.verdict.opposite()));
        assert_eq!(forth, reversed.collect(), "seed {seed}");
        cells += forth.len();
        assert!(before.diff(&program(history.options, first)).is_empty(), "seed {seed}");
    }
    assert!(cells > 100, "{cells}");
}

#[test]
fn reach_is_what_both_ends_allow() {
    let (mut allowed, mut denied) = (0, 0);
    for seed in 0..60 {
        let (objects, options) = world(&mut Choices::from_seed(seed, 1500));
        let program = program(options, &objects);
        let rows = program.reach();
        let mut owners = Owners::default();
        for flow in flows_of_interest(&objects) {
            let ends = [&flow.source, &flow.destination];
            let [from, to] = ends.map(|end| owners.of(&program, end));
            let is_party = ends.iter().all(|end| is_party(&objects, end));
            let itself = from.is_some() && from == to || is_one_node(&objects, options, ends);
            if !is_party || itself || (&from, &to) == (&None, &None) {
                continue;
            }
            let among = |parties: &[Party], end: &End| parties.iter().any(|it| it.is(end));
            let covering = rows.iter().filter(|row| {
                among(&row.sources, &flow.source)
                    && among(&row.destinations, &flow.destination)
                    && row.traffic.iter().any(|it| it.contains(flow.traffic))
            });
            let expected = program.decide(&flow).is_allowed();
            assert_eq!(covering.count(), usize::from(expected), "{flow}, seed {seed}");
            *(if expected { &mut allowed } else { &mut denied }) += 1;
        }
        let mut reversed = objects.clone();
        reversed.policies.reverse();
        reversed.endpoints.reverse();
        reversed.nodes.reverse();
        assert_eq!(rows, self::program(options, &reversed).reach(), "seed {seed}");
    }
    assert!(allowed > 1000 && denied > 1000, "{allowed}, {denied}");
}

/// Whether reach tells of an end: of addresses, and of names that have none.
fn is_party(objects: &Objects, end: &End) -> bool {
    let End::Endpoint { namespace, name } = end else { return true };
    let mut same =
        objects.endpoints.iter().filter(|it| (&it.namespace, &it.name) == (namespace, name));
    let mut live = same.clone().filter(|it| it.phase == Phase::Live).peekable();
    live.peek().is_some() && same.all(|it| !it.host_network && it.addresses.is_empty())
}

fn is_one_node(objects: &Objects, options: Options, ends: [&End; 2]) -> bool {
    let [End::Address(one), End::Address(other)] = ends else { return false };
    let mut nodes = objects.nodes.iter();
    options.host_network_subjects == HostNetworkSubjects::Policed
        && nodes.any(|it| it.addresses.contains(one) && it.addresses.contains(other))
}

/// Endpoints that differ in nothing that matters are in one row, however many there are.
#[test]
fn reach_does_not_grow_with_endpoints_that_are_alike() {
    let pods =
        PodSelector { namespaces: NamespaceScope::Named("x".into()), pods: Selector::everything() };
    let peers = Peers::AnyOf(vec![Peer::Pods(pods.clone())]);
    let action = Action::Accept;
    let kind = PolicyKind::NetworkPolicy;
    let policy = Policy {
        key: PolicyKey { kind, namespace: "x".into(), name: "own".into() },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(pods),
        ingress: Some(vec![Rule { name: None, action, peers, ports: Ports::All }]),
        egress: None,
    };
    let mut cluster = Cluster::default();
    cluster.upsert_policy(policy);
    let mut rows = Vec::new();
    for (last, namespace) in (1..=200_u8).zip(["x", "y"].into_iter().cycle()) {
        let mut pod = Endpoint::new(namespace, &format!("p{last}"));
        pod.addresses.push(IpAddr::from([10, 0, 0, last]));
        cluster.upsert_endpoint(pod);
        rows.push(compile(&cluster, Scope::Cluster).reach().len());
    }
    assert_eq!(rows.first(), Some(&1), "from the only one to everybody else");
    // The namespace to all, other pods to all but it, and everybody else to other pods.
    assert_eq!(rows.last(), Some(&3));
}

#[test]
fn capacity_is_what_there_is() {
    let mut elements = 0;
    for seed in 0..1000 {
        let (objects, options) = world(&mut Choices::from_seed(seed, 1500));
        let program = program(options, &objects);
        let capacity = program.capacity();
        assert_eq!(capacity.endpoints, program.endpoints().count());
        assert_eq!(capacity.profiles, program.profiles().count());
        assert_eq!(capacity.classes, program.classes().count());
        assert_eq!(capacity.identities, program.identity_count());
        let count = |family| {
            let lists = program.classes().map(|(id, _)| program.members(id, family));
            lists.map(|it| it.allow.len() + it.deny.len() + it.ranges.len()).sum::<usize>()
        };
        assert_eq!(capacity.set_elements_v4, count(Family::V4), "seed {seed}");
        assert_eq!(capacity.set_elements_v6, count(Family::V6), "seed {seed}");
        let ordinary = objects.endpoints.iter().filter(|it| it.is_ordinary());
        let of_endpoints = ordinary.flat_map(|it| it.addresses.iter().copied());
        let of_nodes = objects.nodes.iter().flat_map(|it| it.addresses.iter().copied());
        let known: BTreeSet<IpAddr> = of_endpoints.chain(of_nodes).collect();
        let observed: BTreeSet<IpAddr> = objects.domains.iter().map(|it| it.address).collect();
        let most = known.union(&observed).count();
        assert!((known.len()..=most).contains(&capacity.known_addresses), "seed {seed}");
        assert!(capacity.bytes >= capacity.known_addresses * 4 + capacity.exceptions * 4);
        assert!(capacity.bytes >= (capacity.memberships + capacity.terms) * 4);
        assert_eq!(capacity.to_string().lines().count(), 3);
        elements += capacity.set_elements_v4 + capacity.set_elements_v6;
    }
    assert!(elements > 1000, "{elements}");
    let nothing = compile(&Cluster::default(), Scope::Cluster).capacity();
    assert_eq!((nothing.endpoints, nothing.blocks, nothing.set_elements_v4), (0, 0, 0));
}

/// A namespace of four apps, and policies for the first: each allows the world but a part of its own.
fn world_but_parts(policies: u8) -> Cluster {
    let mut cluster = Cluster::default();
    for app in 0..4_u8 {
        let mut pod = Endpoint::new("x", &format!("app-{app}"));
        pod.labels = Labels::from_iter([("app", app.to_string())]);
        pod.addresses.push(IpAddr::from([192, 168, 0, app]));
        cluster.upsert_endpoint(pod);
    }
    let within = |pods| PodSelector { namespaces: NamespaceScope::Named("x".into()), pods };
    let app = |app: &str| Selector::new([Requirement::is_in("app", [app])]);
    let mut add = |called: &str, subject: &str, peer: Peer| {
        let kind = PolicyKind::NetworkPolicy;
        let (peers, ports) = (Peers::AnyOf(vec![peer]), Ports::All);
        cluster.upsert_policy(Policy {
            key: PolicyKey { kind, namespace: "x".into(), name: called.into() },
            tier: Tier::NetworkPolicy,
            priority: 0,
            subject: Subject::Pods(within(app(subject))),
            ingress: None,
            egress: Some(vec![Rule { name: None, action: Action::Accept, peers, ports }]),
        });
    };
    for part in 0..policies {
        let part = Ipv4Net::new_assert([10, 0, part, 0].into(), 24);
        let part = Block::new(Ipv4Net::default().into(), [part.into()]);
        add(&format!("world-{}", part.except()[0].addr()), "0", Peer::Block(part));
    }
    add("friend", "1", Peer::Pods(within(app("2"))));
    add("nobody's", "9", Peer::Block(Block::new(Ipv4Net::default().into(), [])));
    cluster
}

#[test]
fn the_heaviest_policies_are_named() {
    let program = compile(&world_but_parts(50), Scope::Cluster);
    let capacity = program.capacity();
    // Nowhere (IPv6), in no part, in each of the parts; the friend by its address and by its name.
    assert_eq!((capacity.identities, capacity.blocks), (1 + 1 + 50 + 2, 51));
    // The world holds everywhere, and in each of the parts just that part besides: 50 policies, not their square.
    assert_eq!(capacity.memberships, 1 + 50 * 2 + 2 + 1);
    assert_eq!(capacity.terms, 50 + 1);
    let all = program.heaviest(usize::MAX);
    assert_eq!(all.len(), 51, "whom nobody is selected by is not there");
    for heavy in &all[..50] {
        assert!(heavy.policy.name.starts_with("world-10.0."), "{heavy}");
        // Outside of the parts, in 49 of them, the friend; and one class asks.
        assert_eq!(heavy.mentions, 1 + 49 + 1 + 1, "{heavy}");
    }
    assert_eq!(all[50].to_string(), "NetworkPolicy x/friend: 3 mentions");
    assert_eq!(program.heaviest(3), all[..3]);
    assert!(all[..50].is_sorted_by_key(|it| &it.policy), "those of one weight by name");
}

/// Of generated policies of all kinds: whoever weighs something applies to somebody.
#[test]
fn weights_add_up() {
    let mut found = 0;
    for seed in 0..300 {
        let (objects, options) = world(&mut Choices::from_seed(seed, 1500));
        let program = program(options, &objects);
        let capacity = program.capacity();
        let weights = program.heaviest(usize::MAX);
        assert!(weights.is_sorted_by(|a, b| a.mentions >= b.mentions), "seed {seed}");
        for weight in &weights {
            let applies = |it: &Policy| it.key == weight.policy;
            assert!(program.profiles().any(|(_, profile)| profile.policies().any(applies)));
            // Each of its peers at most once by each.
            let policy = objects.policies.iter().find(|it| it.key == weight.policy).unwrap();
            let rules = policy.ingress.iter().chain(&policy.egress).flatten();
            let peers = rules.map(|rule| match &rule.peers {
                Peers::Everyone => 0,
                Peers::AnyOf(peers) => peers.len(),
            });
            let asking = capacity.identities + capacity.terms;
            assert!((1..=asking * peers.sum::<usize>()).contains(&weight.mentions), "seed {seed}");
        }
        found += weights.len();
    }
    assert!(found > 100, "{found}");
}

#[test]
fn what_differs_in_words() {
    use netpol_core::model::{PortRange, Protocol};
    use netpol_core::program::{DiffPeer, TrafficRange};
    let address = |last: u8| IpAddr::from([10, 0, 0, last]);
    let peers = [
        (DiffPeer::Addresses(address(1)..=address(1)), "10.0.0.1"),
        (DiffPeer::Addresses(address(1)..=address(9)), "10.0.0.1-10.0.0.9"),
        (DiffPeer::Endpoint { namespace: "x".into(), name: "a".into() }, "x/a"),
        (DiffPeer::OwnNode(None), "its own node"),
        (DiffPeer::Itself(None), "itself"),
    ];
    for (peer, text) in peers {
        assert_eq!(peer.to_string(), text);
    }
    let range = |first, last| PortRange::new(first, last).unwrap_or(PortRange::ALL);
    let traffic = [
        (TrafficRange::Ports(Protocol::Tcp, PortRange::ALL), "all TCP"),
        (TrafficRange::Ports(Protocol::Udp, range(53, 53)), "53/udp"),
        (TrafficRange::Ports(Protocol::Sctp, range(1, 9)), "1-9/sctp"),
        (TrafficRange::Other, "other protocols"),
    ];
    for (traffic, text) in traffic {
        assert_eq!(traffic.to_string(), text);
    }
}

/// Host-network endpoints of nodes that share an address are the same party to some of their addresses only, and an
/// address may come to belong to one, or no longer.
#[test]
fn hosts_that_share_addresses_differ_where_they_are_another_party() {
    let documents = ["one", "other"].map(|node| {
        serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": node, "namespace": "x"},
            "spec": {"nodeName": node, "hostNetwork": true, "containers": []}
        })
    });
    let isolation = serde_json::json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "nothing", "namespace": "x"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    });
    let documents = serde_json::Value::from_iter(documents.into_iter().chain([isolation]));
    let documents: Vec<manifest::Value> = serde_json::from_value(documents).unwrap();
    let loaded = manifest::load(&documents, &manifest::ReadOptions::default());
    assert!(loaded.rejected.is_empty(), "{:?}", loaded.rejected);
    let mut options = Options::default();
    options.host_network_subjects = HostNetworkSubjects::Policed;
    let at = |one: &[u8], other: &[u8], policed: bool| {
        let mut objects = loaded.objects.clone();
        if !policed {
            objects.policies.clear();
        }
        objects.nodes = [("one", one), ("other", other)]
            .map(|(node, last)| Node {
                name: node.into(),
                labels: Default::default(),
                addresses: last.iter().map(|it| IpAddr::from([192, 0, 2, *it])).collect(),
            })
            .to_vec();
        objects
    };
    let worlds = [
        at(&[1, 2], &[2, 3], false),
        at(&[1, 2], &[2, 3], true),
        at(&[1], &[2, 3], true),
        at(&[1], &[3], true),
        at(&[1, 3], &[2], true),
    ];
    let mut sum = [0; 2];
    for before in &worlds {
        for after in &worlds {
            let programs = [before, after].map(|it| program(options, it));
            add(&mut sum, check_difference([before, after], [&programs[0], &programs[1]], 0));
            let differs = !programs[0].diff(&programs[1]).is_empty();
            assert_eq!(differs, before != after);
        }
    }
    assert!(sum[0] > 100 && sum[1] > 100, "{sum:?}");
}
