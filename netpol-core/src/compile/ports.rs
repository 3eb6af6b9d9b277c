use std::collections::BTreeSet;
use std::sync::Arc;

use smallvec::smallvec;

use crate::model::{
    Action, BaselineSkip, DeclaredPort, Direction, NodeEgress, Options, OtherProtocols, PortRange,
    Protocol, Tier,
};
use crate::program::{ClassId, PortMap, Segment, Stack, Terms, Union};

use super::interner::Interner;
use super::lower::{Lowered, On};

/// One entry that counts for a profile, with port names resolved.
struct Active<'a> {
    tier: Tier,
    action: Action,
    /// `None` for all protocols and ports.
    on: Option<(Protocol, PortRange)>,
    terms: &'a Terms,
}

/// What policies say in one direction to a subject that declares these ports, and that may be the host-network
/// endpoints of a node; `None` if nothing. The classes in it are used once per interval. If it takes more than so many
/// terms to say, everything is denied.
pub(super) fn port_map(
    options: &Options,
    policies: &[Arc<Lowered>],
    declared: &[DeclaredPort],
    host: bool,
    direction: Direction,
    most_terms: usize,
    classes: &mut Interner<Arc<Stack>>,
) -> Option<PortMap> {
    let frame = Frame::new(options, policies, host, direction);
    let active = active(policies, declared, direction);
    if !frame.isolated && !active.iter().any(|it| frame.counts(it.tier)) {
        return None;
    }
    let of = |stack: Stack, classes: &mut Interner<_>| ClassId(classes.acquire(&Arc::new(stack)));
    let Some(named) = named_ports(&frame, &active, most_terms) else {
        let class = of(Stack { network: Some(Terms::NOBODY), ..frame.nothing() }, classes);
        let mut again = || {
            classes.retain(class.0);
            class
        };
        let ports = Protocol::ALL.map(|_| smallvec![(PortRange::ALL, again())]);
        return Some(PortMap { ports, other: class, too_large: true });
    };
    // The class of traffic that no port is named for, which is most of it.
    let mut unnamed: Option<ClassId> = None;
    let mut elsewhere = |classes: &mut Interner<_>| match unnamed {
        Some(class) => {
            classes.retain(class.0);
            class
        }
        None => {
            let stack = frame.stack(active.iter().filter(|it| it.on.is_none()), None);
            *unnamed.insert(of(stack, classes))
        }
    };
    let ports = named.map(|intervals| match intervals.is_empty() {
        true => smallvec![(PortRange::ALL, elsewhere(classes))],
        false => intervals.into_iter().map(|(range, stack)| (range, of(stack, classes))).collect(),
    });
    let other = match options.other_protocols {
        OtherProtocols::RulesWithoutPorts => elsewhere(classes),
        OtherProtocols::Allowed | OtherProtocols::Denied => {
            let everything = active.iter().filter(|it| it.on.is_none());
            of(frame.stack(everything, Some(options.other_protocols)), classes)
        }
    };
    Some(PortMap { ports, other, too_large: false })
}

/// What is asked on the ports of each protocol of which any is named; `None` if that is more than so many terms.
fn named_ports(
    frame: &Frame,
    active: &[Active<'_>],
    most_terms: usize,
) -> Option<[Vec<(PortRange, Stack)>; 3]> {
    let mut left = most_terms;
    let mut named: [Vec<(PortRange, Stack)>; 3] = Default::default();
    for (protocol, intervals) in Protocol::ALL.into_iter().zip(&mut named) {
        let starts = starts(protocol, active);
        for range in elementary(&starts).filter(|_| !starts.is_empty()) {
            let matching = active.iter().filter(|it| it.covers(protocol, range.first()));
            let stack = frame.stack(matching, None);
            match intervals.last_mut() {
                Some((last, same)) if *same == stack => *last = last.through(range),
                _ => {
                    left = left.checked_sub(stack.unions().map(Union::len).sum())?;
                    intervals.push((range, stack));
                }
            }
        }
    }
    Some(named)
}

fn active<'a>(
    policies: &'a [Arc<Lowered>],
    declared: &[DeclaredPort],
    direction: Direction,
) -> Vec<Active<'a>> {
    let mut active = Vec::new();
    for policy in policies {
        for entry in policy.entries(direction).unwrap_or_default() {
            let mut push = |on| {
                let (tier, action, terms) = (policy.tier, entry.action, &entry.terms);
                active.push(Active { tier, action, on, terms });
            };
            match &entry.on {
                On::Everything => push(None),
                On::Ports(protocol, range) => push(Some((*protocol, *range))),
                On::OwnName(wanted, name) => declared
                    .iter()
                    .filter(|port| port.name == *name)
                    .filter(|port| wanted.is_none_or(|wanted| wanted == port.protocol))
                    .for_each(|port| push(Some((port.protocol, PortRange::single(port.number))))),
            }
        }
    }
    active
}

/// The ports of a protocol at which any entry begins, or has just ended.
fn starts(protocol: Protocol, active: &[Active<'_>]) -> Vec<u16> {
    let mut starts = Vec::new();
    for (of, range) in active.iter().filter_map(|it| it.on) {
        if of == protocol {
            starts.push(range.first());
            starts.extend(range.last().checked_add(1));
        }
    }
    starts.sort_unstable();
    starts.dedup();
    starts
}

/// Cuts all ports before each of these.
fn elementary(starts: &[u16]) -> impl Iterator<Item = PortRange> {
    let starts = starts.iter().copied().filter(|start| *start > 0);
    let ends = starts.clone().map(|next| next - 1).chain([u16::MAX]);
    std::iter::once(0)
        .chain(starts)
        .zip(ends)
        .filter_map(|(first, last)| PortRange::new(first, last))
}

impl Active<'_> {
    fn covers(&self, protocol: Protocol, port: u16) -> bool {
        self.on.is_none_or(|(of, range)| of == protocol && range.contains(port))
    }
}

/// What holds for all ports of one direction of a profile.
struct Frame {
    isolated: bool,
    baseline: bool,
    own_node: bool,
}

impl Frame {
    fn new(options: &Options, policies: &[Arc<Lowered>], host: bool, direction: Direction) -> Self {
        let network = || policies.iter().filter(|it| it.tier == Tier::NetworkPolicy);
        let isolated = network().any(|it| it.entries(direction).is_some());
        let selected = network().any(|it| it.ingress.is_some() || it.egress.is_some());
        // C-TIER-2, C-TIER-3
        let kept_out = match options.baseline_skip {
            BaselineSkip::IsolatedDirection => isolated,
            BaselineSkip::AnySelected => isolated || selected,
        };
        // NP-NODE-1, NP-NODE-3; a node reaching itself is no node reaching its pods.
        let own_node = !host
            && match direction {
                Direction::Ingress => true,
                Direction::Egress => options.node_egress == NodeEgress::Allowed,
            };
        Self { isolated, baseline: !kept_out, own_node }
    }

    fn counts(&self, tier: Tier) -> bool {
        match tier {
            Tier::Admin => true,
            Tier::NetworkPolicy => self.isolated,
            Tier::Baseline => self.baseline,
        }
    }

    /// What asks for nothing; the own node aside.
    fn nothing(&self) -> Stack {
        Stack { own_node: self.own_node, ..Stack::NOTHING }
    }

    /// The normal form of what `active` asks; `other` where it is about protocols that have no ports.
    fn stack<'a>(
        &self,
        active: impl Iterator<Item = &'a Active<'a>>,
        other: Option<OtherProtocols>,
    ) -> Stack {
        let mut admin = Segments::default();
        let mut network = Terms::NOBODY;
        let mut baseline = Segments::default();
        for entry in active {
            match entry.tier {
                Tier::Admin => admin.push(entry.action, entry.terms),
                Tier::NetworkPolicy => network.join(entry.terms),
                Tier::Baseline => baseline.push(entry.action, entry.terms),
            }
        }
        match other {
            Some(OtherProtocols::Allowed) => network = Terms::Everyone,
            Some(OtherProtocols::Denied) => network = Terms::NOBODY,
            Some(OtherProtocols::RulesWithoutPorts) | None => network.normalise(),
        }
        let admin = admin.finish(|action| action == Action::Pass);
        // Whoever is passed goes on to the next tier, whatever holds for everyone else.
        let decided = admin.last().is_some_and(|it| it.terms == Terms::Everyone)
            && admin.iter().all(|it| it.action != Action::Pass);
        let network = (self.isolated && !decided).then_some(network);
        // To run out of the Baseline tier is to be allowed.
        let baseline = match self.baseline && !decided {
            true => baseline.finish(|action| action != Action::Deny),
            false => Vec::new(),
        };
        let own_node = self.own_node && network.as_ref().is_some_and(|it| *it != Terms::Everyone);
        Stack { admin, network, baseline, own_node }
    }
}

/// Collects the rules of an ordered tier.
#[derive(Default)]
struct Segments {
    list: Vec<Segment>,
    closed: bool,
}

impl Segments {
    fn push(&mut self, action: Action, terms: &Terms) {
        if self.closed || *terms == Terms::NOBODY {
            return;
        }
        self.closed = *terms == Terms::Everyone;
        match self.list.last_mut() {
            Some(last) if last.action == action => last.terms.join(terms),
            _ => self.list.push(Segment { action, terms: terms.clone() }),
        }
    }

    /// Drops what cannot be reached or changes nothing: atoms that an earlier segment decides, and final segments
    /// that do what happens anyway.
    fn finish(mut self, is_default: impl Fn(Action) -> bool) -> Vec<Segment> {
        let (mut seen, mut seen_blocks) = (BTreeSet::new(), BTreeSet::new());
        for segment in &mut self.list {
            segment.terms.normalise();
            if let Terms::AnyOf(union) = &mut segment.terms {
                union.atoms.retain(|atom| seen.insert(*atom));
                union.blocks.retain(|within| seen_blocks.insert(within.clone()));
            }
        }
        let mut list: Vec<Segment> = Vec::with_capacity(self.list.len());
        for segment in self.list.into_iter().filter(|it| it.terms != Terms::NOBODY) {
            match list.last_mut() {
                Some(last) if last.action == segment.action => {
                    last.terms.join(&segment.terms);
                    last.terms.normalise();
                }
                _ => list.push(segment),
            }
        }
        while list.last().is_some_and(|last| is_default(last.action)) {
            list.pop();
        }
        list
    }
}

impl Terms {
    fn join(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::AnyOf(union), Self::AnyOf(more)) => union.join(more),
            _ => *self = Self::Everyone,
        }
    }

    fn normalise(&mut self) {
        if let Self::AnyOf(union) = self {
            union.normalise();
        }
    }
}

impl PortRange {
    /// From the start of this range to the end of a later one.
    fn through(self, later: Self) -> Self {
        Self::new(self.first(), later.last()).unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use crate::compile::Compiler;
    use crate::model::{
        Direction, End, Endpoint, Flow, Labels, Name, NamespaceScope, Node, Options, Peer, Peers,
        PodSelector, Policy, PolicyKey, PolicyKind, PortMatch, PortRange, Ports, Protocol,
        Requirement, Rule, Selector, SelfTraffic, Subject, Tier, Traffic, name,
    };
    use crate::program::{Reason, Verdict};
    use crate::{Cluster, Scope};

    fn app(of: &str) -> PodSelector {
        let pods = Selector::new([Requirement::is_in("app", [of])]);
        PodSelector { namespaces: NamespaceScope::Named("x".into()), pods }
    }

    /// For the pods of an app: so many others, each on ports around those of the next.
    fn nested(called: &str, subject: &str, others: u16) -> Policy {
        let rules = (0..others).map(|at| {
            let ports = PortRange::new(100 + at, 200 - at)
                .map(|range| Ports::AnyOf(vec![PortMatch::Range(Protocol::Tcp, range)]));
            let peers = Peers::AnyOf(vec![Peer::Pods(app(&format!("other-{at}")))]);
            let action = crate::model::Action::Accept;
            Rule { name: None, action, peers, ports: ports.unwrap() }
        });
        let kind = PolicyKind::NetworkPolicy;
        Policy {
            key: PolicyKey { kind, namespace: "x".into(), name: called.into() },
            tier: Tier::NetworkPolicy,
            priority: 0,
            subject: Subject::Pods(app(subject)),
            ingress: Some(rules.collect()),
            egress: None,
        }
    }

    const PODS: [&str; 3] = ["web", "db", "other-0"];

    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        let node: Name = name("n");
        let addresses = ["192.168.0.1".parse().unwrap()].into();
        cluster.upsert_node(Node { name: node.clone(), labels: Labels::default(), addresses });
        for called in PODS {
            let mut pod = Endpoint::new("x", called);
            pod.labels = Labels::from_iter([("app", called)]);
            let End::Address(own) = reach(called).destination else { continue };
            pod.addresses.push(own);
            pod.node = Some(node.clone());
            cluster.upsert_endpoint(pod);
        }
        cluster
    }

    /// From whom all policies allow it, on a port that all of their rules are about.
    fn reach(to: &str) -> Flow {
        let address = |of: &str| {
            let at = PODS.iter().position(|it| *it == of).unwrap();
            IpAddr::from([10, 0, 0, u8::try_from(at).unwrap()])
        };
        Flow::new(address("other-0"), address(to), Traffic::Port(Protocol::Tcp, 150))
    }

    /// 5 rules ask for 1, 2, 3, 4, 5, 4, 3, 2 and 1 peers on as many ranges of ports.
    #[test]
    fn what_takes_too_much_to_say_is_closed_and_told() {
        let most = [24, 25];
        let mut compilers = most.map(|most_terms| {
            let mut compiler = Compiler::new(Options::default(), Scope::Node(name("n")));
            compiler.most_terms = most_terms;
            compiler
        });
        let mut cluster = cluster();
        let (large, small) = (nested("large", "web", 5), nested("small", "db", 2));
        cluster.upsert_policy(large.clone());
        cluster.upsert_policy(small);
        cluster.upsert_policy(nested("tiny", "web", 1));
        // What is closed for another reason shares the class.
        cluster.upsert_policy(nested("nobody", "other-0", 0));
        let changes = cluster.take_changes();
        let [closed, open] = compilers.each_mut().map(|it| it.update(&cluster, &changes).clone());

        assert_eq!(open.too_large().count(), 0);
        assert!(open.decide(&reach("web")).is_allowed());
        let told: Vec<_> = closed.too_large().collect();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].direction, Direction::Ingress);
        assert_eq!(told[0].policies[0], large.key);
        assert_eq!(
            told[0].to_string(),
            "ingress of x/web is denied: the ports and peers of NetworkPolicy x/large and \
             NetworkPolicy x/tiny are too many"
        );
        let explained = closed.explain(&reach("web")).ingress.unwrap();
        assert_eq!(explained.verdict, Verdict::Deny);
        assert_eq!(explained.reason, Reason::TooLarge(told[0].policies.clone()));
        let decided = closed.decide(&reach("web"));
        assert_eq!(decided.ingress, Some(Verdict::Deny));
        // NP-NODE-1 holds all the same, and nobody else suffers from it.
        let node = End::Address("192.168.0.1".parse().unwrap());
        let by_node = Flow { source: node, ..reach("web") };
        assert!(closed.decide(&by_node).is_allowed());
        assert_eq!(closed.explain(&by_node).ingress.unwrap().reason, Reason::OwnNode);
        assert!(closed.decide(&reach("db")).is_allowed());

        // All that it selects, and what they send to themselves.
        let mut twin = Endpoint::new("x", "web-2");
        twin.labels = Labels::from_iter([("app", "web")]);
        twin.node = Some(name("n"));
        cluster.upsert_endpoint(twin);
        cluster.upsert_policy(nested("tiny-2", "web", 1));
        let options = Options { self_traffic: SelfTraffic::Policed, ..Options::default() };
        let mut policed = Compiler::new(options, Scope::Node(name("n")));
        policed.most_terms = most[0];
        let mut both = Cluster::new(options);
        cluster.endpoints().for_each(|it| both.upsert_endpoint(it.clone()));
        cluster.policies().for_each(|it| both.upsert_policy(it.clone()));
        let told: Vec<String> = policed
            .update(&both, &both.all_as_changes())
            .too_large()
            .map(|it| it.to_string())
            .collect();
        assert_eq!(
            told,
            [
                "ingress of x/web and 1 more is denied: the ports and peers of NetworkPolicy x/large and \
              2 other policies are too many"
            ]
        );
        cluster.remove_policy(&nested("tiny-2", "web", 1).key);

        // As soon as they are gone, the others count again.
        cluster.upsert_policy(nested("large-2", "db", 5));
        let changes = cluster.take_changes();
        let [closed, _] = compilers.each_mut().map(|it| it.update(&cluster, &changes).clone());
        assert_eq!(closed.too_large().count(), 2);
        cluster.remove_policy(&nested("large-2", "db", 5).key);
        cluster.remove_policy(&large.key);
        let changes = cluster.take_changes();
        let [closed, open] = compilers.each_mut().map(|it| it.update(&cluster, &changes).clone());
        assert_eq!(closed.too_large().count(), 0);
        assert!(closed.decide(&reach("web")).is_allowed());
        let Flow { source, destination, .. } = reach("web");
        let back = Flow { source: destination, destination: source, ..reach("web") };
        assert!(!closed.decide(&back).is_allowed());
        assert_eq!(closed, open);
    }
}
