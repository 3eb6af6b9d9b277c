//! From what the watches hear to what the kernel does: one loop, on one thread.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netpol_core::backend::{Change, Status};
use netpol_core::model::Policy;
use netpol_enforce::backend::{self, Choice, close};
use netpol_enforce::metrics::Metrics;
use netpol_enforce::records::Record;
use netpol_enforce::{Applied, Culprit, Enforcer, Failed};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, info, warn};

use crate::kind::Kind;
use crate::last_known::LastKnown;
use crate::mirror::{About, Finding, Mirror, Understood};
use crate::object::Object;
use crate::policies::Policies;
use crate::report::Report;
use crate::unprogrammed::Unprogrammed;
use crate::watch::{Event, Heard};

/// What is in force is written to disk so long after it has changed: a burst of changes is written once.
const SAVE_AFTER: Duration = Duration::from_secs(5);

/// At most one part in so many of the time goes into counting what is in the kernel.
const MEASURE_SHARE: u32 = 500;

/// What the loop hears of.
#[derive(Debug)]
pub(crate) enum Input {
    /// Something about an object.
    Watched(Event),
    /// Somebody else has changed what is ours in the kernel.
    Disturbed(Culprit),
    /// A packet was denied.
    Denied(Box<Record>),
    /// The addresses of this host's interfaces.
    Interfaces(Vec<IpAddr>),
}

/// Where an agent is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What an earlier process has left in the kernel is in force, and is not known here.
    Inherited,
    /// Nothing is known, and nothing that is forwarded passes.
    Closed,
    /// The last known objects are in force; or nothing is, if there were none and unknown pods are allowed.
    Restored,
    /// What the API server says is in force.
    Live,
}

/// An agent at work.
#[derive(Debug)]
pub(crate) struct Agent {
    enforcer: Enforcer,
    mirror: Mirror,
    unprogrammed: Option<Unprogrammed>,
    /// How to close the node while nothing is known, unless unknown pods are allowed.
    closing: Option<(Choice, backend::Options)>,
    last_known: Option<LastKnown>,
    policies: Arc<Mutex<Policies>>,
    metrics: Arc<Metrics>,
    /// To the API server, if it is to be told.
    reports: Option<UnboundedSender<Report>>,
    /// Policies that are not understood and not reported yet.
    unclear: Vec<(About, String, String)>,
    /// The kernel does not take what is to be in force, and it has been reported.
    failing: bool,
    stage: Stage,
    /// The objects are not those in force.
    changed: bool,
    /// They are half those of the disk and half those of the API server.
    mixed: bool,
    /// The objects in force are not those on disk, and when that is to end.
    save_at: Option<Instant>,
    begun: Instant,
    /// Not before then is it counted again what is in the kernel.
    measure_at: Instant,
}

/// What an agent begins with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) node: String,
    pub(crate) enforcer: Enforcer,
    /// Something of ours is in the kernel already.
    pub(crate) inherited: bool,
    pub(crate) deny_unknown: Option<DenyUnknown>,
    pub(crate) last_known: Option<LastKnown>,
    pub(crate) policies: Arc<Mutex<Policies>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) reports: Option<UnboundedSender<Report>>,
    pub(crate) interfaces: Vec<IpAddr>,
}

/// How pods that are not known are denied.
#[derive(Debug)]
pub(crate) struct DenyUnknown {
    /// They are those of these ranges and of the node's.
    pub(crate) ranges: Vec<IpNet>,
    /// What the enforcer's backend was opened with, to deny all of them while not even the node is known.
    pub(crate) backend: (Choice, backend::Options),
}

impl Agent {
    /// Begins. What is in force stays so; if nothing is, the last known objects are put into force; and if there are
    /// none, the node is closed.
    pub(crate) fn start(start: Start) -> Self {
        let now = Instant::now();
        let mut enforcer = start.enforcer;
        let mut mirror = Mirror::new(&start.node);
        let (unprogrammed, closing) = start
            .deny_unknown
            .map(|DenyUnknown { ranges, backend }| {
                let guard = |cluster: &mut _| Unprogrammed::new(&start.node, ranges, cluster);
                (enforcer.change(now, guard), backend)
            })
            .unzip();
        enforcer.change(now, |cluster| mirror.set_interfaces(start.interfaces, cluster));
        let mut agent = Self {
            enforcer,
            mirror,
            unprogrammed,
            closing,
            last_known: start.last_known,
            policies: start.policies,
            metrics: start.metrics,
            reports: None,
            unclear: Vec::new(),
            failing: false,
            stage: if start.inherited { Stage::Inherited } else { Stage::Restored },
            changed: true,
            mixed: false,
            save_at: None,
            begun: now,
            measure_at: now,
        };
        let restored = agent.restore();
        agent.mixed = false;
        match agent.stage {
            Stage::Restored if restored || agent.closing.is_none() => agent.enforce(),
            Stage::Restored => agent.close(),
            Stage::Inherited | Stage::Closed | Stage::Live => {}
        }
        // What is known from the disk has been told before.
        agent.reports = start.reports;
        agent
    }

    /// When [`pass`](Self::pass) is to be called at the latest if nothing is heard; `None` if that changes nothing.
    pub(crate) fn due(&self) -> Option<Instant> {
        let enforce = self.may_enforce().then(|| self.enforcer.due());
        [enforce, self.save_at].into_iter().flatten().min()
    }

    /// Whether what the API server says is in force.
    pub(crate) fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    /// Takes in what was heard. Nothing comes into force before [`pass`](Self::pass).
    pub(crate) fn hear(&mut self, input: Input) {
        match input {
            Input::Watched(Event { kind, heard, at }) => {
                let listed = matches!(heard, Heard::Listed);
                let mirror = &mut self.mirror;
                let found = self.enforcer.change(at, |cluster| mirror.hear(kind, heard, cluster));
                self.changed |= !found.is_empty();
                self.mixed |= self.stage == Stage::Restored && (listed || !found.is_empty());
                found.into_iter().for_each(|(about, finding)| self.note(about, finding));
            }
            Input::Disturbed(culprit) => {
                if self.stage == Stage::Closed {
                    // Closing itself is heard of here, too.
                    return self.close();
                }
                warn!(%culprit, "somebody else has changed our rules");
                if !self.may_enforce() {
                    return self.close_if_open();
                }
                match self.enforcer.repair() {
                    Ok(applied) => {
                        self.failing = false;
                        if applied.report.interfered {
                            warn!(%applied, "repaired");
                        }
                    }
                    Err(failed) => self.tell_of_failure(&failed),
                }
            }
            Input::Denied(record) => self.write(record),
            Input::Interfaces(interfaces) => {
                let mirror = &mut self.mirror;
                self.changed |= self
                    .enforcer
                    .change(Instant::now(), |cluster| mirror.set_interfaces(interfaces, cluster));
            }
        }
    }

    /// Puts into force what has been heard, if it may be, and does what is due.
    pub(crate) fn pass(&mut self) {
        let complete = self.stage != Stage::Live && self.mirror.missing().is_empty();
        if complete {
            info!(after = ?self.begun.elapsed(), "every kind has been listed");
            self.stage = Stage::Live;
        }
        if self.may_enforce() && (self.changed || self.enforcer.due() <= Instant::now()) {
            self.enforce();
        }
        if complete {
            self.warn_of_gaps();
        }
        if self.save_at.is_some_and(|at| at <= Instant::now()) {
            self.save();
        }
    }

    /// Brings the figures of sizes and packets up to date, unless it was done a moment ago: with large sets in the
    /// kernel it takes long to count them.
    pub(crate) fn measure(&mut self) {
        let begin = Instant::now();
        if self.measure_at > begin {
            return;
        }
        match self.stage {
            Stage::Closed => self.close(),
            Stage::Inherited => self.close_if_open(),
            Stage::Restored | Stage::Live => _ = self.count(),
        }
        let end = Instant::now();
        self.measure_at = end + (end - begin) * MEASURE_SHARE;
    }

    fn count(&mut self) -> Option<Status> {
        let counted = self.enforcer.measure();
        counted.inspect_err(|error| warn!(%error, "what is in force cannot be measured")).ok()
    }

    /// Sees to it that nothing that is forwarded passes.
    fn close(&mut self) {
        let Some((choice, options)) = &self.closing else { return };
        self.stage = Stage::Closed;
        match close(*choice, options) {
            Ok(report) if report.change == Change::None => {}
            Ok(_) => warn!("nothing is known yet: new connections through this node are denied"),
            Err(error) => error!(%error, "this node is open, as nothing is known yet"),
        }
    }

    /// What was inherited can be put into force by nobody if somebody has removed it.
    fn close_if_open(&mut self) {
        if self.count().is_some_and(|status| status.rules == 0) {
            self.close();
        }
    }

    /// Ends. What is in force stays so.
    pub(crate) fn stop(mut self) {
        self.settle();
        if self.save_at.is_some() {
            self.save();
            self.settle();
        }
    }

    /// Whether the cluster as it is known now may be put into force: not while it is half one of the disk and half one
    /// of the API server, and not in place of something better that is inherited, or of nothing at all.
    fn may_enforce(&self) -> bool {
        match self.stage {
            Stage::Live => true,
            Stage::Restored => !self.mixed,
            Stage::Inherited | Stage::Closed => false,
        }
    }

    fn enforce(&mut self) {
        if let Some(unprogrammed) = &mut self.unprogrammed
            && self.changed
        {
            let mirror = &self.mirror;
            self.enforcer.change(Instant::now(), |cluster| {
                unprogrammed.settle(mirror.ranges(), cluster);
            });
        }
        // Where the backend cannot, that has been told of.
        let _ = self.close_large_ranges();
        match self.enforcer.enforce() {
            Ok(applied) => {
                log(&applied);
                for closed in &applied.too_large {
                    warn!(%closed, "policies say too much");
                    self.report(Report::NotInForce(closed.clone()));
                }
                self.failing = false;
                self.policies().enforced();
                self.metrics.diagnose(self.policies().diagnoses());
                self.report_unclear();
                if std::mem::take(&mut self.changed) && self.stage == Stage::Live {
                    self.save_at.get_or_insert(Instant::now() + SAVE_AFTER);
                }
            }
            Err(failed) => self.tell_of_failure(&failed),
        }
    }

    fn tell_of_failure(&mut self, failed: &Failed) {
        error!(%failed, "what was in force before stays so");
        // Attempts are repeated several times a second, and each Event is a write to the API server.
        let told = std::mem::replace(&mut self.failing, self.reports.is_some());
        if !told {
            self.report(Report::NotInForce(failed.to_string()));
        }
    }

    /// Tells of policies that are not understood and apply to pods of this node.
    fn report_unclear(&mut self) {
        for (about, uid, text) in std::mem::take(&mut self.unclear) {
            let applies = |policy: &Policy| {
                Some(policy.key.kind) == about.kind.policy()
                    && policy.key.namespace == about.namespace
                    && policy.key.name == about.name
            };
            let mut profiles = self.enforcer.program().profiles();
            if profiles.any(|(_, profile)| profile.policies().any(applies)) {
                self.report(Report::NotUnderstood { about, uid, text });
            }
        }
    }

    fn report(&self, report: Report) {
        if let Some(reports) = &self.reports {
            // Nobody is there to tell when the agent ends.
            let _ = reports.send(report);
        }
    }

    fn note(&mut self, about: About, finding: Finding) {
        if let Finding::Read { understood, uid, generation } = &finding {
            let object = format!("{} {}/{}", about.kind, about.namespace, about.name);
            match understood {
                Understood::Fully => {}
                Understood::Partly(parts) => {
                    warn!(object, ?parts, "not understood; read so that it allows nothing");
                    self.unclear.push((about.clone(), uid.clone(), parts.join("\n")));
                }
                Understood::Nothing { reasons, text } => {
                    error!(object, text, "cannot be enforced");
                    self.unclear.push((about.clone(), uid.clone(), text.clone()));
                    for reason in reasons {
                        self.metrics.rejected(about.kind.as_str(), reason);
                    }
                }
            }
            if about.kind == Kind::ClusterNetworkPolicy {
                let (name, understood) = (about.name.to_string(), understood.clone());
                self.report(Report::Read { name, generation: *generation, understood });
            }
        }
        if about.kind.policy().is_some() {
            self.policies().note(about, finding);
        }
    }

    /// Writes a line about a denied packet. The program in force knows the names of this node's pods; those of others
    /// are looked up.
    fn write(&self, mut record: Box<Record>) {
        for end in [&mut record.src, &mut record.dst] {
            let Some(ip) = end.ip.filter(|_| end.name.is_none()) else { continue };
            let mut pods = self.enforcer.cluster().endpoints();
            if let Some(pod) = pods.find(|pod| pod.is_ordinary() && pod.addresses.contains(&ip)) {
                end.namespace = Some(pod.namespace.to_string());
                end.name = Some(pod.name.to_string());
            }
        }
        let mut line = serde_json::to_vec(&record).unwrap_or_default();
        line.push(b'\n');
        // Nobody reads it any more: that is no reason to end enforcement.
        let _ = io::stdout().lock().write_all(&line);
    }

    /// Takes in the objects on disk; tells whether there were any.
    fn restore(&mut self) -> bool {
        let Some(last_known) = self.last_known.take() else { return false };
        let loaded = last_known.load(|object| {
            if let Some(kind) = object["kind"].as_str().and_then(Kind::find) {
                let heard = Heard::Applied(Object::from(object));
                self.hear(Input::Watched(Event { kind, heard, at: Instant::now() }));
            }
        });
        match &loaded {
            Ok(Some(objects)) => info!(objects, "took in the last known objects"),
            Ok(None) => info!("no objects of an earlier run on disk"),
            Err(error) => warn!(error = format!("{error:#}"), "not restored"),
        }
        self.last_known = Some(last_known);
        matches!(loaded, Ok(Some(_)))
    }

    fn warn_of_gaps(&mut self) {
        if !self.mirror.has_own_node() {
            warn!("the API server has no node of this name: is it the right one?");
        }
        let ranges = self.mirror.ranges();
        let Some(unprogrammed) = &self.unprogrammed else { return };
        if unprogrammed.is_blind(ranges) {
            warn!("no range of pod addresses is known; pods nobody has told of are not denied");
        }
        if let Err(error) = self.close_large_ranges() {
            warn!(%error, "in ranges of more than 4096 addresses, pods nobody has told of are not denied");
        }
    }

    /// Has the backend deny the addresses without a pod that are too many to be known one by one.
    fn close_large_ranges(&mut self) -> Result<(), netpol_core::backend::Error> {
        let Some(unprogrammed) = &self.unprogrammed else { return Ok(()) };
        self.enforcer.deny_unknown(unprogrammed.closed())
    }

    fn save(&mut self) {
        self.save_at = None;
        let Some(last_known) = &mut self.last_known else { return };
        if !last_known.save(self.mirror.objects().cloned().collect()) {
            self.save_at = Some(Instant::now() + SAVE_AFTER);
        }
    }

    fn settle(&mut self) {
        if let Some(last_known) = &mut self.last_known {
            last_known.settle();
        }
    }

    fn policies(&self) -> std::sync::MutexGuard<'_, Policies> {
        self.policies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(applied: &Applied) {
    match &applied.revoked {
        Some(Err(error)) => warn!(%error, "connections that are forbidden now may go on"),
        Some(Ok(revoked)) if !revoked.cut.is_empty() => info!(%applied, "in force"),
        _ if applied.report.interfered => warn!(%applied, "repaired what others had changed"),
        _ if applied.compiled_in.is_some() => info!(%applied, "in force"),
        _ => {}
    }
}
