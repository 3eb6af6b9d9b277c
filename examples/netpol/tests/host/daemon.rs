//! `netpol run`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use netpol_testbed::Outcome;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::{A, B, C, PATIENCE, Scene, policy, probes};

pub(crate) fn files_are_followed() {
    let scene = Scene::new();
    scene.write("b.yaml", &policy("b", "a", "web"));
    let mut daemon = scene.start(&[]);
    daemon.says("in force");
    assert!(scene.passes(A, B, 80) && !scene.passes(C, B, 80));

    scene.write("b.yaml", &policy("b", "c", "web"));
    let said = daemon.says("in force");
    assert!(said.starts_with("1 object changed: updated in "), "{said}");
    assert!(!scene.passes(A, B, 80) && scene.passes(C, B, 80));

    // What cannot be read changes nothing, and hides no other change for good.
    scene
        .write("broken.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n---\na: [b\n");
    daemon.says("broken.yaml:5: error: ");
    daemon.says("nothing is changed until all of the input can be read");
    scene.write("b.yaml", &policy("b", "a", "81"));
    assert_eq!(daemon.says_within(Duration::from_millis(300)), Vec::<String>::new());
    assert!(!scene.passes(A, B, 81) && scene.passes(C, B, 80));
    let nameless = policy("b", "a", "80").replace("{name: b,", "{name: 5,");
    scene.write("broken.yaml", &nameless);
    let said = daemon.says("error: ");
    assert!(said.contains("broken.yaml:3: error: NetworkPolicy x/"), "{said}");
    assert!(said.contains("metadata.name: a string"), "{said}");
    fs::remove_file(scene.directory.join("broken.yaml")).expect("removed");
    daemon.says("the input can be read again");
    daemon.says("in force");
    assert!(scene.passes(A, B, 81) && !scene.passes(C, B, 80));

    // The file of endpoints is followed, too; also by those who write in place.
    let hosts = fs::read_to_string(&scene.hosts).expect("read");
    fs::write(&scene.hosts, hosts.replace("app: c", "app: a")).expect("written");
    daemon.says("in force");
    assert!(scene.passes(C, B, 81));

    // A directory without any file is more likely a mistake than a wish.
    fs::remove_file(scene.directory.join("b.yaml")).expect("removed");
    daemon.says("has no .yaml, .yml or .json file in it");
    assert!(!scene.passes(A, B, 80));
    scene.write("b.yaml", "# nothing\n");
    daemon.says("in force");
    assert!(scene.passes(A, B, 80));
    assert_eq!(daemon.stop(), Some(0));
}

/// Who writes in place leaves half a file behind for a while, which is valid YAML more often than not.
pub(crate) fn half_a_file_is_no_file() {
    let scene = Scene::new();
    let both = [policy("b", "a", "80"), policy("c", "c", "81")].join("---\n");
    scene.write("b.yaml", &both);
    let mut daemon = scene.start(&[]);
    daemon.says("in force");
    let mut file = File::create(scene.directory.join("b.yaml")).expect("truncated");
    // Another change is not held up by it.
    scene.write("other.yaml", &policy("d", "c", "82"));
    daemon.says("in force");
    assert!(scene.passes(A, B, 80) && scene.passes(C, B, 81) && scene.passes(C, B, 82));
    assert!(!scene.passes(A, B, 81));
    file.write_all(policy("b", "a", "80").as_bytes()).expect("written");
    file.sync_all().expect("on disk");
    assert_eq!(daemon.says_within(Duration::from_millis(200)), Vec::<String>::new());
    daemon.signal(Signal::SIGHUP);
    daemon.says("asked to read everything again");
    assert_eq!(daemon.says_within(Duration::from_millis(200)), Vec::<String>::new());
    assert!(scene.passes(C, B, 81));
    drop(file);
    daemon.says("in force");
    assert!(scene.passes(A, B, 80) && !scene.passes(C, B, 81));
    let mut new = File::create(scene.directory.join("new.yaml")).expect("made");
    new.write_all(b"half: [").expect("written");
    assert_eq!(daemon.says_within(Duration::from_millis(200)), Vec::<String>::new());
    assert_eq!(daemon.stop(), Some(0));
}

pub(crate) fn drift_is_repaired() {
    let scene = Scene::new();
    scene.write("b.yaml", &policy("b", "a", "80"));
    let mut daemon = scene.start(&[]);
    daemon.says("in force");
    for arguments in [
        &["flush", "ruleset"][..],
        &["delete", "table", "ip6", "netpol"],
        &["insert", "rule", "ip", "netpol", "forward", "accept"],
        &["flush", "chain", "ip", "netpol", "denied-in"],
    ] {
        if scene.nft(arguments).is_none() {
            return;
        }
        let said = daemon.says("changed our rules: ");
        assert!(said.starts_with("nft (pid ") && said.contains("ated in "), "{said}");
        assert!(scene.passes(A, B, 80) && !scene.passes(C, B, 80), "{arguments:?}");
    }
    // What others do with theirs is none of our business.
    scene.nft(&["add", "table", "ip", "other"]);
    assert_eq!(daemon.says_within(Duration::from_millis(200)), Vec::<String>::new());

    let run = scene.bare(&["flush"]);
    assert_eq!(run.code, 0);
    let said = daemon.says("changed our rules: ");
    assert!(said.starts_with("netpol (pid "), "{said}");
    assert!(!scene.passes(C, B, 80));
    assert_eq!(daemon.stop(), Some(0));

    // With the kernel's help nobody else can.
    let mut daemon = scene.start(&["--exclusive"]);
    daemon.says("in force after");
    let run = scene.bare(&["flush"]);
    assert_eq!(run.code, 5, "{run:#?}");
    assert!(!scene.passes(C, B, 80));
    assert_eq!(daemon.stop(), Some(0));
    assert!(!scene.passes(C, B, 80));
    assert_eq!(scene.bare(&["flush"]).code, 0);
    assert!(scene.passes(C, B, 80));
}

/// The kernel refuses as long as the tables are somebody else's.
pub(crate) fn what_fails_is_tried_again() {
    let scene = Scene::new();
    scene.write("b.yaml", &policy("b", "a", "80"));
    let mut first = scene.start(&["--exclusive"]);
    first.says("in force");
    let mut second = scene.start(&["--metrics", "127.0.0.1:9433"]);
    second.says("next attempt in 0.1 s");
    second.says("next attempt in 0.2 s");
    assert!(scene.on_host(|| get("/readyz")).starts_with("HTTP/1.1 503"));
    assert!(scene.passes(A, B, 80) && !scene.passes(C, B, 80));
    assert_eq!(first.stop(), Some(0));
    second.says("in force");
    assert!(scene.on_host(|| get("/readyz")).starts_with("HTTP/1.1 200"));
    assert!(scene.passes(A, B, 80) && !scene.passes(C, B, 80));
    scene.write("b.yaml", &policy("b", "c", "80"));
    second.says("in force");
    assert!(scene.passes(C, B, 80) && !scene.passes(A, B, 80));
    assert_eq!(second.stop(), Some(0));
}

pub(crate) fn ends() {
    let scene = Scene::new();
    scene.write("b.yaml", &policy("b", "a", "80"));
    let mut daemon = scene.start(&[]);
    daemon.says("in force");
    daemon.kill();
    assert!(scene.passes(A, B, 80) && !scene.passes(C, B, 80));

    // What happened meanwhile is made up for, and what was written is recognised.
    let mut daemon = scene.start(&[]);
    let said = daemon.says("in force");
    assert!(said.contains(": nothing to change, "), "{said}");
    daemon.kill();
    scene.write("b.yaml", &policy("b", "c", "80"));
    assert!(scene.passes(A, B, 80));
    let mut daemon = scene.start(&[]);
    daemon.says("updated in ");
    assert!(scene.passes(C, B, 80) && !scene.passes(A, B, 80));

    daemon.signal(Signal::SIGHUP);
    daemon.says("asked to read everything again");
    assert_eq!(daemon.says_within(Duration::from_millis(200)), Vec::<String>::new());
    assert_eq!(daemon.stop(), Some(0));
    assert!(scene.passes(C, B, 80) && !scene.passes(A, B, 80));
}

pub(crate) fn connections_are_cut() {
    let scene = Scene::new();
    let both = [policy("a", "a", "80"), policy("c", "a", "81")].join("---\n");
    scene.write("b.yaml", &both);
    let mut daemon = scene.start(&[]);
    daemon.says("in force");
    let mut connections = [80, 81].map(|port| connect(&scene, port));
    for (client, server) in &mut connections {
        assert!(exchange(client, server));
    }
    scene.write("b.yaml", &policy("a", "a", "80"));
    let said = daemon.says("in force");
    assert!(said.ends_with(", 1 connection cut"), "{said}");
    let [(kept_client, kept_server), (cut_client, cut_server)] = &mut connections;
    assert!(exchange(kept_client, kept_server));
    assert!(!exchange(cut_client, cut_server));
    assert_eq!(daemon.stop(), Some(0));

    let mut daemon = scene.start(&["--keep-connections"]);
    daemon.says("in force");
    scene.write("b.yaml", &policy("a", "c", "80"));
    daemon.says("in force");
    assert!(!scene.passes(A, B, 80));
    assert!(exchange(kept_client, kept_server));
    assert_eq!(daemon.stop(), Some(0));
}

/// A connection from a to b, with both ends.
fn connect(scene: &Scene, port: u16) -> (TcpStream, TcpStream) {
    let address = SocketAddr::new(IpAddr::from([10, 0, 0, 2]), port);
    let listener = scene.testbed.in_pod(B, || TcpListener::bind(address)).expect("a pod");
    let listener = listener.expect("listening");
    let client = scene.testbed.in_pod(A, || TcpStream::connect_timeout(&address, PATIENCE));
    let client = client.expect("a pod").expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(Duration::from_millis(400))).expect("set");
    }
    (client, server)
}

/// Whether a byte gets through from the client to the server.
fn exchange(client: &mut TcpStream, server: &mut TcpStream) -> bool {
    client.write_all(b"x").expect("sent");
    server.read_exact(&mut [0]).is_ok()
}

pub(crate) fn records_name_the_policies() {
    for audit in [false, true] {
        let scene = Scene::new();
        scene.write("b.yaml", &policy("b", "a", "web"));
        let path = scene.file("records.json");
        let file = path.display().to_string();
        let mut arguments = vec!["--records", &file];
        arguments.extend(audit.then_some("--audit"));
        let mut daemon = scene.start(&arguments);
        daemon.says("in force");
        let outcome = &scene.probe(&probes(A, B, 81)[..1])[0];
        let expected = if audit { Outcome::Allowed } else { Outcome::Denied };
        assert_eq!(*outcome, expected);
        let line = soon(|| {
            let text = fs::read_to_string(&path).ok()?;
            text.lines().next().filter(|_| text.ends_with('\n')).map(str::to_owned)
        });
        let record: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(record["apiVersion"], "netpol/v1");
        assert_eq!(record["kind"], "DeniedPacket");
        assert_eq!(record["verdict"], if audit { "audit" } else { "deny" });
        assert_eq!(record["direction"], "ingress");
        assert_eq!(record["src"]["name"], "a");
        assert_eq!(record["dst"]["name"], "b");
        assert_eq!(record["dst"]["port"], 81);
        assert_eq!(record["policies"][0]["name"], "b");
        let miss = record["nearestMiss"].as_str().expect("a miss");
        assert!(miss.contains("matches the peer, but not the port (web"), "{miss}");
        assert_eq!(daemon.stop(), Some(0));
    }
}

/// What there is within a time that a busy machine may need.
pub(crate) fn soon<T>(mut f: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match f() {
            Some(it) => return it,
            None if Instant::now() > deadline => panic!("not within {PATIENCE:?}"),
            None => thread::sleep(Duration::from_millis(10)),
        }
    }
}

pub(crate) fn metrics_and_health() {
    let scene = Scene::new();
    scene.write("b.yaml", &policy("b", "a", "80"));
    let mut daemon = scene.start(&["--metrics", "127.0.0.1:9433"]);
    daemon.says("metrics at http://127.0.0.1:9433/metrics");
    daemon.says("in force");
    let get = |path: &str| scene.on_host(|| get(path));
    assert!(get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").starts_with("HTTP/1.1 200"));
    let metrics = soon(|| Some(get("/metrics")).filter(|it| it.contains("netpol_endpoints 3\n")));
    for line in [
        r#"netpol_policies{api="NetworkPolicy",tier="network"} 1"#,
        r#"netpol_sync_total{backend="nft",result="changed"} 1"#,
        r#"netpol_compile_seconds_count{mode="full"} 1"#,
        "netpol_policy_latency_seconds_count 1",
        "netpol_in_sync 1",
        "netpol_input_readable 1",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} is not in\n{metrics}");
    }
    scene.write("c.yaml", "kind: [");
    daemon.says("nothing is changed");
    assert!(get("/readyz").starts_with("HTTP/1.1 503"));
    assert!(get("/healthz").starts_with("HTTP/1.1 200"));
    let metrics = get("/metrics");
    assert!(metrics.contains("\nnetpol_input_readable 0\n"), "{metrics}");
    assert!(metrics.contains(r#"netpol_objects_rejected_total{kind="",reason="Unreadable"} 1"#));
    // An address that somebody else has.
    let mut second = scene.start(&["--metrics", "127.0.0.1:9433", "--instance", "second"]);
    second.says("error: --metrics 127.0.0.1:9433: ");
    assert_eq!(second.child.wait().expect("it ends").code(), Some(5));
    assert_eq!(daemon.stop(), Some(0));
}

fn get(path: &str) -> String {
    let mut stream = TcpStream::connect("127.0.0.1:9433").expect("connected");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

pub(crate) fn the_service_manager_hears() {
    let scene = Scene::new();
    scene.write("b.yaml", &policy("b", "a", "80"));
    let path = scene.file("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut daemon = scene.start_with(&[], |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    });
    let hears = |part: &str| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut buffer = [0; 1024];
            let length = socket.recv(&mut buffer).expect("heard");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains(part) {
                return text;
            }
            assert!(Instant::now() < deadline, "no {part}");
        }
    };
    let text = hears("READY=1");
    assert!(text.contains("STATUS=1 policy in force for 3 endpoints"), "{text}");
    assert!(!scene.passes(C, B, 80), "what is ready is in force");
    hears("WATCHDOG=1");
    hears("WATCHDOG=1");
    daemon.signal(Signal::SIGHUP);
    let text = hears("RELOADING=1");
    assert!(text.contains("MONOTONIC_USEC="), "{text}");
    hears("READY=1");
    scene.write("b.yaml", "kind: [");
    daemon.says("nothing is changed");
    hears("STATUS=the input cannot be read");
    daemon.signal(Signal::SIGTERM);
    hears("STOPPING=1");
}

/// No monitor tells of other hands; it is looked for them every 5 seconds.
pub(crate) fn with_iptables() {
    for variant in ["iptables-nft", "iptables-legacy"] {
        let scene = Scene::new();
        scene.write("b.yaml", &[policy("b", "a", "80"), policy("c", "a", "81")].join("---\n"));
        let run = scene.bare(&["status", "--backend", variant]);
        if run.code == 5 {
            println!("        SKIPPED {variant}: {}", run.notes.trim());
            continue;
        }
        let flush = || {
            for tool in [variant.to_owned(), variant.replace("ip", "ip6")] {
                let flushed = scene.on_host(|| Command::new(tool).arg("-F").status());
                assert!(flushed.expect("it runs").success());
            }
        };
        let mut daemon = scene.start(&["--backend", variant]);
        daemon.says("in force");
        assert!(scene.passes(A, B, 80) && !scene.passes(C, B, 80));
        let (mut client, mut server) = connect(&scene, 81);
        assert!(exchange(&mut client, &mut server));
        scene.write("b.yaml", &policy("b", "c", "80"));
        let said = daemon.says("in force");
        assert!(said.ends_with(" cut"), "{said}");
        assert!(!exchange(&mut client, &mut server));
        assert!(!scene.passes(A, B, 80) && scene.passes(C, B, 80));

        flush();
        daemon.says("looked again: updated in ");
        assert!(!scene.passes(A, B, 80) && scene.passes(C, B, 80));

        daemon.kill();
        assert!(!scene.passes(A, B, 80) && scene.passes(C, B, 80));
        let mut daemon = scene.start(&["--backend", variant]);
        let said = daemon.says("in force");
        assert!(said.contains(": nothing to change, "), "{said}");
        assert_eq!(daemon.stop(), Some(0));

        // Sets without rules police nothing, so they are no reason to wait for the input.
        flush();
        assert!(scene.passes(A, B, 80));
        scene.write("b.yaml", "kind: [");
        let mut daemon = scene.start(&["--backend", variant]);
        daemon.says("isolated: ");
        assert!(!scene.passes(A, B, 80) && !scene.passes(C, B, 80));
        assert_eq!(daemon.stop(), Some(0));
    }
}

pub(crate) fn closed_until_readable() {
    let scene = Scene::new();
    scene.write("b.yaml", "kind: [");
    let mut daemon = scene.start(&["--when-unknown", "allow"]);
    daemon.says("nothing is in force until then");
    assert!(scene.passes(C, B, 80));
    assert_eq!(daemon.stop(), Some(0));

    let mut daemon = scene.start(&[]);
    daemon.says("isolated: created in ");
    assert!(!scene.passes(A, B, 80) && !scene.passes(C, A, 80));
    scene.write("b.yaml", &policy("b", "a", "80"));
    daemon.says("in force");
    assert!(scene.passes(A, B, 80) && !scene.passes(C, B, 80) && scene.passes(C, A, 80));
    daemon.kill();

    // What is in force is better than a guess.
    scene.write("b.yaml", "kind: [");
    let mut daemon = scene.start(&[]);
    daemon.says("what an earlier run has left stays in force");
    assert!(scene.passes(A, B, 80) && !scene.passes(C, B, 80));
    assert_eq!(daemon.stop(), Some(0));
}
