// SPDX-License-Identifier: MPL-2.0

//! A finished clip: the fragments of a file that grew become one MP4 that any player can seek in. What a
//! process that was killed left behind is read as far as it is whole.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::boxes::{self, boxed, find, find_in, full, u32, u64};
use super::fmp4::{self, Track};

/// A head that is larger is none of ours.
const LARGEST_HEAD: u64 = 4 << 20;
/// The most pictures of a clip: ten minutes at 60 a second.
const MOST: usize = 36_000;

/// A picture in a file of fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Where it lies in the file.
    pub at: u64,
    pub size: u32,
    pub dts: u64,
    pub duration: u32,
    pub offset: i32,
    pub key: bool,
}

impl Place {
    /// When it is shown.
    fn shown(&self) -> u64 {
        self.dts.saturating_add_signed(i64::from(self.offset))
    }
}

/// What is whole of a file of fragments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub track: Track,
    pub places: Vec<Place>,
}

impl Part {
    /// From when the first picture is shown to the end of the last, in ticks.
    pub fn span(&self) -> Option<(u64, u64)> {
        let first = self.places.iter().map(Place::shown).min()?;
        let ends = self
            .places
            .iter()
            .map(|place| place.shown() + u64::from(place.duration));
        Some((first, ends.max()?))
    }
}

/// Reads what is whole of a file of fragments; nothing if there is no head.
pub fn scan(file: &mut (impl Read + Seek)) -> io::Result<Option<Part>> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut at = 0;
    let mut track = None;
    let mut fragment: Vec<Place> = Vec::new();
    let mut places = Vec::new();
    while at + 8 <= length {
        let mut first = [0; 16];
        let n = usize::try_from(length - at).unwrap_or(16).min(16);
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut first[..n])?;
        let Some(head) = boxes::head(&first[..n]) else {
            break;
        };
        let Some(end) = at.checked_add(head.whole).filter(|end| *end <= length) else {
            break;
        };
        let mut body = || -> io::Result<Vec<u8>> {
            let size = (head.whole - head.head).min(LARGEST_HEAD);
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
            file.seek(SeekFrom::Start(at + head.head))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        match &head.kind {
            b"moov" => track = track_of(&body()?),
            b"moof" => fragment = places_of(&body()?, at).unwrap_or_default(),
            b"mdat" => {
                let within =
                    |place: &Place| place.at > at && place.at + u64::from(place.size) <= end;
                if !fragment.iter().all(within) || places.len() + fragment.len() > MOST {
                    break;
                }
                places.append(&mut fragment);
            }
            _ => {}
        }
        at = end;
    }
    Ok(track.map(|track| Part { track, places }))
}

fn track_of(moov: &[u8]) -> Option<Track> {
    let trak = find(moov, b"trak")?;
    let tkhd = find(trak, b"tkhd")?;
    let side = |at: usize| Some(u16::from_be_bytes(*tkhd.get(at..)?.first_chunk()?));
    // The last two fields, as 16.16.
    let width = side(tkhd.len().checked_sub(8)?)?;
    let height = side(tkhd.len().checked_sub(4)?)?;
    let stsd = find_in(trak, &[b"mdia", b"minf", b"stbl", b"stsd"])?.to_vec();
    Some(Track {
        width,
        height,
        stsd,
    })
}

/// The pictures of a fragment whose `moof` begins at `at`, as [`fmp4::fragment`] writes them.
fn places_of(moof: &[u8], at: u64) -> Option<Vec<Place>> {
    let traf = find(moof, b"traf")?;
    let mut dts = u64::from_be_bytes(*find(traf, b"tfdt")?.get(4..)?.first_chunk()?);
    let trun = find(traf, b"trun")?;
    let word = |n: usize| {
        let bytes = trun.get(4 * n..)?;
        Some(u32::from_be_bytes(*bytes.first_chunk()?))
    };
    if word(0)? != 0x0100_0f01 {
        return None;
    }
    let n = usize::try_from(word(1)?).ok()?.min(trun.len() / 16);
    let mut from = at + u64::from(word(2)?);
    let mut places = Vec::with_capacity(n);
    for sample in 0..n {
        let field = |k: usize| word(3 + 4 * sample + k);
        let (duration, size) = (field(0)?, field(1)?);
        places.push(Place {
            at: from,
            size,
            dts,
            duration,
            offset: field(3)?.cast_signed(),
            key: fmp4::is_key(field(2)?),
        });
        from += u64::from(size);
        dts = dts.checked_add(u64::from(duration))?;
    }
    Some(places)
}

/// Writes the whole of a part as one movie, all of its head first.
pub fn write(part: &Part, file: &mut (impl Read + Seek), out: &mut impl Write) -> io::Result<()> {
    // The head has the same length whatever offsets are in it.
    let length = head(part, 0).len();
    out.write_all(&head(part, u64::try_from(length).unwrap_or(u64::MAX)))?;
    for place in &part.places {
        file.seek(SeekFrom::Start(place.at))?;
        let size = u64::from(place.size);
        if io::copy(&mut file.take(size), out)? < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// All that comes before the pictures, which begin at `data_at`.
fn head(part: &Part, data_at: u64) -> Vec<u8> {
    let places = &part.places;
    let durations: Vec<u32> = durations(places);
    let whole: u64 = durations.iter().map(|ticks| u64::from(*ticks)).sum();
    let begin = places.first().map_or(0, |place| place.dts);
    let (first, last) = part.span().unwrap_or((begin, begin));
    let shift = u32::try_from(first.saturating_sub(begin)).unwrap_or(0);
    let mut out = Vec::with_capacity(1_000 + 16 * places.len());
    fmp4::ftyp(&mut out);
    boxed(&mut out, b"moov", |out| {
        fmp4::mvhd(out, last - first);
        let times = fmp4::Times {
            decoded: whole,
            shown: last - first,
            shift,
        };
        fmp4::track(out, &part.track, times, |out| {
            tables(out, places, &durations, data_at);
        });
    });
    let payload: u64 = places.iter().map(|place| u64::from(place.size)).sum();
    match u32::try_from(payload + 8) {
        Ok(size) => {
            u32(&mut out, size);
            out.extend(b"mdat");
        }
        Err(_) => {
            u32(&mut out, 1);
            out.extend(b"mdat");
            u64(&mut out, payload + 16);
        }
    }
    out
}

/// How long each picture is shown: until the next one is decoded, whatever was thought when it came.
fn durations(places: &[Place]) -> Vec<u32> {
    let mut durations: Vec<u32> = places
        .windows(2)
        .map(|pair| u32::try_from(pair[1].dts.saturating_sub(pair[0].dts)).unwrap_or(u32::MAX))
        .collect();
    durations.extend(places.last().map(|place| place.duration));
    durations
}

fn tables(out: &mut Vec<u8>, places: &[Place], durations: &[u32], data_at: u64) {
    let n = u32::try_from(places.len()).unwrap_or(u32::MAX);
    let runs = |out: &mut Vec<u8>, values: &mut dyn Iterator<Item = u32>| {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for value in values {
            match runs.last_mut() {
                Some((count, last)) if *last == value => *count += 1,
                _ => runs.push((1, value)),
            }
        }
        u32(out, u32::try_from(runs.len()).unwrap_or(u32::MAX));
        for (count, value) in runs {
            u32(out, count);
            u32(out, value);
        }
    };
    full(out, b"stts", (0, 0), |out| {
        runs(out, &mut durations.iter().copied())
    });
    if places.iter().any(|place| place.offset != 0) {
        full(out, b"ctts", (1, 0), |out| {
            runs(
                out,
                &mut places.iter().map(|place| place.offset.cast_unsigned()),
            )
        });
    }
    if places.iter().any(|place| !place.key) {
        let keys = (1..).zip(places).filter(|(_, place)| place.key);
        let keys: Vec<u32> = keys.map(|(n, _)| n).collect();
        full(out, b"stss", (0, 0), |out| {
            u32(out, u32::try_from(keys.len()).unwrap_or(u32::MAX));
            keys.iter().for_each(|key| u32(out, *key));
        });
    }
    full(out, b"stsc", (0, 0), |out| {
        for value in [1, 1, n, 1] {
            u32(out, value);
        }
    });
    full(out, b"stsz", (0, 0), |out| {
        u32(out, 0);
        u32(out, n);
        places.iter().for_each(|place| u32(out, place.size));
    });
    full(out, b"co64", (0, 0), |out| {
        u32(out, 1);
        u64(out, data_at);
    });
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::super::fmp4::{Sample, fragment, init};
    use super::super::format::{Codec, Format};
    use super::*;

    fn format() -> Format {
        Format {
            codec: Codec::H264,
            config: vec![1, 0x42, 0xc0, 0x1e, 0xff, 0xe0, 0],
            width: 640,
            height: 360,
        }
    }

    /// A picture that is yet to be borrowed.
    #[derive(Debug, Clone)]
    struct Owned {
        data: Vec<u8>,
        duration: u32,
        offset: i32,
        key: bool,
    }

    fn owned() -> impl Strategy<Value = Owned> {
        let data = proptest::collection::vec(any::<u8>(), 1..40);
        (data, 1_u32..90_000, 0_i32..9_000, any::<bool>()).prop_map(
            |(data, duration, offset, key)| Owned {
                data,
                duration,
                offset,
                key,
            },
        )
    }

    /// The file, the places that it should have, and where each fragment ends.
    fn grown(fragments: &[Vec<Owned>]) -> (Vec<u8>, Vec<Owned>, Vec<usize>) {
        let mut file = init(&format());
        let mut dts = 1_u64 << 40;
        let mut ends = Vec::new();
        for (n, pictures) in (1..).zip(fragments) {
            let begin = dts;
            let samples: Vec<Sample> = pictures
                .iter()
                .map(|owned| {
                    let sample = Sample {
                        data: &owned.data,
                        dts,
                        duration: owned.duration,
                        offset: owned.offset,
                        key: owned.key,
                    };
                    dts += u64::from(owned.duration);
                    sample
                })
                .collect();
            assert!(begin < dts);
            file.extend(fragment(n, &samples));
            ends.push(file.len());
        }
        (file, fragments.concat(), ends)
    }

    proptest! {
        /// Whatever was written is read again, and of a file that was cut off all whole fragments are.
        #[test]
        fn what_was_written_is_found(
            fragments in proptest::collection::vec(proptest::collection::vec(owned(), 1..5), 1..6),
            cut in 0.0..1.0,
        ) {
            let (file, pictures, ends) = grown(&fragments);
            let part = scan(&mut Cursor::new(&file)).unwrap().unwrap();
            prop_assert_eq!(&part.track, &Track::of(&format()));
            prop_assert_eq!(part.places.len(), pictures.len());
            for (place, owned) in part.places.iter().zip(&pictures) {
                let at = usize::try_from(place.at).unwrap();
                prop_assert_eq!(&file[at..at + owned.data.len()], &owned.data[..]);
                let told = (place.duration, place.offset, place.key);
                prop_assert_eq!(told, (owned.duration, owned.offset, owned.key));
            }
            let begin = init(&format()).len();
            let length = begin + ((file.len() - begin) as f64 * cut) as usize;
            let cut = scan(&mut Cursor::new(&file[..length])).unwrap().unwrap();
            let n_whole = ends.iter().filter(|end| **end <= length).count();
            let n: usize = fragments[..n_whole].iter().map(Vec::len).sum();
            prop_assert_eq!(&cut.places[..], &part.places[..n]);
        }

        /// The pictures lie where the movie's table says.
        #[test]
        fn the_movie_has_every_picture(fragments in proptest::collection::vec(proptest::collection::vec(owned(), 1..5), 1..4)) {
            let (file, pictures, _) = grown(&fragments);
            let part = scan(&mut Cursor::new(&file)).unwrap().unwrap();
            let mut out = Vec::new();
            write(&part, &mut Cursor::new(&file), &mut out).unwrap();
            let stbl = find_in(&out, &[b"moov", b"trak", b"mdia", b"minf", b"stbl"]).unwrap();
            let co64 = find(stbl, b"co64").unwrap();
            let at = usize::try_from(u64::from_be_bytes(*co64[8..].first_chunk().unwrap())).unwrap();
            let all: Vec<u8> = pictures.iter().flat_map(|owned| owned.data.clone()).collect();
            prop_assert_eq!(&out[at..], &all[..]);
        }

        #[test]
        fn wild_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut file = init(&format());
            file.extend(bytes);
            prop_assert!(scan(&mut Cursor::new(&file)).unwrap().unwrap().places.is_empty());
        }
    }
}
