//! A cluster while it changes: what each event does to verdicts, in whatever order the events come.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "changes/live.rs"]
mod live;

use std::collections::BTreeMap;
use std::net::IpAddr;

use netpol_core::compile::Compiler;
use netpol_core::model::{
    Action, Block, DeclaredPort, DomainName, DomainPattern, End, Endpoint, Family, Flow, Namespace,
    Node, Objects, Options, Peer, Peers, Phase, Policy, PolicyKey, PortMatch, PortRange, Ports,
    Protocol, Rule, Tie, Traffic,
};
use netpol_core::testing::{Choices, flow, world};
use netpol_core::{Cluster, Scope, compile, reference};

use live::{
    Live, address, allows, cluster, forbid, isolate, labels, members, of_namespaces, own, pod,
    rule, selector, sizes,
};

/// NP-NODE-1: a node that comes back, after another one has come, is the own node again, and only at its new address.
#[test]
fn the_own_node_may_come_back() {
    let mut cluster = cluster();
    cluster.upsert_policy(isolate("x/p", "", vec![]));
    let node = |name: &str, at: &str| Node {
        name: name.into(),
        labels: labels(""),
        addresses: vec![address(at)],
    };
    assert!(allows(&mut cluster, "192.168.0.1", "10.0.0.1"));
    cluster.remove_node("n");
    assert!(!allows(&mut cluster, "192.168.0.1", "10.0.0.1"));
    cluster.upsert_node(node("m", "192.168.0.1"));
    assert!(!allows(&mut cluster, "192.168.0.1", "10.0.0.1"));
    cluster.upsert_node(node("n", "192.168.0.2"));
    assert!(!allows(&mut cluster, "192.168.0.1", "10.0.0.1"));
    assert!(allows(&mut cluster, "192.168.0.2", "10.0.0.1"));
}

/// NP-ISO-9, NP-LIFE-3: a pod gets its address, its node, another address and another uid, while its labels stay.
#[test]
fn a_pod_that_changes_stays_isolated() {
    let mut cluster = cluster();
    cluster.upsert_policy(isolate("x/p", "app=new", vec![own("x", "app=friend")]));
    cluster.upsert_endpoint(pod("x/new", "app=new", ""));
    assert!(allows(&mut cluster, "10.0.0.1", "10.0.2.1"), "nobody has the address yet");
    for at in ["10.0.2.1", "10.0.2.1 fd00:2::1", "10.0.2.2", "10.0.2.1"] {
        cluster.upsert_endpoint(pod("x/new", "app=new", at));
        let first = at.split_whitespace().next().expect("an address");
        assert!(!allows(&mut cluster, "10.0.0.1", first), "{at}");
        assert!(!allows(&mut cluster, "10.0.0.1", first), "{at}, nothing new");
    }
    // What comes after it means what it would have meant before.
    cluster.upsert_policy(isolate("x/q", "app=new", vec![own("x", "app=b")]));
    assert!(allows(&mut cluster, "10.0.0.2", "10.0.2.1"));
    cluster.upsert_policy(isolate("x/q", "app=new", vec![]));
    assert!(!allows(&mut cluster, "10.0.0.2", "10.0.2.1"));
    cluster.upsert_endpoint(pod("x/friend", "app=friend", ""));
    cluster.upsert_endpoint(pod("x/friend", "app=friend", "10.0.2.9"));
    assert!(allows(&mut cluster, "10.0.2.9", "10.0.2.1"));
    cluster.upsert_endpoint(pod("x/friend", "app=friend", "10.0.2.8"));
    assert!(allows(&mut cluster, "10.0.2.8", "10.0.2.1"));
    assert!(!allows(&mut cluster, "10.0.2.9", "10.0.2.1"));
    // Its namespace is selected by another label from now on.
    cluster.upsert_policy(forbid("f", "team=z", of_namespaces("")));
    assert!(allows(&mut cluster, "10.0.2.1", "10.0.0.1"));
    cluster.upsert_namespace(Namespace::new("x", labels("team=z")));
    assert!(!allows(&mut cluster, "10.0.2.1", "10.0.0.1"));
}

/// NP-NODE-1: that a pod was denied by an Admin policy says nothing on the node, whatever became of the pod.
#[test]
fn what_was_denied_to_a_pod_is_not_denied_to_the_node() {
    let mut cluster = cluster();
    cluster.upsert_policy(isolate("x/p", "app=a", vec![]));
    let mut deny = forbid("d", "team=x", own("x", "app=intruder"));
    deny.ingress = deny.egress.take();
    cluster.upsert_policy(deny);
    cluster.upsert_endpoint(pod("x/i", "app=intruder", "10.0.0.9"));
    assert!(allows(&mut cluster, "192.168.0.1", "10.0.0.1"));
    cluster.remove_endpoint("x", "i", "");
    assert!(allows(&mut cluster, "192.168.0.1", "10.0.0.1"));
    // Now a rule can tell the node's address from others.
    let to_node = Block::new("192.168.0.0/24".parse().expect("a block"), []);
    let mut out = isolate("x/q", "app=b", vec![Peer::Block(to_node)]);
    out.egress = out.ingress.take();
    cluster.upsert_policy(out);
    assert!(allows(&mut cluster, "192.168.0.1", "10.0.0.1"));
}

/// A pod that goes to another node takes along what was there for it alone.
#[test]
fn a_pod_may_move_away() {
    let mut cluster = cluster();
    cluster.upsert_policy(isolate("x/p", "app=a", vec![]));
    assert!(!allows(&mut cluster, "10.0.0.2", "10.0.0.1"));
    let elsewhere = Endpoint { node: Some("m".into()), ..pod("x/a2", "app=a", "10.0.0.3") };
    cluster.upsert_endpoint(elsewhere);
    assert!(!allows(&mut cluster, "10.0.0.2", "10.0.0.1"));
    let moved = Endpoint { node: Some("m".into()), ..pod("x/a", "app=a", "10.0.0.1") };
    cluster.upsert_endpoint(moved);
    // The cluster still denies it, the node has no say in it any more.
    let changes = cluster.take_changes();
    let Live { cluster, compilers: [whole, part] } = &mut cluster;
    let flow = Flow::new(address("10.0.0.2"), address("10.0.0.1"), Traffic::tcp(80));
    assert!(!whole.update(cluster, &changes).decide(&flow).is_allowed());
    let kept = part.update(cluster, &changes);
    assert!(kept.decide(&flow).is_allowed());
    let fresh = compile(cluster, kept.scope().clone());
    assert_eq!(sizes(kept), sizes(&fresh));
    assert_eq!(members(kept), members(&fresh));
}

/// Thousands of pods that come and go in no order, alike or each with an identity of its own.
#[test]
fn thousands_come_and_go() {
    const PODS: u32 = 2500;
    for alike in [true, false] {
        let mut live = cluster();
        let label = |at: u32| if alike { "app=many".to_owned() } else { format!("app=p{at}") };
        let peers = if alike { 0..1 } else { 0..PODS };
        live.upsert_policy(isolate("x/p", "app=a", peers.map(|at| own("x", &label(at))).collect()));
        let at = |number: u32| IpAddr::V4((0x0a10_0000 + 2 * number).into());
        let many =
            |number: u32| pod(&format!("x/p{number}"), &label(number), &at(number).to_string());
        // In an order that jumps back and forth: 1,051 and 2,500 have no common divisor.
        let order = (0..PODS).map(|step| step * 1_051 % PODS);
        let mut here = std::collections::BTreeSet::new();
        let come = order.clone().map(|number| (number, true));
        let go = order.map(|number| (number * 7 % PODS, false));
        for (step, (number, comes)) in come.chain(go).enumerate() {
            if comes {
                live.upsert_endpoint(many(number));
                here.insert(number);
            } else {
                live.remove_endpoint("x", &format!("p{number}"), "");
                here.remove(&number);
            }
            if step % 250 == 249 {
                let changes = live.take_changes();
                let Live { cluster, compilers } = &mut live;
                for compiler in compilers {
                    let program = compiler.update(cluster, &changes);
                    let mut classes = program.classes();
                    let (id, _) =
                        classes.find(|(_, class)| class.constant().is_none()).expect("one");
                    let members = program.members(id, Family::V4);
                    let listed: Vec<IpAddr> = here.iter().map(|number| at(*number)).collect();
                    let is_many = |it: &&IpAddr| **it >= at(0);
                    let found: Vec<IpAddr> =
                        members.allow.iter().filter(is_many).copied().collect();
                    // The own node is among them as well.
                    let found = found.into_iter().filter(|it| *it < at(PODS)).collect::<Vec<_>>();
                    assert!(found == listed, "{alike} {step}: {} of {}", found.len(), listed.len());
                    for number in 0..PODS {
                        let flow = Flow::new(at(number), address("10.0.0.1"), Traffic::tcp(80));
                        let allowed = program.decide(&flow).is_allowed();
                        assert_eq!(allowed, here.contains(&number), "{alike} {step}: {flow}");
                        let (namespace, name) = ("x".into(), format!("p{number}").into());
                        let by_name = End::Endpoint { namespace, name };
                        let flow = Flow { source: by_name, ..flow };
                        let allowed = program.decide(&flow).is_allowed();
                        assert_eq!(allowed, here.contains(&number), "{alike} {step}: {flow}");
                    }
                }
            }
        }
    }
}

/// Nothing has changed, unless it is told.
#[test]
fn changes_are_told_once() {
    let mut cluster = cluster();
    assert!(!cluster.take_changes().is_empty());
    assert!(cluster.take_changes().is_empty());
    cluster.upsert_policy(isolate("x/p", "app=a", vec![]));
    assert!(!cluster.take_changes().is_empty());
}

/// NP-LIFE-5: with a policy, a pod or a namespace goes all that it did.
#[test]
fn what_is_removed_has_no_effect() {
    let mut cluster = cluster();
    let policy = isolate("x/p", "app=a", vec![own("x", "app=b"), of_namespaces("team=y")]);
    cluster.upsert_policy(policy.clone());
    assert!(
        allows(&mut cluster, "10.0.0.2", "10.0.0.1")
            && allows(&mut cluster, "10.0.1.1", "10.0.0.1")
    );
    assert!(!allows(&mut cluster, "192.0.2.1", "10.0.0.1"));

    cluster.remove_endpoint("x", "b", "another");
    assert!(allows(&mut cluster, "10.0.0.2", "10.0.0.1"), "that was another pod of the name");
    cluster.remove_endpoint("x", "b", "");
    assert!(!allows(&mut cluster, "10.0.0.2", "10.0.0.1"), "its address is nobody's now");

    // Of a namespace that is gone only its name is known, until its pods are gone as well.
    cluster.remove_namespace("y");
    assert!(!allows(&mut cluster, "10.0.1.1", "10.0.0.1"));
    cluster.upsert_policy(isolate(
        "x/p",
        "app=a",
        vec![of_namespaces("kubernetes.io/metadata.name=y")],
    ));
    assert!(allows(&mut cluster, "10.0.1.1", "10.0.0.1"));

    cluster.remove_policy(&policy.key);
    assert!(allows(&mut cluster, "192.0.2.1", "10.0.0.1"));
    let left: Vec<_> = cluster.policies().collect();
    assert!(left.is_empty(), "{left:?}");

    // Removing what is not there is nothing.
    let before = compile(&cluster, Scope::Cluster);
    cluster.remove_policy(&policy.key);
    cluster.remove_endpoint("x", "b", "");
    cluster.remove_namespace("y");
    cluster.remove_node("m");
    assert!(before == compile(&cluster, Scope::Cluster));
}

/// NP-LIFE-5, NP-NODE-1: a node that is gone is a stranger, whatever its pods still say.
#[test]
fn a_removed_node_has_no_way_in() {
    let mut cluster = cluster();
    cluster.upsert_policy(isolate("x/p", "", vec![]));
    assert!(allows(&mut cluster, "192.168.0.1", "10.0.0.1"));
    cluster.remove_node("n");
    let flow = Flow::new(address("192.168.0.1"), address("10.0.0.1"), Traffic::tcp(80));
    assert!(!compile(&cluster, Scope::Cluster).decide(&flow).is_allowed());
}

/// NP-LIFE-6, M3: an address goes from a pod to the next one, and all effects with it, whichever of the events comes
/// first: that the old pod has finished, that it is gone, that the new one is there.
#[test]
fn a_reused_address_belongs_to_the_new_pod() {
    let old = || {
        let mut old = pod("x/old", "app=old", "10.0.0.9");
        old.uid = "1".into();
        old.ports = vec![DeclaredPort { name: "web".into(), protocol: Protocol::Tcp, number: 80 }];
        old
    };
    let finished = || Endpoint { phase: Phase::Finished, ..old() };
    let new = || Endpoint { uid: "2".into(), ..pod("y/new", "app=new", "10.0.0.9") };
    type Event = fn(&mut Live, &dyn Fn() -> Endpoint, &dyn Fn() -> Endpoint);
    let finish: Event = |cluster, finished, _| cluster.upsert_endpoint(finished());
    let remove: Event = |cluster, _, _| cluster.remove_endpoint("x", "old", "1");
    let add: Event = |cluster, _, new| cluster.upsert_endpoint(new());

    let orders: [&[Event]; 5] = [
        &[remove, add],
        &[add, remove],
        &[finish, add],
        &[add, finish, remove],
        &[finish, add, remove],
    ];
    for (at, order) in orders.iter().enumerate() {
        let mut cluster = cluster();
        cluster.upsert_policy(isolate("x/p", "app=a", vec![own("x", "app=old")]));
        cluster.upsert_policy(isolate("x/old", "app=old", vec![]));
        let name = PortMatch::Named(Some(Protocol::Tcp), "web".into());
        let mut to_web = forbid("web", "team=y", of_namespaces(""));
        for rule in to_web.egress.iter_mut().flatten() {
            rule.ports = Ports::AnyOf(vec![name.clone()]);
        }
        cluster.upsert_policy(to_web);
        cluster.upsert_endpoint(old());
        assert!(allows(&mut cluster, "10.0.0.9", "10.0.0.1"), "{at}");
        assert!(!allows(&mut cluster, "10.0.0.1", "10.0.0.9"), "{at}");
        assert!(!allows(&mut cluster, "10.0.1.1", "10.0.0.9"), "{at}: it declares the port");

        order.iter().for_each(|event| event(&mut cluster, &finished, &new));
        assert!(!allows(&mut cluster, "10.0.0.9", "10.0.0.1"), "{at}: not the old pod as a peer");
        assert!(allows(&mut cluster, "10.0.0.1", "10.0.0.9"), "{at}: not the old pod as a subject");
        assert!(
            allows(&mut cluster, "10.0.1.1", "10.0.0.9"),
            "{at}: not what the old pod declares"
        );
        cluster.upsert_policy(isolate("x/p", "app=a", vec![of_namespaces("team=y")]));
        assert!(allows(&mut cluster, "10.0.0.9", "10.0.0.1"), "{at}: the new pod as a peer");
        cluster.upsert_policy(isolate("y/p", "app=new", vec![]));
        assert!(!allows(&mut cluster, "10.0.0.1", "10.0.0.9"), "{at}: the new pod as a subject");
    }
}

/// SEL-11: labels of pods, namespaces and nodes count as they are now, in subjects and in peers.
#[test]
fn labels_may_change() {
    let mut cluster = cluster();
    cluster.upsert_policy(isolate("x/p", "app=a", vec![own("x", "app=b"), of_namespaces("open=")]));
    assert!(
        allows(&mut cluster, "10.0.0.2", "10.0.0.1")
            && !allows(&mut cluster, "10.0.1.1", "10.0.0.1")
    );
    cluster.upsert_endpoint(pod("x/b", "app=other", "10.0.0.2"));
    assert!(!allows(&mut cluster, "10.0.0.2", "10.0.0.1"), "a peer of another label");
    cluster.upsert_namespace(Namespace::new("y", labels("open=")));
    assert!(allows(&mut cluster, "10.0.1.1", "10.0.0.1"), "a namespace of another label");
    cluster.upsert_endpoint(pod("x/a", "app=other", "10.0.0.1"));
    assert!(allows(&mut cluster, "192.0.2.1", "10.0.0.1"), "a subject of another label");

    cluster.upsert_policy(forbid("f", "team=y", Peer::Nodes(selector("zone=b"))));
    assert!(allows(&mut cluster, "10.0.1.1", "192.168.0.1"));
    cluster.upsert_namespace(Namespace::new("y", labels("team=y")));
    assert!(allows(&mut cluster, "10.0.1.1", "192.168.0.1"), "a subject, but the node is no peer");
    let zone = Node { name: "n".into(), labels: labels("zone=b"), addresses: Vec::new() };
    cluster.upsert_node(Node { addresses: vec![address("192.168.0.1")], ..zone });
    assert!(!allows(&mut cluster, "10.0.1.1", "192.168.0.1"), "a node of another label");
}

/// NP-TYPE-1, NP-CONN-3: a policy that no longer has a direction isolates nobody there, for every connection that is
/// new.
#[test]
fn a_direction_may_be_dropped() {
    let mut cluster = cluster();
    let mut policy = isolate("x/p", "app=a", vec![]);
    policy.egress = Some(Vec::new());
    cluster.upsert_policy(policy.clone());
    assert!(
        !allows(&mut cluster, "10.0.0.1", "192.0.2.1")
            && !allows(&mut cluster, "192.0.2.1", "10.0.0.1")
    );
    policy.egress = None;
    cluster.upsert_policy(policy);
    assert!(
        allows(&mut cluster, "10.0.0.1", "192.0.2.1")
            && !allows(&mut cluster, "192.0.2.1", "10.0.0.1")
    );
}

/// NP-ISO-9: whatever is known before a pod has its address is in force with the first program that knows the address;
/// and before that, it can be asked about by name.
#[test]
fn a_pod_starts_isolated() {
    type Event = fn(&mut Live);
    let events: [Event; 4] = [
        |cluster| cluster.upsert_namespace(Namespace::new("z", labels("team=z"))),
        |cluster| cluster.upsert_policy(isolate("z/p", "app=new", vec![own("z", "app=friend")])),
        |cluster| cluster.upsert_policy(forbid("f", "team=z", of_namespaces("team=x"))),
        |cluster| cluster.upsert_endpoint(pod("z/new", "app=new", "")),
    ];
    for order in orders(events.len()) {
        let mut cluster = cluster();
        order.iter().for_each(|at| events[*at](&mut cluster));
        let by_name = End::Endpoint { namespace: "z".into(), name: "new".into() };
        let source = End::Address(address("10.0.0.1"));
        let asked = Flow::between(source, by_name, Traffic::tcp(80));
        assert!(!compile(&cluster, Scope::Cluster).decide(&asked).is_allowed(), "{order:?}");
        cluster.upsert_endpoint(pod("z/new", "app=new", "10.0.2.1"));
        assert!(!allows(&mut cluster, "10.0.0.1", "10.0.2.1"), "{order:?}");
        assert!(!allows(&mut cluster, "10.0.2.1", "10.0.0.1"), "{order:?}");
        // Access that needs another object comes with that object.
        assert!(!allows(&mut cluster, "10.0.2.2", "10.0.2.1"), "{order:?}");
        cluster.upsert_endpoint(pod("z/friend", "app=friend", "10.0.2.2"));
        assert!(allows(&mut cluster, "10.0.2.2", "10.0.2.1"), "{order:?}");
    }
}

/// All orders of so many events.
fn orders(count: usize) -> Vec<Vec<usize>> {
    (0..count).fold(vec![Vec::new()], |orders, next| {
        let with_next = |order: &Vec<usize>| {
            let places = 0..=order.len();
            let order = order.clone();
            places.map(move |place| {
                let mut longer = order.clone();
                longer.insert(place, next);
                longer
            })
        };
        orders.iter().flat_map(with_next).collect()
    })
}

/// C-PEER-5: of a domain name counts what was observed and has not expired.
#[test]
fn observations_of_domain_names_expire() {
    let mut cluster = cluster();
    let pattern = DomainPattern::new("*.example.org");
    cluster.upsert_policy(forbid("f", "team=x", Peer::Domain(pattern)));
    let seen = |last| DomainName::new("www.example.org", address(&format!("192.0.2.{last}")));
    let allowed =
        |cluster: &mut Live, last| allows(cluster, "10.0.0.1", &format!("192.0.2.{last}"));
    cluster.observe_domain(&seen(1), Some(100));
    cluster.observe_domain(&seen(1), Some(50)); // The longest counts.
    cluster.observe_domain(&seen(2), Some(50));
    cluster.observe_domain(&seen(2), Some(60));
    cluster.observe_domain(&seen(3), None); // For ever.
    cluster.observe_domain(&seen(3), Some(10));
    let expected = [
        (49, [false, false, false, true]),
        (59, [false, false, false, true]),
        (60, [false, true, false, true]),
        (99, [false, true, false, true]),
        (100, [true, true, false, true]),
        (u64::MAX, [true, true, false, true]),
    ];
    for (now, verdicts) in expected {
        cluster.expire_domains(now);
        assert_eq!([1, 2, 3, 4].map(|last| allowed(&mut cluster, last)), verdicts, "at {now}");
    }
}

/// C-PEER-5: what was observed before a policy asks for it counts as well, and is forgotten with what it stands for.
#[test]
fn a_policy_may_ask_for_a_name_that_is_known() {
    type Event = fn(&mut Live);
    let events: [Event; 4] = [
        |cluster| cluster.observe_domain(&seen("www.example.org", "192.0.2.1"), Some(100)),
        |cluster| cluster.observe_domain(&seen("db.example.org", "192.0.2.2"), None),
        |cluster| {
            let pattern = DomainPattern::new("*.example.org");
            cluster.upsert_policy(forbid("f", "team=x", Peer::Domain(pattern)));
        },
        |cluster| cluster.upsert_endpoint(pod("x/new", "app=new", "10.0.0.3")),
    ];
    for order in orders(events.len()) {
        let mut cluster = cluster();
        for at in &order {
            events[*at](&mut cluster);
            // Every program on the way is compared as well.
            allows(&mut cluster, "10.0.0.3", "192.0.2.1");
        }
        for last in ["192.0.2.1", "192.0.2.2"] {
            assert!(!allows(&mut cluster, "10.0.0.3", last), "{order:?}");
        }
        cluster.expire_domains(100);
        assert!(allows(&mut cluster, "10.0.0.3", "192.0.2.1"), "{order:?}");
        assert!(!allows(&mut cluster, "10.0.0.3", "192.0.2.2"), "{order:?}");
    }
}

fn seen(name: &str, at: &str) -> DomainName {
    DomainName::new(name, address(at))
}

/// NP-PORT-8: a name of a port means what destinations declare, whoever comes first and goes last.
#[test]
fn names_of_ports_follow_those_who_declare_them() {
    fn declaring(path: &str, at: &str) -> Endpoint {
        let mut pod = pod(path, "app=web", at);
        pod.ports = vec![DeclaredPort { name: "web".into(), protocol: Protocol::Tcp, number: 80 }];
        pod
    }
    type Event = fn(&mut Live);
    let events: [Event; 3] = [
        |cluster| {
            let mut policy = isolate("x/p", "app=a", vec![]);
            let named = PortMatch::Named(Some(Protocol::Tcp), "web".into());
            let rule = Rule {
                name: None,
                action: Action::Accept,
                peers: Peers::Everyone,
                ports: Ports::AnyOf(vec![named]),
            };
            (policy.ingress, policy.egress) = (None, Some(vec![rule]));
            cluster.upsert_policy(policy);
        },
        |cluster| cluster.upsert_endpoint(declaring("y/d", "10.0.1.2")),
        |cluster| cluster.upsert_endpoint(declaring("y/e", "10.0.1.3")),
    ];
    for order in orders(events.len()) {
        let mut cluster = cluster();
        for at in &order {
            events[*at](&mut cluster);
            allows(&mut cluster, "10.0.0.1", "10.0.1.2");
        }
        assert!(allows(&mut cluster, "10.0.0.1", "10.0.1.2"), "{order:?}");
        assert!(allows(&mut cluster, "10.0.0.1", "10.0.1.3"), "{order:?}");
        assert!(!allows(&mut cluster, "10.0.0.1", "10.0.1.1"), "{order:?}");
        for name in ["d", "e"] {
            cluster.remove_endpoint("y", name, "");
            allows(&mut cluster, "10.0.0.1", "10.0.1.2");
        }
        cluster.upsert_endpoint(pod("y/d", "app=web", "10.0.1.2"));
        assert!(!allows(&mut cluster, "10.0.0.1", "10.0.1.2"), "{order:?}");
        cluster.upsert_endpoint(declaring("y/d", "10.0.1.2"));
        assert!(allows(&mut cluster, "10.0.0.1", "10.0.1.2"), "{order:?}");
    }
}

/// M8: what a cluster says of itself is what it was given.
#[test]
fn a_cluster_gives_back_what_it_was_given() {
    let mut options = Options::default();
    options.tie = Tie::NameDescending;
    let mut cluster = Cluster::new(options);
    assert_eq!(cluster.options(), &options);
    cluster.upsert_endpoint(pod("x/b", "", ""));
    cluster.upsert_endpoint(pod("x/a", "", ""));
    let node = |name: &str| Node { name: name.into(), labels: labels(""), addresses: Vec::new() };
    cluster.upsert_node(node("two"));
    cluster.upsert_node(node("one"));
    let policy = isolate(
        "x/p",
        "",
        vec![Peer::Block(Block::new("10.0.0.0/8".parse().expect("a block"), []))],
    );
    cluster.upsert_policy(policy.clone());
    let mut names: Vec<&str> = cluster.endpoints().map(|it| &*it.name).collect();
    names.sort_unstable();
    let nodes: Vec<&str> = cluster.nodes().map(|it| &*it.name).collect();
    assert_eq!((names, nodes), (vec!["a", "b"], vec!["one", "two"]));
    assert_eq!(cluster.policies().collect::<Vec<_>>(), [&policy]);
}

/// NP-PORT-13, NP-LIFE-5: who declares a port inside of a block is somebody else when no rule asks for both any more,
/// though another one still asks for the block.
#[test]
fn a_name_in_a_block_is_forgotten_with_its_rule() {
    let mut live = cluster();
    let mut c = pod("y/c", "app=c", "10.0.1.1");
    c.ports = vec![DeclaredPort { name: "web".into(), protocol: Protocol::Tcp, number: 80 }];
    live.upsert_endpoint(c);
    let to_block = |name: &str, ports| {
        let block = Block::new("10.0.1.0/24".parse().expect("a block"), []);
        let by_port = Rule { ports, ..rule(Action::Accept, vec![Peer::Block(block)]) };
        Policy { ingress: None, egress: Some(vec![by_port]), ..isolate(name, "app=a", vec![]) }
    };
    let named = PortMatch::Named(Some(Protocol::Tcp), "web".into());
    let by_name = to_block("x/by-name", Ports::AnyOf(vec![named]));
    let single = PortMatch::Range(Protocol::Udp, PortRange::single(9));
    live.upsert_policy(to_block("x/by-number", Ports::AnyOf(vec![single])));
    assert!(!allows(&mut live, "10.0.0.1", "10.0.1.1"));
    live.upsert_policy(by_name.clone());
    assert!(allows(&mut live, "10.0.0.1", "10.0.1.1"));
    live.remove_policy(&by_name.key);
    assert!(!allows(&mut live, "10.0.0.1", "10.0.1.1"));
}

/// One thing that happens to one object of a generated world.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Upsert,
    Remove,
}

/// M8, NP-ISO-9: after any sequence of events, repeated ones, removals of what others refer to, and several values of
/// one object among them, the cluster is what the objects are that are left.
#[test]
fn after_any_events_the_program_is_that_of_the_objects_left() {
    for seed in 0..150 {
        let mut choices = Choices::from_seed(0xe7e4_0000 + seed, 6000);
        let (first, options) = world(&mut choices);
        let (second, _) = world(&mut choices);
        let mut cluster = Cluster::new(options);
        let mut left = Left::default();
        let scopes = [Scope::Cluster, Scope::Node("node0".into()), Scope::Node("node1".into())];
        let mut compilers = scopes.map(|scope| Compiler::new(options, scope));
        for step in 0..choices.of([20, 40, 80]) {
            let objects = if choices.one_in(2) { &first } else { &second };
            let happens = if choices.one_in(3) { Happens::Remove } else { Happens::Upsert };
            left.change(&mut cluster, objects, happens, &mut choices);
            if step % 10 == 0 {
                same(&mut cluster, &mut compilers, &left.objects(), &mut choices, seed);
            }
        }
        same(&mut cluster, &mut compilers, &left.objects(), &mut choices, seed);
    }
}

fn same(
    cluster: &mut Cluster,
    compilers: &mut [Compiler],
    left: &Objects,
    choices: &mut Choices<'_>,
    seed: u64,
) {
    let options = *cluster.options();
    let fresh = Cluster::from_objects(options, left.clone());
    let changes = cluster.take_changes();
    for compiler in &mut *compilers {
        let kept = compiler.update(cluster, &changes);
        let fresh = compile(&fresh, kept.scope().clone());
        assert_eq!(*kept, fresh, "seed {seed}");
        assert_eq!(sizes(kept), sizes(&fresh), "seed {seed}: something has been left behind");
        assert_eq!(members(kept), members(&fresh), "seed {seed}");
    }
    for _ in 0..10 {
        let flow = flow(choices, left);
        let expected = reference::decide(left, &options, &flow).is_allowed();
        let got = compilers[0].program().decide(&flow).is_allowed();
        assert_eq!(got, expected, "seed {seed}: {flow}");
    }
}

/// What should be left of the objects, kept in the plainest way.
#[derive(Default)]
struct Left {
    namespaces: BTreeMap<String, Namespace>,
    endpoints: BTreeMap<(String, String, String), Endpoint>,
    nodes: BTreeMap<String, Node>,
    policies: BTreeMap<PolicyKey, Policy>,
}

impl Left {
    fn change(
        &mut self,
        cluster: &mut Cluster,
        objects: &Objects,
        happens: Happens,
        choices: &mut Choices<'_>,
    ) {
        fn one<T: Clone>(choices: &mut Choices<'_>, items: &[T]) -> Option<T> {
            items.get(choices.pick(items.len())).cloned()
        }
        match choices.pick(4) {
            0 => {
                let Some(it) = one(choices, &objects.namespaces) else { return };
                match happens {
                    Happens::Upsert => {
                        self.namespaces.insert(it.name.to_string(), it.clone());
                        cluster.upsert_namespace(it);
                    }
                    Happens::Remove => {
                        self.namespaces.remove(&*it.name);
                        cluster.remove_namespace(&it.name);
                    }
                }
            }
            1 => {
                let Some(mut it) = one(choices, &objects.endpoints) else { return };
                // One that is there already gets another place, and selectors see nothing of it.
                let there: Vec<Endpoint> = self.endpoints.values().cloned().collect();
                if choices.one_in(2)
                    && let Some(same) = one(choices, &there)
                {
                    let Endpoint { addresses, node, phase, .. } = it;
                    it = Endpoint { addresses, node, phase, ..same };
                }
                let key = (it.namespace.to_string(), it.name.to_string(), it.uid.to_string());
                match happens {
                    Happens::Upsert => {
                        self.endpoints.insert(key, it.clone());
                        cluster.upsert_endpoint(it);
                    }
                    Happens::Remove => {
                        self.endpoints.remove(&key);
                        cluster.remove_endpoint(&it.namespace, &it.name, &it.uid);
                    }
                }
            }
            2 => {
                let Some(it) = one(choices, &objects.nodes) else { return };
                match happens {
                    Happens::Upsert => {
                        self.nodes.insert(it.name.to_string(), it.clone());
                        cluster.upsert_node(it);
                    }
                    Happens::Remove => {
                        self.nodes.remove(&*it.name);
                        cluster.remove_node(&it.name);
                    }
                }
            }
            _ => {
                let Some(it) = one(choices, &objects.policies) else { return };
                match happens {
                    Happens::Upsert => {
                        self.policies.insert(it.key.clone(), it.clone());
                        cluster.upsert_policy(it);
                    }
                    Happens::Remove => {
                        self.policies.remove(&it.key);
                        cluster.remove_policy(&it.key);
                    }
                }
            }
        }
    }

    fn objects(&self) -> Objects {
        Objects {
            namespaces: self.namespaces.values().cloned().collect(),
            endpoints: self.endpoints.values().cloned().collect(),
            nodes: self.nodes.values().cloned().collect(),
            policies: self.policies.values().cloned().collect(),
            domains: Vec::new(),
        }
    }
}
