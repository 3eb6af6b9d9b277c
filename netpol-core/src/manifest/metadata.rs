use super::error::{Concern, Reason};
use super::field::Field;
use super::names::{self, Syntax};
use super::value::Value;
use crate::model::{Labels, Name, name};

/// What is needed of an object's metadata.
pub(super) struct Metadata {
    pub(super) name: Name,
    /// Empty for kinds without one.
    pub(super) namespace: Name,
    pub(super) uid: Name,
    pub(super) labels: Labels,
    /// Another object made it and keeps it as it is.
    pub(super) owned: bool,
}

/// What a kind asks of its metadata.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) name: Syntax,
    pub(super) namespace: Scope<'a>,
}

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy)]
pub(super) enum Scope<'a> {
    /// They do not.
    Cluster,
    /// They do, in this one if they do not say; without one it is an error not to say.
    Namespaced(Option<&'a str>),
}

const KNOWN: [&str; 16] = [
    "annotations",
    "clusterName",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Reads `metadata` of an object (NP-V-1…3). Wrong types reject the object, broken syntax need not.
pub(super) fn read(object: &Field<'_, '_>, expected: Expected<'_>) -> Metadata {
    let metadata = object.child("metadata");
    if !metadata.is_object(&KNOWN) {
        return Metadata {
            name: name(""),
            namespace: name(""),
            uid: name(""),
            labels: Labels::default(),
            owned: false,
        };
    }
    annotations(&metadata);
    Metadata {
        name: object_name(&metadata, expected.name),
        namespace: match expected.namespace {
            Scope::Cluster => name(""),
            Scope::Namespaced(default) => namespace(&metadata, default),
        },
        uid: name(metadata.get("uid").and_then(|uid| uid.text()).unwrap_or_default()),
        labels: labels(&metadata),
        owned: owned(&metadata),
    }
}

fn object_name(metadata: &Field<'_, '_>, syntax: Syntax) -> Name {
    let field = metadata.child("name");
    let Some(text) = field.text() else { return name("") };
    if !text.is_empty() {
        if let Err(wanted) = syntax(text) {
            field.blemish(Reason::Invalid, format!("\"{text}\" is not a name: {wanted}"));
        }
        return name(text);
    }
    let prefix_field = metadata.child("generateName");
    let prefix = prefix_field.text().unwrap_or_default();
    if prefix.is_empty() {
        field.reject(Reason::Required, "a name is needed");
        return name("");
    }
    // The server puts five more characters behind it.
    if let Err(wanted) = syntax(&format!("{prefix}x")) {
        prefix_field
            .blemish(Reason::Invalid, format!("\"{prefix}\" does not begin a name: {wanted}"));
    }
    prefix_field.note(Concern::Notice, "the name is made up by the server; read under this one");
    name(prefix)
}

fn namespace(metadata: &Field<'_, '_>, default: Option<&str>) -> Name {
    let field = metadata.child("namespace");
    let Some(text) = field.text() else { return name("") };
    match (text, default) {
        ("", Some(default)) => name(default),
        ("", None) => {
            field.reject(Reason::Required, "a namespace is needed");
            name("")
        }
        (text, _) => {
            if let Err(wanted) = names::dns_label(text) {
                let message = format!("\"{text}\" is not a namespace: {wanted}");
                field.blemish(Reason::Invalid, message);
            }
            name(text)
        }
    }
}

/// Reads `labels` of `parent`.
pub(super) fn labels(parent: &Field<'_, '_>) -> Labels {
    let Some(field) = parent.get("labels") else { return Labels::default() };
    let Some(entries) = field.entries() else { return Labels::default() };
    let pairs = entries.iter().filter_map(|(key, _)| {
        let value = field.child(key).text()?;
        for (text, syntax) in [(&**key, names::label_key as Syntax), (value, names::label_value)] {
            if let Err(wanted) = syntax(text) {
                field.blemish(Reason::Invalid, format!("\"{text}\": {wanted}"));
            }
        }
        Some((&**key, value))
    });
    pairs.collect()
}

fn annotations(metadata: &Field<'_, '_>) {
    const LIMIT: usize = 256 * 1024;
    let Some(field) = metadata.get("annotations") else { return };
    let mut size = 0;
    for (key, _) in field.entries().unwrap_or_default() {
        size += key.len() + field.child(key).text().unwrap_or_default().len();
        if let Err(wanted) = names::label_key(&key.to_ascii_lowercase()) {
            field.blemish(Reason::Invalid, format!("\"{key}\": {wanted}"));
        }
    }
    if size > LIMIT {
        field.blemish(Reason::TooLong, "all annotations together have at most 262144 bytes");
    }
}

fn owned(metadata: &Field<'_, '_>) -> bool {
    let Some(Value::List(owners)) = metadata.value.get("ownerReferences") else { return false };
    owners.iter().any(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}
