//! A running cluster: what is where, and the operations on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::namespace::{Namespace, visit};
use crate::privilege::Privilege;
use crate::probe::{self, Outcome, Path, Ports, Probe, ProbeOptions};
use crate::topology::{Node, Owners, Place, Pod, Topology, check_usable};
use crate::wiring::{Site, Wiring, create_outside};

/// The links to nodes and pods have higher indices than this, as seen from above.
const LAST_FIXED_LINK: u32 = 100;

/// How many files this process may want to have open, beside one for each namespace.
const SPARE_FILES: u64 = 8192;

/// A cluster of network namespaces.
///
/// It lives until it is torn down or dropped, at the latest with the process; see the
/// [crate documentation](crate) for what it looks like inside.
#[derive(Debug)]
pub struct Testbed {
    outside: Namespace,
    sites: BTreeMap<Place, Site>,
    owners: Owners,
    next_link: u32,
    /// One call of [`Testbed::probe`] at a time has them: the calls share the servers' ports, too.
    ports: Mutex<Ports>,
}

impl Testbed {
    /// Builds the cluster, in a few milliseconds per node and pod. `progress` is told what is being
    /// built.
    ///
    /// Raises the limit of open files of this process if it is low.
    ///
    /// # Errors
    ///
    /// If a name or an address is used twice, a pod names a node that is not there, an address
    /// cannot be used in a network, or the kernel refuses (without [`enter`](crate::enter) it
    /// will). What has been built so far is gone then.
    pub fn build(topology: &Topology, mut progress: impl FnMut(&str) + Send) -> Result<Testbed> {
        allow_files((topology.nodes.len() + topology.pods.len()) as u64 + SPARE_FILES)?;
        visit(|visitor| {
            progress("the outside");
            let mut testbed = Testbed {
                outside: create_outside(visitor)?,
                sites: BTreeMap::new(),
                owners: Owners::default(),
                next_link: LAST_FIXED_LINK,
                ports: Mutex::default(),
            };
            testbed.owners.claim(&Place::Outside, &topology.outside)?;
            let mut wiring = Wiring::open(visitor, &testbed.outside)?;
            wiring.set_up_outside(&topology.outside).context("building the outside")?;
            for node in &topology.nodes {
                progress(&format!("node {}", node.name));
                testbed
                    .attach_node(&mut wiring, node)
                    .with_context(|| format!("building node {}", node.name))?;
            }
            for pod in &topology.pods {
                progress(&format!("pod {} on node {}", pod.name, pod.node));
                testbed
                    .attach_pod(&mut wiring, pod)
                    .with_context(|| format!("building pod {} on node {}", pod.name, pod.node))?;
            }
            for place in testbed.sites.keys() {
                testbed.wait_until_ready(&mut wiring, place)?;
            }
            Ok(testbed)
        })
    }

    /// Adds a pod to the running cluster.
    ///
    /// # Errors
    ///
    /// As [`Testbed::build`]; the cluster is as before then.
    pub fn add_pod(&mut self, pod: &Pod) -> Result<()> {
        visit(|visitor| {
            let mut wiring = Wiring::open(visitor, &self.outside)?;
            self.attach_pod(&mut wiring, pod)
                .with_context(|| format!("adding pod {} on node {}", pod.name, pod.node))?;
            self.wait_until_ready(&mut wiring, &Place::Pod(pod.name.clone()))
        })
    }

    /// Removes a pod from the running cluster, with everything inside.
    ///
    /// # Errors
    ///
    /// If there is no such pod, or the kernel refuses.
    pub fn remove_pod(&mut self, pod: &str) -> Result<()> {
        let place = Place::Pod(pod.to_owned());
        let site = self.site(&place)?;
        let node = self.site(&site.above)?;
        visit(|visitor| Wiring::open(visitor, &self.outside)?.detach_pod(site, node))
            .with_context(|| format!("removing {place}"))?;
        self.sites.remove(&place);
        self.owners.release(&place);
        Ok(())
    }

    /// Runs `f` on a thread inside a node's network namespace, and waits for it. Child processes
    /// that `f` starts are inside as well.
    ///
    /// # Errors
    ///
    /// If there is no such node or no thread can be started.
    pub fn in_node<T: Send>(&self, node: &str, f: impl FnOnce() -> T + Send) -> Result<T> {
        self.in_place(&Place::Node(node.to_owned()), f)
    }

    /// As [`Testbed::in_node`], in a pod.
    ///
    /// # Errors
    ///
    /// If there is no such pod or no thread can be started.
    pub fn in_pod<T: Send>(&self, pod: &str, f: impl FnOnce() -> T + Send) -> Result<T> {
        self.in_place(&Place::Pod(pod.to_owned()), f)
    }

    /// As [`Testbed::in_node`], anywhere.
    ///
    /// # Errors
    ///
    /// If there is no such place or no thread can be started.
    pub fn in_place<T: Send>(&self, place: &Place, f: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespace(place)?.run(f)
    }

    /// Sends probes, all at the same time, and tells what became of each, in the order of `probes`.
    ///
    /// The servers that answer are there for the time of the call only, and so are the addresses
    /// that nobody has: those belong to the outside. Every probe is a new connection to connection
    /// tracking, also when the same probe has been sent before. A silent probe is repeated twice
    /// within the time-out, so that a lost packet is not taken for a denial.
    ///
    /// A call takes about the time-out if anything is denied, else a few milliseconds; thousands of
    /// probes go in several rounds of that length. `progress` is told how many probes are decided,
    /// and how many there are.
    pub fn probe(
        &self,
        probes: &[Probe],
        options: &ProbeOptions,
        progress: impl FnMut(usize, usize) + Send,
    ) -> Vec<Outcome> {
        let mut one_at_a_time = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let ports = &mut *one_at_a_time;
        let paths: Vec<_> = probes.iter().map(|probe| self.path(probe)).collect();
        let strangers: BTreeSet<IpAddr> = probes
            .iter()
            .zip(&paths)
            .filter(|(_, path)| path.is_ok())
            .flat_map(|(probe, _)| [probe.source, probe.to])
            .filter(|address| self.owners.of(*address).is_none())
            .collect();
        visit(|visitor| {
            if !strangers.is_empty() {
                Wiring::open(visitor, &self.outside)?.add_outside(&strangers)?;
            }
            let outcomes = probe::run(visitor, probes, paths, ports, options, progress);
            if !strangers.is_empty() {
                Wiring::open(visitor, &self.outside)?.delete_outside(&strangers)?;
            }
            Ok(outcomes)
        })
        .unwrap_or_else(|error| vec![Outcome::Failed(format!("{error:#}")); probes.len()])
    }

    /// The file by which other processes find the network namespace of a place, as long as this
    /// process lives.
    ///
    /// # Errors
    ///
    /// If there is no such place.
    pub fn namespace_path(&self, place: &Place) -> Result<PathBuf> {
        let fd = self.namespace(place)?.fd();
        Ok(PathBuf::from(format!("/proc/{}/fd/{fd}", process::id())))
    }

    /// The command that opens a shell in a place, or runs there what is appended to it.
    /// `privilege` is what [`enter`](crate::enter) returned.
    ///
    /// # Errors
    ///
    /// If there is no such place.
    pub fn shell_command(&self, place: &Place, privilege: Privilege) -> Result<String> {
        let net = self.namespace_path(place)?;
        let user = match privilege {
            Privilege::Capabilities => String::new(),
            Privilege::UserNamespace => {
                format!(" --preserve-credentials --user=/proc/{}/ns/user", process::id())
            }
        };
        Ok(format!("nsenter{user} --net={}", net.display()))
    }

    /// Ends the cluster. Dropping it does the same.
    pub fn tear_down(self) {
        drop(self);
    }

    fn namespace(&self, place: &Place) -> Result<&Namespace> {
        match place {
            Place::Outside => Ok(&self.outside),
            place => Ok(&self.site(place)?.namespace),
        }
    }

    fn site(&self, place: &Place) -> Result<&Site> {
        self.sites.get(place).with_context(|| format!("there is no {place} in this testbed"))
    }

    fn attach_node(&mut self, wiring: &mut Wiring<'_>, node: &Node) -> Result<()> {
        let place = Place::Node(node.name.clone());
        let link = self.claim(&place, &node.addresses)?;
        // A node is only added while the cluster is built; if that fails all is given up.
        let site = wiring.attach_node(&node.name, link, &node.addresses)?;
        self.sites.insert(place, site);
        Ok(())
    }

    fn attach_pod(&mut self, wiring: &mut Wiring<'_>, pod: &Pod) -> Result<()> {
        let place = Place::Pod(pod.name.clone());
        let above = Place::Node(pod.node.clone());
        self.site(&above)?;
        let link = self.claim(&place, &pod.addresses)?;
        let attached = self
            .site(&above)
            .and_then(|node| wiring.attach_pod(&pod.name, link, &pod.addresses, &above, node));
        match attached {
            Ok(site) => self.sites.insert(place, site),
            Err(error) => {
                self.owners.release(&place);
                return Err(error);
            }
        };
        Ok(())
    }

    /// Enters the addresses of a new place, and returns the index of the link to it.
    fn claim(&mut self, place: &Place, addresses: &[IpAddr]) -> Result<u32> {
        ensure!(!self.sites.contains_key(place), "there is one of this name already");
        self.owners.claim(place, addresses)?;
        self.next_link += 1;
        Ok(self.next_link)
    }

    fn wait_until_ready(&self, wiring: &mut Wiring<'_>, place: &Place) -> Result<()> {
        let site = self.site(place)?;
        wiring
            .wait_until_ready(site, self.namespace(&site.above)?)
            .with_context(|| format!("connecting {place}"))
    }

    /// Where a probe starts and ends.
    fn path(&self, probe: &Probe) -> Result<Path<'_>> {
        let from = self.namespace(&probe.from)?;
        check_usable(probe.source)?;
        check_usable(probe.to)?;
        ensure!(
            probe.source.is_ipv4() == probe.to.is_ipv4(),
            "{} and {} are not of one address family",
            probe.source,
            probe.to
        );
        ensure!(
            self.owners.of(probe.source).unwrap_or(&Place::Outside) == &probe.from,
            "{} does not have the address {}",
            probe.from,
            probe.source
        );
        let to = self.namespace(self.owners.of(probe.to).unwrap_or(&Place::Outside))?;
        Ok(Path { from, to })
    }
}

/// Lets this process have so many files open, if it may.
fn allow_files(wanted: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("asking for the file limit")?;
    if soft < wanted.min(hard) {
        setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard)
            .context("raising the file limit")?;
    }
    Ok(())
}
