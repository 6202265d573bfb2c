// SPDX-License-Identifier: MPL-2.0

//! How the page is reached and by whom: TLS, a proxy under a path, tokens, admins, sessions, metrics.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use vlmcaption_watch::accounts::Accounts;
use vlmcaption_watch::store::files::Layout;
use vlmcaption_watch::time::Millis;

use crate::out::Ends;
use crate::site::free_port;
use crate::web::{Fixture, PASSWORD};

/// Sends a request and gives its status, its head and its body.
fn ask(
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: cams.example\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    (status, head.to_owned(), body.to_owned())
}

/// nginx in front of it, on loopback; nothing where there is none.
fn nginx(port: u16, folder: &std::path::Path, locations: &str) -> Option<Ends> {
    let file = folder.join("nginx.conf");
    let at = folder.display();
    let text = format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log;\n\
         events {{}}\nhttp {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p;\n\
         fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
         server {{ listen 127.0.0.1:{port}; {locations} }} }}\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut nginx = Command::new("nginx");
    nginx.arg("-p").arg(folder).arg("-c").arg(&file);
    Ends::listening(&mut nginx, port)
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, in its order")]
fn behind_nginx_under_a_path_everything_is_reached_and_addresses_are_the_browsers() {
    let fixture = Fixture::with("[server]\npath = \"/watch\"\ntrusted-proxies = [\"127.0.0.1\"]\n");
    let (to, port, folder) = (
        fixture.server.address,
        free_port(),
        tempfile::tempdir().unwrap(),
    );
    let forward = "proxy_set_header X-Forwarded-For $http_x_test_address; proxy_set_header X-Forwarded-Proto https;\n\
                   proxy_set_header X-Forwarded-Host $http_host; proxy_buffering off;";
    let locations = format!(
        "location /watch {{ proxy_pass http://{to}; {forward} }}\n\
         location /cut/ {{ proxy_pass http://{to}/; {forward} }}"
    );
    let Some(_nginx) = nginx(port, folder.path(), &locations) else {
        println!("NOT RUN: there is no nginx");
        return;
    };
    let at = format!("127.0.0.1:{port}");
    let (status, head, _) = ask(&at, "GET", "/watch", "", "");
    assert!(status == 308 && head.contains("/watch/"), "{head}");
    let (status, _, page) = ask(&at, "GET", "/watch/", "", "");
    assert_eq!(status, 200);
    // All that the page asks for is beside it.
    for quoted in page
        .split('"')
        .filter(|text| text.contains(".js") || text.contains(".css") || text.contains(".svg"))
    {
        assert!(!quoted.starts_with('/'), "{quoted}");
        assert_eq!(
            ask(&at, "GET", &format!("/watch/{quoted}"), "", "").0,
            200,
            "{quoted}"
        );
    }
    let from = "X-Test-Address: 10.0.0.7\r\nOrigin: https://cams.example\r\nSec-Fetch-Site: same-origin\r\n";
    let login = json!({"name": "ann", "password": PASSWORD}).to_string();
    let (status, head, _) = ask(&at, "POST", "/watch/api/v1/login", from, &login);
    assert_eq!(status, 200, "{head}");
    let cookie = head
        .lines()
        .find_map(|line| {
            line.strip_prefix("Set-Cookie: ")
                .or(line.strip_prefix("set-cookie: "))
        })
        .unwrap();
    for word in [
        "__Secure-",
        "Path=/watch/;",
        "Secure",
        "HttpOnly",
        "SameSite=Strict",
    ] {
        assert!(cookie.contains(word), "{cookie}");
    }
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    for path in ["/watch/api/v1/cameras", "/cut/api/v1/cameras"] {
        let (status, _, body) = ask(&at, "GET", path, &cookie, "");
        assert!(status == 200 && body.contains("front"), "{path}: {status}");
    }
    // Without TLS of the browser's that cookie is not believed, by whatever name.
    let (_, _, sessions) = ask(&at, "GET", "/watch/api/v1/sessions", &cookie, "");
    let sessions: Value = serde_json::from_str(&sessions).unwrap();
    assert_eq!(sessions["sessions"][0]["address"], "10.0.0.7");
    // Another site's page is another site's behind a proxy too.
    let foreign = format!("{cookie}Origin: https://evil.example\r\n");
    assert_eq!(
        ask(&at, "POST", "/watch/api/v1/logout", &foreign, "{}").0,
        403
    );
    // Guesses count for who makes them, not for the proxy.
    let guess = json!({"name": "nobody", "password": "wrong password"}).to_string();
    for _ in 0..5 {
        assert_eq!(
            ask(
                &at,
                "POST",
                "/watch/api/v1/login",
                "X-Test-Address: 10.6.6.6\r\n",
                &guess
            )
            .0,
            400
        );
    }
    assert_eq!(
        ask(
            &at,
            "POST",
            "/watch/api/v1/login",
            "X-Test-Address: 10.6.6.6\r\n",
            &login
        )
        .0,
        429
    );
    assert_eq!(
        ask(
            &at,
            "POST",
            "/watch/api/v1/login",
            "X-Test-Address: 10.0.0.8\r\n",
            &login
        )
        .0,
        200
    );
    // Numbers are not for whoever comes by the proxy.
    assert_eq!(ask(&at, "GET", "/watch/metrics", "", "").0, 401);
    assert_eq!(ask(&at, "GET", "/cut/metrics", "", "").0, 401);
}

#[test]
fn a_proxy_that_has_people_log_in_is_believed_with_its_secret_alone() {
    let keys = "[server]\ntrusted-proxies = [\"127.0.0.1\"]\nauth = { proxy-header = \"X-Remote-User\", secret-env = \"PATH\" }\n";
    let fixture = Fixture::with(keys);
    let secret = std::env::var("PATH").unwrap();
    let get = |headers: &str| fixture.get("/api/v1/me", headers);
    let right = format!("X-Remote-User: bob\r\nX-Proxy-Secret: {secret}\r\n");
    let answer = get(&right);
    assert_eq!(
        (answer.status, answer.json()["name"].as_str()),
        (200, Some("bob"))
    );
    assert_eq!(fixture.get("/api/v1/cameras/back", &right).status, 404);
    for wrong in [
        "X-Remote-User: bob\r\n".to_owned(),
        "X-Remote-User: bob\r\nX-Proxy-Secret: no\r\n".to_owned(),
        format!("X-Remote-User: eve\r\nX-Proxy-Secret: {secret}\r\n"),
    ] {
        assert_eq!(
            get(&wrong).status,
            401,
            "{}",
            wrong.split(':').next().unwrap()
        );
    }
}

/// A certificate for localhost in files, and what trusts it.
fn certificate(folder: &std::path::Path) -> ureq::Agent {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("chain.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let root = ureq::tls::Certificate::from_der(made.cert.der()).to_owned();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::from(vec![root]))
        .unversioned_rustls_crypto_provider(provider);
    let config = ureq::Agent::config_builder()
        .tls_config(tls.build())
        .http_status_as_error(false);
    config.build().into()
}

#[test]
fn tls_is_served_from_files_and_a_renewed_certificate_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(folder.path());
    let at = folder.path().display();
    let keys =
        format!("[server]\ntls = {{ certificate = \"{at}/chain.pem\", key = \"{at}/key.pem\" }}\n");
    let fixture = Fixture::with(&keys);
    let url = |path: &str| format!("https://localhost:{}{path}", fixture.server.address.port());
    assert_eq!(first.get(url("/health/live")).call().unwrap().status(), 200);
    let login = json!({"name": "ann", "password": PASSWORD}).to_string();
    let answer = first
        .post(url("/api/v1/login"))
        .header("content-type", "application/json")
        .send(&login)
        .unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-") && cookie.contains("Secure") && cookie.contains("Path=/;"),
        "{cookie}"
    );
    let value = cookie.split(';').next().unwrap();
    let me = first
        .get(url("/api/v1/me"))
        .header("cookie", value)
        .call()
        .unwrap();
    assert_eq!(me.status(), 200);
    // A cookie of that name without the prefix could have been set by anybody on the way.
    let bare = first
        .get(url("/api/v1/me"))
        .header("cookie", value.trim_start_matches("__Host-"))
        .call()
        .unwrap();
    assert_eq!(bare.status(), 401);
    let second = certificate(folder.path());
    assert!(
        second.get(url("/health/live")).call().is_err(),
        "not renewed yet"
    );
    fixture.server.renew(&fixture.hub.config().door).unwrap();
    assert_eq!(
        second.get(url("/health/live")).call().unwrap().status(),
        200
    );
    // A key that does not fit changes nothing, and is said in words.
    std::fs::write(folder.path().join("key.pem"), "nonsense").unwrap();
    let reason = fixture
        .server
        .renew(&fixture.hub.config().door)
        .unwrap_err();
    assert!(reason.contains("key.pem"), "{reason}");
    assert_eq!(
        second.get(url("/health/live")).call().unwrap().status(),
        200
    );
}

#[test]
fn what_is_an_admin_s_is_an_admin_s_and_sessions_are_ended_from_elsewhere() {
    let fixture = Fixture::new();
    let (root, ann, bob) = (
        fixture.log_in("root"),
        fixture.log_in("ann"),
        fixture.log_in("bob"),
    );
    for (method, path, body) in [
        ("GET", "/api/v1/tokens", ""),
        ("POST", "/api/v1/tokens", r#"{"name": "x"}"#),
        ("DELETE", "/api/v1/tokens/x", ""),
    ] {
        assert_eq!(
            fixture.send(method, path, &ann, body).status,
            403,
            "{method} {path}"
        );
        assert_ne!(
            fixture.send(method, path, &root, body).status,
            403,
            "{method} {path}"
        );
    }
    let own = fixture.get("/api/v1/sessions", &ann).json();
    let all = fixture.get("/api/v1/sessions", &root).json();
    assert_eq!(
        (
            own["sessions"].as_array().unwrap().len(),
            all["sessions"].as_array().unwrap().len()
        ),
        (1, 3)
    );
    let path = format!(
        "/api/v1/sessions/{}",
        own["sessions"][0]["id"].as_str().unwrap()
    );
    // Another's is as if it were not there, and another site ends none.
    let (foreign, nowhere) = (
        fixture.send("DELETE", &path, &bob, ""),
        fixture.send("DELETE", "/api/v1/sessions/77", &bob, ""),
    );
    assert_eq!((foreign.status, &foreign.body), (404, &nowhere.body));
    let other_site = format!("{root}Origin: http://evil.example\r\n");
    assert_eq!(fixture.send("DELETE", &path, &other_site, "").status, 403);
    assert_eq!(fixture.get("/api/v1/me", &ann).status, 200);
    assert_eq!(fixture.send("DELETE", &path, &root, "").status, 200);
    assert_eq!(fixture.get("/api/v1/me", &ann).status, 401);
}

#[test]
fn a_token_sees_its_cameras_and_one_for_metrics_nothing_else() {
    let fixture = Fixture::new();
    let root = fixture.log_in("root");
    let make = |body: &str| {
        let answer = fixture.send("POST", "/api/v1/tokens", &root, body);
        assert_eq!(answer.status, 200, "{}", answer.head);
        format!(
            "Authorization: Bearer {}\r\n",
            answer.json()["token"].as_str().unwrap()
        )
    };
    let front = make(r#"{"name": "front", "cameras": ["front"]}"#);
    let metrics = make(r#"{"name": "prometheus", "metrics": true}"#);
    assert_eq!(fixture.get("/api/v1/cameras/front", &front).status, 200);
    assert_eq!(fixture.get("/api/v1/cameras/back", &front).status, 404);
    assert_eq!(fixture.get("/api/v1/tokens", &front).status, 403);
    for path in ["/api/v1/cameras", "/api/v1/me", "/api/v1/stream"] {
        assert_eq!(fixture.get(path, &metrics).status, 401, "{path}");
    }
    // From this machine by no proxy, with a token, and else not.
    let text = |headers: &str| {
        let answer = fixture.get("/metrics", headers);
        (answer.status, String::from_utf8(answer.body).unwrap())
    };
    assert_eq!(text("X-Forwarded-For: 10.0.0.7\r\n").0, 401);
    assert_eq!(text("Authorization: Bearer vlw_guessed\r\n").0, 401);
    assert_eq!(text(&metrics).0, 200);
    let (status, of_front) = text(&front);
    assert!(
        status == 200
            && of_front.contains("camera=\"front\"")
            && !of_front.contains("camera=\"back\"")
    );
    let (status, all) = text("");
    assert_eq!(status, 200);
    for line in [
        "vlmwatch_camera_live{camera=\"front\"} 1",
        "vlmwatch_camera_captions_total{camera=\"back\"} 1",
        "vlmwatch_alarm_open{camera=\"back\",alarm=\"dog\"} 1",
        "vlmwatch_store_healthy 1",
    ] {
        assert!(all.lines().any(|found| found == line), "{line} in\n{all}");
    }
    assert_eq!(
        fixture
            .send("DELETE", "/api/v1/tokens/front", &root, "")
            .status,
        200
    );
    assert_eq!(fixture.get("/api/v1/cameras/front", &front).status, 401);
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        println!("NOT RUN: there is no promtool");
        return;
    };
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(all.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn health_tells_an_admin_in_words_and_a_viewer_what_is_his() {
    let fixture = Fixture::with(
        "[[webhook]]\nname = \"ops\"\nurl = \"http://127.0.0.1:1/canary-path\"\nsecret-env = \"PATH\"\n",
    );
    let (root, bob) = (fixture.log_in("root"), fixture.log_in("bob"));
    let well = fixture.get("/api/v1/health", &root).json();
    assert_eq!((&well["well"], &well["words"]), (&json!(true), &json!([])));
    assert!(
        well["versions"]["sqlite"]
            .as_str()
            .unwrap()
            .starts_with("3.")
    );
    assert_eq!(well["cameras"].as_array().unwrap().len(), 2);
    let config = fixture.hub.config();
    let out = vlmcaption_watch::out::Out::start(&config, &fixture.hub, &Arc::default()).unwrap();
    fixture.hub.health.set_out(out.standings.clone());
    out.standings[0].ill("http://127.0.0.1:1 is not reached: refused", Millis::now());
    fixture.hub.health.set_file(Some(
        "line 3: unknown key `promt`; did you mean `prompt`?".into(),
    ));
    fixture.hub.heard(
        "back",
        vlmcaption_watch::camera::supervisor::Heard::Phase(
            vlmcaption_watch::heard::Phase::Offline,
            "no connection".into(),
        ),
    );
    let clock = "The clock of this machine was set back by 2 h.";
    fixture.hub.health.set_clock(clock.into());
    let ill = fixture.get("/api/v1/health", &root).json();
    let words = ill["words"].to_string();
    for part in [
        "webhook:ops does not take",
        "did you mean `prompt`",
        clock,
        "The camera back is offline: no connection",
    ] {
        assert!(words.contains(part), "{words}");
    }
    assert!(!ill.to_string().contains("canary"), "{ill}");
    let of_bob = fixture.get("/api/v1/health", &bob).json();
    assert_eq!(
        (&of_bob["words"], &of_bob["out"], &of_bob["disk"]),
        (&json!([clock]), &json!([]), &Value::Null)
    );
    out.end();
}

#[test]
fn whoever_takes_30_s_for_the_head_of_a_request_is_cut_off() {
    let fixture = Fixture::new();
    let mut stream = fixture.connect();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        .unwrap();
    let begin = Instant::now();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let passed = begin.elapsed();
    assert!((20..45).contains(&passed.as_secs()), "{passed:?}");
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
}

#[test]
fn an_older_users_file_is_brought_up_to_date_with_its_users() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    layout.make().unwrap();
    let old = include_str!("users-layout-1.sql");
    vlmcaption_watch::store::db::open(
        &layout.users(),
        vlmcaption_watch::store::db::Durability::Full,
        &[old],
    )
    .unwrap();
    let accounts = Accounts::open(&layout).unwrap();
    assert_eq!(accounts.users().unwrap()[0].name, "ann");
    assert_eq!(accounts.sessions(None, Millis(10)).unwrap()[0].name, "ann");
    accounts.add_token("new", None, false, Millis(10)).unwrap();
}
