//! Network namespaces for tests that need a kernel.
#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use netpol_backend_nft::ruleset::{Packet, Standing};
use netpol_backend_nft::{Name, Nft, Options, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{Objects, Traffic, name as core_name};
use netpol_core::program::{Program, Scope};
use netpol_core::testing::{Choices, world};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// Set in a child that runs a test inside of a user namespace.
const IN_USER_NAMESPACE: &str = "NETPOL_TEST_IN_USER_NAMESPACE";

/// Runs a test in a fresh network namespace, on a thread of its own: what it does is invisible to
/// the host. Without root the test binary runs itself again inside of a user namespace; where that
/// is not possible either, the test says so and does nothing.
pub(crate) fn in_namespace(test: &str, body: impl FnOnce() + Send + 'static) {
    let entered = std::thread::spawn(|| match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => {
            body();
            true
        }
        Err(Errno::EPERM) => false,
        Err(error) => panic!("no network namespace: {error}"),
    })
    .join();
    match entered {
        Ok(true) => {}
        Ok(false) if std::env::var_os(IN_USER_NAMESPACE).is_none() => {
            in_user_namespace(test);
        }
        Ok(false) => eprintln!("SKIPPED {test}: not permitted to make network namespaces"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// As an ordinary user may run it, even if root runs the tests: in a user namespace.
pub(crate) fn unprivileged(test: &str, body: impl FnOnce() + Send + 'static) {
    match std::env::var_os(IN_USER_NAMESPACE) {
        Some(_) => in_namespace(test, body),
        None => in_user_namespace(test),
    }
}

fn in_user_namespace(test: &str) {
    let possible = Command::new("unshare").args(["-Ur", "true"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED {test}: neither root nor user namespaces");
        return;
    }
    let binary = std::env::current_exe().expect("own path");
    let status = Command::new("unshare")
        .arg("-Ur")
        .arg(binary)
        .args(["--exact", test, "--nocapture"])
        .env(IN_USER_NAMESPACE, "1")
        .status()
        .expect("unshare runs");
    assert!(status.success(), "{test} failed in a user namespace");
}

/// The scope of the node with most endpoints, which has most to judge.
pub(crate) fn busiest_node(objects: &Objects) -> Scope {
    let mut nodes: Vec<_> = objects.endpoints.iter().filter_map(|it| it.node.clone()).collect();
    nodes.sort();
    let busiest = nodes.chunk_by(|a, b| a == b).max_by_key(|endpoints| endpoints.len());
    let busiest = busiest.and_then(|it| it.first().cloned());
    Scope::Node(busiest.unwrap_or_else(|| core_name("node0")))
}

/// A generated program for one node, each of another world; one that judges somebody.
pub(crate) fn program(number: u64) -> Program {
    static KNOWN: Mutex<(u64, Vec<Program>)> = Mutex::new((0, Vec::new()));
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let number = usize::try_from(number).expect("a small number");
    let (seed, programs) = &mut *known;
    while programs.len() <= number {
        let (objects, options) = world(&mut Choices::from_seed(*seed, 600));
        *seed += 1;
        let scope = busiest_node(&objects);
        let program = compile(&Cluster::from_objects(options, objects), scope);
        let ruleset = render(&program, &Options::default());
        let mut sets = ruleset.tables.values().flat_map(|table| table.sets.values());
        if sets.any(|set| set.elements.is_map() && !set.elements.is_empty()) {
            programs.push(program);
        }
    }
    programs[number].clone()
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

pub(crate) fn open() -> Nft {
    Nft::open(Options::default()).expect("nf_tables")
}

/// What the nft tool prints for these arguments, in the namespace of the calling thread. `None` if
/// there is no such tool.
pub(crate) fn nft(arguments: &[&str]) -> Option<String> {
    let output = match Command::new("nft").args(arguments).output() {
        Ok(output) => output,
        Err(_) => {
            eprintln!("SKIPPED a comparison: there is no nft tool");
            return None;
        }
    };
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft {arguments:?}: {error}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

/// Feeds a ruleset in nft's syntax to the nft tool. Whether there is one.
pub(crate) fn nft_load(text: &str) -> bool {
    let child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        eprintln!("SKIPPED a comparison: there is no nft tool");
        return false;
    };
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    assert!(child.wait().expect("nft ends").success(), "nft refused:\n{text}");
    true
}

/// The packet that begins a connection.
pub(crate) fn packet(source: IpAddr, destination: IpAddr, traffic: Traffic) -> Packet {
    Packet { source, destination, transport: traffic.into(), standing: Standing::New }
}
