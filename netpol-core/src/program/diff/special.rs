//! Whom no profile decides for alone: the subject itself, its own node, and whoever is either in one of the programs.

use std::collections::BTreeSet;

use crate::model::{Direction, End, Flow, SelfTraffic, Traffic};
use crate::program::partition::{append, elementary};
use crate::program::{Program, TrafficRange, Verdict};

use super::compare::{Changes, Comparison, General, Pair};

/// A peer that is not judged, or not told of, as others of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Special {
    Listed(usize),
    OwnNode(Option<End>),
    Itself(Option<End>),
}

/// Instead of what is general: special peers with their changes, possibly none.
pub(super) type Exceptions = Vec<(Special, Changes)>;

impl Comparison<'_> {
    /// What is different for one subject: where its own node or it itself is concerned.
    pub(super) fn exceptions(&self, pair: &Pair, general: &General) -> Exceptions {
        let subject = &pair.subject;
        let Some(end) = subject.ends.first() else { return Vec::new() };
        let cuts = self.cuts(pair);
        // A peer may be the same endpoint in one of the programs only.
        let mut special: BTreeSet<usize> = BTreeSet::new();
        let places = self.of_node.iter().zip(&self.of_endpoint);
        let sides = self.programs.iter().zip(pair.endpoints).zip(places);
        for ((program, id), (of_node, of_endpoint)) in sides {
            special.extend(of_endpoint.get(&id).into_iter().flatten());
            if program.entry(id).is_some_and(|entry| entry.host) {
                // Two addresses of one node may be known as those of different ones.
                special.extend(of_node.values().flatten());
            }
        }
        let mut exceptions = Vec::new();
        for at in special {
            let Some(peer) = self.peers.get(at) else { continue };
            if subject.ends.contains(peer) || subject.own_node.contains(peer) {
                continue;
            }
            let changes = self.decided(end, peer, &cuts);
            let kind = self.programs.map(|program| program.resolve(peer).identity());
            if general.changes.get(&kind).map_or(!changes.is_empty(), |usual| *usual != changes) {
                exceptions.push((Special::Listed(at), changes));
            }
        }
        let changes = subject.own_node.iter().map(|it| (it, self.decided(end, it, &cuts)));
        exceptions.extend(apart(changes.collect(), Special::OwnNode));
        let policed = |it: &&Program| it.options().self_traffic == SelfTraffic::Policed;
        if self.programs.iter().any(policed) {
            let changes = subject.ends.iter().map(|it| (it, self.decided(end, it, &cuts)));
            exceptions.extend(apart(changes.collect(), Special::Itself));
        }
        exceptions
    }

    /// Where any profile that may judge a subject cuts the traffic.
    fn cuts(&self, pair: &Pair) -> [(Direction, Vec<TrafficRange>); 2] {
        Direction::ALL.map(|direction| {
            let entries = self.programs.iter().zip(pair.endpoints);
            let sides = entries.flat_map(|(program, id)| {
                let entry = program.entry(id);
                let profiles = [entry.and_then(|it| it.profile), entry.and_then(|it| it.own)];
                let profiles = profiles.into_iter().flatten();
                profiles.filter_map(move |id| program.profile(id).side(direction))
            });
            let sides: Vec<_> = sides.collect();
            (direction, elementary(sides.iter().copied()).collect())
        })
    }

    /// What changes between two ends, asked as everybody asks.
    fn decided(
        &self,
        subject: &End,
        peer: &End,
        cuts: &[(Direction, Vec<TrafficRange>)],
    ) -> Changes {
        let mut changes = Changes::new();
        for (direction, ranges) in cuts {
            for range in ranges {
                let flow = directed(*direction, subject, peer, range.example());
                let [then, now] = self.programs.map(|program| {
                    let decision = program.decide(&flow);
                    let verdict = match direction {
                        Direction::Egress => decision.egress,
                        Direction::Ingress => decision.ingress,
                    };
                    verdict != Some(Verdict::Deny)
                });
                if then != now {
                    append(changes.entry((*direction, now)).or_default(), *range);
                }
            }
        }
        changes
    }
}

/// Ends with their changes: as one where all change alike, and without those that do not change.
fn apart(changes: Vec<(&End, Changes)>, special: fn(Option<End>) -> Special) -> Exceptions {
    let alike = changes.windows(2).all(|it| matches!(it, [(_, one), (_, two)] if one == two));
    if alike && let Some((_, all)) = changes.first() {
        return if all.is_empty() { Vec::new() } else { vec![(special(None), all.clone())] };
    }
    let changed = changes.into_iter().filter(|(_, changes)| !changes.is_empty());
    changed.map(|(end, changes)| (special(Some(end.clone())), changes)).collect()
}

fn directed(direction: Direction, subject: &End, peer: &End, traffic: Traffic) -> Flow {
    let (source, destination) = match direction {
        Direction::Egress => (subject.clone(), peer.clone()),
        Direction::Ingress => (peer.clone(), subject.clone()),
    };
    Flow::between(source, destination, traffic)
}
