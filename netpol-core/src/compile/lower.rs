use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use ahash::{HashMap, HashMapExt};

use crate::cluster::Cluster;
use crate::model::{
    Action, Direction, HostNetworkPeers, Name, Options, Peer, Peers, Policy, PortMatch, PortRange,
    Ports, Protocol, Rule, Subject, Tier, UnknownProtocol,
};
use crate::program::{Atom, AtomId, Declares, Terms};

use super::workload::{Workloads, host_names_count};

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
pub(super) struct LoweredPolicy {
    pub(super) tier: Tier,
    pub(super) ingress: Option<Vec<Entry>>,
    pub(super) egress: Option<Vec<Entry>>,
    /// The names that ingress rules look up at the subject.
    pub(super) own_names: BTreeSet<Name>,
}

/// Turns policies into [`LoweredPolicy`]s, each once, and numbers the atoms they ask for.
#[derive(Debug)]
pub(super) struct Lowering<'a> {
    pub(super) options: Options,
    policies: &'a [Arc<Policy>],
    lowered: HashMap<u32, Rc<LoweredPolicy>>,
    /// What any destination declares under a name: for rules of the NetworkPolicy tier, and for all others, to which
    /// host-network endpoints mean nothing.
    declared: [BTreeMap<Name, BTreeSet<(Protocol, u16)>>; 2],
    host_names_count: bool,
    pub(super) atoms: Vec<Atom>,
    pub(super) ids: HashMap<Atom, AtomId>,
}

impl LoweredPolicy {
    pub(super) fn entries(&self, direction: Direction) -> Option<&[Entry]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

impl<'a> Lowering<'a> {
    /// `policies` are those to be lowered, known by their place in the slice.
    pub(super) fn new(
        cluster: &Cluster,
        workloads: &Workloads<'_>,
        policies: &'a [Arc<Policy>],
    ) -> Self {
        let host_names_count = host_names_count(cluster);
        let mut declared = <[BTreeMap<Name, BTreeSet<_>>; 2]>::default();
        let [network, others] = &mut declared;
        for workload in &workloads.list {
            for port in &workload.ports {
                let entry = (port.protocol, port.number);
                if host_names_count || !workload.host_network {
                    network.entry(port.name.clone()).or_default().insert(entry);
                }
                if !workload.host_network {
                    others.entry(port.name.clone()).or_default().insert(entry);
                }
            }
        }
        Self {
            options: cluster.options,
            policies,
            lowered: HashMap::new(),
            declared,
            host_names_count,
            atoms: Vec::new(),
            ids: HashMap::new(),
        }
    }

    /// The policy at `rank`.
    pub(super) fn policy(&mut self, rank: u32) -> Option<Rc<LoweredPolicy>> {
        if let Some(lowered) = self.lowered.get(&rank) {
            return Some(Rc::clone(lowered));
        }
        let policies = self.policies;
        let policy = policies.get(rank as usize)?;
        let [ingress, egress] = [Direction::Ingress, Direction::Egress].map(|direction| {
            let rules = policy.rules(direction)?;
            let mut entries = Vec::new();
            rules.iter().for_each(|rule| self.rule(policy, rule, direction, &mut entries));
            Some(entries)
        });
        let own_names = ingress.iter().flatten().filter_map(|entry| match &entry.on {
            On::OwnName(_, name) => Some(name.clone()),
            _ => None,
        });
        let own_names = own_names.collect();
        let lowered = Rc::new(LoweredPolicy { tier: policy.tier, ingress, egress, own_names });
        self.lowered.insert(rank, Rc::clone(&lowered));
        Some(lowered)
    }

    /// The policy at `rank` as it was read.
    pub(super) fn source(&self, rank: u32) -> Option<&'a Arc<Policy>> {
        self.policies.get(rank as usize)
    }

    fn rule(&mut self, policy: &Policy, rule: &Rule, direction: Direction, out: &mut Vec<Entry>) {
        let certain = matches!(policy.subject, Subject::Pods(_));
        let action = match rule.action {
            // C-FAIL-3: what may not be meant for a pod must not open anything for it.
            Action::Accept if !certain => return,
            Action::Pass if !certain => Action::Deny,
            action => action,
        };
        if policy.tier == Tier::NetworkPolicy && action != Action::Accept {
            return;
        }
        if self.is_spoilt(policy.tier, rule) {
            // C-FAIL-1
            if action != Action::Accept {
                let (on, terms) = (On::Everything, Terms::Everyone);
                out.push(Entry { action: Action::Deny, on, terms });
            }
            return;
        }
        let terms = self.peers(policy.tier, &rule.peers);
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
                    self.name_at_peer(policy.tier, &rule.peers, action, *protocol, name, out);
                }
                (PortMatch::Unknown(_), _) => {}
            }
        }
    }

    /// The rule has a part that is not understood and must not open anything (C-FAIL-1, C-FAIL-2).
    fn is_spoilt(&self, tier: Tier, rule: &Rule) -> bool {
        let ports_spoil = tier != Tier::NetworkPolicy
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

    fn peers(&mut self, tier: Tier, peers: &Peers) -> Terms {
        let Peers::AnyOf(peers) = peers else { return Terms::Everyone };
        let mut atoms: Vec<AtomId> =
            peers.iter().filter_map(|peer| self.peer(tier, peer)).collect();
        atoms.sort_unstable();
        atoms.dedup();
        Terms::AnyOf(atoms)
    }

    fn peer(&mut self, tier: Tier, peer: &Peer) -> Option<AtomId> {
        let atom = atom_of(&self.options, tier, peer)?;
        Some(self.intern(atom))
    }

    /// A port name in an egress rule: every number that anybody declares under it, with those peers who declare it so
    /// (NP-PORT-8, NP-PORT-14).
    fn name_at_peer(
        &mut self,
        tier: Tier,
        peers: &Peers,
        action: Action,
        wanted: Option<Protocol>,
        name: &Name,
        out: &mut Vec<Entry>,
    ) {
        let [network, others] = &self.declared;
        let declared = if tier == Tier::NetworkPolicy { network } else { others };
        let meanings: Vec<_> = declared.get(name).into_iter().flatten().copied().collect();
        let host = tier == Tier::NetworkPolicy && self.host_names_count;
        for (protocol, number) in meanings {
            if wanted.is_some_and(|wanted| wanted != protocol) {
                continue;
            }
            let declares = |also| {
                Atom::Declares(Declares { name: name.clone(), protocol, number, also, host })
            };
            let atoms = match peers {
                Peers::Everyone => vec![self.intern(declares(None))],
                Peers::AnyOf(peers) => {
                    let counted = |it: &&Peer| {
                        // C-PROTO-6
                        tier == Tier::NetworkPolicy || matches!(it, Peer::Pods(_))
                    };
                    let mut atoms = Vec::new();
                    for peer in peers.iter().filter(counted) {
                        if let Some(also) = self.peer(tier, peer) {
                            atoms.push(self.intern(declares(Some(also))));
                        }
                    }
                    atoms
                }
            };
            let on = On::Ports(protocol, PortRange::single(number));
            out.push(Entry { action, on, terms: Terms::AnyOf(atoms) });
        }
    }

    fn intern(&mut self, atom: Atom) -> AtomId {
        if let Some(id) = self.ids.get(&atom) {
            return *id;
        }
        #[expect(clippy::cast_possible_truncation, reason = "memory ends before 2^32 atoms")]
        let id = AtomId(self.atoms.len() as u32);
        self.atoms.push(atom.clone());
        self.ids.insert(atom, id);
        id
    }
}

/// What a peer asks of the other end; nothing that can be answered if the peer is not understood.
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
