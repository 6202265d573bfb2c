// SPDX-License-Identifier: MPL-2.0

//! Arguments of C functions: what cannot be passed is refused before the call.

use std::ffi::CString;

/// An argument that a C function has no room for, or must not be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// A size or number that the C function has no room for.
    #[error("{op} cannot take {value}: its arguments have 32 bits")]
    TooLarge {
        /// The C function.
        op: &'static str,
        /// The size or number.
        value: usize,
    },
    /// A transfer beyond the end of memory. The libraries end the process at some and overwrite
    /// other memory at others.
    #[error("{op}: bytes {offset}..{} are not inside memory of {size} bytes", .offset.saturating_add(*.len))]
    OutOfRange {
        /// The C function, or what was to be done.
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
}

/// A length as the C function takes it.
///
/// # Errors
/// [`ArgumentError::TooLarge`].
pub fn narrow<T: TryFrom<usize>>(op: &'static str, value: usize) -> Result<T, ArgumentError> {
    T::try_from(value).map_err(|_| ArgumentError::TooLarge { op, value })
}

/// That the `len` bytes from `offset` on are inside memory of `size` bytes.
///
/// # Errors
/// [`ArgumentError::OutOfRange`].
pub fn check_range(
    op: &'static str,
    offset: usize,
    len: usize,
    size: usize,
) -> Result<(), ArgumentError> {
    match offset.checked_add(len).is_some_and(|end| end <= size) {
        true => Ok(()),
        false => Err(ArgumentError::OutOfRange {
            op,
            offset,
            len,
            size,
        }),
    }
}

/// Bytes as a C string.
///
/// # Errors
/// [`ArgumentError::ZeroByte`].
pub fn c_string(op: &'static str, bytes: &[u8]) -> Result<CString, ArgumentError> {
    CString::new(bytes).map_err(|_| ArgumentError::ZeroByte {
        op,
        text: String::from_utf8_lossy(bytes).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_32_bits_is_refused() {
        assert_eq!(narrow::<u32>("f", 0xffff_ffff), Ok(u32::MAX));
        let error = narrow::<u32>("bm_malloc_device_byte", 1 << 32).unwrap_err();
        assert!(error.to_string().contains("4294967296"), "{error}");
        assert!(narrow::<i32>("f", 0x8000_0000).is_err());
    }

    #[test]
    fn a_range_that_ends_with_the_memory_is_inside() {
        assert!(check_range("write", 60, 4, 64).is_ok());
        assert!(check_range("write", 64, 0, 64).is_ok());
        assert!(check_range("write", 65, 0, 64).is_err());
        let error = check_range("write", 61, 4, 64).unwrap_err();
        let want = "write: bytes 61..65 are not inside memory of 64 bytes";
        assert_eq!(error.to_string(), want);
    }

    #[test]
    fn a_range_whose_end_no_number_holds_is_refused() {
        let error = check_range("read", usize::MAX, 2, 64).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("read: bytes 18446744073709551615..")
        );
    }

    #[test]
    fn a_string_with_a_zero_byte_is_refused() {
        assert_eq!(c_string("load", b"net").unwrap().as_bytes(), b"net");
        let error = c_string("load", b"a\0b").unwrap_err();
        assert!(
            error.to_string().starts_with("load cannot take \"a\\0b\""),
            "{error}"
        );
    }
}
