//! Commands that come to an end by themselves.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use netpol_testbed::Pod;
use nix::sys::signal::Signal;

use crate::scene::{self, A, B, C, D, Scene, policy};

/// The user id of nobody.
const NOBODY: u32 = 65534;

pub(crate) fn from_nothing_to_flushed() {
    let scene = Scene::new();
    scene.nft(&["add", "table", "ip", "other"]);
    scene.nft(&["add", "chain", "ip", "other", "c", "{ type filter hook forward priority 5; }"]);
    let before = scene.nft(&["-j", "list", "ruleset"]);
    scene.write("b.yaml", &policy("b", "a", "web"));

    let run = scene.bare(&["status"]);
    assert_eq!((run.code, &*run.out), (1, "nft: nothing of netpol is in force\n"), "{run:#?}");
    assert_eq!(scene.netpol("status", &[]).code, 1);
    assert_eq!(scene.netpol("verify", &[]).code, 1);

    let run = scene.netpol("apply", &["--dry-run"]);
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.out.ends_with("2 commits; nothing is changed\n"), "{run:#?}");
    assert_eq!(scene.nft(&["-j", "list", "ruleset"]), before);
    assert!(scene.passes(C, B, 80));

    let run = scene.netpol("apply", &[]);
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.out.starts_with("nft: 1 policy, 3 endpoints: created in 2 commits, "), "{run:#?}");
    assert!(scene.passes(A, B, 80));
    assert!(!scene.passes(C, B, 80));
    assert!(!scene.passes(A, B, 81));
    let run = scene.netpol("apply", &[]);
    assert!(run.code == 0 && run.out.contains(": nothing to change, "), "{run:#?}");
    let run = scene.netpol("apply", &["--dry-run"]);
    assert_eq!((run.code, &*run.out), (0, "nothing to change\n"), "{run:#?}");

    let run = scene.netpol("status", &[]);
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.out.starts_with("nft: netpol is in force, as the input says\n"), "{run:#?}");
    let run = scene.bare(&["status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_str(&run.out).expect("JSON");
    assert_eq!((&status["kind"], &status["inSync"]), (&"Status".into(), &().into()));
    assert!(status["denied"]["ingress"]["packets"].as_u64().expect("a number") > 0, "{status}");
    let run = scene.netpol("verify", &[]);
    assert_eq!((run.code, &*run.out), (0, "nft: verified for 3 endpoints\n"), "{run:#?}");

    // Another instance has nothing to do with this one.
    assert_eq!(scene.bare(&["status", "--instance", "second"]).code, 1);
    let run = scene.bare(&["status", "--instance", "no name"]);
    assert_eq!(run.code, 2, "{run:#?}");

    if scene.nft(&["flush", "chain", "ip", "netpol", "denied-in"]).is_some() {
        assert!(scene.probe(&scene::probes(C, B, 80)[..1])[0] != netpol_testbed::Outcome::Denied);
        let run = scene.netpol("status", &["-o", "json"]);
        let status: serde_json::Value = serde_json::from_str(&run.out).expect("JSON");
        assert_eq!((run.code, &status["inSync"]), (1, &false.into()), "{run:#?}");
        let run = scene.netpol("verify", &["-o", "json"]);
        let result: serde_json::Value = serde_json::from_str(&run.out).expect("JSON");
        assert_eq!((run.code, &result["verified"]), (1, &false.into()), "{run:#?}");
        assert!(result["mismatches"][0]["flow"].is_string(), "{result}");
        let run = scene.netpol("apply", &[]);
        assert!(run.code == 0 && run.out.contains(": updated in 1 commit, "), "{run:#?}");
        assert!(!scene.passes(C, B, 80));
    }

    // Half of the policies may be worse than none of the new ones.
    scene.write("broken.yaml", "kind: NetworkPolicy\nspec: [\n");
    for command in ["apply", "verify", "status"] {
        let run = scene.netpol(command, &[]);
        assert_eq!(run.code, 3, "{run:#?}");
        assert!(run.notes.contains("broken.yaml:"), "{run:#?}");
    }
    assert!(!scene.passes(C, B, 80));
    fs::remove_file(scene.directory.join("broken.yaml")).expect("removed");

    assert_eq!((scene.bare(&["flush"]).code, scene.bare(&["flush"]).code), (0, 0));
    assert_eq!(scene.nft(&["-j", "list", "ruleset"]), before);
    assert!(scene.passes(C, B, 80));

    let rendered = scene.netpol("render", &[]);
    assert_eq!(rendered.code, 0);
    let file = scene.file("rendered.nft");
    fs::write(&file, &rendered.out).expect("written");
    if scene.nft(&["-c", "-f", &file.display().to_string()]).is_some() {
        assert_eq!(scene.nft(&["-j", "list", "ruleset"]), before, "only checked");
        scene.nft(&["-f", &file.display().to_string()]);
        assert!(!scene.passes(C, B, 80) && scene.passes(A, B, 80), "as if applied");
    }
    let one = scene.netpol("render", &["--endpoint", "x/b"]);
    assert!(one.code == 0 && one.out.contains("\"x/b\""), "{one:#?}");
    let other = scene.netpol("render", &["--endpoint", "x/a"]);
    assert!(other.code == 0 && !other.out.contains("\"x/b\""), "{other:#?}");
    assert_eq!(scene.netpol("render", &["--endpoint", "x/nobody"]).code, 3);
    let cost = scene.netpol("render", &["--explain-cost"]);
    assert!(
        cost.code == 0 && cost.out.starts_with("look-up ") && cost.out.contains(" ns, "),
        "{cost:#?}"
    );
    assert!(cost.out.contains("; most of it is about\n  NetworkPolicy x/"), "{cost:#?}");
    let cost = scene.netpol("render", &["--explain-cost", "--backend", "iptables"]);
    assert_eq!(cost.code, 2, "{cost:#?}");
    assert_eq!(scene.netpol("render", &["--endpoint", "10.0.0.1"]).code, 2);
}

pub(crate) fn an_audit_denies_nothing() {
    let scene = Scene::new();
    scene.write("b.yaml", &policy("b", "a", "web"));
    assert_eq!(scene.netpol("apply", &["--audit"]).code, 0);
    assert!(scene.passes(C, B, 80) && scene.passes(A, B, 80));
    let run = scene.bare(&["status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_str(&run.out).expect("JSON");
    assert!(status["denied"]["ingress"]["packets"].as_u64().expect("a number") >= 2, "{status}");
    assert_eq!(scene.netpol("verify", &[]).code, 1);
    assert_eq!(scene.netpol("apply", &[]).code, 0);
    assert!(!scene.passes(C, B, 80) && scene.passes(A, B, 80));
}

/// The testbed leads a route to each address, as a host with virtual machines does.
pub(crate) fn endpoints_by_interface() {
    let scene = Scene::new();
    let routes = scene.on_host(|| fs::read_to_string("/proc/thread-self/net/route")).expect("read");
    let bits = format!("{:08X}", u32::from_ne_bytes([10, 0, 0, 2]));
    let line = routes.lines().find(|line| line.contains(&bits)).expect("a route to b");
    let interface = line.split_whitespace().next().expect("an interface");
    let hosts = format!(
        "kind: HostEndpoints\nendpoints:\n\
         - {{name: a, namespace: x, labels: {{app: a}}, addresses: [10.0.0.1, 'fd00::1']}}\n\
         - {{name: b, namespace: x, labels: {{app: b}}, interface: {interface}}}\n"
    );
    fs::write(&scene.hosts, hosts).expect("written");
    scene.write("b.yaml", &policy("b", "a", "80"));
    let run = scene.netpol("apply", &[]);
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(scene.passes(A, B, 80));
    assert!(!scene.passes(C, B, 80));
}

/// Who is behind an interface may come later, and no file tells.
pub(crate) fn routes_are_followed() {
    let mut scene = Scene::new();
    scene.write("b.yaml", &policy("b", "d", "80"));
    let routes = scene.on_host(|| fs::read_to_string("/proc/thread-self/net/route")).expect("read");
    let number = |line: &str| line.strip_prefix("pod")?.split('\t').next()?.parse::<u32>().ok();
    let last = routes.lines().filter_map(number).max().expect("interfaces of pods");
    let late =
        format!("- {{name: d, namespace: x, labels: {{app: d}}, interface: pod{}}}\n", last + 1);
    let hosts = fs::read_to_string(&scene.hosts).expect("read");
    fs::write(&scene.hosts, hosts + &late).expect("written");
    let mut daemon = scene.start(&[]);
    daemon.says("in force");
    let pod = Pod { name: D.to_owned(), node: "host".to_owned(), addresses: scene::addresses(D) };
    scene.testbed.add_pod(&pod).expect("a pod");
    assert!(!scene.passes(D, B, 80));
    daemon.signal(Signal::SIGHUP);
    daemon.says("1 object changed: updated in ");
    assert!(scene.passes(D, B, 80) && !scene.passes(A, B, 80));
    assert_eq!(daemon.stop(), Some(0));
}

/// What needs no privilege works; what needs one says so.
pub(crate) fn without_privileges() {
    let scene = Scene::new();
    scene.write("b.yaml", &policy("b", "a", "web"));
    let run = |command: &str| {
        let program = env!("CARGO_BIN_EXE_netpol");
        scene.on_host(|| {
            Command::new(program).arg(command).args(scene.input()).uid(NOBODY).gid(NOBODY).output()
        })
    };
    match run("render") {
        Ok(output) => assert_eq!(output.status.code(), Some(0), "{output:?}"),
        Err(error) => {
            println!("SKIPPED: nobody cannot run the program: {error}");
            return;
        }
    }
    for command in ["apply", "status", "verify", "run"] {
        let output = run(command).expect("it starts");
        assert_eq!(output.status.code(), Some(5), "{command}: {output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("CAP_NET_ADMIN"), "{text}");
    }
    let usage = scene.bare(&["apply"]);
    assert_eq!(usage.code, 2, "{usage:#?}");
}

/// Not every process gets what it asks for.
pub(crate) fn the_kernel_refuses() {
    let scene = Scene::new();
    scene.write("b.yaml", &policy("b", "a", "web"));
    // So few open files that there is none left for a socket of netlink.
    let starved = |command: &str, input: &[String]| {
        let script = format!("ulimit -n 4; exec {} \"$@\"", env!("CARGO_BIN_EXE_netpol"));
        let run = || Command::new("sh").args(["-c", &script, "sh", command]).args(input).output();
        let output = scene.on_host(run).expect("a shell");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(scene.netpol("apply", &[]).code, 0);
    for command in ["apply", "status", "verify", "flush"] {
        let input = scene.input();
        let (code, notes) = starved(command, if command == "flush" { &[] } else { &input });
        assert_eq!(code, Some(4), "{command}: {notes}");
        assert_eq!(notes.matches("Too many open files").count(), 1, "{command}: {notes}");
    }
    assert!(scene.passes(A, B, 80) && !scene.passes(C, B, 80), "nothing has changed");
}

/// The other backend in either variant, where its tools are.
pub(crate) fn with_iptables() {
    for variant in ["iptables-nft", "iptables-legacy"] {
        with_variant(variant);
    }
}

fn with_variant(variant: &str) {
    let scene = Scene::new();
    scene.write("b.yaml", &policy("b", "a", "web"));
    let iptables = ["--backend", variant];
    let rendered = scene.netpol("render", &iptables);
    assert!(rendered.code == 0 && rendered.out.contains("-A "), "{rendered:#?}");
    let run = scene.netpol("apply", &[&iptables[..], &["--dry-run"]].concat());
    if run.code == 5 {
        println!("SKIPPED {variant}: {}", run.notes.trim());
        return;
    }
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.out.contains("\ncommit 2: switch rules\n"), "{run:#?}");
    assert!(scene.passes(C, B, 80));
    let bare = |command| scene.bare(&[&[command], &iptables[..]].concat());
    assert_eq!(bare("status").code, 1);
    let run = scene.netpol("apply", &iptables);
    assert_eq!(run.code, 0, "{run:#?}");
    let said = format!("{variant}: 1 policy, 3 endpoints: created in ");
    assert!(run.out.starts_with(&said), "{run:#?}");
    assert!(scene.passes(A, B, 80) && !scene.passes(C, B, 80));
    for command in ["status", "verify", "apply"] {
        let run = scene.netpol(command, &iptables);
        assert_eq!(run.code, 0, "{run:#?}");
    }
    let long = ["--backend", variant, "--instance", "too-long-a-name"];
    assert_eq!(scene.netpol("render", &long).code, 2);

    let tool = |name: &str, arguments: &[&str]| {
        let output =
            scene.on_host(|| Command::new(name).args(arguments).output()).expect("it runs");
        assert!(output.status.success(), "{name} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    for (forwards, code) in [(true, 0), (false, 1)] {
        if !forwards {
            tool(variant, &["-D", "FORWARD", "-j", "netpol-forward"]);
        }
        let run = scene.netpol("doctor", &[&iptables[..], &["--no-probe"]].concat());
        assert_eq!(run.code, code, "{run:#?}");
        assert_eq!(
            run.out.contains("do not reach our rules at: v4 forward\n"),
            !forwards,
            "{run:#?}"
        );
    }

    // Rules of others, one of them empty, and one that asks a set of ours, so that it cannot be removed.
    let sets = tool("ipset", &["list", "-n"]);
    let set = sets.lines().find(|it| it.starts_with("netpol-4-")).expect("a set");
    let asks = ["-A", "other", "-m", "set", "--match-set", set, "src", "-j", "ACCEPT"];
    for arguments in [&["-N", "other"][..], &["-A", "other"], &asks] {
        tool(variant, arguments);
    }
    let run = bare("flush");
    assert_eq!(run.code, 4, "{run:#?}");
    assert!(run.notes.contains("in use by a kernel component"), "{run:#?}");
    assert!(scene.passes(C, B, 80));
    let run = bare("status");
    assert_eq!(run.code, 1, "{run:#?}");
    assert!(
        run.out.starts_with(&format!("{variant}: nothing of netpol is in force, ")),
        "{run:#?}"
    );
    tool(variant, &["-F", "other"]);
    let run = bare("flush");
    assert_eq!((run.code, &*run.out), (0, &*format!("{variant}: removed\n")), "{run:#?}");
    assert_eq!(bare("status").code, 1);
    assert!(scene.passes(C, B, 80));
}
