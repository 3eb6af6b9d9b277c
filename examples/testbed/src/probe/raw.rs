//! Sockets of protocols that the kernel leaves to us.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

/// More than any answer or refusal that is read here.
const PACKET: usize = 2048;

/// Sends and receives the packets of one protocol, at one address.
///
/// The calls of the standard library for datagrams serve raw sockets as well; the ports that they
/// speak of mean nothing there and are 0.
#[derive(Debug)]
pub(crate) struct RawSocket(UdpSocket);

impl RawSocket {
    pub(crate) fn open(address: IpAddr, protocol: Protocol) -> io::Result<Self> {
        let address = SocketAddr::new(address, 0);
        let kind = Type::RAW.nonblocking();
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        socket.bind(&address.into())?;
        Ok(RawSocket(socket.into()))
    }

    pub(crate) fn send(&self, to: IpAddr, payload: &[u8]) -> io::Result<()> {
        self.0.send_to(payload, (to, 0)).map(drop)
    }

    /// Calls `f` with the sender and the payload of everything that has come.
    pub(crate) fn drain(&self, mut f: impl FnMut(IpAddr, &[u8])) {
        let mut packet = [0; PACKET];
        while let Ok((length, from)) = self.0.recv_from(&mut packet) {
            let payload = match from {
                SocketAddr::V4(_) => after_ipv4_header(&packet[..length]),
                // Here the kernel keeps the header for itself.
                SocketAddr::V6(_) => Some(&packet[..length]),
            };
            if let Some(payload) = payload {
                f(from.ip(), payload);
            }
        }
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What follows the header of an IPv4 packet, options included.
pub(crate) fn after_ipv4_header(packet: &[u8]) -> Option<&[u8]> {
    packet.get(usize::from(packet.first()? & 0x0f) * 4..)
}
