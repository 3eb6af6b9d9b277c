//! Policies that leave out parts of the same blocks, so many that the parts are told apart and not the blocks, and so
//! few that it is the other way round: it makes no difference to any verdict, and neither does how it came to that.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netpol_core::compile::Compiler;
use netpol_core::model::{
    Action, Block, DeclaredPort, Direction, End, Endpoint, Family, Flow, Labels, Name,
    NamespaceScope, Objects, Options, Peer, Peers, PodSelector, Policy, PolicyKey, PolicyKind,
    PortMatch, PortRange, Ports, Protocol, Requirement, Rule, Selector, Subject, Tier, Traffic,
    name,
};
use netpol_core::program::{Program, Verdict};
use netpol_core::reference::{self, Judgement};
use netpol_core::testing::{Choices, options};
use netpol_core::{Cluster, Scope, compile};

/// Whose parts are left out.
const BLOCKS: [&str; 4] = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "::/0"];
/// What is left out: parts of parts, and what is more than the whole.
const PARTS: [&str; 12] = [
    "10.0.0.0/8",
    "10.0.0.0/9",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.3/32",
    "10.1.2.4/32",
    "10.128.0.0/9",
    "0.0.0.0/0",
    "fd00::/8",
    "fd00::/64",
    "fd00::1/128",
    "fd00:1::/32",
];

fn nets<const N: usize>(texts: [&str; N]) -> [IpNet; N] {
    texts.map(|text| text.parse().unwrap())
}

/// The tiers that policies are of: in the additive one alone classes are put together from their blocks, otherwise
/// every part is judged by itself.
const TIERS: [&[Tier]; 2] = [
    &[Tier::NetworkPolicy],
    &[Tier::NetworkPolicy, Tier::NetworkPolicy, Tier::Admin, Tier::Baseline],
];

/// A policy about somebody's traffic with all of a block but some of it.
fn policy(choices: &mut Choices<'_>, tiers: &[Tier], number: usize) -> Policy {
    let cidr = choices.of(nets(BLOCKS));
    let parts = nets(PARTS).into_iter().filter(|_| choices.one_in(3));
    let block = Peer::Block(Block::new(cidr, parts.collect::<Vec<_>>()));
    let tier = tiers[choices.pick(tiers.len())];
    let action = match tier {
        Tier::NetworkPolicy => Action::Accept,
        Tier::Baseline => choices.of([Action::Accept, Action::Deny]),
        Tier::Admin => choices.of([Action::Accept, Action::Deny, Action::Pass]),
    };
    let ports = match choices.pick(3) {
        0 => Ports::All,
        1 => Ports::AnyOf(vec![PortMatch::Range(Protocol::Tcp, PortRange::single(80))]),
        _ => Ports::AnyOf(vec![PortMatch::Named(None, name("web"))]),
    };
    let rule = Rule { name: None, action, peers: Peers::AnyOf(vec![block]), ports };
    let (ingress, egress) = match choices.of(Direction::ALL) {
        Direction::Ingress => (Some(vec![rule]), None),
        Direction::Egress => (None, Some(vec![rule])),
    };
    let (kind, namespace) = match tier {
        Tier::NetworkPolicy => (PolicyKind::NetworkPolicy, name("x")),
        Tier::Admin => (PolicyKind::AdminNetworkPolicy, name("")),
        Tier::Baseline => (PolicyKind::BaselineAdminNetworkPolicy, name("")),
    };
    Policy {
        key: PolicyKey { kind, namespace, name: name(&format!("p-{number}")) },
        tier,
        priority: u16::try_from(number % 7).unwrap(),
        subject: Subject::Pods(PodSelector {
            namespaces: NamespaceScope::Named(name("x")),
            pods: Selector::everything(),
        }),
        ingress,
        egress,
    }
}

fn endpoints() -> Vec<Endpoint> {
    let addresses = ["10.1.2.3", "10.1.2.9", "10.200.0.1", "192.0.2.1", "fd00::1", "fd00:1::5"];
    let endpoint = |(at, address): (usize, &str)| {
        let mut endpoint = Endpoint::new("x", &format!("e-{at}"));
        endpoint.addresses.push(address.parse().unwrap());
        endpoint.node = Some(name(if at % 2 == 0 { "n-0" } else { "n-1" }));
        let web: Name = name("web");
        let port = DeclaredPort { name: web, protocol: Protocol::Tcp, number: 80 };
        endpoint.ports.extend((at % 3 != 0).then_some(port));
        endpoint
    };
    addresses.into_iter().enumerate().map(endpoint).collect()
}

/// Between the endpoints and all sides of the edges of blocks.
fn flows() -> Vec<Flow> {
    let of_parts = nets(PARTS).into_iter().flat_map(|net| [net.network(), net.broadcast()]);
    let others = ["9.9.9.9", "10.1.2.5", "fd00::2", "2001:db8::1"].map(|it| it.parse().unwrap());
    let others: BTreeSet<IpAddr> = of_parts.chain(others).collect();
    let mut flows = Vec::new();
    for own in endpoints().iter().map(|it| it.addresses[0]) {
        for other in others.iter().filter(|other| Family::of(**other) == Family::of(own)) {
            for traffic in [Traffic::Port(Protocol::Tcp, 80), Traffic::Port(Protocol::Udp, 53)] {
                flows.push(Flow::new(own, *other, traffic));
                flows.push(Flow::new(*other, own, traffic));
            }
        }
    }
    flows
}

fn compare(objects: &Objects, options: &Options, program: &Program, flow: &Flow) {
    let expected = reference::decide(objects, options, flow);
    let decision = program.decide(flow);
    let judgement = |verdict: Option<Verdict>| match verdict {
        None => Judgement::NotJudged,
        Some(Verdict::Allow) => Judgement::Allow,
        Some(Verdict::Deny) => Judgement::Deny,
    };
    let found = (judgement(decision.egress), judgement(decision.ingress));
    assert_eq!(found, (expected.egress, expected.ingress), "{flow}\n{objects:#?}");
    let explanation = program.explain(flow);
    assert_eq!(explanation.decision(), decision, "{flow}\n{objects:#?}");
    for judgement in explanation.judgements() {
        let verdict = judgement.reason.verdict().unwrap_or(judgement.verdict);
        assert_eq!(verdict, judgement.verdict, "{flow}: {judgement:#?}\n{objects:#?}");
    }
}

/// What a backend lists for the class of a flow says the same of the other end.
fn compare_members(program: &Program, flow: &Flow) {
    let (End::Address(source), End::Address(destination)) = (&flow.source, &flow.destination)
    else {
        return;
    };
    let decision = program.decide(flow);
    let sides = [
        (Direction::Egress, source, destination, decision.egress),
        (Direction::Ingress, destination, source, decision.ingress),
    ];
    for (direction, subject, peer, verdict) in sides {
        let (Some(verdict), true) = (verdict, subject != peer) else { continue };
        let mut endpoints = program.endpoints();
        let endpoint = endpoints.find(|it| it.addresses().contains(subject)).unwrap();
        if let Some(side) = program.profile(endpoint.profile()).side(direction) {
            let members = program.members(side.class_of(flow.traffic), Family::of(*peer));
            assert_eq!(members.verdict(*peer), verdict, "{direction} of {flow}: {members:?}");
            assert!(members.ranges.is_sorted_by(|a, b| a.end() < b.start()), "{members:?}");
        }
    }
}

/// How many blocks differ that leave out parts of the same one.
fn most_carved(objects: &Objects) -> usize {
    let rules =
        objects.policies.iter().flat_map(|it| it.ingress.iter().chain(&it.egress)).flatten();
    let peers = rules.filter_map(|rule| match &rule.peers {
        Peers::AnyOf(peers) => Some(peers),
        Peers::Everyone => None,
    });
    let blocks: BTreeSet<&Block> = peers
        .flatten()
        .filter_map(|peer| match peer {
            Peer::Block(block) if !block.except().is_empty() => Some(block),
            _ => None,
        })
        .collect();
    let of = |cidr: IpNet| blocks.iter().filter(|block| block.cidr() == cidr).count();
    nets(BLOCKS).map(of).into_iter().max().unwrap()
}

/// From few to many and back, several times, in steps of some policies.
#[test]
fn how_blocks_are_told_apart_changes_nothing() {
    let mut seen = BTreeSet::new();
    for seed in 0..6 {
        let mut choices = Choices::from_seed(seed, 40_000);
        let tiers = TIERS[usize::from(seed % 2 == 0)];
        let options = options(&mut choices);
        let mut cluster = Cluster::new(options);
        endpoints().into_iter().for_each(|it| cluster.upsert_endpoint(it));
        let mut policies: Vec<Policy> = Vec::new();
        let scopes = [Scope::Cluster, Scope::Node(name("n-0"))];
        let mut compilers = scopes.clone().map(|scope| Compiler::new(options, scope));
        for step in 0..40 {
            for change in 0..20 {
                if step / 10 % 2 == 0 {
                    let policy = policy(&mut choices, tiers, step * 100 + change);
                    policies.push(policy.clone());
                    cluster.upsert_policy(policy);
                } else if !policies.is_empty() {
                    let policy = policies.swap_remove(choices.pick(policies.len()));
                    cluster.remove_policy(&policy.key);
                }
            }
            let objects = Objects {
                endpoints: endpoints(),
                policies: policies.clone(),
                ..Objects::default()
            };
            let changes = cluster.take_changes();
            for (compiler, scope) in compilers.iter_mut().zip(&scopes) {
                let program = compiler.update(&cluster, &changes);
                let fresh = compile(&cluster, scope.clone());
                assert_eq!(program.dump(), fresh.dump(), "seed {seed}, step {step}");
            }
            seen.insert(most_carved(&objects) > 32);
            // Each some of them.
            for flow in flows().iter().skip(step % 9).step_by(9) {
                compare(&objects, &options, compilers[0].program(), flow);
                compare_members(compilers[0].program(), flow);
            }
        }
    }
    assert_eq!(seen, BTreeSet::from([false, true]));
}

/// The policies of teams which each allow themselves the world but a part of it, from a number on.
fn team(number: u32, parts: u32) -> (Endpoint, Policy) {
    let team = number.to_string();
    let mut endpoint = Endpoint::new("x", &format!("team-{number}"));
    endpoint.labels = Labels::from_iter([("team", team.as_str())]);
    endpoint.addresses.push(IpAddr::from((0x0a02_0000 + number).to_be_bytes()));
    let own = (0..parts).map(|at| IpAddr::from((0x0b00_0000 + number + at).to_be_bytes()).into());
    let block = Block::new("0.0.0.0/0".parse().unwrap(), own);
    let (peers, ports) = (Peers::AnyOf(vec![Peer::Block(block)]), Ports::All);
    let policy = Policy {
        key: PolicyKey {
            kind: PolicyKind::NetworkPolicy,
            namespace: name("x"),
            name: name(&format!("team-{number}")),
        },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(PodSelector {
            namespaces: NamespaceScope::Named(name("x")),
            pods: Selector::new([Requirement::is_in("team", [team.as_str()])]),
        }),
        ingress: None,
        egress: Some(vec![Rule { name: None, action: Action::Accept, peers, ports }]),
    };
    (endpoint, policy)
}

fn teams(count: u32) -> Cluster {
    let mut cluster = Cluster::default();
    for (endpoint, policy) in (0..count).map(|number| team(number, 1)) {
        cluster.upsert_endpoint(endpoint);
        cluster.upsert_policy(policy);
    }
    cluster
}

/// What there is to know grows with the policies, not with their square.
#[test]
fn many_carvings_take_little_room() {
    let sizes = [500, 1000].map(|count| compile(&teams(count), Scope::Cluster).capacity());
    assert!(sizes[1].memberships <= 2 * sizes[0].memberships, "{sizes:?}");
    // Sets of most identities take a bit for each, which is little but does grow with the square.
    assert!(sizes[1].bytes <= 5 * sizes[0].bytes / 2, "{sizes:?}");
}

/// And every team is kept from its own part, and from nobody else's.
#[test]
fn of_many_carvings_each_counts() {
    let program = compile(&teams(100), Scope::Cluster);
    for own in 0..100_u32 {
        for part in 0..101_u32 {
            let [from, to] = [0x0a02_0000 + own, 0x0b00_0000 + part];
            let [from, to] = [from, to].map(|it| IpAddr::from(it.to_be_bytes()));
            let flow = Flow::new(from, to, Traffic::Port(Protocol::Tcp, 80));
            assert_eq!(program.decide(&flow).is_allowed(), own != part, "{flow}");
            assert_eq!(program.explain(&flow).is_allowed(), own != part, "{flow}");
        }
    }
}

/// As long as they are few, parts are not told apart for which the same blocks hold.
#[test]
fn few_carvings_tell_few_addresses_apart() {
    let mut cluster = Cluster::default();
    let (endpoint, policy) = team(0, 200);
    cluster.upsert_endpoint(endpoint);
    cluster.upsert_policy(policy);
    // In the block, and in no block; what is in a part is in no block, too.
    assert_eq!(compile(&cluster, Scope::Cluster).capacity().identities, 2);
}
