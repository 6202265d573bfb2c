// SPDX-License-Identifier: MPL-2.0

//! Boxes of ISO/IEC 14496-12: a length, four letters, and what is in it.

/// Puts a box around what `fill` writes.
pub fn boxed(out: &mut Vec<u8>, kind: &[u8; 4], fill: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([0; 4]);
    out.extend(kind);
    fill(out);
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// A box that begins with a version and flags.
pub fn full(
    out: &mut Vec<u8>,
    kind: &[u8; 4],
    (version, flags): (u8, u32),
    fill: impl FnOnce(&mut Vec<u8>),
) {
    boxed(out, kind, |out| {
        u32(out, u32::from(version) << 24 | flags);
        fill(out);
    });
}

pub fn u16(out: &mut Vec<u8>, value: u16) {
    out.extend(value.to_be_bytes());
}

pub fn u32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_be_bytes());
}

pub fn u64(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_be_bytes());
}

/// The head of a box: its letters, the length of the head, and that of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub kind: [u8; 4],
    pub head: u64,
    pub whole: u64,
}

/// Reads the head of a box from its first 16 bytes, or from the 8 that there are.
pub fn head(bytes: &[u8]) -> Option<Head> {
    let length = u64::from(u32::from_be_bytes(*bytes.first_chunk()?));
    let kind = *bytes.get(4..)?.first_chunk()?;
    let (head, whole) = if length == 1 {
        (16, u64::from_be_bytes(*bytes.get(8..)?.first_chunk()?))
    } else {
        (8, length)
    };
    (whole >= head).then_some(Head { kind, head, whole })
}

/// What is in the first box of this kind among those in `bytes`, without its head.
pub fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    let mut rest = bytes;
    loop {
        let found = head(rest)?;
        let whole = usize::try_from(found.whole).ok()?;
        let body = rest.get(usize::try_from(found.head).ok()?..whole)?;
        if found.kind == *kind {
            return Some(body);
        }
        rest = rest.get(whole..)?;
    }
}

/// [`find`], box in box.
pub fn find_in<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, kind| find(bytes, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_box_in_a_box_is_found() {
        let mut out = Vec::new();
        boxed(&mut out, b"free", |out| u16(out, 7));
        boxed(&mut out, b"moov", |out| {
            full(out, b"mvhd", (1, 2), |out| u64(out, 3));
            boxed(out, b"trak", |out| u32(out, 9));
        });
        assert_eq!(find_in(&out, &[b"moov", b"trak"]), Some(&[0, 0, 0, 9][..]));
        assert_eq!(find(&out, b"trak"), None);
        assert_eq!(
            find_in(&out, &[b"moov", b"mvhd"]).unwrap()[..4],
            [1, 0, 0, 2]
        );
    }

    proptest! {
        /// Whatever lies on the disk is read to an end, within its bounds.
        #[test]
        fn no_bytes_are_too_wild(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = find_in(&bytes, &[b"moov", b"trak"]);
            if let Some(found) = head(&bytes) {
                prop_assert!(found.head <= found.whole);
            }
        }
    }
}
