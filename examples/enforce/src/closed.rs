//! What is enforced while it is not known what to enforce.

use netpol_backend_iptables as iptables;
use netpol_backend_iptables::ruleset::Target;
use netpol_backend_nft as nft;
use netpol_backend_nft::ruleset::{Statement, Verdict};
use netpol_core::backend::Error;
use netpol_core::compile;
use netpol_core::model::{
    NamespaceScope, PodSelector, Policy, PolicyKey, PolicyKind, Selector, Subject, Tier, name,
};
use netpol_core::program::Program;
use netpol_core::{Cluster, Scope};

/// A policy that isolates every endpoint in both directions, under a name that tells why: for a host that finds nothing
/// in the kernel and cannot read its input yet. What comes from the own node is still let in (NP-NODE-1).
pub fn closed() -> Policy {
    let everything = PodSelector {
        namespaces: NamespaceScope::Matching(Selector::everything()),
        pods: Selector::everything(),
    };
    Policy {
        key: PolicyKey {
            kind: PolicyKind::NetworkPolicy,
            namespace: name(""),
            name: name("closed-until-the-input-is-complete"),
        },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(everything),
        ingress: Some(Vec::new()),
        egress: Some(Vec::new()),
    }
}

/// Rules for no endpoint at all, and nothing is forwarded.
pub(crate) fn nft(options: &nft::Options) -> Result<nft::ruleset::Ruleset, Error> {
    let mut ruleset = nft::render(&nothing(), options);
    let denied = nft::Name::new("denied-in").map_err(nft::Error::from)?;
    for table in ruleset.tables.values_mut() {
        let forward = table.chains.iter_mut().find(|(name, _)| name.as_str() == "forward");
        if let Some((_, chain)) = forward {
            chain.rules.push([Statement::Verdict(Verdict::Goto(denied.clone()))].into());
        }
    }
    Ok(ruleset)
}

/// As [`nft`].
pub(crate) fn iptables(options: &iptables::Options) -> iptables::ruleset::Ruleset {
    let mut ruleset = iptables::render(&nothing(), options);
    let forward = format!("{}-forward", options.name.as_str());
    for table in ruleset.tables.values_mut() {
        if let Some(rules) = table.chains.get_mut(&*forward) {
            rules.push(iptables::ruleset::Rule::new([], Target::Drop));
        }
    }
    ruleset
}

fn nothing() -> Program {
    compile(&Cluster::default(), Scope::Cluster)
}

#[cfg(test)]
mod tests {
    use netpol_backend_nft::ruleset::Hook;

    use super::*;

    #[test]
    fn what_is_forwarded_meets_a_drop_at_last() {
        let closed = nft(&nft::Options::default()).unwrap();
        let open = nft::render(&nothing(), &nft::Options::default());
        assert_eq!(closed.tables.len(), 2);
        for (family, table) in &closed.tables {
            for (name, chain) in &table.chains {
                let before = &open.tables[family].chains[name].rules;
                let added = chain.rules.len() - before.len();
                let forwards = chain.base.is_some_and(|base| base.hook == Hook::Forward);
                assert_eq!(added, usize::from(forwards), "{name}");
            }
        }
        let closed = iptables(&iptables::Options::default()).to_string();
        assert_eq!(closed.matches("\n-A netpol-forward -j DROP\n").count(), 2, "{closed}");
    }
}
