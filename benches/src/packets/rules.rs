//! Whose rules are on a node, and how they come there.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use netpol_backend_iptables::Variant;
use netpol_backend_nft::{Interface, Nft};
use netpol_core::model::Family;

use super::rivals::{Script, calico, calico_nft, kube_router, kube_router_nft, linear_nft};
use super::road::{Road, feed};
use super::scene::{LOCAL_PODS, Scene};

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// All is dropped as soon as it arrives at the node: what is left is what sending costs.
    Dropped,
    /// One rule, which accepts established connections.
    Established(By),
    /// Ours.
    Ours(By),
    /// Ours by nftables, where pods are known by their interfaces.
    ByInterface,
    /// kube-router's.
    KubeRouter(By),
    /// Calico's.
    Calico(By),
    /// A rule per policy, by nftables.
    Linear,
}

/// What enforces rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// nftables.
    Nft,
    /// iptables and ipset.
    Iptables(Variant),
}

/// A lock file for iptables: that of the system would be shared with whoever else changes rules.
#[derive(Debug)]
pub struct LockFile(PathBuf);

impl LockFile {
    /// One of this process's own.
    pub fn new() -> Self {
        Self(std::env::temp_dir().join(format!("netpol-benches-{}.lock", std::process::id())))
    }
}

impl Default for LockFile {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // There is none unless iptables has made it.
        _ = std::fs::remove_file(&self.0);
    }
}

impl Rules {
    /// Puts the rules for a scene on the node of a road.
    pub fn load(self, road: &Road, scene: &Scene, lock: &LockFile) -> Result<()> {
        if matches!(self, Self::Ours(By::Nft) | Self::ByInterface) {
            let program = scene.program();
            let mut options = netpol_backend_nft::Options::default();
            if self == Self::ByInterface {
                options.interfaces = interfaces(scene, &road.devices()?)?;
            }
            return road.in_node(|| -> Result<()> {
                Nft::open(options)?.sync(&program)?;
                Ok(())
            })?;
        }
        let script = self.script(scene, &road.devices()?[1])?;
        road.in_node(|| -> Result<()> {
            if !script.sets.is_empty() {
                feed(Command::new("ipset").arg("restore"), &script.sets)?;
            }
            match self.by() {
                By::Nft => feed(Command::new("nft").args(["-f", "-"]), &script.rules),
                By::Iptables(variant) => {
                    let mut command = Command::new(format!("iptables-{variant}-restore"));
                    command.args(["-w", "5", "--noflush"]).env("XTABLES_LOCKFILE", &lock.0);
                    feed(&mut command, &script.rules)
                }
            }
        })?
    }

    /// What enforces them.
    pub fn by(self) -> By {
        match self {
            Self::Dropped | Self::ByInterface | Self::Linear => By::Nft,
            Self::Established(by) | Self::Ours(by) | Self::KubeRouter(by) | Self::Calico(by) => by,
        }
    }

    fn script(self, scene: &Scene, device: &str) -> Result<Script> {
        let only = |rules: &str| Script { sets: String::new(), rules: rules.to_owned() };
        Ok(match self {
            Self::Dropped => only(
                "table inet none { chain dropped { type filter hook prerouting priority -500; drop; }; }",
            ),
            Self::Established(By::Nft) => {
                let family = if scene.family == Family::V4 { "ip" } else { "ip6" };
                only(&format!(
                    "table {family} np {{ chain forward {{ type filter hook forward priority filter; \
                     ct state established,related accept; }}; }}"
                ))
            }
            Self::Established(By::Iptables(_)) => only(
                "*filter\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n",
            ),
            Self::Ours(_) | Self::ByInterface => {
                let options = netpol_backend_iptables::Options::default();
                let mut ruleset = netpol_backend_iptables::render(&scene.program(), &options);
                ruleset.tables.retain(|family, _| *family == scene.family);
                let text = ruleset.to_string();
                let (sets, rules) = text.split_once("*filter\n").context("no rules")?;
                let sets: Vec<&str> = sets.lines().filter(|it| !it.starts_with('#')).collect();
                Script { sets: sets.join("\n") + "\n", rules: format!("*filter\n{rules}") }
            }
            Self::KubeRouter(By::Nft) => kube_router_nft(scene),
            Self::KubeRouter(By::Iptables(_)) => kube_router(scene),
            Self::Calico(By::Nft) => calico_nft(scene, device),
            Self::Calico(By::Iptables(_)) => calico(scene, device),
            Self::Linear => linear_nft(scene),
        })
    }
}

/// By which interfaces the pods of the node are known, two of which are there.
fn interfaces(
    scene: &Scene,
    [sender, receiver]: &[String; 2],
) -> Result<BTreeMap<IpAddr, Interface>> {
    let known = (0..LOCAL_PODS).map(|number| {
        let interface = match scene.local(number) {
            address if address == scene.sender() => Interface::new(sender),
            address if address == scene.receiver() => Interface::new(receiver),
            _ => Interface::new(&format!("local-{number}")),
        };
        Ok((scene.local(number), interface?))
    });
    known.collect()
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by() {
            By::Nft => "nft",
            By::Iptables(Variant::Legacy) => "iptables-legacy",
            By::Iptables(_) => "iptables-nft",
        };
        match self {
            Self::Dropped => write!(f, "dropped"),
            Self::Established(_) => write!(f, "established-only.{by}"),
            Self::Ours(_) => write!(f, "{by}"),
            Self::ByInterface => write!(f, "{by}-by-interface"),
            Self::KubeRouter(_) => write!(f, "kube-router.{by}"),
            Self::Calico(_) => write!(f, "calico.{by}"),
            Self::Linear => write!(f, "linear.{by}"),
        }
    }
}
