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
        let mut schema = Self { nodes: Vec::new() };
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
        Ok(schema)
    }

    fn read(&mut self, value: &Value, path: &str, depth: usize) -> Result<Part, String> {
        let place = if path.is_empty() { "the root" } else { path };
        let complain = |what: String| Err(format!("at {place}: {what}"));
        let Some(map) = value.as_object() else {
            return complain("must be an object with a type".to_owned());
        };
        if depth > MAX_DEPTH {
            return complain(format!("is more than {MAX_DEPTH} levels deep"));
        }
        if map
            .get("additionalProperties")
            .is_some_and(|more| *more != Value::Bool(false))
        {
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
            return complain(format!(
                "{key} is not supported for type {kind}; supported are {}",
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            ));
        }
        let bounds = || {
            let bound = |key: &str| match map.get(key) {
                None => Ok(None),
                Some(value) => match value.as_f64() {
                    Some(bound) => Ok(Some(bound)),
                    None => Err(format!("at {place}: {key} is no number")),
                },
            };
            Ok::<_, String>((bound("minimum")?, bound("maximum")?))
        };
        let size = |key: &str, default: usize| match map.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| format!("at {place}: {key} is {value}; want a number from 0")),
        };
        let (node, shortest) = match kind {
            "object" => self.object(map, path, depth)?,
            "array" => {
                let Some(items) = map.get("items") else {
                    return complain("items is missing".to_owned());
                };
                let item = self.read(items, &format!("{path}[]"), depth + 1)?;
                let (min, max) = (size("minItems", 0)?, size("maxItems", usize::MAX)?);
                if min > max {
                    return complain(format!("minItems is {min}, but maxItems is {max}"));
                }
                // Brackets, and a comma between two items.
                let items = min.saturating_mul(item.shortest.saturating_add(1));
                let item = item.node;
                (
                    Node::Array { item, min, max },
                    items.saturating_add(2 - min.min(1)),
                )
            }
            "string" => match map.get("enum") {
                None => (Node::Text(size("maxLength", usize::MAX)?), 2),
                Some(words) => {
                    let words = words.as_array().map(Vec::as_slice).unwrap_or_default();
                    if words.is_empty() || !words.iter().all(Value::is_string) {
                        return complain("enum must be a list of strings".to_owned());
                    }
                    if words.len() > MAX_CHOICES {
                        let n = words.len();
                        return complain(format!("enum has {n} strings; at most {MAX_CHOICES}"));
                    }
                    words_of(words.iter().map(|w| w.to_string().into_bytes()).collect())
                }
            },
            "boolean" => words_of(vec![b"true".to_vec(), b"false".to_vec()]),
            "null" => words_of(vec![b"null".to_vec()]),
            _ => {
                let (min, max) = bounds()?;
                let range = match kind {
                    "integer" => Range::whole(min, max),
                    _ => Range::decimal(min, max),
                };
                let Some(range) = range else {
                    let digits = if kind == "integer" { 15 } else { 9 };
                    return complain(format!(
                        "no number lies in minimum..maximum that has at most {digits} digits"
                    ));
                };
                let shortest = Digits::default().rest(&range).len();
                (Node::Number(range), shortest)
            }
        };
        if shortest > MAX_SHORTEST {
            return complain(format!(
                "the shortest answer has more than {MAX_SHORTEST} bytes; lower minItems, or \
                 require less"
            ));
        }
        self.nodes.push(node);
        let node = self.nodes.len() - 1;
        Ok(Part { node, shortest })
    }

    fn object(
        &mut self,
        map: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<(Node, usize), String> {
        let place = if path.is_empty() { "the root" } else { path };
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

    /// That a value follows the schema.
    ///
    /// # Errors
    /// Where it does not, and how.
    pub fn validate(&self, value: &Value) -> Result<(), String> {
        self.check(0, value, "")
    }

    fn check(&self, node: usize, value: &Value, path: &str) -> Result<(), String> {
        let place = if path.is_empty() { "the root" } else { path };
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
