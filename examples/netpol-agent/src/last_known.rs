//! The last objects that were put into force, on disk: for a node that comes up while the API server is not there.
//!
//! A line per object, then one that says how many there were and what their hash is. A file that is cut off, changed or
//! of another version is not used. It is replaced by renaming, so that at any instant there is a whole one.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tracing::warn;

/// The version of the format; a file of another one is left alone.
const VERSION: u32 = 1;

/// The last line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    version: u32,
    /// What is enforced on one node is of no use on another.
    node: String,
    objects: usize,
    sha256: String,
}

/// Where the objects are kept.
#[derive(Debug)]
pub(crate) struct LastKnown {
    path: PathBuf,
    node: String,
    /// Waits for the disk.
    settling: Option<JoinHandle<()>>,
}

impl LastKnown {
    /// Kept in a directory that is there.
    pub(crate) fn new(directory: &Path, node: &str) -> Self {
        let path = directory.join("objects.jsonl");
        Self { path, node: node.to_owned(), settling: None }
    }

    /// Replaces what is kept. The objects are JSON without line breaks. A disk may take seconds to write anything and be
    /// sure of it, and policies are not to wait for it: all is done on a thread.
    ///
    /// Does nothing but to return `false` if the last time is not over yet.
    pub(crate) fn save(&mut self, objects: Vec<Arc<str>>) -> bool {
        if self.settling.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return false;
        }
        let (kept, node) = (self.path.clone(), self.node.clone());
        let settle = move || {
            if let Err(error) = replace(&kept, &node, &objects) {
                warn!(error = format!("{error:#}"), "the objects in force are not on disk");
            }
        };
        match thread::Builder::new().name("last-known".to_owned()).spawn(settle) {
            Ok(thread) => self.settling = Some(thread),
            Err(error) => warn!(%error, "the objects in force are not on disk"),
        }
        true
    }

    /// Waits until what was saved is on disk.
    pub(crate) fn settle(&mut self) {
        if let Some(settling) = self.settling.take() {
            // It does not panic.
            let _ = settling.join();
        }
    }

    /// Hands over what is kept, object by object, if all of it is as it was written; returns how many there are, or
    /// `None` if nothing is kept.
    pub(crate) fn load(&self, take: impl FnMut(Value)) -> Result<Option<usize>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.with_context(|| format!("opening {}", self.path.display()))?,
        };
        let read = self.read(BufReader::new(file), take);
        read.with_context(|| format!("reading {}", self.path.display())).map(Some)
    }

    /// Reads twice, first for the seal alone: all objects at once would take much memory.
    fn read(&self, mut file: impl BufRead + Seek, mut take: impl FnMut(Value)) -> Result<usize> {
        let objects = self.verify(&mut file)?;
        file.rewind()?;
        for line in file.lines().take(objects) {
            take(serde_json::from_str(&line?).context("a line is no object")?);
        }
        Ok(objects)
    }

    /// Whether the seal is good; returns how many objects there are.
    fn verify(&self, file: &mut impl BufRead) -> Result<usize> {
        let (mut hash, mut objects) = (Sha256::new(), 0);
        let mut lines = file.lines().peekable();
        while let Some(line) = lines.next() {
            let line = line?;
            if lines.peek().is_some() {
                hash.update(&line);
                hash.update("\n");
                objects += 1;
                continue;
            }
            let seal: Seal = serde_json::from_str(&line).context("the end is missing")?;
            ensure!(seal.version == VERSION, "it has version {}, not {VERSION}", seal.version);
            ensure!(seal.node == self.node, "it is about node {}", seal.node);
            ensure!(seal == self::seal(&self.node, objects, hash), "it has been changed");
            return Ok(objects);
        }
        bail!("it is empty")
    }
}

fn seal(node: &str, objects: usize, hash: Sha256) -> Seal {
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Seal { version: VERSION, node: node.to_owned(), objects, sha256 }
}

/// Writes a file and puts it in the place of the one that is kept.
fn replace(kept: &Path, node: &str, objects: &[Arc<str>]) -> Result<()> {
    let path = kept.with_extension("new");
    let context = || format!("writing {}", path.display());
    let mut file = BufWriter::new(File::create(&path).with_context(context)?);
    let mut hash = Sha256::new();
    for object in objects {
        for part in [object, "\n"] {
            hash.update(part);
            file.write_all(part.as_bytes()).with_context(context)?;
        }
    }
    let seal = seal(node, objects.len(), hash);
    serde_json::to_writer(&mut file, &seal).with_context(context)?;
    let file = file.into_inner().map_err(|error| error.into_error()).with_context(context)?;
    file.sync_all().with_context(context)?;
    fs::rename(&path, kept).with_context(context)?;
    // The new name is on disk only when its directory is.
    let directory = kept.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|it| it.sync_all()).with_context(context)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const OBJECTS: [&str; 3] = [r#"{"kind":"Pod","n":1}"#, r#"{"kind":"Node"}"#, "{}"];

    fn directory() -> PathBuf {
        let name = format!("netpol-agent-test-{}-{:?}", std::process::id(), thread::current().id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let directory = directory();
        let mut kept = LastKnown::new(&directory, "n1");
        assert!(kept.load(|_| ()).unwrap().is_none());
        for objects in [&OBJECTS[..], &OBJECTS[..1], &[]] {
            assert!(kept.save(objects.iter().copied().map(Arc::from).collect()));
            kept.settle();
            let mut loaded = Vec::new();
            let count = kept.load(|object| loaded.push(object.to_string())).unwrap();
            assert_eq!(count, Some(objects.len()));
            assert_eq!(loaded, objects);
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing else is left");
        fs::remove_dir_all(directory).unwrap();
    }

    /// What takes its time to be opened is a disk that is busy.
    #[test]
    fn nobody_waits_for_the_disk() {
        let directory = directory();
        let mut kept = LastKnown::new(&directory, "n1");
        let slow = kept.path.with_extension("new");
        assert!(Command::new("mkfifo").arg(&slow).status().unwrap().success());
        let objects = OBJECTS.map(Arc::from).to_vec();
        assert!(kept.save(objects.clone()));
        assert!(!kept.save(objects.clone()), "the first one is under way");
        let written = fs::read_to_string(&slow).unwrap();
        assert_eq!(written.lines().count(), OBJECTS.len() + 1);
        kept.settle();
        fs::remove_file(&slow).unwrap();
        assert!(kept.save(objects));
        kept.settle();
        assert_eq!(kept.load(|_| ()).unwrap(), Some(OBJECTS.len()));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_damaged_is_not_used() {
        let directory = directory();
        let mut kept = LastKnown::new(&directory, "n1");
        assert!(kept.save(OBJECTS.map(Arc::from).to_vec()));
        kept.settle();
        let whole = fs::read(&kept.path).unwrap();
        for length in 0..whole.len() {
            fs::write(&kept.path, &whole[..length]).unwrap();
            assert!(kept.load(|_| panic!()).is_err(), "cut off at {length}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&kept.path, &changed).unwrap();
            assert!(kept.load(|_| panic!()).is_err(), "changed at {at}");
        }
        fs::write(&kept.path, &whole).unwrap();
        let error = LastKnown::new(&directory, "n2").load(|_| panic!()).unwrap_err();
        assert_eq!(format!("{:#}", error.root_cause()), "it is about node n1");
        fs::remove_dir_all(directory).unwrap();
    }
}
