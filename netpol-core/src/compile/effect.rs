use crate::cluster::Cluster;
use crate::model::PolicyKey;
use crate::program::{Difference, Scope};

use super::Compiler;

/// What a policy changes: exactly the verdicts that would be others if it were left out, with those it leads to.
///
/// Nothing for a policy that is not there, and for one that makes no difference since others say what it says. Compiles
/// the cluster once, takes the policy out as an event, and compares as [`Program::diff`](crate::Program::diff) does.
///
/// ```
/// use netpol_core::model::*;
/// use netpol_core::program::Verdict;
/// use netpol_core::{Cluster, effect_of};
///
/// let mut cluster = Cluster::default();
/// let mut web = Endpoint::new("shop", "web");
/// web.addresses.push("10.0.0.1".parse()?);
/// cluster.upsert_endpoint(web);
/// let kind = PolicyKind::NetworkPolicy;
/// let key = PolicyKey { kind, namespace: "shop".into(), name: "closed".into() };
/// assert!(effect_of(&cluster, &key).cells.is_empty());
///
/// let namespaces = NamespaceScope::Named("shop".into());
/// cluster.upsert_policy(Policy {
///     key: key.clone(),
///     tier: Tier::NetworkPolicy,
///     priority: 0,
///     subject: Subject::Pods(PodSelector { namespaces, pods: Selector::everything() }),
///     ingress: Some(vec![]),
///     egress: None,
/// });
/// let effect = effect_of(&cluster, &key);
/// assert!(effect.cells.iter().all(|cell| cell.verdict == Verdict::Deny));
/// assert_eq!(&*effect.cells[0].subjects[0].name, "web");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub fn effect_of(cluster: &Cluster, policy: &PolicyKey) -> Difference {
    let mut compiler = Compiler::new(*cluster.options(), Scope::Cluster);
    let with = compiler.update(cluster, &cluster.all_as_changes()).clone();
    let mut without = cluster.clone();
    without.take_changes();
    without.remove_policy(policy);
    let changes = without.take_changes();
    compiler.update(&without, &changes).diff(&with)
}
