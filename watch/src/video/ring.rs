// SPDX-License-Identifier: MPL-2.0

//! The last seconds of a camera's video as it came, in memory. Who looks on and every clip take from here
//! at their own pace; whoever is too slow goes on at the next keyframe, and nobody makes it longer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::time::Millis;

use super::format::Format;
use super::order::Order;

/// What a camera may hold.
pub const MOST_BYTES: usize = 8 << 20;
/// Who is further behind than this goes on at the latest keyframe.
const BEHIND: Duration = Duration::from_secs(2);
/// Answers that come later than this are not waited for with more memory.
const LATEST: Duration = Duration::from_secs(60);

/// A picture as the camera coded it.
#[derive(Debug)]
pub struct Unit {
    /// Counts from 1, through all connections of the camera.
    pub n: u64,
    pub format: Arc<Format>,
    pub key: bool,
    /// When it is shown and decoded, in nanoseconds of the stream.
    pub pts: i64,
    pub dts: i64,
    /// When it came.
    pub at: Millis,
    pub data: Arc<[u8]>,
}

/// A picture that comes.
#[derive(Debug, Clone)]
pub struct Coming {
    pub key: bool,
    pub pts: i64,
    pub at: Millis,
    pub data: Arc<[u8]>,
}

/// The ring of a camera.
#[derive(Debug)]
pub struct Ring {
    inner: Mutex<Inner>,
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    units: VecDeque<Arc<Unit>>,
    bytes: usize,
    next: u64,
    format: Option<Arc<Format>>,
    order: Order,
    before: Duration,
    lag: Duration,
}

impl Ring {
    /// Of a camera whose clips begin so long before their alarm.
    pub fn new(before: Duration) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                units: VecDeque::new(),
                bytes: 0,
                next: 1,
                format: None,
                order: Order::default(),
                before,
                lag: Duration::ZERO,
            }),
            newest: watch::Sender::new(0),
        })
    }

    /// Another connection begins, whose times have nothing to do with those before.
    pub fn begin(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner.clear();
        inner.format = None;
        drop(inner);
        self.newest.send_modify(|_| {});
    }

    /// A picture came.
    pub fn push(&self, format: Format, coming: Coming) {
        let n = self.inner.lock().unwrap().push(format, coming);
        if let Some(n) = n {
            self.newest.send_replace(n);
        }
    }

    /// What the stream is now.
    pub fn format(&self) -> Option<Arc<Format>> {
        self.inner.lock().unwrap().format.clone()
    }

    /// Tells that an answer came so long after what it was about: an alarm is known only then, and what
    /// was before it has to be here still.
    pub fn late(&self, lag: Duration) {
        self.inner.lock().unwrap().lag = lag.min(LATEST);
    }

    /// Is told of each picture.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// From the last keyframe that came before this time, or from the first one that is here.
    pub fn since(&self, time: Millis) -> Vec<Arc<Unit>> {
        let inner = self.inner.lock().unwrap();
        let mut keys = (0..inner.units.len()).filter(|at| inner.units[*at].key);
        let before = keys
            .clone()
            .take_while(|at| inner.units[*at].at <= time)
            .last();
        let from = before.or_else(|| keys.next());
        let from = from.unwrap_or(inner.units.len());
        inner.units.range(from..).cloned().collect()
    }

    /// All that came after the picture `n`, for who wants every picture: those that are gone are left out
    /// up to a keyframe.
    pub fn after(&self, n: u64) -> Vec<Arc<Unit>> {
        let inner = self.inner.lock().unwrap();
        let from = inner.units.partition_point(|unit| unit.n <= n);
        let gone = inner.units.get(from).is_some_and(|unit| unit.n != n + 1);
        let from = if gone {
            inner.first_key(from)
        } else {
            Some(from)
        };
        let from = from.unwrap_or(inner.units.len());
        inner.units.range(from..).cloned().collect()
    }

    /// What comes after the picture `n`, for who wants the latest: nothing seen yet, or too far behind,
    /// it is from the last keyframe on.
    pub fn follow(&self, n: Option<u64>) -> Vec<Arc<Unit>> {
        let inner = self.inner.lock().unwrap();
        let last_key = inner
            .units
            .iter()
            .rposition(|unit| unit.key)
            .unwrap_or(inner.units.len());
        let from = match n {
            None => last_key,
            Some(n) => {
                let from = inner.units.partition_point(|unit| unit.n <= n);
                let gone = inner.units.get(from).is_some_and(|unit| unit.n != n + 1);
                if gone || (inner.span(from) > BEHIND && last_key > from) {
                    last_key.max(from)
                } else {
                    from
                }
            }
        };
        // What is gone and has no keyframe after it cannot be gone on with.
        let usable = |unit: &Arc<Unit>| unit.key || n.is_some_and(|n| unit.n == n + 1);
        match inner.units.get(from) {
            Some(unit) if usable(unit) => inner.units.range(from..).cloned().collect(),
            _ => Vec::new(),
        }
    }
}

impl Inner {
    fn clear(&mut self) {
        self.units.clear();
        self.bytes = 0;
        self.order = Order::default();
    }

    fn push(&mut self, format: Format, coming: Coming) -> Option<u64> {
        let format = match &self.format {
            Some(known) if **known == format => known.clone(),
            _ => {
                self.clear();
                self.format.insert(Arc::new(format)).clone()
            }
        };
        let decoded = self.order.next(coming.pts);
        if decoded.learnt {
            // Those before had wrong times. Of a stream with B-frames the first second is lost with them.
            self.units.clear();
            self.bytes = 0;
        }
        // Nothing can be made of pictures before the first keyframe.
        if self.units.is_empty() && !coming.key {
            return None;
        }
        let n = self.next;
        self.next += 1;
        self.bytes += coming.data.len();
        self.units.push_back(Arc::new(Unit {
            n,
            format,
            key: coming.key,
            pts: coming.pts,
            dts: decoded.dts,
            at: coming.at,
            data: coming.data,
        }));
        let keep = self.before + self.lag;
        while let Some(second) = self.first_key(1)
            && (self.bytes > MOST_BYTES || self.units[second].at.plus(keep) <= coming.at)
        {
            self.drop_first(second);
        }
        // A stream with few keyframes: who follows it goes on, and what is newer begins at the next one.
        while self.bytes > MOST_BYTES && self.units.len() > 1 {
            self.drop_first(1);
        }
        Some(n)
    }

    fn drop_first(&mut self, n: usize) {
        let gone: usize = self.units.drain(..n).map(|unit| unit.data.len()).sum();
        self.bytes -= gone;
    }

    fn first_key(&self, from: usize) -> Option<usize> {
        (from..self.units.len()).find(|at| self.units[*at].key)
    }

    /// How long it is from a picture to the last.
    fn span(&self, from: usize) -> Duration {
        let (Some(first), Some(last)) = (self.units.get(from), self.units.back()) else {
            return Duration::ZERO;
        };
        Duration::from_nanos(u64::try_from(last.dts - first.dts).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Codec;
    use super::*;
    use proptest::prelude::*;

    fn format(width: u16) -> Format {
        Format {
            codec: Codec::H264,
            config: vec![1, 0x42, 0xc0, 0x1e],
            width,
            height: 360,
        }
    }

    /// Pictures at 10 fps from picture `from` on, with a keyframe each `gop` and `size` bytes each.
    fn fill(ring: &Ring, from: i64, n: i64, gop: i64, size: usize) {
        for picture in from..from + n {
            let coming = Coming {
                key: picture % gop == 0,
                pts: 100_000_000 * picture,
                at: Millis(100 * picture),
                data: vec![0; size].into(),
            };
            ring.push(format(640), coming);
        }
    }

    fn numbers(units: &[Arc<Unit>]) -> Vec<u64> {
        units.iter().map(|unit| unit.n).collect()
    }

    #[test]
    fn it_holds_what_is_asked_for_and_a_gop() {
        let ring = Ring::new(Duration::from_secs(3));
        fill(&ring, 0, 200, 20, 10);
        let held = ring.since(Millis(0));
        assert!(held[0].key);
        let first = held[0].at.0;
        assert!(
            (19_900 - 3_000 - 2_000..=19_900 - 3_000).contains(&first),
            "{first}"
        );
        // Answers that come five seconds late need five seconds more.
        ring.late(Duration::from_secs(5));
        fill(&ring, 200, 100, 20, 10);
        let first = ring.since(Millis(0))[0].at.0;
        assert!(first <= 29_900 - 8_000, "{first}");
    }

    #[test]
    fn it_begins_at_the_keyframe_before_a_time() {
        let ring = Ring::new(Duration::from_secs(60));
        fill(&ring, 0, 100, 20, 10);
        assert_eq!(ring.since(Millis(5_500))[0].at, Millis(4_000));
        assert_eq!(ring.since(Millis(-1))[0].at, Millis(0));
    }

    #[test]
    fn nothing_is_kept_before_the_first_keyframe() {
        let ring = Ring::new(Duration::from_secs(60));
        fill(&ring, 5, 10, 20, 10);
        assert!(ring.since(Millis(0)).is_empty());
        assert!(ring.follow(None).is_empty());
    }

    #[test]
    fn who_is_slow_goes_on_at_the_latest_keyframe() {
        let ring = Ring::new(Duration::from_secs(60));
        fill(&ring, 0, 11, 10, 10);
        assert_eq!(numbers(&ring.follow(None)), [11]);
        fill(&ring, 11, 4, 10, 10);
        assert_eq!(numbers(&ring.follow(Some(11))), [12, 13, 14, 15]);
        fill(&ring, 15, 40, 10, 10);
        // 40 pictures are 4 seconds; the last keyframe is picture 50, the 51st.
        assert_eq!(numbers(&ring.follow(Some(15)))[0], 51);
        assert!(ring.follow(Some(55)).is_empty());
    }

    #[test]
    fn who_wants_every_picture_gets_every_one_that_is_there() {
        let ring = Ring::new(Duration::from_secs(1));
        fill(&ring, 0, 30, 10, 10);
        assert_eq!(numbers(&ring.after(25)), [26, 27, 28, 29, 30]);
        assert_eq!(ring.after(3)[0].n % 10, 1);
    }

    #[test]
    fn another_connection_or_size_begins_anew() {
        let ring = Ring::new(Duration::from_secs(60));
        fill(&ring, 0, 5, 5, 10);
        let before = ring.format().unwrap();
        let coming = Coming {
            key: true,
            pts: 0,
            at: Millis(9),
            data: vec![0].into(),
        };
        ring.push(format(320), coming);
        let held = ring.since(Millis(0));
        assert_eq!(numbers(&held), [6]);
        assert!(!Arc::ptr_eq(&held[0].format, &before));
        ring.begin();
        assert!(ring.since(Millis(0)).is_empty() && ring.format().is_none());
    }

    proptest! {
        /// However rare keyframes are and whatever size pictures have, memory has its bound.
        #[test]
        fn it_never_holds_more_than_it_may(gop in 1_i64..400, size in 1_usize..400_000, n in 1_i64..300) {
            let ring = Ring::new(Duration::from_secs(3600));
            fill(&ring, 0, n, gop, size);
            let inner = ring.inner.lock().unwrap();
            let held: usize = inner.units.iter().map(|unit| unit.data.len()).sum();
            prop_assert_eq!(held, inner.bytes);
            prop_assert!(held <= MOST_BYTES.max(size));
        }
    }
}
