//! Many flows at once are judged as each by itself.

use netpol_core::model::Flow;
use netpol_core::testing::{Choices, flow, world};
use netpol_core::{Cluster, Scope, compile};

#[test]
fn together_as_one_by_one() {
    let mut allowed = 0;
    for seed in 0..200 {
        let mut choices = Choices::from_seed(seed, 1500);
        let (objects, options) = world(&mut choices);
        // Around a multiple of what is looked at together, and none at all.
        for count in [0, 1, 15, 16, 17, 33] {
            let flows: Vec<Flow> = (0..count).map(|_| flow(&mut choices, &objects)).collect();
            let cluster = Cluster::from_objects(options, objects.clone());
            let program = compile(&cluster, Scope::Cluster);
            let one_by_one: Vec<_> = flows.iter().map(|flow| program.decide(flow)).collect();
            let together: Vec<_> = program.decide_all(&flows).collect();
            assert_eq!(together, one_by_one, "seed {seed}: {objects:#?}");
            allowed += together.iter().filter(|decision| decision.is_allowed()).count();
        }
    }
    assert!(allowed > 1000, "{allowed} are allowed");
}
