//! From the place in a transaction that the kernel objects to, to an error in an operator's words.

use nix::errno::Errno;
use nix::libc::AF_INET6;

use crate::error::{Error, Object, Refusal};
use crate::ruleset::{Family, element_key, keyword};
use crate::wire::batch::Location;
use crate::wire::reader::Attributes;
use crate::wire::uapi::{chain, elem_list, expr, msg, rule, set, table};

/// The error for a refused message.
pub(crate) fn error(location: Location<'_>, errno: i32, reason: Option<&str>) -> Error {
    let family = if i32::from(location.family) == AF_INET6 { Family::V6 } else { Family::V4 };
    match (location.kind, Errno::from_raw(errno)) {
        (_, Errno::EPERM | Errno::EACCES) => return Error::NotPermitted,
        (None, Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT) => {
            return Error::Unsupported { what: "nf_tables".to_owned() };
        }
        (None, Errno::ERESTART) => return Error::Contended,
        (Some(msg::NEWTABLE), Errno::EOPNOTSUPP) => {
            return Error::Unsupported { what: "owned tables".to_owned() };
        }
        (Some(msg::NEWCHAIN), Errno::ENOENT) => {
            let what = format!("filter chains in the family {}", keyword(family));
            return Error::Unsupported { what };
        }
        (Some(msg::NEWSET), Errno::EOPNOTSUPP) => {
            let name = location.attributes.text(set::NAME).unwrap_or_default();
            return Error::Unsupported { what: format!("the kind of set that `{name}` is") };
        }
        (Some(msg::NEWRULE), Errno::ENOENT | Errno::EOPNOTSUPP) => {
            if let Some(name) = location.item.and_then(|item| item.text(expr::NAME))
                // These also fail so if the set or chain that they name is missing.
                && !["lookup", "immediate"].contains(&name)
            {
                return Error::Unsupported { what: format!("`{name}` expressions") };
            }
        }
        _ => {}
    }
    let object = object(location, family);
    Refusal { object, errno, reason: reason.map(str::to_owned), others: 0 }.into()
}

fn object(location: Location<'_>, family: Family) -> Object {
    let at = location.attributes;
    let text = |kind| at.text(kind).unwrap_or_default().to_owned();
    match location.kind {
        Some(msg::NEWTABLE | msg::DELTABLE) => Object::Table { family, table: text(table::NAME) },
        Some(msg::NEWCHAIN | msg::DELCHAIN) => {
            Object::Chain { family, table: text(chain::TABLE), chain: text(chain::NAME) }
        }
        Some(msg::NEWRULE | msg::DELRULE) => {
            Object::Rule { family, table: text(rule::TABLE), chain: text(rule::CHAIN) }
        }
        Some(msg::NEWSET | msg::DELSET) => {
            Object::Set { family, table: text(set::TABLE), set: text(set::NAME), element: None }
        }
        Some(msg::NEWSETELEM | msg::DELSETELEM) => Object::Set {
            family,
            table: text(elem_list::TABLE),
            set: text(elem_list::SET),
            element: location.item.and_then(|item: Attributes<'_>| element_key(item)),
        },
        _ => Object::Transaction,
    }
}
