use netpol_core::model::{Block, Peer, Peers, PolicyKind};

use super::super::facts::{Facts, label};
use super::super::{Lint, Report};
use super::subject::near_miss;
use super::{peer_path, rules};

pub(super) fn check(facts: &Facts<'_>, report: &mut Report<'_>) {
    let policy = report.policy;
    for (direction, index, rule) in rules(policy) {
        let Peers::AnyOf(peers) = &rule.peers else { continue };
        for (at, peer) in peers.iter().enumerate() {
            let path = || peer_path(policy, direction, index, at);
            match peer {
                Peer::Unknown(what) => {
                    let message = format!(
                        "is not understood ({what}), so that its rule {}",
                        match rule.action {
                            netpol_core::model::Action::Accept => "allows nothing",
                            _ => "denies everything",
                        }
                    );
                    report.add(Lint::Unsupported, path(), message);
                }
                Peer::Pods(selector) => {
                    if facts.pods.is_empty() || !facts.matching(selector).is_empty() {
                        continue;
                    }
                    match near_miss(facts, selector) {
                        Some(hint) => report.add(Lint::NearMiss, path(), hint),
                        None => report.add(
                            Lint::PeerSelectsNothing,
                            path(),
                            "no pod of the input is meant",
                        ),
                    }
                }
                Peer::Block(block) => {
                    let path = match policy.key.kind {
                        PolicyKind::NetworkPolicy => format!("{}.ipBlock", path()),
                        _ => path(),
                    };
                    covered_pods(facts, block, path, report);
                }
                Peer::Nodes(_) | Peer::Domain(_) => {}
            }
        }
    }
}

/// Blocks match by address, pods included.
fn covered_pods(facts: &Facts<'_>, block: &Block, path: String, report: &mut Report<'_>) {
    let cidr = block.cidr();
    let within = facts.addresses.range(cidr.network()..=cidr.broadcast());
    let mut covered =
        within.filter(|(address, _)| !block.except().iter().any(|it| it.contains(*address)));
    if let Some((address, at)) = covered.next() {
        let pod = facts.pod(*at).map(label).unwrap_or_default();
        let message = format!(
            "{cidr} takes in addresses of pods, such as {address} of {pod}; blocks match pods, too"
        );
        report.add(Lint::BlockCoversPods, path, message);
    }
}
