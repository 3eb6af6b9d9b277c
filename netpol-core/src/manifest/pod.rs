//! Pods, and what makes pods.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::address;
use super::error::Reason;
use super::field::Field;
use super::metadata::{self, Expected, Metadata, Scope};
use super::names;
use super::value::Value;
use crate::model::{DeclaredPort, Endpoint, Phase, Protocol, name};

/// A kind of object that makes pods from a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// `apps`.
    Deployment,
    /// `apps`.
    StatefulSet,
    /// `apps`.
    DaemonSet,
    /// `apps`.
    ReplicaSet,
    /// The core group.
    ReplicationController,
    /// `batch`.
    Job,
    /// `batch`.
    CronJob,
}

impl WorkloadKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::ReplicaSet,
        Self::ReplicationController,
        Self::Job,
        Self::CronJob,
    ];

    /// The kind as manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::ReplicationController => "ReplicationController",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
        }
    }

    /// The short form that `kubectl` takes, as in `deploy/web`.
    pub fn short(self) -> &'static str {
        match self {
            Self::Deployment => "deploy",
            Self::StatefulSet => "sts",
            Self::DaemonSet => "ds",
            Self::ReplicaSet => "rs",
            Self::ReplicationController => "rc",
            Self::Job => "job",
            Self::CronJob => "cj",
        }
    }

    fn group(self) -> &'static str {
        match self {
            Self::ReplicationController => "",
            Self::Job | Self::CronJob => "batch",
            _ => "apps",
        }
    }

    /// The kind of this name in `group`, whatever the version; some began in `extensions`.
    pub(super) fn find(group: &str, kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| {
            known.as_str() == kind
                && (known.group() == group || (group == "extensions" && known.group() == "apps"))
        })
    }
}

/// Reads a Pod (M2, M4, NP-PORT-10).
pub(super) fn read(object: &Field<'_, '_>, default_namespace: &str) -> Endpoint {
    let metadata = metadata::read(object, expected(default_namespace));
    let status = object.child("status");
    status.entries();
    let endpoint = from_spec(metadata, &object.child("spec"));
    let phase = match status.child("phase").text() {
        Some("Succeeded" | "Failed") => Phase::Finished,
        _ => Phase::Live,
    };
    // What the status of a host-network pod tells are the addresses of its node.
    let addresses = if endpoint.host_network { SmallVec::new() } else { pod_addresses(&status) };
    Endpoint { phase, addresses, ..endpoint }
}

/// Reads a workload as one endpoint of its name that has no address yet; the flag says that another object that
/// makes pods made this one.
pub(super) fn read_workload(
    object: &Field<'_, '_>,
    kind: WorkloadKind,
    default_namespace: &str,
) -> (Endpoint, bool) {
    let metadata = metadata::read(object, expected(default_namespace));
    let owned = metadata.owned;
    let spec = object.child("spec");
    spec.entries();
    let job = spec.child("jobTemplate");
    let job_spec = job.child("spec");
    let template = match kind {
        WorkloadKind::CronJob => job_spec.child("template"),
        _ => spec.child("template"),
    };
    template.entries();
    let template_metadata = template.child("metadata");
    template_metadata.entries();
    let mut labels = metadata::labels(&template_metadata);
    if kind == WorkloadKind::Job {
        // Put on the pods by the job controller.
        for key in ["batch.kubernetes.io/job-name", "job-name"] {
            labels = labels.with(key, &metadata.name);
        }
    }
    (from_spec(Metadata { labels, ..metadata }, &template.child("spec")), owned)
}

fn expected(default_namespace: &str) -> Expected<'_> {
    Expected { name: names::dns_subdomain, namespace: Scope::Namespaced(Some(default_namespace)) }
}

fn from_spec(metadata: Metadata, spec: &Field<'_, '_>) -> Endpoint {
    spec.entries();
    let Metadata { name: own_name, namespace, uid, labels, .. } = metadata;
    let node = spec.child("nodeName").text().filter(|node| !node.is_empty());
    Endpoint {
        namespace,
        name: own_name,
        uid,
        labels,
        addresses: SmallVec::new(),
        node: node.map(name),
        phase: Phase::Live,
        host_network: spec.child("hostNetwork").boolean() == Some(true),
        ports: declared_ports(spec),
    }
}

/// The named ports of all containers and of the sidecars among the init containers (NP-PORT-10).
fn declared_ports(spec: &Field<'_, '_>) -> Vec<DeclaredPort> {
    let mut ports = Vec::new();
    for container in spec.child("containers").items().into_iter().flatten() {
        container_ports(&container, &mut ports);
    }
    for container in spec.child("initContainers").items().into_iter().flatten() {
        if container.value.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            container_ports(&container, &mut ports);
        }
    }
    ports
}

fn container_ports(container: &Field<'_, '_>, into: &mut Vec<DeclaredPort>) {
    container.entries();
    let mut own: Vec<&str> = Vec::new();
    let list = container.child("ports");
    for entry in list.items().into_iter().flatten() {
        entry.entries();
        let number = entry.get("containerPort").and_then(|number| number.port_number());
        if entry.child("containerPort").is_null() {
            entry
                .child("containerPort")
                .blemish(Reason::Required, "the number of the port is needed");
        }
        let protocol_field = entry.child("protocol");
        let protocol = match protocol_field.text() {
            None => None,
            Some("") => Some(Protocol::Tcp),
            Some(word) => {
                let known = Protocol::from_api(word);
                if known.is_none() {
                    let message = format!("TCP, UDP or SCTP is needed, not \"{word}\"");
                    protocol_field.blemish(Reason::NotSupported, message);
                }
                known
            }
        };
        let name_field = entry.child("name");
        let Some(port_name) = name_field.text().filter(|name| !name.is_empty()) else { continue };
        if let Err(wanted) = names::port_name(port_name) {
            let message = format!("\"{port_name}\" is not a port name: {wanted}");
            name_field.blemish(Reason::Invalid, message);
        }
        if own.contains(&port_name) {
            let message = format!("\"{port_name}\" names another port of the container already");
            name_field.blemish(Reason::Duplicate, message);
        }
        own.push(port_name);
        if let (Some(number), Some(protocol)) = (number, protocol) {
            into.push(DeclaredPort { name: name(port_name), protocol, number });
        }
    }
}

/// `podIPs`, or the older `podIP`; those that are not set yet are empty.
fn pod_addresses(status: &Field<'_, '_>) -> SmallVec<[IpAddr; 2]> {
    let mut addresses = SmallVec::new();
    let mut add = |field: &Field<'_, '_>| {
        let text = field.text().unwrap_or_default();
        match address::address(text) {
            Some(address) if addresses.contains(&address) => {}
            Some(address) => addresses.push(address),
            None if text.is_empty() => {}
            None => field.reject(Reason::Invalid, format!("\"{text}\" is not an IP address")),
        }
    };
    let list = status.child("podIPs");
    for entry in list.items().into_iter().flatten() {
        entry.entries();
        add(&entry.child("ip"));
    }
    if !matches!(list.value, Value::List(entries) if !entries.is_empty()) {
        add(&status.child("podIP"));
    }
    addresses
}
