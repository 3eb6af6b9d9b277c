//! Policies, rules and excepts that make no difference. The engine proves it: the program without them means the same.
//!
//! What a policy says concerns the pods that it selects, and of these all that have the same profile in the same way.
//! So the proof takes one pod for each profile, their policies, and of the other pods one of each kind that these
//! policies can tell apart. It compiles these few objects with and without the part in question and compares the two
//! programs over all connections. Most parts need no such proof: one connection that the part is about and that is
//! judged otherwise without it shows that it is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{
    Block, Direction, End, Endpoint, Flow, Name, Namespace, Objects, Options, Peer, Peers, Policy,
    PolicyKey, PolicyKind, PortMatch, Ports, Rule, Traffic,
};
use netpol_core::program::{DiffSubject, Program, Scope, Verdict};
use netpol_core::reference::{self, Judgement};

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

/// All parts that make no difference to any pod. `progress` hears how many policies of how many are done.
pub(super) fn findings(facts: &Facts<'_>, mut progress: impl FnMut(usize, usize)) -> Vec<Finding> {
    let profiles = facts.profiles();
    let mut concerned: BTreeMap<&PolicyKey, (&Policy, Vec<usize>)> = BTreeMap::new();
    for (at, alike) in profiles.iter().enumerate() {
        for policy in alike.profile.policies() {
            concerned.entry(&policy.key).or_insert((policy, Vec::new())).1.push(at);
        }
    }
    let all = concerned.len();
    let mut scene: Option<Scene<'_>> = None;
    let mut findings = Vec::new();
    for (done, (policy, subjects)) in concerned.into_values().enumerate() {
        progress(done, all);
        // Policies of one namespace often concern the same pods.
        if scene.as_ref().is_none_or(|scene| scene.subjects != subjects) {
            let alike = subjects.iter().filter_map(|at| profiles.get(*at)).collect();
            scene = Some(Scene::new(facts, subjects, alike));
        }
        let Some(scene) = &mut scene else { continue };
        for part in parts(policy) {
            if scene.makes_no_difference(policy, part) {
                findings.push(finding(&policy.key, part));
                // Of a policy that makes no difference there is nothing to say rule by rule.
                if part == Part::Whole {
                    break;
                }
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

/// The pods that a policy is about, one for each profile, with their policies and all that these can tell apart.
struct Scene<'a> {
    facts: &'a Facts<'a>,
    /// The profiles, by their places.
    subjects: Vec<usize>,
    alike: Vec<&'a Alike<'a>>,
    /// Of all the pods, each once.
    policies: Vec<&'a Policy>,
    /// The other pods and the program of the whole, once a proof needs them.
    whole: Option<(Objects, Program)>,
}

impl<'a> Scene<'a> {
    fn new(facts: &'a Facts<'a>, subjects: Vec<usize>, alike: Vec<&'a Alike<'a>>) -> Self {
        let policies = alike.iter().flat_map(|it| it.profile.policies());
        let policies: BTreeMap<_, _> = policies.map(|it| (&it.key, it)).collect();
        Self { facts, subjects, alike, policies: policies.into_values().collect(), whole: None }
    }

    fn makes_no_difference(&mut self, policy: &Policy, part: Part) -> bool {
        let changed = without(policy, part);
        let differs =
            |alike: &&Alike<'a>| self.an_example_differs(alike, policy, changed.as_ref(), part);
        !self.alike.iter().any(differs) && self.proof(policy, changed)
    }

    fn options(&self) -> &'a Options {
        self.facts.program.options()
    }

    /// Whether one of a few connections of a pod is judged otherwise without the part.
    fn an_example_differs(
        &self,
        alike: &Alike<'a>,
        policy: &Policy,
        changed: Option<&Policy>,
        part: Part,
    ) -> bool {
        let pod = alike.pod;
        let mut examples = Vec::new();
        for direction in Direction::ALL {
            let rules = policy.rules(direction).unwrap_or_default();
            let asked = rules.iter().enumerate().filter(|(at, _)| match part {
                Part::Whole => true,
                Part::Rule(of, index) => (of, index) == (direction, *at),
                Part::Except(..) => false,
            });
            examples
                .extend(asked.filter_map(|(_, rule)| {
                    Some((direction, self.example(pod, direction, rule)?))
                }));
            if part == Part::Whole && policy.rules(direction).is_some() {
                // Somebody of whom no policy speaks, on a port of which no policy speaks.
                let stranger = End::Address(IpAddr::from([198, 51, 100, 77]));
                examples.push((direction, (None, stranger, Traffic::sctp(1))));
            }
        }
        if examples.is_empty() {
            return false;
        }
        let others = alike.profile.policies().filter(|it| it.key != policy.key).cloned();
        let mut objects = self.objects([pod]);
        objects.policies = others.chain(changed.cloned()).collect();
        examples.into_iter().any(|(direction, (peer, end, traffic))| {
            objects.endpoints.truncate(1);
            objects.namespaces.truncate(1);
            if let Some(peer) = peer {
                objects.namespaces.extend(self.namespace(&peer.namespace));
                objects.endpoints.push(on_no_node(peer));
            }
            let own = own_end(pod);
            let (source, destination) = match direction {
                Direction::Egress => (own, end),
                Direction::Ingress => (end, own),
            };
            let flow = Flow { source, destination, traffic, via_service: false };
            let now = self.facts.program.decide(&flow);
            let then = reference::decide(&objects, self.options(), &flow);
            match direction {
                Direction::Egress => {
                    (now.egress == Some(Verdict::Deny)) != (then.egress == Judgement::Deny)
                }
                Direction::Ingress => {
                    (now.ingress == Some(Verdict::Deny)) != (then.ingress == Judgement::Deny)
                }
            }
        })
    }

    /// Somebody whom the rule is about, and traffic that it is about.
    fn example(
        &self,
        pod: &'a Endpoint,
        direction: Direction,
        rule: &Rule,
    ) -> Option<(Option<&'a Endpoint>, End, Traffic)> {
        let (peer, end) = match &rule.peers {
            Peers::Everyone => (None, End::Address(IpAddr::from([198, 51, 100, 77]))),
            Peers::AnyOf(peers) => peers.iter().find_map(|peer| match peer {
                Peer::Pods(selector) => {
                    let pods = self.facts.matching(selector);
                    let mut others = pods.iter().filter_map(|at| self.facts.pod(*at));
                    let other = others.find(|it| !std::ptr::eq(*it, pod))?;
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
            Direction::Ingress => Some(pod),
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

    /// Whether the engine says that the connections of all these pods are judged alike.
    fn proof(&mut self, policy: &Policy, changed: Option<Policy>) -> bool {
        let options = *self.options();
        let compiled =
            |objects: Objects| compile(&Cluster::from_objects(options, objects), Scope::Cluster);
        let (objects, whole) = match self.whole.take() {
            Some(whole) => whole,
            None => {
                let mut objects = self.objects(self.kinds());
                objects.policies = self.policies.iter().map(|it| (*it).clone()).collect();
                (objects.clone(), compiled(objects))
            }
        };
        let others = self.policies.iter().filter(|it| it.key != policy.key).map(|it| (*it).clone());
        let policies = others.chain(changed).collect();
        let less = compiled(Objects { policies, ..objects.clone() });
        let pods: BTreeSet<(&Name, &Name)> =
            self.alike.iter().map(|it| (&it.pod.namespace, &it.pod.name)).collect();
        let concerned = |it: &DiffSubject| pods.contains(&(&it.namespace, &it.name));
        let same = !whole.diff(&less).cells.iter().any(|cell| cell.subjects.iter().any(concerned));
        self.whole = Some((objects, whole));
        same
    }

    /// The pods, and one of each kind of other pods that the policies can tell apart.
    fn kinds(&self) -> Vec<&'a Endpoint> {
        let rules = self.policies.iter().flat_map(|policy| {
            Direction::ALL.into_iter().filter_map(|it| policy.rules(it)).flatten()
        });
        let peers = rules.filter_map(|rule| match &rule.peers {
            Peers::AnyOf(peers) => Some(peers),
            Peers::Everyone => None,
        });
        // By which selectors each pod is meant.
        let (mut blocks, mut selectors) = (BTreeSet::new(), BTreeSet::new());
        for peer in peers.flatten() {
            match peer {
                Peer::Pods(selector) => drop(selectors.insert(selector)),
                Peer::Block(block) => {
                    blocks.extend([block.cidr()].iter().chain(block.except()).copied());
                }
                Peer::Nodes(_) | Peer::Domain(_) | Peer::Unknown(_) => {}
            }
        }
        let mut meant: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (which, selector) in selectors.into_iter().enumerate() {
            for at in self.facts.matching(selector).iter() {
                meant.entry(*at).or_default().push(which);
            }
        }
        // A named port is that of whoever declares it, in a block or anywhere.
        let names: BTreeSet<&Name> = self.named_egress_ports();
        if !names.is_empty() {
            for (at, pod) in self.facts.pods.iter().enumerate() {
                if pod.ports.iter().any(|it| names.contains(&it.name)) {
                    meant.entry(at).or_default();
                }
            }
        }
        let mut kinds = BTreeMap::new();
        for (at, by) in meant {
            let Some(pod) = self.facts.pod(at) else { continue };
            let inside = |block: &&IpNet| pod.addresses.iter().any(|it| block.contains(it));
            let inside: Vec<&IpNet> = blocks.iter().filter(inside).collect();
            kinds.entry((by, &pod.ports, inside)).or_insert(pod);
        }
        let own = self.alike.iter().map(|it| it.pod);
        let all = own.chain(kinds.into_values());
        let all: BTreeMap<_, _> = all.map(|it| ((&it.namespace, &it.name, &it.uid), it)).collect();
        all.into_values().collect()
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
