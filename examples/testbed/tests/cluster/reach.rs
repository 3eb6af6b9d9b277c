//! Without rules: everything reaches everything, from the address that was asked for.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

pub(crate) const CHECKS: &[Check] = &[
    ("everything_reaches_everything", everything_reaches_everything),
    ("a_busy_machine_changes_nothing", a_busy_machine_changes_nothing),
    ("more_probes_than_fit_into_one_wave", more_probes_than_fit_into_one_wave),
    ("an_address_that_nobody_has_is_outside", an_address_that_nobody_has_is_outside),
    ("a_source_must_belong_to_its_place", a_source_must_belong_to_its_place),
    ("nodes_speak_from_their_own_address", nodes_speak_from_their_own_address),
    ("two_testbeds_do_not_see_each_other", two_testbeds_do_not_see_each_other),
];

fn everything_reaches_everything() -> Result<(), String> {
    let topology = topology();
    let testbed = build(&topology);
    let probes = all_pairs(&topology, &PROTOCOLS);
    for _ in 0..2 {
        expect(&testbed, &probes, |_| Outcome::Allowed);
    }
    Ok(())
}

fn a_busy_machine_changes_nothing() -> Result<(), String> {
    let topology = topology();
    let testbed = build(&topology);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let checked = catch_unwind(AssertUnwindSafe(|| {
            expect(&testbed, &all_pairs(&topology, &PROTOCOLS), |_| Outcome::Allowed);
        }));
        done.store(true, Ordering::Relaxed);
        assert!(checked.is_ok());
    });
    Ok(())
}

fn more_probes_than_fit_into_one_wave() -> Result<(), String> {
    let testbed = build(&topology());
    let probes: Vec<Probe> = (1..=2500)
        .map(|port| match port % 3 {
            0 => Traffic::Tcp(port),
            1 => Traffic::Udp(port),
            _ => Traffic::Sctp(port),
        })
        .map(|traffic| probe(in_pod("x/a"), "10.0.1.1", "10.0.1.2", traffic))
        .collect();
    let mut seen = Vec::new();
    let outcomes =
        testbed.probe(&probes, &ProbeOptions::default(), |decided, all| seen.push((decided, all)));
    assert_eq!(outcomes, vec![Outcome::Allowed; probes.len()]);
    assert!(seen.is_sorted());
    assert_eq!(seen.last(), Some(&(probes.len(), probes.len())));
    Ok(())
}

fn an_address_that_nobody_has_is_outside() -> Result<(), String> {
    let testbed = build(&topology());
    let probes: Vec<Probe> = PROTOCOLS
        .into_iter()
        .flat_map(|traffic| {
            [
                probe(in_pod("x/a"), "10.0.1.1", "198.51.100.99", traffic),
                probe(in_pod("y/a"), "fd77:3::2", "2001:db8:5::5", traffic),
                probe(Place::Outside, "198.51.100.7", "10.0.1.1", traffic),
                probe(Place::Outside, "2001:db8:6::6", "fd00:18::9", traffic),
            ]
        })
        .collect();
    for _ in 0..2 {
        expect(&testbed, &probes, |_| Outcome::Allowed);
    }
    Ok(())
}

fn a_source_must_belong_to_its_place() -> Result<(), String> {
    let testbed = build(&topology());
    let wrong = [
        (probe(in_pod("x/a"), "10.9.4.2", "10.0.1.2", Traffic::Icmp), "does not have the address"),
        (probe(in_pod("x/a"), "203.0.113.1", "10.0.1.2", Traffic::Icmp), "does not have"),
        (probe(Place::Outside, "10.0.1.1", "10.0.1.2", Traffic::Icmp), "does not have"),
        (probe(in_pod("x/z"), "10.0.1.1", "10.0.1.2", Traffic::Icmp), "there is no pod x/z"),
        (probe(in_pod("x/a"), "10.0.1.1", "fd77:1::1", Traffic::Icmp), "one address family"),
        (probe(in_pod("x/a"), "10.0.1.1", "224.0.0.1", Traffic::Icmp), "224.0.0.1 is not"),
    ];
    for (probe, reason) in wrong {
        let outcomes = testbed.probe(&[probe], &ProbeOptions::default(), |_, _| ());
        let [Outcome::Failed(message)] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert!(message.contains(reason), "{message}");
    }
    Ok(())
}

fn nodes_speak_from_their_own_address() -> Result<(), String> {
    let testbed = build(&topology());
    let source_towards = |to: &'static str| {
        testbed
            .in_node("n2", move || {
                let any = if ip(to).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).unwrap();
                socket.connect((ip(to), 9)).unwrap();
                socket.local_addr().unwrap().ip()
            })
            .unwrap()
    };
    for to in ["10.0.1.2", "10.0.1.1", "192.168.10.1", "203.0.113.7"] {
        assert_eq!(source_towards(to), ip("172.18.0.9"), "to {to}");
    }
    for to in ["fd77:3::2", "fd77:1::1", "fd00:10::1", "2001:db8::7"] {
        assert_eq!(source_towards(to), ip("fd00:18::9"), "to {to}");
    }
    Ok(())
}

fn two_testbeds_do_not_see_each_other() -> Result<(), String> {
    let topology = topology();
    let (one, other) = (build(&topology), build(&topology));
    let probes = all_pairs(&topology, &[Traffic::Udp(53)]);
    thread::scope(|scope| {
        scope.spawn(|| expect(&one, &probes, |_| Outcome::Allowed));
        expect(&other, &probes, |_| Outcome::Allowed);
    });
    one.tear_down();
    expect(&other, &probes, |_| Outcome::Allowed);
    Ok(())
}
