//! A live probe: a small cluster in throw-away network namespaces, where real packets show what this kernel does with
//! what the backend writes.

use std::time::Duration;

use netpol_core::manifest::{ReadOptions, Strictness};
use netpol_core::model::{Flow, Options, Traffic};
use netpol_core::program::Program;
use netpol_enforce::backend::Choice;
use netpol_testbed::Outcome;

use super::Finding;
use crate::input::{Input, Source};
use crate::live::{Backend, Live, Variant};
use crate::world::World;

const CHECK: &str = "self-probe";
const SILENCE: Duration = Duration::from_millis(300);

/// A database that only the api may connect to, in both families.
const WORLD: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432}]}]
---
{apiVersion: v1, kind: Node, metadata: {name: here}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}, {type: InternalIP, address: 'fd01::1'}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: shop, labels: {app: db}}, spec: {nodeName: here, containers: []}, status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: api, namespace: shop, labels: {app: api}}, spec: {nodeName: here, containers: []}, status: {podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}, spec: {nodeName: here, containers: []}, status: {podIPs: [{ip: 10.0.0.3}, {ip: 'fd00::3'}]}}
";

/// Builds the cluster, and sends packets without and with policies. May move this process into a user namespace, so it
/// has to come last; and it has to be the first that starts a thread.
pub(crate) fn self_probe(choice: Choice) -> Finding {
    let begun = netpol_testbed::enter();
    if let Err(error) = begun {
        return Finding::unknown(CHECK, format!("{error:#}"), "run as root");
    }
    match probe(choice) {
        Ok(wrong) if wrong.is_empty() => Finding::good(
            CHECK,
            "in network namespaces of its own, real packets go the way that policies say",
        ),
        Ok(wrong) => Finding::bad(
            CHECK,
            format!("this kernel does not do what it is told: {}", wrong.join("; ")),
            "report this, with the kernel's version and the list of its netfilter modules",
        ),
        Err(error) => Finding::unknown(CHECK, error, "netpol demo shows more"),
    }
}

/// What goes another way than the policies say.
fn probe(choice: Choice) -> Result<Vec<String>, String> {
    let source = Source { name: "self-probe".to_owned(), text: WORLD.to_owned() };
    let options = ReadOptions { strictness: Strictness::Strict, ..ReadOptions::default() };
    let input = Input::new(&[source], &options);
    if let Some(finding) = input.findings.first() {
        return Err(finding.to_string());
    }
    let world = World::new(input, Options::default(), "default");
    let live = Live::build(world.objects()).map_err(|error| error.to_string())?;
    let addresses = [["10.0.0.1", "10.0.0.2", "10.0.0.3"], ["fd00::1", "fd00::2", "fd00::3"]];
    let mut flows = Vec::new();
    for [db, api, web] in addresses {
        for (from, port) in [(api, 5432), (api, 22), (web, 5432)] {
            let (Ok(from), Ok(to)) = (from.parse(), db.parse()) else { continue };
            flows.push(Flow::new(from, to, Traffic::tcp(port)));
        }
    }
    let probes: Result<Vec<_>, _> = flows.iter().map(|flow| live.probe(flow)).collect();
    let probes = probes.map_err(|error| error.to_string())?;
    let mut wrong = differences(&flows, &live.run(&probes, SILENCE), None);
    let (backend, variant) = match choice {
        Choice::Auto | Choice::Nft => (Backend::Nft, Variant::Auto),
        Choice::Iptables => (Backend::Iptables, Variant::Auto),
        Choice::IptablesNft => (Backend::Iptables, Variant::Nft),
        Choice::IptablesLegacy => (Backend::Iptables, Variant::Legacy),
    };
    live.enforce(backend, variant, &world.cluster()).map_err(|error| error.to_string())?;
    let program = world.program();
    wrong.extend(differences(&flows, &live.run(&probes, SILENCE), Some(&program)));
    Ok(wrong)
}

fn differences(flows: &[Flow], outcomes: &[Outcome], program: Option<&Program>) -> Vec<String> {
    let differs = |(flow, outcome): (&Flow, &Outcome)| {
        let allowed = program.is_none_or(|program| program.decide(flow).is_allowed());
        let expected = if allowed { Outcome::Allowed } else { Outcome::Denied };
        (*outcome != expected).then(|| format!("{flow} is {outcome}, expected {expected}"))
    };
    flows.iter().zip(outcomes).filter_map(differs).collect()
}
