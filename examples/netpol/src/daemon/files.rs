//! What the files say, whenever something has happened to them.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::watch::{FileEvent, FileWatch};
use crate::host::{Desired, Sources};
use crate::notes;

/// Files are read when nothing has happened to them for so long: a change is often one of several.
const SETTLE: Duration = Duration::from_millis(3);
/// They are read after so long, whatever happens.
const LONGEST: Duration = Duration::from_millis(30);
/// How often files are read over because something has happened to them meanwhile.
const ATTEMPTS: usize = 10;

/// The input, and what happens to it.
pub(super) struct Files {
    watch: FileWatch,
    sources: Sources,
    happened: Option<Happened>,
}

/// Something has happened since files were read.
#[derive(Clone, Copy)]
struct Happened {
    first: Instant,
    last: Instant,
}

impl Files {
    pub(super) fn new(sources: Sources) -> Result<Self> {
        let mut this = Self { watch: FileWatch::new()?, sources, happened: None };
        this.listen();
        Ok(this)
    }

    /// When they have to be read at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        self.happened.map(|it| (it.last + SETTLE).min(it.first + LONGEST))
    }

    /// When the change was noticed that is to be read now.
    pub(super) fn changed(&self) -> Option<Instant> {
        self.happened.filter(|_| self.due() <= Some(Instant::now())).map(|it| it.first)
    }

    /// Notes what has happened. Whether there was anything.
    pub(super) fn hear(&mut self) -> Result<bool> {
        let events = self.watch.events()?;
        for event in &events {
            match event {
                FileEvent::Begun(path) => {
                    self.sources.begun(path);
                    continue;
                }
                FileEvent::Settled(path) => self.sources.settled(path),
                FileEvent::Directories => self.forget(),
                FileEvent::Lost => {
                    self.sources.lose();
                    self.listen();
                }
            }
            let now = Instant::now();
            let first = self.happened.map_or(now, |it| it.first);
            self.happened = Some(Happened { first, last: now });
        }
        Ok(!events.is_empty())
    }

    /// What they say now; nothing if they change all the time, in which case they are due again.
    pub(super) fn read(&mut self) -> Option<Result<Desired>> {
        for _ in 0..ATTEMPTS {
            self.happened = None;
            let read = self.sources.read();
            match self.hear() {
                Ok(false) => {
                    if read.is_ok() {
                        self.sources.accept();
                    }
                    return Some(read);
                }
                // What has been read may be half of what somebody writes.
                Ok(true) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        let now = Instant::now();
        self.happened.get_or_insert(Happened { first: now, last: now });
        None
    }

    /// Nothing that was read counts any more.
    pub(super) fn forget(&mut self) {
        self.sources.forget();
        self.listen();
    }

    fn listen(&mut self) {
        let failures = self.watch.set(&self.sources.directories());
        failures.iter().for_each(notes::error);
    }
}

impl AsFd for Files {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}
