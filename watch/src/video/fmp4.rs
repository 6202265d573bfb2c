// SPDX-License-Identifier: MPL-2.0

//! Fragmented MP4 (ISO/IEC 14496-12 and -15) of one track of video: what a browser's `MediaSource` is fed
//! with, and what a clip is while it grows. Pure: bytes in, bytes out.
//!
//! ```text
//! ftyp moov{mvhd trak{…stsd{avc1{avcC}}} mvex{trex}}      once
//! moof{mfhd traf{tfhd tfdt trun}} mdat                     for every few pictures
//! ```

use super::boxes::{boxed, full, u16, u32, u64};
use super::format::{Codec, Format};

/// Ticks a second of all times here.
pub const TIMESCALE: u32 = 90_000;
/// Flags of a sample: it depends on none, and is a sync sample; or it depends on others and is none.
const KEY: u32 = 0x0200_0000;
const DELTA: u32 = 0x0101_0000;

/// A picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample<'a> {
    pub data: &'a [u8],
    /// When it is decoded.
    pub dts: u64,
    pub duration: u32,
    /// How much later it is shown.
    pub offset: i32,
    pub key: bool,
}

/// Nanoseconds in ticks.
pub fn ticks(nanos: i64) -> i64 {
    // 90,000 in 10⁹; in 128 bits so that no time is too long.
    i64::try_from(i128::from(nanos) * 9 / 100_000).unwrap_or(i64::MAX)
}

/// What comes before all fragments.
pub fn init(format: &Format) -> Vec<u8> {
    let mut out = Vec::with_capacity(700);
    ftyp(&mut out);
    boxed(&mut out, b"moov", |out| {
        mvhd(out, 0);
        track(out, &Track::of(format), Times::default(), |out| {
            for kind in [b"stts", b"stsc", b"stco"] {
                full(out, kind, (0, 0), |out| u32(out, 0));
            }
            full(out, b"stsz", (0, 0), |out| u64(out, 0));
        });
        boxed(out, b"mvex", |out| {
            full(out, b"trex", (0, 0), |out| {
                for value in [1, 1, 0, 0, 0] {
                    u32(out, value);
                }
            });
        });
    });
    out
}

/// Some pictures in the order in which they are decoded; the first one's time counts, the others follow
/// by their durations.
pub fn fragment(sequence: u32, samples: &[Sample]) -> Vec<u8> {
    let payload: usize = samples.iter().map(|sample| sample.data.len()).sum();
    let mut out = Vec::with_capacity(payload + 128 + 16 * samples.len());
    let mut offset_at = 0;
    boxed(&mut out, b"moof", |out| {
        full(out, b"mfhd", (0, 0), |out| u32(out, sequence));
        boxed(out, b"traf", |out| {
            // default-base-is-moof
            full(out, b"tfhd", (0, 0x02_0000), |out| u32(out, 1));
            let first = samples.first().map_or(0, |sample| sample.dts);
            full(out, b"tfdt", (1, 0), |out| u64(out, first));
            // data offset; and of each sample duration, size, flags, composition offset
            full(out, b"trun", (1, 0x0f01), |out| {
                u32(out, u32::try_from(samples.len()).unwrap_or(u32::MAX));
                offset_at = out.len();
                u32(out, 0);
                for sample in samples {
                    u32(out, sample.duration);
                    u32(out, u32::try_from(sample.data.len()).unwrap_or(u32::MAX));
                    u32(out, if sample.key { KEY } else { DELTA });
                    u32(out, sample.offset.cast_unsigned());
                }
            });
        });
    });
    let data_at = u32::try_from(out.len() + 8).unwrap_or(u32::MAX);
    out[offset_at..offset_at + 4].copy_from_slice(&data_at.to_be_bytes());
    boxed(&mut out, b"mdat", |out| {
        for sample in samples {
            out.extend_from_slice(sample.data);
        }
    });
    out
}

/// Whether the flags of a sample are those of a keyframe.
pub fn is_key(flags: u32) -> bool {
    flags & 0x0001_0000 == 0
}

/// What a track is, beside its samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    pub width: u16,
    pub height: u16,
    /// What is in `stsd`, the version and flags included.
    pub stsd: Vec<u8>,
}

impl Track {
    /// Of a stream.
    pub fn of(format: &Format) -> Self {
        let mut stsd = Vec::new();
        u32(&mut stsd, 0);
        u32(&mut stsd, 1);
        let (entry, record) = match format.codec {
            Codec::H264 => (b"avc1", b"avcC"),
            Codec::H265 => (b"hvc1", b"hvcC"),
        };
        boxed(&mut stsd, entry, |out| {
            out.extend([0; 6]);
            u16(out, 1);
            out.extend([0; 16]);
            u16(out, format.width);
            u16(out, format.height);
            u32(out, 0x0048_0000);
            u32(out, 0x0048_0000);
            u32(out, 0);
            u16(out, 1);
            out.extend([0; 32]);
            u16(out, 0x18);
            u16(out, 0xffff);
            boxed(out, record, |out| out.extend(&format.config));
        });
        Self {
            width: format.width,
            height: format.height,
            stsd,
        }
    }
}

pub(super) fn ftyp(out: &mut Vec<u8>) {
    boxed(out, b"ftyp", |out| {
        out.extend(b"iso5");
        u32(out, 512);
        out.extend(b"iso5iso6mp41");
    });
}

/// The head of the whole; durations in ticks.
pub(super) fn mvhd(out: &mut Vec<u8>, duration: u64) {
    full(out, b"mvhd", (1, 0), |out| {
        u64(out, 0);
        u64(out, 0);
        u32(out, TIMESCALE);
        u64(out, duration);
        u32(out, 0x0001_0000);
        u16(out, 0x0100);
        out.extend([0; 10]);
        matrix(out);
        out.extend([0; 24]);
        u32(out, 2);
    });
}

/// How long a track is, in ticks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    pub decoded: u64,
    pub shown: u64,
    /// How much later the first picture is shown than decoded.
    pub shift: u32,
}

/// The track, its samples' tables given.
pub(super) fn track(
    out: &mut Vec<u8>,
    track: &Track,
    times: Times,
    tables: impl FnOnce(&mut Vec<u8>),
) {
    boxed(out, b"trak", |out| {
        full(out, b"tkhd", (1, 3), |out| {
            u64(out, 0);
            u64(out, 0);
            u32(out, 1);
            u32(out, 0);
            u64(out, times.shown);
            out.extend([0; 16]);
            matrix(out);
            u32(out, u32::from(track.width) << 16);
            u32(out, u32::from(track.height) << 16);
        });
        if times.shift > 0 {
            boxed(out, b"edts", |out| {
                full(out, b"elst", (1, 0), |out| {
                    u32(out, 1);
                    u64(out, times.shown);
                    u64(out, u64::from(times.shift));
                    u32(out, 0x0001_0000);
                });
            });
        }
        boxed(out, b"mdia", |out| {
            full(out, b"mdhd", (1, 0), |out| {
                u64(out, 0);
                u64(out, 0);
                u32(out, TIMESCALE);
                u64(out, times.decoded);
                // "und"
                u16(out, 0x55c4);
                u16(out, 0);
            });
            full(out, b"hdlr", (0, 0), |out| {
                u32(out, 0);
                out.extend(b"vide");
                out.extend([0; 12]);
                out.extend(b"video\0");
            });
            boxed(out, b"minf", |out| {
                full(out, b"vmhd", (0, 1), |out| u64(out, 0));
                boxed(out, b"dinf", |out| {
                    full(out, b"dref", (0, 0), |out| {
                        u32(out, 1);
                        full(out, b"url ", (0, 1), |_| {});
                    });
                });
                boxed(out, b"stbl", |out| {
                    boxed(out, b"stsd", |out| out.extend(&track.stsd));
                    tables(out);
                });
            });
        });
    });
}

fn matrix(out: &mut Vec<u8>) {
    for value in [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000] {
        u32(out, value);
    }
}
