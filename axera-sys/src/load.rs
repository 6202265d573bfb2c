// SPDX-License-Identifier: MPL-2.0

//! Finds and opens the libraries.

#![expect(unsafe_code, reason = "calls the functions that tell the version")]

use std::path::{Path, PathBuf};

use vendor_library::{
    Attempt, Handle, Library, LoadError, Opened, SearchPath, first_usable, folder_from_env,
    missing_symbols, unreadable, version_text,
};

use crate::bindings::{card, soc};
use crate::card::Card;
use crate::error::{ENV_LIB, VENDOR};
use crate::functions::{Functions, Kind};
use crate::soc::Soc;

/// Where the SDKs install themselves, beside the loader's path.
const SOC_FOLDERS: [&str; 2] = ["/soc/lib", "/opt/lib"];
const CARD_FOLDERS: [&str; 1] = ["/usr/lib/axcl"];

/// Opened in this order: the engine asks for the two others by name, and gets those that are open.
const SOC_NAMES: [&[&str]; 3] = [
    &["libax_sys.so"],
    &["libax_interpreter.so"],
    &["libax_engine.so"],
];
const CARD_NAMES: [&str; 1] = ["libaxcl_rt.so"];

/// The card driver's node: what says that a card is meant where both libraries are installed.
const CARD_NODE: &str = "/dev/axcl_host";

/// The first release whose engine runs language models of several shape groups.
const SOC_FIRST: [u32; 4] = [1, 45, 0, 38];
const SOC_NEED: &str = "models of this kind need V1.45.0_P38 or newer: update the board's SDK (2.18 or \
                        newer)";

/// What has every function.
const SOC_FIX: &str = "board SDK 2.18 (V1.45.0_P38) or newer";
const CARD_FIX: &str = "axclhost V3.4.0 or newer";

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
    paths: Vec<(Kind, SearchPath)>,
}

/// The opened libraries of one kind.
enum Libraries {
    /// libax_sys, libax_interpreter, libax_engine.
    Soc([Opened; 3]),
    Card(Opened),
}

impl Search {
    /// The folder in [`ENV_LIB`] alone if that is set; else the loader's path, then the folders of
    /// the SDKs. A card comes first where its driver is loaded, else a board.
    pub fn from_env() -> Self {
        Self::chosen(folder_from_env(ENV_LIB), Path::new(CARD_NODE).exists())
    }

    fn chosen(folder: Option<PathBuf>, card_first: bool) -> Self {
        let kinds = match card_first {
            true => [Kind::Card, Kind::Soc],
            false => [Kind::Soc, Kind::Card],
        };
        let paths = kinds.into_iter().flat_map(|kind| {
            let folders = match (&folder, kind) {
                (Some(_), _) => &[][..],
                (None, Kind::Soc) => &SOC_FOLDERS,
                (None, Kind::Card) => &CARD_FOLDERS,
            };
            let first = match &folder {
                Some(folder) => SearchPath::Folder(folder.clone()),
                None => SearchPath::System,
            };
            let others = folders.iter().map(|path| SearchPath::Folder(path.into()));
            std::iter::once(first)
                .chain(others)
                .map(move |path| (kind, path))
        });
        Self {
            paths: paths.collect(),
        }
    }

    /// One folder and no other place.
    pub fn folder(folder: impl Into<PathBuf>) -> Self {
        Self::folders([folder.into()])
    }

    /// These folders in their order and no other place.
    pub fn folders(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let folders = folders.into_iter();
        let paths = folders.flat_map(|folder| Self::chosen(Some(folder), false).paths);
        Self {
            paths: paths.collect(),
        }
    }

    /// Opens the libraries of the first place that has those that the headers here describe.
    ///
    /// # Errors
    /// What [`first_usable`] says.
    pub(crate) fn open(&self) -> Result<(Functions, Library), LoadError> {
        first_usable(
            VENDOR,
            &self.paths,
            |(kind, path)| open(*kind, path),
            |_, opened| match opened {
                Libraries::Soc(opened) => bind_soc(opened),
                Libraries::Card(opened) => bind_card(opened),
            },
        )
    }
}

fn open(kind: Kind, path: &SearchPath) -> Result<Libraries, Attempt> {
    match kind {
        Kind::Soc => path.open_all(SOC_NAMES).map(Libraries::Soc),
        Kind::Card => path.open(&CARD_NAMES).map(Libraries::Card),
    }
}

/// Checks a board's libraries and takes their functions: from the engine, whose search includes the
/// others.
fn bind_soc([sys, interpreter, engine]: [Opened; 3]) -> Result<(Functions, Library), LoadError> {
    let path = engine.path;
    // The same names exist for other families of chips, which take other models.
    let lacks = |name| !missing_symbols(&engine.handle, &[name]).is_empty();
    let family = match () {
        () if !lacks("AX_ENGINE_GetTotalOps") => Some("AX620E and AX630C"),
        () if lacks("AX_ENGINE_SetAffinity") => Some("M57H"),
        () => None,
    };
    if let Some(family) = family {
        return Err(LoadError::WrongChip {
            library: path,
            family,
            chip: "AX650",
        });
    }
    check_symbols(&engine.handle, &path, &SOC_REQUIRED, SOC_FIX)?;
    // SAFETY: these are the vendor's libraries by their names and functions; that the functions have
    // the types that soc.h declares is what the version stands for, checked below before any function
    // but the one that tells it.
    let symbols = unsafe { soc::Symbols::from_library(engine.handle) };
    let symbols = symbols.map_err(|error| unreadable(VENDOR, &path, &error))?;
    // SAFETY: the engine defines the function so, and it returns a constant of its own.
    let version = unsafe { version_text(symbols.AX_ENGINE_GetVersion.as_ref().ok().copied()) };
    let library = Library { path, version };
    library.check_version(SOC_NEED, too_old)?;
    let soc = Box::new(Soc::new(symbols, vec![sys.handle, interpreter.handle]));
    Ok((Functions::Soc(soc), library))
}

/// Checks a card's library and takes its functions.
fn bind_card(Opened { handle, path }: Opened) -> Result<(Functions, Library), LoadError> {
    check_symbols(&handle, &path, &CARD_REQUIRED, CARD_FIX)?;
    // SAFETY: this is the vendor's library by its name and functions, which have the types that
    // card.h declares.
    let symbols = unsafe { card::Symbols::from_library(handle) };
    let symbols = symbols.map_err(|error| unreadable(VENDOR, &path, &error))?;
    let card = Box::new(Card::new(symbols));
    let version = card.version();
    Ok((Functions::Card(card), Library { path, version }))
}

/// That a library has all that nothing works without.
fn check_symbols(
    library: &Handle,
    path: &Path,
    required: &[&'static str],
    fix: &'static str,
) -> Result<(), LoadError> {
    let symbols = missing_symbols(library, required);
    match symbols.is_empty() {
        true => Ok(()),
        false => Err(LoadError::MissingSymbols {
            library: path.to_owned(),
            symbols,
            fix,
        }),
    }
}

/// The version of a board's engine if it is older than [`SOC_FIRST`].
fn too_old(version: &str) -> Option<&str> {
    (numbers(version)? < SOC_FIRST).then_some(version)
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
        let folder = SearchPath::Folder("/my/lib".into());
        let want = [(Kind::Soc, folder.clone()), (Kind::Card, folder)];
        assert_eq!(search.paths, want);
    }

    #[test]
    fn the_loader_comes_first_then_the_folder_of_the_sdk() {
        let search = Search::chosen(None, false);
        let folder = |path: &str| SearchPath::Folder(path.into());
        let want = [
            (Kind::Soc, SearchPath::System),
            (Kind::Soc, folder("/soc/lib")),
            (Kind::Soc, folder("/opt/lib")),
            (Kind::Card, SearchPath::System),
            (Kind::Card, folder("/usr/lib/axcl")),
        ];
        assert_eq!(search.paths, want);
        let card = Search::chosen(None, true);
        assert_eq!(card.paths[0], (Kind::Card, SearchPath::System));
    }

    #[test]
    fn old_engines_are_refused_and_unknown_ones_taken() {
        for old in ["V1.45.0_P37", "V1.27.0", "V0.9.0_P99 2.1"] {
            assert_eq!(too_old(old), Some(old));
        }
        for new in ["V1.45.0_P38", "V1.45.0_P39_20250815 2.7.2a", "V3.6.2"] {
            assert_eq!(too_old(new), None, "{new}");
        }
        for odd in ["built on a Tuesday", "Vx", ""] {
            assert_eq!(too_old(odd), None, "{odd}");
        }
    }

    #[test]
    fn required_functions_are_sorted_and_bound() {
        for (bindings, required) in [
            (include_str!("bindings/soc.rs"), &SOC_REQUIRED[..]),
            (include_str!("bindings/card.rs"), &CARD_REQUIRED[..]),
        ] {
            assert!(required.is_sorted());
            let bound = binding_checks::bound_functions(bindings);
            for name in required {
                assert!(bound.contains(name), "{name} is not bound");
            }
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
            let calls = binding_checks::called_functions(source, "self.symbols");
            let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
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
