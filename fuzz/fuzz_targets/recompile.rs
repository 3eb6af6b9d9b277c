//! Events in any order: a program that was kept up equals one compiled from scratch, after each of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netpol_core::compile::Compiler;
use netpol_core::testing::{Choices, History};
use netpol_core::{Cluster, Scope, compile};

fuzz_target!(|tape: &[u8]| {
    let mut choices = Choices::new(tape);
    let history = History::new(&mut choices);
    let node = history.objects.iter().flat_map(|it| &it.nodes).next().map(|it| it.name.clone());
    let scope = match node {
        Some(node) if choices.one_in(2) => Scope::Node(node),
        _ => Scope::Cluster,
    };
    let mut cluster = Cluster::new(history.options);
    let mut compiler = Compiler::new(history.options, scope.clone());
    let mut told = Vec::new();
    while !choices.is_used_up() && told.len() < 60 {
        told.push(history.step(&mut choices, &mut cluster));
        if choices.one_in(3) {
            continue;
        }
        let changes = cluster.take_changes();
        compiler.update(&cluster, &changes);
        let fresh = compile(&cluster, scope.clone());
        assert_eq!(compiler.program().dump(), fresh.dump(), "{scope:?} after {told:?}");
    }
});
