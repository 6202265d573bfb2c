// SPDX-License-Identifier: MPL-2.0

//! Whatever a schema says: it is read or refused, in little time, and what it allows can be ended.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Schema, State};

/// Far more than any of it takes on a busy machine, and far less than what it guards against.
const PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of a schema, in its own thread: one that never ends fails the test, not the run.
fn read(text: String) -> Result<usize, String> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let ended = Schema::parse(&text).map(|schema| {
            let ending = State::new().ending(&schema);
            let value: Value = serde_json::from_slice(&ending).expect("a whole text");
            schema.validate(&value).expect("a text by the schema");
            ending.len()
        });
        let _ = tell.send(ended);
    });
    told.recv_timeout(PATIENCE).expect("an end")
}

/// A property of this schema in an object.
fn property(schema: Value) -> String {
    json!({"type": "object", "properties": {"a": schema}, "required": ["a"]}).to_string()
}

#[test]
fn bounds_beyond_every_number_are_refused() {
    for kind in ["number", "integer"] {
        for bound in [1e15, 1e9, 1e300, f64::MAX] {
            for (key, bound) in [("minimum", bound), ("maximum", -bound)] {
                let said = read(property(json!({"type": kind, key: bound})));
                // An integer may have 15 digits.
                if kind == "integer" && bound.abs() < 1e15 {
                    assert!(said.is_ok(), "{said:?}");
                    continue;
                }
                let said = said.unwrap_err();
                let want = "at .a: no number lies in minimum..maximum";
                assert!(said.starts_with(want), "{kind} {key} {bound}: {said}");
            }
        }
        let all = json!({"type": kind, "minimum": -f64::MAX, "maximum": f64::MAX});
        read(property(all)).unwrap();
    }
}

#[test]
fn answers_that_cannot_be_short_are_refused() {
    let mut items = json!({"type": "null"});
    for _ in 0..4 {
        items = json!({"type": "array", "items": items, "minItems": 1000});
    }
    let said = read(items.to_string()).unwrap_err();
    assert!(
        said.contains("the shortest answer has more than 4096 bytes"),
        "{said}"
    );
    let many = json!({"type": "array", "items": {"type": "null"}, "minItems": u64::MAX});
    assert!(
        read(many.to_string())
            .unwrap_err()
            .contains("lower minItems")
    );
    let word = "x".repeat(5000);
    let said = read(property(json!({"enum": [word]}))).unwrap_err();
    assert!(said.contains("more than 4096 bytes"), "{said}");
}

#[test]
fn more_choices_than_can_be_looked_through_are_refused() {
    let words: Vec<String> = (0..100_000).map(|n| format!("{n}")).collect();
    let said = read(property(json!({"enum": words}))).unwrap_err();
    assert!(said.contains("bytes; at most 65536 are read"), "{said}");
    let said = read(property(json!({"enum": words[..1001]}))).unwrap_err();
    assert!(
        said.ends_with("enum has 1001 strings; at most 1000"),
        "{said}"
    );
    read(property(json!({"enum": words[..1000]}))).unwrap();
    let properties: serde_json::Map<_, _> = (0..1001)
        .map(|n| (n.to_string(), json!({"type": "null"})))
        .collect();
    let said = read(json!({"type": "object", "properties": properties}).to_string());
    assert!(said.unwrap_err().contains("has 1001 properties"));
}

#[test]
fn depth_and_recursion_are_refused_by_name() {
    let mut deep = json!({"type": "null"});
    for _ in 0..60 {
        deep = json!({"type": "array", "items": deep});
    }
    let said = read(deep.to_string()).unwrap_err();
    assert!(said.contains("is more than 8 levels deep"), "{said}");
    // Deeper than the JSON reader goes itself.
    let said = read("[".repeat(60_000)).unwrap_err();
    assert!(said.starts_with("is no JSON"), "{said}");
    let itself = json!({"$ref": "#"});
    let said = read(property(itself)).unwrap_err();
    assert!(said.contains("type is missing"), "{said}");
}

#[test]
fn huge_lengths_are_no_more_than_no_bound() {
    for length in [json!(u64::MAX), json!(1e15 as u64)] {
        let text = json!({"type": "string", "maxLength": length});
        let list = json!({"type": "array", "items": text, "maxItems": length});
        assert_eq!(read(property(list)), Ok(r#"{"a":[]}"#.len()));
    }
}

/// Anything that may stand where a keyword's value does.
fn values() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        (0u64..4).prop_map(|n| json!(n)),
    ];
    let leaf = prop_oneof![
        number,
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        ".{0,4}".prop_map(Value::from),
        prop::sample::select(vec![
            "object", "array", "string", "integer", "number", "null"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        let keys = vec![
            "type",
            "properties",
            "required",
            "items",
            "minItems",
            "maxItems",
            "maxLength",
            "enum",
            "minimum",
            "maximum",
            "a",
            "b",
            "$ref",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(keys), inner, 0..5).prop_map(|map| {
                Value::Object(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

/// Schemas whose keywords have values of the right type and any size.
fn schemas() -> impl Strategy<Value = Value> {
    let bound = prop_oneof![any::<f64>(), -1e10..1e10, -3.0..3.0];
    let leaf = prop_oneof![
        (
            prop::sample::select(vec!["integer", "number"]),
            bound.clone(),
            bound
        )
            .prop_map(
                |(kind, a, b)| json!({"type": kind, "minimum": a.min(b), "maximum": a.max(b)})
            ),
        any::<u64>().prop_map(|n| json!({"type": "string", "maxLength": n})),
        prop::collection::vec(".{0,3}", 1..40).prop_map(|words| json!({"enum": words})),
    ];
    leaf.prop_recursive(7, 40, 4, |inner| {
        let size = prop_oneof![0u64..4, 0u64..2000, any::<u64>()];
        prop_oneof![
            (inner.clone(), size).prop_map(|(items, min)| {
                json!({"type": "array", "items": items, "minItems": min})
            }),
            prop::collection::vec(inner, 1..4).prop_map(|parts| {
                let names: Vec<String> = (0..parts.len()).map(|n| format!("p{n}")).collect();
                let parts = names.iter().cloned().zip(parts);
                let properties: serde_json::Map<_, _> = parts.collect();
                json!({"type": "object", "properties": properties, "required": names})
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_json_is_read_or_refused_in_time(value in values()) {
        let begun = Instant::now();
        if let Err(said) = read(value.to_string()) {
            prop_assert!(!said.is_empty());
        }
        prop_assert!(begun.elapsed() < PATIENCE);
    }

    #[test]
    fn any_schema_is_read_or_refused_in_time(schema in schemas()) {
        match read(schema.to_string()) {
            Ok(shortest) => prop_assert!(shortest <= 4096),
            Err(said) => prop_assert!(!said.is_empty()),
        }
    }
}
