//! A controller: watch events in, the kernel kept in agreement. Watches and retries are the host program's own.
#![expect(clippy::print_stdout, reason = "an example that shows what it does")]

use netpol_backend_nft::{Nft, Options};
use netpol_core::manifest::{Object, read_object};
use netpol_core::{Cluster, Scope, compile::Compiler, model::name};
use nix::sched::{CloneFlags, unshare};

/// As `kubectl get --watch --output-watch-events` has them.
const EVENTS: &str = r#"[
  {"type": "ADDED", "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "db"},
    "spec": {"containers": [], "nodeName": "worker"}, "status": {"podIP": "10.0.0.1"}}},
  {"type": "ADDED", "object": {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
    "metadata": {"namespace": "shop", "name": "deny-all"}, "spec": {"podSelector": {}}}},
  {"type": "DELETED", "object": {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
    "metadata": {"namespace": "shop", "name": "deny-all"}, "spec": {"podSelector": {}}}}]"#;

fn main() -> anyhow::Result<()> {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET) {
        println!("skipped: not permitted to make a network namespace to try this in ({error})");
        return Ok(());
    }
    let (mut cluster, mut kernel) = (Cluster::default(), Nft::open(Options::default())?);
    let mut compiler = Compiler::new(*cluster.options(), Scope::Node(name("worker")));
    for mut event in serde_json::from_str::<Vec<serde_json::Value>>(EVENTS)? {
        let value = serde_json::from_value(event["object"].take())?;
        match (event["type"].as_str(), read_object(&value, &Default::default())?.object) {
            (Some("DELETED"), Object::Pod(it)) => {
                cluster.remove_endpoint(&it.namespace, &it.name, &it.uid)
            }
            (Some("DELETED"), Object::Policy(it)) => cluster.remove_policy(&it.key),
            (_, Object::Pod(it)) => cluster.upsert_endpoint(it),
            (_, Object::Policy(it)) => cluster.upsert_policy(it),
            _ => {} // namespaces and nodes likewise
        }
        let changes = cluster.take_changes();
        println!("{:?}", kernel.sync(compiler.update(&cluster, &changes))?);
    }
    Ok(())
}
