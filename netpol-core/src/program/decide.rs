use std::net::IpAddr;

use crate::model::{Direction, End, Flow, HostNetworkSubjects, SelfTraffic};

use super::{
    Addresses, EndpointEntry, EndpointId, IdentityId, NamedEnd, NodeId, ProfileId, Program,
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

/// One end of a connection, looked up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved {
    pub(super) identity: IdentityId,
    pub(super) endpoint: Option<EndpointId>,
    profile: Option<ProfileId>,
    /// `None` if it was asked about by name.
    pub(super) address: Option<IpAddr>,
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
    /// does not matter.
    pub fn decide(&self, flow: &Flow) -> Decision {
        let [egress, ingress] = self.walk(flow).map(|judged| judged.map(|judged| judged.verdict));
        Decision { egress, ingress }
    }

    /// The walk behind both [`decide`](Self::decide) and [`explain`](Self::explain): egress, then ingress.
    pub(super) fn walk(&self, flow: &Flow) -> [Option<Judged>; 2] {
        let source = self.resolve(&flow.source);
        let destination = self.resolve(&flow.destination);
        let itself = self.is_same(source, destination);
        [
            self.judge(Direction::Egress, source, destination, flow, itself),
            self.judge(Direction::Ingress, destination, source, flow, itself),
        ]
    }

    #[inline]
    pub(super) fn resolve(&self, end: &End) -> Resolved {
        let address = match end {
            End::Address(address) => *address,
            End::Endpoint { namespace, name } => {
                match self.inner.names.get(&(namespace.clone(), name.clone())) {
                    Some(NamedEnd::Ordinary(id)) => return self.resolve_by_name(*id),
                    Some(NamedEnd::Host(address)) => *address,
                    None => return Resolved::UNKNOWN,
                }
            }
        };
        let known = self.inner.addresses.lookup(address);
        let (endpoint, profile) = (known.endpoint(), known.profile());
        Resolved { identity: known.identity(), endpoint, profile, address: Some(address) }
    }

    fn resolve_by_name(&self, id: EndpointId) -> Resolved {
        let entry = self.entry(id);
        let identity = entry.map_or(Addresses::NOTHING, |entry| entry.identity);
        let profile = entry.and_then(|entry| entry.profile);
        Resolved { identity, endpoint: Some(id), profile, address: None }
    }

    #[inline]
    fn judge(
        &self,
        direction: Direction,
        subject: Resolved,
        peer: Resolved,
        flow: &Flow,
        itself: bool,
    ) -> Option<Judged> {
        let profile = match (itself && !flow.via_service, self.inner.options.self_traffic) {
            // C-HAIR-2 included.
            (false, _) => subject.profile?,
            // NP-SELF-1, C-HAIR-1.
            (true, SelfTraffic::Allowed) => return None,
            (true, SelfTraffic::Policed) => self.entry(subject.endpoint?)?.own?,
        };
        let allow = |exempt| Some(Judged { profile, exempt, verdict: Verdict::Allow });
        let Some(side) = self.profile(profile).side(direction) else { return allow(None) };
        let class = self.class(side.class_of(flow.traffic));
        if class.verdict(peer.identity) == Verdict::Allow {
            return allow(None);
        }
        // Looked at last, since hardly any packet needs it: NP-NODE-1, then NP-SELF-1 by way of a service.
        if class.allows_own_node(peer.identity) && self.is_own_node(subject, peer) {
            return allow(Some(Exempt::OwnNode));
        }
        if itself && self.inner.options.self_traffic == SelfTraffic::Allowed {
            let atoms = self.inner.identities.get(peer.identity.0).map(|it| &*it.atoms);
            if class.denies_by_network_policy(atoms.unwrap_or_default()) {
                return allow(Some(Exempt::Itself));
            }
        }
        Some(Judged { profile, exempt: None, verdict: Verdict::Deny })
    }

    fn is_own_node(&self, subject: Resolved, peer: Resolved) -> bool {
        // An ordinary endpoint is no node. Most peers are one, and what follows is far away in memory.
        if peer.endpoint.is_some() && !self.hosts_are_policed() {
            return false;
        }
        let entry = subject.endpoint.and_then(|id| self.entry(id));
        let node = entry.and_then(|entry| entry.node);
        node.is_some_and(|node| self.nodes_of(peer).contains(&node))
    }

    /// The nodes whose address an end is, unless an ordinary endpoint has it.
    fn nodes_of(&self, end: Resolved) -> &[NodeId] {
        let entry = end.endpoint.and_then(|id| self.entry(id));
        match (end.address, entry) {
            (None, _) => &[],
            (Some(_), Some(entry)) if !entry.host => &[],
            (Some(address), _) => self.inner.addresses.nodes_at(address),
        }
    }

    /// Whether both ends are the same endpoint, or the same node where nodes are policed.
    #[inline]
    pub(super) fn is_same(&self, source: Resolved, destination: Resolved) -> bool {
        if source.endpoint.is_some() && source.endpoint == destination.endpoint {
            return true;
        }
        self.hosts_are_policed()
            && self.nodes_of(source).iter().any(|node| self.nodes_of(destination).contains(node))
    }

    fn hosts_are_policed(&self) -> bool {
        self.inner.options.host_network_subjects == HostNetworkSubjects::Policed
    }

    pub(crate) fn entry(&self, EndpointId(id): EndpointId) -> Option<&EndpointEntry> {
        self.inner.endpoints.get(id).map(|entry| &**entry)
    }
}

impl Resolved {
    /// An end about which nothing is known.
    const UNKNOWN: Self =
        Self { identity: Addresses::NOTHING, endpoint: None, profile: None, address: None };
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
    /// Whether both ends allow the connection (M6).
    pub fn is_allowed(self) -> bool {
        self.egress != Some(Verdict::Deny) && self.ingress != Some(Verdict::Deny)
    }
}
