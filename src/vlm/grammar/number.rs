// SPDX-License-Identifier: MPL-2.0

//! Numbers digit by digit: which may follow so that the number can still end within its bounds.

/// Decimals of a number that is not whole.
const DECIMALS: u32 = 6;

/// Bounds of a number, in units of its last decimal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    min: i128,
    max: i128,
    decimals: u32,
}

/// A number that has begun, or is about to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Digits {
    negative: bool,
    /// All digits so far.
    value: i128,
    n_whole: u32,
    dot: bool,
    n_decimals: u32,
}

impl Range {
    /// Whole numbers of at most 15 digits; `None` if the bounds leave none.
    pub fn whole(min: Option<f64>, max: Option<f64>) -> Option<Self> {
        const MOST: f64 = 999_999_999_999_999.0;
        let min = min.unwrap_or(-MOST).max(-MOST).ceil() as i128;
        let max = max.unwrap_or(MOST).min(MOST).floor() as i128;
        (min <= max).then_some(Self {
            min,
            max,
            decimals: 0,
        })
    }

    /// Numbers of at most nine digits before the point and six behind it.
    pub fn decimal(min: Option<f64>, max: Option<f64>) -> Option<Self> {
        const MOST: f64 = 999_999_999.0;
        const UNIT: f64 = 1_000_000.0;
        let [min, max] = [
            min.unwrap_or(-MOST).max(-MOST),
            max.unwrap_or(MOST).min(MOST),
        ];
        if min > max {
            return None;
        }
        // Both are within MOST, so their millionths are below 2^53: a step of one changes them, and
        // the quotients are what a reader makes of the decimals.
        let (mut low, mut high) = ((min * UNIT).ceil(), (max * UNIT).floor());
        while (low - 1.0) / UNIT >= min {
            low -= 1.0;
        }
        while low / UNIT < min {
            low += 1.0;
        }
        while (high + 1.0) / UNIT <= max {
            high += 1.0;
        }
        while high / UNIT > max {
            high -= 1.0;
        }
        (low <= high).then_some(Self {
            min: low as i128,
            max: high as i128,
            decimals: DECIMALS,
        })
    }

    /// Smallest and largest absolute value with a sign.
    fn magnitudes(&self, negative: bool) -> (i128, i128) {
        if negative {
            // No -0.
            ((-self.max).max(1), -self.min)
        } else {
            (self.min.max(0), self.max)
        }
    }

    fn meets(&self, negative: bool, low: i128, high: i128) -> bool {
        let (min, max) = self.magnitudes(negative);
        low.max(min) <= high.min(max)
    }

    /// Digits before the point.
    fn max_whole(&self) -> u32 {
        if self.decimals == 0 { 15 } else { 9 }
    }

    fn unit(&self) -> i128 {
        10i128.pow(self.decimals)
    }
}

impl Digits {
    /// Takes a byte of the number; false, and nothing is changed, if it cannot go on so.
    pub fn push(&mut self, range: &Range, byte: u8) -> bool {
        let mut next = *self;
        match byte {
            b'-' if self.n_whole == 0 && !self.negative => next.negative = true,
            b'.' if self.n_whole > 0 && !self.dot && range.decimals > 0 => next.dot = true,
            b'0'..=b'9' => {
                if self.dot {
                    next.n_decimals += 1;
                } else {
                    next.n_whole += 1;
                }
                let leading_zero = !self.dot && self.n_whole == 1 && self.value == 0;
                if leading_zero
                    || next.n_whole > range.max_whole()
                    || next.n_decimals > range.decimals
                {
                    return false;
                }
                next.value = self.value * 10 + i128::from(byte - b'0');
            }
            _ => return false,
        }
        let possible = next.can_end(range);
        if possible {
            *self = next;
        }
        possible
    }

    /// Whether it is a number within the bounds as it stands.
    pub fn is_complete(&self, range: &Range) -> bool {
        let whole = self.n_whole > 0 && (!self.dot || self.n_decimals > 0);
        let value = self.value * 10i128.pow(range.decimals - self.n_decimals);
        whole && range.meets(self.negative, value, value)
    }

    /// Whether more digits can bring it within the bounds.
    fn can_end(&self, range: &Range) -> bool {
        if self.dot {
            let unit = 10i128.pow(range.decimals - self.n_decimals);
            let (low, high) = (self.value * unit, (self.value + 1) * unit - 1);
            return range.meets(self.negative, low, high);
        }
        if self.n_whole == 0 {
            return range.meets(self.negative, 0, i128::MAX);
        }
        let more = if self.value == 0 {
            0
        } else {
            range.max_whole() - self.n_whole
        };
        (0..=more).any(|k| {
            let unit = 10i128.pow(k) * range.unit();
            range.meets(
                self.negative,
                self.value * unit,
                (self.value + 1) * unit - 1,
            )
        })
    }

    /// What ends it soonest within the bounds; nothing if it is complete.
    pub fn rest(&self, range: &Range) -> String {
        if self.is_complete(range) {
            return String::new();
        }
        if self.n_whole == 0 && !self.negative && !range.meets(false, 0, i128::MAX) {
            let negative = Self {
                negative: true,
                ..*self
            };
            return format!("-{}", negative.rest(range));
        }
        let (min, max) = range.magnitudes(self.negative);
        // Numbers of `n` more digits before the point, `decimals` of them behind it in all.
        let find = |n: u32, decimals: u32| {
            let begun = self.n_whole > 0;
            let scale = 10i128.pow(n);
            let (low, high) = match (begun, n) {
                (true, _) => (self.value * scale, (self.value + 1) * scale - 1),
                (false, 1) => (0, 9),
                (false, _) => (scale / 10, scale - 1),
            };
            let more = 10i128.pow(decimals - self.n_decimals);
            let (low, high) = (low * more, (high + 1) * more - 1);
            let unit = 10i128.pow(range.decimals - decimals);
            let found = low.max(min.div_euclid(unit) + i128::from(min.rem_euclid(unit) > 0));
            (found <= high.min(max.div_euclid(unit))).then_some(found)
        };
        if self.dot {
            let n_more = (self.n_decimals.max(1)..=range.decimals).find_map(|decimals| {
                let found = find(0, decimals)?;
                Some((found, (decimals - self.n_decimals) as usize))
            });
            return n_more.map_or_else(String::new, |(found, n)| last_digits(found, n));
        }
        let least = u32::from(self.n_whole == 0);
        let most = match (self.n_whole, self.value) {
            (1.., 0) => 0,
            _ => range.max_whole() - self.n_whole,
        };
        for decimals in 0..=range.decimals {
            for n in least..=most {
                if let Some(found) = find(n, decimals) {
                    let point = 10i128.pow(decimals);
                    let whole = last_digits(found / point, n as usize);
                    return match decimals {
                        0 => whole,
                        _ => format!("{whole}.{}", last_digits(found % point, decimals as usize)),
                    };
                }
            }
        }
        String::new()
    }
}

/// The last `n` digits of a number, zeros before it if it has fewer.
fn last_digits(value: i128, n: usize) -> String {
    let digits = format!("{value:0n$}");
    digits[digits.len() - n..].to_owned()
}

impl Range {
    /// Whether a number that was read lies within the bounds.
    pub fn holds(&self, number: &serde_json::Number) -> bool {
        let Some(value) = number.as_f64() else {
            return false;
        };
        let unit = 10f64.powi(self.decimals as i32);
        let (min, max) = (self.min as f64 / unit, self.max as f64 / unit);
        let whole = self.decimals > 0 || value.fract() == 0.0;
        whole && (min..=max).contains(&value)
    }
}
