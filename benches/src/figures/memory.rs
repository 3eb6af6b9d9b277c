use netpol_core::model::{Objects, Options};
use netpol_core::{Cluster, Scope, compile};

use super::Effort;
use crate::allocation::measured;
use crate::figure::Figure;
use crate::world::{self, Size};

/// What one more pod and one more policy takes, in the cluster and in the program.
pub(super) fn marginal(_: Effort) -> Vec<Figure> {
    let size = Size { namespaces: 1000, pods: 50_000, policies: 5000, nodes: 1000 };
    let base = Heap::of(|| world::mixed(size, 1));
    let pods = Heap::of(|| world::mixed(Size { pods: 2 * size.pods, ..size }, 1));
    let policies = Heap::of(|| world::mixed(Size { policies: 2 * size.policies, ..size }, 1));
    #[expect(clippy::cast_precision_loss, reason = "a figure needs three digits")]
    let each = |more: i64, less: i64, count: usize| (more - less) as f64 / count as f64;
    vec![
        Figure::new("memory.cluster.per-pod", each(pods.cluster, base.cluster, size.pods), "bytes"),
        Figure::new("memory.program.per-pod", each(pods.program, base.program, size.pods), "bytes"),
        Figure::new(
            "memory.cluster.per-policy",
            each(policies.cluster, base.cluster, size.policies),
            "bytes",
        ),
        Figure::new(
            "memory.program.per-policy",
            each(policies.program, base.program, size.policies),
            "bytes",
        ),
    ]
}

struct Heap {
    cluster: i64,
    program: i64,
}

impl Heap {
    fn of(objects: impl FnOnce() -> Objects) -> Self {
        let (cluster, cluster_usage) =
            measured(|| Cluster::from_objects(Options::default(), objects()));
        let (_program, program_usage) = measured(|| compile(&cluster, Scope::Cluster));
        Self { cluster: cluster_usage.kept, program: program_usage.kept }
    }
}
