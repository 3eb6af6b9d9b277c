use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::model::{
    Action, Block, Direction, HostNetworkPeers, HostNetworkPortNames, Name, Options, Peer, Peers,
    Policy, PortMatch, PortRange, Ports, Protocol, Rule, Subject, Tier, UnknownProtocol,
};
use crate::program::{Atom, AtomId, Declares, Term, Terms, Union, Within};

use super::carvings::Carvings;
use super::interner::Interner;
use super::workload::Declared;

/// A rule's effect on some traffic.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) action: Action,
    pub(super) on: On,
    pub(super) terms: Terms,
}

/// The traffic that an [`Entry`] is about.
#[derive(Clone, Debug)]
pub(super) enum On {
    /// All protocols and ports.
    Everything,
    /// These ports of one protocol.
    Ports(Protocol, PortRange),
    /// What the subject itself declares under the name; ingress only.
    OwnName(Option<Protocol>, Name),
}

/// A policy with its peers turned to atoms.
#[derive(Debug)]
pub(super) struct Lowered {
    pub(super) tier: Tier,
    pub(super) ingress: Option<Vec<Entry>>,
    pub(super) egress: Option<Vec<Entry>>,
    /// The names that ingress rules look up at the subject.
    pub(super) own_names: BTreeSet<Name>,
    /// The atoms that it uses, as often as it does.
    pub(super) atoms: Vec<AtomId>,
}

impl Lowered {
    pub(super) fn entries(&self, direction: Direction) -> Option<&[Entry]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// Turns a policy's peers to atoms and its ports to intervals. What is not understood fails closed here.
pub(super) fn lower(
    policy: &Policy,
    options: &Options,
    declared: &Declared,
    carvings: &Carvings,
    atoms: &mut Interner<Atom>,
) -> Lowered {
    let used = Vec::new();
    let mut lowering = Lowering { policy, options, declared, carvings, atoms, used };
    let ingress = lowering.section(Direction::Ingress);
    let egress = lowering.section(Direction::Egress);
    let own_names = ingress.iter().flatten().filter_map(|entry| match &entry.on {
        On::OwnName(_, name) => Some(name.clone()),
        _ => None,
    });
    let own_names = own_names.collect();
    let atoms = lowering.used;
    Lowered { tier: policy.tier, ingress, egress, own_names, atoms }
}

struct Lowering<'a> {
    policy: &'a Policy,
    options: &'a Options,
    declared: &'a Declared,
    carvings: &'a Carvings,
    atoms: &'a mut Interner<Atom>,
    used: Vec<AtomId>,
}

impl Lowering<'_> {
    fn section(&mut self, direction: Direction) -> Option<Vec<Entry>> {
        let mut entries = Vec::new();
        for rule in self.policy.rules(direction)? {
            self.rule(rule, direction, &mut entries);
        }
        // What matches nobody says nothing.
        entries.retain(|entry| entry.terms != Terms::NOBODY);
        Some(entries)
    }

    fn rule(&mut self, rule: &Rule, direction: Direction, out: &mut Vec<Entry>) {
        let certain = matches!(self.policy.subject, Subject::Pods(_));
        let action = match rule.action {
            // C-FAIL-3: what may not be meant for a pod must not open anything for it.
            Action::Accept if !certain => return,
            Action::Pass if !certain => Action::Deny,
            action => action,
        };
        if self.policy.tier == Tier::NetworkPolicy && action != Action::Accept {
            return;
        }
        if self.is_spoilt(rule) {
            // C-FAIL-1
            if action != Action::Accept {
                let (on, terms) = (On::Everything, Terms::Everyone);
                out.push(Entry { action: Action::Deny, on, terms });
            }
            return;
        }
        // Asked for even if no port leads to it, so that an explanation can tell who would have matched.
        let terms = self.peers(&rule.peers);
        let Ports::AnyOf(ports) = &rule.ports else {
            return out.push(Entry { action, on: On::Everything, terms });
        };
        for port in ports {
            match (port, direction) {
                (PortMatch::Range(protocol, range), _) => {
                    let on = On::Ports(*protocol, *range);
                    out.push(Entry { action, on, terms: terms.clone() });
                }
                (PortMatch::Named(protocol, name), Direction::Ingress) => {
                    let on = On::OwnName(*protocol, name.clone());
                    out.push(Entry { action, on, terms: terms.clone() });
                }
                (PortMatch::Named(protocol, name), Direction::Egress) => {
                    self.name_at_peer(&rule.peers, action, *protocol, name, out);
                }
                (PortMatch::Unknown(_), _) => {}
            }
        }
    }

    /// The rule has a part that is not understood and must not open anything (C-FAIL-1, C-FAIL-2).
    fn is_spoilt(&self, rule: &Rule) -> bool {
        let ports_spoil = self.policy.tier != Tier::NetworkPolicy
            && self.options.unknown_protocol == UnknownProtocol::FailClosed;
        let unknown_peer = match &rule.peers {
            Peers::Everyone => false,
            Peers::AnyOf(peers) => peers.iter().any(|it| matches!(it, Peer::Unknown(_))),
        };
        let unknown_port = match &rule.ports {
            Ports::All => false,
            Ports::AnyOf(ports) => ports.iter().any(|it| matches!(it, PortMatch::Unknown(_))),
        };
        unknown_peer || (ports_spoil && unknown_port)
    }

    fn peers(&mut self, peers: &Peers) -> Terms {
        let Peers::AnyOf(peers) = peers else { return Terms::Everyone };
        let mut union = Union::default();
        peers.iter().filter_map(|peer| self.peer(peer)).for_each(|term| union.push(term));
        union.normalise();
        Terms::AnyOf(union)
    }

    fn peer(&mut self, peer: &Peer) -> Option<Term> {
        match peer {
            Peer::Block(block) if self.carvings.is_by_parts(block) => {
                by_parts(block, |atom| Some(self.use_atom(atom)))
            }
            peer => {
                let atom = atom_of(self.options, self.policy.tier, peer)?;
                Some(Term::Atom(self.use_atom(&atom)))
            }
        }
    }

    /// A port name in an egress rule: every number that anybody declares under it, with those peers who declare it so
    /// (NP-PORT-8, NP-PORT-14).
    fn name_at_peer(
        &mut self,
        peers: &Peers,
        action: Action,
        wanted: Option<Protocol>,
        name: &Name,
        out: &mut Vec<Entry>,
    ) {
        let network = self.policy.tier == Tier::NetworkPolicy;
        let resolved = self.options.host_network_port_names == HostNetworkPortNames::Resolved;
        let host = network && resolved;
        for (protocol, number) in self.declared.meanings(name, host) {
            if wanted.is_some_and(|wanted| wanted != protocol) {
                continue;
            }
            let declares = |also| {
                Atom::Declares(Declares { name: name.clone(), protocol, number, also, host })
            };
            let mut union = Union::default();
            match peers {
                Peers::Everyone => union.atoms.push(self.use_atom(&declares(None))),
                Peers::AnyOf(peers) => {
                    // C-PROTO-6
                    let counted = |it: &&Peer| network || matches!(it, Peer::Pods(_));
                    for peer in peers.iter().filter(counted) {
                        if let Some(also) = self.peer(peer) {
                            union.atoms.push(self.use_atom(&declares(Some(also))));
                        }
                    }
                }
            }
            let on = On::Ports(protocol, PortRange::single(number));
            out.push(Entry { action, on, terms: Terms::AnyOf(union) });
        }
    }

    fn use_atom(&mut self, atom: &Atom) -> AtomId {
        let id = AtomId(self.atoms.acquire(atom));
        self.used.push(id);
        id
    }
}

/// What a peer asks of the other end by itself; nothing that can be answered if the peer is not understood.
pub(crate) fn atom_of(options: &Options, tier: Tier, peer: &Peer) -> Option<Atom> {
    Some(match peer {
        Peer::Pods(selector) => {
            let by_label = options.host_network_peers == HostNetworkPeers::ByLabel;
            let host = tier == Tier::NetworkPolicy && by_label;
            Atom::Pods { selector: selector.clone(), host }
        }
        Peer::Block(block) => Atom::Block(block.clone()),
        Peer::Nodes(selector) => Atom::Nodes(selector.clone()),
        Peer::Domain(pattern) => Atom::Domain(pattern.clone()),
        Peer::Unknown(_) => return None,
    })
}

/// What a block asks where it is told apart by its parts, by the numbers of atoms, if all have one.
pub(crate) fn by_parts(block: &Block, mut id: impl FnMut(&Atom) -> Option<AtomId>) -> Option<Term> {
    let mut id = |net: IpNet| id(&Atom::Block(Block::new(net, [])));
    let whole = id(block.cidr())?;
    let mut except = block.except().iter().copied().map(id).collect::<Option<Vec<AtomId>>>()?;
    except.sort_unstable();
    Some(Term::Within(Within { block: whole, except: except.into() }))
}
