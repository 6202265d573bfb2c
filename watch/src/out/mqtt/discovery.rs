// SPDX-License-Identifier: MPL-2.0

//! What Home Assistant is told, so that cameras appear in it by themselves: one device message a
//! camera, as it has them since 2024.11.

use serde_json::{Map, Value, json};

use crate::config::Camera;
use crate::config::out::Broker;

use super::topics::Message;

/// Where a camera is announced.
pub fn topic(broker: &Broker, camera: &str) -> String {
    format!(
        "{}/device/{}/config",
        broker.discovery_prefix,
        device(broker, camera)
    )
}

fn device(broker: &Broker, camera: &str) -> String {
    format!("vlmwatch_{}_{camera}", broker.instance)
}

/// A camera leaves: what was announced of it is taken back.
pub fn removed(broker: &Broker, camera: &str) -> Message {
    Message::state(topic(broker, camera), "")
}

/// A camera is announced.
pub fn announced(broker: &Broker, camera: &Camera) -> Message {
    Message::state(
        topic(broker, &camera.id),
        payload(broker, camera).to_string(),
    )
}

/// What is announced.
pub fn payload(broker: &Broker, camera: &Camera) -> Value {
    let device = device(broker, &camera.id);
    let base = format!("{}/{}", broker.prefix, camera.id);
    let mut components = Map::new();
    let all = always(broker, &base)
        .into_iter()
        .chain(asked(broker, camera, &base));
    for (key, mut component) in all {
        component["unique_id"] = json!(format!("{device}_{key}"));
        components.insert(key, component);
    }
    json!({
        "device": {
            "identifiers": [device],
            "name": camera.name,
            "manufacturer": "vlmcaption",
            "model": "Camera watched by captions",
            "sw_version": env!("CARGO_PKG_VERSION"),
        },
        "origin": {
            "name": "vlmcaption-watch",
            "sw_version": env!("CARGO_PKG_VERSION"),
        },
        "components": components,
        "availability": [
            reachable(&format!("{}/available", broker.prefix)),
            reachable(&format!("{base}/status")),
        ],
        "availability_mode": "all",
        "qos": 1,
    })
}

/// What every camera has.
fn always(broker: &Broker, base: &str) -> Vec<(String, Value)> {
    let mut components = Vec::new();
    let mut add = |key: &str, component: Value| components.push((key.to_owned(), component));
    let program = json!([reachable(&format!("{}/available", broker.prefix))]);
    add(
        "caption",
        json!({
            "platform": "sensor",
            "name": "Caption",
            "icon": "mdi:text-recognition",
            "state_topic": format!("{base}/caption"),
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": format!("{base}/caption"),
        }),
    );
    add(
        "model",
        json!({
            "platform": "sensor",
            "name": "Model",
            "icon": "mdi:brain",
            "entity_category": "diagnostic",
            "state_topic": format!("{base}/caption"),
            "value_template": "{{ value_json.model }}",
        }),
    );
    add(
        "age",
        json!({
            "platform": "sensor",
            "name": "Caption delay",
            "device_class": "duration",
            "unit_of_measurement": "ms",
            "state_class": "measurement",
            "entity_category": "diagnostic",
            "state_topic": format!("{base}/caption"),
            "value_template": "{{ value_json.age_ms }}",
        }),
    );
    // What says that the camera is gone must not be gone with it.
    add(
        "connection",
        json!({
            "platform": "binary_sensor",
            "name": "Connection",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": format!("{base}/status"),
            "value_template": "{{ 'ON' if value == 'online' else 'OFF' }}",
            "availability": program,
        }),
    );
    add(
        "still",
        json!({
            "platform": "image",
            "name": "Still",
            "image_topic": format!("{base}/still"),
            "content_type": "image/jpeg",
        }),
    );
    add(
        "snoozed",
        json!({
            "platform": "sensor",
            "name": "Snoozed until",
            "icon": "mdi:bell-sleep",
            "device_class": "timestamp",
            "state_topic": format!("{base}/snoozed"),
        }),
    );
    components
}

/// Its alarms, and what may be asked.
fn asked(broker: &Broker, camera: &Camera, base: &str) -> Vec<(String, Value)> {
    let mut components = Vec::new();
    let mut add = |key: &str, component: Value| components.push((key.to_owned(), component));
    for alarm in camera.alarms.iter().filter(|alarm| told(alarm)) {
        let mut component = json!({
            "platform": "binary_sensor",
            "name": alarm.question,
            "state_topic": format!("{base}/alarm/{}", alarm.id),
            "json_attributes_topic": format!("{base}/alarm/{}/attributes", alarm.id),
        });
        if let Some(class) = &alarm.device_class {
            component["device_class"] = json!(class);
        }
        add(&format!("alarm_{}", alarm.id), component);
    }
    if broker.commands {
        add(
            "describe",
            json!({
                "platform": "button",
                "name": "Describe now",
                "icon": "mdi:comment-question",
                "command_topic": format!("{base}/ask"),
                "payload_press": camera.prompt,
            }),
        );
        for (key, name, icon, minutes) in [
            ("snooze", "Snooze for an hour", "mdi:bell-sleep", "60"),
            ("wake", "End snooze", "mdi:bell-ring", "0"),
        ] {
            add(
                key,
                json!({
                    "platform": "button",
                    "name": name,
                    "icon": icon,
                    "command_topic": format!("{base}/snooze/set"),
                    "payload_press": minutes,
                }),
            );
        }
        add(
            "enabled",
            json!({
                "platform": "switch",
                "name": "Enabled",
                "icon": "mdi:cctv",
                "command_topic": format!("{base}/enabled/set"),
                "state_topic": format!("{base}/status"),
                "value_template": "{{ 'OFF' if value == 'disabled' else 'ON' }}",
                // One that is switched off can be switched on.
                "availability": [reachable(&format!("{}/available", broker.prefix))],
            }),
        );
    }
    components
}

/// `online` is that; `offline`, `stopped` and `disabled` are not.
fn reachable(topic: &str) -> Value {
    json!({
        "topic": topic,
        "value_template": "{{ 'online' if value == 'online' else 'offline' }}",
    })
}

/// Whether MQTT is told of an alarm.
pub fn told(alarm: &crate::config::file::Alarm) -> bool {
    crate::out::choice::is_told("mqtt", alarm)
}
