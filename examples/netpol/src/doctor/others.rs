//! What others have at the same hooks. It is read, and nothing more.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::Finding;

pub(super) fn check(instance: &str) -> Vec<Finding> {
    let mut findings = match list() {
        Ok(objects) => look_at(&objects, instance),
        Err(why) => {
            let message = format!("other rules were not looked at: {why}");
            vec![Finding::unknown("other-rules", message, "install the nft tool (nftables)")]
        }
    };
    findings.extend(legacy());
    findings
}

/// All nf_tables objects of this network namespace, as the nft tool tells them.
fn list() -> Result<Vec<Value>, String> {
    let output = Command::new("nft").args(["-j", "list", "ruleset"]).output();
    let output = output.map_err(|error| format!("nft: {error}"))?;
    if !output.status.success() {
        return Err(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let mut document: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("nft: {error}"))?;
    match document["nftables"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Err("nft: its answer is not understood".to_owned()),
    }
}

fn look_at(objects: &[Value], instance: &str) -> Vec<Finding> {
    let others = |kind: &'static str| {
        let objects = objects.iter().filter_map(move |it| it.get(kind));
        objects.filter(|it| it["table"] != instance)
    };
    let name = |chain: &Value, key: &str| {
        let text = |key: &str| chain[key].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("family"), text("table"), text(key))
    };
    let at_our_hooks = |chain: &Value| {
        let hook = chain["hook"].as_str().unwrap_or_default();
        chain["type"] == "filter" && ["input", "forward", "output"].contains(&hook)
    };
    let (mut closed, mut all) = (Vec::new(), Vec::new());
    for chain in others("chain").filter(|it| at_our_hooks(it)) {
        let priority = chain["prio"].as_i64().unwrap_or_default();
        let place = if priority < 0 { "before ours" } else { "beside or after ours" };
        let described = format!("{} ({place})", name(chain, "name"));
        if chain["policy"] == "drop" {
            closed.push(described.clone());
        }
        all.push(described);
    }
    let mut findings = Vec::new();
    findings.push(match (closed.is_empty(), all.is_empty()) {
        (_, true) => Finding::good("other-rules", "nobody else has rules at our hooks"),
        (true, false) => {
            let message =
                format!("others at our hooks accept what they do not mention: {}", all.join(", "));
            Finding::good("other-rules", message)
        }
        (false, _) => Finding::warning(
            "other-rules",
            format!(
                "what policies allow is dropped all the same unless it is accepted here: {}",
                closed.join(", ")
            ),
            "accept there what the policies allow, such as what is to and from the endpoints",
        ),
    });
    let mentions = |key: &str| -> Vec<String> {
        let rules = others("rule").filter(|rule| {
            rule["expr"]
                .as_array()
                .is_some_and(|parts| parts.iter().any(|it| it.get(key).is_some()))
        });
        let chains: BTreeSet<String> = rules.map(|rule| name(rule, "chain")).collect();
        chains.into_iter().collect()
    };
    let untracked = mentions("notrack");
    if !untracked.is_empty() {
        findings.push(Finding::warning(
            "notrack",
            format!(
                "connections are not tracked for some packets, so answers are judged as new: {}",
                untracked.join(", ")
            ),
            "exempt the endpoints there",
        ));
    }
    let offloaded = mentions("flow");
    if !offloaded.is_empty() {
        findings.push(Finding::warning(
            "flow-offload",
            format!(
                "established connections pass by our rules, and cannot be cut: {}",
                offloaded.join(", ")
            ),
            "do not add connections of endpoints to a flowtable",
        ));
    }
    findings
}

/// Tables of the older iptables, which nft does not show.
fn legacy() -> Option<Finding> {
    let tables: BTreeSet<String> = ["ip_tables_names", "ip6_tables_names"]
        .into_iter()
        .filter_map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok())
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    (!tables.is_empty()).then(|| {
        let tables: Vec<String> = tables.into_iter().collect();
        Finding::unknown(
            "legacy-iptables",
            format!(
                "there are tables of iptables-legacy, which were not looked at: {}",
                tables.join(", ")
            ),
            "iptables-legacy-save; look for policies and rules that drop",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn what_others_drop_and_pass_by_is_told() {
        let objects: Vec<Value> = serde_json::from_str(
            r#"[
              {"metainfo": {"version": "1.0.6"}},
              {"table": {"family": "ip", "name": "filter", "handle": 1}},
              {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter",
                         "hook": "forward", "prio": 0, "policy": "drop"}},
              {"chain": {"family": "inet", "table": "mine", "name": "pre", "type": "filter",
                         "hook": "prerouting", "prio": -300, "policy": "drop"}},
              {"chain": {"family": "ip", "table": "netpol", "name": "forward", "type": "filter",
                         "hook": "forward", "prio": 0, "policy": "accept"}},
              {"rule": {"family": "inet", "table": "mine", "chain": "pre", "expr": [{"notrack": null}]}},
              {"rule": {"family": "inet", "table": "mine", "chain": "f", "expr": [{"flow": {"op": "add"}}]}}
            ]"#,
        )
        .unwrap();
        let found = look_at(&objects, "netpol");
        let checks: Vec<_> = found.iter().map(|it| (it.check, it.state)).collect();
        let warning = State::Warning;
        assert_eq!(
            checks,
            [("other-rules", warning), ("notrack", warning), ("flow-offload", warning)]
        );
        assert!(found[0].message.ends_with("here: ip filter FORWARD (beside or after ours)"));
        assert!(found[1].message.ends_with("inet mine pre"));
        let found = look_at(&objects[..2], "netpol");
        assert_eq!(found[0].state, State::Good);
    }
}
