//! Decisions in detail: by where the ends are and what is asked of them.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use netpol_benches::random::Random;
use netpol_benches::world::{self, Size};
use netpol_core::model::{Flow, Objects, Options, Traffic};
use netpol_core::{Cluster, Program, Scope, compile};

fn program(objects: Objects) -> Program {
    compile(&Cluster::from_objects(Options::default(), objects), Scope::Cluster)
}

fn policies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide/policies");
    for policies in [10, 100, 1000, 10_000] {
        let size = Size { namespaces: 100, pods: 10_000, policies, nodes: 100 };
        let objects = world::mixed(size, 1);
        let flows = world::flows(&objects, 1 << 14, &mut Random::new(7));
        let program = program(objects);
        let mut flows = flows.iter().cycle();
        group.bench_function(policies.to_string(), |bencher| {
            bencher.iter(|| flows.next().map(|flow| program.decide(black_box(flow))));
        });
    }
    group.finish();
}

fn ends(criterion: &mut Criterion) {
    let size = Size { namespaces: 100, pods: 10_000, policies: 1000, nodes: 100 };
    let objects = world::mixed(size, 1);
    let pod = |at: usize| objects.endpoints[at].addresses[0];
    let [pod, other, outside, nobody] =
        [pod(0), pod(9000), IpAddr::from([203, 0, 113, 1]), IpAddr::from([198, 51, 100, 1])];
    let program = program(objects.clone());
    let mut group = criterion.benchmark_group("decide/ends");
    let flows = [
        ("pod to itself", Flow::new(pod, pod, Traffic::tcp(80))),
        ("pod to pod", Flow::new(pod, other, Traffic::tcp(80))),
        ("pod to pod, no ports", Flow::new(pod, other, Traffic::ICMP)),
        ("pod to outside", Flow::new(pod, outside, Traffic::tcp(443))),
        ("outside to outside", Flow::new(outside, nobody, Traffic::tcp(443))),
    ];
    for (name, flow) in flows {
        group.bench_function(name, |bencher| bencher.iter(|| program.decide(black_box(&flow))));
    }
    group.finish();
}

criterion_group!(benches, policies, ends);
criterion_main!(benches);
