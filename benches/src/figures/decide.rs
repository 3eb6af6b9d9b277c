use std::hint::black_box;

use netpol_core::model::{Flow, Objects, Options};
use netpol_core::{Cluster, Program, Scope, compile, reference};

use super::Effort;
use crate::allocation::measured;
use crate::figure::{Figure, Target};
use crate::linear::Linear;
use crate::random::Random;
use crate::timing::{in_turns, nanoseconds};
use crate::world::{self, Size};

/// How many different connections are asked about: too many for the caches to hold all that they need.
const FLOWS: usize = 1 << 16;

/// A decision among 10,000 policies, beside one among 10.
pub(super) fn scale(effort: Effort) -> Vec<Figure> {
    let size = Size { namespaces: 1000, pods: 100_000, policies: 10_000, nodes: 1000 };
    let crowded = Size { namespaces: 10, ..size };
    let mut figures = Vec::new();
    // In the first cluster ten policies leave nearly every pod open; in the second, of few and large namespaces,
    // as many pods are policed by ten as by ten thousand.
    for (name, size) in [("decide.10k", size), ("decide.10k.few-namespaces", crowded)] {
        let many = world::mixed(size, 1);
        let few = world::mixed(Size { policies: 10, ..size }, 1);
        let flows = world::flows(&many, FLOWS, &mut Random::new(7));
        let [many, few] = [many, few].map(program);
        let (mut with_many, mut with_few) = (|| decide(&many, &flows), || decide(&few, &flows));
        let [many_times, few_times] = in_turns(effort.rounds(15), [&mut with_many, &mut with_few]);
        let [cost, baseline] =
            [many_times, few_times].map(|times| nanoseconds(times.median(), flows.len()));
        let figure = Figure::new(name, cost, "ns")
            .target(Target::AtMost(60.0))
            .cost_of(baseline, Some(Target::AtMost(1.3)));
        figures.push(figure);
        let ((), usage) = measured(|| decide(&many, &flows));
        #[expect(clippy::cast_precision_loss, reason = "a figure needs three digits")]
        let allocations = usage.allocations as f64;
        let figure = Figure::new(format!("{name}.allocations"), allocations, "per 65536")
            .target(Target::AtMost(0.0));
        figures.push(figure);
    }
    figures
}

/// A decision among 1,000 policies, beside what it takes without compiling them.
pub(super) fn baselines(effort: Effort) -> Vec<Figure> {
    let spread = Size { namespaces: 100, pods: 10_000, policies: 1000, nodes: 100 };
    let worlds = [
        ("spread", world::mixed(spread, 1)),
        ("one-namespace", world::mixed(Size { namespaces: 1, ..spread }, 1)),
        ("all-select", world::deep(1000, 10)),
    ];
    let mut figures = Vec::new();
    for (name, objects) in worlds {
        let flows = world::flows(&objects, FLOWS, &mut Random::new(7));
        // The slow ways are asked about fewer of the same connections.
        let (by_linear, by_reference) = (&flows[..2000], &flows[..20]);
        let program = program(objects.clone());
        let linear = Linear::new(&objects);
        let options = Options::default();
        let mut compiled = || decide(&program, &flows);
        let mut walked = || {
            by_linear.iter().for_each(|flow| {
                black_box(linear.allows(black_box(flow)));
            });
        };
        let mut referred = || {
            by_reference.iter().for_each(|flow| {
                black_box(reference::decide(&objects, &options, black_box(flow)));
            });
        };
        let works: [&mut dyn FnMut(); 3] = [&mut compiled, &mut walked, &mut referred];
        let [compiled, walked, referred] =
            in_turns(effort.rounds(5), works).map(|times| times.median());
        let cost = nanoseconds(compiled, flows.len());
        let figure = Figure::new(format!("decide.1k.{name}.vs-linear"), cost, "ns")
            .faster_than(nanoseconds(walked, by_linear.len()), Some(Target::AtLeast(1000.0)));
        figures.push(figure);
        let figure = Figure::new(format!("decide.1k.{name}.vs-reference"), cost, "ns")
            .faster_than(nanoseconds(referred, by_reference.len()), Some(Target::AtLeast(1000.0)));
        figures.push(figure);
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
