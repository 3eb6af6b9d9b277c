// Included where `backend` is a backend's crate, and `Kernel` what that writes by.

use backend::conntrack::Conntrack;
use backend::nflog::{Listener, Outcome, Report};
use backend::{Change, Log};
use netpol_core::model::{Flow, Traffic};

use super::objects::{on_tcp, policy, with_pods};
use super::{A, B, SHORT, Scene, SocketAddr, ip, lives, speaks};

pub(super) fn is_a_host(options: backend::Options) {
    let log = Some(Log { group: 5, per_second: None, accepted: false });
    let mut scene = Scene::new();
    let (mut kernel, mut conntrack, mut listener) = scene.on_the_node(|| {
        let kernel = Kernel::open(backend::Options { log, ..options }).expect("the tools");
        let conntrack = Conntrack::open().expect("conntrack");
        (kernel, conntrack, Listener::open(5, "netpol").expect("a group of its own"))
    });

    let open = scene.program();
    let report = scene.on_the_node(|| kernel.sync(&open)).expect("in force");
    assert_eq!((report.change, report.interfered), (Change::Created, false));
    let mut held = Vec::new();
    for (to, port) in B.into_iter().flat_map(|to| [(to, 80), (to, 81)]) {
        let connection = scene.connect(SocketAddr::new(ip(to), port)).expect("allowed");
        held.push((port, connection));
    }
    assert_eq!(conntrack.revoke(&open).expect("revoked").cut, []);

    // Nobody but `x/a`, and that on one port.
    scene.cluster.upsert_policy(policy("b", Some(vec![on_tcp(80, with_pods("a"))]), None));
    let program = scene.program();
    let report = scene.on_the_node(|| kernel.sync(&program)).expect("in force");
    assert_eq!((report.change, report.interfered), (Change::Updated, false));
    assert_eq!(scene.on_the_node(|| kernel.verify(&program)).expect("read"), []);

    // Rules alone do not end what goes on.
    assert!(held.iter_mut().all(|(_, connection)| lives(connection)));
    let flow = |(a, b): (&str, &str)| Flow::new(ip(a), ip(b), Traffic::tcp(81));
    let forbidden: Vec<Flow> = A.into_iter().zip(B).map(flow).collect();
    let mut cut = conntrack.revoke(&program).expect("revoked").cut;
    cut.sort_by_key(|flow| flow.source.clone());
    assert_eq!(cut, forbidden);
    for (port, connection) in &mut held {
        let [here, there] = connection;
        if *port == 81 {
            // Whoever sends next.
            assert!(!speaks(there, here) && !speaks(here, there));
        } else {
            assert!(lives(connection));
        }
    }
    assert_eq!(conntrack.revoke(&program).expect("revoked").cut, []);

    // What is denied from now on is reported, and why.
    while listener.wait(Some(SHORT)).expect("heard").is_some() {}
    for (flow, to) in forbidden.iter().zip(B) {
        assert!(scene.connect(SocketAddr::new(ip(to), 80)).is_some());
        assert!(scene.connect(SocketAddr::new(ip(to), 81)).is_none());
        let packet = loop {
            match listener.wait(Some(SHORT)).expect("heard") {
                // The connections that were cut are still trying.
                Some(Report::Packet(packet)) if packet.flow != *flow => {}
                Some(Report::Packet(packet)) => break packet,
                other => panic!("{flow} is not reported: {other:?}"),
            }
        };
        assert_eq!(packet.prefix.outcome, Outcome::Denied);
        let told = packet.explain(&program);
        assert!(told.agrees(), "{told}");
        assert!(told.to_string().contains("because NetworkPolicy x/b"), "{told}");
    }
    let status = scene.on_the_node(|| kernel.status()).expect("read");
    assert!(status.tables.values().all(|table| table.denied_ingress.packets > 0), "{status:?}");
    assert_eq!(status.tables.len(), 2);

    scene.on_the_node(|| kernel.remove()).expect("removed");
    assert!(B.iter().all(|to| scene.connect(SocketAddr::new(ip(to), 81)).is_some()));
}
