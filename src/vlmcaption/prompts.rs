// SPDX-License-Identifier: MPL-2.0

//! The property `prompts`: structures become questions.

use std::sync::Arc;
use std::time::Duration;

use gst::prelude::*;

use crate::caption::alarm::{Rule, Watch};
use crate::caption::question::{Kind, Question};
use crate::vlm::grammar::Schema;

/// Questions of one element.
const MAX_PROMPTS: usize = 32;

const FIELDS: [&str; 13] = [
    "id",
    "text",
    "kind",
    "options",
    "schema",
    "on",
    "off",
    "alarm-on",
    "at-least",
    "min-duration",
    "cool-down",
    "period",
    "max-tokens",
];

/// The questions that an array of structures describes.
///
/// # Errors
/// A sentence that names the entry, the field, and what would be right.
pub(super) fn parse(prompts: &[glib::SendValue]) -> Result<Vec<Arc<Question>>, String> {
    if prompts.len() > MAX_PROMPTS {
        return Err(format!(
            "prompts has {} entries; at most {MAX_PROMPTS} are asked",
            prompts.len()
        ));
    }
    let mut questions: Vec<Arc<Question>> = Vec::with_capacity(prompts.len());
    for (index, value) in prompts.iter().enumerate() {
        let Ok(Some(structure)) = value.get::<Option<gst::Structure>>() else {
            return Err(format!(
                "prompts: entry {} is no structure; write \
                 prompts='<\"person,kind=yes-no,text=(string)\\\"Is there a person?\\\"\">'",
                index + 1
            ));
        };
        let entry = Entry {
            index,
            structure: &structure,
        };
        let question = entry.question()?;
        if questions.iter().any(|other| other.id == question.id) {
            return Err(entry.complain("id", "is another entry's too; each needs its own"));
        }
        questions.push(Arc::new(question));
    }
    Ok(questions)
}

/// What is watched, and the values that begin and end an event.
type Watched = (Watch, f64, f64);

struct Entry<'a> {
    index: usize,
    structure: &'a gst::StructureRef,
}

impl Entry<'_> {
    fn question(&self) -> Result<Question, String> {
        if let Some(field) = self
            .structure
            .fields()
            .find(|field| !FIELDS.contains(&field.as_str()))
        {
            let known = FIELDS.join(", ");
            return Err(self.complain(field, &format!("is not known; the fields are {known}")));
        }
        let text = self.text("text").unwrap_or_default();
        if text.trim().is_empty() {
            return Err(self.complain("text", "is missing; it is the question"));
        }
        let max_tokens = match self.number("max-tokens")? {
            Some(n) if (1.0..=8192.0).contains(&n) => Some(n as usize),
            Some(n) => return Err(self.complain("max-tokens", &format!("is {n}; want 1 to 8192"))),
            None => None,
        };
        let kind = self.kind()?;
        Ok(Question {
            id: self.id(),
            text,
            rule: self.rule(&kind)?,
            kind,
            max_tokens,
            period: self.time("period")?,
        })
    }

    /// The field `id`, or else the structure's name.
    fn id(&self) -> String {
        let id = self.text("id").filter(|id| !id.is_empty());
        id.unwrap_or_else(|| self.structure.name().to_string())
    }

    fn kind(&self) -> Result<Kind, String> {
        let name = self.text("kind").unwrap_or_else(|| "caption".into());
        let kind = match name.as_str() {
            "caption" => Kind::Caption,
            "yes-no" => Kind::YesNo,
            "count" => Kind::Count,
            "choice" => Kind::Choice(self.options()?),
            "json" => Kind::Json(Arc::new(self.schema()?)),
            other => {
                let what = format!("is {other:?}; want caption, yes-no, choice, count or json");
                return Err(self.complain("kind", &what));
            }
        };
        if !matches!(kind, Kind::Json(_)) && self.structure.has_field("schema") {
            return Err(self.complain("schema", "is for kind=json"));
        }
        if !matches!(kind, Kind::Choice(_)) && self.structure.has_field("options") {
            return Err(self.complain("options", "is for kind=choice"));
        }
        Ok(kind)
    }

    fn options(&self) -> Result<Vec<String>, String> {
        const WANT: &str = "must be two or more different answers: options=(string)<red,green>";
        let value = self.structure.value("options");
        let list: Vec<String> = match value {
            Ok(value) if value.type_() == gst::Array::static_type() => {
                let array = value.get::<gst::ArrayRef>().map_err(|_| WANT.to_owned())?;
                array.iter().map(|value| written(value)).collect()
            }
            Ok(value) if value.type_() == gst::List::static_type() => {
                let list = value.get::<gst::ListRef>().map_err(|_| WANT.to_owned())?;
                list.iter().map(|value| written(value)).collect()
            }
            Ok(value) => written(value).split(',').map(str::to_owned).collect(),
            Err(_) => Vec::new(),
        };
        let list: Vec<String> = list.iter().map(|text| text.trim().to_owned()).collect();
        let different = |index: usize| {
            let lower = list[index].to_lowercase();
            !lower.is_empty() && !list[..index].iter().any(|o| o.to_lowercase() == lower)
        };
        if list.len() < 2 || !(0..list.len()).all(different) {
            return Err(self.complain("options", WANT));
        }
        Ok(list)
    }

    /// A schema as JSON, or the file that holds it.
    fn schema(&self) -> Result<Schema, String> {
        let Some(text) = self.text("schema") else {
            return Err(self.complain("schema", "is missing: a JSON schema, or a file with one"));
        };
        let text = match text.trim_start().starts_with('{') {
            true => text,
            false => std::fs::read_to_string(&text).map_err(|error| {
                self.complain(
                    "schema",
                    &format!("is {text:?}, no JSON and no file ({error})"),
                )
            })?,
        };
        Schema::parse(&text).map_err(|reason| self.complain("schema", &reason))
    }

    fn rule(&self, kind: &Kind) -> Result<Option<Rule>, String> {
        let watched = match kind {
            Kind::Caption | Kind::Json(_) => self.watch_nothing(kind)?,
            Kind::Count => self.watch_number(kind)?,
            Kind::YesNo | Kind::Choice(_) => self.watch_answer(kind)?,
        };
        let Some((watch, on, off)) = watched else {
            return Ok(None);
        };
        if off > on {
            return Err(self.complain("off", &format!("is {off}, above the {on} it begins at")));
        }
        Ok(Some(Rule {
            watch,
            on,
            off,
            min_duration: self.time("min-duration")?,
            cool_down: self.time("cool-down")?,
        }))
    }

    /// Texts do not alarm.
    fn watch_nothing(&self, kind: &Kind) -> Result<Option<Watched>, String> {
        let fields = [
            "on",
            "off",
            "alarm-on",
            "at-least",
            "min-duration",
            "cool-down",
        ];
        self.refuse(&fields, "questions that alarm", kind)?;
        Ok(None)
    }

    /// A count alarms from `at-least` on.
    fn watch_number(&self, kind: &Kind) -> Result<Option<Watched>, String> {
        let kinds = "yes-no and choice (a count has at-least)";
        let (on, off) = (self.number("at-least")?, self.number("off")?);
        self.refuse(&["on", "alarm-on"], kinds, kind)?;
        match on {
            Some(on) => Ok(Some((Watch::Number, on, off.unwrap_or(on)))),
            None if self.structure.has_field("off") => {
                Err(self.complain("off", "needs at-least, the count to begin at"))
            }
            None => Ok(None),
        }
    }

    /// Others alarm by the probability of one of their answers.
    fn watch_answer(&self, kind: &Kind) -> Result<Option<Watched>, String> {
        let (on, off) = (self.number("on")?, self.number("off")?);
        self.refuse(&["at-least"], "kind=count", kind)?;
        let watched = match (self.text("alarm-on"), kind) {
            (Some(answer), _) => answer,
            (None, Kind::YesNo) => "yes".to_owned(),
            (None, _) if on.is_some() || off.is_some() => {
                return Err(self.complain("alarm-on", "is missing: which answer alarms"));
            }
            (None, _) => return Ok(None),
        };
        let choices = kind.choices();
        let index = choices.iter().position(|choice| *choice == watched);
        let Some(index) = index else {
            let what = format!("is {watched:?}; want one of {}", choices.join(", "));
            return Err(self.complain("alarm-on", &what));
        };
        for (field, value) in [("on", on), ("off", off)] {
            if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
                return Err(self.complain(field, &format!("is {value}; want 0 to 1")));
            }
        }
        let on = on.unwrap_or(0.6);
        Ok(Some((Watch::Answer(index), on, off.unwrap_or(on.min(0.4)))))
    }

    /// Fields that are for other kinds.
    fn refuse(&self, fields: &[&str], kinds: &str, kind: &Kind) -> Result<(), String> {
        let has = |field: &&&str| self.structure.has_field(**field);
        match fields.iter().find(has) {
            Some(field) => {
                let what = format!("is for {kinds}, not for kind={}", kind.name());
                Err(self.complain(field, &what))
            }
            None => Ok(()),
        }
    }

    fn text(&self, field: &str) -> Option<String> {
        self.structure.value(field).ok().map(|value| written(value))
    }

    /// Nanoseconds; `GST_CLOCK_TIME_NONE` is for ever.
    fn time(&self, field: &str) -> Result<Duration, String> {
        if self.structure.get::<u64>(field) == Ok(u64::MAX) {
            return Ok(Duration::MAX);
        }
        match self.number(field)? {
            None => Ok(Duration::ZERO),
            // Below 2^63, which is 292 years.
            Some(ns) if (0.0..9.2e18).contains(&ns) => Ok(Duration::from_nanos(ns as u64)),
            Some(ns) => Err(self.complain(field, &format!("is {ns}; want nanoseconds from 0"))),
        }
    }

    fn number(&self, field: &str) -> Result<Option<f64>, String> {
        let Ok(value) = self.structure.value(field) else {
            return Ok(None);
        };
        let number = value
            .transform::<f64>()
            .ok()
            .filter(|_| value.type_() != String::static_type())
            .and_then(|value| value.get::<f64>().ok())
            .filter(|number| number.is_finite());
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(self.complain(field, &format!("is {:?}; want a number", written(value)))),
        }
    }

    fn complain(&self, field: &str, what: &str) -> String {
        let (n, id) = (self.index + 1, self.id());
        format!("prompts: entry {n} ({id}): {field} {what}")
    }
}

/// A value as text, whatever type its text was taken for: `yes` is a boolean to
/// `gst_structure_from_string`, and `3` a number.
fn written(value: &glib::Value) -> String {
    if let Ok(text) = value.get::<Option<String>>() {
        return text.unwrap_or_default();
    }
    match value.get::<bool>() {
        Ok(true) => "yes".to_owned(),
        Ok(false) => "no".to_owned(),
        Err(_) => value.serialize().map(|t| t.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn questions(texts: &[&str]) -> Result<Vec<Arc<Question>>, String> {
        gst::init().unwrap();
        let structures = texts.iter().map(|text| {
            let structure: gst::Structure = text.parse().unwrap();
            structure.to_send_value()
        });
        parse(&structures.collect::<Vec<_>>())
    }

    fn complaint(text: &str) -> String {
        questions(&["fine,text=(string)\"What?\"", text]).unwrap_err()
    }

    #[test]
    fn structures_as_gst_launch_reads_them_become_questions() {
        let all = questions(&[
            "person,kind=yes-no,text=\"Is there a person?\",on=0.8,off=0.3,cool-down=5000000000",
            "q,id=light,kind=choice,text=\"Which light?\",options=<red,green,no>,alarm-on=no",
            "cars,kind=count,text=\"How many cars?\",at-least=3,period=10000000000",
            "all,text=\"Describe the video.\",max-tokens=20",
        ])
        .unwrap();
        let rule = all[0].rule.as_ref().unwrap();
        assert_eq!((rule.on, rule.off), (0.8, 0.3));
        assert_eq!(rule.watch, Watch::Answer(0));
        assert_eq!(rule.cool_down, Duration::from_secs(5));
        assert_eq!(all[1].id, "light");
        assert_eq!(all[1].kind.choices(), ["red", "green", "no"]);
        assert_eq!(all[1].rule.as_ref().unwrap().watch, Watch::Answer(2));
        assert_eq!(all[2].rule.as_ref().unwrap().on, 3.0);
        assert_eq!(all[2].period, Duration::from_secs(10));
        assert_eq!(
            (all[3].kind.clone(), all[3].max_tokens),
            (Kind::Caption, Some(20))
        );
        assert_eq!(all[3].rule, None);
    }

    #[test]
    fn a_bad_entry_is_named_with_its_field() {
        for (entry, complaint_is) in [
            ("b,kind=yes-no", "entry 2 (b): text is missing"),
            (
                "b,text=a,kind=maybe",
                "entry 2 (b): kind is \"maybe\"; want caption",
            ),
            (
                "b,text=a,kind=yes-no,on=1.5",
                "entry 2 (b): on is 1.5; want 0 to 1",
            ),
            (
                "b,text=a,kind=yes-no,on=high",
                "entry 2 (b): on is \"high\"; want a number",
            ),
            (
                "b,text=a,kind=yes-no,on=0.2,off=0.5",
                "entry 2 (b): off is 0.5, above",
            ),
            (
                "b,text=a,kind=choice",
                "entry 2 (b): options must be two or more",
            ),
            (
                "b,text=a,kind=choice,options=<x,X>",
                "entry 2 (b): options must be two",
            ),
            (
                "b,text=a,kind=choice,options=<x,y>,alarm-on=z",
                "alarm-on is \"z\"; want one of x, y",
            ),
            (
                "b,text=a,on=0.5",
                "entry 2 (b): on is for questions that alarm",
            ),
            ("b,text=a,kind=count,alarm-on=3", "a count has at-least"),
            (
                "b,text=a,treshold=1",
                "entry 2 (b): treshold is not known; the fields are id",
            ),
            (
                "b,text=a,period=-1",
                "entry 2 (b): period is -1; want nanoseconds",
            ),
            (
                "b,text=a,max-tokens=0",
                "entry 2 (b): max-tokens is 0; want 1 to 8192",
            ),
            ("fine,text=a", "entry 2 (fine): id is another entry's too"),
        ] {
            let got = complaint(entry);
            assert!(got.contains(complaint_is), "{entry}: {got}");
        }
    }
}
