//! Policies, rules and excepts that make no difference. The engine proves it: the program without them means the same.
//!
//! What a policy says concerns the pods that it selects, and of these every one that has the same profile in the same
//! way. So the proof takes, for each profile, one pod, the policies of the profile, and of the other pods one of each
//! kind that these policies can tell apart. It compiles these few objects with and without the part in question and
//! compares the two programs over all connections. Most parts need no such proof: one connection that the part is
//! about and that is judged otherwise without it shows that it is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{
    Block, Direction, End, Endpoint, Flow, Name, Namespace, Objects, Options, Peer, Peers, Policy,
    PolicyKey, PolicyKind, PortMatch, Ports, Rule, Traffic,
};
use netpol_core::program::{Program, Scope};
use netpol_core::reference;

use super::facts::{Alike, Facts};
use super::{Finding, Lint};

/// A part of a policy that may make no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// The policy as a whole.
    Whole,
    Rule(Direction, usize),
    /// The excepts of a block: direction, rule, peer.
    Except(Direction, usize, usize),
}

/// All parts that make no difference to any pod. `progress` hears how many profiles of how many are done.
pub(super) fn findings(facts: &Facts<'_>, mut progress: impl FnMut(usize, usize)) -> Vec<Finding> {
    let profiles = facts.profiles();
    // Whether a part has been found to be of no use so far, which it may be by the next profile.
    let mut useless: BTreeMap<PolicyKey, BTreeMap<Part, bool>> = BTreeMap::new();
    for (done, alike) in profiles.iter().enumerate() {
        progress(done, profiles.len());
        let mut scene = Scene::new(facts, alike);
        for policy in alike.profile.policies() {
            let parts = useless
                .entry(policy.key.clone())
                .or_insert_with(|| parts(policy).into_iter().map(|part| (part, true)).collect());
            for (part, useless) in parts.iter_mut().filter(|(_, useless)| **useless) {
                *useless = scene.makes_no_difference(policy, *part);
            }
        }
    }
    let mut findings = Vec::new();
    for (object, parts) in useless {
        let whole = parts.get(&Part::Whole) == Some(&true);
        for (part, _) in parts.into_iter().filter(|(_, useless)| *useless) {
            // Of a policy that makes no difference there is nothing to say rule by rule.
            if part == Part::Whole || !whole {
                findings.push(finding(&object, part));
            }
        }
    }
    findings
}

fn finding(object: &PolicyKey, part: Part) -> Finding {
    let list = |direction| if direction == Direction::Egress { "to" } else { "from" };
    let (lint, path, message) = match part {
        Part::Whole => (
            Lint::RedundantPolicy,
            String::new(),
            "without it the same connections are allowed: others say all that it says",
        ),
        Part::Rule(direction, index) => (
            Lint::RedundantRule,
            format!("spec.{direction}[{index}]"),
            "without it the same connections are allowed: it is shadowed by other rules, or matches nothing",
        ),
        Part::Except(direction, rule, peer) => (
            Lint::IdleExcept,
            format!("spec.{direction}[{rule}].{}[{peer}].ipBlock.except", list(direction)),
            "these addresses are allowed by other rules, or closed anyway; the except does nothing",
        ),
    };
    Finding { object: object.clone(), lint, path, message: message.to_owned() }
}

fn parts(policy: &Policy) -> Vec<Part> {
    let rules = |direction| policy.rules(direction).unwrap_or_default();
    let all: usize = Direction::ALL.into_iter().map(|it| rules(it).len()).sum();
    let mut parts = Vec::new();
    // A policy without rules is a net: it is there for the time when the others are gone.
    if all > 0 {
        parts.push(Part::Whole);
    }
    for direction in Direction::ALL {
        for (at, rule) in rules(direction).iter().enumerate() {
            if all > 1 {
                parts.push(Part::Rule(direction, at));
            }
            let Peers::AnyOf(peers) = &rule.peers else { continue };
            for (peer, block) in peers.iter().enumerate() {
                if matches!(block, Peer::Block(block) if !block.except().is_empty())
                    && policy.key.kind == PolicyKind::NetworkPolicy
                {
                    parts.push(Part::Except(direction, at, peer));
                }
            }
        }
    }
    parts
}

/// The policy without a part of it.
fn without(policy: &Policy, part: Part) -> Option<Policy> {
    let mut changed = policy.clone();
    let rules = |policy: &mut Policy, direction| match direction {
        Direction::Ingress => policy.ingress.take().unwrap_or_default(),
        Direction::Egress => policy.egress.take().unwrap_or_default(),
    };
    let put = |policy: &mut Policy, direction, rules| match direction {
        Direction::Ingress => policy.ingress = Some(rules),
        Direction::Egress => policy.egress = Some(rules),
    };
    match part {
        Part::Whole => return None,
        Part::Rule(direction, at) => {
            let mut all = rules(&mut changed, direction);
            all.remove(at);
            put(&mut changed, direction, all);
        }
        Part::Except(direction, at, peer) => {
            let mut all = rules(&mut changed, direction);
            if let Some(Rule { peers: Peers::AnyOf(peers), .. }) = all.get_mut(at)
                && let Some(Peer::Block(block)) = peers.get_mut(peer)
            {
                *block = Block::new(block.cidr(), []);
            }
            put(&mut changed, direction, all);
        }
    }
    Some(changed)
}

/// One pod with its policies and all that these can tell apart.
struct Scene<'a> {
    facts: &'a Facts<'a>,
    pod: &'a Endpoint,
    policies: Vec<&'a Policy>,
    /// The other pods and the program of the whole, once a proof needs them.
    rest: Option<(Objects, Program)>,
}

impl<'a> Scene<'a> {
    fn new(facts: &'a Facts<'a>, alike: &Alike<'a>) -> Self {
        let policies = alike.profile.policies().collect();
        Self { facts, pod: alike.pod, policies, rest: None }
    }

    fn makes_no_difference(&mut self, policy: &Policy, part: Part) -> bool {
        let changed = without(policy, part);
        !self.an_example_differs(policy, changed.as_ref(), part) && self.proof(policy, changed)
    }

    /// The policies with one of them replaced.
    fn others(&self, policy: &Policy, by: Option<&Policy>) -> Vec<Policy> {
        let others = self.policies.iter().filter(|it| it.key != policy.key).map(|it| (*it).clone());
        others.chain(by.cloned()).collect()
    }

    fn options(&self) -> &'a Options {
        self.facts.program.options()
    }

    /// Judges one connection per rule in question, with and without the part.
    fn an_example_differs(&self, policy: &Policy, changed: Option<&Policy>, part: Part) -> bool {
        let mut examples = Vec::new();
        for direction in Direction::ALL {
            let rules = policy.rules(direction).unwrap_or_default();
            let asked = rules.iter().enumerate().filter(|(at, _)| match part {
                Part::Whole => true,
                Part::Rule(of, index) => (of, index) == (direction, *at),
                Part::Except(..) => false,
            });
            examples.extend(
                asked.filter_map(|(_, rule)| Some((direction, self.example(direction, rule)?))),
            );
            if part == Part::Whole && policy.rules(direction).is_some() {
                // Somebody of whom no policy speaks, on a port of which no policy speaks.
                let stranger = IpAddr::from([198, 51, 100, 77]);
                examples.push((direction, (None, End::Address(stranger), Traffic::sctp(1))));
            }
        }
        let mut objects = self.objects([self.pod]);
        examples.into_iter().any(|(direction, (peer, end, traffic))| {
            objects.endpoints.truncate(1);
            objects.namespaces.truncate(1);
            if let Some(peer) = peer {
                objects.namespaces.extend(self.namespace(&peer.namespace));
                objects.endpoints.push(on_no_node(peer));
            }
            let own = own_end(self.pod);
            let (source, destination) = match direction {
                Direction::Egress => (own, end),
                Direction::Ingress => (end, own),
            };
            let flow = Flow { source, destination, traffic, via_service: false };
            let mut judge = |policies| {
                objects.policies = policies;
                let verdict = reference::decide(&objects, self.options(), &flow);
                (verdict.egress, verdict.ingress)
            };
            judge(self.others(policy, Some(policy))) != judge(self.others(policy, changed))
        })
    }

    /// Somebody whom the rule is about, and traffic that it is about.
    fn example(
        &self,
        direction: Direction,
        rule: &Rule,
    ) -> Option<(Option<&'a Endpoint>, End, Traffic)> {
        let (peer, end) = match &rule.peers {
            Peers::Everyone => (None, End::Address(IpAddr::from([198, 51, 100, 77]))),
            Peers::AnyOf(peers) => peers.iter().find_map(|peer| match peer {
                Peer::Pods(selector) => {
                    let pods = self.facts.matching(selector);
                    let mut others = pods.iter().filter_map(|at| self.facts.pod(*at));
                    let other = others.find(|it| !std::ptr::eq(*it, self.pod))?;
                    Some((Some(other), own_end(other)))
                }
                Peer::Block(block) => {
                    let first = block.cidr().network();
                    let free = !block.except().iter().any(|it| it.contains(&first))
                        && !self.facts.addresses.contains_key(&first);
                    free.then_some((None, End::Address(first)))
                }
                Peer::Nodes(_) | Peer::Domain(_) | Peer::Unknown(_) => None,
            })?,
        };
        let declares = match direction {
            Direction::Ingress => Some(self.pod),
            Direction::Egress => peer,
        };
        let traffic = match &rule.ports {
            Ports::All => Traffic::sctp(1),
            Ports::AnyOf(ports) => ports.iter().find_map(|port| match port {
                PortMatch::Range(protocol, range) => Some(Traffic::Port(*protocol, range.first())),
                PortMatch::Named(protocol, name) => {
                    let mut declared = declares?.ports.iter();
                    let found = declared.find(|it| {
                        it.name == *name && protocol.is_none_or(|of| of == it.protocol)
                    })?;
                    Some(Traffic::Port(found.protocol, found.number))
                }
                PortMatch::Unknown(_) => None,
            })?,
        };
        Some((peer, end, traffic))
    }

    /// Whether the engine says that the pod's connections are judged alike.
    fn proof(&mut self, policy: &Policy, changed: Option<Policy>) -> bool {
        let (objects, whole) = match self.rest.take() {
            Some(rest) => rest,
            None => {
                let mut objects = self.objects(self.kinds());
                objects.policies = self.policies.iter().map(|it| (*it).clone()).collect();
                let program = compile(
                    &Cluster::from_objects(*self.options(), objects.clone()),
                    Scope::Cluster,
                );
                (objects, program)
            }
        };
        let less = Objects { policies: self.others(policy, changed.as_ref()), ..objects.clone() };
        let less = compile(&Cluster::from_objects(*self.options(), less), Scope::Cluster);
        let own = (&self.pod.namespace, &self.pod.name);
        let difference = whole.diff(&less);
        let same = difference
            .cells
            .iter()
            .all(|cell| cell.subjects.iter().all(|it| (&it.namespace, &it.name) != own));
        self.rest = Some((objects, whole));
        same
    }

    /// The pod, and one of each kind of other pods that the policies can tell apart.
    fn kinds(&self) -> Vec<&'a Endpoint> {
        let rules = self.policies.iter().flat_map(|policy| {
            Direction::ALL.into_iter().filter_map(|it| policy.rules(it)).flatten()
        });
        let peers = rules.filter_map(|rule| match &rule.peers {
            Peers::AnyOf(peers) => Some(peers),
            Peers::Everyone => None,
        });
        let (mut blocks, mut meant) = (BTreeSet::new(), BTreeSet::new());
        for peer in peers.flatten() {
            match peer {
                Peer::Pods(selector) => meant.extend(self.facts.matching(selector).iter().copied()),
                Peer::Block(block) => {
                    blocks.extend([block.cidr()].iter().chain(block.except()).copied())
                }
                Peer::Nodes(_) | Peer::Domain(_) | Peer::Unknown(_) => {}
            }
        }
        // A named port is that of whoever declares it, in a block or anywhere.
        let names: BTreeSet<&Name> = self.named_egress_ports();
        if !names.is_empty() {
            let declares = |pod: &&Endpoint| pod.ports.iter().any(|it| names.contains(&it.name));
            let all = self.facts.pods.iter().enumerate();
            meant.extend(all.filter(|(_, pod)| declares(pod)).map(|(at, _)| at));
        }
        let mut kinds = BTreeMap::new();
        for pod in meant.into_iter().filter_map(|at| self.facts.pod(at)) {
            let inside: Vec<_> = blocks
                .iter()
                .filter(|block| pod.addresses.iter().any(|it| block.contains(it)))
                .collect();
            kinds.entry((&pod.namespace, &pod.labels, &pod.ports, inside)).or_insert(pod);
        }
        let others = kinds.into_values().filter(|it| !std::ptr::eq(*it, self.pod));
        std::iter::once(self.pod).chain(others).collect()
    }

    fn named_egress_ports(&self) -> BTreeSet<&'a Name> {
        let rules = self.policies.iter().flat_map(|it| it.rules(Direction::Egress)).flatten();
        let ports = rules.filter_map(|rule| match &rule.ports {
            Ports::AnyOf(ports) => Some(ports),
            Ports::All => None,
        });
        let names = ports.flatten().filter_map(|port| match port {
            PortMatch::Named(_, name) => Some(name),
            PortMatch::Range(..) | PortMatch::Unknown(_) => None,
        });
        names.collect()
    }

    /// These pods with what else policies may ask about.
    fn objects(&self, pods: impl IntoIterator<Item = &'a Endpoint>) -> Objects {
        let endpoints: Vec<Endpoint> = pods.into_iter().map(on_no_node).collect();
        let namespaces: BTreeSet<&Name> = endpoints.iter().map(|it| &it.namespace).collect();
        let cluster_wide = self.policies.iter().any(|it| it.key.kind != PolicyKind::NetworkPolicy);
        Objects {
            namespaces: namespaces.into_iter().filter_map(|it| self.namespace(it)).collect(),
            nodes: if cluster_wide { self.facts.objects.nodes.clone() } else { Vec::new() },
            domains: self.facts.objects.domains.clone(),
            endpoints,
            policies: Vec::new(),
        }
    }

    fn namespace(&self, name: &Name) -> Option<Namespace> {
        let labels = self.facts.namespaces.get(name)?.clone();
        Some(Namespace { name: name.clone(), labels })
    }
}

/// The node of a pod is let in whatever policies say, which is of no interest here.
fn on_no_node(pod: &Endpoint) -> Endpoint {
    Endpoint { node: None, ..pod.clone() }
}

fn own_end(pod: &Endpoint) -> End {
    match pod.addresses.first() {
        Some(address) => End::Address(*address),
        None => End::Endpoint { namespace: pod.namespace.clone(), name: pod.name.clone() },
    }
}
