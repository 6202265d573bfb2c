// SPDX-License-Identifier: MPL-2.0

//! What can go wrong with the libraries, and the one place where a status becomes an error.

use std::path::PathBuf;

use vendor_library::{ArgumentError, LoadError, Vendor};

use crate::code::meaning;

/// Environment variable that names the folder of the libraries; if set, no other place is tried.
pub const ENV_LIB: &str = "VLMCAPTION_AXERA_LIB";

/// How messages call the libraries.
pub(crate) const VENDOR: Vendor = Vendor {
    libraries: "libaxcl_rt.so (card) or libax_engine.so (board)",
    package: "Axera's axclhost package on a host with a card, the board's SDK on a board",
    env: ENV_LIB,
    files: "the library",
};

/// Why the libraries could not be loaded, or what one of their functions said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The libraries are not there, or are others than `soc.h` and `card.h` describe.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An argument that a C function cannot be given.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
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
    /// A function reported success without a result, or an argument was refused before the call.
    #[error("{op}: {what}")]
    Refused {
        /// The C function, or what was to be done.
        op: &'static str,
        /// What is wrong.
        what: String,
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

/// `Ok` for 0.
pub(crate) fn check(op: &'static str, code: i32) -> Result<(), Error> {
    if code == 0 {
        Ok(())
    } else {
        Err(Error::Status { op, code })
    }
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
    fn missing_libraries_name_the_remedy() {
        let tried = Vec::new();
        let vendor = VENDOR;
        let text = Error::from(LoadError::NotFound { vendor, tried }).to_string();
        for part in ["libaxcl_rt.so (card)", "axclhost", "board's SDK", ENV_LIB] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}
