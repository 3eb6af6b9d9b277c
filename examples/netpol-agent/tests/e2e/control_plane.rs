//! A real API server on a real etcd, outside of all nodes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use netpol_testbed::{Place, Testbed};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

/// Where the nodes find the API server.
pub(crate) const ADDRESS: &str = "192.0.2.1";

const ADMIN: &str = "admin";
const AGENT: &str = "agent";

/// The programs, or why they cannot be had here.
pub(crate) fn obtain() -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kube-apiserver/build");
    let output = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
    match output.status.code() {
        Some(0) => Ok(String::from_utf8(output.stdout).unwrap().trim().into()),
        Some(77) => Err("kube-apiserver and etcd cannot be obtained here".to_owned()),
        code => panic!("building kube-apiserver and etcd failed: {code:?}"),
    }
}

#[derive(Debug)]
pub(crate) struct ControlPlane {
    programs: PathBuf,
    directory: PathBuf,
    etcd: Child,
    server: Option<Child>,
}

impl ControlPlane {
    /// Starts both, with an empty store in `directory`, which is empty.
    pub(crate) fn start(programs: PathBuf, directory: PathBuf, testbed: &Testbed) -> Self {
        write_credentials(&directory);
        let etcd = spawn(testbed, &directory, "etcd", || {
            let mut etcd = Command::new(programs.join("etcd"));
            etcd.arg("--data-dir").arg(directory.join("etcd")).args([
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ]);
            etcd
        });
        let mut this = Self { programs, directory, etcd, server: None };
        let config = this.kubeconfig(AGENT, ADDRESS.parse().unwrap());
        fs::write(this.agent_config(), config).unwrap();
        this.start_server(testbed);
        this
    }

    /// Starts the API server and waits until it is ready.
    pub(crate) fn start_server(&mut self, testbed: &Testbed) {
        assert!(self.server.is_none());
        let Self { programs, directory, .. } = &self;
        let file = |flag: &str, name: &str| format!("--{flag}={}", directory.join(name).display());
        self.server = Some(spawn(testbed, directory, "kube-apiserver", || {
            let mut server = Command::new(programs.join("kube-apiserver"));
            server.args([
                "--etcd-servers=http://127.0.0.1:2379",
                "--bind-address=0.0.0.0",
                "--secure-port=6443",
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
                "--endpoint-reconciler-type=none",
                "--enable-priority-and-fairness=false",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-cluster-ip-range=10.0.0.0/24",
                &format!("--advertise-address={ADDRESS}"),
                &file("cert-dir", "certs"),
                &file("tls-cert-file", "server.crt"),
                &file("tls-private-key-file", "server.key"),
                &file("token-auth-file", "tokens.csv"),
                &file("service-account-key-file", "server.crt"),
                &file("service-account-signing-key-file", "server.key"),
            ]);
            server
        }));
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.is_ready(testbed) {
            let ended = self.server.as_mut().and_then(|it| it.try_wait().unwrap());
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the API server does not come up: {}",
                self.log("kube-apiserver")
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn is_ready(&self, testbed: &Testbed) -> bool {
        let ask = || {
            runtime().block_on(async {
                let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
                self.client().await.request_text(request).await.is_ok()
            })
        };
        testbed.in_place(&Place::Outside, ask).unwrap()
    }

    /// Ends the API server as a power cut does. The store stays.
    pub(crate) fn kill_server(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Makes the store forget how it came to be what it is, as it does from time to time: no watch can go on from
    /// before.
    pub(crate) fn compact(&self, testbed: &Testbed) {
        let ask = |path: &str, body: Value| {
            let mut stream = TcpStream::connect("127.0.0.1:2379").unwrap();
            let body = body.to_string();
            write!(
                stream,
                "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            let (begin, end) = (answer.find('{').unwrap(), answer.rfind('}').unwrap());
            serde_json::from_str::<Value>(&answer[begin..=end]).unwrap()
        };
        let compact = || {
            let now = ask("/v3/kv/range", json!({"key": "AA=="}))["header"]["revision"].clone();
            ask("/v3/kv/compaction", json!({"revision": now, "physical": true}));
        };
        testbed.in_place(&Place::Outside, compact).unwrap();
    }

    /// A client with the rights of an agent; to be used outside.
    pub(crate) async fn agent(&self) -> Client {
        self.client_of(AGENT).await
    }

    /// A client that may do everything; to be used outside.
    pub(crate) async fn client(&self) -> Client {
        self.client_of(ADMIN).await
    }

    async fn client_of(&self, token: &str) -> Client {
        let config = self.kubeconfig(token, "127.0.0.1".parse().unwrap());
        let config = Kubeconfig::from_yaml(&config).unwrap();
        let options = KubeConfigOptions::default();
        Client::try_from(Config::from_custom_kubeconfig(config, &options).await.unwrap()).unwrap()
    }

    /// What an agent needs to find the API server, as its service account.
    pub(crate) fn agent_config(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    fn kubeconfig(&self, token: &str, address: IpAddr) -> String {
        let authority = self.directory.join("ca.crt");
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://{address}:6443"),
                "certificate-authority": authority,
            }}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
        .to_string()
    }

    fn log(&self, program: &str) -> String {
        let log = fs::read_to_string(self.directory.join(program).with_extension("log")).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for child in self.server.iter_mut().chain([&mut self.etcd]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Starts a program outside, with its log in `directory`.
fn spawn(
    testbed: &Testbed,
    directory: &Path,
    name: &str,
    command: impl FnOnce() -> Command + Send,
) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(directory.join(name).with_extension("log"))
        .unwrap();
    let start = || command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
    testbed.in_place(&Place::Outside, start).unwrap().unwrap()
}

/// Keys, certificates and tokens.
fn write_credentials(directory: &Path) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let names = ["127.0.0.1", ADDRESS].map(str::to_owned);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let tokens = format!(
        "{ADMIN},{ADMIN},{ADMIN},system:masters\n\
         {AGENT},system:serviceaccount:netpol-agent:netpol-agent,{AGENT},system:serviceaccounts\n"
    );
    for (name, text) in [
        ("ca.crt", authority),
        ("server.crt", server.pem()),
        ("server.key", key.serialize_pem()),
        ("tokens.csv", tokens),
    ] {
        fs::write(directory.join(name), text).unwrap();
    }
}
