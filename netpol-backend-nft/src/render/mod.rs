//! Program -> ruleset.
//!
//! ```text
//! base chain   established? accept
//!              from the middle of a connection? -> jump to stray
//!              source in @egress        -> jump to what the source may send
//!              destination in @ingress  -> goto what the destination may receive
//! ports-*      destination port, per protocol -> goto whom that port is open to
//! peers-*      the other end's address in one set, or in a block -> accept (ingress) or return (egress)
//! denied-*     an endpoint's traffic to itself is let through, the rest dropped
//! ```
//!
//! A new connection costs one look-up by address, one by port and one by the other end's address,
//! however many policies there are; a packet of a known connection costs one comparison. Base chains
//! ask for a direction only if somebody is judged in it.
//!
//! **Few have a rule each, many are a set.** Up to two ports, or two blocks of one length, cost less by
//! a rule each than in a hash; blocks of so many lengths that a hash for each would cost more are in
//! an interval set: [`price`](crate::price) decides. Single addresses are always in a set, so that no
//! rule changes when a pod comes or goes.
//!
//! **Who is an endpoint?** Its address tells, or the [interface](Options::interfaces) that its packets
//! come in and go out by; then it can send by no other address. In [ranges](Options::deny_unknown) that
//! are kept for endpoints of this host, nobody else may send or receive anything.
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
//!
//! **One way to render.** A [`Renderer`] is shown one program after another and tells what differs;
//! to render from scratch is to differ from nothing. The two cannot mean different things, and that
//! they do not leave different things behind is tested over generated histories.

mod base;
mod blocks;
mod dispatch;
mod exits;
mod interfaces;
mod key;
mod peers;
mod ports;
mod size;
mod stray;
mod table;
mod unknown;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netpol_core::backend::Closed;
use netpol_core::model::{Direction, Family};
use netpol_core::program::{ClassId, EndpointEntry, ProfileId, Program};

use self::exits::Exits;
use self::peers::ClassKeys;
use self::table::{Source, TableRenderer};
use crate::name::{Comment, Interface, Name};
#[cfg(test)]
use crate::ruleset::SetDifference;
use crate::ruleset::{Difference, Ownership, Ruleset, Table};

pub(crate) use self::exits::is_denied_chain;
pub(crate) use self::interfaces::is_unrouted;
pub(crate) use self::key::ContentKey;
pub(crate) use self::ports::WIDEST_LISTED;
pub(crate) use self::size::of as size_of;

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
    /// Counts what each class of other ends allows and denies: see
    /// [`Nft::counters`](crate::Nft::counters).
    pub counters: bool,
    /// Denies what closed addresses send and receive that no endpoint in the program's scope has, so that
    /// a new endpoint of this host gets no access before it is in the program. Of a packet from or for
    /// the host itself the host's end is not asked. Costs the first packet of a connection one comparison
    /// per range, or one look-up, and one look-up among the host's endpoints and the exceptions, however
    /// large the ranges are. Of a connection that is under way already nothing is denied.
    pub deny_unknown: Closed,
    /// By which interface the packets of an address come in and go out. Endpoints in scope that have such
    /// an address are known by the interface: what comes in by it is judged as theirs, and dropped if it
    /// comes from an address that is not; what goes out by it is judged as theirs whatever its
    /// destination, unless several endpoints share the interface. All others are known by address.
    ///
    /// Of packets that come in by such an interface pass as well those of known connections,
    /// neighbour discovery, and those from addresses that are never routed: `0.0.0.0` and `fe80::/10`.
    pub interfaces: BTreeMap<IpAddr, Interface>,
}

/// How denied packets are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The NFLOG group to report to.
    pub group: u16,
    /// At most so many per second for each profile and direction; all if there is none. A report
    /// costs more than a microsecond, a packet beyond the limit some 20 nanoseconds.
    pub per_second: Option<u32>,
    /// Reports new connections that are accepted as well, those of endpoints that policies isolate.
    pub accepted: bool,
}

impl Default for Options {
    /// Tables called `netpol`, no reports.
    fn default() -> Self {
        Self {
            table: Name::known("netpol"),
            log: None,
            owned: false,
            audit: false,
            counters: false,
            deny_unknown: Closed::default(),
            interfaces: BTreeMap::new(),
        }
    }
}

/// The ruleset that judges packets as the program does, for the endpoints in its scope.
///
/// Needs no privileges. `O(n log n)` in the addresses of the classes that local endpoints refer to.
#[must_use]
pub fn render(program: &Program, options: &Options) -> Ruleset {
    let mut renderer = Renderer::new(options.clone());
    let difference = renderer.update(program, None);
    let mut ruleset = renderer.empty();
    apply(difference, &mut ruleset);
    ruleset
}

/// The keys by which reports name profiles, for one direction.
pub(crate) fn profile_keys(
    program: &Program,
    direction: Direction,
) -> impl Iterator<Item = (ProfileId, ContentKey)> {
    let mut keys = ClassKeys::default();
    program
        .profiles()
        .filter(move |(_, profile)| profile.side(direction).is_some())
        .map(move |(id, profile)| (id, table::profile_key(program, &mut keys, profile, direction)))
}

/// The chains in which classes are counted, with what is counted there.
pub(crate) fn counted_chains(
    program: &Program,
    options: &Options,
) -> BTreeMap<Name, (Direction, ClassId, ProfileId)> {
    let mut keys = ClassKeys::default();
    let mut chains = BTreeMap::new();
    let profiles = program.endpoints().flat_map(|it| [Some(it.profile()), it.own_profile()]);
    for id in profiles.flatten().collect::<BTreeSet<ProfileId>>() {
        let profile = program.profile(id);
        for direction in Direction::ALL {
            let Some(side) = profile.side(direction) else { continue };
            let key = table::profile_key(program, &mut keys, profile, direction);
            let exits = Exits::new(direction, key, options);
            for class in side.classes() {
                let name = exits.peers_chain(keys.of(program, class));
                chains.insert(name, (direction, class, id));
            }
        }
    }
    chains
}

/// Makes a ruleset what it has to be.
pub(crate) fn apply(difference: Difference, ruleset: &mut Ruleset) {
    for (family, difference) in difference {
        difference.apply(ruleset.tables.entry(family).or_default());
    }
}

/// Renders a program after another: see [`render`].
#[derive(Debug)]
pub(crate) struct Renderer {
    options: Options,
    program: Option<Program>,
    locals: BTreeMap<u32, Local>,
    /// Who may use which address has changed since.
    moved: bool,
    keys: ClassKeys,
    tables: [TableRenderer; 2],
}

/// An endpoint that is policed here.
#[derive(Debug)]
struct Local {
    entry: EndpointEntry,
    comment: Comment,
}

impl Renderer {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            program: None,
            locals: BTreeMap::new(),
            moved: false,
            keys: ClassKeys::default(),
            tables: Family::ALL.map(TableRenderer::new),
        }
    }

    /// Whether a program can follow the one before: another reading of self-traffic is rendered by
    /// other objects, so that it has to start from nothing.
    pub(crate) fn is_for(&self, program: &Program) -> bool {
        self.program.as_ref().is_none_or(|before| before.options() == program.options())
    }

    /// Changes the exceptions of [`Options::deny_unknown`].
    pub(crate) fn deny_except(&mut self, except: &BTreeSet<IpAddr>) {
        self.moved = true;
        self.options.deny_unknown.except.clone_from(except);
    }

    /// Changes [`Options::interfaces`], of which there are some before and after.
    pub(crate) fn dispatch_by_interface(&mut self, interfaces: &BTreeMap<IpAddr, Interface>) {
        self.moved = true;
        self.options.interfaces.clone_from(interfaces);
    }

    /// The tables before the first program.
    pub(crate) fn empty(&self) -> Ruleset {
        let comment = Comment::new("Kubernetes network policies; managed, do not edit");
        let ownership = if self.options.owned { Ownership::Owned } else { Ownership::Shared };
        let table = Table { comment: Some(comment), ownership, ..Table::default() };
        let tables = Family::ALL.into_iter().map(|family| (family, table.clone())).collect();
        Ruleset { name: self.options.table.clone(), tables }
    }

    /// Reports keep the generations that they have in what is in force.
    pub(crate) fn inherit(&mut self, present: &Ruleset) {
        for (family, table) in Family::ALL.into_iter().zip(&mut self.tables) {
            present.tables.get(&family).into_iter().for_each(|present| table.inherit(present));
        }
    }

    /// What differs in the tables from those of the program before, or from the empty ones. Reports of
    /// profiles that are new name the generation.
    ///
    /// `O(d + c)` for `d` differences between the programs and `c` classes that local endpoints refer
    /// to, if one compiler made the programs; `O(n)` in all addresses otherwise.
    pub(crate) fn update(&mut self, program: &Program, generation: Option<u32>) -> Difference {
        let before = self.program.replace(program.clone());
        let since = program.since(before.as_ref());
        let mut moved = std::mem::take(&mut self.moved);
        for slot in &since.endpoints {
            match slot.now.filter(|entry| entry.is_policed()) {
                Some(entry) => {
                    let comment = Comment::new(&label(entry));
                    self.locals.insert(slot.number, Local { entry: entry.clone(), comment });
                    moved = true;
                }
                None => moved |= self.locals.remove(&slot.number).is_some(),
            }
        }
        // Whose addresses a host shares is not told by its entry.
        moved |= self.locals.values().any(|local| local.entry.is_host());
        since.classes.iter().for_each(|id| self.keys.forget(*id));
        let source = Source {
            options: &self.options,
            before: before.as_ref(),
            now: program,
            since: &since,
            locals: &self.locals,
            moved,
            generation,
        };
        let mut difference = Difference::new();
        for (family, table) in Family::ALL.into_iter().zip(&mut self.tables) {
            difference.insert(family, table.update(&source, &mut self.keys));
        }
        difference
    }
}

impl Local {
    fn addresses(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        let addresses = self.entry.addresses().iter().copied();
        addresses.filter(move |address| Family::of(*address) == family)
    }

    /// The pairs of addresses between which an endpoint's traffic is traffic with itself. All host-network
    /// endpoints of a node are the node, and nodes may share addresses.
    fn with_itself(&self, program: &Program, family: Family) -> Vec<(IpAddr, IpAddr)> {
        let own: Vec<IpAddr> = self.addresses(family).collect();
        if !self.entry.is_host() {
            return own.iter().flat_map(|a| own.iter().map(|b| (*a, *b))).collect();
        }
        let same = own.iter().flat_map(|a| program.same_host(*a).map(|b| (*a, b)));
        let same = same.filter(|(_, b)| Family::of(*b) == family);
        same.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
    }
}

fn label(endpoint: &EndpointEntry) -> String {
    if endpoint.is_host() {
        format!("host {}", endpoint.name())
    } else {
        format!("{}/{}", endpoint.namespace(), endpoint.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use netpol_core::cluster::Cluster;
    use netpol_core::compile::Compiler;
    use netpol_core::model::name;
    use netpol_core::program::Scope;
    use netpol_core::testing::{Choices, History};

    use super::*;

    fn tap(number: u8) -> Interface {
        Interface::new(&format!("tap{}", number % 5)).unwrap()
    }

    /// Options that differ in all that rendering depends on.
    fn options(seed: u64) -> Options {
        let log =
            Log { group: 1, per_second: (seed & 2 == 0).then_some(5), accepted: seed & 4 == 0 };
        let log = (seed & 1 == 0).then_some(log);
        let ranges = if seed & 32 == 0 { &["10.0.0.0/16", "fd00::/32"][..] } else { &[] };
        let deny_unknown = ranges.iter().map(|range| range.parse().unwrap()).collect();
        let (audit, counters) = (seed & 8 == 0, seed & 16 == 0);
        // Every second address has an interface, some of which are shared.
        let attached = (0..200_u8).step_by(2).filter(|_| seed & 64 == 0);
        let interfaces = attached.map(|number| ([10, 0, 0, number].into(), tap(number)));
        let interfaces = interfaces.collect();
        Options { log, audit, counters, deny_unknown, interfaces, ..Options::default() }
    }

    /// What is kept up with programs is what is rendered from scratch, after every event.
    #[test]
    fn renderings_do_not_depend_on_history() {
        let mut kinds = [0; 4];
        for seed in 0..400_u64 {
            let mut choices = Choices::from_seed(seed, 5000);
            let history = History::new(&mut choices);
            let scope = match seed % 3 {
                0 => Scope::Cluster,
                at => Scope::Node(name(&format!("node{}", at - 1))),
            };
            let mut cluster = Cluster::new(history.options);
            let mut compiler = Compiler::new(history.options, scope);
            let mut options = options(seed);
            let mut renderer = Renderer::new(options.clone());
            let mut kept = renderer.empty();
            let mut events = Vec::new();
            for _ in 0..60 {
                events.push(history.step(&mut choices, &mut cluster));
                let changes = cluster.take_changes();
                let program = compiler.update(&cluster, &changes);
                if choices.one_in(4) {
                    continue;
                }
                let lent = (0..12).filter(|_| choices.one_in(6)).map(|it| [10, 0, 0, it].into());
                options.deny_unknown.except = lent.collect();
                renderer.deny_except(&options.deny_unknown.except);
                if !options.interfaces.is_empty() {
                    let attached = (1..24).filter_map(|at| {
                        let moved = u8::from(choices.one_in(8));
                        let is_there = !choices.one_in(6);
                        is_there.then(|| ([10, 0, 0, at].into(), tap(at / 2 + moved)))
                    });
                    let never = ([192, 0, 2, 1].into(), tap(0));
                    options.interfaces = attached.chain([never]).collect();
                    renderer.dispatch_by_interface(&options.interfaces);
                }
                let difference = renderer.update(program, None);
                for (family, difference) in &difference {
                    let before = kept.tables.get(family).unwrap();
                    for (name, set) in &difference.sets {
                        match set {
                            SetDifference::Whole(_) => kinds[0] += 1,
                            SetDifference::Gone => kinds[1] += 1,
                            SetDifference::Elements { removed, added, .. } => {
                                kinds[2] += 1;
                                let held = &before.sets.get(name).unwrap().elements;
                                let exact = held.difference(added).unwrap();
                                assert_eq!(exact.1, *added, "seed {seed}: added twice");
                                let gone = removed.difference(held).unwrap();
                                assert!(gone.0.is_empty(), "seed {seed}: {name} {removed:?}");
                            }
                        }
                    }
                    kinds[3] += difference.chains.len();
                }
                apply(difference, &mut kept);
                let fresh = render(program, &options);
                assert!(
                    kept == fresh,
                    "seed {seed} after {events:?}: kept\n{kept}\nfrom scratch\n{fresh}"
                );
                events.clear();
            }
        }
        assert!(kinds.iter().all(|count| *count > 100), "{kinds:?}");
    }
}
