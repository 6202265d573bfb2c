// SPDX-License-Identifier: MPL-2.0

//! The simulation: events in order of time, each of which changes a camera or a replica.
//!
//! It follows the element's engine: a camera has one turn at a time, its complete windows go before
//! pairs of the window that fills, a window takes the pairs along that were not encoded before, and a
//! camera that slept is not owed the time that it did not ask for.

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use crate::random::Random;
use crate::replica::{Replica, Turn};
use crate::report::{CameraReport, Report};
use crate::scenario::{Pick, Policy, Scenario, Times};

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    /// A pair of a window that goes on; how many of the window are still to come.
    Pair(usize, usize),
    /// A window is complete.
    Window(usize),
    /// Turns of a replica end, if its version is still this.
    End(usize, u64),
    Down(usize),
    Up(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Event {
    at: f64,
    number: u64,
    what: What,
}

impl Eq for Event {}

impl Ord for Event {
    /// The earliest is the greatest, of equal ones that which was announced first.
    fn cmp(&self, other: &Self) -> Ordering {
        let at = other.at.total_cmp(&self.at);
        at.then(other.number.cmp(&self.number))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A number that can be ordered.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Key(f64);

impl Eq for Key {}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A complete window that waits.
#[derive(Debug)]
struct Waiting {
    complete: f64,
    pairs: usize,
}

#[derive(Debug, Default)]
struct Camera {
    queue: VecDeque<Waiting>,
    /// Pairs of the window that fills, not encoded.
    fresh: usize,
    used: f64,
    running: bool,
    /// Where it stands in the order of those that wait.
    rank: Option<Key>,
    report: CameraReport,
}

impl Camera {
    fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.fresh > 0
    }
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    now: f64,
    number: u64,
    events: BinaryHeap<Event>,
    random: Random,
    cameras: Vec<Camera>,
    replicas: Vec<Replica>,
    /// Replicas that have room, by their load.
    room: BTreeSet<(usize, usize)>,
    /// Cameras that wait for a turn, whoever is next first.
    waiting: BTreeSet<(Key, usize)>,
    /// Cameras that wait or have a turn, by what they used.
    busy: BTreeSet<(Key, usize)>,
    ages: Vec<f64>,
    waits: Vec<f64>,
}

/// Simulates.
pub fn simulate(scenario: &Scenario) -> Report {
    let mut simulation = Simulation::new(scenario);
    let end = scenario.warm_up + scenario.seconds;
    while let Some(event) = simulation.events.pop() {
        if event.at > end {
            break;
        }
        simulation.now = event.at;
        simulation.happen(event.what);
        simulation.give_turns();
    }
    let busy = simulation
        .replicas
        .iter()
        .map(|replica| replica.busy)
        .sum::<f64>();
    let reports = simulation.cameras.into_iter().map(|camera| camera.report);
    Report::new(
        reports.collect(),
        simulation.ages,
        simulation.waits,
        scenario.seconds,
        busy / (end * scenario.replicas as f64),
    )
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let mut simulation = Self {
            scenario,
            now: 0.0,
            number: 0,
            events: BinaryHeap::new(),
            random: Random::new(scenario.seed),
            cameras: (0..scenario.cameras).map(|_| Camera::default()).collect(),
            replicas: (0..scenario.replicas).map(|_| Replica::default()).collect(),
            room: (0..scenario.replicas).map(|number| (0, number)).collect(),
            waiting: BTreeSet::new(),
            busy: BTreeSet::new(),
            ages: Vec::new(),
            waits: Vec::new(),
        };
        for camera in 0..scenario.cameras {
            let stride = scenario.stride.mean();
            let phase = match scenario.phases.get(camera) {
                Some(known) => known.rem_euclid(stride),
                None => simulation.random.unit() * stride,
            };
            simulation.announce_window(camera, phase);
        }
        for outage in &scenario.outages {
            simulation.announce(outage.at, What::Down(outage.replica));
            simulation.announce(outage.at + outage.lasts, What::Up(outage.replica));
        }
        simulation
    }

    fn announce(&mut self, at: f64, what: What) {
        self.number += 1;
        let number = self.number;
        self.events.push(Event { at, number, what });
    }

    fn draw(&mut self, times: Times) -> f64 {
        match times {
            Times::Fixed(time) => time,
            Times::Exponential(mean) => self.random.exponential(mean),
        }
    }

    /// A window that is complete after `stride`, and its pairs on the way.
    fn announce_window(&mut self, camera: usize, stride: f64) {
        let pairs = self.scenario.pairs;
        if self.scenario.pair > 0.0 {
            for pair in 1..pairs {
                let at = self.now + stride * pair as f64 / pairs as f64;
                self.announce(at, What::Pair(camera, pairs - pair));
            }
        }
        self.announce(self.now + stride, What::Window(camera));
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Pair(camera, _) => {
                self.wake(camera);
                self.cameras[camera].fresh += 1;
                self.rank(camera);
            }
            What::Window(camera) => self.window(camera),
            What::End(replica, version) => {
                if self.replicas[replica].version == version {
                    self.end(replica);
                }
            }
            What::Down(replica) => self.down(replica),
            What::Up(replica) => {
                self.replicas[replica].down = false;
                self.room.insert((0, replica));
            }
        }
    }

    fn counts(&self) -> bool {
        self.now >= self.scenario.warm_up
    }

    /// A camera gets work: it is not owed what it did not ask for.
    fn wake(&mut self, camera: usize) {
        let floor = self.busy.first().map_or(0.0, |(used, _)| used.0);
        let of = &mut self.cameras[camera];
        if !of.running && !of.has_work() {
            of.used = of.used.max(floor);
        }
    }

    fn window(&mut self, camera: usize) {
        let stride = self.draw(self.scenario.stride);
        self.announce_window(camera, stride);
        self.wake(camera);
        let counts = self.counts();
        let (complete, max) = (self.now, self.scenario.max_queued);
        let of = &mut self.cameras[camera];
        // The last pair comes with the window.
        let pairs = std::mem::take(&mut of.fresh) + 1;
        of.report.windows += u64::from(counts);
        let waiting = Waiting { complete, pairs };
        if of.queue.len() < max {
            of.queue.push_back(waiting);
        } else {
            of.report.dropped += u64::from(counts);
            if self.scenario.policy == Policy::Latest {
                of.queue.pop_front();
                of.queue.push_back(waiting);
            }
        }
        self.rank(camera);
    }

    /// Puts a camera where it belongs among those that wait.
    fn rank(&mut self, camera: usize) {
        let of = &mut self.cameras[camera];
        if let Some(rank) = of.rank.take() {
            self.waiting.remove(&(rank, camera));
        }
        let used = Key(of.used);
        if of.running || of.has_work() {
            self.busy.insert((used, camera));
        } else {
            self.busy.remove(&(used, camera));
        }
        if of.running || !of.has_work() {
            return;
        }
        let rank = match self.scenario.pick {
            Pick::LeastUsed => used,
            Pick::FirstCome => Key(of.queue.front().map_or(self.now, |first| first.complete)),
        };
        of.rank = Some(rank);
        self.waiting.insert((rank, camera));
    }

    /// Turns for cameras that wait, while a replica has room.
    fn give_turns(&mut self) {
        while let (Some(&(load, replica)), Some(&(_, camera))) =
            (self.room.first(), self.waiting.first())
        {
            self.room.remove(&(load, replica));
            let turn = self.turn(camera);
            let curve = &self.scenario.curve;
            self.replicas[replica].advance(self.now, curve);
            self.replicas[replica].begin(turn);
            self.settle(replica);
            self.rank(camera);
        }
    }

    fn turn(&mut self, camera: usize) -> Turn {
        let answer = self.draw(self.scenario.window);
        let (pair, now) = (self.scenario.pair, self.now);
        let of = &mut self.cameras[camera];
        of.running = true;
        let (complete, needs) = match of.queue.pop_front() {
            Some(window) => (Some(window.complete), answer + window.pairs as f64 * pair),
            None => {
                of.fresh -= 1;
                (None, pair)
            }
        };
        Turn {
            camera,
            complete,
            began: now,
            needs,
            left: needs,
        }
    }

    /// Announces a replica's next end, and that it has room if so.
    fn settle(&mut self, replica: usize) {
        let of = &self.replicas[replica];
        let (load, version) = (of.load(), of.version);
        if !of.down && load < self.scenario.curve.len() {
            self.room.insert((load, replica));
        }
        if let Some(at) = of.next_end(&self.scenario.curve) {
            self.announce(at, What::End(replica, version));
        }
    }

    fn end(&mut self, replica: usize) {
        let counts = self.counts();
        let load = self.replicas[replica].load();
        self.room.remove(&(load, replica));
        self.replicas[replica].advance(self.now, &self.scenario.curve);
        for turn in self.replicas[replica].take_done() {
            self.finish(&turn);
            let Some(complete) = turn.complete else {
                continue;
            };
            if counts {
                self.cameras[turn.camera].report.captions += 1;
                self.ages.push(self.now - complete + self.scenario.overhead);
                self.waits.push(turn.began - complete);
            }
        }
        self.settle(replica);
    }

    /// Books a turn.
    fn finish(&mut self, turn: &Turn) {
        let of = &mut self.cameras[turn.camera];
        self.busy.remove(&(Key(of.used), turn.camera));
        of.running = false;
        of.used += turn.needs;
        self.rank(turn.camera);
    }

    fn down(&mut self, replica: usize) {
        let counts = self.counts();
        let load = self.replicas[replica].load();
        self.room.remove(&(load, replica));
        self.replicas[replica].advance(self.now, &self.scenario.curve);
        for turn in self.replicas[replica].die() {
            self.finish(&turn);
            if counts && turn.complete.is_some() {
                self.cameras[turn.camera].report.failed += 1;
            }
        }
    }
}
