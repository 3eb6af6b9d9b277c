//! Since when each policy has been enforced on this node.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::mirror::{About, Finding, Understood};

/// What is known of every policy.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    known: BTreeMap<About, Policy>,
    /// Those that are not in force yet.
    pending: BTreeSet<About>,
}

#[derive(Debug)]
struct Policy {
    uid: String,
    /// How often its specification had changed when it was read.
    generation: i64,
    understood: Understood,
    /// When the kernel had acknowledged it.
    since: Option<Timestamp>,
}

/// A policy as `/policies` tells of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
    generation: i64,
    /// From then on no new connection of this node's pods has been judged without it.
    enforced_since: Option<Timestamp>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    not_understood: &'a [String],
}

impl Policies {
    /// Notes what was found out about a policy. A new generation is not in force yet.
    pub(crate) fn note(&mut self, about: About, finding: Finding) {
        self.pending.remove(&about);
        let Finding::Read { uid, generation, understood } = finding else {
            self.known.remove(&about);
            return;
        };
        let before = self.known.get(&about);
        let same = before.filter(|it| it.uid == uid && it.generation == generation);
        let since = same.and_then(|policy| policy.since);
        if since.is_none() && !matches!(understood, Understood::Nothing { .. }) {
            self.pending.insert(about.clone());
        }
        self.known.insert(about, Policy { uid, generation, understood, since });
    }

    /// All that was noted before is in force now.
    pub(crate) fn enforced(&mut self) {
        let now = Timestamp::now();
        for about in std::mem::take(&mut self.pending) {
            if let Some(policy) = self.known.get_mut(&about) {
                policy.since = Some(now);
            }
        }
    }

    /// What is not right with the policies of now, as codes.
    pub(crate) fn diagnoses(&self) -> impl Iterator<Item = &str> {
        self.known.values().flat_map(|policy| match &policy.understood {
            Understood::Fully => Vec::new(),
            Understood::Partly(parts) => vec!["FailClosed"; parts.len()],
            Understood::Nothing { reasons, .. } => reasons.iter().map(String::as_str).collect(),
        })
    }

    /// A line of JSON per policy.
    pub(crate) fn to_json_lines(&self) -> String {
        let lines = self.known.iter().filter_map(|(about, policy)| {
            let not_understood = match &policy.understood {
                Understood::Fully => &[],
                Understood::Partly(what) => &**what,
                Understood::Nothing { text, .. } => std::slice::from_ref(text),
            };
            let line = Line {
                kind: about.kind.as_str(),
                namespace: &about.namespace,
                name: &about.name,
                uid: &policy.uid,
                generation: policy.generation,
                enforced_since: policy.since,
                not_understood,
            };
            serde_json::to_string(&line).ok()
        });
        lines.map(|line| line + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use netpol_core::model::name;

    use super::*;
    use crate::kind::Kind;

    #[test]
    fn a_generation_is_enforced_since_the_kernel_had_it() {
        let about = About { kind: Kind::NetworkPolicy, namespace: name("shop"), name: name("db") };
        let read = |uid: &str, generation| Finding::Read {
            uid: uid.to_owned(),
            generation,
            understood: Understood::Fully,
        };
        let mut policies = Policies::default();
        let since = |policies: &Policies| policies.known[&about].since;
        policies.note(about.clone(), read("a", 1));
        assert_eq!(since(&policies), None);
        policies.enforced();
        let first = since(&policies);
        assert!(first.is_some());
        // Its labels have changed, or it was listed again.
        policies.note(about.clone(), read("a", 1));
        policies.enforced();
        assert_eq!(since(&policies), first);
        for changed in [read("a", 2), read("b", 2)] {
            policies.note(about.clone(), changed);
            assert_eq!(since(&policies), None);
            policies.enforced();
        }
        assert!(policies.to_json_lines().starts_with(
            r#"{"kind":"NetworkPolicy","namespace":"shop","name":"db","uid":"b","generation":2,"enforcedSince":""#
        ));
        policies.note(about, Finding::Gone);
        assert_eq!(policies.to_json_lines(), "");
    }
}
