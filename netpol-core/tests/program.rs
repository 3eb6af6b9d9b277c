//! The table of verdicts derived by hand, asked of compiled programs: of the whole cluster, and of each node of it.

mod cases;

use std::net::IpAddr;

use cases::{Case, cases};
use netpol_core::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{Action, Direction, End, Flow, HostNetworkSubjects, Objects, Options};
use netpol_core::program::{
    Decision, Explanation, Judgement as Explained, Outcome, Program, Reason, Scope, Verdict,
};
use netpol_core::reference::Judgement;

fn program(case: &Case, scope: Scope) -> Program {
    compile(&Cluster::from_objects(case.options, case.objects.clone()), scope)
}

fn judgement(verdict: Option<Verdict>) -> Judgement {
    match verdict {
        None => Judgement::NotJudged,
        Some(Verdict::Allow) => Judgement::Allow,
        Some(Verdict::Deny) => Judgement::Deny,
    }
}

fn judgements(decision: Decision) -> (Judgement, Judgement) {
    (judgement(decision.egress), judgement(decision.ingress))
}

/// Fails with all that is wrong at once.
fn check(cases: &[Case], mut wrong_with: impl FnMut(&Case) -> Option<String>) {
    let failures = cases.iter().filter_map(|case| {
        let Case { cites, asks, options, objects, .. } = case;
        let wrong = wrong_with(case)?;
        Some(format!("{cites}: {asks}: {wrong}\n{options:?}\n{:?}", objects.policies))
    });
    let failures: Vec<String> = failures.collect();
    assert!(failures.is_empty(), "{} wrong:\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn the_program_gives_the_verdicts_of_the_table() {
    check(&cases(), |case| {
        let decision = program(case, Scope::Cluster).decide(&case.flow);
        let (got, expected) = (judgements(decision), (case.egress, case.ingress));
        // M6
        let no_objection = ![case.egress, case.ingress].contains(&Judgement::Deny);
        let wrong = got != expected || decision.is_allowed() != no_objection;
        wrong.then(|| format!("{got:?}, not {expected:?}"))
    });
}

#[test]
fn explanations_agree_with_the_verdicts_of_the_table() {
    check(&cases(), |case| {
        let explanation = program(case, Scope::Cluster).explain(&case.flow);
        let (got, expected) = (judgements(explanation.decision()), (case.egress, case.ingress));
        if got != expected {
            return Some(format!("{got:?}, not {expected:?}"));
        }
        let inconsistent = |judged: &&Explained| !is_consistent(judged);
        if let Some(judged) = explanation.judgements().find(inconsistent) {
            return Some(format!("{judged:#?}"));
        }
        let nothing_judged = explanation.egress.is_none() && explanation.ingress.is_none();
        let is_itself = explanation.judgements().any(|it| it.reason == Reason::Itself);
        match (explanation.is_self_traffic, is_itself) {
            (true, _) if !nothing_judged => Some("traffic to itself is judged".to_owned()),
            (_, true) if !case.flow.via_service => Some("it is direct traffic".to_owned()),
            _ => None,
        }
    });
}

/// The reason stands for the verdict, and is what the steps lead to: they miss or pass until one decides.
fn is_consistent(judged: &Explained) -> bool {
    let decisive = judged.steps.iter().filter_map(|step| match &step.outcome {
        Outcome::Decides(rule, action) => Some((step.tier, &step.policy, rule, *action)),
        _ => None,
    });
    let decisive: Vec<_> = decisive.collect();
    let by_rule = match &judged.reason {
        Reason::Rule { tier, policy, rule, action, failed_closed } => {
            decisive == [(*tier, policy, rule, *action)]
                && *action != Action::Pass
                && (!failed_closed || *action == Action::Deny)
        }
        _ => decisive.is_empty(),
    };
    let after = judged.steps.iter().skip_while(|it| !matches!(it.outcome, Outcome::Decides(..)));
    let nothing_after = after.skip(1).all(|it| it.outcome == Outcome::NotReached);
    let in_order = judged.steps.is_sorted_by_key(|step| step.tier);
    let stands_for = match judged.reason {
        Reason::OtherProtocol => judged.reason.verdict().is_none(),
        _ => judged.reason.verdict() == Some(judged.verdict),
    };
    by_rule && nothing_after && in_order && stands_for
}

/// NP-IPB-6, NP-IPB-9: a socket for both families tells of IPv4 addresses in IPv6 clothing, which makes them nothing else.
#[test]
fn addresses_may_come_from_sockets_for_both_families() {
    let mapped = |end: &End| match end {
        End::Address(IpAddr::V4(address)) => Some(IpAddr::V6(address.to_ipv6_mapped())),
        _ => None,
    };
    let mut asked = 0;
    check(&cases(), |case| {
        let ends = mapped(&case.flow.source).zip(mapped(&case.flow.destination));
        let (source, destination) = ends.filter(|_| !case.flow.via_service)?;
        asked += 1;
        let flow = Flow::new(source, destination, case.flow.traffic);
        let got = judgements(program(case, Scope::Cluster).decide(&flow));
        (got != (case.egress, case.ingress)).then(|| format!("{got:?} for {flow}"))
    });
    assert!(asked > 100, "{asked}");
}

/// A program of one node judges its own endpoints as the program of the cluster does, and no others.
#[test]
fn programs_of_nodes_judge_their_own_endpoints() {
    let mut judged_sides = 0;
    let cases = cases();
    for case in &cases {
        let whole = program(case, Scope::Cluster).explain(&case.flow);
        for node in &case.objects.nodes {
            let part = program(case, Scope::Node(node.name.clone()));
            let (decision, explanation) = (part.decide(&case.flow), part.explain(&case.flow));
            assert_eq!(explanation.decision(), decision, "{}: {}", case.cites, case.asks);
            for direction in [Direction::Egress, Direction::Ingress] {
                let of_node = is_on(&case.objects, &case.options, &whole, direction, &node.name);
                let expected = side(&whole, direction).filter(|_| of_node);
                judged_sides += usize::from(expected.is_some());
                assert_eq!(
                    side(&explanation, direction).map(|it| (it.verdict, &it.reason)),
                    expected.map(|it| (it.verdict, &it.reason)),
                    "{}: {} on {}",
                    case.cites,
                    case.asks,
                    node.name
                );
            }
        }
    }
    assert!(judged_sides > cases.len() / 2, "{judged_sides} of {} cases", cases.len());
}

fn side(explanation: &Explanation, direction: Direction) -> Option<&Explained> {
    match direction {
        Direction::Egress => explanation.egress.as_ref(),
        Direction::Ingress => explanation.ingress.as_ref(),
    }
}

/// Whether the judged subject lives on this node, or is it.
fn is_on(
    objects: &Objects,
    options: &Options,
    explanation: &Explanation,
    direction: Direction,
    node: &str,
) -> bool {
    let Some(judged) = side(explanation, direction) else { return false };
    let (namespace, name) = &judged.subject;
    if namespace.is_empty() {
        assert_eq!(options.host_network_subjects, HostNetworkSubjects::Policed);
        return &**name == node;
    }
    let mut named = objects
        .endpoints
        .iter()
        .filter(|it| it.is_ordinary() && (&it.namespace, &it.name) == (namespace, name));
    named.any(|it| it.node.as_deref() == Some(node))
}
