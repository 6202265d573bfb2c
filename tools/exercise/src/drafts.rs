// SPDX-License-Identifier: MPL-2.0

//! What drafts save: a street in which much happens and a scene in which nothing does, captioned with and
//! without them in turns.

use std::time::Duration;

use gst::prelude::*;

use crate::clips::{caps, show};
use crate::stage::Stage;

const PATIENCE: Duration = Duration::from_secs(3600);

/// Rounds, each with and without drafts.
const ROUNDS: usize = 3;

/// What was said, and what came of drafts.
struct Watched {
    texts: Vec<String>,
    tokens: u64,
    drafted: u64,
    accepted: u64,
    /// From the first token of each caption to its last, s.
    decode: f64,
}

/// Shows `seconds` of each scene to the element with `properties`, and prints how many tokens were
/// drafted and accepted and how long decoding took.
///
/// # Errors
/// A caption differs.
pub fn run(seconds: u64, properties: &[&str]) -> Result<(), String> {
    let street = world::Street::new(7, usize::try_from(seconds).unwrap_or(usize::MAX));
    let scenes = [("street", true), ("still", false)];
    println!("scene    captions  tokens  drafted  accepted  decode off, s  auto, s  of it");
    for (name, moves) in scenes {
        let picture = |second: u64| {
            let at = if moves { second as f64 } else { 0.0 };
            street.draw(at, 768, 432)
        };
        let mut times = [Vec::new(), Vec::new()];
        let mut last = None;
        for _ in 0..ROUNDS {
            let [off, auto] = ["off", "auto"].map(|drafts| {
                let properties = format!("{} drafts={drafts}", properties.join(" "));
                watch(seconds, &picture, &properties)
            });
            let (off, auto) = (off?, auto?);
            if off.texts != auto.texts {
                let pairs = off.texts.iter().zip(&auto.texts);
                let differing = pairs.filter(|(a, b)| a != b).count();
                return Err(format!("{name}: {differing} captions differ"));
            }
            times[0].push(off.decode);
            times[1].push(auto.decode);
            last = Some(auto);
        }
        let watched = last.ok_or("no round")?;
        let [off, auto] = times.map(median);
        println!(
            "{name:<8} {:>8}  {:>6}  {:>7}  {:>7.0}%  {off:>13.2}  {auto:>7.2}  {:>5.2}",
            watched.texts.len(),
            watched.tokens,
            watched.drafted,
            100.0 * watched.accepted as f64 / watched.drafted.max(1) as f64,
            auto / off
        );
    }
    Ok(())
}

fn watch(
    seconds: u64,
    picture: &dyn Fn(u64) -> world::Canvas,
    properties: &str,
) -> Result<Watched, String> {
    let stage = Stage::new(&format!(
        "appsrc name=src format=time block=true max-bytes=4000000 caps={} ! videoconvert \
         ! video/x-raw,format=I420 ! vlmcaption name=c drop-policy=block scene-cuts=false window=2 \
         eos-timeout=-1 {properties} ! fakesink sync=false",
        caps(&picture(0)),
    ))?;
    show(&stage, (0..seconds).map(picture))?;
    let captions = stage.end(PATIENCE)?;
    let stats = stage.element("c")?.property::<gst::Structure>("stats");
    let number = |name: &str| stats.get::<u64>(name).map_err(|error| error.to_string());
    let rate: f64 = stats
        .get("decode-rate")
        .map_err(|error| error.to_string())?;
    let (tokens, captioned) = (number("tokens-out")?, captions.len() as u64);
    Ok(Watched {
        texts: captions.into_iter().map(|caption| caption.text).collect(),
        tokens,
        drafted: number("drafted-tokens")?,
        accepted: number("accepted-tokens")?,
        decode: tokens.saturating_sub(captioned) as f64 / rate,
    })
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}
