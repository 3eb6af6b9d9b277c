//! Explanations of verdicts, in words and as JSON.

mod json;

use std::io::{self, Write};

use crate::style;
use netpol_core::model::{Direction, Flow, PolicyKey, PolicyKind, Tier};
use netpol_core::program::{Explanation, Judgement, Miss, Missed, Outcome, Reason, Step, Verdict};

pub(crate) use self::json::ExplanationJson;

/// Writes what each end says, step by step, and what would have to change for a denied flow to be allowed.
fn write(explanation: &Explanation, out: &mut impl Write) -> io::Result<()> {
    for direction in Direction::ALL {
        let name = direction.to_string();
        match judgement(explanation, direction) {
            Some(judgement) => {
                let verdict = word(judgement.verdict);
                let verdict = style::verdict(judgement.verdict == Verdict::Allow, verdict);
                writeln!(
                    out,
                    "  {name:<7}  {verdict}  {}",
                    decided_by(judgement, &explanation.flow)
                )?;
                write_steps(judgement, out)?;
            }
            None => writeln!(out, "  {name:<7}  -      {}", not_judged(explanation, direction))?,
        }
    }
    for judgement in explanation.judgements() {
        if let Some(hint) = hint(judgement, explanation) {
            writeln!(out, "  to allow {}: {hint}", judgement.direction)?;
        }
        if let Some((policy, miss)) = judgement.undecidable() {
            let end = other_end(explanation, judgement.direction);
            writeln!(out, "  not certain: {policy} {} {miss}, and {end} has none yet", miss.rule)?;
        }
    }
    Ok(())
}

/// As [`write()`], below a line with the verdict.
pub(crate) fn write_headed(
    explanation: &Explanation,
    source: &str,
    destination: &str,
    remark: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    let allowed = explanation.is_allowed();
    let verdict = style::verdict(allowed, if allowed { "allowed" } else { "denied " });
    let traffic = explanation.flow.traffic;
    let way = if explanation.flow.via_service { " via a service" } else { "" };
    writeln!(out, "{verdict}   {source} -> {destination}  {traffic}{way}{remark}")?;
    write(explanation, out)
}

/// Why an end says what it says, whatever the port, in one line.
pub(crate) fn reason(judgement: &Judgement) -> String {
    match nearest_miss(judgement) {
        Some((policy, miss)) => {
            format!(
                "{}; {}/{} {} {miss}",
                judgement.reason, policy.namespace, policy.name, miss.rule
            )
        }
        None => judgement.reason.to_string(),
    }
}

/// How many of the denying ends have a rule that nearly allows it.
pub(crate) fn near_misses(explanation: &Explanation) -> usize {
    explanation.judgements().filter(|it| nearest_miss(it).is_some()).count()
}

/// Why a flow has its verdict, in one line:
/// `ingress denies: NetworkPolicy shop/api isolates the pod; no rule allows 80/tcp`.
pub(crate) fn summary(explanation: &Explanation) -> String {
    // What allows is of interest only if both do.
    let allowed = explanation.is_allowed();
    let judgements = explanation.judgements();
    let decisive = judgements.filter(|it| allowed || it.verdict == Verdict::Deny);
    let parts: Vec<String> = decisive
        .map(|judgement| {
            let verb = if judgement.verdict == Verdict::Allow { "allows" } else { "denies" };
            let by = decided_by(judgement, &explanation.flow);
            let near = match nearest_miss(judgement) {
                Some((policy, miss)) => {
                    format!(" ({}/{} {} {miss})", policy.namespace, policy.name, miss.rule)
                }
                None => String::new(),
            };
            format!("{} {verb}: {by}{near}", judgement.direction)
        })
        .collect();
    match parts.is_empty() {
        true => "no policy has a say".to_owned(),
        false => parts.join("; "),
    }
}

fn judgement(explanation: &Explanation, direction: Direction) -> Option<&Judgement> {
    match direction {
        Direction::Egress => explanation.egress.as_ref(),
        Direction::Ingress => explanation.ingress.as_ref(),
    }
}

fn not_judged(explanation: &Explanation, direction: Direction) -> String {
    let end = match direction {
        Direction::Egress => &explanation.flow.source,
        Direction::Ingress => &explanation.flow.destination,
    };
    match explanation.is_self_traffic {
        true => "a pod's direct traffic to itself is never policed".to_owned(),
        false => format!("not judged: {end} is no pod that policies could select"),
    }
}

/// The other end, as seen from the pod whose policies are asked; by name if it is a pod.
fn other_end(explanation: &Explanation, direction: Direction) -> String {
    let (other, end) = match direction {
        Direction::Egress => (&explanation.ingress, &explanation.flow.destination),
        Direction::Ingress => (&explanation.egress, &explanation.flow.source),
    };
    match other {
        Some(Judgement { subject: (namespace, name), .. }) => format!("{namespace}/{name}"),
        None => end.to_string(),
    }
}

fn decided_by(judgement: &Judgement, flow: &Flow) -> String {
    let (namespace, name) = &judgement.subject;
    let direction = judgement.direction;
    match &judgement.reason {
        Reason::Default if judgement.steps.is_empty() => {
            format!("default (no policy selects {namespace}/{name} for {direction})")
        }
        Reason::Default => "default (no policy decides)".to_owned(),
        Reason::Isolated(policies) => {
            let who = match &policies[..] {
                [policy] => format!("{policy} isolates"),
                policies => format!("{} NetworkPolicies isolate", policies.len()),
            };
            format!("{who} the pod; no rule allows {}", flow.traffic)
        }
        reason => reason.to_string(),
    }
}

/// One line for each policy that answered or nearly did, and one per tier for all that said nothing to the matter.
fn write_steps(judgement: &Judgement, out: &mut impl Write) -> io::Result<()> {
    for steps in judgement.steps.chunk_by(|a, b| a.tier == b.tier) {
        let (mut far, mut later) = (Vec::new(), Vec::new());
        let mut line = |answer: &str, policy: &str, what: &str| {
            let tier = steps.first().map_or("", |step| tier(step.tier));
            writeln!(out, "             {tier:<8}  {answer:<6}  {policy}  {what}")
        };
        for step in steps {
            let name = policy(step);
            match &step.outcome {
                Outcome::Decides(rule, action) => {
                    line(&action.to_string(), &name, &rule.to_string())?
                }
                Outcome::Passes(rule) => line("pass", &name, &rule.to_string())?,
                Outcome::NotReached => later.push(name),
                Outcome::Misses(misses) => {
                    let mut near =
                        misses.iter().filter(|miss| miss.missed != Missed::Both).peekable();
                    if near.peek().is_none() {
                        far.push(name.clone());
                    }
                    near.try_for_each(|miss| line("-", &name, &format!("{} {miss}", miss.rule)))?;
                }
            }
        }
        for (policies, what) in [(far, "no rule matches peer or port"), (later, "not reached")] {
            if !policies.is_empty() {
                line("-", &policies.join(", "), what)?;
            }
        }
    }
    Ok(())
}

/// The rule of a NetworkPolicy that came closest to allowing what they deny.
fn nearest_miss(judgement: &Judgement) -> Option<(&PolicyKey, &Miss)> {
    if !matches!(judgement.reason, Reason::Isolated(_)) {
        return None;
    }
    let additive = judgement.steps.iter().filter(|step| step.tier == Tier::NetworkPolicy);
    let misses = additive.flat_map(|step| {
        let misses = match &step.outcome {
            Outcome::Misses(misses) => misses.as_slice(),
            _ => &[],
        };
        misses.iter().map(|miss| (&step.policy, miss))
    });
    misses
        .filter(|(_, miss)| miss.missed < Missed::Both)
        .min_by_key(|(_, miss)| miss.missed.clone())
}

/// What would have to change; nothing if it is allowed.
fn hint(judgement: &Judgement, explanation: &Explanation) -> Option<String> {
    let direction = judgement.direction;
    let end = other_end(explanation, direction);
    let traffic = explanation.flow.traffic;
    let list = if direction == Direction::Egress { "to" } else { "from" };
    match &judgement.reason {
        Reason::Rule { policy, rule, .. } if judgement.verdict == Verdict::Deny => {
            Some(format!("{policy} would need an Accept or Pass rule before {rule}"))
        }
        Reason::TooLarge(policies) => policies.first().map(|policy| {
            format!("{policy} should name fewer ports that overlap, or fewer peers for them")
        }),
        Reason::Isolated(_) => Some(match nearest_miss(judgement) {
            Some((policy, Miss { rule, missed: Missed::Port, .. })) => {
                format!("add {traffic} to {policy} spec.{direction}[{}].ports", rule.index)
            }
            Some((policy, Miss { rule, missed: Missed::Peer, .. })) => {
                format!("add {end} to {policy} spec.{direction}[{}].{list}", rule.index)
            }
            _ => {
                let (namespace, name) = &judgement.subject;
                format!(
                    "a NetworkPolicy for {namespace}/{name} needs a rule {list} {end} for {traffic}"
                )
            }
        }),
        _ => None,
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny ",
    }
}

fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Admin => "admin",
        Tier::NetworkPolicy => "network",
        Tier::Baseline => "baseline",
    }
}

/// A policy as kubectl would list it in its tier: `shop/api`, `cnp/isolate-tenants`.
fn policy(step: &Step) -> String {
    let PolicyKey { kind, namespace, name } = &step.policy;
    match kind {
        PolicyKind::NetworkPolicy => format!("{namespace}/{name}"),
        PolicyKind::ClusterNetworkPolicy => format!("cnp/{name}"),
        PolicyKind::AdminNetworkPolicy => format!("anp/{name}"),
        PolicyKind::BaselineAdminNetworkPolicy => format!("banp/{name}"),
    }
}
