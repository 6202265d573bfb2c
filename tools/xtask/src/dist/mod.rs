// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask dist`: packages for machines that have no Rust.

mod arch;
mod check;
mod compile;
mod inventory;
mod manual;
mod pack;
mod package;
mod release;
mod source;
mod symbols;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Args;
use crate::setup::{self, Level};
use crate::{Outcome, shell, tpu};
use arch::Arch;
use release::{Release, build};
use symbols::Needs;

const HELP: &str = "\
cargo xtask dist [--arch amd64|arm64] [--out DIR] [--reproducible] [--boards]
cargo xtask dist --check [--arch amd64|arm64] [--suite bookworm|trixie] [--out DIR]

Makes the packages of the commit that is checked out, in target/dist: for each architecture a .deb of the
plugin, of vlmcaption-replay and of vlmcaption-watch, and an archive of all three; the sources with all crates
(they build without a network), MANIFEST.md and SHA256SUMS.
The plugin is compiled from that archive of the sources and linked against glibc 2.31, and its imports
are compared with what glibc 2.31, GLib 2.56 and GStreamer 1.20 have. What this takes of Debian's packages and of
cargo's tools is kept below ~/.cache/vlmcaption-dist; nothing is installed on this machine.

For arm64 on amd64 it takes the standard library (rustup target add aarch64-unknown-linux-gnu) and
gcc-aarch64-linux-gnu; without the library Debian's Rust compiles in a root of its own, which takes root.

  --arch ARCH      this architecture alone; otherwise both
  --out DIR        where to
  --reproducible   compile a second time in another folder and fail if a byte differs
  --boards         also the demo model for Sophgo's chips, as cargo xtask release makes it
  --check          make nothing: install the packages that are there with apt in bare roots of Debian 12
                   and 13 (arm64: Debian 12 under qemu), run pipelines, compare their captions with
                   those of all roots that this version was in, upgrade and remove. Takes root, some hundred MB of Debian's packages and, for arm64, a while
  --suite NAME     check in roots of this Debian alone";

/// `cargo xtask dist`.
///
/// # Errors
/// A sentence that names the step that did not end well.
pub fn command(mut args: Args) -> Outcome {
    if args.help(HELP) {
        return Ok(());
    }
    let arch = args.value::<Arch>("--arch")?;
    let out = args.value::<PathBuf>("--out")?;
    let suite = args.value::<String>("--suite")?;
    let check = args.flag("--check");
    let twice = args.flag("--reproducible");
    let with_boards = args.flag("--boards");
    args.finish()?;
    let release = Release::of_head(out)?;
    let archs = arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch]);
    if check {
        return check::packages(&release, &archs, suite.as_deref());
    }
    if suite.is_some() {
        return Err("--suite goes with --check".into());
    }
    // The programs say what is in their man pages, which takes GStreamer's libraries here.
    setup::ensure(Level::Build, false)?;
    let changed = shell::output_of(shell::program("git").args(["status", "--porcelain"]))?;
    if !changed.is_empty() {
        println!("Files that are not committed are not in the packages.");
    }
    source::make(&release)?;
    let mut manifest = head(&release);
    for arch in archs {
        manifest += &one(&release, arch, twice)?;
    }
    let mut models = Vec::new();
    if with_boards {
        models = boards(&release, &mut manifest)?;
    }
    let path = release.out.join("MANIFEST.md");
    fs::write(&path, manifest).map_err(|error| format!("{}: {error}", path.display()))?;
    sums(&release, &models)
}

/// Puts the demo models for boards beside the packages, and their manifest into `manifest`; their names.
fn boards(release: &Release, manifest: &mut String) -> Result<Vec<String>, String> {
    let folder = release.out.join(".boards");
    source::remove(&folder)?;
    tpu::demo_models(&folder, &release.version, false)?;
    let fail = |error| format!("{}: {error}", folder.display());
    let said = fs::read_to_string(folder.join("MANIFEST.md")).map_err(fail)?;
    let _ = write!(manifest, "\n#{said}");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let name = name.to_string_lossy().into_owned();
        if name.ends_with(".tar.gz") {
            fs::rename(folder.join(&name), release.out.join(&name)).map_err(fail)?;
            names.push(name);
        }
    }
    source::remove(&folder)?;
    Ok(names)
}

/// The packages of one architecture; gives its part of the manifest.
fn one(release: &Release, arch: Arch, twice: bool) -> Result<String, String> {
    let build = build(arch);
    source::unpack(release, build)?;
    let folder = compile::packages(release, build, arch)?;
    let history = compile::sysroot(release, arch)?.join("symbols");
    let mut part = format!("\n## {}\n", arch.debian());
    for package in package::ALL {
        for file in package.compiled(&folder) {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let needs = Needs::of(&file, &history)?;
            println!("\n{name} of {}:\n{needs}\n", package.name);
            needs.check()?;
            let compiler = compiler(&file)?;
            let _ = writeln!(
                part,
                "\n`{name}` of `{}`:\n\n{needs}\n- compiler: {compiler}",
                package.name
            );
        }
    }
    pack::prepare(release, build, arch)?;
    pack::debs(release, build, arch)?;
    pack::tarball(release, build, arch, &folder)?;
    pack::materials(release, build, arch)?;
    if twice {
        again(release, arch)?;
    }
    Ok(part)
}

/// Compiles and packs in a folder of another name, and compares.
fn again(release: &Release, arch: Arch) -> Outcome {
    const OTHER: &str = "build-once-more";
    let first = |file: &Path| file.with_extension("first");
    let mut files = vec![release.tarball(arch)];
    files.extend(package::ALL.map(|package| release.deb(package, arch)));
    for file in &files {
        fs::rename(file, first(file)).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    source::unpack(release, OTHER)?;
    source::remove(&release.target(OTHER))?;
    let folder = compile::packages(release, OTHER, arch)?;
    pack::prepare(release, OTHER, arch)?;
    pack::debs(release, OTHER, arch)?;
    pack::tarball(release, OTHER, arch, &folder)?;
    source::remove(&release.cache().join(OTHER))?;
    for file in &files {
        let first = first(file);
        shell::run(shell::program("sha256sum").arg(&first).arg(file))?;
        if !shell::succeeds(shell::program("cmp").arg(&first).arg(file)) {
            return Err(format!(
                "two builds differ: diffoscope {} {}",
                first.display(),
                file.display()
            ));
        }
        fs::remove_file(&first).map_err(|error| format!("{}: {error}", first.display()))?;
    }
    println!("Both builds gave the same bytes.");
    Ok(())
}

/// The compiler's own words in what it made, which `strip` leaves.
fn compiler(file: &Path) -> Result<String, String> {
    let mut readelf = Command::new("readelf");
    let comments = shell::output_of(readelf.args(["-p", ".comment"]).arg(file))?;
    Ok(comments
        .lines()
        .find_map(|line| line.split_once("rustc version ").map(|(_, words)| words))
        .map_or("unknown".into(), |words| format!("rustc {}", words.trim())))
}

fn head(release: &Release) -> String {
    format!(
        "# vlmcaption {}\n\nMade of the commit {}.\n\n\
         - `…_ARCH.deb`: for Debian and Ubuntu (`apt install ./FILE`)\n\
         - `vlmcaption-…-ARCH.tar.xz`: for systems without apt; its README says how\n\
         - `vlmcaption-…-source.tar.xz`: the sources with all crates; they build without a network\n\
         - `…-ARCH.cdx.json`: the bill of materials, CycloneDX 1.5\n\n\
         What they need of a system, by the symbols that they take:\n",
        release.version, release.commit
    )
}

/// Writes `SHA256SUMS` of this version's files, and of `others`.
fn sums(release: &Release, others: &[String]) -> Outcome {
    let fail = |error| format!("{}: {error}", release.out.display());
    let mut names = others.to_vec();
    for entry in fs::read_dir(&release.out).map_err(fail)? {
        let name = entry
            .map_err(fail)?
            .file_name()
            .to_string_lossy()
            .into_owned();
        if name == "MANIFEST.md" || name.contains(&release.version) {
            names.push(name);
        }
    }
    names.sort();
    let mut sum = Command::new("sha256sum");
    let text = shell::output_of(sum.args(&names).current_dir(&release.out))?;
    print!("\n{text}");
    let path = release.out.join("SHA256SUMS");
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("\nThe packages are in {}.", release.out.display());
    Ok(())
}
