//! Section 4 of the specification: the other readings of what the APIs leave open. The chosen ones are the
//! defaults, which the other tables are about.

use netpol_core::model::Protocol::{Tcp, Udp};
use netpol_core::model::{
    BaselineSkip, DuplicatePortNames, HostNetworkPeers, HostNetworkPortNames, HostNetworkSubjects,
    NodeEgress, OtherProtocols, SelfTraffic, Tie, UnknownProtocol,
};
use netpol_core::reference::Judgement::{Allow, Deny, NotJudged};

use super::Case;
use super::scene::{
    ALL, EVERYONE, accept, admin, anp, any, baseline, block, cluster, deny, every_pod, named,
    named_any, nodes, np, own, pass, pod, pods, port, ports, unknown_peer, unknown_port,
};

pub(super) fn cases() -> Vec<Case> {
    [
        self_traffic(),
        node_egress(),
        host_network_peers(),
        host_network_subjects(),
        other_protocols(),
        baseline_skip(),
        tie(),
        duplicate_port_names(),
        host_network_port_names(),
        unknown_protocol(),
    ]
    .concat()
}

fn self_traffic() -> Vec<Case> {
    cluster()
        .policy(np("x/deny", "app=a").ingress([]))
        .policy(
            admin("a", 0, "").ingress([deny(every_pod(), ALL)]).egress([deny(every_pod(), ALL)]),
        )
        .policy(baseline("b", 0, "").egress([deny(every_pod(), ALL)]))
        .expect("CH-SELF, C-HAIR-1", "x/a > x/a 80/tcp", NotJudged, NotJudged)
        .options(|o| o.self_traffic = SelfTraffic::Policed)
        .expect("CH-SELF, C-HAIR-1", "x/a > x/a 80/tcp", Allow, Deny)
        .expect("CH-SELF, C-HAIR-1", "x/a > x/a@6 80/tcp", Allow, Deny)
        .expect("CH-SELF, C-HAIR-1", "x/b > x/b 80/tcp", Allow, Allow)
        .expect("CH-SELF, C-HAIR-2", "x/a > x/a 80/tcp via a service", Deny, Deny)
        .without_policies()
        .policy(np("x/deny", "app=a").ingress([]))
        .expect("CH-SELF, NP-SELF-1", "x/a > x/a 80/tcp via a service", Allow, Deny)
        .policy(np("x/deny", "app=a").ingress([accept(any([own("x", "app=a")]), ALL)]))
        .expect("CH-SELF, NP-PEER-7", "x/a > x/a 80/tcp", Allow, Allow)
        .cases()
}

fn node_egress() -> Vec<Case> {
    cluster()
        .policy(np("x/deny", "").egress([]))
        .expect("CH-NODE-EGRESS", "x/a > 10.1.0.1 80/tcp", Deny, NotJudged)
        .options(|o| o.node_egress = NodeEgress::Allowed)
        .expect("CH-NODE-EGRESS", "x/a > 10.1.0.1 80/tcp", Allow, NotJudged)
        .expect("CH-NODE-EGRESS", "x/a@6 > fd01::1 53/udp", Allow, NotJudged)
        .expect("CH-NODE-EGRESS", "x/a > name:x/host icmp", Allow, NotJudged)
        .expect("CH-NODE-EGRESS, NP-NODE-2", "x/a > 10.1.0.2 80/tcp", Deny, NotJudged)
        .expect("CH-NODE-EGRESS", "x/a > y/a 80/tcp", Deny, Allow)
        // Only inside the NetworkPolicy tier.
        .policy(admin("a", 0, "").egress([deny(any([block("10.1.0.1/32", [])]), ALL)]))
        .expect("CH-NODE-EGRESS", "x/a > 10.1.0.1 80/tcp", Deny, NotJudged)
        // Whom the Admin tier passes comes to that tier, also where it denies or accepts everyone else.
        .policy(admin("a", 0, "").egress([
            pass(any([nodes("zone=a")]), ports([port("80/tcp")])),
            deny(any([unknown_peer()]), ALL),
        ]))
        .expect("CH-NODE-EGRESS, C-FAIL-1", "x/a > 10.1.0.1 80/tcp", Allow, NotJudged)
        .expect("CH-NODE-EGRESS, C-FAIL-1", "x/a > 10.1.0.1 81/tcp", Deny, NotJudged)
        .expect("CH-NODE-EGRESS, C-FAIL-1", "x/a > 10.1.0.2 80/tcp", Deny, NotJudged)
        .expect("CH-NODE-EGRESS, C-FAIL-1", "x/b > 10.1.0.1 80/tcp", Deny, NotJudged)
        .policy(admin("a", 0, "").egress([
            deny(any([nodes("zone=a")]), ALL),
            pass(any([nodes("zone=b")]), ALL),
            accept(EVERYONE, ALL),
        ]))
        .expect("CH-NODE-EGRESS, C-ACT-3", "x/a > 10.1.0.1 80/tcp", Deny, NotJudged)
        .expect("CH-NODE-EGRESS, C-ACT-4", "x/b > 10.1.0.2 80/tcp", Allow, NotJudged)
        .expect("CH-NODE-EGRESS, C-ACT-4", "x/a > 10.1.0.2 80/tcp", Deny, NotJudged)
        .expect("CH-NODE-EGRESS, C-ACT-1", "x/a > 192.0.2.1 80/tcp", Allow, NotJudged)
        .cases()
}

fn host_network_peers() -> Vec<Case> {
    let from_host = || np("x/p", "").ingress([accept(any([own("x", "app=host")]), ALL)]);
    cluster()
        .policy(from_host())
        .expect("CH-HOST-PEER", "10.1.0.1 > x/b 80/tcp", NotJudged, Deny)
        .options(|o| o.host_network_peers = HostNetworkPeers::ByLabel)
        .expect("CH-HOST-PEER", "10.1.0.1 > x/b 80/tcp", NotJudged, Allow)
        .expect("CH-HOST-PEER", "fd01::1 > x/b@6 80/tcp", NotJudged, Allow)
        .expect("CH-HOST-PEER", "name:x/host > x/b 80/tcp", NotJudged, Allow)
        .expect("CH-HOST-PEER", "10.1.0.2 > x/a 80/tcp", NotJudged, Deny)
        .policy(np("x/p", "").ingress([accept(any([own("x", "app=other")]), ALL)]))
        .expect("CH-HOST-PEER", "10.1.0.1 > x/b 80/tcp", NotJudged, Deny)
        .policy(np("x/p", "").ingress([accept(any([pods("team=x", "app=host")]), ALL)]))
        .expect("CH-HOST-PEER", "10.1.0.1 > x/b 80/tcp", NotJudged, Allow)
        // The cluster-wide kinds know ordinary pods only.
        .without_policies()
        .policy(admin("a", 0, "").ingress([deny(every_pod(), ALL)]))
        .expect("CH-HOST-PEER, C-PEER-1", "10.1.0.1 > x/b 80/tcp", NotJudged, Allow)
        .without_policies()
        .policy(from_host())
        .pod(pod("x/host", "app=host", "").on("one").on_host_network().finished())
        .expect("CH-HOST-PEER, NP-LIFE-1", "10.1.0.1 > x/b 80/tcp", NotJudged, Deny)
        .cases()
}

fn host_network_subjects() -> Vec<Case> {
    cluster()
        .policy(np("x/p", "app=host").ingress([accept(any([own("x", "app=b")]), ALL)]))
        .expect("CH-HOST-SUBJECT", "x/a > 10.1.0.1 80/tcp", Allow, NotJudged)
        .options(|o| o.host_network_subjects = HostNetworkSubjects::Policed)
        .expect("CH-HOST-SUBJECT", "x/a > 10.1.0.1 80/tcp", Allow, Deny)
        .expect("CH-HOST-SUBJECT", "x/b > 10.1.0.1 80/tcp", Allow, Allow)
        .expect("CH-HOST-SUBJECT", "x/b > name:x/host 80/tcp", Allow, Allow)
        .expect("CH-HOST-SUBJECT", "192.0.2.1 > fd01::1 80/tcp", NotJudged, Deny)
        .expect("CH-HOST-SUBJECT", "10.1.0.1 > x/a 80/tcp", Allow, Allow)
        // No host-network pod runs on the other node, so nobody there could be selected.
        .expect("CH-HOST-SUBJECT", "192.0.2.1 > 10.1.0.2 80/tcp", NotJudged, NotJudged)
        .expect("CH-HOST-SUBJECT", "10.1.0.2 > 10.1.0.1 80/tcp", NotJudged, Deny)
        .expect("CH-HOST-SUBJECT, CH-SELF", "10.1.0.1 > 10.1.0.1 80/tcp", NotJudged, NotJudged)
        .expect("CH-HOST-SUBJECT, CH-SELF", "10.1.0.1 > fd01::1 80/tcp", NotJudged, NotJudged)
        .policy(admin("a", 0, "").egress([deny(any([block("0.0.0.0/0", [])]), ALL)]))
        .policy(baseline("b", 0, "").egress([deny(any([block("0.0.0.0/0", [])]), ALL)]))
        .expect("CH-HOST-SUBJECT, C-SUBJ-1", "10.1.0.1 > 192.0.2.1 80/tcp", Allow, NotJudged)
        .without_policies()
        .policy(np("x/p", "app=host").egress([]))
        .expect("CH-HOST-SUBJECT", "10.1.0.1 > 192.0.2.1 80/tcp", Deny, NotJudged)
        .policy(np("x/p", "app=host").ingress([]))
        .options(|o| {
            o.host_network_subjects = HostNetworkSubjects::Policed;
            o.self_traffic = SelfTraffic::Policed;
        })
        .expect("CH-HOST-SUBJECT, CH-SELF", "10.1.0.1 > fd01::1 80/tcp", Allow, Deny)
        .cases()
}

fn other_protocols() -> Vec<Case> {
    let on = |ports| np("x/p", "app=a").ingress([accept(every_pod(), ports)]);
    cluster()
        .policy(on(ports([port("80/tcp")])))
        .options(|o| o.other_protocols = OtherProtocols::Allowed)
        .expect("CH-PROTO-OPEN", "x/b > x/a icmp", Allow, Allow)
        .expect("CH-PROTO-OPEN", "192.0.2.1 > x/a icmp", NotJudged, Allow)
        .expect("CH-PROTO-OPEN", "x/b > x/a 81/tcp", Allow, Deny)
        .policy(on(ALL))
        .options(|o| o.other_protocols = OtherProtocols::Denied)
        .expect("CH-PROTO-CLOSED", "x/b > x/a icmp", Allow, Deny)
        .expect("CH-PROTO-CLOSED", "x/b > x/a 81/tcp", Allow, Allow)
        .expect("CH-PROTO-CLOSED", "x/a > x/b icmp", Allow, Allow)
        .expect("CH-PROTO-CLOSED, NP-NODE-1", "10.1.0.1 > x/a icmp", NotJudged, Allow)
        // The cluster-wide kinds say clearly what they mean.
        .policy(admin("a", 0, "").ingress([accept(every_pod(), ALL)]))
        .expect("CH-PROTO-CLOSED, C-PROTO-1", "x/b > x/a icmp", Allow, Allow)
        .options(|o| o.other_protocols = OtherProtocols::Allowed)
        .policy(admin("a", 0, "").ingress([deny(every_pod(), ALL)]))
        .expect("CH-PROTO-OPEN, C-PROTO-1", "x/b > x/a icmp", Allow, Deny)
        .cases()
}

fn baseline_skip() -> Vec<Case> {
    let all = every_pod;
    let base = || baseline("b", 0, "").ingress([deny(all(), ALL)]).egress([deny(all(), ALL)]);
    cluster()
        .policy(base())
        .policy(np("x/p", "app=a").ingress([]))
        .expect("CH-BASELINE-DIR", "x/a > x/b 80/tcp", Deny, Deny)
        .options(|o| o.baseline_skip = BaselineSkip::AnySelected)
        .expect("CH-BASELINE-DIR", "x/a > x/b 80/tcp", Allow, Deny)
        .expect("CH-BASELINE-DIR", "x/b > x/a 80/tcp", Deny, Deny)
        .policy(np("x/p", "app=a").egress([]))
        .expect("CH-BASELINE-DIR", "x/b > x/a 80/tcp", Deny, Allow)
        .policy(np("x/p", "app=a").at_most().egress([]))
        .expect("CH-BASELINE-DIR, C-FAIL-3", "x/b > x/a 80/tcp", Deny, Allow)
        // One that says nothing on either direction keeps nothing out.
        .policy(np("x/p", "app=a"))
        .expect("CH-BASELINE-DIR", "x/b > x/a 80/tcp", Deny, Deny)
        // The Admin tier is asked all the same.
        .policy(np("x/p", "app=a").egress([]))
        .policy(admin("a", 0, "").ingress([deny(all(), ALL)]))
        .expect("CH-BASELINE-DIR, C-TIER-1", "x/b > x/a 80/tcp", Deny, Deny)
        .policy(admin("a", 0, "").ingress([pass(all(), ALL)]))
        .expect("CH-BASELINE-DIR, C-ACT-4", "x/b > x/a 80/tcp", Deny, Allow)
        .cases()
}

fn tie() -> Vec<Case> {
    let all = every_pod;
    cluster()
        .policy(admin("a", 3, "").ingress([deny(all(), ALL)]))
        .policy(admin("b", 3, "").ingress([accept(all(), ALL)]))
        .expect("CH-TIE, C-PRIO-3", "x/b > x/a 80/tcp", Allow, Deny)
        .options(|o| o.tie = Tie::NameDescending)
        .expect("CH-TIE, C-PRIO-3", "x/b > x/a 80/tcp", Allow, Allow)
        .policy(admin("a", 2, "").ingress([deny(all(), ALL)]))
        .expect("CH-TIE, C-PRIO-1", "x/b > x/a 80/tcp", Allow, Deny)
        .without_policies()
        .policy(anp("same", 0, "").ingress([deny(all(), ALL)]))
        .policy(admin("same", 0, "").ingress([accept(all(), ALL)]))
        .expect("CH-TIE", "x/b > x/a 80/tcp", Allow, Allow)
        .cases()
}

fn duplicate_port_names() -> Vec<Case> {
    let twice =
        || pod("x/a", "app=a", "10.0.0.1").declares("web", "53/udp").declares("web", "80/tcp");
    let on =
        |protocol| np("x/p", "app=a").ingress([accept(EVERYONE, ports([named("web", protocol)]))]);
    cluster()
        .pod(twice().declares("once", "7/tcp").declares("once", "7/tcp"))
        .policy(on(Tcp))
        .expect("CH-DUP-NAME", "x/b > x/a 80/tcp", Allow, Allow)
        .options(|o| o.duplicate_port_names = DuplicatePortNames::First)
        .expect("CH-DUP-NAME", "x/b > x/a 80/tcp", Allow, Deny)
        .policy(on(Udp))
        .expect("CH-DUP-NAME", "x/b > x/a 53/udp", Allow, Allow)
        .options(|o| o.duplicate_port_names = DuplicatePortNames::None)
        .expect("CH-DUP-NAME", "x/b > x/a 53/udp", Allow, Deny)
        .policy(np("x/p", "app=a").ingress([accept(EVERYONE, ports([named("once", Tcp)]))]))
        .expect("CH-DUP-NAME", "x/b > x/a 7/tcp", Allow, Allow)
        .without_policies()
        .policy(admin("a", 0, "").ingress([deny(every_pod(), ports([named_any("web")]))]))
        .expect("CH-DUP-NAME, C-PROTO-5", "x/b > x/a 53/udp", Allow, Allow)
        .options(|o| o.duplicate_port_names = DuplicatePortNames::First)
        .expect("CH-DUP-NAME, C-PROTO-5", "x/b > x/a 53/udp", Allow, Deny)
        .expect("CH-DUP-NAME, C-PROTO-5", "x/b > x/a 80/tcp", Allow, Allow)
        .cases()
}

fn host_network_port_names() -> Vec<Case> {
    let host = pod("x/host", "app=host", "").on("one").on_host_network().declares("web", "80/tcp");
    let other = pod("y/host", "", "").on("one").on_host_network().declares("web", "81/tcp");
    let to_web = np("x/p", "").egress([accept(EVERYONE, ports([named("web", Tcp)]))]);
    let into_web = np("x/q", "app=host").ingress([accept(EVERYONE, ports([named("web", Tcp)]))]);
    cluster()
        .pod(host)
        .pod(other)
        .policy(to_web)
        .expect("CH-NAME-HOST, NP-PORT-13", "x/b > 10.1.0.1 80/tcp", Deny, NotJudged)
        .options(|o| o.host_network_port_names = HostNetworkPortNames::Resolved)
        .expect("CH-NAME-HOST", "x/b > 10.1.0.1 80/tcp", Allow, NotJudged)
        .expect("CH-NAME-HOST", "x/b > 10.1.0.1 81/tcp", Allow, NotJudged)
        .expect("CH-NAME-HOST", "x/b > fd01::1 81/tcp", Allow, NotJudged)
        .expect("CH-NAME-HOST", "x/b > 10.1.0.1 80/udp", Deny, NotJudged)
        .expect("CH-NAME-HOST", "x/b > 10.1.0.2 80/tcp", Deny, NotJudged)
        // Each of them declares the name once, so that it stands for something.
        .options(|o| {
            o.host_network_port_names = HostNetworkPortNames::Resolved;
            o.duplicate_port_names = DuplicatePortNames::None;
        })
        .expect("CH-NAME-HOST, CH-DUP-NAME", "x/b > 10.1.0.1 81/tcp", Allow, NotJudged)
        // That a pod declares the same does not make the node's address one that does.
        .pod(pod("y/b", "app=b", "10.0.1.2").declares("web", "80/tcp"))
        .options(|_| {})
        .expect("CH-NAME-HOST, NP-PORT-13", "x/b > y/b 80/tcp", Allow, Allow)
        .expect("CH-NAME-HOST, NP-PORT-13", "x/b > 10.1.0.1 80/tcp", Deny, NotJudged)
        .without_policies()
        .policy(admin("a", 0, "").egress([deny(every_pod(), ports([named_any("web")]))]))
        .options(|o| o.host_network_port_names = HostNetworkPortNames::Resolved)
        .expect("CH-NAME-HOST, C-PROTO-6", "x/b > y/b 80/tcp", Deny, Allow)
        .expect("CH-NAME-HOST, C-PROTO-6", "x/b > 10.1.0.1 80/tcp", Allow, NotJudged)
        // The reading is one of NetworkPolicy, also where the model is asked for what no manifest can say.
        .policy(admin("a", 0, "").egress([deny(EVERYONE, ports([named_any("web")]))]))
        .options(|o| o.host_network_port_names = HostNetworkPortNames::Resolved)
        .expect("CH-NAME-HOST, C-PROTO-6", "x/b > y/b 80/tcp", Deny, Allow)
        .expect("CH-NAME-HOST, C-PROTO-6", "x/b > 10.1.0.1 80/tcp", Allow, NotJudged)
        .without_policies()
        .policy(into_web)
        .options(|o| o.host_network_subjects = HostNetworkSubjects::Policed)
        .expect("CH-NAME-HOST, CH-HOST-SUBJECT", "x/b > 10.1.0.1 80/tcp", Allow, Deny)
        .options(|o| {
            o.host_network_port_names = HostNetworkPortNames::Resolved;
            o.host_network_subjects = HostNetworkSubjects::Policed;
        })
        .expect("CH-NAME-HOST, CH-HOST-SUBJECT", "x/b > 10.1.0.1 80/tcp", Allow, Allow)
        .expect("CH-NAME-HOST, CH-HOST-SUBJECT", "x/b > 10.1.0.1 82/tcp", Allow, Deny)
        .cases()
}

fn unknown_protocol() -> Vec<Case> {
    let entries = || ports([port("80/tcp"), unknown_port()]);
    let ingress = |rules| admin("a", 0, "").ingress(rules);
    cluster()
        .options(|o| o.unknown_protocol = UnknownProtocol::Ignored)
        .policy(ingress([accept(every_pod(), entries()), deny(every_pod(), ALL)]))
        .expect("CH-PROTO-FAIL", "x/b > x/a 80/tcp", Allow, Allow)
        .expect("CH-PROTO-FAIL", "x/b > x/a 81/tcp", Allow, Deny)
        .policy(ingress([deny(every_pod(), entries()), accept(every_pod(), ALL)]))
        .expect("CH-PROTO-FAIL", "x/b > x/a 80/tcp", Allow, Deny)
        .expect("CH-PROTO-FAIL", "x/b > x/a 81/tcp", Allow, Allow)
        .policy(ingress([deny(every_pod(), ports([unknown_port()])), accept(every_pod(), ALL)]))
        .expect("CH-PROTO-FAIL", "x/b > x/a 80/tcp", Allow, Allow)
        // Unknown peers fail closed all the same.
        .policy(ingress([deny(any([unknown_peer()]), ALL), accept(every_pod(), ALL)]))
        .expect("CH-PROTO-FAIL, C-FAIL-1", "x/b > x/a 80/tcp", Allow, Deny)
        .cases()
}
