//! The reference evaluator against the table, and the table against the specification's list of statements.

mod cases;

use cases::{Case, cases};
use netpol_core::model::{Peers, Policy, Ports, Rule, Tier};
use netpol_core::reference::{Judgement, decide};

#[test]
fn the_reference_gives_the_verdicts_of_the_table() {
    check(cases());
}

/// M8: the order in which objects are listed means nothing.
#[test]
fn verdicts_do_not_depend_on_the_order_of_objects() {
    let mut cases = cases();
    for Case { objects, .. } in &mut cases {
        objects.namespaces.reverse();
        objects.endpoints.reverse();
        objects.nodes.reverse();
        objects.policies.reverse();
        objects.domains.reverse();
    }
    check(cases);
}

/// M8: nor does the order of rules, peers and ports in a NetworkPolicy.
#[test]
fn verdicts_do_not_depend_on_the_order_in_a_network_policy() {
    let mut cases = cases();
    let policies = cases.iter_mut().flat_map(|case| &mut case.objects.policies);
    for policy in policies.filter(|policy| policy.tier == Tier::NetworkPolicy) {
        let Policy { ingress, egress, .. } = policy;
        for rules in ingress.iter_mut().chain(egress) {
            rules.reverse();
            rules.iter_mut().for_each(reverse);
        }
    }
    check(cases);
}

fn reverse(rule: &mut Rule) {
    if let Peers::AnyOf(peers) = &mut rule.peers {
        peers.reverse();
    }
    if let Ports::AnyOf(ports) = &mut rule.ports {
        ports.reverse();
    }
}

fn check(cases: Vec<Case>) {
    let failures = cases.iter().filter_map(|case| {
        let verdict = decide(&case.objects, &case.options, &case.flow);
        let (got, expected) = ((verdict.egress, verdict.ingress), (case.egress, case.ingress));
        let Case { cites, asks, options, objects, .. } = case;
        let text = || {
            format!(
                "{cites}: {asks}: {got:?}, not {expected:?}\n{options:?}\n{:?}",
                objects.policies
            )
        };
        let no_objection = ![case.egress, case.ingress].contains(&Judgement::Deny); // M6
        (got != expected || verdict.is_allowed() != no_objection).then(text)
    });
    let failures: Vec<String> = failures.collect();
    assert!(failures.is_empty(), "{} wrong:\n{}", failures.len(), failures.join("\n\n"));
}

/// What is missing here is not for an evaluator to show: replies, validation, defaulting, changes over time.
const STATEMENTS: &str = "
    M1 M2 M3 M4 M5 M6 M8 M9
    NP-TYPE-4
    NP-ISO-1 NP-ISO-2 NP-ISO-3 NP-ISO-4 NP-ISO-5 NP-ISO-6 NP-ISO-7 NP-ISO-8
    SEL-1 SEL-2 SEL-3 SEL-4 SEL-5 SEL-6 SEL-7 SEL-8 SEL-9 SEL-10
    NP-PEER-1 NP-PEER-2 NP-PEER-3 NP-PEER-4 NP-PEER-5 NP-PEER-6 NP-PEER-7
    NP-IPB-1 NP-IPB-2 NP-IPB-3 NP-IPB-4 NP-IPB-5 NP-IPB-6 NP-IPB-7 NP-IPB-8 NP-IPB-9 NP-IPB-10
    NP-IPB-11
    NP-PORT-1 NP-PORT-2 NP-PORT-3 NP-PORT-4 NP-PORT-5 NP-PORT-6 NP-PORT-7 NP-PORT-8 NP-PORT-9
    NP-PORT-11 NP-PORT-12 NP-PORT-13 NP-PORT-14 NP-PORT-15
    NP-PORT-16 NP-NAT-1 NP-NAT-2 NP-NAT-3
    NP-SELF-1 NP-NODE-1 NP-NODE-2 NP-NODE-3 NP-HOST-1 NP-HOST-2 NP-HOST-3 NP-PROTO-1 NP-PROTO-2
    NP-LIFE-1 NP-LIFE-2 NP-LIFE-6
    C-TIER-1 C-TIER-2 C-TIER-3 C-TIER-4 C-PRIO-1 C-PRIO-2 C-PRIO-3 C-PRIO-4
    C-ACT-1 C-ACT-2 C-ACT-3 C-ACT-4 C-ACT-5 C-SUBJ-1 C-SUBJ-2 C-SUBJ-3
    C-PEER-1 C-PEER-2 C-PEER-3 C-PEER-4 C-PEER-5 C-PEER-6
    C-PROTO-1 C-PROTO-2 C-PROTO-3 C-PROTO-4 C-PROTO-5 C-PROTO-6 C-PROTO-7
    C-HAIR-1 C-HAIR-2 C-NODE-1 C-FAIL-1 C-FAIL-2 C-FAIL-3
    A-1 A-2 A-3 A-5 A-6 A-8 A-10
    CH-SELF CH-NODE-EGRESS CH-HOST-PEER CH-HOST-SUBJECT CH-PROTO-OPEN CH-PROTO-CLOSED
    CH-BASELINE-DIR CH-TIE CH-DUP-NAME CH-NAME-HOST CH-PROTO-FAIL";

#[test]
fn every_statement_has_a_case_and_every_case_a_statement() {
    let cases = cases();
    let cited: Vec<&str> = cases.iter().flat_map(|case| case.cites.split(", ")).collect();
    let missing: Vec<&str> = STATEMENTS.split_whitespace().filter(|s| !cited.contains(s)).collect();
    assert!(missing.is_empty(), "no case cites {missing:?}");
    let known: Vec<&str> = STATEMENTS.split_whitespace().collect();
    let unknown: Vec<&&str> = cited.iter().filter(|s| !known.contains(s)).collect();
    assert!(unknown.is_empty(), "no such statement: {unknown:?}");
}
