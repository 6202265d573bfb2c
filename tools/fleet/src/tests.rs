// SPDX-License-Identifier: MPL-2.0

//! The simulator against what queueing theory says, and against a measured run.

use crate::record::Record;
use crate::report::Report;
use crate::scenario::{Outage, Pick, Policy, Scenario, Times};
use crate::simulation::simulate;

/// One queue without an end, windows at random.
fn queue(load: f64, window: Times) -> Scenario {
    Scenario {
        cameras: 1,
        stride: Times::Exponential(window.mean() / load),
        pairs: 1,
        max_queued: usize::MAX,
        window,
        seconds: 400_000.0,
        warm_up: 1_000.0,
        ..Scenario::default()
    }
}

fn assert_near(got: f64, want: f64, part: f64) {
    assert!(
        (got - want).abs() <= part * want,
        "{got}, and the theory says {want}"
    );
}

#[test]
fn the_wait_before_a_server_of_fixed_times_is_that_of_pollaczek_and_khinchin() {
    for load in [0.3, 0.6, 0.8] {
        let report = simulate(&queue(load, Times::Fixed(1.0)));
        assert_near(report.wait(), load / (2.0 * (1.0 - load)), 0.04);
        assert_near(report.utilisation, load, 0.02);
    }
}

#[test]
fn the_wait_before_a_server_of_random_times_is_twice_that() {
    for load in [0.3, 0.6, 0.8] {
        let report = simulate(&queue(load, Times::Exponential(1.0)));
        assert_near(report.wait(), load / (1.0 - load), 0.06);
    }
}

#[test]
fn what_a_server_without_a_place_to_wait_loses_is_erlangs() {
    // M/M/1/2: one in service and one place, each of three states by its weight.
    let load: f64 = 0.8;
    let scenario = Scenario {
        max_queued: 1,
        policy: Policy::Oldest,
        ..queue(load, Times::Exponential(1.0))
    };
    let lost = load.powi(2) / (1.0 + load + load.powi(2));
    assert_near(simulate(&scenario).share_dropped(), lost, 0.03);
}

#[test]
fn two_servers_wait_as_erlangs_c_says() {
    // M/M/2 at a load of 0.8 for each: C = 0.7111, the wait C / (2 - 1.6).
    let scenario = Scenario {
        cameras: 400,
        replicas: 2,
        stride: Times::Exponential(400.0 / 1.6),
        pick: Pick::FirstCome,
        seconds: 100_000.0,
        ..queue(0.8, Times::Exponential(1.0))
    };
    assert_near(simulate(&scenario).wait(), 0.7111 / 0.4, 0.08);
}

#[test]
fn cameras_that_are_too_many_get_equal_shares_of_all_that_can_be_made() {
    let scenario = Scenario {
        cameras: 16,
        stride: Times::Fixed(2.0),
        window: Times::Fixed(0.5),
        ..Scenario::default()
    };
    let report = simulate(&scenario);
    assert_near(report.rate(), 2.0, 0.01);
    assert_near(report.share_dropped(), 0.75, 0.02);
    assert!(report.spread() <= 1.02, "{report}");
}

#[test]
fn cameras_that_are_few_enough_lose_nothing() {
    let scenario = Scenario {
        cameras: 4,
        stride: Times::Fixed(4.0),
        pair: 0.2,
        window: Times::Fixed(0.3),
        ..Scenario::default()
    };
    let report = simulate(&scenario);
    assert!(report.share_dropped() < 0.001, "{report}");
    assert_near(report.rate(), 1.0, 0.01);
    assert_near(report.utilisation, 4.0 * (2.0 * 0.2 + 0.3) / 4.0, 0.02);
}

#[test]
fn a_batch_makes_as_many_as_its_curve_says() {
    let scenario = Scenario {
        cameras: 16,
        stride: Times::Fixed(1.0),
        curve: vec![1.0, 1.6, 2.1, 2.5],
        ..Scenario::default()
    };
    assert_near(simulate(&scenario).rate(), 2.5, 0.01);
}

#[test]
fn a_dead_replica_costs_its_turns_and_its_share_until_it_is_back() {
    let whole = Scenario {
        cameras: 8,
        replicas: 2,
        stride: Times::Fixed(2.0),
        pick: Pick::FirstCome,
        warm_up: 0.0,
        seconds: 1_000.0,
        ..Scenario::default()
    };
    let half = Scenario {
        outages: vec![Outage {
            replica: 1,
            at: 250.0,
            lasts: 500.0,
        }],
        ..whole.clone()
    };
    let lost = simulate(&half)
        .cameras
        .iter()
        .map(|camera| camera.failed)
        .sum::<u64>();
    assert_eq!(lost, 1);
    assert_near(simulate(&half).rate() / simulate(&whole).rate(), 0.75, 0.01);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let figures = |seed| {
        let scenario = Scenario {
            seed,
            stride: Times::Exponential(4.0),
            ..Scenario::default()
        };
        simulate(&scenario).to_string()
    };
    assert_eq!(figures(7), figures(7));
    assert_ne!(figures(7), figures(8));
}

fn assert_reproduced(text: &str) -> (Record, Report) {
    let record = Record::parse(text).unwrap();
    let report = simulate(&record.scenario());
    for (name, measured, simulated, apart) in record.compare(&report) {
        assert!(
            apart <= 0.1,
            "{name}: {measured} was measured, {simulated} simulated"
        );
    }
    (record, report)
}

#[test]
fn a_measured_run_of_sixteen_cameras_too_many_is_reproduced() {
    let (record, _) = assert_reproduced(include_str!("../records/16-cameras-busy.json"));
    assert_eq!(record.cameras, 16);
    assert!(record.share_dropped > 0.1);
}

#[test]
fn a_measured_run_of_sixteen_cameras_with_room_is_reproduced() {
    let (record, _) = assert_reproduced(include_str!("../records/16-cameras-room.json"));
    assert_eq!(record.cameras, 16);
    assert!(record.share_dropped < 0.1);
}
