use netpol_core::compile::Compiler;
use netpol_core::model::{Objects, Options};
use netpol_core::{Cluster, Scope, compile};

use super::Effort;
use crate::allocation::measured;
use crate::figure::Figure;
use crate::world::{self, Size};

/// What one more pod and one more policy takes: in the cluster, in what a compiler remembers to follow it, and in the
/// program.
pub(super) fn marginal(_: Effort) -> Vec<Figure> {
    let size = Size { namespaces: 1000, pods: 50_000, policies: 5000, nodes: 1000 };
    let base = Heap::of(|| world::mixed(size, 1));
    let pods = Heap::of(|| world::mixed(Size { pods: 2 * size.pods, ..size }, 1));
    let policies = Heap::of(|| world::mixed(Size { policies: 2 * size.policies, ..size }, 1));
    let mut figures = Vec::new();
    for (what, more, count) in [("pod", pods, size.pods), ("policy", policies, size.policies)] {
        let parts = [
            ("cluster", more.cluster - base.cluster),
            ("compiler", more.compiler - base.compiler),
            ("program", more.program - base.program),
        ];
        for (part, bytes) in parts {
            #[expect(clippy::cast_precision_loss, reason = "a figure needs three digits")]
            let each = bytes as f64 / count as f64;
            figures.push(Figure::new(format!("memory.{part}.per-{what}"), each, "bytes"));
        }
    }
    figures
}

/// Bytes on the heap.
struct Heap {
    cluster: i64,
    /// Without its program.
    compiler: i64,
    program: i64,
}

impl Heap {
    fn of(objects: impl FnOnce() -> Objects) -> Self {
        let (mut cluster, of_cluster) =
            measured(|| Cluster::from_objects(Options::default(), objects()));
        let (_program, of_program) = measured(|| compile(&cluster, Scope::Cluster));
        let everything = cluster.take_changes();
        let (_compiler, of_both) = measured(|| {
            let mut compiler = Compiler::new(Options::default(), Scope::Cluster);
            compiler.update(&cluster, &everything);
            compiler
        });
        let (cluster, program) = (of_cluster.kept, of_program.kept);
        Self { cluster, compiler: of_both.kept - program, program }
    }
}
