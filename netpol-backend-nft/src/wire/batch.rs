//! One nf_tables transaction, and what in it the kernel refused.

use super::reader::{Attributes, Messages};
use super::uapi::{self, elem_list, msg, rule};
use super::writer::Writer;

/// Element lists are cut here: an attribute holds at most 65,535 bytes, and a list may outgrow the
/// cut by one element.
const ELEMENTS_LIMIT: usize = 60_000;
/// The length of `nlmsghdr`, which an error's offset includes.
const HEADER: usize = 16;

/// The messages of one transaction: all take effect, or none.
#[derive(Debug)]
pub(crate) struct Batch {
    writer: Writer,
    /// Where each message starts, the batch begin included.
    starts: Vec<usize>,
    generation: u32,
}

impl Batch {
    /// A transaction that the kernel refuses if anybody has committed since this generation.
    pub(crate) fn new(generation: u32) -> Self {
        let mut writer = Writer::default();
        let subsystem = u16::from(uapi::SUBSYS_NFTABLES);
        let start = writer.message(uapi::BATCH_BEGIN, 0, 0, subsystem, |w| {
            w.be32(uapi::BATCH_GENID, generation);
        });
        Self { writer, starts: vec![start], generation }
    }

    /// The generation that the transaction is for.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// How many bytes it has so far.
    pub(crate) fn length(&self) -> usize {
        self.writer.bytes().len()
    }

    /// Adds a message of the nf_tables subsystem.
    pub(crate) fn push(
        &mut self,
        kind: u8,
        flags: u16,
        family: u8,
        body: impl FnOnce(&mut Writer),
    ) {
        let kind = u16::from_be_bytes([uapi::SUBSYS_NFTABLES, kind]);
        self.starts.push(self.writer.message(kind, flags, family, 0, body));
    }

    /// Adds set elements, in as many messages as their size needs.
    pub(crate) fn push_elements<T>(
        &mut self,
        kind: u8,
        family: u8,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = T>,
        encode: impl Fn(T, &mut Writer),
    ) {
        let flags = if kind == msg::NEWSETELEM { uapi::CREATE } else { 0 };
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            self.push(kind, flags, family, |w| {
                w.text(elem_list::TABLE, table);
                w.text(elem_list::SET, set);
                w.nest(elem_list::ELEMENTS, |w| {
                    let limit = w.bytes().len() + ELEMENTS_LIMIT;
                    while w.bytes().len() < limit {
                        let Some(element) = elements.next() else { break };
                        w.nest(uapi::LIST_ELEM, |w| encode(element, w));
                    }
                });
            });
        }
    }

    /// Ends the transaction: numbers the messages from `sequence` on and asks for one
    /// acknowledgement, of the last message (kernels before 6.10 do not acknowledge the batch end).
    pub(crate) fn seal(mut self, sequence: u32) -> Sealed {
        self.writer.acknowledge(self.starts.last().copied().unwrap_or_default());
        let subsystem = u16::from(uapi::SUBSYS_NFTABLES);
        self.starts.push(self.writer.message(uapi::BATCH_END, 0, 0, subsystem, |_| ()));
        let mut number = sequence;
        for start in &self.starts {
            self.writer.number(*start, number);
            number = number.wrapping_add(1);
        }
        Sealed { writer: self.writer, starts: self.starts, first: sequence }
    }
}

/// A transaction ready to be sent.
#[derive(Debug)]
pub(crate) struct Sealed {
    writer: Writer,
    starts: Vec<usize>,
    first: u32,
}

impl Sealed {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.writer.bytes()
    }

    /// Whether something in it outgrew its length field; it must not be sent then.
    pub(crate) fn oversized(&self) -> bool {
        self.writer.oversized()
    }

    /// The number of sequence numbers used.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.starts.len()).unwrap_or(u32::MAX)
    }

    /// Whether `sequence` is one of this transaction's.
    pub(crate) fn contains(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.first) < self.count()
    }

    /// Whether `sequence` is the message whose acknowledgement means that all has been committed.
    pub(crate) fn is_last(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.first).wrapping_add(2) == self.count()
    }

    /// The object that a failing message is about, and the list item that the error's offset
    /// points into. Both are read from the message itself.
    pub(crate) fn locate(&self, sequence: u32, offset: Option<u32>) -> Location<'_> {
        let index = usize::try_from(sequence.wrapping_sub(self.first)).unwrap_or(usize::MAX);
        let Some(start) = self.starts.get(index).copied() else { return Location::default() };
        let bytes = self.bytes().get(start..).unwrap_or_default();
        let Some(message) = Messages(bytes).next() else { return Location::default() };
        if message.kind == uapi::BATCH_BEGIN || message.kind == uapi::BATCH_END {
            return Location::default();
        }
        let attributes = message.attributes();
        let [_, kind] = message.kind.to_be_bytes();
        let list = match kind {
            msg::NEWSETELEM | msg::DELSETELEM => elem_list::ELEMENTS,
            msg::NEWRULE => rule::EXPRESSIONS,
            _ => {
                return Location {
                    kind: Some(kind),
                    family: message.family(),
                    attributes,
                    item: None,
                };
            }
        };
        let item = offset
            .and_then(|offset| usize::try_from(offset).ok()?.checked_sub(HEADER))
            .and_then(|offset| item_at(message.payload, attributes.nest(list), offset));
        Location { kind: Some(kind), family: message.family(), attributes, item }
    }
}

/// What a failing message is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Location<'a> {
    /// The message type; none for the transaction as a whole.
    pub(crate) kind: Option<u8>,
    pub(crate) family: u8,
    pub(crate) attributes: Attributes<'a>,
    /// The set element, or the expression of a rule.
    pub(crate) item: Option<Attributes<'a>>,
}

impl Default for Location<'_> {
    fn default() -> Self {
        Self { kind: None, family: 0, attributes: Attributes(&[]), item: None }
    }
}

/// The item of a list whose bytes contain `offset`, counted from the message's payload.
fn item_at<'a>(payload: &[u8], list: Attributes<'a>, offset: usize) -> Option<Attributes<'a>> {
    let base = payload.as_ptr().addr();
    list.map(|(_, item)| item)
        .find(|item| {
            let start = item.as_ptr().addr().saturating_sub(base);
            (start.saturating_sub(4)..start + item.len()).contains(&offset)
        })
        .map(Attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::uapi::{data, elem};

    #[test]
    fn long_element_lists_are_split() {
        let mut batch = Batch::new(99);
        batch.push_elements(msg::NEWSETELEM, 2, "t", "s", 0..10_000u32, |key, w| {
            w.nest(elem::KEY, |w| w.raw(data::VALUE, &key.to_be_bytes()));
        });
        let sealed = batch.seal(1);
        assert!(!sealed.oversized());
        let messages: Vec<_> = Messages(sealed.bytes()).collect();
        assert_eq!(messages.len(), 2 + 3);
        let elements: usize = messages
            .iter()
            .map(|message| message.attributes().nest(elem_list::ELEMENTS).count())
            .sum();
        assert_eq!(elements, 10_000);
        assert!(messages.iter().all(|message| message.payload.len() < 65_536));
        let acknowledged: Vec<_> =
            messages.iter().map(|message| message.flags & uapi::ACK != 0).collect();
        assert_eq!(acknowledged, [false, false, false, true, false]);
        assert!(sealed.is_last(4) && !sealed.is_last(5));
    }

    #[test]
    fn an_offset_names_its_element() {
        let mut batch = Batch::new(99);
        batch.push_elements(msg::NEWSETELEM, 2, "t", "s", 0..3u32, |key, w| {
            w.nest(elem::KEY, |w| w.raw(data::VALUE, &key.to_be_bytes()));
        });
        let sealed = batch.seal(7);
        let message = sealed.starts[1];
        let key = [&data::VALUE.to_ne_bytes()[..], &1u32.to_be_bytes()].concat();
        let at = sealed.bytes().windows(6).position(|window| window == key).unwrap();
        let offset = u32::try_from(at - message).unwrap();
        let location = sealed.locate(8, Some(offset));
        assert_eq!(location.kind, Some(msg::NEWSETELEM));
        assert_eq!(location.attributes.text(elem_list::SET), Some("s"));
        assert_eq!(location.item.unwrap().nest(elem::KEY).be32(data::VALUE), Some(1));
        assert_eq!(sealed.locate(7, None).kind, None);
        assert_eq!(sealed.locate(99, None).kind, None);
    }
}
