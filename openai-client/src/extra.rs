// SPDX-License-Identifier: MPL-2.0

//! What a user adds to the body of every question.

use std::hash::{Hash, Hasher};

use serde_json::{Map, Value};

use crate::error::ConfigError;

/// Fields that the client itself must know of.
const OURS: [(&str, &str); 4] = [
    ("messages", "messages are what is asked"),
    ("model", "the model has a property of its own"),
    ("stream", "answers are always streamed"),
    ("n", "one answer is read"),
];

/// What a user adds to the body of every question: a JSON merge patch (RFC 7396). A field replaces
/// ours, an object is merged into ours, `null` takes ours away.
///
/// `Debug` shows the names of its fields alone: their values may be secret.
#[derive(Clone, PartialEq, Default)]
pub struct ExtraBody(Map<String, Value>);

// JSON has no number that differs from itself.
impl Eq for ExtraBody {}

impl std::fmt::Debug for ExtraBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Hash for ExtraBody {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Objects that are equal may be in another order.
        self.0.len().hash(state);
    }
}

impl ExtraBody {
    /// Reads a JSON object; an empty text is an empty one.
    ///
    /// # Errors
    /// [`ConfigError::ExtraBody`] if it is no object or has a field that is the client's.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let refuse = |reason: String| Err(ConfigError::ExtraBody(reason));
        // What the parser says names a place and not the text, which may hold a secret.
        let map = match serde_json::from_str(text) {
            Ok(Value::Object(map)) => map,
            Ok(_) => return refuse(r#"must be a JSON object such as {"top_k": 20}"#.into()),
            Err(error) => return refuse(format!("is not JSON: {error}")),
        };
        for (field, reason) in OURS {
            if map.contains_key(field) {
                return refuse(format!("must not have {field:?}: {reason}"));
            }
        }
        Ok(Self(map))
    }

    /// Merges it into a body.
    pub(crate) fn merge_into(&self, body: &mut Map<String, Value>) {
        merge(body, &self.0);
    }
}

fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match (value, target.get_mut(key)) {
            (Value::Null, _) => {
                target.remove(key);
            }
            (Value::Object(patch), Some(Value::Object(target))) => merge(target, patch),
            (Value::Object(patch), _) => {
                let mut fresh = Map::new();
                merge(&mut fresh, patch);
                target.insert(key.clone(), Value::Object(fresh));
            }
            (value, _) => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_replace_objects_merge_and_null_takes_away() {
        let extra =
            r#"{"top_k": 20, "seed": null, "a": {"b": 1, "c": null}, "stream_options": null}"#;
        let mut body = json!({"seed": 7, "top_k": 1, "a": {"c": 2, "d": 3}});
        let extra = ExtraBody::parse(extra).unwrap();
        extra.merge_into(body.as_object_mut().unwrap());
        assert_eq!(body, json!({"top_k": 20, "a": {"d": 3, "b": 1}}));
    }

    #[test]
    fn what_is_the_clients_or_no_object_is_refused() {
        for bad in [
            "[]",
            "{",
            r#"{"messages": []}"#,
            r#"{"stream": false}"#,
            r#"{"n": 2}"#,
        ] {
            assert!(ExtraBody::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(ExtraBody::parse(" ").unwrap(), ExtraBody::default());
    }

    #[test]
    fn an_error_does_not_say_what_stands_there() {
        let error = ExtraBody::parse(r#"{"token": "canary" oops"#).unwrap_err();
        assert!(!error.to_string().contains("canary"));
    }
}
