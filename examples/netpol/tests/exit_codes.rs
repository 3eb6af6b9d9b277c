//! The exit codes that the other tests do not come by: for every command, every code that it is documented to have and
//! that takes no kernel. `tests/host` has those that do.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use support::{netpol_with, own};

const PODS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: x}, status: {podIP: 10.0.0.2}}
";
const BROKEN: &str = "kind: [";
/// The API server would not accept it.
const REFUSED: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec: {podSelector: {}, policyTypes: [Ingres]}
";

#[test]
fn every_command_has_those_it_is_documented_to_have() {
    let case = own("tests/cases/default-deny").display().to_string();
    let expectations = format!("{case}/expect.tsv");
    let missing = "/nonexistent/expect.tsv";
    for (arguments, input, code) in [
        (&["check", "-f", "-", "x/a", "x/b:80"][..], PODS, 0),
        (&["check", "-f", "-", "x/a", "x/b:80", "-o", "json"], PODS, 2),
        (&["check", "-f", "-", "x/a", "x/c:80"], PODS, 3),
        (&["explain", "-f", "-", "x/a", "x/b:80"], PODS, 0),
        (&["explain", "-f", "-", "x/a", "x/b"], PODS, 2),
        (&["explain", "-f", "-", "x/a", "x/b:80"], BROKEN, 3),
        (&["list", "-f", "-"], PODS, 0),
        (&["list", "-f", "-", "-o", "pdf"], PODS, 2),
        (&["list", "-f", "-"], BROKEN, 3),
        (&["diff", "-f", "-"], PODS, 2),
        (&["lint", "-f", "-"], PODS, 0),
        (&["lint", "-f", "-", "--deny", "everything"], PODS, 2),
        (&["lint", "-f", "-"], BROKEN, 3),
        (&["test", "-f", &case, &expectations], "", 0),
        (&["test", "-f", &case], "", 2),
        (&["test", "-f", &case, missing], "", 3),
        (&["test", "-f", "-", &expectations], BROKEN, 3),
        (&["validate", "-f", "-"], PODS, 0),
        (&["validate", "-f", "-"], REFUSED, 1),
        (&["validate"], "", 2),
        (&["validate", "-f", "-"], BROKEN, 3),
        (&["render", "-f", "-"], PODS, 0),
        (&["render", "-f", "-", "--backend", "ebpf"], PODS, 2),
        (&["render", "-f", "-"], BROKEN, 3),
        (&["render", "-f", "-", "--endpoints", "/nonexistent"], PODS, 3),
        (&["apply", "-f", "-"], BROKEN, 3),
        (&["apply", "-f", "-", "--instance", "no name"], PODS, 2),
        (&["status", "-f", "-"], BROKEN, 3),
        (&["verify"], "", 2),
        (&["verify", "-f", "-"], BROKEN, 3),
        (&["flush", "--instance", "no name"], "", 2),
        (&["run"], "", 2),
        (&["doctor", "--backend", "ebpf"], "", 2),
        (&["doctor", "-f", "-"], BROKEN, 3),
        (&["demo", "--port", "http/xyz"], "", 2),
        (&["completions", "fish"], "", 0),
        (&["completions"], "", 2),
        (&["man"], "", 2),
        (&["man", "/dev/null/no"], "", 3),
        (&["sing"], "", 2),
    ] {
        let run = netpol_with(arguments, input);
        assert_eq!(run.code, code, "{arguments:?}: {}{}", run.out, run.notes);
    }
}
