//! The flag `--reading`: how the points that the APIs leave open are read.

use std::str::FromStr;

use anyhow::{Error, bail};
use clap::Args;
use netpol_core::model::{
    BaselineSkip, DuplicatePortNames, HostNetworkPeers, HostNetworkPortNames, HostNetworkSubjects,
    NodeEgress, Options, OtherProtocols, SelfTraffic, Tie, UnknownProtocol,
};

/// How the points that the APIs leave open are read.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReadingArgs {
    /// Read an open point of the APIs differently, such as CH-SELF=policed; may be repeated
    ///
    /// The points and their readings, the default first:
    ///   CH-SELF=allowed|policed            a pod's traffic to its own address
    ///   CH-NODE-EGRESS=policed|allowed     egress of a pod to its own node
    ///   CH-HOST-PEER=never|by-label        host-network pods as peers of pod selectors
    ///   CH-HOST-SUBJECT=never|policed      host-network pods as subjects
    ///   CH-PROTO=rules|allowed|denied      protocols other than TCP, UDP and SCTP under isolation
    ///   CH-BASELINE-DIR=isolated|selected  which NetworkPolicies keep the Baseline tier out
    ///   CH-TIE=ascending|descending        the order of names at equal priority
    ///   CH-DUP-NAME=union|first|none       a port name declared more than once
    ///   CH-NAME-HOST=unresolved|resolved   a port name towards a host-network pod
    ///   CH-PROTO-FAIL=fail-closed|ignored  unknown protocol entries of cluster-wide policies
    #[arg(long = "reading", value_name = "POINT=READING", verbatim_doc_comment)]
    readings: Vec<Reading>,
}

/// One open point with the way to read it.
#[derive(Clone, Copy, Debug)]
enum Reading {
    SelfTraffic(SelfTraffic),
    NodeEgress(NodeEgress),
    HostNetworkPeers(HostNetworkPeers),
    HostNetworkSubjects(HostNetworkSubjects),
    OtherProtocols(OtherProtocols),
    BaselineSkip(BaselineSkip),
    Tie(Tie),
    DuplicatePortNames(DuplicatePortNames),
    HostNetworkPortNames(HostNetworkPortNames),
    UnknownProtocol(UnknownProtocol),
}

impl ReadingArgs {
    /// The engine's options; of a point that is given twice the last reading counts.
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::default();
        for reading in &self.readings {
            match *reading {
                Reading::SelfTraffic(it) => options.self_traffic = it,
                Reading::NodeEgress(it) => options.node_egress = it,
                Reading::HostNetworkPeers(it) => options.host_network_peers = it,
                Reading::HostNetworkSubjects(it) => options.host_network_subjects = it,
                Reading::OtherProtocols(it) => options.other_protocols = it,
                Reading::BaselineSkip(it) => options.baseline_skip = it,
                Reading::Tie(it) => options.tie = it,
                Reading::DuplicatePortNames(it) => options.duplicate_port_names = it,
                Reading::HostNetworkPortNames(it) => options.host_network_port_names = it,
                Reading::UnknownProtocol(it) => options.unknown_protocol = it,
            }
        }
        options
    }
}

impl FromStr for Reading {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "CH-SELF=allowed" => Self::SelfTraffic(SelfTraffic::Allowed),
            "CH-SELF=policed" => Self::SelfTraffic(SelfTraffic::Policed),
            "CH-NODE-EGRESS=policed" => Self::NodeEgress(NodeEgress::Policed),
            "CH-NODE-EGRESS=allowed" => Self::NodeEgress(NodeEgress::Allowed),
            "CH-HOST-PEER=never" => Self::HostNetworkPeers(HostNetworkPeers::Never),
            "CH-HOST-PEER=by-label" => Self::HostNetworkPeers(HostNetworkPeers::ByLabel),
            "CH-HOST-SUBJECT=never" => Self::HostNetworkSubjects(HostNetworkSubjects::Never),
            "CH-HOST-SUBJECT=policed" => Self::HostNetworkSubjects(HostNetworkSubjects::Policed),
            "CH-PROTO=rules" => Self::OtherProtocols(OtherProtocols::RulesWithoutPorts),
            "CH-PROTO=allowed" => Self::OtherProtocols(OtherProtocols::Allowed),
            "CH-PROTO=denied" => Self::OtherProtocols(OtherProtocols::Denied),
            "CH-BASELINE-DIR=isolated" => Self::BaselineSkip(BaselineSkip::IsolatedDirection),
            "CH-BASELINE-DIR=selected" => Self::BaselineSkip(BaselineSkip::AnySelected),
            "CH-TIE=ascending" => Self::Tie(Tie::NameAscending),
            "CH-TIE=descending" => Self::Tie(Tie::NameDescending),
            "CH-DUP-NAME=union" => Self::DuplicatePortNames(DuplicatePortNames::Union),
            "CH-DUP-NAME=first" => Self::DuplicatePortNames(DuplicatePortNames::First),
            "CH-DUP-NAME=none" => Self::DuplicatePortNames(DuplicatePortNames::None),
            "CH-NAME-HOST=unresolved" => {
                Self::HostNetworkPortNames(HostNetworkPortNames::Unresolved)
            }
            "CH-NAME-HOST=resolved" => Self::HostNetworkPortNames(HostNetworkPortNames::Resolved),
            "CH-PROTO-FAIL=fail-closed" => Self::UnknownProtocol(UnknownProtocol::FailClosed),
            "CH-PROTO-FAIL=ignored" => Self::UnknownProtocol(UnknownProtocol::Ignored),
            _ => bail!("no such reading; `netpol test --help` lists them"),
        })
    }
}
