// SPDX-License-Identifier: MPL-2.0

//! Memory of large matrices.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Below this the kernel's large pages (2 MiB) would not fit or not matter.
const LARGE_BYTES: usize = 4 << 20;

/// Numbers of a matrix, in large pages where it is large and the kernel grants them (Linux,
/// `transparent_hugepage` at `madvise` or `always`): a token reads all matrices once, and with pages of 4
/// KiB a sixth of that time goes to looking up where they are.
pub(super) enum Pages<T> {
    Heap(Vec<T>),
    Mapped {
        map: MmapMut,
        /// How many numbers.
        len: usize,
    },
}

impl<T: FromBytes + IntoBytes + Immutable + Clone> Pages<T> {
    /// `len` zeros.
    pub(super) fn zeros(len: usize) -> Self {
        let n_bytes = len * size_of::<T>();
        if n_bytes >= LARGE_BYTES
            && let Ok(map) = MmapMut::map_anon(n_bytes)
        {
            // It works as well without, only slower.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Self::Mapped { map, len };
        }
        Self::Heap(vec![T::new_zeroed(); len])
    }
}

impl<T: FromBytes + IntoBytes + Immutable> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Heap(numbers) => numbers,
            // A map begins at a page and was made for `len` numbers.
            Self::Mapped { map, len } => {
                <[T]>::ref_from_bytes_with_elems(map, *len).expect("numbers that fit the map")
            }
        }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Heap(numbers) => numbers,
            // As above.
            Self::Mapped { map, len } => {
                <[T]>::mut_from_bytes_with_elems(map, *len).expect("numbers that fit the map")
            }
        }
    }
}

/// [`Pages`] whose numbers come one after the other.
pub(super) struct Filling<T> {
    pages: Pages<T>,
    filled: usize,
}

impl<T: FromBytes + IntoBytes + Immutable + Clone> Filling<T> {
    /// Makes room for all `len`.
    pub(super) fn new(len: usize) -> Self {
        Self {
            pages: Pages::zeros(len),
            filled: 0,
        }
    }

    /// Appends some; those for which there is no room are dropped.
    pub(super) fn extend(&mut self, numbers: impl ExactSizeIterator<Item = T>) {
        let n = numbers.len();
        for (to, number) in self.pages[self.filled..].iter_mut().zip(numbers) {
            *to = number;
        }
        self.filled = self.pages.len().min(self.filled + n);
    }

    /// The numbers, once all are there.
    pub(super) fn finish(self) -> Pages<T> {
        debug_assert_eq!(self.filled, self.pages.len());
        self.pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_memory_hold_zeros_and_what_is_written() {
        for len in [0, 3, LARGE_BYTES, LARGE_BYTES + 5] {
            let mut pages = Pages::<i8>::zeros(len);
            assert_eq!(pages.len(), len);
            assert!(pages.iter().all(|&x| x == 0));
            if let Some(last) = pages.last_mut() {
                *last = -7;
            }
            assert_eq!(pages.iter().filter(|&&x| x != 0).count(), len.min(1));
        }
    }

    #[test]
    fn numbers_come_one_after_the_other() {
        for len in [7, LARGE_BYTES] {
            let mut filling = Filling::<u16>::new(len);
            filling.extend([1, 2, 3].into_iter());
            filling.extend((0..len - 3).map(|i| i as u16));
            let pages = filling.finish();
            assert_eq!(pages[..5], [1, 2, 3, 0, 1]);
            assert_eq!(pages[len - 1], (len - 4) as u16);
        }
    }
}
