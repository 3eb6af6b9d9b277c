//! The proof holds for what is right, and finds what is wrong.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::IpAddr;

use netpol_backend_nft::ruleset::{Elements, Family, Hook};
use netpol_backend_nft::{Interface, Mismatch, Options, render, verify};
use netpol_core::backend::Closed;
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::End;
use netpol_core::testing::{Choices, flows_of_interest, world};
use support::{busiest_node, in_namespace, nft_load, open, packet, program};

/// Options by which unknown addresses are denied in no range, in some, or in so many that they need a
/// set.
fn closing(seed: u64) -> Options {
    let ranges: Vec<String> = match seed % 4 {
        0 => Vec::new(),
        1 => ["10.0.0.0/24", "10.0.0.0/25", "fd00::/64"].map(str::to_owned).into(),
        2 => ["10.0.0.0/30", "0.0.0.0/1", "::/0"].map(str::to_owned).into(),
        _ => (0..40).map(|number| format!("10.0.{}.0/29", 2 * number)).collect(),
    };
    // Addresses that have interfaces, some of which are shared.
    let tap = |number: u8| Interface::new(&format!("tap{}", number % 5)).expect("an interface");
    let attached =
        (0..16_u8).filter(|number| !(seed.is_multiple_of(3) || number.is_multiple_of(3)));
    let attached = attached.flat_map(|number| {
        let hosts = [[10, 0, 0, number], [10, 0, 1, number]].map(IpAddr::from);
        let v6 = [0, 1].map(|subnet| {
            let last = u16::from(number);
            IpAddr::from([0xfd00, 0, 0, subnet, 0, 0, 0, last])
        });
        hosts.into_iter().chain(v6).map(move |address| (address, tap(number)))
    });
    let interfaces = attached.collect();
    let ranges = ranges.iter().map(|range| range.parse().expect("a range")).collect();
    // Addresses of which some are nobody's, and some those of an endpoint after all.
    let lent =
        (0..8_u8).filter(|_| seed.is_multiple_of(2)).map(|it| [10, 0, it % 2, 3 * it].into());
    let deny_unknown = Closed { ranges, except: lent.collect() };
    Options { deny_unknown, interfaces, ..Options::default() }
}

#[test]
fn renderings_are_proven() {
    for seed in 0..100 {
        let program = program(seed);
        let options = closing(seed);
        let mismatches = verify(&render(&program, &options), &program, &options);
        assert_eq!(mismatches, [], "seed {seed}");
    }
}

/// Leaves out one element at a time. What changes the verdict about any connection that the objects
/// can tell apart is found.
#[test]
fn a_missing_element_is_found() {
    let (mut found, mut harmless) = (0, 0);
    for seed in 0..100 {
        let (objects, options) = world(&mut Choices::from_seed(seed, 600));
        let flows = flows_of_interest(&objects);
        let scope = busiest_node(&objects);
        let cluster = Cluster::from_objects(options, objects);
        let program = compile(&cluster, scope);
        let options = Options::default();
        let ruleset = render(&program, &options);
        for family in Family::ALL {
            for set in ruleset.tables[&family].sets.keys() {
                let mut broken = ruleset.clone();
                let table = broken.tables.get_mut(&family).expect("there");
                let gone = match &mut table.sets.get_mut(set).expect("there").elements {
                    Elements::Addresses(list) => list.pop().is_some(),
                    Elements::AddressRanges(list) => list.pop().is_some(),
                    Elements::AddressVerdicts(list) => list.pop().is_some(),
                    Elements::PortVerdicts(list) => list.pop().is_some(),
                    Elements::PortRangeVerdicts(list) => list.pop().is_some(),
                    Elements::AddressPairs(list) => list.pop().is_some(),
                    Elements::PairVerdicts(list) => list.pop().is_some(),
                    Elements::InterfaceVerdicts(list) => list.pop().is_some(),
                };
                if !gone {
                    continue;
                }
                let differs = flows.iter().any(|flow| match (&flow.source, &flow.destination) {
                    (End::Address(a), End::Address(b)) if a.is_ipv4() == b.is_ipv4() => {
                        let passes = broken.passes(Hook::Forward, &packet(*a, *b, flow.traffic));
                        passes != Ok(program.decide(flow).is_allowed())
                    }
                    _ => false,
                });
                let mismatches = verify(&broken, &program, &options);
                assert!(!differs || !mismatches.is_empty(), "seed {seed}: {set}\n{broken}");
                *(if mismatches.is_empty() { &mut harmless } else { &mut found }) += 1;
            }
        }
    }
    assert!(found > 100, "{found} found, {harmless} make no difference");
}

#[test]
fn what_is_in_the_kernel_is_proven() {
    in_namespace("what_is_in_the_kernel_is_proven", || {
        let program = (0..)
            .map(program)
            .find(|program| render(program, &Options::default()).to_string().len() > 5000)
            .expect("a large one");
        let mut kernel = open();
        let missing = kernel.verify(&program).expect("read");
        assert!(missing.contains(&Mismatch::NoRules(Family::V4)), "{missing:?}");
        for _ in 0..2 {
            kernel.sync(&program).expect("written");
            assert_eq!(kernel.verify(&program).expect("read"), []);
            if !nft_load("flush chain ip netpol forward; flush chain ip6 netpol forward") {
                return;
            }
            let found = kernel.verify(&program).expect("read");
            let is_open = |it: &Mismatch| matches!(it, Mismatch::Verdict { allowed: false, .. });
            assert!(found.iter().any(is_open), "{found:?}");
        }
        kernel.sync(&program).expect("repaired");
        nft_load("insert rule ip netpol input ct state established drop");
        assert!(!kernel.verify(&program).expect("read").is_empty());
    });
}

#[test]
fn a_disabled_table_is_not_vouched_for() {
    in_namespace("a_disabled_table_is_not_vouched_for", || {
        let has_v4 = |it: &netpol_core::Program| {
            it.endpoints().any(|entry| entry.addresses().iter().any(|it| it.is_ipv4()))
        };
        let program = (0..).map(program).find(has_v4).expect("there are many");
        let mut kernel = open();
        kernel.sync(&program).expect("written");
        let disabled = |family| {
            nft_load(&format!("add table {family} netpol {{ flags dormant; comment \"x\"; }}\n"))
        };
        if !["ip", "ip6"].into_iter().all(disabled) {
            return;
        }
        assert!(matches!(kernel.verify(&program).expect("read")[..], [Mismatch::Undecided(_), ..]));
        assert!(kernel.sync(&program).expect("repaired").interfered);
        assert_eq!(kernel.verify(&program).expect("read"), []);
    });
}
