/// The readings of the points that the APIs leave open. The default of each is the documented or most common one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Options {
    /// A pod's traffic to its own address under NetworkPolicy (CH-SELF, NP-SELF-1), direct or by way of a service.
    pub self_traffic: SelfTraffic,
    /// Egress of a pod to its own node under NetworkPolicy (CH-NODE-EGRESS, NP-NODE-3).
    pub node_egress: NodeEgress,
    /// Host-network pods as peers of pod selectors (CH-HOST-PEER, NP-HOST-2).
    pub host_network_peers: HostNetworkPeers,
    /// Host-network pods as subjects of NetworkPolicy (CH-HOST-SUBJECT, NP-HOST-1).
    pub host_network_subjects: HostNetworkSubjects,
    /// Protocols other than TCP, UDP and SCTP under NetworkPolicy isolation (CH-PROTO-OPEN, CH-PROTO-CLOSED).
    pub other_protocols: OtherProtocols,
    /// Which NetworkPolicies keep the Baseline tier out (CH-BASELINE-DIR, C-TIER-3).
    pub baseline_skip: BaselineSkip,
    /// The order of policies of equal tier and priority (CH-TIE, C-PRIO-3).
    pub tie: Tie,
    /// A port name that a pod declares more than once (CH-DUP-NAME, NP-PORT-11).
    pub duplicate_port_names: DuplicatePortNames,
    /// A port name towards a host-network pod (CH-NAME-HOST, NP-PORT-13).
    pub host_network_port_names: HostNetworkPortNames,
    /// Protocol entries of cluster-wide policies that are not understood (CH-PROTO-FAIL, C-FAIL-2).
    pub unknown_protocol: UnknownProtocol,
}

/// CH-SELF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SelfTraffic {
    /// Always allowed, whatever the policies say.
    #[default]
    Allowed,
    /// Judged by NetworkPolicy like any other traffic; the cluster-wide kinds still leave it alone (C-HAIR-1).
    Policed,
}

/// CH-NODE-EGRESS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NodeEgress {
    /// Judged like any other traffic.
    #[default]
    Policed,
    /// Always allowed by the NetworkPolicy tier.
    Allowed,
}

/// CH-HOST-PEER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HostNetworkPeers {
    /// Never matched by a selector.
    #[default]
    Never,
    /// Matched by their labels in NetworkPolicy; they stand for the addresses of their node.
    ByLabel,
}

/// CH-HOST-SUBJECT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HostNetworkSubjects {
    /// Never selected.
    #[default]
    Never,
    /// A NetworkPolicy that selects one polices its node's addresses.
    Policed,
}

/// CH-PROTO-OPEN and CH-PROTO-CLOSED.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OtherProtocols {
    /// Rules without ports decide.
    #[default]
    RulesWithoutPorts,
    /// All pass the NetworkPolicy tier.
    Allowed,
    /// None passes the NetworkPolicy tier.
    Denied,
}

/// CH-BASELINE-DIR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BaselineSkip {
    /// Those that isolate the pod in the direction at hand.
    #[default]
    IsolatedDirection,
    /// Any that selects the pod, for both directions.
    AnySelected,
}

/// CH-TIE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tie {
    /// Ascending by name.
    #[default]
    NameAscending,
    /// Descending by name.
    NameDescending,
}

/// CH-DUP-NAME.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DuplicatePortNames {
    /// The name stands for all of the declared ports.
    #[default]
    Union,
    /// The first declaration counts.
    First,
    /// Such a name stands for nothing.
    None,
}

/// CH-NAME-HOST.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HostNetworkPortNames {
    /// The name stands for nothing.
    #[default]
    Unresolved,
    /// The name stands for what the host-network pods of the node declare.
    Resolved,
}

/// CH-PROTO-FAIL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UnknownProtocol {
    /// As an unknown peer: an accepting rule matches nothing, a restricting one everything (C-FAIL-1).
    #[default]
    FailClosed,
    /// The entry matches nothing; the others count.
    Ignored,
}
