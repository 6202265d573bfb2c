// SPDX-License-Identifier: MPL-2.0

//! What can go wrong with the libraries, and the one place where a status becomes an error.

use std::fmt;
use std::path::PathBuf;

use crate::code::meaning;

/// Why the libraries could not be loaded, or what one of their functions said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The libraries are nowhere to be found, or none that was found could be opened.
    #[error(
        "no usable libaxcl_rt.so (card) or libax_engine.so (board) ({}); install Axera's axclhost \
         package on a host with a card, the board's SDK on a board, or set {} to the folder that \
         holds the library",
        Attempt::list(.tried), crate::ENV_LIB
    )]
    NotFound {
        /// What was tried, in order.
        tried: Vec<Attempt>,
    },
    /// There are libraries, none of them one that will do.
    #[error(
        "{}{}", .refused.iter().map(Self::to_string).collect::<Vec<_>>().join("; "),
        Attempt::others(.tried)
    )]
    Unusable {
        /// Why each was refused, in the order in which they were found.
        refused: Vec<Error>,
        /// Places without any.
        tried: Vec<Attempt>,
    },
    /// The library lacks functions that nothing works without.
    #[error("{library} lacks {}; install {fix}", .symbols.join(", "))]
    MissingSymbols {
        /// The library, as it was opened.
        library: PathBuf,
        /// Names of the functions.
        symbols: Vec<&'static str>,
        /// What has them.
        fix: &'static str,
    },
    /// The library is older than the first that runs such models.
    #[error("{library} has version {found}; models of this kind need {want} or newer: {fix}")]
    Version {
        /// The library, as it was opened.
        library: PathBuf,
        /// Its version.
        found: String,
        /// The first version that will do.
        want: &'static str,
        /// What to do.
        fix: &'static str,
    },
    /// The libraries are those of another family of chips.
    #[error("{library} is for {family}; this build runs models on AX650")]
    WrongChip {
        /// The library, as it was opened.
        library: PathBuf,
        /// Which chips it is for.
        family: &'static str,
    },
    /// A function returned another status than 0.
    #[error(
        "{op} returned {:#010x}{}", *.code as u32,
        meaning(*.code).map(|text| format!(" ({text})")).unwrap_or_default()
    )]
    Status {
        /// The C function.
        op: &'static str,
        /// What it returned.
        code: i32,
    },
    /// A function gave nothing though it said that all is well, or was to be given nonsense.
    #[error("{op}: {what}")]
    Refused {
        /// The C function, or what was to be done.
        op: &'static str,
        /// What is wrong.
        what: String,
    },
    /// A size or number that the C function has no room for.
    #[error("{op} cannot take {value}: its arguments have 32 bits")]
    TooLarge {
        /// The C function.
        op: &'static str,
        /// The size or number.
        value: usize,
    },
    /// A card that is not there.
    #[error("there is no device {index}: this system has {count}, counted from 0 ({ids})")]
    NoDevice {
        /// The device asked for.
        index: usize,
        /// Devices there are.
        count: usize,
        /// Their names or ids.
        ids: String,
    },
    /// No card answers at all.
    #[error(
        "no AXCL card is connected ({reason}); `lspci -d 1f4b:` must list it, the modules \
         ax_pcie_host_dev and axcl_host must be loaded, /dev/axcl_host must be readable; a Raspberry \
         Pi 5 needs dtoverlay=pciex1-compat-pi5,no-mip"
    )]
    NoCard {
        /// What the library said.
        reason: String,
    },
    /// The NPU's cores are shared out in a way that leaves no model with three.
    #[error(
        "the NPU runs in virtual mode {mode}, which another program chose; models for all three \
         cores need it disabled: end that program, or start it without virtual NPUs"
    )]
    VirtualNpu {
        /// The mode.
        mode: &'static str,
    },
    /// A transfer beyond the end of memory.
    #[error("{op}: bytes {offset}..{} are not inside memory of {size} bytes", .offset.saturating_add(*.len))]
    OutOfRange {
        /// What was to be done.
        op: &'static str,
        /// First byte.
        offset: usize,
        /// Bytes.
        len: usize,
        /// Bytes of the memory.
        size: usize,
    },
    /// A string with a zero byte inside, which C cannot have.
    #[error("{op} cannot take {text:?}: there is a zero byte in it")]
    ZeroByte {
        /// The C function.
        op: &'static str,
        /// The string.
        text: String,
    },
    /// A file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether it says that the memory of the NPU is used up.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Status { code, .. } => {
                matches!((*code as u32) & 0xff00_00ff, 0x8000_0018)
                    || (*code as u32) & 0xffff_00ff == 0x8030_0007
            }
            _ => false,
        }
    }
}

/// One place where the libraries were looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What was to be opened: a file, or a bare name for the loader to find.
    pub path: PathBuf,
    /// Why it was not.
    pub reason: String,
}

impl Error {
    /// What a search says in the end.
    pub(crate) fn of_all(mut refused: Vec<Self>, tried: Vec<Attempt>) -> Self {
        match (refused.pop(), refused.is_empty() && tried.is_empty()) {
            (None, _) => Self::NotFound { tried },
            (Some(only), true) => only,
            (Some(last), false) => {
                refused.push(last);
                Self::Unusable { refused, tried }
            }
        }
    }
}

impl Attempt {
    /// The places beside those that an error names already.
    fn others(tried: &[Self]) -> String {
        match tried.is_empty() {
            true => String::new(),
            false => format!(" (also tried: {})", Self::list(tried)),
        }
    }

    fn list(tried: &[Self]) -> String {
        let items: Vec<String> = tried.iter().map(Self::to_string).collect();
        items.join("; ")
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// `Ok` for 0.
pub(crate) fn check(op: &'static str, code: i32) -> Result<(), Error> {
    if code == 0 {
        Ok(())
    } else {
        Err(Error::Status { op, code })
    }
}

/// A length as the C function takes it.
pub(crate) fn narrow<T: TryFrom<usize>>(op: &'static str, value: usize) -> Result<T, Error> {
    T::try_from(value).map_err(|_| Error::TooLarge { op, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_the_function_the_code_and_what_it_means() {
        assert!(check("AX_SYS_Init", 0).is_ok());
        let error = check("AX_SYS_MemAllocCached", 0x800b_0018_u32 as i32).unwrap_err();
        assert_eq!(
            error.to_string(),
            "AX_SYS_MemAllocCached returned 0x800b0018 (memory: no memory is left)"
        );
        assert!(error.is_out_of_memory());
        let error = check("axclInit", 9).unwrap_err();
        assert_eq!(error.to_string(), "axclInit returned 0x00000009");
        assert!(!error.is_out_of_memory());
        let error = check("axclrtMalloc", 0x8030_0507_u32 as i32).unwrap_err();
        assert!(error.is_out_of_memory(), "{error}");
    }

    #[test]
    fn missing_libraries_name_every_place_and_the_remedy() {
        let attempt = |path: &str, reason: &str| Attempt {
            path: path.into(),
            reason: reason.into(),
        };
        let tried = vec![
            attempt("/a/lib", "no such folder"),
            attempt("libaxcl_rt.so", "nope"),
        ];
        let text = Error::NotFound { tried }.to_string();
        for part in [
            "/a/lib: no such folder",
            "libaxcl_rt.so: nope",
            "axclhost",
            crate::ENV_LIB,
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}
