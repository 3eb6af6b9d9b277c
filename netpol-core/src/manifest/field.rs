use std::fmt;

use super::error::{Concern, Reason};
use super::log::{Fault, Log, Otherwise};
use super::value::Value;
use crate::model::Name;

/// A place in an object: its value, its path, and where to report what is wrong with it.
#[derive(Clone, Copy)]
pub(super) struct Field<'v, 'p> {
    pub(super) value: &'v Value,
    path: Path<'p>,
    rules: Rules,
    log: &'p Log,
}

/// How wrong types are treated in a part of an object.
#[derive(Clone, Copy)]
struct Rules {
    /// A custom resource: the error names the field, and null is a wrong type in a list.
    custom: bool,
    /// With lenient reading.
    otherwise: Otherwise,
}

#[derive(Clone, Copy)]
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'v, 'p> Field<'v, 'p> {
    /// The whole object. Wrong types reject it, except in what is [`Field::failing_closed`].
    pub(super) fn root(value: &'v Value, log: &'p Log) -> Self {
        let path = Path { parent: None, step: Step::Root };
        Self { value, path, rules: Rules { custom: false, otherwise: Otherwise::Reject }, log }
    }

    /// The same place, where wrong types are read fail-closed: the content of a policy.
    pub(super) fn failing_closed(self, custom: bool) -> Self {
        Self { rules: Rules { custom, otherwise: Otherwise::FailClosed }, ..self }
    }

    /// The field `key` of this one, null if there is none.
    pub(super) fn child<'b>(&'b self, key: &'b str) -> Field<'v, 'b> {
        let value = self.value.get(key).unwrap_or(&Value::Null);
        let path = Path { parent: Some(&self.path), step: Step::Key(key) };
        Field { value, path, ..*self }
    }

    /// The field `key` of this one, if it is given. Null is as good as absent.
    pub(super) fn get<'b>(&'b self, key: &'b str) -> Option<Field<'v, 'b>> {
        match self.value.get(key)? {
            Value::Null => None,
            _ => Some(self.child(key)),
        }
    }

    /// Whether it is null or not there at all.
    pub(super) fn is_null(&self) -> bool {
        *self.value == Value::Null
    }

    /// The fields of a map, or nothing with a fault.
    pub(super) fn entries(&self) -> Option<&'v [(String, Value)]> {
        match self.value {
            Value::Map(entries) => Some(entries),
            // An absent map in a list of maps, as the API server decodes it.
            Value::Null if !self.rules.custom => Some(&[]),
            _ => self.wrong_type("a map"),
        }
    }

    /// Checks that this is a map, and tells of all its fields that the API does not know.
    pub(super) fn is_object(&self, known: &[&str]) -> bool {
        let Some(entries) = self.entries() else { return false };
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&&**key)) {
            let message = match nearest(key, known) {
                Some(word) => format!("there is no such field; did you mean \"{word}\"?"),
                None => "there is no such field".to_owned(),
            };
            self.child(key).note(Concern::UnknownField, message);
        }
        true
    }

    /// The fields of a map that are not among `known`.
    pub(super) fn unknown(&self, known: &[&str]) -> impl Iterator<Item = &'v str> {
        let entries: &[_] = match self.value {
            Value::Map(entries) => entries,
            _ => &[],
        };
        entries.iter().map(|(key, _)| &**key).filter(move |key| !known.contains(key))
    }

    /// Whether a stored entry has fields of a later API, which may narrow what it means. New objects lose them.
    pub(super) fn is_extended(&self, known: &[&str]) -> bool {
        let extended = self.log.lenient && self.unknown(known).next().is_some();
        if extended {
            self.note(
                Concern::FailClosed,
                "with a field that is not known, this is not understood",
            );
        }
        extended
    }

    /// The one field of a map that is given where exactly one of `known` must be, or nothing with a fault.
    pub(super) fn exactly_one<'b>(
        &'b self,
        known: &[&'static str],
    ) -> Option<(&'static str, Field<'v, 'b>)> {
        if !self.is_object(known) {
            return None;
        }
        let mut given = known.iter().filter_map(|key| Some((*key, self.get(key)?)));
        let words = known.join(", ");
        match (given.next(), given.next()) {
            (Some(_), Some(_)) => {
                self.fault(Reason::TooMany, format!("exactly one of {words} must be given"));
                None
            }
            (one, _) => {
                if one.is_none() {
                    self.fault(Reason::Invalid, format!("one of {words} is needed"));
                }
                one.filter(|_| !self.is_extended(known))
            }
        }
    }

    /// The entries of a list, or nothing with a fault.
    pub(super) fn items(&self) -> Option<impl ExactSizeIterator<Item = Field<'v, '_>>> {
        let items: &[Value] = match self.value {
            Value::List(items) => items,
            Value::Null => &[],
            _ => return self.wrong_type("a list"),
        };
        Some(items.iter().enumerate().map(|(at, value)| {
            let path = Path { parent: Some(&self.path), step: Step::Index(at) };
            Field { value, path, ..*self }
        }))
    }

    /// The text, or nothing with a fault.
    pub(super) fn text(&self) -> Option<&'v str> {
        match self.value {
            Value::String(text) => Some(text),
            Value::Null if !self.rules.custom => Some(""),
            // What YAML makes of a bare y, no or 80.
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                self.wrong_type("a string in quotes")
            }
            _ => self.wrong_type("a string"),
        }
    }

    /// The truth value, or nothing with a fault.
    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value {
            Value::Bool(value) => Some(*value),
            Value::Null => Some(false),
            _ => self.wrong_type("true or false"),
        }
    }

    /// The number, which must fit into 32 bits as in the API, or nothing with a fault.
    pub(super) fn int(&self) -> Option<i32> {
        let number = match self.value {
            Value::Int(number) => *number,
            // A schema takes 80.0 for an integer.
            #[expect(clippy::cast_possible_truncation, reason = "too large is out of all bounds")]
            Value::Float(number) if self.rules.custom && number.fract() == 0.0 => *number as i64,
            _ => return self.wrong_type("a whole number"),
        };
        match i32::try_from(number) {
            Ok(number) => Some(number),
            Err(_) if self.rules.custom => {
                self.fault(Reason::Invalid, "the number is out of all bounds");
                None
            }
            Err(_) => self.wrong_type("a number of 32 bits"),
        }
    }

    /// The number of a port, or nothing with a fault.
    pub(super) fn port_number(&self) -> Option<u16> {
        let number = self.int()?;
        match u16::try_from(number) {
            Ok(number @ 1..) => Some(number),
            _ => {
                let message = format!("a port is a number from 1 to 65535, not {number}");
                self.fault(Reason::Invalid, message);
                None
            }
        }
    }

    /// Reports a wrong type.
    pub(super) fn wrong_type<T>(&self, wanted: &str) -> Option<T> {
        let found = self.value.noun();
        let (path, reason, message) = if self.rules.custom {
            let message = format!("{wanted} is needed, not {found}");
            (self.path.to_string(), Reason::TypeInvalid, message)
        } else {
            let message = format!("{}: {wanted} is needed, not {found}", self.path);
            ("<decode>".to_owned(), Reason::BadRequest, message)
        };
        self.log.add(Fault { path, reason, message, otherwise: self.rules.otherwise });
        None
    }

    /// Reports a broken rule; the caller goes on with a reading that allows nothing.
    pub(super) fn fault(&self, reason: Reason, message: impl Into<String>) {
        self.report(reason, message.into(), Otherwise::FailClosed);
    }

    /// Reports a broken rule; the caller goes on with what is meant.
    pub(super) fn blemish(&self, reason: Reason, message: impl Into<String>) {
        self.report(reason, message.into(), Otherwise::Tolerate);
    }

    /// Reports what makes the object unusable.
    pub(super) fn reject(&self, reason: Reason, message: impl Into<String>) {
        self.report(reason, message.into(), Otherwise::Reject);
    }

    /// Tells of something that is no fault.
    pub(super) fn note(&self, concern: Concern, message: impl Into<String>) {
        self.log.note(self.path.to_string(), concern, message.into());
    }

    /// What was found out about the object so far.
    pub(super) fn log(&self) -> &'p Log {
        self.log
    }

    /// What stands here, for showing that it was not understood: the place and its fields.
    pub(super) fn described(&self) -> Name {
        let fields: Vec<&str> = self.unknown(&[]).collect();
        match fields[..] {
            [] => self.path.to_string().into(),
            _ => format!("{}: {}", self.path, fields.join(", ")).into(),
        }
    }

    fn report(&self, reason: Reason, message: String, otherwise: Otherwise) {
        self.log.add(Fault { path: self.path.to_string(), reason, message, otherwise });
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else { return f.write_str("<root>") };
        match (parent.step, self.step) {
            (_, Step::Root) => f.write_str("<root>"),
            (Step::Root, Step::Key(key)) => f.write_str(key),
            (Step::Root, Step::Index(at)) => write!(f, "[{at}]"),
            (_, Step::Key(key)) => write!(f, "{parent}.{key}"),
            (_, Step::Index(at)) => write!(f, "{parent}[{at}]"),
        }
    }
}

/// The known word that differs from `word` by case or by one slip of the fingers.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    known.iter().copied().find(|known| {
        known.eq_ignore_ascii_case(word)
            || (word.len() >= 2 && one_slip(word.as_bytes(), known.as_bytes()))
    })
}

/// Whether one byte added, left out or changed, or two neighbours swapped, makes `a` from `b`.
fn one_slip(a: &[u8], b: &[u8]) -> bool {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[same..], &b[same..]);
    match (a, b) {
        ([_, a @ ..], [_, b @ ..]) if a == b => true,
        ([_, rest @ ..], other) | (other, [_, rest @ ..]) if rest == other => true,
        ([a1, a2, a @ ..], [b1, b2, b @ ..]) => a1 == b2 && a2 == b1 && a == b,
        _ => false,
    }
}
