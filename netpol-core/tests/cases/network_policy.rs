//! Sections 0 and 1 of the specification: the model, and NetworkPolicy.

use netpol_core::model::Protocol::{Sctp, Tcp, Udp};
use netpol_core::reference::Judgement::{Allow, Deny, NotJudged};

use super::Case;
use super::scene::{
    ALL, EVERYONE, accept, admin, any, block, cluster, deny, every_pod, named, np, own, pod, pods,
    port, ports,
};

pub(super) fn cases() -> Vec<Case> {
    [
        model(),
        isolation(),
        combination(),
        selectors(),
        namespace_selectors(),
        peers(),
        blocks(),
        families(),
        numbers(),
        names(),
        itself_and_nodes(),
        host_network(),
        other_protocols(),
        translation(),
        life(),
        by_name(),
    ]
    .concat()
}

fn model() -> Vec<Case> {
    cluster()
        .expect("M1, M6, NP-ISO-1", "x/a > x/b 80/tcp", Allow, Allow)
        .expect("M6", "x/a > 192.0.2.1 80/tcp", Allow, NotJudged)
        .expect("M6", "192.0.2.1 > x/a 80/tcp", NotJudged, Allow)
        .policy(np("x/deny", "").ingress([]).egress([]))
        .policy(np("y/deny", "").ingress([]).egress([]))
        .expect("M6", "x/a > y/a 80/tcp", Deny, Deny)
        .expect("M6", "x/a > 192.0.2.1 80/tcp", Deny, NotJudged)
        .expect("M6", "192.0.2.1 > x/a 80/tcp", NotJudged, Deny)
        .expect("M6", "192.0.2.1 > 10.1.0.1 80/tcp", NotJudged, NotJudged)
        .policy(np("x/deny", "").egress([accept(EVERYONE, ports([port("80/tcp")]))]))
        // The destination port decides; there is no other one in the question.
        .expect("M1", "x/a > x/b 80/tcp", Allow, Allow)
        .expect("M1", "x/a > x/b 81/tcp", Deny, Allow)
        .cases()
}

fn isolation() -> Vec<Case> {
    cluster()
        .policy(np("x/p", "app=a").ingress([]))
        .expect("NP-ISO-1, NP-ISO-5", "x/b > x/a 80/tcp", Allow, Deny)
        .expect("NP-ISO-1", "x/a > x/b 80/tcp", Allow, Allow)
        .expect("NP-ISO-1", "y/b > y/a 80/tcp", Allow, Allow)
        .expect("NP-ISO-2", "x/a > y/a 80/tcp", Allow, Allow)
        .expect("NP-ISO-8", "x/b > x/a 80/udp", Allow, Deny)
        .expect("NP-ISO-8", "x/b > x/a 80/sctp", Allow, Deny)
        .policy(np("x/p", "app=a").egress([]))
        .expect("NP-ISO-2, NP-ISO-5", "x/a > x/b 80/tcp", Deny, Allow)
        .expect("NP-ISO-2", "x/b > x/a 80/tcp", Allow, Allow)
        .policy(np("x/p", "app=a").ingress([accept(EVERYONE, ALL)]))
        .expect("NP-ISO-5", "x/b > x/a 80/tcp", Allow, Allow)
        .expect("NP-ISO-5", "192.0.2.1 > x/a icmp", NotJudged, Allow)
        .policy(np("x/p", "app=a").ingress([accept(EVERYONE, ports([port("80/sctp")]))]))
        .expect("NP-ISO-8", "x/b > x/a 80/tcp", Allow, Deny)
        .expect("NP-ISO-8", "x/b > x/a 80/udp", Allow, Deny)
        .expect("NP-ISO-8", "x/b > x/a 80/sctp", Allow, Allow)
        // Neither section: the directions of the types have no section in the model, and nothing is isolated.
        .policy(np("x/p", "app=a"))
        .expect("NP-TYPE-4", "x/b > x/a 80/tcp", Allow, Allow)
        .expect("NP-TYPE-4", "x/a > x/b 80/tcp", Allow, Allow)
        .policy(np("x/p", "app=nobody").ingress([]))
        .policy(np("empty/p", "").ingress([]).egress([]))
        .expect("NP-ISO-7", "x/b > x/a 80/tcp", Allow, Allow)
        .cases()
}

fn combination() -> Vec<Case> {
    let from_b_on_80 = || accept(any([own("x", "app=b")]), ports([port("80/tcp")]));
    let from_y_on_81 = || accept(any([pods("team=y", "")]), ports([port("81/tcp")]));
    let asked = |scene: super::scene::Scene, what| {
        scene
            .expect(what, "x/b > x/a 80/tcp", Allow, Allow)
            .expect(what, "y/b > x/a 81/tcp", Allow, Allow)
            .expect(what, "x/b > x/a 81/tcp", Allow, Deny)
            .expect(what, "y/b > x/a 80/tcp", Allow, Deny)
            .cases()
    };
    let two_rules = cluster().policy(np("x/p", "app=a").ingress([from_b_on_80(), from_y_on_81()]));
    let two_policies = cluster()
        .policy(np("x/p", "app=a").ingress([from_b_on_80()]))
        .policy(np("x/q", "").ingress([from_y_on_81()]));
    let third_isolates = cluster()
        .policy(np("x/p", "app=a").ingress([from_b_on_80()]))
        .policy(np("x/q", "").ingress([from_y_on_81()]))
        .policy(np("x/deny", "").ingress([]));
    let one_side = cluster()
        .policy(np("x/deny", "").ingress([]).egress([]))
        .policy(np("x/out", "app=b").egress([accept(EVERYONE, ALL)]))
        .expect("NP-ISO-6", "x/b > x/a 80/tcp", Allow, Deny)
        .policy(np("x/in", "app=b").ingress([accept(EVERYONE, ALL)]))
        .expect("NP-ISO-6", "x/a > x/b 80/tcp", Deny, Allow)
        .cases();
    [
        asked(two_rules, "NP-ISO-3, NP-ISO-4"),
        asked(two_policies, "NP-ISO-3, NP-ISO-4"),
        asked(third_isolates, "NP-ISO-3"),
        one_side,
    ]
    .concat()
}

fn selectors() -> Vec<Case> {
    let table = [
        ("SEL-1", "", "", true),
        ("SEL-1", "", "k=v", true),
        ("SEL-1", "a=1,b=2", "a=1,b=2", true),
        ("SEL-1", "a=1,b=2", "a=1", false),
        ("SEL-1", "a=1,b", "a=1,b=2", true),
        ("SEL-1", "a=1,!b", "a=1,b=2", false),
        ("SEL-2", "k=v", "k=v", true),
        ("SEL-2", "k=v", "k=w", false),
        ("SEL-2", "k=v", "", false),
        ("SEL-2", "k=", "k=", true),
        ("SEL-2", "k=", "", false),
        ("SEL-2", "k=", "k=v", false),
        ("SEL-3", "k in v|w", "k=w", true),
        ("SEL-3", "k in v|w", "k=x", false),
        ("SEL-3", "k in v|w", "", false),
        ("SEL-4", "k notin v|w", "k=v", false),
        ("SEL-4", "k notin v|w", "k=w", false),
        ("SEL-4", "k notin v|w", "k=x", true),
        ("SEL-4", "k notin v|w", "", true),
        ("SEL-4", "k notin v|w", "k=", true),
        ("SEL-5", "k", "k=v", true),
        ("SEL-5", "k", "k=", true),
        ("SEL-5", "k", "", false),
        ("SEL-6", "!k", "", true),
        ("SEL-6", "!k", "other=v", true),
        ("SEL-6", "!k", "k=", false),
        ("SEL-7", "k in v|w,k!=v", "k=w", true),
        ("SEL-7", "k in v|w,k!=v", "k=v", false),
        ("SEL-7", "k,!k", "k=v", false),
        ("SEL-7", "k,!k", "", false),
        ("SEL-7", "k=v,k=w", "k=v", false),
        ("SEL-8", "k=v", "k=V", false),
        ("SEL-8", "k=v", "K=v", false),
        ("SEL-8", "example.org/k=v", "k=v", false),
        ("SEL-8", "example.org/k=v", "example.org/k=v", true),
    ];
    let scenes = table.map(|(cites, selector, labels, matches)| {
        cluster()
            .pod(pod("x/c", labels, "10.0.0.3"))
            .policy(np("x/p", "app=a").ingress([accept(any([own("x", selector)]), ALL)]))
            .expect(cites, "x/c > x/a 80/tcp", Allow, if matches { Allow } else { Deny })
            .without_policies()
            // The same as a subject.
            .policy(np("x/p", selector).egress([]))
            .expect(cites, "x/c > 192.0.2.1 80/tcp", if matches { Deny } else { Allow }, NotJudged)
            .cases()
    });
    scenes.concat()
}

fn namespace_selectors() -> Vec<Case> {
    let from = |namespaces| np("x/p", "app=a").ingress([accept(any([pods(namespaces, "")]), ALL)]);
    cluster()
        .pod(pod("unlisted/c", "team=y", "10.0.2.1"))
        .policy(from("kubernetes.io/metadata.name=y"))
        .expect("SEL-9", "y/b > x/a 80/tcp", Allow, Allow)
        .expect("SEL-9", "x/b > x/a 80/tcp", Allow, Deny)
        .policy(from("kubernetes.io/metadata.name=unlisted"))
        .expect("SEL-9", "unlisted/c > x/a 80/tcp", Allow, Allow)
        // Labels of the pod do not stand in for those of its namespace, nor the other way round.
        .policy(from("team=y"))
        .expect("SEL-10", "y/b > x/a 80/tcp", Allow, Allow)
        .expect("SEL-10", "unlisted/c > x/a 80/tcp", Allow, Deny)
        .policy(from("app=b"))
        .expect("SEL-10", "x/b > x/a 80/tcp", Allow, Deny)
        .policy(np("x/p", "app=a").ingress([accept(any([own("x", "team=x")]), ALL)]))
        .expect("SEL-10", "x/b > x/a 80/tcp", Allow, Deny)
        .cases()
}

fn peers() -> Vec<Case> {
    let from = |peers| np("x/p", "app=a").ingress([accept(peers, ALL)]);
    cluster()
        .policy(from(EVERYONE))
        .expect("NP-PEER-1", "y/b > x/a 80/tcp", Allow, Allow)
        .expect("NP-PEER-1", "10.1.0.2 > x/a 80/tcp", NotJudged, Allow)
        .expect("NP-PEER-1", "192.0.2.1 > x/a 80/tcp", NotJudged, Allow)
        .expect("NP-PEER-1", "2001:db8::1 > x/a@6 80/tcp", NotJudged, Allow)
        .policy(from(any([own("x", "app=b"), pods("team=y", "app=a")])))
        .expect("NP-PEER-2", "x/b > x/a 80/tcp", Allow, Allow)
        .expect("NP-PEER-2", "y/a > x/a 80/tcp", Allow, Allow)
        .expect("NP-PEER-2", "y/b > x/a 80/tcp", Allow, Deny)
        // A list that is there and matches nobody is not a list left out.
        .policy(from(any([])))
        .expect("NP-PEER-1", "x/b > x/a 80/tcp", Allow, Deny)
        .policy(from(any([own("x", "")])))
        .expect("NP-PEER-3", "x/b > x/a 80/tcp", Allow, Allow)
        .expect("NP-PEER-3", "y/b > x/a 80/tcp", Allow, Deny)
        .policy(from(any([pods("team=y", "")])))
        .expect("NP-PEER-4", "y/b > x/a 80/tcp", Allow, Allow)
        .expect("NP-PEER-4", "x/b > x/a 80/tcp", Allow, Deny)
        .policy(from(any([pods("", "")])))
        .expect("NP-PEER-4", "x/b > x/a 80/tcp", Allow, Allow)
        .expect("NP-PEER-4", "y/b > x/a 80/tcp", Allow, Allow)
        .expect("NP-PEER-6", "192.0.2.1 > x/a 80/tcp", NotJudged, Deny)
        .expect("NP-PEER-6, M4", "10.1.0.2 > x/a 80/tcp", NotJudged, Deny)
        .policy(from(any([pods("team=y", "app=b")])))
        .expect("NP-PEER-5", "y/b > x/a 80/tcp", Allow, Allow)
        .expect("NP-PEER-5", "y/a > x/a 80/tcp", Allow, Deny)
        .expect("NP-PEER-5", "x/b > x/a 80/tcp", Allow, Deny)
        .policy(from(any([pods("team=y", ""), own("x", "app=b")])))
        .expect("NP-PEER-5", "y/a > x/a 80/tcp", Allow, Allow)
        .expect("NP-PEER-5", "x/b > x/a 80/tcp", Allow, Allow)
        // Whether the subject is among its own peers makes no difference.
        .policy(from(any([own("x", "app=b")])))
        .expect("NP-PEER-7, NP-SELF-1", "x/a > x/a 80/tcp", NotJudged, NotJudged)
        .policy(from(any([own("x", "app=a")])))
        .expect("NP-PEER-7, NP-SELF-1", "x/a > x/a 80/tcp", NotJudged, NotJudged)
        .cases()
}

fn blocks() -> Vec<Case> {
    let to = |peers| np("x/p", "app=a").egress([accept(peers, ALL)]);
    cluster()
        .policy(to(any([block("192.0.2.0/24", ["192.0.2.64/26", "192.0.2.1/32"])])))
        .expect("NP-IPB-1", "x/a > 192.0.2.0 80/tcp", Allow, NotJudged)
        .expect("NP-IPB-1", "x/a > 192.0.2.255 80/tcp", Allow, NotJudged)
        .expect("NP-IPB-1", "x/a > 192.0.1.255 80/tcp", Deny, NotJudged)
        .expect("NP-IPB-1", "x/a > 192.0.3.0 80/tcp", Deny, NotJudged)
        .expect("NP-IPB-4", "x/a > 192.0.2.63 80/tcp", Allow, NotJudged)
        .expect("NP-IPB-4", "x/a > 192.0.2.64 80/tcp", Deny, NotJudged)
        .expect("NP-IPB-4", "x/a > 192.0.2.127 80/tcp", Deny, NotJudged)
        .expect("NP-IPB-4", "x/a > 192.0.2.128 80/tcp", Allow, NotJudged)
        .expect("NP-IPB-4", "x/a > 192.0.2.1 80/tcp", Deny, NotJudged)
        .policy(to(any([block("192.0.2.0/24", ["192.0.2.0/25", "192.0.2.0/26", "192.0.2.0/25"])])))
        .expect("NP-IPB-4", "x/a > 192.0.2.127 80/tcp", Deny, NotJudged)
        .expect("NP-IPB-4", "x/a > 192.0.2.128 80/tcp", Allow, NotJudged)
        .policy(to(any([block("192.0.2.0/24", ["192.0.2.0/25"]), block("192.0.2.0/26", [])])))
        .expect("NP-IPB-3", "x/a > 192.0.2.1 80/tcp", Allow, NotJudged)
        .expect("NP-IPB-3", "x/a > 192.0.2.64 80/tcp", Deny, NotJudged)
        .policy(to(any([block("10.0.0.0/8", ["10.0.0.2/32"])])))
        .expect("NP-IPB-2", "x/a > y/b 80/tcp", Allow, Allow)
        .expect("NP-IPB-2, NP-IPB-1", "x/a > x/b 80/tcp", Deny, Allow)
        .expect("NP-IPB-8", "x/a > 10.1.0.2 80/tcp", Allow, NotJudged)
        .policy(np("x/q", "").egress([accept(any([own("x", "app=b")]), ALL)]))
        .expect("NP-IPB-3", "x/a > x/b 80/tcp", Allow, Allow)
        .without_policies()
        // Blocks inside of each other, each for a port of its own; and one that begins where another does.
        .policy(np("x/p", "app=a").egress([
            accept(any([block("192.0.2.0/24", [])]), ports([port("1/tcp")])),
            accept(any([block("192.0.2.0/26", ["192.0.2.4/30"])]), ports([port("2/tcp")])),
            accept(any([block("192.0.2.32/28", [])]), ports([port("3/tcp")])),
            accept(any([block("192.0.2.48/28", [])]), ports([port("4/tcp")])),
        ]))
        .expect("NP-IPB-7", "x/a > 192.0.2.33 1/tcp", Allow, NotJudged)
        .expect("NP-IPB-7", "x/a > 192.0.2.33 2/tcp", Allow, NotJudged)
        .expect("NP-IPB-7", "x/a > 192.0.2.33 3/tcp", Allow, NotJudged)
        .expect("NP-IPB-7", "x/a > 192.0.2.33 4/tcp", Deny, NotJudged)
        .expect("NP-IPB-7", "x/a > 192.0.2.49 1/tcp", Allow, NotJudged)
        .expect("NP-IPB-7", "x/a > 192.0.2.49 2/tcp", Allow, NotJudged)
        .expect("NP-IPB-7", "x/a > 192.0.2.49 3/tcp", Deny, NotJudged)
        .expect("NP-IPB-7", "x/a > 192.0.2.49 4/tcp", Allow, NotJudged)
        .expect("NP-IPB-1", "x/a > 192.0.2.5 1/tcp", Allow, NotJudged)
        .expect("NP-IPB-1", "x/a > 192.0.2.5 2/tcp", Deny, NotJudged)
        .expect("NP-IPB-7", "x/a > 192.0.2.64 1/tcp", Allow, NotJudged)
        .expect("NP-IPB-7", "x/a > 192.0.2.64 2/tcp", Deny, NotJudged)
        .without_policies()
        .policy(to(any([block("192.0.2.77/24", ["192.0.2.9/30"])])))
        .expect("NP-IPB-5", "x/a > 192.0.2.1 80/tcp", Allow, NotJudged)
        .expect("NP-IPB-5", "x/a > 192.0.2.8 80/tcp", Deny, NotJudged)
        .expect("NP-IPB-5", "x/a > 192.0.2.11 80/tcp", Deny, NotJudged)
        .expect("NP-IPB-5", "x/a > 192.0.2.12 80/tcp", Allow, NotJudged)
        .policy(to(any([block("0.0.0.0/0", [])])))
        .expect("NP-IPB-7", "x/a > 0.0.0.0 80/tcp", Allow, NotJudged)
        .expect("NP-IPB-7", "x/a > 255.255.255.255 80/tcp", Allow, NotJudged)
        .expect("NP-IPB-6", "x/a@6 > 2001:db8::1 80/tcp", Deny, NotJudged)
        .policy(to(any([block("192.0.2.2/31", []), block("192.0.2.4/32", [])])))
        .expect("NP-IPB-7", "x/a > 192.0.2.1 80/tcp", Deny, NotJudged)
        .expect("NP-IPB-7", "x/a > 192.0.2.2 80/tcp", Allow, NotJudged)
        .expect("NP-IPB-7", "x/a > 192.0.2.3 80/tcp", Allow, NotJudged)
        .expect("NP-IPB-7", "x/a > 192.0.2.4 80/tcp", Allow, NotJudged)
        .expect("NP-IPB-7", "x/a > 192.0.2.5 80/tcp", Deny, NotJudged)
        .policy(to(any([block("10.96.0.1/32", [])])))
        // The service's address is allowed, the endpoint behind it is what counts.
        .expect("NP-IPB-10", "x/a > x/b 80/tcp", Deny, Allow)
        .policy(
            np("x/p", "app=a")
                .egress([accept(any([block("192.0.2.0/24", [])]), ports([port("80/tcp")]))]),
        )
        .expect("NP-IPB-11", "x/a > 192.0.2.1 80/tcp", Allow, NotJudged)
        .expect("NP-IPB-11", "x/a > 192.0.2.1 81/tcp", Deny, NotJudged)
        .expect("NP-IPB-11", "x/a > 192.0.2.1 80/udp", Deny, NotJudged)
        .policy(np("x/p", "app=a").ingress([accept(any([block("10.0.0.2/32", [])]), ALL)]))
        .expect("NP-IPB-2", "x/b > x/a 80/tcp", Allow, Allow)
        .expect("NP-IPB-2", "y/b > x/a 80/tcp", Allow, Deny)
        .cases()
}

fn families() -> Vec<Case> {
    let to = |peer| np("x/p", "app=a").egress([accept(any([peer]), ALL)]);
    cluster()
        .policy(to(block("::/0", [])))
        .expect("NP-IPB-6", "x/a > x/b 80/tcp", Deny, Allow)
        .expect("NP-IPB-6", "x/a@6 > x/b@6 80/tcp", Allow, Allow)
        .policy(to(block("FD00:0:0:0:0:0:0:2/128", [])))
        .expect("NP-IPB-7, NP-IPB-9", "x/a@6 > fd00::2 80/tcp", Allow, Allow)
        .expect("NP-IPB-7", "x/a@6 > fd00::3 80/tcp", Deny, NotJudged)
        .expect("NP-IPB-6, M9", "x/a > x/b 80/tcp", Deny, Allow)
        // A selector stands for all addresses of the pods.
        .policy(to(own("x", "app=b")))
        .expect("M9", "x/a > x/b 80/tcp", Allow, Allow)
        .expect("M9", "x/a@6 > x/b@6 80/tcp", Allow, Allow)
        .expect("M9", "x/a@6 > y/b@6 80/tcp", Deny, Allow)
        .cases()
}

fn numbers() -> Vec<Case> {
    let on = |ports| np("x/p", "app=a").ingress([accept(EVERYONE, ports)]);
    cluster()
        .policy(on(ALL))
        .expect("NP-PORT-1", "x/b > x/a 0/tcp", Allow, Allow)
        .expect("NP-PORT-1", "x/b > x/a 65535/sctp", Allow, Allow)
        .expect("NP-PORT-1", "x/b > x/a icmp", Allow, Allow)
        .policy(on(ports([port("80/tcp"), port("53/udp")])))
        .expect("NP-PORT-2, NP-PORT-5", "x/b > x/a 80/tcp", Allow, Allow)
        .expect("NP-PORT-2", "x/b > x/a 53/udp", Allow, Allow)
        .expect("NP-PORT-5", "x/b > x/a 79/tcp", Allow, Deny)
        .expect("NP-PORT-5", "x/b > x/a 81/tcp", Allow, Deny)
        .expect("NP-PORT-7", "x/b > x/a 80/udp", Allow, Deny)
        .expect("NP-PORT-7", "x/b > x/a 53/tcp", Allow, Deny)
        .expect("NP-PORT-7", "x/b > x/a 80/sctp", Allow, Deny)
        // What the entry `{}` is read as.
        .policy(on(ports([port("tcp")])))
        .expect("NP-PORT-3, NP-PORT-4", "x/b > x/a 1/tcp", Allow, Allow)
        .expect("NP-PORT-3, NP-PORT-4", "x/b > x/a 65535/tcp", Allow, Allow)
        .expect("NP-PORT-3", "x/b > x/a 1/udp", Allow, Deny)
        .expect("NP-PORT-3", "x/b > x/a 1/sctp", Allow, Deny)
        .expect("NP-PORT-3", "x/b > x/a icmp", Allow, Deny)
        .policy(on(ports([port("80-90/udp"), port("7-7/tcp")])))
        .expect("NP-PORT-6", "x/b > x/a 79/udp", Allow, Deny)
        .expect("NP-PORT-6", "x/b > x/a 80/udp", Allow, Allow)
        .expect("NP-PORT-6", "x/b > x/a 90/udp", Allow, Allow)
        .expect("NP-PORT-6", "x/b > x/a 91/udp", Allow, Deny)
        .expect("NP-PORT-6", "x/b > x/a 85/tcp", Allow, Deny)
        .expect("NP-PORT-6", "x/b > x/a 7/tcp", Allow, Allow)
        .expect("NP-PORT-6", "x/b > x/a 8/tcp", Allow, Deny)
        .policy(on(ports([])))
        .expect("NP-PORT-1", "x/b > x/a 80/tcp", Allow, Deny)
        .policy(on(ports([port("80/sctp")])))
        .expect("NP-PROTO-2", "x/b > x/a 80/tcp", Allow, Deny)
        .expect("NP-PROTO-2", "x/b > x/a 80/sctp", Allow, Allow)
        .cases()
}

fn names() -> Vec<Case> {
    let a = || pod("x/a", "app=a", "10.0.0.1 fd00::1").on("one").declares("http", "80/tcp");
    let b = || pod("x/b", "app=b", "10.0.0.2").on("two").declares("http", "8080/tcp");
    let to_http = |peers| np("x/p", "app=a").egress([accept(peers, ports([named("http", Tcp)]))]);
    let on = |entries| np("x/p", "").ingress([accept(EVERYONE, entries)]);
    cluster()
        .pod(a())
        .pod(b())
        .policy(on(ports([named("http", Tcp)])))
        .expect("NP-PORT-8", "y/a > x/a 80/tcp", Allow, Allow)
        .expect("NP-PORT-8, NP-PORT-14", "y/a > x/a 8080/tcp", Allow, Deny)
        .expect("NP-PORT-8", "y/a > x/b 8080/tcp", Allow, Allow)
        .expect("NP-PORT-8, NP-PORT-14", "y/a > x/b 80/tcp", Allow, Deny)
        .expect("NP-PORT-9", "y/a > x/a 80/udp", Allow, Deny)
        .policy(on(ports([named("http", Udp)])))
        .expect("NP-PORT-9", "y/a > x/a 80/tcp", Allow, Deny)
        .expect("NP-PORT-9", "y/a > x/a 80/udp", Allow, Deny)
        .policy(on(ports([named("dns", Tcp)])))
        .expect("NP-PORT-12", "y/a > x/a 80/tcp", Allow, Deny)
        .policy(on(ports([named("http", Tcp), port("9/tcp"), port("53/udp")])))
        .expect("NP-PORT-15", "y/a > x/a 80/tcp", Allow, Allow)
        .expect("NP-PORT-15", "y/a > x/a 9/tcp", Allow, Allow)
        .expect("NP-PORT-15", "y/a > x/a 53/udp", Allow, Allow)
        .without_policies()
        .policy(to_http(EVERYONE))
        .expect("NP-PORT-8", "x/a > x/b 8080/tcp", Allow, Allow)
        .expect("NP-PORT-8, NP-PORT-14", "x/a > x/b 80/tcp", Deny, Allow)
        .expect("NP-PORT-12", "x/a > y/b 80/tcp", Deny, Allow)
        .expect("NP-PORT-13", "x/a > 192.0.2.1 80/tcp", Deny, NotJudged)
        .expect("NP-PORT-13", "x/a > 192.0.2.1 8080/tcp", Deny, NotJudged)
        .policy(to_http(any([block("10.0.0.0/24", [])])))
        .expect("NP-PORT-13", "x/a > x/b 8080/tcp", Allow, Allow)
        .expect("NP-PORT-13", "x/a > x/b 80/tcp", Deny, Allow)
        .expect("NP-PORT-13", "x/a > 10.0.0.9 8080/tcp", Deny, NotJudged)
        .policy(to_http(any([block("10.0.1.0/24", [])])))
        .expect("NP-PORT-13", "x/a > x/b 8080/tcp", Deny, Allow)
        .without_policies()
        // Declared again, by another container of the pod.
        .pod(a().declares("http", "81/tcp").declares("http", "82/udp"))
        .policy(on(ports([named("http", Tcp)])))
        .expect("NP-PORT-11", "y/a > x/a 80/tcp", Allow, Allow)
        .expect("NP-PORT-11", "y/a > x/a 81/tcp", Allow, Allow)
        .expect("NP-PORT-11, NP-PORT-9", "y/a > x/a 82/tcp", Allow, Deny)
        .expect("NP-PORT-11, NP-PORT-9", "y/a > x/a 82/udp", Allow, Deny)
        .policy(on(ports([named("http", Sctp), named("http", Udp)])))
        .expect("NP-PORT-11, NP-PORT-9", "y/a > x/a 82/udp", Allow, Allow)
        .cases()
}

fn itself_and_nodes() -> Vec<Case> {
    let all_but_itself = accept(any([block("10.0.0.0/8", ["10.0.0.1/32"])]), ALL);
    cluster()
        .policy(np("x/deny", "").ingress([]).egress([]))
        .expect("NP-SELF-1", "x/a > x/a 80/tcp", NotJudged, NotJudged)
        .expect("NP-SELF-1", "x/a > x/a icmp", NotJudged, NotJudged)
        .expect("NP-SELF-1", "x/a > x/a@6 80/tcp", NotJudged, NotJudged)
        .policy(np("x/deny", "").ingress([all_but_itself.clone()]).egress([all_but_itself]))
        .expect("NP-SELF-1", "x/a > x/a 80/tcp", NotJudged, NotJudged)
        .policy(np("x/deny", "").ingress([]).egress([]))
        .expect("NP-NODE-1", "10.1.0.1 > x/a 80/tcp", NotJudged, Allow)
        .expect("NP-NODE-1", "10.1.0.1 > x/a 9999/udp", NotJudged, Allow)
        .expect("NP-NODE-1", "10.1.0.1 > x/a icmp", NotJudged, Allow)
        .expect("NP-NODE-1", "fd01::1 > x/a@6 80/tcp", NotJudged, Allow)
        .expect("NP-NODE-1", "fd01::1 > x/a 80/tcp", NotJudged, Allow)
        .expect("NP-NODE-2", "10.1.0.2 > x/a 80/tcp", NotJudged, Deny)
        .expect("NP-NODE-2", "10.1.0.1 > x/b 80/tcp", NotJudged, Deny)
        .expect("NP-NODE-2", "192.0.2.1 > x/a 80/tcp", NotJudged, Deny)
        .expect("NP-NODE-3", "x/a > 10.1.0.1 80/tcp", Deny, NotJudged)
        // Once a pod has the address, it is not the node's.
        .pod(pod("y/c", "", "10.1.0.1"))
        .expect("M3, NP-NODE-1", "10.1.0.1 > x/a 80/tcp", Allow, Deny)
        .cases()
}

fn host_network() -> Vec<Case> {
    cluster()
        // Its own addresses, as status.podIPs has them, are the node's.
        .pod(pod("x/host", "app=host", "10.1.0.1").on("one").on_host_network())
        .policy(np("x/deny", "app=host").ingress([]).egress([]))
        .expect("NP-HOST-1, M4", "x/host > x/a 80/tcp", NotJudged, Allow)
        .expect("NP-HOST-1, M4", "x/a > x/host 80/tcp", Allow, NotJudged)
        .expect("NP-HOST-1, M4", "name:x/host > name:x/a 80/tcp", NotJudged, Allow)
        .without_policies()
        .policy(np("x/p", "").ingress([accept(any([own("x", "app=host")]), ALL)]))
        .expect("NP-HOST-2", "x/host > x/b 80/tcp", NotJudged, Deny)
        .expect("NP-HOST-2, NP-NODE-1", "x/host > x/a 80/tcp", NotJudged, Allow)
        .expect("NP-HOST-2, NP-NODE-1", "name:x/host > x/a 80/tcp", NotJudged, Allow)
        .policy(np("x/p", "").ingress([accept(any([block("10.1.0.1/32", [])]), ALL)]))
        .expect("NP-HOST-3, NP-IPB-8", "x/host > x/b 80/tcp", NotJudged, Allow)
        .expect("NP-HOST-3, M4", "name:x/host > x/b 80/tcp", NotJudged, Allow)
        .cases()
}

fn other_protocols() -> Vec<Case> {
    let on = |ports| np("x/p", "app=a").ingress([accept(every_pod(), ports)]);
    cluster()
        .policy(on(ALL))
        .expect("NP-PROTO-1", "x/b > x/a icmp", Allow, Allow)
        .expect("NP-PROTO-1", "192.0.2.1 > x/a icmp", NotJudged, Deny)
        .policy(on(ports([port("tcp"), port("udp"), port("sctp")])))
        .expect("NP-PROTO-1", "x/b > x/a icmp", Allow, Deny)
        .expect("NP-PROTO-1", "x/a > x/b icmp", Allow, Allow)
        .cases()
}

/// A question is asked between the two translations of addresses.
fn translation() -> Vec<Case> {
    let from_b_on_80 = accept(any([own("x", "app=b")]), ports([port("80/tcp")]));
    let to_service = accept(any([block("10.96.0.1/32", [])]), ALL);
    cluster()
        // A service has port 80 and the endpoint x/a, on 8080: the question is about 8080.
        .policy(np("x/p", "app=a").ingress([from_b_on_80]))
        .expect("M5, NP-PORT-16, NP-NAT-1", "x/b > x/a 8080/tcp", Allow, Deny)
        .expect("M5, NP-PORT-16, NP-NAT-1", "x/b > x/a 80/tcp", Allow, Allow)
        // Nor does it help to allow the service's address.
        .policy(np("x/q", "app=b").egress([to_service]))
        .expect("M5, NP-NAT-1", "x/b > x/a 80/tcp", Deny, Allow)
        // By a node port a client comes with a node's address, and is taken for the node.
        .expect("NP-NAT-2, NP-NODE-1", "10.1.0.1 > x/a 8080/tcp", NotJudged, Allow)
        .expect("NP-NAT-2, NP-NODE-2", "10.1.0.2 > x/a 8080/tcp", NotJudged, Deny)
        .without_policies()
        .policy(np("x/p", "app=a").ingress([accept(any([block("10.1.0.2/32", [])]), ALL)]))
        .expect("NP-NAT-2, NP-IPB-8", "10.1.0.2 > x/a 8080/tcp", NotJudged, Allow)
        .expect("NP-NAT-2, NP-IPB-8", "192.0.2.1 > x/a 8080/tcp", NotJudged, Deny)
        .without_policies()
        // That a pod leaves the cluster with its node's address changes nothing: it is asked as itself.
        .policy(np("x/p", "app=a").egress([]))
        .expect("M5, NP-NAT-3", "x/a > 192.0.2.1 80/tcp", Deny, NotJudged)
        .expect("M5, NP-NAT-3", "10.1.0.1 > 192.0.2.1 80/tcp", NotJudged, NotJudged)
        .cases()
}

fn life() -> Vec<Case> {
    let from_old = np("x/p", "app=a")
        .ingress([accept(any([own("x", "app=old")]), ports([port("80/tcp"), named("http", Tcp)]))]);
    cluster()
        .pod(pod("x/old", "app=old", "10.0.0.9").finished())
        .policy(from_old)
        .expect("NP-LIFE-1, M2", "10.0.0.9 > x/a 80/tcp", NotJudged, Deny)
        .expect("NP-LIFE-1, M2", "name:x/old > x/a 80/tcp", NotJudged, Deny)
        .policy(np("x/deny", "app=old").ingress([]).egress([]))
        .expect("NP-LIFE-1", "10.0.0.9 > x/b 80/tcp", NotJudged, Allow)
        .without_policies()
        // The address goes on to another pod, and takes nothing of the old one with it.
        .pod(pod("x/old", "app=a", "10.0.0.1").declares("http", "80/tcp").finished())
        .pod(pod("y/new", "app=new", "10.0.0.9"))
        .pod(pod("x/gone", "app=gone", "10.0.0.9").declares("http", "80/tcp").finished())
        .policy(np("x/p", "app=gone").ingress([]).egress([]))
        .expect("M3, NP-LIFE-6", "x/a > 10.0.0.9 80/tcp", Allow, Allow)
        .policy(np("y/p", "app=new").ingress([accept(EVERYONE, ports([named("http", Tcp)]))]))
        .expect("M3, NP-LIFE-6", "x/a > 10.0.0.9 80/tcp", Allow, Deny)
        .policy(np("x/q", "app=b").ingress([accept(any([own("x", "app=gone")]), ALL)]))
        .expect("M3, NP-LIFE-6", "10.0.0.9 > x/b 80/tcp", Allow, Deny)
        .policy(np("x/q", "app=b").ingress([accept(any([pods("team=y", "app=new")]), ALL)]))
        .expect("M3, NP-LIFE-6", "10.0.0.9 > x/b 80/tcp", Allow, Allow)
        .without_policies()
        // Without an address it is nobody's source, and disturbs nothing.
        .pod(pod("x/pending", "app=pending", ""))
        .policy(np("x/p", "").ingress([accept(any([own("x", "app=pending")]), ALL)]))
        .expect("NP-LIFE-2", "x/b > x/a 80/tcp", Allow, Deny)
        .expect("NP-LIFE-2", "name:x/pending > x/a 80/tcp", Allow, Allow)
        .without_policies()
        // Two live pods claim one address: the first by namespace, name and uid has it.
        .pod(pod("x/m", "app=m", "10.0.0.8").uid("2"))
        .pod(pod("x/m", "app=n", "10.0.0.8").uid("1"))
        .policy(np("x/p", "app=m").ingress([]))
        .expect("M3", "x/a > 10.0.0.8 80/tcp", Allow, Allow)
        .policy(np("x/p", "app=n").ingress([]))
        .expect("M3", "x/a > 10.0.0.8 80/tcp", Allow, Deny)
        .expect("M3", "x/a > name:x/m 80/tcp", Allow, Deny)
        .cases()
}

fn by_name() -> Vec<Case> {
    cluster()
        .policy(np("x/p", "app=a").ingress([accept(any([own("x", "app=b")]), ALL)]))
        .expect("M2, NP-PEER-3", "name:x/b > name:x/a 80/tcp", Allow, Allow)
        .expect("M2, NP-PEER-3", "name:y/b > name:x/a 80/tcp", Allow, Deny)
        .expect("M2, NP-PEER-3", "x/b > name:x/a 80/tcp", Allow, Allow)
        .expect("NP-SELF-1", "x/a > name:x/a 80/tcp", NotJudged, NotJudged)
        .expect("NP-PEER-6", "name:x/nobody > name:x/a 80/tcp", NotJudged, Deny)
        // Asked about by name a pod has no address that a block could hold.
        .policy(np("x/p", "app=a").ingress([accept(any([block("10.0.0.0/8", [])]), ALL)]))
        .expect("NP-IPB-2", "name:x/b > x/a 80/tcp", Allow, Deny)
        .expect("NP-IPB-2", "x/b > name:x/a 80/tcp", Allow, Allow)
        .policy(np("x/p", "app=a").ingress([accept(EVERYONE, ALL)]))
        .expect("NP-PEER-1", "name:x/nobody > x/a 80/tcp", NotJudged, Allow)
        // Order matters to the cluster-wide kinds alone; what things are called does not.
        .policy(admin("zz", 0, "team=x").ingress([deny(any([pods("team=y", "")]), ALL)]))
        .policy(admin("aa", 1, "team=x").ingress([accept(any([pods("team=y", "")]), ALL)]))
        .expect("M8, C-PRIO-1", "name:y/b > name:x/a 80/tcp", Allow, Deny)
        .cases()
}
