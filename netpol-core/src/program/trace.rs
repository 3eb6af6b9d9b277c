use std::net::IpAddr;

use crate::compile::atom_of;
use crate::model::{
    Action, Direction, Flow, HostNetworkPortNames, Name, OtherProtocols, Peer, Peers, Policy,
    PolicyKey, PortMatch, Ports, Rule, SelfTraffic, Subject, Tier, Traffic, UnknownProtocol,
};

use super::decide::{Exempt, Judged};
use super::explain::{Explanation, Judgement, Miss, Missed, Outcome, Reason, RuleRef, Step};
use super::too_large::largest_first;
use super::{Atom, Identity, Profile, Program, Verdict};

impl Program {
    /// Judges one new connection as [`decide`](Self::decide) does, and tells why.
    ///
    /// Costs a walk over the rules of the policies that apply to the two ends.
    pub fn explain(&self, flow: &Flow) -> Explanation {
        let (source, destination) = (self.resolve(&flow.source), self.resolve(&flow.destination));
        let [egress, ingress] = self.walk(flow);
        let judgement = |judged: Option<Judged>, direction| {
            let (subject, peer, peer_end) = match direction {
                Direction::Egress => (source, destination, &flow.destination),
                Direction::Ingress => (destination, source, &flow.source),
            };
            let entry = subject.endpoint().and_then(|id| self.entry(id));
            let name = entry.map(|it| (it.namespace.clone(), it.name.clone()));
            let trace = Trace {
                program: self,
                profile: self.profile(judged?.profile),
                peer: self.inner.identities.get(peer.identity().0)?,
                // Who is asked about by name has no address to match by.
                peer_address: self.address_of(peer_end),
                direction,
                traffic: flow.traffic,
            };
            let (reason, steps, passed_over) = trace.run(judged?);
            let verdict = judged?.verdict;
            Some(Judgement { direction, subject: name?, verdict, reason, steps, passed_over })
        };
        let egress = judgement(egress, Direction::Egress);
        let ingress = judgement(ingress, Direction::Ingress);
        let is_self_traffic = !flow.via_service
            && self.inner.options.self_traffic == SelfTraffic::Allowed
            && self.is_same(flow, [source, destination]);
        Explanation { flow: flow.clone(), is_self_traffic, egress, ingress }
    }
}

/// One direction of a flow, to be followed through the policies that the class was made of.
struct Trace<'a> {
    program: &'a Program,
    profile: &'a Profile,
    peer: &'a Identity,
    peer_address: Option<IpAddr>,
    direction: Direction,
    traffic: Traffic,
}

impl Trace<'_> {
    fn run(&self, judged: Judged) -> (Reason, Vec<Step>, Option<(PolicyKey, Miss)>) {
        let isolating: Vec<_> =
            self.in_tier(Tier::NetworkPolicy).map(|it| it.key.clone()).collect();
        let mut steps = Vec::new();
        let (mut reason, mut passed_over) = (self.without_rules(judged), None);
        for tier in [Tier::Admin, Tier::NetworkPolicy, Tier::Baseline] {
            if reason.is_none() && tier == Tier::NetworkPolicy && !isolating.is_empty() {
                reason = self.before_rules(judged);
            }
            let mut passed = false;
            for policy in self.in_tier(tier) {
                let (outcome, open) = match reason {
                    None if !passed => self.ask(policy),
                    _ => (Outcome::NotReached, None),
                };
                if let Some(miss) = open.filter(|_| passed_over.is_none()) {
                    passed_over = Some((policy.key.clone(), miss));
                }
                match &outcome {
                    Outcome::Decides(rule, action) => {
                        let (tier, policy, rule) = (policy.tier, policy.key.clone(), rule.clone());
                        let failed_closed = self.fails_closed(&policy, &rule);
                        let action = *action;
                        reason = Some(Reason::Rule { tier, policy, rule, action, failed_closed });
                    }
                    Outcome::Passes(_) => passed = true,
                    Outcome::Misses(_) | Outcome::NotReached => {}
                }
                steps.push(Step { tier, policy: policy.key.clone(), outcome });
            }
            // C-TIER-2
            if tier == Tier::NetworkPolicy && reason.is_none() && !isolating.is_empty() {
                reason = Some(Reason::Isolated(isolating.clone()));
            }
            if tier == Tier::NetworkPolicy && reason.is_none() && self.keeps_baseline_out() {
                reason = Some(Reason::Default);
            }
        }
        (reason.unwrap_or(Reason::Default), steps, passed_over)
    }

    /// The policies of a tier that say something in the direction.
    fn in_tier(&self, tier: Tier) -> impl Iterator<Item = &Policy> {
        let said = move |it: &&Policy| it.tier == tier && it.rules(self.direction).is_some();
        self.profile.policies().filter(said)
    }

    /// What decides if it would take too much to say what the policies do.
    fn without_rules(&self, judged: Judged) -> Option<Reason> {
        self.profile.side(self.direction).filter(|side| side.too_large)?;
        Some(
            exempt(judged)
                .unwrap_or_else(|| Reason::TooLarge(largest_first(self.profile, self.direction))),
        )
    }

    /// What the NetworkPolicy tier lets through or not whatever its rules say.
    fn before_rules(&self, judged: Judged) -> Option<Reason> {
        if let Some(reason) = exempt(judged) {
            return Some(reason);
        }
        match (self.traffic, self.program.options().other_protocols) {
            (Traffic::Port(..), _) | (_, OtherProtocols::RulesWithoutPorts) => None,
            (_, OtherProtocols::Allowed | OtherProtocols::Denied) => Some(Reason::OtherProtocol),
        }
    }

    /// CH-BASELINE-DIR
    fn keeps_baseline_out(&self) -> bool {
        let any = self.program.options().baseline_skip == crate::model::BaselineSkip::AnySelected;
        let says = |it: &Policy| it.ingress.is_some() || it.egress.is_some();
        let network = |it: &Policy| it.tier == Tier::NetworkPolicy && says(it);
        any && self.profile.policies().any(network)
    }

    /// What a policy answers, and a rule that would have come first if it depended on no unknown address.
    fn ask(&self, policy: &Policy) -> (Outcome, Option<Miss>) {
        let mut misses: Vec<Miss> = Vec::new();
        // In the additive tier nothing comes first.
        let ordered = policy.tier != Tier::NetworkPolicy;
        let open = |misses: Vec<Miss>| {
            misses.into_iter().find(|it| ordered && it.missed == Missed::Address)
        };
        let rules = policy.rules(self.direction).unwrap_or_default();
        for (index, rule) in rules.iter().enumerate() {
            let place = RuleRef { index, name: rule.name.clone() };
            match self.match_rule(policy, rule) {
                Ok(Action::Pass) => return (Outcome::Passes(place), open(misses)),
                Ok(action) => return (Outcome::Decides(place, action), open(misses)),
                Err(missed) => {
                    let ports = ports_text(&rule.ports);
                    misses.push(Miss { rule: place, action: rule.action, missed, ports });
                }
            }
        }
        (Outcome::Misses(misses), None)
    }

    /// What the rule does to the flow, or why it does not match it.
    fn match_rule(&self, policy: &Policy, rule: &Rule) -> Result<Action, Missed> {
        let certain = matches!(policy.subject, Subject::Pods(_));
        let unknown = self.not_understood(policy.tier, rule);
        match (rule.action, &unknown) {
            (Action::Accept, Some(what)) => return Err(Missed::NotUnderstood(what.clone())),
            (Action::Accept, None) if !certain => {
                return Err(Missed::NotUnderstood("the policy's subject".into()));
            }
            (Action::Deny | Action::Pass, Some(_)) if policy.tier != Tier::NetworkPolicy => {
                return Ok(Action::Deny);
            }
            (Action::Deny | Action::Pass, _) if policy.tier == Tier::NetworkPolicy => {
                return Err(Missed::NotUnderstood("a NetworkPolicy only accepts".into()));
            }
            _ => {}
        }
        let action = match rule.action {
            Action::Pass if !certain => Action::Deny,
            action => action,
        };
        let (peer, port) = match &rule.peers {
            Peers::Everyone => (true, self.ports_match(policy.tier, rule, None)),
            Peers::AnyOf(peers) => {
                let matching: Vec<&Peer> =
                    peers.iter().filter(|peer| self.peer_matches(policy.tier, peer)).collect();
                let port = match matching.is_empty() {
                    true => peers.iter().any(|it| self.ports_match(policy.tier, rule, Some(it))),
                    false => {
                        matching.iter().any(|it| self.ports_match(policy.tier, rule, Some(it)))
                    }
                };
                (!matching.is_empty(), port)
            }
        };
        match (peer, port) {
            (true, true) => Ok(action),
            (false, true) if self.depends_on_address(rule) => Err(Missed::Address),
            (true, false) => Err(Missed::Port),
            (false, true) => Err(Missed::Peer),
            (false, false) => Err(Missed::Both),
        }
    }

    fn depends_on_address(&self, rule: &Rule) -> bool {
        let by_address =
            |peer: &Peer| matches!(peer, Peer::Block(_) | Peer::Nodes(_) | Peer::Domain(_));
        match &rule.peers {
            Peers::AnyOf(peers) => self.peer_address.is_none() && peers.iter().any(by_address),
            Peers::Everyone => false,
        }
    }

    /// The part of a rule that spoils it (C-FAIL-1, C-FAIL-2).
    fn not_understood(&self, tier: Tier, rule: &Rule) -> Option<Name> {
        let ports_spoil = tier != Tier::NetworkPolicy
            && self.program.options().unknown_protocol == UnknownProtocol::FailClosed;
        let peers = match &rule.peers {
            Peers::AnyOf(peers) => peers.as_slice(),
            Peers::Everyone => &[],
        };
        let ports = match &rule.ports {
            Ports::AnyOf(ports) if ports_spoil => ports.as_slice(),
            Ports::AnyOf(_) | Ports::All => &[],
        };
        let unknown_peer = peers.iter().find_map(|peer| match peer {
            Peer::Unknown(what) => Some(what.clone()),
            _ => None,
        });
        unknown_peer.or_else(|| {
            ports.iter().find_map(|port| match port {
                PortMatch::Unknown(what) => Some(what.clone()),
                _ => None,
            })
        })
    }

    fn fails_closed(&self, key: &PolicyKey, place: &RuleRef) -> bool {
        let Some(policy) = self.profile.policies().find(|it| it.key == *key) else { return false };
        let rule = policy.rules(self.direction).and_then(|rules| rules.get(place.index));
        let certain = matches!(policy.subject, Subject::Pods(_));
        rule.is_some_and(|rule| {
            rule.action != Action::Accept
                && (self.not_understood(policy.tier, rule).is_some()
                    || (!certain && rule.action == Action::Pass))
        })
    }

    fn peer_matches(&self, tier: Tier, peer: &Peer) -> bool {
        match peer {
            Peer::Block(block) => self.peer_address.is_some_and(|address| block.contains(address)),
            peer => {
                let asked = atom_of(self.program.options(), tier, peer);
                asked.is_some_and(|asked| self.holding().any(|atom| *atom == asked))
            }
        }
    }

    /// The atoms that hold for the peer.
    fn holding(&self) -> impl Iterator<Item = &Atom> {
        self.peer.atoms.iter().filter_map(|id| self.program.inner.atoms.get(id.0))
    }

    /// Whether the rule's ports match, a name as it counts for this peer.
    fn ports_match(&self, tier: Tier, rule: &Rule, peer: Option<&Peer>) -> bool {
        let Ports::AnyOf(ports) = &rule.ports else { return true };
        let Traffic::Port(protocol, number) = self.traffic else { return false };
        ports.iter().any(|port| match (port, self.direction) {
            (PortMatch::Range(of, range), _) => *of == protocol && range.contains(number),
            (PortMatch::Named(of, _), _) if of.is_some_and(|of| of != protocol) => false,
            (PortMatch::Named(_, name), Direction::Ingress) => {
                let declared = &self.profile.declared;
                let is_this = |it: &crate::model::DeclaredPort| {
                    it.name == *name && (it.protocol, it.number) == (protocol, number)
                };
                declared.iter().any(is_this)
            }
            (PortMatch::Named(_, name), Direction::Egress) => {
                self.declares(tier, name, protocol, number, peer)
            }
            (PortMatch::Unknown(_), _) => false,
        })
    }

    fn declares(
        &self,
        tier: Tier,
        name: &Name,
        protocol: crate::model::Protocol,
        number: u16,
        peer: Option<&Peer>,
    ) -> bool {
        let options = self.program.options();
        let network = tier == Tier::NetworkPolicy;
        let host = network && options.host_network_port_names == HostNetworkPortNames::Resolved;
        // C-PROTO-6
        let counted = |peer: &Peer| network || matches!(peer, Peer::Pods(_));
        // Whatever else is asked of those who declare it, somebody asked for it.
        let declared = |atom: &Atom| match atom {
            Atom::Declares(it) => {
                (&it.name, it.protocol, it.number, it.host) == (name, protocol, number, host)
            }
            _ => false,
        };
        peer.is_none_or(|peer| counted(peer) && self.peer_matches(tier, peer))
            && self.holding().any(declared)
    }
}

fn exempt(judged: Judged) -> Option<Reason> {
    Some(match judged.exempt? {
        Exempt::OwnNode => Reason::OwnNode,
        Exempt::Itself => Reason::Itself,
    })
}

fn ports_text(ports: &Ports) -> String {
    match ports {
        Ports::All => String::new(),
        Ports::AnyOf(ports) if ports.is_empty() => "none".to_owned(),
        Ports::AnyOf(ports) => ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// The verdict that a reason stands for, where it stands for one.
impl Reason {
    /// What follows from it; [`Reason::OtherProtocol`] may be either.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Rule { action: Action::Deny, .. } | Self::Isolated(_) | Self::TooLarge(_) => {
                Some(Verdict::Deny)
            }
            Self::Rule { .. } | Self::OwnNode | Self::Itself | Self::Default => {
                Some(Verdict::Allow)
            }
            Self::OtherProtocol => None,
        }
    }
}
