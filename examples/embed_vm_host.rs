//! A host of virtual machines, without Kubernetes: values of the model, made by hand and put into the kernel.
#![expect(clippy::print_stdout, reason = "an example that shows what it does")]

use netpol_backend_nft::{Nft, Options, render};
use netpol_core::{Cluster, Scope, compile, model::*};
use nix::sched::{CloneFlags, unshare};

fn main() -> anyhow::Result<()> {
    let mut cluster = Cluster::default();
    for (vm, role, address) in [("vm-17", "db", "10.0.0.17"), ("vm-18", "web", "10.0.0.18")] {
        let mut endpoint = Endpoint::new("tenant-a", vm);
        endpoint.labels = Labels::from_iter([("role", role)]);
        endpoint.addresses.push(address.parse()?);
        endpoint.node = Some(name("host-1"));
        cluster.upsert_endpoint(endpoint);
    }
    let with = |role| {
        let namespaces = NamespaceScope::Named(name("tenant-a"));
        PodSelector { namespaces, pods: Selector::new([Requirement::is_in("role", [role])]) }
    };
    let peers = Peers::AnyOf(vec![Peer::Pods(with("web"))]);
    let ports = Ports::AnyOf(vec![PortMatch::Range(Protocol::Tcp, PortRange::single(5432))]);
    let kind = PolicyKind::NetworkPolicy;
    cluster.upsert_policy(Policy {
        key: PolicyKey { kind, namespace: name("tenant-a"), name: name("db") },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(with("db")),
        ingress: Some(vec![Rule { name: None, action: Action::Accept, peers, ports }]),
        egress: None,
    });
    let program = compile(&cluster, Scope::Node(name("host-1")));
    // In a network namespace of its own, so that this can be tried anywhere.
    match unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET) {
        Ok(()) => println!("in force: {:?}", Nft::open(Options::default())?.sync(&program)?),
        Err(no) => println!("not permitted ({no}):\n{}", render(&program, &Options::default())),
    }
    Ok(())
}
