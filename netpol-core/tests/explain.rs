//! Explanations: that each thing said of a rule is true, and in which words it is said.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use netpol_core::model::{
    Action, Direction, End, Endpoint, Flow, Labels, NamespaceScope, Node, Objects, Options, Peer,
    Peers, PodSelector, Policy, PolicyKey, PolicyKind, PortMatch, PortRange, Ports, Protocol,
    Requirement, Rule, Selector, Subject, Tier, Traffic,
};
use netpol_core::program::{Judgement as Explained, Missed, Outcome, Reason, RuleRef, Step};
use netpol_core::reference::{self, Judgement};
use netpol_core::testing::{Choices, flow, world};
use netpol_core::{Cluster, Program, Scope, compile};

fn program(objects: &Objects, options: &Options) -> Program {
    compile(&Cluster::from_objects(*options, objects.clone()), Scope::Cluster)
}

/// Whether a rule of a policy matches a flow, as the specification has it: by a world in which there is no other rule.
/// `None` if a NetworkPolicy lets it pass or not whatever its rules say.
fn matches(
    objects: &Objects,
    options: &Options,
    flow: &Flow,
    policy: &Policy,
    rule_: &Rule,
    direction: Direction,
) -> Option<bool> {
    let network = policy.tier == Tier::NetworkPolicy;
    let action = if network { Action::Accept } else { Action::Deny };
    let judge = |rules| alone(objects, options, flow, policy, rules, direction);
    let everyone = rule(action, Peers::Everyone, Ports::All);
    let (without, with) = (judge(vec![]), judge(vec![Rule { action, ..rule_.clone() }]));
    let open = judge(vec![everyone]);
    (without != open).then_some(with == open)
}

/// What a policy says that is the only one, and has these rules only.
fn alone(
    objects: &Objects,
    options: &Options,
    flow: &Flow,
    policy: &Policy,
    rules: Vec<Rule>,
    direction: Direction,
) -> Judgement {
    let mut alone = policy.clone();
    let rules = Some(rules);
    (alone.ingress, alone.egress) = match direction {
        Direction::Ingress => (rules, None),
        Direction::Egress => (None, rules),
    };
    let mut objects = objects.clone();
    objects.policies = vec![alone];
    let verdict = reference::decide(&objects, options, flow);
    match direction {
        Direction::Egress => verdict.egress,
        Direction::Ingress => verdict.ingress,
    }
}

/// What a step says of rules: those that it says match do, those that it says miss do not, and in what they miss.
#[test]
fn what_is_said_of_rules_is_true() {
    let (mut decided, mut missed_port, mut missed_peer, mut not_understood) = (0, 0, 0, 0);
    for seed in 0..600 {
        let mut choices = Choices::from_seed(0xe8_0000 + seed, 2500);
        let (objects, options) = world(&mut choices);
        let program = program(&objects, &options);
        for _ in 0..40 {
            let flow = flow(&mut choices, &objects);
            let explanation = program.explain(&flow);
            let allowed = reference::decide(&objects, &options, &flow).is_allowed();
            assert_eq!(explanation.is_allowed(), allowed, "seed {seed}, {flow}");
            // Where both ends are one, only a part of the policies is asked.
            let itself = explanation.judgements().count() == 2
                && explanation.egress.as_ref().map(|it| &it.subject)
                    == explanation.ingress.as_ref().map(|it| &it.subject);
            for judged in explanation.judgements().filter(|_| !itself) {
                for step in &judged.steps {
                    let find = |policy: &&Policy| policy.key == step.policy;
                    let policy = objects.policies.iter().find(find).expect("a policy of the world");
                    let rules = policy.rules(judged.direction).expect("it speaks of the direction");
                    let matches = |place: &RuleRef, lift_ports: bool| {
                        let mut rule = rules[place.index].clone();
                        if lift_ports {
                            rule.ports = Ports::All;
                        }
                        matches(&objects, &options, &flow, policy, &rule, judged.direction)
                    };
                    let context = || format!("seed {seed}, {flow}: {step:?}\n{objects:#?}");
                    match &step.outcome {
                        Outcome::Decides(place, _) | Outcome::Passes(place) => {
                            assert_ne!(matches(place, false), Some(false), "{}", context());
                            decided += 1;
                        }
                        Outcome::Misses(misses) => {
                            assert_eq!(misses.len(), rules.len(), "{}", context());
                            for miss in misses {
                                match miss.missed {
                                    Missed::Port => {
                                        assert_ne!(
                                            matches(&miss.rule, false),
                                            Some(true),
                                            "{}",
                                            context()
                                        );
                                        assert_ne!(
                                            matches(&miss.rule, true),
                                            Some(false),
                                            "{}",
                                            context()
                                        );
                                        missed_port += 1;
                                    }
                                    Missed::Peer | Missed::Both | Missed::Address => {
                                        assert_ne!(
                                            matches(&miss.rule, true),
                                            Some(true),
                                            "{}",
                                            context()
                                        );
                                        missed_peer += 1;
                                    }
                                    Missed::NotUnderstood(_) => not_understood += 1,
                                }
                            }
                        }
                        Outcome::NotReached => {}
                    }
                }
            }
        }
    }
    let counts = [decided, missed_port, missed_peer, not_understood];
    assert!(counts.iter().all(|count| *count > 200), "{counts:?}");
}

fn pods(namespace: &str, pods: Selector) -> PodSelector {
    PodSelector { namespaces: NamespaceScope::Named(namespace.into()), pods }
}

fn app(value: &str) -> Selector {
    Selector::new([Requirement::is_in("app", [value])])
}

fn from(value: &str) -> Peers {
    Peers::AnyOf(vec![Peer::Pods(pods("x", app(value)))])
}

fn tcp(port: u16) -> PortMatch {
    PortMatch::Range(Protocol::Tcp, PortRange::single(port))
}

fn rule(action: Action, peers: Peers, ports: Ports) -> Rule {
    Rule { name: None, action, peers, ports }
}

fn policy(tier: Tier, name: &str, ingress: Vec<Rule>) -> Policy {
    let (kind, namespace, namespaces) = match tier {
        Tier::NetworkPolicy => (PolicyKind::NetworkPolicy, "x", NamespaceScope::Named("x".into())),
        _ => {
            (PolicyKind::ClusterNetworkPolicy, "", NamespaceScope::Matching(Selector::everything()))
        }
    };
    Policy {
        key: PolicyKey { kind, namespace: namespace.into(), name: name.into() },
        tier,
        priority: 0,
        subject: Subject::Pods(PodSelector { namespaces, pods: app("a") }),
        ingress: Some(ingress),
        egress: None,
    }
}

/// `x/a`, asked by `x/b` for 80/tcp unless said otherwise, under these policies.
fn explained(policies: Vec<Policy>, from: &str, traffic: Traffic, options: Options) -> Explained {
    let mut objects = Objects { policies, ..Objects::default() };
    for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        let mut pod = Endpoint::new("x", name);
        pod.labels = Labels::default().with("app", name);
        pod.addresses.push(address.parse().expect("an address"));
        pod.node = Some("n".into());
        objects.endpoints.push(pod);
    }
    let addresses = vec!["192.168.0.1".parse().expect("an address")];
    objects.nodes.push(Node { name: "n".into(), labels: Labels::default(), addresses });
    let source = match from.parse() {
        Ok(address) => End::Address(address),
        Err(_) => End::Endpoint { namespace: "x".into(), name: from.into() },
    };
    let destination = End::Address("10.0.0.1".parse().expect("an address"));
    let explanation =
        program(&objects, &options).explain(&Flow::between(source, destination, traffic));
    explanation.ingress.expect("it is judged")
}

/// The reason, then what the rule that came nearest has to say.
fn said(policies: Vec<Policy>, from: &str, traffic: Traffic) -> (String, Option<String>) {
    let judged = explained(policies, from, traffic, Options::default());
    let miss = judged.nearest_miss().map(|(policy, miss)| format!("{policy} {} {miss}", miss.rule));
    (judged.reason.to_string(), miss)
}

#[test]
fn reasons_in_words() {
    use Action::{Accept, Deny, Pass};
    let on_81 = || Ports::AnyOf(vec![tcp(81)]);
    let tcp_80 = Traffic::tcp(80);
    let b = "10.0.0.2";

    assert_eq!(said(vec![], b, tcp_80), ("no policy decides".into(), None));

    let np = |rules| policy(Tier::NetworkPolicy, "p", rules);
    assert_eq!(
        said(vec![np(vec![])], b, tcp_80),
        ("NetworkPolicy x/p isolates the pod; no rule matches".into(), None)
    );
    let q = policy(Tier::NetworkPolicy, "q", vec![]);
    assert_eq!(
        said(vec![np(vec![]), q], b, tcp_80).0,
        "NetworkPolicy x/p, NetworkPolicy x/q isolate the pod; no rule matches"
    );
    assert_eq!(
        said(vec![np(vec![])], "192.168.0.1", tcp_80).0,
        "the other end is the pod's own node"
    );
    let misses = vec![
        rule(Accept, from("c"), on_81()),
        rule(Accept, from("c"), Ports::All),
        Rule { name: Some("late".into()), ..rule(Accept, from("b"), on_81()) },
        rule(Accept, from("b"), Ports::AnyOf(vec![tcp(82), tcp(83)])),
    ];
    let isolates = "NetworkPolicy x/p isolates the pod; no rule matches";
    // The nearest is the one for which only the port is wrong, and of these the first.
    assert_eq!(
        said(vec![np(misses.clone())], b, tcp_80),
        (
            isolates.into(),
            Some(
                "NetworkPolicy x/p rule #3 \"late\" matches the peer, but not the port (81/TCP)"
                    .into()
            )
        )
    );
    assert_eq!(
        said(vec![np(misses[3..].to_vec())], b, tcp_80).1.as_deref(),
        Some("NetworkPolicy x/p rule #1 matches the peer, but not the port (82/TCP, 83/TCP)")
    );
    assert_eq!(
        said(vec![np(misses[..2].to_vec())], b, tcp_80).1.as_deref(),
        Some("NetworkPolicy x/p rule #2 matches the port, but not the peer")
    );
    // What matches in nothing is not near.
    assert_eq!(said(vec![np(misses[..1].to_vec())], b, tcp_80), (isolates.into(), None));
    let none = vec![rule(Accept, from("b"), Ports::AnyOf(vec![]))];
    assert_eq!(
        said(vec![np(none)], b, tcp_80).1.as_deref(),
        Some("NetworkPolicy x/p rule #1 matches the peer, but not the port (none)")
    );

    let admin = |rules| policy(Tier::Admin, "c", rules);
    for (action, words) in [(Accept, "accepts"), (Deny, "denies")] {
        let judged = vec![
            admin(vec![rule(Deny, from("c"), Ports::All), rule(action, from("b"), Ports::All)]),
            np(vec![]),
        ];
        let expected = format!("ClusterNetworkPolicy c rule #2 {words}");
        assert_eq!(said(judged, b, tcp_80).0, expected);
    }
    let passed = vec![admin(vec![rule(Pass, from("b"), Ports::All)]), np(vec![])];
    assert_eq!(said(passed, b, tcp_80).0, isolates);
}

/// C-FAIL-1, C-FAIL-2, C-FAIL-3: what denies or does not count because it is not understood is told.
#[test]
fn failing_closed_in_words() {
    use Action::{Accept, Deny, Pass};
    let galaxies = || Peers::AnyOf(vec![Peer::Unknown("galaxies".into())]);
    let quic = || Ports::AnyOf(vec![PortMatch::Unknown("quic".into())]);
    let admin = |rules| policy(Tier::Admin, "c", rules);
    let at_most = |rules| {
        let policy = admin(rules);
        let Subject::Pods(subject) = policy.subject.clone() else { panic!("a whole subject") };
        Policy { subject: Subject::AtMost(subject), ..policy }
    };
    let closed = "ClusterNetworkPolicy c rule #1 denies, since it is not fully understood";
    let plainly = "ClusterNetworkPolicy c rule #1 denies";
    let nobody = "no policy decides";
    for (policy, reason, missed) in [
        (admin(vec![rule(Deny, galaxies(), Ports::All)]), closed, None),
        (admin(vec![rule(Pass, galaxies(), Ports::All)]), closed, None),
        (admin(vec![rule(Deny, from("b"), quic())]), closed, None),
        (admin(vec![rule(Accept, galaxies(), Ports::All)]), nobody, Some("galaxies")),
        (admin(vec![rule(Accept, from("b"), quic())]), nobody, Some("quic")),
        (at_most(vec![rule(Accept, from("b"), Ports::All)]), nobody, Some("the policy's subject")),
        (at_most(vec![rule(Pass, from("b"), Ports::All)]), closed, None),
        // That it denies is understood, whomever else the policy may be meant for.
        (at_most(vec![rule(Deny, from("b"), Ports::All)]), plainly, None),
        (admin(vec![rule(Deny, from("b"), Ports::All)]), plainly, None),
    ] {
        let judged = explained(vec![policy], "10.0.0.2", Traffic::tcp(80), Options::default());
        assert_eq!(judged.reason.to_string(), reason);
        assert_eq!(judged.nearest_miss(), None);
        let Outcome::Misses(misses) = &judged.steps[0].outcome else {
            assert_eq!(missed, None);
            continue;
        };
        let expected = missed.map(|what| format!("is not understood ({what}) and matches nothing"));
        assert_eq!(misses.first().map(ToString::to_string), expected);
    }
}

/// CH-PROTO-OPEN, CH-PROTO-CLOSED
#[test]
fn other_protocols_in_words() {
    use netpol_core::model::OtherProtocols::{Allowed, Denied};
    for (reading, verdict) in [(Allowed, "Allow"), (Denied, "Deny")] {
        let mut options = Options::default();
        options.other_protocols = reading;
        let np = policy(Tier::NetworkPolicy, "p", vec![]);
        let judged = explained(vec![np], "10.0.0.2", Traffic::ICMP, options);
        assert_eq!(judged.reason.to_string(), "protocols without ports are not judged by rules");
        assert_eq!(format!("{:?}", judged.verdict), verdict);
        assert_eq!(judged.reason.verdict(), None);
    }
}

/// Who is asked about by name has no address that a block could hold: such a rule is told as one that may match.
#[test]
fn what_depends_on_an_unknown_address_is_told() {
    let block = netpol_core::model::Block::new("10.0.0.0/8".parse().expect("a block"), []);
    let by_block = || Peers::AnyOf(vec![Peer::Block(block.clone())]);
    let np = |rules| policy(Tier::NetworkPolicy, "p", rules);
    let accept = |peers, ports| rule(Action::Accept, peers, ports);
    let on_80 = || Ports::AnyOf(vec![tcp(80)]);
    let undecidable = |policies: Vec<Policy>, from: &str| {
        let judged = explained(policies, from, Traffic::tcp(80), Options::default());
        judged.undecidable().map(|(policy, miss)| format!("{policy} {} {miss}", miss.rule))
    };
    let told = "NetworkPolicy x/p rule #1 may match, depending on the address of the peer";

    assert_eq!(
        undecidable(vec![np(vec![accept(by_block(), Ports::All)])], "b").as_deref(),
        Some(told)
    );
    assert_eq!(
        undecidable(vec![np(vec![accept(by_block(), on_80())])], "b").as_deref(),
        Some(told)
    );
    // Its address is known, and matches or not.
    assert_eq!(undecidable(vec![np(vec![accept(by_block(), Ports::All)])], "10.0.0.2"), None);
    assert_eq!(undecidable(vec![np(vec![accept(by_block(), Ports::All)])], "192.0.2.1"), None);
    // The port does not match whatever the address is; and labels need no address.
    let on_81 = Ports::AnyOf(vec![tcp(81)]);
    assert_eq!(undecidable(vec![np(vec![accept(by_block(), on_81)])], "b"), None);
    assert_eq!(undecidable(vec![np(vec![accept(from("c"), Ports::All)])], "b"), None);
    assert_eq!(undecidable(vec![np(vec![accept(Peers::Everyone, Ports::All)])], "b"), None);
    // Another rule of the additive tier allows it already; of an ordered tier, the first match counts.
    let both = vec![accept(by_block(), Ports::All), accept(from("b"), Ports::All)];
    assert_eq!(undecidable(vec![np(both.clone())], "b"), None);
    let q = policy(Tier::NetworkPolicy, "q", both[1..].to_vec());
    assert_eq!(undecidable(vec![np(both[..1].to_vec()), q], "b"), None);
    let ordered = vec![rule(Action::Deny, by_block(), Ports::All), both[1].clone()];
    let admin = policy(Tier::Admin, "c", ordered);
    let told = "ClusterNetworkPolicy c rule #1 may match, depending on the address of the peer";
    assert_eq!(undecidable(vec![admin.clone()], "b").as_deref(), Some(told));
    assert_eq!(undecidable(vec![admin.clone()], "10.0.0.2"), None);
    let passing =
        vec![rule(Action::Deny, by_block(), Ports::All), rule(Action::Pass, from("b"), Ports::All)];
    let passing = policy(Tier::Admin, "c", passing);
    assert_eq!(undecidable(vec![passing, np(both[1..].to_vec())], "b").as_deref(), Some(told));
    let explained = explained(vec![admin], "b", Traffic::tcp(80), Options::default());
    assert!(matches!(explained.reason, Reason::Rule { action: Action::Accept, .. }));
    let decided_by = |step: &Step| matches!(step.outcome, Outcome::Decides(..));
    assert!(explained.steps.iter().all(decided_by));
}

/// Objects, flows and rules as people read and write them.
#[test]
fn values_in_words() {
    use netpol_core::model::{Block, DomainPattern};
    let key =
        |kind, namespace: &str| PolicyKey { kind, namespace: namespace.into(), name: "p".into() };
    let blocks = ["10.1.0.0/16", "10.2.0.0/16"].map(|it| it.parse().expect("a block"));
    let requirements = [
        Requirement::is_in("a", ["1"]),
        Requirement::is_in("b", ["2", "1"]),
        Requirement::is_not_in("c", ["1"]),
        Requirement::is_not_in("d", ["1", "2"]),
        Requirement::exists("e"),
        Requirement::does_not_exist("f"),
    ];
    let address = |text: &str| text.parse().expect("an address");
    let flow = |traffic| Flow::new(address("10.0.0.1"), address("fd00::1"), traffic);
    let by_name = Flow {
        source: End::Endpoint { namespace: "x".into(), name: "a".into() },
        ..flow(Traffic::tcp(80))
    };
    let range = |first, last| {
        PortMatch::Range(Protocol::Sctp, PortRange::new(first, last).expect("a range"))
    };
    let words = [
        (key(PolicyKind::NetworkPolicy, "x").to_string(), "NetworkPolicy x/p"),
        (key(PolicyKind::ClusterNetworkPolicy, "").to_string(), "ClusterNetworkPolicy p"),
        (key(PolicyKind::AdminNetworkPolicy, "").to_string(), "AdminNetworkPolicy p"),
        (
            key(PolicyKind::BaselineAdminNetworkPolicy, "").to_string(),
            "BaselineAdminNetworkPolicy p",
        ),
        (Tier::Admin.to_string(), "admin"),
        (Tier::NetworkPolicy.to_string(), "network"),
        (Tier::Baseline.to_string(), "baseline"),
        (Action::Accept.to_string(), "accept"),
        (Action::Deny.to_string(), "deny"),
        (Action::Pass.to_string(), "pass"),
        (Selector::everything().to_string(), ""),
        (Selector::new(requirements).to_string(), "a=1,b in (1,2),c!=1,d notin (1,2),e,!f"),
        (format!("{:?}", app("a")), "Selector(app=a)"),
        (Labels::default().to_string(), ""),
        (Labels::default().with("b", "2").with("a", "1").to_string(), "a=1,b=2"),
        (format!("{:?}", PortRange::new(7, 9)), "Some(7-9)"),
        (Block::new("10.0.0.0/8".parse().expect("a block"), []).to_string(), "10.0.0.0/8"),
        (
            Block::new("10.0.0.0/8".parse().expect("a block"), blocks).to_string(),
            "10.0.0.0/8 except 10.1.0.0/16, 10.2.0.0/16",
        ),
        (DomainPattern::new("*.Example.org.").to_string(), "*.example.org"),
        (flow(Traffic::tcp(80)).to_string(), "10.0.0.1 -> fd00::1:80/tcp"),
        (flow(Traffic::udp(53)).to_string(), "10.0.0.1 -> fd00::1:53/udp"),
        (flow(Traffic::sctp(7)).to_string(), "10.0.0.1 -> fd00::1:7/sctp"),
        (flow(Traffic::ICMP).to_string(), "10.0.0.1 -> fd00::1:icmp"),
        (flow(Traffic::ICMPV6).to_string(), "10.0.0.1 -> fd00::1:icmpv6"),
        (flow(Traffic::Other(47)).to_string(), "10.0.0.1 -> fd00::1:protocol 47"),
        (by_name.to_string(), "x/a -> fd00::1:80/tcp"),
        (Direction::Egress.to_string(), "egress"),
        (Direction::Ingress.to_string(), "ingress"),
        (range(0, 65535).to_string(), "SCTP"),
        (range(7, 7).to_string(), "7/SCTP"),
        (range(7, 9).to_string(), "7-9/SCTP"),
        (PortMatch::Named(Some(Protocol::Udp), "dns".into()).to_string(), "dns/UDP"),
        (PortMatch::Named(None, "dns".into()).to_string(), "dns"),
        (PortMatch::Unknown("quic".into()).to_string(), "unknown (quic)"),
        (
            format!("{:?}", Labels::default().with("b", "2").with("a", "1")),
            "{\"a\": \"1\", \"b\": \"2\"}",
        ),
    ];
    for (got, expected) in words {
        assert_eq!(got, expected);
    }
    let numbers = Protocol::ALL.map(Protocol::number);
    assert_eq!(numbers, [6, 17, 132]);
    assert!(Labels::default().is_empty() && !Labels::default().with("a", "1").is_empty());
    assert!(Selector::everything().is_everything() && !app("a").is_everything());
    assert_eq!(app("a").requirements(), [Requirement::is_in("app", ["a"])]);
    // A leading dot is no label.
    assert!(!DomainPattern::new("*.example.org").matches(".example.org"));
}

/// What the NetworkPolicy tier exempts, it exempts in its place: the Admin tier has been asked before.
#[test]
fn exemptions_come_after_the_admin_tier() {
    let admin = |action| policy(Tier::Admin, "a", vec![rule(action, from("b"), Ports::All)]);
    let isolated = || policy(Tier::NetworkPolicy, "p", vec![]);
    let node = explained(
        vec![admin(Action::Deny), isolated()],
        "192.168.0.1",
        Traffic::tcp(80),
        Options::default(),
    );
    assert_eq!(node.reason, Reason::OwnNode);
    assert!(matches!(node.steps[0].outcome, Outcome::Misses(_)), "{node:?}");
    assert!(matches!(node.steps[1].outcome, Outcome::NotReached), "{node:?}");

    let mut options = Options::default();
    options.other_protocols = netpol_core::model::OtherProtocols::Allowed;
    let by_rule =
        explained(vec![admin(Action::Accept), isolated()], "10.0.0.2", Traffic::ICMP, options);
    assert!(matches!(by_rule.reason, Reason::Rule { tier: Tier::Admin, .. }), "{by_rule:?}");
    let by_option =
        explained(vec![admin(Action::Accept), isolated()], "10.0.0.3", Traffic::ICMP, options);
    assert_eq!(by_option.reason, Reason::OtherProtocol, "{by_option:?}");
}

/// C-PROTO-6, NP-PORT-13: what is a peer with port names to a NetworkPolicy is none to the other kinds.
#[test]
fn names_count_by_the_kind_of_policy() {
    let block = || {
        let block = netpol_core::model::Block::new("10.0.0.0/8".parse().expect("a block"), []);
        Peers::AnyOf(vec![Peer::Block(block)])
    };
    let egress = |tier, name, action, protocol| {
        let ports = Ports::AnyOf(vec![PortMatch::Named(protocol, "http".into())]);
        Policy {
            ingress: None,
            egress: Some(vec![rule(action, block(), ports)]),
            ..policy(tier, name, vec![])
        }
    };
    let mut objects = Objects {
        policies: vec![
            egress(Tier::Admin, "a", Action::Deny, None),
            egress(Tier::NetworkPolicy, "p", Action::Accept, Some(Protocol::Tcp)),
        ],
        ..Objects::default()
    };
    for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        let mut pod = Endpoint::new("x", name);
        pod.labels = Labels::default().with("app", name);
        pod.addresses.push(address.parse().expect("an address"));
        let http = ("http".into(), Protocol::Tcp, 80);
        let (name, protocol, number) = http;
        pod.ports.push(netpol_core::model::DeclaredPort { name, protocol, number });
        objects.endpoints.push(pod);
    }
    let ends = ["10.0.0.1", "10.0.0.2"].map(|it| it.parse().expect("an address"));
    let flow = Flow::new(ends[0], ends[1], Traffic::tcp(80));
    let explained = program(&objects, &Options::default()).explain(&flow).egress.expect("judged");
    assert!(matches!(explained.reason, Reason::Rule { tier: Tier::NetworkPolicy, .. }));
    let Outcome::Misses(misses) = &explained.steps[0].outcome else { panic!("{explained:?}") };
    assert_eq!(misses[0].missed, Missed::Port);
}

/// A node is nobody that policies judge, and so not one that is left alone for reaching itself, unless asked for.
#[test]
fn nodes_reach_themselves_unasked() {
    let addresses = vec!["192.168.0.1".parse().expect("an address")];
    let node = Node { name: "n".into(), labels: Labels::default(), addresses };
    let mut host = Endpoint::new("x", "host");
    (host.host_network, host.node) = (true, Some("n".into()));
    let objects = Objects { nodes: vec![node], endpoints: vec![host], ..Objects::default() };
    let address = "192.168.0.1".parse().expect("an address");
    let flow = Flow::new(address, address, Traffic::tcp(80));
    let mut options = Options::default();
    assert!(!program(&objects, &options).explain(&flow).is_self_traffic);
    options.host_network_subjects = netpol_core::model::HostNetworkSubjects::Policed;
    assert!(program(&objects, &options).explain(&flow).is_self_traffic);
}
