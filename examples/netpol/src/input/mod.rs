//! Manifests from files, directories and standard input.

pub(crate) mod document;
pub(crate) mod files;
mod located;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use netpol_core::manifest::{
    self, Concern, Object, ObjectRef, ReadOptions, Reading, Rejected, Strictness, Value,
    WorkloadKind,
};
use netpol_core::model::{Endpoint, Name, Objects, PolicyKey, name};

use self::document::Document;
use self::located::{Lines, Located};

pub(crate) use self::files::Source;
use crate::notes::count;
use crate::progress::Progress;

/// What one file says, read by itself, so that the others need not be read again when it changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    input: Input,
    workloads: Workloads,
}

/// Where manifests come from.
#[derive(Args, Clone, Debug)]
pub(crate) struct InputArgs {
    /// Manifests: a file, a directory, or - for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    pub(crate) filename: Vec<PathBuf>,
    /// Look into the directories within directories, too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// The namespace of what does not say its own
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

type Workloads = Vec<(WorkloadKind, Endpoint)>;

/// What there is to tell about the input, beside what it means.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) place: Place,
    pub(crate) severity: Severity,
    /// Empty if it was not even possible to tell objects apart.
    pub(crate) object: ObjectRef,
    /// The field, as the API server spells it; empty for what is no object.
    pub(crate) path: String,
    /// The API's word for what is wrong, or the kind of warning.
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// A part of the input has no effect.
    Error,
    /// It was read, but not in the way that may have been meant.
    Warning,
}

/// A place in a file of manifests.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) file: Name,
    /// Which document of the file, counted from 1.
    pub(crate) document: usize,
    pub(crate) line: Option<u64>,
}

/// All the manifests of a command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Input {
    pub(crate) objects: Objects,
    /// The kinds of the endpoints that stand for all the pods of a workload, by namespace and endpoint name.
    pub(crate) workloads: BTreeMap<(Name, Name), WorkloadKind>,
    /// What there is to tell, in the order of the input.
    pub(crate) findings: Vec<Finding>,
    /// How many objects were left alone because their kind says nothing about policies, by kind.
    pub(crate) skipped: BTreeMap<String, usize>,
    /// How many objects were accepted, the skipped ones included.
    pub(crate) accepted: usize,
    /// The policies as they are written, if that was asked for.
    pub(crate) written: Option<BTreeMap<PolicyKey, Written>>,
}

/// A policy as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) value: Value,
    lines: Lines,
    place: Place,
}

impl Written {
    /// Where a field is written, or the object if the path is empty.
    pub(crate) fn place_of(&self, path: &str) -> Place {
        Place { line: self.lines.find(&self.value, path), ..self.place.clone() }
    }
}

impl InputArgs {
    /// Reads the objects leniently: what is not understood allows nothing, and is told. A namespaced object that
    /// does not say its namespace is in that of `-n`, or in `default`, as kubectl would create it.
    pub(crate) fn read(&self) -> Result<Input> {
        self.read_with(&self.lenient())
    }

    /// How [`read`](Self::read) reads.
    pub(crate) fn lenient(&self) -> ReadOptions {
        ReadOptions {
            namespace: Some(name(self.default_namespace())),
            strictness: Strictness::Lenient,
            ..ReadOptions::default()
        }
    }

    /// As [`read`](Self::read), and keeps the policies as they are written.
    pub(crate) fn read_as_written(&self) -> Result<Input> {
        let written = Some(BTreeMap::new());
        let sources = self.sources()?;
        let _progress = Progress::new("reading manifests");
        Ok(Input { written, ..Input::default() }.with(&sources, &self.lenient()))
    }

    /// Reads the objects in this way.
    pub(crate) fn read_with(&self, options: &ReadOptions) -> Result<Input> {
        let sources = self.sources()?;
        let _progress = Progress::new("reading manifests");
        Ok(Input::new(&sources, options))
    }

    fn sources(&self) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        for argument in &self.filename {
            sources.extend(files::read(argument, self.recursive)?);
        }
        Ok(sources)
    }

    /// The namespace of what does not say its own.
    pub(crate) fn default_namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }
}

impl Part {
    /// Reads what is in one file.
    pub(crate) fn read(source: &Source, options: &ReadOptions) -> Self {
        let mut this = Self::default();
        this.input.add(source, options, &mut this.workloads);
        this
    }
}

impl Finding {
    /// What is not even a document, or none that is understood.
    pub(crate) fn unreadable(place: Place, message: String) -> Self {
        Self {
            place,
            severity: Severity::Error,
            object: ObjectRef::default(),
            path: String::new(),
            reason: "Unreadable".to_owned(),
            message,
        }
    }
}

impl Input {
    /// Reads all that is in these files.
    pub(crate) fn new(sources: &[Source], options: &ReadOptions) -> Self {
        Self::default().with(sources, options)
    }

    /// Puts together what files say.
    pub(crate) fn from_parts(parts: impl IntoIterator<Item = Part>) -> Self {
        let (mut all, mut all_workloads) = (Self::default(), Workloads::new());
        for Part { input, workloads } in parts {
            let Objects { namespaces, endpoints, nodes, policies, domains } = input.objects;
            all.objects.namespaces.extend(namespaces);
            all.objects.endpoints.extend(endpoints);
            all.objects.nodes.extend(nodes);
            all.objects.policies.extend(policies);
            all.objects.domains.extend(domains);
            all.findings.extend(input.findings);
            all.accepted += input.accepted;
            for (kind, count) in input.skipped {
                *all.skipped.entry(kind).or_default() += count;
            }
            all_workloads.extend(workloads);
        }
        all.finish(all_workloads);
        all
    }

    fn with(mut self, sources: &[Source], options: &ReadOptions) -> Self {
        let mut workloads = Workloads::new();
        for source in sources {
            self.add(source, options, &mut workloads);
        }
        self.finish(workloads);
        self
    }

    /// Adds what is in one file.
    fn add(&mut self, source: &Source, options: &ReadOptions, workloads: &mut Workloads) {
        let file = name(&source.name);
        for Document { number, content } in document::documents(&source.text) {
            let place = |line| Place { file: file.clone(), document: number, line };
            match content {
                Ok(located) => self.add_document(&located, options, workloads, place),
                Err(unreadable) => {
                    let place = place(unreadable.line);
                    self.findings.push(Finding::unreadable(place, unreadable.message));
                }
            }
        }
    }

    fn add_document(
        &mut self,
        document: &Located,
        options: &ReadOptions,
        workloads: &mut Workloads,
        place: impl Fn(Option<u64>) -> Place,
    ) {
        let mut leaves = Vec::new();
        collect_leaves(&document.value, &document.lines, &mut leaves);
        let results = manifest::read(&document.value, options);
        for (result, (value, lines)) in results.zip(leaves) {
            let locate = |path: &str, message: &str| {
                // What has a wrong type for the API server's decoder has no path, but begins its message with it.
                let begin = message.split(": ").next().unwrap_or_default();
                place(lines.find(value, if path == "<decode>" { begin } else { path }))
            };
            let (errors, warnings) = match result {
                Ok(Reading { object, warnings }) => {
                    self.accepted += 1;
                    if let (Some(written), Object::Policy(policy)) = (&mut self.written, &object) {
                        let (value, lines) = (value.clone(), lines.clone());
                        let policy = policy.key.clone();
                        written.insert(policy, Written { value, lines, place: place(None) });
                    }
                    self.add_object(object, workloads);
                    (Vec::new(), warnings)
                }
                Err(Rejected { errors, warnings, .. }) => (errors, warnings),
            };
            self.findings.extend(errors.into_iter().map(|error| Finding {
                place: locate(&error.path, &error.message),
                severity: Severity::Error,
                object: error.object,
                path: error.path,
                reason: error.reason.to_string(),
                message: error.message,
            }));
            self.findings.extend(warnings.into_iter().map(|warning| Finding {
                place: locate(&warning.path, &warning.message),
                severity: Severity::Warning,
                object: warning.object,
                path: warning.path,
                reason: concern(warning.concern).to_owned(),
                message: warning.message,
            }));
        }
    }

    fn add_object(&mut self, object: Object, workloads: &mut Workloads) {
        match object {
            Object::Namespace(namespace) => self.objects.namespaces.push(namespace),
            Object::Node(node) => self.objects.nodes.push(node),
            Object::Pod(endpoint) => self.objects.endpoints.push(endpoint),
            Object::Workload { owned: true, .. } => {}
            Object::Workload { kind, endpoint, .. } => workloads.push((kind, endpoint)),
            Object::Policy(policy) => self.objects.policies.push(policy),
            Object::Skipped { kind, .. } => *self.skipped.entry(kind).or_default() += 1,
        }
    }

    /// Of an object that is given more than once the last value counts, as with `kubectl apply`.
    fn finish(&mut self, workloads: Workloads) {
        let Objects { namespaces, endpoints, nodes, policies, .. } = &mut self.objects;
        keep_last(namespaces, |it| it.name.clone());
        keep_last(endpoints, |it| (it.namespace.clone(), it.name.clone(), it.uid.clone()));
        keep_last(nodes, |it| it.name.clone());
        keep_last(policies, |it| it.key.clone());
        let mut taken: BTreeMap<_, _> =
            endpoints.iter().map(|it| ((it.namespace.clone(), it.name.clone()), None)).collect();
        for (kind, mut endpoint) in workloads {
            // Objects of different kinds may share a name, endpoints may not: the later one is named with its kind.
            let key = (endpoint.namespace.clone(), endpoint.name.clone());
            if taken.get(&key).is_some_and(|earlier| *earlier != Some(kind)) {
                endpoint.name = name(&format!("{}/{}", kind.short(), endpoint.name));
            }
            taken.insert((endpoint.namespace.clone(), endpoint.name.clone()), Some(kind));
            endpoints.push(endpoint);
        }
        keep_last(endpoints, |it| (it.namespace.clone(), it.name.clone(), it.uid.clone()));
        self.workloads = taken.into_iter().filter_map(|(key, kind)| Some((key, kind?))).collect();
    }

    /// Whether a part of the input has no effect because it cannot be read.
    pub(crate) fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// With `strict`, what would be passed over counts as an error: unknown fields, broken rules, unknown kinds.
    pub(crate) fn is_complete(&self, strict: bool) -> bool {
        let passed_over = !self.skipped.is_empty()
            || self.findings.iter().any(|finding| finding.reason != concern(Concern::Notice));
        !self.has_errors() && (!strict || !passed_over)
    }

    /// The skipped objects in words: `3 objects skipped: 2 Service, 1 Ingress`; nothing if there are none.
    pub(crate) fn skipped_note(&self) -> Option<String> {
        let total: usize = self.skipped.values().sum();
        let mut kinds: Vec<_> = self.skipped.iter().collect();
        kinds.sort_by_key(|(kind, count)| (std::cmp::Reverse(**count), (*kind).clone()));
        let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let objects = count(total, "object", "objects");
        (total > 0).then(|| format!("{objects} skipped: {}", kinds.join(", ")))
    }
}

/// The objects of a document in the order in which they are read, with their lines.
fn collect_leaves<'a>(
    value: &'a Value,
    lines: &'a Lines,
    leaves: &mut Vec<(&'a Value, &'a Lines)>,
) {
    static UNKNOWN: Lines = Lines { line: 0, within: Vec::new() };
    match (manifest::list_items(value), value) {
        (Some(items), Value::Map(entries)) => {
            let at = entries.iter().position(|(key, _)| key == "items");
            let lines = at.and_then(|at| lines.within.get(at)).unwrap_or(&UNKNOWN);
            for (at, item) in items.iter().enumerate() {
                collect_leaves(item, lines.within.get(at).unwrap_or(&UNKNOWN), leaves);
            }
        }
        (_, Value::Null) => {}
        _ => leaves.push((value, lines)),
    }
}

fn keep_last<T, K: Ord>(values: &mut Vec<T>, key: impl Fn(&T) -> K) {
    let last: BTreeMap<K, T> = values.drain(..).map(|value| (key(&value), value)).collect();
    values.extend(last.into_values());
}

fn concern(concern: Concern) -> &'static str {
    match concern {
        Concern::UnknownField => "UnknownField",
        Concern::FailClosed => "FailClosed",
        Concern::Tolerated => "Tolerated",
        Concern::Notice => "Notice",
    }
}

/// `shop.yaml:12` or, where there are no lines, `shop.json (document 2)`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => write!(f, "{} (document {})", self.file, self.document),
        }
    }
}

/// `shop.yaml:12: error: NetworkPolicy shop/api: spec.podSelector: Invalid: ...`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}: {severity}: ", self.place)?;
        if self.path.is_empty() {
            return write!(f, "document {}: {}", self.place.document, self.message);
        }
        write!(f, "{}: ", self.object)?;
        // The API machinery's words for no field in particular say nothing to people.
        if !self.path.starts_with('<') {
            write!(f, "{}: ", self.path)?;
        }
        if self.severity == Severity::Error {
            write!(f, "{}: ", self.reason)?;
        }
        f.write_str(&self.message)
    }
}
