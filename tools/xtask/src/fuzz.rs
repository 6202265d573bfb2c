// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask fuzz`: damaged files against the readers, guided by what they cover.

use std::fs;
use std::path::Path;

use crate::args::Args;
use crate::{Outcome, shell};

const HELP: &str = "\
cargo xtask fuzz [bmodel | checkpoint | grammar] [--minutes N]

Feeds damaged files to what reads files of others, for N minutes each (10), with LLVM's libFuzzer:
  bmodel       header and FlatBuffer of a .bmodel
  checkpoint   one file of a Hugging Face folder: config, processor, template, tokenizer,
               weights; what opens is loaded
  grammar      a JSON schema for answers
Stops at the first panic, or at an input that takes 10 s or 2 GB, with the input in
target/fuzz/findings. The corpus in target/fuzz/corpus is kept and goes on growing.";

const TARGETS: [&str; 3] = ["bmodel", "checkpoint", "grammar"];

/// What the fuzzer of schemas begins with: every keyword once.
const SCHEMAS: [(&str, &str); 2] = [
    (
        "object",
        r#"{"type":"object","properties":{"n":{"type":"number","minimum":-1.5,"maximum":20},
        "i":{"type":"integer"},"b":{"type":"boolean"},"z":{"type":"null"}},"required":["n","i"]}"#,
    ),
    (
        "array",
        r#"{"type":"array","items":{"enum":["red","redder"]},"minItems":2,"maxItems":9,
        "description":{"type":"string","maxLength":12},"additionalProperties":false}"#,
    ),
];

/// Edge counters, comparisons and the table of addresses: what libFuzzer looks at.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// `cargo xtask fuzz`.
///
/// # Errors
/// A sentence that names the target that found something, or what did not build.
pub fn command(mut args: Args) -> Outcome {
    if args.help(HELP) {
        return Ok(());
    }
    let minutes = args.value::<u32>("--minutes")?.unwrap_or(10);
    let named = args.word();
    args.finish()?;
    let targets = match &named {
        None => TARGETS.to_vec(),
        Some(name) if TARGETS.contains(&name.as_str()) => vec![name.as_str()],
        Some(name) => return Err(format!("there is no target `{name}`; --help lists them")),
    };
    let host = host()?;
    let folder = shell::root().join("target/fuzz");
    let mut build = shell::cargo();
    build
        .args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml"])
        // With a target named, build scripts and macros are built without the counters.
        .args(["--target", &host, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", FLAGS);
    shell::run(&mut build)?;
    for target in targets {
        let corpus = folder.join("corpus").join(target);
        let findings = folder.join("findings").join(target);
        for folder in [&corpus, &findings] {
            fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        seed(target, &corpus).map_err(|e| format!("{}: {e}", corpus.display()))?;
        let program = folder.join(&host).join("release").join(target);
        let mut fuzzer = shell::program(program);
        fuzzer
            .arg(&corpus)
            .arg(format!("-max_total_time={}", 60 * minutes))
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=65536"])
            .args(["-print_final_stats=1", "-verbosity=1"]);
        shell::run(&mut fuzzer).map_err(|_| format!("{target}: found something; see above"))?;
    }
    Ok(())
}

/// The triple that this machine's compiler builds for by itself.
fn host() -> Result<String, String> {
    let mut rustc = shell::program(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let version = shell::output_of(rustc.arg("-vV"))?;
    let line = version.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned)
        .ok_or_else(|| "rustc -vV names no host".to_owned())
}

/// Puts whole files into the corpus for the fuzzer to damage.
fn seed(target: &str, corpus: &Path) -> std::io::Result<()> {
    let root = shell::root();
    match target {
        "bmodel" => {
            for entry in fs::read_dir(root.join("tests/data/bmodel"))? {
                let entry = entry?;
                fs::copy(entry.path(), corpus.join(entry.file_name()))?;
            }
        }
        "grammar" => {
            for (name, schema) in SCHEMAS {
                fs::write(corpus.join(name), schema)?;
            }
        }
        _ => {
            let demo = root.join("models/demo");
            let names = [
                "config.json",
                "preprocessor_config.json",
                "generation_config.json",
                "tokenizer_config.json",
                "chat_template.jinja",
            ];
            for (which, name) in (0_u8..).zip(names) {
                let mut input = vec![which];
                input.extend(fs::read(demo.join(name))?);
                fs::write(corpus.join(name), input)?;
            }
            let weights = fs::read(demo.join("model.safetensors"))?;
            let mut input = vec![5];
            input.extend(&weights[..weights.len().min(60_000)]);
            fs::write(corpus.join("model.safetensors"), input)?;
            let mut input = vec![6];
            input.extend(fs::read(demo.join("tokenizer.json"))?);
            fs::write(corpus.join("tokenizer.json"), input)?;
        }
    }
    Ok(())
}
