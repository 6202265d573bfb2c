// SPDX-License-Identifier: MPL-2.0

//! The properties `backend` and `backends`: what may answer, the preferred one first, and what each of
//! them is set to.

use gst::prelude::*;

use crate::caption::source::Secret;

/// What runs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Backend {
    /// By the model's file.
    #[default]
    Auto,
    /// The embedded engine on the host's cores.
    Cpu,
    /// Axera NPUs.
    Axera,
    /// Sophgo TPUs.
    Sophgo,
    /// A server that speaks OpenAI's chat protocol.
    OpenAi,
    /// Scripted answers.
    Mock,
}

/// What one backend is set to, in place of the element's own properties.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BackendFields {
    /// The backend.
    pub name: String,
    /// Properties and their values, as gst-launch-1.0 would take them.
    pub fields: Vec<(String, Secret)>,
}

/// Fields that are not read back.
const HIDDEN: &str = "api-key";

/// Reads the property `backends`.
///
/// # Errors
/// An entry is no structure, or a field of it has no text.
pub(super) fn read(list: &[glib::SendValue]) -> Result<Vec<BackendFields>, String> {
    let read = list.iter().enumerate().map(|(i, entry)| {
        let wrong = || format!("has an entry that is no structure, number {}", i + 1);
        let structure = entry.get::<gst::Structure>().map_err(|_| wrong())?;
        let fields = structure.iter().map(|(name, value)| {
            let text = match value.get::<String>() {
                Ok(text) => text,
                Err(_) => value
                    .serialize()
                    .map_err(|_| format!("has a field {name} that cannot be read"))?
                    .to_string(),
            };
            Ok((name.to_string(), Secret(text)))
        });
        Ok(BackendFields {
            name: structure.name().to_string(),
            fields: fields.collect::<Result<_, String>>()?,
        })
    });
    read.collect()
}

/// The property `backends` as it is read back: without keys.
pub(super) fn written(backends: &[BackendFields]) -> gst::Array {
    let structures = backends.iter().map(|backend| {
        let mut structure = gst::Structure::new_empty(&backend.name);
        for (name, value) in &backend.fields {
            if name != HIDDEN {
                structure.set(name.as_str(), &value.0);
            }
        }
        structure.to_send_value()
    });
    gst::Array::from_values(structures)
}

/// The name of a backend.
pub(super) fn name_of(backend: Backend) -> &'static str {
    let known = NAMES.iter().find(|(_, known)| *known == backend);
    known.map_or("", |(name, _)| name)
}

const NAMES: [(&str, Backend); 6] = [
    ("auto", Backend::Auto),
    ("cpu", Backend::Cpu),
    ("axera", Backend::Axera),
    ("sophgo", Backend::Sophgo),
    ("openai", Backend::OpenAi),
    ("mock", Backend::Mock),
];

/// The backends that a list names; an empty list is `auto`.
///
/// # Errors
/// A sentence that names what is wrong and what there is.
pub(super) fn parse(list: &str) -> Result<Vec<Backend>, String> {
    if list.trim().is_empty() {
        return Ok(vec![Backend::Auto]);
    }
    let mut backends = Vec::new();
    for name in list.split(',').map(str::trim) {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        let Some((_, backend)) = found else {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "backend={list:?} names {name:?}, which is none of {}; several go with commas \
                 between them, the preferred one first",
                names.join(", ")
            ));
        };
        backends.push(*backend);
    }
    Ok(backends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_their_order() {
        assert_eq!(parse("cpu"), Ok(vec![Backend::Cpu]));
        assert_eq!(parse(" "), Ok(vec![Backend::Auto]));
        let several = parse("sophgo, openai,cpu");
        assert_eq!(
            several,
            Ok(vec![Backend::Sophgo, Backend::OpenAi, Backend::Cpu])
        );
        let two = parse("openai,openai");
        assert_eq!(two, Ok(vec![Backend::OpenAi, Backend::OpenAi]));
    }

    #[test]
    fn what_is_no_backend_is_told_with_what_is_one() {
        for (list, want) in [
            (
                "gpu",
                "names \"gpu\", which is none of auto, cpu, axera, sophgo, openai, mock",
            ),
            ("cpu,", "names \"\", which is none of"),
        ] {
            let error = parse(list).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
