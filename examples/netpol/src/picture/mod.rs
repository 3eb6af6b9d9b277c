//! Connections as pictures.

mod dot;

pub(crate) use self::dot::write as dot;
