//! The proof that rules say what a program says finds whatever they do not.
//!
//! The rules are another program, which stands for a backend that has put something else into force, or the same one
//! with a mistake about one kind of packet.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;

use netpol_core::backend::Closed;
use netpol_core::backend::proof::{Boundaries, Mismatch, Packet, Path, Standing, verify};
use netpol_core::model::{
    Action, Block, Direction, End, Endpoint, Family, Flow, Labels, NamespaceScope, Objects,
    Options, Peer, Peers, PodSelector, Policy, PolicyKey, PolicyKind, Ports, Protocol, Requirement,
    Rule, Selector, Subject, Tier, Traffic, name,
};
use netpol_core::testing::{Choices, History, flow, flows_of_interest, world};
use netpol_core::{Cluster, Program, Scope, compile};

fn program(options: Options, objects: &Objects) -> Program {
    let cluster = Cluster::from_objects(options, objects.clone());
    compile(&cluster, Scope::Node(name("node0")))
}

/// What rules that carry out a program make of a packet, asking about as many `ports`: what is known passes, and what
/// is from the middle of an unknown connection if neither it nor any that it may answer is denied.
fn passes(program: &Program, ports: &[u16], packet: &Packet) -> bool {
    let allows = |from, to, traffic| program.decide(&Flow::new(from, to, traffic)).is_allowed();
    let Packet { source, destination, traffic, .. } = *packet;
    match (packet.standing, traffic) {
        (Standing::Established, _) => true,
        (Standing::Stray, Traffic::Port(protocol, _)) => {
            let back = |port: &u16| allows(destination, source, Traffic::Port(protocol, *port));
            allows(source, destination, traffic) && ports.iter().all(back)
        }
        _ => allows(source, destination, traffic),
    }
}

/// The ports at which anything that the program says may begin or end.
fn ports(program: &Program) -> Vec<u16> {
    let mut ports = BTreeSet::from([0, u16::MAX]);
    for (_, profile) in program.profiles() {
        for side in Direction::ALL.into_iter().filter_map(|it| profile.side(it)) {
            let intervals = Protocol::ALL.into_iter().flat_map(|it| side.intervals(it));
            intervals.for_each(|(range, _)| ports.extend([range.first(), range.last()]));
        }
    }
    ports.into_iter().collect()
}

/// Tells what a backend that carries out a program tells apart.
fn boundaries(program: &Program, family: Family) -> Boundaries {
    let mut boundaries = Boundaries::new(family);
    let of_family = |it: &IpAddr| Family::of(*it) == family;
    for (class, _) in program.classes() {
        let members = program.members(class, family);
        boundaries.addresses(members.allow);
        boundaries.addresses(members.deny);
        boundaries.ranges(members.ranges.iter().map(|it| (*it.start(), *it.end())));
    }
    for entry in program.endpoints() {
        let own: Vec<IpAddr> = entry.addresses().iter().copied().filter(of_family).collect();
        own.iter().for_each(|address| boundaries.addresses([*address]));
        for (a, b) in own.iter().flat_map(|a| own.iter().map(move |b| (*a, *b))) {
            boundaries.pair(a, b);
        }
    }
    for port in ports(program) {
        boundaries.ports(port, port);
    }
    boundaries
}

/// What is found of packets of one family, for which alone there are rules.
fn mismatches(
    program: &Program,
    family: Family,
    boundaries: Boundaries,
    judge: impl Fn(&Packet) -> bool,
) -> Vec<Mismatch<Infallible>> {
    let mut boundaries = Some(boundaries);
    let of_family = |of: Family| boundaries.take_if(|_| of == family);
    let mut found = verify(program, of_family, |packet| Ok(judge(packet)));
    let missing = |of: Family| {
        let mut addresses = program.endpoints().flat_map(|it| it.addresses());
        of != family && addresses.any(|address| Family::of(*address) == of)
    };
    for of in Family::ALL {
        let told = found.contains(&Mismatch::NoRules(of));
        assert_eq!(told, missing(of), "{of:?}");
        found.retain(|it| *it != Mismatch::NoRules(of));
    }
    found
}

/// Whether an address is one of the endpoints that a program is about.
fn is_judged(program: &Program, address: IpAddr) -> bool {
    program.endpoints().any(|entry| entry.addresses().contains(&address))
}

/// The addresses of a flow, if both are of one family.
fn between(flow: &Flow) -> Option<(IpAddr, IpAddr, Family)> {
    let (End::Address(from), End::Address(to)) = (&flow.source, &flow.destination) else {
        return None;
    };
    let family = Family::of(*from);
    (family == Family::of(*to)).then_some((*from, *to, family))
}

/// The packet that a difference tells of, if it is from the middle of an unknown connection.
fn stray(mismatch: &Mismatch<Infallible>) -> Option<Packet> {
    let Mismatch::Stray { flow, path } = mismatch else { return None };
    let (source, destination, _) = between(flow)?;
    let standing = Standing::Stray;
    Some(Packet { source, destination, traffic: flow.traffic, standing, path: *path })
}

#[test]
fn rules_that_are_right_are_proven() {
    for seed in 0..60 {
        let (objects, options) = world(&mut Choices::from_seed(seed, 1500));
        let program = program(options, &objects);
        let ports = ports(&program);
        for family in Family::ALL {
            let asked = RefCell::new(Vec::new());
            let judge = |packet: &Packet| {
                asked.borrow_mut().push(*packet);
                passes(&program, &ports, packet)
            };
            let found = mismatches(&program, family, Boundaries::new(family), judge);
            assert!(found.is_empty(), "seed {seed}: {found:?}");
            let asked = asked.into_inner();
            check_paths(&program, &asked);
            // Nor would it do to let pass what belongs to no known connection, whatever it is.
            let new = asked.iter().filter(|it| it.standing == Standing::New);
            let strays = new.map(|it| Packet { standing: Standing::Stray, ..*it });
            let has_beginnings = |it: &Packet| match it.traffic {
                Traffic::Port(protocol, _) => protocol != Protocol::Udp,
                Traffic::Other(_) => false,
            };
            let denied = strays.filter(|it| has_beginnings(it) && !passes(&program, &ports, it));
            let careless = |packet: &Packet| {
                packet.standing == Standing::Stray || passes(&program, &ports, packet)
            };
            let found = mismatches(&program, family, Boundaries::new(family), careless);
            let strays: Vec<Packet> = found.iter().filter_map(stray).collect();
            assert_eq!(strays, denied.collect::<Vec<_>>(), "seed {seed}");
        }
    }
}

/// Packets of ordinary endpoints are forwarded, those of the host go in and out as well; on each way there is one
/// packet of a known connection.
fn check_paths(program: &Program, asked: &[Packet]) {
    let is_ordinary = |address| {
        let mut entries = program.endpoints();
        entries.any(|it| !it.is_host() && it.addresses().contains(&address))
    };
    let mut ways: BTreeMap<(IpAddr, IpAddr), BTreeMap<Path, usize>> = BTreeMap::new();
    for packet in asked {
        let paths = ways.entry((packet.source, packet.destination)).or_default();
        let known = paths.entry(packet.path).or_default();
        *known += usize::from(packet.standing == Standing::Established);
    }
    for ((from, to), paths) in ways {
        let (from, to) = (is_ordinary(from), is_ordinary(to));
        let all = [(Path::ToHost, !to), (Path::Forwarded, true), (Path::FromHost, !from)];
        let wanted = all.into_iter().filter(|(_, applies)| *applies).map(|(path, _)| path);
        assert!(paths.keys().copied().eq(wanted), "{paths:?}");
        // A pair may be asked about as two addresses of some kind, and again for itself.
        assert!(paths.values().all(|known| (1..=2).contains(known)), "{paths:?}");
    }
}

/// Rules that tell nothing apart are right only if the program has nothing to tell apart, for any path.
#[test]
fn rules_that_tell_nothing_apart_are_found_out() {
    let mut wrong = 0;
    for seed in 0..150 {
        let (objects, options) = world(&mut Choices::from_seed(seed, 1500));
        let program = program(options, &objects);
        let is_host = |address| {
            let mut entries = program.endpoints();
            entries.all(|it| it.is_host() || !it.addresses().contains(&address))
        };
        let flows = flows_of_interest(&objects);
        for family in Family::ALL {
            let of_family = flows.iter().filter(|it| {
                between(it).is_some_and(|(from, to, of)| {
                    of == family && (is_judged(&program, from) || is_judged(&program, to))
                })
            });
            let verdicts = of_family.map(|it| (it, program.decide(it).is_allowed()));
            let verdicts: Vec<_> = verdicts.collect();
            for says in [true, false] {
                let differs = verdicts.iter().any(|(_, allowed)| *allowed != says);
                let judge = |packet: &Packet| packet.standing == Standing::Established || says;
                let found = mismatches(&program, family, Boundaries::new(family), judge);
                let is_verdict = |it: &Mismatch<_>| matches!(it, Mismatch::Verdict { .. });
                assert!(!differs || found.iter().any(is_verdict), "seed {seed}: {says}");
                wrong += usize::from(differs);

                let ports = ports(&program);
                let judge = |packet: &Packet| match (packet.path, packet.standing) {
                    (Path::ToHost, Standing::New) => says,
                    _ => passes(&program, &ports, packet),
                };
                let differs = verdicts.iter().any(|(flow, allowed)| {
                    *allowed != says && between(flow).is_some_and(|(_, to, _)| is_host(to))
                });
                let found = mismatches(&program, family, Boundaries::new(family), judge);
                assert!(
                    !differs || found.iter().any(is_verdict),
                    "seed {seed}: to the host {says}"
                );
            }
        }
    }
    assert!(wrong > 100, "{wrong}");
}

/// The addresses of an endpoint are special to each other, whatever rules say of an address and itself.
#[test]
fn an_endpoint_with_many_addresses_reaches_itself() {
    let pods = (1..=4).map(|pod| {
        let mut endpoint = Endpoint::new("x", &format!("p{pod}"));
        endpoint.addresses.extend([[10, 0, 0, pod], [10, 0, 1, pod]].map(IpAddr::from));
        endpoint.node = Some(name("node0"));
        endpoint
    });
    let all =
        PodSelector { namespaces: NamespaceScope::Named(name("x")), pods: Selector::everything() };
    let deny = Policy {
        key: PolicyKey {
            kind: PolicyKind::NetworkPolicy,
            namespace: name("x"),
            name: name("deny"),
        },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(all),
        ingress: Some(Vec::new()),
        egress: Some(Vec::new()),
    };
    let objects = Objects { endpoints: pods.collect(), policies: vec![deny], ..Objects::default() };
    let program = program(Options::default(), &objects);
    let mut boundaries = Boundaries::new(Family::V4);
    for address in program.endpoints().flat_map(|it| it.addresses()) {
        boundaries.pair(*address, *address);
    }
    let judge = |it: &Packet| it.standing == Standing::Established || it.source == it.destination;
    let found = mismatches(&program, Family::V4, boundaries, judge);
    assert!(!found.is_empty());
    for mismatch in found {
        let Mismatch::Verdict { flow, allowed: true, .. } = mismatch else {
            panic!("{mismatch:?}");
        };
        assert_ne!(flow.source, flow.destination);
    }
}

/// Of many endpoints that peers cannot tell apart the one with a policy is asked about; so is a block that it may send
/// to, though rules know of neither.
#[test]
fn what_the_program_tells_apart_is_asked_about() {
    let pods = (1..=6).map(|last| {
        let mut endpoint = Endpoint::new("x", &format!("p{last}"));
        endpoint.addresses.push([10, 0, 0, last].into());
        endpoint.labels = Labels::from_iter([("isolated", if last == 5 { "yes" } else { "no" })]);
        endpoint.node = Some(name("node0"));
        endpoint
    });
    let isolated = Selector::new(vec![Requirement::is_in("isolated", ["yes"])]);
    let block = Block::new("200.0.0.0/8".parse().unwrap_or_default(), []);
    let rule = Rule {
        name: None,
        action: Action::Accept,
        peers: Peers::AnyOf(vec![Peer::Block(block)]),
        ports: Ports::All,
    };
    let namespaces = NamespaceScope::Named(name("x"));
    let kind = PolicyKind::NetworkPolicy;
    let policy = Policy {
        key: PolicyKey { kind, namespace: name("x"), name: name("one") },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(PodSelector { namespaces, pods: isolated }),
        ingress: None,
        egress: Some(vec![rule]),
    };
    let objects =
        Objects { endpoints: pods.collect(), policies: vec![policy], ..Objects::default() };
    let program = program(Options::default(), &objects);
    let subject = IpAddr::from([10, 0, 0, 5]);
    let everything = |_: &Packet| true;
    let found = mismatches(&program, Family::V4, Boundaries::new(Family::V4), everything);
    assert!(found.iter().any(|it| matches!(it, Mismatch::Verdict { allowed: false, .. })));
    // Itself aside, it may send nowhere: the block is missing.
    let mut boundaries = Boundaries::new(Family::V4);
    boundaries.addresses([subject]);
    boundaries.pair(subject, subject);
    let nowhere = |it: &Packet| it.source != subject || it.destination == subject;
    let found = mismatches(&program, Family::V4, boundaries.clone(), nowhere);
    assert!(found.iter().any(|it| matches!(it, Mismatch::Verdict { allowed: true, .. })));
    // It may send to the block and to whatever is behind it, which is too much.
    let [first, last] = [[200, 0, 0, 0], [255; 4]].map(IpAddr::from);
    boundaries.ranges([(first, last)]);
    let too_far = |it: &Packet| nowhere(it) || it.destination >= first;
    let found = mismatches(&program, Family::V4, boundaries, too_far);
    assert!(found.iter().any(|it| matches!(it, Mismatch::Verdict { allowed: false, .. })));
}

#[test]
fn what_cannot_be_judged_is_told() {
    let (objects, options) = world(&mut Choices::from_seed(1, 1500));
    let program = program(options, &objects);
    let mut asked = 0;
    let judge = |_: &Packet| {
        asked += 1;
        Err("an unknown rule")
    };
    let found = verify(&program, |family| Some(Boundaries::new(family)), judge);
    assert_eq!(found, vec![Mismatch::Undecided("an unknown rule"); asked]);
    assert!(asked > 0);
}

/// Whatever another program says otherwise is found, if its rules tell by what they decide.
#[test]
fn rules_of_another_program_are_not() {
    let (mut different, mut same) = (0, 0);
    for seed in 0..150 {
        let mut choices = Choices::from_seed(seed, 4000);
        let history = History::new(&mut choices);
        let [first, second] = &history.objects;
        let [wanted, in_force] = [first, second].map(|it| program(history.options, it));
        let [of_wanted, of_force] = [&wanted, &in_force].map(ports);
        let all: Vec<u16> = of_wanted.into_iter().chain(of_force).collect();
        let mut flows: Vec<Flow> =
            [first, second].into_iter().flat_map(flows_of_interest).collect();
        flows.retain(|it| {
            let between = between(it);
            between.is_some_and(|(from, to, _)| is_judged(&wanted, from) || is_judged(&wanted, to))
        });
        for family in Family::ALL {
            let judge = |packet: &Packet| passes(&in_force, &all, packet);
            let found = mismatches(&wanted, family, boundaries(&in_force, family), judge);
            let of_family =
                flows.iter().filter(|it| between(it).is_some_and(|(.., of)| of == family));
            let known = of_family
                .filter(|it| wanted.decide(it).is_allowed() != in_force.decide(it).is_allowed())
                .count();
            let verdicts = found.iter().filter_map(|it| match it {
                Mismatch::Verdict { flow, allowed, .. } => Some((flow, allowed)),
                _ => None,
            });
            let mut told = 0;
            for (flow, allowed) in verdicts {
                assert_eq!(wanted.decide(flow).is_allowed(), *allowed, "seed {seed}: {flow}");
                assert_ne!(in_force.decide(flow).is_allowed(), *allowed, "seed {seed}: {flow}");
                told += 1;
            }
            assert!(known == 0 || told > 0, "seed {seed}: {known} flows differ, none is found");
            *(if told > 0 { &mut different } else { &mut same }) += 1;
        }
    }
    assert!(different > 50 && same > 10, "{different}, {same}");
}

/// Which packets are treated the other way round.
type Mistake = Box<dyn Fn(&Packet) -> bool>;

/// One address that is treated unlike all others of its kind, one port, one pair, one path: told what is special, the
/// proof asks about it.
#[test]
fn what_rules_tell_apart_is_asked_about() {
    let mut asked = [0; 5];
    for seed in 0..80 {
        let mut choices = Choices::from_seed(seed, 2500);
        let (objects, options) = world(&mut choices);
        let program = program(options, &objects);
        let all = ports(&program);
        for _ in 0..12 {
            let asked_about = flow(&mut choices, &objects);
            let Some((from, to, family)) = between(&asked_about) else { continue };
            let (from_pod, to_pod) = (is_judged(&program, from), is_judged(&program, to));
            if !(from_pod || to_pod) {
                continue;
            }
            let right = |packet: &Packet| passes(&program, &all, packet);
            let mut special = Boundaries::new(family);
            let (what, wrong): (usize, Mistake) = match choices.pick(5) {
                0 if to_pod => {
                    special.addresses([from]);
                    (0, Box::new(move |it| it.source == from))
                }
                1 if to_pod => {
                    special.ranges([(from, from)]);
                    (1, Box::new(move |it| it.source == from))
                }
                2 => {
                    special.pair(from, to);
                    (2, Box::new(move |it| (it.source, it.destination) == (from, to)))
                }
                3 => {
                    let Traffic::Port(protocol, port) = asked_about.traffic else { continue };
                    let port = port.wrapping_add(21);
                    special.ports(port, port);
                    (3, Box::new(move |it| it.traffic == Traffic::Port(protocol, port)))
                }
                4 => (4, Box::new(|it| it.path == Path::Forwarded)),
                _ => continue,
            };
            for standing in [Standing::New, Standing::Established, Standing::Stray] {
                let judge = |packet: &Packet| {
                    right(packet) ^ (packet.standing == standing && wrong(packet))
                };
                let found = mismatches(&program, family, special.clone(), judge);
                let is_about = |it: &Mismatch<Infallible>| match it {
                    Mismatch::Verdict { .. } => standing == Standing::New,
                    Mismatch::Established { .. } => standing == Standing::Established,
                    Mismatch::Stray { .. } => standing == Standing::Stray,
                    Mismatch::NoRules(_) | Mismatch::Undecided(_) => false,
                };
                assert!(found.iter().all(is_about), "seed {seed}: {found:?}");
                // A port may be told of by a packet of a known connection as little as by any other.
                let may_be_missed = match standing {
                    Standing::New => false,
                    Standing::Established => what == 3,
                    // It may be denied rightly, and UDP has none: what passes too little is no mistake of strays.
                    Standing::Stray => true,
                };
                assert!(
                    may_be_missed || !found.is_empty(),
                    "seed {seed}: {standing:?}, mistake {what}, {asked_about}"
                );
            }
            asked[what] += 1;
        }
    }
    assert!(asked.iter().all(|it| *it > 10), "{asked:?}");
}

#[test]
fn mismatches_in_words() {
    let flow = Flow::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), Traffic::tcp(80));
    let path = Path::Forwarded;
    let verdict = |allowed| Mismatch::Verdict { flow: flow.clone(), path, allowed };
    let texts: [(Mismatch<&str>, &str); 6] = [
        (
            verdict(true),
            "10.0.0.1 -> 10.0.0.2:80/tcp is allowed and does not pass the forward hook",
        ),
        (verdict(false), "10.0.0.1 -> 10.0.0.2:80/tcp is denied and passes the forward hook"),
        (
            Mismatch::Established { flow: flow.clone(), path: Path::ToHost },
            "10.0.0.1 -> 10.0.0.2:80/tcp does not pass the input hook once it is established",
        ),
        (
            Mismatch::Stray { flow: flow.clone(), path: Path::FromHost },
            "packets from the middle of 10.0.0.1 -> 10.0.0.2:80/tcp pass the output hook, and may be answers of a denied connection",
        ),
        (Mismatch::NoRules(Family::V6), "there are no rules for V6"),
        (Mismatch::Undecided("an unknown rule"), "an unknown rule"),
    ];
    for (mismatch, text) in texts {
        let told = netpol_core::backend::Mismatch::from(&mismatch);
        assert_eq!((told.text.as_str(), told.to_string().as_str()), (text, text));
        assert_eq!(told.flow, text.contains("->").then(|| flow.clone()));
    }
}

/// What is closed is denied but for endpoints and exceptions. Rules that forget of either, or of the ranges, are found.
#[test]
fn what_is_closed_is_denied() {
    let ranges = ["10.0.0.0/8", "fd00::/16"].map(|it| it.parse().expect("a range"));
    let except = ["10.200.0.1", "fd00::200:1"].map(|it| it.parse().expect("an address"));
    let closed = Closed { ranges: ranges.into(), except: except.into() };
    let of_ranges = Closed { except: BTreeSet::new(), ..closed.clone() };
    let mut overdone = 0;
    for seed in 0..30 {
        let (objects, options) = world(&mut Choices::from_seed(seed, 1500));
        let program = program(options, &objects);
        let ports = ports(&program);
        let is_known = |address| {
            is_judged(&program, address)
                || program.same_host(address).any(|it| is_judged(&program, it))
        };
        let judge = |packet: &Packet, closed: &Closed| {
            let is_closed = |address| closed.contains(address) && !is_known(address);
            let unknown = packet.path != Path::FromHost && is_closed(packet.source)
                || packet.path != Path::ToHost && is_closed(packet.destination);
            let passes = passes(&program, &ports, packet);
            passes && (!unknown || packet.standing == Standing::Established)
        };
        for family in Family::ALL {
            let found = |told: &Closed, rules: &Closed| {
                let mut boundaries = Boundaries::new(family);
                boundaries.closed(told);
                mismatches(&program, family, boundaries, |packet| judge(packet, rules))
            };
            let right = found(&closed, &closed);
            assert!(right.is_empty(), "seed {seed}: {right:?}");
            for wrong in [&of_ranges, &Closed::default()] {
                assert!(!found(&closed, wrong).is_empty(), "seed {seed}, {family:?}: {wrong:?}");
            }
            // Without being told of ranges it does not look into them, but where something else is there.
            overdone += usize::from(!found(&Closed::default(), &closed).is_empty());
        }
    }
    assert!(overdone > 10, "{overdone}");
}
