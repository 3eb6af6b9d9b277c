//! A process that changes the rules is killed (`SIGKILL`) at every call of a tool: before the tool has
//! done anything, and while it does what it was told. Whatever is left behind is a step of the plan,
//! as packets find it too; and the next start completes the change.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells its figures"
)]

#[path = "support/kernel.rs"]
mod kernel;
#[path = "../../netpol-backend-nft/tests/support/objects.rs"]
mod objects;
#[path = "../../netpol-backend-nft/tests/support/wire.rs"]
mod wire;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use kernel::{in_namespace, open};
use netpol_backend_iptables::plan::{Plan, Purpose, Step};
use netpol_backend_iptables::ruleset::Ruleset;
use netpol_backend_iptables::{Options, Variant, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{Flow, Labels, Options as Readings, Peer, Peers, Ports, Traffic, name};
use netpol_core::program::{Program, Scope};
use netpol_core::testing::{Choices, edit, flows_of_interest, world};
use objects::{accept, pod, policy};
use wire::{Probe, Wire, everything_is_local};

/// Set in the process that is killed: the change that it makes.
const WRITER: &str = "NETPOL_TEST_WRITER";
/// And by which variant.
const BY: &str = "NETPOL_TEST_VARIANT";

/// Every tool that the backend may call.
const TOOLS: [&str; 9] = [
    "ipset",
    "iptables-nft-save",
    "iptables-nft-restore",
    "iptables-legacy-save",
    "iptables-legacy-restore",
    "ip6tables-nft-save",
    "ip6tables-nft-restore",
    "ip6tables-legacy-save",
    "ip6tables-legacy-restore",
];

#[test]
fn killed_at_every_call() {
    if let Ok(change) = std::env::var(WRITER) {
        return writer(&change);
    }
    in_namespace("killed_at_every_call", |variant| {
        assert!(everything_is_local(), "the ip tool is needed");
        let mut wire = Wire::within();
        let (mut kills, mut left) = (0, BTreeSet::new());
        for (at, case) in Case::all().into_iter().enumerate() {
            for outlived in [false, true] {
                for call in 1.. {
                    case.reset(variant);
                    let tools = Wrapped::new(call, outlived);
                    let status = tools.run(&case, variant);
                    let context = format!("{}, call {call}, outlived: {outlived}", case.change);
                    let killed = status.signal() == Some(9);
                    assert!(killed || status.success(), "{context}: {status}");
                    assert!(!outlived || tools.was_told(&case), "{context}: cut short");
                    left.insert((at, case.is_between(variant, &context)));
                    case.packets_agree(&mut wire, &context);
                    case.is_completed(variant, &context);
                    if !killed {
                        break;
                    }
                    kills += 1;
                }
            }
        }
        eprintln!("{variant}: killed {kills} times, {} different states were left", left.len());
        assert!(kills > 30 && left.len() > 9, "{kills} {left:?}");
    });
}

/// The process that is killed.
fn writer(change: &str) {
    let variant = match std::env::var(BY).as_deref() {
        Ok("legacy") => Variant::Legacy,
        _ => Variant::Nft,
    };
    let [_, new] = scene(change).programs;
    open(variant).sync(&new).expect("written");
}

/// Two programs, and connections that tell them apart.
struct Scene {
    programs: [Program; 2],
    flows: Vec<Flow>,
}

/// What a change is about: the members of sets, or generated objects of a seed.
fn scene(change: &str) -> Scene {
    match change.parse() {
        Ok(seed) => generated(seed),
        Err(_) => members(),
    }
}

fn generated(seed: u64) -> Scene {
    let mut choices = Choices::from_seed(seed, 3000);
    let (mut objects, options) = world(&mut choices);
    let (other, _) = world(&mut choices);
    let scope = Scope::Node(name("node0"));
    let mut flows = flows_of_interest(&objects);
    let old = compile(&Cluster::from_objects(options, objects.clone()), scope.clone());
    edit(&mut choices, &mut objects, &other);
    flows.extend(flows_of_interest(&objects));
    let new = compile(&Cluster::from_objects(options, objects), scope);
    Scene { programs: [old, new], flows }
}

/// `x/a` may send to whoever plays `left`, and `x/b` may receive from whoever plays `right`. Before,
/// `x/b` plays `left` and `x/a` nothing; afterwards it is the other way round, so that neither
/// program has the one reach the other, but what closes late and opens early would. Thousands join
/// them meanwhile, more than a pipe holds.
fn members() -> Scene {
    let playing = |role: &str| {
        let pods = objects::playing(role);
        accept(Peers::AnyOf(vec![Peer::Pods(pods)]), Ports::All)
    };
    let [a, b]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
    let many: Vec<IpAddr> =
        (0..20).flat_map(|x| (100..200).map(move |y| [10, 1, x, y].into())).collect();
    let program = |roles: [&str; 2], joined: usize| {
        let mut cluster = Cluster::new(Readings::default());
        for (called, address, role) in [("a", a, roles[0]), ("b", b, roles[1])] {
            let mut endpoint = pod(called, "n", &[address]);
            endpoint.labels = Labels::default().with("app", called).with("role", role);
            cluster.upsert_endpoint(endpoint);
        }
        for (at, address) in many.iter().enumerate() {
            let mut endpoint = pod(&format!("p{at}"), "elsewhere", &[*address]);
            let role = if at < joined { "right" } else { "none" };
            endpoint.labels = Labels::default().with("role", role);
            cluster.upsert_endpoint(endpoint);
        }
        // Somebody always plays each, so that the rules stay.
        let mut stays = pod("stays", "elsewhere", &[[10, 2, 0, 1].into()]);
        stays.labels = Labels::default().with("role", "left");
        cluster.upsert_endpoint(stays);
        cluster.upsert_policy(policy("a", None, Some(vec![playing("left")])));
        cluster.upsert_policy(policy("b", Some(vec![playing("right")]), None));
        compile(&cluster, Scope::Node(name("n")))
    };
    let ends = [a, b, many[0], many[1500], [10, 1, 0, 1].into(), [10, 2, 0, 1].into()];
    let flow = |a: IpAddr, b: IpAddr| Flow::new(a, b, Traffic::tcp(80));
    let pairs = ends.into_iter().flat_map(|a| ends.map(|b| (a, b)));
    let flows = pairs.filter(|(a, b)| a != b).map(|(a, b)| flow(a, b)).collect();
    Scene {
        programs: [program(["none", "left"], 5), program(["right", "none"], many.len())],
        flows,
    }
}

/// A change from one program to another, or from nothing.
struct Case {
    change: String,
    old: Option<Program>,
    new: Program,
    plan: Plan,
    /// What is in force before, between and after the steps of the plan.
    states: Vec<Ruleset>,
    /// Packets, and whether the old and the new program let them pass.
    probes: Vec<(Probe, [bool; 2])>,
}

impl Case {
    /// One change of members, one of rules, and one from nothing.
    fn all() -> [Self; 3] {
        let of_rules = |seed: &u64| {
            let purposes = Self::new(&seed.to_string(), false).purposes();
            let needed = [Purpose::Prepare, Purpose::Close, Purpose::Switch, Purpose::Clean];
            needed.iter().all(|it| purposes.contains(it))
        };
        let seed = (0..).find(of_rules).expect("there is one").to_string();
        let members = Self::new("members", false);
        assert_eq!(members.purposes(), BTreeSet::from([Purpose::Close, Purpose::Open]));
        [members, Self::new(&seed, false), Self::new(&seed, true)]
    }

    fn new(change: &str, from_nothing: bool) -> Self {
        let Scene { programs: [old, new], flows } = scene(change);
        let [present, wanted] = [&old, &new].map(|it| render(it, &Options::default()));
        let mut present = present;
        if from_nothing {
            present.tables.values_mut().for_each(|table| *table = Default::default());
        }
        let plan = Plan::new(&present, wanted);
        let mut states = vec![present];
        for step in plan.steps() {
            let mut next = states.last().expect("the first").clone();
            step.apply(&mut next);
            states.push(next);
        }
        let old = Some(old).filter(|_| !from_nothing);
        let ported = flows.iter().filter(|flow| matches!(flow.traffic, Traffic::Port(..)));
        let mut probes: Vec<(Probe, [bool; 2])> = ported
            .filter_map(|flow| {
                let before = old.as_ref().is_none_or(|old| old.decide(flow).is_allowed());
                Some((Probe::of(flow)?, [before, new.decide(flow).is_allowed()]))
            })
            .collect();
        // As many of each kind as fit into a burst.
        probes.sort_by_key(|(_, verdicts)| *verdicts);
        let kinds = probes.chunk_by(|(_, a), (_, b)| a == b);
        let probes = kinds.flat_map(|it| it.iter().step_by(it.len().div_ceil(16))).copied();
        let (change, probes) = (change.to_owned(), probes.collect());
        Self { change, old, new, plan, states, probes }
    }

    fn purposes(&self) -> BTreeSet<Purpose> {
        self.plan.steps().iter().map(Step::purpose).collect()
    }

    /// Makes the kernel what it is before the change.
    fn reset(&self, variant: Variant) {
        let mut kernel = open(variant);
        kernel.remove().expect("removed");
        if let Some(old) = &self.old {
            kernel.sync(old).expect("written");
        }
    }

    /// What is in force is what is in force between two steps of the plan; between which is returned.
    fn is_between(&self, variant: Variant, context: &str) -> usize {
        let found = open(variant).read().expect("read").map(|it| it.tables).unwrap_or_default();
        let is = |state: &Ruleset| {
            let present = state.tables.iter().filter(|(_, table)| !table.is_empty());
            present.eq(found.iter().filter(|(_, table)| !table.is_empty()))
        };
        let at = self.states.iter().position(is);
        at.unwrap_or_else(|| panic!("{context}: not a state of the plan: {found:#?}"))
    }

    /// Nothing passes that neither program lets pass, and what both do does.
    fn packets_agree(&self, wire: &mut Wire, context: &str) {
        let probes: Vec<Probe> = self.probes.iter().map(|(probe, _)| *probe).collect();
        for ((probe, verdicts), passes) in self.probes.iter().zip(wire.burst(&probes)) {
            assert!(verdicts.contains(&passes), "{context}: {probe:?}: {passes}");
        }
    }

    /// Whoever comes next completes the change.
    fn is_completed(&self, variant: Variant, context: &str) {
        let mut next = open(variant);
        next.sync(&self.new).expect("completed");
        let found = next.read().expect("read").expect("present");
        let wanted = render(&self.new, &Options::default());
        assert_eq!(found.normalised(), wanted.normalised(), "{context}");
        assert_eq!(next.verify(&self.new).expect("read"), [], "{context}");
    }
}

/// A directory of tools that are those of the host, but that one call of them kills its caller.
struct Wrapped(PathBuf);

impl Wrapped {
    /// With call number `fatal`, from 1, either nothing is done, or what the caller wants although
    /// it is gone.
    fn new(fatal: usize, outlived: bool) -> Self {
        let directory = std::env::temp_dir().join(format!("netpol-tools-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("calls"), "0").expect("written");
        for left in ["told", "ended"] {
            _ = fs::remove_file(directory.join(left));
        }
        let here = directory.display();
        let usual = ["/usr/sbin", "/sbin", "/usr/bin"].map(Path::new);
        for tool in TOOLS {
            let real = usual.iter().map(|it| it.join(tool)).find(|it| it.exists());
            let Some(real) = real.as_deref().map(Path::display) else { continue };
            let late = match outlived {
                true => format!("cat > {here}/told; {real} \"$@\" < {here}/told"),
                false => String::new(),
            };
            let script = format!(
                "#!/bin/sh\nread -r calls < {here}/calls\ncalls=$((calls + 1))\n\
                 echo $calls > {here}/calls\n\
                 [ $calls -eq {fatal} ] || exec {real} \"$@\"\n\
                 kill -9 $PPID\n{late}\n: > {here}/ended\n"
            );
            fs::write(directory.join(tool), script).expect("written");
            let executable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(directory.join(tool), executable).expect("set");
        }
        Self(directory)
    }

    /// Makes the change in a process of its own, and waits until nothing goes on.
    fn run(&self, case: &Case, variant: Variant) -> ExitStatus {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(self.0.clone()).chain(std::env::split_paths(&path));
        let status = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "killed_at_every_call", "--nocapture"])
            .env(WRITER, &case.change)
            .env(BY, variant.to_string())
            .env("PATH", std::env::join_paths(path).expect("a path"))
            .stdout(std::process::Stdio::null())
            .status()
            .expect("a process");
        while status.signal().is_some() && !self.0.join("ended").exists() {
            thread::sleep(Duration::from_millis(1));
        }
        status
    }

    /// Whether what the call that killed its caller was told is the whole of a step, or nothing.
    fn was_told(&self, case: &Case) -> bool {
        let told = fs::read_to_string(self.0.join("told")).unwrap_or_default();
        let mut steps = case.plan.steps().iter();
        told.is_empty() || steps.any(|step| step.script(case.plan.target()) == told)
    }
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}
