use std::hint::black_box;

use netpol_core::model::{Flow, Objects, Options, Traffic};
use netpol_core::{Cluster, Program, Scope, compile, reference};

use super::Effort;
use crate::allocation::measured;
use crate::figure::{Figure, Target};
use crate::linear::Linear;
use crate::per_packet::PerPacket;
use crate::random::Random;
use crate::timing::{in_turns, nanoseconds};
use crate::world::{self, Size};

/// How many different connections are asked about: too many for the caches to hold all that they need.
const FLOWS: usize = 1 << 16;

/// A decision among 10,000 policies, beside one among 10.
pub(super) fn scale(effort: Effort) -> Vec<Figure> {
    let size = Size { namespaces: 1000, pods: 100_000, policies: 10_000, nodes: 1000 };
    let [many, few] = [10_000, 10].map(|policies| world::mixed(Size { policies, ..size }, 1));
    // Ten policies leave nearly every pod open, and not to judge costs nothing. So once more like for like: in both
    // clusters every pod is policed in both directions, by one policy or by about a hundred.
    let crowded = Size { namespaces: 10, ..size };
    let [policed_by_many, policed_by_one] = [10_000, 0].map(|policies| {
        let mut objects = world::mixed(Size { policies, ..crowded }, 1);
        world::isolate(&mut objects);
        objects
    });
    let same = Some(Target::AtMost(1.3));
    [
        scaled("decide.10k", effort, many, few, None),
        scaled("decide.10k.all-policed", effort, policed_by_many, policed_by_one, same),
    ]
    .concat()
}

fn scaled(
    name: &str,
    effort: Effort,
    many: Objects,
    few: Objects,
    ratio: Option<Target>,
) -> Vec<Figure> {
    let flows = world::flows(&many, FLOWS, &mut Random::new(7));
    let [many, few] = [many, few].map(program);
    let (mut with_many, mut with_few) = (|| decide(&many, &flows), || decide(&few, &flows));
    let mut together = || {
        for decision in many.decide_all(&flows) {
            black_box(decision);
        }
    };
    let works: [&mut dyn FnMut(); 3] = [&mut with_many, &mut with_few, &mut together];
    let times = in_turns(effort.rounds(25), works);
    let [cost, baseline, together] = times.map(|times| nanoseconds(times.median(), flows.len()));
    let ((), usage) = measured(|| decide(&many, &flows));
    #[expect(clippy::cast_precision_loss, reason = "a figure needs three digits")]
    let allocations = usage.allocations as f64;
    vec![
        Figure::new(name, cost, "ns").target(Target::AtMost(60.0)).cost_of(baseline, ratio),
        Figure::new(format!("{name}.together"), together, "ns").cost_of(cost, None),
        Figure::new(format!("{name}.allocations"), allocations, "per 65536")
            .target(Target::AtMost(0.0)),
    ]
}

/// The hardest case for whoever walks policies: all of them select every pod and allow others to the same port.
const ALL_SELECT: &str = "all-select";

/// A decision among 1,000 policies, beside what it takes without compiling them.
pub(super) fn baselines(effort: Effort) -> Vec<Figure> {
    let spread = Size { namespaces: 100, pods: 10_000, policies: 1000, nodes: 100 };
    // With how many of the connections those who walk policies are asked about.
    let worlds = [
        ("spread", world::mixed(spread, 1), 1000),
        ("one-namespace", world::mixed(Size { namespaces: 1, ..spread }, 1), 1000),
        (ALL_SELECT, world::deep(1000, 100), 20),
    ];
    let mut figures = Vec::new();
    for (name, objects, walked) in worlds {
        let mut flows = world::flows(&objects, FLOWS, &mut Random::new(7));
        if name == ALL_SELECT {
            flows.iter_mut().for_each(|flow| flow.traffic = Traffic::tcp(80));
        }
        let (walked, referred) = (&flows[..walked], &flows[..20]);
        let program = program(objects.clone());
        let (per_packet, linear) = (PerPacket::new(&objects), Linear::new(&objects));
        let options = Options::default();
        let mut compiled = || decide(&program, &flows);
        let mut per_packet = || {
            walked.iter().for_each(|flow| {
                black_box(per_packet.allows(black_box(flow)));
            });
        };
        let mut prepared = || {
            walked.iter().for_each(|flow| {
                black_box(linear.allows(black_box(flow)));
            });
        };
        let mut reference = || {
            referred.iter().for_each(|flow| {
                black_box(reference::decide(&objects, &options, black_box(flow)));
            });
        };
        let works: [&mut dyn FnMut(); 4] =
            [&mut compiled, &mut per_packet, &mut prepared, &mut reference];
        let times = in_turns(effort.rounds(5), works).map(|times| times.median());
        let counts = [flows.len(), walked.len(), walked.len(), referred.len()];
        let [compiled, per_packet, prepared, reference] =
            std::array::from_fn(|at| nanoseconds(times[at], counts[at]));
        let wanted = Some(Target::AtLeast(1000.0));
        // A baseline that does less than anybody is no target: it tells how much of the ratio is the walk itself.
        let baselines = [
            ("vs-linear", per_packet, wanted),
            ("vs-linear-prepared", prepared, None),
            ("vs-reference", reference, wanted),
        ];
        figures.extend(baselines.map(|(baseline, cost, wanted)| {
            Figure::new(format!("decide.1k.{name}.{baseline}"), compiled, "ns")
                .faster_than(cost, wanted)
        }));
    }
    figures
}

fn program(objects: Objects) -> Program {
    compile(&Cluster::from_objects(Options::default(), objects), Scope::Cluster)
}

fn decide(program: &Program, flows: &[Flow]) {
    for flow in flows {
        black_box(program.decide(black_box(flow)));
    }
}
