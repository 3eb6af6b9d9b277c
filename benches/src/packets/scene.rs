//! Policies all of which select one pod of a node, and of which only the last allows what is sent.
//!
//! The shape is that of `N` teams who all want to reach one service: every policy admits a hundred pods, on one to
//! three ports, every fourth on a range of ports as well. There are 110 pods on the node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netpol_core::model::{
    Action, Block, Endpoint, Family, Labels, NamespaceScope, Options, Peer, Peers, PodSelector,
    Policy, PolicyKey, PolicyKind, PortMatch, PortRange, Ports, Protocol, Requirement, Rule,
    Selector, Subject, Tier, name,
};
use netpol_core::{Cluster, Program, Scope, compile};

/// The port that packets are sent to.
pub const PORT: u16 = 7777;
/// A port that no policy mentions.
pub const CLOSED_PORT: u16 = 9;

/// Pods on the node; the first is the sender and the last the receiver.
pub const LOCAL_PODS: u32 = 110;
/// How many of the policies select each of them but these two.
const SELECTED_BY: u32 = 5;
/// Pods of each kind that policies admit.
const PEERS: u32 = 100;
const KINDS: u32 = 50;

/// What there is besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Plain,
    /// The sender is isolated by as many policies for what it sends.
    BothDirections,
    /// The sender is no pod, but in one of a hundred blocks that are admitted.
    Blocks,
    /// All ports are in ranges of a thousand.
    WideRanges,
    /// Policies mention five hundred ports one by one.
    ManyPorts,
}

/// Policies for one family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scene {
    /// The family.
    pub family: Family,
    /// How many policies select the receiver.
    pub policies: u32,
    /// What there is besides.
    pub shape: Shape,
}

impl Scene {
    /// The address of a pod of the node.
    pub fn local(&self, number: u32) -> IpAddr {
        self.address(0x40_0001 + number)
    }

    /// Where packets come from.
    pub fn sender(&self) -> IpAddr {
        match self.shape {
            Shape::Blocks => self.address(0xe0_0001),
            _ => self.local(0),
        }
    }

    /// Where they go to.
    pub fn receiver(&self) -> IpAddr {
        self.local(LOCAL_PODS - 1)
    }

    /// Whom the policy of this number admits.
    pub fn admitted(&self, policy: u32) -> Vec<IpAddr> {
        match self.is_last(policy) {
            true => vec![self.sender()],
            false => (0..PEERS).map(|it| self.peer(it * KINDS + self.kind(policy))).collect(),
        }
    }

    /// Which of the pods elsewhere the policy of this number admits; as many kinds as policies up to fifty.
    pub fn kind(&self, policy: u32) -> u32 {
        if self.is_last(policy) { KINDS } else { policy % KINDS }
    }

    /// On which ports. Every tenth mentions the one that packets are sent to.
    pub fn ports(&self, policy: u32) -> Vec<[u16; 2]> {
        let port = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        let wide = self.shape == Shape::WideRanges;
        let list = |first: u32| match wide {
            true => [port(first * 1000 + 10_000), port(first * 1000 + 10_999)],
            false => [port(first + 1024); 2],
        };
        let known = match self.shape {
            Shape::ManyPorts => 500,
            _ => 20,
        };
        let sent = if wide { [7000, 7999] } else { [PORT; 2] };
        if self.is_last(policy) {
            return vec![sent];
        }
        let mut ports: Vec<_> =
            (0..=policy % 3).map(|it| list((policy * 7 + it * 13) % known)).collect();
        if policy.is_multiple_of(10) {
            ports[0] = sent;
        }
        if policy % 4 == 3 && !wide {
            let first = port(30_000 + policy % 8 * 20);
            ports.push([first, first + 9]);
        }
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Which pods of the node the policy of this number selects beside the receiver.
    pub fn others(&self, policy: u32) -> impl Iterator<Item = u32> + use<> {
        let policies = self.policies;
        let selects = move |pod: &u32| {
            (0..SELECTED_BY).any(|it| (pod * SELECTED_BY + it) % policies == policy)
        };
        (1..LOCAL_PODS - 1).filter(selects)
    }

    /// What the policies say, for the node.
    pub fn program(&self) -> Program {
        compile(&self.cluster(), Scope::Node(name("node")))
    }

    fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::new(Options::default());
        let mut upsert = |pod: String, app: String, node: &str, address: IpAddr| {
            let mut endpoint = Endpoint::new("x", &pod);
            endpoint.labels = Labels::default().with("app", &app);
            endpoint.node = Some(name(node));
            endpoint.addresses = [address].into_iter().collect();
            cluster.upsert_endpoint(endpoint);
        };
        for number in 0..LOCAL_PODS {
            upsert(
                format!("local-{number}"),
                format!("local-{number}"),
                "node",
                self.local(number),
            );
        }
        for number in 0..PEERS * KINDS {
            let app = format!("kind-{}", number % KINDS);
            upsert(format!("remote-{number}"), app, "elsewhere", self.peer(number));
        }
        for number in 0..self.policies {
            let others = self.others(number).chain([LOCAL_PODS - 1]);
            let ports = self.port_matches(number);
            let rule = accept(self.peers(number), ports.clone());
            cluster.upsert_policy(policy(&format!("in-{number}"), others, Some(rule), None));
            if self.shape == Shape::BothDirections {
                let to = match self.is_last(number) {
                    true => vec![with(local(LOCAL_PODS - 1))],
                    false => self.peers(number),
                };
                let rule = accept(to, ports);
                cluster.upsert_policy(policy(&format!("out-{number}"), [0], None, Some(rule)));
            }
        }
        cluster
    }

    fn peers(&self, policy: u32) -> Vec<Peer> {
        if !self.is_last(policy) {
            return vec![with(format!("kind-{}", self.kind(policy)))];
        }
        if self.shape != Shape::Blocks {
            return vec![with(local(0))];
        }
        // Every other one of those around the sender's, so that they do not merge.
        let length = if self.family == Family::V4 { 28 } else { 124 };
        let blocks = (0..100).map(|number| self.address(0xe0_0000 + number * 32));
        blocks
            .filter_map(|it| ipnet::IpNet::new(it, length).ok())
            .map(|block| Peer::Block(Block::new(block, [])))
            .collect()
    }

    fn port_matches(&self, policy: u32) -> Vec<PortMatch> {
        let ranges = self.ports(policy).into_iter();
        ranges
            .filter_map(|[first, last]| PortRange::new(first, last))
            .map(|range| PortMatch::Range(Protocol::Tcp, range))
            .collect()
    }

    fn is_last(&self, policy: u32) -> bool {
        policy + 1 == self.policies
    }

    fn peer(&self, number: u32) -> IpAddr {
        self.address(0x41_0000 + number)
    }

    fn address(&self, number: u32) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::from_bits(0x0a00_0000 + number).into(),
            Family::V6 => Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(number)).into(),
        }
    }
}

fn local(number: u32) -> String {
    format!("local-{number}")
}

fn accept(peers: Vec<Peer>, ports: Vec<PortMatch>) -> Rule {
    let (peers, ports) = (Peers::AnyOf(peers), Ports::AnyOf(ports));
    Rule { name: None, action: Action::Accept, peers, ports }
}

fn policy(
    called: &str,
    pods: impl IntoIterator<Item = u32>,
    ingress: Option<Rule>,
    egress: Option<Rule>,
) -> Policy {
    let kind = PolicyKind::NetworkPolicy;
    Policy {
        key: PolicyKey { kind, namespace: name("x"), name: name(called) },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(selector(pods.into_iter().map(local))),
        ingress: ingress.map(|it| vec![it]),
        egress: egress.map(|it| vec![it]),
    }
}

fn with(app: String) -> Peer {
    Peer::Pods(selector([app]))
}

fn selector(apps: impl IntoIterator<Item = String>) -> PodSelector {
    let apps: Vec<String> = apps.into_iter().collect();
    let pods = Selector::new([Requirement::is_in("app", apps.iter().map(String::as_str))]);
    PodSelector { namespaces: NamespaceScope::Named(name("x")), pods }
}

#[cfg(test)]
mod tests {
    use netpol_core::model::{Flow, Traffic};

    use super::*;

    /// Every shape allows what is sent, and denies another port and another source.
    #[test]
    fn the_last_policy_allows_the_sender() {
        use Shape::{Blocks, BothDirections, ManyPorts, Plain, WideRanges};
        for family in Family::ALL {
            for shape in [Plain, BothDirections, Blocks, WideRanges, ManyPorts] {
                let scene = Scene { family, policies: 30, shape };
                let program = scene.program();
                let [from, to] = [scene.sender(), scene.receiver()];
                let allows =
                    |port| program.decide(&Flow::new(from, to, Traffic::tcp(port))).is_allowed();
                assert!(allows(PORT), "{scene:?}");
                assert!(!allows(CLOSED_PORT), "{scene:?}");
                let stranger = Flow::new(scene.address(0xff_ffff), to, Traffic::tcp(PORT));
                assert!(!program.decide(&stranger).is_allowed(), "{scene:?}");
            }
        }
    }

    /// How many ports there are does not depend on how many policies there are, from twenty on.
    #[test]
    fn ports_are_the_same_for_any_number_of_policies() {
        let ports = |policies| {
            let scene = Scene { family: Family::V4, policies, shape: Shape::Plain };
            (0..policies).flat_map(|it| scene.ports(it)).collect::<std::collections::BTreeSet<_>>()
        };
        assert!(ports(100).len() == 23 && ports(100) == ports(1000), "{:?}", ports(100));
        assert!((12..23).contains(&ports(10).len()), "{:?}", ports(10));
    }
}
