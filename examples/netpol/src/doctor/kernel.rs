//! Settings of the kernel on which enforcement depends.

use std::fs;
use std::path::Path;

use netpol_core::model::{Direction, Family};
use netpol_core::program::Program;

use super::Finding;
use crate::notes::count;

/// Where the kernel tells and takes settings of a network namespace.
const SETTINGS: &str = "/proc/sys/net";

pub(super) fn check(program: Option<&Program>) -> Vec<Finding> {
    let mut findings = vec![connection_tracking(), forwarding(), bridges()];
    findings.extend(addresses(program));
    findings
}

fn setting(name: &str) -> Option<String> {
    fs::read_to_string(format!("{SETTINGS}/{name}")).ok().map(|it| it.trim().to_owned())
}

fn number(name: &str) -> Option<u64> {
    setting(name)?.parse().ok()
}

/// What was allowed once goes on by way of it, and answers are only known by it (NP-CONN-1).
fn connection_tracking() -> Finding {
    const CHECK: &str = "connection-tracking";
    let used = number("netfilter/nf_conntrack_count");
    match (used, number("netfilter/nf_conntrack_max")) {
        (Some(used), Some(most)) if used * 10 >= most * 9 => {
            let message = format!("{used} of {most} connections are in use; more will be dropped");
            Finding::warning(CHECK, message, "raise net.netfilter.nf_conntrack_max")
        }
        (Some(used), Some(most)) => {
            Finding::good(CHECK, format!("on, {used} of {most} connections in use"))
        }
        _ => {
            let message = "off: nothing in this network namespace has needed it so far";
            Finding::unknown(
                CHECK,
                message,
                "our rules turn it on; check that nf_conntrack can be loaded",
            )
        }
    }
}

/// The forward hook is where endpoints are policed, and is passed by what this host routes.
fn forwarding() -> Finding {
    const CHECK: &str = "forwarding";
    let off: Vec<&str> = [("ipv4/ip_forward", "IPv4"), ("ipv6/conf/all/forwarding", "IPv6")]
        .into_iter()
        .filter(|(name, _)| number(name) == Some(0))
        .map(|(_, family)| family)
        .collect();
    match off[..] {
        [] => Finding::good(CHECK, "on for IPv4 and IPv6"),
        _ => Finding::warning(
            CHECK,
            format!(
                "off for {}: what endpoints send to each other is not routed here",
                off.join(" and ")
            ),
            "if endpoints are to use it, sysctl net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
        ),
    }
}

/// What goes from one port of a bridge to another passes our hooks only if the bridge is told so.
fn bridges() -> Finding {
    const CHECK: &str = "bridges";
    let Some(bridges) = bridges_here() else {
        return Finding::unknown(
            CHECK,
            "/sys shows another network namespace",
            "look for bridges by hand: ip link show type bridge",
        );
    };
    let several: Vec<String> =
        bridges.into_iter().filter(|(_, ports)| *ports > 1).map(|(name, _)| name).collect();
    let seen = ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"]
        .map(|name| number(name) == Some(1));
    match (several.is_empty(), seen) {
        (true, _) => Finding::good(CHECK, "there is no bridge with several ports"),
        (false, [true, true]) => Finding::good(
            CHECK,
            format!("{} lead through our rules (br_netfilter)", several.join(", ")),
        ),
        (false, _) => Finding::warning(
            CHECK,
            format!("what goes from port to port of {} passes by our rules", several.join(", ")),
            "route instead of bridging; or modprobe br_netfilter, and sysctl \
             net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1",
        ),
    }
}

/// The bridges with the number of their ports; `None` if that cannot be told.
fn bridges_here() -> Option<Vec<(String, usize)>> {
    let names = |path: &Path| -> Option<Vec<String>> {
        let entries = fs::read_dir(path).ok()?;
        let mut names: Vec<String> =
            entries.flatten().filter_map(|it| it.file_name().into_string().ok()).collect();
        names.sort();
        Some(names)
    };
    let sys = Path::new("/sys/class/net");
    let shown: Vec<String> =
        names(sys)?.into_iter().filter(|it| sys.join(it).join("ifindex").exists()).collect();
    let listed = fs::read_to_string("/proc/thread-self/net/dev").ok()?;
    let mut listed: Vec<String> =
        listed.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect();
    listed.sort();
    if shown != listed {
        return None;
    }
    let bridges = shown.into_iter().filter(|name| sys.join(name).join("bridge").is_dir());
    Some(
        bridges
            .map(|name| {
                let ports = names(&sys.join(&name).join("brif")).map_or(0, |it| it.len());
                (name, ports)
            })
            .collect(),
    )
}

/// A packet of an address that nobody is known to have is nobody's.
fn addresses(program: Option<&Program>) -> Option<Finding> {
    const CHECK: &str = "ipv6";
    let disabled = number("ipv6/conf/all/disable_ipv6") != Some(0);
    if disabled {
        return Some(Finding::good(CHECK, "off on this host"));
    }
    let judged = program?.endpoints().filter(|endpoint| {
        let profile = program.map(|it| it.profile(endpoint.profile()));
        let sides = Direction::ALL.into_iter();
        profile.is_some_and(|it| sides.into_iter().any(|side| it.side(side).is_some()))
    });
    let without: Vec<String> = judged
        .filter(|it| {
            let has = |family| it.addresses().iter().any(|address| Family::of(*address) == family);
            has(Family::V4) && !has(Family::V6)
        })
        .map(|it| format!("{}/{}", it.namespace(), it.name()))
        .collect();
    Some(match without.first() {
        None => Finding::good(CHECK, "every endpoint that policies are about has an IPv6 address"),
        Some(first) => Finding::warning(
            CHECK,
            format!(
                "of {} no IPv6 address is known, {first} for one: if they have one, it is not policed",
                count(without.len(), "isolated endpoint", "isolated endpoints")
            ),
            "list their IPv6 addresses; or sysctl net.ipv6.conf.all.disable_ipv6=1 inside of them",
        ),
    })
}
