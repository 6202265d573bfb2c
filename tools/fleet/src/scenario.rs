// SPDX-License-Identifier: MPL-2.0

//! What is simulated: cameras, what answers them, and what fails.

/// A length of time as it is drawn for each window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Times {
    /// Always the same, s.
    Fixed(f64),
    /// Exponentially distributed around this mean, s.
    Exponential(f64),
}

impl Times {
    /// The mean, s.
    pub fn mean(self) -> f64 {
        match self {
            Self::Fixed(mean) | Self::Exponential(mean) => mean,
        }
    }
}

/// Who gives way when a camera's queue is full; as the element's `drop-policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The oldest waiting window.
    Latest,
    /// The arriving window.
    Oldest,
}

/// Whose window is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The camera that used least of the device: an engine that elements share.
    LeastUsed,
    /// The window that has waited longest: a server.
    FirstCome,
}

/// A replica that is not there for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outage {
    /// Its number, from 0.
    pub replica: usize,
    /// When it dies, s.
    pub at: f64,
    /// How long it is gone, s.
    pub lasts: f64,
}

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Cameras, each with windows of its own.
    pub cameras: usize,
    /// From window to window of a camera.
    pub stride: Times,
    /// When a window of each camera is complete, s, if that is known; else at any time of its stride.
    pub phases: Vec<f64>,
    /// Temporal patches of a window.
    pub pairs: usize,
    /// Windows of a camera that may wait.
    pub max_queued: usize,
    /// Who gives way.
    pub policy: Policy,
    /// Models that answer.
    pub replicas: usize,
    /// Windows that a replica works at together, and how much faster than one after the other: the
    /// n-th number is for n windows.
    pub curve: Vec<f64>,
    /// Whose window is next.
    pub pick: Pick,
    /// Device time of one pair that is encoded while its window fills; 0: pairs go with their window.
    pub pair: f64,
    /// Device time of a window's answer, its pairs apart.
    pub window: Times,
    /// From the last frame to the queue and from the device to the message, together, s.
    pub overhead: f64,
    /// What fails.
    pub outages: Vec<Outage>,
    /// Simulated time that is counted, after `warm_up`, s.
    pub seconds: f64,
    /// Simulated time before that, s.
    pub warm_up: f64,
    /// Of the random numbers.
    pub seed: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            cameras: 16,
            stride: Times::Fixed(4.0),
            phases: Vec::new(),
            pairs: 2,
            max_queued: 1,
            policy: Policy::Latest,
            replicas: 1,
            curve: vec![1.0],
            pick: Pick::LeastUsed,
            pair: 0.0,
            window: Times::Fixed(1.0),
            overhead: 0.0,
            outages: Vec::new(),
            seconds: 600.0,
            warm_up: 60.0,
            seed: 1,
        }
    }
}
