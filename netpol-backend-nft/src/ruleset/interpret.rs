//! What the kernel does with a packet under a ruleset, worked out in user space: the proof that a
//! rendering, or what is in the kernel now, says the same as the program.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use netpol_core::backend::proof;
pub use netpol_core::backend::proof::Standing;
use netpol_core::model::Traffic;

use super::{
    Chain, Elements, Family, Hook, Interface, Name, Rule, Ruleset, Side, Statement, Table, Verdict,
    netmask,
};

/// The kernel's limit on nested jumps; it refuses rulesets that could go deeper.
const MAX_DEPTH: usize = 16;

/// What the statements of a ruleset look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes to; of the same family.
    pub destination: IpAddr,
    /// What it carries.
    pub transport: Transport,
    /// What connection tracking makes of it.
    pub standing: Standing,
}

/// Where a packet enters and leaves the host, as far as rules can tell; `None` for interfaces that are
/// no endpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Route<'i> {
    /// The interface that it comes in by.
    pub from: Option<&'i Interface>,
    /// The interface that it goes out by.
    pub to: Option<&'i Interface>,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A protocol with ports: its number, and the destination port.
    Port(u8, u16),
    /// ICMP or ICMPv6: the protocol's number, and the message type.
    Icmp(u8, u8),
    /// Any other protocol, by its number.
    Other(u8),
}

impl From<Traffic> for Transport {
    /// ICMP stands for an echo request, which neighbour discovery is not.
    fn from(traffic: Traffic) -> Self {
        match traffic {
            Traffic::Port(protocol, port) => Self::Port(protocol.number(), port),
            Traffic::ICMP => Self::Icmp(1, 8),
            Traffic::ICMPV6 => Self::Icmp(58, 128),
            Traffic::Other(number) => Self::Other(number),
        }
    }
}

impl From<&proof::Packet> for Packet {
    fn from(asked: &proof::Packet) -> Self {
        let proof::Packet { source, destination, traffic, standing, .. } = *asked;
        Self { source, destination, transport: traffic.into(), standing }
    }
}

/// Why a ruleset gives no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// A rule holds something that this crate does not write.
    #[error("the table holds a foreign `{0}`")]
    Foreign(String),
    /// A rule refers to a chain or set that is not in the table, or not of the right kind.
    #[error("the table holds no fitting `{0}`")]
    Missing(Name),
    /// Chains lead into each other without an end.
    #[error("chains are nested too deeply at `{0}`")]
    TooDeep(Name),
}

impl Ruleset {
    /// Whether a packet passes the hook. `O(log n)` in the elements of a set, as often as the
    /// rules look one up.
    ///
    /// # Errors
    ///
    /// If the tables hold something that this crate would not write. Never for a rendered ruleset.
    pub fn passes(&self, hook: Hook, packet: &Packet) -> Result<bool, Undecided> {
        self.passes_by(hook, packet, Route::default())
    }

    /// Whether a packet that takes a certain way passes the hook.
    ///
    /// # Errors
    ///
    /// As [`passes`](Self::passes).
    pub fn passes_by(
        &self,
        hook: Hook,
        packet: &Packet,
        route: Route<'_>,
    ) -> Result<bool, Undecided> {
        let table = self.table(packet);
        Moment::settled(table).passes(hook, packet, route)
    }

    /// Everything that can become of a packet that meets the transaction from `self` to `after`:
    /// `true` if it passes. Rules are those of the moment in which the packet enters a base chain;
    /// look-ups are those of before up to some point, and those of after from there on; interval
    /// sets may change later than everything else.
    ///
    /// # Errors
    ///
    /// As [`passes`](Self::passes).
    pub fn passes_during(
        &self,
        after: &Self,
        hook: Hook,
        packet: &Packet,
    ) -> Result<BTreeSet<bool>, Undecided> {
        let (before, after) = (self.table(packet), after.table(packet));
        let mut outcomes = BTreeSet::new();
        for late in [false, true] {
            let entered_after = Moment::during(after, before, after, 0, late);
            outcomes.insert(entered_after.passes(hook, packet, Route::default())?);
            for look_ups in 0.. {
                let moment = Moment::during(before, before, after, look_ups, late);
                outcomes.insert(moment.passes(hook, packet, Route::default())?);
                if moment.left.get() > 0 {
                    break;
                }
            }
        }
        Ok(outcomes)
    }

    fn table(&self, packet: &Packet) -> &Table {
        self.tables.get(&Family::of(packet.source)).unwrap_or(const { &Table::EMPTY })
    }
}

/// What a packet meets: rules, and sets that may change while it looks things up in them.
struct Moment<'a> {
    rules: &'a Table,
    before: &'a Table,
    after: &'a Table,
    /// How many more look-ups see `before`.
    left: Cell<usize>,
    /// Interval sets are those of `before` all the time.
    late: bool,
}

impl<'a> Moment<'a> {
    fn settled(table: &'a Table) -> Self {
        Self::during(table, table, table, 0, false)
    }

    fn during(
        rules: &'a Table,
        before: &'a Table,
        after: &'a Table,
        look_ups: usize,
        late: bool,
    ) -> Self {
        Self { rules, before, after, left: Cell::new(look_ups), late }
    }

    fn passes(&self, hook: Hook, packet: &Packet, route: Route<'_>) -> Result<bool, Undecided> {
        if let Some(foreign) = self.rules.foreign.first() {
            return Err(Undecided::Foreign(foreign.clone()));
        }
        let mut bases: Vec<(i32, &Name, &Chain)> = self
            .rules
            .chains
            .iter()
            .filter_map(|(name, chain)| Some((chain.base?, name, chain)))
            .filter(|(base, ..)| base.hook == hook)
            .map(|(base, name, chain)| (base.priority, name, chain))
            .collect();
        bases.sort_by_key(|(priority, ..)| *priority);
        let walk = Walk { moment: self, packet, route };
        for (_, name, chain) in bases {
            if walk.chain(name, chain, 0)? == Outcome::Drop {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn elements(&self, name: &Name) -> Result<&'a Elements, Undecided> {
        static NONE: Elements = Elements::Addresses(Vec::new());
        let find = |table: &'a Table| table.sets.get(name).map(|set| &set.elements);
        let (before, after) = (find(self.before), find(self.after));
        let known = before.or(after).ok_or_else(|| Undecided::Missing(name.clone()))?;
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        let seen = if left > 0 || self.late && known.is_interval() { before } else { after };
        Ok(seen.unwrap_or(&NONE))
    }

    fn chain(&self, name: &Name) -> Result<&'a Chain, Undecided> {
        static EMPTY: Chain = Chain { base: None, comment: None, rules: Vec::new() };
        let exists = |table: &Table| table.chains.contains_key(name);
        match self.rules.chains.get(name) {
            Some(chain) => Ok(chain),
            // Made in the transaction, and empty to a packet that entered before.
            None if exists(self.before) || exists(self.after) => Ok(&EMPTY),
            None => Err(Undecided::Missing(name.clone())),
        }
    }
}

/// How a chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Accept,
    Drop,
    /// Its end, or a return: the caller goes on.
    Through,
}

struct Walk<'a> {
    moment: &'a Moment<'a>,
    packet: &'a Packet,
    route: Route<'a>,
}

impl<'a> Walk<'a> {
    fn chain(&self, name: &Name, chain: &'a Chain, depth: usize) -> Result<Outcome, Undecided> {
        if depth >= MAX_DEPTH {
            return Err(Undecided::TooDeep(name.clone()));
        }
        for rule in &chain.rules {
            let Some(verdict) = self.rule(rule)? else { continue };
            match verdict {
                Verdict::Accept => return Ok(Outcome::Accept),
                Verdict::Drop => return Ok(Outcome::Drop),
                Verdict::Return => return Ok(Outcome::Through),
                Verdict::Goto(target) => {
                    return self.chain(target, self.moment.chain(target)?, depth + 1);
                }
                Verdict::Jump(target) => {
                    match self.chain(target, self.moment.chain(target)?, depth + 1)? {
                        Outcome::Through => {}
                        outcome => return Ok(outcome),
                    }
                }
            }
        }
        Ok(Outcome::Through)
    }

    /// The verdict of a rule, if all of it matches.
    fn rule(&self, rule: &'a Rule) -> Result<Option<&'a Verdict>, Undecided> {
        for statement in &rule.statements {
            let matches = match statement {
                Statement::Established => self.packet.standing == Standing::Established,
                // Nobody is told to leave packets alone.
                Statement::Untracked => false,
                Statement::TcpUnderWay | Statement::SctpUnderWay => {
                    self.packet.standing != Standing::New
                }
                Statement::Protocol(number) => self.packet.transport.protocol() == *number,
                Statement::IcmpType(first, last) => match self.packet.transport {
                    Transport::Icmp(_, kind) => (*first..=*last).contains(&kind),
                    _ => false,
                },
                Statement::AddressIn(side, set) => self.contains(set, self.address(*side))?,
                Statement::AddressNotIn(side, set) => !self.contains(set, self.address(*side))?,
                Statement::BlockIn(side, length, set) => {
                    let mask = netmask(Family::of(self.packet.source), *length);
                    self.contains(set, masked(self.address(*side), mask))?
                }
                Statement::AddressBetween(side, first, last) => {
                    (*first..=*last).contains(&self.address(*side))
                }
                Statement::PortBetween(first, last) => match self.packet.transport {
                    Transport::Port(_, port) => (*first..=*last).contains(&port),
                    _ => false,
                },
                Statement::PairIn(set) => self.contains_pair(set)?,
                Statement::AddressMap(side, map) => {
                    match self.verdict_of_address(map, self.address(*side))? {
                        Some(verdict) => return Ok(Some(verdict)),
                        None => false,
                    }
                }
                Statement::InterfaceMap(side, map) => {
                    match self.verdict_of_interface(map, *side)? {
                        Some(verdict) => return Ok(Some(verdict)),
                        None => false,
                    }
                }
                Statement::PairMap(map) => match self.verdict_of_pair(map)? {
                    Some(verdict) => return Ok(Some(verdict)),
                    None => false,
                },
                Statement::PortMap(map) => match self.verdict_of_port(map)? {
                    Some(verdict) => return Ok(Some(verdict)),
                    None => false,
                },
                Statement::Counter | Statement::Limit(_) | Statement::Log { .. } => true,
                Statement::Verdict(verdict) => return Ok(Some(verdict)),
                Statement::Foreign(name) => return Err(Undecided::Foreign(name.clone())),
            };
            if !matches {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn address(&self, side: Side) -> IpAddr {
        match side {
            Side::Source => self.packet.source,
            Side::Destination => self.packet.destination,
        }
    }

    fn contains(&self, set: &Name, address: IpAddr) -> Result<bool, Undecided> {
        match self.moment.elements(set)? {
            Elements::Addresses(list) => Ok(list.binary_search(&address).is_ok()),
            Elements::AddressRanges(list) => {
                let after = list.partition_point(|(first, _)| *first <= address);
                let candidate = after.checked_sub(1).and_then(|at| list.get(at));
                Ok(candidate.is_some_and(|(_, last)| address <= *last))
            }
            other => nothing_in(other, set).map(|()| false),
        }
    }

    fn contains_pair(&self, set: &Name) -> Result<bool, Undecided> {
        let pair = (self.packet.source, self.packet.destination);
        match self.moment.elements(set)? {
            Elements::AddressPairs(list) => Ok(list.binary_search(&pair).is_ok()),
            other => nothing_in(other, set).map(|()| false),
        }
    }

    fn verdict_of_address(
        &self,
        map: &Name,
        address: IpAddr,
    ) -> Result<Option<&'a Verdict>, Undecided> {
        match self.moment.elements(map)? {
            Elements::AddressVerdicts(list) => {
                let found = list.binary_search_by_key(&address, |element| element.address).ok();
                Ok(found.and_then(|at| list.get(at)).map(|element| &element.verdict))
            }
            other => nothing_in(other, map).map(|()| None),
        }
    }

    fn verdict_of_interface(
        &self,
        map: &Name,
        side: Side,
    ) -> Result<Option<&'a Verdict>, Undecided> {
        let interface = match side {
            Side::Source => self.route.from,
            Side::Destination => self.route.to,
        };
        match (self.moment.elements(map)?, interface) {
            (Elements::InterfaceVerdicts(list), Some(interface)) => {
                let found = list.binary_search_by_key(&interface, |(key, _)| key).ok();
                Ok(found.and_then(|at| list.get(at)).map(|(_, verdict)| verdict))
            }
            (Elements::InterfaceVerdicts(_), None) => Ok(None),
            (other, _) => nothing_in(other, map).map(|()| None),
        }
    }

    fn verdict_of_pair(&self, map: &Name) -> Result<Option<&'a Verdict>, Undecided> {
        let pair = (self.packet.source, self.packet.destination);
        match self.moment.elements(map)? {
            Elements::PairVerdicts(list) => {
                let found = list.binary_search_by_key(&pair, |(key, _)| *key).ok();
                Ok(found.and_then(|at| list.get(at)).map(|(_, verdict)| verdict))
            }
            other => nothing_in(other, map).map(|()| None),
        }
    }

    fn verdict_of_port(&self, map: &Name) -> Result<Option<&'a Verdict>, Undecided> {
        let elements = self.moment.elements(map)?;
        let Transport::Port(_, port) = self.packet.transport else { return Ok(None) };
        match elements {
            Elements::PortVerdicts(list) => {
                let found = list.binary_search_by_key(&port, |(key, _)| *key).ok();
                Ok(found.and_then(|at| list.get(at)).map(|(_, verdict)| verdict))
            }
            Elements::PortRangeVerdicts(list) => {
                let after = list.partition_point(|((first, _), _)| *first <= port);
                let candidate = after.checked_sub(1).and_then(|at| list.get(at));
                let hit = candidate.filter(|((_, last), _)| port <= *last);
                Ok(hit.map(|(_, verdict)| verdict))
            }
            other => nothing_in(other, map).map(|()| None),
        }
    }
}

/// A set that is not of the kind that a statement needs: no matter, if there is nothing in it.
fn nothing_in(elements: &Elements, name: &Name) -> Result<(), Undecided> {
    if elements.is_empty() { Ok(()) } else { Err(Undecided::Missing(name.clone())) }
}

impl Transport {
    /// The number of the protocol.
    #[must_use]
    pub fn protocol(self) -> u8 {
        match self {
            Self::Port(protocol, _) | Self::Icmp(protocol, _) | Self::Other(protocol) => protocol,
        }
    }
}

fn masked(address: IpAddr, mask: IpAddr) -> IpAddr {
    match (address, mask) {
        (IpAddr::V4(address), IpAddr::V4(mask)) => (address & mask).into(),
        (IpAddr::V6(address), IpAddr::V6(mask)) => (address & mask).into(),
        (address, _) => address,
    }
}
