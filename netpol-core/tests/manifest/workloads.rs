//! Pods, what makes pods, namespaces, nodes and lists of objects.

use netpol_core::manifest::{Object, WorkloadKind};
use netpol_core::model::{DeclaredPort, Endpoint, Phase, Protocol, name};

use crate::{lenient, load, read, strict};

fn pod(text: &str) -> Endpoint {
    match read(text, &strict()).unwrap_or_else(|rejected| panic!("{rejected}")).object {
        Object::Pod(endpoint) => endpoint,
        other => panic!("{other:?}"),
    }
}

fn errors(text: &str) -> Vec<String> {
    let rejected = read(text, &strict()).expect_err(text);
    rejected.errors.iter().map(|error| format!("{} {}", error.path, error.reason)).collect()
}

#[test]
fn a_pod() {
    let endpoint = pod("
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, uid: u-1, labels: {app: web, tier: ''}, deletionTimestamp: 2020-01-01}
spec:
  nodeName: node-1
  initContainers:
  - {name: once, ports: [{name: once, containerPort: 1}]}
  - {name: sidecar, restartPolicy: Always, ports: [{name: admin, containerPort: 9, protocol: UDP}]}
  containers:
  - {name: main, ports: [{name: http, containerPort: 80}, {containerPort: 81}]}
  - {name: other, ports: [{name: http, containerPort: 8080}]}
status: {phase: Running, podIP: 10.0.0.9, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}, {ip: 10.0.0.1}]}
");
    assert_eq!((&*endpoint.namespace, &*endpoint.name, &*endpoint.uid), ("shop", "web-1", "u-1"));
    assert_eq!(endpoint.labels.to_string(), "app=web,tier=");
    assert_eq!(endpoint.node.as_deref(), Some("node-1"));
    let addresses: Vec<_> = endpoint.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1", "fd00::1"], "M2");
    let port = |text, protocol, number| DeclaredPort { name: name(text), protocol, number };
    assert_eq!(
        endpoint.ports,
        [
            port("http", Protocol::Tcp, 80),
            port("http", Protocol::Tcp, 8080),
            port("admin", Protocol::Udp, 9),
        ],
        "NP-PORT-10, NP-PORT-11"
    );
    assert!(endpoint.is_ordinary(), "NP-LIFE-3");
}

#[test]
fn life_and_addresses() {
    let with = |spec: &str, status: &str| {
        pod(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {spec}, status: {status}}}"
        ))
    };
    for (phase, expected) in [
        ("Succeeded", Phase::Finished),
        ("Failed", Phase::Finished),
        ("Running", Phase::Live),
        ("Pending", Phase::Live),
        ("Unknown", Phase::Live),
        ("null", Phase::Live),
    ] {
        let endpoint = with("{}", &format!("{{phase: {phase}}}"));
        assert_eq!(endpoint.phase, expected, "NP-LIFE-1, NP-LIFE-4 {phase}");
        assert_eq!(&*endpoint.namespace, "default");
    }
    assert_eq!(with("{}", "{podIP: 10.0.0.1, podIPs: []}").addresses.len(), 1, "M2");
    assert_eq!(with("{}", "{podIP: '', podIPs: [{ip: ''}]}").addresses.len(), 0, "NP-LIFE-2");
    assert_eq!(with("null", "null").addresses.len(), 0, "NP-LIFE-2");
    let mapped = with("{}", "{podIP: '::ffff:10.0.0.1'}");
    assert_eq!(mapped.addresses[0].to_string(), "10.0.0.1");
    let host = with("{hostNetwork: true}", "{podIP: 172.18.0.2}");
    assert!(host.host_network && host.addresses.is_empty() && !host.is_ordinary(), "M4");
}

#[test]
fn bad_objects_are_told_and_stop_no_others() {
    let pod = |rest: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, {rest}}}");
    let ports =
        |ports: &str| pod(&format!("spec: {{containers: [{{name: c, ports: [{ports}]}}]}}"));
    let at = "spec.containers[0].ports[0]";
    let cases = [
        (pod("status: {podIPs: [{ip: 10.0.0}]}"), "status.podIPs[0].ip Invalid".to_owned()),
        (pod("status: {podIP: host}"), "status.podIP Invalid".to_owned()),
        (pod("status: {podIPs: 10.0.0.1}"), "<decode> BadRequest".to_owned()),
        (pod("spec: {hostNetwork: 'true'}"), "<decode> BadRequest".to_owned()),
        (ports("{containerPort: 0}"), format!("{at}.containerPort Invalid")),
        (ports("{containerPort: 1, protocol: tcp}"), format!("{at}.protocol NotSupported")),
        (ports("{containerPort: 1, name: A}"), format!("{at}.name Invalid")),
        (
            ports("{containerPort: 1, name: a}, {containerPort: 2, name: a}"),
            "spec.containers[0].ports[1].name Duplicate".to_owned(),
        ),
        (
            "{apiVersion: v1, kind: Namespace, metadata: {name: a.b}}".to_owned(),
            "metadata.name Invalid".to_owned(),
        ),
        (
            "{apiVersion: v1, kind: Node, metadata: {labels: {a: 1}, name: node}}".to_owned(),
            "<decode> BadRequest".to_owned(),
        ),
    ];
    let mut all = String::new();
    for (text, expected) in &cases {
        assert_eq!(errors(text), [expected.as_str()], "{text}");
        all.push_str(&format!("{text}\n---\n"));
    }
    all.push_str("{apiVersion: v1, kind: Node, metadata: {name: good}}\n");
    let loaded = load(&all, &strict());
    assert_eq!(loaded.rejected.len(), cases.len());
    assert_eq!(loaded.objects.nodes.len(), 1);
    // Stored objects keep their odd labels and port names.
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {a: b c}}}";
    assert_eq!(load(text, &lenient()).objects.endpoints[0].labels.get("a"), Some("b c"));
}

#[test]
fn workloads_stand_for_their_pods() {
    let template = "{metadata: {labels: {app: web}}, spec: {hostNetwork: false, \
        containers: [{ports: [{name: http, containerPort: 80}]}]}}";
    let cases = [
        ("apps/v1", WorkloadKind::Deployment, "template: "),
        ("apps/v1", WorkloadKind::StatefulSet, "template: "),
        ("apps/v1beta2", WorkloadKind::DaemonSet, "template: "),
        ("extensions/v1beta1", WorkloadKind::ReplicaSet, "template: "),
        ("v1", WorkloadKind::ReplicationController, "template: "),
        ("batch/v1", WorkloadKind::Job, "template: "),
        ("batch/v1", WorkloadKind::CronJob, "jobTemplate: {spec: {template: "),
    ];
    for (version, kind, path) in cases {
        let close = "}".repeat(path.matches('{').count());
        let word = kind.as_str();
        let text = format!(
            "{{apiVersion: {version}, kind: {word}, metadata: {{name: web, namespace: shop, labels: {{own: own}}}}, \
             spec: {{replicas: 3, {path}{template}{close}}}}}"
        );
        let Object::Workload { kind: found, endpoint, owned } =
            read(&text, &strict()).unwrap().object
        else {
            panic!("{word}");
        };
        assert_eq!((found, owned), (kind, false));
        assert_eq!((&*endpoint.namespace, &*endpoint.name), ("shop", "web"));
        assert_eq!(endpoint.labels.get("app"), Some("web"), "{word}");
        assert_eq!(endpoint.labels.get("own"), None, "{word}");
        assert_eq!(endpoint.labels.get("job-name").is_some(), kind == WorkloadKind::Job);
        assert_eq!(endpoint.ports.len(), 1, "{word}");
        assert!(endpoint.addresses.is_empty() && endpoint.is_ordinary());
    }
    let owned = "{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web-1, ownerReferences: \
        [{kind: Deployment, name: web, controller: true}]}, spec: {template: {}}}";
    assert!(load(owned, &strict()).objects.endpoints.is_empty(), "its Deployment stands for it");
}

#[test]
fn namespaces_and_nodes() {
    let loaded = load(
        "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: red}}
---
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {zone: a}}
status:
  addresses:
  - {type: InternalIP, address: 172.18.0.2}
  - {type: ExternalIP, address: 'fd00::2'}
  - {type: Hostname, address: node-1}
  - {type: InternalIP, address: 172.18.0.2}
",
        &strict(),
    );
    let labels = loaded.objects.namespaces[0].labels.to_string();
    assert_eq!(labels, "kubernetes.io/metadata.name=shop,team=red", "SEL-9");
    let node = &loaded.objects.nodes[0];
    let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["172.18.0.2", "fd00::2"], "C-PEER-4");
}

#[test]
fn lists_and_other_kinds() {
    let loaded = load(
        "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: {name: a}}
- apiVersion: v1
  kind: PodList
  items:
  - {metadata: {name: b}}
  - {apiVersion: v1, kind: Pod, metadata: {name: c}}
- {apiVersion: networking.k8s.io/v1, kind: NetworkPolicyList, items: [{metadata: {name: p, namespace: x}}]}
- {apiVersion: v1, kind: Service, metadata: {name: s}}
- null
---
---
{apiVersion: v1, kind: List}
---
{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: p}}
---
{apiVersion: v1, kind: Service, metadata: {name: t}}
---
{apiVersion: example.com/v1, kind: AllowList, spec: {}}
",
        &strict(),
    );
    assert!(loaded.rejected.is_empty(), "{:?}", loaded.rejected);
    let names: Vec<_> = loaded.objects.endpoints.iter().map(|endpoint| &*endpoint.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(loaded.objects.policies.len(), 1);
    let skipped: Vec<_> = loaded
        .skipped
        .iter()
        .map(|((version, kind), count)| format!("{version} {kind} {count}"))
        .collect();
    assert_eq!(
        skipped,
        ["example.com/v1 AllowList 1", "projectcalico.org/v3 NetworkPolicy 1", "v1 Service 2",]
    );
}
