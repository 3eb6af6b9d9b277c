//! Reads Kubernetes objects into the model, and finds all that can be wrong with them.
//!
//! The input is a [`Value`], which any format with a `serde` deserializer gives: YAML, JSON, or a watch stream. The
//! output are values of [`model`](crate::model), which cannot be invalid. Between the two stands what the API server
//! would say on create: each [`Error`] names the object, the field in the server's spelling, the API's own
//! [`Reason`], and in plain words what would be right; all errors of an object come together.
//!
//! ```
//! use netpol_core::manifest::{self, Object, ReadOptions, Value};
//!
//! let value: Value = serde_json::from_str(r#"{
//!     "apiVersion": "networking.k8s.io/v1",
//!     "kind": "NetworkPolicy",
//!     "metadata": {"name": "api", "namespace": "shop"},
//!     "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}]}
//! }"#)?;
//! for result in manifest::read(&value, &ReadOptions::default()) {
//!     let rejected = result.unwrap_err();
//!     assert_eq!(
//!         rejected.to_string(),
//!         "NetworkPolicy shop/api: spec.ingress[0].from[0].ipBlock.cidr: Invalid: \
//!          \"10.0.0.1/8\": no bits may be set behind the prefix; write 10.0.0.0/8",
//!     );
//! }
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Objects from a cluster
//!
//! A cluster may hold objects that today's server would refuse: written under older rules, or by a newer version of
//! the API. [`Strictness::Lenient`] reads them as far as they are understood. Where they are not, the reading is the
//! one that allows nothing (C-FAIL-1…3), and a [`Warning`] of [`Concern::FailClosed`] tells.

mod address;
mod cluster;
mod cluster_wide;
mod error;
mod field;
mod load;
mod log;
mod metadata;
mod names;
mod network_policy;
mod pod;
mod selector;
mod value;

pub use error::{Concern, Error, ObjectRef, Reason, Rejected, Warning};
pub use load::{Loaded, load};
pub use pod::WorkloadKind;
pub use value::Value;

use self::field::Field;
use self::log::Log;
use crate::model::{Endpoint, Name, Namespace, Node, Policy};

/// How to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// The namespace of namespaced objects that do not say theirs, as `kubectl -n` would fill it in. Without it a
    /// NetworkPolicy has to say (NP-V-2), while pods and workloads are in `default`.
    pub namespace: Option<Name>,
    /// What becomes of objects that break a rule.
    pub strictness: Strictness,
    /// Which CRDs a ClusterNetworkPolicy has to satisfy.
    pub channel: Channel,
}

/// What becomes of objects that break a rule of the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strictness {
    /// They are rejected, as the API server does on create.
    #[default]
    Strict,
    /// They are read as far as possible, fail-closed where not understood; for what is stored already.
    Lenient,
}

/// The release channels of the ClusterNetworkPolicy CRD, whose rules differ (C-V-18, C-V-20).
///
/// The older kinds are always held against their experimental CRDs, which have every field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Either: an accepted object is good on every cluster. It has no `nodes` and `domainNames` peers, and no named
    /// ports together with peers that have no names for ports.
    #[default]
    Any,
    /// Standard: no `nodes` and `domainNames` peers.
    Standard,
    /// Experimental: no named ports together with `networks`, `nodes` and `domainNames` peers.
    Experimental,
}

/// An object that was understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A namespace.
    Namespace(Namespace),
    /// A node.
    Node(Node),
    /// A pod.
    Pod(Endpoint),
    /// What makes pods: one endpoint of its name and without address stands for all of them.
    Workload {
        /// What it is.
        kind: WorkloadKind,
        /// What each of its pods is like.
        endpoint: Endpoint,
        /// Another object made it, such as a Deployment its ReplicaSets, and stands for it.
        owned: bool,
    },
    /// A policy of any kind.
    Policy(Policy),
    /// A kind that has no meaning here.
    Skipped {
        /// As written.
        api_version: String,
        /// As written.
        kind: String,
    },
}

/// An accepted object and what was noticed about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The object.
    pub object: Object,
    /// What its author should know.
    pub warnings: Vec<Warning>,
}

/// Reads all objects in `value`: one, those of a list (`List`, `PodList`, ...), or none if it is null, as an empty
/// YAML document is. `O(n)` over the size of `value`; objects are read as the iterator is advanced.
pub fn read<'a>(
    value: &'a Value,
    options: &'a ReadOptions,
) -> impl Iterator<Item = Result<Reading, Rejected>> + 'a {
    let mut pending = vec![(value, None)];
    std::iter::from_fn(move || {
        loop {
            let (value, implied) = pending.pop()?;
            match list_items(value) {
                Some(items) => {
                    let implied = implied_type(value);
                    pending.extend(items.iter().rev().map(|item| (item, implied)));
                }
                None if value == &Value::Null => {}
                None => return Some(read_typed(value, implied, options)),
            }
        }
    })
}

/// Reads one object that is no list.
///
/// # Errors
///
/// All that the API server would have against it, or with [`Strictness::Lenient`] what leaves nothing to be read.
pub fn read_object(value: &Value, options: &ReadOptions) -> Result<Reading, Rejected> {
    read_typed(value, None, options)
}

/// What [`read`] reads in place of a list (`List`, `PodList`, ...), in order; `None` if the value is none.
pub fn list_items(value: &Value) -> Option<&[Value]> {
    let item_kind = item_kind(value)?;
    match value.get("items") {
        Some(Value::List(items)) => Some(items),
        None | Some(Value::Null) if item_kind.is_empty() => Some(&[]),
        _ => None,
    }
}

/// The kind of a list's items, empty if it does not say.
fn item_kind(list: &Value) -> Option<&str> {
    list.get("kind")?.as_str()?.strip_suffix("List")
}

/// The type of a list's items, which they need not repeat.
type Implied<'a> = Option<(&'a str, &'a str)>;

fn implied_type(list: &Value) -> Implied<'_> {
    let kind = item_kind(list).filter(|kind| !kind.is_empty())?;
    Some((list.get("apiVersion")?.as_str()?, kind))
}

fn read_typed(
    value: &Value,
    implied: Implied<'_>,
    options: &ReadOptions,
) -> Result<Reading, Rejected> {
    let text = |key| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = match (text("apiVersion"), text("kind"), implied) {
        ("", "", Some(implied)) => implied,
        (api_version, kind, _) => (api_version, kind),
    };
    let log = Log::new(options.strictness == Strictness::Lenient);
    let object = object(&Field::root(value, &log), api_version, kind, options);

    let (namespace, name) = match &object {
        Some(Object::Pod(endpoint) | Object::Workload { endpoint, .. }) => {
            (&*endpoint.namespace, &*endpoint.name)
        }
        Some(Object::Policy(policy)) => (&*policy.key.namespace, &*policy.key.name),
        Some(Object::Namespace(namespace)) => ("", &*namespace.name),
        Some(Object::Node(node)) => ("", &*node.name),
        Some(Object::Skipped { .. }) | None => {
            let metadata = value.get("metadata").unwrap_or(&Value::Null);
            let text = |key| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
            (text("namespace"), text("name"))
        }
    };
    let about = ObjectRef {
        api_version: api_version.into(),
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.into(),
    };
    let (errors, warnings) = log.conclude(&about, object.is_some());
    match object {
        Some(object) if errors.is_empty() => Ok(Reading { object, warnings }),
        _ => Err(Rejected { object: about, errors, warnings }),
    }
}

/// Reads an object of whatever kind; nothing with a fault if it is none.
fn object(
    field: &Field<'_, '_>,
    api_version: &str,
    kind: &str,
    options: &ReadOptions,
) -> Option<Object> {
    field.entries()?;
    if api_version.is_empty() || kind.is_empty() {
        let missing = if kind.is_empty() { "kind" } else { "apiVersion" };
        return field.child(missing).wrong_type("the type of the object");
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let namespace = options.namespace.as_deref();
    let default_namespace = namespace.unwrap_or("default");
    let cluster_wide =
        |dialect| cluster_wide::read(field, dialect, options.channel).map(Object::Policy);
    let object = match (group, version, kind) {
        ("", "v1", "Namespace") => Object::Namespace(cluster::namespace(field)),
        ("", "v1", "Node") => Object::Node(cluster::node(field)),
        ("", "v1", "Pod") => Object::Pod(pod::read(field, default_namespace)),
        ("networking.k8s.io", "v1", "NetworkPolicy") => {
            Object::Policy(network_policy::read(field, namespace))
        }
        ("policy.networking.k8s.io", "v1alpha2", "ClusterNetworkPolicy") => {
            cluster_wide(&cluster_wide::CLUSTER_NETWORK_POLICY)?
        }
        ("policy.networking.k8s.io", "v1alpha1", "AdminNetworkPolicy") => {
            cluster_wide(&cluster_wide::ADMIN_NETWORK_POLICY)?
        }
        ("policy.networking.k8s.io", "v1alpha1", "BaselineAdminNetworkPolicy") => {
            cluster_wide(&cluster_wide::BASELINE_ADMIN_NETWORK_POLICY)?
        }
        _ => match WorkloadKind::find(group, kind) {
            Some(kind) => {
                let (endpoint, owned) = pod::read_workload(field, kind, default_namespace);
                Object::Workload { kind, endpoint, owned }
            }
            None => {
                not_served(field, group, kind)?;
                Object::Skipped { api_version: api_version.to_owned(), kind: kind.to_owned() }
            }
        },
    };
    Some(object)
}

/// A policy in a version that is not known must not be left out without a word.
fn not_served(field: &Field<'_, '_>, group: &str, kind: &str) -> Option<()> {
    let version = match (group, kind) {
        ("networking.k8s.io" | "extensions", "NetworkPolicy") => "networking.k8s.io/v1",
        ("policy.networking.k8s.io", "ClusterNetworkPolicy") => "policy.networking.k8s.io/v1alpha2",
        ("policy.networking.k8s.io", "AdminNetworkPolicy" | "BaselineAdminNetworkPolicy") => {
            "policy.networking.k8s.io/v1alpha1"
        }
        _ => return Some(()),
    };
    let message = format!("{kind} is understood in the version {version} only");
    field.child("apiVersion").reject(Reason::NotSupported, message);
    None
}
