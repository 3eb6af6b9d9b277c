//! A host with three endpoints, a directory of manifests, and the program.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use netpol_testbed::{Node, Outcome, Place, Pod, Probe, ProbeOptions, Testbed, Topology, Traffic};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Run, netpol};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_millis(250);

pub(crate) const A: &str = "x/a";
pub(crate) const B: &str = "x/b";
pub(crate) const C: &str = "x/c";
/// Not there from the beginning.
pub(crate) const D: &str = "x/d";
const ADDRESSES: [(&str, [&str; 2]); 4] = [
    (A, ["10.0.0.1", "fd00::1"]),
    (B, ["10.0.0.2", "fd00::2"]),
    (C, ["10.0.0.3", "fd00::3"]),
    (D, ["10.0.0.4", "fd00::4"]),
];

/// The endpoints of the scene.
pub(crate) const ENDPOINTS: &str = "apiVersion: netpol/v1
kind: HostEndpoints
endpoints:
- {name: a, namespace: x, labels: {app: a}, addresses: [10.0.0.1, 'fd00::1']}
- {name: b, namespace: x, labels: {app: b}, addresses: [10.0.0.2, 'fd00::2'], ports: [{name: web, port: 80}]}
- {name: c, namespace: x, labels: {app: c}, addresses: [10.0.0.3, 'fd00::3']}
";

/// Lets `app=from` to one port of b.
pub(crate) fn policy(name: &str, from: &str, port: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {name}, namespace: x}}
spec:
  podSelector: {{matchLabels: {{app: b}}}}
  ingress:
  - from: [{{podSelector: {{matchLabels: {{app: {from}}}}}}}]
    ports: [{{port: {port}}}]
"
    )
}

/// The host.
pub(crate) struct Scene {
    pub(crate) testbed: Testbed,
    /// Where the manifests are.
    pub(crate) directory: PathBuf,
    pub(crate) hosts: PathBuf,
    top: PathBuf,
}

impl Scene {
    /// With the endpoints, and no policy.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let node = Node { name: "host".to_owned(), addresses: parsed(["192.168.0.1", "fd01::1"]) };
        let pods = [A, B, C].map(|name| Pod {
            name: name.to_owned(),
            node: "host".to_owned(),
            addresses: addresses(name),
        });
        let topology = Topology { nodes: vec![node], pods: pods.to_vec(), outside: Vec::new() };
        let testbed = Testbed::build(&topology, |_| ()).expect("a testbed");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let top = std::env::temp_dir().join(format!("netpol-{}-{count}", std::process::id()));
        let directory = top.join("policies");
        fs::create_dir_all(&directory).expect("a directory");
        let hosts = top.join("hosts.yaml");
        fs::write(&hosts, ENDPOINTS).expect("written");
        Self { testbed, directory, hosts, top }
    }

    /// Another place for files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    /// Writes a manifest, all at once.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let draft = self.top.join("draft");
        fs::write(&draft, text).expect("written");
        fs::rename(&draft, self.directory.join(name)).expect("moved");
    }

    /// Where the program is to find what it needs.
    pub(crate) fn input(&self) -> [String; 4] {
        let path = |path: &Path| path.display().to_string();
        ["-f".into(), path(&self.directory), "--endpoints".into(), path(&self.hosts)]
    }

    /// Runs `netpol` on the host, with its input.
    pub(crate) fn netpol(&self, command: &str, arguments: &[&str]) -> Run {
        let mut all = vec![command.to_owned()];
        all.extend(self.input());
        all.extend(arguments.iter().map(|&it| it.to_owned()));
        self.on_host(|| netpol(&all))
    }

    /// Runs `netpol` on the host, without input.
    pub(crate) fn bare(&self, arguments: &[&str]) -> Run {
        self.on_host(|| netpol(arguments))
    }

    pub(crate) fn on_host<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.testbed.in_node("host", f).expect("a node")
    }

    /// Runs the nft tool on the host; `None` if there is none.
    pub(crate) fn nft(&self, arguments: &[&str]) -> Option<String> {
        let output = self.on_host(|| Command::new("nft").args(arguments).output());
        let Ok(output) = output else {
            println!("SKIPPED a part: there is no nft tool");
            return None;
        };
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        Some(String::from_utf8(output.stdout).expect("text"))
    }

    /// Whether connections from one to another pass, by both families; they must agree.
    pub(crate) fn passes(&self, from: &str, to: &str, port: u16) -> bool {
        let probes = probes(from, to, port);
        let outcomes = self.probe(&probes);
        match outcomes[..] {
            [Outcome::Allowed, Outcome::Allowed] => true,
            [Outcome::Denied, Outcome::Denied] => false,
            _ => panic!("{from} -> {to}:{port}: {outcomes:?}"),
        }
    }

    pub(crate) fn probe(&self, probes: &[Probe]) -> Vec<Outcome> {
        self.testbed.probe(probes, &ProbeOptions { timeout: SILENCE }, |_, _| ())
    }

    /// Starts `netpol run`.
    pub(crate) fn start(&self, arguments: &[&str]) -> Daemon {
        self.start_with(arguments, |_| ())
    }

    pub(crate) fn start_with(
        &self,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command) + Send,
    ) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netpol"));
        command.arg("run").args(self.input()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = self.on_host(|| command.spawn()).expect("netpol starts");
        let (sender, lines) = channel();
        let notes = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            notes.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Daemon { child, lines, heard: Vec::new() }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.top);
    }
}

/// The addresses of an endpoint, one for each family.
pub(crate) fn addresses(name: &str) -> Vec<IpAddr> {
    let (_, list) = ADDRESSES.iter().find(|(it, _)| *it == name).expect("an endpoint");
    parsed(*list)
}

fn parsed(list: [&str; 2]) -> Vec<IpAddr> {
    list.map(|it| it.parse().expect("an address")).to_vec()
}

/// The probes from one endpoint to another, one for each family.
pub(crate) fn probes(from: &str, to: &str, port: u16) -> [Probe; 2] {
    let address = |name: &str, family: usize| addresses(name)[family];
    [0, 1].map(|family| Probe {
        from: Place::Pod(from.to_owned()),
        source: address(from, family),
        to: address(to, family),
        traffic: Traffic::Tcp(port),
    })
}

/// A running `netpol run`.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Daemon {
    /// Waits until it says something with this in it.
    pub(crate) fn says(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.heard.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {part:?} in {:#?}", self.heard),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended without {part:?}: {:#?}", self.heard)
                }
            }
        }
    }

    /// What it says within some time.
    pub(crate) fn says_within(&mut self, time: Duration) -> Vec<String> {
        let deadline = Instant::now() + time;
        let mut said = Vec::new();
        while let Ok(line) =
            self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.heard.push(line.clone());
            said.push(line);
        }
        said
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("sent");
    }

    /// Ends it as a service manager would, and returns its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.child.wait().expect("it ends").code()
    }

    /// Ends it in no good way.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().expect("it ends");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
