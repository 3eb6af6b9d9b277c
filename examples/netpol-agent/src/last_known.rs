//! The last objects that were put into force, on disk: for a node that comes up while the API server is not there.
//!
//! A line per object, then one that says how many there were and what their hash is. A file that is cut off, changed or
//! of another version is not used. It is replaced by renaming, so that at any instant there is a whole one.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
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

    /// Replaces what is kept. The objects are JSON without line breaks. A disk may take long to be sure of something;
    /// that is waited for on a thread.
    pub(crate) fn save<'a>(&mut self, objects: impl Iterator<Item = &'a str>) -> Result<()> {
        self.settle();
        let path = self.path.with_extension("new");
        let context = || format!("writing {}", path.display());
        let mut file = BufWriter::new(File::create(&path).with_context(context)?);
        let (mut hash, mut count) = (Sha256::new(), 0);
        for object in objects {
            for part in [object, "\n"] {
                hash.update(part);
                file.write_all(part.as_bytes()).with_context(context)?;
            }
            count += 1;
        }
        let seal = self.seal(count, hash);
        serde_json::to_writer(&mut file, &seal).with_context(context)?;
        let file = file.into_inner().map_err(|error| error.into_error()).with_context(context)?;
        let kept = self.path.clone();
        let settle = move || {
            if let Err(error) = replace(&file, &path, &kept) {
                warn!(%error, path = %kept.display(), "the objects in force are not on disk");
            }
        };
        let thread = thread::Builder::new().name("last-known".to_owned()).spawn(settle);
        self.settling = Some(thread.context("starting a thread")?);
        Ok(())
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
            ensure!(seal == self.seal(objects, hash), "it has been changed");
            return Ok(objects);
        }
        bail!("it is empty")
    }

    fn seal(&self, objects: usize, hash: Sha256) -> Seal {
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Seal { version: VERSION, node: self.node.clone(), objects, sha256 }
    }
}

/// Puts a file that has been written in the place of another one.
fn replace(file: &File, path: &Path, kept: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(path, kept)?;
    // The new name is on disk only when its directory is.
    File::open(kept.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
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
            kept.save(objects.iter().copied()).unwrap();
            kept.settle();
            let mut loaded = Vec::new();
            let count = kept.load(|object| loaded.push(object.to_string())).unwrap();
            assert_eq!(count, Some(objects.len()));
            assert_eq!(loaded, objects);
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing else is left");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_damaged_is_not_used() {
        let directory = directory();
        let mut kept = LastKnown::new(&directory, "n1");
        kept.save(OBJECTS.into_iter()).unwrap();
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
