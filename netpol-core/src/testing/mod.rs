//! Small random worlds and the questions worth asking in them, for property tests and fuzzing.
//!
//! One generator serves every test of every crate. It is driven by a *tape* of choices: a byte for each decision, 0
//! for the simplest one, and 0 for ever after its end. So a fuzzer's input and a property test's vector of bytes are
//! worlds without further ado, and a shorter tape is a smaller world.
//!
//! Names, labels, addresses and ports come from very small alphabets, so that selectors hit, blocks nest, port names
//! clash and addresses change hands all the time. A world holds whatever manifests can say, and hardly more: an
//! ingress rule of a cluster-wide policy, for one, has no `networks` (C-V-19).
//!
//! ```
//! use netpol_core::reference::decide;
//! use netpol_core::testing::{Choices, flow, world};
//!
//! let mut choices = Choices::from_seed(7, 1000);
//! let (objects, options) = world(&mut choices);
//! for _ in 0..100 {
//!     decide(&objects, &options, &flow(&mut choices, &objects));
//! }
//! ```

mod choices;
mod edit;
mod flows;
mod history;
mod policies;
mod workloads;

pub use choices::Choices;
use choices::pick;
pub use edit::edit;
pub use flows::{flow, flows_of_interest};
pub use history::History;

use crate::model::{
    BaselineSkip, DuplicatePortNames, HostNetworkPeers, HostNetworkPortNames, HostNetworkSubjects,
    NodeEgress, Objects, Options, OtherProtocols, SelfTraffic, Tie, UnknownProtocol,
};

/// Objects that contradict each other in every way the model allows, and the options to judge them by.
///
/// Keys are unique: namespaces and nodes by name, policies by [`PolicyKey`](crate::model::PolicyKey), endpoints by
/// namespace, name and uid. A large world takes some 500 choices.
pub fn world(choices: &mut Choices<'_>) -> (Objects, Options) {
    let namespaces = workloads::namespaces(choices);
    let endpoints = workloads::endpoints(choices, namespaces.len());
    let nodes = workloads::nodes(choices);
    let policies = policies::policies(choices, namespaces.len());
    let domains = workloads::domains(choices);
    // Some endpoints and policies live in a namespace that nobody has told us about.
    let listed = namespaces.into_iter().filter(|_| !choices.one_in(8)).collect();
    let objects = Objects { namespaces: listed, endpoints, nodes, policies, domains };
    (objects, options(choices))
}

/// The default reading of everything, or any.
pub fn options(choices: &mut Choices<'_>) -> Options {
    if !choices.one_in(2) {
        return Options::default();
    }
    Options {
        self_traffic: choices.of([SelfTraffic::Allowed, SelfTraffic::Policed]),
        node_egress: choices.of([NodeEgress::Policed, NodeEgress::Allowed]),
        host_network_peers: choices.of([HostNetworkPeers::Never, HostNetworkPeers::ByLabel]),
        host_network_subjects: choices
            .of([HostNetworkSubjects::Never, HostNetworkSubjects::Policed]),
        other_protocols: choices.of([
            OtherProtocols::RulesWithoutPorts,
            OtherProtocols::Allowed,
            OtherProtocols::Denied,
        ]),
        baseline_skip: choices.of([BaselineSkip::IsolatedDirection, BaselineSkip::AnySelected]),
        tie: choices.of([Tie::NameAscending, Tie::NameDescending]),
        duplicate_port_names: choices.of([
            DuplicatePortNames::Union,
            DuplicatePortNames::First,
            DuplicatePortNames::None,
        ]),
        host_network_port_names: choices
            .of([HostNetworkPortNames::Unresolved, HostNetworkPortNames::Resolved]),
        unknown_protocol: choices.of([UnknownProtocol::FailClosed, UnknownProtocol::Ignored]),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::reference::{Judgement, decide};

    fn worlds(count: u64) -> impl Iterator<Item = (Objects, Options, Vec<crate::model::Flow>)> {
        (0..count).map(|seed| {
            let mut choices = Choices::from_seed(seed, 1500);
            let (objects, options) = world(&mut choices);
            let flows = (0..100).map(|_| flow(&mut choices, &objects)).collect();
            (objects, options, flows)
        })
    }

    #[test]
    fn an_empty_tape_is_an_empty_world() {
        let mut choices = Choices::new(&[]);
        let (objects, options) = world(&mut choices);
        assert_eq!(options, Options::default());
        assert_eq!((objects.namespaces.len(), objects.endpoints.len()), (1, 0));
        assert_eq!((objects.nodes.len(), objects.policies.len()), (0, 0));
        let flow = flow(&mut choices, &objects);
        assert_eq!(decide(&objects, &options, &flow).egress, Judgement::NotJudged);
    }

    #[test]
    fn keys_are_unique() {
        for (objects, ..) in worlds(300) {
            let endpoints = objects.endpoints.iter().map(|e| (&e.namespace, &e.name, &e.uid));
            assert_eq!(endpoints.collect::<HashSet<_>>().len(), objects.endpoints.len());
            let policies = objects.policies.iter().map(|p| &p.key);
            assert_eq!(policies.collect::<HashSet<_>>().len(), objects.policies.len());
        }
    }

    #[test]
    fn blocks_are_carved_in_many_ways_now_and_then() {
        let carved = worlds(1000).filter(|(objects, ..)| {
            objects.policies.iter().any(|policy| *policy.key.name == *"carver")
        });
        let carved = carved.count();
        assert!(carved > 10, "{carved}");
    }

    #[test]
    fn all_judgements_are_common() {
        let mut verdicts = Vec::new();
        for (objects, options, flows) in worlds(300) {
            verdicts.extend(flows.iter().map(|flow| decide(&objects, &options, flow)));
        }
        for judgement in [Judgement::NotJudged, Judgement::Allow, Judgement::Deny] {
            let egress = verdicts.iter().filter(|v| v.egress == judgement).count();
            let ingress = verdicts.iter().filter(|v| v.ingress == judgement).count();
            assert!(
                egress.min(ingress) * 20 > verdicts.len(),
                "{judgement:?}: {egress}, {ingress}"
            );
        }
    }

    #[test]
    fn the_flows_of_interest_include_the_random_ones() {
        for (objects, _, flows) in worlds(5) {
            let all: HashSet<_> = flows_of_interest(&objects).into_iter().collect();
            let judged = |flow: &&crate::model::Flow| {
                let verdict = decide(&objects, &Options::default(), flow);
                verdict.egress != Judgement::NotJudged || verdict.ingress != Judgement::NotJudged
            };
            let direct = |flow: &crate::model::Flow| {
                let (source, destination) = (flow.source.clone(), flow.destination.clone());
                crate::model::Flow::between(source, destination, flow.traffic)
            };
            assert!(flows.iter().filter(judged).all(|flow| all.contains(&direct(flow))));
        }
    }

    type Reading = (&'static str, fn(&mut Options));

    /// Each reading must make a difference somewhere, or no property test would ever see it.
    #[test]
    fn every_option_matters() {
        let readings: [Reading; 12] = [
            ("CH-SELF", |o| o.self_traffic = SelfTraffic::Policed),
            ("CH-NODE-EGRESS", |o| o.node_egress = NodeEgress::Allowed),
            ("CH-HOST-PEER", |o| o.host_network_peers = HostNetworkPeers::ByLabel),
            ("CH-HOST-SUBJECT", |o| o.host_network_subjects = HostNetworkSubjects::Policed),
            ("CH-PROTO-OPEN", |o| o.other_protocols = OtherProtocols::Allowed),
            ("CH-PROTO-CLOSED", |o| o.other_protocols = OtherProtocols::Denied),
            ("CH-BASELINE-DIR", |o| o.baseline_skip = BaselineSkip::AnySelected),
            ("CH-TIE", |o| o.tie = Tie::NameDescending),
            ("CH-DUP-NAME first", |o| o.duplicate_port_names = DuplicatePortNames::First),
            ("CH-DUP-NAME none", |o| o.duplicate_port_names = DuplicatePortNames::None),
            ("CH-NAME-HOST", |o| o.host_network_port_names = HostNetworkPortNames::Resolved),
            ("CH-PROTO-FAIL", |o| o.unknown_protocol = UnknownProtocol::Ignored),
        ];
        let mut differences = readings.map(|_| 0);
        let denied = |objects: &Objects, options: &Options, flow: &crate::model::Flow| {
            let verdict = decide(objects, options, flow);
            [verdict.egress, verdict.ingress].map(|it| it == Judgement::Deny)
        };
        for (objects, _, flows) in worlds(2000) {
            for flow in &flows {
                let usual = denied(&objects, &Options::default(), flow);
                for ((_, set), count) in readings.iter().zip(&mut differences) {
                    let mut options = Options::default();
                    set(&mut options);
                    *count += usize::from(denied(&objects, &options, flow) != usual);
                }
            }
        }
        for ((name, _), count) in readings.iter().zip(differences) {
            assert!(count > 0, "{name} never changes a verdict");
        }
    }
}
