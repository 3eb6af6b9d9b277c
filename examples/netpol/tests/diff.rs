//! `netpol diff` against the truth tables before and after.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;
use support::{netpol, netpol_with, own};

const PORTS: [(&str, u64); 5] =
    [("TCP", 8080), ("TCP", 9090), ("TCP", 5432), ("UDP", 53), ("TCP", 1)];

fn shop() -> (String, String) {
    let read = |file: &str| fs::read_to_string(own("../manifests").join(file)).unwrap();
    (read("shop.yaml"), read("shop-policies.yaml"))
}

/// Whether each pair of pods may connect on each port.
fn tables(manifests: &str) -> BTreeMap<(String, String, &'static str, u64), bool> {
    let mut open = BTreeMap::new();
    for (protocol, port) in PORTS {
        let wanted = format!("{port}/{protocol}");
        let run = netpol_with(&["list", "-f", "-", "--matrix", &wanted, "-o", "json"], manifests);
        let table: Value = serde_json::from_str(&run.out).unwrap();
        let ends: Vec<&str> =
            table["ends"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        for (from, row) in ends.iter().zip(table["rows"].as_array().unwrap()) {
            for (to, sign) in ends.iter().zip(row.as_str().unwrap().chars()) {
                let key = ((*from).to_owned(), (*to).to_owned(), protocol, port);
                open.insert(key, sign == '.');
            }
        }
    }
    open
}

/// The pods that an end in JSON stands for.
fn pods(end: &Value, all: &BTreeSet<String>) -> Vec<String> {
    let text = |field: &str| end[field].as_str().unwrap_or_default();
    match text("kind") {
        "Pod" => vec![format!("{}/{}", text("namespace"), text("name"))],
        "Namespace" => {
            let prefix = format!("{}/", text("name"));
            all.iter().filter(|it| it.starts_with(&prefix)).cloned().collect()
        }
        "AllPods" => all.iter().cloned().collect(),
        _ => Vec::new(),
    }
}

fn contains(traffic: &Value, protocol: &str, port: u64) -> bool {
    traffic.as_array().unwrap().iter().any(|it| {
        let bound = |which: &str| it["ports"][which].as_u64().unwrap();
        it["protocol"] == protocol && (bound("first")..=bound("last")).contains(&port)
    })
}

/// Without each of the policies in turn: exactly the pairs that differ in the truth tables are in the difference.
#[test]
fn the_difference_is_that_of_the_truth_tables() {
    let (workloads, policies) = shop();
    let documents: Vec<&str> = policies.split("---\n").collect();
    let directory = std::env::temp_dir().join(format!("netpol-diff-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let after_file = directory.join("after.yaml");
    let before = format!("{workloads}\n---\n{policies}");
    let then = tables(&before);
    let all: BTreeSet<String> = then.keys().map(|key| key.0.clone()).collect();
    let mut changed = 0;
    for left_out in 0..documents.len() {
        let mut some = documents.clone();
        some.remove(left_out);
        let after = format!("{workloads}\n---\n{}", some.join("---\n"));
        fs::write(&after_file, &after).unwrap();
        let now = tables(&after);
        let files = ["diff", "-f", "-", "-f", after_file.to_str().unwrap(), "-o", "json"];
        let run = netpol_with(&files, &before);
        let difference: Value = serde_json::from_str(&run.out).unwrap();
        assert_eq!(run.code, i32::from(difference["same"] == false), "{}", run.notes);
        let mut told: BTreeMap<_, (bool, bool)> = BTreeMap::new();
        for change in difference["changes"].as_array().unwrap() {
            for from in change["sources"].as_array().unwrap().iter().flat_map(|it| pods(it, &all)) {
                let destinations = change["destinations"].as_array().unwrap();
                for to in destinations.iter().flat_map(|it| pods(it, &all)) {
                    for (protocol, port) in PORTS {
                        let [a, b] =
                            ["before", "after"].map(|it| contains(&change[it], protocol, port));
                        let key = (from.clone(), to.clone(), protocol, port);
                        if a != b && from != to {
                            assert!(told.insert(key, (a, b)).is_none(), "told twice");
                        }
                    }
                }
            }
        }
        let differing: BTreeMap<_, (bool, bool)> = then
            .iter()
            .filter_map(|(key, open)| {
                (now[key] != *open).then_some((key.clone(), (*open, now[key])))
            })
            .collect();
        assert_eq!(told, differing, "without {}", documents[left_out]);
        changed += differing.len();
    }
    fs::remove_dir_all(&directory).unwrap();
    assert!(changed > 30, "{changed}");
}

const OLD: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: lb}}}], ports: [{port: 80}]}]
"#;

/// Writes two policies into files and compares them.
fn diff(name: &str, new: &str, flags: &[&str]) -> support::Run {
    let file = std::env::temp_dir().join(format!("netpol-diff-{name}-{}.yaml", std::process::id()));
    fs::write(&file, new).unwrap();
    let run =
        netpol_with(&[&["diff", "-f", "-", "-f", file.to_str().unwrap()], flags].concat(), OLD);
    fs::remove_file(&file).unwrap();
    run
}

#[test]
fn policies_alone_are_compared_by_their_selectors() {
    let wider = OLD.replace("{port: 80}", "{port: 80}, {port: 443}");
    let run = diff("wider", &wider, &[]);
    assert_eq!(
        (run.code, &*run.out),
        (1, "~ shop/[app=lb] => shop/[app=web] : TCP 80 -> TCP 80,443\n")
    );
    assert!(run.notes.ends_with("0 added, 0 removed, 1 changed\n"), "{}", run.notes);
    let other = OLD.replace("app: lb", "app: proxy");
    let run = diff("other", &other, &[]);
    let expected = "- shop/[app=lb] => shop/[app=web] : TCP 80\n+ shop/[app=proxy] => shop/[app=web] : TCP 80\n";
    assert_eq!((run.code, &*run.out), (1, expected));
    let run = diff(
        "blocks",
        &OLD.replace("{podSelector: {matchLabels: {app: lb}}}", "{ipBlock: {cidr: 10.0.0.0/8}}"),
        &["-q"],
    );
    assert_eq!((run.code, &*run.out), (1, ""));
}

#[test]
fn what_means_the_same_does_not_differ() {
    let split = OLD.replace("name: web", "name: other").replace(
        "ports: [{port: 80}]",
        "ports: [{port: 80, endPort: 80}, {port: 80, protocol: TCP}]",
    );
    let run = diff("same", &split, &[]);
    assert_eq!((run.code, &*run.out), (0, ""), "{}", run.notes);
    let run = diff("same-json", &split, &["-o", "json"]);
    let document: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((run.code, &document["same"]), (0, &Value::Bool(true)));
}

#[test]
fn workloads_may_be_common_to_both() {
    let (workloads, _) = shop();
    let closed = OLD.replace("app: web", "app: frontend");
    let directory = std::env::temp_dir().join(format!("netpol-common-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let [common, before, after] = [("common", &*workloads), ("before", ""), ("after", &closed)]
        .map(|(name, text)| {
            let path = directory.join(format!("{name}.yaml"));
            fs::write(&path, text).unwrap();
            path.display().to_string()
        });
    let run = netpol(&["diff", "-f", &before, "-f", &after, "--common", &common]);
    fs::remove_dir_all(&directory).unwrap();
    // Where there was no policy, everything was open.
    let expected = "- all pods, world => shop/frontend : all\n";
    assert_eq!((run.code, &*run.out), (1, expected));
}

#[test]
fn exit_codes() {
    let shop = own("../manifests").display().to_string();
    assert_eq!(netpol(&["diff", "-f", &shop, "-f", &shop]).code, 0);
    assert_eq!(netpol(&["diff", "-f", &shop]).code, 2, "one input");
    assert_eq!(netpol(&["diff", "-f", "-", "-f", "-"]).code, 2, "standard input twice");
    assert_eq!(netpol(&["diff", "-f", &shop, "-f", "/nonexistent"]).code, 3);
    assert_eq!(diff("broken", "not: [closed", &[]).code, 3);
}

/// Two connections in a network namespace of their own, one of which the change forbids.
#[test]
fn live_connections_that_a_change_forbids_are_listed() {
    let directory = std::env::temp_dir().join(format!("netpol-live-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let pod = |name: &str, address: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: x, labels: {{app: {name}}}}}\nstatus: {{podIP: {address}}}\n"
        )
    };
    let policy = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: b, namespace: x}\n\
                  spec: {podSelector: {matchLabels: {app: b}}, ingress: [{ports: [{port: 53, protocol: UDP}]}]}\n";
    let before = pod("a", "10.0.0.1") + &pod("b", "10.0.0.2");
    fs::write(directory.join("after.yaml"), format!("{before}{policy}")).unwrap();
    fs::write(directory.join("before.yaml"), &before).unwrap();
    let script = "set -e
        export PATH=$PATH:/usr/sbin:/sbin
        ip link set lo up
        ip addr add 10.0.0.1/32 dev lo
        ip addr add 10.0.0.2/32 dev lo
        ip route replace local 10.0.0.2 dev lo src 10.0.0.1 table local
        nft 'add table t; add chain t c { type filter hook output priority 0; }; add rule t c ct state new accept'
        echo > /dev/udp/10.0.0.2/53
        echo > /dev/udp/10.0.0.2/5353
        echo ready
        $0 diff -f before.yaml -f after.yaml --live-flows || echo $?";
    let output = std::process::Command::new("unshare")
        .args(["--map-root-user", "--net", "bash", "-c", script, env!("CARGO_BIN_EXE_netpol")])
        .current_dir(&directory)
        .output();
    fs::remove_dir_all(&directory).unwrap();
    let output = match output {
        Ok(output) if output.stdout.starts_with(b"ready") => {
            String::from_utf8(output.stdout).unwrap()
        }
        other => {
            eprintln!("SKIPPED: no connections could be made in a network namespace: {other:?}");
            return;
        }
    };
    let cut: Vec<&str> = output.lines().filter(|line| line.contains("cut ")).collect();
    assert_eq!(cut, ["cut x/a (10.0.0.1) -> x/b (10.0.0.2) 5353/udp"], "{output}");
    assert!(output.ends_with("\n1\n"), "{output}");
}
