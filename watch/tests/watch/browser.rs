// SPDX-License-Identifier: MPL-2.0

//! The page in a browser: Debian's Chromium, told what to do over WebDriver by a client of our own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};

use crate::site::{Running, Site};

const PATIENCE: Duration = Duration::from_secs(60);
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// Starts one; nothing where there is none.
    pub fn start() -> Option<Self> {
        Self::that_speaks("en")
    }

    /// Starts one whose user wants this language.
    pub fn that_speaks(language: &str) -> Option<Self> {
        let port = crate::site::free_port();
        let mut command = Command::new("chromedriver");
        command
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let driver = command.spawn().ok()?;
        let mut browser = Self {
            driver,
            port,
            session: String::new(),
        };
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begin.elapsed() < PATIENCE, "chromedriver does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            &format!("--lang={language}"),
            &format!("--accept-lang={language}"),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ];
        let wish = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let answer = browser.call("POST", "/session", &wish);
        browser.session = answer["sessionId"].as_str()?.to_owned();
        Some(browser)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "GET" {
            String::new()
        } else {
            body.to_string()
        };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // chromedriver keeps the connection, whatever it is asked for: its answer ends by its length.
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let answer: Value = serde_json::from_slice(&body)
            .unwrap_or_else(|_| panic!("{path}: {}", String::from_utf8_lossy(&body)));
        answer["value"].clone()
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}{path}", self.session), body)
    }

    pub fn open(&self, address: &str) {
        self.post("/url", &json!({"url": address}));
    }

    /// What an expression of the page is worth.
    pub fn script(&self, expression: &str) -> Value {
        self.post(
            "/execute/sync",
            &json!({"script": format!("return {expression}"), "args": []}),
        )
    }

    /// Waits until an expression is true.
    pub fn until(&self, expression: &str) {
        let begin = Instant::now();
        while self.script(expression) != json!(true) {
            let page = self.script("document.body.innerText");
            assert!(begin.elapsed() < PATIENCE, "not true: {expression}\n{page}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes the first user with the link that was printed last.
    pub fn become_the_first_user(&self, running: &Running) {
        let line = running.seen.last().unwrap();
        let mut words = line.split_whitespace();
        let address = words.find(|word| word.starts_with("http://")).unwrap();
        self.look(1280, 800, "light");
        self.open(address);
        self.until("document.querySelector('#name') !== null");
        self.type_into("#name", "ann");
        self.type_into("#password", "long enough\u{e007}");
    }

    /// Clicks on what a selector finds first.
    pub fn click(&self, selector: &str) {
        self.until(&format!(
            "document.querySelector({}) !== null",
            json!(selector)
        ));
        self.script(&format!(
            "document.querySelector({}).click()",
            json!(selector)
        ));
    }

    pub fn type_into(&self, selector: &str, text: &str) {
        let found = self.post(
            "/element",
            &json!({"using": "css selector", "value": selector}),
        );
        let id = found[ELEMENT]
            .as_str()
            .unwrap_or_else(|| panic!("no {selector}: {found}"))
            .to_owned();
        self.post(&format!("/element/{id}/value"), &json!({"text": text}));
    }

    /// Presses keys wherever the focus is.
    pub fn keys(&self, keys: &str) {
        let strokes = keys.chars().flat_map(|key| {
            let key = key.to_string();
            [
                json!({"type": "keyDown", "value": key}),
                json!({"type": "keyUp", "value": key}),
            ]
        });
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": strokes.collect::<Vec<_>>()}]});
        self.post("/actions", &actions);
    }

    fn devtools(&self, command: &str, parameters: &Value) {
        self.post(
            "/goog/cdp/execute",
            &json!({"cmd": command, "params": parameters}),
        );
    }

    pub fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &media);
    }

    /// A picture for people, where `WATCH_SCREENSHOTS` names a folder.
    pub fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("WATCH_SCREENSHOTS") else {
            return;
        };
        let asked =
            json!({"cmd": "Page.captureScreenshot", "params": {"format": "webp", "quality": 70}});
        let answer = self.post("/goog/cdp/execute", &asked);
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(answer["data"].as_str().unwrap())
            .unwrap();
        std::fs::write(
            std::path::Path::new(&folder).join(format!("{name}.webp")),
            bytes,
        )
        .unwrap();
    }

    /// What the browser found fault with.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({"type": "browser"}));
        let lines = log.as_array().cloned().unwrap_or_default();
        let text = |line: &Value| line["message"].as_str().unwrap_or_default().to_owned();
        // Before the log-in the page asks whether there is a session; the test looks at the timeline's pixels.
        lines
            .iter()
            .map(text)
            .filter(|line| !line.contains("api/v1/me") && !line.contains("willReadFrequently"))
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let path = format!("/session/{}", self.session);
            // A test that failed must not fail once more here.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.call("DELETE", &path, &json!({}))
            }));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// What a sign in front of a camera may say.
pub const HOSTILE: &str =
    "<script>document.title='owned'</script><img src=x onerror=alert(1)> A man.";

#[test]
fn somebody_new_makes_a_user_sees_a_camera_asks_it_and_finds_what_it_said() {
    let Some(browser) = Browser::start() else {
        println!(
            "NOT RUN: there is no chromedriver; on Debian `apt-get install chromium-driver` brings it"
        );
        return;
    };
    let site = Site::new(
        "[server]\nlisten = \"127.0.0.1:0\"\n[[camera]]\nid = \"door\"\nname = \"Door & <b>yard</b>\"\nurl = \"test:ball\"\n\
         [[camera.alarm]]\nid = \"open\"\nquestion = \"Is the door open?\"\non = 0.8\noff = 0.3\n",
    );
    site.mock(&json!([{"text": "Yes"}, {"text": HOSTILE}]));
    let mut running = Running::start(site.command(&["run"]));
    running.wait_for("to make the first user");
    browser.become_the_first_user(&running);
    browser.until("document.querySelector('.tile h2')?.textContent === 'Door & <b>yard</b>'");
    browser.until("document.querySelector('.tile .state').textContent === '● live'");
    browser.until("document.querySelector('.tile img')?.naturalWidth > 0");
    let shown = format!(
        "document.querySelector('.tile .caption').textContent === {}",
        json!(HOSTILE)
    );
    browser.until(&shown);
    browser.until("document.querySelector('#open-alarms').textContent === '1'");
    assert_eq!(
        browser.script("document.title"),
        json!("Live – vlmcaption watch")
    );
    for (width, scheme) in [(360, "dark"), (360, "light"), (1280, "dark")] {
        browser.look(width, 800, scheme);
        browser.until("document.documentElement.scrollWidth <= innerWidth");
        browser.picture(&format!("live-{width}-{scheme}"));
    }
    camera_page(&browser);
    search_and_alarms(&browser);
    // Everything that can be clicked is large enough for a finger, or within text.
    browser.look(360, 800, "light");
    let small = "[...document.querySelectorAll('button,header nav a,input')].filter(e => e.offsetParent && e.offsetHeight < 44).length";
    assert_eq!(browser.script(small), json!(0));
    let unnamed = "[...document.querySelectorAll('input')].filter(e => !e.labels.length).length + [...document.querySelectorAll('img:not([alt])')].length";
    assert_eq!(browser.script(unnamed), json!(0));
    assert_eq!(browser.complaints(), Vec::<String>::new());
    running.terminate();
    browser.until("!document.getElementById('banner').hidden");
}

fn camera_page(browser: &Browser) {
    browser.keys("\u{e00c}");
    browser.until("location.hash === '' || location.hash === '#/'");
    browser.keys("1");
    browser.until("location.hash === '#/camera/door' && document.querySelector('h1').textContent.startsWith('Door')");
    browser.until("document.querySelector('meter')?.value === 1");
    browser.until("document.querySelector('.large').textContent.startsWith('<script>')");
    browser.type_into("#question", "Who is there?\u{e007}");
    browser.until("/A man|Yes/.test(document.querySelector('form [role=status]').textContent)");
    browser.look(360, 800, "dark");
    browser.until("document.documentElement.scrollWidth <= innerWidth");
    browser.picture("camera-360-dark");
    browser.look(1280, 800, "light");
    browser.until("document.querySelector('section .list img')?.naturalWidth > 0");
    browser.picture("camera-1280-light");
}

fn search_and_alarms(browser: &Browser) {
    browser.script("document.activeElement.blur()");
    browser.keys("/");
    browser.until("document.activeElement?.id === 'query'");
    browser.keys("man\u{e007}");
    browser.until("document.querySelector('.list mark')?.textContent === 'man'");
    browser.picture("search-1280-light");
    browser.script("document.activeElement.blur()");
    browser.keys("a");
    browser.until("location.hash === '#/alarms' && document.querySelector('.list li')?.innerText.includes('and still')");
    browser.look(360, 800, "light");
    browser.until("document.documentElement.scrollWidth <= innerWidth");
    browser.picture("alarms-360-light");
}
