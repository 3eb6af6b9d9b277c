//! Program -> ruleset.
//!
//! ```text
//! forward, input, output   established? return
//!                          from the middle of a connection? -> stray
//!                          -> egress, by source;  -> ingress, by destination
//! egress, ingress, src-*, dst-*   a tree of address blocks, 8 rules each at most, down to the
//!                          endpoint's address -> what it may send, what it may receive
//! out-*, in-*              per class of ports one rule with one set: allowed? return
//! stray-*                  a tree as well: may it answer what is denied? -> denied
//! denied-*                 an endpoint's traffic to itself is let through
//! drop-*                   reported, dropped
//! ```
//!
//! A new connection costs a few rules by address, a few by port and one look-up by the other end's
//! address, however many policies there are; a packet of a known connection costs one rule.
//!
//! **Names say what is in a chain.** All chains but the dozen that are fixed are named by a hash of
//! their rules, so chains of the same name need no comparison, and profiles that say the same share
//! theirs. Sets are named by what a class asks of the other end, which stays while pods come and go.
//!
//! **Both ends are asked, and nothing is accepted.** What is allowed *returns*: from the egress
//! chains to the question about the destination, and from there to the rules of others, which may
//! still drop it.
//!
//! **What no policy may deny is let through where everything else is dropped**, so that other packets
//! do not pay for it: an endpoint's traffic to itself (NP-SELF-1, C-HAIR-1), and neighbour discovery
//! (NP-PROTO-1). Errors about allowed connections are `related` (NP-CONN-2).
//!
//! **A stray packet has two possible beginnings.** One from the middle of a TCP connection or an
//! SCTP association that conntrack does not know (its entry was [cut](crate::conntrack), or lost) may
//! be of a connection from its source to its destination or of one the other way round. So it is
//! judged as if it were the first of a connection, and dropped besides if it comes from an endpoint
//! that is isolated for what it receives, or goes to one that is isolated for what it sends: what was
//! cut stays cut, whoever sends next.
//!
//! **Invalid packets are not special** otherwise.

mod dispatch;
mod members;
mod profile;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

pub use netpol_backend_nft::Log;
use netpol_backend_nft::nflog::{Outcome, Prefix};
use netpol_core::model::{Direction, Family, SelfTraffic};
use netpol_core::program::{EndpointEntry, Program};

use self::dispatch::{Leaf, Tree};
pub(crate) use self::members::ClassSets;
use self::profile::Profiles;
use crate::name::{Comment, ContentKey, Instance, Name};
use crate::ruleset::{Block, Hook, Match, Rule, Ruleset, Set, Table, Target, hook_name};
use crate::variant::Variant;

/// Protocol numbers of those that are spoken in connections.
const TCP: u8 = 6;
const SCTP: u8 = 132;
/// ICMPv6's protocol number.
const ICMPV6: u8 = 58;
/// Multicast listener discovery, router and neighbour discovery, and the listener report of version
/// 2. Redirects are not among them.
const DISCOVERY: [u8; 8] = [130, 131, 132, 133, 134, 135, 136, 143];
/// The kernel counts in ten-thousandths of a second.
const FASTEST_LIMIT: u32 = 10_000;

/// How a program is put into force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// What the names of our chains and sets begin with.
    pub name: Instance,
    /// Which iptables.
    pub variant: Variant,
    /// Reports denied packets, for a [`Listener`](crate::nflog::Listener) or another tool.
    pub log: Option<Log>,
    /// Denies nothing: what would be denied is counted and reported, and goes on. With this set,
    /// [`verify`](crate::verify()) finds a mismatch in everything that the program denies.
    pub audit: bool,
}

/// The ruleset that judges packets as the program does, for the endpoints in its scope.
///
/// Needs no privileges. `O(n log n)` in the addresses of the classes that local endpoints refer to.
#[must_use]
pub fn render(program: &Program, options: &Options) -> Ruleset {
    render_after(program, options, &mut ClassSets::default())
}

/// The same, from the sets of the program that was rendered before.
pub(crate) fn render_after(program: &Program, options: &Options, sets: &mut ClassSets) -> Ruleset {
    sets.follow(program);
    let locals = sets.locals();
    let tables =
        Family::ALL.map(|family| (family, render_table(program, options, family, &locals, sets)));
    Ruleset { name: options.name.clone(), tables: tables.into() }
}

/// Chains and sets while they are made.
struct Builder<'p> {
    program: &'p Program,
    name: &'p Instance,
    family: Family,
    chains: BTreeMap<Name, Vec<Rule>>,
    sets: BTreeMap<Name, Arc<Set>>,
}

impl Builder<'_> {
    /// The chain of these rules, named by them.
    fn chain(&mut self, kind: &str, rules: Vec<Rule>) -> Name {
        let lines: Vec<String> = rules.iter().map(ToString::to_string).collect();
        let name = self.name.keyed(kind, ContentKey::of(&lines.join("\n")));
        self.chains.entry(name.clone()).or_insert(rules);
        name
    }
}

fn render_table(
    program: &Program,
    options: &Options,
    family: Family,
    locals: &[EndpointEntry],
    sets: &mut ClassSets,
) -> Table {
    let name = &options.name;
    let builder = Builder { program, name, family, chains: BTreeMap::new(), sets: BTreeMap::new() };
    let reported = options.log.filter(|log| log.accepted);
    let mut profiles = Profiles::new(builder, sets, reported.is_some());
    let mut leaves: [BTreeMap<IpAddr, Leaf>; 2] = Default::default();
    for endpoint in locals {
        for (direction, leaves) in Direction::ALL.into_iter().zip(&mut leaves) {
            for address in addresses(endpoint, family) {
                let Some(chain) = profiles.entry(endpoint.profile(), direction) else { continue };
                let label = Comment::new(&label(endpoint));
                leaves.entry(address).or_default().others.get_or_insert((Some(label), chain));
            }
        }
    }
    let mut own = BTreeMap::new();
    match program.options().self_traffic {
        SelfTraffic::Allowed => own = pairs_of_one_endpoint(program, locals, family),
        SelfTraffic::Policed => own_leaves(program, locals, family, &mut profiles, &mut leaves),
    }
    let mut builder = profiles.finish();
    for (direction, leaves) in Direction::ALL.into_iter().zip(leaves) {
        let stray = stray(&mut builder, direction, &leaves);
        builder.chains.insert(stray_chain(name, direction), stray);
        let rules = Tree::dispatch(direction).build(&mut builder, leaves);
        builder.chains.insert(entry_chain(name, direction), rules);
        let denied = denied(&mut builder, direction, &own);
        builder.chains.insert(denied_chain(name, direction), denied);
        builder.chains.insert(drop_chain(name, direction), drop_rules(options, direction));
    }
    for (log, direction) in reported.into_iter().flat_map(|log| Direction::ALL.map(|it| (log, it)))
    {
        let rules = allowed_rules(options, log, direction);
        builder.chains.insert(allowed_chain(name, direction), rules);
    }
    let otherwise = Target::Goto(name.name("drop-stray"));
    let exempt = Tree::exemptions("xs", otherwise).build(&mut builder, own);
    builder.chains.insert(name.name("denied-stray"), exempt);
    builder.chains.insert(name.name("drop-stray"), vec![Rule::new([], refusal(options))]);
    let asked = Direction::ALL.map(|it| Rule::new([], Target::Jump(stray_chain(name, it))));
    let asked = [Rule::new([Match::Untracked], Target::Return)].into_iter().chain(asked);
    builder.chains.insert(name.name("stray"), asked.collect());
    let hosts = locals.iter().any(EndpointEntry::is_host);
    builder.chains.extend(Hook::ALL.map(|hook| base_chain(name, hook, hosts)));
    let jumps = Hook::ALL.into_iter().map(|hook| (hook, vec![0])).collect();
    Table { jumps, chains: builder.chains, sets: builder.sets }
}

fn addresses(endpoint: &EndpointEntry, family: Family) -> impl Iterator<Item = IpAddr> {
    endpoint.addresses().iter().copied().filter(move |address| Family::of(*address) == family)
}

/// The sources of what judged endpoints send to themselves, by destination.
fn pairs_of_one_endpoint(
    program: &Program,
    locals: &[EndpointEntry],
    family: Family,
) -> BTreeMap<IpAddr, Leaf> {
    let mut leaves: BTreeMap<IpAddr, Leaf> = BTreeMap::new();
    for endpoint in judged(program, locals) {
        for (source, destination) in with_itself(program, endpoint, family) {
            leaves.entry(destination).or_default().own.insert(source, Target::Return);
        }
    }
    leaves
}

/// CH-SELF: who is judged otherwise when it reaches itself than when it reaches others (C-HAIR-1).
fn own_leaves(
    program: &Program,
    locals: &[EndpointEntry],
    family: Family,
    profiles: &mut Profiles<'_>,
    leaves: &mut [BTreeMap<IpAddr, Leaf>; 2],
) {
    // The own node is exempt from the host's profile as from those of its pods, but not from the one
    // for traffic with itself.
    let differs =
        |entry: &&EndpointEntry| entry.is_host() || entry.own_profile() != Some(entry.profile());
    let judged = judged(program, locals).filter(differs);
    let pairs: BTreeSet<_> = judged.flat_map(|it| with_itself(program, it, family)).collect();
    for (sender, receiver) in pairs {
        let [sends, receives] = profiles.own(sender, receiver);
        let [egress, ingress] = &mut *leaves;
        egress.entry(sender).or_default().own.insert(receiver, sends);
        ingress.entry(receiver).or_default().own.insert(sender, receives);
    }
}

/// The endpoints whose policies judge anything.
fn judged<'l>(
    program: &'l Program,
    locals: &'l [EndpointEntry],
) -> impl Iterator<Item = &'l EndpointEntry> {
    locals.iter().filter(|endpoint| {
        let profile = program.profile(endpoint.profile());
        Direction::ALL.iter().any(|direction| profile.side(*direction).is_some())
    })
}

/// The pairs of addresses between which an endpoint's traffic is traffic with itself. All host-network
/// endpoints of a node are the node, and nodes may share addresses (M4).
fn with_itself(
    program: &Program,
    endpoint: &EndpointEntry,
    family: Family,
) -> Vec<(IpAddr, IpAddr)> {
    let own: Vec<IpAddr> = addresses(endpoint, family).collect();
    if !endpoint.is_host() {
        return own.iter().flat_map(|a| own.iter().map(|b| (*a, *b))).collect();
    }
    let same = own.iter().flat_map(|a| program.same_host(*a).map(|b| (*a, b)));
    let same = same.filter(|(_, b)| Family::of(*b) == family);
    same.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}

/// What an endpoint is called.
pub(crate) fn label(endpoint: &EndpointEntry) -> String {
    if endpoint.is_host() {
        format!("host {}", endpoint.name())
    } else {
        format!("{}/{}", endpoint.namespace(), endpoint.name())
    }
}

/// The chain that packets of a hook enter by. Endpoints send to the host through `input` and receive
/// from it through `output`; the host's own addresses occur on the other sides only where
/// host-network endpoints are policed.
fn base_chain(name: &Instance, hook: Hook, hosts: bool) -> (Name, Vec<Rule>) {
    let (sends, receives) = match hook {
        Hook::Input => (true, hosts),
        Hook::Forward => (true, true),
        Hook::Output => (hosts, true),
    };
    let asked = [(Direction::Egress, sends), (Direction::Ingress, receives)];
    let asked = asked.into_iter().filter(|(_, asked)| *asked);
    let jump = |(direction, _)| Rule::new([], Target::Jump(entry_chain(name, direction)));
    let under_way = [(TCP, Match::TcpUnderWay), (SCTP, Match::SctpUnderWay)];
    let under_way = under_way.map(|(protocol, under_way)| {
        Rule::new([Match::Protocol(protocol), under_way], Target::Jump(name.name("stray")))
    });
    let mut rules = vec![Rule::new([Match::Established], Target::Return)];
    rules.extend(under_way.into_iter().chain(asked.map(jump)));
    (name.name(hook_name(hook)), rules)
}

/// Where everything that is denied in a direction comes to.
fn denied(
    builder: &mut Builder<'_>,
    direction: Direction,
    own: &BTreeMap<IpAddr, Leaf>,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    if builder.family == Family::V6 {
        rules.extend(DISCOVERY.map(|kind| {
            Rule::new([Match::Protocol(ICMPV6), Match::IcmpType(kind)], Target::Return)
        }));
    }
    let otherwise = Target::Goto(drop_chain(builder.name, direction));
    let kind = match direction {
        Direction::Egress => "xo",
        Direction::Ingress => "xi",
    };
    rules.extend(Tree::exemptions(kind, otherwise).build(builder, own.clone()));
    rules
}

/// Where everything that is denied ends. In an audit it goes back to the base chain from there, so
/// that the other end's policies are asked as well.
fn drop_rules(options: &Options, direction: Direction) -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Some(log) = options.log {
        let outcome = if options.audit { Outcome::Audited } else { Outcome::Denied };
        rules.push(report(options, log, direction, outcome));
    }
    rules.push(Rule::new([], refusal(options)));
    rules
}

/// Tells of a packet. Which profile judged it follows from its addresses.
fn report(options: &Options, log: Log, direction: Direction, outcome: Outcome) -> Rule {
    let limit = log.per_second.map(|rate| {
        // What the kernel makes of it, so that it reads back as it was written.
        let interval = FASTEST_LIMIT / rate.clamp(1, FASTEST_LIMIT);
        Match::Limit(FASTEST_LIMIT / interval)
    });
    let prefix = Prefix {
        table: options.name.to_string(),
        direction,
        outcome,
        profile: None,
        generation: None,
    };
    let prefix = Comment::new(&prefix.to_string());
    Rule::new(Vec::from_iter(limit), Target::Report { group: log.group, prefix })
}

/// Where connections end that are allowed, if they are to be reported.
fn allowed_rules(options: &Options, log: Log, direction: Direction) -> Vec<Rule> {
    vec![report(options, log, direction, Outcome::Allowed), Rule::new([], Target::Return)]
}

/// What happens to a packet that is denied.
fn refusal(options: &Options) -> Target {
    if options.audit { Target::Return } else { Target::Drop }
}

/// Packets from the middle of connections that nobody knows are dropped if they may be answers of a
/// connection that the policies of a local endpoint might deny: if they come from one that is
/// isolated for what it receives, or go to one that is isolated for what it sends.
fn stray(
    builder: &mut Builder<'_>,
    direction: Direction,
    leaves: &BTreeMap<IpAddr, Leaf>,
) -> Vec<Rule> {
    let denied = builder.name.name("denied-stray");
    let isolated = leaves.iter().filter(|(_, leaf)| leaf.others.is_some());
    let isolated = isolated.map(|(address, _)| (*address, Leaf::all(denied.clone()))).collect();
    Tree::answers(direction).build(builder, isolated)
}

/// Where packets are looked up by the address of the one end.
pub(crate) fn entry_chain(name: &Instance, direction: Direction) -> Name {
    name.name(match direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    })
}

fn denied_chain(name: &Instance, direction: Direction) -> Name {
    name.name(match direction {
        Direction::Egress => "denied-out",
        Direction::Ingress => "denied-in",
    })
}

/// Where it is looked up who is isolated in a direction.
pub(crate) fn stray_chain(name: &Instance, direction: Direction) -> Name {
    name.name(match direction {
        Direction::Egress => "stray-to",
        Direction::Ingress => "stray-from",
    })
}

fn allowed_chain(name: &Instance, direction: Direction) -> Name {
    name.name(match direction {
        Direction::Egress => "allowed-out",
        Direction::Ingress => "allowed-in",
    })
}

pub(crate) fn drop_chain(name: &Instance, direction: Direction) -> Name {
    name.name(match direction {
        Direction::Egress => "drop-out",
        Direction::Ingress => "drop-in",
    })
}

/// `-s` for what an endpoint sends, `-d` for what it receives.
fn at(direction: Direction, block: Block) -> Match {
    match direction {
        Direction::Egress => Match::Source(block),
        Direction::Ingress => Match::Destination(block),
    }
}

#[cfg(test)]
mod tests {
    use netpol_core::cluster::Cluster;
    use netpol_core::compile::Compiler;
    use netpol_core::model::name;
    use netpol_core::program::Scope;
    use netpol_core::testing::{Choices, History};

    use super::*;

    /// What is kept from one program to the next is what is rendered from scratch.
    #[test]
    fn renderings_do_not_depend_on_history() {
        let (mut elements, mut blocks) = (0, 0);
        for seed in 0..250_u64 {
            let mut choices = Choices::from_seed(seed, 5000);
            let history = History::new(&mut choices);
            let scope = match seed % 3 {
                0 => Scope::Cluster,
                at => Scope::Node(name(&format!("node{}", at - 1))),
            };
            let mut cluster = Cluster::new(history.options);
            let mut compiler = Compiler::new(history.options, scope);
            let (options, mut sets) = (Options::default(), ClassSets::default());
            let mut events = Vec::new();
            for _ in 0..40 {
                events.push(history.step(&mut choices, &mut cluster));
                let changes = cluster.take_changes();
                let program = compiler.update(&cluster, &changes);
                if choices.one_in(4) {
                    continue;
                }
                let kept = render_after(program, &options, &mut sets);
                let fresh = render(program, &options);
                assert!(
                    kept == fresh,
                    "seed {seed} after {events:?}: kept\n{kept}\nfrom scratch\n{fresh}"
                );
                let sets = kept.tables.values().flat_map(|table| table.sets.values());
                for set in sets {
                    *if matches!(**set, Set::Blocks(_)) { &mut blocks } else { &mut elements } +=
                        set.len();
                }
                events.clear();
            }
        }
        assert!(elements > 500 && blocks > 500, "{elements}, {blocks}");
    }
}
