// SPDX-License-Identifier: MPL-2.0

//! What a library takes from others, and so how old these may be.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use crate::shell;

/// The newest that the packages may need; `Cargo.toml` names the same as dependencies.
const GLIBC: Version = Version(2, 31);
/// What GStreamer 1.20 itself needs.
const GLIB: Version = Version(2, 56);
const GSTREAMER: Version = Version(1, 20);
/// More is no plugin for a box with a small disk.
const SIZE_BYTES: u64 = 20_000_000;
/// Libraries that every system with GStreamer has.
const LIBRARIES: [&str; 13] = [
    "libgstreamer-1.0.so.0",
    "libgstbase-1.0.so.0",
    "libgstapp-1.0.so.0",
    "libgstvideo-1.0.so.0",
    "libglib-2.0.so.0",
    "libgobject-2.0.so.0",
    "libgio-2.0.so.0",
    "libgcc_s.so.1",
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "ld-linux-",
];

/// The first two numbers of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32, u32);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-', '~', '+']);
        Some(Self(
            numbers.next()?.parse().ok()?,
            numbers.next()?.parse().ok()?,
        ))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What a library needs, each with a symbol that needs it.
#[derive(Debug, PartialEq, Eq)]
pub struct Needs {
    glibc: (Version, String),
    glib: (Version, String),
    gstreamer: (Version, String),
    libraries: Vec<String>,
    size_bytes: u64,
    is_stripped: bool,
}

impl Needs {
    /// Reads a library with `readelf`; `history` is the file `symbols` of packaging/sysroot.
    ///
    /// # Errors
    /// A sentence if a file cannot be read, or a symbol is in none of the libraries.
    pub fn of(library: &Path, history: &Path) -> Result<Self, String> {
        let fail = |path: &Path, error| format!("{}: {error}", path.display());
        let history = std::fs::read_to_string(history).map_err(|e| fail(history, e))?;
        let size_bytes = std::fs::metadata(library)
            .map_err(|e| fail(library, e))?
            .len();
        let read = |what| {
            let mut readelf = shell::program("readelf");
            shell::output_of(readelf.args(["--wide", what]).arg(library))
        };
        Self::from_text(
            &read("--dyn-syms")?,
            &read("--dynamic")?,
            &history,
            size_bytes,
            !read("--section-headers")?.contains(" .symtab "),
        )
    }

    fn from_text(
        symbols: &str,
        dynamic: &str,
        history: &str,
        size_bytes: u64,
        is_stripped: bool,
    ) -> Result<Self, String> {
        let history = first_versions(history);
        let none = || (Version(0, 0), "nothing".to_owned());
        let mut needs = Self {
            glibc: none(),
            glib: none(),
            gstreamer: none(),
            libraries: libraries(dynamic),
            size_bytes,
            is_stripped,
        };
        for (symbol, version) in undefined(symbols) {
            let newest = if let Some(version) = version {
                let Some(version) = version.strip_prefix("GLIBC_").and_then(Version::parse) else {
                    continue; // of libgcc_s, whose versions are those of GCC 3
                };
                (&mut needs.glibc, version)
            } else if symbol.starts_with("gst_") || symbol.starts_with("g_") {
                let version = *history.get(symbol).ok_or_else(|| {
                    format!("{symbol} is in no library that the plugin is linked against")
                })?;
                if symbol.starts_with("gst_") {
                    (&mut needs.gstreamer, version)
                } else {
                    (&mut needs.glib, version)
                }
            } else {
                continue; // weak, and looked for at run time
            };
            if newest.1 > newest.0.0 {
                *newest.0 = (newest.1, symbol.to_owned());
            }
        }
        Ok(needs)
    }

    /// Compares it with what the packages promise.
    ///
    /// # Errors
    /// A sentence for everything that is too new, too much or too big.
    pub fn check(&self) -> Result<(), String> {
        let mut wrong = Vec::new();
        for (what, (version, symbol), limit) in [
            ("glibc", &self.glibc, GLIBC),
            ("GLib", &self.glib, GLIB),
            ("GStreamer", &self.gstreamer, GSTREAMER),
        ] {
            if *version > limit {
                wrong.push(format!(
                    "{symbol} needs {what} {version}, the packages promise {limit}"
                ));
            }
        }
        for library in &self.libraries {
            if !LIBRARIES.iter().any(|known| library.starts_with(known)) {
                wrong.push(format!("{library} is not on every system with GStreamer"));
            }
        }
        if !self.is_stripped {
            wrong.push("names of its own functions are in it: it is not stripped".into());
        }
        if self.size_bytes >= SIZE_BYTES {
            wrong.push(format!(
                "{} bytes are more than {SIZE_BYTES}",
                self.size_bytes
            ));
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, (version, symbol)) in [
            ("glibc", &self.glibc),
            ("GLib", &self.glib),
            ("GStreamer", &self.gstreamer),
        ] {
            writeln!(f, "- {what} {version} or newer (`{symbol}`)")?;
        }
        writeln!(f, "- libraries: {}", self.libraries.join(", "))?;
        write!(f, "- size: {:.1} MB", self.size_bytes as f64 / 1e6)
    }
}

/// Undefined symbols with their versions, of `readelf --dyn-syms`.
fn undefined(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "UND")?;
        let name = words.get(at + 1)?;
        // Weak symbols do without.
        if words.contains(&"WEAK") {
            return None;
        }
        Some(match name.split_once('@') {
            Some((name, version)) => (name, Some(version.trim_start_matches('@'))),
            None => (*name, None),
        })
    })
}

/// The libraries that are loaded with this one, of `readelf --dynamic`.
fn libraries(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned()))
        .collect()
}

/// Which version brought a symbol, by Debian's files of symbols.
fn first_versions(text: &str) -> HashMap<&str, Version> {
    text.lines()
        .filter(|line| line.starts_with(' '))
        .filter_map(|line| {
            let (name, version) = line.trim().split_once("@Base ")?;
            Some((name, Version::parse(version.split(' ').next()?)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOLS: &str = "
   1: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND memcpy@GLIBC_2.14 (2)
   2: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND gst_meta_register_custom
   3: 0000000000000000     0 FUNC    WEAK   DEFAULT  UND gnu_get_libc_version@GLIBC_2.99 (3)
   4: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND _Unwind_Resume@GCC_3.0 (4)
   5: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND g_object_new
   6: 0000000000001000    10 FUNC    GLOBAL DEFAULT   12 gst_plugin_vlmcaption_get_desc
";
    const DYNAMIC: &str =
        " 0x0000000000000001 (NEEDED)             Shared library: [libgstreamer-1.0.so.0]\n";
    const HISTORY: &str = "libgstreamer-1.0.so.0 libgstreamer1.0-0 #MINVER#
 gst_meta_register_custom@Base 1.20.0
 gst_new@Base 1.22.0
libgobject-2.0.so.0 libglib2.0-0 #MINVER#
 g_object_new@Base 2.12.0
";

    fn needs(symbols: &str, dynamic: &str) -> Result<Needs, String> {
        Needs::from_text(symbols, dynamic, HISTORY, 1, true)
    }

    #[test]
    fn the_newest_symbol_of_each_library_is_found() {
        let needs = needs(SYMBOLS, DYNAMIC).unwrap();
        assert_eq!(needs.glibc, (Version(2, 14), "memcpy".into()));
        assert_eq!(needs.glib.0, Version(2, 12));
        assert_eq!(needs.gstreamer.0, Version(1, 20));
        assert_eq!(needs.libraries, ["libgstreamer-1.0.so.0"]);
        assert_eq!(needs.check(), Ok(()));
    }

    #[test]
    fn a_symbol_that_is_too_new_is_named() {
        let with = |symbol: &str| format!("{SYMBOLS} 7: 0 0 FUNC GLOBAL DEFAULT UND {symbol}\n");
        let said = needs(&with("gst_new"), DYNAMIC).unwrap().check();
        assert_eq!(
            said,
            Err("gst_new needs GStreamer 1.22, the packages promise 1.20".into())
        );
        let said = needs(&with("pow@GLIBC_2.36"), DYNAMIC).unwrap().check();
        assert!(said.unwrap_err().contains("pow needs glibc 2.36"));
        assert!(needs(&with("gst_unheard_of"), DYNAMIC).is_err());
    }

    #[test]
    fn the_c_plus_plus_library_a_big_plugin_and_one_with_its_names_are_refused() {
        let dynamic = DYNAMIC.replace("libgstreamer-1.0.so.0", "libstdc++.so.6");
        let mut needs = needs(SYMBOLS, &dynamic).unwrap();
        assert!(needs.check().unwrap_err().contains("libstdc++.so.6"));
        needs.libraries.clear();
        needs.size_bytes = SIZE_BYTES;
        assert!(needs.check().is_err());
        needs.size_bytes = 1;
        assert_eq!(needs.check(), Ok(()));
        needs.is_stripped = false;
        assert!(needs.check().unwrap_err().contains("not stripped"));
    }
}
