use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Name, PortRange, Protocol, Selector};

/// A policy of any kind, in the one form that the engine works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which object it is.
    pub key: PolicyKey,
    /// Where it stands in the order of evaluation.
    pub tier: Tier,
    /// Within a tier, lower numbers are evaluated first (C-PRIO-1); 0 for NetworkPolicy, where order means nothing.
    pub priority: u16,
    /// The pods it applies to.
    pub subject: Subject,
    /// What it says on traffic to its subjects; `None` if nothing (NP-TYPE-4, C-ACT-5).
    ///
    /// In [`Tier::NetworkPolicy`], `Some` isolates the subjects in that direction, also with no rule in it (NP-ISO-5).
    pub ingress: Option<Vec<Rule>>,
    /// What it says on traffic from its subjects; as `ingress`.
    pub egress: Option<Vec<Rule>>,
}

/// The identity of a policy object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyKey {
    /// The kind of object.
    pub kind: PolicyKind,
    /// The namespace of a NetworkPolicy; empty for the cluster-wide kinds.
    pub namespace: Name,
    /// The object's name.
    pub name: Name,
}

/// The kinds of policy objects that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicyKind {
    /// `networking.k8s.io/v1`.
    NetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha2`.
    ClusterNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`.
    AdminNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`.
    BaselineAdminNetworkPolicy,
}

/// The tiers in the order in which they are asked (C-TIER-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Before any NetworkPolicy; ordered rules.
    Admin,
    /// The additive tier; decides for every pod isolated in the direction (C-TIER-2).
    NetworkPolicy,
    /// For what no NetworkPolicy decides; ordered rules.
    Baseline,
}

/// The pods a policy applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// These pods.
    Pods(PodSelector),
    /// A subject that is only partly understood: at most these pods. All of them could be meant, so that the policy
    /// isolates them, its Deny rules hold for them, its Pass rules deny, and its Accept rules do not count
    /// (C-FAIL-3).
    AtMost(PodSelector),
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name given to it, without meaning.
    pub name: Option<Name>,
    /// What happens to a connection that it matches; always [`Action::Accept`] in [`Tier::NetworkPolicy`].
    pub action: Action,
    /// The other end of the connections it matches.
    pub peers: Peers,
    /// The destination ports of the connections it matches.
    pub ports: Ports,
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Allows in this direction, finally (C-ACT-1).
    Accept,
    /// Drops, finally (C-ACT-3).
    Deny,
    /// Skips the rest of the tier (C-ACT-4).
    Pass,
}

/// The other ends that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Every source or destination, inside or outside of the cluster (NP-PEER-1).
    Everyone,
    /// Any of these (NP-PEER-2, C-PEER-6).
    AnyOf(Vec<Peer>),
}

/// One kind of other end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Ordinary pods (NP-PEER-6, C-PEER-1).
    Pods(PodSelector),
    /// Addresses in a block (NP-IPB-1, C-PEER-2).
    Block(Block),
    /// The addresses of nodes (C-PEER-4).
    Nodes(Selector),
    /// The addresses a name was seen to stand for (C-PEER-5).
    Domain(DomainPattern),
    /// A peer that is not understood; it spoils its whole rule (C-FAIL-1). The text says what it was.
    Unknown(Name),
}

/// Pods by the labels of their namespace and their own; both must match (NP-PEER-5).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodSelector {
    /// Which namespaces.
    pub namespaces: NamespaceScope,
    /// Which pods of them.
    pub pods: Selector,
}

/// Which namespaces a [`PodSelector`] looks into.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamespaceScope {
    /// The namespace of this name: a NetworkPolicy's own (NP-PEER-3).
    Named(Name),
    /// All namespaces whose labels match (NP-PEER-4).
    Matching(Selector),
}

/// A CIDR block with parts carved out (NP-IPB-1, NP-IPB-4). Host bits are masked off (NP-IPB-5).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    cidr: IpNet,
    except: Vec<IpNet>,
}

/// A domain name, or with a leading `*.` all names below one (C-PEER-5). In lower case, without the final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainPattern(Name);

/// The destination ports that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Every port of every protocol, those unknown to the API included (NP-PORT-1, C-PROTO-1).
    All,
    /// Any of these (NP-PORT-2, C-PROTO-2).
    AnyOf(Vec<PortMatch>),
}

/// One entry of a rule's ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortMatch {
    /// These ports of one protocol (NP-PORT-4…6).
    Range(Protocol, PortRange),
    /// What the destination declares under this name (NP-PORT-8), of this protocol, or without one of any (C-PROTO-5).
    Named(Option<Protocol>, Name),
    /// An entry that is not understood (C-FAIL-2). The text says what it was.
    Unknown(Name),
}

impl Policy {
    /// The rules for one direction.
    pub fn rules(&self, direction: super::Direction) -> Option<&[Rule]> {
        match direction {
            super::Direction::Ingress => self.ingress.as_deref(),
            super::Direction::Egress => self.egress.as_deref(),
        }
    }
}

impl Block {
    /// The addresses of `cidr` that are in none of `except`; what of `except` lies outside of `cidr` means nothing.
    pub fn new(cidr: IpNet, except: impl IntoIterator<Item = IpNet>) -> Self {
        let cidr = cidr.trunc();
        let mut except: Vec<IpNet> = except
            .into_iter()
            .map(|block| block.trunc())
            .filter(|block| cidr.contains(block) || block.contains(&cidr))
            .collect();
        except.sort();
        except.dedup();
        Self { cidr, except }
    }

    /// The block.
    pub fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// The parts carved out of it, sorted.
    pub fn except(&self) -> &[IpNet] {
        &self.except
    }

    /// Whether an address is in the block and in none of the parts carved out of it (NP-IPB-4).
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(&address) && !self.except.iter().any(|part| part.contains(&address))
    }
}

impl DomainPattern {
    /// The pattern, compared without case and final dot.
    pub fn new(pattern: &str) -> Self {
        let pattern = pattern.strip_suffix('.').unwrap_or(pattern);
        Self(pattern.to_ascii_lowercase().into())
    }

    /// Whether it stands for `name`, which is in lower case and without the final dot. A leading `*.` is one or
    /// more labels: it does not cover the bare domain.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_prefix('*') {
            Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
            None => &*self.0 == name,
        }
    }
}

impl PolicyKind {
    /// The kind as manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::AdminNetworkPolicy => "AdminNetworkPolicy",
            Self::BaselineAdminNetworkPolicy => "BaselineAdminNetworkPolicy",
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `NetworkPolicy shop/api`, `ClusterNetworkPolicy isolate-tenants`.
impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::NetworkPolicy => "network",
            Self::Baseline => "baseline",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Deny => "deny",
            Self::Pass => "pass",
        })
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cidr)?;
        for (at, except) in self.except.iter().enumerate() {
            write!(f, "{}{except}", if at == 0 { " except " } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PortMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(protocol, range) if *range == PortRange::ALL => write!(f, "{protocol}"),
            Self::Range(protocol, range) => write!(f, "{range}/{protocol}"),
            Self::Named(Some(protocol), name) => write!(f, "{name}/{protocol}"),
            Self::Named(None, name) => write!(f, "{name}"),
            Self::Unknown(what) => write!(f, "unknown ({what})"),
        }
    }
}
