//! nf_tables messages as rulesets. What this crate would not have written is kept as
//! [`Statement::Foreign`] where it may decide about packets, so that a table which somebody else
//! changed never reads back as ours.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netpol_core::backend::Count;

use super::encode::{
    DESTINATION_PORT, ESTABLISHED_OR_RELATED, ICMP_TYPE, LIMIT_BURST, NO_STATE, SCTP_CHUNK,
    SCTP_INIT, Shape, TCP_FLAGS, TCP_OPENING, UNTRACKED, address, hook_number, interface,
    second_register,
};
use super::{
    AddressVerdict, Base, Chain, Comment, Elements, Family, Hook, Interface, Name, Ownership, Rule,
    Set, Side, Statement, Table, Verdict,
};
use crate::wire::expression::{Expression, Found, RawVerdict};
use crate::wire::reader::{Attributes, Message, be16};
use crate::wire::uapi::{
    self, chain, cmp, ct, data, elem, elem_list, expr, hook, meta, rule, set, udata, verdict,
};

/// Collects the messages of a table's dumps. Messages of other tables are ignored.
#[derive(Debug)]
pub(crate) struct TableReader {
    family: Family,
    name: Name,
    table: Table,
    /// Those of the set that is being read.
    elements: Vec<Element>,
    /// How many elements were counted.
    size: usize,
    /// By chain, and by the place of the rule in it.
    counts: BTreeMap<Name, Vec<(usize, Count)>>,
}

/// One element as the kernel has it: for an interval set, one bound.
#[derive(Debug)]
struct Element {
    key: Vec<u8>,
    verdict: Option<Verdict>,
    comment: Option<Comment>,
    end: bool,
}

impl TableReader {
    pub(crate) fn new(family: Family, name: Name, message: Message<'_>) -> Self {
        let comment = message.attributes().comment(uapi::table::USERDATA, udata::TABLE_COMMENT);
        let mut table = Table { comment: comment.map(Comment::new), ..Table::default() };
        let flags = message.attributes().be32(uapi::table::FLAGS).unwrap_or_default();
        table.ownership =
            match (flags & uapi::table::FLAG_OWNER != 0, flags & uapi::table::FLAG_PERSIST != 0) {
                (false, false) => Ownership::Shared,
                (true, true) => Ownership::Owned,
                (false, true) => Ownership::Orphaned,
                (true, false) => Ownership::Bound,
            };
        if flags & uapi::table::FLAG_DORMANT != 0 {
            table.foreign.push("the flag `dormant`".to_owned());
        }
        let counts = BTreeMap::new();
        Self { family, name, table, elements: Vec::new(), size: 0, counts }
    }

    /// The names of the sets seen so far.
    pub(crate) fn sets(&self) -> Vec<Name> {
        self.table.sets.keys().cloned().collect()
    }

    pub(crate) fn chain(&mut self, message: Message<'_>) {
        let at = message.attributes();
        let Some(name) = self.own(at, chain::TABLE, chain::NAME) else { return };
        let mut content = Chain {
            comment: at.comment(chain::USERDATA, udata::CHAIN_COMMENT).map(Comment::new),
            ..Chain::default()
        };
        if at.get(chain::HOOK).is_some() {
            match base(at) {
                Some(base) => content.base = Some(base),
                None => content.rules.push([foreign("an unknown kind of base chain")].into()),
            }
        }
        self.table.chains.insert(name, content);
    }

    /// Rules arrive in their order, and after the chains.
    pub(crate) fn rule(&mut self, message: Message<'_>) {
        let at = message.attributes();
        let Some(name) = self.own(at, rule::TABLE, rule::CHAIN) else { return };
        let Some(chain) = self.table.chains.get_mut(&name) else { return };
        for expression in Expression::decode_list(at.nest(rule::EXPRESSIONS)) {
            if let Expression::Counter { packets, bytes } = expression {
                let counts = self.counts.entry(name.clone()).or_default();
                counts.push((chain.rules.len(), Count { packets, bytes }));
            }
        }
        chain.rules.push(Rule {
            statements: raise(self.family, at.nest(rule::EXPRESSIONS)),
            comment: at.comment(rule::USERDATA, udata::RULE_COMMENT).map(Comment::new),
        });
    }

    pub(crate) fn set(&mut self, message: Message<'_>) {
        let at = message.attributes();
        let Some(name) = self.own(at, set::TABLE, set::NAME) else { return };
        let shape = Shape {
            flags: at.be32(set::FLAGS).unwrap_or_default(),
            key_type: at.be32(set::KEY_TYPE).unwrap_or_default(),
            key_length: at.be32(set::KEY_LEN).unwrap_or_default(),
        };
        let Some(elements) = KINDS.into_iter().find(|kind| Shape::of(self.family, kind) == shape)
        else {
            self.table.foreign.push(format!("the set `{name}` of another kind"));
            return;
        };
        let content = Set {
            comment: at.comment(set::USERDATA, udata::SET_COMMENT).map(Comment::new),
            size: at.nest(set::DESC).be32(set::DESC_SIZE),
            elements,
        };
        self.table.sets.insert(name, content);
    }

    /// Some of the elements of a set. The others are to follow before [`end_of_set`](Self::end_of_set).
    pub(crate) fn elements(&mut self, message: Message<'_>) {
        for element in self.each(message) {
            let Some(key) = element.nest(elem::KEY).get(data::VALUE) else { continue };
            let verdict = RawVerdict::decode(element.nest(elem::DATA)).and_then(verdict);
            let comment = element.comment(elem::USERDATA, udata::ELEMENT_COMMENT).map(Comment::new);
            let element = Element { key: key.to_vec(), verdict, comment, end: is_end(element) };
            self.elements.push(element);
        }
    }

    /// All elements of a set have been told.
    pub(crate) fn end_of_set(&mut self, name: &Name) {
        // At one key an interval ends before the next begins.
        self.elements.sort_unstable_by(|a, b| a.key.cmp(&b.key).then(b.end.cmp(&a.end)));
        if let Some(set) = self.table.sets.get_mut(name) {
            fill(&mut set.elements, &self.elements);
        }
        self.elements.clear();
    }

    /// Counts elements of a set without looking at what they are.
    pub(crate) fn count_elements(&mut self, message: Message<'_>) {
        self.size += self.each(message).filter(|element| !is_end(*element)).count();
    }

    /// How many elements were counted, intervals as one.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    fn each<'m>(&self, message: Message<'m>) -> impl Iterator<Item = Attributes<'m>> + use<'m> {
        let at = message.attributes();
        let own = self.own(at, elem_list::TABLE, elem_list::SET);
        let list = own.map(|_| at.nest(elem_list::ELEMENTS));
        list.into_iter().flatten().map(|(_, element)| Attributes(element))
    }

    /// What the counters of all rules of some chains say, in sum.
    pub(crate) fn count(&self, chains: impl Fn(&Name) -> bool) -> Count {
        let mut sum = Count::default();
        let counts = self.counts.iter().filter(|(name, _)| chains(name));
        counts.flat_map(|(_, counts)| counts).for_each(|(_, count)| sum += *count);
        sum
    }

    /// What the rules of a chain have counted that lead on to what is allowed, and to what is denied.
    pub(crate) fn outcomes(&self, name: &Name, denies: impl Fn(&Name) -> bool) -> [Count; 2] {
        let [mut allowed, mut denied] = [Count::default(); 2];
        let rules = self.table.chains.get(name).map_or(&[][..], |chain| &chain.rules);
        for (at, count) in self.counts.get(name).into_iter().flatten() {
            let end = rules.get(*at).and_then(|rule| rule.statements.last());
            match end {
                Some(Statement::Verdict(Verdict::Goto(chain))) if denies(chain) => denied += *count,
                _ => allowed += *count,
            }
        }
        [allowed, denied]
    }

    pub(crate) fn finish(self) -> Table {
        self.table
    }

    /// The name of an object, if it belongs to the table.
    fn own(&self, at: Attributes<'_>, table: u16, name: u16) -> Option<Name> {
        at.text(table).filter(|table| *table == self.name.as_str())?;
        Name::new(at.text(name)?).ok()
    }
}

/// One of each kind of set, empty.
const KINDS: [Elements; 8] = [
    Elements::Addresses(Vec::new()),
    Elements::AddressPairs(Vec::new()),
    Elements::AddressRanges(Vec::new()),
    Elements::AddressVerdicts(Vec::new()),
    Elements::InterfaceVerdicts(Vec::new()),
    Elements::PairVerdicts(Vec::new()),
    Elements::PortVerdicts(Vec::new()),
    Elements::PortRangeVerdicts(Vec::new()),
];

fn base(at: Attributes<'_>) -> Option<Base> {
    at.text(chain::TYPE).filter(|kind| *kind == "filter")?;
    at.be32(chain::POLICY).filter(|policy| policy.cast_signed() == verdict::ACCEPT)?;
    let number = at.nest(chain::HOOK).be32(hook::HOOKNUM)?;
    let hook = Hook::ALL.into_iter().find(|hook| hook_number(*hook) == number)?;
    let priority = at.nest(chain::HOOK).be32(hook::PRIORITY)?.cast_signed();
    Some(Base { hook, priority })
}

fn fill(elements: &mut Elements, list: &[Element]) {
    let single = |element: &Element| element_address(&element.key);
    match elements {
        Elements::Addresses(all) => {
            // Most of all memory is here.
            all.reserve_exact(list.len());
            all.extend(list.iter().filter_map(single));
        }
        Elements::AddressPairs(all) => all.extend(list.iter().filter_map(pair)),
        Elements::PairVerdicts(all) => all.extend(
            list.iter().filter_map(|element| Some((pair(element)?, element.verdict.clone()?))),
        ),
        Elements::AddressRanges(all) => all.extend(intervals(list).filter_map(|(first, end)| {
            let first = element_address(&first.key)?;
            let last = match end {
                Some(end) => before(element_address(&end.key)?)?,
                None if first.is_ipv4() => Ipv4Addr::BROADCAST.into(),
                None => Ipv6Addr::from_bits(u128::MAX).into(),
            };
            Some((first, last))
        })),
        Elements::AddressVerdicts(all) => all.extend(list.iter().filter_map(|element| {
            Some(AddressVerdict {
                address: single(element)?,
                comment: element.comment.clone(),
                verdict: element.verdict.clone()?,
            })
        })),
        Elements::InterfaceVerdicts(all) => {
            all.extend(list.iter().filter_map(|element| {
                let name = element.key.split(|byte| *byte == 0).next()?;
                let interface = Interface::new(str::from_utf8(name).ok()?).ok()?;
                Some((interface, element.verdict.clone()?))
            }));
        }
        Elements::PortVerdicts(all) => all.extend(
            list.iter().filter_map(|element| Some((be16(&element.key)?, element.verdict.clone()?))),
        ),
        Elements::PortRangeVerdicts(all) => {
            all.extend(intervals(list).filter_map(|(first, end)| {
                let last = match end {
                    Some(end) => be16(&end.key)?.checked_sub(1)?,
                    None => u16::MAX,
                };
                Some(((be16(&first.key)?, last), first.verdict.clone()?))
            }));
        }
    }
}

/// The source and the destination that make a key.
fn pair(element: &Element) -> Option<(IpAddr, IpAddr)> {
    let (source, destination) = element.key.split_at(element.key.len() / 2);
    Some((element_address(source)?, element_address(destination)?))
}

/// Pairs the bounds of intervals: each beginning with the end that follows it, if one does.
fn intervals(list: &[Element]) -> impl Iterator<Item = (&Element, Option<&Element>)> {
    list.iter()
        .enumerate()
        .filter(|(_, element)| !element.end)
        .map(|(index, element)| (element, list.get(index + 1)))
}

/// Whether an element is where an interval ends.
fn is_end(element: Attributes<'_>) -> bool {
    element.be32(elem::FLAGS).unwrap_or_default() & elem::FLAG_INTERVAL_END != 0
}

fn element_address(key: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(key) {
        Some(octets.into())
    } else {
        <[u8; 16]>::try_from(key).ok().map(IpAddr::from)
    }
}

fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_sub(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(address) => address.to_bits().checked_sub(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// The key of an element in a message, for an error about it.
pub(crate) fn element_key(element: Attributes<'_>) -> Option<String> {
    let key = element.nest(elem::KEY).get(data::VALUE)?;
    let halves = key.split_at(key.len() / 2);
    match key.len() {
        2 => be16(key).map(|port| port.to_string()),
        8 | 32 => Some(format!("{} . {}", element_address(halves.0)?, element_address(halves.1)?)),
        _ => element_address(key).map(|address| address.to_string()),
    }
}

fn verdict(raw: RawVerdict<'_>) -> Option<Verdict> {
    let chain = || Name::new(raw.chain?).ok();
    Some(match raw.code {
        verdict::ACCEPT => Verdict::Accept,
        verdict::DROP => Verdict::Drop,
        verdict::RETURN => Verdict::Return,
        verdict::JUMP => Verdict::Jump(chain()?),
        verdict::GOTO => Verdict::Goto(chain()?),
        _ => return None,
    })
}

fn foreign(what: &str) -> Statement {
    Statement::Foreign(what.to_owned())
}

/// Recovers statements from a rule's expressions.
fn raise(family: Family, list: Attributes<'_>) -> Vec<Statement> {
    let expressions: Vec<_> = Expression::decode_list(list).collect();
    let mut rest = expressions.as_slice();
    let mut statements = Vec::new();
    while let Some((first, tail)) = rest.split_first() {
        let (statement, next) = raise_one(family, rest).unwrap_or_else(|| {
            let name = match first {
                Expression::Other(name) => name,
                _ => "an unknown combination of expressions",
            };
            (foreign(name), tail)
        });
        statements.push(statement);
        rest = next;
    }
    statements
}

/// Recovers the statement that a list of expressions begins with, and what comes after it.
fn raise_one<'a, 'b>(
    family: Family,
    expressions: &'b [Expression<'a>],
) -> Option<(Statement, &'b [Expression<'a>])> {
    use Expression as E;
    let set = |set: &str| Name::new(set).ok();
    let source = address(family, Side::Source, expr::REG_1);
    let destination = address(family, Side::Destination, expr::REG_1);
    let second = address(family, Side::Destination, second_register(family));
    let side_of = |load: &E<'_>| {
        (*load == source)
            .then_some(Side::Source)
            .or_else(|| (*load == destination).then_some(Side::Destination))
    };
    let between = |load: &E<'_>, first: &[u8], last: &[u8]| {
        if *load == DESTINATION_PORT {
            return Some(Statement::PortBetween(be16(first)?, be16(last)?));
        }
        let [first, last] = [element_address(first)?, element_address(last)?];
        Some(Statement::AddressBetween(side_of(load)?, first, last))
    };
    Some(match expressions {
        [
            E::Conntrack(ct::KEY_STATE),
            E::Mask { mask, xor },
            E::Compare { operator, value },
            rest @ ..,
        ] if *xor == NO_STATE.to_ne_bytes()
            && *operator == cmp::NEQ
            && *value == NO_STATE.to_ne_bytes() =>
        {
            match u32::from_ne_bytes((*mask).try_into().ok()?) {
                ESTABLISHED_OR_RELATED => (Statement::Established, rest),
                UNTRACKED => (Statement::Untracked, rest),
                _ => return None,
            }
        }
        [load, E::Mask { mask, xor: [0] }, E::Compare { operator: cmp::NEQ, value }, rest @ ..]
            if *load == TCP_FLAGS && [*mask, *value] == TCP_OPENING =>
        {
            (Statement::TcpUnderWay, rest)
        }
        [load, E::Compare { operator: cmp::NEQ, value }, rest @ ..]
            if *load == SCTP_CHUNK && *value == SCTP_INIT =>
        {
            (Statement::SctpUnderWay, rest)
        }
        [
            E::Meta(meta::KEY_L4PROTO),
            E::Compare { operator: cmp::EQ, value: [number] },
            rest @ ..,
        ] => (Statement::Protocol(*number), rest),
        [
            load,
            E::Compare { operator: cmp::GTE, value: [first] },
            E::Compare { operator: cmp::LTE, value: [last] },
            rest @ ..,
        ] if *load == ICMP_TYPE => (Statement::IcmpType(*first, *last), rest),
        [load, E::Compare { operator: cmp::EQ, value: [only] }, rest @ ..]
            if *load == ICMP_TYPE =>
        {
            (Statement::IcmpType(*only, *only), rest)
        }
        [
            load,
            E::Compare { operator: cmp::GTE, value: first },
            E::Compare { operator: cmp::LTE, value: last },
            rest @ ..,
        ] => (between(load, first, last)?, rest),
        [load, E::Compare { operator: cmp::EQ, value: only }, rest @ ..] => {
            (between(load, only, only)?, rest)
        }
        [first, next, E::Lookup { set: name, result: Found::Matches }, rest @ ..]
            if *first == source && *next == second =>
        {
            (Statement::PairIn(set(name)?), rest)
        }
        [first, next, E::Lookup { set: name, result: Found::Verdict }, rest @ ..]
            if *first == source && *next == second =>
        {
            (Statement::PairMap(set(name)?), rest)
        }
        [load, E::Lookup { set: name, result: Found::Verdict }, rest @ ..]
            if *load == DESTINATION_PORT =>
        {
            (Statement::PortMap(set(name)?), rest)
        }
        [E::Meta(key), E::Lookup { set: name, result: Found::Verdict }, rest @ ..] => {
            let sides = [Side::Source, Side::Destination];
            let side = sides.into_iter().find(|side| interface(*side) == *key)?;
            (Statement::InterfaceMap(side, set(name)?), rest)
        }
        [
            load,
            E::Mask { mask, xor },
            E::Lookup { set: name, result: Found::Matches },
            rest @ ..,
        ] => {
            let [mask, xor] = [element_address(mask)?, element_address(xor)?];
            let length = ipnet::ip_mask_to_prefix(mask).ok().filter(|_| xor.is_unspecified())?;
            (Statement::BlockIn(side_of(load)?, length, set(name)?), rest)
        }
        [load, E::Lookup { set: name, result: Found::Matches }, rest @ ..] => {
            (Statement::AddressIn(side_of(load)?, set(name)?), rest)
        }
        [load, E::Lookup { set: name, result: Found::Fails }, rest @ ..] => {
            (Statement::AddressNotIn(side_of(load)?, set(name)?), rest)
        }
        [load, E::Lookup { set: name, result: Found::Verdict }, rest @ ..] => {
            (Statement::AddressMap(side_of(load)?, set(name)?), rest)
        }
        [E::Counter { .. }, rest @ ..] => (Statement::Counter, rest),
        [E::Limit { rate, burst: LIMIT_BURST }, rest @ ..] => {
            (Statement::Limit(u32::try_from(*rate).ok()?), rest)
        }
        [E::Log { group, prefix }, rest @ ..] => {
            (Statement::Log { group: *group, prefix: Comment::new(prefix) }, rest)
        }
        [E::Verdict(raw), rest @ ..] => (Statement::Verdict(verdict(*raw)?), rest),
        _ => return None,
    })
}
