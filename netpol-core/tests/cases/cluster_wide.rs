//! Section 2 of the specification: the cluster-wide kinds.

use netpol_core::reference::Judgement::{Allow, Deny, NotJudged};

use super::Case;
use super::scene::{
    ALL, EVERYONE, accept, admin, anp, any, banp, baseline, block, cluster, deny, domain,
    every_pod, named_any, nodes, np, own, pass, pod, pods, port, ports, rule, unknown_peer,
    unknown_port,
};

pub(super) fn cases() -> Vec<Case> {
    [
        tiers(),
        order(),
        actions(),
        subjects(),
        peers(),
        domains(),
        protocols(),
        names(),
        rules_that_name_peers_again(),
        itself_and_nodes(),
        itself_behind_a_service(),
        not_understood(),
        partly_understood_subjects(),
        older_kinds(),
    ]
    .concat()
}

fn tiers() -> Vec<Case> {
    let from_y = || any([pods("team=y", "")]);
    cluster()
        .policy(baseline("b", 0, "team=x").ingress([deny(from_y(), ALL)]))
        .expect("C-TIER-1, C-ACT-3", "y/a > x/a 80/tcp", Allow, Deny)
        .expect("C-TIER-4", "x/b > x/a 80/tcp", Allow, Allow)
        .expect("C-TIER-4", "192.0.2.1 > x/a 80/tcp", NotJudged, Allow)
        .policy(np("x/p", "app=a").ingress([accept(from_y(), ALL)]))
        .expect("C-TIER-1, C-TIER-2", "y/a > x/a 80/tcp", Allow, Allow)
        .expect("C-TIER-2", "x/b > x/a 80/tcp", Allow, Deny)
        .expect("C-TIER-2", "y/a > x/b 80/tcp", Allow, Deny)
        .policy(admin("d", 0, "team=x").ingress([deny(from_y(), ALL)]))
        .expect("C-TIER-1", "y/a > x/a 80/tcp", Allow, Deny)
        .expect("C-TIER-2", "x/b > x/a 80/tcp", Allow, Deny)
        .policy(admin("d", 0, "team=x").ingress([accept(every_pod(), ALL)]))
        .expect("C-TIER-1, C-ACT-1", "x/b > x/a 80/tcp", Allow, Allow)
        .without_policies()
        // Isolated for ingress alone, egress is still the Baseline tier's.
        .policy(
            baseline("b", 0, "").ingress([deny(every_pod(), ALL)]).egress([deny(every_pod(), ALL)]),
        )
        .policy(np("x/p", "app=a").ingress([accept(EVERYONE, ALL)]))
        .expect("C-TIER-3", "x/a > x/b 80/tcp", Deny, Deny)
        .expect("C-TIER-3", "x/b > x/a 80/tcp", Deny, Allow)
        .policy(np("x/p", "app=a").egress([accept(EVERYONE, ALL)]))
        .expect("C-TIER-3", "x/a > x/b 80/tcp", Allow, Deny)
        .expect("C-TIER-3", "x/b > x/a 80/tcp", Deny, Deny)
        .without_policies()
        .policy(admin("a", 0, "").ingress([accept(any([pods("team=none", "")]), ALL)]))
        .expect("C-TIER-4", "x/b > x/a 80/tcp", Allow, Allow)
        .cases()
}

fn order() -> Vec<Case> {
    let all = every_pod;
    cluster()
        .policy(admin("a", 1, "").ingress([deny(all(), ALL)]))
        .policy(admin("b", 0, "").ingress([accept(all(), ALL)]))
        .expect("C-PRIO-1", "x/b > x/a 80/tcp", Allow, Allow)
        .policy(admin("b", 2, "").ingress([accept(all(), ALL)]))
        .expect("C-PRIO-1", "x/b > x/a 80/tcp", Allow, Deny)
        .policy(admin("a", 1000, "").ingress([deny(all(), ALL)]))
        .policy(admin("b", 999, "").ingress([accept(all(), ALL)]))
        .expect("C-PRIO-1", "x/b > x/a 80/tcp", Allow, Allow)
        .policy(admin("a", 0, "").ingress([deny(all(), ALL)]))
        .policy(admin("b", 0, "").ingress([accept(all(), ALL)]))
        .expect("C-PRIO-3", "x/b > x/a 80/tcp", Allow, Deny)
        .without_policies()
        .policy(
            admin("a", 0, "").ingress([accept(all(), ports([port("80/tcp")])), deny(all(), ALL)]),
        )
        .expect("C-PRIO-2", "x/b > x/a 80/tcp", Allow, Allow)
        .expect("C-PRIO-2", "x/b > x/a 81/tcp", Allow, Deny)
        .policy(
            admin("a", 0, "").ingress([deny(all(), ALL), accept(all(), ports([port("80/tcp")]))]),
        )
        .expect("C-PRIO-2", "x/b > x/a 80/tcp", Allow, Deny)
        // The lists of the two directions are separate.
        .policy(admin("a", 0, "").ingress([deny(all(), ALL)]).egress([accept(all(), ALL)]))
        .expect("C-PRIO-2, C-ACT-2", "x/b > x/a 80/tcp", Allow, Deny)
        .without_policies()
        .policy(admin("a", 0, "").ingress([accept(any([pods("team=y", "")]), ALL)]))
        .policy(admin("b", 1, "").ingress([deny(any([pods("", "app=b")]), ALL)]))
        .expect("C-PRIO-4", "y/b > x/a 80/tcp", Allow, Allow)
        .expect("C-PRIO-4", "x/b > x/a 80/tcp", Allow, Deny)
        .expect("C-PRIO-4", "x/a > x/b 80/tcp", Allow, Allow)
        .policy(baseline("c", 0, "").ingress([deny(any([pods("", "app=a")]), ALL)]))
        .expect("C-PRIO-4", "x/a > x/b 80/tcp", Allow, Deny)
        .without_policies()
        // Of three rules the second one is never reached, so that the third follows the first.
        .policy(np("x/deny", "").ingress([]))
        .policy(
            admin("a", 0, "").ingress([accept(any([pods("", "app=b")]), ports([port("7/tcp")]))]),
        )
        .policy(admin("b", 1, "").ingress([
            accept(any([pods("", "app=a")]), ALL),
            deny(any([pods("", "app=a")]), ALL),
            accept(any([pods("", "app=b")]), ALL),
        ]))
        .expect("C-PRIO-2", "y/a > x/a 80/tcp", Allow, Allow)
        .expect("C-PRIO-2", "y/b > x/a 80/tcp", Allow, Allow)
        .expect("C-PRIO-2", "x/b > x/a 80/tcp", Allow, Allow)
        .expect("C-PRIO-2", "192.0.2.1 > x/a 80/tcp", NotJudged, Deny)
        .policy(admin("a", 0, "").ingress([accept(
            any([pods("team=x", "app=b"), pods("team=x", "app=c")]),
            ports([port("7/tcp")]),
        )]))
        .policy(admin("b", 1, "").ingress([
            accept(any([pods("", "app=a")]), ALL),
            deny(any([pods("", "app=a")]), ALL),
            accept(any([pods("team=x", "app=c"), pods("team=x", "app=b")]), ALL),
        ]))
        .expect("C-PRIO-2", "x/b > x/a 80/tcp", Allow, Allow)
        .expect("C-PRIO-2", "y/a > x/a 80/tcp", Allow, Allow)
        .expect("C-PRIO-2", "y/b > x/a 80/tcp", Allow, Deny)
        .cases()
}

fn actions() -> Vec<Case> {
    let all = every_pod;
    let np_deny = || np("x/deny", "").ingress([]).egress([]);
    cluster()
        .policy(np_deny())
        .policy(admin("a", 0, "team=x").egress([accept(all(), ALL)]))
        .expect("C-ACT-1, C-ACT-2", "x/a > x/b 80/tcp", Allow, Deny)
        .policy(admin("a", 0, "team=x").ingress([accept(all(), ALL)]))
        .expect("C-ACT-1, C-ACT-2", "x/a > x/b 80/tcp", Deny, Allow)
        .without_policies()
        .policy(np("x/allow", "").ingress([accept(EVERYONE, ALL)]))
        .policy(admin("a", 0, "team=x").ingress([deny(all(), ALL)]))
        .expect("C-ACT-3", "x/a > x/b 80/tcp", Allow, Deny)
        .policy(admin("a", 0, "team=x").ingress([pass(all(), ALL), deny(all(), ALL)]))
        .policy(admin("b", 1, "team=x").ingress([deny(all(), ALL)]))
        .expect("C-ACT-4", "x/a > x/b 80/tcp", Allow, Allow)
        .policy(np("x/allow", "").ingress([]))
        .expect("C-ACT-4", "x/a > x/b 80/tcp", Allow, Deny)
        .without_policies()
        .policy(admin("a", 0, "team=x").ingress([pass(all(), ALL)]))
        .policy(admin("b", 1, "team=x").ingress([accept(all(), ALL)]))
        .policy(baseline("c", 1, "team=x").ingress([deny(all(), ALL)]))
        .expect("C-ACT-4", "x/a > x/b 80/tcp", Allow, Deny)
        .policy(baseline("b", 0, "team=x").ingress([pass(all(), ALL), deny(all(), ALL)]))
        .expect("C-ACT-4", "x/a > x/b 80/tcp", Allow, Allow)
        .without_policies()
        .policy(admin("a", 0, "").ingress([]).egress([deny(all(), ALL)]))
        .expect("C-ACT-5", "x/a > x/b 80/tcp", Deny, Allow)
        .policy(baseline("b", 0, "").ingress([]))
        .expect("C-ACT-5, C-TIER-4", "192.0.2.1 > x/b 80/tcp", NotJudged, Allow)
        .cases()
}

fn subjects() -> Vec<Case> {
    let to_all = || [deny(any([block("0.0.0.0/0", [])]), ALL)];
    cluster()
        .namespace("kube-system", "")
        .pod(pod("kube-system/dns", "", "10.0.3.1"))
        .policy(admin("a", 0, "").egress(to_all()))
        .expect("C-SUBJ-2", "x/a > 192.0.2.1 80/tcp", Deny, NotJudged)
        .expect("C-SUBJ-2", "kube-system/dns > 192.0.2.1 80/tcp", Deny, NotJudged)
        .expect("C-SUBJ-1", "10.1.0.1 > 192.0.2.1 80/tcp", NotJudged, NotJudged)
        .expect("C-SUBJ-1", "name:x/host > 192.0.2.1 80/tcp", NotJudged, NotJudged)
        .policy(admin("a", 0, "team=x").of_pods("app=a").egress(to_all()))
        .expect("C-SUBJ-3", "x/a > 192.0.2.1 80/tcp", Deny, NotJudged)
        .expect("C-SUBJ-3", "x/b > 192.0.2.1 80/tcp", Allow, NotJudged)
        .expect("C-SUBJ-3", "y/a > 192.0.2.1 80/tcp", Allow, NotJudged)
        .policy(admin("a", 0, "").of_pods("app=a").egress(to_all()))
        .expect("C-SUBJ-3", "y/a > 192.0.2.1 80/tcp", Deny, NotJudged)
        .cases()
}

fn peers() -> Vec<Case> {
    let to = |peers| admin("a", 0, "team=x").egress([deny(peers, ALL)]);
    cluster()
        .policy(admin("a", 0, "team=x").ingress([deny(every_pod(), ALL)]))
        .expect("C-PEER-1", "y/a > x/a 80/tcp", Allow, Deny)
        .expect("C-PEER-1", "192.0.2.1 > x/a 80/tcp", NotJudged, Allow)
        .expect("C-PEER-1", "10.1.0.2 > x/a 80/tcp", NotJudged, Allow)
        .policy(to(every_pod()))
        .expect("C-PEER-1", "x/a > y/a 80/tcp", Deny, Allow)
        .expect("C-PEER-1", "x/a > 10.1.0.1 80/tcp", Allow, NotJudged)
        .expect("C-PEER-1", "x/a > 192.0.2.1 80/tcp", Allow, NotJudged)
        .policy(to(any([block("10.0.0.0/8", [])])))
        .expect("C-PEER-2", "x/a > y/a 80/tcp", Deny, Allow)
        .expect("C-PEER-2", "x/a > y/a icmp", Deny, Allow)
        .expect("C-PEER-2", "x/a > 10.1.0.1 80/tcp", Deny, NotJudged)
        .expect("C-PEER-2", "x/a > 11.0.0.0 80/tcp", Allow, NotJudged)
        .expect("C-PEER-2", "x/a@6 > y/a@6 80/tcp", Allow, Allow)
        .policy(to(any([block("192.0.2.77/24", [])])))
        .expect("C-PEER-3", "x/a > 192.0.2.1 80/tcp", Deny, NotJudged)
        .policy(to(any([nodes("zone=a")])))
        .expect("C-PEER-4", "x/a > 10.1.0.1 80/tcp", Deny, NotJudged)
        .expect("C-PEER-4", "x/a@6 > fd01::1 80/tcp", Deny, NotJudged)
        .expect("C-PEER-4", "x/a > 10.1.0.2 80/tcp", Allow, NotJudged)
        .expect("C-PEER-4", "x/a > name:x/host 80/tcp", Deny, NotJudged)
        .expect("C-PEER-4", "x/a > y/a 80/tcp", Allow, Allow)
        .policy(to(any([nodes("")])))
        .expect("C-PEER-4", "x/a > 10.1.0.2 80/tcp", Deny, NotJudged)
        .expect("C-PEER-4", "x/a > 192.0.2.1 80/tcp", Allow, NotJudged)
        .policy(to(any([pods("team=y", "app=b"), block("192.0.2.0/24", [])])))
        .expect("C-PEER-6", "x/a > y/b 80/tcp", Deny, Allow)
        .expect("C-PEER-6", "x/a > 192.0.2.1 80/tcp", Deny, NotJudged)
        .expect("C-PEER-6", "x/a > y/a 80/tcp", Allow, Allow)
        .policy(to(any([])))
        .expect("C-PEER-6", "x/a > y/a 80/tcp", Allow, Allow)
        .cases()
}

fn domains() -> Vec<Case> {
    let deny_all = || deny(any([block("0.0.0.0/0", []), block("::/0", [])]), ALL);
    let to = |name| admin("a", 0, "team=x").egress([accept(any([domain(name)]), ALL), deny_all()]);
    cluster()
        .domain("example.org", "192.0.2.1")
        .domain("www.Example.ORG.", "192.0.2.2")
        .domain("a.b.example.org", "2001:db8::1")
        .domain("badexample.org", "192.0.2.4")
        .policy(to("example.org"))
        .expect("C-PEER-5", "x/a > 192.0.2.1 80/tcp", Allow, NotJudged)
        .expect("C-PEER-5", "x/a > 192.0.2.2 80/tcp", Deny, NotJudged)
        .expect("C-PEER-5", "x/a > 192.0.2.3 80/tcp", Deny, NotJudged)
        .policy(to("*.example.org"))
        .expect("C-PEER-5", "x/a > 192.0.2.1 80/tcp", Deny, NotJudged)
        .expect("C-PEER-5", "x/a > 192.0.2.2 80/tcp", Allow, NotJudged)
        .expect("C-PEER-5", "x/a@6 > 2001:db8::1 80/tcp", Allow, NotJudged)
        .expect("C-PEER-5", "x/a > 192.0.2.4 80/tcp", Deny, NotJudged)
        .policy(to("WWW.example.org."))
        .expect("C-PEER-5", "x/a > 192.0.2.2 80/tcp", Allow, NotJudged)
        .cases()
}

fn protocols() -> Vec<Case> {
    let on = |ports| admin("a", 0, "team=x").ingress([deny(every_pod(), ports)]);
    cluster()
        .policy(on(ALL))
        .expect("C-PROTO-1", "y/a > x/a icmp", Allow, Deny)
        .expect("C-PROTO-1", "y/a > x/a 1/sctp", Allow, Deny)
        .policy(on(ports([port("80/tcp"), port("53/udp")])))
        .expect("C-PROTO-1", "y/a > x/a icmp", Allow, Allow)
        .expect("C-PROTO-2", "y/a > x/a 80/tcp", Allow, Deny)
        .expect("C-PROTO-2", "y/a > x/a 53/udp", Allow, Deny)
        .expect("C-PROTO-2", "y/a > x/a 80/udp", Allow, Allow)
        .expect("C-PROTO-2", "y/a > x/a 53/tcp", Allow, Allow)
        .policy(on(ports([port("80-81/tcp")])))
        .expect("C-PROTO-3", "y/a > x/a 79/tcp", Allow, Allow)
        .expect("C-PROTO-3", "y/a > x/a 80/tcp", Allow, Deny)
        .expect("C-PROTO-3", "y/a > x/a 81/tcp", Allow, Deny)
        .expect("C-PROTO-3", "y/a > x/a 82/tcp", Allow, Allow)
        .policy(on(ports([port("1-65535/tcp")])))
        .expect("C-PROTO-4", "y/a > x/a 1/tcp", Allow, Deny)
        .expect("C-PROTO-4", "y/a > x/a 65535/tcp", Allow, Deny)
        .policy(on(ports([port("tcp")])))
        .expect("C-PROTO-4", "y/a > x/a 65535/tcp", Allow, Deny)
        .expect("C-PROTO-4", "y/a > x/a 65535/udp", Allow, Allow)
        .cases()
}

fn names() -> Vec<Case> {
    let b = pod("y/b", "app=b", "10.0.1.2").declares("web", "80/tcp").declares("web", "443/udp");
    let to = |peers, name| admin("a", 0, "team=x").egress([deny(peers, ports([named_any(name)]))]);
    let to_web = |peers| to(peers, "web");
    cluster()
        .pod(b)
        .policy(to_web(every_pod()))
        .expect("C-PROTO-5", "x/a > y/b 80/tcp", Deny, Allow)
        .expect("C-PROTO-5", "x/a > y/b 443/udp", Deny, Allow)
        .expect("C-PROTO-5", "x/a > y/b 80/udp", Allow, Allow)
        .expect("C-PROTO-5", "x/a > y/b 443/tcp", Allow, Allow)
        .expect("C-PROTO-5", "x/a > y/a 80/tcp", Allow, Allow)
        .policy(to_web(any([block("0.0.0.0/0", []), nodes(""), domain("*.org")])))
        .expect("C-PROTO-6", "x/a > y/b 80/tcp", Allow, Allow)
        .expect("C-PROTO-6", "x/a > 10.1.0.1 80/tcp", Allow, NotJudged)
        // Of the same rule, the peer that names pods does count.
        .policy(to_web(any([block("0.0.0.0/0", []), pods("team=y", "")])))
        .expect("C-PROTO-6, C-PROTO-5", "x/a > y/b 80/tcp", Deny, Allow)
        .policy(to(every_pod(), ""))
        .expect("C-PROTO-7", "x/a > y/b 80/tcp", Allow, Allow)
        .policy(admin("a", 0, "team=y").ingress([deny(every_pod(), ports([named_any("web")]))]))
        .expect("C-PROTO-5", "x/a > y/b 443/udp", Allow, Deny)
        .expect("C-PROTO-5", "x/a > y/b 443/tcp", Allow, Allow)
        .cases()
}

/// Successive rules of one action, of which the later one names whom an earlier policy has named.
fn rules_that_name_peers_again() -> Vec<Case> {
    let whom = |app: &str| any([pods("", app)]);
    cluster()
        .policy(admin("a", 0, "team=x").ingress([accept(whom("app=a"), ports([port("81/tcp")]))]))
        .policy(
            admin("b", 1, "team=x").ingress([deny(whom("app=b"), ALL), deny(whom("app=a"), ALL)]),
        )
        .expect("C-PRIO-2, C-ACT-3", "y/b > x/a 80/tcp", Allow, Deny)
        .expect("C-PRIO-2, C-ACT-3", "y/a > x/a 80/tcp", Allow, Deny)
        .expect("C-PRIO-1, C-ACT-1", "y/a > x/a 81/tcp", Allow, Allow)
        .expect("C-PRIO-1, C-ACT-3", "y/b > x/a 81/tcp", Allow, Deny)
        .cases()
}

fn itself_and_nodes() -> Vec<Case> {
    cluster()
        .policy(
            admin("a", 0, "")
                .ingress([deny(every_pod(), ALL)])
                .egress([deny(any([block("0.0.0.0/0", [])]), ALL)]),
        )
        .expect("C-HAIR-1", "x/a > x/a 80/tcp", NotJudged, NotJudged)
        .expect("C-HAIR-2", "x/a > x/a 80/tcp via a service", Deny, Deny)
        .expect("C-HAIR-2", "x/a > x/a icmp via a service", Deny, Deny)
        .expect("C-HAIR-2", "x/a@6 > x/a@6 80/tcp via a service", Allow, Deny)
        .expect("C-HAIR-2", "name:x/a > name:x/a 80/tcp via a service", Allow, Deny)
        .expect("C-HAIR-2", "x/a > x/b 80/tcp via a service", Deny, Deny)
        .expect("C-NODE-1", "10.1.0.1 > x/a 80/tcp", NotJudged, Allow)
        .policy(np("x/deny", "").ingress([]))
        .expect("C-NODE-1, NP-NODE-1", "10.1.0.1 > x/a 80/tcp", NotJudged, Allow)
        .expect("C-NODE-1, NP-NODE-2", "10.1.0.2 > x/a 80/tcp", NotJudged, Deny)
        .cases()
}

/// Between the tiers that judge it, NetworkPolicies do not cut a pod off from itself.
fn itself_behind_a_service() -> Vec<Case> {
    let of_a = |name| admin(name, 0, "").of_pods("app=a");
    cluster()
        .policy(np("x/deny", "").ingress([]).egress([]))
        .policy(of_a("a").ingress([
            pass(every_pod(), ports([port("1-9/tcp")])),
            accept(any([pods("", "app=b")]), ALL),
            deny(every_pod(), ports([port("5-20/tcp")])),
        ]))
        .policy(baseline("b", 0, "").ingress([deny(every_pod(), ALL)]))
        .expect("C-HAIR-2, NP-SELF-1", "x/a > x/a 80/tcp via a service", Allow, Allow)
        .expect("C-HAIR-2, NP-SELF-1", "x/a > x/a icmp via a service", Allow, Allow)
        .expect("C-HAIR-2, C-ACT-4", "x/a > x/a 5/tcp via a service", Allow, Allow)
        .expect("C-HAIR-2, C-ACT-3", "x/a > x/a 20/tcp via a service", Allow, Deny)
        .expect("C-HAIR-2", "x/b > x/a 5/tcp via a service", Deny, Deny)
        .expect("C-HAIR-2, C-ACT-1", "x/b > x/a 20/tcp via a service", Deny, Allow)
        // Not isolated: the Baseline tier is asked.
        .expect("C-HAIR-2, C-TIER-1", "y/a > y/a 80/tcp via a service", Allow, Deny)
        .expect("C-HAIR-1", "y/a > y/a 80/tcp", NotJudged, NotJudged)
        .cases()
}

fn not_understood() -> Vec<Case> {
    use netpol_core::model::Action::{Accept, Deny as Forbid, Pass};
    // One good peer and one that is not understood; then a rule that would decide the other way.
    let spoilt = |action| rule(action, any([pods("", "app=b"), unknown_peer()]), ALL);
    let ingress = |rules| admin("a", 0, "team=x").ingress(rules);
    let spoilt_port = |action| rule(action, every_pod(), ports([port("80/tcp"), unknown_port()]));
    cluster()
        .policy(ingress([spoilt(Accept), deny(every_pod(), ALL)]))
        .expect("C-FAIL-1", "y/b > x/a 80/tcp", Allow, Deny)
        .policy(ingress([spoilt(Forbid), accept(every_pod(), ALL)]))
        .expect("C-FAIL-1", "y/b > x/a 80/tcp", Allow, Deny)
        .expect("C-FAIL-1", "y/a > x/a 80/tcp", Allow, Deny)
        .expect("C-FAIL-1", "192.0.2.1 > x/a icmp", NotJudged, Deny)
        .expect("C-FAIL-1", "10.1.0.1 > x/a 80/tcp", NotJudged, Deny)
        .expect("C-FAIL-1", "x/a > 192.0.2.1 80/tcp", Allow, NotJudged)
        .expect("C-FAIL-1", "x/a > x/a 80/tcp", NotJudged, NotJudged)
        .expect("C-FAIL-1", "192.0.2.1 > y/a 80/tcp", NotJudged, Allow)
        .policy(ingress([spoilt(Pass), accept(every_pod(), ALL)]))
        .expect("C-FAIL-1", "y/a > x/a 80/tcp", Allow, Deny)
        // At its place in the order, not before it.
        .policy(ingress([accept(any([pods("", "app=a")]), ALL), spoilt(Pass)]))
        .expect("C-FAIL-1", "y/a > x/a 80/tcp", Allow, Allow)
        .expect("C-FAIL-1", "y/b > x/a 80/tcp", Allow, Deny)
        .policy(ingress([spoilt_port(Accept), deny(every_pod(), ALL)]))
        .expect("C-FAIL-2, CH-PROTO-FAIL", "y/b > x/a 80/tcp", Allow, Deny)
        .policy(ingress([spoilt_port(Forbid), accept(every_pod(), ALL)]))
        .expect("C-FAIL-2, CH-PROTO-FAIL", "y/b > x/a 81/tcp", Allow, Deny)
        .expect("C-FAIL-2, CH-PROTO-FAIL", "192.0.2.1 > x/a icmp", NotJudged, Deny)
        .policy(ingress([spoilt_port(Pass), accept(every_pod(), ALL)]))
        .expect("C-FAIL-2, CH-PROTO-FAIL", "y/b > x/a 81/tcp", Allow, Deny)
        .without_policies()
        // In NetworkPolicy there is nothing to deny with: what is not understood allows nothing.
        .policy(np("x/p", "app=a").ingress([accept(any([own("x", ""), unknown_peer()]), ALL)]))
        .expect("C-FAIL-1", "x/b > x/a 80/tcp", Allow, Deny)
        .policy(
            np("x/p", "app=a").ingress([accept(EVERYONE, ports([port("80/tcp"), unknown_port()]))]),
        )
        .expect("C-FAIL-2", "x/b > x/a 80/tcp", Allow, Allow)
        .expect("C-FAIL-2", "x/b > x/a 81/tcp", Allow, Deny)
        .cases()
}

fn partly_understood_subjects() -> Vec<Case> {
    let on_80 = || ports([port("80/tcp")]);
    cluster()
        .policy(admin("a", 0, "team=x").at_most().ingress([accept(every_pod(), ALL)]))
        .policy(baseline("b", 0, "team=x").ingress([deny(every_pod(), ALL)]))
        .expect("C-FAIL-3", "y/a > x/a 80/tcp", Allow, Deny)
        .policy(baseline("b", 0, "team=x").ingress([accept(every_pod(), ALL)]))
        .policy(admin("a", 0, "team=x").at_most().ingress([deny(every_pod(), on_80())]))
        .expect("C-FAIL-3", "y/a > x/a 80/tcp", Allow, Deny)
        .expect("C-FAIL-3", "y/a > x/a 81/tcp", Allow, Allow)
        .policy(admin("a", 0, "team=x").at_most().ingress([pass(every_pod(), on_80())]))
        .expect("C-FAIL-3", "y/a > x/a 80/tcp", Allow, Deny)
        .expect("C-FAIL-3", "y/a > x/a 81/tcp", Allow, Allow)
        .expect("C-FAIL-3", "x/a > y/a 80/tcp", Allow, Allow)
        .without_policies()
        .policy(np("x/p", "app=a").at_most().ingress([accept(EVERYONE, ALL)]))
        .expect("C-FAIL-3", "y/a > x/a 80/tcp", Allow, Deny)
        .expect("C-FAIL-3", "y/a > x/b 80/tcp", Allow, Allow)
        .cases()
}

fn older_kinds() -> Vec<Case> {
    let all = every_pod;
    cluster()
        .policy(banp("team=x").ingress([deny(all(), ALL)]))
        .expect("A-1", "y/a > x/a 80/tcp", Allow, Deny)
        .policy(np("x/p", "app=a").ingress([accept(EVERYONE, ALL)]))
        .expect("A-1, A-3", "y/a > x/a 80/tcp", Allow, Allow)
        .policy(anp("a", 5, "team=x").ingress([deny(all(), ALL)]))
        .expect("A-1, A-3", "y/a > x/a 80/tcp", Allow, Deny)
        .policy(anp("b", 4, "team=x").ingress([pass(all(), ALL)]))
        .expect("A-2, A-3", "y/a > x/a 80/tcp", Allow, Allow)
        .policy(anp("b", 6, "team=x").ingress([accept(all(), ALL)]))
        .expect("A-2", "y/a > x/a 80/tcp", Allow, Deny)
        .without_policies()
        .policy(
            anp("a", 0, "team=x").ingress([deny(all(), ports([port("80-81/tcp"), port("5/udp")]))]),
        )
        .expect("A-5", "y/a > x/a 81/tcp", Allow, Deny)
        .expect("A-5", "y/a > x/a 5/udp", Allow, Deny)
        .expect("A-5", "y/a > x/a 5/tcp", Allow, Allow)
        // A protocol that nobody knows is an entry that is not understood.
        .policy(anp("a", 0, "team=x").ingress([deny(all(), ports([unknown_port()]))]))
        .expect("A-5, C-FAIL-2", "y/a > x/a 80/tcp", Allow, Deny)
        // Of a reversed range nothing is left.
        .policy(anp("a", 0, "team=x").ingress([deny(all(), ports([]))]))
        .expect("A-6", "y/a > x/a 80/tcp", Allow, Allow)
        .policy(anp("a", 0, "team=x").egress([deny(any([block("192.0.2.0/24", [])]), ALL)]))
        .expect("A-8", "x/a > 192.0.2.1 80/tcp", Deny, NotJudged)
        .policy(anp("a", 0, "team=x").egress([deny(any([nodes("zone=b")]), ALL)]))
        .expect("A-8", "x/a > 10.1.0.2 80/tcp", Deny, NotJudged)
        // Where both kinds are there: by priority, then by name, then by kind.
        .without_policies()
        .policy(anp("same", 0, "team=x").ingress([deny(all(), ALL)]))
        .policy(admin("same", 0, "team=x").ingress([accept(all(), ALL)]))
        .expect("A-3, A-10, C-PRIO-3", "y/a > x/a 80/tcp", Allow, Allow)
        .policy(anp("same", 0, "team=x").ingress([accept(all(), ALL)]))
        .policy(admin("same", 1, "team=x").ingress([deny(all(), ALL)]))
        .expect("A-10, C-PRIO-1", "y/a > x/a 80/tcp", Allow, Allow)
        .cases()
}
