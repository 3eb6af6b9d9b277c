//! Which iptables: the two that go by the name keep rules of their own, and a host should use one.

use std::fmt;
use std::fs;

use crate::name::Instance;
use crate::tool::{self, Program};

/// Which of the two that are called iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Variant {
    /// The one that the host uses already: that has the chains by which a kubelet says which one it
    /// uses, or else more rules of others, or else the one that is called `iptables`.
    #[default]
    Auto,
    /// The one that writes nf_tables rules.
    Nft,
    /// The one that writes to ip_tables, the older part of the kernel.
    Legacy,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "automatic",
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        })
    }
}

/// What a kubelet makes for others to know which variant it uses (the second one before 1.27).
const HINTS: [&str; 2] = [":KUBE-IPTABLES-HINT ", ":KUBE-KUBELET-CANARY "];

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Known {
    Nft,
    Legacy,
}

impl Known {
    pub(crate) const ALL: [Self; 2] = [Self::Nft, Self::Legacy];

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Nft => Self::Legacy,
            Self::Legacy => Self::Nft,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }

    /// The tool that writes rules of IPv6.
    pub(crate) fn ip6tables(self) -> &'static str {
        match self {
            Self::Nft => "ip6tables-nft-restore",
            Self::Legacy => "ip6tables-legacy-restore",
        }
    }

    /// How `iptables --version` calls it; old ones say nothing.
    fn is_of(self, version: &str) -> bool {
        version.contains("nf_tables") == (self == Self::Nft)
    }

    /// The tool of this variant for `iptables` or `ip6tables`: by the name that only it has, or else
    /// by the usual one if that is of this variant. `verb` is `save` or `restore`.
    pub(crate) fn find(self, command: &str, verb: &str) -> Option<Program> {
        tool::find(&format!("{command}-{}-{verb}", self.word())).or_else(|| {
            let version = tool::find(command)?.run(&["--version"], "").ok()?;
            self.is_of(&version).then(|| tool::find(&format!("{command}-{verb}")))?
        })
    }

    /// Whether the kernel may have rules of this variant in the calling thread's namespace. To ask
    /// the older tool would load its part of the kernel.
    pub(crate) fn may_be_in_use(self) -> bool {
        self == Self::Nft
            || fs::read_to_string("/proc/thread-self/net/ip_tables_names")
                .is_ok_and(|names| !names.trim().is_empty())
    }

    /// Which one the host uses already.
    pub(crate) fn in_use(name: &Instance) -> Self {
        let [nft, legacy] = Self::ALL.map(|it| it.traces_of_others(name));
        if nft != legacy {
            return if nft > legacy { Self::Nft } else { Self::Legacy };
        }
        let version = tool::find("iptables").and_then(|it| it.run(&["--version"], "").ok());
        match version {
            Some(version) if Self::Legacy.is_of(&version) => Self::Legacy,
            Some(_) => Self::Nft,
            // One of them may be there without the usual name.
            None if Self::Nft.find("iptables", "restore").is_none() => Self::Legacy,
            None => Self::Nft,
        }
    }

    /// Whether a kubelet says that it uses this one, and how many rules others have made with it.
    fn traces_of_others(self, name: &Instance) -> (bool, usize) {
        if !self.may_be_in_use() {
            return (false, 0);
        }
        let saved = self.find("iptables", "save").and_then(|it| it.run(&[], "").ok());
        let saved = saved.unwrap_or_default();
        let hinted = saved.lines().any(|line| HINTS.iter().any(|hint| line.starts_with(hint)));
        let rules = saved.lines().filter_map(|line| line.strip_prefix("-A "));
        // A jump to a chain of ours does not count either.
        let others = rules.filter(|rule| !rule.split(' ').any(|word| name.owns(word)));
        (hinted, others.count())
    }
}
