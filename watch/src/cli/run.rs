// SPDX-License-Identifier: MPL-2.0

//! `run`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::accounts::Accounts;
use crate::clock::Steps;
use crate::config::{Config, Process};
use crate::hub::{Hub, What};
use crate::log;
use crate::store::files::Layout;
use crate::systemd::Systemd;
use crate::time::Millis;
use crate::watching::Watching;
use crate::web::Server;
use crate::web::site::Site;

use super::common::{Common, plugin, print};

/// Watch the cameras until SIGTERM or Ctrl-C
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    common: Common,
    /// Write each caption to the output as well
    #[arg(long)]
    print: bool,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u32>,
}

impl Run {
    pub fn run(self) -> Result<(), String> {
        let config = self.common.load()?;
        self.common.gstreamer()?;
        config.advice.iter().for_each(log::warning);
        if config.cameras.is_empty() {
            return Err(format!(
                "{} names no camera: there is nothing to watch",
                self.common.config.display()
            ));
        }
        let systemd = Systemd::of_environment();
        let watching = Watching::start(&config)?;
        watching.hub.health.set_plugin(plugin());
        let server = serve(&config, &watching)?;
        log::info(format!(
            "watching {} cameras; captions go to {}",
            config.cameras.len(),
            config.storage.path.display()
        ));
        if self.print {
            print_captions(&watching.hub);
        }
        let file = Some(self.common.config);
        Loop {
            watching,
            server,
            systemd,
            file,
        }
        .run(self.seconds)
    }
}

/// Watch two test pictures with the built-in model and serve the page on loopback: nothing is kept
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// The address of the page
    #[arg(long, default_value = "127.0.0.1:8470")]
    listen: std::net::SocketAddr,
    /// The plugin's file, if GStreamer does not find it by itself
    #[arg(long, value_name = "FILE")]
    plugin: Option<std::path::PathBuf>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u32>,
}

/// Two pictures that the built-in model knows, and a question that is sometimes answered with yes.
const DEMO: &str = r#"
[defaults]
window = 2
[[camera]]
id = "bars"
name = "Test bars"
url = "test:smpte"
[[camera]]
id = "ball"
name = "Moving ball"
url = "test:ball"
  [[camera.alarm]]
  id = "ball"
  question = "Is there a white circle?"
"#;

impl Demo {
    pub fn run(self) -> Result<(), String> {
        let mut config = Config::parse(DEMO, &Process)?;
        let folder =
            std::env::temp_dir().join(format!("vlmcaption-watch-demo-{}", std::process::id()));
        config.storage.path = folder.clone();
        config.storage.keep_free = 0;
        config.listen = Some(self.listen);
        if !self.listen.ip().is_loopback() {
            return Err("the demo is for this machine alone: choose a loopback address".into());
        }
        super::common::gstreamer(self.plugin.as_deref())?;
        let watching = Watching::start(&config)?;
        watching.hub.health.set_plugin(plugin());
        let outcome = match serve(&config, &watching) {
            Ok(server) => Loop {
                watching,
                server,
                systemd: Systemd::of_environment(),
                file: None,
            }
            .run(self.seconds),
            Err(reason) => {
                watching.end();
                Err(reason)
            }
        };
        // A folder of its own, made above: what is in it is this demo's.
        let _ = std::fs::remove_dir_all(&folder);
        outcome
    }
}

/// Serves the page; nobody but this machine sees it while there is no user.
fn serve(config: &Config, watching: &Watching) -> Result<Option<Server>, String> {
    let Some(listen) = config.listen else {
        return Ok(None);
    };
    let layout = Layout::new(&config.storage.path);
    let say = |error: crate::store::Error| error.to_string();
    let accounts = Accounts::open(&layout).map_err(say)?;
    let link = accounts.link(Millis::now()).map_err(say)?;
    if link.is_some() && !listen.ip().is_loopback() {
        return Err(format!(
            "the page is not served on {listen} while there is no user: make one first, `vlmcaption-watch user add NAME --admin`"
        ));
    }
    let site = Site::new(watching.hub.clone(), watching.store(), &layout).map_err(say)?;
    let server = Server::start(listen, site)?;
    let address = server.address;
    let scheme = if config.door.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let path = &config.door.path;
    match link {
        // For whoever started it, and in no log: who has the link makes the first user.
        Some(link) => print(&format!(
            "Open {scheme}://{address}{path}#link={link} to make the first user; the link works once, for a day"
        ))?,
        None => print(&format!("The page is at {scheme}://{address}{path}"))?,
    }
    Ok(Some(server))
}

/// Writes each caption as it comes, on a thread of its own: whoever reads slowly holds nobody up.
fn print_captions(hub: &Arc<Hub>) {
    let (sender, receiver) = std::sync::mpsc::sync_channel::<String>(64);
    let weak = Arc::downgrade(hub);
    hub.listen(Box::new(move |notice| {
        if notice.what != What::Caption {
            return;
        }
        let seen = weak.upgrade().and_then(|hub| hub.camera(&notice.camera));
        if let Some((camera, said)) = seen.and_then(|seen| Some((seen.id, seen.caption?))) {
            let _ = sender.try_send(format!("{}  {camera}  {}", said.start.local(), said.text));
        }
    }));
    std::thread::spawn(move || receiver.iter().all(|line| print(&line).is_ok()));
}

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What is done until the end is asked for.
struct Loop {
    watching: Watching,
    server: Option<Server>,
    systemd: Systemd,
    /// The file, if there is one that may change.
    file: Option<PathBuf>,
}

impl Loop {
    /// Goes on until a signal asks to end, or the time is over. A second signal ends at once.
    fn run(mut self, seconds: Option<u32>) -> Result<(), String> {
        let asked = Arc::new(AtomicBool::new(false));
        let again = Arc::new(AtomicBool::new(false));
        let fault = |error: std::io::Error| format!("signals cannot be listened to: {error}");
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, asked.clone())
                .map_err(fault)?;
            signal_hook::flag::register(signal, asked.clone()).map_err(fault)?;
        }
        signal_hook::flag::register(SIGHUP, again.clone()).map_err(fault)?;
        self.systemd.say("READY=1");
        let begin = Instant::now();
        let over = || {
            seconds.is_some_and(|seconds| begin.elapsed() >= Duration::from_secs(seconds.into()))
        };
        let mut stamp = self.stamp();
        let mut clock = Steps::new(Millis::now(), begin.elapsed());
        let (mut looked, mut fed) = (Instant::now(), None::<Instant>);
        while !asked.load(Ordering::Relaxed) && !over() {
            std::thread::sleep(Duration::from_millis(100));
            self.watching.turn();
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                if let Some(words) = clock.look(Millis::now(), begin.elapsed()) {
                    log::warning(&words);
                    self.watching.hub.health.set_clock(words);
                }
                let now = self.stamp();
                if now != stamp {
                    stamp = now;
                    again.store(true, Ordering::Relaxed);
                }
            }
            if again.swap(false, Ordering::Relaxed) {
                self.systemd.reloading();
                self.reload();
                self.systemd.say("READY=1");
            }
            if let Some(interval) = self.systemd.interval()
                && fed.is_none_or(|fed| fed.elapsed() >= interval)
            {
                fed = Some(Instant::now());
                self.feed();
            }
        }
        self.systemd.say("STOPPING=1");
        log::info("ending");
        drop(self.server);
        self.watching.end();
        Ok(())
    }

    /// Tells systemd that the program lives, if all parts of it do.
    fn feed(&self) {
        let hanging = self.watching.hub.health.hanging();
        if hanging.is_empty() {
            self.systemd.say("WATCHDOG=1");
        } else {
            log::error(format!(
                "{} does not move; systemd is not told that the program lives, and starts it anew",
                hanging.join(", ")
            ));
        }
    }

    /// What shows that the file was changed.
    fn stamp(&self) -> Option<(SystemTime, u64)> {
        let about = std::fs::metadata(self.file.as_ref()?).ok()?;
        Some((about.modified().ok()?, about.len()))
    }

    /// Reads the file anew. One that cannot be used changes nothing.
    fn reload(&mut self) {
        let Some(file) = &self.file else {
            return;
        };
        let health = |watching: &Watching, reason| watching.hub.health.set_file(reason);
        let outcome = Config::load(file).and_then(|config| {
            if let Some(server) = &self.server {
                server.renew(&config.door)?;
            }
            self.watching.change(&config)
        });
        match outcome {
            Ok(later) => {
                log::info(format!("{} is read anew", file.display()));
                let reason = (!later.is_empty())
                    .then(|| format!("{} is used from the next start on", later.join(", ")));
                reason.iter().for_each(log::warning);
                health(&self.watching, reason);
            }
            Err(reason) => {
                log::error(format!(
                    "the file is not used, the one before it still is: {reason}"
                ));
                health(&self.watching, Some(reason));
            }
        }
    }
}
