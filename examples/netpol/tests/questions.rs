//! `netpol check` and `netpol explain` about the shop in `examples/manifests`.

mod support;

use serde_json::Value;
use support::{Run, netpol, netpol_with, own};

fn ask(command: &str, arguments: &[&str]) -> Run {
    let shop = own("../manifests").display().to_string();
    netpol(&[&[command, "-f", &shop], arguments].concat())
}

#[test]
fn check_says_yes_or_no() {
    let questions = [
        (&["shop/frontend", "shop/api:8080"][..], 0, "yes\n"),
        (&["shop/frontend", "shop/api:http"], 0, "yes\n"),
        (&["frontend", "api:8080/tcp", "-n", "shop"], 0, "yes\n"),
        (&["shop/frontend", "shop/api:8080/udp"], 1, "no\n"),
        (&["shop/frontend", "shop/db:5432/tcp"], 1, "no\n"),
        (&["shop/[app=frontend]", "shop/api:8080"], 0, "yes\n"),
        (&["shop/[app=other]", "shop/api:8080"], 1, "no\n"),
        (&["203.0.113.7", "10.244.1.10:8080"], 0, "yes\n"),
        (&["::ffff:203.0.113.7", "10.244.1.10:8080"], 0, "yes\n"),
        (&["2001:db8::7", "[fd00:10:244:1::10]:8080"], 0, "yes\n"),
        (&["sandbox/notebook", "shop/frontend:8080"], 1, "no\n"),
        (&["shop/api", "shop/frontend:icmp"], 1, "no\n"),
        (&["shop/api", "shop/frontend:8080", "-q"], 1, ""),
        // Without a port: what is open.
        (&["shop/frontend", "shop/api"], 0, "yes (8080/tcp)\n"),
        (&["shop/db", "kube-system/coredns"], 0, "yes (53/tcp, 53/udp)\n"),
        (&["sandbox/notebook", "kube-system/coredns"], 0, "yes\n"),
        (&["shop/frontend", "shop/db"], 1, "no\n"),
    ];
    for (question, code, out) in questions {
        let run = ask("check", question);
        assert_eq!((run.code, &*run.out), (code, out), "{question:?}: {}", run.notes);
    }
}

#[test]
fn explain_tells_who_decided_and_what_would_have_to_change() {
    let run = ask("explain", &["shop/frontend", "shop/db:5432/tcp"]);
    let expected = r#"denied    shop/frontend -> shop/db  5432/tcp
  egress   deny   3 NetworkPolicies isolate the pod; no rule allows 5432/tcp
             admin     -       cnp/names-for-everyone  no rule matches peer or port
             network   -       shop/default-deny, shop/dns, shop/frontend  no rule matches peer or port
  ingress  deny   3 NetworkPolicies isolate the pod; no rule allows 5432/tcp
             admin     -       cnp/sandbox  rule #1 "nothing-from-the-sandbox" matches the port, but not the peer
             network   -       shop/db  rule #1 matches the port, but not the peer
             network   -       shop/default-deny, shop/scrape  no rule matches peer or port
  to allow egress: a NetworkPolicy for shop/frontend needs a rule to shop/db for 5432/tcp
  to allow ingress: add shop/frontend to NetworkPolicy shop/db spec.ingress[0].from
"#;
    assert_eq!((run.code, &*run.out), (1, expected));
}

#[test]
fn explain_tells_of_tiers_and_of_ends_that_are_not_judged() {
    let run = ask("explain", &["sandbox/notebook", "shop/frontend:http"]);
    let expected = r#"denied    sandbox/notebook -> shop/frontend  8080/tcp
  egress   allow  default (no policy decides)
             admin     -       cnp/names-for-everyone  no rule matches peer or port
  ingress  deny   ClusterNetworkPolicy sandbox rule #1 "nothing-from-the-sandbox" denies
             admin     deny    cnp/sandbox  rule #1 "nothing-from-the-sandbox"
             network   -       shop/default-deny, shop/frontend, shop/scrape  not reached
  to allow ingress: ClusterNetworkPolicy sandbox would need an Accept or Pass rule before rule #1 "nothing-from-the-sandbox"
"#;
    assert_eq!((run.code, &*run.out), (1, expected));
    let run = ask("explain", &["203.0.113.7", "shop/frontend:8080"]);
    assert_eq!(run.code, 0);
    assert!(run.out.contains("egress   -      not judged: 203.0.113.7 is no pod"), "{}", run.out);
}

/// C-HAIR-1, C-HAIR-2, NP-SELF-1.
#[test]
fn a_pod_reaches_itself_directly_or_by_way_of_a_service() {
    let input = r#"
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x}, spec: {containers: []}, status: {podIP: 10.0.0.1}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: x}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: no-telnet}
spec:
  {tier: Admin, priority: 0, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}],
   protocols: [{tcp: {destinationPort: {number: 23}}}]}]}
"#;
    for (port, way, code, says) in [
        ("23", &[][..], 0, "a pod's direct traffic to itself is never policed"),
        ("23", &["--via-service"], 1, "ClusterNetworkPolicy no-telnet rule #1 denies"),
        ("80", &["--via-service"], 0, "the other end is the pod itself, behind a service"),
    ] {
        let to = format!("x/a:{port}");
        let question = [&["explain", "-f", "-", "x/a", &to], way].concat();
        let run = netpol_with(&question, input);
        assert_eq!(run.code, code, "{question:?}: {}{}", run.out, run.notes);
        assert!(run.out.contains(says), "{question:?}: {}", run.out);
        let question = [&["check", "-f", "-", "x/a", "x/a"], way].concat();
        let open = if way.is_empty() { "yes\n" } else { "yes (0-22/tcp, 24-65535/tcp, all of udp" };
        let run = netpol_with(&question, input);
        assert!(run.out.starts_with(open), "{question:?}: {}{}", run.out, run.notes);
    }
}

#[test]
fn explain_has_the_same_as_json() {
    let run = ask("explain", &["shop/frontend", "shop/db:5432/tcp", "-o", "json"]);
    let document: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(document["apiVersion"], "netpol/v1");
    assert_eq!(document["kind"], "Explanation");
    assert_eq!(document["allowed"], false);
    let flows = document["flows"].as_array().unwrap();
    assert_eq!(flows.len(), 2, "one per address family");
    assert_eq!(flows[0]["ingress"]["reason"]["type"], "isolated");
    assert_eq!(flows[0]["ingress"]["steps"][1]["policy"]["name"], "db");
    assert_eq!(flows[0]["ingress"]["steps"][1]["outcome"]["rules"][0]["missed"], "peer");
    assert_eq!(flows[1]["destination"], "fd00:10:244:1::11");
}

#[test]
fn families_that_differ_are_told_apart() {
    let world = r#"
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x}
status: {podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: x, labels: {app: b}}
status: {podIPs: [{ip: 10.0.0.2}, {ip: "fd00::2"}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: v4, namespace: x}
spec:
  podSelector: {matchLabels: {app: b}}
  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]
"#;
    let run = netpol_with(&["check", "-f", "-", "x/a", "x/b:80"], world);
    assert_eq!((run.code, &*run.out), (1, "no\n"));
    assert_eq!(run.notes, "10.0.0.1 -> 10.0.0.2:80/tcp: yes\nfd00::1 -> fd00::2:80/tcp: no\n");
    let run = netpol_with(&["explain", "-f", "-", "x/a", "x/b:80"], world);
    assert_eq!(run.out.matches("x/a -> x/b").count(), 2, "{}", run.out);
}

#[test]
fn workloads_stand_for_their_pods() {
    let world = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {metadata: {labels: {app: web}}, spec: {containers: []}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec: {template: {metadata: {labels: {app: store}}, spec: {containers: []}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: store}
spec:
  podSelector: {matchLabels: {app: store}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
"#;
    for (question, answer) in [
        (["deploy/web", "sts/web:80"], "yes\n"),
        (["default/deployment/web", "default/statefulsets/web:80"], "yes\n"),
        (["other/[app=web]", "sts/web:80"], "no\n"),
        (["sts/web", "deploy/web:80"], "yes\n"),
    ] {
        let run = netpol_with(&[&["check", "-f", "-"][..], &question].concat(), world);
        assert_eq!(run.out, answer, "{question:?} {}", run.notes);
    }
}

#[test]
fn what_makes_no_sense_has_its_own_exit_code() {
    let usage = [
        &["shop/frontend", "shop/api:99999"][..],
        &["shop/frontend", "shop/api:80/xyz"],
        &["a/b/c/d", "shop/api:1"],
    ];
    for question in usage {
        assert_eq!(ask("check", question).code, 2, "{question:?}");
    }
    let run = ask("check", &["shop/fronted", "shop/api:80"]);
    assert_eq!((run.code, &*run.out), (3, ""));
    let run = ask("check", &["shop/front", "shop/api:80"]);
    assert_eq!(
        run.notes,
        "error: there is no pod shop/front in the input; did you mean shop/frontend?\n"
    );
    assert_eq!(ask("explain", &["shop/frontend", "shop/api"]).code, 2);
    let run = netpol(&["check", "-f", "/nonexistent.yaml", "a", "b:80"]);
    assert_eq!(run.code, 3);
}

#[test]
fn an_answer_from_a_part_of_the_input_is_given_but_does_not_count() {
    let world = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nnot: [closed\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\n";
    let run = netpol_with(&["check", "-f", "-", "a", "b:80"], world);
    assert_eq!((run.code, &*run.out), (3, "yes\n"));
    assert!(run.notes.starts_with("<stdin>:5: error: document 2: "), "{}", run.notes);
}

/// Rules with a peer of their own each, on ports around those of the next: together they ask more than is kept.
fn too_large() -> String {
    let mut yaml = String::new();
    for (name, address) in [("web", "10.0.0.1"), ("client-0", "10.0.0.2"), ("other", "10.0.0.3")] {
        yaml += &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}\n\
             spec: {{nodeName: node-1}}\nstatus: {{podIP: {address}, podIPs: [{{ip: {address}}}]}}\n---\n"
        );
    }
    yaml += "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: huge, namespace: shop}\n\
             spec:\n  podSelector: {matchLabels: {app: web}}\n  ingress:\n";
    for at in 0..2100 {
        let (first, last) = (1 + at, 60_000 - at);
        yaml += &format!(
            "  - from: [{{podSelector: {{matchLabels: {{app: client-{at}}}}}}}]\n    \
             ports: [{{port: {first}, endPort: {last}}}]\n"
        );
    }
    yaml
}

#[test]
fn what_takes_too_much_to_say_is_denied_and_told() {
    let yaml = too_large();
    let run = netpol_with(&["explain", "-f", "-", "shop/client-0", "shop/web:30000"], &yaml);
    let expected = "denied    shop/client-0 -> shop/web  30000/tcp
  egress   allow  default (no policy selects shop/client-0 for egress)
  ingress  deny   everything is denied, since the ports and peers of NetworkPolicy shop/huge are too many
             network   -       shop/huge  not reached
  to allow ingress: NetworkPolicy shop/huge should name fewer ports that overlap, or fewer peers for them
";
    assert_eq!((run.code, &*run.out), (1, expected), "{}", run.notes);
    let question = ["explain", "-f", "-", "shop/client-0", "shop/web:30000", "-o", "json"];
    let json: Value = serde_json::from_str(&netpol_with(&question, &yaml).out).unwrap();
    let reason = &json["flows"][0]["ingress"]["reason"];
    assert_eq!(reason["type"], "tooLarge");
    assert_eq!(reason["policies"][0]["name"], "huge");
    let others = netpol_with(&["check", "-f", "-", "shop/client-0", "shop/other:30000"], &yaml);
    assert_eq!(others.out, "yes\n");
    let run = netpol_with(&["render", "-f", "-", "--node", "node-1"], &yaml);
    let warning = "warning: ingress of shop/web is denied: the ports and peers of NetworkPolicy shop/huge are too many\n";
    assert_eq!((run.code, &*run.notes), (0, warning));
}
