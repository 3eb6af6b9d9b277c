//! `netpol demo` with real packets.

mod support;

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
