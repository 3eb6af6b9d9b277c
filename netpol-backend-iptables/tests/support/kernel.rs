//! Network namespaces for tests that need a kernel.
#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

use std::io::Write;
use std::process::{Command, Stdio};

use netpol_backend_iptables::{Error, Iptables, Options, Variant};
use nix::sched::{CloneFlags, unshare};

/// Set in the process that runs a test.
const INSIDE: &str = "NETPOL_TEST_INSIDE";

pub(crate) const VARIANTS: [Variant; 2] = [Variant::Nft, Variant::Legacy];

/// Runs a test for each variant of iptables, each in a fresh network namespace on a thread of its
/// own: what it does is invisible to the host. The test binary runs itself again for that, without
/// root inside of a user namespace; with a lock file of its own, since that of the legacy variant is
/// shared by everybody on the machine. What is not possible here is said and left out.
pub(crate) fn in_namespace(test: &str, body: impl Fn(Variant) + Send + Copy + 'static) {
    if std::env::var_os(INSIDE).is_none() {
        return enter(test);
    }
    for variant in VARIANTS {
        let run = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            match missing(variant) {
                None => body(variant),
                Some(error) => eprintln!("SKIPPED the {variant} variant: {error}"),
            }
        });
        if let Err(panic) = run.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

fn enter(test: &str) {
    let possible = |arguments: &[&str]| {
        let status = Command::new("unshare").args(arguments).arg("true").status();
        status.is_ok_and(|status| status.success())
    };
    let binary = std::env::current_exe().expect("own path");
    let mut command = if possible(&["-n"]) {
        Command::new(binary)
    } else if possible(&["-Urn"]) {
        let mut command = Command::new("unshare");
        command.arg("-Ur").arg(binary);
        command
    } else {
        eprintln!("SKIPPED {test}: neither root nor user namespaces");
        return;
    };
    let lock = std::env::temp_dir().join(format!("netpol-{}-{test}.lock", std::process::id()));
    let status = command
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .env("XTABLES_LOCKFILE", &lock)
        .status()
        .expect("it runs");
    _ = std::fs::remove_file(lock);
    assert!(status.success(), "{test} failed in its namespace");
}

/// What this machine lacks for a variant.
fn missing(variant: Variant) -> Option<Error> {
    let nothing = netpol_core::Program::clone(&netpol_core::compile(
        &netpol_core::Cluster::new(netpol_core::model::Options::default()),
        netpol_core::Scope::Cluster,
    ));
    let tried = Iptables::open(Options { variant, ..Options::default() }).and_then(|mut it| {
        it.sync(&nothing)?;
        it.remove()
    });
    match tried {
        Err(error @ (Error::Missing { .. } | Error::NoVariant { .. })) => Some(error),
        Err(error @ Error::Unsupported { .. }) => Some(error),
        Err(error) => panic!("{variant}: {error}"),
        Ok(()) => None,
    }
}

pub(crate) fn open(variant: Variant) -> Iptables {
    Iptables::open(Options { variant, ..Options::default() }).expect("the tools")
}

/// Runs a tool in the namespace of the calling thread.
pub(crate) fn run(command: &str) -> String {
    feed(command, "")
}

pub(crate) fn feed(command: &str, input: &str) -> String {
    let mut words = command.split(' ');
    let mut child = Command::new(words.next().expect("a tool"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{command}");
    String::from_utf8(output.stdout).expect("text")
}

/// The `iptables` of a variant.
pub(crate) fn iptables(variant: Variant, arguments: &str) -> String {
    run(&format!("iptables-{variant} -w 5 {arguments}"))
}
