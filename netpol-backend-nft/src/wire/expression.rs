//! The nf_tables expressions that this crate uses, in the kernel's terms. Every test reads register
//! 1, so only payload loads, of which two may make a concatenated key, name their register. An
//! expression that uses another one, and every other kind, reads back as [`Expression::Other`].

use super::reader::{Attributes, be16, be64};
use super::uapi::{
    self, bitwise, cmp, counter, ct, data, expr, immediate, limit, log, lookup, meta, payload,
};
use super::writer::Writer;

/// The unit of limits.
const SECOND: u64 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression<'a> {
    Payload {
        register: u32,
        base: u32,
        offset: u32,
        length: u32,
    },
    Meta(u32),
    Conntrack(u32),
    Compare {
        operator: u32,
        value: &'a [u8],
    },
    Mask {
        mask: &'a [u8],
        xor: &'a [u8],
    },
    Lookup {
        set: &'a str,
        result: Found,
    },
    Verdict(RawVerdict<'a>),
    Counter {
        packets: u64,
        bytes: u64,
    },
    Log {
        group: u16,
        prefix: &'a str,
    },
    /// So many packets per second, and so many more at once.
    Limit {
        rate: u64,
        burst: u32,
    },
    Other(&'a str),
}

/// What it means that something is found in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The rule goes on.
    Matches,
    /// The rule ends.
    Fails,
    /// The verdict beside it in the map holds.
    Verdict,
}

/// A verdict as the kernel writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawVerdict<'a> {
    pub(crate) code: i32,
    pub(crate) chain: Option<&'a str>,
}

impl<'a> RawVerdict<'a> {
    /// Writes the content of an `nft_data` nest.
    pub(crate) fn encode(self, w: &mut Writer) {
        w.nest(data::VERDICT, |w| {
            w.be32(uapi::verdict::CODE, self.code.cast_unsigned());
            if let Some(chain) = self.chain {
                w.text(uapi::verdict::CHAIN, chain);
            }
        });
    }

    pub(crate) fn decode(attributes: Attributes<'a>) -> Option<Self> {
        let verdict = attributes.nest(data::VERDICT);
        Some(Self {
            code: verdict.be32(uapi::verdict::CODE)?.cast_signed(),
            chain: verdict.text(uapi::verdict::CHAIN),
        })
    }
}

impl<'a> Expression<'a> {
    /// Writes the expression as one element of a rule's list.
    pub(crate) fn encode(&self, w: &mut Writer) {
        let (name, body): (&str, &dyn Fn(&mut Writer)) = match self {
            Self::Payload { register, base, offset, length } => ("payload", &|w| {
                w.be32(payload::DREG, *register);
                w.be32(payload::BASE, *base);
                w.be32(payload::OFFSET, *offset);
                w.be32(payload::LEN, *length);
            }),
            Self::Meta(key) => ("meta", &|w| {
                w.be32(meta::KEY, *key);
                w.be32(meta::DREG, expr::REG_1);
            }),
            Self::Conntrack(key) => ("ct", &|w| {
                w.be32(ct::KEY, *key);
                w.be32(ct::DREG, expr::REG_1);
            }),
            Self::Compare { operator, value } => ("cmp", &|w| {
                w.be32(cmp::SREG, expr::REG_1);
                w.be32(cmp::OP, *operator);
                w.nest(cmp::DATA, |w| w.raw(data::VALUE, value));
            }),
            Self::Mask { mask, xor } => ("bitwise", &|w| {
                w.be32(bitwise::SREG, expr::REG_1);
                w.be32(bitwise::DREG, expr::REG_1);
                w.be32(bitwise::LEN, u32::try_from(mask.len()).unwrap_or(u32::MAX));
                w.nest(bitwise::MASK, |w| w.raw(data::VALUE, mask));
                w.nest(bitwise::XOR, |w| w.raw(data::VALUE, xor));
            }),
            Self::Lookup { set, result } => ("lookup", &|w| {
                w.text(lookup::SET, set);
                w.be32(lookup::SREG, expr::REG_1);
                match result {
                    Found::Matches => {}
                    Found::Fails => w.be32(lookup::FLAGS, lookup::FLAG_INVERTED),
                    Found::Verdict => w.be32(lookup::DREG, expr::REG_VERDICT),
                }
            }),
            Self::Verdict(verdict) => ("immediate", &|w| {
                w.be32(immediate::DREG, expr::REG_VERDICT);
                w.nest(immediate::DATA, |w| verdict.encode(w));
            }),
            Self::Counter { packets, bytes } => ("counter", &|w| {
                w.raw(counter::BYTES, &bytes.to_be_bytes());
                w.raw(counter::PACKETS, &packets.to_be_bytes());
            }),
            Self::Log { group, prefix } => ("log", &|w| {
                w.be16(log::GROUP, *group);
                w.text(log::PREFIX, prefix);
            }),
            Self::Limit { rate, burst } => ("limit", &|w| {
                w.raw(limit::RATE, &rate.to_be_bytes());
                w.raw(limit::UNIT, &SECOND.to_be_bytes());
                w.be32(limit::BURST, *burst);
                w.be32(limit::TYPE, limit::TYPE_PACKETS);
                w.be32(limit::FLAGS, 0);
            }),
            Self::Other(name) => (name, &|_| ()),
        };
        w.nest(uapi::LIST_ELEM, |w| {
            w.text(expr::NAME, name);
            w.nest(expr::DATA, body);
        });
    }

    /// Reads the elements of a rule's list.
    pub(crate) fn decode_list(list: Attributes<'a>) -> impl Iterator<Item = Self> {
        list.map(|(_, element)| {
            let element = Attributes(element);
            let name = element.text(expr::NAME).unwrap_or_default();
            Self::decode(name, element.nest(expr::DATA)).unwrap_or(Self::Other(name))
        })
    }

    fn decode(name: &str, at: Attributes<'a>) -> Option<Self> {
        let register = |kind| at.be32(kind).filter(|register| *register == expr::REG_1);
        let value = |kind| at.nest(kind).get(data::VALUE);
        Some(match name {
            "payload" => Self::Payload {
                register: at.be32(payload::DREG)?,
                base: at.be32(payload::BASE)?,
                offset: at.be32(payload::OFFSET)?,
                length: at.be32(payload::LEN)?,
            },
            "meta" => {
                register(meta::DREG)?;
                Self::Meta(at.be32(meta::KEY)?)
            }
            "ct" => {
                register(ct::DREG)?;
                Self::Conntrack(at.be32(ct::KEY)?)
            }
            "cmp" => {
                register(cmp::SREG)?;
                Self::Compare { operator: at.be32(cmp::OP)?, value: value(cmp::DATA)? }
            }
            "bitwise" => {
                register(bitwise::SREG)?;
                register(bitwise::DREG)?;
                Self::Mask { mask: value(bitwise::MASK)?, xor: value(bitwise::XOR)? }
            }
            "lookup" => {
                register(lookup::SREG)?;
                let flags = at.be32(lookup::FLAGS).unwrap_or_default();
                let result = match (at.be32(lookup::DREG), flags) {
                    (None, 0) => Found::Matches,
                    (None, lookup::FLAG_INVERTED) => Found::Fails,
                    (Some(expr::REG_VERDICT), 0) => Found::Verdict,
                    _ => return None,
                };
                Self::Lookup { set: at.text(lookup::SET)?, result }
            }
            "immediate" => {
                at.be32(immediate::DREG).filter(|register| *register == expr::REG_VERDICT)?;
                Self::Verdict(RawVerdict::decode(at.nest(immediate::DATA))?)
            }
            "counter" => Self::Counter {
                packets: be64(at.get(counter::PACKETS)?)?,
                bytes: be64(at.get(counter::BYTES)?)?,
            },
            "log" => Self::Log {
                group: be16(at.get(log::GROUP)?)?,
                prefix: at.text(log::PREFIX).unwrap_or_default(),
            },
            "limit" => {
                let plain = at.get(limit::UNIT).and_then(be64) == Some(SECOND)
                    && at.be32(limit::TYPE) == Some(limit::TYPE_PACKETS)
                    && at.be32(limit::FLAGS).is_none_or(|flags| flags == 0);
                plain.then_some(())?;
                Self::Limit { rate: be64(at.get(limit::RATE)?)?, burst: at.be32(limit::BURST)? }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_reads_back() {
        let all = [
            Expression::Payload {
                register: expr::REG32_01,
                base: payload::BASE_NETWORK,
                offset: 12,
                length: 4,
            },
            Expression::Meta(meta::KEY_L4PROTO),
            Expression::Conntrack(ct::KEY_STATE),
            Expression::Compare { operator: cmp::EQ, value: &[6] },
            Expression::Mask { mask: &[6, 0, 0, 0], xor: &[0; 4] },
            Expression::Lookup { set: "peers", result: Found::Matches },
            Expression::Lookup { set: "peers", result: Found::Fails },
            Expression::Lookup { set: "ports", result: Found::Verdict },
            Expression::Verdict(RawVerdict { code: uapi::verdict::GOTO, chain: Some("c") }),
            Expression::Verdict(RawVerdict { code: uapi::verdict::DROP, chain: None }),
            Expression::Counter { packets: 3, bytes: 180 },
            Expression::Log { group: 7, prefix: "netpol" },
            Expression::Limit { rate: 10, burst: 5 },
            Expression::Other("notrack"),
        ];
        let mut w = Writer::default();
        for expression in &all {
            expression.encode(&mut w);
        }
        let decoded: Vec<_> = Expression::decode_list(Attributes(w.bytes())).collect();
        assert_eq!(decoded, all);
    }
}
