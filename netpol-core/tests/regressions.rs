//! What other engines got wrong: 25 cases, by number. What manifests can tell is a directory below `regressions`; the
//! rest are tests here, of this crate, and of the backends, where packets have to show it. [`CASES`] says which.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use netpol_core::manifest::{self, Concern, Loaded, ReadOptions, Strictness, Value};
use netpol_core::model::{
    Block, Endpoint, Flow, Labels, Namespace, NamespaceScope, Node, Objects, Options, Peer, Peers,
    PodSelector, Policy, PolicyKey, PolicyKind, PortMatch, PortRange, Ports, Protocol, Requirement,
    Rule, Selector, Subject, Tier, Traffic,
};
use netpol_core::{Cluster, Program, Scope, compile, reference};

/// The numbers, what goes wrong elsewhere, and where it is tried here: a directory, or a function of a file.
const CASES: [(usize, &str, &[&str]); 25] = [
    (1, "an except denies what another peer allows", &["01-except-is-no-deny"]),
    (2, "so it does across rules and policies", &["02-except-across-rules-and-policies"]),
    (3, "blocks overlap", &["03-overlapping-blocks"]),
    (4, "a whole family: local, link-local, multicast", &["04-whole-families"]),
    (5, "names that are others with more behind them", &["05-names-that-run-together"]),
    (6, "egress to name resolution alone", &["06-only-name-resolution-out"]),
    (7, "a direction is dropped from the types", &["changes.rs a_direction_may_be_dropped"]),
    (8, "absent, empty, and one empty rule", &["08-absent-and-empty"]),
    (9, "port names mean something else at every destination", &["09-port-names"]),
    (10, "a protocol without port", &["10-protocol-without-port"]),
    (
        11,
        "ranges of one port, or behind a name",
        &["11-end-port", "regressions.rs guesses_are_rejected"],
    ),
    (
        12,
        "an address of a finished pod is given to another",
        &["changes.rs a_reused_address_belongs_to_the_new_pod"],
    ),
    (
        13,
        "events in any order, referents gone before their referrers",
        &[
            "changes.rs after_any_events_the_program_is_that_of_the_objects_left",
            "recompile.rs referents_go_before_their_referrers",
        ],
    ),
    (14, "host-network pods as peers and subjects", &["14-host-network"]),
    (
        15,
        "probes from the own node",
        &["15-probes-from-the-node", "nft:regressions.rs probes_from_the_node"],
    ),
    (16, "a pod reaches itself by a service", &["16-pod-to-itself", "nft:regressions.rs hairpin"]),
    (
        17,
        "answers of connections, and connections that are cut",
        &[
            "nft:regressions.rs answers_pass",
            "nft:regressions.rs established_connections",
            "nft:connections.rs forbidden_connections_are_cut",
        ],
    ),
    (18, "the first packet is sent again", &["nft:regressions.rs repeated_packets"]),
    (
        19,
        "others flush or change our table",
        &[
            "nft:regressions.rs flushed_by_others",
            "nft:sync.rs interference_is_repaired",
            "nft:sync.rs others_commit_all_the_time",
            "iptables:sync.rs interference_is_repaired",
        ],
    ),
    (
        20,
        "killed at any instant, started with nothing",
        &[
            "nft:faults.rs killed_at_every_system_call",
            "nft:regressions.rs restart",
            "iptables:sync.rs killed_between_any_two_calls",
        ],
    ),
    (
        21,
        "many ports of a peer, blocks, identities",
        &[
            "regressions.rs many_ports_of_one_peer",
            "regressions.rs many_blocks_in_one_policy",
            "regressions.rs many_identities",
        ],
    ),
    (
        22,
        "ICMP: errors, and neighbour discovery",
        &[
            "22-other-protocols",
            "nft:regressions.rs errors_pass",
            "nft:render.rs neighbour_discovery_is_never_denied",
        ],
    ),
    (
        23,
        "policies for other nodes cost something",
        &["regressions.rs policies_for_other_nodes_are_not_in_the_program"],
    ),
    (
        24,
        "names longer than the kernel has room for",
        &["regressions.rs long_names_stay_apart", "nft:regressions.rs long_names"],
    ),
    (
        25,
        "selectors with an operator that is none",
        &["regressions.rs invalid_operators_fail_closed"],
    ),
];

/// Every number has its case, and every directory its number. Functions of crates that are not there are passed over.
#[test]
fn every_number_has_a_case() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (at, (number, wrong, places)) in (1..).zip(CASES) {
        assert_eq!(number, at, "{wrong}");
        assert!(!places.is_empty(), "{number}: {wrong}");
        for place in places {
            let Some((file, function)) = place.split_once(' ') else {
                assert!(place.starts_with(&format!("{number:02}-")), "{number}: {place}");
                assert!(
                    home.join("tests/regressions").join(place).is_dir(),
                    "no directory {place}"
                );
                continue;
            };
            let file = match file.split_once(':') {
                None => home.join("tests").join(file),
                Some((backend, file)) => {
                    let other = home.join(format!("../netpol-backend-{backend}"));
                    if !other.is_dir() {
                        continue;
                    }
                    other.join("tests").join(file)
                }
            };
            let text =
                fs::read_to_string(&file).unwrap_or_else(|_| panic!("no {}", file.display()));
            assert!(text.contains(&format!("fn {function}()")), "{number}: no {place}");
        }
    }
    let all: BTreeSet<&str> = CASES.iter().flat_map(|(.., places)| *places).copied().collect();
    for directory in directories() {
        let name = directory.file_name().and_then(|it| it.to_str()).expect("a name");
        assert!(all.contains(name), "{name} has no number");
    }
}

fn yaml(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn load(text: &str, strictness: Strictness) -> Loaded {
    manifest::load(&yaml(text), &ReadOptions { strictness, ..ReadOptions::default() })
}

fn program(objects: &Objects, scope: Scope) -> Program {
    compile(&Cluster::from_objects(Options::default(), objects.clone()), scope)
}

/// The directories, each with the numbers of its case first.
fn directories() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions");
    let entries = fs::read_dir(all).expect("the cases are there");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    found.retain(|path| path.is_dir());
    found.sort();
    found
}

/// The addresses that an end stands for.
fn addresses(objects: &Objects, end: &str) -> Vec<IpAddr> {
    let Some((namespace, name)) = end.split_once('/') else {
        return vec![end.parse().unwrap_or_else(|_| panic!("not an end: {end}"))];
    };
    let mut pods = objects.endpoints.iter();
    let pod = pods.find(|it| (&*it.namespace, &*it.name) == (namespace, name));
    let pod = pod.unwrap_or_else(|| panic!("no pod {end}"));
    if !pod.host_network {
        return pod.addresses.to_vec();
    }
    let node = objects.nodes.iter().find(|it| Some(&it.name) == pod.node.as_ref());
    node.expect("its node is listed").addresses.clone()
}

/// The flows of one line of `expect.tsv`, and whether they are allowed.
fn expected(objects: &Objects, line: &str) -> (Vec<Flow>, bool) {
    let fields: Vec<&str> = line.split('\t').collect();
    let [from, to, protocol, port, verdict] = fields[..] else { panic!("not a line: {line}") };
    let traffic = match Protocol::from_api(protocol) {
        Some(protocol) => Some(Traffic::Port(protocol, port.parse().expect("a port"))),
        None => {
            assert_eq!((protocol, port), ("ICMP", "-"), "{line}");
            None
        }
    };
    let by_name = from.contains('/') || to.contains('/');
    let (from, to) = (addresses(objects, from), addresses(objects, to));
    let pairs = from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b)));
    let pairs = pairs.filter(|(a, b)| !by_name || a.is_ipv4() == b.is_ipv4());
    let flows = pairs.map(|(a, b)| {
        let icmp = if a.is_ipv4() { Traffic::ICMP } else { Traffic::ICMPV6 };
        Flow::new(a, b, traffic.unwrap_or(icmp))
    });
    let flows: Vec<Flow> = flows.collect();
    assert!(!flows.is_empty(), "the ends share no family: {line}");
    assert!(["allow", "deny"].contains(&verdict), "{line}");
    (flows, verdict == "allow")
}

/// By the reference, by the program of the cluster, and by those of the nodes together.
#[test]
fn directories_have_the_verdicts_they_expect() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for case in directories() {
        let read = |file: &str| fs::read_to_string(case.join(file)).expect("readable");
        let text = format!("{}\n---\n{}", read("cluster.yaml"), read("policies.yaml"));
        let loaded = load(&text, Strictness::Strict);
        assert!(loaded.rejected.is_empty(), "{}: {:?}", case.display(), loaded.rejected);
        let objects = loaded.objects;
        let whole = program(&objects, Scope::Cluster);
        let nodes = objects.nodes.iter().map(|it| Scope::Node(it.name.clone()));
        let parts: Vec<Program> = nodes.map(|scope| program(&objects, scope)).collect();
        for line in read("expect.tsv").lines().skip(1) {
            let (flows, allowed) = expected(&objects, line);
            for flow in flows {
                let by_specification = reference::decide(&objects, &Options::default(), &flow);
                let got = [
                    by_specification.is_allowed(),
                    whole.decide(&flow).is_allowed(),
                    whole.explain(&flow).is_allowed(),
                    parts.iter().all(|part| part.decide(&flow).is_allowed()),
                ];
                if got != [allowed; 4] {
                    wrong.push(format!("{}: {line}: {flow}: {got:?}", case.display()));
                }
                checked += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 150, "{checked}");
}

fn pod(namespace: &str, name: &str, address: IpAddr, node: &str) -> Endpoint {
    let mut pod = Endpoint::new(namespace, name);
    pod.addresses.push(address);
    pod.node = Some(node.into());
    pod
}

fn all_pods_of(namespace: &str) -> PodSelector {
    PodSelector {
        namespaces: NamespaceScope::Named(namespace.into()),
        pods: Selector::everything(),
    }
}

/// A NetworkPolicy for all pods of `namespace`.
fn network_policy(namespace: &str, name: &str) -> Policy {
    Policy {
        key: PolicyKey {
            kind: PolicyKind::NetworkPolicy,
            namespace: namespace.into(),
            name: name.into(),
        },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(all_pods_of(namespace)),
        ingress: None,
        egress: None,
    }
}

fn accept(peers: Peers, ports: Ports) -> Rule {
    Rule { name: None, action: netpol_core::model::Action::Accept, peers, ports }
}

fn v4(number: u32) -> IpAddr {
    IpAddr::V4(number.into())
}

/// 21: 25 ports for one peer, of every one of which the neighbours stay closed.
#[test]
fn many_ports_of_one_peer() {
    let objects = |count: u16| {
        let mut policy = network_policy("x", "p");
        let port = |at: u16| PortMatch::Range(Protocol::Tcp, PortRange::single(1000 + 2 * at));
        let ports = Ports::AnyOf((0..count).map(port).collect());
        let from = Peers::AnyOf(vec![Peer::Pods(all_pods_of("x"))]);
        policy.ingress = Some(vec![accept(from, ports)]);
        let endpoints = vec![pod("x", "a", v4(1), "n"), pod("x", "b", v4(2), "n")];
        Objects { endpoints, policies: vec![policy], ..Objects::default() }
    };
    for count in [25, 500] {
        let program = program(&objects(count), Scope::Cluster);
        for port in 990..1000 + 2 * count + 10 {
            let expected = port % 2 == 0 && (1000..1000 + 2 * count).contains(&port);
            let flow = Flow::new(v4(2), v4(1), Traffic::tcp(port));
            assert_eq!(program.decide(&flow).is_allowed(), expected, "{port} of {count}");
        }
    }
}

/// 21: 65,537 blocks in one policy, one more than a kernel's set or map of 2^16 would hold.
#[test]
fn many_blocks_in_one_policy() {
    const BLOCKS: u32 = 65_537;
    let block = |at: u32| {
        // Every second /30, so that no two are adjacent.
        let cidr = ipnet::Ipv4Net::new((0x2000_0000 + 8 * at).into(), 30).expect("a length");
        Peer::Block(Block::new(cidr.into(), []))
    };
    let mut policy = network_policy("x", "p");
    policy.egress = Some(vec![accept(Peers::AnyOf((0..BLOCKS).map(block).collect()), Ports::All)]);
    let endpoints = vec![pod("x", "a", v4(1), "n")];
    let objects = Objects { endpoints, policies: vec![policy], ..Objects::default() };
    let program = program(&objects, Scope::Cluster);
    for at in [0, 1, 32_767, 32_768, 65_535, 65_536] {
        let first = 0x2000_0000 + 8 * at;
        for (offset, expected) in [(0, true), (3, true), (4, false), (7, false)] {
            let flow = Flow::new(v4(1), v4(first + offset), Traffic::tcp(80));
            assert_eq!(program.decide(&flow).is_allowed(), expected, "{flow}");
        }
    }
    let behind = 0x2000_0000 + 8 * BLOCKS;
    for outside in [0x2000_0000 - 1, behind] {
        let flow = Flow::new(v4(1), v4(outside), Traffic::tcp(80));
        assert!(!program.decide(&flow).is_allowed(), "{flow}");
    }
}

/// 21: 16,385 identities, one more than a map of 2^14 would hold: pods that policies tell apart from each other.
#[test]
fn many_identities() {
    const PODS: u32 = 16_385;
    let label = |at: u32| format!("p{at}");
    let mut policy = network_policy("x", "p");
    // The pod of number n may be reached on port n + 1.
    let mut rules = Vec::new();
    let mut endpoints = vec![pod("x", "server", v4(1), "n")];
    for at in 0..PODS {
        let pods = Selector::new([Requirement::is_in("app", [label(at)])]);
        let namespaces = NamespaceScope::Named("x".into());
        let from = Peers::AnyOf(vec![Peer::Pods(PodSelector { namespaces, pods })]);
        let port = PortRange::single(u16::try_from(at + 1).expect("a port"));
        rules.push(accept(from, Ports::AnyOf(vec![PortMatch::Range(Protocol::Tcp, port)])));
        let mut client = pod("y", &label(at), v4(0x0a00_0000 + at), "n");
        client.namespace = "x".into();
        client.labels = Labels::default().with("app", &label(at));
        endpoints.push(client);
    }
    policy.ingress = Some(rules);
    policy.subject = Subject::Pods(PodSelector {
        namespaces: NamespaceScope::Named("x".into()),
        pods: Selector::new([Requirement::does_not_exist("app")]),
    });
    let objects = Objects { endpoints, policies: vec![policy], ..Objects::default() };
    let program = program(&objects, Scope::Cluster);
    assert!(program.identity_count() > PODS as usize, "{}", program.identity_count());
    for at in [0, 1, 8191, 8192, PODS - 2, PODS - 1] {
        for port in [at, at + 1, at + 2] {
            let traffic = Traffic::tcp(u16::try_from(port).expect("a port"));
            let flow = Flow::new(v4(0x0a00_0000 + at), v4(1), traffic);
            assert_eq!(program.decide(&flow).is_allowed(), port == at + 1, "{flow}");
        }
    }
}

/// 23: a policy for pods of other nodes costs a node nothing: its program is the same with and without it.
#[test]
fn policies_for_other_nodes_are_not_in_the_program() {
    let mut objects = Objects {
        namespaces: vec![
            Namespace::new("x", Labels::default()),
            Namespace::new("y", Labels::default()),
        ],
        nodes: ["one", "two"].map(node).into(),
        endpoints: vec![
            pod("x", "here", v4(1), "one"),
            pod("y", "there", v4(2), "two"),
            pod("y", "too", v4(3), "two"),
        ],
        ..Objects::default()
    };
    let mut local = network_policy("x", "local");
    local.ingress =
        Some(vec![accept(Peers::AnyOf(vec![Peer::Pods(all_pods_of("x"))]), Ports::All)]);
    objects.policies.push(local);
    let here = || Scope::Node("one".into());
    let before = program(&objects, here());
    let there_before = program(&objects, Scope::Node("two".into()));

    for at in 0..50 {
        let mut remote = network_policy("y", &format!("remote-{at}"));
        let block = Block::new(format!("198.51.{at}.0/24").parse().expect("a block"), []);
        let peers = vec![Peer::Block(block), Peer::Pods(all_pods_of("x"))];
        let port = PortMatch::Range(Protocol::Tcp, PortRange::single(1000 + at));
        remote.egress = Some(vec![accept(Peers::AnyOf(peers), Ports::AnyOf(vec![port]))]);
        remote.ingress = Some(Vec::new());
        objects.policies.push(remote);
    }
    assert!(before == program(&objects, here()), "the program of the other node has changed");
    assert!(there_before != program(&objects, Scope::Node("two".into())));
}

fn node(name: &str) -> Node {
    Node { name: name.into(), labels: Labels::default(), addresses: Vec::new() }
}

/// 24: names as long as the API allows, alike but for their end.
#[test]
fn long_names_stay_apart() {
    let namespace = "n".repeat(63);
    let name = |last: char| format!("{}{last}", "p".repeat(252));
    let mut objects = Objects {
        endpoints: vec![
            pod(&namespace, &name('a'), v4(1), "n"),
            pod(&namespace, &name('b'), v4(2), "n"),
        ],
        ..Objects::default()
    };
    for (last, port) in [('a', 80), ('b', 81)] {
        let mut policy = network_policy(&namespace, &name(last));
        let port = PortMatch::Range(Protocol::Tcp, PortRange::single(port));
        policy.ingress = Some(vec![accept(Peers::Everyone, Ports::AnyOf(vec![port]))]);
        objects.policies.push(policy);
    }
    let program = program(&objects, Scope::Cluster);
    for (port, last) in [(80, Some('a')), (81, Some('b')), (82, None)] {
        let flow = Flow::new(v4(2), v4(1), Traffic::tcp(port));
        let explanation = program.explain(&flow);
        let reason = explanation.ingress.as_ref().expect("judged").reason.to_string();
        assert_eq!(explanation.is_allowed(), last.is_some());
        let named: BTreeSet<char> =
            ['a', 'b'].into_iter().filter(|it| reason.contains(&name(*it))).collect();
        let expected = last.map_or(BTreeSet::from(['a', 'b']), |last| BTreeSet::from([last]));
        assert_eq!(named, expected, "{reason}");
    }
}

/// 11, NP-V-21, NP-PEER-8: what could only be read by guessing is rejected, and not narrowed down without a word.
#[test]
fn guesses_are_rejected() {
    let policy = |rule: &str| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, \
             metadata: {{name: p, namespace: x}}, spec: {{podSelector: {{}}, ingress: [{rule}]}}}}"
        )
    };
    for (rule, wanted) in [
        ("{ports: [{port: web, endPort: 90}]}", "spec.ingress[0].ports[0].endPort Invalid"),
        ("{ports: [{endPort: 90}]}", "spec.ingress[0].ports[0].endPort Invalid"),
        (
            "{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}",
            "spec.ingress[0].from[0] Forbidden",
        ),
    ] {
        let loaded = load(&policy(rule), Strictness::Strict);
        let errors = loaded.rejected.iter().flat_map(|it| &it.errors);
        let errors: Vec<String> = errors.map(|it| format!("{} {}", it.path, it.reason)).collect();
        assert_eq!(errors, [wanted], "{rule}");
    }
}

/// 25, C-SEL-1, NP-V-5: an operator that does not exist. A new object is rejected; a stored one is reported and holds
/// for every pod it may mean, as far as it denies.
#[test]
fn invalid_operators_fail_closed() {
    let pods = "
apiVersion: v1
kind: Pod
metadata: {namespace: x, name: a, labels: {app: a}}
spec: {containers: []}
status: {podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: z, name: b, labels: {app: b}}
spec: {containers: []}
status: {podIPs: [{ip: 10.0.0.2}]}
---
";
    let network = |selector: &str| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, \
             metadata: {{name: p, namespace: x}}, \
             spec: {{podSelector: {selector}, ingress: [{{}}]}}}}"
        )
    };
    let wide = |action: &str| {
        format!(
            "{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, \
             metadata: {{name: p}}, spec: {{tier: Admin, priority: 0, \
             subject: {{pods: {{podSelector: {{matchExpressions: [{{key: app, operator: Is}}]}}}}}}, \
             ingress: [{{action: {action}, from: [{{namespaces: {{}}}}]}}]}}}}"
        )
    };
    let unknown = "{matchExpressions: [{key: app, operator: Is, values: [a]}]}";
    let flow = |from: u32, to: u32| {
        Flow::new(v4(0x0a00_0000 + from), v4(0x0a00_0000 + to), Traffic::tcp(80))
    };
    let rejected = load(&network(unknown), Strictness::Strict).rejected;
    assert_eq!(rejected.len(), 1, "{rejected:?}");

    let mut deny_all = network_policy("x", "deny");
    deny_all.ingress = Some(Vec::new());
    for (policy, with_deny, to_a, to_b) in [
        // It isolates whom it may mean, and its allowance cannot be relied on.
        (network(unknown), false, false, true),
        (network(unknown), true, false, true),
        (wide("Deny"), false, false, false),
        (wide("Accept"), true, false, true),
        (wide("Accept"), false, true, true),
    ] {
        let mut loaded = load(&format!("{pods}{policy}"), Strictness::Lenient);
        assert!(loaded.rejected.is_empty(), "{:?}", loaded.rejected);
        assert!(loaded.warnings.iter().any(|it| it.concern == Concern::FailClosed), "{policy}");
        loaded.objects.policies.extend(with_deny.then(|| deny_all.clone()));
        let program = program(&loaded.objects, Scope::Cluster);
        let got = [flow(2, 1), flow(1, 2)].map(|flow| program.decide(&flow).is_allowed());
        assert_eq!(got, [to_a, to_b], "{policy}");
    }
}
