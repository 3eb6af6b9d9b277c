//! `netpol list` against single answers of `netpol check`, and where families or pods are missing.

mod support;

use serde_json::Value;
use support::{netpol, netpol_with, own};

/// Every pair of pods and every port that policies mention: the truth table says what `check` says.
#[test]
fn the_truth_table_is_what_check_answers() {
    let shop = own("../manifests").display().to_string();
    for port in ["8080/tcp", "9090/tcp", "5432/tcp", "53/udp", "icmp"] {
        let run = netpol(&["list", "-f", &shop, "--matrix", port, "-o", "json"]);
        let table: Value = serde_json::from_str(&run.out).unwrap();
        let ends: Vec<&str> =
            table["ends"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        assert_eq!(ends.len(), 8);
        // A quarter of the cells is enough, each port another one.
        for (row, from) in ends.iter().enumerate() {
            for (column, to) in ends.iter().enumerate() {
                if (row + column + port.len()) % 4 != 0 {
                    continue;
                }
                let sign = table["rows"][row].as_str().unwrap().chars().nth(column).unwrap();
                let question = ["check", "-f", &shop, from, &format!("{to}:{port}")];
                let expected = if netpol(&question).code == 0 { '.' } else { 'X' };
                assert_eq!(sign, expected, "{from} -> {to}:{port}");
            }
        }
    }
}

const DUAL: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x}
status: {podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: x, labels: {app: b}}
status: {podIPs: [{ip: 10.0.0.2}, {ip: "fd00::2"}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: v4, namespace: x}
spec:
  podSelector: {matchLabels: {app: b}}
  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]
"#;

#[test]
fn what_holds_in_one_family_only_says_so() {
    let run = netpol_with(&["list", "-f", "-", "--to", "x/b"], DUAL);
    assert_eq!(run.out, "10.0.0.0/8 => x/b : all\nx/a => x/b : all (IPv4 only)\n");
    let run = netpol_with(&["list", "-f", "-", "--matrix"], DUAL);
    assert_eq!(run.out, "any port   a b\na x/a      . 4\nb x/b      . .\n\n");
}

#[test]
fn policies_alone_are_listed_by_their_selectors() {
    let policies = DUAL.split("---\n").last().unwrap();
    let run = netpol_with(&["list", "-f", "-", "--from", "world"], policies);
    assert_eq!(
        run.out,
        "world except 10.0.0.0/8 => [any namespace]/[any pod] : all\n\
         10.0.0.0/8 => [any namespace]/[any pod], x/[app=b] : all\n"
    );
    assert!(run.notes.starts_with("there are no pods in the input"), "{}", run.notes);
}

#[test]
fn the_order_of_the_input_does_not_matter() {
    let mut documents: Vec<&str> = DUAL.split("---\n").collect();
    let list = |documents: &[&str]| {
        netpol_with(&["list", "-f", "-", "-o", "json"], &documents.join("\n---\n")).out
    };
    let expected = list(&documents);
    documents.reverse();
    assert_eq!(list(&documents), expected);
}

#[test]
fn exit_codes() {
    let run = netpol_with(&["list", "-f", "-"], "not: [closed");
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(netpol(&["list", "-f", "/nonexistent"]).code, 3);
    assert_eq!(netpol(&["list"]).code, 2, "there is no input");
    assert_eq!(netpol_with(&["list", "-f", "-", "--to", "x/nobody"], DUAL).code, 3);
    assert_eq!(netpol_with(&["list", "-f", "-", "--to", "a/b/c/d"], DUAL).code, 2);
    assert_eq!(netpol_with(&["list", "-f", "-", "--matrix", "-o", "wide"], DUAL).code, 2);
    assert_eq!(netpol_with(&["list", "-f", "-", "--matrix", "--from", "world"], DUAL).code, 2);
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n";
    assert_eq!(netpol_with(&["list", "-f", "-"], service).code, 0);
    assert_eq!(netpol_with(&["list", "-f", "-", "--strict"], service).code, 3);
}

#[test]
fn colours_are_for_terminals_and_for_who_asks() {
    let shop = own("../manifests").display().to_string();
    for (color, expected) in [("auto", false), ("always", true), ("never", false)] {
        let run = netpol(&["list", "-f", &shop, "--color", color]);
        assert_eq!((run.code, run.out.contains('\u{1b}')), (0, expected), "{color}");
    }
    assert_eq!(netpol(&["--color", "sometimes", "list", "-f", &shop]).code, 2);
}
