//! Rulesets against the kernel, each test in a network namespace of its own.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use netpol_backend_nft::ruleset::{
    AddressVerdict, Base, Chain, Elements, Family, Hook, Rule, Ruleset, Set, Side, Statement,
    Table, Verdict,
};
use netpol_backend_nft::{Comment, Error, Interface, Name, Object};
use support::{in_namespace, name, nft, nft_load, open};

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn set(elements: Elements) -> Set {
    let size = (!elements.is_interval()).then_some(48);
    Set { comment: None, size, elements }
}

fn chain(rules: impl IntoIterator<Item = Rule>) -> Chain {
    Chain { rules: rules.into_iter().collect(), ..Chain::default() }
}

/// A table with every kind of object that the model knows.
fn table(family: Family) -> Table {
    let pick = |v4: &str, v6: &str| {
        address(match family {
            Family::V4 => v4,
            Family::V6 => v6,
        })
    };
    let [a, b, c] =
        [pick("10.0.0.1", "fd00::1"), pick("10.0.0.2", "fd00::2"), pick("10.0.0.3", "fd00::3")];
    let last = pick("255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    let goto = |chain: &str| Verdict::Goto(name(chain));
    let sets = BTreeMap::from([
        (
            name("peers"),
            Set { comment: Some(Comment::new("who may")), ..set(Elements::Addresses(vec![a, b])) },
        ),
        (name("self"), set(Elements::AddressPairs(vec![(a, a), (a, b)]))),
        (
            name("blocks"),
            set(Elements::AddressRanges(vec![
                (pick("0.0.0.0", "::"), pick("0.255.255.255", "::ffff")),
                (b, b),
                (pick("240.0.0.0", "fe00::"), last),
            ])),
        ),
        (
            name("ingress"),
            set(Elements::AddressVerdicts(vec![
                AddressVerdict {
                    address: a,
                    comment: Some(Comment::new("shop/web-0")),
                    verdict: goto("in-a"),
                },
                AddressVerdict { address: b, comment: None, verdict: Verdict::Drop },
                AddressVerdict { address: c, comment: None, verdict: Verdict::Jump(name("class")) },
            ])),
        ),
        (
            name("from"),
            set(Elements::InterfaceVerdicts(vec![
                (Interface::new("eth0").expect("one"), goto("class")),
                (Interface::new("tap-17.4abcdefg").expect("one"), Verdict::Drop),
            ])),
        ),
        (
            name("own"),
            set(Elements::PairVerdicts(vec![((a, b), Verdict::Drop), ((b, b), goto("nd"))])),
        ),
        (
            name("ports"),
            set(Elements::PortVerdicts(vec![(0, goto("class")), (65535, Verdict::Accept)])),
        ),
        (
            name("port-ranges"),
            set(Elements::PortRangeVerdicts(vec![
                ((0, 99), goto("class")),
                ((100, 100), Verdict::Return),
                ((101, 200), goto("class")),
                ((60_000, 65_535), Verdict::Accept),
            ])),
        ),
    ]);
    let base = |hook| Some(Base { hook, priority: 0 });
    let from = Side::Source;
    let chains = BTreeMap::from([
        (
            name("forward"),
            Chain {
                base: base(Hook::Forward),
                comment: Some(Comment::new("routed")),
                rules: vec![
                    [Statement::Established, Statement::Verdict(Verdict::Accept)].into(),
                    [
                        Statement::Protocol(6),
                        Statement::TcpUnderWay,
                        Statement::Verdict(Verdict::Jump(name("nd"))),
                    ]
                    .into(),
                    [
                        Statement::Protocol(132),
                        Statement::SctpUnderWay,
                        Statement::Verdict(Verdict::Jump(name("nd"))),
                    ]
                    .into(),
                    [Statement::Untracked, Statement::Verdict(Verdict::Accept)].into(),
                    [Statement::Protocol(58), Statement::Verdict(Verdict::Jump(name("nd")))].into(),
                    [Statement::InterfaceMap(Side::Source, name("from"))].into(),
                    [Statement::InterfaceMap(Side::Destination, name("from"))].into(),
                    [Statement::AddressMap(Side::Destination, name("ingress"))].into(),
                ],
            },
        ),
        (name("input"), Chain { base: base(Hook::Input), ..Chain::default() }),
        (name("output"), Chain { base: base(Hook::Output), ..Chain::default() }),
        (
            name("nd"),
            chain([
                [
                    Statement::Protocol(58),
                    Statement::IcmpType(130, 136),
                    Statement::Verdict(Verdict::Accept),
                ]
                .into(),
                [
                    Statement::Protocol(58),
                    Statement::IcmpType(143, 143),
                    Statement::Verdict(Verdict::Accept),
                ]
                .into(),
            ]),
        ),
        (
            name("in-a"),
            chain([
                [Statement::Protocol(6), Statement::PortMap(name("ports"))].into(),
                [Statement::Protocol(132), Statement::PortMap(name("port-ranges"))].into(),
                [Statement::Protocol(17), Statement::Verdict(goto("class"))].into(),
                [Statement::Protocol(47), Statement::Verdict(Verdict::Drop)].into(),
                [
                    Statement::Protocol(6),
                    Statement::PortBetween(80, 80),
                    Statement::Verdict(Verdict::Accept),
                ]
                .into(),
                [
                    Statement::Protocol(17),
                    Statement::PortBetween(0, 65_534),
                    Statement::Verdict(goto("class")),
                ]
                .into(),
            ]),
        ),
        (
            name("class"),
            chain([
                [Statement::AddressIn(from, name("peers")), Statement::Verdict(Verdict::Accept)]
                    .into(),
                [
                    Statement::AddressIn(Side::Destination, name("blocks")),
                    Statement::Verdict(Verdict::Return),
                ]
                .into(),
                [
                    Statement::BlockIn(
                        from,
                        if family == Family::V4 { 24 } else { 61 },
                        name("peers"),
                    ),
                    Statement::Verdict(Verdict::Accept),
                ]
                .into(),
                [Statement::PairIn(name("self")), Statement::Verdict(Verdict::Accept)].into(),
                [
                    Statement::AddressBetween(from, pick("10.0.0.0", "fd00::"), c),
                    Statement::AddressNotIn(from, name("peers")),
                    Statement::Verdict(Verdict::Return),
                ]
                .into(),
                [
                    Statement::AddressBetween(Side::Destination, a, a),
                    Statement::Verdict(Verdict::Drop),
                ]
                .into(),
                [
                    Statement::Limit(10),
                    Statement::Log { group: 7, prefix: Comment::new("denied ") },
                ]
                .into(),
                [Statement::PairMap(name("own"))].into(),
                Rule {
                    statements: vec![
                        Statement::Counter,
                        Statement::Log { group: 7, prefix: Comment::new("denied ") },
                        Statement::Verdict(Verdict::Drop),
                    ],
                    comment: Some(Comment::new("nobody else")),
                },
            ]),
        ),
    ]);
    Table { comment: Some(Comment::new("a test")), sets, chains, ..Table::default() }
}

fn ruleset() -> Ruleset {
    let tables = Family::ALL.into_iter().map(|family| (family, table(family))).collect();
    Ruleset { name: name("netpol"), tables }
}

fn tables(ruleset: &Ruleset) -> &BTreeMap<Family, Table> {
    &ruleset.tables
}

#[test]
fn what_is_written_reads_back() {
    in_namespace("what_is_written_reads_back", || {
        let mut kernel = open();
        assert_eq!(kernel.read().expect("read"), None);
        kernel.apply(ruleset()).expect("written");
        let read = kernel.read().expect("read").expect("present");
        for family in Family::ALL {
            let (read, written) = (&tables(&read)[&family], table(family));
            for (name, set) in &written.sets {
                assert_eq!(read.sets.get(name), Some(set), "{name}");
            }
            for (name, chain) in &written.chains {
                assert_eq!(read.chains.get(name), Some(chain), "{name}");
            }
        }
        assert_eq!(read, ruleset());
        let status = kernel.status().expect("read");
        for (family, table) in tables(&read) {
            let elements = table.sets.values().map(|set| set.elements.len()).sum();
            let counted = &status.tables[family];
            assert_eq!((counted.sets, counted.elements), (table.sets.len(), elements));
        }
        kernel.apply(ruleset()).expect("replaced by the same");
        assert_eq!(kernel.read().expect("read"), Some(ruleset()));
        kernel.remove().expect("removed");
        assert_eq!(kernel.read().expect("read"), None);
        kernel.remove().expect("nothing to remove");
        if let Some(left) = nft(&["list", "ruleset"]) {
            assert_eq!(left, "");
        }
    });
}

/// The nft tool, which shares no code with this crate, prints the same for what it loaded from our
/// text and for what we wrote ourselves; and what it loaded reads back as what we meant.
#[test]
fn text_and_messages_agree() {
    in_namespace("text_and_messages_agree", || {
        let mut kernel = open();
        kernel.apply(ruleset()).expect("written");
        let Some(ours) = nft(&["-s", "list", "ruleset"]) else { return };
        kernel.remove().expect("removed");
        nft_load(&ruleset().to_string());
        let theirs = nft(&["-s", "list", "ruleset"]).expect("listed");
        // They are listed in the order in which they were made.
        let sorted = |text: &str| {
            let mut objects: Vec<String> = text.split("\n\n").map(|it| it.trim().into()).collect();
            objects.sort();
            objects
        };
        assert_eq!(sorted(&ours), sorted(&theirs));
        assert_eq!(kernel.read().expect("read"), Some(ruleset()));
    });
}

#[test]
fn refusals_name_the_object() {
    in_namespace("refusals_name_the_object", || {
        let mut kernel = open();
        kernel.apply(ruleset()).expect("written");

        let mut broken = ruleset();
        let addresses = (1..=49).map(|n| IpAddr::V4(Ipv4Addr::from_bits(n))).collect();
        let table = broken.tables.get_mut(&Family::V4).expect("there");
        table.sets.insert(name("peers"), set(Elements::Addresses(addresses)));
        let error = kernel.apply(broken).expect_err("too many elements");
        let full = "element 0.0.0.49 of set `peers.1` of table ip netpol: the set is full";
        assert_eq!(error.to_string(), full);
        assert!(matches!(error, Error::Refused(refusal)
            if matches!(&refusal.object, Object::Set { element: Some(_), .. })));

        let mut broken = ruleset();
        let table = broken.tables.get_mut(&Family::V6).expect("there");
        let missing = [Statement::Verdict(Verdict::Jump(name("missing")))];
        table.chains.get_mut(&name("nd")).expect("there").rules.push(missing.into());
        let error = kernel.apply(broken).expect_err("no such chain");
        assert!(
            error.to_string().starts_with("a rule of chain `nd` of table ip6 netpol: "),
            "{error}"
        );

        // Nothing of a refused change is in force.
        assert_eq!(kernel.read().expect("read"), Some(ruleset()));
    });
}

/// More errors than the receive buffer holds: some are lost, but not that there were some.
#[test]
fn a_flood_of_errors_is_survived() {
    in_namespace("a_flood_of_errors_is_survived", || {
        let mut kernel = open();
        kernel.apply(ruleset()).expect("written");
        let missing: Rule = [Statement::Verdict(Verdict::Jump(name("missing")))].into();
        let mut broken = ruleset();
        let table = broken.tables.get_mut(&Family::V4).expect("there");
        table.chains.insert(name("flood"), chain(std::iter::repeat_n(missing, 30_000)));
        match kernel.apply(broken) {
            Err(Error::Refused(refusal)) => {
                assert!(refusal.others > 100, "{refusal}");
                assert!(refusal.to_string().starts_with("a rule of chain `flood` of table ip "));
            }
            // The send buffer of an unprivileged caller may be too small for so many rules.
            Err(Error::TooLarge { needed, allowed }) => assert!(allowed < needed),
            other => panic!("{other:?}"),
        }
        assert_eq!(kernel.read().expect("read"), Some(ruleset()));
        kernel.apply(ruleset()).expect("compared");
    });
}

/// A transaction larger than a default send buffer by far, with element lists that need splitting.
#[test]
fn large_sets() {
    in_namespace("large_sets", || {
        let addresses: Vec<IpAddr> =
            (0..100_000).map(|n| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))).collect();
        let peers: (Name, Set) = (
            name("peers"),
            Set { comment: None, size: Some(196_608), elements: Elements::Addresses(addresses) },
        );
        let table = Table { sets: BTreeMap::from([peers]), ..Table::default() };
        let ruleset =
            Ruleset { name: name("netpol"), tables: BTreeMap::from([(Family::V4, table)]) };
        let mut kernel = open();
        // Only root may send so much at once; others do so piece by piece.
        kernel.apply(ruleset.clone()).expect("written");
        assert_eq!(kernel.read().expect("read"), Some(ruleset));
    });
}
