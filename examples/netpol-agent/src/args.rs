//! Flags, each of which can be given in the environment as well.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser, ValueEnum};
use ipnet::IpNet;
use netpol_backend_nft::Name;
use netpol_enforce::backend::Choice;

/// Enforces the network policies of a Kubernetes cluster on the node that it runs on
///
/// The API server is found as by kubectl: by KUBECONFIG, or from inside of a pod. SIGTERM ends the agent and leaves
/// enforcement as it is.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// The node, as the API server calls it
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub(crate) node_name: String,

    /// What puts policies into force
    #[arg(long, env = "NETPOL_BACKEND", value_enum, default_value_t)]
    pub(crate) backend: Choice,

    /// The name of everything that is written to the kernel
    #[arg(long, env = "NETPOL_INSTANCE", default_value = "netpol", value_name = "NAME", value_parser = instance)]
    pub(crate) instance: Name,

    /// Where the last objects that were in force are kept, for a node that comes up without the API server
    #[arg(
        long,
        env = "NETPOL_STATE_DIR",
        default_value = "/var/lib/netpol-agent",
        value_name = "DIR"
    )]
    pub(crate) state_dir: PathBuf,

    /// What a pod of this node may do before the API server has told of it and its policies are in force
    ///
    /// With deny, a node of which nothing is known at all, neither from the API server nor from an earlier run, forwards
    /// no new connections. What the node itself sends and receives is not touched.
    #[arg(long, env = "NETPOL_WHEN_UNKNOWN", value_enum, default_value_t = WhenUnknown::Deny)]
    pub(crate) when_unknown: WhenUnknown,

    /// A range from which pods of this node get their addresses, beside the node's spec.podCIDRs
    #[arg(long, env = "NETPOL_POD_CIDRS", value_delimiter = ',', value_name = "CIDR")]
    pub(crate) pod_cidr: Vec<IpNet>,

    /// Cut the connections that a change forbids
    #[arg(long, env = "NETPOL_REVOKE", default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub(crate) revoke: bool,

    /// Write a line of JSON to standard output for denied packets, at most so many per second and direction for pods with
    /// the same policies; 0 for none
    #[arg(long, env = "NETPOL_LOG_DENIED", default_value_t = 10, value_name = "PER SECOND")]
    pub(crate) log_denied: u32,

    /// The NFLOG group by which the kernel tells of denied packets; nobody else may listen to it
    #[arg(long, env = "NETPOL_LOG_GROUP", default_value_t = 4470, value_name = "NUMBER")]
    pub(crate) log_group: u16,

    /// Tell the API server about policies that are not understood, by Events and conditions
    #[arg(long, env = "NETPOL_REPORT", default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub(crate) report: bool,

    /// Where /metrics, /healthz, /readyz and /policies are served
    #[arg(
        long,
        env = "NETPOL_LISTEN",
        default_value = "127.0.0.1:9469",
        value_name = "ADDRESS:PORT"
    )]
    pub(crate) listen: SocketAddr,

    /// What to log, as in netpol_agent=debug,kube=info
    #[arg(long, env = "NETPOL_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,

    /// How to log, to standard error
    #[arg(long, env = "NETPOL_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub(crate) log_format: LogFormat,

    /// End enforcement on this node: remove everything that was written to its kernel, and exit
    #[arg(long)]
    pub(crate) remove: bool,
}

/// What becomes of pods that nobody has told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhenUnknown {
    /// They may do nothing
    Deny,
    /// They may do everything
    Allow,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A JSON object per line
    Json,
    /// For people
    Text,
}

fn instance(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}
