//! The policies of a [`Scene`] as others write them down: rule sets of the shape that these programs write, from reading
//! them, not the programs themselves. For IPv4, and for what pods receive.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::scene::{LOCAL_PODS, Scene};

/// What the tools load.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// For `ipset restore`.
    pub sets: String,
    /// For `iptables-restore --noflush`, or `nft -f -`.
    pub rules: String,
}

/// The policies that select each pod of the node.
fn selected_by(scene: &Scene) -> Vec<Vec<u32>> {
    let mut all = vec![Vec::new(); LOCAL_PODS as usize];
    for policy in 0..scene.policies {
        for pod in scene.others(policy).chain([LOCAL_PODS - 1]) {
            all[pod as usize].push(policy);
        }
    }
    all
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// A port or a range, with this between its ends.
fn range([first, last]: [u16; 2], between: char) -> String {
    if first == last { first.to_string() } else { format!("{first}{between}{last}") }
}

/// The straightforward way with nftables: per pod a chain with one rule per policy, and per selector a set.
pub fn linear_nft(scene: &Scene) -> Script {
    let mut rules = String::from("table ip np {\n");
    let mut known = BTreeSet::new();
    for policy in (0..scene.policies).filter(|it| known.insert(scene.kind(*it))) {
        let (kind, peers) = (scene.kind(policy), list(&scene.admitted(policy)));
        _ = writeln!(rules, "set s{kind} {{ type ipv4_addr; elements = {{ {peers} }}; }}");
    }
    let mut pods = Vec::new();
    for (pod, policies) in selected_by(scene).iter().enumerate().filter(|it| !it.1.is_empty()) {
        _ = writeln!(rules, "chain pod{pod} {{");
        for policy in policies {
            let ports: Vec<_> = scene.ports(*policy).iter().map(|it| range(*it, '-')).collect();
            let kind = scene.kind(*policy);
            _ = writeln!(rules, "tcp dport {{ {} }} ip saddr @s{kind} accept", ports.join(", "));
        }
        rules.push_str("drop\n}\n");
        pods.push(format!("{} : goto pod{pod}", scene.local(u32::try_from(pod).unwrap_or(0))));
    }
    _ = writeln!(
        rules,
        "map pods {{ type ipv4_addr : verdict; elements = {{ {} }}; }}\n\
         chain forward {{ type filter hook forward priority filter;\n\
         ct state established,related accept\nct state invalid drop\nip daddr vmap @pods\n}}\n}}",
        pods.join(", ")
    );
    Script { sets: String::new(), rules }
}

/// kube-router with iptables: every pod has four rules that lead to its chain, that goes through a chain per policy,
/// and these mark what they allow; per policy there is a set of sources and one of destinations.
pub fn kube_router(scene: &Scene) -> Script {
    let (mut sets, mut chains, mut rules) = (String::new(), String::new(), String::new());
    for chain in ["ROUTER-FORWARD", "NWPLCY-DEFAULT", "NWPLCY-COMMON", "NWPLCY-TAIL"] {
        _ = writeln!(chains, ":KUBE-{chain} - [0:0]");
    }
    let mark = "-j MARK --set-xmark 0x10000/0x10000";
    rules.push_str(
        "-A FORWARD -m comment --comment \"kube-router netpol\" -j KUBE-ROUTER-FORWARD\n\
         -A KUBE-NWPLCY-COMMON -m comment --comment \"drop invalid state\" -m conntrack --ctstate INVALID -j DROP\n\
         -A KUBE-NWPLCY-COMMON -m comment --comment \"stateful firewall\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n",
    );
    for kind in ["echo-request", "destination-unreachable", "time-exceeded"] {
        _ = writeln!(
            rules,
            "-A KUBE-NWPLCY-COMMON -m comment --comment \"allow icmp\" -p icmp --icmp-type {kind} -j ACCEPT"
        );
    }
    _ = writeln!(rules, "-A KUBE-NWPLCY-DEFAULT -m comment --comment \"matches a policy\" {mark}");
    rules.push_str("-A KUBE-NWPLCY-TAIL -m mark --mark 0x20000/0x20000 -j ACCEPT\n");
    let pods = selected_by(scene);
    for policy in 0..scene.policies {
        let options = "hash:ip family inet hashsize 1024 maxelem 65536 timeout 0";
        let [from, to] = [format!("KUBE-SRC-{policy}"), format!("KUBE-DST-{policy}")];
        _ = writeln!(sets, "create {from} {options}\ncreate {to} {options}");
        for address in scene.admitted(policy) {
            _ = writeln!(sets, "add {from} {address} timeout 0");
        }
        for (pod, _) in pods.iter().enumerate().filter(|(_, all)| all.contains(&policy)) {
            let address = scene.local(u32::try_from(pod).unwrap_or(0));
            _ = writeln!(sets, "add {to} {address} timeout 0");
        }
        let chain = format!("KUBE-NWPLCY-{policy}");
        _ = writeln!(chains, ":{chain} - [0:0]");
        for ports in scene.ports(policy) {
            let matches = format!(
                "-p tcp -m comment --comment \"x/in-{policy} ingress\" -m set --match-set {from} src \
                 -m set --match-set {to} dst -m tcp --dport {}",
                range(ports, ':')
            );
            _ = writeln!(rules, "-A {chain} {matches} {mark}");
            _ = writeln!(rules, "-A {chain} {matches} -m mark --mark 0x10000/0x10000 -j RETURN");
        }
    }
    for (pod, policies) in pods.iter().enumerate() {
        let address = scene.local(u32::try_from(pod).unwrap_or(0));
        let chain = format!("KUBE-POD-FW-{pod}");
        _ = writeln!(chains, ":{chain} - [0:0]");
        let comment = format!("-m comment --comment \"x/local-{pod}\"");
        _ = writeln!(rules, "-A {chain} {comment} -j KUBE-NWPLCY-COMMON");
        _ = writeln!(
            rules,
            "-A {chain} -d {address} {comment} -m addrtype --src-type LOCAL -j ACCEPT\n\
             -A {chain} -s {address} {comment} -j KUBE-NWPLCY-DEFAULT"
        );
        if policies.is_empty() {
            _ = writeln!(rules, "-A {chain} -d {address} {comment} -j KUBE-NWPLCY-DEFAULT");
        }
        for policy in policies {
            _ = writeln!(rules, "-A {chain} -d {address} {comment} -j KUBE-NWPLCY-{policy}");
        }
        _ = writeln!(
            rules,
            "-A {chain} {comment} -m mark ! --mark 0x10000/0x10000 -j REJECT\n\
             -A {chain} -j MARK --set-xmark 0x0/0x10000\n\
             -A {chain} {comment} -j MARK --set-xmark 0x20000/0x20000"
        );
        for end in ["-d", "-s"] {
            let to = "-A KUBE-ROUTER-FORWARD";
            _ = writeln!(
                rules,
                "{to} {end} {address} {comment} -j {chain}\n\
                 {to} {end} {address} -m physdev --physdev-is-bridged {comment} -j {chain}"
            );
        }
    }
    rules.push_str(
        "-A KUBE-ROUTER-FORWARD -j KUBE-NWPLCY-TAIL\n\
         -A KUBE-ROUTER-FORWARD -m mark --mark 0x20000/0x20000 -j ACCEPT\n",
    );
    Script { sets, rules: format!("*filter\n{chains}{rules}COMMIT\n") }
}

/// kube-router with nftables: the same chains, every rule with a counter.
pub fn kube_router_nft(scene: &Scene) -> Script {
    let mut rules = String::from("table ip kube-router {\n");
    let pods = selected_by(scene);
    for policy in 0..scene.policies {
        let of = |(pod, policies): (usize, &Vec<u32>)| {
            policies.contains(&policy).then(|| scene.local(u32::try_from(pod).unwrap_or(0)))
        };
        let to: Vec<IpAddr> = pods.iter().enumerate().filter_map(of).collect();
        for (kind, addresses) in [("SRC", scene.admitted(policy)), ("DST", to)] {
            let elements = list(&addresses);
            _ = writeln!(
                rules,
                "set {kind}-{policy} {{ type ipv4_addr; elements = {{ {elements} }}; }}"
            );
        }
    }
    rules.push_str(
        "chain DEFAULT {\ncounter meta mark set meta mark or 0x10000\n}\n\
         chain COMMON {\nct state invalid counter drop\nct state established,related counter accept\n\
         icmp type echo-request counter accept\nicmp type destination-unreachable counter accept\n\
         icmp type time-exceeded counter accept\n}\n\
         chain TAIL {\nmeta mark and 0x20000 == 0x20000 counter accept\n}\n",
    );
    for policy in 0..scene.policies {
        _ = writeln!(rules, "chain NWPLCY-{policy} {{");
        for ports in scene.ports(policy) {
            _ = writeln!(
                rules,
                "ip saddr @SRC-{policy} ip daddr @DST-{policy} tcp dport {} counter \
                 meta mark set meta mark or 0x10000 return comment \"x/in-{policy}\"",
                range(ports, '-')
            );
        }
        rules.push_str("}\n");
    }
    let mut dispatch = String::new();
    for (pod, policies) in pods.iter().enumerate() {
        let address = scene.local(u32::try_from(pod).unwrap_or(0));
        _ = writeln!(
            rules,
            "chain POD-{pod} {{\ncounter jump COMMON\nfib saddr type local ip daddr {address} counter accept"
        );
        if policies.is_empty() {
            _ = writeln!(rules, "ip daddr {address} counter jump DEFAULT");
        }
        for policy in policies {
            _ = writeln!(rules, "ip daddr {address} counter jump NWPLCY-{policy}");
        }
        _ = writeln!(
            rules,
            "ip saddr {address} counter jump DEFAULT\nmeta mark and 0x10000 == 0x0 counter reject\n\
             meta mark set meta mark and 0xfffeffff\nmeta mark set meta mark or 0x20000\n}}"
        );
        _ = writeln!(
            dispatch,
            "ip daddr {address} counter jump POD-{pod}\nip saddr {address} counter jump POD-{pod}"
        );
    }
    _ = writeln!(
        rules,
        "chain FORWARD {{ type filter hook forward priority filter;\n{dispatch}\
         counter jump TAIL\nmeta mark and 0x20000 == 0x20000 counter accept\n}}\n}}"
    );
    Script { sets: String::new(), rules }
}

/// How many policies Calico asks before it looks whether one of them has decided.
const GROUP: usize = 5;

/// The policies of one pod, in Calico's order.
fn groups(policies: &[u32]) -> impl Iterator<Item = (bool, u32)> {
    policies.iter().enumerate().map(|(at, policy)| (at % GROUP == 0, *policy))
}

/// The node's end of a pod's link, as Calico names it.
fn link(pod: usize) -> String {
    format!("cali{pod:03}")
}

/// Calico with iptables: dispatch by the device, a chain per policy, and per selector a set.
pub fn calico(scene: &Scene, receiver: &str) -> Script {
    let (mut sets, mut chains, mut rules) = (String::new(), String::new(), String::new());
    let mut known = BTreeSet::new();
    for chain in ["FORWARD", "to-wl-dispatch", "from-wl-dispatch", "pri-kns.x", "pro-kns.x"] {
        _ = writeln!(chains, ":cali-{chain} - [0:0]");
    }
    let comment = |text: &str| format!("-m comment --comment \"cali:{text}\"");
    for policy in 0..scene.policies {
        let set = format!("cali40s-{}", scene.kind(policy));
        if known.insert(scene.kind(policy)) {
            _ = writeln!(sets, "create {set} hash:net family inet maxelem 1048576");
            for address in scene.admitted(policy) {
                _ = writeln!(sets, "add {set} {address}");
            }
        }
        let ports: Vec<_> = scene.ports(policy).iter().map(|it| range(*it, ':')).collect();
        _ = writeln!(chains, ":cali-pi-{policy} - [0:0]");
        _ = writeln!(
            rules,
            "-A cali-pi-{policy} -p tcp {} {} -m set --match-set {set} src -m multiport --dports {} \
             -j MARK --set-xmark 0x10000/0x10000",
            comment("rule"),
            comment(&format!("NetworkPolicy x/in-{policy} ingress")),
            ports.join(",")
        );
    }
    for direction in ["pri", "pro"] {
        let it = comment(direction);
        _ = writeln!(rules, "-A cali-{direction}-kns.x {it} -j MARK --set-xmark 0x10000/0x10000");
        _ = writeln!(
            rules,
            "-A cali-{direction}-kns.x {it} -m mark --mark 0x10000/0x10000 -j RETURN"
        );
    }
    for (pod, policies) in selected_by(scene).iter().enumerate() {
        let device = if pod + 1 == LOCAL_PODS as usize { receiver.to_owned() } else { link(pod) };
        for (direction, word, side) in [("tw", "to", "-o"), ("fw", "from", "-i")] {
            let chain = format!("cali-{direction}-{pod}");
            let it = comment(&chain);
            _ = writeln!(chains, ":{chain} - [0:0]");
            _ = writeln!(rules, "-A cali-{word}-wl-dispatch {side} {device} {it} -g {chain}");
            _ = writeln!(
                rules,
                "-A {chain} {it} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                 -A {chain} {it} -m conntrack --ctstate INVALID -j DROP\n\
                 -A {chain} {it} -j MARK --set-xmark 0x0/0x30000"
            );
            if direction == "tw" && !policies.is_empty() {
                let group = format!("cali-gi-{pod}");
                _ = writeln!(chains, ":{group} - [0:0]");
                for (first, policy) in groups(policies) {
                    if first && Some(&policy) != policies.first() {
                        _ = writeln!(
                            rules,
                            "-A {group} {it} -m mark ! --mark 0x0/0x30000 -j RETURN"
                        );
                    }
                    let open = if first { "" } else { "-m mark --mark 0x0/0x30000 " };
                    _ = writeln!(rules, "-A {group} {it} {open}-j cali-pi-{policy}");
                }
                _ = writeln!(
                    rules,
                    "-A {chain} {it} -j MARK --set-xmark 0x0/0x20000\n\
                     -A {chain} {it} -m mark --mark 0x0/0x20000 -j {group}\n\
                     -A {chain} {it} -m mark --mark 0x10000/0x10000 -j RETURN\n\
                     -A {chain} {it} -m mark --mark 0x0/0x20000 -j DROP"
                );
            }
            let profile = if direction == "tw" { "pri" } else { "pro" };
            _ = writeln!(
                rules,
                "-A {chain} {it} -j cali-{profile}-kns.x\n\
                 -A {chain} {it} -m mark --mark 0x10000/0x10000 -j RETURN\n\
                 -A {chain} {it} -j DROP"
            );
        }
    }
    let it = comment("forward");
    _ = writeln!(
        rules,
        "-A cali-FORWARD {it} -j MARK --set-xmark 0x0/0xe0000\n\
         -A cali-FORWARD -i cali+ {it} -j cali-from-wl-dispatch\n\
         -A cali-FORWARD -o {receiver} {it} -j cali-to-wl-dispatch\n\
         -A FORWARD {it} -j cali-FORWARD\n\
         -A FORWARD {it} -m mark --mark 0x10000/0x10000 -j ACCEPT"
    );
    Script { sets, rules: format!("*filter\n{chains}{rules}COMMIT\n") }
}

/// Calico with nftables: the same chains, every rule with a counter and a comment, and sets of intervals.
pub fn calico_nft(scene: &Scene, receiver: &str) -> Script {
    let mut rules = String::from("table ip calico {\n");
    let mut known = BTreeSet::new();
    let comment = |text: &str| format!(" comment \"cali:{text}\"\n");
    for policy in (0..scene.policies).filter(|it| known.insert(scene.kind(*it))) {
        let (kind, peers) = (scene.kind(policy), list(&scene.admitted(policy)));
        _ = writeln!(
            rules,
            "set s{kind} {{ type ipv4_addr; flags interval; elements = {{ {peers} }}; }}"
        );
    }
    for policy in 0..scene.policies {
        let ports: Vec<_> = scene.ports(policy).iter().map(|it| range(*it, '-')).collect();
        _ = write!(
            rules,
            "chain pi-{policy} {{\nmeta l4proto tcp ip saddr @s{} tcp dport {{ {} }} counter \
             meta mark set meta mark or 0x10000{}}}\n",
            scene.kind(policy),
            ports.join(", "),
            comment("rule")
        );
    }
    for direction in ["pri", "pro"] {
        _ = write!(
            rules,
            "chain {direction} {{\ncounter meta mark set meta mark or 0x10000\n\
             meta mark & 0x10000 == 0x10000 counter return\n}}\n"
        );
    }
    let mut maps = [String::new(), String::new()];
    for (pod, policies) in selected_by(scene).iter().enumerate() {
        let device = if pod + 1 == LOCAL_PODS as usize { receiver.to_owned() } else { link(pod) };
        if !policies.is_empty() {
            _ = writeln!(rules, "chain gi-{pod} {{");
            for (first, policy) in groups(policies) {
                if first && Some(&policy) != policies.first() {
                    rules.push_str("meta mark & 0x30000 != 0 counter return");
                    rules.push_str(&comment("done"));
                }
                let open = if first { "" } else { "meta mark & 0x30000 == 0 " };
                _ = write!(rules, "{open}counter jump pi-{policy}{}", comment("policy"));
            }
            rules.push_str("}\n");
        }
        for ((direction, profile), map) in [("tw", "pri"), ("fw", "pro")].into_iter().zip(&mut maps)
        {
            let mut lines = vec![
                "ct state related,established counter accept".to_owned(),
                "ct state invalid counter drop".to_owned(),
                "counter meta mark set meta mark & 0xfffcffff".to_owned(),
            ];
            if direction == "tw" && !policies.is_empty() {
                lines.extend([
                    "counter meta mark set meta mark & 0xfffdffff".to_owned(),
                    format!("meta mark & 0x20000 == 0 counter jump gi-{pod}"),
                    "meta mark & 0x10000 == 0x10000 counter return".to_owned(),
                    "meta mark & 0x20000 == 0 counter drop".to_owned(),
                ]);
            }
            lines.extend([
                format!("counter jump {profile}"),
                "meta mark & 0x10000 == 0x10000 counter return".to_owned(),
                "counter drop".to_owned(),
            ]);
            let body: String = lines.into_iter().map(|it| it + &comment(direction)).collect();
            _ = writeln!(rules, "chain {direction}-{pod} {{\n{body}}}");
            _ = write!(map, "\"{device}\" : goto {direction}-{pod}, ");
        }
    }
    let [to, from] = maps;
    _ = writeln!(
        rules,
        "map to-wl {{ type ifname : verdict; elements = {{ {to} }}; }}\n\
         map from-wl {{ type ifname : verdict; elements = {{ {from} }}; }}\n\
         chain wl-to {{\noifname vmap @to-wl\ncounter drop\n}}\n\
         chain wl-from {{\niifname vmap @from-wl\ncounter drop\n}}\n\
         chain cali-FORWARD {{\ncounter meta mark set meta mark & 0xfff1ffff\n\
         iifname \"cali*\" counter jump wl-from\noifname \"{receiver}\" counter jump wl-to\n}}\n\
         chain FORWARD {{ type filter hook forward priority filter;\ncounter jump cali-FORWARD\n\
         meta mark & 0x10000 == 0x10000 counter accept\n}}\n}}"
    );
    Script { sets: String::new(), rules }
}
