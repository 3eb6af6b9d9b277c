use std::fmt;

use crate::model::Name;

/// Which object of the input something is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// As written, such as `networking.k8s.io/v1`; empty if it was left out.
    pub api_version: Name,
    /// As written; empty if it was left out.
    pub kind: Name,
    /// The namespace, the default one filled in; empty for cluster-wide kinds.
    pub namespace: Name,
    /// The name; empty if it was left out.
    pub name: Name,
}

/// One reason why an object cannot be read, as the API server would report it on create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The object.
    pub object: ObjectRef,
    /// The field in the API server's spelling, such as `spec.ingress[0].from[1].ipBlock.cidr`; `<root>` for the
    /// object itself, and `<decode>` where the input does not even have the types of the API, in which case the
    /// message begins with the field.
    pub path: String,
    /// The API's word for what is wrong.
    pub reason: Reason,
    /// What would be right.
    pub message: String,
}

/// The API machinery's words for what can be wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It is missing.
    Required,
    /// It has a value that is not allowed.
    Invalid,
    /// It is not one of the words the API knows.
    NotSupported,
    /// It must not be given here.
    Forbidden,
    /// It repeats an earlier entry.
    Duplicate,
    /// It has too many entries, or too many of its fields are set.
    TooMany,
    /// It is too long.
    TooLong,
    /// It has the wrong type (custom resources).
    TypeInvalid,
    /// It has the wrong type (built-in kinds), or the object is none.
    BadRequest,
}

/// An object that was not accepted, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The object.
    pub object: ObjectRef,
    /// Why; never empty, in the order of the API server's checks.
    pub errors: Vec<Error>,
    /// What else was noticed.
    pub warnings: Vec<Warning>,
}

/// Something about an accepted object that its author should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The object.
    pub object: ObjectRef,
    /// The field, spelt as in [`Error::path`].
    pub path: String,
    /// What kind of warning it is.
    pub concern: Concern,
    /// What was noticed.
    pub message: String,
}

/// What a [`Warning`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Concern {
    /// A field that the API does not have; it was left out, as the API server does.
    UnknownField,
    /// Something was not understood, and was read so that it allows nothing (C-FAIL-1…3, C-SEL-1).
    FailClosed,
    /// A rule of the API is broken, but the meaning is clear and was kept (only with lenient reading).
    Tolerated,
    /// It is legal, but perhaps not what was meant.
    Notice,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "Required",
            Self::Invalid => "Invalid",
            Self::NotSupported => "NotSupported",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate",
            Self::TooMany => "TooMany",
            Self::TooLong => "TooLong",
            Self::TypeInvalid => "TypeInvalid",
            Self::BadRequest => "BadRequest",
        })
    }
}

/// `NetworkPolicy shop/api`.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind.is_empty() { "object" } else { &self.kind };
        let name = if self.name.is_empty() { "(without name)" } else { &self.name };
        match &*self.namespace {
            "" => write!(f, "{kind} {name}"),
            namespace => write!(f, "{kind} {namespace}/{name}"),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object, self.path, self.message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, path, reason, message } = self;
        write!(f, "{object}: {path}: {reason}: {message}")
    }
}

impl std::error::Error for Error {}

/// A line per error.
impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.errors.iter().enumerate() {
            write!(f, "{}{error}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Rejected {}
