//! `netpol demo` with real packets.

#![allow(clippy::print_stderr, reason = "a test says what it skips")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use support::{netpol, netpol_with};

#[test]
fn the_shop_is_as_its_policies_say() {
    let run = netpol(&["demo"]);
    if run.is_skipped() {
        return;
    }
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.out.ends_with("640 connections tried, all as the policies say\n"), "{}", run.out);
    let frontend = run.out.lines().find(|line| line.starts_with("h shop/frontend")).unwrap();
    assert!(
        frontend.ends_with("  . . . . . . . . .   X X X X X . X . X   X X X X X . X . X"),
        "before, expected, observed: {frontend}"
    );
    assert!(run.out.lines().all(|line| line.chars().count() <= 100 || line.contains("rule")));
}

#[test]
fn own_manifests_need_neither_nodes_nor_addresses() {
    let world = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {metadata: {labels: {app: web}}, spec: {containers: []}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {}
  ingress: [{ports: [{port: 8080}]}]
"#;
    let run = netpol_with(
        &["demo", "-f", "-", "--port", "8080/tcp", "--port", "81/udp", "--port", "icmp"],
        world,
    );
    if run.is_skipped() {
        return;
    }
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.out.ends_with("18 connections tried, all as the policies say\n"), "{}", run.out);
}

/// What the tools report and what packets find are two things.
#[test]
fn tools_that_do_nothing_are_found_out() {
    let directory = std::env::temp_dir().join(format!("netpol-idle-tools-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let rules = ["iptables-legacy", "ip6tables-legacy"];
    let rules =
        rules.iter().flat_map(|it| ["", "-restore", "-save"].map(|end| format!("{it}{end}")));
    for tool in rules.chain(["ipset".to_owned()]) {
        let path = directory.join(tool);
        fs::write(&path, "#!/bin/sh\necho v1.8.9\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let run = Command::new(env!("CARGO_BIN_EXE_netpol"))
        .args(["demo", "--backend", "iptables", "--variant", "legacy", "--port", "5432/tcp"])
        .env("PATH", format!("{}:{path}", directory.display()))
        .output()
        .unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let (out, notes) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    if run.status.code() == Some(5) {
        eprintln!("SKIPPED: {}", notes.trim());
        return;
    }
    assert_eq!(run.status.code(), Some(1), "{out}{notes}");
    assert!(out.contains("should be denied, was allowed"), "{out}");
    assert!(!out.contains("should be allowed, was denied"), "{out}");
}

/// In a user namespace that may not have any of its own network namespaces.
#[test]
fn without_network_namespaces_there_is_no_demo() {
    let none = "echo 0 > /proc/sys/user/max_net_namespaces && exec \"$0\" demo";
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", none, env!("CARGO_BIN_EXE_netpol")])
        .output()
        .unwrap();
    let notes = String::from_utf8_lossy(&run.stderr);
    if notes.starts_with("unshare:") {
        eprintln!("SKIPPED: {}", notes.trim());
        return;
    }
    assert_eq!(run.status.code(), Some(5), "{notes}");
    assert!(notes.contains("network namespaces cannot be made here"), "{notes}");
}
