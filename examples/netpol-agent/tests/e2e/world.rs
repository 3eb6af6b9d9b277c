//! A cluster: nodes and pods out of network namespaces, an API server that knows of them, an agent on every node.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use netpol_testbed::{Node, Outcome, Place, Pod, Probe, ProbeOptions, Testbed, Topology, Traffic};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::control_plane::{ADDRESS, ControlPlane, runtime};

pub(crate) const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

/// How long a change may take to be seen in the kernels of all nodes, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) testbed: Testbed,
    pub(crate) control_plane: ControlPlane,
    pub(crate) directory: PathBuf,
    agents: BTreeMap<&'static str, Child>,
    runtime: Runtime,
    client: Client,
    /// The pods that are there, by name, with their manifests.
    pods: BTreeMap<String, Value>,
    keep_logs: bool,
}

impl World {
    pub(crate) fn build(programs: PathBuf) -> Self {
        let directory =
            std::env::temp_dir().join(format!("netpol-agent-e2e-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let nodes = NODES.iter().zip(11_u8..).map(|(name, at)| Node {
            name: (*name).to_owned(),
            addresses: vec![
                IpAddr::from([172, 18, 0, at]),
                format!("fd00:172::{at}").parse().unwrap(),
            ],
        });
        let topology = Topology {
            nodes: nodes.collect(),
            pods: Vec::new(),
            outside: vec![ADDRESS.parse().unwrap()],
        };
        let testbed = Testbed::build(&topology, |_| ()).unwrap();
        let control_plane = ControlPlane::start(programs, directory.clone(), &testbed);
        let runtime = runtime();
        let client =
            testbed.in_place(&Place::Outside, || runtime.block_on(control_plane.client())).unwrap();
        let mut world = Self {
            testbed,
            control_plane,
            directory,
            agents: BTreeMap::new(),
            runtime,
            client,
            pods: BTreeMap::new(),
            keep_logs: false,
        };
        world.prepare();
        world
    }

    /// What a cluster's administrator would install.
    fn prepare(&mut self) {
        let deploy = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/kustomize");
        for file in ["namespace.yaml", "rbac.yaml"] {
            for object in documents(&fs::read_to_string(deploy.join(file)).unwrap()) {
                self.apply(&object);
            }
        }
        for (name, number) in NODES.iter().zip(1..) {
            self.apply(&json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                "spec": {
                    "podCIDR": format!("10.244.{number}.0/24"),
                    "podCIDRs": [format!("10.244.{number}.0/24"), format!("fd00:10:244:{number}::/64")],
                },
                "status": {"addresses": [
                    {"type": "InternalIP", "address": format!("172.18.0.1{number}")},
                    {"type": "InternalIP", "address": format!("fd00:172::1{number}")},
                ]},
            }));
        }
    }

    /// Runs what talks to the API server.
    pub(crate) fn api<T: Send>(&self, talk: impl AsyncFnOnce(Client) -> T + Send) -> T {
        let client = self.client.clone();
        let runtime = &self.runtime;
        self.testbed.in_place(&Place::Outside, move || runtime.block_on(talk(client))).unwrap()
    }

    /// Creates or changes an object that is no pod, its status included.
    pub(crate) fn apply(&self, object: &Value) {
        self.try_apply(object).unwrap();
    }

    /// [`apply`](Self::apply), where the API server may refuse.
    pub(crate) fn try_apply(&self, object: &Value) -> kube::Result<()> {
        self.api(async |client| {
            let api = api_of(&client, object);
            let mut object = object.clone();
            let status = object.as_object_mut().unwrap().remove("status");
            let params = PatchParams::apply("test").force();
            api.patch(name_of(&object), &params, &Patch::Apply(&object)).await?;
            if let Some(status) = status {
                let patch = Patch::Merge(json!({"status": status}));
                api.patch_status(name_of(&object), &PatchParams::default(), &patch).await?;
            }
            Ok(())
        })
    }

    /// Whether the API server would accept an object, unknown fields included; nothing is changed.
    pub(crate) fn try_out(&self, object: &Value) -> kube::Result<()> {
        self.api(async |client| {
            let mut params = PatchParams::apply("test").validation_strict();
            params.dry_run = true;
            let api = api_of(&client, object);
            api.patch(name_of(object), &params, &Patch::Apply(object)).await.map(drop)
        })
    }

    /// Deletes an object, at once.
    pub(crate) fn delete(&self, object: &Value) {
        self.api(async |client| {
            let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
            api_of(&client, object).delete(name_of(object), &params).await.unwrap();
        });
    }

    /// The objects of a kind, in all namespaces.
    pub(crate) fn list(&self, api_version: &str, kind: &str) -> Vec<Value> {
        let about = json!({"apiVersion": api_version, "kind": kind});
        self.api(async |client| {
            let resource = resource(&about);
            let api = Api::<DynamicObject>::all_with(client, &resource);
            let list = api.list(&Default::default()).await.unwrap();
            let of_kind = |item: DynamicObject| {
                let mut item = serde_json::to_value(item).unwrap();
                item["apiVersion"] = api_version.into();
                item["kind"] = kind.into();
                item
            };
            list.items.into_iter().map(of_kind).collect()
        })
    }

    /// Starts a pod: first its network, then the API server is told, as by a kubelet.
    pub(crate) fn start_pod(&mut self, pod: &Value) {
        self.wire_pod(pod);
        self.tell_pod(pod);
    }

    /// Makes a pod's network namespace; the API server does not know of it.
    pub(crate) fn wire_pod(&mut self, pod: &Value) {
        let addresses = addresses(pod);
        let node = pod["spec"]["nodeName"].as_str().unwrap().to_owned();
        self.testbed.add_pod(&Pod { name: label(pod), node, addresses }).unwrap();
        self.pods.insert(label(pod), pod.clone());
    }

    /// Tells the API server of a pod.
    pub(crate) fn tell_pod(&mut self, pod: &Value) {
        self.api(async |client| {
            let api = api_of(&client, pod);
            let mut pod = pod.clone();
            let status = pod.as_object_mut().unwrap().remove("status");
            let create: DynamicObject = serde_json::from_value(pod.clone()).unwrap();
            api.create(&PostParams::default(), &create).await.unwrap();
            let patch = json!({"status": status});
            let params = PatchParams::default();
            api.patch_status(name_of(&pod), &params, &Patch::Merge(patch)).await.unwrap();
        });
    }

    /// Ends a pod: the API server is told, and its network is gone.
    pub(crate) fn stop_pod(&mut self, name: &str) {
        let pod = self.pods.remove(name).unwrap();
        self.delete(&pod);
        self.testbed.remove_pod(name).unwrap();
    }

    /// A pod whose process has ended: its network is gone, its object stays.
    pub(crate) fn finish_pod(&mut self, name: &str) {
        let pod = self.pods.remove(name).unwrap();
        self.api(async |client| {
            let patch = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
            let api = api_of(&client, &pod);
            api.patch_status(name_of(&pod), &PatchParams::default(), &patch).await.unwrap();
        });
        self.testbed.remove_pod(name).unwrap();
    }

    /// Takes away the network of a pod that the API server does not know any more.
    pub(crate) fn forget_pod(&mut self, name: &str) {
        self.pods.remove(name).unwrap();
        self.testbed.remove_pod(name).unwrap();
    }

    /// Gives a pod these labels instead of those that it has.
    pub(crate) fn label_pod(&mut self, name: &str, labels: &Value) {
        let pod = self.pods.get_mut(name).unwrap();
        let mut patch = labels.clone();
        for key in pod["metadata"]["labels"].as_object().into_iter().flatten().map(|(key, _)| key) {
            if labels.get(key).is_none() {
                patch[key] = Value::Null;
            }
        }
        pod["metadata"]["labels"] = labels.clone();
        let pod = pod.clone();
        self.api(async |client| {
            let patch = Patch::Merge(json!({"metadata": {"labels": patch}}));
            let api = api_of(&client, &pod);
            api.patch(name_of(&pod), &PatchParams::default(), &patch).await.unwrap();
        });
    }

    /// The manifest of a pod that is there.
    pub(crate) fn pod(&self, name: &str) -> Option<&Value> {
        self.pods.get(name)
    }

    /// The names of the pods that are there.
    pub(crate) fn pod_names(&self) -> Vec<String> {
        self.pods.keys().cloned().collect()
    }

    /// The address of a pod.
    pub(crate) fn address(&self, pod: &str) -> IpAddr {
        addresses(&self.pods[pod])[0]
    }

    /// Starts the API server again.
    pub(crate) fn start_server(&mut self) {
        self.control_plane.start_server(&self.testbed);
    }

    /// Starts the agents of all nodes, and waits until they are ready.
    pub(crate) fn start_agents(&mut self) {
        for node in NODES {
            self.start_agent(node);
        }
        NODES.iter().for_each(|node| self.wait_until_ready(node));
    }

    /// Starts the agent of a node.
    pub(crate) fn start_agent(&mut self, node: &'static str) {
        let mut command = self.agent(node);
        let child = self.testbed.in_node(node, || command.spawn()).unwrap().unwrap();
        assert!(self.agents.insert(node, child).is_none());
    }

    /// Runs the agent's program with these arguments, until it ends.
    pub(crate) fn run_agent(&self, node: &str, arguments: &[&str]) -> ExitStatus {
        let mut command = self.agent(node);
        command.args(arguments);
        self.testbed.in_node(node, || command.status()).unwrap().unwrap()
    }

    fn agent(&self, node: &str) -> Command {
        let mut log = File::options();
        log.create(true).append(true);
        let open =
            |extension| log.open(self.directory.join(node).with_extension(extension)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_netpol-agent"));
        command
            .env("NODE_NAME", node)
            .env("KUBECONFIG", self.control_plane.agent_config())
            .env("NETPOL_STATE_DIR", self.directory.join(node))
            .stdin(Stdio::null())
            .stdout(open("records"))
            .stderr(open("log"));
        command
    }

    /// Tells the agent of a node to end, as a kubelet does.
    pub(crate) fn end_agent(&mut self, node: &str) -> ExitStatus {
        let mut child = self.agents.remove(node).unwrap();
        send(&child, Signal::SIGTERM);
        child.wait().unwrap()
    }

    /// Sends a signal to all agents.
    pub(crate) fn signal_agents(&self, signal: Signal) {
        self.agents.values().for_each(|child| send(child, signal));
    }

    /// Ends the agent of a node, as by kill -9.
    pub(crate) fn kill_agent(&mut self, node: &str) {
        let mut child = self.agents.remove(node).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn kill_agents(&mut self) {
        NODES.iter().for_each(|node| self.kill_agent(node));
    }

    pub(crate) fn agent_pid(&self, node: &str) -> u32 {
        self.agents[node].id()
    }

    /// Waits until the agent of a node is ready.
    pub(crate) fn wait_until_ready(&self, node: &str) {
        let deadline = Instant::now() + 3 * PATIENCE;
        while !self.get(node, "/readyz").starts_with("HTTP/1.1 200") {
            if Instant::now() > deadline {
                panic!("the agent of {node} is not ready: {}", self.log(node));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What an agent answers by HTTP; nothing if it is not there.
    pub(crate) fn get(&self, node: &str, path: &str) -> String {
        let ask = || {
            let mut stream = TcpStream::connect("127.0.0.1:9469")?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        self.testbed.in_node(node, ask).unwrap().unwrap_or_default()
    }

    /// What the agent of a node has logged.
    pub(crate) fn log(&self, node: &str) -> String {
        fs::read_to_string(self.directory.join(node).with_extension("log")).unwrap()
    }

    /// Whether the agents enforce with nft.
    pub(crate) fn uses_nft(&self) -> bool {
        std::env::var("NETPOL_BACKEND").map_or(true, |it| it == "nft" || it == "auto")
    }

    /// Leaves the logs of agents and API server where they are.
    pub(crate) fn keep_logs(&mut self) {
        self.keep_logs = true;
        println!("logs are in {}", self.directory.display());
    }

    /// One pod to another one.
    pub(crate) fn probe(&self, from: &str, to: &str, traffic: Traffic) -> Probe {
        Probe {
            from: Place::Pod(from.to_owned()),
            source: self.address(from),
            to: self.address(to),
            traffic,
        }
    }

    /// Probes until everything is as expected, and fails if that does not come to pass; returns how long it took.
    pub(crate) fn expect(&self, what: &str, expected: &[(Probe, bool)]) -> Duration {
        let begin = Instant::now();
        let probes: Vec<Probe> = expected.iter().map(|(probe, _)| probe.clone()).collect();
        loop {
            let took = begin.elapsed();
            let outcomes = self.testbed.probe(&probes, &OPTIONS, |_, _| ());
            let wrong = expected.iter().zip(&outcomes).filter(|((_, allowed), outcome)| {
                **outcome != if *allowed { Outcome::Allowed } else { Outcome::Denied }
            });
            let wrong: Vec<String> = wrong
                .map(|((probe, _), outcome)| {
                    format!("{} from {} to {}: {outcome}", probe.traffic, probe.from, probe.to)
                })
                .collect();
            if wrong.is_empty() {
                return took;
            }
            let first = &wrong[..wrong.len().min(10)];
            assert!(
                begin.elapsed() < PATIENCE,
                "{what}: {} of {} wrong: {first:#?}",
                wrong.len(),
                probes.len()
            );
        }
    }
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// Silence of this length is a denial.
const OPTIONS: ProbeOptions = ProbeOptions { timeout: Duration::from_millis(300) };

impl Drop for World {
    fn drop(&mut self) {
        for child in self.agents.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if !self.keep_logs {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Takes away all pods and policies, and gives x, y and z their labels back.
pub(crate) fn fresh(world: &mut World) {
    for policy in world.list("networking.k8s.io/v1", "NetworkPolicy") {
        world.delete(&policy);
    }
    for pod in world.pod_names() {
        world.stop_pod(&pod);
    }
    for pod in world.list("v1", "Pod") {
        world.delete(&pod);
    }
    for name in ["x", "y", "z"] {
        world.apply(&namespace(name, json!({})));
    }
}

pub(crate) fn namespace(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// A pod on one of the nodes, which are numbered from 1, with the address of this number there.
pub(crate) fn pod(namespace: &str, name: &str, node: usize, number: u8, labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {
            "nodeName": NODES[node - 1],
            "containers": [{"name": "main", "image": "registry.example/pause"}],
        },
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.244.{node}.{number}")}]},
    })
}

pub(crate) fn network_policy(namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name},
        "spec": spec,
    })
}

/// Waits for something to come true, and fails if it does not.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The documents of a YAML file.
pub(crate) fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    documents.into_iter().filter(|it| !it.is_null()).collect()
}

/// `namespace/name`.
pub(crate) fn label(object: &Value) -> String {
    format!("{}/{}", text(object, "namespace"), text(object, "name"))
}

pub(crate) fn addresses(pod: &Value) -> Vec<IpAddr> {
    let listed = pod["status"]["podIPs"].as_array().unwrap();
    listed.iter().map(|it| it["ip"].as_str().unwrap().parse().unwrap()).collect()
}

fn text(object: &Value, field: &str) -> String {
    object["metadata"][field].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

fn resource(object: &Value) -> ApiResource {
    let api_version = object["apiVersion"].as_str().unwrap();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = object["kind"].as_str().unwrap();
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

pub(crate) fn api_of(client: &Client, object: &Value) -> Api<DynamicObject> {
    match &*text(object, "namespace") {
        "" => Api::all_with(client.clone(), &resource(object)),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource(object)),
    }
}
