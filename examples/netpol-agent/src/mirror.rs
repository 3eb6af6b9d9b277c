//! The API server's objects as they are known here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use netpol_core::Cluster;
use netpol_core::manifest::{self, Concern, Reading, Strictness};
use netpol_core::model::{Name, Node, PolicyKey, name};
use serde::Deserialize;
use serde_json::Value;

use crate::kind::Kind;
use crate::object::Object;
use crate::watch::Heard;

/// All objects of the cluster, as far as policies care.
///
/// It is complete as soon as every kind has been listed once. What it held before, from the disk, is replaced kind by
/// kind.
#[derive(Debug)]
pub(crate) struct Mirror {
    kinds: BTreeMap<Kind, Known>,
    own: OwnNode,
}

/// The objects of one kind.
#[derive(Debug, Default)]
struct Known {
    /// The kept fields of each as JSON.
    objects: HashMap<Key, Arc<str>>,
    /// Those that have been told in the list under way.
    listing: Option<HashSet<Key>>,
    listed: bool,
}

/// Namespace, name, and the uid of what does not last by its name.
type Key = (Name, Name, Name);

/// The node that is enforced on.
#[derive(Debug)]
struct OwnNode {
    name: Name,
    /// As the API server has it.
    node: Option<Node>,
    /// Its pods' addresses are taken from these, it says.
    ranges: Vec<IpNet>,
    /// The addresses of its interfaces. The API server does not know them all, such as that of the bridge by which
    /// pods see their node.
    interfaces: Vec<IpAddr>,
}

/// Which object something is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct About {
    pub(crate) kind: Kind,
    pub(crate) namespace: Name,
    pub(crate) name: Name,
}

/// What has become of an object.
#[derive(Debug)]
pub(crate) enum Finding {
    /// It has changed.
    Read { uid: String, generation: i64, understood: Understood },
    /// It is gone.
    Gone,
}

/// How much of an object was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Understood {
    /// All of it.
    Fully,
    /// Not these parts, each a field and what is wrong with it; they are read so that they allow nothing.
    Partly(Vec<String>),
    /// Nothing; the API's words for why, and all of it for people. If there was an earlier object of its name, that
    /// stays in force.
    Nothing { reasons: Vec<String>, text: String },
}

impl Mirror {
    /// Nothing yet, seen from a node.
    pub(crate) fn new(node: &str) -> Self {
        let own =
            OwnNode { name: name(node), node: None, ranges: Vec::new(), interfaces: Vec::new() };
        Self { kinds: Kind::ALL.into_iter().map(|kind| (kind, Known::default())).collect(), own }
    }

    /// Takes in what was heard of a kind. Tells what has become of objects that are not as they were.
    pub(crate) fn hear(
        &mut self,
        kind: Kind,
        heard: Heard,
        cluster: &mut Cluster,
    ) -> Vec<(About, Finding)> {
        match heard {
            Heard::Listing => {
                self.known(kind).listing = Some(HashSet::new());
                Vec::new()
            }
            Heard::Applied(object) => self.apply(kind, object, cluster).into_iter().collect(),
            Heard::Deleted(object) => {
                self.remove(kind, &key(kind, &object), cluster).into_iter().collect()
            }
            Heard::Listed => {
                let known = self.known(kind);
                known.listed = true;
                let told = known.listing.take().unwrap_or_default();
                let gone: Vec<Key> =
                    known.objects.keys().filter(|key| !told.contains(*key)).cloned().collect();
                gone.iter().filter_map(|key| self.remove(kind, key, cluster)).collect()
            }
        }
    }

    /// The kinds that have not been listed yet. As long as there are any, nothing can be concluded from what is not
    /// there.
    pub(crate) fn missing(&self) -> Vec<Kind> {
        self.kinds.iter().filter(|(_, known)| !known.listed).map(|(kind, _)| *kind).collect()
    }

    /// Every object, as it is to be kept on disk.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Arc<str>> {
        self.kinds.values().flat_map(|known| known.objects.values())
    }

    /// Whether the API server has a node of the name that was given.
    pub(crate) fn has_own_node(&self) -> bool {
        self.own.node.is_some()
    }

    /// The ranges from which the API server says that the node's pods have their addresses.
    pub(crate) fn ranges(&self) -> &[IpNet] {
        &self.own.ranges
    }

    /// The addresses of this host's interfaces have been looked up; tells whether they have changed.
    pub(crate) fn set_interfaces(
        &mut self,
        interfaces: Vec<IpAddr>,
        cluster: &mut Cluster,
    ) -> bool {
        let changed = self.own.interfaces != interfaces;
        if changed {
            self.own.interfaces = interfaces;
            self.own.tell(cluster);
        }
        changed
    }

    fn known(&mut self, kind: Kind) -> &mut Known {
        self.kinds.entry(kind).or_default()
    }

    fn apply(
        &mut self,
        kind: Kind,
        object: Object,
        cluster: &mut Cluster,
    ) -> Option<(About, Finding)> {
        let key = key(kind, &object);
        let (uid, generation) = (object.metadata("uid").to_owned(), object.generation());
        let mut json = object.value;
        json["apiVersion"] = kind.api_version().into();
        json["kind"] = kind.as_str().into();
        let known = self.known(kind);
        if let Some(listing) = &mut known.listing {
            listing.insert(key.clone());
        }
        let text: Arc<str> = json.to_string().into();
        // Of most updates of pods and nodes nothing is left after trimming.
        if known.objects.get(&key) == Some(&text) {
            return None;
        }
        let about = about(kind, &key);
        let finding = |understood| Some((about, Finding::Read { uid, generation, understood }));
        let Reading { object, warnings } = match read(&json) {
            Ok(reading) => reading,
            Err(understood) => return finding(understood),
        };
        match object {
            manifest::Object::Namespace(it) => cluster.upsert_namespace(it),
            manifest::Object::Pod(it) => cluster.upsert_endpoint(it),
            manifest::Object::Policy(it) => cluster.upsert_policy(it),
            manifest::Object::Node(it) if it.name == self.own.name => {
                self.own.ranges = pod_ranges(&json);
                self.own.node = Some(it);
                self.own.tell(cluster);
            }
            manifest::Object::Node(it) => cluster.upsert_node(it),
            manifest::Object::Workload { .. } | manifest::Object::Skipped { .. } => {}
        }
        let unclear = warnings.iter().filter(|warning| warning.concern == Concern::FailClosed);
        let unclear: Vec<String> =
            unclear.map(|warning| format!("{}: {}", warning.path, warning.message)).collect();
        let found = finding(if unclear.is_empty() {
            Understood::Fully
        } else {
            Understood::Partly(unclear)
        });
        self.known(kind).objects.insert(key, text);
        found
    }

    fn remove(&mut self, kind: Kind, key: &Key, cluster: &mut Cluster) -> Option<(About, Finding)> {
        self.known(kind).objects.remove(key)?;
        let (namespace, name, uid) = key;
        match kind {
            Kind::Namespace => cluster.remove_namespace(name),
            Kind::Pod => cluster.remove_endpoint(namespace, name, uid),
            Kind::Node => {
                cluster.remove_node(name);
                if *name == self.own.name {
                    self.own.node = None;
                }
            }
            _ => {
                if let Some(kind) = kind.policy() {
                    let (namespace, name) = (namespace.clone(), name.clone());
                    cluster.remove_policy(&PolicyKey { kind, namespace, name });
                }
            }
        }
        Some((about(kind, key), Finding::Gone))
    }
}

impl OwnNode {
    fn tell(&self, cluster: &mut Cluster) {
        let Some(node) = &self.node else { return };
        let mut node = node.clone();
        let unknown = self.interfaces.iter().filter(|it| !node.addresses.contains(it));
        let unknown: Vec<IpAddr> = unknown.copied().collect();
        node.addresses.extend(unknown);
        cluster.upsert_node(node);
    }
}

fn key(kind: Kind, object: &Object) -> Key {
    let uid = if kind.lasts_by_name() { "" } else { object.metadata("uid") };
    (name(object.metadata("namespace")), name(object.metadata("name")), name(uid))
}

fn about(kind: Kind, (namespace, name, _): &Key) -> About {
    About { kind, namespace: namespace.clone(), name: name.clone() }
}

/// Reads an object that the API server has accepted: what breaks today's rules is understood as far as possible.
fn read(json: &Value) -> Result<Reading, Understood> {
    let options = manifest::ReadOptions { strictness: Strictness::Lenient, ..Default::default() };
    let nothing = |reasons, text| Understood::Nothing { reasons, text };
    let value = manifest::Value::deserialize(json)
        .map_err(|error| nothing(vec!["Invalid".to_owned()], error.to_string()))?;
    manifest::read_object(&value, &options).map_err(|rejected| {
        let reasons = rejected.errors.iter().map(|error| error.reason.to_string()).collect();
        nothing(reasons, rejected.to_string())
    })
}

/// `podCIDRs` of a node, or the older `podCIDR`.
fn pod_ranges(node: &Value) -> Vec<IpNet> {
    let listed = node["spec"]["podCIDRs"].as_array().into_iter().flatten();
    let ranges = listed.chain([&node["spec"]["podCIDR"]]).filter_map(Value::as_str);
    let mut ranges: Vec<IpNet> = ranges.filter_map(|range| range.parse().ok()).collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, uid: &str, more: Value) -> Object {
        let mut object = json!({"metadata": {"namespace": "shop", "name": name, "uid": uid}});
        let more = more.as_object().unwrap().clone();
        object.as_object_mut().unwrap().extend(more);
        serde_json::from_value(object).unwrap()
    }

    fn pod(name: &str, uid: &str) -> Object {
        object(name, uid, json!({"status": {"podIP": "10.0.0.1"}}))
    }

    fn policy(spec: Value) -> Object {
        object("policy", "p", json!({"spec": spec}))
    }

    fn uids(cluster: &Cluster) -> Vec<String> {
        let mut uids: Vec<String> = cluster.endpoints().map(|it| it.uid.to_string()).collect();
        uids.sort();
        uids
    }

    #[test]
    fn a_list_replaces_what_was_known() {
        let (mut mirror, mut cluster) = (Mirror::new("n1"), Cluster::default());
        assert_eq!(mirror.missing(), Kind::ALL);
        let mut hear = |heard| mirror.hear(Kind::Pod, heard, &mut cluster);
        hear(Heard::Applied(pod("from-disk", "1")));
        hear(Heard::Listing);
        hear(Heard::Applied(pod("a", "2")));
        // The list begins anew: nothing of the first attempt counts.
        hear(Heard::Listing);
        hear(Heard::Applied(pod("b", "3")));
        assert_eq!(hear(Heard::Listed).len(), 2);
        assert!(hear(Heard::Applied(pod("b", "3"))).is_empty(), "nothing has changed");
        assert_eq!(uids(&cluster), ["3"]);
        assert_eq!(mirror.missing().len(), Kind::ALL.len() - 1);
        assert_eq!(mirror.objects().count(), 1);
    }

    #[test]
    fn a_pod_that_takes_the_name_of_another_is_another() {
        let (mut mirror, mut cluster) = (Mirror::new("n1"), Cluster::default());
        let mut hear = |kind, heard| mirror.hear(kind, heard, &mut cluster);
        hear(Kind::Pod, Heard::Applied(pod("a", "old")));
        hear(Kind::Pod, Heard::Applied(pod("a", "new")));
        hear(Kind::Pod, Heard::Deleted(pod("a", "old")));
        // A policy is not.
        hear(Kind::NetworkPolicy, Heard::Listing);
        hear(Kind::NetworkPolicy, Heard::Applied(policy(json!({"podSelector": {}}))));
        hear(Kind::NetworkPolicy, Heard::Listed);
        let again = object("policy", "other", json!({"spec": {"podSelector": {}, "egress": [{}]}}));
        hear(Kind::NetworkPolicy, Heard::Listing);
        hear(Kind::NetworkPolicy, Heard::Applied(again));
        hear(Kind::NetworkPolicy, Heard::Listed);
        assert_eq!(uids(&cluster), ["new"]);
        assert_eq!(cluster.policies().count(), 1);
    }

    #[test]
    fn what_is_not_understood_does_not_replace_what_was() {
        let (mut mirror, mut cluster) = (Mirror::new("n1"), Cluster::default());
        let mut hear = |kind, heard| mirror.hear(kind, heard, &mut cluster);
        hear(Kind::Pod, Heard::Applied(pod("a", "1")));
        let broken = object("a", "1", json!({"status": {"podIP": "nonsense"}}));
        let found = hear(Kind::Pod, Heard::Applied(broken));
        let [(_, Finding::Read { understood: Understood::Nothing { reasons, .. }, .. })] = &*found
        else {
            panic!("{found:?}");
        };
        assert_eq!(reasons, &["Invalid"]);
        // Of a policy at least the subject is known.
        let found = hear(Kind::NetworkPolicy, Heard::Applied(policy(json!({"ingress": 1}))));
        let [(_, Finding::Read { understood: Understood::Partly(_), .. })] = &*found else {
            panic!("{found:?}");
        };
        assert_eq!(cluster.policies().count(), 1);
        assert!(cluster.endpoints().all(|pod| pod.addresses.len() == 1));
        assert_eq!(mirror.objects().count(), 2, "the disk gets what is in force");
    }

    #[test]
    fn the_own_node_has_the_addresses_of_its_interfaces() {
        let (mut mirror, mut cluster) = (Mirror::new("n1"), Cluster::default());
        let addresses: Vec<IpAddr> = vec![[10, 0, 0, 1].into(), [172, 18, 0, 1].into()];
        mirror.set_interfaces(addresses.clone(), &mut cluster);
        for name in ["n1", "n2"] {
            let node = json!({
                "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24", "fd00::/64"]},
                "status": {"addresses": [{"type": "InternalIP", "address": "172.18.0.1"}]},
            });
            mirror.hear(Kind::Node, Heard::Applied(object(name, "", node)), &mut cluster);
        }
        let nodes: Vec<&Node> = cluster.nodes().collect();
        assert_eq!(nodes[0].addresses, [addresses[1], addresses[0]]);
        assert_eq!(nodes[1].addresses, [addresses[1]]);
        assert_eq!(mirror.ranges().len(), 2);
    }
}
