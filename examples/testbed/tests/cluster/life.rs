//! Pods come and go, and nothing stays.

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};

use super::*;

pub(crate) const CHECKS: &[Check] = &[
    ("pods_come_and_go", pods_come_and_go),
    ("a_pod_may_move_to_another_node_with_its_address", a_pod_may_move),
    ("what_is_wrong_with_a_topology_is_said", what_is_wrong_with_a_topology_is_said),
    ("a_failed_addition_changes_nothing", a_failed_addition_changes_nothing),
    ("nothing_is_left_behind", nothing_is_left_behind),
    ("the_own_namespace_is_not_touched", the_own_namespace_is_not_touched),
    ("one_can_look_inside", one_can_look_inside),
];

fn pods_come_and_go() -> Result<(), String> {
    let mut topology = topology();
    let mut testbed = build(&topology);
    let newcomer = pod("z/new", "n1", &["10.44.0.1", "fd77:44::1"]);
    for _ in 0..2 {
        testbed.add_pod(&newcomer).unwrap();
        topology.pods.push(newcomer.clone());
        expect(&testbed, &all_pairs(&topology, &PROTOCOLS), |_| Outcome::Allowed);

        testbed.remove_pod("z/new").unwrap();
        topology.pods.pop();
        expect(&testbed, &all_pairs(&topology, &PROTOCOLS), |_| Outcome::Allowed);
        assert!(testbed.in_pod("z/new", || ()).is_err());
        assert!(testbed.remove_pod("z/new").is_err());
    }
    Ok(())
}

/// M3: the address of a pod that is gone may belong to another one, and in between to nobody.
fn a_pod_may_move() -> Result<(), String> {
    let mut topology = topology();
    let mut testbed = build(&topology);
    let to_it = |traffic| probe(in_pod("y/a"), "10.0.1.2", "10.0.1.1", traffic);
    let probes = PROTOCOLS.map(to_it);
    testbed.remove_pod("x/a").unwrap();
    expect(&testbed, &probes, |_| Outcome::Allowed);
    topology.pods[0].node = "n2".to_owned();
    testbed.add_pod(&topology.pods[0]).unwrap();
    expect(&testbed, &all_pairs(&topology, &PROTOCOLS), |_| Outcome::Allowed);
    // Now it is the pod that answers, and not the outside.
    let has_it = || UdpSocket::bind("10.0.1.1:0").is_ok();
    assert!(testbed.in_pod("x/a", has_it).unwrap());
    assert!(!testbed.in_place(&Place::Outside, has_it).unwrap());
    Ok(())
}

fn what_is_wrong_with_a_topology_is_said() -> Result<(), String> {
    let wrong = |change: &dyn Fn(&mut Topology)| {
        let mut topology = topology();
        change(&mut topology);
        format!("{:#}", Testbed::build(&topology, |_| ()).unwrap_err())
    };
    let cases = [
        (
            wrong(&|t| t.pods[1].node = "n9".to_owned()),
            "building pod x/b on node n9: there is no node n9 in this testbed",
        ),
        (
            wrong(&|t| t.pods[1].name = "x/a".to_owned()),
            "building pod x/a on node n1: there is one of this name already",
        ),
        (
            wrong(&|t| t.nodes[1].name = "n1".to_owned()),
            "building node n1: there is one of this name already",
        ),
        (
            wrong(&|t| t.pods[1].addresses[0] = ip("172.18.0.9")),
            "building pod x/b on node n1: pod x/b cannot have the address 172.18.0.9: \
             node n2 has it",
        ),
        (
            wrong(&|t| t.outside.push(ip("203.0.113.7"))),
            "the outside has the address 203.0.113.7 twice",
        ),
        (
            wrong(&|t| t.outside.push(ip("127.0.0.1"))),
            "127.0.0.1 is not an address that a host can have in a network",
        ),
        (
            wrong(&|t| t.outside.push(ip("169.254.1.1"))),
            "the testbed itself uses the address 169.254.1.1 as a gateway",
        ),
    ];
    for (said, expected) in cases {
        assert_eq!(said, expected);
    }
    Ok(())
}

fn a_failed_addition_changes_nothing() -> Result<(), String> {
    let topology = topology();
    let mut testbed = build(&topology);
    let namespaces = network_namespaces();
    testbed.add_pod(&pod("z/new", "n1", &["10.44.0.1", "10.0.1.1"])).unwrap_err();
    testbed.add_pod(&pod("x/a", "n1", &["10.44.0.1"])).unwrap_err();
    testbed.add_pod(&pod("z/new", "n3", &["10.44.0.1"])).unwrap_err();
    assert_eq!(network_namespaces(), namespaces);
    testbed.add_pod(&pod("z/new", "n1", &["10.44.0.1"])).unwrap();
    expect(&testbed, &all_pairs(&topology, &PROTOCOLS), |_| Outcome::Allowed);
    Ok(())
}

/// The network namespaces that this process keeps alive by a file or a thread.
fn network_namespaces() -> BTreeSet<PathBuf> {
    let files = fs::read_dir("/proc/self/fd").unwrap();
    let threads = fs::read_dir("/proc/self/task").unwrap();
    files
        .map(|file| file.unwrap().path())
        .chain(threads.map(|thread| thread.unwrap().path().join("ns/net")))
        .filter_map(|path| fs::read_link(path).ok())
        .filter(|target| target.starts_with(Path::new("net:")) || is_namespace(target))
        .collect()
}

fn is_namespace(target: &Path) -> bool {
    target.to_string_lossy().starts_with("net:[")
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn nothing_is_left_behind() -> Result<(), String> {
    let (namespaces, files) = (network_namespaces(), open_files());
    assert_eq!(namespaces.len(), 1, "that of the process itself");
    let topology = topology();
    let testbed = build(&topology);
    assert_eq!(network_namespaces().len(), 1 + 1 + topology.nodes.len() + topology.pods.len());
    expect(&testbed, &all_pairs(&topology, &PROTOCOLS), |_| Outcome::Allowed);
    assert_eq!(network_namespaces().len(), 1 + 1 + topology.nodes.len() + topology.pods.len());
    testbed.tear_down();
    assert_eq!(network_namespaces(), namespaces);
    assert_eq!(open_files(), files);
    Ok(())
}

fn the_own_namespace_is_not_touched() -> Result<(), String> {
    let read = || {
        let settings = ["ipv4/ip_forward", "ipv4/conf/all/rp_filter", "ipv6/conf/all/forwarding"]
            .map(|name| fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap());
        let links = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let names: Vec<String> =
            links.lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect();
        (fs::read_link("/proc/thread-self/ns/net").unwrap(), settings, names)
    };
    let before = read();
    let mut testbed = build(&topology());
    testbed.add_pod(&pod("z/new", "n1", &["10.44.0.1"])).unwrap();
    testbed.in_node("n1", || ()).unwrap();
    testbed.remove_pod("x/a").unwrap();
    expect(&testbed, &all_pairs(&topology(), &[Traffic::Icmp])[..1], |_| Outcome::Allowed);
    assert_eq!(read(), before);
    Ok(())
}

fn one_can_look_inside() -> Result<(), String> {
    let testbed = build(&topology());
    let inside =
        testbed.in_pod("x/a", || fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
    let path = testbed.namespace_path(&in_pod("x/a")).unwrap();
    assert_eq!(fs::read_link(path).unwrap(), inside);

    // This process is in its user namespace already, so the command is the one for root.
    let command = testbed.shell_command(&in_pod("x/a"), Privilege::Capabilities).unwrap();
    let output = Command::new("sh")
        .args(["-c", &format!("{command} readlink /proc/self/ns/net")])
        .output()
        .unwrap();
    if String::from_utf8_lossy(&output.stderr).contains("not found") {
        return Err("there is no program `nsenter` here".to_owned());
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(Path::new(String::from_utf8_lossy(&output.stdout).trim()), inside);
    Ok(())
}
