//! Rules of the API server on create: NP-V-1…25, C-V-1…22, A-1…8.

use netpol_core::manifest::{Channel, ReadOptions, read_object};
use serde_json::json;

use crate::{anp_rules, cnp, cnp_rules, np, np_rule, read, repeated, strict, wide};

/// Checks that each manifest is rejected for exactly this, written as `path reason`.
fn check(cases: &[(&str, String, &str)]) {
    for (id, text, expected) in cases {
        let errors = read(text, &strict()).expect_err(&format!("{id}: accepted {text}")).errors;
        let found: Vec<_> = errors.iter().map(|e| format!("{} {}", e.path, e.reason)).collect();
        assert_eq!(found, [*expected], "{id}: {text}");
        assert!(!errors[0].message.is_empty(), "{id}");
    }
}

fn with_metadata(metadata: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {metadata}, \
         spec: {{podSelector: {{}}}}}}"
    )
}

#[test]
fn metadata() {
    let named = |name: &str| with_metadata(&format!("{{name: {name}, namespace: x}}"));
    let labelled =
        |labels: &str| with_metadata(&format!("{{name: p, namespace: x, labels: {labels}}}"));
    check(&[
        ("NP-V-1", with_metadata("{namespace: x}"), "metadata.name Required"),
        ("NP-V-1", named("''"), "metadata.name Required"),
        ("NP-V-1", named("Upper"), "metadata.name Invalid"),
        ("NP-V-1", named("under_score"), "metadata.name Invalid"),
        ("NP-V-1", named("-a"), "metadata.name Invalid"),
        ("NP-V-1", named("a-"), "metadata.name Invalid"),
        ("NP-V-1", named("a..b"), "metadata.name Invalid"),
        ("NP-V-1", named("a.-b"), "metadata.name Invalid"),
        ("NP-V-1", named(&"a".repeat(254)), "metadata.name Invalid"),
        (
            "NP-V-1",
            with_metadata("{generateName: _, namespace: x}"),
            "metadata.generateName Invalid",
        ),
        ("NP-V-2", with_metadata("{name: p}"), "metadata.namespace Required"),
        ("NP-V-2", with_metadata("{name: p, namespace: ''}"), "metadata.namespace Required"),
        ("NP-V-2", with_metadata("{name: p, namespace: a.b}"), "metadata.namespace Invalid"),
        ("NP-V-3", labelled("{a: b c}"), "metadata.labels Invalid"),
        ("NP-V-3", labelled("{-a: b}"), "metadata.labels Invalid"),
        ("NP-V-25", labelled("{a: 1}"), "<decode> BadRequest"),
        ("NP-V-25", labelled("[a]"), "<decode> BadRequest"),
        ("NP-V-25", named("1"), "<decode> BadRequest"),
    ]);
}

#[test]
fn selectors_of_network_policies() {
    let labels = |labels: &str| np(&format!("{{podSelector: {{matchLabels: {labels}}}}}"));
    let expression =
        |expression: &str| np(&format!("{{podSelector: {{matchExpressions: [{expression}]}}}}"));
    let at = |field: &str| format!("spec.podSelector.{field}");
    let long = "a".repeat(64);
    let bad_labels = [
        "{'': v}".to_owned(),
        "{-a: v}".to_owned(),
        "{a-: v}".to_owned(),
        "{a b: v}".to_owned(),
        "{a/b/c: v}".to_owned(),
        "{/a: v}".to_owned(),
        "{a/: v}".to_owned(),
        "{A.b/c: v}".to_owned(),
        format!("{{{long}: v}}"),
        format!(
            "{{{}/k: v}}",
            ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(62)].join(".")
        ),
        "{a: v w}".to_owned(),
        "{a: -v}".to_owned(),
        "{a: v.}".to_owned(),
        format!("{{a: {long}}}"),
    ];
    for bad in &bad_labels {
        check(&[("NP-V-4", labels(bad), &format!("{} Invalid", at("matchLabels")))]);
    }
    let first = |field: &str| at(&format!("matchExpressions[0].{field}"));
    let cases = [
        ("NP-V-5", "{key: a, operator: Gt, values: ['1']}", "operator", "Invalid"),
        ("NP-V-5", "{key: a, operator: in, values: [b]}", "operator", "Invalid"),
        ("NP-V-5", "{key: a, values: [b]}", "operator", "Invalid"),
        ("NP-V-5", "{key: a, operator: ''}", "operator", "Invalid"),
        ("NP-V-6", "{key: a, operator: In}", "values", "Required"),
        ("NP-V-6", "{key: a, operator: In, values: []}", "values", "Required"),
        ("NP-V-6", "{key: a, operator: NotIn, values: null}", "values", "Required"),
        ("NP-V-7", "{key: a, operator: Exists, values: [b]}", "values", "Forbidden"),
        ("NP-V-7", "{key: a, operator: DoesNotExist, values: [b]}", "values", "Forbidden"),
        ("NP-V-8", "{operator: Exists}", "key", "Invalid"),
        ("NP-V-8", "{key: '', operator: Exists}", "key", "Invalid"),
        ("NP-V-8", "{key: a b, operator: Exists}", "key", "Invalid"),
        ("NP-V-9", "{key: a, operator: In, values: [b, c d]}", "values[1]", "Invalid"),
        ("NP-V-9", "{key: a, operator: NotIn, values: [_b]}", "values[0]", "Invalid"),
    ];
    for (id, text, field, reason) in cases {
        check(&[(id, expression(text), &format!("{} {reason}", first(field)))]);
        // NP-V-10: the same in peers, for both selectors and directions.
        for (direction, list) in [("ingress", "from"), ("egress", "to")] {
            for selector in ["podSelector", "namespaceSelector"] {
                let spec = format!(
                    "{{podSelector: {{}}, {direction}: [{{{list}: [{{podSelector: {{}}}}, \
                     {{{selector}: {{matchExpressions: [{text}]}}}}]}}]}}"
                );
                let path =
                    format!("spec.{direction}[0].{list}[1].{selector}.matchExpressions[0].{field}");
                check(&[("NP-V-10", np(&spec), &format!("{path} {reason}"))]);
            }
        }
    }
    check(&[
        ("NP-V-25", labels("{a: 1}"), "<decode> BadRequest"),
        ("NP-V-25", labels("{a: true}"), "<decode> BadRequest"),
        ("NP-V-25", expression("{key: a, operator: In, values: b}"), "<decode> BadRequest"),
        ("NP-V-25", expression("{key: a, operator: In, values: [1]}"), "<decode> BadRequest"),
    ]);
}

#[test]
fn peers_of_network_policies() {
    let peer = |peer: &str| np_rule(&format!("{{from: [{{podSelector: {{}}}}, {peer}]}}"));
    let at = "spec.ingress[0].from[1]";
    let case = |id, text: &str, field: &str, reason: &str| {
        check(&[(id, peer(text), &format!("{at}{field} {reason}"))]);
    };
    case("NP-V-11", "{}", "", "Required");
    case("NP-V-11", "null", "", "Required");
    case("NP-V-11", "{podSelector: null}", "", "Required");
    case("NP-V-11", "{serviceAccounts: {}}", "", "Required");
    let block = "ipBlock: {cidr: 10.0.0.0/8}";
    case("NP-V-12", &format!("{{{block}, podSelector: {{}}}}"), "", "Forbidden");
    case("NP-V-12", &format!("{{{block}, namespaceSelector: {{}}}}"), "", "Forbidden");
    case(
        "NP-V-12",
        &format!("{{{block}, podSelector: {{}}, namespaceSelector: {{}}}}"),
        "",
        "Forbidden",
    );
    case("NP-V-13", "{ipBlock: {}}", ".ipBlock.cidr", "Required");
    case("NP-V-13", "{ipBlock: {cidr: ''}}", ".ipBlock.cidr", "Required");
    let bad_blocks = [
        ("NP-V-14", "10.0.0.0"),
        ("NP-V-14", "10.0.0/8"),
        ("NP-V-14", "10.0.0.0/33"),
        ("NP-V-14", "10.0.0.0/-1"),
        ("NP-V-14", "10.0.0.0/+8"),
        ("NP-V-14", "10.0.0.0/"),
        ("NP-V-14", "/8"),
        ("NP-V-14", "10.0.0.0/8/8"),
        ("NP-V-14", " 10.0.0.0/8"),
        ("NP-V-14", "10.0.0.256/32"),
        ("NP-V-14", "fd00::/129"),
        ("NP-V-14", "fd00:::/64"),
        ("NP-V-14", "fe80::1%eth0/128"),
        ("NP-V-14", "example.com/8"),
        ("NP-V-24", "10.0.0.1/8"),
        ("NP-V-24", "10.0.0.1/31"),
        ("NP-V-24", "fd00::1/64"),
        ("NP-V-24", "010.0.0.0/8"),
        ("NP-V-24", "10.0.0.00/8"),
        ("NP-V-24", "10.0.0.0/08"),
        ("NP-V-24", "fd00::/064"),
        ("NP-V-24", "0fd00::/64"),
        ("NP-V-24", "::ffff:10.0.0.0/104"),
        ("NP-V-24", "::ffff:a00:0/104"),
        ("NP-V-24", "::ffff:0:0/96"),
    ];
    for (id, text) in bad_blocks {
        case(id, &format!("{{ipBlock: {{cidr: '{text}'}}}}"), ".ipBlock.cidr", "Invalid");
        let excepted = format!("{{ipBlock: {{cidr: 0.0.0.0/0, except: [10.1.0.0/16, '{text}']}}}}");
        if id == "NP-V-14" || !text.contains(':') {
            case("NP-V-15", &excepted, ".ipBlock.except[1]", "Invalid");
        }
    }
    for except in ["10.0.0.0/8", "0.0.0.0/0", "10.0.0.0/7", "11.0.0.0/16", "fd00::/64", "::/0"] {
        let text = format!("{{ipBlock: {{cidr: 10.0.0.0/8, except: [10.1.0.0/16, '{except}']}}}}");
        case("NP-V-16", &text, ".ipBlock.except[1]", "Invalid");
    }
    case("NP-V-15", "{ipBlock: {cidr: 10.0.0.0/8, except: ['']}}", ".ipBlock.except[0]", "Invalid");
    check(&[
        ("NP-V-25", peer("{ipBlock: 10.0.0.0/8}"), "<decode> BadRequest"),
        ("NP-V-25", peer("{ipBlock: {cidr: 10}}"), "<decode> BadRequest"),
        ("NP-V-25", np_rule("{from: {podSelector: {}}}"), "<decode> BadRequest"),
        ("NP-V-25", peer("x"), "<decode> BadRequest"),
    ]);
}

#[test]
fn ports_of_network_policies() {
    for (direction, list) in [("ingress", "from"), ("egress", "to")] {
        let case = |id, text: &str, field: &str, reason: &str| {
            let spec = format!(
                "{{podSelector: {{}}, {direction}: [{{}}, {{{list}: [], ports: [{text}]}}]}}"
            );
            let path = format!("spec.{direction}[1].ports[0].{field}");
            check(&[(id, np(&spec), &format!("{path} {reason}"))]);
        };
        for word in ["ICMP", "tcp", "''", "6"] {
            let word = if word == "6" { "'6'" } else { word };
            case("NP-V-17", &format!("{{protocol: {word}}}"), "protocol", "NotSupported");
        }
        for number in ["0", "-1", "65536", "2147483647"] {
            case("NP-V-18", &format!("{{port: {number}}}"), "port", "Invalid");
        }
        let names =
            ["''", "'80'", "-a", "a-", "a--b", "Http", "a.b", "a_b", "sixteen-letters-", "'1-2'"];
        for name in names {
            case("NP-V-19", &format!("{{port: {name}}}"), "port", "Invalid");
        }
        case("NP-V-20", "{port: 80, endPort: 79}", "endPort", "Invalid");
        case("NP-V-20", "{port: 80, endPort: 0}", "endPort", "Invalid");
        case("NP-V-20", "{port: 80, endPort: 65536}", "endPort", "Invalid");
        case("NP-V-21", "{endPort: 80}", "endPort", "Invalid");
        case("NP-V-21", "{port: null, endPort: 80}", "endPort", "Invalid");
        case("NP-V-21", "{port: http, endPort: 80}", "endPort", "Invalid");
    }
    let entries = [
        "{port: 80.5}",
        "{port: 80.0}",
        "{port: true}",
        "{port: [80]}",
        "{port: 2147483648}",
        "{port: 80, endPort: '90'}",
        "{port: 80, endPort: 90.5}",
        "{protocol: 6}",
        "80",
    ];
    for entry in entries {
        let text = np_rule(&format!("{{ports: [{entry}]}}"));
        check(&[("NP-V-25", text, "<decode> BadRequest")]);
    }
}

#[test]
fn policy_types() {
    let types = |types: &str| np(&format!("{{podSelector: {{}}, policyTypes: {types}}}"));
    check(&[
        ("NP-V-22", types("[Ingress, Egress, Ingress]"), "spec.policyTypes Invalid"),
        ("NP-V-22", types("[a, b, c]"), "spec.policyTypes Invalid"),
        ("NP-V-23", types("[ingress]"), "spec.policyTypes[0] NotSupported"),
        ("NP-V-23", types("[Ingress, Both]"), "spec.policyTypes[1] NotSupported"),
        ("NP-V-23", types("['']"), "spec.policyTypes[0] NotSupported"),
        ("NP-V-25", types("Ingress"), "<decode> BadRequest"),
        ("NP-V-25", np("[]"), "<decode> BadRequest"),
        ("NP-V-25", np("{podSelector: {}, ingress: {}}"), "<decode> BadRequest"),
    ]);
}

#[test]
fn all_errors_of_an_object_come_at_once() {
    let text = np("{podSelector: {matchLabels: {a: b c}}, policyTypes: [x], \
        ingress: [{from: [{}], ports: [{port: 0, protocol: x}, {port: A}]}]}");
    let rejected = read(&text, &strict()).unwrap_err();
    let paths: Vec<_> = rejected.errors.iter().map(|error| &*error.path).collect();
    assert_eq!(
        paths,
        [
            "spec.podSelector.matchLabels",
            "spec.ingress[0].ports[0].protocol",
            "spec.ingress[0].ports[0].port",
            "spec.ingress[0].ports[1].port",
            "spec.ingress[0].from[0]",
            "spec.policyTypes[0]",
        ]
    );
    assert_eq!(rejected.to_string().lines().count(), 6);
    assert_eq!(rejected.object.to_string(), "NetworkPolicy x/p");
    let first = rejected.errors[0].to_string();
    assert!(first.starts_with("NetworkPolicy x/p: spec.podSelector.matchLabels: Invalid: \"b c\""));
}

#[test]
fn what_is_no_object() {
    check(&[
        ("decoding", "{kind: Pod, metadata: {name: p}}".to_owned(), "<decode> BadRequest"),
        ("decoding", "{apiVersion: v1, metadata: {name: p}}".to_owned(), "<decode> BadRequest"),
        ("decoding", "text".to_owned(), "<decode> BadRequest"),
        ("decoding", "[]".to_owned(), "<decode> BadRequest"),
    ]);
    // A policy must not be left out without a word because of its version.
    for (version, kind) in [
        ("extensions/v1beta1", "NetworkPolicy"),
        ("networking.k8s.io/v2", "NetworkPolicy"),
        ("policy.networking.k8s.io/v1alpha1", "ClusterNetworkPolicy"),
        ("policy.networking.k8s.io/v1", "AdminNetworkPolicy"),
        ("policy.networking.k8s.io/v1alpha2", "BaselineAdminNetworkPolicy"),
    ] {
        let text = format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: p}}}}");
        check(&[("version", text, "apiVersion NotSupported")]);
    }
}

#[test]
fn spec_of_cluster_network_policies() {
    let spec = |tier: &str, priority: &str, subject: &str| {
        cnp(&format!("{{tier: {tier}, priority: {priority}, subject: {subject}}}"))
    };
    let all = "{namespaces: {}}";
    check(&[
        ("C-V-1", cnp("null"), "spec Required"),
        ("C-V-1", cnp("{priority: 1, subject: {namespaces: {}}}"), "spec.tier Required"),
        ("C-V-1", spec("null", "1", all), "spec.tier Required"),
        ("C-V-1", cnp("{tier: Admin, subject: {namespaces: {}}}"), "spec.priority Required"),
        ("C-V-1", cnp("{tier: Admin, priority: 1}"), "spec.subject Required"),
        ("C-V-2", spec("admin", "1", all), "spec.tier NotSupported"),
        ("C-V-2", spec("''", "1", all), "spec.tier NotSupported"),
        ("C-V-3", spec("Admin", "-1", all), "spec.priority Invalid"),
        ("C-V-3", spec("Admin", "1001", all), "spec.priority Invalid"),
        ("C-V-3", spec("Admin", "5000000000", all), "spec.priority Invalid"),
        ("C-V-3", spec("Admin", "'1'", all), "spec.priority TypeInvalid"),
        ("C-V-3", spec("Admin", "1.5", all), "spec.priority TypeInvalid"),
        ("C-V-4", spec("Admin", "1", "{}"), "spec.subject Invalid"),
        ("C-V-4", spec("Admin", "1", "{pod: {}}"), "spec.subject Invalid"),
        (
            "C-V-4",
            spec("Admin", "1", "{namespaces: {}, pods: {podSelector: {}}}"),
            "spec.subject TooMany",
        ),
        (
            "C-V-5",
            spec("Admin", "1", "{pods: {namespaceSelector: {}}}"),
            "spec.subject.pods.podSelector Required",
        ),
        (
            "C-V-22",
            spec("Admin", "1", "{namespaces: {matchExpressions: [{operator: In}]}}"),
            "spec.subject.namespaces.matchExpressions[0].key Required",
        ),
        (
            "C-V-22",
            spec("Admin", "1", "{namespaces: {matchLabels: {a: 1}}}"),
            "spec.subject.namespaces.matchLabels.a TypeInvalid",
        ),
        ("types", cnp("[]"), "spec TypeInvalid"),
        (
            "NP-V-1",
            wide(
                "v1alpha2",
                "ClusterNetworkPolicy",
                "A",
                "{tier: Admin, priority: 1, subject: {namespaces: {}}}",
            ),
            "metadata.name Invalid",
        ),
    ]);
}

#[test]
fn rules_of_cluster_network_policies() {
    let deny = "{action: Deny, from: [{namespaces: {}}]}";
    let ingress = |rule: &str| cnp_rules(&format!("ingress: [{rule}]"));
    let egress_to = |peer: &str| cnp_rules(&format!("egress: [{{action: Deny, to: [{peer}]}}]"));
    check(&[
        (
            "C-V-2",
            ingress("{action: Allow, from: [{namespaces: {}}]}"),
            "spec.ingress[0].action NotSupported",
        ),
        (
            "C-V-2",
            ingress("{action: deny, from: [{namespaces: {}}]}"),
            "spec.ingress[0].action NotSupported",
        ),
        ("C-V-2", ingress("{from: [{namespaces: {}}]}"), "spec.ingress[0].action Required"),
        ("C-V-6", ingress(&repeated(deny, 26)), "spec.ingress TooMany"),
        ("C-V-7", ingress("{action: Deny}"), "spec.ingress[0].from Required"),
        ("C-V-7", ingress("{action: Deny, from: []}"), "spec.ingress[0].from Invalid"),
        (
            "C-V-7",
            ingress(&format!("{{action: Deny, from: [{}]}}", repeated("{namespaces: {}}", 26))),
            "spec.ingress[0].from TooMany",
        ),
        ("C-V-8", ingress("{action: Deny, from: [{}]}"), "spec.ingress[0].from[0] Invalid"),
        ("C-V-8", ingress("{action: Deny, from: [{who: {}}]}"), "spec.ingress[0].from[0] Invalid"),
        (
            "C-V-8",
            ingress("{action: Deny, from: [{namespaces: {}, pods: {podSelector: {}}}]}"),
            "spec.ingress[0].from[0] TooMany",
        ),
        (
            "C-V-9",
            ingress(&format!(
                "{{name: {}, action: Deny, from: [{{namespaces: {{}}}}]}}",
                "é".repeat(101)
            )),
            "spec.ingress[0].name TooLong",
        ),
        (
            "C-V-19",
            ingress("{action: Deny, from: [{networks: [10.0.0.0/8]}]}"),
            "spec.ingress[0].from[0] Invalid",
        ),
        (
            "C-V-19",
            ingress("{action: Deny, from: [{nodes: {}}]}"),
            "spec.ingress[0].from[0] Invalid",
        ),
        ("C-V-16", egress_to("{networks: []}"), "spec.egress[0].to[0].networks Invalid"),
        (
            "C-V-17",
            egress_to("{networks: [10.0.0.0/8, 11.0.0.0/8, 10.0.0.0/8]}"),
            "spec.egress[0].to[0].networks[2] Duplicate",
        ),
        (
            "C-V-17",
            egress_to(&format!("{{networks: ['{}::/64']}}", "0".repeat(40))),
            "spec.egress[0].to[0].networks[0] TooLong",
        ),
        (
            "C-V-17",
            egress_to("{networks: ['10.0.0.0']}"),
            "spec.egress[0].to[0].networks[0] Invalid",
        ),
        (
            "C-V-17",
            egress_to("{networks: ['::ffff:10.0.0.0/104']}"),
            "spec.egress[0].to[0].networks[0] Invalid",
        ),
        (
            "C-V-17",
            egress_to("{networks: [010.0.0.0/8]}"),
            "spec.egress[0].to[0].networks[0] Invalid",
        ),
        ("C-V-17", egress_to("{networks: [10]}"), "spec.egress[0].to[0].networks[0] TypeInvalid"),
        (
            "C-V-17",
            egress_to("{networks: 10.0.0.0/8}"),
            "spec.egress[0].to[0].networks TypeInvalid",
        ),
        ("C-V-20", egress_to("{nodes: {}}"), "spec.egress[0].to[0] Invalid"),
        ("C-V-20", egress_to("{domainNames: [example.com]}"), "spec.egress[0].to[0] Invalid"),
        ("C-V-21", egress_to("{domainNames: []}"), "spec.egress[0].to[0].domainNames Invalid"),
        (
            "C-V-21",
            egress_to("{domainNames: [a.b, a.b]}"),
            "spec.egress[0].to[0].domainNames[1] Duplicate",
        ),
    ]);
    let networks: Vec<_> = (0..26).map(|at| format!("10.{at}.0.0/16")).collect();
    let text = egress_to(&format!("{{networks: [{}]}}", networks.join(", ")));
    check(&[("C-V-16", text, "spec.egress[0].to[0].networks TooMany")]);
    for name in [
        "example",
        "'*'",
        "'*.com'",
        "'*.*.com'",
        "a.*.com",
        "a*.com",
        "-a.com",
        "a-.com",
        "a..com",
        ".com",
        "''",
        "a b.com",
        "a.com..",
    ] {
        let text = egress_to(&format!("{{domainNames: [{name}]}}"));
        check(&[("C-V-21", text, "spec.egress[0].to[0].domainNames[0] Invalid")]);
    }
}

#[test]
fn protocols_of_cluster_network_policies() {
    let protocols = |protocols: &str| {
        cnp_rules(&format!(
            "ingress: [{{action: Deny, from: [{{namespaces: {{}}}}], protocols: {protocols}}}]"
        ))
    };
    let at = "spec.ingress[0].protocols";
    let case = |id, text: &str, field: &str, reason: &str| {
        check(&[(id, protocols(text), &format!("{at}{field} {reason}"))]);
    };
    case("C-V-10", "[]", "", "Invalid");
    case("C-V-10", &format!("[{}]", repeated("{destinationNamedPort: a}", 26)), "", "TooMany");
    case("C-V-11", "[{}]", "[0]", "Invalid");
    case("C-V-11", "[{icmp: {}}]", "[0]", "Invalid");
    case(
        "C-V-11",
        "[{tcp: {destinationPort: {number: 1}}, destinationNamedPort: a}]",
        "[0]",
        "TooMany",
    );
    case("C-V-11", "[null]", "[0]", "TypeInvalid");
    for protocol in ["tcp", "udp", "sctp"] {
        let case = |id, port: &str, field: &str, reason: &str| {
            case(
                id,
                &format!("[{{{protocol}: {port}}}]"),
                &format!("[0].{protocol}{field}"),
                reason,
            );
        };
        case("C-V-12", "{}", "", "Invalid");
        case("C-V-12", "{sourcePort: 1}", "", "Invalid");
        case("C-V-13", "{destinationPort: {}}", ".destinationPort", "Invalid");
        case(
            "C-V-13",
            "{destinationPort: {number: 1, range: {start: 1, end: 2}}}",
            ".destinationPort",
            "TooMany",
        );
        for number in ["0", "65536", "-1"] {
            let port = format!("{{destinationPort: {{number: {number}}}}}");
            case("C-V-14", &port, ".destinationPort.number", "Invalid");
        }
        case(
            "C-V-14",
            "{destinationPort: {number: http}}",
            ".destinationPort.number",
            "TypeInvalid",
        );
        let range = ".destinationPort.range";
        case(
            "C-V-14",
            "{destinationPort: {range: {end: 2}}}",
            &format!("{range}.start"),
            "Required",
        );
        case(
            "C-V-14",
            "{destinationPort: {range: {start: 2}}}",
            &format!("{range}.end"),
            "Required",
        );
        case(
            "C-V-14",
            "{destinationPort: {range: {start: 0, end: 2}}}",
            &format!("{range}.start"),
            "Invalid",
        );
        case(
            "C-V-14",
            "{destinationPort: {range: {start: 1, end: 65536}}}",
            &format!("{range}.end"),
            "Invalid",
        );
        case("C-V-15", "{destinationPort: {range: {start: 2, end: 2}}}", range, "Invalid");
        case("C-V-15", "{destinationPort: {range: {start: 3, end: 2}}}", range, "Invalid");
    }
}

#[test]
fn channels_of_cluster_network_policies() {
    let named = "protocols: [{destinationNamedPort: http}]";
    let nodes = cnp_rules("egress: [{action: Deny, to: [{nodes: {}}]}]");
    let domain = cnp_rules("egress: [{action: Accept, to: [{domainNames: ['*.example.com']}]}]");
    let mixed = cnp_rules(&format!(
        "egress: [{{action: Deny, to: [{{networks: [10.0.0.0/8]}}], {named}}}]"
    ));
    let pods =
        cnp_rules(&format!("egress: [{{action: Deny, to: [{{namespaces: {{}}}}], {named}}}]"));
    let accepted = |text: &str, channel| read(text, &ReadOptions { channel, ..strict() }).is_ok();
    for (channel, experimental_peers, names_of_networks) in [
        (Channel::Any, false, false),
        (Channel::Standard, false, true),
        (Channel::Experimental, true, false),
    ] {
        assert_eq!(accepted(&nodes, channel), experimental_peers, "C-V-20 {channel:?}");
        assert_eq!(accepted(&domain, channel), experimental_peers, "C-V-20 {channel:?}");
        assert_eq!(accepted(&mixed, channel), names_of_networks, "C-V-18 {channel:?}");
        assert!(accepted(&pods, channel), "C-V-18 {channel:?}");
    }
    check(&[("C-V-18", mixed, "spec.egress[0] Invalid")]);
    // One reason is enough, though the standard channel has another one.
    for peer in ["nodes: {}", "domainNames: [example.com]"] {
        let egress = format!("egress: [{{action: Deny, to: [{{{peer}}}], {named}}}]");
        check(&[("C-V-18, C-PROTO-6", cnp_rules(&egress), "spec.egress[0] Invalid")]);
    }
}

#[test]
fn older_cluster_wide_kinds() {
    let deny = "{action: Deny, from: [{namespaces: {}}]}";
    let ports = |ports: &str| {
        anp_rules(&format!(
            "ingress: [{{action: Deny, from: [{{namespaces: {{}}}}], ports: {ports}}}]"
        ))
    };
    let banp = |name: &str, spec: &str| wide("v1alpha1", "BaselineAdminNetworkPolicy", name, spec);
    let all = "{subject: {namespaces: {}}}";
    let at = "spec.ingress[0].ports";
    let to = |peer: &str, ports: &str| {
        anp_rules(&format!("egress: [{{action: Deny, to: [{peer}], ports: [{ports}]}}]"))
    };
    check(&[
        ("A-1", banp("other", all), "<root> Invalid"),
        ("A-1", banp("default", "{}"), "spec.subject Required"),
        (
            "A-1",
            banp(
                "default",
                "{subject: {namespaces: {}}, ingress: [{action: Pass, from: [{namespaces: {}}]}]}",
            ),
            "spec.ingress[0].action NotSupported",
        ),
        (
            "A-1",
            anp_rules("ingress: [{action: Accept, from: [{namespaces: {}}]}]"),
            "spec.ingress[0].action NotSupported",
        ),
        ("A-2", wide("v1alpha1", "AdminNetworkPolicy", "p", all), "spec.priority Required"),
        (
            "A-2",
            wide(
                "v1alpha1",
                "AdminNetworkPolicy",
                "p",
                "{priority: 1001, subject: {namespaces: {}}}",
            ),
            "spec.priority Invalid",
        ),
        ("A-4", anp_rules(&format!("ingress: [{}]", repeated(deny, 101))), "spec.ingress TooMany"),
        (
            "A-4",
            anp_rules(&format!(
                "ingress: [{{action: Deny, from: [{}]}}]",
                repeated("{namespaces: {}}", 101)
            )),
            "spec.ingress[0].from TooMany",
        ),
        ("A-4", ports(&format!("[{}]", repeated("{namedPort: a}", 101))), &format!("{at} TooMany")),
        ("A-5", ports("[{}]"), &format!("{at}[0] Invalid")),
        ("A-5", ports("[{namedPort: a, portNumber: {port: 1}}]"), &format!("{at}[0] TooMany")),
        (
            "A-5",
            ports("[{portNumber: {protocol: TCP}}]"),
            &format!("{at}[0].portNumber.port Required"),
        ),
        ("A-5", ports("[{portNumber: {port: 0}}]"), &format!("{at}[0].portNumber.port Invalid")),
        ("A-5", ports("[{portRange: {start: 1}}]"), &format!("{at}[0].portRange.end Required")),
        ("A-5", ports("[{portRange: {end: 1}}]"), &format!("{at}[0].portRange.start Required")),
        (
            "A-7",
            anp_rules("ingress: [{action: Deny, from: [{pods: {podSelector: {}}}]}]"),
            "spec.ingress[0].from[0].pods.namespaceSelector Required",
        ),
        (
            "A-8",
            banp(
                "default",
                "{subject: {namespaces: {}}, egress: [{action: Allow, to: [{domainNames: [a.b]}]}]}",
            ),
            "spec.egress[0].to[0] Invalid",
        ),
        ("A-8", to("{networks: [10.0.0.0/8]}", "{namedPort: a}"), "spec.egress[0] Invalid"),
        ("A-8", to("{nodes: {}}", "{namedPort: a}"), "spec.egress[0] Invalid"),
    ]);
}

/// The last number, length and count that is allowed.
#[test]
fn limits_are_inclusive() {
    let accepted = |text: &str| {
        let read = read(text, &strict());
        assert!(read.is_ok(), "{}: {text}", read.unwrap_err());
    };
    let rule = "{action: Deny, from: [{namespaces: {}}]}";
    let tcp = "{tcp: {destinationPort: {number: 1}}}";
    let name = "n".repeat(100);
    let blocks: Vec<String> = (0..25).map(|at| format!("10.{at}.0.0/16")).collect();
    for rules in [
        format!("ingress: [{}]", repeated(rule, 25)),
        format!("ingress: [{{action: Deny, from: [{}]}}]", repeated("{namespaces: {}}", 25)),
        format!(
            "ingress: [{{action: Deny, from: [{{namespaces: {{}}}}], protocols: [{}]}}]",
            repeated(tcp, 25)
        ),
        format!("ingress: [{{name: {name}, action: Deny, from: [{{namespaces: {{}}}}]}}]"),
        format!("egress: [{{action: Deny, to: [{{networks: [{}]}}]}}]", blocks.join(", ")),
        "egress: [{action: Deny, to: [{networks: \
         ['1111:2222:3333:4444:5555:6666:7777:8888/128']}]}]"
            .to_owned(),
    ] {
        accepted(&cnp_rules(&rules));
    }
    accepted(&anp_rules(&format!("ingress: [{}]", repeated(rule, 100))));
    for priority in [0, 1000] {
        let spec =
            format!("{{tier: Baseline, priority: {priority}, subject: {{namespaces: {{}}}}}}");
        accepted(&cnp(&spec));
    }
    let annotated = |length: usize| {
        let value = "v".repeat(length - 1);
        with_metadata(&format!("{{name: p, namespace: x, annotations: {{K: {value}}}}}"))
    };
    accepted(&annotated(256 * 1024));
    check(&[("NP-V-3", annotated(256 * 1024 + 1), "metadata.annotations TooLong")]);
}

/// C-V-3, C-V-17: the schema names the field, whatever is wrong with it.
#[test]
fn wrong_types_in_custom_resources() {
    let networks =
        |list: &str| cnp_rules(&format!("egress: [{{action: Deny, to: [{{networks: {list}}}]}}]"));
    let at = "spec.egress[0].to[0].networks";
    let priority = |number: &str| {
        cnp(&format!("{{tier: Admin, priority: {number}, subject: {{namespaces: {{}}}}}}"))
    };
    check(&[
        ("C-V-17", networks("[null]"), &format!("{at}[0] TypeInvalid")),
        ("C-V-17", networks("[10]"), &format!("{at}[0] TypeInvalid")),
        ("C-V-16", networks("10.0.0.0/8"), &format!("{at} TypeInvalid")),
        ("C-V-3", priority("1.5"), "spec.priority TypeInvalid"),
        ("C-V-3", priority("'1'"), "spec.priority TypeInvalid"),
        ("C-V-3", priority("2147483648"), "spec.priority Invalid"),
        ("C-V-3", priority("3e9"), "spec.priority Invalid"),
        ("C-V-3", priority("1e300"), "spec.priority Invalid"),
    ]);
    assert!(read(&priority("7.0"), &strict()).is_ok());
}

#[test]
fn messages_say_what_would_be_right() {
    let said = |text: &str| read(text, &strict()).unwrap_err().errors[0].message.clone();
    let block = |cidr: &str| np_rule(&format!("{{from: [{{ipBlock: {{cidr: '{cidr}'}}}}]}}"));
    let flaws = [
        ("10.0.0.1/8", "no bits may be set behind the prefix; write 10.0.0.0/8"),
        ("10.0.0.0/08", "numbers must not begin with 0; write 10.0.0.0/8"),
        (
            "::ffff:10.0.0.0/104",
            "an IPv4 block must be written as such, not as an IPv6 one; write 10.0.0.0/8",
        ),
    ];
    for (cidr, wanted) in flaws {
        assert_eq!(said(&block(cidr)), format!("\"{cidr}\": {wanted}"), "NP-V-24");
    }
    for bare in ["true", "80", "1.5"] {
        let text = np(&format!("{{podSelector: {{matchLabels: {{a: {bare}}}}}}}"));
        let wanted = "spec.podSelector.matchLabels.a: a string in quotes is needed, not a ";
        assert!(said(&text).starts_with(wanted), "NP-V-25: {}", said(&text));
    }
    let text = np("{podSelector: {matchLabels: {a: []}}}");
    assert!(said(&text).ends_with("a: a string is needed, not a list"), "NP-V-25");
    let annotated = with_metadata("{name: p, namespace: x, annotations: {a b: c}}");
    assert!(said(&annotated).starts_with("\"a b\": "));
    let node = "{apiVersion: v1, kind: Node, metadata: {name: one}, status: {addresses: [x]}}";
    assert_eq!(said(node), "status.addresses[0]: a map is needed, not a string");
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p}, \
               spec: {containers: [{ports: [{name: http}]}]}}";
    check(&[("NP-PORT-10", pod.to_owned(), "spec.containers[0].ports[0].containerPort Required")]);
}

#[test]
fn json_is_read_like_yaml() {
    let value = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "x"},
        "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80.0}]}]},
    });
    let value = serde_json::from_value(value).unwrap();
    let rejected = read_object(&value, &strict()).unwrap_err();
    assert_eq!(rejected.errors[0].path, "<decode>");
    assert!(rejected.errors[0].message.starts_with("spec.ingress[0].ports[0].port: "));
    let twice = r#"{"kind": "Pod", "kind": "Pod"}"#;
    let error = serde_json::from_str::<netpol_core::manifest::Value>(twice).unwrap_err();
    assert!(error.to_string().contains("\"kind\" is given twice"), "{error}");
}
