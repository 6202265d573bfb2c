// SPDX-License-Identifier: MPL-2.0

//! Frames as a video file, for servers that take nothing else as a video: an MP4 (ISO/IEC 14496-12 and
//! -14) with one track of JPEGs, each shown from its time to the next one's. Nothing is encoded again.
//!
//! ```text
//! ftyp
//! moov ── mvhd
//!      └─ trak ── tkhd
//!              └─ mdia ── mdhd, hdlr
//!                      └─ minf ── vmhd, dinf
//!                              └─ stbl ── stsd (mp4v, esds: JPEG), stts (times), stsc, stsz, stco
//! mdat    the JPEGs
//! ```

use std::time::Duration;

/// Units of time to a second.
const TIMESCALE: u32 = 1000;

/// How long a last frame is shown that has no other before it.
const ALONE: Duration = Duration::from_secs(1);

/// The object type of JPEGs (ISO/IEC 10918-1), as the registry of MP4 has it.
const JPEG: u8 = 0x6c;

/// No rotation and no scale.
const IDENTITY: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// A video file of JPEGs of one size, each with its time since the first, in order.
pub(super) fn mp4(jpegs: &[&[u8]], times: &[Duration], (width, height): (usize, usize)) -> Vec<u8> {
    let track = Track {
        sizes: jpegs.iter().map(|jpeg| number(jpeg.len())).collect(),
        shown: shown(times),
        width: u16::try_from(width).unwrap_or(u16::MAX),
        height: u16::try_from(height).unwrap_or(u16::MAX),
    };
    let brands: &[&[u8]] = &[b"isom", &be(0x200), b"isom", b"mp42"];
    let mut file = boxed(b"ftyp", brands);
    // Where the frames are does not change how long it is said.
    let before = file.len() + track.movie(0).len() + 8;
    file.extend(track.movie(number(before)));
    file.extend(boxed(b"mdat", jpegs));
    file
}

/// How long each frame is shown, in [`TIMESCALE`]: the last one as long as the one before it.
fn shown(times: &[Duration]) -> Vec<u32> {
    let stamp = |time: &Duration| number(time.as_millis() as usize);
    let stamps: Vec<u32> = times.iter().map(stamp).collect();
    let pairs = stamps.windows(2);
    let mut shown: Vec<u32> = pairs.map(|two| two[1].saturating_sub(two[0])).collect();
    let last = shown.last().copied().unwrap_or_else(|| stamp(&ALONE));
    shown.push(last);
    shown
}

/// What is said of the frames.
struct Track {
    sizes: Vec<u32>,
    /// How long each is shown.
    shown: Vec<u32>,
    width: u16,
    height: u16,
}

impl Track {
    fn duration(&self) -> u32 {
        self.shown.iter().copied().fold(0, u32::saturating_add)
    }

    /// `moov`, of frames that begin at this byte of the file.
    fn movie(&self, offset: u32) -> Vec<u8> {
        let header = full(
            b"mvhd",
            0,
            &[
                &words(&[0, 0, TIMESCALE, self.duration(), 0x1_0000]),
                &be(0x0100_0000),
                &[0; 8],
                &words(&IDENTITY),
                &[0; 24],
                &be(2),
            ],
        );
        boxed(b"moov", &[&header, &self.track(offset)])
    }

    fn track(&self, offset: u32) -> Vec<u8> {
        let (width, height) = (u32::from(self.width) << 16, u32::from(self.height) << 16);
        let header = full(
            b"tkhd",
            7,
            &[
                &words(&[0, 0, 1, 0, self.duration()]),
                &[0; 16],
                &words(&IDENTITY),
                &words(&[width, height]),
            ],
        );
        // The language is undetermined.
        let times = words(&[0, 0, TIMESCALE, self.duration(), 0x55c4_0000]);
        let media = boxed(
            b"mdia",
            &[
                &full(b"mdhd", 0, &[&times]),
                &full(b"hdlr", 0, &[&be(0), b"vide", &[0; 13]]),
                &self.information(offset),
            ],
        );
        boxed(b"trak", &[&header, &media])
    }

    fn information(&self, offset: u32) -> Vec<u8> {
        let here = full(b"url ", 1, &[]);
        let places = boxed(b"dinf", &[&full(b"dref", 0, &[&be(1), &here])]);
        boxed(
            b"minf",
            &[
                &full(b"vmhd", 1, &[&[0; 8]]),
                &places,
                &self.samples(offset),
            ],
        )
    }

    fn samples(&self, offset: u32) -> Vec<u8> {
        let n = number(self.sizes.len());
        let each = self.shown.iter().flat_map(|time| [1, *time]);
        let times: Vec<u32> = [n].into_iter().chain(each).collect();
        let sizes: Vec<u32> = [0, n].iter().chain(&self.sizes).copied().collect();
        boxed(
            b"stbl",
            &[
                &full(b"stsd", 0, &[&be(1), &self.entry()]),
                &full(b"stts", 0, &[&words(&times)]),
                &full(b"stsc", 0, &[&words(&[1, 1, n, 1])]),
                &full(b"stsz", 0, &[&words(&sizes)]),
                &full(b"stco", 0, &[&words(&[1, offset])]),
            ],
        )
    }

    /// `mp4v`: what the frames are.
    fn entry(&self) -> Vec<u8> {
        // An elementary stream 1 of JPEGs, a visual stream, of any rate, timed by the file.
        let decoder: &[u8] = &[JPEG, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let stream = [
            [0x03, 3 + 2 + 13 + 3, 0, 1, 0].as_slice(),
            &[0x04, 13],
            decoder,
            &[0x06, 1, 2],
        ];
        boxed(
            b"mp4v",
            &[
                &[0, 0, 0, 0, 0, 0, 0, 1],
                &[0; 16],
                &self.width.to_be_bytes(),
                &self.height.to_be_bytes(),
                // 72 dots to an inch, one frame to a sample.
                &words(&[0x48_0000, 0x48_0000, 0]),
                &[0, 1],
                &[0; 32],
                &[0, 24, 0xff, 0xff],
                &full(b"esds", 0, &stream),
            ],
        )
    }
}

/// A box: its length, its name, what is in it.
fn boxed(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    [&be(number(content.len() + 8)), name, content.as_slice()].concat()
}

/// A box of version 0 with flags.
fn full(name: &[u8; 4], flags: u32, parts: &[&[u8]]) -> Vec<u8> {
    boxed(name, &[&be(flags), &parts.concat()])
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn be(word: u32) -> [u8; 4] {
    word.to_be_bytes()
}

/// No window comes near 4 GB.
fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The boxes in these bytes, one after another.
    fn boxes(mut bytes: &[u8]) -> Vec<(String, &[u8])> {
        let mut found = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let (content, after) = rest.split_at(length - 4);
            found.push((String::from_utf8_lossy(&content[..4]).into(), &content[4..]));
            bytes = after;
        }
        found
    }

    /// What is in the box at the end of this path.
    fn inside<'a>(file: &'a [u8], path: &[&str]) -> &'a [u8] {
        path.iter().fold(file, |bytes, name| {
            let found = boxes(bytes).into_iter().find(|(known, _)| known == name);
            found.unwrap_or_else(|| panic!("{name}")).1
        })
    }

    fn numbers(content: &[u8]) -> Vec<u32> {
        let words = content.chunks_exact(4);
        words
            .map(|w| u32::from_be_bytes(w.try_into().unwrap()))
            .collect()
    }

    #[test]
    fn each_frame_is_where_and_when_the_file_says() {
        let times = [0, 1000, 1400].map(Duration::from_millis);
        let file = mp4(&[b"one", b"two2", b"three"], &times, (64, 48));
        let table = ["moov", "trak", "mdia", "minf", "stbl"];
        let of = |name| numbers(inside(&file, &[table.as_slice(), &[name]].concat()));
        assert_eq!(of("stts"), [0, 3, 1, 1000, 1, 400, 1, 400]);
        assert_eq!(of("stsz"), [0, 0, 3, 3, 4, 5]);
        let at = of("stco")[2] as usize;
        assert_eq!(&file[at..], b"onetwo2three");
        let names = boxes(&file).into_iter().map(|(name, _)| name);
        assert_eq!(names.collect::<Vec<_>>(), ["ftyp", "moov", "mdat"]);
    }
}
