use std::fmt;

use ipnet::IpNet;
use netpol_core::model::Name;
use serde::Serialize;

/// One or more ends of connections under one name. The order is that in which they are listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// Every pod of the input.
    AllPods,
    /// Every pod of the input in this namespace.
    PodsOf(Name),
    /// A pod, or what stands for pods.
    Pod { namespace: Name, name: Name },
    /// The addresses of a node.
    Node(Name),
    /// All addresses that no pod has, perhaps with exceptions.
    World { except: Vec<IpNet> },
    /// The addresses of a block, as far as no pod has them.
    Block(IpNet),
}

/// An end for programs: `kind` and what belongs to it.
#[derive(Debug, Serialize)]
#[serde(tag = "kind")]
pub(crate) enum EndJson {
    AllPods,
    Namespace {
        name: String,
    },
    Pod {
        namespace: String,
        name: String,
    },
    Node {
        name: String,
    },
    World {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        except: Vec<String>,
    },
    Block {
        cidr: String,
    },
}

impl End {
    /// Whether both are the same single pod, whose connections with itself mean nothing.
    pub(crate) fn is_same_pod(&self, other: &Self) -> bool {
        matches!(self, Self::Pod { .. }) && self == other
    }

    pub(crate) fn json(&self) -> EndJson {
        match self {
            Self::AllPods => EndJson::AllPods,
            Self::PodsOf(name) => EndJson::Namespace { name: name.to_string() },
            Self::Pod { namespace, name } => {
                EndJson::Pod { namespace: namespace.to_string(), name: name.to_string() }
            }
            Self::Node(name) => EndJson::Node { name: name.to_string() },
            Self::World { except } => {
                EndJson::World { except: except.iter().map(ToString::to_string).collect() }
            }
            Self::Block(block) => EndJson::Block { cidr: block.to_string() },
        }
    }
}

/// `all pods`, `shop/*`, `shop/api`, `node/a`, `world except 10.0.0.0/8`, `192.0.2.0/24`.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllPods => f.write_str("all pods"),
            Self::PodsOf(namespace) => write!(f, "{namespace}/*"),
            Self::Pod { namespace, name } => write!(f, "{namespace}/{name}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::World { except } if except.is_empty() => f.write_str("world"),
            Self::World { except } => {
                let except: Vec<String> = except.iter().map(ToString::to_string).collect();
                write!(f, "world except {}", except.join(" "))
            }
            Self::Block(block) => write!(f, "{block}"),
        }
    }
}
