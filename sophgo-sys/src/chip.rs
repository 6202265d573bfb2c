// SPDX-License-Identifier: MPL-2.0

//! Which chip it is, and which compiled models it takes.

use std::fmt;
use std::path::Path;

/// A chip by the id that `bm_get_chipid` gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Chip {
    /// One core; SC7 cards, SE7 boxes.
    Bm1684x,
    /// Two cores; SE9 boxes. CV186X, its relative with one core, has the same id.
    Bm1688,
    /// A chip that no language model is compiled for, or one newer than this crate.
    Other(u32),
}

impl Chip {
    /// The chip with this id.
    pub fn from_id(id: u32) -> Self {
        match id {
            0x1686 => Self::Bm1684x,
            0x1686_a200 => Self::Bm1688,
            other => Self::Other(other),
        }
    }

    /// Whether a bmodel whose header names `chip` can run here.
    ///
    /// Old files say `BM1686` for BM1684X. The name is compared without regard to case.
    pub fn runs(self, chip: &str) -> bool {
        let names: &[&str] = match self {
            Self::Bm1684x => &["BM1684X", "BM1686"],
            Self::Bm1688 => &["BM1688", "CV186X"],
            Self::Other(_) => &[],
        };
        names.iter().any(|name| name.eq_ignore_ascii_case(chip))
    }

    /// The file from which libbmlib loads the code that copies and fills device memory.
    ///
    /// The path is fixed in the library, wherever that was loaded from: without the file
    /// `bm_memcpy_d2d_byte` and `bm_memset_device_ext` fail on a BM1684X (not on its emulator).
    pub fn kernel_module(self) -> Option<&'static Path> {
        match self {
            Self::Bm1684x => Some(Path::new(
                "/opt/sophon/libsophon-current/lib/tpu_module/libbm1684x_kernel_module.so",
            )),
            Self::Bm1688 | Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bm1684x => f.write_str("BM1684X"),
            Self::Bm1688 => f.write_str("BM1688"),
            Self::Other(0x1684) => f.write_str("BM1684"),
            Self::Other(0x2260) => f.write_str("BM1690"),
            Self::Other(id) => write!(f, "chip {id:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bm1684x_takes_files_with_either_of_its_names() {
        let chip = Chip::from_id(0x1686);
        assert_eq!(chip, Chip::Bm1684x);
        assert!(chip.runs("BM1684X") && chip.runs("BM1686"));
        assert!(!chip.runs("BM1684") && !chip.runs("BM1688"));
    }

    #[test]
    fn a_bm1688_takes_cv186x_files() {
        let chip = Chip::from_id(0x1686_a200);
        assert_eq!(chip, Chip::Bm1688);
        assert!(chip.runs("BM1688") && chip.runs("CV186X") && !chip.runs("BM1684X"));
    }

    #[test]
    fn an_unknown_chip_runs_nothing_and_shows_its_id() {
        let chip = Chip::from_id(0x3000);
        assert!(!chip.runs("BM1684X") && !chip.runs(""));
        assert_eq!(chip.to_string(), "chip 0x3000");
        assert_eq!(Chip::from_id(0x1684).to_string(), "BM1684");
    }
}
