//! Packets from the middle of connections that nobody knows.

use netpol_core::model::{Direction, SelfTraffic};

use super::Options;
use super::exits::{own_addresses, refusal};
use crate::name::{Comment, Name};
use crate::ruleset::{Chain, Rule, Side, Statement, Verdict};

/// Protocol numbers of those that are spoken in connections.
const TCP: u8 = 6;
const SCTP: u8 = 132;
/// The rules of base chains that find such packets.
pub(super) fn rules() -> [Rule; 2] {
    let kinds = [(TCP, Statement::TcpUnderWay), (SCTP, Statement::SctpUnderWay)];
    kinds.map(|(protocol, kind)| {
        let jump = Statement::Verdict(Verdict::Jump(stray_chain()));
        [Statement::Protocol(protocol), kind, jump].into()
    })
}

/// What becomes of packets from the middle of connections that nobody knows: those are dropped that
/// may be answers of a connection that the policies of a local endpoint might deny.
pub(super) fn chains(self_traffic: SelfTraffic, options: &Options) -> [(Name, Chain); 2] {
    let mut rules: Vec<Rule> =
        vec![[Statement::Untracked, Statement::Verdict(Verdict::Return)].into()];
    if self_traffic == SelfTraffic::Allowed {
        rules
            .push([Statement::PairIn(own_addresses()), Statement::Verdict(Verdict::Accept)].into());
    }
    let answers = [(Side::Source, Direction::Ingress), (Side::Destination, Direction::Egress)];
    rules.extend(answers.map(|(side, direction)| {
        let denied = Verdict::Goto(denied_stray_chain());
        [Statement::AddressIn(side, isolated_set(direction)), Statement::Verdict(denied)].into()
    }));
    let comment = "TCP and SCTP packets of connections that nobody knows";
    let stray = Chain { base: None, comment: Some(Comment::new(comment)), rules };
    let last = [Statement::Counter, Statement::Verdict(refusal(options))].into();
    let denied = Chain { rules: vec![last], ..Chain::default() };
    [(stray_chain(), stray), (denied_stray_chain(), denied)]
}

/// The addresses that are judged in a direction.
pub(super) fn isolated_set(direction: Direction) -> Name {
    Name::known(match direction {
        Direction::Egress => "isolated-out",
        Direction::Ingress => "isolated-in",
    })
}

fn stray_chain() -> Name {
    Name::known("stray")
}

fn denied_stray_chain() -> Name {
    Name::known("denied-stray")
}
