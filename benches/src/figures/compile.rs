use netpol_core::model::{Objects, Options, name};
use netpol_core::{Cluster, Scope, compile};

use super::Effort;
use crate::allocation::measured;
use crate::figure::{Figure, Target};
use crate::timing::{in_turns, milliseconds};
use crate::world::{self, Size};

/// 25,000 namespaces with four pods and three policies each, as Antrea's controller is tested; and twice that.
pub(super) fn antrea(effort: Effort) -> Vec<Figure> {
    let [one, two] =
        [25_000, 50_000].map(|namespaces| cluster(world::small_namespaces(namespaces)));
    let (mut once, mut twice) = (compiling(&one), compiling(&two));
    let [once, twice] =
        in_turns(effort.rounds(3), [&mut once, &mut twice]).map(|it| milliseconds(it.median()));
    let (_program, usage) = measured(|| compile(&one, Scope::Cluster));
    vec![
        Figure::new("compile.antrea", once, "ms").target(Target::AtMost(1000.0)),
        Figure::new("compile.antrea.per-policy", once * 1e3 / 75_000.0, "us"),
        Figure::new("compile.antrea.per-pod", once * 1e3 / 100_000.0, "us"),
        Figure::new("compile.antrea.peak", megabytes(usage.peak), "MB")
            .target(Target::AtMost(400.0)),
        Figure::new("compile.antrea.kept", megabytes(usage.kept), "MB"),
        Figure::new("compile.antrea.twice", twice, "ms").cost_of(once, Some(Target::AtMost(2.6))),
    ]
}

/// From scratch, over the shapes; for one node as well.
pub(super) fn shapes(effort: Effort) -> Vec<Figure> {
    let size = Size { namespaces: 1000, pods: 100_000, policies: 10_000, nodes: 1000 };
    let doubled =
        [Size { policies: 2 * size.policies, ..size }, Size { pods: 2 * size.pods, ..size }];
    let base = cluster(world::mixed(size, 1));
    let mut figures = Vec::new();
    let [policies, pods] = doubled.map(|size| cluster(world::mixed(size, 1)));
    let node = Scope::Node(name("node-0"));
    let mut works = (compiling(&base), compiling(&policies), compiling(&pods), || {
        drop(compile(&base, node.clone()))
    });
    let works: [&mut dyn FnMut(); 4] = [&mut works.0, &mut works.1, &mut works.2, &mut works.3];
    let [base_time, policies, pods, node_time] =
        in_turns(effort.rounds(3), works).map(|it| milliseconds(it.median()));
    let linear = Some(Target::AtMost(2.6));
    let (_program, usage) = measured(|| compile(&base, Scope::Cluster));
    let (_program, node_usage) = measured(|| compile(&base, node));
    figures.extend([
        Figure::new("compile.mixed", base_time, "ms"),
        Figure::new("compile.mixed.peak", megabytes(usage.peak), "MB"),
        Figure::new("compile.mixed.policies-doubled", policies, "ms").cost_of(base_time, linear),
        Figure::new("compile.mixed.pods-doubled", pods, "ms").cost_of(base_time, linear),
        Figure::new("compile.mixed.node", node_time, "ms").cost_of(base_time, None),
        Figure::new("compile.mixed.node.kept", megabytes(node_usage.kept), "MB"),
    ]);
    let others = [
        ("antrea-one-namespace", world::one_namespace(10_000)),
        ("antrea-cross-namespace", world::cross_namespace(1000)),
        ("few-namespaces", world::mixed(Size { namespaces: 10, ..size }, 1)),
        ("deep.1k-policies", world::deep(1000, 100)),
        ("deep.1k-ports", world::deep_ports(1000, 100)),
        ("wide.10k-pods", world::wide(10_000, 5)),
        ("blocks.10k-policies", world::blocks(10_000, 10)),
        ("one-policy.25k-blocks", world::carved(25_000, false)),
        ("one-policy.25k-blocks-and-ports", world::carved(25_000, true)),
        ("one-policy.25k-ports-too-large", world::nested_ports(25_000)),
    ];
    for (name, objects) in others {
        let cluster = cluster(objects);
        let mut work = compiling(&cluster);
        let [times] = in_turns(effort.rounds(1), [&mut work]);
        let name = format!("compile.{name}");
        figures.push(Figure::new(&name, milliseconds(times.median()), "ms"));
        let (_program, usage) = measured(|| compile(&cluster, Scope::Cluster));
        figures.push(Figure::new(format!("{name}.peak"), megabytes(usage.peak), "MB"));
    }
    figures
}

fn cluster(objects: Objects) -> Cluster {
    Cluster::from_objects(Options::default(), objects)
}

fn compiling(cluster: &Cluster) -> impl FnMut() {
    || drop(compile(cluster, Scope::Cluster))
}

#[expect(clippy::cast_precision_loss, reason = "a figure needs three digits")]
pub(super) fn megabytes(bytes: i64) -> f64 {
    bytes as f64 / 1e6
}
