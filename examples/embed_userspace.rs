//! A server that asks about every connection before it answers. Needs no privileges, and no kernel's help.
#![expect(clippy::print_stdout, reason = "an example that shows what it does")]

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};

use netpol_core::model::{Flow, Options, Traffic};
use netpol_core::{Cluster, Program, Scope, compile, manifest};

const OBJECTS: &str = r#"[
  {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "db", "labels": {"app": "db"}},
   "spec": {"containers": []}, "status": {"podIP": "127.0.0.2"}},
  {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "api", "labels": {"app": "api"}},
   "spec": {"containers": []}, "status": {"podIP": "127.0.0.3"}},
  {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": "shop", "name": "db"},
   "spec": {"podSelector": {"matchLabels": {"app": "db"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "api"}}}]}]}}]"#;

fn main() -> anyhow::Result<()> {
    let objects: Vec<manifest::Value> = serde_json::from_str(OBJECTS)?;
    let loaded = manifest::load(&objects, &manifest::ReadOptions::default());
    let cluster = Cluster::from_objects(Options::default(), loaded.objects);
    let program = compile(&cluster, Scope::Cluster);
    let listener = TcpListener::bind("127.0.0.2:0")?;
    for client in ["127.0.0.3:0", "127.0.0.4:0"] {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&client.parse::<SocketAddr>()?.into())?;
        socket.connect(&listener.local_addr()?.into())?;
        serve(listener.accept()?.0, &program)?;
        println!("{client} hears {:?}", std::io::read_to_string(TcpStream::from(socket))?);
    }
    Ok(())
}

/// A `Program` is `Send + Sync` and cheap to clone; a decision allocates nothing.
fn serve(mut client: TcpStream, program: &Program) -> std::io::Result<()> {
    let (source, own) = (client.peer_addr()?, client.local_addr()?);
    let flow = Flow::new(source.ip(), own.ip(), Traffic::tcp(own.port()));
    if program.decide(&flow).is_allowed() { client.write_all(b"welcome") } else { Ok(()) }
}
