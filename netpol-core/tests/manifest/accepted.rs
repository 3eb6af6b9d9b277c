//! What accepted manifests mean.

use netpol_core::manifest::{Channel, Concern, ReadOptions};
use netpol_core::model::{
    Action, Block, DomainPattern, NamespaceScope, Peer, Peers, PodSelector, Policy, PolicyKind,
    PortMatch, PortRange, Ports, Protocol, Requirement, Rule, Selector, Subject, Tier, name,
};

use crate::{anp_rules, cnp, cnp_rules, np, np_rule, policy, read, strict, wide};

fn spec(text: &str) -> Policy {
    policy(&np(text), &strict()).0
}

fn ingress_rule(text: &str) -> Rule {
    policy(&np_rule(text), &strict()).0.ingress.unwrap().remove(0)
}

fn own(pods: Selector) -> Peer {
    Peer::Pods(PodSelector { namespaces: NamespaceScope::Named(name("x")), pods })
}

fn matching(namespaces: Selector, pods: Selector) -> Peer {
    Peer::Pods(PodSelector { namespaces: NamespaceScope::Matching(namespaces), pods })
}

fn is(key: &str, value: &str) -> Selector {
    Selector::new([Requirement::is_in(key, [value])])
}

fn block(cidr: &str, except: &[&str]) -> Block {
    Block::new(cidr.parse().unwrap(), except.iter().map(|text| text.parse().unwrap()))
}

fn range(first: u16, last: u16) -> PortMatch {
    PortMatch::Range(Protocol::Tcp, PortRange::new(first, last).unwrap())
}

#[test]
fn identity() {
    let policy = spec("{}");
    assert_eq!(policy.key.to_string(), "NetworkPolicy x/p");
    assert_eq!((policy.tier, policy.priority), (Tier::NetworkPolicy, 0));
    // NP-V-2: the namespace of the request.
    let bare = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a.b}}";
    let options = ReadOptions { namespace: Some(name("shop")), ..strict() };
    let (policy, warnings) = crate::policy(bare, &options);
    assert_eq!(policy.key.to_string(), "NetworkPolicy shop/a.b");
    assert_eq!(warnings, ["Notice spec"]);
    let generated = bare.replace("name: a.b", "generateName: web-, namespace: x");
    assert_eq!(crate::policy(&generated, &strict()).0.key.to_string(), "NetworkPolicy x/web-");
}

#[test]
fn policy_types_are_defaulted() {
    let cases = [
        ("NP-TYPE-2", "{}", true, false),
        ("NP-TYPE-2", "{policyTypes: [], egress: [{}]}", true, true),
        ("NP-TYPE-2", "{policyTypes: null, egress: [{}]}", true, true),
        ("NP-TYPE-3", "{egress: []}", true, false),
        ("NP-TYPE-3", "{policyTypes: [Egress]}", false, true),
        ("NP-TYPE-4", "{policyTypes: [Ingress], egress: [{}]}", true, false),
        ("NP-TYPE-4", "{policyTypes: [Egress], ingress: [{}]}", false, true),
        ("NP-TYPE-1", "{policyTypes: [Ingress, Ingress]}", true, false),
        ("NP-TYPE-1", "{policyTypes: [Egress, Ingress]}", true, true),
        ("NP-TYPE-6", "{podSelector: null, ingress: null, egress: null}", true, false),
    ];
    for (id, text, ingress, egress) in cases {
        let policy = spec(text);
        assert_eq!(
            (policy.ingress.is_some(), policy.egress.is_some()),
            (ingress, egress),
            "{id} {text}"
        );
    }
}

#[test]
fn selectors() {
    let subject = |text: &str| match spec(&format!("{{podSelector: {text}}}")).subject {
        Subject::Pods(PodSelector { namespaces, pods }) => {
            assert_eq!(namespaces, NamespaceScope::Named(name("x")));
            pods
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(subject("{}"), Selector::everything(), "SEL-1");
    assert_eq!(subject("{matchLabels: {}, matchExpressions: []}"), Selector::everything(), "SEL-1");
    assert_eq!(subject("{matchLabels: {a: ''}}"), is("a", ""), "SEL-2");
    assert_eq!(subject("{matchLabels: {a: null}}"), is("a", ""), "SEL-2, as decoded");
    let long = format!("{}/{}", "a.".repeat(126) + "a", "K".repeat(63));
    assert_eq!(subject(&format!("{{matchLabels: {{{long}: v}}}}")), is(&long, "v"), "SEL-8");
    let all = "{matchLabels: {z: v}, matchExpressions: [{key: a, operator: In, values: [c, b, '']}, \
        {key: a, operator: NotIn, values: [d]}, {key: e.f/g, operator: Exists}, \
        {key: h_i, operator: DoesNotExist, values: []}]}";
    let expected = Selector::new([
        Requirement::is_in("z", ["v"]),
        Requirement::is_in("a", ["", "b", "c"]),
        Requirement::is_not_in("a", ["d"]),
        Requirement::exists("e.f/g"),
        Requirement::does_not_exist("h_i"),
    ]);
    assert_eq!(subject(all), expected, "SEL-1, SEL-3…7");
}

#[test]
fn peers() {
    let everything = Selector::everything;
    for empty in ["{}", "null", "{from: []}", "{from: null}"] {
        assert_eq!(ingress_rule(empty).peers, Peers::Everyone, "NP-PEER-1 {empty}");
    }
    let cases = [
        ("NP-PEER-3", "{podSelector: {}}", own(everything())),
        (
            "NP-PEER-3",
            "{podSelector: {matchLabels: {a: b}}, namespaceSelector: null}",
            own(is("a", "b")),
        ),
        ("NP-PEER-4", "{namespaceSelector: {}}", matching(everything(), everything())),
        (
            "NP-PEER-5",
            "{namespaceSelector: {matchLabels: {c: d}}, podSelector: {matchLabels: {a: b}}}",
            matching(is("c", "d"), is("a", "b")),
        ),
        (
            "NP-PEER-5",
            "{namespaceSelector: {}, podSelector: {}}",
            matching(everything(), everything()),
        ),
        ("NP-IPB-7", "{ipBlock: {cidr: 0.0.0.0/0}}", Peer::Block(block("0.0.0.0/0", &[]))),
        ("NP-IPB-7", "{ipBlock: {cidr: '::1/128'}}", Peer::Block(block("::1/128", &[]))),
        (
            "NP-IPB-4",
            "{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.1.0.0/16, 10.1.1.0/24]}}",
            Peer::Block(block("10.0.0.0/8", &["10.1.0.0/16", "10.1.1.0/24"])),
        ),
        (
            "NP-IPB-1",
            "{ipBlock: {cidr: 10.0.0.0/8, except: null}}",
            Peer::Block(block("10.0.0.0/8", &[])),
        ),
    ];
    for (id, text, expected) in cases {
        let rule = ingress_rule(&format!("{{from: [{text}]}}"));
        assert_eq!(rule.peers, Peers::AnyOf(vec![expected]), "{id} {text}");
        assert_eq!(rule.action, Action::Accept);
    }
    // NP-IPB-9: the spelling of IPv6 does not matter, but is told.
    let text = np_rule("{from: [{ipBlock: {cidr: 'FD00:0:0:0::/64'}}]}");
    let (policy, warnings) = policy(&text, &strict());
    let peers = &policy.ingress.unwrap()[0].peers;
    assert_eq!(*peers, Peers::AnyOf(vec![Peer::Block(block("fd00::/64", &[]))]), "NP-IPB-9");
    assert_eq!(warnings, ["Notice spec.ingress[0].from[0].ipBlock.cidr"]);
}

#[test]
fn ports() {
    for empty in ["{}", "{ports: []}", "{ports: null}"] {
        assert_eq!(ingress_rule(empty).ports, Ports::All, "NP-PORT-1 {empty}");
    }
    let named = |protocol, text| PortMatch::Named(Some(protocol), name(text));
    let cases = [
        ("NP-PORT-3", "{}", PortMatch::Range(Protocol::Tcp, PortRange::ALL)),
        ("NP-PORT-3", "null", PortMatch::Range(Protocol::Tcp, PortRange::ALL)),
        ("NP-PORT-4", "{protocol: SCTP}", PortMatch::Range(Protocol::Sctp, PortRange::ALL)),
        (
            "NP-PORT-4",
            "{protocol: UDP, port: null}",
            PortMatch::Range(Protocol::Udp, PortRange::ALL),
        ),
        ("NP-PORT-5", "{port: 80}", range(80, 80)),
        ("NP-PORT-5", "{port: 1, protocol: null}", range(1, 1)),
        ("NP-PORT-6", "{port: 80, endPort: 80}", range(80, 80)),
        ("NP-PORT-6", "{port: 1, endPort: 65535}", range(1, 65535)),
        ("NP-PORT-6", "{port: 80, endPort: null}", range(80, 80)),
        ("NP-PORT-8", "{port: http}", named(Protocol::Tcp, "http")),
        ("NP-PORT-9", "{port: a, protocol: UDP}", named(Protocol::Udp, "a")),
        ("NP-V-19", "{port: 1a-b-cdefgh-xyz}", named(Protocol::Tcp, "1a-b-cdefgh-xyz")),
    ];
    for (id, text, expected) in cases {
        let rule = ingress_rule(&format!("{{ports: [{text}]}}"));
        assert_eq!(rule.ports, Ports::AnyOf(vec![expected]), "{id} {text}");
    }
}

#[test]
fn unknown_fields_are_left_out_and_told() {
    let text = np("{podSelector: {}, policytypes: [], ingress: [{form: [{podSelector: {}}]}]}");
    let reading = read(&text, &strict()).unwrap();
    let told: Vec<_> = reading
        .warnings
        .iter()
        .filter(|warning| warning.concern == Concern::UnknownField)
        .map(|warning| (&*warning.path, &*warning.message))
        .collect();
    assert_eq!(
        told,
        [
            ("spec.policytypes", "there is no such field; did you mean \"policyTypes\"?"),
            ("spec.ingress[0].form", "there is no such field; did you mean \"from\"?"),
        ]
    );
    let (policy, _) = policy(&text, &strict());
    assert_eq!(policy.ingress.unwrap()[0].peers, Peers::Everyone, "as on the server");
}

#[test]
fn cluster_network_policies() {
    let everything = Selector::everything;
    let text = cnp(
        "{tier: Baseline, priority: 1000, subject: {pods: {podSelector: {matchLabels: {a: b}}}}, \
        ingress: [{name: first, action: Pass, from: [{namespaces: {}}, {pods: {podSelector: {}}}]}], egress: []}",
    );
    let (read, warnings) = policy(&text, &strict());
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(read.key.to_string(), "ClusterNetworkPolicy p");
    assert_eq!((read.tier, read.priority), (Tier::Baseline, 1000));
    let subject =
        PodSelector { namespaces: NamespaceScope::Matching(everything()), pods: is("a", "b") };
    assert_eq!(read.subject, Subject::Pods(subject), "C-SUBJ-3");
    assert_eq!(read.egress, None, "C-ACT-5");
    let rule = &read.ingress.unwrap()[0];
    assert_eq!((rule.name.as_deref(), rule.action), (Some("first"), Action::Pass));
    let all = matching(everything(), everything());
    assert_eq!(rule.peers, Peers::AnyOf(vec![all.clone(), all]));
    assert_eq!(rule.ports, Ports::All, "C-PROTO-1");

    let options = ReadOptions { channel: Channel::Experimental, ..strict() };
    let text = cnp_rules(
        "egress: [{action: Accept, to: [{networks: [10.0.0.1/8, '::/0']}, {nodes: {}}, \
         {domainNames: ['*.Example.com.', a.b, '[a._b-c]', _a.b]}], protocols: [{tcp: {destinationPort: {number: 80}}}]}]",
    );
    let error = read_error(&text, &options);
    assert!(error.contains("domainNames[2]"), "only at the beginning of a label: {error}");
    let text = text.replace("'[a._b-c]'", "'[a._b-c'");
    let (read, _) = policy(&text, &options);
    let rule = &read.egress.unwrap()[0];
    let domain = |text| Peer::Domain(DomainPattern::new(text));
    let expected = vec![
        Peer::Block(block("10.0.0.0/8", &[])),
        Peer::Block(block("::/0", &[])),
        Peer::Nodes(everything()),
        domain("*.example.com"),
        domain("a.b"),
        domain("[a._b-c"),
        domain("_a.b"),
    ];
    assert_eq!(rule.peers, Peers::AnyOf(expected), "C-PEER-2…5, C-V-21");

    let text = cnp_rules(
        "ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 80}}}, \
         {udp: {destinationPort: {range: {start: 1, end: 65535}}}}, {destinationNamedPort: ''}, \
         {sctp: {destinationPort: {number: 9.0}}}]}]",
    );
    let (read, _) = policy(&text, &strict());
    let entries = vec![
        range(80, 80),
        PortMatch::Range(Protocol::Udp, PortRange::new(1, 65535).unwrap()),
        PortMatch::Named(None, name("")),
        PortMatch::Range(Protocol::Sctp, PortRange::single(9)),
    ];
    assert_eq!(read.ingress.unwrap()[0].ports, Ports::AnyOf(entries), "C-PROTO-2…7");
}

fn read_error(text: &str, options: &ReadOptions) -> String {
    read(text, options).unwrap_err().to_string()
}

#[test]
fn selectors_of_cluster_wide_policies_fail_closed() {
    // C-SEL-1: the schema lets them pass, the engine must not.
    let bad = [
        "{matchExpressions: [{key: k, operator: Has, values: [v]}]}",
        "{matchExpressions: [{key: k, operator: In}]}",
        "{matchExpressions: [{key: k, operator: Exists, values: [v]}]}",
        "{matchExpressions: [{key: '', operator: Exists}]}",
        "{matchLabels: {k: v w}}",
        "{matchLabels: {-k: v}}",
    ];
    for bad in bad {
        let text =
            cnp_rules(&format!("ingress: [{{action: Deny, from: [{{namespaces: {bad}}}]}}]"));
        let (read, warnings) = policy(&text, &strict());
        let rule = &read.ingress.unwrap()[0];
        assert!(
            matches!(&rule.peers, Peers::AnyOf(peers) if matches!(peers[..], [Peer::Unknown(_)])),
            "{bad}: {:?}",
            rule.peers
        );
        assert_eq!(warnings.len(), 1, "{bad}: {warnings:?}");
        assert!(warnings[0].starts_with("FailClosed spec.ingress[0].from[0].namespaces.match"));

        let subject = format!(
            "{{pods: {{podSelector: {{matchLabels: {{a: b}}}}, namespaceSelector: {bad}}}}}"
        );
        let (read, _) =
            policy(&cnp(&format!("{{tier: Admin, priority: 0, subject: {subject}}}")), &strict());
        let widest = PodSelector {
            namespaces: NamespaceScope::Matching(Selector::everything()),
            pods: is("a", "b"),
        };
        assert_eq!(read.subject, Subject::AtMost(widest), "C-FAIL-3 {bad}");
    }
}

#[test]
fn older_cluster_wide_kinds() {
    let (anp, warnings) = policy(
        &anp_rules(
            "ingress: [{action: Allow, from: [{pods: {namespaceSelector: {}, podSelector: {}}}], ports: [\
             {portNumber: {port: 80}}, {portNumber: {port: 53, protocol: UDP}}, {portNumber: {port: 1, protocol: null}}, \
             {portRange: {start: 5, end: 5}}, {namedPort: http}, {portNumber: {port: 1, protocol: icmp}}, \
             {portRange: {start: 9, end: 8}}]}], egress: [{action: Pass, to: [{nodes: {}}, {domainNames: [a.b]}]}]",
        ),
        &strict(),
    );
    assert_eq!(
        (anp.key.kind, anp.tier, anp.priority),
        (PolicyKind::AdminNetworkPolicy, Tier::Admin, 10)
    );
    let rule = &anp.ingress.unwrap()[0];
    assert_eq!(rule.action, Action::Accept, "A-1");
    let entries = vec![
        range(80, 80),
        PortMatch::Range(Protocol::Udp, PortRange::single(53)),
        range(1, 1),
        range(5, 5),
        PortMatch::Named(None, name("http")),
    ];
    assert_eq!(rule.ports, Ports::AnyOf(entries), "A-5, A-6");
    assert_eq!(
        warnings,
        [
            "Notice spec.ingress[0].ports[5].portNumber",
            "Notice spec.ingress[0].ports[6].portRange",
            "Notice spec.egress[0]",
        ]
    );
    assert_eq!(anp.egress.unwrap()[0].action, Action::Pass);

    let text = wide(
        "v1alpha1",
        "BaselineAdminNetworkPolicy",
        "default",
        "{priority: 5, subject: {namespaces: {}}}",
    );
    let (banp, warnings) = policy(&text, &strict());
    assert_eq!((banp.tier, banp.priority), (Tier::Baseline, 0), "A-1");
    assert_eq!(warnings, ["UnknownField spec.priority"]);
}

/// A field that is one slip of the fingers away is told; one further away is not.
#[test]
fn slips_of_the_fingers() {
    let told = |key: &str| {
        let reading = read(&np_rule(&format!("{{{key}: []}}")), &strict()).unwrap();
        let unknown = reading.warnings.iter().find(|it| it.concern == Concern::UnknownField);
        let warning = unknown.expect("told");
        assert_eq!(
            warning.to_string(),
            format!("NetworkPolicy x/p: spec.ingress[0].{key}: {}", warning.message)
        );
        warning.message.clone()
    };
    for key in
        ["From", "fro", "frm", "rom", "fromm", "frrom", "xfrom", "frim", "form", "rfom", "frmo"]
    {
        assert_eq!(told(key), "there is no such field; did you mean \"from\"?", "{key}");
    }
    for key in ["f", "rfmo", "foxm", "fabm", "fxoo", "fromxy", "peers"] {
        assert_eq!(told(key), "there is no such field", "{key}");
    }
    let egress = np("{podSelector: {}, egress: [{tp: []}]}");
    let warnings = read(&egress, &strict()).unwrap().warnings;
    assert!(warnings.iter().any(|it| it.message.ends_with("did you mean \"to\"?")));
}
