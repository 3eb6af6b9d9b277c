//! What an operator's monitoring sees, in the names of Prometheus: base units, `_total` on counters, and no names of
//! pods or policies in labels.
//!
//! | metric | labels | what |
//! |---|---|---|
//! | `netpol_build_info` | version | |
//! | `netpol_policies` | api, tier | policies |
//! | `netpol_endpoints` | | endpoints that are policed here |
//! | `netpol_profiles`, `netpol_identities`, `netpol_peer_sets`, `netpol_peer_set_members` | | the [size](netpol_core::program::Capacity) of the program |
//! | `netpol_objects_rejected_total` | kind, reason | objects that could not be read |
//! | `netpol_diagnostics` | code | what is not right with the objects of now |
//! | `netpol_compile_seconds` | mode | |
//! | `netpol_sync_seconds`, `netpol_sync_total` | backend, result | calls of the backend |
//! | `netpol_policy_latency_seconds` | | from a change seen to the kernel's acknowledgement |
//! | `netpol_kernel_objects` | backend, kind | chains, rules, sets, elements |
//! | `netpol_kernel_drift_total` | backend | times that others had changed what is ours |
//! | `netpol_kernel_disturbances_total` | | notifications of changes by others, also of those without effect |
//! | `netpol_connections_cut_total` | | connections that a change forbade |
//! | `netpol_last_sync_timestamp_seconds`, `netpol_in_sync` | | |
//! | `netpol_packets_total`, `netpol_bytes_total` | direction, verdict | what was denied |
//! | `netpol_records_total`, `netpol_records_lost_total` | | denied packets that were recorded; times that reports came too fast |
//!
//! Sizes and packets are as of the last [`Enforcer::measure`](crate::Enforcer::measure).

mod serve;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use netpol_core::backend::{Change, Count, Report, Status};
use netpol_core::cluster::Cluster;
use netpol_core::model::Direction;
use netpol_core::program::Program;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

pub use serve::{Health, Page, Text, serve, serve_on_thread};

/// The names and values of the labels of a metric that has `N` of them.
type Labels<const N: usize> = [(&'static str, String); N];
type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// All metrics of a process. An [`Enforcer`](crate::Enforcer) keeps its own up to date; a host adds what it knows.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    policies: Family<Labels<2>, Gauge>,
    endpoints: Gauge,
    profiles: Gauge,
    identities: Gauge,
    peer_sets: Gauge,
    peer_set_members: Gauge,
    rejected: Family<Labels<2>, Counter>,
    diagnostics: Family<Labels<1>, Gauge>,
    compile: Histograms,
    sync_seconds: Histograms,
    syncs: Family<Labels<2>, Counter>,
    latency: Histogram,
    kernel_objects: Family<Labels<2>, Gauge>,
    drift: Family<Labels<1>, Counter>,
    disturbances: Counter,
    cut: Counter,
    last_sync: Gauge<f64, AtomicU64>,
    in_sync: Gauge,
    packets: Family<Labels<2>, Counter>,
    bytes: Family<Labels<2>, Counter>,
    records: Counter,
    records_lost: Counter,
    /// The kernel's counts of denied egress and ingress when they were last read: they begin anew with new rules.
    counted: Mutex<[Count; 2]>,
}

/// How much was compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// From nothing.
    Full,
    /// What had changed.
    Incremental,
}

impl Metrics {
    /// The metrics of a process that has done nothing yet, with its version.
    pub fn new(version: &str) -> Self {
        let mut all = Registry::with_prefix("netpol");
        all.register("build", "The running program", Info::new([("version", version.to_owned())]));
        let mut registry = Adding(&mut all);
        Self {
            policies: registry.add("policies", "Policies by API kind and tier"),
            endpoints: registry.add("endpoints", "Endpoints that are policed here"),
            profiles: registry.add("profiles", "Different sets of applicable policies"),
            identities: registry.add("identities", "Kinds of peers that policies tell apart"),
            peer_sets: registry.add("peer_sets", "Different sets of peers"),
            peer_set_members: registry.add("peer_set_members", "Addresses and ranges in them"),
            rejected: registry.add("objects_rejected", "Objects that could not be read"),
            diagnostics: registry.add("diagnostics", "What is not right with the objects of now"),
            compile: registry.add_timings("compile", "Compilation", histogram),
            sync_seconds: registry.add_timings("sync", "Calls of the backend", histogram),
            syncs: registry.add("sync", "Calls of the backend by result"),
            latency: registry.add_timing("policy_latency", "Change seen to kernel acknowledged"),
            kernel_objects: registry.add("kernel_objects", "What is in force, counted"),
            drift: registry.add("kernel_drift", "Times that others had changed what is ours"),
            disturbances: registry.add("kernel_disturbances", "Changes by others, heard of"),
            cut: registry.add("connections_cut", "Connections that a change forbade"),
            last_sync: registry.add_seconds("last_sync_timestamp", "When the kernel last agreed"),
            in_sync: registry.add("in_sync", "1 if the kernel has what the objects say"),
            packets: registry.add("packets", "Packets judged by policies"),
            bytes: registry.add("bytes", "Their bytes"),
            records: registry.add("records", "Denied packets that were recorded"),
            records_lost: registry.add("records_lost", "Times that reports came too fast"),
            counted: Mutex::default(),
            registry: all,
        }
    }

    /// Where a host registers metrics of its own, before it shares them; `netpol_` is put before their names.
    pub fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Everything in the text format of OpenMetrics 1.0, which Prometheus reads.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Counts an object that could not be read; `reason` is the API's word, such as `Invalid`.
    pub fn rejected(&self, kind: &str, reason: &str) {
        let labels = [("kind", kind.to_owned()), ("reason", reason.to_owned())];
        self.rejected.get_or_create(&labels).inc();
    }

    /// Says what is not right with the objects of now, by code; what is not mentioned is right.
    pub fn diagnose<'a>(&self, codes: impl IntoIterator<Item = &'a str>) {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        codes.into_iter().for_each(|code| *counts.entry(code).or_default() += 1);
        self.diagnostics.clear();
        for (code, count) in counts {
            self.diagnostics.get_or_create(&[("code", code.to_owned())]).set(count);
        }
    }

    /// Whether the kernel has what the objects say, as far as is known.
    pub fn is_in_sync(&self) -> bool {
        self.in_sync.get() == 1
    }

    /// Counts a record of a denied packet.
    pub(crate) fn recorded(&self) {
        self.records.inc();
    }

    pub(crate) fn lost_records(&self) {
        self.records_lost.inc();
    }

    pub(crate) fn compiled(&self, mode: Mode, took: Duration) {
        let mode = match mode {
            Mode::Full => "full",
            Mode::Incremental => "incremental",
        };
        self.compile.get_or_create(&[("mode", mode.to_owned())]).observe(took.as_secs_f64());
    }

    pub(crate) fn synced(
        &self,
        backend: &str,
        report: &Report,
        took: Duration,
        latency: Option<Duration>,
    ) {
        let result = if report.change == Change::None { "noop" } else { "changed" };
        self.count_sync(backend, result);
        let labels = [("backend", backend.to_owned())];
        self.sync_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        if report.interfered {
            self.drift.get_or_create(&labels).inc();
        }
        if let Some(latency) = latency {
            self.latency.observe(latency.as_secs_f64());
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.last_sync.set(now.map_or(0.0, |now| now.as_secs_f64()));
        self.in_sync.set(1);
    }

    pub(crate) fn sync_failed(&self, backend: &str) {
        self.count_sync(backend, "error");
        self.in_sync.set(0);
    }

    pub(crate) fn disturbed(&self) {
        self.disturbances.inc();
    }

    pub(crate) fn revoked(&self, connections: usize) {
        self.cut.inc_by(connections as u64);
    }

    pub(crate) fn measured(
        &self,
        cluster: &Cluster,
        program: &Program,
        backend: &str,
        status: &Status,
    ) {
        let mut policies: BTreeMap<(&str, String), i64> = BTreeMap::new();
        for policy in cluster.policies() {
            let key = (policy.key.kind.as_str(), policy.tier.to_string());
            *policies.entry(key).or_default() += 1;
        }
        self.policies.clear();
        for ((api, tier), count) in policies {
            self.policies.get_or_create(&[("api", api.to_owned()), ("tier", tier)]).set(count);
        }
        let size = program.capacity();
        set(&self.endpoints, size.endpoints);
        set(&self.profiles, size.profiles);
        set(&self.identities, size.identities);
        set(&self.peer_sets, size.classes);
        set(&self.peer_set_members, size.set_elements_v4 + size.set_elements_v6);
        let Status { chains, rules, sets, elements, .. } = *status;
        for (kind, count) in
            [("chain", chains), ("rule", rules), ("set", sets), ("element", elements)]
        {
            let labels = [("backend", backend.to_owned()), ("kind", kind.to_owned())];
            set(&self.kernel_objects.get_or_create(&labels), count);
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for (before, direction) in counted.iter_mut().zip(Direction::ALL) {
            let now = status.denied(direction);
            let labels = [("direction", direction.to_string()), ("verdict", "denied".to_owned())];
            let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
            let (packets, bytes) =
                (since(now.packets, before.packets), since(now.bytes, before.bytes));
            self.packets.get_or_create(&labels).inc_by(packets);
            self.bytes.get_or_create(&labels).inc_by(bytes);
            *before = now;
        }
    }

    fn count_sync(&self, backend: &str, result: &str) {
        let labels = [("backend", backend.to_owned()), ("result", result.to_owned())];
        self.syncs.get_or_create(&labels).inc();
    }
}

/// From a tenth of a millisecond to 13 seconds.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(1e-4, 2.0, 18))
}

fn set(gauge: &Gauge, value: usize) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// A registry that hands out what it is given.
struct Adding<'r>(&'r mut Registry);

impl Adding<'_> {
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    fn add_seconds<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }

    fn add_timing(&mut self, name: &str, help: &str) -> Histogram {
        let metric = histogram();
        self.0.register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }

    fn add_timings(&mut self, name: &str, help: &str, make: fn() -> Histogram) -> Histograms {
        let metric = Histograms::new_with_constructor(make);
        self.0.register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_the_kernel_that_begin_anew_go_on() {
        let metrics = Metrics::new("1.2.3");
        let cluster = Cluster::default();
        let program = netpol_core::compile(&cluster, netpol_core::Scope::Cluster);
        for packets in [5, 7, 3] {
            let denied_egress = Count { packets, bytes: packets * 100 };
            let status = Status { chains: 9, denied_egress, ..Status::default() };
            metrics.measured(&cluster, &program, "nft", &status);
        }
        let text = metrics.encode();
        for line in [
            r#"netpol_build_info{version="1.2.3"} 1"#,
            r#"netpol_packets_total{direction="egress",verdict="denied"} 10"#,
            r#"netpol_bytes_total{direction="egress",verdict="denied"} 1000"#,
            r#"netpol_packets_total{direction="ingress",verdict="denied"} 0"#,
            r#"netpol_kernel_objects{backend="nft",kind="chain"} 9"#,
            "netpol_in_sync 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn times_are_in_seconds_and_counts_end_in_total() {
        let metrics = Metrics::new("0");
        let report = Report { change: Change::Created, interfered: true, steps: 1, bytes: 1 };
        let took = Duration::from_millis(2);
        metrics.compiled(Mode::Full, took);
        metrics.synced("nft", &report, took, Some(took));
        metrics.rejected("Pod", "Invalid");
        metrics.diagnose(["FailClosed", "FailClosed"]);
        metrics.diagnose(["UnknownField"]);
        let text = metrics.encode();
        for line in [
            r#"netpol_compile_seconds_count{mode="full"} 1"#,
            r#"netpol_sync_seconds_sum{backend="nft"} 0.002"#,
            r#"netpol_sync_total{backend="nft",result="changed"} 1"#,
            "netpol_policy_latency_seconds_count 1",
            r#"netpol_kernel_drift_total{backend="nft"} 1"#,
            r#"netpol_objects_rejected_total{kind="Pod",reason="Invalid"} 1"#,
            r#"netpol_diagnostics{code="UnknownField"} 1"#,
            "netpol_in_sync 1",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("FailClosed"), "of then, not of now");
        assert!(text.contains("netpol_last_sync_timestamp_seconds "));
    }
}
