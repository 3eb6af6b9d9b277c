//! Network namespaces without a name, and threads that go into them.

use std::fs::{self, File};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::resume_unwind;
use std::thread;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, alive as long as this value is.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
}

impl Namespace {
    /// The number by which the kernel and `nsenter` find it among the files of this process.
    pub(crate) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Runs `f` on a thread inside the namespace. Sockets and child processes that `f` makes stay
    /// inside.
    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        visit(|visitor| {
            visitor.enter(self)?;
            Ok(f())
        })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A thread that may move between network namespaces.
///
/// Only [`visit`] makes one, on a thread of its own: no thread of the caller ever changes its
/// namespace.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// Where the thread is, to save the system call for going there again.
    inside: Option<RawFd>,
    not_send: PhantomData<*const ()>,
}

/// Runs `f` on a new thread that may move between network namespaces, and waits for it.
pub(crate) fn visit<T: Send>(f: impl FnOnce(&mut Visitor) -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let visitor = thread::Builder::new()
            .name("testbed".to_owned())
            .spawn_scoped(scope, || f(&mut Visitor { inside: None, not_send: PhantomData }))
            .context("starting a thread")?;
        visitor.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

impl Visitor {
    /// Makes a new network namespace and goes into it.
    pub(crate) fn create(&mut self) -> Result<Namespace> {
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
        let path = "/proc/thread-self/ns/net";
        let file = File::open(path).with_context(|| format!("opening {path}"))?;
        self.inside = Some(file.as_raw_fd());
        Ok(Namespace { file })
    }

    /// Goes into `namespace`.
    pub(crate) fn enter(&mut self, namespace: &Namespace) -> Result<()> {
        if self.inside != Some(namespace.fd()) {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("entering a network namespace")?;
            self.inside = Some(namespace.fd());
        }
        Ok(())
    }

    /// Writes kernel settings of the namespace that the thread is in, named as below
    /// `/proc/sys/net`.
    pub(crate) fn set(&self, settings: &[(&str, &str)]) -> Result<()> {
        debug_assert!(self.inside.is_some(), "settings of the host's own namespace are not ours");
        settings.iter().try_for_each(|(name, value)| {
            let path = format!("/proc/sys/net/{name}");
            fs::write(&path, value).with_context(|| format!("writing `{value}` to {path}"))
        })
    }
}
