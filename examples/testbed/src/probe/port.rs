//! Fresh source ports.

use std::io;

/// The first source port; lower ones are left to servers.
const FIRST: u16 = 10_000;

/// Hands out source ports, and the numbers that stand for them in ICMP.
///
/// Connection tracking remembers what it has seen for minutes, so a port that the kernel chooses at
/// random may belong to a connection that was allowed before, and let a denied probe through. Here
/// a port comes back only after all others have been used.
#[derive(Debug)]
pub(crate) struct Ports {
    next: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Ports { next: FIRST }
    }
}

impl Ports {
    /// The next number.
    pub(crate) fn next(&mut self) -> u16 {
        let port = self.next;
        self.next = port.checked_add(1).unwrap_or(FIRST);
        port
    }

    /// Tries `bind` with one port after the other until one is free.
    pub(crate) fn bind<T>(&mut self, bind: impl Fn(u16) -> io::Result<T>) -> io::Result<(T, u16)> {
        for _ in FIRST..=u16::MAX {
            let port = self.next();
            match bind(port) {
                Ok(bound) => return Ok((bound, port)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => (),
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}
