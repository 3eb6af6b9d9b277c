//! A host that embeds a backend: rules in force and proven, connections cut that a change forbids,
//! reports of what is denied. It is written once, and is a host of the one backend or of the other
//! by one line.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test; but without the test harness it does not look like one to the lints"
)]

#[path = "../../netpol-backend-nft/tests/support/objects.rs"]
mod objects;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::Duration;

use netpol_backend_iptables::Variant;
use netpol_core::model::{Labels, Node, Options as Readings, name};
use netpol_core::{Cluster, Program, Scope, compile};
use netpol_testbed::{Testbed, Topology};

mod by_nft {
    use netpol_backend_nft::{self as backend, Nft as Kernel};
    include!("support/host.rs");
}

mod by_iptables {
    use netpol_backend_iptables::{self as backend, Iptables as Kernel};
    include!("support/host.rs");
}

const A: [&str; 2] = ["10.0.0.1", "fd00::1"];
const B: [&str; 2] = ["10.0.0.2", "fd00::2"];
const NODE: [&str; 2] = ["192.168.0.1", "fd01::1"];
const SHORT: Duration = Duration::from_millis(400);
/// Where the legacy variant's lock is, which everybody on the machine shares otherwise.
const LOCK: &str = "XTABLES_LOCKFILE";

fn main() -> ExitCode {
    if std::env::var_os(LOCK).is_none() {
        let lock = std::env::temp_dir().join(format!("netpol-{}.lock", std::process::id()));
        let binary = std::env::current_exe().expect("own path");
        let status = Command::new(binary).env(LOCK, &lock).status().expect("it runs");
        _ = std::fs::remove_file(lock);
        return if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if let Err(error) = netpol_testbed::enter() {
        println!("SKIPPED EVERYTHING: {error:#}");
        return ExitCode::SUCCESS;
    }
    let iptables = |variant| {
        let options = netpol_backend_iptables::Options { variant, ..Default::default() };
        move || by_iptables::is_a_host(options)
    };
    let mut failed = 0;
    let mut check = |name: &str, body: Box<dyn FnOnce()>| {
        let passed = catch_unwind(AssertUnwindSafe(body)).is_ok();
        println!("{}  {name}", if passed { "passed" } else { "FAILED" });
        failed += usize::from(!passed);
    };
    check("nft", Box::new(|| by_nft::is_a_host(netpol_backend_nft::Options::default())));
    check("iptables, the nft variant", Box::new(iptables(Variant::Nft)));
    check("iptables, the legacy variant", Box::new(iptables(Variant::Legacy)));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The pods `x/a` and `x/b` on the node `n`.
struct Scene {
    testbed: Testbed,
    cluster: Cluster,
}

impl Scene {
    fn new() -> Self {
        let mut cluster = Cluster::new(Readings::default());
        let addresses = NODE.map(ip).to_vec();
        let labels = Labels::default();
        cluster.upsert_node(Node { name: name("n"), labels, addresses: addresses.clone() });
        let node = netpol_testbed::Node { name: "n".to_owned(), addresses };
        let mut topology = Topology { nodes: vec![node], ..Topology::default() };
        for (pod, addresses) in [("a", A), ("b", B)] {
            let addresses = addresses.map(ip).to_vec();
            cluster.upsert_endpoint(objects::pod(pod, "n", &addresses));
            let (name, node) = (format!("x/{pod}"), "n".to_owned());
            topology.pods.push(netpol_testbed::Pod { name, node, addresses });
        }
        let testbed = Testbed::build(&topology, |_| ()).expect("a testbed");
        Self { testbed, cluster }
    }

    fn program(&self) -> Program {
        compile(&self.cluster, Scope::Node(name("n")))
    }

    fn on_the_node<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        self.testbed.in_node("n", body).expect("a node")
    }

    /// A connection from `x/a` to `x/b`, both ends of it.
    fn connect(&self, to: SocketAddr) -> Option<[TcpStream; 2]> {
        let listen = || TcpListener::bind(to).expect("bound");
        let listener = self.testbed.in_pod("x/b", listen).expect("a pod");
        let connect = || TcpStream::connect_timeout(&to, SHORT).ok();
        let here = self.testbed.in_pod("x/a", connect).expect("a pod")?;
        let (there, _) = listener.accept().expect("accepted");
        for stream in [&here, &there] {
            stream.set_read_timeout(Some(SHORT)).expect("set");
        }
        Some([here, there])
    }
}

/// Whether a message gets through.
fn speaks(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    from.write_all(b"word").expect("buffered");
    to.read_exact(&mut [0; 4]).is_ok()
}

/// Whether messages get through both ways.
fn lives([here, there]: &mut [TcpStream; 2]) -> bool {
    speaks(here, there) && speaks(there, here)
}
