//! Hosts that lack something, and hosts that use the one variant or the other: in a mount namespace
//! in which the directory of the tools holds what the host has, and in network namespaces with what
//! others have written there.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

#[path = "support/kernel.rs"]
mod kernel;
#[path = "../../netpol-backend-nft/tests/support/objects.rs"]
mod objects;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::thread;

use kernel::{feed, in_namespace, open, run};
use netpol_backend_iptables::{Error, Iptables, Mismatch, Options, Variant, render};
use netpol_core::backend::{self, ErrorKind};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{Family, Options as Readings, name};
use netpol_core::program::{Program, Scope};
use nix::sched::{CloneFlags, unshare};
use objects::{pod, policy, with_pods};

/// Where the tools are.
const TOOLS: &str = "/usr/sbin";

/// What is called by which name: a tool of this machine, or a text that it is a script of.
enum Called {
    Tool(&'static str, String),
    Script(&'static str, &'static str),
}

fn same(tools: impl IntoIterator<Item = &'static str>) -> Vec<Called> {
    tools.into_iter().map(|tool| Called::Tool(tool, tool.to_owned())).collect()
}

/// Runs something where these are the only tools, in the network namespace of the calling thread.
fn with_tools<T: Send>(tools: Vec<Called>, body: impl FnOnce() -> T + Send) -> T {
    let entered = || {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        run("mount --make-rprivate /");
        let id =
            format!("{:?}", thread::current().id()).replace(|c: char| !c.is_alphanumeric(), "");
        let place = std::env::temp_dir().join(format!("netpol-{}-{id}", std::process::id()));
        let [real, shown] = ["real", "shown"].map(|it| place.join(it));
        [&real, &shown].into_iter().for_each(|it| fs::create_dir_all(it).expect("a directory"));
        run(&format!("mount --bind {TOOLS} {}", real.display()));
        for tool in tools {
            match tool {
                Called::Tool(called, tool) => {
                    symlink(real.join(tool), shown.join(called)).expect("a link");
                }
                Called::Script(called, text) => {
                    fs::write(shown.join(called), text).expect("written");
                    let executable = fs::Permissions::from_mode(0o755);
                    fs::set_permissions(shown.join(called), executable).expect("set");
                }
            }
        }
        run(&format!("mount --bind {} {TOOLS}", shown.display()));
        let result = body();
        run(&format!("umount {TOOLS}"));
        run(&format!("umount {}", real.display()));
        fs::remove_dir_all(place).expect("removed");
        result
    };
    thread::scope(|scope| scope.spawn(entered).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Whether the tools of this machine are in that directory alone.
fn is_usual() -> bool {
    let resolved = |path| fs::canonicalize(path).ok();
    let usual = resolved(TOOLS).is_some_and(|it| it == Path::new(TOOLS))
        && [None, resolved(TOOLS)].contains(&resolved("/sbin"))
        && Path::new(TOOLS).join("ipset").exists();
    if !usual {
        eprintln!("SKIPPED: the tools are not in {TOOLS} here");
    }
    usual
}

/// The names of a variant's tools for a family.
fn of(variant: Variant, command: &str) -> [&'static str; 2] {
    match (command, variant) {
        ("iptables", Variant::Legacy) => ["iptables-legacy-save", "iptables-legacy-restore"],
        ("iptables", _) => ["iptables-nft-save", "iptables-nft-restore"],
        (_, Variant::Legacy) => ["ip6tables-legacy-save", "ip6tables-legacy-restore"],
        (..) => ["ip6tables-nft-save", "ip6tables-nft-restore"],
    }
}

/// `x/a`, `x/b` and `x/c` on one node, isolated but for each other; with addresses of these families.
fn program(families: &[Family]) -> Program {
    let mut cluster = Cluster::new(Readings::default());
    for (at, called) in ["a", "b", "c"].into_iter().enumerate() {
        let v4 = format!("10.0.0.{}", at + 1).parse().expect("an address");
        let v6 = format!("fd00::{}", at + 1).parse().expect("an address");
        let addresses: Vec<_> =
            families.iter().map(|family| if *family == Family::V4 { v4 } else { v6 }).collect();
        cluster.upsert_endpoint(pod(called, "n", &addresses));
        cluster.upsert_policy(policy(called, Some(vec![with_pods("a")]), None));
    }
    compile(&cluster, Scope::Node(name("n")))
}

/// IPv4 is policed, and what is not is told, with what is missing and how to get it.
#[test]
fn without_ip6tables() {
    in_namespace("without_ip6tables", |variant| {
        if !is_usual() {
            return;
        }
        let v4 = || same(["ipset"].into_iter().chain(of(variant, "iptables")));
        let [save, restore] = of(variant, "ip6tables");
        // What the tool says where the kernel lacks `ip6_tables`.
        let refuses = "#!/bin/sh\necho \"ip6tables-save v1.8.9 (legacy): Cannot initialize: Table \
                       does not exist (do you need to insmod?)\" >&2\nexit 1\n";
        let mut no_module = v4();
        no_module.push(Called::Script(save, refuses));
        no_module.push(Called::Tool(restore, restore.to_owned()));
        let not_installed = format!("{restore} is not installed; install the package iptables");
        let hosts = [(v4(), not_installed.as_str()), (no_module, "load the modules ip_tables")];
        for (tools, lack) in hosts {
            with_tools(tools, || {
                let mut kernel = open(variant);
                let both = program(&Family::ALL);
                for round in 0..3 {
                    let error = kernel.sync(&both).expect_err("IPv6 is not policed");
                    let text = error.to_string();
                    assert!(matches!(error, Error::NoIpv6 { others: 2, .. }), "{round}: {text}");
                    assert!(error.is_unavailable());
                    assert!(text.contains("not enforced for x/a (fd00::1) and 2 other"), "{text}");
                    assert!(text.contains(lack), "{text}");
                    assert_eq!(backend::Error::from(error).kind(), ErrorKind::Unsupported);
                    let read = kernel.read().expect("read").expect("IPv4 is policed");
                    let wanted = render(&both, &Options::default());
                    assert_eq!(read.tables.get(&Family::V4), wanted.tables.get(&Family::V4));
                    assert!(!read.tables.contains_key(&Family::V6));
                    let unproven = kernel.verify(&both).expect("read");
                    assert_eq!(unproven, [Mismatch::NoRules(Family::V6)]);
                }
                // Nobody misses it where nobody has such an address.
                let v4 = program(&[Family::V4]);
                kernel.sync(&v4).expect("all is policed");
                assert_eq!(kernel.verify(&v4).expect("read"), []);
                kernel.remove().expect("removed");
                assert!(!run("ipset list -n").contains("netpol"));
            });
        }
        // Once it is there, it is used.
        let mut kernel = open(variant);
        kernel.sync(&program(&Family::ALL)).expect("all is policed");
        assert_eq!(kernel.verify(&program(&Family::ALL)).expect("read"), []);
    });
}

#[test]
fn without_the_tools() {
    in_namespace("without_the_tools", |variant| {
        if !is_usual() {
            return;
        }
        let open = || Iptables::open(Options { variant, ..Options::default() }).map(|_| ());
        let error = with_tools(same(of(variant, "iptables")), open).expect_err("no ipset");
        assert!(matches!(error, Error::Missing { tool: "ipset", .. }), "{error:?}");
        assert_eq!(error.to_string(), "ipset is not installed; install the package ipset");
        // The other variant does not do for the one that is asked for.
        let other = if variant == Variant::Nft { Variant::Legacy } else { Variant::Nft };
        let tools = || same(["ipset"].into_iter().chain(of(other, "iptables")));
        let error = with_tools(tools(), open).expect_err("no such variant");
        assert!(matches!(error, Error::NoVariant { .. }), "{error:?}");
        let text = format!("no iptables of the {variant} variant");
        assert!(error.to_string().contains(&text), "{error}");
        assert!(error.is_unavailable());
        let chosen = with_tools(tools(), automatic).expect("the other one");
        assert_eq!(chosen, format!("iptables-{other}"));
        assert!(with_tools(same(["ipset"]), automatic).is_err_and(|it| it.is_unavailable()));
    });
}

/// What is chosen where nothing is said.
fn automatic() -> Result<&'static str, Error> {
    Iptables::open(Options::default()).map(|it| it.name())
}

/// Set in the process that may do nothing.
const UNPRIVILEGED: &str = "NETPOL_TEST_UNPRIVILEGED";

/// In a user namespace that does not own the network namespace.
#[test]
fn without_the_privilege() {
    if let Ok(variant) = std::env::var(UNPRIVILEGED) {
        let variant = if variant == "legacy" { Variant::Legacy } else { Variant::Nft };
        let mut kernel = open(variant);
        for error in [
            kernel.sync(&program(&Family::ALL)).expect_err("not permitted"),
            kernel.verify(&program(&Family::ALL)).expect_err("not permitted"),
            kernel.remove().expect_err("not permitted"),
        ] {
            assert!(matches!(error, Error::NotPermitted { .. }), "{error:?}");
            assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
            assert_eq!(backend::Error::from(error).kind(), ErrorKind::NotPermitted);
        }
        return;
    }
    in_namespace("without_the_privilege", |variant| {
        let output = Command::new("unshare")
            .arg("-U")
            .arg(std::env::current_exe().expect("own path"))
            .args(["--exact", "without_the_privilege", "--nocapture"])
            .env(UNPRIVILEGED, variant.to_string())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    });
}

/// `auto` goes by what others have written, and only then by names.
#[test]
fn auto_follows_the_host() {
    in_namespace("auto_follows_the_host", |variant| {
        let other = if variant == Variant::Nft { Variant::Legacy } else { Variant::Nft };
        let [this, that] = [variant, other].map(|it| format!("iptables-{it}"));
        let is = |expected: &str, context: &str| {
            assert_eq!(automatic().expect("one of them"), expected, "{context}");
        };
        if open(other).sync(&program(&[Family::V4])).is_err() {
            eprintln!("SKIPPED: the {other} variant does not work here");
            return;
        }
        let usual = automatic().expect("one of them");
        let named = if run("iptables --version").contains("nf_tables") { "nft" } else { "legacy" };
        assert_eq!(usual, format!("iptables-{named}"), "rules of our own do not count");
        open(other).remove().expect("removed");

        let load = |variant: &str, rules: &str| {
            feed(&format!("{variant}-restore -w 5 --noflush"), rules);
        };
        let docker = "*nat\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
                      COMMIT\n*filter\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n\
                      -A DOCKER-USER -j RETURN\nCOMMIT\n";
        load(&this, docker);
        is(&this, "docker's rules");
        // The most rules count, here as they are left when a host has gone from one to the other.
        load(&that, "*filter\n-A FORWARD -s 192.0.2.1 -j DROP\nCOMMIT\n");
        is(&this, "one rule of the other");
        // A kubelet says what it uses, and those after it go by that.
        load(&that, "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n");
        is(&that, "the hint of a kubelet");
        load(&this, "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n");
        is(&this, "two hints, and more rules");

        // Nothing is used yet: what goes by the name of iptables is what an administrator chose.
        let alternatives = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a fresh namespace");
            let mut tools = same(["ipset"]);
            for called in ["iptables", "iptables-save", "iptables-restore"] {
                let tool = called.replace("iptables", &this);
                tools.push(Called::Tool(called, tool));
            }
            // Without any other name, and beside the full set.
            let named_only = with_tools(tools, || {
                let chosen = automatic();
                let synced = open(Variant::Auto).sync(&program(&[Family::V4]));
                synced.expect("by its usual name");
                open(Variant::Auto).remove().expect("removed");
                chosen
            });
            assert_eq!(named_only.expect("one"), this, "by the usual name alone");
            let mut tools = same(["ipset"].into_iter().chain(of(variant, "iptables")));
            tools.extend(same(of(other, "iptables")));
            tools.push(Called::Tool("iptables", this.clone()));
            assert_eq!(with_tools(tools, automatic).expect("one"), this, "an alternative");
        };
        if is_usual() {
            thread::scope(|scope| scope.spawn(alternatives).join())
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}
