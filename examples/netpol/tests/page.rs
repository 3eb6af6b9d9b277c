//! The page of `netpol list -o html`, opened in a browser and clicked. `NETPOL_BLESS=1` puts the screenshots into `docs`.
//!
//! Needs chromium and chromedriver (Debian: chromium, chromium-driver).
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::{netpol, own};

/// A browser that does what it is told by WebDriver.
struct Browser {
    driver: Child,
    /// Kept open: the driver would stumble over a closed pipe.
    _output: BufReader<ChildStdout>,
    session: String,
    profile: PathBuf,
}

impl Browser {
    /// Nothing if there is no browser here, which is told.
    fn start() -> Option<Self> {
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = match driver {
            Ok(driver) => driver,
            Err(error) => {
                eprintln!("SKIPPED: no page was opened, since there is no chromedriver: {error}");
                return None;
            }
        };
        let mut output = BufReader::new(driver.stdout.take().expect("piped"));
        let mut line = String::new();
        let port = loop {
            line.clear();
            assert!(output.read_line(&mut line).expect("readable") > 0, "chromedriver ended");
            if let Some((_, port)) =
                line.trim().trim_end_matches('.').split_once("started successfully on port ")
            {
                break port.to_owned();
            }
        };
        let profile = std::env::temp_dir().join(format!("netpol-browser-{}", std::process::id()));
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1240,820",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": {"args": arguments}}}});
        let url = format!("http://127.0.0.1:{port}/session");
        let mut browser = Self { driver, _output: output, session: url, profile };
        let id = browser.post("", &capabilities)["sessionId"].clone();
        browser.session = format!("{}/{}", browser.session, id.as_str().expect("a session"));
        Some(browser)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let mut answer = ureq::post(&url)
            .config()
            .timeout_global(Some(Duration::from_secs(120)))
            .http_status_as_error(false)
            .build()
            .send_json(body)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let value: Value = answer.body_mut().read_json().expect("JSON");
        assert!(value["value"].get("error").is_none(), "{path} {body}: {value}");
        value["value"].clone()
    }

    fn open(&self, page: &Path) {
        self.post("/url", &json!({"url": format!("file://{}", page.display())}));
    }

    /// Clicks what a CSS selector finds, as a user would: it has to be there, visible and uncovered.
    fn click(&self, selector: &str) {
        let found = self.post("/element", &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().and_then(|it| it.values().next()).and_then(Value::as_str);
        self.post(&format!("/element/{}/click", id.expect("an element")), &json!({}));
    }

    fn evaluate(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": format!("return {script}"), "args": []}))
    }

    fn text(&self, selector: &str) -> String {
        let script = format!("document.querySelector({}).innerText", json!(selector));
        self.evaluate(&script).as_str().expect("text").to_owned()
    }

    /// Looks at the page; the picture is kept as documentation if that is wanted.
    fn screenshot(&self, name: &str) {
        let url = format!("{}/screenshot", self.session);
        let mut answer = ureq::get(&url).call().expect("a screenshot");
        let value: Value = answer.body_mut().read_json().expect("JSON");
        let png = base64(value["value"].as_str().expect("a picture"));
        assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000, "{name} shows something");
        if std::env::var_os("NETPOL_BLESS").is_some() {
            fs::create_dir_all(own("docs")).expect("made");
            fs::write(own("docs").join(name), png).expect("written");
        }
    }

    fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        let command =
            json!({"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}});
        self.post("/goog/cdp/execute", &command);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = ureq::delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}

/// Decodes what WebDriver sends pictures in.
fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for letter in text.bytes() {
        let Some(value) = LETTERS.iter().position(|it| *it == letter) else { continue };
        bits = bits << 6 | u32::try_from(value).expect("below 64");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

#[test]
fn a_person_can_look_around() {
    let shop = own("../manifests").display().to_string();
    let run = netpol(&["list", "-f", &shop, "-o", "html"]);
    assert_eq!(run.code, 0, "{}", run.notes);
    let directory = std::env::temp_dir().join(format!("netpol-page-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("made");
    let file = directory.join("page.html");
    fs::write(&file, &run.out).expect("written");
    let Some(browser) = Browser::start() else { return };
    browser.open(&file);
    let resources = browser.evaluate("performance.getEntriesByType('resource').length");
    assert_eq!(resources, 0, "the page needs nothing but itself");

    browser.click("[data-choose='shop/db']");
    assert_eq!(browser.text("h2.title"), "shop/db");
    assert!(browser.text("#reached-by").starts_with("Reached by\nshop/api\nTCP 5432\nNot at all"));
    browser.click("#reached-by [data-peer='shop/frontend'] summary");
    let why = browser.text("#reached-by [data-peer='shop/frontend'] .why");
    assert!(why.contains("ingress denies: NetworkPolicy shop/db"), "{why}");
    assert!(why.contains("shop/db rule #1 matches the port, but not the peer"), "{why}");
    browser.screenshot("page.png");

    browser.click("[data-tab='graph']");
    let arrow = "#graph [data-from='shop/api'][data-to='shop/db']";
    let dim = |arrow: &str| {
        browser.evaluate(&format!(
            "document.querySelector({}).classList.contains('dim')",
            json!(arrow)
        ))
    };
    assert_eq!(dim(arrow), false, "leads to the chosen pod");
    assert_eq!(dim("#graph [data-from='payments/gateway'][data-to='payments/ledger']"), true);
    browser.click("#graph g[data-end='shop/frontend']");
    assert_eq!(browser.text("h2.title"), "shop/frontend");
    assert!(
        browser.text("#reaches").contains("shop/api\nTCP 8080"),
        "{}",
        browser.text("#reaches")
    );

    browser.click("[data-tab='table']");
    browser.screenshot("table.png");
    browser.click("#table g[data-from='shop/frontend'][data-to='shop/db']");
    assert_eq!(browser.text("h2.title"), "shop/db");
    let open = "document.querySelector(\"#reached-by [data-peer='shop/frontend']\").open";
    assert_eq!(browser.evaluate(open), true, "the reason is shown at once");

    browser.prefer("dark");
    browser.click("[data-tab='graph']");
    browser.evaluate("document.querySelectorAll('.dim').forEach(it => it.classList.remove('dim'))");
    browser.screenshot("graph-dark.png");
    browser.evaluate("(document.getElementById('search').value = 'pay', list())");
    assert_eq!(browser.text("#list"), "payments\ngateway\nledger");
    fs::remove_dir_all(&directory).expect("removed");
}

/// Names come from manifests, and not all manifests are one's own.
#[test]
fn names_are_text_and_nothing_else() {
    let world = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a, namespace: x}
spec:
  podSelector: {matchLabels: {app: "</script><script>document.title='got it'</script><img src=x>"}}
"#;
    let run = support::netpol_with(&["list", "-f", "-", "-o", "html"], world);
    assert!(
        !run.out.contains("</script><script>document.title") && !run.out.contains("<img"),
        "escaped"
    );
}

#[test]
fn a_page_has_its_limits() {
    let mut world = String::new();
    for at in 0..301 {
        world +=
            &format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{at}, namespace: x}}\n");
    }
    let run = support::netpol_with(&["list", "-f", "-", "-o", "html"], &world);
    assert_eq!(run.code, 2);
    assert!(run.notes.contains("there are 301 pods; a page can tell of 300"), "{}", run.notes);
}
