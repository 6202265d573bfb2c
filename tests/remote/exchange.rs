// SPDX-License-Identifier: MPL-2.0

//! Other backends, and other properties of them, while the video plays.

use std::time::Duration;

use gst::prelude::*;

use crate::common::{script, warnings};
use crate::start;
use crate::switch::{Does, FAST, Heard, play_for, switched, until_answered};

const NO_GAP: Duration = Duration::from_millis(1500);

#[test]
fn backends_are_exchanged_while_the_video_plays_and_what_answers_goes_on_until_another_can() {
    let (first, _switch) = switched("A yard.");
    let (second, switch) = switched("A street.");
    let script = script(r#"[{"text": "A mock {n}."}]"#);
    let mock = format!(r#""mock,model=\"{}\"""#, script.path().display());
    let list = |uri: &str| format!(r#"<"openai,server-uri=\"{uri}\"",{mock}>"#);
    let backends = list(&first.uri());
    let run = start(
        &first,
        &[
            ("backend", "openai,mock"),
            ("backends", &backends),
            FAST[0],
            FAST[1],
        ],
    );
    let set = |name: &str, value: &str| run.element.set_property_from_str(name, value);
    let (mut heard, mut frame) = (Heard::new(), 0);
    until_answered(&run, &mut heard, &mut frame, &first.host());
    heard.take_gap();
    // Another model of the same server.
    set("model-name", "another-model");
    loop {
        play_for(&run, &mut heard, &mut frame, Duration::from_millis(200));
        let asked: Vec<_> = std::iter::from_fn(|| first.next()).collect();
        if asked
            .iter()
            .any(|request| request.json()["model"] == "another-model")
        {
            break;
        }
    }
    set("model-name", "");
    // Another server, which is not there yet: the one before goes on.
    switch.set(Does::Hangs);
    set("backends", &list(&second.uri()));
    play_for(&run, &mut heard, &mut frame, Duration::from_secs(2));
    assert!(heard.take_gap() < NO_GAP);
    // The mock was ready at once, and is named.
    assert_eq!(heard.changes().last().unwrap(), "mock");
    // Fewer, then one alone, then two again.
    set("backend", "mock");
    set("backends", &format!("<{mock}>"));
    play_for(&run, &mut heard, &mut frame, Duration::from_secs(1));
    set("backends", &list(&first.uri()));
    set("backend", "openai,mock");
    until_answered(&run, &mut heard, &mut frame, &first.host());
    assert!(heard.take_gap() < NO_GAP);
    let told = warnings(&heard.messages);
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn backends_none_of_which_can_be_opened_are_refused_and_set_back() {
    let (server, _switch) = switched("A yard.");
    let run = start(&server, &[FAST[0], FAST[1]]);
    let (mut heard, mut frame) = (Heard::new(), 0);
    until_answered(&run, &mut heard, &mut frame, "openai");
    run.element.set_property("backend", "axera,sophgo");
    play_for(&run, &mut heard, &mut frame, Duration::from_secs(1));
    let told = warnings(&heard.messages);
    assert!(told[0].contains("the model before stays"), "{told:?}");
    assert_eq!(run.element.property::<String>("backend"), "openai");
    until_answered(&run, &mut heard, &mut frame, "openai");
    assert!(heard.changes().is_empty());
}
