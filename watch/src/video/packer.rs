// SPDX-License-Identifier: MPL-2.0

//! Pictures of the ring become fragments, one after the other.

use std::sync::Arc;

use super::fmp4::{self, Sample, TIMESCALE};
use super::ring::Unit;

/// Makes the fragments of one stream.
#[derive(Debug)]
pub struct Packer {
    sequence: u32,
    /// What is added to times of the stream, in ticks.
    shift: i64,
    /// How long the last picture is taken for, before the next one is there.
    step: u32,
}

impl Packer {
    /// The first picture is to be decoded at `begin`, in ticks.
    pub fn new(first: &Unit, begin: i64) -> Self {
        Self {
            sequence: 0,
            shift: begin - fmp4::ticks(first.dts),
            step: TIMESCALE / 30,
        }
    }

    /// When a picture is decoded, in ticks.
    fn dts(&self, unit: &Unit) -> u64 {
        u64::try_from(fmp4::ticks(unit.dts) + self.shift).unwrap_or(0)
    }

    /// The next pictures as a fragment.
    pub fn pack(&mut self, units: &[Arc<Unit>]) -> Vec<u8> {
        self.sequence += 1;
        let mut samples = Vec::with_capacity(units.len());
        for (at, unit) in units.iter().enumerate() {
            let dts = self.dts(unit);
            if let Some(next) = units.get(at + 1) {
                let step = self.dts(next).saturating_sub(dts).max(1);
                self.step = u32::try_from(step).unwrap_or(self.step);
            }
            let offset = fmp4::ticks(unit.pts) - fmp4::ticks(unit.dts);
            samples.push(Sample {
                data: &unit.data,
                dts,
                duration: self.step,
                offset: i32::try_from(offset).unwrap_or(0),
                key: unit.key,
            });
        }
        fmp4::fragment(self.sequence, &samples)
    }
}
