// SPDX-License-Identifier: MPL-2.0

//! What may answer by the settings: a source for each backend that is named, the preferred one first.

use gst::prelude::*;

use super::backends::{self, Backend, BackendFields};
use super::properties;
use super::property::Effect;
use super::settings::Settings;
use crate::caption::source::{Network, Secret, Source};

/// The sources of the backends that are named, at least one.
///
/// # Errors
/// A sentence that names the property and the fix.
pub(super) fn sources(settings: &Settings) -> Result<Vec<Source>, String> {
    let choice = &settings.choice;
    // Also where no server is named: what is wrong with it is told before one is.
    Network::parse(&choice.remote.network)?;
    let named = backends::parse(&choice.backend)?;
    for own in &choice.backends {
        let is = |backend: &&Backend| backends::name_of(**backend) == own.name;
        let n_named = named.iter().filter(is).count();
        let entries = choice
            .backends
            .iter()
            .filter(|entry| entry.name == own.name);
        if n_named == 0 || (n_named > 1 && entries.count() > n_named) {
            let many = if n_named == 0 {
                "an entry"
            } else {
                "more entries"
            };
            let names = if n_named == 0 {
                "does not name"
            } else {
                "names less often"
            };
            return Err(format!(
                "backends has {many} for {}, which backend={:?} {names}",
                own.name, choice.backend
            ));
        }
    }
    let mut sources: Vec<Source> = Vec::new();
    for (which, backend) in named.iter().enumerate() {
        let name = backends::name_of(*backend);
        let mut own = settings.clone();
        for entry in entries_of(which, &named, &choice.backends) {
            apply(&mut own, entry)?;
        }
        let source = own.choice.source_of(*backend);
        let source = source.map_err(|reason| match named.len() {
            1 => reason,
            _ => format!("{name}: {reason}"),
        })?;
        if sources.contains(&source) {
            return Err(format!(
                "backend={:?} names {name} twice with the same properties; give each an entry in \
                 backends, in their order",
                choice.backend
            ));
        }
        sources.push(source);
    }
    Ok(sources)
}

/// The source that properties choose, each by its name and its value as `gst-launch-1.0` takes it, for
/// programs that ask a model without an element.
///
/// # Errors
/// A sentence that names the property and the fix.
pub fn source(properties: &[(String, String)]) -> Result<Source, String> {
    let mut settings = properties::defaults();
    let (backend, others): (Vec<_>, Vec<_>) = properties
        .iter()
        .map(|(name, value)| (name.clone(), Secret(value.clone())))
        .partition(|(name, _)| name == "backend");
    if let Some((_, backend)) = backend.last() {
        settings.choice.backend.clone_from(&backend.0);
    }
    let fields = BackendFields {
        name: "properties".into(),
        fields: others,
    };
    apply(&mut settings, &fields)?;
    let mut sources = sources(&settings)?;
    match sources.len() {
        1 => Ok(sources.remove(0)),
        n => Err(format!("backend names {n} backends; name one")),
    }
}

/// What is set of one backend: all entries of its name, or, if several have that name, the one that is as
/// far along the list as it is.
fn entries_of<'a>(
    which: usize,
    named: &[Backend],
    entries: &'a [BackendFields],
) -> impl Iterator<Item = &'a BackendFields> {
    let (backend, name) = (named[which], backends::name_of(named[which]));
    let count = |backends: &[Backend]| backends.iter().filter(|other| **other == backend).count();
    let (before, all) = (count(&named[..which]), count(named));
    let of_it = entries.iter().filter(move |entry| entry.name == name);
    let own = move |(n, entry)| (all == 1 || n == before).then_some(entry);
    of_it.enumerate().filter_map(own)
}

/// Sets what an entry of `backends` says.
fn apply(settings: &mut Settings, entry: &BackendFields) -> Result<(), String> {
    for (name, text) in &entry.fields {
        let place = match entry.name.as_str() {
            "properties" => name.clone(),
            own => format!("backends, entry {own}: {name}"),
        };
        let row = properties::find(name)
            .filter(|row| row.effect() == Effect::Model && !name.starts_with("backend"))
            .ok_or_else(|| format!("{place} is no property that chooses a model or a server"))?;
        let spec = row.spec();
        let value = match spec.value_type() {
            glib::Type::STRING => Ok(text.0.to_value()),
            _ => glib::Value::deserialize_with_pspec(&text.0, spec),
        };
        let value = value.map_err(|_| format!("{place} cannot be what it is set to"))?;
        if let (Some(range), Ok(number)) = (
            spec.downcast_ref::<glib::ParamSpecUInt>(),
            value.get::<u32>(),
        ) && !(range.minimum()..=range.maximum()).contains(&number)
        {
            return Err(format!("{place} is out of its range"));
        }
        row.set(settings, &value)
            .map_err(|reason| format!("{place} {reason}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vlmcaption::properties::defaults;

    fn with(backend: &str, list: &str) -> Result<Vec<Source>, String> {
        gst::init().unwrap();
        let mut settings = defaults();
        let set = |settings: &mut Settings, name: &str, text: &str| {
            let row = properties::find(name).unwrap();
            let value = match row.spec().value_type() {
                glib::Type::STRING => text.to_value(),
                _ => glib::Value::deserialize_with_pspec(text, row.spec()).unwrap(),
            };
            row.set(settings, &value).unwrap();
        };
        set(&mut settings, "backend", backend);
        set(&mut settings, "backends", list);
        sources(&settings)
    }

    #[test]
    fn each_backend_has_its_own_properties_in_the_order_that_is_preferred() {
        let list = r#"<"openai,server-uri=http://h:8000/v1,image-quality=(uint)75,video-transport=images","cpu,device=\"threads=2\"">"#;
        let sources = with("openai,cpu", list).unwrap();
        let [Source::OpenAi(remote), Source::Cpu { options, .. }] = sources.as_slice() else {
            panic!("{sources:?}");
        };
        assert_eq!(remote.host(), "h:8000");
        assert_eq!(remote.quality, 75);
        assert_eq!(options.threads, Some(2));
    }

    #[test]
    fn several_of_one_name_have_an_entry_each_in_their_order() {
        let list = r#"<"openai,server-uri=http://a/v1","cpu,device=\"threads=2\"","openai,server-uri=http://b/v1">"#;
        let sources = with("openai,openai,cpu", list).unwrap();
        let devices: Vec<String> = sources.iter().map(|source| source.device()).collect();
        assert_eq!(devices, ["a", "b", "cpu"]);
    }

    #[test]
    fn what_does_not_belong_there_is_told() {
        for (backend, list, want) in [
            (
                "cpu",
                r#"<"openai,server-uri=http://h/v1">"#,
                "does not name",
            ),
            (
                "cpu,openai,cpu",
                r#"<"openai,server-uri=http://h/v1">"#,
                "names cpu twice with the same properties",
            ),
            (
                "mock,mock",
                r#"<"mock,model=/a","mock,model=/b","mock,model=/c">"#,
                "names less often",
            ),
            (
                "cpu",
                r#"<"cpu,window=2">"#,
                "is no property that chooses a model",
            ),
            (
                "cpu",
                r#"<"cpu,precision=many">"#,
                "cannot be what it is set to",
            ),
            (
                "openai",
                r#"<"openai,image-quality=500">"#,
                "out of its range",
            ),
        ] {
            let error = with(backend, list).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn keys_are_not_read_back() {
        gst::init().unwrap();
        let keyed = gst::Structure::builder("openai")
            .field("api-key", "canary")
            .build();
        let list = gst::Array::new([keyed]);
        let read = backends::read(&list).unwrap();
        let shown = format!("{read:?} {:?}", backends::written(&read));
        assert!(!shown.contains("canary"), "{shown}");
    }
}
