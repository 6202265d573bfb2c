// SPDX-License-Identifier: MPL-2.0

//! Real servers for `cargo xtask test --remote`: installs them, starts them on loopback, and has the
//! client and the element ask them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::steps::Steps;
use crate::{Outcome, shell};

/// How long a server may take to answer: vLLM reads and warms up for minutes on a busy machine.
const START: Duration = Duration::from_secs(600);

/// How long a server may take to end by itself.
const END: Duration = Duration::from_secs(10);

/// The servers, in the order in which they are tried.
const NAMES: [&str; 5] = ["llama", "transformers", "vllm", "router", "ray"];

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Each server alone, and the death of one of two vLLMs behind a router.
    Short,
    /// Also Ray Serve, and the death of one of its replicas.
    Long,
    /// One of [`NAMES`].
    Only(&'static str),
}

impl Extent {
    /// The one that is called so.
    ///
    /// # Errors
    /// There is none.
    pub fn only(name: &str) -> Result<Self, String> {
        let known = NAMES.into_iter().find(|known| *known == name);
        let known = known.ok_or_else(|| format!("{name} is none of {}", NAMES.join(", ")))?;
        Ok(Self::Only(known))
    }

    fn has(self, name: &str) -> bool {
        match self {
            Self::Short => name != "ray",
            Self::Long => true,
            Self::Only(only) => only == name,
        }
    }

    /// What is installed for it: the router stands before vLLMs, and llama.cpp's checkpoint is converted with
    /// vLLM's packages.
    fn installs(self) -> Vec<&'static str> {
        let needs_vllm = self.has("router") || self.has("llama");
        let needed = |name: &&str| self.has(name) || (*name == "vllm" && needs_vllm);
        NAMES.into_iter().filter(needed).collect()
    }
}

/// Where the servers are: `VLMCAPTION_REMOTE`, else `vlmcaption/remote` in the user's cache.
fn folder() -> PathBuf {
    if let Some(named) = std::env::var_os("VLMCAPTION_REMOTE") {
        return named.into();
    }
    let cache = shell::cache().unwrap_or_else(|| shell::target().join("cache"));
    cache.join("vlmcaption/remote")
}

/// Adds the steps.
pub fn add(steps: &mut Steps, extent: Extent) {
    steps.step("servers", "installed in the user's cache", || {
        install(&extent.installs())
    });
    let mut step = |name, what, run: &dyn Fn() -> Outcome| {
        if extent.has(name) {
            steps.step(name, what, run);
        }
    };
    step("llama", "llama-server: still images", &|| {
        alone("llama", &["--still"])
    });
    step("transformers", "transformers serve: still images", &|| {
        alone("transformers", &["--still"])
    });
    step("vllm", "vLLM: clips, and a network that goes away", &|| {
        alone("vllm", &[])
    });
    step("router", "one of two vLLMs is killed", &router_loses_one);
    step("ray", "one of two replicas is killed", &|| {
        if has_loopback_alone() {
            ray_loses_one()
        } else {
            apart()
        }
    });
}

fn install(names: &[&str]) -> Outcome {
    let folder = folder();
    println!(
        "Servers for tests go to {} (up to 4 GB, half an hour the first time; VLMCAPTION_REMOTE names \
         another folder; delete it to be rid of them)",
        folder.display()
    );
    let script = shell::root().join("tools/remote/install.py");
    let mut command = shell::program("python3");
    command.arg("-B").arg(script).arg(folder).args(names);
    shell::run(&mut command)
}

/// One server: what the client finds, then the clips against the local engine.
fn alone(name: &'static str, clips: &[&str]) -> Outcome {
    let server = Server::start(name, &[])?;
    let jpegs = shell::target().join("remote");
    std::fs::create_dir_all(&jpegs).map_err(|error| format!("{}: {error}", jpegs.display()))?;
    shell::run(exercise().arg("frames").arg(&jpegs))?;
    let files = ["0.jpg", "1.jpg"].map(|name| jpegs.join(name).display().to_string());
    let mut client = shell::tests(["real"]);
    client
        .args(["--", "--ignored", "--nocapture", "--test-threads", "1"])
        .env("VLMCAPTION_SERVER", server.uri())
        .env("VLMCAPTION_JPEGS", files.join(","));
    if name != "vllm" {
        // These do not tell the probabilities of whole choices.
        client.args(["--skip", "a_choice_comes_with_its_probability"]);
    }
    shell::run(&mut client)?;
    shell::run(
        exercise()
            .arg("clips")
            .args(clips)
            .args(properties(&server)),
    )?;
    // Eight cameras, and for ten seconds no way to the server.
    let mut cameras = exercise();
    cameras
        .args(["cameras", "8", "45", "--fps", "10", "--pattern", "smpte"])
        .args(["--cut", "10", "window=2", "stride=1"])
        .args(properties(&server));
    shell::run(&mut cameras)
}

fn router_loses_one() -> Outcome {
    let vllms = [Server::start("vllm", &[])?, Server::start("vllm", &[])?];
    let behind = vllms.each_ref().map(Server::address).join(",");
    let router = Server::start("router", &["--behind", &behind])?;
    cameras_survive(&router, &vllms[0].group())
}

/// Whether this process is in a network without a way out.
fn has_loopback_alone() -> bool {
    let table = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let mut names = table.lines().filter_map(|line| line.split_once(':'));
    names.all(|(name, _)| name.trim() == "lo")
}

/// The step with Ray Serve in such a network, for it opens ports on every interface.
fn apart() -> Outcome {
    let this = std::env::current_exe().map_err(|error| format!("xtask itself: {error}"))?;
    let mut command = shell::program("python3");
    command
        .arg("-B")
        .arg(shell::root().join("tools/remote/apart.py"));
    command.arg(this).args(["test", "--remote-only", "ray"]);
    shell::run(&mut command)
}

fn ray_loses_one() -> Outcome {
    let server = Server::start("ray", &["--replicas", "2"])?;
    let replica = descendants(server.child.id())
        .into_iter()
        .find(|(_, line)| line.starts_with("ray::ServeReplica") && line.contains("LLMServer"));
    let (replica, _) = replica.ok_or("no replica of Ray Serve is found in /proc")?;
    cameras_survive(&server, &replica.to_string())
}

/// Eight cameras whose server loses `processes` (with commas): every caption is whole and true.
fn cameras_survive(server: &Server, processes: &str) -> Outcome {
    let mut cameras = exercise();
    cameras
        .args(["cameras", "8", "90", "--fps", "10", "--pattern", "smpte"])
        .args(["--text", "SMPTE color bars.", "--kill", processes])
        .args(["window=2", "server-timeout=10000000000"])
        .args(properties(server));
    shell::run(&mut cameras)
}

/// The element's properties for a server; frames have the sizes of the demo model.
fn properties(server: &Server) -> [String; 3] {
    [
        "backend=openai".to_owned(),
        format!("server-uri={}", server.uri()),
        format!("config={}", shell::root().join("models/demo").display()),
    ]
}

fn exercise() -> Command {
    let mut command = shell::program(shell::target().join("debug/vlmcaption-exercise"));
    command.env("GST_PLUGIN_PATH", shell::target().join("debug"));
    command
}

/// A running server; it ends with this.
struct Server {
    name: &'static str,
    child: Child,
    port: u16,
}

impl Server {
    /// Starts one and waits until it lists its model.
    fn start(name: &'static str, more: &[&str]) -> Result<Self, String> {
        let port = free_port()?;
        let log = shell::target().join(format!("remote-{name}-{port}.log"));
        let say = |error: std::io::Error| format!("{}: {error}", log.display());
        let file = std::fs::File::create(&log).map_err(say)?;
        let mut command = shell::program("python3");
        command
            .arg("-B")
            .arg(shell::root().join("tools/remote/serve.py"));
        command
            .arg(folder())
            .args([name, &port.to_string()])
            .args(more);
        println!("$ {}", shell::line(&command));
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(say)?)
            .stderr(file);
        // A group of its own: its workers end with it.
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        let mut server = Self { name, child, port };
        server.wait(&log)?;
        Ok(server)
    }

    fn wait(&mut self, log: &std::path::Path) -> Outcome {
        let began = Instant::now();
        let mut told = began;
        loop {
            if lists_models(self.port) {
                println!(
                    "{} answers after {} s",
                    self.name,
                    began.elapsed().as_secs()
                );
                return Ok(());
            }
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || began.elapsed() > START {
                let what = if ended.is_some() {
                    "ended"
                } else {
                    "does not answer"
                };
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                let tail = lines[lines.len().saturating_sub(12)..].join("\n");
                return Err(format!(
                    "{tail}\n{} {what}; all it said is in {}",
                    self.name,
                    log.display()
                ));
            }
            if told.elapsed() > Duration::from_secs(20) {
                told = Instant::now();
                println!(
                    "{} starts, {} s so far",
                    self.name,
                    began.elapsed().as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn uri(&self) -> String {
        format!("{}/v1", self.address())
    }

    /// Its processes, with commas.
    fn group(&self) -> String {
        let mut all = vec![self.child.id()];
        all.extend(descendants(self.child.id()).into_iter().map(|(id, _)| id));
        let all: Vec<_> = all.iter().map(u32::to_string).collect();
        all.join(",")
    }

    fn signal(&self, signal: &str) {
        let group = format!("-{}", self.child.id());
        let mut kill = Command::new("kill");
        shell::succeeds(kill.args([signal, "--", &group]));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal("-TERM");
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < END {
            std::thread::sleep(Duration::from_millis(100));
        }
        self.signal("-KILL");
        let _ = self.child.wait();
    }
}

/// A port of loopback that nobody listens on.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    let address = address.map_err(|error| format!("no port on loopback: {error}"))?;
    Ok(address.port())
}

/// Whether whoever listens there lists a model.
fn lists_models(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(
            b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains(" 200 ") && answer.contains("\"id\""))
}

/// The processes below one, with their command lines.
fn descendants(of: u32) -> Vec<(u32, String)> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: Vec<(u32, u32)> = processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|id: u32| Some((id, parent(&read(id, "stat"))?)))
        .collect();
    let (mut found, mut next) = (Vec::new(), vec![of]);
    while let Some(above) = next.pop() {
        for (id, _) in all.iter().filter(|(_, parent)| *parent == above) {
            next.push(*id);
            found.push((*id, read(*id, "cmdline").replace('\0', " ")));
        }
    }
    found
}

fn read(id: u32, file: &str) -> String {
    let bytes = std::fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The parent in a line of `/proc/<id>/stat`: the second field behind the name in brackets.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_below_the_one_that_started_it() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let found = descendants(std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.iter().any(|(id, _)| *id == child.id()));
    }

    #[test]
    fn one_server_alone_brings_what_it_stands_on() {
        let installs = |name| Extent::only(name).unwrap().installs();
        assert_eq!(installs("transformers"), ["transformers"]);
        assert_eq!(installs("router"), ["vllm", "router"]);
        assert_eq!(installs("llama"), ["llama", "vllm"]);
        assert_eq!(Extent::Long.installs(), NAMES);
        assert!(!Extent::Short.installs().contains(&"ray"));
        assert!(Extent::only("vlm").unwrap_err().contains("transformers"));
    }

    #[test]
    fn a_name_with_brackets_and_blanks_hides_no_parent() {
        assert_eq!(parent("7 (a) b (c) S 42 7 7 0"), Some(42));
    }

    #[test]
    fn nobody_lists_models_on_a_free_port() {
        assert!(!lists_models(free_port().unwrap()));
    }
}
