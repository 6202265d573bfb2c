// SPDX-License-Identifier: MPL-2.0

//! A JSON text byte by byte.

use super::number::{Digits, Range};
use super::schema::{Node, Property, Schema};

/// Where a text is. It is written without white space, but for one space after a comma or a colon.
#[derive(Debug, PartialEq)]
pub struct State {
    /// What has begun and not ended, the innermost last.
    stack: Vec<Frame>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Frame {
    /// A value is to begin, after a space or not.
    Value {
        node: usize,
        space: bool,
    },
    Object {
        node: usize,
        next: usize,
        at: InObject,
    },
    Array {
        node: usize,
        n: usize,
        begun: bool,
    },
    Text {
        max: usize,
        n: usize,
        at: InText,
    },
    /// `word` is one of those that begin with the same `at` bytes.
    Word {
        node: usize,
        word: usize,
        at: usize,
    },
    Number {
        node: usize,
        digits: Digits,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum InObject {
    /// After the brace.
    Begun,
    /// After a comma, and maybe a space.
    Comma {
        space: bool,
    },
    /// `property` is one of those whose keys begin with the same `at` bytes.
    Key {
        property: usize,
        at: usize,
    },
    Colon,
    /// After a value.
    Value,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum InText {
    Plain,
    Escape,
    /// Bytes to come of a character, the next one within these.
    Character {
        left: u8,
        low: u8,
        high: u8,
    },
}

impl Clone for State {
    fn clone(&self) -> Self {
        Self {
            stack: self.stack.clone(),
        }
    }

    /// Without new memory where there is enough.
    fn clone_from(&mut self, other: &Self) {
        self.stack.clone_from(&other.stack);
    }
}

impl State {
    /// Before the first byte.
    pub fn new() -> Self {
        let frame = Frame::Value {
            node: 0,
            space: false,
        };
        Self { stack: vec![frame] }
    }

    /// Whether the text is whole: nothing may follow.
    pub fn is_complete(&self) -> bool {
        self.stack.is_empty()
    }

    /// Takes bytes; false, and the state is of no use any more, if they cannot follow.
    pub fn push_all(&mut self, schema: &Schema, bytes: &[u8]) -> bool {
        bytes.iter().all(|&byte| self.push(schema, byte))
    }

    /// Takes a byte; false, and the state is of no use any more, if it cannot follow.
    pub fn push(&mut self, schema: &Schema, byte: u8) -> bool {
        loop {
            let Some(top) = self.stack.last_mut() else {
                return false;
            };
            match top.take(schema, byte) {
                None => return false,
                Some(Step::Stay) => return true,
                Some(Step::End) => return self.stack.pop().is_some(),
                Some(Step::Value(node)) => {
                    self.stack.push(Frame::Value { node, space: true });
                    return true;
                }
                Some(Step::Begin(node)) => {
                    self.stack.pop();
                    return self.begin(schema, node, byte);
                }
                // The byte is for what this is in.
                Some(Step::Over) => drop(self.stack.pop()),
                // The byte is the item's.
                Some(Step::Item(node)) => self.stack.push(Frame::Value { node, space: false }),
            }
        }
    }

    /// The first byte of a value.
    fn begin(&mut self, schema: &Schema, node: usize, byte: u8) -> bool {
        let frame = match (&schema.nodes[node], byte) {
            (Node::Object(_), b'{') => Frame::Object {
                node,
                next: 0,
                at: InObject::Begun,
            },
            (Node::Array { .. }, b'[') => Frame::Array {
                node,
                n: 0,
                begun: false,
            },
            (Node::Text(max), b'"') => Frame::Text {
                max: *max,
                n: 0,
                at: InText::Plain,
            },
            (Node::Words(words), _) => {
                let Some(word) = go_on(words.iter(), 0, 0, byte) else {
                    return false;
                };
                Frame::Word { node, word, at: 1 }
            }
            (Node::Number(range), _) => {
                let mut digits = Digits::default();
                if !digits.push(range, byte) {
                    return false;
                }
                Frame::Number { node, digits }
            }
            _ => return false,
        };
        self.stack.push(frame);
        true
    }

    /// Bytes that make the text whole: required properties and items with the shortest values, and
    /// nothing else.
    pub fn ending(&self, schema: &Schema) -> Vec<u8> {
        let mut state = self.clone();
        let mut bytes = Vec::new();
        while let Some(top) = state.stack.last().copied() {
            let step = rest(schema, top);
            if matches!(top, Frame::Number { .. }) {
                // A number has no end of its own: what follows it ends it.
                state.stack.pop();
            } else if !state.push_all(schema, &step) {
                // `rest` gives what `push` takes; a test holds the two together.
                break;
            }
            bytes.extend(step);
        }
        bytes
    }
}

impl Frame {
    /// What comes of a byte; `None` if it cannot follow.
    #[inline]
    fn take(&mut self, schema: &Schema, byte: u8) -> Option<Step> {
        match self {
            Frame::Value { space, .. } if byte == b' ' && *space => {
                *space = false;
                Some(Step::Stay)
            }
            Frame::Value { node, .. } => Some(Step::Begin(*node)),
            Frame::Number { node, digits } => {
                let Node::Number(range) = &schema.nodes[*node] else {
                    return None;
                };
                if digits.push(range, byte) {
                    return Some(Step::Stay);
                }
                digits.is_complete(range).then_some(Step::Over)
            }
            Frame::Word { node, word, at } => {
                let Node::Words(words) = &schema.nodes[*node] else {
                    return None;
                };
                let found = go_on(words.iter(), *word, *at, byte)?;
                (*word, *at) = (found, *at + 1);
                let is_whole = *at == words[found].len();
                Some(if is_whole { Step::End } else { Step::Stay })
            }
            Frame::Text { max, n, at } => {
                let Some(next) = text(*max, n, *at, byte)? else {
                    return Some(Step::End);
                };
                *at = next;
                Some(Step::Stay)
            }
            Frame::Array { node, n, begun } => {
                let Node::Array { item, min, max } = schema.nodes[*node] else {
                    return None;
                };
                if byte == b']' && *n >= min {
                    return Some(Step::End);
                }
                if *n >= max || *begun && byte != b',' {
                    return None;
                }
                *n += 1;
                let is_first = !std::mem::replace(begun, true);
                Some(if is_first {
                    Step::Item(item)
                } else {
                    Step::Value(item)
                })
            }
            Frame::Object { node, next, at } => {
                let Node::Object(properties) = &schema.nodes[*node] else {
                    return None;
                };
                object(properties, next, at, byte)
            }
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

/// What comes next on the shortest way out.
fn rest(schema: &Schema, frame: Frame) -> Vec<u8> {
    match frame {
        Frame::Value { node, .. } => first(schema, node),
        Frame::Number { node, digits } => match &schema.nodes[node] {
            Node::Number(range) => digits.rest(range).into_bytes(),
            _ => Vec::new(),
        },
        Frame::Word { node, word, at } => match &schema.nodes[node] {
            Node::Words(words) => {
                let alike = words
                    .iter()
                    .filter(|other| other.starts_with(&words[word][..at]));
                let shortest = alike.min_by_key(|word| word.len());
                shortest.map_or(Vec::new(), |word| word[at..].to_vec())
            }
            _ => Vec::new(),
        },
        Frame::Text { at, .. } => match at {
            InText::Plain => b"\"".to_vec(),
            InText::Escape => b"n".to_vec(),
            InText::Character { low, .. } => vec![low],
        },
        Frame::Array { node, n, begun } => match schema.nodes[node] {
            Node::Array { min, .. } if n >= min => b"]".to_vec(),
            Node::Array { item, .. } if !begun => first(schema, item),
            _ => b",".to_vec(),
        },
        Frame::Object { node, next, at } => {
            let Node::Object(properties) = &schema.nodes[node] else {
                return Vec::new();
            };
            let left = &properties[next.min(properties.len())..];
            let required = left.iter().find(|property| property.required);
            match at {
                InObject::Key { property, at } => {
                    let begun = &properties[property].key[..at];
                    let required = required.filter(|p| p.key.starts_with(begun));
                    required.unwrap_or(&properties[property]).key[at..].to_vec()
                }
                InObject::Colon => b":".to_vec(),
                InObject::Begun => required.map_or(b"}".to_vec(), |p| p.key.clone()),
                InObject::Comma { .. } => {
                    let key = required.or(left.first());
                    key.map_or(Vec::new(), |p| p.key.clone())
                }
                InObject::Value if required.is_some() => b",".to_vec(),
                InObject::Value => b"}".to_vec(),
            }
        }
    }
}

/// The first bytes of the shortest value.
fn first(schema: &Schema, node: usize) -> Vec<u8> {
    match &schema.nodes[node] {
        Node::Object(_) => b"{".to_vec(),
        Node::Array { .. } => b"[".to_vec(),
        Node::Text(_) => b"\"".to_vec(),
        Node::Words(words) => words
            .iter()
            .min_by_key(|w| w.len())
            .cloned()
            .unwrap_or_default(),
        Node::Number(range) => shortest(range),
    }
}

fn shortest(range: &Range) -> Vec<u8> {
    Digits::default().rest(range).into_bytes()
}

/// The word with which `byte` goes on after the first `at` bytes of `words[like]`.
fn go_on<'a>(
    mut words: impl Iterator<Item = &'a Vec<u8>> + Clone,
    like: usize,
    at: usize,
    byte: u8,
) -> Option<usize> {
    let begun = words.clone().nth(like)?.get(..at)?;
    words.position(|word| word.get(at) == Some(&byte) && word[..at] == *begun)
}

/// The next place in a string, or its end.
fn text(max: usize, n: &mut usize, at: InText, byte: u8) -> Option<Option<InText>> {
    let full = *n >= max;
    Some(Some(match (at, byte) {
        (InText::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
            *n += 1;
            InText::Plain
        }
        (InText::Escape, _) => return None,
        (InText::Character { left, low, high }, _) => {
            if !(low..=high).contains(&byte) {
                return None;
            }
            match left {
                1 => {
                    *n += 1;
                    InText::Plain
                }
                _ => character(left - 1, 0x80, 0xbf),
            }
        }
        (InText::Plain, b'"') => return Some(None),
        (InText::Plain, _) if full => return None,
        (InText::Plain, b'\\') => InText::Escape,
        (InText::Plain, 0x20..=0x7f) => {
            *n += 1;
            InText::Plain
        }
        // Well-formed UTF-8, by table 3-7 of the Unicode standard.
        (InText::Plain, 0xc2..=0xdf) => character(1, 0x80, 0xbf),
        (InText::Plain, 0xe0) => character(2, 0xa0, 0xbf),
        (InText::Plain, 0xed) => character(2, 0x80, 0x9f),
        (InText::Plain, 0xe1..=0xef) => character(2, 0x80, 0xbf),
        (InText::Plain, 0xf0) => character(3, 0x90, 0xbf),
        (InText::Plain, 0xf1..=0xf3) => character(3, 0x80, 0xbf),
        (InText::Plain, 0xf4) => character(3, 0x80, 0x8f),
        (InText::Plain, _) => return None,
    }))
}

fn character(left: u8, low: u8, high: u8) -> InText {
    InText::Character { left, low, high }
}

/// What comes of a byte.
enum Step {
    /// It is taken; what it is in goes on.
    Stay,
    /// It is taken, and a value follows, maybe after a space.
    Value(usize),
    /// It is taken, and ends what it is in.
    End,
    /// It begins this value.
    Begin(usize),
    /// It begins an item of the array that it is in.
    Item(usize),
    /// What it would be in has ended before it.
    Over,
}

/// The next place in an object.
fn object(properties: &[Property], next: &mut usize, at: &mut InObject, byte: u8) -> Option<Step> {
    // Those that may come next: none after the first that must.
    let left = &properties[*next..];
    let required = left.iter().position(|property| property.required);
    let keys = &left[..required.map_or(left.len(), |index| index + 1)];
    let key = |like: usize, at: usize| {
        go_on(keys.iter().map(|p| &p.key), like, at, byte).map(|index| index + *next)
    };
    match (*at, byte) {
        (InObject::Begun | InObject::Value, b'}') if required.is_none() => return Some(Step::End),
        (InObject::Value, b',') if !left.is_empty() => *at = InObject::Comma { space: true },
        (InObject::Comma { space: true }, b' ') => *at = InObject::Comma { space: false },
        (InObject::Begun | InObject::Comma { .. }, _) => {
            let property = key(0, 0)?;
            *at = InObject::Key { property, at: 1 };
        }
        (InObject::Key { property, at: n }, _) => {
            let property = key(property - *next, n)?;
            *at = InObject::Key {
                property,
                at: n + 1,
            };
            if n + 1 == properties[property].key.len() {
                *next = property + 1;
                *at = InObject::Colon;
            }
        }
        (InObject::Colon, b':') => {
            *at = InObject::Value;
            return Some(Step::Value(properties[*next - 1].node));
        }
        _ => return None,
    }
    Some(Step::Stay)
}
