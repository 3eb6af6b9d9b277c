//! The program and its explanation against the reference, in the world and for the flows that the input spells out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::program::{Scope, Verdict};
use netpol_core::reference::{self, Judgement};
use netpol_core::testing::{Choices, flow, world};

fn judgement(verdict: Option<Verdict>) -> Judgement {
    match verdict {
        None => Judgement::NotJudged,
        Some(Verdict::Allow) => Judgement::Allow,
        Some(Verdict::Deny) => Judgement::Deny,
    }
}

fuzz_target!(|tape: &[u8]| {
    let mut choices = Choices::new(tape);
    let (objects, options) = world(&mut choices);
    let program = compile(&Cluster::from_objects(options, objects.clone()), Scope::Cluster);
    for _ in 0..20 {
        let flow = flow(&mut choices, &objects);
        let expected = reference::decide(&objects, &options, &flow);
        let decision = program.decide(&flow);
        let got = (judgement(decision.egress), judgement(decision.ingress));
        assert_eq!(got, (expected.egress, expected.ingress), "{flow}\n{options:?}\n{objects:#?}");
        assert_eq!(program.explain(&flow).decision(), decision, "{flow}\n{options:?}\n{objects:#?}");
    }
});
