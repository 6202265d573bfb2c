// SPDX-License-Identifier: MPL-2.0

//! A scenario from the words of a command line.

use std::str::FromStr;

use crate::scenario::{Outage, Pick, Policy, Scenario, Times};

/// Reads options.
///
/// # Errors
/// Which word is none, or names something that cannot be simulated.
pub fn parse(words: &[&str]) -> Result<Scenario, String> {
    let mut scenario = Scenario::default();
    let (mut stride, mut window) = (scenario.stride.mean(), scenario.window.mean());
    let (mut poisson, mut exponential) = (false, false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--poisson" => poisson = true,
            "--exponential" => exponential = true,
            "--first-come" => scenario.pick = Pick::FirstCome,
            "--oldest" => scenario.policy = Policy::Oldest,
            _ => {
                let value = *words
                    .next()
                    .ok_or_else(|| format!("{word} needs a value"))?;
                match *word {
                    "--cameras" => scenario.cameras = number(value)?,
                    "--replicas" => scenario.replicas = number(value)?,
                    "--stride" => stride = number(value)?,
                    "--pairs" => scenario.pairs = number(value)?,
                    "--pair" => scenario.pair = number(value)?,
                    "--window" => window = number(value)?,
                    "--curve" => scenario.curve = list(value)?,
                    "--max-queued" => scenario.max_queued = number(value)?,
                    "--overhead" => scenario.overhead = number(value)?,
                    "--outage" => scenario.outages.push(outage(value)?),
                    "--seconds" => scenario.seconds = number(value)?,
                    "--seed" => scenario.seed = number(value)?,
                    _ => return Err(format!("there is no option {word}")),
                }
            }
        }
    }
    let times = |random: bool, mean| match random {
        true => Times::Exponential(mean),
        false => Times::Fixed(mean),
    };
    scenario.stride = times(poisson, stride);
    scenario.window = times(exponential, window);
    check(&scenario)?;
    Ok(scenario)
}

fn check(scenario: &Scenario) -> Result<(), String> {
    let counts = [
        scenario.cameras,
        scenario.replicas,
        scenario.pairs,
        scenario.max_queued,
    ];
    if counts.contains(&0) {
        return Err("there is at least one of everything".to_owned());
    }
    let times = [
        scenario.stride.mean(),
        scenario.window.mean(),
        scenario.seconds,
    ];
    if times.iter().any(|time| *time <= 0.0) || scenario.pair < 0.0 {
        return Err("times are above 0".to_owned());
    }
    if scenario.curve.iter().any(|gain| *gain <= 0.0) {
        return Err("a batch is as fast as something, not nothing".to_owned());
    }
    match scenario
        .outages
        .iter()
        .find(|outage| outage.replica >= scenario.replicas)
    {
        Some(outage) => Err(format!("there is no replica {}", outage.replica)),
        None => Ok(()),
    }
}

fn number<T: FromStr>(word: &str) -> Result<T, String> {
    word.parse()
        .map_err(|_| format!("`{word}` is not a number that fits"))
}

fn list(word: &str) -> Result<Vec<f64>, String> {
    word.split(',').map(number).collect()
}

fn outage(word: &str) -> Result<Outage, String> {
    let mut parts = word.split(',');
    let mut next = || parts.next().ok_or("an outage is REPLICA,AT,FOR");
    Ok(Outage {
        replica: number(next()?)?,
        at: number(next()?)?,
        lasts: number(next()?)?,
    })
}
