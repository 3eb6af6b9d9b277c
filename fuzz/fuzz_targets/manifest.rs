//! Manifests of any shape: nothing panics, a strict reading accepts nothing that a lenient one refuses, and whatever
//! was read compiles to a program that explains what it decides.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::manifest::{ReadOptions, Strictness, Value, load};
use netpol_core::model::Options;
use netpol_core::program::Scope;
use netpol_core::reference;
use netpol_core::testing::flows_of_interest;

fuzz_target!(|text: &[u8]| {
    let Ok(value) = serde_json::from_slice::<Value>(text) else { return };
    let strict = load([&value], &ReadOptions::default());
    let lenient = ReadOptions { strictness: Strictness::Lenient, ..ReadOptions::default() };
    let loaded = load([&value], &lenient);
    assert!(loaded.rejected.len() <= strict.rejected.len(), "{:?}", loaded.rejected);

    let objects = loaded.objects;
    let program = compile(&Cluster::from_objects(Options::default(), objects.clone()), Scope::Cluster);
    for flow in flows_of_interest(&objects).into_iter().take(200) {
        let decision = program.decide(&flow);
        let expected = reference::decide(&objects, &Options::default(), &flow);
        assert_eq!(decision.is_allowed(), expected.is_allowed(), "{flow}\n{objects:#?}");
        assert_eq!(program.explain(&flow).decision(), decision, "{flow}\n{objects:#?}");
    }
});
