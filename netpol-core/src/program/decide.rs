use crate::model::{Direction, End, Flow, SelfTraffic, Traffic};

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
pub(super) struct Resolved<'a> {
    pub(super) identity: IdentityId,
    pub(super) endpoint: Option<EndpointId>,
    pub(super) entry: Option<&'a EndpointEntry>,
    /// The nodes whose address this is, unless an ordinary endpoint has it.
    pub(super) nodes: &'a [NodeId],
    /// It was found by its address, not by its name.
    pub(super) address_known: bool,
}

/// One judged direction of a flow: where the verdict was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub(super) profile: ProfileId,
    /// The class denies the other end as such, but it is the endpoint's own node.
    pub(super) own_node: bool,
    pub(super) verdict: Verdict,
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
        let itself = is_same(&source, &destination);
        let traffic = flow.traffic;
        [
            self.judge(Direction::Egress, source, destination, traffic, itself),
            self.judge(Direction::Ingress, destination, source, traffic, itself),
        ]
    }

    pub(super) fn resolve(&self, end: &End) -> Resolved<'_> {
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
        let entry =
            known.endpoint.and_then(|id| self.inner.endpoints.get(id.0).map(|entry| &**entry));
        let nodes = match entry {
            Some(entry) if !entry.host => &[],
            _ => self.inner.addresses.nodes_at(address),
        };
        let (identity, endpoint) = (known.identity, known.endpoint);
        Resolved { identity, endpoint, entry, nodes, address_known: true }
    }

    fn resolve_by_name(&self, id: EndpointId) -> Resolved<'_> {
        let entry = self.inner.endpoints.get(id.0).map(|entry| &**entry);
        let identity = entry.map_or(Addresses::NOTHING, |entry| entry.identity);
        Resolved { identity, endpoint: Some(id), entry, nodes: &[], address_known: false }
    }

    fn judge(
        &self,
        direction: Direction,
        subject: Resolved<'_>,
        peer: Resolved<'_>,
        traffic: Traffic,
        itself: bool,
    ) -> Option<Judged> {
        let entry = subject.entry?;
        let profile = match (itself, self.inner.options.self_traffic) {
            (false, _) => entry.profile?,
            // NP-SELF-1, C-HAIR-1.
            (true, SelfTraffic::Allowed) => return None,
            (true, SelfTraffic::Policed) => entry.own?,
        };
        let peer_id = peer.identity;
        let Some(side) = self.profile(profile).side(direction) else {
            let verdict = Verdict::Allow;
            return Some(Judged { profile, own_node: false, verdict });
        };
        let class = self.class(side.class_of(traffic));
        let mut verdict = class.verdict(peer_id);
        // NP-NODE-1: looked at last, since hardly any packet needs it.
        let own_node = verdict == Verdict::Deny
            && entry.node.is_some_and(|node| peer.nodes.contains(&node))
            && class.allows_own_node(peer_id);
        if own_node {
            verdict = Verdict::Allow;
        }
        Some(Judged { profile, own_node, verdict })
    }
}

/// Whether both ends are the same endpoint, or the same node.
pub(super) fn is_same(source: &Resolved<'_>, destination: &Resolved<'_>) -> bool {
    let same_endpoint = source.endpoint.is_some() && source.endpoint == destination.endpoint;
    same_endpoint || source.nodes.iter().any(|node| destination.nodes.contains(node))
}

impl Resolved<'_> {
    /// An end about which nothing is known.
    const UNKNOWN: Self = Self {
        identity: Addresses::NOTHING,
        endpoint: None,
        entry: None,
        nodes: &[],
        address_known: false,
    };
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
