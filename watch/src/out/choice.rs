// SPDX-License-Identifier: MPL-2.0

//! Who is told of what.

use crate::config::Config;
use crate::config::file::Alarm;
use crate::hub::Hub;
use crate::store::Error;
use crate::store::outbox::{Due, Moment, Outbox};
use crate::time::Millis;

use super::standing::Standing;

/// Whether this one is told of an alarm.
pub fn is_told(target: &str, alarm: &Alarm) -> bool {
    alarm
        .notify
        .as_ref()
        .is_none_or(|names| names.iter().any(|name| name == target))
}

/// What this one is to be told now. An alarm that begins while its camera is snoozed is passed over.
pub fn due(
    outbox: &mut Outbox,
    hub: &Hub,
    standing: &Standing,
    now: Millis,
) -> Result<Vec<Due>, Error> {
    let config = hub.config();
    let mut found = outbox.due(now)?;
    found.retain(|due| wanted(&standing.name, &config, due));
    let snoozed = |due: &Due| {
        due.moment == Moment::Begin
            && !standing.knows(due.event, due.moment)
            && hub
                .camera(&due.camera)
                .is_some_and(|seen| seen.is_snoozed(now))
    };
    let passed: Vec<i64> = found
        .iter()
        .filter(|due| snoozed(due))
        .map(|due| due.event)
        .collect();
    for event in &passed {
        outbox.pass_over(*event, now)?;
    }
    found.retain(|due| !passed.contains(&due.event));
    standing.waiting(found.iter().map(|due| (due.event, due.moment, due.at())));
    Ok(found)
}

/// Whether this one is told of an event. One of an alarm that is no longer in the file is told: it was
/// asked for when it was.
pub fn wanted(target: &str, config: &Config, due: &Due) -> bool {
    let camera = config.cameras.iter().find(|camera| camera.id == due.camera);
    let alarm = camera.and_then(|camera| camera.alarms.iter().find(|alarm| alarm.id == due.alarm));
    alarm.is_none_or(|alarm| is_told(target, alarm))
}
