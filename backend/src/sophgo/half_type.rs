// SPDX-License-Identifier: MPL-2.0

//! The 16-bit number type of a bmodel.

use half::{bf16, f16};

use super::bmodel::DataType;

/// The type of hidden states, masks and caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfType {
    /// bfloat16: `-q bf16`, `w4bf16`, `w8bf16`.
    Bf16,
    /// IEEE half: `-q f16`, `w4f16`, `w8f16`.
    F16,
}

impl HalfType {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Bytes of a number.
    pub const BYTES: usize = 2;

    /// The type with the vendor's number, if it is one of the two.
    pub fn of(dtype: DataType) -> Option<Self> {
        match dtype {
            DataType::Bf16 => Some(Self::Bf16),
            DataType::F16 => Some(Self::F16),
            DataType::F32 | DataType::I32 | DataType::Other(_) => None,
        }
    }

    /// The vendor's number of the type.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Bf16 => DataType::Bf16,
            Self::F16 => DataType::F16,
        }
    }

    /// What a mask holds where nothing is attended to: about -10000, as the compiler's own masks.
    pub fn masked(self) -> [u8; 2] {
        match self {
            Self::Bf16 => bf16::from_f32(-9984.0).to_le_bytes(),
            Self::F16 => f16::from_f32(-10_000.0).to_le_bytes(),
        }
    }

    /// Numbers as floats.
    pub fn to_f32(self, bytes: &[u8]) -> Vec<f32> {
        let numbers = bytes.as_chunks::<2>().0.iter();
        match self {
            Self::Bf16 => numbers.map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
            Self::F16 => numbers.map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_what_the_compiler_writes() {
        assert_eq!(HalfType::Bf16.masked(), 0xc61c_u16.to_le_bytes());
        assert_eq!(HalfType::F16.masked(), 0xf0e2_u16.to_le_bytes());
    }
}
