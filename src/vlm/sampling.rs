// SPDX-License-Identifier: MPL-2.0

//! Greedy, temperature, top-k, top-p, min-p, penalties, seed.
//!
//! Order and arithmetic follow the logits processors and warpers of transformers: repetition
//! penalty (under greedy too), temperature, top-k, top-p, min-p, softmax. The random numbers are our own
//! (ChaCha8), so one seed gives the same text here on every machine and every backend that gives
//! logits, not the text that torch's generator would give. Each token takes one of them, so that a
//! token depends on the seed, its place in the answer and the logits alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::Error;

/// How a token is chosen from logits.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token; otherwise logits are divided by it.
    pub temperature: f32,
    /// Keeps the likeliest tokens up to this sum of probabilities; 1.0 keeps all.
    pub top_p: f32,
    /// Keeps this many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the tokens that are at least this part as likely as the likeliest; 0.0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens already there; 1.0 for none.
    pub repetition_penalty: f32,
    /// Start of the random numbers.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token each time.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Its id.
    pub id: u32,
    /// Its probability among the candidates.
    pub probability: f32,
}

/// Chooses the tokens of one answer.
#[derive(Clone)]
pub struct Sampler {
    sampling: Sampling,
    /// Tokens of prompt and answer so far, for the penalty: one flag per id.
    seen: Vec<bool>,
    random: ChaCha8Rng,
}

impl Sampler {
    /// Begins an answer.
    pub fn new(sampling: &Sampling) -> Self {
        Self {
            sampling: sampling.clone(),
            seen: Vec::new(),
            random: ChaCha8Rng::seed_from_u64(sampling.seed),
        }
    }

    /// Notes tokens that are there: the prompt's, and each one chosen.
    pub fn observe(&mut self, ids: &[u32]) {
        if self.sampling.repetition_penalty == 1.0 {
            return;
        }
        for &id in ids {
            let id = id as usize;
            if id >= self.seen.len() {
                self.seen.resize(id + 1, false);
            }
            self.seen[id] = true;
        }
    }

    /// Chooses a token and notes it. `logits` is `[vocab_size]`.
    ///
    /// # Errors
    /// [`Error::Logits`] if no entry is a finite number, or one is none at all.
    pub fn choose(&mut self, logits: &[f32]) -> Result<u32, Error> {
        let id = self.pick(logits)?;
        self.observe(&[id]);
        Ok(id)
    }

    fn pick(&mut self, logits: &[f32]) -> Result<u32, Error> {
        if self.is_greedy() {
            self.first_largest(logits)
        } else {
            let mut candidates = self.candidates(logits)?;
            // By id: another backend's logits are a little off, and where two tokens are nearly as
            // likely as each other their order by likelihood may be another one there.
            candidates.sort_unstable_by_key(|candidate| candidate.id);
            // 24 bits: every value is a multiple of 2^-24, exactly an f32 below 1.
            let mut left = (self.random.next_u32() >> 8) as f32 / (1u32 << 24) as f32;
            candidates
                .iter()
                .find(|candidate| {
                    left -= candidate.probability;
                    left < 0.0
                })
                .or(candidates.last())
                .map(|candidate| candidate.id)
                .ok_or(Error::Logits)
        }
    }

    /// Whether the likeliest token is always chosen.
    pub fn is_greedy(&self) -> bool {
        self.sampling.temperature <= 0.0
    }

    /// Up to `n` tokens, the likeliest first.
    ///
    /// # Errors
    /// [`Error::Logits`] if no entry is a finite number, or one is none at all.
    pub fn likeliest(&self, logits: &[f32], n: usize) -> Result<Vec<u32>, Error> {
        numbers(logits)?;
        let mut all: Vec<(u32, f32)> = self
            .penalized(logits)
            .filter(|(_, logit)| logit.is_finite())
            .collect();
        let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if 0 < n && n < all.len() {
            all.select_nth_unstable_by(n - 1, order);
            all.truncate(n);
        }
        all.sort_unstable_by(order);
        match all.is_empty() {
            true => Err(Error::Logits),
            false => Ok(all.into_iter().map(|(id, _)| id).collect()),
        }
    }

    /// Chooses among some tokens, which it does not note.
    ///
    /// # Errors
    /// [`Error::Logits`] if none of them has a finite logit.
    pub fn choose_of(&mut self, logits: &[f32], allowed: &[u32]) -> Result<u32, Error> {
        numbers(logits)?;
        let mut masked = vec![f32::NEG_INFINITY; logits.len()];
        for &id in allowed {
            if let (Some(to), Some(from)) = (masked.get_mut(id as usize), logits.get(id as usize)) {
                *to = *from;
            }
        }
        self.pick(&masked)
    }

    /// The tokens that may follow after all warpers, likeliest first (equal ones by id), with
    /// probabilities that sum to 1.
    ///
    /// # Errors
    /// [`Error::Logits`] if no entry is a finite number, or one is none at all.
    pub fn candidates(&self, logits: &[f32]) -> Result<Vec<Candidate>, Error> {
        numbers(logits)?;
        let temperature = match self.sampling.temperature {
            t if t > 0.0 => t,
            _ => 1.0,
        };
        let mut kept: Vec<(u32, f32)> = self
            .penalized(logits)
            .map(|(id, logit)| (id, logit / temperature))
            .filter(|(_, logit)| logit.is_finite())
            .collect();
        if kept.is_empty() {
            return Err(Error::Logits);
        }
        let top_k = self.sampling.top_k;
        if 0 < top_k && top_k < kept.len() {
            let mut values: Vec<f32> = kept.iter().map(|&(_, logit)| logit).collect();
            let (_, &mut kth, _) = values.select_nth_unstable_by(top_k - 1, |a, b| b.total_cmp(a));
            // Ties with the last one stay, as `TopKLogitsWarper` leaves them.
            kept.retain(|&(_, logit)| logit >= kth);
        }
        kept.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut candidates = softmax(&kept);
        if self.sampling.top_p < 1.0 {
            candidates = nucleus(candidates, self.sampling.top_p);
        }
        if self.sampling.min_p > 0.0 {
            candidates = near_the_top(candidates, self.sampling.min_p);
        }
        Ok(candidates)
    }

    /// The first of the largest logits.
    fn first_largest(&self, logits: &[f32]) -> Result<u32, Error> {
        numbers(logits)?;
        let mut best: Option<(u32, f32)> = None;
        for (id, logit) in self.penalized(logits) {
            if logit.is_finite() && best.is_none_or(|(_, largest)| logit > largest) {
                best = Some((id, logit));
            }
        }
        best.map(|(id, _)| id).ok_or(Error::Logits)
    }

    /// Logits with their ids after `RepetitionPenaltyLogitsProcessor`.
    fn penalized<'a>(&'a self, logits: &'a [f32]) -> impl Iterator<Item = (u32, f32)> + 'a {
        let penalty = self.sampling.repetition_penalty;
        logits.iter().enumerate().map(move |(id, &logit)| {
            let logit = match self.seen.get(id) {
                Some(true) if logit < 0.0 => logit * penalty,
                Some(true) => logit / penalty,
                _ => logit,
            };
            (id as u32, logit)
        })
    }
}

/// Refuses logits that say nothing: one that is NaN, or larger than all numbers, comes from a model
/// that computed nonsense, and the others are no better. Minus infinity is a token that cannot be.
pub(super) fn numbers(logits: &[f32]) -> Result<(), Error> {
    let is_number = |logit: &f32| *logit < f32::INFINITY;
    match logits
        .iter()
        .fold(true, |all, logit| all & is_number(logit))
    {
        true => Ok(()),
        false => Err(Error::Logits),
    }
}

/// Probabilities of logits that are sorted, largest first.
fn softmax(sorted: &[(u32, f32)]) -> Vec<Candidate> {
    let largest = sorted.first().map_or(0.0, |&(_, logit)| logit);
    let sum: f64 = sorted
        .iter()
        .map(|&(_, logit)| f64::from(logit - largest).exp())
        .sum();
    sorted
        .iter()
        .map(|&(id, logit)| Candidate {
            id,
            probability: (f64::from(logit - largest).exp() / sum) as f32,
        })
        .collect()
}

/// Drops the unlikeliest tokens whose probabilities together are at most `1 - top_p`, always
/// keeping one (`TopPLogitsWarper`), and scales the rest to 1.
fn nucleus(mut candidates: Vec<Candidate>, top_p: f32) -> Vec<Candidate> {
    let budget = 1.0 - f64::from(top_p);
    let mut dropped = 0.0f64;
    while candidates.len() > 1 {
        let last = f64::from(candidates[candidates.len() - 1].probability);
        if dropped + last > budget {
            break;
        }
        dropped += last;
        candidates.pop();
    }
    scaled(candidates)
}

/// Drops the tokens that are less likely than `min_p` times the likeliest (`MinPLogitsWarper`), and
/// scales the rest to 1.
fn near_the_top(mut candidates: Vec<Candidate>, min_p: f32) -> Vec<Candidate> {
    let least = candidates
        .first()
        .map_or(0.0, |top| min_p * top.probability);
    // Sorted, so that the first is never dropped.
    let kept = candidates.partition_point(|c| c.probability >= least);
    candidates.truncate(kept.max(1));
    scaled(candidates)
}

/// The same with probabilities that sum to 1.
fn scaled(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    let sum: f64 = candidates.iter().map(|c| f64::from(c.probability)).sum();
    for candidate in &mut candidates {
        candidate.probability = (f64::from(candidate.probability) / sum) as f32;
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(sampler: &Sampler, logits: &[f32]) -> Vec<u32> {
        let candidates = sampler.candidates(logits).unwrap();
        candidates.iter().map(|c| c.id).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let mut sampler = Sampler::new(&Sampling::greedy());
        assert_eq!(
            sampler.choose(&[0.0, 2.0, 2.0, f32::NEG_INFINITY]).unwrap(),
            1
        );
    }

    #[test]
    fn one_logit_that_is_no_number_is_an_error_of_all() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
            let logits = [0.0, 2.0, bad, 1.0];
            for temperature in [0.0, 1.0] {
                let mut sampler = Sampler::new(&Sampling {
                    temperature,
                    ..Sampling::greedy()
                });
                assert!(matches!(sampler.choose(&logits), Err(Error::Logits)));
                let allowed = sampler.choose_of(&logits, &[0, 1]);
                assert!(matches!(allowed, Err(Error::Logits)));
                assert!(sampler.likeliest(&logits, 2).is_err());
            }
            let told = numbers(&logits).unwrap_err().to_string();
            assert!(told.contains("no number (NaN)"), "{told}");
        }
    }

    #[test]
    fn greedy_heeds_the_repetition_penalty() {
        let mut sampler = Sampler::new(&Sampling {
            repetition_penalty: 2.0,
            ..Sampling::greedy()
        });
        sampler.observe(&[1]);
        assert_eq!(sampler.choose(&[1.5, 2.0, -1.0]).unwrap(), 0);
        // Now 0 is there too: 0.75, 1.0, -1.0.
        assert_eq!(sampler.choose(&[1.5, 2.0, -1.0]).unwrap(), 1);
        // Negative logits move away from 0: -4 against -3.
        sampler.observe(&[0, 2]);
        assert_eq!(sampler.choose(&[-2.0, -3.0, -2.0, -3.0]).unwrap(), 3);
    }

    #[test]
    fn top_k_keeps_ties_and_top_p_keeps_the_nucleus() {
        let with = |top_k, top_p| {
            Sampler::new(&Sampling {
                temperature: 1.0,
                top_k,
                top_p,
                ..Sampling::greedy()
            })
        };
        assert_eq!(ids(&with(2, 1.0), &[1.0, 3.0, 2.0, 2.0]), [1, 2, 3]);
        assert_eq!(ids(&with(0, 1.0), &[1.0, 3.0, 2.0]), [1, 2, 0]);
        // Probabilities 0.09, 0.665, 0.245.
        assert_eq!(ids(&with(0, 0.9), &[1.0, 3.0, 2.0]), [1, 2]);
        assert_eq!(ids(&with(0, 0.5), &[1.0, 3.0, 2.0]), [1]);
        assert_eq!(ids(&with(0, 0.0), &[1.0, 3.0, 2.0]), [1]);
    }

    #[test]
    fn min_p_counts_from_the_likeliest_token() {
        let with = |min_p| {
            Sampler::new(&Sampling {
                temperature: 1.0,
                min_p,
                ..Sampling::greedy()
            })
        };
        // Of the likeliest 1, e^-2 = 0.135 and e^-1 = 0.368.
        let logits = [1.0, 3.0, 2.0];
        assert_eq!(ids(&with(0.0), &logits), [1, 2, 0]);
        assert_eq!(ids(&with(0.13), &logits), [1, 2, 0]);
        assert_eq!(ids(&with(0.2), &logits), [1, 2]);
        assert_eq!(ids(&with(1.0), &logits), [1]);
        assert_eq!(ids(&with(1.0), &[2.0, 2.0]), [0, 1], "equals stay");
        let left = with(0.2).candidates(&logits).unwrap();
        let sum: f32 = left.iter().map(|c| c.probability).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }

    #[test]
    fn one_seed_gives_one_series_and_it_follows_the_probabilities() {
        let logits = [0.0, 1.0, 2.0];
        let series = |seed| {
            let mut sampler = Sampler::new(&Sampling {
                temperature: 1.0,
                seed,
                ..Sampling::greedy()
            });
            (0..3000)
                .map(|_| sampler.choose(&logits).unwrap())
                .collect::<Vec<_>>()
        };
        let first = series(7);
        assert_eq!(first, series(7));
        assert_ne!(first, series(8));
        let share = |id| first.iter().filter(|&&chosen| chosen == id).count() as f64 / 3000.0;
        // softmax: 0.090, 0.245, 0.665; four standard deviations of 3000 draws are 0.035.
        for (id, want) in [(0, 0.090), (1, 0.245), (2, 0.665)] {
            assert!((share(id) - want).abs() < 0.035, "{id}: {}", share(id));
        }
    }

    #[test]
    fn a_draw_depends_on_the_seed_its_place_and_the_logits_alone() {
        let sampling = Sampling {
            temperature: 1.0,
            seed: 11,
            ..Sampling::greedy()
        };
        let logits = |step: usize| (0..50).map(|i| ((i * step) as f32 * 0.7).sin()).collect();
        let drawn = |others: usize| {
            let mut sampler = Sampler::new(&sampling);
            let draw = |step: usize| {
                let step = if step.is_multiple_of(3) {
                    step
                } else {
                    step + others
                };
                let logits: Vec<f32> = logits(step);
                sampler.choose(&logits).unwrap()
            };
            (0..60).map(draw).step_by(3).collect::<Vec<_>>()
        };
        assert_eq!(
            drawn(0),
            drawn(1000),
            "what was drawn before does not matter"
        );
    }

    #[test]
    fn noise_that_changes_an_order_changes_no_draw() {
        // A flat row: no two of its logits are far from each other.
        let row = |noise: f32| -> Vec<f32> {
            let wave = |i: usize| (i as f32 * 12.9898).sin();
            (0..400)
                .map(|i| 0.01 * wave(i) + noise * wave(7 * i + 3))
                .collect()
        };
        let series = |noise| -> Vec<u32> {
            let mut sampler = Sampler::new(&Sampling {
                temperature: 1.0,
                ..Sampling::greedy()
            });
            (0..1000)
                .map(|_| sampler.choose(&row(noise)).unwrap())
                .collect()
        };
        let pairs = series(0.0).into_iter().zip(series(1e-4));
        let same = pairs.filter(|(a, b)| a == b).count();
        assert!(same > 950, "{same} of 1000");
    }

    #[test]
    fn logits_without_a_number_are_told() {
        for temperature in [0.0, 1.0] {
            let mut sampler = Sampler::new(&Sampling {
                temperature,
                ..Sampling::greedy()
            });
            let error = sampler.choose(&[f32::NAN, f32::NEG_INFINITY]).unwrap_err();
            assert!(matches!(error, Error::Logits));
        }
    }
}
