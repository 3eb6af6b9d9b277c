//! Whatever the input is: no panic, and either an object or errors.

use netpol_core::manifest::{Concern, Strictness, Value, read, read_object};
use proptest::prelude::*;

use crate::{lenient, load, np, strict};

/// Words that lead deep into the readers.
const WORDS: &[&str] = &[
    "",
    "a",
    "http",
    "TCP",
    "UDP",
    "80",
    "10.0.0.0/8",
    "10.0.0.1/08",
    "::ffff:1.2.3.4/100",
    "fd00::/64",
    "/",
    ":",
    "*.a.b",
    "In",
    "NotIn",
    "Exists",
    "DoesNotExist",
    "Ingress",
    "Egress",
    "Admin",
    "Baseline",
    "Accept",
    "Allow",
    "Deny",
    "Pass",
    "é/ü",
    "a/b/c",
    "Always",
    "Failed",
    "v1",
    "networking.k8s.io/v1",
    "Pod",
    "List",
    "PodList",
];

const KEYS: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "name",
    "namespace",
    "labels",
    "generateName",
    "annotations",
    "spec",
    "status",
    "podSelector",
    "namespaceSelector",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
    "policyTypes",
    "ingress",
    "egress",
    "from",
    "to",
    "ports",
    "port",
    "endPort",
    "protocol",
    "ipBlock",
    "cidr",
    "except",
    "tier",
    "priority",
    "subject",
    "action",
    "namespaces",
    "pods",
    "networks",
    "nodes",
    "domainNames",
    "protocols",
    "tcp",
    "udp",
    "destinationPort",
    "destinationNamedPort",
    "number",
    "range",
    "start",
    "end",
    "portNumber",
    "portRange",
    "namedPort",
    "template",
    "jobTemplate",
    "containers",
    "initContainers",
    "containerPort",
    "hostNetwork",
    "nodeName",
    "podIPs",
    "podIP",
    "ip",
    "addresses",
    "address",
    "items",
    "restartPolicy",
    "phase",
    "unheard-of",
];

const KINDS: &[(&str, &str)] = &[
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy"),
    ("v1", "Pod"),
    ("v1", "Node"),
    ("v1", "Namespace"),
    ("apps/v1", "Deployment"),
    ("batch/v1", "CronJob"),
    ("v1", "List"),
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        prop_oneof![any::<i64>(), -2..70000i64].prop_map(Value::Int),
        any::<f64>().prop_map(Value::Float),
        proptest::sample::select(WORDS).prop_map(|word| Value::String(word.to_owned())),
        ".*".prop_map(Value::String),
    ];
    leaf.prop_recursive(8, 128, 6, |inner| {
        let key = prop_oneof![
            9 => proptest::sample::select(KEYS).prop_map(ToOwned::to_owned),
            1 => ".*",
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            proptest::collection::vec((key, inner), 0..8).prop_map(Value::Map),
        ]
    })
}

/// A value whose top is an object of a known kind, so that the readers are reached.
fn object() -> impl Strategy<Value = Value> {
    (proptest::sample::select(KINDS), value(), value(), any::<bool>()).prop_map(
        |((version, kind), spec, status, named)| {
            let text = |text: &str| Value::String(text.to_owned());
            let metadata = match named {
                true => {
                    vec![("name".to_owned(), text("default")), ("namespace".to_owned(), text("x"))]
                }
                false => vec![],
            };
            Value::Map(vec![
                ("apiVersion".to_owned(), text(version)),
                ("kind".to_owned(), text(kind)),
                ("metadata".to_owned(), Value::Map(metadata)),
                ("spec".to_owned(), spec),
                ("status".to_owned(), status),
            ])
        },
    )
}

proptest! {
    #[test]
    fn any_value_is_read_or_rejected(value in prop_oneof![value(), object()]) {
        for options in [strict(), lenient()] {
            for result in read(&value, &options) {
                match result {
                    Ok(reading) if options.strictness == Strictness::Strict => {
                        let tolerated = reading.warnings.iter().find(|w| w.concern == Concern::Tolerated);
                        prop_assert!(tolerated.is_none(), "{tolerated:?}");
                    }
                    Ok(_) => {}
                    Err(rejected) => prop_assert!(!rejected.errors.is_empty()),
                }
            }
        }
    }

    /// Lenient reading never refuses what strict reading accepts, and reads it the same where nothing is unknown.
    #[test]
    fn lenient_reading_accepts_more(value in object()) {
        if let Ok(reading) = read_object(&value, &strict()) {
            let again = read_object(&value, &lenient());
            let again = again.map_err(|rejected| TestCaseError::fail(rejected.to_string()))?;
            if reading.warnings.is_empty() {
                prop_assert_eq!(again.object, reading.object);
            }
        }
    }
}

/// M8: of an object that is given twice, the last one counts, for whoever is asked. Found by fuzzing.
#[test]
fn the_last_of_two_counts() {
    use netpol_core::model::{Flow, Options, Traffic};
    use netpol_core::{Cluster, Scope, compile, reference};
    let pod = |address: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: x}}, \
             status: {{podIP: {address}}}}}"
        )
    };
    let (open, closed) = ("{podSelector: {}, ingress: [{}]}", "{podSelector: {}}");
    let documents = [pod("10.0.0.1"), np(closed), pod("10.0.0.2"), np(open), np(closed)];
    let objects = load(&documents.join("\n---\n"), &strict()).objects;
    assert_eq!((objects.endpoints.len(), objects.policies.len()), (1, 1));
    let program =
        compile(&Cluster::from_objects(Options::default(), objects.clone()), Scope::Cluster);
    for (last, allowed) in [(1, true), (2, false)] {
        let (from, to) = ([192, 0, 2, 1].into(), [10, 0, 0, last].into());
        let flow = Flow::new(from, to, Traffic::tcp(80));
        assert_eq!(program.decide(&flow).is_allowed(), allowed, "{flow}");
        let expected = reference::decide(&objects, &Options::default(), &flow);
        assert_eq!(expected.is_allowed(), allowed, "{flow}");
    }
}
