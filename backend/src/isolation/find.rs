// SPDX-License-Identifier: MPL-2.0

//! Where `vlmcaption-worker` is: as GStreamer finds its scanner.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::error::Error;

const NAME: &str = "vlmcaption-worker";
/// Names the worker.
const VARIABLE: &str = "VLMCAPTION_WORKER";

/// The worker: what `VLMCAPTION_WORKER` names, else the one beside the file that this code was loaded
/// from, else the one in `libexec/vlmcaption` of the prefix that this file is installed in; for a program in
/// `bin` of a prefix at last the one beside the plugin of that prefix.
///
/// # Errors
/// [`Error::NotFound`] with the places.
pub fn find() -> Result<PathBuf, Error> {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return match path.is_file() {
            true => Ok(path),
            false => Err(Error::NotFound {
                places: format!("{VARIABLE}={} is no file", path.display()),
            }),
        };
    }
    let places = own_file().as_deref().map(places).unwrap_or_default();
    let found = places.iter().find(|place| place.is_file());
    found.cloned().ok_or_else(|| Error::NotFound {
        places: places
            .iter()
            .map(|place| place.display().to_string())
            .collect::<Vec<_>>()
            .join(", "),
    })
}

/// Where the worker may be that belongs to this plugin, or to this program of which it is a part.
fn places(own: &Path) -> Vec<PathBuf> {
    let Some(folder) = own.parent() else {
        return Vec::new();
    };
    let mut places = vec![folder.join(NAME)];
    // Where cargo puts tests.
    if folder.file_name() == Some(OsStr::new("deps")) {
        places.push(folder.with_file_name(NAME));
    }
    let is_bin = folder.file_name() == Some(OsStr::new("bin"));
    if let Some(prefix) = folder.parent().filter(|_| is_bin) {
        places.push(prefix.join("libexec/vlmcaption").join(NAME));
        // Where the plugin's package has it.
        let machine = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
        let libs = [machine.as_str(), "lib", "lib64"];
        places.extend(libs.map(|lib| prefix.join(lib).join("gstreamer-1.0").join(NAME)));
    }
    // <prefix>/lib/gstreamer-1.0, <prefix>/lib/<machine>/gstreamer-1.0
    let is_lib = |folder: &&Path| {
        let name = folder.file_name().and_then(OsStr::to_str);
        matches!(name, Some("lib" | "lib64"))
    };
    let prefix = folder
        .ancestors()
        .take(3)
        .find(is_lib)
        .and_then(Path::parent);
    places.extend(prefix.map(|prefix| prefix.join("libexec/vlmcaption").join(NAME)));
    places
}

/// The file that this code was loaded from.
fn own_file() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    file_at(&maps, find as *const () as usize)
}

/// The file that is mapped at an address, by `/proc/self/maps`.
fn file_at(maps: &str, address: usize) -> Option<PathBuf> {
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (begin, end) = range.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        if !(number(begin)?..number(end)?).contains(&address) {
            return None;
        }
        let path = &rest[rest.find('/')?..];
        Some(PathBuf::from(
            path.strip_suffix(" (deleted)").unwrap_or(path),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_file_is_this_program() {
        let own = own_file().unwrap();
        let program = std::env::current_exe().unwrap();
        assert_eq!(own.canonicalize().unwrap(), program.canonicalize().unwrap());
    }

    #[test]
    fn a_file_with_spaces_and_one_that_was_replaced_are_found() {
        let maps = "1000-2000 r-xp 00000000 08:01 12  /a b/libgstvlmcaption.so (deleted)\n\
                    2000-3000 rw-p 00000000 00:00 0 \n";
        let found = file_at(maps, 0x1fff).unwrap();
        assert_eq!(found, Path::new("/a b/libgstvlmcaption.so"));
        assert_eq!(file_at(maps, 0x2000), None);
        assert_eq!(file_at(maps, 0x4000), None);
    }

    #[test]
    fn the_worker_is_beside_the_plugin_or_in_the_libexec_of_the_prefix_and_nowhere_else() {
        let of = |own: &str| -> Vec<String> {
            let places = places(Path::new(own));
            places
                .iter()
                .map(|place| place.display().to_string())
                .collect()
        };
        let machine = "/usr/lib/x86_64-linux-gnu/gstreamer-1.0";
        assert_eq!(
            of(&format!("{machine}/libgstvlmcaption.so")),
            [
                format!("{machine}/vlmcaption-worker"),
                "/usr/libexec/vlmcaption/vlmcaption-worker".into()
            ]
        );
        assert_eq!(
            of("/opt/v/lib/gstreamer-1.0/libgstvlmcaption.so"),
            [
                "/opt/v/lib/gstreamer-1.0/vlmcaption-worker",
                "/opt/v/libexec/vlmcaption/vlmcaption-worker"
            ]
        );
        let machine = std::env::consts::ARCH;
        assert_eq!(
            of("/usr/bin/vlmcaption-replay"),
            [
                "/usr/bin/vlmcaption-worker".into(),
                "/usr/libexec/vlmcaption/vlmcaption-worker".into(),
                format!("/usr/lib/{machine}-linux-gnu/gstreamer-1.0/vlmcaption-worker"),
                "/usr/lib/gstreamer-1.0/vlmcaption-worker".into(),
                "/usr/lib64/gstreamer-1.0/vlmcaption-worker".into(),
            ]
        );
        assert_eq!(
            of("/tmp/x/y/libgstvlmcaption.so"),
            ["/tmp/x/y/vlmcaption-worker"]
        );
        assert_eq!(
            of("/w/target/debug/deps/element-0"),
            [
                "/w/target/debug/deps/vlmcaption-worker",
                "/w/target/debug/vlmcaption-worker"
            ]
        );
    }
}
