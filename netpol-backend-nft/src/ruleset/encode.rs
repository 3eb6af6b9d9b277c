//! Rulesets as nf_tables messages.

use std::net::IpAddr;

use nix::libc::{AF_INET, AF_INET6};

use super::{
    Base, Chain, Comment, Elements, Family, Hook, Name, Rule, Set, Side, Statement, Verdict,
    netmask,
};
use crate::plan::Change;
use crate::wire::batch::Batch;
use crate::wire::expression::{Expression, Found, RawVerdict};
use crate::wire::uapi::{
    self, chain, cmp, ct, data, elem, expr, hook, meta, msg, payload, rule, set, table, udata,
    verdict,
};
use crate::wire::writer::Writer;

/// `ct state established,related` as the bits of the conntrack state register.
pub(super) const ESTABLISHED_OR_RELATED: u32 = 0x2 | 0x4;
/// `ct state untracked`.
pub(super) const UNTRACKED: u32 = 0x40;
pub(super) const NO_STATE: u32 = 0;
/// The flags of TCP that tell the first packet of a connection from others, and those it has.
pub(super) const TCP_OPENING: [[u8; 1]; 2] = [[0x17], [0x02]];
/// The type of the chunk that an SCTP association begins with.
pub(super) const SCTP_INIT: [u8; 1] = [1];
/// How many packets beyond its rate a limit lets through at once: the nft tool's default.
pub(super) const LIMIT_BURST: u32 = 5;

/// The address family as netlink numbers it.
#[expect(clippy::cast_possible_truncation, reason = "address families are 2 and 10")]
pub(crate) fn number(family: Family) -> u8 {
    match family {
        Family::V4 => AF_INET as u8,
        Family::V6 => AF_INET6 as u8,
    }
}

/// Removes the tables of this name in both families, whether or not they are there: creating what
/// exists is no error, deleting what does not is (kernels before 6.3 have nothing better).
pub(crate) fn remove(name: &Name, batch: &mut Batch) {
    for family in Family::ALL {
        for (kind, flags) in [(msg::NEWTABLE, uapi::CREATE), (msg::DELTABLE, 0)] {
            batch.push(kind, flags, number(family), |w| w.text(table::NAME, name.as_str()));
        }
    }
}

/// Writes the changes of one step, which are ordered by family.
pub(crate) fn write(table: &Name, changes: &[(Family, Change)], batch: &mut Batch) {
    for changes in changes.chunk_by(|(a, _), (b, _)| a == b) {
        let Some((family, _)) = changes.first() else { continue };
        write_family(*family, table.as_str(), changes.iter().map(|(_, change)| change), batch);
    }
}

fn write_family<'c>(
    family: Family,
    table: &str,
    changes: impl Iterator<Item = &'c Change> + Clone,
    batch: &mut Batch,
) {
    let number = number(family);
    // Sets are told apart by number within a transaction.
    for (id, change) in (1..).zip(changes.clone()) {
        match change {
            Change::DeleteTable => {
                batch.push(msg::DELTABLE, 0, number, |w| w.text(table::NAME, table));
            }
            Change::CreateTable { comment, owned } => {
                create_table(batch, number, table, comment.as_ref(), *owned);
            }
            Change::ClaimTable => batch.push(msg::NEWTABLE, 0, number, |w| {
                w.text(table::NAME, table);
                w.be32(table::FLAGS, OWNED);
            }),
            Change::CreateChain(name, chain) => create_chain(batch, family, table, name, chain),
            Change::CreateSet(name, set) => {
                create_set(batch, family, table, name, id, set);
                let kind = msg::NEWSETELEM;
                write_elements(batch, kind, family, table, name, &set.elements);
            }
            _ => {}
        }
    }
    for change in changes.clone() {
        let (name, rules) = match change {
            Change::CreateChain(name, chain) => (name, &chain.rules),
            Change::ReplaceRules(name, rules) => {
                delete_rules(batch, number, table, name);
                (name, rules)
            }
            _ => continue,
        };
        rules.iter().for_each(|rule| append_rule(batch, family, table, name, rule));
    }
    // Chains that are deleted may lead to each other, and use sets that are.
    for change in changes.clone() {
        if let Change::DeleteChain(name) = change {
            delete_rules(batch, number, table, name);
        }
    }
    for change in changes {
        match change {
            Change::DeleteElements(set, elements) => {
                write_elements(batch, msg::DELSETELEM, family, table, set, elements);
            }
            Change::AddElements(set, elements) => {
                write_elements(batch, msg::NEWSETELEM, family, table, set, elements);
            }
            Change::DeleteSet(name) => batch.push(msg::DELSET, 0, number, |w| {
                w.text(set::TABLE, table);
                w.text(set::NAME, name.as_str());
            }),
            Change::DeleteChain(name) => batch.push(msg::DELCHAIN, 0, number, |w| {
                w.text(chain::TABLE, table);
                w.text(chain::NAME, name.as_str());
            }),
            _ => {}
        }
    }
}

/// Only the socket that sends this may change the table, until it is closed; the table stays.
const OWNED: u32 = table::FLAG_OWNER | table::FLAG_PERSIST;

fn create_table(batch: &mut Batch, family: u8, name: &str, comment: Option<&Comment>, owned: bool) {
    batch.push(msg::NEWTABLE, uapi::CREATE | uapi::EXCL, family, |w| {
        w.text(table::NAME, name);
        if owned {
            w.be32(table::FLAGS, OWNED);
        }
        if let Some(comment) = comment {
            w.comment(table::USERDATA, udata::TABLE_COMMENT, comment.as_str());
        }
    });
}

/// Deletes all rules of a chain.
fn delete_rules(batch: &mut Batch, family: u8, table: &str, chain: &Name) {
    batch.push(msg::DELRULE, 0, family, |w| {
        w.text(rule::TABLE, table);
        w.text(rule::CHAIN, chain.as_str());
    });
}

fn create_chain(batch: &mut Batch, family: Family, table: &str, name: &Name, content: &Chain) {
    batch.push(msg::NEWCHAIN, uapi::CREATE | uapi::EXCL, number(family), |w| {
        w.text(chain::TABLE, table);
        w.text(chain::NAME, name.as_str());
        if let Some(Base { hook, priority }) = content.base {
            w.nest(chain::HOOK, |w| {
                w.be32(hook::HOOKNUM, hook_number(hook));
                w.be32(hook::PRIORITY, priority.cast_unsigned());
            });
            w.be32(chain::POLICY, verdict::ACCEPT.cast_unsigned());
            w.text(chain::TYPE, "filter");
        }
        if let Some(comment) = &content.comment {
            w.comment(chain::USERDATA, udata::CHAIN_COMMENT, comment.as_str());
        }
    });
}

/// The hook as netfilter numbers it.
pub(super) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
    }
}

fn create_set(batch: &mut Batch, family: Family, table: &str, name: &Name, id: u32, content: &Set) {
    let shape = Shape::of(family, &content.elements);
    batch.push(msg::NEWSET, uapi::CREATE | uapi::EXCL, number(family), |w| {
        w.text(set::TABLE, table);
        w.text(set::NAME, name.as_str());
        w.be32(set::FLAGS, shape.flags);
        w.be32(set::KEY_TYPE, shape.key_type);
        w.be32(set::KEY_LEN, shape.key_length);
        if content.elements.is_map() {
            w.be32(set::DATA_TYPE, set::TYPE_VERDICT);
        }
        w.be32(set::ID, id);
        if let Some(size) = content.size {
            w.nest(set::DESC, |w| w.be32(set::DESC_SIZE, size));
        }
        // Without this the nft tool prints no interfaces.
        let in_host_order = matches!(content.elements, Elements::InterfaceVerdicts(_));
        if in_host_order || content.comment.is_some() {
            w.records(set::USERDATA, |w| {
                if in_host_order {
                    w.record(udata::SET_KEY_ORDER, &udata::HOST_ORDER.to_ne_bytes());
                }
                if let Some(comment) = &content.comment {
                    w.comment_record(udata::SET_COMMENT, comment.as_str());
                }
            });
        }
    });
}

/// How the kernel describes a kind of set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) flags: u32,
    pub(super) key_type: u32,
    pub(super) key_length: u32,
}

impl Shape {
    pub(super) fn of(family: Family, elements: &Elements) -> Self {
        let (address, length) = match family {
            Family::V4 => (set::TYPE_IPV4_ADDR, 4),
            Family::V6 => (set::TYPE_IPV6_ADDR, 16),
        };
        let (key_type, key_length) = match elements {
            Elements::Addresses(_) | Elements::AddressRanges(_) | Elements::AddressVerdicts(_) => {
                (address, length)
            }
            Elements::InterfaceVerdicts(_) => (set::TYPE_IFNAME, meta::INTERFACE_LENGTH),
            Elements::AddressPairs(_) | Elements::PairVerdicts(_) => {
                (address << set::CONCAT_BITS | address, 2 * length)
            }
            Elements::PortVerdicts(_) | Elements::PortRangeVerdicts(_) => {
                (set::TYPE_INET_SERVICE, 2)
            }
        };
        let interval = if elements.is_interval() { set::FLAG_INTERVAL } else { 0 };
        let map = if elements.is_map() { set::FLAG_MAP } else { 0 };
        Self { flags: interval | map, key_type, key_length }
    }
}

/// Adds elements to a set or deletes them from it, whichever `kind` of message says.
fn write_elements(
    batch: &mut Batch,
    kind: u8,
    family: Family,
    table: &str,
    set: &Name,
    elements: &Elements,
) {
    let number = number(family);
    let set = set.as_str();
    match elements {
        Elements::Addresses(list) => {
            batch.push_elements(kind, number, table, set, list, |address, w| {
                key(w, octets(address).as_slice());
            });
        }
        Elements::AddressPairs(list) => {
            batch.push_elements(kind, number, table, set, list, |(source, destination), w| {
                key(w, &[octets(source).as_slice(), octets(destination).as_slice()].concat());
            });
        }
        Elements::AddressRanges(list) => {
            let bounds = list.iter().flat_map(|(first, last)| {
                let end = after(*last).map(|end| (end, true));
                std::iter::once((*first, false)).chain(end)
            });
            batch.push_elements(kind, number, table, set, bounds, |(address, end), w| {
                bound(w, octets(&address).as_slice(), None, end);
            });
        }
        Elements::AddressVerdicts(list) => {
            batch.push_elements(kind, number, table, set, list, |element, w| {
                key(w, octets(&element.address).as_slice());
                w.nest(elem::DATA, |w| raw(&element.verdict).encode(w));
                if let Some(comment) = &element.comment {
                    w.comment(elem::USERDATA, udata::ELEMENT_COMMENT, comment.as_str());
                }
            });
        }
        Elements::InterfaceVerdicts(list) => {
            batch.push_elements(kind, number, table, set, list, |(interface, verdict), w| {
                let mut bytes = interface.as_str().as_bytes().to_vec();
                bytes.resize(meta::INTERFACE_LENGTH as usize, 0);
                key(w, &bytes);
                w.nest(elem::DATA, |w| raw(verdict).encode(w));
            });
        }
        Elements::PairVerdicts(list) => {
            batch.push_elements(kind, number, table, set, list, |((from, to), verdict), w| {
                key(w, &[octets(from).as_slice(), octets(to).as_slice()].concat());
                w.nest(elem::DATA, |w| raw(verdict).encode(w));
            });
        }
        Elements::PortVerdicts(list) => {
            batch.push_elements(kind, number, table, set, list, |(port, verdict), w| {
                key(w, &port.to_be_bytes());
                w.nest(elem::DATA, |w| raw(verdict).encode(w));
            });
        }
        Elements::PortRangeVerdicts(list) => {
            let bounds = list.iter().flat_map(|((first, last), verdict)| {
                let end = last.checked_add(1).map(|end| (end, None));
                std::iter::once((*first, Some(verdict))).chain(end)
            });
            batch.push_elements(kind, number, table, set, bounds, |(port, verdict), w| {
                bound(w, &port.to_be_bytes(), verdict, verdict.is_none());
            });
        }
    }
}

fn key(w: &mut Writer, bytes: &[u8]) {
    w.nest(elem::KEY, |w| w.raw(data::VALUE, bytes));
}

/// One bound of an interval: its first key, or the key after its last.
fn bound(w: &mut Writer, bytes: &[u8], verdict: Option<&Verdict>, end: bool) {
    key(w, bytes);
    if let Some(verdict) = verdict {
        w.nest(elem::DATA, |w| raw(verdict).encode(w));
    }
    if end {
        w.be32(elem::FLAGS, elem::FLAG_INTERVAL_END);
    }
}

/// The address after this one; none after the last, where an interval needs no end.
fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// The bytes of an address without an allocation.
#[derive(Clone, Copy)]
enum Octets {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Octets {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}

fn octets(address: &IpAddr) -> Octets {
    match address {
        IpAddr::V4(address) => Octets::V4(address.octets()),
        IpAddr::V6(address) => Octets::V6(address.octets()),
    }
}

fn append_rule(batch: &mut Batch, family: Family, table: &str, chain: &Name, content: &Rule) {
    batch.push(msg::NEWRULE, uapi::CREATE | uapi::APPEND, number(family), |w| {
        w.text(rule::TABLE, table);
        w.text(rule::CHAIN, chain.as_str());
        w.nest(rule::EXPRESSIONS, |w| {
            for statement in &content.statements {
                lower(family, statement, |expression| expression.encode(w));
            }
        });
        if let Some(comment) = &content.comment {
            w.comment(rule::USERDATA, udata::RULE_COMMENT, comment.as_str());
        }
    });
}

/// Says a statement in the kernel's expressions.
pub(super) fn lower(family: Family, statement: &Statement, mut emit: impl FnMut(Expression<'_>)) {
    match statement {
        Statement::Established | Statement::Untracked => {
            let states = match statement {
                Statement::Established => ESTABLISHED_OR_RELATED,
                _ => UNTRACKED,
            };
            emit(Expression::Conntrack(ct::KEY_STATE));
            let xor = &NO_STATE.to_ne_bytes();
            emit(Expression::Mask { mask: &states.to_ne_bytes(), xor });
            emit(Expression::Compare { operator: cmp::NEQ, value: &NO_STATE.to_ne_bytes() });
        }
        Statement::TcpUnderWay => {
            let [mask, value] = &TCP_OPENING;
            emit(TCP_FLAGS);
            emit(Expression::Mask { mask, xor: &[0] });
            emit(Expression::Compare { operator: cmp::NEQ, value });
        }
        Statement::SctpUnderWay => {
            emit(SCTP_CHUNK);
            emit(Expression::Compare { operator: cmp::NEQ, value: &SCTP_INIT });
        }
        Statement::Protocol(number) => {
            emit(Expression::Meta(meta::KEY_L4PROTO));
            emit(Expression::Compare { operator: cmp::EQ, value: &[*number] });
        }
        Statement::IcmpType(first, last) => {
            emit(ICMP_TYPE);
            between(&[*first], &[*last], emit);
        }
        Statement::AddressBetween(side, first, last) => {
            emit(address(family, *side, expr::REG_1));
            between(octets(first).as_slice(), octets(last).as_slice(), emit);
        }
        Statement::PortBetween(first, last) => {
            emit(DESTINATION_PORT);
            between(&first.to_be_bytes(), &last.to_be_bytes(), emit);
        }
        Statement::AddressIn(side, set) => {
            emit(address(family, *side, expr::REG_1));
            emit(Expression::Lookup { set: set.as_str(), result: Found::Matches });
        }
        Statement::BlockIn(side, length, set) => {
            let [mask, xor] = [netmask(family, *length), netmask(family, 0)].map(|it| octets(&it));
            emit(address(family, *side, expr::REG_1));
            emit(Expression::Mask { mask: mask.as_slice(), xor: xor.as_slice() });
            emit(Expression::Lookup { set: set.as_str(), result: Found::Matches });
        }
        Statement::AddressNotIn(side, set) => {
            emit(address(family, *side, expr::REG_1));
            emit(Expression::Lookup { set: set.as_str(), result: Found::Fails });
        }
        Statement::PairIn(set) => {
            emit(address(family, Side::Source, expr::REG_1));
            emit(address(family, Side::Destination, second_register(family)));
            emit(Expression::Lookup { set: set.as_str(), result: Found::Matches });
        }
        Statement::PairMap(map) => {
            emit(address(family, Side::Source, expr::REG_1));
            emit(address(family, Side::Destination, second_register(family)));
            emit(Expression::Lookup { set: map.as_str(), result: Found::Verdict });
        }
        Statement::AddressMap(side, map) => {
            emit(address(family, *side, expr::REG_1));
            emit(Expression::Lookup { set: map.as_str(), result: Found::Verdict });
        }
        Statement::InterfaceMap(side, map) => {
            emit(Expression::Meta(interface(*side)));
            emit(Expression::Lookup { set: map.as_str(), result: Found::Verdict });
        }
        Statement::PortMap(map) => {
            emit(DESTINATION_PORT);
            emit(Expression::Lookup { set: map.as_str(), result: Found::Verdict });
        }
        Statement::Counter => emit(Expression::Counter { packets: 0, bytes: 0 }),
        Statement::Limit(rate) => {
            emit(Expression::Limit { rate: u64::from(*rate), burst: LIMIT_BURST });
        }
        Statement::Log { group, prefix } => {
            emit(Expression::Log { group: *group, prefix: prefix.as_str() });
        }
        Statement::Verdict(verdict) => emit(Expression::Verdict(raw(verdict))),
        Statement::Foreign(name) => emit(Expression::Other(name)),
    }
}

/// Compares what has been loaded with the first and the last value of a range.
fn between(first: &[u8], last: &[u8], mut emit: impl FnMut(Expression<'_>)) {
    if first == last {
        emit(Expression::Compare { operator: cmp::EQ, value: first });
    } else {
        emit(Expression::Compare { operator: cmp::GTE, value: first });
        emit(Expression::Compare { operator: cmp::LTE, value: last });
    }
}

pub(super) const ICMP_TYPE: Expression<'static> = Expression::Payload {
    register: expr::REG_1,
    base: payload::BASE_TRANSPORT,
    offset: 0,
    length: 1,
};

pub(super) const TCP_FLAGS: Expression<'static> = Expression::Payload {
    register: expr::REG_1,
    base: payload::BASE_TRANSPORT,
    offset: 13,
    length: 1,
};

/// The type of the first chunk.
pub(super) const SCTP_CHUNK: Expression<'static> = Expression::Payload {
    register: expr::REG_1,
    base: payload::BASE_TRANSPORT,
    offset: 12,
    length: 1,
};

pub(super) const DESTINATION_PORT: Expression<'static> = Expression::Payload {
    register: expr::REG_1,
    base: payload::BASE_TRANSPORT,
    offset: 2,
    length: 2,
};

/// The key of the interface that a packet comes in by, or goes out by.
pub(super) fn interface(side: Side) -> u32 {
    match side {
        Side::Source => meta::KEY_IIFNAME,
        Side::Destination => meta::KEY_OIFNAME,
    }
}

/// Loads an address of the network header.
pub(super) fn address(family: Family, side: Side, register: u32) -> Expression<'static> {
    let (offset, length) = match (family, side) {
        (Family::V4, Side::Source) => (12, 4),
        (Family::V4, Side::Destination) => (16, 4),
        (Family::V6, Side::Source) => (8, 16),
        (Family::V6, Side::Destination) => (24, 16),
    };
    Expression::Payload { register, base: payload::BASE_NETWORK, offset, length }
}

/// The register behind an address in register 1.
pub(super) fn second_register(family: Family) -> u32 {
    match family {
        Family::V4 => expr::REG32_01,
        Family::V6 => expr::REG_2,
    }
}

fn raw(verdict: &Verdict) -> RawVerdict<'_> {
    let (code, chain) = match verdict {
        Verdict::Accept => (verdict::ACCEPT, None),
        Verdict::Drop => (verdict::DROP, None),
        Verdict::Return => (verdict::RETURN, None),
        Verdict::Jump(chain) => (verdict::JUMP, Some(chain.as_str())),
        Verdict::Goto(chain) => (verdict::GOTO, Some(chain.as_str())),
    };
    RawVerdict { code, chain }
}
