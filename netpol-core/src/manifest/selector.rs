use super::error::{Concern, Reason};
use super::field::Field;
use super::names;
use super::value::Value;
use crate::model::{Name, Requirement, Selector};

/// How much the API server itself checks of a selector.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    /// All of it: NetworkPolicy (NP-V-4…10).
    Fully,
    /// Little more than its types: the cluster-wide kinds (C-V-22). What cannot be understood is read fail-closed
    /// (C-SEL-1).
    Barely,
}

/// Reads a label selector (SEL-1…7). If part of it cannot be understood, the error is what is left without that
/// part: a selector of everything that the whole could possibly select.
pub(super) fn read(field: &Field<'_, '_>, checked: Checked) -> Result<Selector, Selector> {
    const KNOWN: [&str; 2] = ["matchLabels", "matchExpressions"];
    if !field.is_object(&KNOWN) {
        return Err(Selector::everything());
    }
    let mut requirements = Vec::new();
    let mut understood = !field.is_extended(&KNOWN);
    if let Some(labels) = field.get("matchLabels") {
        understood &= match_labels(&labels, checked, &mut requirements);
    }
    if let Some(expressions) = field.get("matchExpressions") {
        match expressions.items() {
            Some(items) => {
                for item in items {
                    match requirement(&item, checked) {
                        Some(requirement) => requirements.push(requirement),
                        None => understood = false,
                    }
                }
            }
            None => understood = false,
        }
    }
    let selector = Selector::new(requirements);
    if understood { Ok(selector) } else { Err(selector) }
}

fn match_labels(labels: &Field<'_, '_>, checked: Checked, into: &mut Vec<Requirement>) -> bool {
    let Some(entries) = labels.entries() else { return false };
    let mut understood = true;
    for (key, _) in entries {
        if checked == Checked::Barely && labels.get(key).is_none() {
            let message = "null, which the server leaves out, and the whole condition with it";
            labels.child(key).note(Concern::Notice, message);
            continue;
        }
        match labels.child(key).text() {
            Some(value) if good_key(labels, key, checked) & good_value(labels, value, checked) => {
                into.push(Requirement::is_in(&**key, [value]));
            }
            _ => understood = false,
        }
    }
    understood
}

/// Reads one entry of `matchExpressions`; nothing if it is not understood.
fn requirement(field: &Field<'_, '_>, checked: Checked) -> Option<Requirement> {
    const KNOWN: [&str; 3] = ["key", "operator", "values"];
    if !field.is_object(&KNOWN) || field.is_extended(&KNOWN) {
        return None;
    }
    let operator =
        required(field, "operator", checked).and_then(|word| operator(field, word, checked));
    let key =
        required(field, "key", checked).filter(|key| good_key(&field.child("key"), key, checked));
    let values = values(field, checked);
    Some(operator?(key?.into(), values?))
}

type Make = fn(Name, Vec<&str>) -> Requirement;

/// What `word` makes of a key and values, of which there must be some or none.
fn operator(field: &Field<'_, '_>, word: &str, checked: Checked) -> Option<Make> {
    let make: Make = match word {
        "In" => |key, values| Requirement::is_in(key, values),
        "NotIn" => |key, values| Requirement::is_not_in(key, values),
        "Exists" => |key, _| Requirement::exists(key),
        "DoesNotExist" => |key, _| Requirement::does_not_exist(key),
        _ => {
            let message = format!("In, NotIn, Exists or DoesNotExist is needed, not \"{word}\"");
            broken(&field.child("operator"), checked, Reason::Invalid, message);
            return None;
        }
    };
    let values = field.child("values");
    let count = match values.value {
        Value::Null => 0,
        Value::List(items) => items.len(),
        // A wrong type, which is reported where the values are read.
        _ => return None,
    };
    match (word, count) {
        ("In" | "NotIn", 0) => {
            let message = format!("values are needed with the operator {word}");
            broken(&values, checked, Reason::Required, message);
            None
        }
        ("Exists" | "DoesNotExist", 1..) => {
            let message = format!("values cannot be given with the operator {word}");
            broken(&values, checked, Reason::Forbidden, message);
            None
        }
        _ => Some(make),
    }
}

fn values<'v>(field: &Field<'v, '_>, checked: Checked) -> Option<Vec<&'v str>> {
    let Some(list) = field.get("values") else { return Some(Vec::new()) };
    let mut values = Vec::new();
    let mut understood = true;
    for item in list.items()? {
        match item.text() {
            Some(value) if good_value(&item, value, checked) => values.push(value),
            _ => understood = false,
        }
    }
    understood.then_some(values)
}

/// A text that the schema of the cluster-wide kinds asks for; NetworkPolicy has the empty text instead.
fn required<'v>(field: &Field<'v, '_>, key: &str, checked: Checked) -> Option<&'v str> {
    match (field.get(key), checked) {
        (Some(found), _) => found.text(),
        (None, Checked::Fully) => Some(""),
        (None, Checked::Barely) => {
            field.child(key).fault(Reason::Required, format!("the {key} is needed"));
            None
        }
    }
}

fn good_key(field: &Field<'_, '_>, key: &str, checked: Checked) -> bool {
    let Err(wanted) = names::label_key(key) else { return true };
    broken(field, checked, Reason::Invalid, format!("\"{key}\" is not a label key: {wanted}"));
    false
}

/// A stored NetworkPolicy may keep a value that is none (NP-V-9): no label can have it, which is clear enough.
fn good_value(field: &Field<'_, '_>, value: &str, checked: Checked) -> bool {
    let Err(wanted) = names::label_value(value) else { return true };
    let message = format!("\"{value}\" is not a label value: {wanted}");
    match checked {
        Checked::Fully => field.blemish(Reason::Invalid, message),
        Checked::Barely => broken(field, checked, Reason::Invalid, message),
    }
    checked == Checked::Fully
}

fn broken(field: &Field<'_, '_>, checked: Checked, reason: Reason, message: String) {
    match checked {
        Checked::Fully => field.fault(reason, message),
        Checked::Barely => field.note(Concern::FailClosed, message),
    }
}
