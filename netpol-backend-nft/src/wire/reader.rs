//! Reads netlink messages and attributes. Whatever does not parse ends the iteration: replies come
//! from the kernel, and a short or odd one must not bring the host down.

use super::uapi;

/// One netlink message of a reply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// The socket that an answer is for, or that made the change which a notification is about.
    pub(crate) port: u32,
    /// Everything after the `nlmsghdr`.
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes of an nf_tables message, after its `nfgenmsg`.
    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes(self.payload.get(4..).unwrap_or_default())
    }

    /// The address family of the `nfgenmsg`.
    pub(crate) fn family(&self) -> u8 {
        self.payload.first().copied().unwrap_or_default()
    }

    /// The low 16 bits of the generation that a dump message was made in.
    pub(crate) fn resource(&self) -> u16 {
        be16(self.payload.get(2..4).unwrap_or_default()).unwrap_or_default()
    }
}

/// Splits a datagram into messages.
#[derive(Debug, Clone)]
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(ne32(self.0)?).ok()?;
        let message = Message {
            kind: ne16(self.0.get(4..)?)?,
            flags: ne16(self.0.get(6..)?)?,
            sequence: ne32(self.0.get(8..)?)?,
            port: ne32(self.0.get(12..)?)?,
            payload: self.0.get(16..length)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes of a message or nest, as (type without flags, value).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    pub(crate) fn nest(self, kind: u16) -> Attributes<'a> {
        Attributes(self.get(kind).unwrap_or_default())
    }

    pub(crate) fn be32(self, kind: u16) -> Option<u32> {
        be32(self.get(kind)?)
    }

    pub(crate) fn text(self, kind: u16) -> Option<&'a str> {
        text(self.get(kind)?)
    }

    /// The text of a record that the nft tool keeps in the `USERDATA` attribute `kind`.
    pub(crate) fn comment(self, kind: u16, record: u8) -> Option<&'a str> {
        let mut rest = self.get(kind)?;
        loop {
            let (&[found, length], tail) = rest.split_first_chunk::<2>()?;
            let (value, next) = tail.split_at_checked(usize::from(length))?;
            if found == record {
                return text(value);
            }
            rest = next;
        }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(ne16(self.0)?);
        let kind = ne16(self.0.get(2..)?)? & uapi::NLA_TYPE;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

pub(crate) fn ne32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_ne_bytes)
}

fn ne16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().copied().map(u16::from_ne_bytes)
}

pub(crate) fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_be_bytes)
}

pub(crate) fn be16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().copied().map(u16::from_be_bytes)
}

pub(crate) fn be64(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().copied().map(u64::from_be_bytes)
}

/// A string up to its terminating zero.
fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(bytes.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::writer::Writer;
    use super::*;

    #[test]
    fn reads_back_what_the_writer_wrote() {
        let mut w = Writer::default();
        w.message(7, uapi::CREATE, 10, 0x1234, |w| {
            w.text(1, "t");
            w.nest(2, |w| w.be32(3, 9));
            w.comment(4, 7, "who");
        });
        w.message(8, 0, 2, 0, |_| ());
        let messages: Vec<_> = Messages(w.bytes()).collect();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].kind, messages[0].flags), (7, uapi::CREATE | uapi::REQUEST));
        assert_eq!((messages[0].family(), messages[0].resource()), (10, 0x1234));
        let attributes = messages[0].attributes();
        assert_eq!(attributes.text(1), Some("t"));
        assert_eq!(attributes.nest(2).be32(3), Some(9));
        assert_eq!(attributes.comment(4, 7), Some("who"));
        assert_eq!(attributes.comment(4, 0), None);
    }

    #[test]
    fn malformed_input_ends_the_iteration() {
        assert_eq!(Attributes(&[3, 0, 1, 0]).count(), 0, "length below the header");
        assert_eq!(Attributes(&[200, 0, 1, 0, 5]).count(), 0, "length beyond the buffer");
        assert_eq!(Messages(&[0; 40]).count(), 0, "zero length");
        assert_eq!(Attributes(&[]).comment(1, 0), None);
    }
}
