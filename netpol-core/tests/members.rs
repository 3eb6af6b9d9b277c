//! What backends put into the kernel's sets, against what the program decides.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use netpol_core::model::{
    Direction, End, Family, Flow, HostNetworkSubjects, Name, Objects, Protocol,
};
use netpol_core::program::{ClassId, Members, Program, Scope, Verdict};
use netpol_core::testing::{Choices, flows_of_interest, world};
use netpol_core::{Cluster, compile};

/// Generated worlds, and the program of each of their nodes.
fn programs(mut check: impl FnMut(&Objects, &Name, &Program, u64)) {
    for seed in 0..1000 {
        let (objects, options) = world(&mut Choices::from_seed(seed, 1500));
        let cluster = Cluster::from_objects(options, objects.clone());
        for node in objects.nodes.iter().map(|node| &node.name) {
            check(&objects, node, &compile(&cluster, Scope::Node(node.clone())), seed);
        }
    }
}

/// The class that judges one direction of a flow between addresses, found as a backend finds it.
fn class_of(
    objects: &Objects,
    program: &Program,
    flow: &Flow,
    direction: Direction,
) -> Option<(ClassId, IpAddr)> {
    let (End::Address(source), End::Address(destination)) = (&flow.source, &flow.destination)
    else {
        return None;
    };
    let (subject, peer) = match direction {
        Direction::Egress => (source, destination),
        Direction::Ingress => (destination, source),
    };
    let endpoint = program.endpoints().find(|it| it.addresses().contains(subject))?;
    let both = |addresses: &[IpAddr]| addresses.contains(subject) && addresses.contains(peer);
    let is_itself = match endpoint.is_host() {
        true => objects.nodes.iter().any(|node| both(&node.addresses)),
        false => both(endpoint.addresses()),
    };
    let profile = match is_itself {
        true => endpoint.own_profile()?,
        false => endpoint.profile(),
    };
    let side = program.profile(profile).side(direction)?;
    Some((side.class_of(flow.traffic), *peer))
}

#[test]
fn members_are_whom_the_program_allows() {
    let (mut allowed, mut denied) = (0, 0);
    programs(|objects, node, program, seed| {
        let flows = flows_of_interest(objects);
        let every = flows.len().div_ceil(300).max(1);
        for flow in flows.iter().step_by(every) {
            let decision = program.decide(flow);
            let sides =
                [(Direction::Egress, decision.egress), (Direction::Ingress, decision.ingress)];
            for (direction, verdict) in sides {
                let found = class_of(objects, program, flow, direction);
                let (Some((class, peer)), Some(verdict)) = (found, verdict) else { continue };
                let members = program.members(class, Family::of(peer));
                assert_eq!(
                    members.verdict(peer),
                    verdict,
                    "{direction} of {flow} on {node}, seed {seed}"
                );
                match verdict {
                    Verdict::Allow => allowed += 1,
                    Verdict::Deny => denied += 1,
                }
            }
        }
    });
    assert!(allowed > 5_000 && denied > 10_000, "{allowed} allowed, {denied} denied");
}

/// Nothing is listed twice, nor anything that follows from the rest, so that equal sets are equal values.
#[test]
fn members_are_in_normal_form() {
    let (mut ranges, mut singles) = (0, 0);
    programs(|_, node, program, seed| {
        for (id, class) in program.classes() {
            for family in Family::ALL {
                let members = program.members(id, family);
                check(&members, family);
                ranges += members.ranges.len();
                singles += members.allow.len() + members.deny.len();
                let is_empty = members.ranges.is_empty()
                    && members.allow.is_empty()
                    && members.deny.is_empty();
                if let Some(constant) = class.constant() {
                    assert!(is_empty, "{node}, seed {seed}: {members:?}");
                    assert_eq!(members.default, constant, "{node}, seed {seed}");
                }
            }
        }
    });
    assert!(ranges > 200 && singles > 1000, "{ranges} ranges, {singles} single addresses");
}

/// Intervals of ports are what they are said to be: all ports in order, and no two neighbours alike.
#[test]
fn ports_are_in_normal_form() {
    let mut cuts = 0;
    programs(|_, node, program, seed| {
        for (_, profile) in program.profiles() {
            for side in Direction::ALL.into_iter().filter_map(|direction| profile.side(direction)) {
                for protocol in Protocol::ALL {
                    let intervals = side.intervals(protocol);
                    assert_eq!(intervals[0].0.first(), 0, "{node}, seed {seed}");
                    assert_eq!(intervals[intervals.len() - 1].0.last(), u16::MAX);
                    for pair in intervals.windows(2) {
                        let [(one, class), (next, other)] = pair else { unreachable!() };
                        assert_eq!(Some(next.first()), one.last().checked_add(1));
                        assert_ne!(class, other, "{node}, seed {seed}: {protocol} {one} {next}");
                        cuts += 1;
                    }
                }
                let all = Protocol::ALL.into_iter().flat_map(|it| side.intervals(it));
                let all = all.map(|(_, class)| *class).chain([side.other()]);
                assert!(side.classes().eq(all), "{node}, seed {seed}");
            }
        }
    });
    assert!(cuts > 500, "{cuts}");
}

fn check(members: &Members, family: Family) {
    let Members { default, ranges, allow, deny } = members;
    let in_family = |it: &IpAddr| Family::of(*it) == family;
    assert!(ranges.iter().all(|it| in_family(it.start()) && it.start() <= it.end()), "{members:?}");
    assert!(allow.iter().chain(deny).all(in_family), "{members:?}");
    for pair in ranges.windows(2) {
        // More than one apart, or they would be one range.
        let gap = number(*pair[1].start()) - number(*pair[0].end()).min(number(*pair[1].start()));
        assert!(gap > 1, "{members:?}");
    }
    for (list, verdict) in [(allow, Verdict::Allow), (deny, Verdict::Deny)] {
        assert!(list.is_sorted_by(|a, b| a < b), "{members:?}");
        for address in list {
            let in_range = ranges.iter().any(|range| range.contains(address));
            let otherwise = if in_range { default.opposite() } else { *default };
            assert_ne!(otherwise, verdict, "{address} is listed for nothing: {members:?}");
        }
    }
    // Just inside and just outside of every range.
    for range in ranges {
        for (address, verdict) in [
            (Some(*range.start()), default.opposite()),
            (Some(*range.end()), default.opposite()),
            (neighbour(*range.start(), false), *default),
            (neighbour(*range.end(), true), *default),
        ] {
            let Some(address) = address else { continue };
            let expected = match (allow.contains(&address), deny.contains(&address)) {
                (true, _) => Verdict::Allow,
                (_, true) => Verdict::Deny,
                _ => verdict,
            };
            assert_eq!(members.verdict(address), expected, "{address}: {members:?}");
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn neighbour(address: IpAddr, next: bool) -> Option<IpAddr> {
    let number = number(address);
    let number = if next { number.checked_add(1)? } else { number.checked_sub(1)? };
    match address {
        IpAddr::V4(_) => Some(IpAddr::V4(u32::try_from(number).ok()?.into())),
        IpAddr::V6(_) => Some(IpAddr::V6(number.into())),
    }
}

/// A class with the same verdict for everyone says so, as far as no exemption of the own node is in the way.
#[test]
fn constant_classes() {
    use netpol_core::model::{Action, Endpoint, Options, Peers, Ports, Rule};
    let everyone =
        Rule { name: None, action: Action::Accept, peers: Peers::Everyone, ports: Ports::All };
    for (ingress, egress, expected) in [
        (None, Some(vec![]), Some(Verdict::Deny)),
        (None, Some(vec![everyone.clone()]), Some(Verdict::Allow)),
        (Some(vec![]), None, None),
        (Some(vec![everyone]), None, Some(Verdict::Allow)),
    ] {
        let mut objects = Objects::default();
        objects.endpoints.push(Endpoint::new("x", "a"));
        objects.policies.push(isolating("x", ingress, egress));
        let cluster = Cluster::from_objects(Options::default(), objects);
        let program = compile(&cluster, Scope::Cluster);
        let constants: Vec<_> = program.classes().map(|(_, class)| class.constant()).collect();
        assert_eq!(constants, [expected]);
    }
}

/// NP-NODE-1, C-ACT-3: the exemption of the own node is for its addresses, and for no others that are denied.
#[test]
fn the_own_node_is_exempt_and_nobody_else() {
    use netpol_core::model::{
        Action, Block, Endpoint, Labels, NamespaceScope, Node, Options, Peer, Peers, PodSelector,
        Policy, PolicyKey, PolicyKind, Ports, Requirement, Rule, Selector, Tier,
    };
    let rule = |action, peer| Rule {
        name: None,
        action,
        peers: Peers::AnyOf(vec![peer]),
        ports: Ports::All,
    };
    let block = Block::new("10.0.0.0/8".parse().expect("a block"), []);
    let network = isolating("x", Some(vec![rule(Action::Accept, Peer::Block(block))]), None);
    let intruders = Peer::Pods(PodSelector {
        namespaces: NamespaceScope::Matching(Selector::everything()),
        pods: Selector::new([Requirement::exists("intruder")]),
    });
    let kind = PolicyKind::ClusterNetworkPolicy;
    let admin = Policy {
        key: PolicyKey { kind, namespace: "".into(), name: "a".into() },
        tier: Tier::Admin,
        ingress: Some(vec![rule(Action::Deny, intruders)]),
        ..network.clone()
    };
    let mut objects = Objects { policies: vec![network, admin], ..Objects::default() };
    for last in 1..=4 {
        let mut pod = Endpoint::new("x", &format!("p{last}"));
        pod.addresses.push(IpAddr::from([10, 0, 0, last]));
        pod.node = Some("n".into());
        if last > 2 {
            pod.labels = Labels::default().with("intruder", "");
        }
        objects.endpoints.push(pod);
    }
    let addresses = [[10, 1, 0, 1], [192, 168, 0, 1]].map(IpAddr::from).to_vec();
    objects.nodes.push(Node { name: "n".into(), labels: Labels::default(), addresses });
    let cluster = Cluster::from_objects(Options::default(), objects);
    let program = compile(&cluster, Scope::Node("n".into()));
    let (id, _) = program.classes().next().expect("one class");
    let members = program.members(id, Family::V4);
    assert_eq!(members.deny, [[10, 0, 0, 3], [10, 0, 0, 4]].map(IpAddr::from));
    assert_eq!(members.allow, [IpAddr::from([192, 168, 0, 1])]);
    assert_eq!(members.ranges, [IpAddr::from([10, 0, 0, 0])..=IpAddr::from([10, 255, 255, 255])]);
}

/// CH-NODE-EGRESS: the Admin tier accepts a block, but leaves the nodes in it to the NetworkPolicies, which deny all but
/// the own one.
#[test]
fn the_own_node_is_exempt_inside_of_a_block() {
    use netpol_core::model::{
        Action, Block, Endpoint, Labels, Node, NodeEgress, Options, Peer, Peers, Policy, PolicyKey,
        PolicyKind, Ports, Rule, Selector, Tier,
    };
    let rule = |action, peer| Rule {
        name: None,
        action,
        peers: Peers::AnyOf(vec![peer]),
        ports: Ports::All,
    };
    let network = isolating("x", None, Some(vec![]));
    let block = Block::new("10.0.0.0/8".parse().expect("a block"), []);
    let admin = Policy {
        key: PolicyKey {
            kind: PolicyKind::ClusterNetworkPolicy,
            namespace: "".into(),
            name: "a".into(),
        },
        tier: Tier::Admin,
        egress: Some(vec![
            rule(Action::Pass, Peer::Nodes(Selector::everything())),
            rule(Action::Accept, Peer::Block(block)),
        ]),
        ..network.clone()
    };
    let mut pod = Endpoint::new("x", "p");
    pod.addresses.push(IpAddr::from([10, 0, 0, 1]));
    pod.node = Some("one".into());
    let nodes = [("one", [10, 1, 0, 1]), ("two", [10, 1, 0, 2])].map(|(name, address)| Node {
        name: name.into(),
        labels: Labels::default(),
        addresses: vec![address.into()],
    });
    let objects = Objects {
        endpoints: vec![pod],
        nodes: nodes.into(),
        policies: vec![network, admin],
        ..Objects::default()
    };
    let mut options = Options::default();
    options.node_egress = NodeEgress::Allowed;
    let cluster = Cluster::from_objects(options, objects);
    let program = compile(&cluster, Scope::Node("one".into()));
    let profile = program.profile(program.endpoints().next().expect("the pod").profile());
    let class = profile.side(Direction::Egress).expect("isolated").other();
    let members = program.members(class, Family::V4);
    assert_eq!(members.deny, [IpAddr::from([10, 1, 0, 2])]);
    assert_eq!(members.allow, Vec::<IpAddr>::new());
    assert_eq!(members.ranges, [IpAddr::from([10, 0, 0, 0])..=IpAddr::from([10, 255, 255, 255])]);
}

/// A NetworkPolicy for all pods of a namespace.
fn isolating(
    namespace: &str,
    ingress: Option<Vec<netpol_core::model::Rule>>,
    egress: Option<Vec<netpol_core::model::Rule>>,
) -> netpol_core::model::Policy {
    use netpol_core::model::{
        NamespaceScope, PodSelector, Policy, PolicyKey, PolicyKind, Selector, Subject, Tier,
    };
    let kind = PolicyKind::NetworkPolicy;
    let key = PolicyKey { kind, namespace: namespace.into(), name: "p".into() };
    let namespaces = NamespaceScope::Named(namespace.into());
    let subject = Subject::Pods(PodSelector { namespaces, pods: Selector::everything() });
    Policy { key, tier: Tier::NetworkPolicy, priority: 0, subject, ingress, egress }
}

/// What no endpoint of the node refers to costs the node nothing.
#[test]
fn nothing_is_there_that_no_endpoint_needs() {
    use std::collections::BTreeSet;
    programs(|_, node, program, seed| {
        let needed = program.endpoints().flat_map(|it| [Some(it.profile()), it.own_profile()]);
        let needed: BTreeSet<_> = needed.flatten().collect();
        let there: BTreeSet<_> = program.profiles().map(|(id, _)| id).collect();
        assert_eq!(there, needed, "profiles of {node}, seed {seed}");

        let sides = program.profiles().flat_map(|(_, profile)| {
            [Direction::Ingress, Direction::Egress].map(|direction| profile.side(direction))
        });
        let classes = sides.flatten().flat_map(|side| {
            let intervals = Protocol::ALL.into_iter().flat_map(|it| side.intervals(it));
            intervals.map(|(_, class)| *class).chain([side.other()])
        });
        let needed: BTreeSet<_> = classes.collect();
        let there: BTreeSet<_> = program.classes().map(|(id, _)| id).collect();
        assert_eq!(there, needed, "classes of {node}, seed {seed}");
    });
}

/// What is told of endpoints is what they are.
#[test]
fn endpoints_are_listed_with_their_profiles() {
    let mut listed = 0;
    programs(|objects, node, program, seed| {
        let hosts_policed = program.endpoints().any(|it| it.is_host());
        for endpoint in program.endpoints() {
            listed += 1;
            if endpoint.is_host() {
                assert!(endpoint.namespace().is_empty(), "{node}, seed {seed}");
                let named = objects.nodes.iter().any(|it| &*it.name == endpoint.name());
                assert!(named && !endpoint.addresses().is_empty(), "{node}, seed {seed}");
                continue;
            }
            let mut same = objects.endpoints.iter().filter(|it| {
                (&*it.namespace, &*it.name) == (endpoint.namespace(), endpoint.name())
            });
            let here = same.any(|it| it.is_ordinary() && it.node.as_ref() == Some(node));
            assert!(here, "{}/{} on {node}", endpoint.namespace(), endpoint.name());
        }
        let ordinary = objects.endpoints.iter();
        let ordinary = ordinary.filter(|it| it.is_ordinary() && it.node.as_ref() == Some(node));
        let found = program.endpoints().filter(|it| !it.is_host()).count();
        assert_eq!(found, ordinary.count(), "{node}, seed {seed}");
        let policed = program.options().host_network_subjects == HostNetworkSubjects::Policed;
        assert!(policed || !hosts_policed, "{node}, seed {seed}");
        assert_eq!(*program.scope(), Scope::Node(node.clone()));
    });
    assert!(listed > 1000, "{listed}");
}

/// Addresses lead to the endpoints that have them, and those of a host to each other.
#[test]
fn addresses_lead_to_whom_they_belong() {
    let (mut found, mut hosts) = (0, 0);
    programs(|objects, node, program, seed| {
        let owner = |address: &IpAddr| {
            let ordinary = objects.endpoints.iter().filter(|it| it.is_ordinary());
            let claiming = ordinary.filter(|it| it.addresses.contains(address));
            claiming.min_by_key(|it| (&it.namespace, &it.name, &it.uid))
        };
        for address in objects.endpoints.iter().flat_map(|it| &it.addresses) {
            let owner = owner(address);
            let entry = program.endpoint_at(*address).filter(|it| !it.is_host());
            let is_here = owner.is_some_and(|it| it.node.as_ref() == Some(node));
            // Who is elsewhere may be left out.
            assert!(entry.is_some() || !is_here, "{node}, seed {seed}: {address}");
            if let Some(entry) = entry {
                let named = owner.map(|it| (&*it.namespace, &*it.name));
                assert_eq!(named, Some((entry.namespace(), entry.name())), "{node}, seed {seed}");
                assert_eq!(entry.is_policed(), is_here, "{node}, seed {seed}: {address}");
                found += usize::from(!is_here);
            }
        }
        let is_policed = program.options().host_network_subjects == HostNetworkSubjects::Policed;
        for own in objects.nodes.iter().filter(|it| it.name == *node) {
            for address in own.addresses.iter().filter(|it| owner(it).is_none()) {
                let with = objects.nodes.iter().filter(|it| it.addresses.contains(address));
                let mut wanted: Vec<IpAddr> =
                    with.filter(|_| is_policed).flat_map(|it| it.addresses.clone()).collect();
                wanted.retain(|it| owner(it).is_none());
                wanted.sort_unstable();
                wanted.dedup();
                let mut same: Vec<IpAddr> = program.same_host(*address).collect();
                same.sort_unstable();
                assert_eq!(same, wanted, "{node}, seed {seed}: {address}");
                hosts += same.len();
            }
        }
    });
    assert!(found > 100 && hosts > 100, "{found}, {hosts}");
}

/// A class is named by what it asks, in whatever program it is, and no other class has its name.
#[test]
fn classes_are_named_by_what_they_ask() {
    let alone: Vec<Vec<String>> = (0..QUESTIONS.len()).map(|at| keys(&[at])).collect();
    for (at, keys) in alone.iter().enumerate() {
        assert!(!keys.is_empty(), "{}", QUESTIONS[at]);
        // All of them have ports for which they ask nothing, and then ask the same.
        let others: Vec<&Vec<String>> = alone.iter().take(at).collect();
        let own = keys.iter().filter(|key| others.iter().all(|other| !other.contains(key)));
        assert!(own.count() > 0, "{} asks what another one asks", QUESTIONS[at]);
    }
    let all: Vec<usize> = (0..QUESTIONS.len()).collect();
    let backwards: Vec<usize> = all.iter().rev().copied().collect();
    let mut expected: Vec<String> = alone.concat();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(keys(&all), expected);
    assert_eq!(keys(&backwards), expected);
}

/// What a policy for 80/tcp may ask: tier, action, and whom it is about.
const QUESTIONS: [&str; 13] = [
    "network accept everyone",
    "network accept app=a",
    "network accept app=b",
    "network accept app=a app=b",
    "network accept 10.0.0.0/8",
    "network accept 10.0.0.0/9",
    "admin deny app=a",
    "admin accept app=a",
    "admin pass app=a",
    "admin deny app=b",
    "baseline deny app=a",
    "baseline deny app=b",
    "network accept web",
];

/// The keys of the classes of a program in which each of these questions is asked by a pod of its own.
fn keys(questions: &[usize]) -> Vec<String> {
    use netpol_core::model::{
        Action, Block, DeclaredPort, Endpoint, Labels, NamespaceScope, Options, Peer, Peers,
        PodSelector, Policy, PolicyKey, PolicyKind, PortMatch, PortRange, Ports, Protocol,
        Requirement, Rule, Selector, Subject, Tier,
    };
    let by_label = |key: &str, value: &str| Selector::new([Requirement::is_in(key, [value])]);
    let mut objects = Objects::default();
    let mut server = Endpoint::new("x", "server");
    server.labels = Labels::default().with("app", "a");
    server.addresses.push(IpAddr::from([10, 0, 1, 1]));
    server.ports = vec![DeclaredPort { name: "web".into(), protocol: Protocol::Tcp, number: 80 }];
    objects.endpoints.push(server);
    for (place, question) in questions.iter().enumerate() {
        let words: Vec<&str> = QUESTIONS[*question].split(' ').collect();
        let who = format!("q{question}");
        let mut pod = Endpoint::new("x", &who);
        pod.labels = Labels::default().with("asks", &who);
        let last = u8::try_from(place + 1).expect("few");
        pod.addresses.push(IpAddr::from([10, 0, 0, last]));
        objects.endpoints.push(pod);

        let tier = match words[0] {
            "admin" => Tier::Admin,
            "network" => Tier::NetworkPolicy,
            _ => Tier::Baseline,
        };
        let action = match words[1] {
            "accept" => Action::Accept,
            "deny" => Action::Deny,
            _ => Action::Pass,
        };
        let everyone = ["everyone", "web"].contains(&words[2]);
        let peers = words[2..].iter().map(|peer| match peer.split_once('=') {
            Some((key, value)) => Peer::Pods(PodSelector {
                namespaces: NamespaceScope::Named("x".into()),
                pods: by_label(key, value),
            }),
            None => Peer::Block(Block::new(peer.parse().expect("a block"), [])),
        });
        let peers = if everyone { Peers::Everyone } else { Peers::AnyOf(peers.collect()) };
        let port = match words[2] {
            "web" => PortMatch::Named(Some(Protocol::Tcp), "web".into()),
            _ => PortMatch::Range(Protocol::Tcp, PortRange::single(80)),
        };
        let ports = Ports::AnyOf(vec![port]);
        let mut rules = vec![Rule { name: None, action, peers, ports: ports.clone() }];
        if action == Action::Pass {
            // To pass is to ask for something only if otherwise something else happens.
            let peers = Peers::Everyone;
            rules.push(Rule { name: None, action: Action::Deny, peers, ports });
        }
        let (kind, namespace) = match tier {
            Tier::NetworkPolicy => (PolicyKind::NetworkPolicy, "x"),
            _ => (PolicyKind::ClusterNetworkPolicy, ""),
        };
        objects.policies.push(Policy {
            key: PolicyKey { kind, namespace: namespace.into(), name: who.as_str().into() },
            tier,
            priority: u16::try_from(questions.len() - place).expect("few"),
            subject: Subject::Pods(PodSelector {
                namespaces: NamespaceScope::Named("x".into()),
                pods: by_label("asks", &who),
            }),
            ingress: None,
            egress: Some(rules),
        });
    }
    let program = compile(&Cluster::from_objects(Options::default(), objects), Scope::Cluster);
    // Ids lead to what was listed under them.
    for (id, class) in program.classes() {
        assert_eq!(program.class(id), class);
    }
    let profiles: Vec<_> = program.profiles().collect();
    assert_eq!(profiles.len(), questions.len() + 1, "one each, and that of the server");
    for (id, profile) in profiles {
        assert_eq!(program.profile(id), profile);
    }
    let mut keys: Vec<String> = program.classes().map(|(id, _)| program.class_text(id)).collect();
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count, "two classes of one text");
    keys
}
