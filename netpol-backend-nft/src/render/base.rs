//! The chains that packets enter by.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netpol_core::model::{Direction, Family};

use super::interfaces::interface_map;
use super::{stray, unknown};
use crate::name::{Comment, Name};
use crate::ruleset::{Base, Chain, Hook, Rule, Side, Statement, Verdict};

/// ICMPv6's protocol number.
const ICMPV6: u8 = 58;
/// Multicast listener discovery, router and neighbour discovery: 130 to 136, and the listener
/// report of version 2. Redirects are not among them.
const DISCOVERY: [(u8, u8); 2] = [(130, 136), (143, 143)];

/// What the base chains of a table depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BaseChains {
    pub(super) family: Family,
    /// Hosts are policed.
    pub(super) hosts: bool,
    /// Endpoints known by address are judged for what they send, and for what they receive.
    pub(super) judges: [bool; 2],
    /// Some endpoints are judged by others' policies when they reach themselves.
    pub(super) own: bool,
    /// Some endpoints are known by their interfaces.
    pub(super) interfaces: bool,
    /// Where addresses are denied that no endpoint has.
    pub(super) closed: Vec<(IpAddr, IpAddr)>,
}

impl BaseChains {
    /// Endpoints send to the host through `input` and receive from it through `output`; the host's
    /// own addresses occur on the other sides only where host-network endpoints are policed.
    pub(super) fn chains(&self) -> BTreeMap<Name, Chain> {
        let Self { family, hosts, judges: [judges_sent, judges_received], own, interfaces, .. } =
            *self;
        let closed = &self.closed;
        let mut chains = BTreeMap::new();
        for hook in Hook::ALL {
            let (name, comment, sends, receives) = match hook {
                Hook::Input => ("input", "from endpoints to the host", true, hosts),
                Hook::Forward => ("forward", "from and to endpoints", true, true),
                Hook::Output => ("output", "from the host to endpoints", hosts, true),
            };
            let mut rules: Vec<Rule> =
                vec![[Statement::Established, Statement::Verdict(Verdict::Accept)].into()];
            rules.extend(stray::rules());
            if family == Family::V6 {
                let jump = Statement::Verdict(Verdict::Jump(discovery_chain()));
                rules.push([Statement::Protocol(ICMPV6), jump].into());
            }
            if interfaces && hook != Hook::Output {
                let map = interface_map(Direction::Egress);
                rules.push([Statement::InterfaceMap(Side::Source, map)].into());
            }
            if own {
                rules.push([Statement::PairMap(own_map())].into());
            }
            if sends && judges_sent {
                let map = dispatch_map(Direction::Egress);
                rules.push([Statement::AddressMap(Side::Source, map)].into());
            }
            if hook != Hook::Output {
                rules.extend(unknown::rules(Direction::Egress, closed));
            }
            if interfaces && hook != Hook::Input {
                let map = interface_map(Direction::Ingress);
                rules.push([Statement::InterfaceMap(Side::Destination, map)].into());
            }
            if receives && judges_received {
                let map = dispatch_map(Direction::Ingress);
                rules.push([Statement::AddressMap(Side::Destination, map)].into());
            }
            if hook != Hook::Input {
                rules.extend(unknown::rules(Direction::Ingress, closed));
            }
            let base = Some(Base { hook, priority: 0 });
            let chain = Chain { base, comment: Some(Comment::new(comment)), rules };
            chains.insert(Name::known(name), chain);
        }
        if family == Family::V6 {
            let rules = DISCOVERY.map(|(first, last)| {
                let kind = Statement::IcmpType(first, last);
                [Statement::Protocol(ICMPV6), kind, Statement::Verdict(Verdict::Accept)].into()
            });
            let comment = Some(Comment::new("neighbour discovery is never denied"));
            chains.insert(discovery_chain(), Chain { base: None, comment, rules: rules.into() });
        }
        chains
    }
}

pub(super) fn dispatch_map(direction: Direction) -> Name {
    Name::known(match direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    })
}

fn discovery_chain() -> Name {
    Name::known("discovery")
}

pub(super) fn own_map() -> Name {
    Name::known("own")
}
