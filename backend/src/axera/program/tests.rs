// SPDX-License-Identifier: MPL-2.0

use super::*;

/// `0` where a mask lets through, `m` where not.
fn drawn(mask: &[u8], columns: usize) -> Vec<String> {
    let halves = mask.as_chunks::<2>().0;
    let sign = |half: &[u8; 2]| match half {
        [0, 0] => '0',
        _ => 'm',
    };
    let rows = halves.chunks(columns);
    rows.map(|row| row.iter().map(sign).collect()).collect()
}

#[test]
fn masked_is_minus_65536() {
    assert_eq!(bf16::from_le_bytes(MASKED).to_f32(), -65536.0);
}

#[test]
fn a_row_sees_itself_and_what_was_before() {
    assert_eq!(
        drawn(&mask(4, 0, 0, 3), 4),
        ["0mmm", "00mm", "000m", "mmmm"]
    );
}

#[test]
fn a_chunk_stands_behind_the_whole_history() {
    assert_eq!(drawn(&mask(2, 4, 3, 2), 6), ["000m0m", "000m00"]);
}

#[test]
fn a_token_sees_the_rows_before_and_the_last_column() {
    assert_eq!(drawn(&mask(1, 5, 2, 1), 6), ["00mmm0"]);
}
