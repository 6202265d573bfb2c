// SPDX-License-Identifier: MPL-2.0

//! The property `backend`: names of what may answer, the preferred one first.

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

const NAMES: [(&str, Backend); 6] = [
    ("auto", Backend::Auto),
    ("cpu", Backend::Cpu),
    ("axera", Backend::Axera),
    ("sophgo", Backend::Sophgo),
    ("openai", Backend::OpenAi),
    ("mock", Backend::Mock),
];

/// The backends that a list names, none of them twice; an empty list is `auto`.
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
        if backends.contains(backend) {
            return Err(format!(
                "backend={list:?} names {name} twice; once is enough"
            ));
        }
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
    }

    #[test]
    fn what_is_no_backend_is_told_with_what_is_one() {
        for (list, want) in [
            (
                "gpu",
                "names \"gpu\", which is none of auto, cpu, axera, sophgo, openai, mock",
            ),
            ("cpu,", "names \"\", which is none of"),
            ("cpu,cpu", "names cpu twice"),
        ] {
            let error = parse(list).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
