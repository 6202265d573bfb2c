// SPDX-License-Identifier: MPL-2.0

//! The whole program: its file changes, systemd listens, and its secrets stay secret.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use vlmcaption_watch::web::routes::ROUTES;

use crate::client::{Client, rewrite, server};
use crate::out::{Listener, Receiver4Hooks, broker, until};
use crate::site::{CANARY, Running, Site, free_port};

#[test]
fn a_changed_file_changes_what_changed_and_a_bad_one_nothing() {
    let port = free_port();
    let cameras = "[[camera]]\nid = \"bars\"\nurl = \"test:smpte\"\n[[camera]]\nid = \"ball\"\nurl = \"test:ball\"\n";
    let site = Site::new(&(server(port) + cameras));
    let mut running = Running::start(site.command(&["run"]));
    let client = Client::first(&mut running, port);
    until("both are live", || {
        ["bars", "ball"]
            .iter()
            .all(|id| client.camera(id)["state"] == "live")
    });
    let since = client.camera("bars")["since"].clone();
    // Another prompt, an alarm and a mask: while it plays. The other camera goes, a third comes.
    rewrite(&site, |text| {
        text.replace(
            "id = \"bars\"\n",
            "id = \"bars\"\nname = \"Bars\"\nmasks = [{ x = 0.0, y = 0.0, width = 0.5, height = 0.5 }]\n",
        )
        .replace(
            "[[camera]]\nid = \"ball\"\nurl = \"test:ball\"\n",
            "[[camera.alarm]]\nid = \"bars\"\nquestion = \"Are there color bars?\"\n[[camera]]\nid = \"snow\"\nurl = \"test:snow\"\n",
        )
    });
    running.wait_for("is read anew");
    until("the third is live", || {
        client.camera("snow")["state"] == "live"
    });
    assert_eq!(client.ask("GET", "/api/v1/cameras/ball", "").0, 404);
    until("the new question is answered", || {
        client.camera("bars")["alarms"][0]["probability"].is_number()
    });
    let bars = client.camera("bars");
    assert_eq!(
        (&bars["since"], &bars["name"], &bars["masked"]),
        (&since, &json!("Bars"), &json!(true))
    );
    // A mistake: the page says which, and the cameras go on. SIGHUP reads it too.
    rewrite(&site, |text| text.replace("window = 2", "windw = 2"));
    let words = |client: &Client| client.json("/api/v1/health")["words"].to_string();
    until("the page says so", || {
        words(&client).contains("did you mean `window`")
    });
    assert_eq!(client.camera("bars")["state"], "live");
    rewrite(&site, |text| text.replace("windw = 2", "window = 2"));
    let pid = running.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-HUP", &pid])
            .status()
            .unwrap()
            .success()
    );
    until("all is well again", || words(&client) == "[]");
    running.terminate();
}

#[test]
fn systemd_hears_that_it_is_ready_lives_reloads_and_ends() {
    let site = Site::new("[[camera]]\nid = \"bars\"\nurl = \"test:smpte\"\n");
    let socket = site.folder.path().join("notify");
    let listener = UnixDatagram::bind(&socket).unwrap();
    listener
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut command = site.command(&["run"]);
    command
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "4000000");
    let mut running = Running::start(command);
    let hear = |wanted: &str| {
        let mut buffer = [0; 256];
        loop {
            let n = listener
                .recv(&mut buffer)
                .unwrap_or_else(|_| panic!("no {wanted}"));
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if text.contains(wanted) {
                return;
            }
        }
    };
    hear("READY=1");
    (0..3).for_each(|_| hear("WATCHDOG=1"));
    let pid = running.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-HUP", &pid])
            .status()
            .unwrap()
            .success()
    );
    hear("RELOADING=1\nMONOTONIC_USEC=");
    hear("READY=1");
    running.terminate();
    hear("STOPPING=1");
}

/// All files below a folder.
fn walk(folder: &Path, each: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            walk(&entry.path(), each);
        } else {
            each(&entry.path());
        }
    }
}

fn has(bytes: &[u8], word: &str) -> bool {
    bytes
        .windows(word.len())
        .any(|part| part == word.as_bytes())
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, in its order")]
fn no_secret_is_in_an_answer_a_log_a_message_a_number_or_a_file() {
    let (port, mqtt) = (free_port(), free_port());
    let elsewhere = tempfile::tempdir().unwrap();
    let Some(_broker) = broker(mqtt, elsewhere.path()) else {
        println!("NOT RUN: there is no mosquitto");
        return;
    };
    let mut listener = Listener::start(mqtt);
    let hook = Receiver4Hooks::start();
    let secrets = elsewhere.path();
    std::fs::write(secrets.join("mqtt"), crate::out::PASSWORD).unwrap();
    std::fs::write(secrets.join("hook"), "canary-of-the-hook-1234").unwrap();
    std::fs::write(secrets.join("proxy"), "canary-of-the-proxy-1234").unwrap();
    let at = secrets.display();
    let text = format!(
        "{}trusted-proxies = [\"127.0.0.9\"]\nauth = {{ proxy-header = \"X-User\", secret-file = \"{at}/proxy\" }}\n\
         [mqtt]\nurl = \"mqtt://127.0.0.1:{mqtt}\"\nuser = \"watch\"\npassword-file = \"{at}/mqtt\"\ndiscovery = true\ncommands = true\n\
         [[webhook]]\nname = \"ops\"\nurl = \"http://127.0.0.1:{}/?token=canary-in-the-url\"\nsecret-file = \"{at}/hook\"\n\
         [[camera]]\nid = \"ball\"\nurl = \"test:ball\"\n[[camera.alarm]]\nid = \"ball\"\nquestion = \"Is there a white circle?\"\n\
         [[camera]]\nid = \"far\"\nurl = \"rtsp://u:canary-typed@127.0.0.1:1/s?password=canary-in-query\"\n\
         [[camera]]\nid = \"near\"\nurl = \"rtsp://127.0.0.1:1/s\"\nuser = \"u\"\npassword-env = \"WATCH_CANARY\"\n",
        server(port),
        hook.port
    );
    let site = Site::new(&text);
    let mut command = site.command(&["run", "--verbose"]);
    command.arg("--print");
    let mut running = Running::start(command);
    let client = Client::first(&mut running, port);
    let words = ["canary", CANARY];
    let (head, body) = hook.came.recv_timeout(Duration::from_secs(60)).unwrap();
    // The receiver's own address is his to know.
    let head = head.replace("canary-in-the-url", "");
    assert!(
        words
            .iter()
            .all(|word| !head.contains(word) && !body.contains(word)),
        "{head}{body}"
    );
    listener.wait("vlmwatch/events", |_| true);
    until("a caption is kept", || {
        client.json("/api/v1/captions")["captions"][0].is_object()
    });
    let id = client.json("/api/v1/captions")["captions"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for camera in ["ball", "far", "near"] {
        for (method, path, _) in ROUTES
            .iter()
            .filter(|(_, path, _)| !path.ends_with("/logout"))
        {
            let path = path.replace("{camera}", camera).replace("{id}", &id);
            // A stream is the same whatever is sent.
            let bodies = if path.ends_with("/stream") { 1 } else { 3 };
            for body in ["{}", "{\"text\": \"who?\"}", "nonsense"]
                .into_iter()
                .take(bodies)
            {
                let (status, head, body) = client.ask(method, &path, body);
                assert_ne!(status, 500, "{method} {path}");
                assert!(
                    words
                        .iter()
                        .all(|word| !has(head.as_bytes(), word) && !has(&body, word)),
                    "{method} {path}"
                );
            }
        }
    }
    running.terminate();
    listener.wait("vlmwatch/available", |payload| payload == "stopped");
    let said = listener
        .seen
        .iter()
        .map(|(topic, payload)| format!("{topic} {payload}\n"))
        .collect::<String>();
    let log = running.seen.join("\n");
    for (what, text) in [("mqtt", &said), ("log", &log)] {
        assert!(
            words.iter().all(|word| !text.contains(word)),
            "{what}: {text}"
        );
    }
    assert!(log.contains("camera far") && said.contains("alarm/ball"));
    let mut n_files = 0;
    walk(&site.store(), &mut |path| {
        n_files += 1;
        let bytes = std::fs::read(path).unwrap();
        assert!(
            words.iter().all(|word| !has(&bytes, word)),
            "{}",
            path.display()
        );
    });
    assert!(n_files >= 5, "{n_files}");
    let doctor = site.command(&["doctor"]).output().unwrap();
    assert!(
        words
            .iter()
            .all(|word| !has(&doctor.stdout, word) && !has(&doctor.stderr, word))
    );
}
