// SPDX-License-Identifier: MPL-2.0

//! The shapes in which servers tell that something went wrong.

use serde_json::Value;

/// The longest text of a server's that is passed on, in characters.
const LONGEST: usize = 300;

/// What a server says went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// In its words, short and on one line; empty if it said nothing.
    pub message: String,
    /// The kind of error, as it names it.
    pub kind: String,
    /// The field of the request that it names.
    pub param: Option<String>,
    /// The status that it gives, which may differ from HTTP's.
    pub code: Option<u16>,
}

/// Reads the body of an answer with an error status: JSON in any shape, plain text or a page.
///
/// `scrub` takes secrets out of a text: a server may send back what it was sent.
pub fn of_body(body: &[u8], scrub: &dyn Fn(&str) -> String) -> Said {
    let text = String::from_utf8_lossy(body);
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        let said = of_value(&value).unwrap_or_else(|| said(&text));
        return clean(said, scrub);
    }
    let is_page = text.trim_start().starts_with('<');
    let plain = if is_page {
        without_tags(&text)
    } else {
        text.into_owned()
    };
    clean(said(&plain), scrub)
}

/// The error in an answer or in a part of one; `None` if it is none.
pub fn in_answer(value: &Value, scrub: &dyn Fn(&str) -> String) -> Option<Said> {
    let answers = value
        .get("choices")
        .is_some_and(|choices| !choices.is_null());
    let tells = ["error", "errors"]
        .iter()
        .any(|key| is_set(value.get(*key)));
    if tells || !answers {
        return of_value(value).map(|said| clean(said, scrub));
    }
    None
}

/// The error that a JSON value tells.
fn of_value(value: &Value) -> Option<Said> {
    match value {
        Value::Array(list) => list.first().and_then(of_value),
        Value::Object(map) => {
            for key in ["error", "errors", "detail"] {
                match map.get(key) {
                    Some(Value::String(text)) => {
                        let code = map.get("code").or_else(|| map.get("status"));
                        return Some(Said {
                            message: text.clone(),
                            code: code.and_then(status),
                            ..Said::default()
                        });
                    }
                    Some(inner @ Value::Object(_)) => return Some(of_object(inner)),
                    Some(Value::Array(list)) if !list.is_empty() => return Some(of_list(list)),
                    _ => (),
                }
            }
            let is_error = map.get("object").is_some_and(|object| object == "error");
            let tells = is_set(map.get("message")) && !map.contains_key("choices");
            (is_error || tells).then(|| of_object(value))
        }
        Value::String(text) => Some(said(text)),
        _ => None,
    }
}

/// `{message, type, param, code}`, each of them perhaps not there or of another type.
fn of_object(value: &Value) -> Said {
    let text = |key: &str| value.get(key).map(plain).filter(|text| !text.is_empty());
    let nested = value.get("error").filter(|error| is_set(Some(error)));
    let message = text("message")
        .or_else(|| text("msg"))
        .or_else(|| text("detail"))
        .or_else(|| nested.map(plain));
    let code = value.get("code").or_else(|| value.get("status"));
    let kind = text("type").or_else(|| code.filter(|c| status(c).is_none()).map(plain));
    Said {
        message: message.unwrap_or_else(|| plain(value)),
        kind: kind.unwrap_or_default(),
        param: text("param"),
        code: code.and_then(status),
    }
}

/// FastAPI's list of fields that do not fit: `[{loc, msg, type}]`.
fn of_list(list: &[Value]) -> Said {
    let field = |item: &Value| {
        let names = item.get("loc")?.as_array()?.iter().map(plain);
        Some(
            names
                .filter(|name| name != "body")
                .collect::<Vec<_>>()
                .join("."),
        )
    };
    let words = list.iter().take(3).map(|item| {
        let said = of_object(item);
        match field(item) {
            Some(field) => format!("{field}: {}", said.message),
            None => said.message,
        }
    });
    Said {
        message: words.collect::<Vec<_>>().join("; "),
        param: list.first().and_then(field),
        ..Said::default()
    }
}

fn said(text: &str) -> Said {
    Said {
        message: text.to_owned(),
        ..Said::default()
    }
}

fn is_set(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    }
}

/// A text as it is, anything else as JSON; nothing for null.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A number that is a status of HTTP's, also as a text.
fn status(value: &Value) -> Option<u16> {
    let number = match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| (400..600).contains(number))
}

fn clean(said: Said, scrub: &dyn Fn(&str) -> String) -> Said {
    Said {
        message: one_line(&scrub(&said.message)),
        kind: one_line(&scrub(&said.kind)),
        param: said.param.map(|param| one_line(&scrub(&param))),
        code: said.code,
    }
}

/// On one line, without control characters and not too long.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if !word.is_empty() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        if line.len() > 4 * LONGEST {
            break;
        }
    }
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line,
    }
}

/// The title of a page, or its text without tags.
fn without_tags(page: &str) -> String {
    let lower = page.to_ascii_lowercase();
    if let Some(start) = lower.find("<title>").map(|at| at + "<title>".len())
        && let Some(length) = lower[start..].find("</title>")
    {
        return page[start..start + length].to_owned();
    }
    let mut text = String::new();
    let mut in_tag = false;
    for c in page.chars() {
        match c {
            '<' => in_tag = true,
            '>' => {
                in_tag = false;
                text.push(' ');
            }
            _ if !in_tag => text.push(c),
            _ => (),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Said {
        of_body(text.as_bytes(), &str::to_owned)
    }

    fn answer(text: &str) -> Option<Said> {
        in_answer(&serde_json::from_str(text).unwrap(), &str::to_owned)
    }

    #[test]
    fn every_shape_gives_the_message() {
        for (text, message) in [
            (
                r#"{"error":{"message":"m","type":"t","param":"p","code":400}}"#,
                "m",
            ),
            (r#"{"error":"Unauthorized"}"#, "Unauthorized"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (r#"{"detail":{"error":"m"}}"#, "m"),
            (
                r#"{"object":"error","message":"m","type":"t","code":404}"#,
                "m",
            ),
            (r#"{"message":"m"}"#, "m"),
            (
                r#"[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]"#,
                "m",
            ),
            (r#"{"errors":[{"message":"m"}]}"#, "m"),
            (r#""m""#, "m"),
            ("No available\n workers\t...", "No available workers ..."),
            (
                "<html><head><title>502 Bad Gateway</title></head></html>",
                "502 Bad Gateway",
            ),
            (
                "<html><body><h1>Down</h1>for now</body></html>",
                "Down for now",
            ),
            ("", ""),
            (r#"{"error":{}}"#, "{}"),
        ] {
            assert_eq!(body(text).message, message, "{text}");
        }
    }

    #[test]
    fn fields_that_do_not_fit_are_named() {
        let said = body(
            r#"{"detail":[{"loc":["body","top_k"],"msg":"Extra inputs","type":"extra_forbidden"}]}"#,
        );
        assert_eq!(said.message, "top_k: Extra inputs");
        assert_eq!(said.param.as_deref(), Some("top_k"));
    }

    #[test]
    fn a_code_may_be_a_number_a_text_or_a_word() {
        let code = |code: &str| body(&format!(r#"{{"error":{{"message":"m","code":{code}}}}}"#));
        assert_eq!(code("500").code, Some(500));
        assert_eq!(code(r#""500""#).code, Some(500));
        assert_eq!(code(r#""rate_limit""#).kind, "rate_limit");
        assert_eq!(
            code("null"),
            Said {
                message: "m".into(),
                ..Said::default()
            }
        );
    }

    #[test]
    fn an_answer_with_choices_is_no_error_unless_it_says_so() {
        assert_eq!(answer(r#"{"choices":[],"error":null,"detail":"x"}"#), None);
        assert_eq!(
            answer(r#"{"choices":[{"delta":{"content":"error"}}]}"#),
            None
        );
        assert_eq!(
            answer(r#"{"choices":[],"error":{"message":"m"}}"#)
                .unwrap()
                .message,
            "m"
        );
        assert_eq!(
            answer(r#"{"object":"error","message":"m"}"#)
                .unwrap()
                .message,
            "m"
        );
        assert_eq!(answer(r#"{"id":"x"}"#), None);
    }

    #[test]
    fn long_texts_are_cut_and_secrets_taken_out_before() {
        let scrub = |text: &str| text.replace("canary", "***");
        let said = of_body(format!("{}canary", "x".repeat(297)).as_bytes(), &scrub);
        assert_eq!(said.message, format!("{}***", "x".repeat(297)));
        let said = of_body("ä".repeat(1000).as_bytes(), &scrub);
        assert_eq!(said.message.chars().count(), 303);
    }
}
