use std::collections::BTreeMap;

use netpol_core::compile::Compiler;
use netpol_core::model::{Options, name};
use netpol_core::{Cluster, Scope, compile};

use super::Effort;
use crate::allocation::measured;
use crate::figure::{Figure, Target};
use crate::figures::compile::megabytes;
use crate::random::Random;
use crate::timing::{Times, in_turns, nanoseconds, timed};
use crate::world::{self, Change, Size};

const SIZE: Size = Size { namespaces: 1000, pods: 100_000, policies: 10_000, nodes: 1000 };

/// To follow what happens in the whole cluster.
pub(super) fn cluster(effort: Effort) -> Vec<Figure> {
    following("recompile.cluster", Scope::Cluster, |_| (None, Target::AtMost(5000.0)), effort)
}

/// To follow what of it matters to one node, of 110 pods.
pub(super) fn node(effort: Effort) -> Vec<Figure> {
    // Whatever happens to one pod is to cost less than what happens to many.
    let targets = |kind: &str| match kind.contains("pod-") {
        true => (Some(Target::AtMost(50.0)), Target::AtMost(500.0)),
        false => (None, Target::AtMost(2000.0)),
    };
    following("recompile.node", Scope::Node(name("node-0")), targets, effort)
}

/// From the event to the program, per kind of event, beside compilation from scratch.
///
/// Somebody holds the program before, as a packet path or a backend does, so that nothing is changed in place.
fn following(
    name: &str,
    scope: Scope,
    targets: impl Fn(&str) -> (Option<Target>, Target),
    effort: Effort,
) -> Vec<Figure> {
    let objects = world::mixed(SIZE, 1);
    let changes = world::changes(&objects, effort.rounds(250), &mut Random::new(11));
    let mut cluster = Cluster::from_objects(Options::default(), objects);
    let mut scratch = || drop(compile(&cluster, scope.clone()));
    let [scratch] = in_turns(effort.rounds(1), [&mut scratch]);
    let scratch = nanoseconds(scratch.median(), 1) / 1e3;

    let mut compiler = Compiler::new(Options::default(), scope);
    let everything = cluster.take_changes();
    let ((), usage) = measured(|| drop(compiler.update(&cluster, &everything).clone()));
    let mut held = compiler.program().clone();
    let mut times = BTreeMap::<_, Vec<_>>::new();
    for Change { there, back } in changes {
        for (kind, event) in [there, back] {
            let (program, time) = timed(|| {
                event.apply(&mut cluster);
                let changes = cluster.take_changes();
                compiler.update(&cluster, &changes).clone()
            });
            times.entry(kind).or_default().push(time);
            held = program;
        }
    }
    drop(held);
    let mut figures = vec![Figure::new(format!("{name}.kept"), megabytes(usage.kept), "MB")];
    // Where a node only sees what happens: hardly any pod of the cluster is its own.
    let pods = times.iter().filter(|(kind, _)| kind.starts_with("pod-"));
    let any = pods.flat_map(|(_, times)| times).copied().collect();
    times.insert("pod-any-event", any);
    for (kind, times) in times {
        let times = Times::new(times);
        let [median, rare] = [0.5, 0.99].map(|share| nanoseconds(times.quantile(share), 1) / 1e3);
        let (usual, seldom) = targets(kind);
        let figure = Figure::new(format!("{name}.{kind}.p50"), median, "us");
        let figure = figure.faster_than(scratch, None);
        figures.push(match usual {
            Some(target) => figure.target(target),
            None => figure,
        });
        figures.push(Figure::new(format!("{name}.{kind}.p99"), rare, "us").target(seldom));
    }
    figures
}
