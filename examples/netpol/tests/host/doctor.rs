//! `netpol doctor`.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::scene::{Scene, policy};
use crate::support::Run;

pub(crate) fn says_what_is_wrong() {
    let scene = Scene::new();
    scene.write("b.yaml", &policy("b", "a", "web"));
    let doctor = || scene.netpol("doctor", &["-o", "json", "--no-probe"]);

    let found = doctor();
    assert_eq!(found.code, 1, "{found:#?}");
    assert_eq!(state(&found, "backend"), "good");
    assert_eq!(state(&found, "in-force"), "bad");

    assert_eq!(scene.netpol("apply", &[]).code, 0);
    let found = doctor();
    assert_eq!(found.code, 0, "{found:#?}");
    for check in ["in-force", "hooks", "agreement", "connection-tracking", "forwarding", "ipv6"] {
        assert_eq!(state(&found, check), "good", "{check}: {found:#?}");
    }

    scene.on_host(|| fs::write("/proc/sys/net/ipv4/ip_forward", "0")).expect("set");
    let hosts = fs::read_to_string(&scene.hosts).expect("read");
    fs::write(&scene.hosts, hosts.replace(", 'fd00::2'", "")).expect("written");
    assert_eq!(scene.netpol("apply", &[]).code, 0);
    let found = doctor();
    assert_eq!(found.code, 0, "{found:#?}");
    for check in ["forwarding", "ipv6"] {
        assert_eq!(state(&found, check), "warning", "{check}: {found:#?}");
    }

    let chain = "{ type filter hook forward priority 10; policy drop; }";
    if scene.nft(&["add", "table", "inet", "other"]).is_some() {
        assert_eq!(state(&found, "other-rules"), "good");
        scene.nft(&["add", "chain", "inet", "other", "strict", chain]);
        assert_eq!(state(&doctor(), "other-rules"), "warning");
        scene.nft(&["delete", "chain", "ip", "netpol", "output"]);
        let found = doctor();
        assert_eq!(found.code, 1);
        assert_eq!(state(&found, "hooks"), "bad");
        assert_eq!(state(&found, "agreement"), "bad");
        assert_eq!(scene.netpol("apply", &[]).code, 0);
        assert_eq!(state(&doctor(), "hooks"), "good");
    }

    let found = scene.bare(&["doctor"]);
    assert_eq!(found.code, 0, "{found:#?}");
    let probe = found.out.lines().find(|line| line.contains("self-probe")).expect("a probe");
    assert!(probe.starts_with("ok "), "{}", found.out);
    assert!(found.out.ends_with("policies are enforced here, with the exceptions above\n"));
}

/// With a look at /sys as this network namespace has it.
pub(crate) fn looks_at_bridges() {
    let scene = Scene::new();
    let doctor = |prepare: &str| {
        let program = env!("CARGO_BIN_EXE_netpol");
        let script = format!(
            "mount -t sysfs sysfs /sys && {prepare} && exec {program} doctor --no-probe -o json"
        );
        let shell = ["--mount", "sh", "-c", &script];
        let output =
            scene.on_host(|| Command::new("unshare").args(shell).output()).expect("a shell");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let code = output.status.code().expect("not killed");
        Run { code, out: text(output.stdout), notes: text(output.stderr) }
    };
    let found = doctor("true");
    if found.out.is_empty() {
        println!("        SKIPPED: {}", found.notes.trim());
        return;
    }
    assert_eq!(state(&found, "bridges"), "good", "there is none");
    let found = doctor(
        "ip link add br0 type bridge && ip link add v0 type veth peer name v1 && \
         ip link set v0 master br0 && ip link set v1 master br0",
    );
    if found.out.is_empty() {
        println!("        SKIPPED: {}", found.notes.trim());
        return;
    }
    for (setting, expected) in [("0", "warning"), ("1", "good")] {
        let settings = ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"];
        let set = |name| fs::write(format!("/proc/sys/net/bridge/{name}"), setting);
        match scene.on_host(|| settings.into_iter().try_for_each(set)) {
            Ok(()) => assert_eq!(state(&doctor("true"), "bridges"), expected),
            // Without br_netfilter no packet between the ports of a bridge is seen.
            Err(_) => assert_eq!(state(&doctor("true"), "bridges"), "warning"),
        }
    }
}

fn state(run: &Run, check: &str) -> String {
    let result: Value = serde_json::from_str(&run.out).expect("JSON");
    let findings = result["findings"].as_array().expect("findings");
    let found = findings.iter().find(|it| it["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} in {result:#}"));
    assert_eq!(found["state"] != "good", found["advice"].is_string(), "{found}");
    found["state"].as_str().expect("a word").to_owned()
}
