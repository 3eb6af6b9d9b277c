//! From changed objects to a kernel that agrees.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netpol_backend_nft::conntrack::{Conntrack, Revoked};
use netpol_core::backend::{Backend, Change, Closed, Error, Mismatch, Report, Status};
use netpol_core::cluster::Cluster;
use netpol_core::compile::Compiler;
use netpol_core::model;
use netpol_core::program::{Program, Scope};

use crate::backend::open_conntrack;
use crate::backoff::Backoff;
use crate::in_force::InForce;
use crate::metrics::{Metrics, Mode};

/// Keeps the kernel of one network namespace in agreement with a [`Cluster`].
///
/// It does nothing by itself: no thread, no timer, no waiting but for the kernel's answers. A host calls
///
/// - [`change`](Self::change) when objects change, as often as it likes, and then [`enforce`](Self::enforce) once;
/// - [`enforce`](Self::enforce) again at [`due`](Self::due), be it to look for drift or to repeat what failed;
/// - [`repair`](Self::repair) when [`watch`](crate::watch) or the monitor's file descriptor tells of other hands.
///
/// Nothing is written before the first call of `enforce`: what an earlier process has left in the kernel stays in
/// force until then, so a host calls it when its input is complete. What fails changes nothing for the worse: the
/// program before, or a step towards the new one, stays in force, and so it does when this value is dropped or the
/// process is killed. Only [`remove`](Self::remove) ends enforcement.
#[derive(Debug)]
pub struct Enforcer {
    cluster: Cluster,
    compiler: Compiler,
    backend: Box<dyn Backend>,
    /// From where connections are cut, if they are.
    conntrack: Option<Conntrack>,
    /// Connections may be there that the program in force would not have allowed.
    unrevoked: bool,
    /// When the oldest change was seen that is not in force yet.
    pending: Option<Instant>,
    in_force: InForce,
    /// The compiled program is newer than the one in force.
    newer: bool,
    /// What the program in force closes since its policies say too much.
    too_large: BTreeSet<String>,
    metrics: Arc<Metrics>,
    check_every: Duration,
    backoff: Backoff,
    due: Instant,
}

/// How an [`Enforcer`] works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose endpoints are policed. Only with [`Scope::Node`] are the addresses of the own node known (NP-NODE-1).
    pub scope: Scope,
    /// How the APIs' open points are read.
    pub readings: model::Options,
    /// Cuts the connections that a change forbids, and no other (NP-CONN-1). It takes a walk over all connections
    /// after each change of the kernel's state, some 2 microseconds each: see [`netpol_backend_nft::conntrack`].
    pub revoke: bool,
    /// How often to look whether the kernel's state is still what it should be. With a monitor this is a second line;
    /// with nft and nothing changed it costs one question.
    pub check_every: Duration,
}

impl Default for Settings {
    /// The whole cluster, the default readings, connections are cut, a look every 30 seconds.
    fn default() -> Self {
        Self {
            scope: Scope::Cluster,
            readings: model::Options::default(),
            revoke: true,
            check_every: Duration::from_secs(30),
        }
    }
}

/// What one call of [`Enforcer::enforce`] did.
#[derive(Debug)]
pub struct Applied {
    /// What the backend did.
    pub report: Report,
    /// The number of the program that is in force now, see [`InForce`].
    pub generation: u64,
    /// What it took to compile; `None` if no object has changed.
    pub compiled_in: Option<Duration>,
    /// What it took from the call of the backend to the kernel's last acknowledgement.
    pub synced_in: Duration,
    /// From when the oldest of the changes was seen to the kernel's last acknowledgement: from then on no new
    /// connection is judged by anything but the new program. `None` if there was no change.
    pub latency: Option<Duration>,
    /// The connections that were cut, or why they could not be, in which case it is tried again; `None` if there was
    /// no reason to look.
    pub revoked: Option<Result<Revoked, Error>>,
    /// What the new program closes, and the one before did not, since its policies say too much: a line each, see
    /// [`TooLarge`](netpol_core::program::TooLarge).
    pub too_large: Vec<String>,
}

/// Why a program could not be put into force. What was in force before, or a step towards the new, still is.
#[derive(Debug, thiserror::Error)]
#[error("{error}; next attempt in {:.1} s", retry_in.as_secs_f64())]
pub struct Failed {
    /// What the backend said.
    #[source]
    pub error: Error,
    /// After which pause [`Enforcer::due`] asks for the next attempt.
    pub retry_in: Duration,
}

impl Enforcer {
    /// An enforcer of an empty cluster, in the network namespace that the backend was opened in, which has to be that
    /// of the calling thread.
    ///
    /// # Errors
    ///
    /// If connections are to be cut and connection tracking cannot be opened.
    pub fn new(
        backend: Box<dyn Backend>,
        settings: Settings,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        let compiler = Compiler::new(settings.readings, settings.scope);
        Ok(Self {
            cluster: Cluster::new(settings.readings),
            in_force: InForce::new(compiler.program().clone()),
            newer: true,
            too_large: BTreeSet::new(),
            compiler,
            backend,
            conntrack: settings.revoke.then(open_conntrack).transpose()?,
            unrevoked: settings.revoke,
            pending: None,
            metrics,
            check_every: settings.check_every,
            backoff: Backoff::default(),
            due: Instant::now() + settings.check_every,
        })
    }

    /// The objects as they are now, also those that are not in force yet.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Changes objects; `seen` is when the host first heard of it, from which on the latency counts.
    pub fn change<T>(&mut self, seen: Instant, change: impl FnOnce(&mut Cluster) -> T) -> T {
        self.pending = Some(self.pending.map_or(seen, |oldest| oldest.min(seen)));
        change(&mut self.cluster)
    }

    /// The program in force, for other threads.
    pub fn in_force(&self) -> InForce {
        self.in_force.clone()
    }

    /// What the backend writes to.
    pub fn backend_name(&self) -> &str {
        self.backend.name()
    }

    /// When [`enforce`](Self::enforce) wants to be called at the latest.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Denies what closed addresses send and receive that no endpoint in scope has, however many they are, from the next
    /// call of [`enforce`](Self::enforce) on: see [`Backend::deny_unknown`].
    ///
    /// # Errors
    ///
    /// If the backend cannot.
    pub fn deny_unknown(&mut self, closed: &Closed) -> Result<(), Error> {
        self.backend.deny_unknown(closed)
    }

    /// Compiles what has changed, makes the kernel agree, and cuts the connections that are not allowed any more.
    /// Repairs what others have changed. With nothing to do it is cheap.
    ///
    /// # Errors
    ///
    /// If the kernel does not take it; it is to be tried again at [`due`](Self::due), or with the next change.
    pub fn enforce(&mut self) -> Result<Applied, Failed> {
        let compiled_in = self.compile();
        let begin = Instant::now();
        let synced = self.backend.sync(self.compiler.program());
        let acknowledged = Instant::now();
        let synced_in = acknowledged - begin;
        let report = match synced {
            Ok(report) => report,
            Err(error) => {
                self.metrics.sync_failed(self.backend.name());
                let retry_in = self.postpone(acknowledged);
                return Err(Failed { error, retry_in });
            }
        };
        let newer = std::mem::take(&mut self.newer);
        let seen = self.pending.take().filter(|_| newer);
        let latency = seen.map(|seen| acknowledged.saturating_duration_since(seen));
        self.metrics.synced(self.backend.name(), &report, synced_in, latency);
        let mut too_large = Vec::new();
        if newer {
            let program = self.compiler.program();
            let closed: BTreeSet<String> = program.too_large().map(|it| it.to_string()).collect();
            too_large.extend(closed.difference(&self.too_large).cloned());
            self.too_large = closed;
            self.in_force.set(program.clone());
        }
        let generation = self.in_force.generation();
        self.unrevoked |= report.change != Change::None;
        let revoked = self.revoke();
        if matches!(revoked, Some(Err(_))) {
            self.postpone(acknowledged);
        } else {
            self.backoff.reset();
            self.due = acknowledged + self.check_every;
        }
        Ok(Applied { report, generation, compiled_in, synced_in, latency, revoked, too_large })
    }

    /// [`enforce`](Self::enforce) after somebody else has changed what is ours. Whether there was anything to repair
    /// tells [`Report::interfered`].
    ///
    /// # Errors
    ///
    /// As `enforce`.
    pub fn repair(&mut self) -> Result<Applied, Failed> {
        self.metrics.disturbed();
        self.enforce()
    }

    /// Brings the figures of sizes and packets up to date, by reading all that is in force. As often as somebody looks
    /// at them.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn measure(&mut self) -> Result<Status, Error> {
        let status = self.backend.status()?;
        self.metrics.measured(&self.cluster, self.compiler.program(), self.backend.name(), &status);
        Ok(status)
    }

    /// Compares what is in force with the program that should be. No mismatch is the proof that they agree.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn verify(&mut self) -> Result<Vec<Mismatch>, Error> {
        self.backend.verify(self.compiler.program())
    }

    /// The program that should be in force, which is that of the objects at the last attempt.
    pub fn program(&self) -> &Program {
        self.compiler.program()
    }

    /// Ends enforcement: removes everything of ours.
    ///
    /// # Errors
    ///
    /// If something is left.
    pub fn remove(mut self) -> Result<(), Error> {
        self.backend.remove()
    }

    fn compile(&mut self) -> Option<Duration> {
        let changes = self.cluster.take_changes();
        if changes.is_empty() {
            return None;
        }
        let mode = if self.in_force.generation() == 0 { Mode::Full } else { Mode::Incremental };
        let begin = Instant::now();
        self.compiler.update(&self.cluster, &changes);
        let took = begin.elapsed();
        self.newer = true;
        self.metrics.compiled(mode, took);
        Some(took)
    }

    fn revoke(&mut self) -> Option<Result<Revoked, Error>> {
        let conntrack = self.conntrack.as_mut().filter(|_| self.unrevoked)?;
        let revoked = conntrack.revoke(self.compiler.program()).map_err(Error::from);
        if let Ok(revoked) = &revoked {
            self.unrevoked = false;
            self.metrics.revoked(revoked.cut.len());
        }
        Some(revoked)
    }

    fn postpone(&mut self, now: Instant) -> Duration {
        let pause = self.backoff.next();
        self.due = now + pause;
        pause
    }
}

/// `updated in 2 commits, 336 bytes, compiled in 0.1 ms, written in 0.2 ms, in force after 0.4 ms, 1 connection cut`.
impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
        let Report { change, steps, bytes, .. } = self.report;
        match change {
            Change::None => f.write_str("nothing to change")?,
            Change::Created | Change::Updated => {
                let word = if change == Change::Created { "created" } else { "updated" };
                let plural = if steps == 1 { "commit" } else { "commits" };
                write!(f, "{word} in {steps} {plural}, {bytes} bytes")?;
            }
        }
        if let Some(compiled_in) = self.compiled_in {
            write!(f, ", compiled in {:.1} ms", milliseconds(compiled_in))?;
        }
        write!(f, ", written in {:.1} ms", milliseconds(self.synced_in))?;
        if let Some(latency) = self.latency {
            write!(f, ", in force after {:.1} ms", milliseconds(latency))?;
        }
        match &self.revoked {
            Some(Ok(Revoked { cut, .. })) if !cut.is_empty() => {
                let plural = if cut.len() == 1 { "connection" } else { "connections" };
                write!(f, ", {} {plural} cut", cut.len())
            }
            Some(Err(error)) => write!(f, ", connections could not be cut: {error}"),
            _ => Ok(()),
        }
    }
}
