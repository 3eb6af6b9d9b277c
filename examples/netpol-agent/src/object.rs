//! What is kept of an object. Everything else is dropped by the parser and never takes memory: of a pod with its
//! status and managed fields a few hundred bytes are left.

use std::borrow::Cow;
use std::fmt;

use kube::Resource;
use kube::api::{ApiResource, ObjectMeta};
use kube::core::DynamicResourceScope;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};

/// An object of any of the watched kinds, without the fields that nobody looks at.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// For the watcher, which looks at the resource version alone.
    metadata: Box<ObjectMeta>,
    /// The kept fields, as the API server spells them. Items of lists do not say what kind they are.
    pub(crate) value: Value,
}

/// What to keep of a value. Lists are looked through.
#[derive(Clone, Copy)]
enum Keep {
    Whole,
    Fields(&'static [(&'static str, Keep)]),
}

/// The fields of all kinds together: no two of them use one name for different things.
const OBJECT: Keep = Keep::Fields(&[
    ("metadata", Keep::Fields(METADATA)),
    ("spec", Keep::Fields(SPEC)),
    ("status", Keep::Fields(STATUS)),
]);

const METADATA: &[(&str, Keep)] = &[
    ("name", Keep::Whole),
    ("namespace", Keep::Whole),
    ("uid", Keep::Whole),
    ("resourceVersion", Keep::Whole),
    ("generation", Keep::Whole),
    ("labels", Keep::Whole),
];

const SPEC: &[(&str, Keep)] = &[
    // Pods.
    ("nodeName", Keep::Whole),
    ("hostNetwork", Keep::Whole),
    ("containers", Keep::Fields(&[("ports", Keep::Whole)])),
    ("initContainers", Keep::Fields(&[("restartPolicy", Keep::Whole), ("ports", Keep::Whole)])),
    // Nodes.
    ("podCIDR", Keep::Whole),
    ("podCIDRs", Keep::Whole),
    // Policies.
    ("podSelector", Keep::Whole),
    ("policyTypes", Keep::Whole),
    ("tier", Keep::Whole),
    ("priority", Keep::Whole),
    ("subject", Keep::Whole),
    ("ingress", Keep::Whole),
    ("egress", Keep::Whole),
];

const STATUS: &[(&str, Keep)] = &[
    // Pods.
    ("phase", Keep::Whole),
    ("podIP", Keep::Whole),
    ("podIPs", Keep::Whole),
    // Nodes.
    ("addresses", Keep::Whole),
];

impl Object {
    /// The text of a field of the metadata; empty if it is not there.
    pub(crate) fn metadata(&self, field: &str) -> &str {
        self.value["metadata"][field].as_str().unwrap_or_default()
    }

    /// How often its specification has changed, as far as its kind counts that.
    pub(crate) fn generation(&self) -> i64 {
        self.value["metadata"]["generation"].as_i64().unwrap_or_default()
    }
}

/// An object that was trimmed before.
impl From<Value> for Object {
    fn from(value: Value) -> Self {
        Self { metadata: Box::default(), value }
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = OBJECT.deserialize(deserializer)?;
        // The watcher needs it; to anyone else two objects that differ in nothing else are the same.
        let version = value.get_mut("metadata").and_then(Value::as_object_mut);
        let version = version.and_then(|metadata| metadata.remove("resourceVersion"));
        let resource_version = version.and_then(|it| it.as_str().map(str::to_owned));
        let metadata = Box::new(ObjectMeta { resource_version, ..ObjectMeta::default() });
        Ok(Self { metadata, value })
    }
}

impl Resource for Object {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.kind).into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.group).into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.version).into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.plural).into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<'de> DeserializeSeed<'de> for Keep {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self {
            Self::Whole => Value::deserialize(deserializer),
            Self::Fields(fields) => deserializer.deserialize_any(Fields(fields)),
        }
    }
}

struct Fields(&'static [(&'static str, Keep)]);

impl<'de> Visitor<'de> for Fields {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field of an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(name) = entries.next_key::<Cow<'_, str>>()? {
            match self.0.iter().find(|(known, _)| *known == name) {
                Some((known, keep)) => {
                    kept.insert((*known).to_owned(), entries.next_value_seed(*keep)?);
                }
                None => {
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(kept))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        while let Some(item) = items.next_element_seed(Keep::Fields(self.0))? {
            kept.push(item);
        }
        Ok(Value::Array(kept))
    }

    // Of what has another type than the API's, nothing is dropped: to judge it is the reader's business.

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_looks_at_is_dropped() {
        let pod = json!({
            "metadata": {
                "name": "db", "namespace": "shop", "resourceVersion": "7", "labels": {"app": "db"},
                "annotations": {"a": "b"}, "managedFields": [{"fieldsV1": {"f:spec": {}}}],
            },
            "spec": {
                "nodeName": "n1", "volumes": [{}],
                "containers": [{"image": "db", "env": [{}], "ports": [{"containerPort": 5432, "name": "pg"}]}],
            },
            "status": {"podIP": "10.0.0.1", "conditions": [{}], "containerStatuses": [{}]},
        });
        let object: Object = serde_json::from_str(&pod.to_string()).unwrap();
        let kept = json!({
            "metadata": {"name": "db", "namespace": "shop", "labels": {"app": "db"}},
            "spec": {"nodeName": "n1", "containers": [{"ports": [{"containerPort": 5432, "name": "pg"}]}]},
            "status": {"podIP": "10.0.0.1"},
        });
        assert_eq!(object.value, kept);
        assert_eq!(object.meta().resource_version.as_deref(), Some("7"));
    }

    #[test]
    fn wrong_types_are_left_to_the_reader() {
        for text in
            [r#"{"metadata": 1}"#, r#"{"spec": [true, null, "x", 1.5, -1]}"#, r#"{"status": null}"#]
        {
            let object: Object = serde_json::from_str(text).unwrap();
            assert_eq!(object.value, serde_json::from_str::<Value>(text).unwrap());
        }
    }
}
