//! What rendered rules look like, and what they let through beside new connections.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::IpAddr;

use netpol_backend_nft::ruleset::{
    Family, Hook, Packet, Route, Standing, Statement, Transport, Undecided,
};
use netpol_backend_nft::{
    Interface, Log, LookUp, Mismatch, Name, Options, Price, explain_cost, render, verify,
};
use netpol_core::backend::Closed;
use netpol_core::model::{
    Action, Block, Endpoint, Labels, NamespaceScope, Node, Objects, Options as Readings, Peer,
    Peers, PodSelector, Policy, PolicyKey, PolicyKind, PortMatch, PortRange, Ports, Protocol,
    Requirement, Rule, Selector, Subject, Tier, name,
};
use netpol_core::{Cluster, Program, Scope, compile};

fn endpoint(app: &str, addresses: [&str; 2]) -> Endpoint {
    let mut endpoint = Endpoint::new("shop", app);
    endpoint.labels = Labels::default().with("app", app);
    endpoint.node = Some(name("here"));
    endpoint.addresses = addresses.map(address).into_iter().collect();
    endpoint
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn app(app: &str) -> PodSelector {
    let pods = Selector::new([Requirement::is_in("app", [app])]);
    PodSelector { namespaces: NamespaceScope::Named(name("shop")), pods }
}

fn rule(peers: Vec<Peer>, ports: &[(u16, u16)]) -> Rule {
    let ports = ports.iter().map(|(first, last)| {
        PortMatch::Range(Protocol::Tcp, PortRange::new(*first, *last).expect("not empty"))
    });
    Rule {
        name: None,
        action: Action::Accept,
        peers: Peers::AnyOf(peers),
        ports: Ports::AnyOf(ports.collect()),
    }
}

fn policy(text: &str, ingress: Option<Vec<Rule>>, egress: Option<Vec<Rule>>) -> Policy {
    let key =
        PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: name("shop"), name: name(text) };
    let (tier, subject) = (Tier::NetworkPolicy, Subject::Pods(app(text)));
    Policy { key, tier, priority: 0, subject, ingress, egress }
}

/// A database that the api may use, a network may watch, and that may send nothing; an api that
/// may send to the database.
fn shop() -> Program {
    let outside = Block::new(
        "192.0.2.0/24".parse().expect("a block"),
        ["192.0.2.128/25".parse().expect("a block")],
    );
    let objects = Objects {
        endpoints: vec![
            endpoint("db", ["10.0.0.1", "fd00::1"]),
            endpoint("api", ["10.0.0.2", "fd00::2"]),
            endpoint("web", ["10.0.0.3", "fd00::3"]),
        ],
        nodes: vec![Node {
            name: name("here"),
            labels: Labels::default(),
            addresses: vec![address("10.0.0.254")],
        }],
        policies: vec![
            policy(
                "db",
                Some(vec![
                    rule(vec![Peer::Pods(app("api"))], &[(5432, 5432)]),
                    rule(vec![Peer::Block(outside)], &[(9000, 9002), (30_000, 32_767)]),
                ]),
                Some(Vec::new()),
            ),
            policy("api", None, Some(vec![rule(vec![Peer::Pods(app("db"))], &[(5432, 5432)])])),
        ],
        ..Objects::default()
    };
    let cluster = Cluster::from_objects(Readings::default(), objects);
    compile(&cluster, Scope::Node(name("here")))
}

/// The names are hashes over what a class asks, so they are replaced by their order here.
fn anonymous(text: &str) -> String {
    let mut seen: Vec<String> = Vec::new();
    let mut result = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let word = rest.get(..21).filter(|word| {
            word.starts_with('-') && word[1..].chars().all(|c| c.is_ascii_hexdigit())
        });
        if let Some(word) = word {
            let at = seen.iter().position(|known| known == word).unwrap_or_else(|| {
                seen.push(word.to_owned());
                seen.len() - 1
            });
            result.push_str(&format!("-{at}"));
            rest = &rest[word.len()..];
        } else {
            result.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    result
}

#[test]
fn an_operator_can_read_it() {
    let ruleset = render(&shop(), &Options::default());
    let text = anonymous(&ruleset.to_string());
    let v4 = text.split("\ntable ip6").next().expect("the first table");
    let expected = include_str!("shop.nft");
    assert!(v4 == expected, "{v4}");
}

fn syn(source: &str, destination: &str, port: u16) -> Packet {
    Packet {
        source: address(source),
        destination: address(destination),
        transport: Transport::Port(6, port),
        standing: Standing::New,
    }
}

#[test]
fn both_ends_are_asked() {
    let ruleset = render(&shop(), &Options::default());
    let passes = |packet| ruleset.passes(Hook::Forward, &packet).expect("nothing foreign");
    for (source, destination, port, expected) in [
        ("10.0.0.2", "10.0.0.1", 5432, true),
        ("10.0.0.3", "10.0.0.1", 5432, false),
        ("10.0.0.2", "10.0.0.3", 5432, false),
        ("10.0.0.1", "10.0.0.3", 80, false),
        ("10.0.0.1", "10.0.0.1", 22, true),
        ("192.0.2.1", "10.0.0.1", 32_767, true),
        ("192.0.2.1", "10.0.0.1", 32_768, false),
        ("192.0.2.128", "10.0.0.1", 30_000, false),
        ("10.0.0.254", "10.0.0.1", 22, true),
        ("fd00::2", "fd00::1", 5432, true),
        ("fd00::3", "fd00::1", 5432, false),
    ] {
        assert_eq!(passes(syn(source, destination, port)), expected, "{source} {destination}");
    }
    // What is under way goes on, whatever the rules say now.
    let known = Packet { standing: Standing::Established, ..syn("10.0.0.3", "10.0.0.1", 22) };
    assert!(passes(known));
}

/// M7: who began the connection that a packet belongs to cannot be seen from it.
#[test]
fn what_may_be_an_answer_of_a_denied_connection_is_denied() {
    let ruleset = render(&shop(), &Options::default());
    let (db, api, web) = ("10.0.0.1", "10.0.0.2", "10.0.0.3");
    for (source, destination, port, expected) in [
        // The api is isolated for what it sends, the database for both.
        (api, db, 5432, false),
        (api, db, 5433, false),
        (db, api, 40_000, false),
        (web, api, 80, false),
        (api, web, 80, false),
        (web, db, 5432, false),
        ("192.0.2.1", db, 9000, false),
        (web, "192.0.2.1", 80, true),
        (db, db, 80, true),
        ("fd00::2", "fd00::1", 5432, false),
        ("fd00::3", "fd00::2", 80, false),
    ] {
        for protocol in [6, 132, 17] {
            let transport = Transport::Port(protocol, port);
            let first = Packet { transport, ..syn(source, destination, port) };
            let stray = Packet { standing: Standing::Stray, ..first };
            let [first, stray] =
                [first, stray].map(|it| ruleset.passes(Hook::Forward, &it).expect("ours"));
            match protocol {
                6 => assert_eq!(stray, expected, "{source} {destination} {port}"),
                132 => assert!(first || !stray, "{source} {destination} {port}"),
                _ => assert_eq!(stray, first, "datagrams all look the same"),
            }
        }
    }
}

#[test]
fn the_host_is_policed_on_its_own_hooks() {
    let ruleset = render(&shop(), &Options::default());
    let passes = |hook, packet| ruleset.passes(hook, &packet).expect("nothing foreign");
    // NP-NODE-1: from the own node everything, to it what the rules allow.
    assert!(passes(Hook::Output, syn("10.0.0.254", "10.0.0.1", 22)));
    assert!(!passes(Hook::Input, syn("10.0.0.2", "10.0.0.254", 5432)));
    assert!(passes(Hook::Input, syn("10.0.0.3", "10.0.0.254", 5432)));
}

/// NP-PROTO-1, on every hook and in both directions.
#[test]
fn neighbour_discovery_is_never_denied() {
    let ruleset = render(&shop(), &Options::default());
    for hook in Hook::ALL {
        for kind in 0..=255 {
            let [db, api] = ["fd00::1", "fd00::2"].map(address);
            let transport = Transport::Icmp(58, kind);
            let from = Packet { source: db, destination: api, transport, standing: Standing::New };
            let to = Packet { source: api, destination: db, ..from };
            let discovery = matches!(kind, 130..=136 | 143);
            let judged = |packet| !ruleset.passes(hook, &packet).expect("nothing foreign");
            assert_eq!(judged(from) || judged(to), !discovery, "{hook:?} type {kind}");
        }
    }
}

#[test]
fn options_name_tables_and_report_denials() {
    let table = Name::new("mine").expect("a name");
    let log = Some(Log { group: 7, per_second: None, accepted: false });
    let ruleset = render(&shop(), &Options { table: table.clone(), log, ..Options::default() });
    assert_eq!(ruleset.name, table);
    let text = anonymous_words(&ruleset.to_string());
    assert!(text.starts_with("table ip mine {"));
    // The shared end of each direction and family, and those of the profiles: the database's two, and
    // the api's one.
    for (direction, profiles) in [("egress", 4), ("ingress", 2)] {
        let rule = format!("counter log prefix \"mine: {direction} denied \" group 7 drop");
        assert_eq!(text.matches(&rule).count(), 2, "{direction}");
        let rule = format!("counter log prefix \"mine: {direction} denied KEY \" group 7 drop");
        assert_eq!(text.matches(&rule).count(), profiles, "{direction}");
    }
    let log = Some(Log { group: 7, per_second: Some(10), accepted: true });
    let ruleset = render(&shop(), &Options { table, log, ..Options::default() });
    let text = anonymous_words(&ruleset.to_string());
    for (direction, end) in [("egress", "return"), ("ingress", "accept")] {
        let limit = "limit rate 10/second burst 5 packets";
        let log =
            |outcome| format!("log prefix \"mine: {direction} {outcome} KEY \" group 7\n\t\t");
        assert!(text.contains(&format!("{limit} {}counter drop", log("denied"))), "{direction}");
        assert!(text.contains(&format!("{limit} {}{end}", log("allowed"))), "{direction}");
    }
}

/// The keys of profiles, which are words of twenty digits, by one word.
fn anonymous_words(text: &str) -> String {
    let is_key = |word: &str| word.len() == 20 && word.chars().all(|c| c.is_ascii_hexdigit());
    text.split(' ')
        .map(|word| if is_key(word) { "KEY" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Names are made from what is in the objects, so the same policies give the same names anywhere.
#[test]
fn rendering_is_deterministic() {
    assert_eq!(render(&shop(), &Options::default()), render(&shop(), &Options::default()));
}

#[test]
fn a_changed_table_is_not_vouched_for() {
    let mut ruleset = render(&shop(), &Options::default());
    let table = ruleset.tables.get_mut(&Family::V4).expect("there");
    let forward = table
        .chains
        .values_mut()
        .find(|chain| chain.base.is_some_and(|base| base.hook == Hook::Forward));
    let foreign = Statement::Foreign("notrack".to_owned());
    forward.expect("there").rules.insert(0, [foreign].into());
    let answer = ruleset.passes(Hook::Forward, &syn("10.0.0.3", "10.0.0.2", 80));
    assert_eq!(answer, Err(Undecided::Foreign("notrack".to_owned())));
}

/// What an audit would deny is reported by both ends, and goes on.
#[test]
fn an_audit_denies_nothing_and_reports_all() {
    let log = Some(Log { group: 7, per_second: None, accepted: false });
    let options = Options { log, ..Options::default() };
    let enforced = render(&shop(), &options);
    let audited = render(&shop(), &Options { audit: true, ..options });
    for (hook, packet) in [
        (Hook::Forward, syn("10.0.0.3", "10.0.0.1", 5432)),
        (Hook::Forward, syn("10.0.0.1", "10.0.0.3", 80)),
        (Hook::Forward, syn("192.0.2.1", "10.0.0.1", 32_768)),
        (Hook::Forward, syn("fd00::2", "fd00::1", 22)),
        (Hook::Input, syn("10.0.0.2", "10.0.0.254", 5432)),
    ] {
        assert_eq!(enforced.passes(hook, &packet), Ok(false), "{packet:?}");
        assert_eq!(audited.passes(hook, &packet), Ok(true), "{packet:?}");
    }
    let [enforced, audited] = [enforced, audited].map(|ruleset| ruleset.to_string());
    let lifted = enforced.replace(" group 7 drop", " group 7 return");
    let lifted = lifted.replace("\tcounter drop", "\tcounter return");
    let lifted = lifted.replace("ress denied ", "ress audited ");
    assert_eq!(audited, lifted, "nothing else differs");
}

/// Every set is told of, and what stands for one, with what it costs and what else would.
#[test]
fn costs_are_explained() {
    let costs = explain_cost(&shop(), &Options::default());
    let kinds = |prefix: &str| {
        let costs = costs.costs.iter().filter(|it| it.name.as_str().starts_with(prefix));
        costs.map(|cost| cost.chosen.look_up).collect::<Vec<_>>()
    };
    assert!(kinds("allow").iter().all(|kind| *kind == LookUp::Hash));
    assert!(kinds("peers").contains(&LookUp::Rules), "a block or two");
    for cost in &costs.costs {
        assert!(!cost.rejected.is_empty(), "{cost:?}");
        let cheaper = |other: &Price| other.nanoseconds < cost.chosen.nanoseconds;
        let is_static = cost.chosen.look_up != LookUp::Hash;
        assert!(!is_static || !cost.rejected.iter().any(cheaper), "{cost:?}");
    }
    let text = costs.to_string();
    assert!(text.contains("no rule changes") && text.contains("; not by "), "{text}");
    let rendered = render(&shop(), &Options::default());
    for (family, table) in &rendered.tables {
        for name in table.sets.keys() {
            assert!(costs.costs.iter().any(|it| it.family == *family && it.name == *name));
        }
    }
}

/// What admits so many blocks, each of a length, and so many ports.
fn with_blocks(count: u8, length: impl Fn(u8) -> u8) -> Program {
    let blocks = (0..count).flat_map(|number| {
        let (length, net) = (length(number), 2 * number);
        let nets = [format!("192.{net}.0.0/{length}"), format!("2001:db8:{net}::/{}", length + 32)];
        nets.map(|net| Peer::Block(Block::new(net.parse().expect("a block"), [])))
    });
    let ports: Vec<_> =
        (0..u16::from(count)).map(|number| (80 + 2 * number, 80 + 2 * number)).collect();
    let objects = Objects {
        endpoints: vec![endpoint("db", ["10.0.0.1", "fd00::1"])],
        policies: vec![policy("db", Some(vec![rule(blocks.collect(), &ports)]), None)],
        ..Objects::default()
    };
    compile(&Cluster::from_objects(Readings::default(), objects), Scope::Node(name("here")))
}

/// A few ports or blocks have a rule each; many are in a set.
#[test]
fn the_cheapest_rendering_is_chosen() {
    for count in 1..=40_u8 {
        let program = with_blocks(count, |_| 24);
        let ruleset = render(&program, &Options::default());
        assert_eq!(verify(&ruleset, &program, &Options::default()), [], "{count}");
        for (family, most) in [(Family::V4, 2), (Family::V6, 1)] {
            let table = &ruleset.tables[&family];
            let has = |prefix: &str| table.sets.keys().any(|it| it.as_str().starts_with(prefix));
            assert_eq!(has("blocks-"), count > most, "{count}");
            assert_eq!(has("tcp"), count > 2, "{count}");
            assert!(table.sets.values().all(|set| !set.elements.is_interval()), "{count}");
        }
    }
}

/// The blocks of each length are in a hash set, but for a few of them, which have rules; blocks of very
/// many lengths are in one interval set.
#[test]
fn blocks_are_found_by_their_lengths() {
    for lengths in 1..=12_u8 {
        let program =
            with_blocks(120, |number| if number == 0 { 16 } else { 17 + number % lengths });
        let ruleset = render(&program, &Options::default());
        assert_eq!(verify(&ruleset, &program, &Options::default()), [], "{lengths}");
        for (family, most) in [(Family::V4, 5), (Family::V6, 3)] {
            let table = &ruleset.tables[&family];
            let sets = table.sets.keys().filter(|it| it.as_str().starts_with("blocks"));
            let intervals = table.sets.values().filter(|set| set.elements.is_interval()).count();
            let expected = if lengths > most { (1, 1) } else { (usize::from(lengths), 0) };
            assert_eq!((sets.count(), intervals), expected, "{family:?}, {lengths}");
        }
    }
}

/// By whatever address an endpoint sends: what comes in by its interface is its own, or dropped.
#[test]
fn endpoints_are_known_by_their_interfaces() {
    let interface = |name| Interface::new(name).expect("an interface");
    let [db, api] = ["tap-db", "tap-api"].map(interface);
    let interfaces = [("10.0.0.1", &db), ("fd00::1", &db), ("10.0.0.2", &api)];
    let interfaces = interfaces.map(|(at, interface)| (address(at), interface.clone()));
    let options = Options { interfaces: interfaces.into(), ..Options::default() };
    let ruleset = render(&shop(), &options);
    for (from, to, source, destination, expected) in [
        (Some(&api), Some(&db), "10.0.0.2", "10.0.0.1", true),
        (None, Some(&db), "10.0.0.3", "10.0.0.1", false),
        (Some(&db), None, "10.0.0.1", "10.0.0.3", false),
        (Some(&api), None, "10.0.0.3", "192.0.2.7", false),
        (Some(&api), None, "fd00::2", "2001:db8::1", false),
        (Some(&db), None, "0.0.0.0", "255.255.255.255", true),
        (Some(&db), None, "fe80::1", "ff02::1:2", true),
        (None, Some(&db), "10.0.0.3", "10.0.0.99", false),
        (None, None, "10.0.0.3", "192.0.2.7", true),
    ] {
        let packet = syn(source, destination, 5432);
        let passes = ruleset.passes_by(Hook::Forward, &packet, Route { from, to });
        assert_eq!(passes, Ok(expected), "{source} {destination}");
    }
    assert_eq!(verify(&ruleset, &shop(), &options), []);
    let mut broken = ruleset;
    let table = broken.tables.get_mut(&Family::V4).expect("there");
    let entrance = table.chains.iter_mut().find(|(name, _)| name.as_str() == "from-tap-db");
    entrance.expect("there").1.rules.pop();
    let found = verify(&broken, &shop(), &options);
    let is_open = |it: &Mismatch| matches!(it, Mismatch::Verdict { allowed: false, .. });
    assert!(found.iter().any(is_open), "{found:?}");
}

/// A new pod gets no access before it is known, whatever the size of the range.
#[test]
fn unknown_addresses_are_denied() {
    let ranges = ["10.0.0.0/24", "fd00::/64"];
    let ranges = ranges.map(|range| range.parse().expect("a range"));
    let except = ["10.0.0.78", "fd00::78"].map(|it| it.parse().expect("an address"));
    let deny_unknown = Closed { ranges: ranges.into(), except: except.into() };
    let options = Options { deny_unknown, ..Options::default() };
    let ruleset = render(&shop(), &options);
    let passes = |hook, source, destination| {
        ruleset.passes(hook, &syn(source, destination, 5432)).expect("nothing foreign")
    };
    for (hook, source, destination, expected) in [
        (Hook::Forward, "10.0.0.2", "10.0.0.1", true),
        (Hook::Forward, "10.0.0.3", "192.0.2.7", true),
        (Hook::Forward, "10.0.0.77", "192.0.2.7", false),
        (Hook::Forward, "192.0.2.7", "10.0.0.77", false),
        (Hook::Forward, "10.0.0.77", "10.0.0.77", false),
        (Hook::Forward, "10.0.0.78", "192.0.2.7", true),
        (Hook::Forward, "192.0.2.7", "10.0.0.78", true),
        (Hook::Forward, "10.0.0.78", "10.0.0.77", false),
        (Hook::Forward, "fd00::78", "fd00:0:0:1::1", true),
        (Hook::Forward, "fd00::3", "fd00::77", false),
        (Hook::Forward, "fd00::77", "fd00:0:0:1::1", false),
        (Hook::Forward, "fd00::3", "fd00:0:0:1::1", true),
        (Hook::Input, "10.0.0.77", "10.0.0.254", false),
        (Hook::Output, "10.0.0.254", "10.0.0.77", false),
        (Hook::Output, "10.0.0.254", "10.0.0.3", true),
        (Hook::Input, "10.0.0.3", "10.0.0.254", true),
    ] {
        assert_eq!(passes(hook, source, destination), expected, "{hook}: {source} {destination}");
    }
    assert_eq!(verify(&ruleset, &shop(), &options), []);
    assert!(!verify(&ruleset, &shop(), &Options::default()).is_empty());
    let open = render(&shop(), &Options::default());
    assert!(!verify(&open, &shop(), &options).is_empty());
}
