//! The file of endpoints that are no pods: virtual machines, containers, whatever has an address on this host.
//!
//! ```yaml
//! apiVersion: netpol/v1
//! kind: HostEndpoints
//! endpoints:
//! - name: db
//!   namespace: shop                  # default: that of -n
//!   labels: {app: db}
//!   addresses: [10.0.0.5, fd00::5]
//!   ports: [{name: pg, port: 5432}]  # protocol: TCP
//! - name: web
//!   interface: tap17                 # has the addresses that are routed there
//! ```
//!
//! An endpoint is read as the pod that it could be, so that what is wrong is found by the same rules.

use netpol_core::manifest::{self, Object, ReadOptions, Strictness, Value};
use netpol_core::model::{Endpoint, name};

use crate::input::document::{Document, documents};
use crate::input::{Finding, Place, Source};

/// What one file says.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndpointFile {
    pub(crate) endpoints: Vec<HostEndpoint>,
    /// What is wrong with it.
    pub(crate) findings: Vec<Finding>,
}

/// An endpoint of this host.
#[derive(Clone, Debug)]
pub(crate) struct HostEndpoint {
    pub(crate) endpoint: Endpoint,
    /// The interface that leads to it, beside the addresses that are given.
    pub(crate) interface: Option<String>,
}

const KEYS: [&str; 6] = ["name", "namespace", "labels", "addresses", "interface", "ports"];

impl EndpointFile {
    pub(crate) fn read(source: &Source, namespace: &str) -> Self {
        let mut this = Self::default();
        let file = name(&source.name);
        for Document { number, content } in documents(&source.text) {
            let place = |line| Place { file: file.clone(), document: number, line };
            let located = match content {
                Ok(located) => located,
                Err(unreadable) => {
                    this.findings
                        .push(Finding::unreadable(place(unreadable.line), unreadable.message));
                    continue;
                }
            };
            let mut refuse = |path: &str, message: String| {
                let place = place(located.lines.find(&located.value, path));
                this.findings.push(Finding::unreadable(place, message));
            };
            let kind = located.value.get("kind").and_then(Value::as_str);
            if kind != Some("HostEndpoints") {
                refuse("kind", "expected kind: HostEndpoints".to_owned());
                continue;
            }
            let Some(Value::List(items)) = located.value.get("endpoints") else {
                refuse("endpoints", "expected a list of endpoints".to_owned());
                continue;
            };
            for (at, item) in items.iter().enumerate() {
                match endpoint(item, namespace) {
                    Ok(endpoint) => this.endpoints.push(endpoint),
                    Err(messages) => messages.into_iter().for_each(|message| {
                        refuse(&format!("endpoints[{at}]"), format!("endpoints[{at}]: {message}"));
                    }),
                }
            }
        }
        this
    }
}

fn endpoint(item: &Value, namespace: &str) -> Result<HostEndpoint, Vec<String>> {
    let Value::Map(entries) = item else { return Err(vec!["expected a map".to_owned()]) };
    let unknown = entries.iter().map(|(key, _)| key).filter(|key| !KEYS.contains(&&***key));
    let unknown: Vec<String> = unknown.map(|key| format!("unknown field {key}")).collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let interface = match item.get("interface") {
        None => None,
        Some(Value::String(interface)) => Some(interface.clone()),
        Some(_) => return Err(vec!["interface: expected the name of an interface".to_owned()]),
    };
    if item.get("addresses").is_none() && interface.is_none() {
        return Err(vec!["neither addresses nor an interface".to_owned()]);
    }
    let options = ReadOptions { strictness: Strictness::Strict, ..ReadOptions::default() };
    match manifest::read_object(&pod(item, namespace)?, &options) {
        Ok(manifest::Reading { object: Object::Pod(endpoint), .. }) => {
            Ok(HostEndpoint { endpoint, interface })
        }
        Ok(_) => Err(vec!["this is no endpoint".to_owned()]),
        Err(rejected) => {
            let told = rejected.errors.iter();
            Err(told.map(|it| format!("{}: {}", as_written(&it.path), it.message)).collect())
        }
    }
}

/// The pod that stands for an endpoint.
fn pod(item: &Value, namespace: &str) -> Result<Value, Vec<String>> {
    let get = |key| item.get(key).cloned();
    let metadata = [
        ("name", get("name")),
        ("namespace", get("namespace").or_else(|| Some(text(namespace)))),
        ("labels", get("labels")),
    ];
    let addresses = match get("addresses") {
        Some(Value::List(addresses)) => addresses,
        None => Vec::new(),
        Some(_) => return Err(vec!["addresses: expected a list".to_owned()]),
    };
    let ips = addresses.into_iter().map(|ip| map([("ip", Some(ip))])).collect();
    let ports = match get("ports") {
        Some(Value::List(ports)) => ports.iter().map(container_port).collect(),
        None => Vec::new(),
        Some(_) => return Err(vec!["ports: expected a list".to_owned()]),
    };
    let container = map([("name", Some(text("host"))), ("ports", Some(Value::List(ports)))]);
    Ok(map([
        ("apiVersion", Some(text("v1"))),
        ("kind", Some(text("Pod"))),
        ("metadata", Some(map(metadata))),
        ("spec", Some(map([("containers", Some(Value::List(vec![container])))]))),
        ("status", Some(map([("podIPs", Some(Value::List(ips)))]))),
    ]))
}

fn container_port(port: &Value) -> Value {
    map([
        ("name", port.get("name").cloned()),
        ("containerPort", port.get("port").cloned()),
        ("protocol", port.get("protocol").cloned()),
    ])
}

/// A field of the pod as it is called in the file.
fn as_written(path: &str) -> String {
    path.replace("metadata.", "")
        .replace("spec.containers[0].", "")
        .replace("containerPort", "port")
        .replace("status.podIPs", "addresses")
        .replace("].ip", "]")
}

fn map<const N: usize>(entries: [(&str, Option<Value>); N]) -> Value {
    let present = entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Map(present.collect())
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> EndpointFile {
        let source = Source { name: "hosts.yaml".to_owned(), text: text.to_owned() };
        EndpointFile::read(&source, "default")
    }

    #[test]
    fn endpoints_are_pods_of_a_kind() {
        let file = read(
            "apiVersion: netpol/v1\nkind: HostEndpoints\nendpoints:\n\
             - name: db\n  namespace: shop\n  labels: {app: db}\n  addresses: [10.0.0.5, fd00::5]\n\
             \x20 ports: [{name: pg, port: 5432}]\n\
             - {name: web, interface: tap17}\n",
        );
        assert!(file.findings.is_empty(), "{:?}", file.findings);
        let [db, web] = file.endpoints.try_into().unwrap();
        assert_eq!((&*db.endpoint.namespace, &*db.endpoint.name), ("shop", "db"));
        assert_eq!(db.endpoint.labels.get("app"), Some("db"));
        assert_eq!(db.endpoint.addresses.len(), 2);
        assert_eq!(db.endpoint.ports[0].number, 5432);
        assert_eq!(
            (&*web.endpoint.namespace, web.interface.as_deref()),
            ("default", Some("tap17"))
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let file = read(
            "kind: HostEndpoints\nendpoints:\n- {name: A, addresses: [10.0.0.1]}\n\
             - {name: a, addresses: [10.0.0.300]}\n- {name: b}\n- {name: c, interfaces: eth0}\n",
        );
        assert!(file.endpoints.is_empty());
        let told: Vec<String> = file.findings.iter().map(ToString::to_string).collect();
        for (line, begin) in told.iter().zip([
            "hosts.yaml:3: error: document 1: endpoints[0]: name: ",
            "hosts.yaml:4: error: document 1: endpoints[1]: addresses[0]: ",
            "hosts.yaml:5: error: document 1: endpoints[2]: neither addresses nor an interface",
            "hosts.yaml:6: error: document 1: endpoints[3]: unknown field interfaces",
        ]) {
            assert!(line.starts_with(begin), "{line}");
        }
        assert_eq!(told.len(), 4, "{told:#?}");
    }
}
