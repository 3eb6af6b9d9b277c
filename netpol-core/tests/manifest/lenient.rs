//! Stored objects that today's server would refuse: read as far as understood, and fail-closed where not.

use netpol_core::manifest::Concern;
use netpol_core::model::{
    Action, Block, NamespaceScope, Peer, Peers, PodSelector, PortMatch, PortRange, Ports, Protocol,
    Requirement, Rule, Selector, Subject, Tier,
};

use crate::{anp_rules, cnp, cnp_rules, lenient, np, np_rule, policy, read, repeated, wide};

fn rule(text: &str) -> Rule {
    policy(text, &lenient()).0.ingress.unwrap().remove(0)
}

fn is_unknown(peers: &Peers) -> bool {
    matches!(peers, Peers::AnyOf(peers) if peers.iter().any(|peer| matches!(peer, Peer::Unknown(_))))
}

#[test]
fn peers_that_are_not_understood() {
    let peers = [
        "{}",
        "{serviceAccounts: {}}",
        "{podSelector: {}, serviceAccounts: {}}",
        "{ipBlock: {}}",
        "{ipBlock: {cidr: nonsense}}",
        "{ipBlock: {cidr: 10.0.0.0/8, except: [nonsense]}}",
        "{ipBlock: {cidr: 10.0.0.0/8, only: odd}}",
        "{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}",
        "{podSelector: {matchExpressions: [{key: a, operator: Gt, values: ['1']}]}}",
        "{podSelector: {matchFields: {}}}",
        "{podSelector: [], namespaceSelector: {}}",
        "x",
    ];
    for peer in peers {
        let rule = rule(&np_rule(&format!("{{from: [{peer}]}}")));
        assert!(is_unknown(&rule.peers), "{peer}: {:?}", rule.peers);
    }
    for rules in ["{from: x}", "x"] {
        assert!(is_unknown(&rule(&np_rule(rules)).peers), "{rules}");
    }
    let text = np("{podSelector: {}, ingress: x}");
    assert!(is_unknown(&rule(&text).peers));
}

#[test]
fn ports_that_are_not_understood() {
    let entries = [
        "{protocol: ICMP}",
        "{port: 0}",
        "{port: 80.5}",
        "{port: A}",
        "{port: 80, endPort: 79}",
        "{endPort: 80}",
        "{port: http, endPort: 80}",
        "{port: 80, sourcePort: 1}",
        "x",
    ];
    for entry in entries {
        let rule = rule(&np_rule(&format!("{{ports: [{entry}]}}")));
        assert!(
            matches!(&rule.ports, Ports::AnyOf(ports) if matches!(ports[..], [PortMatch::Unknown(_)])),
            "{entry}: {:?}",
            rule.ports
        );
    }
}

#[test]
fn blocks_of_older_servers() {
    let cases = [
        ("NP-IPB-5", "10.1.2.3/8", "10.0.0.0/8"),
        ("NP-V-24", "010.000.0.0/08", "10.0.0.0/8"),
        ("NP-V-24", "::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("NP-V-24", "00fd00::1/64", "fd00::/64"),
        ("NP-V-24", "::ffff:0:0/64", "::/64"),
    ];
    for (id, text, expected) in cases {
        let manifest = np_rule(&format!("{{from: [{{ipBlock: {{cidr: '{text}'}}}}]}}"));
        let expected = Peer::Block(Block::new(expected.parse().unwrap(), []));
        assert_eq!(rule(&manifest).peers, Peers::AnyOf(vec![expected]), "{id} {text}");
        let warnings = read(&manifest, &lenient()).unwrap().warnings;
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].concern, Concern::Tolerated, "{id} {text}");
    }
    // NP-V-16: carving out everything, or something elsewhere.
    let text = np_rule("{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8, 11.0.0.0/8]}}]}");
    let Peers::AnyOf(peers) = rule(&text).peers else { panic!("{text}") };
    let ten = "10.0.0.0/8".parse().unwrap();
    assert_eq!(peers, [Peer::Block(Block::new(ten, [ten]))]);
}

#[test]
fn subjects_that_are_not_understood() {
    let text = np(
        "{podSelector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: Gt, values: ['1']}]}, \
        policyTypes: [Ingress, Sideways]}",
    );
    let (read, warnings) = policy(&text, &lenient());
    let widest = PodSelector {
        namespaces: NamespaceScope::Named("x".into()),
        pods: Selector::new([Requirement::is_in("a", ["b"])]),
    };
    assert_eq!(read.subject, Subject::AtMost(widest), "C-FAIL-3");
    assert!(read.ingress.is_some() && read.egress.is_some(), "either may have been meant");
    assert_eq!(
        warnings,
        [
            "FailClosed spec.podSelector.matchExpressions[0].operator",
            "FailClosed spec.policyTypes[1]",
        ]
    );
    // NP-V-9: a stored value that no label can have is clear.
    let (read, _) = policy(&np("{podSelector: {matchLabels: {a: b c}}}"), &lenient());
    assert!(matches!(read.subject, Subject::Pods(_)));
    // A spec that is none isolates everything.
    let (read, _) = policy(&np("x"), &lenient());
    assert_eq!((read.ingress, read.egress), (Some(vec![]), Some(vec![])));
}

#[test]
fn cluster_wide_rules_that_are_not_understood() {
    let peers = ["{}", "{who: {}}", "{namespaces: {}, who: {}}", "{networks: [10.0.0.0/8]}", "x"];
    for peer in peers {
        let text = cnp_rules(&format!(
            "ingress: [{{action: Deny, from: [{{namespaces: {{}}}}, {peer}]}}]"
        ));
        let rule = rule(&text);
        assert!(is_unknown(&rule.peers), "C-FAIL-1 {peer}");
        assert_eq!(rule.action, Action::Deny);
    }
    for from in ["", ", from: []", ", from: x"] {
        let text = cnp_rules(&format!("ingress: [{{action: Deny{from}}}]"));
        assert!(is_unknown(&rule(&text).peers), "C-FAIL-1 {from}");
    }
    // in an older object these are no selectors at all.
    for old in ["{namespaces: {sameLabels: [a]}}", "{namespaces: {notSameLabels: [a]}}"] {
        let text = anp_rules(&format!("ingress: [{{action: Allow, from: [{old}]}}]"));
        assert!(is_unknown(&rule(&text).peers), "A-9 {old}");
    }
    for action in ["", "action: Reject, ", "action: 1, "] {
        let text = cnp_rules(&format!("ingress: [{{{action}from: [{{namespaces: {{}}}}]}}]"));
        assert_eq!(rule(&text).action, Action::Deny, "C-FAIL-3 {action}");
    }
    for rules in ["ingress: x", "ingress: [x]"] {
        let rule = rule(&cnp_rules(rules));
        assert!(rule.action == Action::Deny && is_unknown(&rule.peers), "C-FAIL-3 {rules}");
    }
    let entries = [
        "{}",
        "{icmp: {}}",
        "{tcp: {sourcePort: 1}}",
        "{tcp: {destinationPort: {number: 1}, flags: S}}",
        "{tcp: {destinationPort: {}}}",
        "{tcp: {destinationPort: {number: 0}}}",
        "{tcp: {destinationPort: {range: {start: 2, end: 1}}}}",
    ];
    for entry in entries {
        let text = cnp_rules(&format!(
            "ingress: [{{action: Deny, from: [{{namespaces: {{}}}}], protocols: [{entry}]}}]"
        ));
        let ports = rule(&text).ports;
        assert!(
            matches!(&ports, Ports::AnyOf(ports) if matches!(ports[..], [PortMatch::Unknown(_)])),
            "C-FAIL-2 {entry}: {ports:?}"
        );
    }
    let clear = [
        ("C-PROTO-4", "{tcp: {}}", PortRange::ALL),
        ("C-V-15", "{tcp: {destinationPort: {range: {start: 2, end: 2}}}}", PortRange::single(2)),
    ];
    for (id, entry, range) in clear {
        let text = cnp_rules(&format!(
            "ingress: [{{action: Deny, from: [{{namespaces: {{}}}}], protocols: [{entry}]}}]"
        ));
        let expected = vec![PortMatch::Range(Protocol::Tcp, range)];
        assert_eq!(rule(&text).ports, Ports::AnyOf(expected), "{id}");
    }
}

#[test]
fn cluster_wide_places_that_are_not_understood() {
    let subject = "subject: {namespaces: {}}";
    let specs = [
        format!("{{tier: Third, priority: 5, {subject}}}"),
        format!("{{priority: 5, {subject}}}"),
        format!("{{tier: Admin, {subject}}}"),
        format!("{{tier: Admin, priority: 1001, {subject}}}"),
        "{tier: Admin, priority: 5}".to_owned(),
        "{tier: Admin, priority: 5, subject: {who: {}}}".to_owned(),
        "{tier: Admin, priority: 5, subject: {namespaces: {}, pods: {podSelector: {}}}}".to_owned(),
    ];
    for spec in specs {
        let (read, warnings) = policy(&cnp(&spec), &lenient());
        assert_eq!(read.tier, Tier::Admin, "C-FAIL-3 {spec}");
        assert!(matches!(read.subject, Subject::AtMost(_)), "C-FAIL-3 {spec}");
        assert!(warnings.iter().any(|warning| warning.starts_with("FailClosed")), "{spec}");
    }
    // More than the limits allow is still clear.
    let text = cnp_rules(&format!(
        "ingress: [{}]",
        repeated("{action: Deny, from: [{namespaces: {}}]}", 30)
    ));
    assert_eq!(policy(&text, &lenient()).0.ingress.unwrap().len(), 30);
    let nodes = cnp_rules("egress: [{action: Deny, to: [{nodes: {}}]}]");
    let egress = policy(&nodes, &lenient()).0.egress.unwrap();
    assert_eq!(egress[0].peers, Peers::AnyOf(vec![Peer::Nodes(Selector::everything())]));
}

#[test]
fn what_is_rejected_all_the_same() {
    let texts = [
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: x}}"
            .to_owned(),
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: x}".to_owned(),
        "{apiVersion: networking.k8s.io/v2, kind: NetworkPolicy, metadata: {name: p}}".to_owned(),
        wide("v1alpha2", "ClusterNetworkPolicy", "p", "null"),
        wide("v1alpha2", "ClusterNetworkPolicy", "p", "x"),
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, status: {podIP: x}}".to_owned(),
        "{kind: Pod}".to_owned(),
    ];
    for text in texts {
        let rejected = read(&text, &lenient()).expect_err(&text);
        assert!(!rejected.errors.is_empty(), "{text}");
    }
}

/// C-FAIL-1, C-FAIL-2: what was not understood is named, by its place and its fields.
#[test]
fn what_is_not_understood_is_named() {
    let unknown = |text: &str| match rule(text).peers {
        Peers::AnyOf(peers) => match &peers[0] {
            Peer::Unknown(what) => what.to_string(),
            other => panic!("{other:?}"),
        },
        Peers::Everyone => panic!("everyone"),
    };
    assert_eq!(unknown(&np_rule("{from: [{}]}")), "spec.ingress[0].from[0]");
    let galaxies = np_rule("{from: [{galaxies: {}, podSelector: {}}]}");
    assert_eq!(unknown(&galaxies), "spec.ingress[0].from[0]: galaxies, podSelector");
    let (_, warnings) = policy(&galaxies, &lenient());
    assert!(warnings.contains(&"FailClosed spec.ingress[0].from[0]".to_owned()), "{warnings:?}");
    let extended = anp_rules(
        "ingress: [{action: Deny, from: [{namespaces: {}}], \
         ports: [{portNumber: {port: 80, sourcePort: 1}}]}]",
    );
    assert!(
        matches!(rule(&extended).ports, Ports::AnyOf(ports) if matches!(ports[0], PortMatch::Unknown(_)))
    );
}
