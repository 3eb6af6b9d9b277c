//! What the outside asks for.

use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// Signals as something to wait for.
#[derive(Debug)]
pub(crate) struct Signals {
    hang_up: UnixStream,
    end: UnixStream,
}

impl Signals {
    /// From now on these signals do not end the process by themselves.
    pub(crate) fn new() -> io::Result<Self> {
        let (hang_up, notify) = UnixStream::pair()?;
        pipe::register(SIGHUP, notify)?;
        let (end, notify) = UnixStream::pair()?;
        pipe::register(SIGTERM, notify.try_clone()?)?;
        pipe::register(SIGINT, notify)?;
        hang_up.set_nonblocking(true)?;
        end.set_nonblocking(true)?;
        Ok(Self { hang_up, end })
    }

    /// Somebody wants everything to be read again.
    pub(crate) fn reload(&mut self) -> io::Result<bool> {
        drain(&mut self.hang_up)
    }

    /// Somebody wants the process to end.
    pub(crate) fn stop(&mut self) -> io::Result<bool> {
        drain(&mut self.end)
    }

    /// What to wait for.
    pub(crate) fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.hang_up.as_fd(), self.end.as_fd()]
    }
}

/// Whether there was anything.
fn drain(stream: &mut UnixStream) -> io::Result<bool> {
    let mut found = false;
    loop {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return Ok(found),
            Ok(_) => found = true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(found),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
