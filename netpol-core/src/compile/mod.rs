//! Cluster -> program: where tiers, priorities, Pass, excepts and named ports are resolved, once.
//!
//! ```text
//! policies  --lower--> entries over atoms and ports ----+
//! endpoints ---------> workloads --subjects-------------+--> profiles --> port maps --> stacks --+
//! addresses --locate-> atoms that hold --> identities -------------------------------------------+--> classes
//! ```
//!
//! There is one way to compile, and it is incremental: a [`Compiler`] is told what has changed, works out again what
//! depends on it, and leaves everything else to be shared with the program before. To [`compile`] from scratch is to
//! change from nothing to everything. Every step below finds what it has to do in a list of what is dirty, and adds to
//! the lists of later steps; none looks back.
//!
//! 1. `changes`: objects come, go and change; what they meant is taken back before what they mean is put in place.
//! 2. `subjects`: which policies select each policed workload. A policy that selects none costs nothing more.
//! 3. `holding`: which atoms hold for each workload, as policies in use begin and cease to ask for them (`lower`,
//!    `carvings`).
//! 4. `locate`: which identity each address has, by its workload, the `blocks` around it, nodes and domain names.
//! 5. `profiles`: policies of a workload become intervals of ports (`ports`), each with a stack of what it asks.
//! 6. `classes`: which identities each stack allows.
//!
//! What is equal is one and is counted (`interner`), so that the last user of an atom, an identity, a class takes it
//! along. Selectors and labels find each other by `matching`, in both directions.

mod blocks;
mod carvings;
mod changes;
mod classes;
mod effect;
mod holding;
mod interner;
mod locate;
mod lower;
mod matching;
mod places;
mod policies;
mod ports;
mod profiles;
mod subjects;
mod workload;

use std::net::IpAddr;
use std::sync::Arc;

use crate::cluster::{Changes, Cluster};
use crate::hash::HashMap;
use crate::model::{HostNetworkSubjects, Name, Options};
use crate::program::{Atom, AtomId, IdentityId, NodeId, Program, Scope, Stack};

use blocks::Blocks;
use classes::AtomUsers;
use holding::SpecialAtoms;
use interner::Interner;
use matching::PodSelectors;
use places::Places;
use policies::Policies;
use profiles::Profiles;
use subjects::Hosts;
use workload::{WorkloadId, Workloads};

pub use effect::effect_of;
pub(crate) use lower::{atom_of, by_parts};

/// Compiles what a cluster is now.
///
/// Never fails: everything that can be wrong with an object was found when it was read. The result depends on what
/// the objects say only, not on the order in which they came. `O(n log n)` in what the objects say.
pub fn compile(cluster: &Cluster, scope: Scope) -> Program {
    let mut compiler = Compiler::new(*cluster.options(), scope);
    compiler.update(cluster, &cluster.all_as_changes());
    compiler.program
}

/// Keeps a [`Program`] up with a changing [`Cluster`].
///
/// The program after an update equals one that is [compiled](compile) from scratch, and shares with the one before
/// whatever the update does not touch.
///
/// ```
/// use netpol_core::compile::Compiler;
/// use netpol_core::model::{Endpoint, Options};
/// use netpol_core::{Cluster, Scope, compile};
///
/// let mut cluster = Cluster::new(Options::default());
/// let mut compiler = Compiler::new(*cluster.options(), Scope::Cluster);
/// cluster.upsert_endpoint(Endpoint::new("shop", "web"));
/// let changes = cluster.take_changes();
/// let program = compiler.update(&cluster, &changes).clone();
/// assert_eq!(program.endpoints().count(), 1);
/// assert_eq!(program, compile(&cluster, Scope::Cluster));
/// ```
#[derive(Debug)]
pub struct Compiler {
    options: Options,
    scope: Scope,
    /// The number of the node in scope.
    own_node: Option<NodeId>,
    policies: Policies,
    workloads: Workloads,
    places: Places,
    hosts: Hosts,
    atoms: Interner<Atom>,
    /// The atoms that ask for pods.
    peers: PodSelectors<AtomId>,
    special: SpecialAtoms,
    blocks: Blocks,
    identities: Interner<Arc<[AtomId]>>,
    profiles: Profiles,
    stacks: Interner<Arc<Stack>>,
    users: AtomUsers,
    /// The identities found in this update, by workload and by the identity of the blocks around an address.
    located: HashMap<(WorkloadId, IdentityId), IdentityId>,
    dirty: Dirty,
    program: Program,
    /// How many terms the ports of one direction of a profile may ask for in all.
    most_terms: usize,
}

/// Terms of one direction of a profile at most. Rules whose ports overlap ask for all their peers wherever they do, so
/// that a single policy of 10,000 rules can ask for 50,000,000 of them: half a gigabyte here, and several of the
/// kernel's. A thousand rules about all ports, each with a peer of its own, beside two thousand others with a port each,
/// ask for as much as this.
const MOST_TERMS: usize = 1 << 22;

/// What has to be worked out again.
#[derive(Debug, Default)]
struct Dirty {
    /// Which policies select them.
    subjects: Vec<WorkloadId>,
    /// Which atoms hold for them.
    holding: Vec<WorkloadId>,
    /// Who has them.
    addresses: Vec<IpAddr>,
    /// Which profile they have.
    profiles: Vec<WorkloadId>,
    /// The entries of endpoints.
    entries: Vec<u32>,
    /// Who goes by them.
    names: Vec<(Name, Name)>,
}

impl Compiler {
    /// A compiler of an empty cluster. `options` have to be those of the clusters it is shown.
    pub fn new(options: Options, scope: Scope) -> Self {
        let mut this = Self {
            options,
            scope: scope.clone(),
            own_node: None,
            policies: Policies::default(),
            workloads: Workloads::default(),
            places: Places::default(),
            hosts: Hosts::default(),
            atoms: Interner::default(),
            peers: PodSelectors::default(),
            special: SpecialAtoms::default(),
            blocks: Blocks::default(),
            identities: Interner::default(),
            profiles: Profiles::default(),
            stacks: Interner::default(),
            users: AtomUsers::default(),
            located: HashMap::default(),
            dirty: Dirty::default(),
            program: Program::empty(options, scope.clone()),
            most_terms: MOST_TERMS,
        };
        if let Scope::Node(name) = &scope {
            this.own_node = Some(this.places.node_id(name));
        }
        // The first identity is that of whom no atom holds for, the first class that of what no policy is about. Both
        // stay.
        this.acquire_identity(Vec::new());
        this.stacks.acquire(&Arc::new(Stack::OPEN));
        this.settle_classes();
        this
    }

    /// Works out again what depends on `changes`, each of which is looked up in `cluster`.
    ///
    /// Changes may be left out as long as they are told later; the program then stands for the objects as they were.
    pub fn update(&mut self, cluster: &Cluster, changes: &Changes) -> &Program {
        self.take_in(cluster, changes);
        self.settle_subjects();
        self.settle_atoms();
        self.settle_blocks();
        self.settle_hosts();
        self.settle_addresses();
        self.settle_profiles();
        self.settle_entries();
        self.settle_classes();
        &self.program
    }

    /// The program of the last update.
    pub fn program(&self) -> &Program {
        &self.program
    }

    fn hosts_are_policed(&self) -> bool {
        self.options.host_network_subjects == HostNetworkSubjects::Policed
    }
}

/// Takes a list of what is dirty, each once.
fn take<T: Ord>(list: &mut Vec<T>) -> Vec<T> {
    let mut list = std::mem::take(list);
    list.sort_unstable();
    list.dedup();
    list
}
