//! Cases of policies and what is expected of them, end to end: the objects are created by way of the API, and real
//! packets tell what the agents make of them. The project's own, and with `NETPOL_CORPUS` those of Kubernetes' own
//! end-to-end tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use netpol_testbed::{Probe, Traffic};
use serde_json::{Value, json};

use crate::Check;
use crate::world::{NODES, World, addresses, documents, label};

pub(crate) const CHECKS: &[Check] =
    &[("the_projects_own_cases", own_cases), ("the_cases_of_kubernetes", kubernetes_cases)];

fn own_cases(world: &mut World) -> Result<(), String> {
    run(world, &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases"), "");
    Ok(())
}

fn kubernetes_cases(world: &mut World) -> Result<(), String> {
    let Some(corpus) = std::env::var_os("NETPOL_CORPUS").map(PathBuf::from) else {
        return Err("set NETPOL_CORPUS to the directory of the conformance corpus".to_owned());
    };
    let cases = run(world, &corpus.join("conformance"), "k8s-e2e-");
    assert!(cases >= 60, "{cases} cases");
    Ok(())
}

/// Runs the cases whose names begin with `prefix`; returns how many.
fn run(world: &mut World, directory: &Path, prefix: &str) -> usize {
    let mut cases: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && name(path).starts_with(prefix))
        .collect();
    cases.sort();
    let (begin, mut rows, mut slowest) = (Instant::now(), 0, 0);
    for case in &cases {
        take_over(world, case);
        let expected = expectations(world, case);
        rows += expected.len();
        let took = world.expect(&name(case), &expected);
        slowest = slowest.max(took.as_millis());
    }
    println!(
        "        {} cases, {rows} rows in {:.1} s; until the last was right {slowest} ms at most",
        cases.len(),
        begin.elapsed().as_secs_f64()
    );
    cases.len()
}

/// Makes the cluster that of a case, by the changes that lead to it from the one before.
fn take_over(world: &mut World, case: &Path) {
    let read = |file: &str| documents(&fs::read_to_string(case.join(file)).unwrap());
    let policies = read("policies.yaml");
    let objects = read("cluster.yaml");
    let wanted: Vec<String> = policies.iter().map(label).collect();
    for old in world.list("networking.k8s.io/v1", "NetworkPolicy") {
        if !wanted.contains(&label(&old)) {
            world.delete(&old);
        }
    }
    let of_kind = |kind: &'static str| objects.iter().filter(move |it| it["kind"] == kind);
    of_kind("Namespace").for_each(|namespace| world.apply(namespace));
    let pods: Vec<Value> = of_kind("Pod").map(|pod| place(pod.clone())).collect();
    let names: Vec<String> = pods.iter().map(label).collect();
    let differs = |pod: &Value, other: &Value| {
        pod["spec"] != other["spec"] || pod["status"] != other["status"]
    };
    for old in world.pod_names() {
        let new = names.iter().position(|name| *name == old).map(|at| &pods[at]);
        if new.is_none_or(|new| differs(new, world.pod(&old).unwrap())) {
            world.stop_pod(&old);
        }
    }
    for pod in &pods {
        match world.pod(&label(pod)) {
            None => world.start_pod(pod),
            Some(old) if old["metadata"]["labels"] != pod["metadata"]["labels"] => {
                world.label_pod(&label(pod), &pod["metadata"]["labels"]);
            }
            Some(_) => {}
        }
    }
    policies.iter().for_each(|policy| world.apply(policy));
}

/// A pod of a case, on three nodes rather than two.
fn place(mut pod: Value) -> Value {
    if pod["metadata"]["name"] == "c" {
        pod["spec"]["nodeName"] = NODES[2].into();
    }
    if pod["metadata"]["labels"].is_null() {
        pod["metadata"]["labels"] = json!({});
    }
    pod
}

/// The rows of a case that do not depend on a point that the API leaves open.
fn expectations(world: &World, case: &Path) -> Vec<(Probe, bool)> {
    let lines = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(case.join(file)).unwrap_or_default();
        text.lines().skip(1).map(str::to_owned).collect()
    };
    let mut rows = lines("expect.tsv");
    assert!(!rows.is_empty());
    if std::env::var_os("NETPOL_LONG").is_some() {
        rows.extend(lines("derived.tsv"));
    }
    let expected = |row: &String| {
        let [from, to, protocol, port, expected] = *row.split('\t').collect::<Vec<_>>() else {
            panic!("{row}");
        };
        let port = port.parse().unwrap_or_default();
        let traffic = match protocol {
            "TCP" => Traffic::Tcp(port),
            "UDP" => Traffic::Udp(port),
            "SCTP" => Traffic::Sctp(port),
            "ICMP" => Traffic::Icmp,
            other => panic!("{other}"),
        };
        (world.probe(from, to, traffic), expected == "allow")
    };
    let rows: Vec<_> = rows.iter().map(expected).collect();
    assert!(world.pod_names().iter().all(|pod| !addresses(world.pod(pod).unwrap()).is_empty()));
    rows
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
