// SPDX-License-Identifier: MPL-2.0

//! A JSON schema, read and checked.

use serde_json::{Map, Value};

use super::number::{Digits, Range};
use crate::backend::json;

/// Levels of objects and arrays within each other.
const MAX_DEPTH: usize = 8;

/// Bytes of a schema.
const MAX_BYTES: usize = 1 << 16;

/// Strings of an `enum`, and properties of an object: they are looked through for every byte.
const MAX_CHOICES: usize = 1000;

/// Bytes of the shortest answer: the way to it is gone for every token that is tried.
const MAX_SHORTEST: usize = 4096;

/// Keywords that say nothing about what is valid.
const ANNOTATIONS: [&str; 8] = [
    "$schema",
    "$id",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "additionalProperties",
];

/// What a text must look like. The root is an object or an array.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// The first is the root.
    pub(super) nodes: Vec<Node>,
    /// As it was written.
    json: Value,
}

/// A part of a schema that was read.
#[derive(Debug, Clone, Copy)]
struct Part {
    node: usize,
    /// Bytes of the shortest text that it allows.
    shortest: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Object(Vec<Property>),
    Array {
        item: usize,
        min: usize,
        max: usize,
    },
    /// Of at most so many characters.
    Text(usize),
    /// One of these, as they are written in JSON.
    Words(Vec<Vec<u8>>),
    Number(Range),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Property {
    /// As it is written in JSON, with its quotes.
    pub key: Vec<u8>,
    pub name: String,
    pub required: bool,
    pub node: usize,
}

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    /// A sentence that names the place and the keyword, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            let n = text.len();
            return Err(format!("has {n} bytes; at most {MAX_BYTES} are read"));
        }
        let value: Value =
            json::read(text.as_bytes()).map_err(|error| format!("is no JSON ({error})"))?;
        let mut schema = Self {
            nodes: Vec::new(),
            json: Value::Null,
        };
        let root = schema.read(&value, "", 0)?.node;
        match schema.nodes[root] {
            Node::Object(_) | Node::Array { .. } => {}
            _ => return Err("must be an object or an array at its root".to_owned()),
        }
        // Parts are read before what they are part of.
        schema.nodes.swap(0, root);
        for node in &mut schema.nodes {
            let swap = |index: &mut usize| match *index {
                0 => *index = root,
                i if i == root => *index = 0,
                _ => {}
            };
            match node {
                Node::Object(properties) => {
                    properties.iter_mut().for_each(|p| swap(&mut p.node));
                }
                Node::Array { item, .. } => swap(item),
                _ => {}
            }
        }
        schema.json = value;
        Ok(schema)
    }

    fn read(&mut self, value: &Value, path: &str, depth: usize) -> Result<Part, String> {
        let place = place_of(path);
        let Some(map) = value.as_object() else {
            return Err(format!("at {place}: must be an object with a type"));
        };
        if depth > MAX_DEPTH {
            return Err(format!("at {place}: is more than {MAX_DEPTH} levels deep"));
        }
        let (node, shortest) = match kind_of(map, place)? {
            "object" => self.object(map, path, depth)?,
            "array" => self.array(map, path, depth)?,
            "string" => text(map, place)?,
            "boolean" => words_of(vec![b"true".to_vec(), b"false".to_vec()]),
            "null" => words_of(vec![b"null".to_vec()]),
            kind => number(map, place, kind)?,
        };
        if shortest > MAX_SHORTEST {
            return Err(format!(
                "at {place}: the shortest answer has more than {MAX_SHORTEST} bytes; lower \
                 minItems, or require less"
            ));
        }
        self.nodes.push(node);
        let node = self.nodes.len() - 1;
        Ok(Part { node, shortest })
    }

    fn array(
        &mut self,
        map: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<(Node, usize), String> {
        let place = place_of(path);
        let Some(items) = map.get("items") else {
            return Err(format!("at {place}: items is missing"));
        };
        let item = self.read(items, &format!("{path}[]"), depth + 1)?;
        let min = size(map, place, "minItems", 0)?;
        let max = size(map, place, "maxItems", usize::MAX)?;
        if min > max {
            return Err(format!(
                "at {place}: minItems is {min}, but maxItems is {max}"
            ));
        }
        // Brackets, and a comma between two items.
        let items = min.saturating_mul(item.shortest.saturating_add(1));
        let shortest = items.saturating_add(2 - min.min(1));
        let item = item.node;
        Ok((Node::Array { item, min, max }, shortest))
    }

    fn object(
        &mut self,
        map: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<(Node, usize), String> {
        let place = place_of(path);
        let Some(properties) = map.get("properties").and_then(Value::as_object) else {
            return Err(format!("at {place}: properties is missing"));
        };
        let required = match map.get("required") {
            None => Vec::new(),
            Some(list) => {
                let names = list
                    .as_array()
                    .map(|list| list.iter().map(Value::as_str).collect());
                match names {
                    Some(Some(names)) => names,
                    _ => return Err(format!("at {place}: required must be a list of names")),
                }
            }
        };
        if let Some(name) = required
            .iter()
            .find(|name| !properties.contains_key(**name))
        {
            return Err(format!(
                "at {place}: required names {name:?}, which is no property"
            ));
        }
        if properties.len() > MAX_CHOICES {
            let n = properties.len();
            return Err(format!(
                "at {place}: has {n} properties; at most {MAX_CHOICES}"
            ));
        }
        let mut read = Vec::with_capacity(properties.len());
        let mut shortest: usize = 2;
        for (name, value) in properties {
            let part = self.read(value, &format!("{path}.{name}"), depth + 1)?;
            let key = Value::from(name.as_str()).to_string().into_bytes();
            let required = required.contains(&name.as_str());
            if required {
                // A colon, and mostly a comma.
                shortest = shortest.saturating_add(key.len() + 2 + part.shortest);
            }
            read.push(Property {
                key,
                name: name.clone(),
                required,
                node: part.node,
            });
        }
        Ok((Node::Object(read), shortest))
    }

    /// The schema as it was written.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// That a value follows the schema.
    ///
    /// # Errors
    /// Where it does not, and how.
    pub fn validate(&self, value: &Value) -> Result<(), String> {
        self.check(0, value, "")
    }

    fn check(&self, node: usize, value: &Value, path: &str) -> Result<(), String> {
        let place = place_of(path);
        let wrong = |what: &str| Err(format!("at {place}: {what}"));
        match (&self.nodes[node], value) {
            (Node::Object(properties), Value::Object(map)) => {
                for property in properties {
                    match map.get(&property.name) {
                        Some(value) => {
                            let path = format!("{path}.{}", property.name);
                            self.check(property.node, value, &path)?;
                        }
                        None if property.required => {
                            return wrong(&format!("{} is missing", property.name));
                        }
                        None => {}
                    }
                }
                match map
                    .keys()
                    .find(|key| !properties.iter().any(|p| p.name == **key))
                {
                    Some(key) => wrong(&format!("{key} is no property")),
                    None => Ok(()),
                }
            }
            (Node::Array { item, min, max }, Value::Array(list)) => {
                if !(*min..=*max).contains(&list.len()) {
                    return wrong(&format!("has {} items", list.len()));
                }
                let mut items = list.iter().enumerate();
                items.try_for_each(|(i, value)| self.check(*item, value, &format!("{path}[{i}]")))
            }
            (Node::Text(max), Value::String(text)) => match text.chars().count() <= *max {
                true => Ok(()),
                false => wrong("is too long"),
            },
            (Node::Words(words), value) => match words.contains(&value.to_string().into_bytes()) {
                true => Ok(()),
                false => wrong(&format!("is {value}, which is not one of the answers")),
            },
            (Node::Number(range), Value::Number(number)) => match range.holds(number) {
                true => Ok(()),
                false => wrong(&format!("is {number}, out of bounds or not whole")),
            },
            (_, value) => wrong(&format!("is {value}, of another type")),
        }
    }
}

/// One of some words, and the length of the shortest.
fn words_of(words: Vec<Vec<u8>>) -> (Node, usize) {
    let shortest = words.iter().map(Vec::len).min().unwrap_or(0);
    (Node::Words(words), shortest)
}

/// What messages call the place at `path`.
fn place_of(path: &str) -> &str {
    if path.is_empty() { "the root" } else { path }
}

/// The type that a schema names, whose other keys are all supported.
fn kind_of<'a>(map: &'a Map<String, Value>, place: &str) -> Result<&'a str, String> {
    let complain = |what: String| Err(format!("at {place}: {what}"));
    let more = map.get("additionalProperties");
    if more.is_some_and(|more| *more != Value::Bool(false)) {
        return complain("additionalProperties must be false or left out".to_owned());
    }
    let kind = match map.get("type").and_then(Value::as_str) {
        Some(kind) => kind,
        None if map.contains_key("enum") => "string",
        None => return complain("type is missing".to_owned()),
    };
    let known: &[&str] = match kind {
        "object" => &["properties", "required"],
        "array" => &["items", "minItems", "maxItems"],
        "string" => &["maxLength", "enum"],
        "integer" | "number" => &["minimum", "maximum"],
        "boolean" | "null" => &[],
        other => return complain(format!("type {other:?} is not one of JSON schema")),
    };
    let unknown = map.keys().find(|key| {
        *key != "type" && !known.contains(&key.as_str()) && !ANNOTATIONS.contains(&key.as_str())
    });
    if let Some(key) = unknown {
        let supported = match known {
            [] => "none".to_owned(),
            known => known.join(", "),
        };
        return complain(format!(
            "{key} is not supported for type {kind}; supported are {supported}"
        ));
    }
    Ok(kind)
}

fn text(map: &Map<String, Value>, place: &str) -> Result<(Node, usize), String> {
    let Some(words) = map.get("enum") else {
        let max = size(map, place, "maxLength", usize::MAX)?;
        return Ok((Node::Text(max), 2));
    };
    let words = words.as_array().map(Vec::as_slice).unwrap_or_default();
    if words.is_empty() || !words.iter().all(Value::is_string) {
        return Err(format!("at {place}: enum must be a list of strings"));
    }
    if words.len() > MAX_CHOICES {
        let n = words.len();
        return Err(format!(
            "at {place}: enum has {n} strings; at most {MAX_CHOICES}"
        ));
    }
    let words = words.iter().map(|word| word.to_string().into_bytes());
    Ok(words_of(words.collect()))
}

/// A number of this kind, `integer` or `number`.
fn number(map: &Map<String, Value>, place: &str, kind: &str) -> Result<(Node, usize), String> {
    let bound = |key: &str| match map.get(key).map(Value::as_f64) {
        None => Ok(None),
        Some(Some(bound)) => Ok(Some(bound)),
        Some(None) => Err(format!("at {place}: {key} is no number")),
    };
    let (min, max) = (bound("minimum")?, bound("maximum")?);
    let (range, digits) = match kind {
        "integer" => (Range::whole(min, max), 15),
        _ => (Range::decimal(min, max), 9),
    };
    let range = range.ok_or_else(|| {
        format!("at {place}: no number lies in minimum..maximum that has at most {digits} digits")
    })?;
    let shortest = Digits::default().rest(&range).len();
    Ok((Node::Number(range), shortest))
}

/// The size under `key`.
fn size(map: &Map<String, Value>, place: &str, key: &str, default: usize) -> Result<usize, String> {
    let Some(value) = map.get(key) else {
        return Ok(default);
    };
    let size = value.as_u64().and_then(|n| usize::try_from(n).ok());
    size.ok_or_else(|| format!("at {place}: {key} is {value}; want a number from 0"))
}
