//! The lints that look at one policy, or at the policies of one pod, at a time.

mod directions;
mod peers;
mod ports;
mod subject;

use netpol_core::model::{Direction, Policy, PolicyKind};

use super::Report;
use super::facts::Facts;
use crate::input::Written;

pub(super) use self::directions::profiles;

/// Looks at one policy, of which it may be known how it was written.
pub(super) fn run(facts: &Facts<'_>, written: Option<&Written>, report: &mut Report<'_>) {
    subject::check(facts, report);
    directions::check(written, report);
    peers::check(facts, report);
    ports::check(facts, written, report);
}

/// `spec.ingress[2]`
fn rule_path(direction: Direction, index: usize) -> String {
    format!("spec.{direction}[{index}]")
}

/// `spec.ingress[2].from[0]`, or the rule where peers of one entry are not told apart.
fn peer_path(policy: &Policy, direction: Direction, rule: usize, peer: usize) -> String {
    let list = if direction == Direction::Egress { "to" } else { "from" };
    match policy.key.kind {
        PolicyKind::NetworkPolicy => format!("{}.{list}[{peer}]", rule_path(direction, rule)),
        _ => format!("{}.{list}", rule_path(direction, rule)),
    }
}

/// The rules of both directions with their places.
fn rules(policy: &Policy) -> impl Iterator<Item = (Direction, usize, &netpol_core::model::Rule)> {
    Direction::ALL.into_iter().flat_map(|direction| {
        let rules = policy.rules(direction).unwrap_or_default();
        rules.iter().enumerate().map(move |(index, rule)| (direction, index, rule))
    })
}
