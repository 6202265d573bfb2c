// SPDX-License-Identifier: MPL-2.0

//! The checkpoint's chat template, rendered as transformers renders it.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, Value};

use super::Error;
use super::files::ModelFiles;
use super::json::Document;

const NAME: &str = "chat";

/// What reasoning begins with.
pub(super) const REASONING_OPENS: &str = "<think>";

/// What reasoning ends with.
pub(super) const REASONING_CLOSES: &str = "</think>";

/// One part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// An image's placeholder.
    Image,
    /// A video's placeholder.
    Video,
    /// Text.
    Text(&'a str),
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// What it holds. A single text goes to the template as a string, everything else as a list,
    /// which is what the templates of the text-only and of the vision models both understand.
    pub parts: Vec<Part<'a>>,
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// `eos_token` and its like, by the names of `tokenizer_config.json`.
    special_tokens: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// Takes the template from `chat_template.jinja`, else `chat_template.json`, else
    /// `tokenizer_config.json`, in the order of transformers.
    ///
    /// # Errors
    /// [`Error::MissingFile`] if none of them has one, [`Error::Template`] if it does not parse.
    pub fn open(files: &ModelFiles) -> Result<Self, Error> {
        let tokenizer_config = Document::read(files, "tokenizer_config.json")?;
        let source = match source(files, tokenizer_config.as_ref())? {
            Some(source) => source,
            None => {
                return Err(Error::MissingFile {
                    folder: files.place(),
                    file: "chat_template.jinja (nor a chat_template in chat_template.json or \
                           tokenizer_config.json)"
                        .to_owned(),
                });
            }
        };
        let mut special_tokens = BTreeMap::new();
        if let Some(config) = &tokenizer_config {
            for name in ["bos_token", "eos_token", "unk_token", "pad_token"] {
                if let Some(token) = special_token(config, name)? {
                    special_tokens.insert(name.to_owned(), token);
                }
            }
        }
        Self::compile(source, special_tokens)
    }

    /// Compiles a template with the settings and functions that transformers gives it:
    /// `trim_blocks`, `lstrip_blocks`, loop controls, `raise_exception`, `strftime_now`, a `tojson`
    /// without HTML escapes, and Python's methods on strings, lists and maps.
    pub fn compile(
        source: String,
        special_tokens: BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|e| Error::Template(describe(&e)))?;
        environment.set_syntax(syntax);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        environment
            .add_template_owned(NAME, source)
            .map_err(|e| Error::Template(describe(&e)))?;
        Ok(Self {
            environment,
            special_tokens,
        })
    }

    /// Renders a conversation, with the opening of the answer at its end.
    ///
    /// # Errors
    /// [`Error::Template`] with what the template (by `raise_exception`) or its engine says.
    pub fn render(&self, messages: &[Message<'_>]) -> Result<String, Error> {
        let mut context: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, token) in &self.special_tokens {
            context.insert(name, Value::from(token.as_str()));
        }
        context.insert("messages", messages.iter().map(message_value).collect());
        context.insert("add_generation_prompt", Value::from(true));
        // Models that can do either are to answer at once.
        context.insert("enable_thinking", Value::from(false));
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(Value::from_pairs(context)))
            .map_err(|e| Error::Template(describe(&e)))
    }
}

impl ChatTemplate {
    /// That answers begin with the answer.
    ///
    /// # Errors
    /// [`Error::Reasoning`] if the template opens reasoning, which a `-Thinking` model's does;
    /// `model` is its name.
    pub fn check_answers(&self, model: &str) -> Result<(), Error> {
        let question = Message {
            role: "user",
            parts: vec![Part::Text("?")],
        };
        // A template that takes no such conversation says so when it is used.
        let rendered = self.render(&[question]).unwrap_or_default();
        if rendered.trim_end().ends_with(REASONING_OPENS) {
            return Err(Error::Reasoning {
                model: model.to_owned(),
                opening: REASONING_OPENS,
            });
        }
        Ok(())
    }
}

fn source(files: &ModelFiles, config: Option<&Document>) -> Result<Option<String>, Error> {
    const JINJA: &str = "chat_template.jinja";
    if let Some(bytes) = files.read(JINJA)? {
        return String::from_utf8(bytes.into_owned())
            .map(Some)
            .map_err(|e| Error::Config {
                file: files.label(JINJA),
                reason: format!("not UTF-8 ({e}); fetch the file again"),
            });
    }
    if let Some(document) = Document::read(files, "chat_template.json")?
        && let Some(text) = document.root().text("chat_template")?
    {
        return Ok(Some(text.to_owned()));
    }
    let Some(root) = config.map(Document::root) else {
        return Ok(None);
    };
    match root.value("chat_template") {
        // Several named templates: the one for plain conversations.
        Some(serde_json::Value::Array(list)) => list
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str())
            .map(|text| Some(text.to_owned()))
            .ok_or_else(|| root.complain("chat_template", "has no template named default")),
        _ => Ok(root.text("chat_template")?.map(str::to_owned)),
    }
}

/// A special token: a text, or an object with its `content`.
fn special_token(config: &Document, name: &str) -> Result<Option<String>, Error> {
    let root = config.root();
    match root.value(name) {
        Some(serde_json::Value::Object(_)) => {
            let token = root.require_section(name)?;
            Ok(token.text("content")?.map(str::to_owned))
        }
        _ => Ok(root.text(name)?.map(str::to_owned)),
    }
}

fn message_value(message: &Message<'_>) -> Value {
    let content = match message.parts.as_slice() {
        [Part::Text(text)] => Value::from(*text),
        parts => parts.iter().map(part_value).collect(),
    };
    Value::from_pairs([("role", Value::from(message.role)), ("content", content)])
}

fn part_value(part: &Part<'_>) -> Value {
    let (kind, text) = match part {
        Part::Image => ("image", None),
        Part::Video => ("video", None),
        Part::Text(text) => ("text", Some(*text)),
    };
    let text = text.map(|text| ("text", Value::from(text)));
    Value::from_pairs([("type", Value::from(kind))].into_iter().chain(text))
}

/// The reason with the line of the template, and what caused it.
fn describe(error: &minijinja::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: String) -> Result<String, minijinja::Error> {
    use std::fmt::Write;
    let mut text = String::new();
    write!(text, "{}", chrono::Local::now().format(&format)).map_err(|_| {
        minijinja::Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now: {format:?} is not a date format"),
        )
    })?;
    Ok(text)
}

/// `json.dumps` with `ensure_ascii=False`: the engine's own filter, less its HTML escapes.
fn tojson(value: &Value, indent: Option<Value>, kwargs: Kwargs) -> Result<Value, minijinja::Error> {
    let escaped = minijinja::filters::tojson(value, indent, kwargs)?.to_string();
    let mut text = String::with_capacity(escaped.len());
    let mut rest = escaped.as_str();
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let plain = [
            ("\\u003c", '<'),
            ("\\u003e", '>'),
            ("\\u0026", '&'),
            ("\\u0027", '\''),
        ];
        match plain.iter().find(|(code, _)| rest.starts_with(code)) {
            Some((code, plain)) => {
                text.push(*plain);
                rest = &rest[code.len()..];
            }
            None => {
                // A backslash and what it escapes, which may be a backslash.
                let end = rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at);
                text.push_str(&rest[..end]);
                rest = &rest[end..];
            }
        }
    }
    text.push_str(rest);
    Ok(Value::from(text))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn render(source: &str) -> Result<String, Error> {
        let messages = [Message {
            role: "user",
            parts: vec![Part::Text("hi")],
        }];
        ChatTemplate::compile(source.to_owned(), BTreeMap::new())?.render(&messages)
    }

    /// What the template of a folder with these files says.
    fn opened(contents: &[(&str, &str)]) -> Result<String, Error> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in contents {
            fs::write(folder.path().join(name), text).unwrap();
        }
        ChatTemplate::open(&ModelFiles::Folder(folder.path().to_owned()))?.render(&[])
    }

    #[test]
    fn the_jinja_file_goes_before_the_older_places() {
        let jinja = ("chat_template.jinja", "jinja");
        let json = ("chat_template.json", r#"{"chat_template": "json"}"#);
        let config = (
            "tokenizer_config.json",
            r#"{"chat_template": "config {{ eos_token }}",
            "eos_token": {"content": "<end>", "special": true}}"#,
        );
        assert_eq!(opened(&[jinja, json, config]).unwrap(), "jinja");
        assert_eq!(opened(&[json, config]).unwrap(), "json");
        assert_eq!(opened(&[config]).unwrap(), "config <end>");
    }

    #[test]
    fn of_named_templates_the_default_one_is_taken() {
        let named = r#"{"chat_template": [{"name": "rag", "template": "no"},
            {"name": "default", "template": "yes"}]}"#;
        assert_eq!(opened(&[("tokenizer_config.json", named)]).unwrap(), "yes");
        let none = r#"{"chat_template": []}"#;
        let got = opened(&[("tokenizer_config.json", none)]).unwrap_err();
        assert!(
            got.to_string().contains("no template named default"),
            "{got}"
        );
    }

    #[test]
    fn a_checkpoint_without_template_is_told() {
        for contents in [&[][..], &[("tokenizer_config.json", "{}")]] {
            let got = opened(contents).unwrap_err().to_string();
            assert!(got.contains("has no chat_template.jinja"), "{got}");
        }
    }

    #[test]
    fn what_a_template_raises_is_told() {
        let got = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
        assert!(got.to_string().contains("roles must alternate"), "{got}");
        let got = render("{% if %}").unwrap_err().to_string();
        assert!(got.starts_with("chat template: syntax error"), "{got}");
    }

    #[test]
    fn a_template_that_opens_reasoning_is_refused_by_name() {
        // As that of Qwen3-VL-2B-Thinking ends, and that of Qwen3, which can do either.
        let always = "{{ messages[0].content }}{% if add_generation_prompt %}\
                      {{- '<|im_start|>assistant\n<think>\n' }}{% endif %}";
        let either = "{{ messages[0].content }}<|im_start|>assistant\n\
                      {% if enable_thinking is defined and enable_thinking is false %}\
                      {{- '<think>\n\n</think>\n\n' }}{% else %}<think>\n{% endif %}";
        let check = |source: &str| {
            let template = ChatTemplate::compile(source.to_owned(), BTreeMap::new()).unwrap();
            template.check_answers("Qwen3-VL-2B-Thinking")
        };
        let said = check(always).unwrap_err().to_string();
        assert!(
            said.starts_with("Qwen3-VL-2B-Thinking reasons before it answers"),
            "{said}"
        );
        assert!(said.contains("Instruct"), "{said}");
        check(either).unwrap();
        check("{{ messages[0].content }}<|im_start|>assistant\n").unwrap();
    }

    #[test]
    fn strftime_now_gives_today() {
        let today = render("{{ strftime_now('%Y') }}").unwrap();
        assert!(
            today.len() == 4 && today.parse::<u32>().unwrap() > 2000,
            "{today}"
        );
        assert!(render("{{ strftime_now('%!') }}").is_err());
    }

    #[test]
    fn tojson_escapes_what_json_does_and_no_more() {
        let json = render(r#"{{ "<a href='&'>\\u003c \"é\"" | tojson }}"#).unwrap();
        assert_eq!(json, r#""<a href='&'>\\u003c \"é\"""#);
    }
}
