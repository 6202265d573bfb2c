// SPDX-License-Identifier: MPL-2.0

//! Finds and opens the libraries.

#![expect(unsafe_code, reason = "opening a shared library runs its code")]

use std::error::Error as _;
use std::ffi::{CStr, OsString, c_char, c_void};
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};

use crate::api::{Functions, Kind};
use crate::bindings::{card, soc};
use crate::card::Card;
use crate::error::{Attempt, Error};
use crate::soc::Soc;

/// Environment variable that names the folder of the libraries; if set, no other place is tried.
pub const ENV_LIB: &str = "VLMCAPTION_AXERA_LIB";

/// Where the SDKs install themselves, beside the loader's path.
const SOC_FOLDERS: [&str; 2] = ["/soc/lib", "/opt/lib"];
const CARD_FOLDERS: [&str; 1] = ["/usr/lib/axcl"];

/// Opened in this order: the engine asks for the two others by name, and gets those that are open.
const SOC_NAMES: [&str; 3] = ["libax_sys.so", "libax_interpreter.so", "libax_engine.so"];
const CARD_NAMES: [&str; 1] = ["libaxcl_rt.so"];

/// The card driver's node: what says that a card is meant where both libraries are installed.
const CARD_NODE: &str = "/dev/axcl_host";

/// The first release whose engine runs language models of several shape groups.
const SOC_FIRST: [u32; 4] = [1, 45, 0, 38];

/// Functions that every SDK for these chips has and nothing works without.
const SOC_REQUIRED: [&str; 16] = [
    "AX_ENGINE_CreateContextV2",
    "AX_ENGINE_CreateHandleV2",
    "AX_ENGINE_Deinit",
    "AX_ENGINE_DestroyHandle",
    "AX_ENGINE_GetGroupIOInfo",
    "AX_ENGINE_GetGroupIOInfoCount",
    "AX_ENGINE_GetModelType",
    "AX_ENGINE_GetVNPUAttr",
    "AX_ENGINE_Init",
    "AX_ENGINE_RunGroupIOSync",
    "AX_SYS_Deinit",
    "AX_SYS_Init",
    "AX_SYS_MemAllocCached",
    "AX_SYS_MemFree",
    "AX_SYS_MflushCache",
    "AX_SYS_MinvalidateCache",
];

const CARD_REQUIRED: [&str; 37] = [
    "axclFinalize",
    "axclInit",
    "axclrtCreateContext",
    "axclrtDestroyContext",
    "axclrtEngineCreateContext",
    "axclrtEngineCreateIO",
    "axclrtEngineDestroyIO",
    "axclrtEngineDestroyIOInfo",
    "axclrtEngineExecute",
    "axclrtEngineFinalize",
    "axclrtEngineGetIOInfo",
    "axclrtEngineGetInputDataType",
    "axclrtEngineGetInputDims",
    "axclrtEngineGetInputNameByIndex",
    "axclrtEngineGetInputSizeByIndex",
    "axclrtEngineGetModelType",
    "axclrtEngineGetNumInputs",
    "axclrtEngineGetNumOutputs",
    "axclrtEngineGetOutputDataType",
    "axclrtEngineGetOutputDims",
    "axclrtEngineGetOutputNameByIndex",
    "axclrtEngineGetOutputSizeByIndex",
    "axclrtEngineGetShapeGroupsCount",
    "axclrtEngineGetUsage",
    "axclrtEngineGetVNpuKind",
    "axclrtEngineInit",
    "axclrtEngineLoadFromFile",
    "axclrtEngineSetInputBufferByIndex",
    "axclrtEngineSetOutputBufferByIndex",
    "axclrtEngineUnload",
    "axclrtFree",
    "axclrtGetDeviceList",
    "axclrtMalloc",
    "axclrtMemcpy",
    "axclrtResetDevice",
    "axclrtSetCurrentContext",
    "axclrtSetDevice",
];

/// Places to look for the libraries in, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    places: Vec<(Kind, Place)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Wherever the system's loader looks: `LD_LIBRARY_PATH`, `/etc/ld.so.conf`.
    Loader,
    Folder(PathBuf),
}

/// The opened library that counts: the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The file, or the bare name if the system's loader found it.
    pub path: PathBuf,
    /// What the library says of itself.
    pub version: Option<String>,
}

impl Search {
    /// The folder in [`ENV_LIB`] alone if that is set; else the loader's path, then the folders of
    /// the SDKs. A card comes first where its driver is loaded, else a board.
    pub fn from_env() -> Self {
        Self::chosen(std::env::var_os(ENV_LIB), Path::new(CARD_NODE).exists())
    }

    fn chosen(folder: Option<OsString>, card_first: bool) -> Self {
        let kinds = match card_first {
            true => [Kind::Card, Kind::Soc],
            false => [Kind::Soc, Kind::Card],
        };
        let folder = folder.filter(|value| !value.is_empty());
        let places = kinds.into_iter().flat_map(|kind| {
            let folders = match (&folder, kind) {
                (Some(_), _) => &[][..],
                (None, Kind::Soc) => &SOC_FOLDERS,
                (None, Kind::Card) => &CARD_FOLDERS,
            };
            let first = match &folder {
                Some(folder) => Place::Folder(folder.into()),
                None => Place::Loader,
            };
            let others = folders.iter().map(|path| Place::Folder(path.into()));
            std::iter::once(first)
                .chain(others)
                .map(move |place| (kind, place))
        });
        Self {
            places: places.collect(),
        }
    }

    /// One folder and no other place.
    pub fn folder(folder: impl Into<PathBuf>) -> Self {
        Self::folders([folder.into()])
    }

    /// These folders in their order and no other place.
    pub fn folders(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let folders = folders.into_iter();
        let places = folders.flat_map(|folder| Self::chosen(Some(folder.into()), false).places);
        Self {
            places: places.collect(),
        }
    }

    /// Opens the libraries of the first place that has those that the headers here describe.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there are none anywhere; [`Error::Version`], [`Error::WrongChip`] or
    /// [`Error::MissingSymbols`] if the only ones are others, [`Error::Unusable`] if there are such
    /// and more places.
    pub(crate) fn open(&self) -> Result<(Functions, Library), Error> {
        let (mut refused, mut tried) = (Vec::new(), Vec::new());
        for (kind, place) in &self.places {
            let names: &[&str] = match kind {
                Kind::Soc => &SOC_NAMES,
                Kind::Card => &CARD_NAMES,
            };
            match place.open(names) {
                Ok((opened, path)) => match bind(*kind, opened, path) {
                    Ok(found) => return Ok(found),
                    Err(error) => refused.push(error),
                },
                Err(attempt) => tried.push(attempt),
            }
        }
        Err(Error::of_all(refused, tried))
    }
}

impl Place {
    /// Opens libraries of these names, all from here; the path of the last.
    fn open(&self, names: &[&str]) -> Result<(Vec<Handle>, PathBuf), Attempt> {
        let mut opened = Vec::new();
        let mut path = PathBuf::new();
        for name in names {
            path = match self {
                Self::Loader => name.into(),
                Self::Folder(folder) => folder.join(name),
            };
            if let Self::Folder(folder) = self
                && !path.is_file()
            {
                return Err(no_file(folder, name));
            }
            opened.push(dlopen(&path)?);
        }
        Ok((opened, path))
    }
}

fn no_file(folder: &Path, name: &str) -> Attempt {
    let reason = match folder.is_dir() {
        true => format!("no {name} in this folder"),
        false => "no such folder".to_owned(),
    };
    Attempt {
        path: folder.to_owned(),
        reason,
    }
}

fn dlopen(path: &Path) -> Result<Handle, Attempt> {
    // SAFETY: this runs the constructors of the vendor's library, from a place that the user of the
    // process chose by installing it or by naming it. RTLD_NOW reports unresolved functions here
    // instead of ending the process at the first call.
    unsafe { Handle::open(Some(path.as_os_str()), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| {
        let reason = error
            .source()
            .map_or_else(|| error.to_string(), ToString::to_string);
        // The loader begins with the name; the attempt has it already.
        let reason = match reason.strip_prefix(&format!("{}: ", path.display())) {
            Some(rest) => rest.to_owned(),
            None => reason,
        };
        Attempt {
            path: path.to_owned(),
            reason,
        }
    })
}

/// Checks the libraries and takes their functions: from the last, whose search includes the others.
fn bind(kind: Kind, mut opened: Vec<Handle>, path: PathBuf) -> Result<(Functions, Library), Error> {
    let Some(last) = opened.pop() else {
        return Err(Error::NotFound { tried: Vec::new() });
    };
    let (required, fix): (&[&'static str], _) = match kind {
        Kind::Soc => (&SOC_REQUIRED, "board SDK 2.18 (V1.45.0_P38) or newer"),
        Kind::Card => (&CARD_REQUIRED, "axclhost V3.4.0 or newer"),
    };
    if kind == Kind::Soc {
        // The same names exist for other families of chips, which take other models.
        let family = match () {
            () if has_symbol(&last, "AX_ENGINE_GetTotalOps") => Some("AX620E and AX630C"),
            () if !has_symbol(&last, "AX_ENGINE_SetAffinity") => Some("M57H"),
            () => None,
        };
        if let Some(family) = family {
            return Err(Error::WrongChip {
                library: path,
                family,
            });
        }
    }
    let missing: Vec<&'static str> = required
        .iter()
        .copied()
        .filter(|name| !has_symbol(&last, name))
        .collect();
    if !missing.is_empty() {
        return Err(Error::MissingSymbols {
            library: path,
            symbols: missing,
            fix,
        });
    }
    let unreadable = |error: libloading::Error| Error::NotFound {
        tried: vec![Attempt {
            path: path.clone(),
            reason: error.to_string(),
        }],
    };
    match kind {
        Kind::Soc => {
            // SAFETY: these are the vendor's libraries by their names and functions; that the
            // functions have the types that soc.h declares is what the version stands for, checked
            // below before any function but the one that tells it.
            let symbols = unsafe { soc::Symbols::from_library(last) }.map_err(unreadable)?;
            let version = version_text(symbols.AX_ENGINE_GetVersion.as_ref().ok().copied());
            check_version(&path, version.as_deref())?;
            let functions = Functions::Soc(Box::new(Soc::new(symbols, opened)));
            Ok((functions, Library { path, version }))
        }
        Kind::Card => {
            // SAFETY: as above, with card.h.
            let symbols = unsafe { card::Symbols::from_library(last) }.map_err(unreadable)?;
            let card = Box::new(Card::new(symbols));
            let version = card.version();
            Ok((Functions::Card(card), Library { path, version }))
        }
    }
}

fn has_symbol(library: &Handle, name: &str) -> bool {
    // SAFETY: the address is looked up and not used.
    unsafe { library.get::<*const c_void>(name.as_bytes()) }.is_ok()
}

fn version_text(function: Option<unsafe extern "C" fn() -> *const c_char>) -> Option<String> {
    // SAFETY: the library defines the function without parameters.
    let text = unsafe { function?() };
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and a string constant of the library.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().trim().to_owned())
}

/// Refuses a board's engine that calls itself older than [`SOC_FIRST`]. One that does not say, or
/// not in the form `V1.45.0_P39...`, is taken.
fn check_version(path: &Path, version: Option<&str>) -> Result<(), Error> {
    match version.and_then(|version| Some((version, numbers(version)?))) {
        Some((version, found)) if found < SOC_FIRST => Err(Error::Version {
            library: path.to_owned(),
            found: version.to_owned(),
            want: "V1.45.0_P38",
            fix: "update the board's SDK (2.18 or newer)",
        }),
        _ => Ok(()),
    }
}

/// `[1, 45, 0, 39]` of `V1.45.0_P39_20250101`; without a patch number that is 0.
fn numbers(version: &str) -> Option<[u32; 4]> {
    let rest = version.strip_prefix(['V', 'v'])?;
    let rest = rest.split_whitespace().next()?;
    let (main, patch) = rest.split_once('_').unwrap_or((rest, ""));
    let mut parts = main.split('.').map(|part| part.parse().ok());
    let mut next = || parts.next().flatten();
    let patch = patch.strip_prefix('P').unwrap_or_default();
    let digits = patch
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(patch.len());
    Some([
        next()?,
        next()?,
        next()?,
        patch[..digits].parse().unwrap_or(0),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_named_by_the_user_is_the_only_place() {
        let search = Search::chosen(Some("/my/lib".into()), false);
        assert_eq!(search, Search::folder("/my/lib"));
        let folder = Place::Folder("/my/lib".into());
        let want = [(Kind::Soc, folder.clone()), (Kind::Card, folder)];
        assert_eq!(search.places, want);
    }

    #[test]
    fn the_loader_comes_first_then_the_folder_of_the_sdk() {
        let search = Search::chosen(Some(OsString::new()), false);
        assert_eq!(search, Search::chosen(None, false));
        let folder = |path: &str| Place::Folder(path.into());
        let want = [
            (Kind::Soc, Place::Loader),
            (Kind::Soc, folder("/soc/lib")),
            (Kind::Soc, folder("/opt/lib")),
            (Kind::Card, Place::Loader),
            (Kind::Card, folder("/usr/lib/axcl")),
        ];
        assert_eq!(search.places, want);
        let card = Search::chosen(None, true);
        assert_eq!(card.places[0], (Kind::Card, Place::Loader));
    }

    #[test]
    fn the_loader_reports_its_own_reason() {
        let failure = Place::Loader.open(&["libvlmcaption-none.so"]).unwrap_err();
        assert_eq!(failure.path, Path::new("libvlmcaption-none.so"));
        assert!(!failure.reason.is_empty());
    }

    #[test]
    fn old_engines_are_refused_and_unknown_ones_taken() {
        let path = Path::new("libax_engine.so");
        for old in ["V1.45.0_P37", "V1.27.0", "V0.9.0_P99 2.1"] {
            let error = check_version(path, Some(old)).unwrap_err();
            assert!(
                matches!(&error, Error::Version { found, .. } if found == old),
                "{error}"
            );
        }
        for new in ["V1.45.0_P38", "V1.45.0_P39_20250815 2.7.2a", "V3.6.2"] {
            assert!(check_version(path, Some(new)).is_ok(), "{new}");
        }
        for odd in [Some("built on a Tuesday"), Some("Vx"), Some(""), None] {
            assert!(check_version(path, odd).is_ok(), "{odd:?}");
        }
    }

    #[test]
    fn required_functions_are_sorted_and_bound() {
        let soc = include_str!("bindings/soc.rs");
        let card = include_str!("bindings/card.rs");
        assert!(SOC_REQUIRED.is_sorted() && CARD_REQUIRED.is_sorted());
        let all = SOC_REQUIRED.iter().map(|name| (soc, name));
        for (bindings, name) in all.chain(CARD_REQUIRED.iter().map(|name| (card, name))) {
            assert!(
                bindings.contains(&format!("pub {name}:")),
                "{name} is not bound"
            );
        }
    }

    #[test]
    fn functions_that_may_be_missing_are_never_called_unseen() {
        for (source, required) in [
            (include_str!("soc.rs"), &SOC_REQUIRED[..]),
            (
                concat!(include_str!("card.rs"), include_str!("card/engine.rs")),
                &CARD_REQUIRED[..],
            ),
        ] {
            let source: String = source.split_whitespace().collect();
            let calls: Vec<&str> = source
                .split("self.symbols.")
                .skip(1)
                .filter_map(|rest| {
                    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
                    rest[end..].starts_with('(').then(|| &rest[..end])
                })
                .collect();
            for name in required {
                assert!(calls.contains(name), "{name} is required and not called");
            }
            for name in calls {
                assert!(
                    required.contains(&name),
                    "{name} may be missing: go through its field"
                );
            }
        }
    }
}
