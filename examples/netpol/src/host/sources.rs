//! The files of a host, read again only where they have changed, and only when they are complete.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::endpoints::{EndpointFile, HostEndpoint};
use super::{Desired, HostArgs, Surroundings, machine, settle};
use crate::input::{Input, Part, Source, files};

/// The files that a host's objects come from, with what they said when they were last read.
#[derive(Debug)]
pub(crate) struct Sources {
    args: HostArgs,
    surroundings: Surroundings,
    manifests: Known<Part>,
    endpoints: Known<EndpointFile>,
    stdin: Option<Part>,
    /// Files that somebody is writing to: what is in them is not what they will say.
    unfinished: BTreeSet<PathBuf>,
}

/// What files of a kind say.
#[derive(Debug)]
struct Known<T> {
    /// As of the last reading that nothing has got in the way of.
    accepted: BTreeMap<PathBuf, (Stamp, T)>,
    /// What has been read since.
    fresh: BTreeMap<PathBuf, (Stamp, T)>,
    /// Files to be read again whatever their stamp is.
    stale: BTreeSet<PathBuf>,
    /// The files that there are.
    present: BTreeSet<PathBuf>,
}

/// What tells that a file is not the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Sources {
    pub(crate) fn new(args: HostArgs, surroundings: Surroundings) -> Self {
        let (manifests, endpoints) = (Known::default(), Known::default());
        let (stdin, unfinished) = (None, BTreeSet::new());
        Self { args, surroundings, manifests, endpoints, stdin, unfinished }
    }

    /// The directories in which something may change.
    pub(crate) fn directories(&self) -> BTreeSet<PathBuf> {
        let HostArgs { input, endpoints, .. } = &self.args;
        let mut directories = BTreeSet::new();
        for path in input.filename.iter().filter(|it| !files::is_stdin(it)) {
            match path.is_dir() {
                true if input.recursive => directories.extend(files::directories(path)),
                true => _ = directories.insert(path.clone()),
                false => _ = directories.insert(parent(path)),
            }
        }
        directories.extend(endpoints.iter().map(|path| parent(path)));
        directories
    }

    /// Somebody has begun to write to a file. It stands for what it said before, until it is settled.
    pub(crate) fn begun(&mut self, path: &Path) {
        self.unfinished.insert(path.to_owned());
        self.manifests.fresh.remove(path);
        self.endpoints.fresh.remove(path);
    }

    /// A file is complete, or gone, or another one.
    pub(crate) fn settled(&mut self, path: &Path) {
        self.unfinished.remove(path);
        self.manifests.stale.insert(path.to_owned());
        self.endpoints.stale.insert(path.to_owned());
    }

    /// All files are to be read again, but for those that somebody is writing to.
    pub(crate) fn forget(&mut self) {
        self.manifests.forget();
        self.endpoints.forget();
    }

    /// It is not known any more who is writing to what.
    pub(crate) fn lose(&mut self) {
        self.unfinished.clear();
        self.forget();
    }

    /// What the files say now.
    ///
    /// # Errors
    ///
    /// If one cannot be read at all, or if there is none where there should be some. What is in a file and cannot be
    /// understood is told by the findings of the result.
    pub(crate) fn read(&mut self) -> Result<Desired> {
        let options = self.args.input.lenient();
        let mut parts = Vec::new();
        for argument in &self.args.input.filename {
            if files::is_stdin(argument) {
                let part = match &self.stdin {
                    Some(part) => part,
                    None => self.stdin.insert(Part::read(&files::read_stdin()?, &options)),
                };
                parts.push(part.clone());
                continue;
            }
            for path in files::list(argument, self.args.input.recursive)? {
                let unfinished = self.unfinished.contains(&path);
                let read = |source: &Source| Part::read(source, &options);
                parts.extend(self.manifests.current(&path, unfinished, read)?.cloned());
            }
        }
        let mut input = Input::from_parts(parts);
        let namespace = self.args.input.default_namespace();
        let mut listed = Vec::new();
        for path in &self.args.endpoints {
            let unfinished = self.unfinished.contains(path);
            let read = |source: &Source| EndpointFile::read(source, namespace);
            let Some(file) = self.endpoints.current(path, unfinished, read)? else { continue };
            input.findings.extend(file.findings.iter().cloned());
            input.accepted += file.endpoints.len();
            listed.extend(file.endpoints.iter().cloned());
        }
        self.add_endpoints(&mut input, listed)?;
        let node = settle(&mut input.objects, &self.args, self.surroundings)
            .context("the addresses of this machine cannot be read")?;
        Ok(Desired { input, node })
    }

    /// All files have been read, and nothing has happened to them meanwhile.
    pub(crate) fn accept(&mut self) {
        self.manifests.accept();
        self.endpoints.accept();
    }

    fn add_endpoints(&self, input: &mut Input, listed: Vec<HostEndpoint>) -> Result<()> {
        let by_interface = listed.iter().any(|it| it.interface.is_some());
        let behind = match (by_interface, self.surroundings) {
            (true, Surroundings::Here) => {
                machine::behind_interfaces().context("the routes of this machine cannot be read")?
            }
            _ => BTreeMap::new(),
        };
        // Of an endpoint that is given more than once the last value counts.
        let mut last = BTreeMap::new();
        for HostEndpoint { mut endpoint, interface } in listed {
            let routed = interface.as_ref().and_then(|it| behind.get(it)).into_iter().flatten();
            for address in routed {
                if !endpoint.addresses.contains(address) {
                    endpoint.addresses.push(*address);
                }
            }
            last.insert((endpoint.namespace.clone(), endpoint.name.clone()), endpoint);
        }
        let endpoints = &mut input.objects.endpoints;
        endpoints.retain(|it| !last.contains_key(&(it.namespace.clone(), it.name.clone())));
        endpoints.extend(last.into_values());
        Ok(())
    }
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        let (stale, present) = (BTreeSet::new(), BTreeSet::new());
        Self { accepted: BTreeMap::new(), fresh: BTreeMap::new(), stale, present }
    }
}

impl<T> Known<T> {
    /// What a file says now, or said before somebody began to write to it; nothing if it has never been complete.
    fn current(
        &mut self,
        path: &Path,
        unfinished: bool,
        read: impl FnOnce(&Source) -> T,
    ) -> Result<Option<&T>> {
        self.present.insert(path.to_owned());
        let accepted = self.accepted.get(path);
        if unfinished {
            return Ok(accepted.map(|(_, content)| content));
        }
        let stamp =
            Stamp::of(path).with_context(|| format!("{} cannot be read", path.display()))?;
        if let Some((_, content)) = accepted.filter(|(before, _)| *before == stamp)
            && !self.stale.contains(path)
        {
            return Ok(Some(content));
        }
        if self.fresh.get(path).is_none_or(|(before, _)| *before != stamp) {
            let content = read(&files::read_file(path)?);
            self.fresh.insert(path.to_owned(), (stamp, content));
        }
        Ok(self.fresh.get(path).map(|(_, content)| content))
    }

    fn forget(&mut self) {
        self.stale.extend(self.accepted.keys().cloned());
    }

    fn accept(&mut self) {
        self.accepted.append(&mut self.fresh);
        self.stale.clear();
        let present = std::mem::take(&mut self.present);
        self.accepted.retain(|path, _| present.contains(path));
    }
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    }
}
