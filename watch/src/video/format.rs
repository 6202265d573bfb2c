// SPDX-License-Identifier: MPL-2.0

//! What a stream is coded with, and how a browser calls that (RFC 6381).

use std::fmt::Write;

/// The coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    H264,
    H265,
}

impl Codec {
    /// The word for it in the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
        }
    }
}

/// What a decoder has to know before the first picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    pub codec: Codec,
    /// The record `avcC` or `hvcC`, as GStreamer's `codec_data` has it.
    pub config: Vec<u8>,
    pub width: u16,
    pub height: u16,
}

impl Format {
    /// The MIME type with its `codecs`; nothing if the record is too short to be one.
    pub fn mime(&self) -> Option<String> {
        let codec = match self.codec {
            Codec::H264 => {
                let [profile, compatible, level] = self.config.get(1..4)? else {
                    return None;
                };
                format!("avc1.{profile:02x}{compatible:02x}{level:02x}")
            }
            Codec::H265 => hevc(&self.config)?,
        };
        Some(format!("video/mp4; codecs=\"{codec}\""))
    }
}

/// ISO/IEC 14496-15, annex E: profile, compatibility in reverse order of bits, tier and level, and
/// constraints without the zeros at their end.
fn hevc(config: &[u8]) -> Option<String> {
    let record: &[u8; 13] = config.first_chunk()?;
    let profile = record[1];
    let space = ["", "A", "B", "C"][usize::from(profile >> 6)];
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let compatible = u32::from_be_bytes([record[2], record[3], record[4], record[5]]);
    let mut name = format!(
        "hvc1.{space}{}.{:x}.{tier}{}",
        profile & 0x1f,
        compatible.reverse_bits(),
        record[12]
    );
    let constraints = &record[6..12];
    let n = constraints
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    for byte in &constraints[..n] {
        write!(name, ".{byte:x}").ok()?;
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mime(codec: Codec, config: &[u8]) -> Option<String> {
        let format = Format {
            codec,
            config: config.to_vec(),
            width: 640,
            height: 360,
        };
        format.mime()
    }

    #[test]
    fn names_are_those_of_the_standards() {
        assert_eq!(
            mime(Codec::H264, &[1, 0x42, 0xc0, 0x1e, 0xff]).unwrap(),
            "video/mp4; codecs=\"avc1.42c01e\""
        );
        // The example of annex E: main profile, level 3.1, progressive.
        let main = [1, 1, 0x60, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 93];
        assert_eq!(
            mime(Codec::H265, &main).unwrap(),
            "video/mp4; codecs=\"hvc1.1.6.L93.b0\""
        );
    }

    #[test]
    fn a_record_that_was_cut_off_has_no_name() {
        assert_eq!(mime(Codec::H264, &[1, 2]), None);
        assert_eq!(mime(Codec::H265, &[1; 12]), None);
    }
}
