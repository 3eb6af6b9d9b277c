//! Program -> ruleset.
//!
//! ```text
//! base chain   established? accept
//!              from the middle of a connection? -> jump to stray
//!              source in @egress        -> jump to what the source may send
//!              destination in @ingress  -> goto what the destination may receive
//! ports-*      destination port in a map, per protocol -> goto whom that port is open to
//! peers-*      the other end's address in one set -> accept (ingress) or return (egress)
//! denied-*     an endpoint's traffic to itself is let through, the rest dropped
//! ```
//!
//! A new connection costs one look-up by address, one by port and one by the other end's address,
//! however many policies there are; a packet of a known connection costs one comparison.
//!
//! **Both ends are asked.** An egress chain that allows *returns* to the base chain, which then
//! asks the destination; only an ingress chain accepts. What is accepted is accepted in our table
//! alone: other tables still see the packet.
//!
//! **A stray packet has two possible beginnings.** One from the middle of a TCP connection or an
//! SCTP association that conntrack does not know (its entry was [cut](crate::conntrack), or lost) may
//! be of a connection from its source to its destination or of one the other way round, and conntrack
//! would make an entry for either, for both directions. So it is judged as if it were the first of a
//! connection, and passes only if the opposite connection is not judged at all: it is dropped if it
//! comes from an endpoint that is isolated for what it receives, or goes to one that is isolated for
//! what it sends. So what was cut stays cut, whoever sends next and whatever the kernel's
//! `nf_conntrack_tcp_loose` says. Where conntrack has lost its entries, a connection that is allowed
//! goes on when the side that began it sends; one between endpoints that are isolated in both
//! directions does not, for nothing tells it from one that was cut.
//!
//! **Invalid packets are not special** otherwise: dropping them would break what the policies allow,
//! letting them through would not enforce them. Packets that somebody has excluded from connection
//! tracking are never stray: they are all judged as first ones.
//!
//! **Neighbour discovery is never judged** (NP-PROTO-1): without it no policy's verdict could be
//! carried out. Errors about allowed connections are `related` (NP-CONN-2).
//!
//! **Both families, one transaction.** Each has a table of its own: an `inet` table would cost
//! another comparison per address.

mod profile;
mod size;

use std::collections::BTreeMap;
use std::net::IpAddr;

use netpol_core::model::{Direction, Family, SelfTraffic};
use netpol_core::program::{EndpointEntry, Program};

use self::profile::Profiles;
use crate::name::{Comment, Name};
use crate::nflog::Prefix;
use crate::ruleset::{
    AddressVerdict, Base, Chain, Elements, Hook, Ownership, Rule, Ruleset, Set, Side, Statement,
    Table, Verdict,
};

/// Protocol numbers of those that are spoken in connections.
const TCP: u8 = 6;
const SCTP: u8 = 132;
/// ICMPv6's protocol number.
const ICMPV6: u8 = 58;
/// Multicast listener discovery, router and neighbour discovery: 130 to 136, and the listener
/// report of version 2. Redirects are not among them.
const DISCOVERY: [(u8, u8); 2] = [(130, 136), (143, 143)];

/// How a program is rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The name of our tables.
    pub table: Name,
    /// Reports denied packets, for a [`Listener`](crate::nflog::Listener) or another tool.
    pub log: Option<Log>,
    /// Keeps everybody else from changing our tables while the [`Nft`](crate::Nft) that wrote them
    /// is open, root and the nft tool included. They stay when it is closed, for the next to take
    /// over. Needs Linux 6.9.
    pub owned: bool,
    /// Denies nothing: what would be denied is counted and reported, and goes on. With this set,
    /// [`verify`](crate::verify()) finds a mismatch in everything that the program denies.
    pub audit: bool,
}

/// How denied packets are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The NFLOG group to report to.
    pub group: u16,
    /// At most so many per second and direction; all if there is none. A report costs more than a
    /// microsecond, a packet beyond the limit some 20 nanoseconds.
    pub per_second: Option<u32>,
}

impl Default for Options {
    /// Tables called `netpol`, no reports.
    fn default() -> Self {
        Self { table: Name::known("netpol"), log: None, owned: false, audit: false }
    }
}

/// The ruleset that judges packets as the program does, for the endpoints in its scope.
///
/// Needs no privileges. `O(n log n)` in the addresses of the classes that local endpoints refer to.
#[must_use]
pub fn render(program: &Program, options: &Options) -> Ruleset {
    let tables = Family::ALL
        .into_iter()
        .map(|family| (family, render_table(program, options, family)))
        .collect();
    Ruleset { name: options.table.clone(), tables }
}

fn render_table(program: &Program, options: &Options, family: Family) -> Table {
    let mut profiles = Profiles::new(program, family);
    let mut dispatch = Direction::ALL.map(|direction| (direction, Vec::new()));
    for endpoint in program.endpoints() {
        let own: Vec<IpAddr> = addresses(endpoint, family).collect();
        // Nothing is rendered for profiles that nobody has in this family.
        if own.is_empty() {
            continue;
        }
        for (direction, elements) in &mut dispatch {
            let Some(verdict) = profiles.entry(endpoint.profile(), *direction) else { continue };
            let comment = Some(Comment::new(&label(endpoint)));
            elements.extend(own.iter().map(|address| AddressVerdict {
                address: *address,
                comment: comment.clone(),
                verdict: verdict.clone(),
            }));
        }
    }
    let own = match program.options().self_traffic {
        SelfTraffic::Allowed => Vec::new(),
        SelfTraffic::Policed => own_verdicts(program, family, &mut profiles),
    };
    let mut table = profiles.finish();
    if options.owned {
        table.ownership = Ownership::Owned;
    }
    table.comment = Some(Comment::new("Kubernetes network policies; managed, do not edit"));
    for (direction, mut elements) in dispatch {
        elements.sort_unstable_by_key(|element| element.address);
        elements.dedup_by_key(|element| element.address);
        let size = Some(size::of(elements.len()));
        let comment = Some(Comment::new(match direction {
            Direction::Egress => "endpoints that are isolated for what they send",
            Direction::Ingress => "endpoints that are isolated for what they receive",
        }));
        let isolated = elements.iter().map(|element| element.address).collect();
        let isolated = Set { comment: None, size, elements: Elements::Addresses(isolated) };
        table.sets.insert(isolated_set(direction), isolated);
        let set = Set { comment, size, elements: Elements::AddressVerdicts(elements) };
        table.sets.insert(dispatch_map(direction), set);
    }
    // NP-SELF-1, C-HAIR-1.
    if program.options().self_traffic == SelfTraffic::Allowed {
        let pairs = pairs_of_one_endpoint(program, family);
        let set = Set {
            comment: Some(Comment::new("an endpoint may reach itself")),
            size: Some(size::of(pairs.len())),
            elements: Elements::AddressPairs(pairs),
        };
        table.sets.insert(own_addresses(), set);
    }
    for direction in Direction::ALL {
        let chain = denied(direction, program.options().self_traffic, options);
        table.chains.insert(denied_chain(direction), chain);
    }
    let hosts = program.endpoints().any(EndpointEntry::is_host);
    table.chains.extend(base_chains(family, hosts, !own.is_empty()));
    table.chains.extend(stray(program.options().self_traffic, options));
    if !own.is_empty() {
        let comment = "endpoints that others' policies do not judge when they reach themselves";
        let set = Set {
            comment: Some(Comment::new(comment)),
            size: Some(size::of(own.len())),
            elements: Elements::PairVerdicts(own),
        };
        table.sets.insert(own_map(), set);
    }
    table
}

fn addresses(endpoint: &EndpointEntry, family: Family) -> impl Iterator<Item = IpAddr> {
    endpoint.addresses().iter().copied().filter(move |address| Family::of(*address) == family)
}

/// Source and destination of what judged endpoints send to themselves, in ascending order.
fn pairs_of_one_endpoint(program: &Program, family: Family) -> Vec<(IpAddr, IpAddr)> {
    let mut pairs: Vec<(IpAddr, IpAddr)> = groups(program, family)
        .iter()
        .flat_map(|group| group.iter().flat_map(|(a, _)| group.iter().map(|(b, _)| (*a, *b))))
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// CH-SELF: who is judged otherwise when it reaches itself than when it reaches others (C-HAIR-1).
fn own_verdicts(
    program: &Program,
    family: Family,
    profiles: &mut Profiles<'_>,
) -> Vec<((IpAddr, IpAddr), Verdict)> {
    let mut verdicts = Vec::new();
    for group in groups(program, family) {
        // The own node is exempt from the host's profile as from those of its pods, but not from
        // the one for traffic with itself.
        let differs =
            |entry: &EndpointEntry| entry.is_host() || entry.own_profile() != Some(entry.profile());
        if !group.iter().any(|(_, entry)| differs(entry)) {
            continue;
        }
        for source in &group {
            for destination in &group {
                let verdict = profiles.own([*source, *destination]);
                verdicts.push(((source.0, destination.0), verdict));
            }
        }
    }
    verdicts.sort_unstable();
    verdicts.dedup_by_key(|(pair, _)| *pair);
    verdicts
}

/// The addresses of judged endpoints, together where they reach themselves by each other.
fn groups(program: &Program, family: Family) -> Vec<Vec<(IpAddr, &EndpointEntry)>> {
    let judged = program.endpoints().filter(|endpoint| {
        let profile = program.profile(endpoint.profile());
        Direction::ALL.iter().any(|direction| profile.side(*direction).is_some())
    });
    let (hosts, ordinary): (Vec<_>, Vec<_>) = judged.partition(|endpoint| endpoint.is_host());
    // All host-network endpoints of a node are the node itself.
    let groups = ordinary.chunks(1).chain([hosts.as_slice()]);
    let with_address = |endpoint| addresses(endpoint, family).map(move |own| (own, endpoint));
    groups.map(|group| group.iter().copied().flat_map(with_address).collect()).collect()
}

fn label(endpoint: &EndpointEntry) -> String {
    if endpoint.is_host() {
        format!("host {}", endpoint.name())
    } else {
        format!("{}/{}", endpoint.namespace(), endpoint.name())
    }
}

/// The chains that packets enter by. Endpoints send to the host through `input` and receive from
/// it through `output`; the host's own addresses occur on the other sides only where host-network
/// endpoints are policed.
fn base_chains(family: Family, hosts: bool, own: bool) -> BTreeMap<Name, Chain> {
    let mut chains = BTreeMap::new();
    for hook in Hook::ALL {
        let (name, comment, sends, receives) = match hook {
            Hook::Input => ("input", "from endpoints to the host", true, hosts),
            Hook::Forward => ("forward", "from and to endpoints", true, true),
            Hook::Output => ("output", "from the host to endpoints", hosts, true),
        };
        let mut rules: Vec<Rule> =
            vec![[Statement::Established, Statement::Verdict(Verdict::Accept)].into()];
        let under_way = [(TCP, Statement::TcpUnderWay), (SCTP, Statement::SctpUnderWay)];
        rules.extend(under_way.map(|(protocol, under_way)| {
            let jump = Statement::Verdict(Verdict::Jump(stray_chain()));
            [Statement::Protocol(protocol), under_way, jump].into()
        }));
        if family == Family::V6 {
            let jump = Statement::Verdict(Verdict::Jump(discovery_chain()));
            rules.push([Statement::Protocol(ICMPV6), jump].into());
        }
        if own {
            rules.push([Statement::PairMap(own_map())].into());
        }
        if sends {
            rules.push(
                [Statement::AddressMap(Side::Source, dispatch_map(Direction::Egress))].into(),
            );
        }
        if receives {
            let map = dispatch_map(Direction::Ingress);
            rules.push([Statement::AddressMap(Side::Destination, map)].into());
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

/// What becomes of packets from the middle of connections that nobody knows: those are dropped that
/// may be answers of a connection that the policies of a local endpoint might deny.
fn stray(self_traffic: SelfTraffic, options: &Options) -> [(Name, Chain); 2] {
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

/// Where everything that is denied in a direction ends. In an audit it goes back to the base chain
/// from there, so that the other end's policies are asked as well.
fn denied(direction: Direction, self_traffic: SelfTraffic, options: &Options) -> Chain {
    let mut rules: Vec<Rule> = Vec::new();
    if self_traffic == SelfTraffic::Allowed {
        rules
            .push([Statement::PairIn(own_addresses()), Statement::Verdict(Verdict::Accept)].into());
    }
    let mut last = vec![Statement::Counter];
    if let Some(Log { group, per_second }) = options.log {
        let log = Statement::Log { group, prefix: Prefix::new(&options.table, direction).text() };
        match per_second {
            Some(rate) => rules.push([Statement::Limit(rate), log].into()),
            None => last.push(log),
        }
    }
    last.push(Statement::Verdict(refusal(options)));
    rules.push(Rule { statements: last, comment: None });
    Chain { rules, ..Chain::default() }
}

/// What happens to a packet that is denied.
fn refusal(options: &Options) -> Verdict {
    if options.audit { Verdict::Return } else { Verdict::Drop }
}

fn dispatch_map(direction: Direction) -> Name {
    Name::known(match direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    })
}

pub(crate) fn denied_chain(direction: Direction) -> Name {
    Name::known(match direction {
        Direction::Egress => "denied-out",
        Direction::Ingress => "denied-in",
    })
}

/// The keys of the [`dispatch_map`].
fn isolated_set(direction: Direction) -> Name {
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

fn discovery_chain() -> Name {
    Name::known("discovery")
}

fn own_map() -> Name {
    Name::known("own")
}

fn own_addresses() -> Name {
    Name::known("self")
}
