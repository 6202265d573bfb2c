// SPDX-License-Identifier: MPL-2.0

//! One model at work: several turns share it, each the slower the more there are.

/// A turn that is being made.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Whose.
    pub camera: usize,
    /// When its window was complete; `None` for a pair.
    pub complete: Option<f64>,
    /// When it began.
    pub began: f64,
    /// Device time that it needs if it is alone, s.
    pub needs: f64,
    /// What is left of that.
    pub left: f64,
}

/// A model.
#[derive(Debug, Default)]
pub struct Replica {
    running: Vec<Turn>,
    /// Until when the turns were advanced.
    at: f64,
    /// Whether it is there.
    pub down: bool,
    /// Raised whenever its next end changes: ends that were announced before are void.
    pub version: u64,
    /// Time that it worked.
    pub busy: f64,
}

impl Replica {
    /// Turns that are being made.
    pub fn load(&self) -> usize {
        self.running.len()
    }

    /// How fast each of its turns goes on.
    fn speed(&self, curve: &[f64]) -> f64 {
        match self.running.len() {
            0 => 0.0,
            n => curve[n - 1] / n as f64,
        }
    }

    /// Goes on to `now`.
    pub fn advance(&mut self, now: f64, curve: &[f64]) {
        let made = (now - self.at) * self.speed(curve);
        for turn in &mut self.running {
            turn.left -= made;
        }
        if !self.running.is_empty() {
            self.busy += now - self.at;
        }
        self.at = now;
    }

    /// Begins a turn; it has been advanced to now.
    pub fn begin(&mut self, turn: Turn) {
        self.running.push(turn);
        self.version += 1;
    }

    /// When the first of its turns ends.
    pub fn next_end(&self, curve: &[f64]) -> Option<f64> {
        let left = self.running.iter().map(|turn| turn.left);
        let least = left.min_by(f64::total_cmp)?;
        Some(self.at + least.max(0.0) / self.speed(curve))
    }

    /// Takes the turns that are done; it has been advanced to now.
    pub fn take_done(&mut self) -> Vec<Turn> {
        const NOTHING: f64 = 1e-9;
        self.version += 1;
        self.running
            .extract_if(.., |turn| turn.left <= NOTHING)
            .collect()
    }

    /// Dies: its turns come to nothing.
    pub fn die(&mut self) -> Vec<Turn> {
        self.version += 1;
        self.down = true;
        std::mem::take(&mut self.running)
    }
}
