//! Tells the API server what the authors of policies should know: by Events about policies that are not understood or
//! not in force, and by a condition of ClusterNetworkPolicies.
//!
//! All agents come to the same conclusion about what a policy says. So the condition is written by whoever is first,
//! and Events come only from nodes with pods that the policy is about.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::sleep;
use tracing::warn;

use crate::kind::Kind;
use crate::mirror::{About, Understood};

/// The field manager of all agents, and the name by which Events say who they are from.
const MANAGER: &str = "netpol-agent";

/// The type of the condition: whether a policy is understood, and so enforced as it is written.
const CONDITION: &str = "netpol-agent/Accepted";

/// The API's limit for the text of an Event, in bytes.
const MAX_NOTE: usize = 1024;

/// Agents write conditions at different times within this, so that all but one find them written.
const SPREAD: Duration = Duration::from_secs(5);

/// Something to tell.
#[derive(Debug)]
pub(crate) enum Report {
    /// A policy is not understood, at least in part.
    NotUnderstood { about: About, uid: String, text: String },
    /// A ClusterNetworkPolicy was read.
    Read { name: String, generation: i64, understood: Understood },
    /// The kernel does not take what the policies say.
    NotInForce(String),
}

/// Tells until nobody has anything to tell any more. What cannot be told is logged, and not repeated.
pub(crate) async fn tell(client: Client, node: String, mut reports: UnboundedReceiver<Report>) {
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(node.clone()) };
    let recorder = Recorder::new(client.clone(), reporter);
    while let Some(report) = reports.recv().await {
        let told = match report {
            Report::NotUnderstood { about, uid, text } => {
                let reference = ObjectReference {
                    api_version: Some(about.kind.api_version()),
                    kind: Some(about.kind.as_str().to_owned()),
                    namespace: Some(about.namespace.to_string()).filter(|it| !it.is_empty()),
                    name: Some(about.name.to_string()),
                    uid: Some(uid),
                    ..ObjectReference::default()
                };
                publish(&recorder, &reference, "NotUnderstood", text).await
            }
            Report::NotInForce(text) => {
                let reference = ObjectReference {
                    api_version: Some(Kind::Node.api_version()),
                    kind: Some(Kind::Node.as_str().to_owned()),
                    name: Some(node.clone()),
                    // The kubelet's Events about its node have its name in this place, and tools look for it.
                    uid: Some(node.clone()),
                    ..ObjectReference::default()
                };
                publish(&recorder, &reference, "PoliciesNotInForce", text).await
            }
            Report::Read { name, generation, understood } => {
                let (client, pause) = (client.clone(), own_share(&node));
                tokio::spawn(async move {
                    sleep(pause).await;
                    if let Err(error) =
                        write_condition(client, &name, generation, &understood).await
                    {
                        warn!(name, error = format!("{error:#}"), "no condition is written");
                    }
                });
                Ok(())
            }
        };
        if let Err(error) = told {
            warn!(error = format!("{error:#}"), "an Event is lost");
        }
    }
}

async fn publish(
    recorder: &Recorder,
    reference: &ObjectReference,
    reason: &str,
    mut text: String,
) -> Result<()> {
    let end = (0..=MAX_NOTE.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or_default());
    let event = Event {
        type_: EventType::Warning,
        reason: reason.to_owned(),
        note: Some(text),
        action: "Enforce".to_owned(),
        secondary: None,
    };
    recorder.publish(&event, reference).await.context("publishing an Event")
}

/// Writes the condition, unless it is there.
async fn write_condition(
    client: Client,
    name: &str,
    generation: i64,
    understood: &Understood,
) -> Result<()> {
    let resource = Kind::ClusterNetworkPolicy.resource();
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let policy = match api.get_status(name).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        policy => policy?,
    };
    let (status, reason, message) = match understood {
        Understood::Fully => ("True", "Understood", String::new()),
        Understood::Partly(parts) => ("False", "PartlyUnderstood", parts.join("\n")),
        Understood::Nothing { text, .. } => ("False", "NotUnderstood", text.clone()),
    };
    let is_written = |condition: &Value| {
        condition["type"] == CONDITION
            && condition["status"] == status
            && condition["message"] == message
            && condition["observedGeneration"] == generation
    };
    let conditions = policy.data["status"]["conditions"].as_array();
    if policy.metadata.generation != Some(generation)
        || conditions.is_some_and(|conditions| conditions.iter().any(is_written))
    {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": resource.api_version, "kind": resource.kind,
        "metadata": {"name": policy.name_any()},
        "status": {"conditions": [{
            "type": CONDITION, "status": status, "reason": reason, "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": format!("{:.0}", Timestamp::now()),
        }]},
    });
    let params = PatchParams::apply(MANAGER).force();
    api.patch_status(name, &params, &Patch::Apply(patch)).await?;
    Ok(())
}

/// The pause of a node: the same each time, different from node to node.
fn own_share(node: &str) -> Duration {
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    let thousandths = u32::try_from(hasher.finish() % 1000).unwrap_or_default();
    SPREAD * thousandths / 1000
}
