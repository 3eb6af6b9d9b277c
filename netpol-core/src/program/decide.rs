use std::net::IpAddr;

use crate::model::{Direction, End, Flow, HostNetworkSubjects, SelfTraffic};

use super::gate::Sent;
use super::{
    Addresses, ClassId, EndpointEntry, EndpointId, Known, NamedEnd, NodeId, ProfileId, Program,
};

/// Allowed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The connection may be made.
    Allow,
    /// The connection is dropped.
    Deny,
}

/// The answer to one [`Flow`]: a verdict per end that is policed (M6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// What the policies of the source say; `None` if it is not policed.
    pub egress: Option<Verdict>,
    /// What the policies of the destination say; `None` if it is not policed.
    pub ingress: Option<Verdict>,
}

/// One direction of a flow, looked up.
#[derive(Clone, Copy, Debug)]
struct Asked {
    profile: ProfileId,
    class: ClassId,
    /// Both ends are the same.
    itself: bool,
}

/// One judged direction of a flow: where the verdict was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub(super) profile: ProfileId,
    /// Why it is allowed although the class denies it.
    pub(super) exempt: Option<Exempt>,
    pub(super) verdict: Verdict,
}

/// Whom NetworkPolicies never cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exempt {
    /// The endpoint's own node.
    OwnNode,
    /// The endpoint itself, by way of a service.
    Itself,
}

impl Program {
    /// Judges one new connection. Total: unknown ends match what everybody matches.
    ///
    /// Two address look-ups, then per policed end one look-up by port and one by identity; the number of policies
    /// does not matter. Allocates nothing and takes no lock.
    pub fn decide(&self, flow: &Flow) -> Decision {
        Decision::of(self.walk(flow))
    }

    /// Judges many new connections, in order: each as [`decide`](Self::decide) does.
    ///
    /// No staging beats one after the other: a decision is short enough for processors to look ahead into the next one
    /// while they wait for memory. Allocates nothing and takes no lock.
    pub fn decide_all(&self, flows: &[Flow]) -> impl Iterator<Item = Decision> {
        flows.iter().map(|flow| self.decide(flow))
    }

    /// The walk behind both [`decide`](Self::decide) and [`explain`](Self::explain): egress, then ingress.
    #[inline(always)]
    pub(super) fn walk(&self, flow: &Flow) -> [Option<Judged>; 2] {
        let [source, destination] = [self.resolve(&flow.source), self.resolve(&flow.destination)];
        let itself = self.is_same(flow, [source, destination]);
        let sent = Sent::new(flow.traffic);
        // Both classes are on their way from memory before either is looked at.
        let egress = self.ask(Direction::Egress, source, flow, sent, itself);
        let ingress = self.ask(Direction::Ingress, destination, flow, sent, itself);
        [
            self.judge(egress, source, destination, &flow.destination),
            self.judge(ingress, destination, source, &flow.source),
        ]
    }

    /// Who an end is.
    #[inline(always)]
    pub(super) fn resolve(&self, end: &End) -> Known {
        match end {
            End::Address(address) => self.inner.addresses.lookup(*address),
            End::Endpoint { .. } => self.resolve_by_name(end),
        }
    }

    #[cold]
    fn resolve_by_name(&self, end: &End) -> Known {
        match self.named(end) {
            Some(NamedEnd::Ordinary(id)) => {
                let entry = self.entry(id);
                let identity = entry.map_or(Addresses::NOTHING, |entry| entry.identity);
                Known::new(identity).of(id, entry.and_then(|entry| entry.profile))
            }
            Some(NamedEnd::Host(address)) => self.inner.addresses.lookup(address),
            None => Known::NOBODY,
        }
    }

    fn named(&self, end: &End) -> Option<NamedEnd> {
        let End::Endpoint { namespace, name } = end else { return None };
        self.inner.named(&(namespace.clone(), name.clone()))
    }

    /// The address that an end is judged by; `None` for an endpoint that was asked about by name.
    pub(super) fn address_of(&self, end: &End) -> Option<IpAddr> {
        match (end, self.named(end)) {
            (End::Address(address), _) => Some(*address),
            (End::Endpoint { .. }, Some(NamedEnd::Host(address))) => Some(address),
            (End::Endpoint { .. }, _) => None,
        }
    }

    /// Whom the subject allows; `None` if it is not policed.
    #[inline(always)]
    fn ask(
        &self,
        direction: Direction,
        subject: Known,
        flow: &Flow,
        sent: Sent,
        itself: bool,
    ) -> Option<Asked> {
        let profile = match (itself && !flow.via_service, self.inner.options.self_traffic) {
            // C-HAIR-2 included.
            (false, _) => subject.profile()?,
            // NP-SELF-1, C-HAIR-1.
            (true, SelfTraffic::Allowed) => return None,
            (true, SelfTraffic::Policed) => self.entry(subject.endpoint()?)?.own?,
        };
        let class = self.gate(profile).side(direction).class_of(sent);
        Some(Asked { profile, class, itself })
    }

    #[inline(always)]
    fn judge(
        &self,
        asked: Option<Asked>,
        subject: Known,
        peer: Known,
        peer_end: &End,
    ) -> Option<Judged> {
        let asked = asked?;
        let profile = asked.profile;
        let verdict = self.class(asked.class).verdict(peer.identity());
        // An ordinary endpoint is no node, and most peers are one.
        let may_be_node = peer.endpoint().is_none() || self.hosts_are_policed();
        if (may_be_node || asked.itself)
            && verdict == Verdict::Deny
            && let Some(exempt) = self.exempt(asked, subject, peer, peer_end)
        {
            return Some(Judged { profile, exempt: Some(exempt), verdict: Verdict::Allow });
        }
        Some(Judged { profile, exempt: None, verdict })
    }

    /// Why an end is allowed that the class denies, if it is: NP-NODE-1, or NP-SELF-1 by way of a service.
    #[cold]
    fn exempt(&self, asked: Asked, subject: Known, peer: Known, peer_end: &End) -> Option<Exempt> {
        let own_node = self.class(asked.class).allows_own_node(peer.identity());
        if own_node && self.is_own_node(subject, peer, peer_end) {
            return Some(Exempt::OwnNode);
        }
        if !asked.itself || self.inner.options.self_traffic != SelfTraffic::Allowed {
            return None;
        }
        let atoms = self.inner.identities.get(peer.identity().0).map(|it| &*it.atoms);
        let stack = self.stack(asked.class);
        stack.denies_by_network_policy(atoms.unwrap_or_default()).then_some(Exempt::Itself)
    }

    fn is_own_node(&self, subject: Known, peer: Known, peer_end: &End) -> bool {
        // Most who ask are outside of the cluster: of them nothing else has to come from memory.
        let nodes = self.nodes_of(peer, peer_end);
        if nodes.is_empty() {
            return false;
        }
        let entry = subject.endpoint().and_then(|id| self.entry(id));
        entry.and_then(|entry| entry.node).is_some_and(|node| nodes.contains(&node))
    }

    /// The nodes whose address an end is, unless an ordinary endpoint has it.
    fn nodes_of(&self, known: Known, end: &End) -> &[NodeId] {
        let entry = known.endpoint().and_then(|id| self.entry(id));
        match (self.address_of(end), entry) {
            (None, _) => &[],
            (Some(_), Some(entry)) if !entry.host => &[],
            (Some(address), _) => self.inner.addresses.nodes_at(address),
        }
    }

    /// Whether both ends are the same endpoint, or the same node where nodes are policed.
    #[inline(always)]
    pub(super) fn is_same(&self, flow: &Flow, [source, destination]: [Known; 2]) -> bool {
        let same_endpoint =
            source.endpoint().is_some() && source.endpoint() == destination.endpoint();
        same_endpoint || self.hosts_are_policed() && self.share_a_node(flow, [source, destination])
    }

    #[cold]
    fn share_a_node(&self, flow: &Flow, [source, destination]: [Known; 2]) -> bool {
        let destinations = self.nodes_of(destination, &flow.destination);
        self.nodes_of(source, &flow.source).iter().any(|node| destinations.contains(node))
    }

    fn hosts_are_policed(&self) -> bool {
        self.inner.options.host_network_subjects == HostNetworkSubjects::Policed
    }

    pub(crate) fn entry(&self, EndpointId(id): EndpointId) -> Option<&EndpointEntry> {
        self.inner.endpoints.get(id).map(|entry| &**entry)
    }
}

impl Verdict {
    /// The other verdict.
    pub fn opposite(self) -> Self {
        match self {
            Self::Allow => Self::Deny,
            Self::Deny => Self::Allow,
        }
    }
}

impl Decision {
    #[inline(always)]
    fn of(judged: [Option<Judged>; 2]) -> Self {
        let [egress, ingress] = judged.map(|judged| judged.map(|judged| judged.verdict));
        Self { egress, ingress }
    }

    /// Whether both ends allow the connection (M6).
    pub fn is_allowed(self) -> bool {
        self.egress != Some(Verdict::Deny) && self.ingress != Some(Verdict::Deny)
    }
}
