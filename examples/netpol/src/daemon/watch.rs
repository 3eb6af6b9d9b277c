//! Hears what happens to files, in the order in which it happens.
//!
//! A file counts when it is complete: closed after writing, moved into place, linked, or gone. What is asked after a
//! file has been read tells whether it was complete all the while, since the kernel notes what happens at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

/// Listens to what happens in directories.
#[derive(Debug)]
pub(crate) struct FileWatch {
    inotify: Inotify,
    directories: BTreeMap<PathBuf, WatchDescriptor>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileEvent {
    /// Somebody has begun to write to a file.
    Begun(PathBuf),
    /// A file is complete, or gone.
    Settled(PathBuf),
    /// Directories came or went.
    Directories,
    /// Too much has happened to be told.
    Lost,
}

impl FileWatch {
    pub(crate) fn new() -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let inotify = inotify.context("files cannot be watched")?;
        Ok(Self { inotify, directories: BTreeMap::new() })
    }

    /// Listens to these directories, and no others, from now on. One that is not there is left out, and told.
    pub(crate) fn set(&mut self, directories: &BTreeSet<PathBuf>) -> Vec<String> {
        let gone: Vec<PathBuf> =
            self.directories.keys().filter(|it| !directories.contains(*it)).cloned().collect();
        for path in gone {
            // It may be gone with the directory.
            let _ = self.directories.remove(&path).map(|it| self.inotify.rm_watch(it));
        }
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let mut failures = Vec::new();
        for path in directories {
            // The same directory gives the same descriptor, another one of its name another one.
            match self.inotify.add_watch(path, flags) {
                Ok(descriptor) => _ = self.directories.insert(path.clone(), descriptor),
                Err(error) => {
                    failures.push(format!("{} cannot be watched: {}", path.display(), error.desc()))
                }
            }
        }
        failures
    }

    /// What has happened since this was last asked; does not wait.
    pub(crate) fn events(&self) -> Result<Vec<FileEvent>> {
        let mut events = Vec::new();
        loop {
            match self.inotify.read_events() {
                Ok(batch) => events.extend(batch.iter().filter_map(|it| self.event(it))),
                Err(Errno::EAGAIN) => return Ok(events),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("listening to files"),
            }
        }
    }

    fn event(&self, event: &InotifyEvent) -> Option<FileEvent> {
        let mask = event.mask;
        let directories =
            AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_ISDIR;
        if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return Some(FileEvent::Lost);
        }
        if mask.intersects(directories) {
            return Some(FileEvent::Directories);
        }
        let (directory, _) = self.directories.iter().find(|(_, it)| **it == event.wd)?;
        let path = directory.join(event.name.as_ref()?);
        let begun = mask.contains(AddWatchFlags::IN_MODIFY)
            || (mask.contains(AddWatchFlags::IN_CREATE) && is_new(&path));
        Some(if begun { FileEvent::Begun(path) } else { FileEvent::Settled(path) })
    }
}

/// A file that was made to be written to, and not a link to another: it will be closed.
fn is_new(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).is_ok_and(|it| it.is_file() && it.nlink() == 1)
}

impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn files_count_when_they_are_complete() {
        let top = std::env::temp_dir().join(format!("netpol-watch-{}", std::process::id()));
        fs::create_dir_all(&top).unwrap();
        let mut watch = FileWatch::new().unwrap();
        assert!(watch.set(&BTreeSet::from([top.clone()])).is_empty());
        let [a, b, c] = ["a", "b", "c"].map(|it| top.join(it));

        let mut file = fs::File::create(&a).unwrap();
        file.write_all(b"1").unwrap();
        let begun = FileEvent::Begun(a.clone());
        assert!(watch.events().unwrap().iter().all(|it| *it == begun));
        drop(file);
        assert_eq!(watch.events().unwrap(), [FileEvent::Settled(a.clone())]);
        fs::read(&a).unwrap();
        assert_eq!(watch.events().unwrap(), [], "to read is no change");
        fs::rename(&a, &b).unwrap();
        std::os::unix::fs::symlink(&b, &c).unwrap();
        fs::remove_file(&b).unwrap();
        let settled = [a, b.clone(), c, b].map(FileEvent::Settled);
        assert_eq!(watch.events().unwrap(), settled);
        fs::create_dir(top.join("inner")).unwrap();
        assert_eq!(watch.events().unwrap(), [FileEvent::Directories]);
        fs::remove_dir_all(&top).unwrap();
        assert!(watch.events().unwrap().contains(&FileEvent::Directories));
        assert_eq!(watch.set(&BTreeSet::from([top])).len(), 1);
    }
}
