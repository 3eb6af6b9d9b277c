//! `netpol validate` against the API server's verdicts, which a corpus has; it is not part of the project.

mod support;

use std::fs;

use serde_json::Value;
use support::{corpus, directories, netpol, netpol_with};

#[test]
fn verdicts_are_those_of_the_api_server() {
    let Some(cases) = corpus("conformance-invalid") else { return };
    let mut wrong = Vec::new();
    for case in directories(&cases) {
        let expect = fs::read_to_string(case.join("expect.txt")).unwrap();
        let expected = |field: &str| {
            let line = expect.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|rest| rest.strip_prefix(": ")).unwrap_or_default()
        };
        let manifest = case.join("manifest.yaml").display().to_string();
        let run = netpol(&["validate", "-f", &manifest, "-o", "json"]);
        let result: Value = serde_json::from_str(&run.out).unwrap();
        let errors = result["errors"].as_array().unwrap();
        let found: Vec<_> = errors
            .iter()
            .map(|it| (it["path"].as_str().unwrap(), it["reason"].as_str().unwrap()))
            .collect();
        let (code, wanted) = match expected("verdict") {
            "accept" => (0, Vec::new()),
            _ => (1, vec![(expected("path"), expected("reason"))]),
        };
        if (run.code, &found) != (code, &wanted) {
            wrong.push(format!(
                "{}: {} {found:?}, expected {code} {wanted:?}",
                case.display(),
                run.code
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each document has something else to tell, and none keeps the others from being read.
const STREAM: &str = r#"# A comment, and nothing else.
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: first, namespace: shop}
spec:
  podSelector: {}
  podSelector: {}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: second, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from:
    - podSelector: {}
      namespaceSelectr: {}
    - ipBlock:
        cidr: 10.0.0.1/8
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web}
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata:
    name: third
    namespace: shop
    labels:
      app.kubernetes.io/name: [web]
  spec: {}
"#;

#[test]
fn every_document_is_read_and_every_fault_has_its_line() {
    let run = netpol_with(&["validate", "-f", "-"], STREAM);
    let lines: Vec<&str> = run.out.lines().collect();
    let begins = [
        "<stdin>:8: error: document 1: not readable as YAML: duplicate mapping key: podSelector",
        "<stdin>:20: error: NetworkPolicy shop/second: spec.ingress[0].from[1].ipBlock.cidr: Invalid: \"10.0.0.1/8\"",
        "<stdin>:18: warning: NetworkPolicy shop/second: spec.ingress[0].from[0].namespaceSelectr: there is no such \
         field; did you mean \"namespaceSelector\"?",
        "<stdin>:34: error: NetworkPolicy shop/third: BadRequest: metadata.labels.app.kubernetes.io/name: a string",
    ];
    assert_eq!(lines.len(), begins.len(), "{run:#?}");
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line}\nshould begin with\n{begin}");
    }
    assert_eq!(run.notes, "1 object skipped: 1 Service\n");
    assert_eq!(run.code, 3, "a document that cannot be read");
}

/// As kubectl has it: what begins with a brace may still be YAML.
#[test]
fn yaml_may_begin_with_a_brace() {
    let stream = "
{apiVersion: v1, kind: Namespace, metadata: {name: x}}
---
apiVersion: v1
kind: Namespace
metadata: {name: z}
";
    let run = netpol_with(&["validate", "-f", "-"], stream);
    assert_eq!(run.code, 0, "{}{}", run.out, run.notes);
    let run = netpol_with(&["validate", "-f", "-"], &stream.replace('z', "y"));
    assert!(run.out.contains("metadata.name: a string in quotes is needed"), "{run:?}");
    let run = netpol_with(&["validate", "-f", "-"], "{\"kind\": \"Pod\"");
    assert!(run.out.contains("not readable as JSON"), "{run:?}");
}

#[test]
fn json_is_read_like_yaml_and_several_values_may_follow_each_other() {
    let policy = r#"{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "a", "namespace": "shop"}, "spec": {"podSelector": {}}}"#;
    let run = netpol_with(&["validate", "-f", "-"], &format!("{policy}\n{policy}"));
    assert_eq!((run.code, &*run.out), (0, "2 objects accepted\n"));
    let run = netpol_with(&["validate", "-f", "-"], &format!("{policy}\n{{\"a\": }}"));
    assert!(
        run.out.starts_with("<stdin>:3: error: document 2: not readable as JSON: "),
        "{run:#?}"
    );
    assert_eq!(run.code, 3);
}

#[test]
fn a_pod_list_need_not_repeat_the_kind_and_large_streams_are_read() {
    let pods = (0..3000).map(|at| format!("- metadata: {{name: p{at}, namespace: shop}}\n"));
    let list = format!("apiVersion: v1\nkind: PodList\nitems:\n{}", pods.collect::<String>());
    let run = netpol_with(&["validate", "-f", "-"], &list);
    assert_eq!((run.code, &*run.out), (0, "3000 objects accepted\n"));
    let documents = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n---\n".repeat(3000);
    let run = netpol_with(&["validate", "-f", "-"], &documents);
    assert_eq!((run.code, &*run.out), (0, "3000 objects accepted\n"));
}

#[test]
fn strict_takes_unknown_kinds_and_fields_for_errors() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n";
    assert_eq!(netpol_with(&["validate", "-f", "-"], service).code, 0);
    assert_eq!(netpol_with(&["validate", "-f", "-", "--strict"], service).code, 1);
    let field = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: {ingres: []}\n";
    assert_eq!(netpol_with(&["validate", "-f", "-"], field).code, 0);
    assert_eq!(netpol_with(&["validate", "-f", "-", "--strict"], field).code, 1);
}
