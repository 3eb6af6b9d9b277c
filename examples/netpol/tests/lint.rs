//! `netpol lint`: for each lint a policy that it finds, and one that nearly deserves it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use support::{Run, netpol, netpol_with, own};

const WORLD: &str = r#"
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: retail}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: kube-system}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: frontend, tier: edge}}
spec: {containers: [{name: a, ports: [{name: http, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.1.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: database}}
status: {podIPs: [{ip: 10.1.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: shop, labels: {app: agent}}
spec: {hostNetwork: true, nodeName: a}
---
apiVersion: v1
kind: Pod
metadata: {name: dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
status: {podIPs: [{ip: 10.1.0.3}]}
"#;

/// A NetworkPolicy of namespace `shop`.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

fn lint(policies: &str, flags: &[&str]) -> Run {
    netpol_with(&[&["lint", "-f", "-"], flags].concat(), &format!("{WORLD}{policies}"))
}

fn codes(policies: &str) -> BTreeSet<String> {
    let run = lint(policies, &["-o", "json"]);
    let document: Value = serde_json::from_str(&run.out).unwrap();
    let findings = document["findings"].as_array().unwrap();
    findings.iter().map(|it| it["code"].as_str().unwrap().to_owned()).collect()
}

/// `code` is found in the first policies and not in the second.
fn case(code: &str, fires: &str, near_miss: &str) {
    assert!(codes(fires).contains(code), "{code}: {:?} in {fires}", codes(fires));
    assert!(!codes(near_miss).contains(code), "{code} in {near_miss}");
}

/// One policy of this name that selects the frontend.
fn web(ingress_or_egress: &str) -> String {
    policy(
        "web",
        &format!("{{podSelector: {{matchLabels: {{app: frontend}}}}, {ingress_or_egress}}}"),
    )
}

#[test]
fn np001_selects_no_pod() {
    let spec = "{podSelector: {matchLabels: {app: payments}}}";
    case(
        "NP001",
        &policy("a", spec),
        &policy("a", "{podSelector: {matchLabels: {app: database}}}"),
    );
    // What nearly exists is told as such.
    assert!(!codes(&policy("a", "{podSelector: {matchLabels: {app: databse}}}")).contains("NP001"));
    let without_pods = netpol_with(&["lint", "-f", "-", "-o", "json"], &policy("a", spec));
    assert!(!without_pods.out.contains("NP001"), "{}", without_pods.out);
}

#[test]
fn np002_a_label_that_nearly_exists() {
    let selecting =
        |labels: &str| policy("a", &format!("{{podSelector: {{matchLabels: {labels}}}}}"));
    case("NP002", &selecting("{app: databse}"), &selecting("{app: database}"));
    case("NP002", &selecting("{App: database}"), &selecting("{app: payments}"));
    let from = |peer: &str| web(&format!("ingress: [{{from: [{peer}]}}]"));
    case(
        "NP002",
        &from("{namespaceSelector: {matchLabels: {team: retial}}}"),
        &from("{namespaceSelector: {matchLabels: {team: retail}}}"),
    );
    let run = lint(&selecting("{app: databse}"), &[]);
    assert!(
        run.out.contains("no pod there has app=databse; was app=database meant?"),
        "{}",
        run.out
    );
}

#[test]
fn np003_no_such_namespace() {
    let a = policy("a", "{podSelector: {}}");
    case("NP003", &a.replace("namespace: shop", "namespace: shpo"), &a);
}

#[test]
fn np004_names_forgotten() {
    let egress = |rules: &str| web(&format!("policyTypes: [Egress], egress: {rules}"));
    case(
        "NP004",
        &egress("[{to: [{podSelector: {matchLabels: {app: database}}}], ports: [{port: 5432}]}]"),
        &egress(
            "[{to: [{podSelector: {}}], ports: [{port: 5432}]}, {ports: [{port: 53, protocol: UDP}]}]",
        ),
    );
    // TCP is not enough; and what may do nothing needs no names.
    case("NP004", &egress("[{ports: [{port: 53, protocol: TCP}]}]"), &egress("[]"));
    let other = policy(
        "dns",
        "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}]}",
    );
    let both = egress("[{ports: [{port: 443}]}]") + &other;
    assert!(!codes(&both).contains("NP004"), "another policy of the pod may allow it");
}

#[test]
fn np005_rules_without_isolation() {
    case(
        "NP005",
        &web("policyTypes: [Ingress], ingress: [{}], egress: [{ports: [{port: 443}]}]"),
        &web("policyTypes: [Ingress, Egress], ingress: [{}], egress: [{ports: [{port: 443}]}]"),
    );
    case(
        "NP005",
        &web("policyTypes: [Egress], ingress: [{}]"),
        &web("ingress: [{}], egress: [{}]"),
    );
}

#[test]
fn np006_ingress_only() {
    case(
        "NP006",
        &policy("deny", "{podSelector: {}}"),
        &policy("deny", "{podSelector: {}, policyTypes: [Ingress]}"),
    );
    case(
        "NP006",
        &policy("deny", "{podSelector: {}, ingress: []}"),
        &policy("a", "{podSelector: {}, ingress: [{}]}"),
    );
}

#[test]
fn np007_overlap() {
    let one = web("ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]");
    let wider =
        |ports: &str| policy("b", &format!("{{podSelector: {{}}, ingress: [{{ports: {ports}}}]}}"));
    case("NP007", &(one.clone() + &wider("[{port: 443}]")), &(one + &wider("[{port: 80}]")));
}

#[test]
fn np008_redundant_policy() {
    let narrow = web(
        "ingress: [{from: [{podSelector: {matchLabels: {app: database}}}], ports: [{port: 80}]}]",
    );
    let wide = |ports: &str| {
        policy(
            "wide",
            &format!(
                "{{podSelector: {{}}, ingress: [{{from: [{{podSelector: {{}}}}], ports: {ports}}}]}}"
            ),
        )
    };
    case(
        "NP008",
        &(narrow.clone() + &wide("[{port: 1, endPort: 100}]")),
        &(narrow + &wide("[{port: 81, endPort: 100}]")),
    );
    // Several others together.
    let halves = "[{port: 80}, {port: 8080}]";
    let two = web(&format!("ingress: [{{ports: {halves}}}]"))
        + &policy("c", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}")
        + &policy("d", "{podSelector: {}, ingress: [{ports: [{port: 8080}]}]}");
    let run = lint(&two, &["-o", "csv"]);
    assert!(run.out.contains("warning,NP008,NetworkPolicy shop/web,"), "{}", run.out);
    assert!(!run.out.contains("NP008,NetworkPolicy shop/c"), "the database needs it: {}", run.out);
    // One without rules is a net.
    assert!(!codes(&web("ingress: [{ports: [{port: 80}]}]")).contains("NP008"));
    assert!(codes(&web("ingress: [{}]")).contains("NP008"), "as if it were not there");
    let nets = policy("a", "{podSelector: {}}") + &policy("b", "{podSelector: {}}");
    assert!(!codes(&nets).contains("NP008"));
}

#[test]
fn np009_redundant_rule() {
    let rules =
        |second: &str| web(&format!("ingress: [{{from: [{{podSelector: {{}}}}]}}, {second}]"));
    case(
        "NP009",
        &rules("{from: [{podSelector: {matchLabels: {app: database}}}], ports: [{port: 80}]}"),
        &rules("{from: [{namespaceSelector: {}}], ports: [{port: 80}]}"),
    );
    let cluster_wide = |first: &str| {
        format!(
            "\n---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: c}}\n\
             spec: {{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, ingress: [\
             {{action: Deny, from: [{{namespaces: {first}}}]}},\
             {{action: Deny, from: [{{namespaces: {{matchLabels: {{team: retail}}}}}}]}}]}}\n"
        )
    };
    // Denied before it is asked.
    case(
        "NP009",
        &cluster_wide("{}"),
        &cluster_wide("{matchLabels: {kubernetes.io/metadata.name: kube-system}}"),
    );
}

#[test]
fn np010_a_block_that_covers_pods() {
    let to = |block: &str| {
        web(&format!("policyTypes: [Egress], egress: [{{to: [{{ipBlock: {block}}}]}}]"))
    };
    case("NP010", &to("{cidr: 10.0.0.0/8}"), &to("{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}"));
    case("NP010", &to("{cidr: 10.1.0.2/32}"), &to("{cidr: 203.0.113.0/24}"));
}

#[test]
fn np011_an_except_that_does_nothing() {
    let to = |more: &str| {
        web(&format!(
            "policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}}}{more}]}}]"
        ))
    };
    case("NP011", &to(", {ipBlock: {cidr: 192.0.2.128/25}}"), &to(""));
    case(
        "NP011",
        &to(", {ipBlock: {cidr: 192.0.0.0/16}}"),
        &to(", {ipBlock: {cidr: 192.0.2.128/26}}"),
    );
}

#[test]
fn np012_a_port_that_nobody_declares() {
    let port = |name: &str| web(&format!("ingress: [{{ports: [{{port: {name}}}]}}]"));
    case("NP012", &port("https"), &port("http"));
    case("NP012", &port("http, protocol: UDP"), &port("8080"));
    let to = |port: &str| {
        web(&format!(
            "egress: [{{to: [{{podSelector: {{matchLabels: {{app: database}}}}}}], ports: [{{port: {port}}}]}}]"
        ))
    };
    case("NP012", &to("postgres"), &to("5432"));
}

#[test]
fn np013_host_network_subject() {
    case(
        "NP013",
        &policy("a", "{podSelector: {matchLabels: {app: agent}}}"),
        &policy("a", "{podSelector: {matchLabels: {app: database}}}"),
    );
}

#[test]
fn np014_protocol_defaulted() {
    let port = |entry: &str| web(&format!("ingress: [{{ports: [{entry}]}}]"));
    case("NP014", &port("{port: 80}"), &port("{port: 80, protocol: TCP}"));
    case("NP014", &port("{port: http}"), &port("{protocol: UDP}"));
}

#[test]
fn np015_cluster_wide_intention() {
    case(
        "NP015",
        &policy("global-deny", "{podSelector: {}}"),
        &policy("globalise", "{podSelector: {}}"),
    );
    let selecting =
        |key: &str| policy("a", &format!("{{podSelector: {{matchLabels: {{{key}: shop}}}}}}"));
    case("NP015", &selecting("kubernetes.io/metadata.name"), &selecting("app.kubernetes.io/name"));
}

#[test]
fn np016_unsupported() {
    let from = |peer: &str| web(&format!("ingress: [{{from: [{peer}]}}]"));
    case("NP016", &from("{serviceAccountSelector: {}}"), &from("{podSelector: {}}"));
}

#[test]
fn np017_a_peer_that_selects_nothing() {
    let from = |app: &str| {
        web(&format!("ingress: [{{from: [{{podSelector: {{matchLabels: {{app: {app}}}}}}}]}}]"))
    };
    case("NP017", &from("payments"), &from("database"));
}

#[test]
fn every_code_is_explained_and_the_page_is_up_to_date() {
    let page = netpol(&["lint", "--explain", "all"]);
    assert_eq!(page.code, 0);
    let file = own("LINTS.md");
    if std::env::var_os("NETPOL_BLESS").is_some() {
        fs::write(&file, &page.out).unwrap();
    }
    assert!(fs::read_to_string(file).unwrap() == page.out, "NETPOL_BLESS=1 writes the page anew");
    for code in 1..=17 {
        let code = format!("NP{code:03}");
        let run = netpol(&["lint", "--explain", &code.to_lowercase()]);
        assert!(run.code == 0 && run.out.starts_with(&code), "{run:?}");
        assert!(page.out.contains(&format!("\n## {code}\n")));
    }
    assert_eq!(netpol(&["lint", "--explain", "NP999"]).code, 2);
}

#[test]
fn places_and_exit_codes() {
    let warning = policy("a", "{podSelector: {matchLabels: {app: payments}}}");
    let run = lint(&warning, &[]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.out.starts_with("<stdin>:31: warning NP001: NetworkPolicy shop/a: spec.podSelector: "),
        "{}",
        run.out
    );
    assert_eq!(lint(&warning, &["--fail-on", "warning"]).code, 1);
    assert_eq!(lint(&warning, &["--deny", "warnings"]).code, 1);
    assert_eq!(lint(&warning, &["--deny", "np001"]).code, 1);
    assert_eq!(lint(&warning, &["--deny", "NP002"]).code, 0);
    assert_eq!(
        lint(&warning, &["--deny", "warnings", "--allow", "NP001", "--allow", "NP006"]).code,
        0
    );
    assert_eq!(lint(&warning, &["--deny", "NP"]).code, 2);
    assert_eq!(lint("\n---\nnot: [closed", &[]).code, 3);
    assert_eq!(lint(&web("ingress: [{from: [{serviceAccountSelector: {}}]}]"), &[]).code, 1);
    assert_eq!(netpol(&["lint"]).code, 2);
    let quiet = lint(&web("ingress: [{ports: [{port: 80}]}]"), &[]);
    assert_eq!((quiet.code, &*quiet.out), (0, ""), "information is for those who ask");
    assert!(lint(&web("ingress: [{ports: [{port: 80}]}]"), &["-v"]).out.contains("info NP014"));
}
