//! A piece of a manifest that remembers where it was written.

use std::fmt;

use netpol_core::manifest::Value;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value and the lines of everything in it.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) value: Value,
    pub(crate) lines: Lines,
}

/// The line of a value and of what is in it, in the order of the value's own entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    /// Counted from 1; 0 if it is not known. For a field it is the line of its name.
    pub(crate) line: u64,
    pub(crate) within: Vec<Lines>,
}

impl Lines {
    /// The line of the field at `path` of `value`, or of the innermost part of the path that is there:
    /// of what is missing, the place where it is missed. `None` if nothing is known of lines.
    pub(crate) fn find(&self, value: &Value, path: &str) -> Option<u64> {
        let found = self.step(value, path).unwrap_or(self.line);
        (found > 0).then_some(found)
    }

    /// Moves everything down by `offset` lines.
    pub(crate) fn shift(&mut self, offset: u64) {
        self.line += offset;
        self.within.iter_mut().for_each(|lines| lines.shift(offset));
    }

    fn step(&self, value: &Value, path: &str) -> Option<u64> {
        let (at, inner, rest) = match value {
            Value::List(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let at = index.parse().ok()?;
                (at, items.get(at)?, rest)
            }
            Value::Map(entries) => {
                let path = path.strip_prefix('.').unwrap_or(path);
                // Names of fields may have dots in them, such as those of labels: the longest that fits is meant.
                let fits = entries.iter().enumerate().filter_map(|(at, (key, inner))| {
                    let rest = path.strip_prefix(&**key)?;
                    (rest.is_empty() || rest.starts_with(['.', '['])).then_some((at, inner, rest))
                });
                fits.min_by_key(|(_, _, rest)| rest.len())?
            }
            _ => return None,
        };
        let lines = self.within.get(at)?;
        Some(lines.step(inner, rest).unwrap_or(lines.line))
    }
}

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value: Inner(mut located), referenced, .. } =
            Spanned::<Inner>::deserialize(deserializer)?;
        located.lines.line = referenced.line();
        Ok(located)
    }
}

/// A value whose own line is not known yet.
struct Inner(Located);

impl<'de> Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Inner)
    }
}

struct AnyValue;

fn scalar<E>(value: Value) -> Result<Located, E> {
    Ok(Located { value, lines: Lines::default() })
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Located;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map, a list, a string, a number, a boolean or null")
    }

    fn visit_unit<E: Error>(self) -> Result<Located, E> {
        scalar(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Located, E> {
        scalar(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Located, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Located, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Located, E> {
        scalar(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Located, E> {
        scalar(Value::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Located, E> {
        // What does not fit is out of every field's range; the exact number does not matter any more.
        #[expect(clippy::cast_precision_loss, reason = "only the magnitude counts")]
        scalar(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Located, E> {
        scalar(Value::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Located, E> {
        scalar(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Located, E> {
        scalar(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Located, A::Error> {
        let (mut list, mut lines) = (Vec::new(), Lines::default());
        while let Some(item) = items.next_element::<Located>()? {
            list.push(item.value);
            lines.within.push(item.lines);
        }
        Ok(Located { value: Value::List(list), lines })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Located, A::Error> {
        let (mut map, mut lines) = (Vec::new(), Lines::default());
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let item: Located = entries.next_value()?;
            map.push((key.value, item.value));
            lines.within.push(Lines { line: key.referenced.line(), ..item.lines });
        }
        Ok(Located { value: Value::Map(map), lines })
    }
}
