//! A cluster of the shape of a real one: 13,678 policies and 5,413 pods in 604 namespaces (k8s-netpol-scale,
//! yaml-analysis: a quarter of the policies selects nothing, the median one selects 6 pods and has one peer, which is
//! a block with one port or a selector of 2 pods). A tenth of it by default; all of it, with limits on time and memory,
//! with `NETPOL_LONG=1` and `--release`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells figures"
)]

mod support;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const NAMESPACES: usize = 604;
const PODS: usize = 5_413;
const POLICIES: usize = 13_678;

/// How many namespaces have policies: eight in ten.
fn policed(scale: usize) -> usize {
    NAMESPACES / scale * 8 / 10
}

/// As `kubectl get ns,pods,netpol -A -o yaml` prints them, but for the list around them.
fn cluster(scale: usize) -> String {
    let (namespaces, pods, policies) = (NAMESPACES / scale, PODS / scale, POLICIES / scale);
    let mut yaml = String::new();
    for at in 0..namespaces {
        let env = if at % 3 == 0 { "test" } else { "prod" };
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: ns-{at}\n  labels:\n    env: {env}\n    \
             kubernetes.io/metadata.name: ns-{at}\n"
        );
    }
    for at in 0..pods {
        // Two in a hundred pods are in the two largest namespaces.
        let namespace = if at % 40 == 0 { at % 2 } else { at % namespaces };
        let app = at / namespaces % 12;
        let [third, fourth] = [at / 250, at % 250 + 1];
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: app-{app}-{at}\n  namespace: ns-{namespace}\n  \
             labels:\n    app: app-{app}\n    pod-template-hash: 5d8f{app}\nspec:\n  nodeName: node-{}\n  \
             containers:\n  - name: main\n    image: registry.example.com/app:{app}\n    ports:\n    \
             - containerPort: 8080\n      name: http\n      protocol: TCP\nstatus:\n  phase: Running\n  podIP: \
             10.{}.{}.{fourth}\n  podIPs:\n  - ip: 10.{}.{}.{fourth}\n",
            at % 100,
            third / 250,
            third % 250,
            third / 250,
            third % 250,
        );
    }
    for at in 0..policies {
        let (namespace, kind) = (at % policed(scale), at / policed(scale));
        let app = |other: usize| (kind + other) % 12;
        let port = 8000 + kind % 7;
        let (subject, direction, peer) = match (kind % 28, at % 200) {
            (0, _) => ("{}".to_owned(), "Ingress", String::new()),
            (1, _) => ("{}".to_owned(), "Ingress", "  - podSelector: {}\n".to_owned()),
            (_, 199) => (
                "{}".to_owned(),
                "Ingress",
                "  - namespaceSelector:\n      matchLabels:\n        env: prod\n".to_owned(),
            ),
            (2..=8, _) => (
                format!("\n    matchLabels:\n      app: gone-{kind}"),
                "Ingress",
                "  - podSelector: {}\n".to_owned(),
            ),
            (9..=14, _) => (
                "{}".to_owned(),
                "Egress",
                format!("  - ipBlock:\n      cidr: 172.{}.{}.0/24\n", 16 + kind % 16, at % 250),
            ),
            (15 | 16, _) => (
                "{}".to_owned(),
                "Ingress",
                "  - namespaceSelector:\n      matchLabels:\n        kubernetes.io/metadata.name: ns-3\n    podSelector:\n      \
                 matchLabels:\n        app: app-1\n"
                    .to_owned(),
            ),
            _ => (
                format!("\n    matchLabels:\n      app: app-{}", app(0)),
                "Ingress",
                format!("  - podSelector:\n      matchLabels:\n        app: app-{}\n", app(5)),
            ),
        };
        let subject = if subject == "{}" { " {}" } else { &subject };
        let (list, rules) = match direction {
            "Ingress" => ("from", "ingress"),
            _ => ("to", "egress"),
        };
        let _ = write!(
            yaml,
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: policy-{kind}\n  \
             namespace: ns-{namespace}\nspec:\n  podSelector:{subject}\n  policyTypes:\n  - {direction}\n"
        );
        if !peer.is_empty() {
            let ports = match kind % 3 {
                0 if direction == "Ingress" => String::new(),
                _ => format!("    ports:\n    - port: {port}\n      protocol: TCP\n"),
            };
            let peer: String = peer.lines().map(|line| format!("  {line}\n")).collect();
            let _ = write!(yaml, "  {rules}:\n  - {list}:\n{peer}{ports}");
        }
    }
    yaml
}

/// How a run went: its output, how long it took, and the most memory that it had, in MiB.
fn run(arguments: &[&str]) -> (i32, String, Duration, u64) {
    let output =
        std::env::temp_dir().join(format!("netpol-scale-{}-{}", std::process::id(), arguments[0]));
    let begin = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_netpol"))
        .args(arguments)
        .stdout(fs::File::create(&output).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let code = loop {
        let memory = fs::read_to_string(&status).unwrap_or_default();
        let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|it| it.trim().trim_end_matches(" kB").parse::<u64>().ok());
        most = most.max(peak.unwrap_or_default() / 1024);
        if let Some(status) = child.try_wait().unwrap() {
            break status.code().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let took = begin.elapsed();
    let text = fs::read_to_string(&output).unwrap();
    fs::remove_file(&output).unwrap();
    eprintln!("{}: {} ms, {most} MiB", arguments[0], took.as_millis());
    (code, text, took, most)
}

#[test]
fn a_cluster_of_that_shape_is_answered_in_time() {
    let long = std::env::var_os("NETPOL_LONG").is_some();
    let file = std::env::temp_dir().join(format!("netpol-scale-{}.yaml", std::process::id()));
    let scale = if long { 1 } else { 10 };
    fs::write(&file, cluster(scale)).unwrap();
    questions(&file, scale, long && !cfg!(debug_assertions));
    fs::remove_file(&file).unwrap();
}

fn questions(file: &Path, scale: usize, limits: bool) {
    let file = file.to_str().unwrap();
    // The first of the policies with a block, of the fourth namespace.
    let peer = format!("172.25.{}.5:8002", (9 * policed(scale) + 3) % 250);
    let (code, yes, check, _) = run(&["check", "-f", file, "ns-3/[app=app-1]", &peer]);
    assert_eq!((code, &*yes), (0, "yes\n"), "{peer}");
    let (code, list, listing, memory) = run(&["list", "-f", file, "-o", "json"]);
    assert_eq!(code, 0);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert!(list["connections"].as_array().unwrap().len() > 100);
    let (code, findings, lint, _) =
        run(&["lint", "-f", file, "-o", "json", "--fail-on", "warning"]);
    assert_eq!(code, 1);
    assert!(findings.contains("NP001") && findings.contains("NP008"), "selects nothing, redundant");
    if limits {
        assert!(check < Duration::from_secs(1), "check takes {check:?}");
        assert!(listing < Duration::from_secs(10), "list takes {listing:?}");
        assert!(memory < 1024, "list takes {memory} MiB");
        assert!(lint < Duration::from_secs(10), "lint takes {lint:?}");
    }
}
