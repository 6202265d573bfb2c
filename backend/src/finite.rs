// SPDX-License-Identifier: MPL-2.0

//! Whether what was computed is a number: NaN and infinity begin with one damaged weight and end as a
//! plausible text, since a sampler takes the largest of whatever is there.

use super::Error;

/// The bits of a magnitude; those of infinity and NaN are the largest.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// Whether no number is NaN or infinite.
pub(super) fn is_finite(numbers: &[f32]) -> bool {
    // Integers, since a comparison of floats passes over NaN; signed ones, which the oldest vector
    // units compare.
    let infinity = f32::INFINITY.to_bits().cast_signed();
    let bad = numbers.iter().fold(0, |bad, x| {
        bad | i32::from((x.to_bits() & MAGNITUDE).cast_signed() >= infinity)
    });
    bad == 0
}

/// Refuses what is not finite.
///
/// # Errors
/// [`Error::NotANumber`] with the place.
pub(super) fn check(numbers: &[f32], place: impl FnOnce() -> String) -> Result<(), Error> {
    match is_finite(numbers) {
        true => Ok(()),
        false => Err(Error::NotANumber { place: place() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_none_is_found_wherever_it_stands() {
        let mut numbers: Vec<f32> = (0..200).map(|i| i as f32 - 100.0).collect();
        numbers.extend([f32::MAX, f32::MIN, -0.0]);
        assert!(is_finite(&numbers) && is_finite(&[]));
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..numbers.len() {
                let good = std::mem::replace(&mut numbers[at], bad);
                assert!(!is_finite(&numbers), "{bad} at {at}");
                numbers[at] = good;
            }
        }
        let error = check(&[f32::NAN], || "decoder layer 3".to_owned()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("NaN or infinity) in decoder layer 3"),
            "{error}"
        );
    }
}
