//! Packets while rules change: each is judged as by a program that was in force while it was under
//! way, and by nothing else.
//!
//! A few thousand changes, or 50,000 and a million packets in a [long run](length).
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells its figures"
)]

#[path = "support/length.rs"]
mod length;
#[path = "support/objects.rs"]
mod objects;
mod support;
#[path = "support/wire.rs"]
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use length::{first_seed, length};
use netpol_backend_nft::{Interface, Interference, Nft, Process};
use netpol_core::backend::Closed;
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{Flow, Traffic, name};
use netpol_core::program::{EndpointEntry, Program, Scope};
use netpol_core::testing::{Choices, edit, flows_of_interest, world};
use netpol_testbed::Testbed;
use support::{busiest_node, in_namespace, open};
use wire::{FENCE, Probe, Wire};

/// Programs that take turns, each a change of the one before.
const PROGRAMS: usize = 6;
/// Packets that are under way together: so few that hardly more than one change meets them.
const BURST: usize = 24;

/// How long the test is.
struct Length {
    /// How many changes.
    changes: usize,
    /// How many of them between the same programs.
    turn: usize,
    /// How many packets at least.
    packets: usize,
}

impl Length {
    fn wanted() -> Self {
        let number =
            |variable, usual, long| usize::try_from(length(variable, usual, long)).expect("fits");
        let changes = number("NETPOL_CHANGES", 3000, 50_000);
        let packets = number("NETPOL_PACKETS", 10_000, 1_000_000);
        Self { changes, turn: if changes < 10_000 { 100 } else { 500 }, packets }
    }
}

/// Programs, and packets with what each program says about them.
struct Scene {
    programs: Vec<InForce>,
    probes: Vec<(Probe, Vec<bool>)>,
}

/// What comes into force together.
struct InForce {
    program: Program,
    /// Where nobody may say anything whom the program does not know.
    closed: Closed,
    /// By which interfaces endpoints are known.
    interfaces: BTreeMap<IpAddr, Interface>,
}

impl InForce {
    fn write(&self, kernel: &mut Nft) {
        kernel.deny_unknown(&self.closed);
        kernel.dispatch_by_interface(&self.interfaces);
        kernel.sync(&self.program).expect("written");
    }
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut choices = Choices::from_seed(seed, 3000);
        let (mut objects, options) = world(&mut choices);
        let (other, _) = world(&mut choices);
        let flows = flows_of_interest(&objects);
        let scope = busiest_node(&objects);
        let ranges = ["10.0.0.0/16", "fd00::/32"].iter().filter(|_| seed % 2 == 1);
        let ranges: Vec<IpNet> = ranges.map(|range| range.parse().expect("a range")).collect();
        let programs: Vec<InForce> = (0..PROGRAMS)
            .map(|_| {
                let cluster = Cluster::from_objects(options, objects.clone());
                edit(&mut choices, &mut objects, &other);
                let known = flows.iter().filter_map(|flow| Some(Probe::of(flow)?.source));
                let lent = known.filter(|_| choices.one_in(4));
                let closed = Closed { ranges: ranges.clone(), except: lent.collect() };
                let program = compile(&cluster, scope.clone());
                InForce { program, closed, interfaces: BTreeMap::new() }
            })
            .collect();
        let probes = flows.iter().filter_map(|flow| {
            let probe = Probe::of(flow)?;
            let verdicts = programs.iter().map(|it| passes(&it.program, flow, probe, &it.closed));
            Some((probe, verdicts.collect())).filter(|_| is_told_apart(flow))
        });
        Self { probes: choose(probes.collect()), programs }
    }

    /// Endpoints that are known by interfaces, which appear, disappear, and move from address to address:
    /// what comes in by `inside` has to come from an address that is known to be behind it.
    fn by_interface(seed: u64, inside: &Interface) -> Self {
        let mut choices = Choices::from_seed(seed, 3000);
        let elsewhere = Interface::new("elsewhere").expect("an interface");
        let [senders, receivers] = [(0, 12), (1, 4)].map(|(net, count)| {
            (1..=count).map(|at| IpAddr::from([10, 9, net, at])).collect::<Vec<_>>()
        });
        let app = |address: &IpAddr| format!("pod-{address}");
        let mut nobody = Cluster::default();
        let fence = IpAddr::from(FENCE[0]);
        for address in senders.iter().chain(&receivers).chain([&fence]) {
            nobody.upsert_endpoint(objects::pod(&app(address), "n", &[*address]));
        }
        let on_80 = |address: &IpAddr| objects::on_tcp(80, objects::with_pods(&app(address)));
        let programs: Vec<InForce> = (0..PROGRAMS)
            .map(|_| {
                let mut cluster = nobody.clone();
                let mut some = |all: &[IpAddr]| -> Vec<IpAddr> {
                    all.iter().filter(|_| choices.one_in(2)).copied().collect()
                };
                for sender in some(&senders) {
                    let peers = some(&receivers).iter().map(on_80).collect();
                    cluster.upsert_policy(objects::policy(&app(&sender), None, Some(peers)));
                }
                for receiver in some(&receivers) {
                    let peers = some(&senders).iter().map(on_80).chain([on_80(&fence)]).collect();
                    cluster.upsert_policy(objects::policy(&app(&receiver), Some(peers), None));
                }
                let attached = senders.iter().filter_map(|address| match choices.pick(5) {
                    0 => None,
                    1 => Some((*address, elsewhere.clone())),
                    _ => Some((*address, inside.clone())),
                });
                let interfaces = attached.chain([(fence, inside.clone())]).collect();
                let program = compile(&cluster, Scope::Node(name("n")));
                InForce { program, closed: Closed::default(), interfaces }
            })
            .collect();
        let pairs = senders.iter().flat_map(|from| receivers.iter().map(move |to| (*from, *to)));
        let probes = pairs.flat_map(|(source, destination)| {
            [80, 81].map(|port| Probe { source, destination, traffic: Traffic::tcp(port) })
        });
        let probes = probes.map(|probe| {
            let flow = Flow::new(probe.source, probe.destination, probe.traffic);
            let verdicts = programs.iter().map(|it| {
                let is_inside = it.interfaces.get(&probe.source) == Some(inside);
                is_inside && it.program.decide(&flow).is_allowed()
            });
            (probe, verdicts.collect())
        });
        Self { probes: choose(probes.collect()), programs }
    }
}

/// Whether a program, and what is closed to all whom it does not know, let a packet pass.
fn passes(program: &Program, flow: &Flow, probe: Probe, closed: &Closed) -> bool {
    let unknown = [probe.source, probe.destination].into_iter().any(|address| {
        let is_here = |address| program.endpoint_at(address).is_some_and(EndpointEntry::is_policed);
        // Nodes that share addresses of the family with this one are known as it is.
        let mut same = program.same_host(address).filter(|it| it.is_ipv4() == address.is_ipv4());
        let known = is_here(address) || same.any(is_here);
        !known && closed.contains(address)
    });
    program.decide(flow).is_allowed() && !unknown
}

/// Answers of other protocols look like beginnings.
fn is_told_apart(flow: &Flow) -> bool {
    matches!(flow.traffic, Traffic::Port(..) | Traffic::ICMP | Traffic::ICMPV6)
}

/// Some of those that always pass, of those that never do, and of those that a change is about.
fn choose(all: Vec<(Probe, Vec<bool>)>) -> Vec<(Probe, Vec<bool>)> {
    let kind = |(_, verdicts): &(Probe, Vec<bool>)| {
        let passes = verdicts.iter().filter(|it| **it).count();
        if passes == 0 { 0 } else { 1 + usize::from(passes == verdicts.len()) }
    };
    (0..3)
        .flat_map(|wanted| {
            let some: Vec<_> = all.iter().filter(|it| kind(it) == wanted).cloned().collect();
            let step = some.len().div_ceil(BURST).max(1);
            some.into_iter().step_by(step)
        })
        .collect()
}

/// Which programs are in force, one after the other, and how far that has got.
#[derive(Default)]
struct History {
    programs: Mutex<Vec<usize>>,
    /// Changes that have begun, and that have ended.
    begun: AtomicUsize,
    ended: AtomicUsize,
    over: AtomicBool,
}

impl History {
    fn write(&self, kernel: &mut Nft, scene: &Scene, changes: usize, choices: &mut Choices<'_>) {
        // However the writing ends, the probing has to.
        let _over = Over(&self.over);
        for change in 0..changes {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let next = choices.pick(scene.programs.len());
            self.programs.lock().expect("no panic").push(next);
            self.begun.store(change + 1, Ordering::SeqCst);
            scene.programs[next].write(kernel);
            self.ended.store(change + 1, Ordering::SeqCst);
        }
    }
}

/// Tells the other side that it is over, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Figures {
    packets: usize,
    /// Packets of which only one verdict was right although a change was under way.
    decisive: usize,
    changes: usize,
    time: Duration,
}

fn take_turns(
    (testbed, mut wire): (Testbed, Wire),
    scene: &Scene,
    seed: u64,
    length: &Length,
    figures: &mut Figures,
) {
    let mut kernel = testbed.in_node("n", open).expect("a node");
    scene.programs[0].write(&mut kernel);
    let history = History { programs: Mutex::new(vec![0]), ..History::default() };
    let start = Instant::now();
    std::thread::scope(|scope| {
        let _over = Over(&history.over);
        scope.spawn(|| {
            let mut choices = Choices::from_seed(seed, length.turn);
            history.write(&mut kernel, scene, length.turn, &mut choices);
        });
        wire.stay();
        while !history.over.load(Ordering::SeqCst) {
            for burst in scene.probes.chunks(BURST) {
                let packets: Vec<Probe> = burst.iter().map(|(probe, _)| *probe).collect();
                let first = history.ended.load(Ordering::SeqCst);
                let passed = wire.burst(&packets);
                let last = history.begun.load(Ordering::SeqCst);
                let programs = history.programs.lock().expect("no panic")[first..=last].to_vec();
                for ((probe, verdicts), passed) in burst.iter().zip(passed) {
                    let right: BTreeSet<bool> = programs.iter().map(|at| verdicts[*at]).collect();
                    assert!(right.contains(&passed), "seed {seed}: {probe:?} {programs:?}");
                    figures.decisive += usize::from(first != last && right.len() == 1);
                }
                figures.packets += packets.len();
            }
        }
    });
    figures.changes += history.ended.into_inner();
    figures.time += start.elapsed();
}

/// Scenes until there are enough changes and packets.
fn take_all_turns(length: &Length, scene: impl Fn(u64, &Testbed) -> Scene) {
    let mut figures = Figures::default();
    for seed in first_seed().. {
        let way = Wire::through_a_node();
        let scene = scene(seed, &way.0);
        if scene.probes.len() < BURST {
            continue;
        }
        take_turns(way, &scene, seed, length, &mut figures);
        if figures.changes >= length.changes && figures.packets >= length.packets {
            break;
        }
    }
    let Figures { packets, decisive, changes, time } = figures;
    assert!(decisive > packets / 100, "{decisive} of {packets} packets met a change");
    let rate = packets as f64 / time.as_secs_f64();
    eprintln!("{packets} packets ({rate:.0} per second), {decisive} of them while one of");
    eprintln!("{changes} changes was under way: each as a program in force said");
}

#[test]
fn no_packet_is_misjudged() {
    in_namespace("no_packet_is_misjudged", || {
        take_all_turns(&Length::wanted(), |seed, _| Scene::new(seed));
    });
}

/// The same where endpoints are known by their interfaces, a tenth as long.
#[test]
fn no_packet_is_misjudged_that_comes_in_by_an_interface() {
    in_namespace("no_packet_is_misjudged_that_comes_in_by_an_interface", || {
        let Length { changes, turn, packets } = Length::wanted();
        let length = Length { changes: changes / 10, turn, packets: packets / 10 };
        take_all_turns(&length, |seed, testbed| {
            let [inside, _] = wire::interfaces(testbed);
            Scene::by_interface(seed, &inside)
        });
    });
}

/// Somebody deletes our tables, and a host that listens restores them: how long packets pass that
/// should not, as packets see it.
#[test]
fn a_flushed_table_is_back_at_once() {
    in_namespace("a_flushed_table_is_back_at_once", || {
        let fits = |scene: &Scene| scene.probes.iter().any(|(_, verdicts)| !verdicts[0]);
        let scene = (0..).map(Scene::new).find(fits).expect("there is one");
        let [first, ..] = scene.programs.as_slice() else { return };
        let denied = scene.probes.iter().find(|(_, verdicts)| !verdicts[0]).expect("it fits").0;
        let (testbed, mut wire) = Wire::through_a_node();
        let mut kernel = testbed.in_node("n", open).expect("a node");
        first.write(&mut kernel);
        let mut monitor =
            testbed.in_node("n", || kernel.monitor()).expect("a node").expect("heard");
        let over = AtomicBool::new(false);
        let repaired: Mutex<Vec<Process>> = Mutex::default();
        std::thread::scope(|scope| {
            let _over = Over(&over);
            scope.spawn(|| {
                let _over = Over(&over);
                while !over.load(Ordering::SeqCst) {
                    match monitor.wait(Some(Duration::from_millis(20))).expect("heard") {
                        Some(Interference::By(Some(process))) => {
                            let report = kernel.sync(&first.program).expect("repaired");
                            assert!(report.interfered && report.steps > 0, "{report:?}");
                            repaired.lock().expect("no panic").push(process);
                        }
                        None => {}
                        other => panic!("{other:?}"),
                    }
                }
            });
            wire.stay();
            let mut shortest = Duration::MAX;
            let foreign = ["flush ruleset", "delete table ip netpol; delete table ip6 netpol"];
            for (round, foreign) in foreign.into_iter().cycle().take(10).enumerate() {
                assert!(!wire.passes(denied), "round {round}");
                let run = || Command::new("nft").arg(foreign).stdout(Stdio::null()).spawn();
                let Ok(mut nft) = testbed.in_node("n", run).expect("a node") else {
                    eprintln!("SKIPPED: there is no nft tool");
                    return;
                };
                let mut opened = None;
                let mut closed = Instant::now();
                while repaired.lock().expect("no panic").len() <= round {
                    assert!(!over.load(Ordering::SeqCst), "the guard has given up");
                    let ended = nft.try_wait().expect("asked");
                    assert!(ended.is_none_or(|status| status.success()), "nft refused {foreign}");
                    if wire.passes(denied) {
                        closed = Instant::now();
                        opened.get_or_insert(closed);
                    }
                }
                nft.wait().expect("it ends");
                shortest = shortest.min(opened.map_or(Duration::ZERO, |opened| closed - opened));
                let process = repaired.lock().expect("no panic").last().cloned().expect("there");
                assert!(process.name == "nft" && process.pid > 0, "{process:?}");
            }
            // A busy machine may hold up the guard, but not always.
            eprintln!("open for {shortest:?} at best");
            assert!(shortest < Duration::from_millis(100), "{shortest:?}");
        });
    });
}
