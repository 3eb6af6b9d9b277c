//! What backends put into the kernel's sets, against what the program decides.

use std::net::IpAddr;

use netpol_core::model::{Direction, End, Family, Flow, Name, Objects};
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
    // Traffic to itself has rules of its own, also that of a node whose host-network pods are policed.
    let both = |addresses: &[IpAddr]| addresses.contains(subject) && addresses.contains(peer);
    let is_own = both(endpoint.addresses())
        || endpoint.is_host() && objects.nodes.iter().any(|node| both(&node.addresses));
    let side = program.profile(endpoint.profile()).side(direction)?;
    (!is_own).then(|| (side.class_of(flow.traffic), *peer))
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
    assert!(allowed > 10_000 && denied > 10_000, "{allowed} allowed, {denied} denied");
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
        let policed = program.options().host_network_subjects
            == netpol_core::model::HostNetworkSubjects::Policed;
        assert!(policed || !hosts_policed, "{node}, seed {seed}");
        assert_eq!(*program.scope(), Scope::Node(node.clone()));
    });
    assert!(listed > 1000, "{listed}");
}
