//! Writes netlink messages and attributes in place, lengths included.

use super::uapi;

/// Appends attributes to a buffer. A nest is a closure; its length is patched when it returns, so
/// nothing is measured beforehand and nothing is copied.
///
/// An attribute's length is 16 bits wide. One that does not fit is never truncated: the writer
/// remembers it and [`Writer::oversized`] reports it, so that the closures stay free of error
/// plumbing and the batch as a whole is refused.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    oversized: bool,
}

impl Writer {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Sets the sequence number of the message that starts at `message`.
    pub(crate) fn number(&mut self, message: usize, sequence: u32) {
        self.patch(message + 8, &sequence.to_ne_bytes());
    }

    /// Asks for an acknowledgement of the message that starts at `message`.
    pub(crate) fn acknowledge(&mut self, message: usize) {
        if let Some([low, high]) = self.bytes.get(message + 6..message + 8) {
            let flags = u16::from_ne_bytes([*low, *high]) | uapi::ACK;
            self.patch(message + 6, &flags.to_ne_bytes());
        }
    }

    /// Whether an attribute or message outgrew its length field.
    pub(crate) fn oversized(&self) -> bool {
        self.oversized
    }

    /// One message: `nlmsghdr`, `nfgenmsg`, then what `body` writes. The sequence number is left
    /// zero for the sender to fill in. Returns where the message starts.
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        body: impl FnOnce(&mut Self),
    ) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | uapi::REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        body(self);
        match u32::try_from(self.bytes.len() - start) {
            Ok(length) => self.patch(start, &length.to_ne_bytes()),
            Err(_) => self.oversized = true,
        }
        start
    }

    /// An attribute that holds what `body` writes.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.attribute(kind | uapi::NLA_NESTED, body);
    }

    /// An attribute with these bytes.
    pub(crate) fn raw(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |w| w.bytes.extend_from_slice(value));
    }

    /// A 32-bit number in network byte order, as nf_tables takes them.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.raw(kind, &value.to_be_bytes());
    }

    /// A 16-bit number in network byte order.
    pub(crate) fn be16(&mut self, kind: u16, value: u16) {
        self.raw(kind, &value.to_be_bytes());
    }

    /// A string with its terminating zero.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |w| {
            w.bytes.extend_from_slice(value.as_bytes());
            w.bytes.push(0);
        });
    }

    /// One record of the nft tool inside a `USERDATA` attribute: type, length, zero-ended text.
    pub(crate) fn comment(&mut self, kind: u16, record: u8, text: &str) {
        self.attribute(kind, |w| w.comment_record(record, text));
    }

    /// Writes user data of several records.
    pub(crate) fn records(&mut self, kind: u16, records: impl FnOnce(&mut Self)) {
        self.attribute(kind, records);
    }

    /// A comment as one of several records.
    pub(crate) fn comment_record(&mut self, record: u8, text: &str) {
        self.record(record, &[text.as_bytes(), &[0]].concat());
    }

    /// One of several records.
    pub(crate) fn record(&mut self, record: u8, value: &[u8]) {
        match u8::try_from(value.len()) {
            Ok(length) => {
                self.bytes.extend_from_slice(&[record, length]);
                self.bytes.extend_from_slice(value);
            }
            Err(_) => self.oversized = true,
        }
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        body(self);
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.patch(start, &length.to_ne_bytes()),
            Err(_) => self.oversized = true,
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn patch(&mut self, at: usize, value: &[u8]) {
        if let Some(target) = self.bytes.get_mut(at..at + value.len()) {
            target.copy_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_lengths_are_patched_and_padded() {
        let mut w = Writer::default();
        w.nest(4, |w| w.text(1, "ab"));
        assert_eq!(
            w.bytes(),
            [
                12u16.to_ne_bytes(),
                0x8004u16.to_ne_bytes(),
                7u16.to_ne_bytes(),
                1u16.to_ne_bytes(),
                *b"ab",
                [0, 0]
            ]
            .concat()
        );
        assert!(!w.oversized());
    }

    #[test]
    fn an_attribute_beyond_16_bits_is_reported_not_truncated() {
        let mut w = Writer::default();
        w.raw(1, &[0; 65_531]);
        assert!(!w.oversized());
        w.raw(1, &[0; 65_532]);
        assert!(w.oversized());
    }
}
