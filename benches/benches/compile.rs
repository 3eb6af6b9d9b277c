//! Compilation in detail: small clusters of every shape.

use criterion::{Criterion, criterion_group, criterion_main};
use netpol_benches::world::{self, Size};
use netpol_core::model::{Options, name};
use netpol_core::{Cluster, Scope, compile};

fn shapes(criterion: &mut Criterion) {
    let size = Size { namespaces: 100, pods: 10_000, policies: 1000, nodes: 100 };
    let shapes = [
        ("mixed", world::mixed(size, 1)),
        ("antrea small namespaces", world::small_namespaces(1000)),
        ("antrea one namespace", world::one_namespace(300)),
        ("antrea cross namespace", world::cross_namespace(100)),
        ("deep", world::deep(100, 10)),
        ("wide", world::wide(1000, 5)),
        ("blocks", world::blocks(500, 5)),
    ];
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    for (shape, objects) in shapes {
        let cluster = Cluster::from_objects(Options::default(), objects);
        for (scope_name, scope) in
            [("cluster", Scope::Cluster), ("node", Scope::Node(name("node-0")))]
        {
            group.bench_function(format!("{shape}/{scope_name}"), |bencher| {
                bencher.iter(|| compile(&cluster, scope.clone()));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, shapes);
criterion_main!(benches);
