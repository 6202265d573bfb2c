// SPDX-License-Identifier: MPL-2.0

//! Scripts that are played, and scripts that are none.

use super::*;

fn play(script: &str) -> Play {
    let script = Script::parse(script).unwrap();
    let words = Words::of(&script, |text| text.bytes().map(u32::from).collect());
    let role = Role {
        words,
        eos: 7,
        merge_size: 2,
        vocab_size: 256,
    };
    Play::new(script, role)
}

fn load(play: &mut Play) -> Result<Mock, Error> {
    play.next_load().load(None, &mut |_| (), &Cancel::default())
}

#[test]
fn a_script_that_crashes_is_refused_where_it_would_take_the_application_along() {
    let mut play = play(r#"[{"crash": "abort"}]"#);
    let refused = load(&mut play).err().unwrap().to_string();
    assert!(refused.contains("isolation=process"), "{refused}");
}

#[test]
fn a_script_with_an_unknown_key_is_refused_by_name() {
    let error = Script::parse(r#"[{"txt": "a"}]"#).unwrap_err();
    assert!(
        error.contains("txt") && error.contains("prefill-ms"),
        "{error}"
    );
    assert!(Script::parse("[]").unwrap_err().contains("empty"));
}

#[test]
fn steps_follow_each_other_and_start_over() {
    let cancel = Cancel::default();
    let mut play = play(r#"[{"text": "{n}"}, {"error": "gone"}]"#);
    for n in [1u32, 3] {
        // Loaded again, it goes on.
        let mut mock = load(&mut play).unwrap();
        let sequence = mock.open().unwrap();
        let next = mock.extend(sequence, &[], &[], &cancel).unwrap();
        assert!(matches!(next, Next::Token(t) if t == u32::from(b'0') + n));
        let next = mock.extend(sequence, &[], &[], &cancel).unwrap();
        assert!(matches!(next, Next::Token(7)));
        mock.close(sequence);
        let failing = mock.open().unwrap();
        let error = mock.extend(failing, &[], &[], &cancel).unwrap_err();
        assert_eq!(error.to_string(), "gone");
        mock.close(failing);
    }
}

#[test]
fn loading_takes_its_time_and_fails_as_often_as_the_script_says() {
    let script = r#"{"load-ms": 60, "load-error": "off", "load-errors": 1, "answers": [{}]}"#;
    let mut play = play(script);
    let (cancel, began) = (Cancel::default(), Instant::now());
    let mut parts = Vec::new();
    let error = play
        .next_load()
        .load(None, &mut |part| parts.push(part), &cancel);
    assert_eq!(error.err().unwrap().to_string(), "off");
    assert!(began.elapsed() >= Duration::from_millis(60));
    assert!(parts.len() >= 2 && parts.is_sorted(), "{parts:?}");
    assert!(load(&mut play).is_ok());
    cancel.cancel();
    let error = play.next_load().load(None, &mut |_| (), &cancel);
    let error = error.err().unwrap();
    assert!(matches!(error, Error::Cancelled));
}

#[test]
fn a_step_is_repeated_and_a_probability_is_that_of_the_first_token() {
    let script = r#"[{"text": "a", "repeat": 2}, {"probabilities": {"yes": 0.75, "no": 0.25}}]"#;
    let mut play = play(script);
    let texts: Vec<&str> = (0..6).map(|n| play.script.step(n).text.as_str()).collect();
    assert_eq!(texts, ["a", "a", "", "a", "a", ""]);
    play.answers().store(2, Ordering::Relaxed);
    let mut mock = load(&mut play).unwrap();
    let sequence = mock.open().unwrap();
    let next = mock.extend(sequence, &[], &[], &Cancel::default()).unwrap();
    let Next::Logits(logits) = next else {
        panic!("logits")
    };
    let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-6);
    assert!((logits[usize::from(b'y')].exp() - 0.75).abs() < 1e-6);
    let refused = Script::parse(r#"[{"probabilities": {"yes": 75}}]"#).unwrap_err();
    assert!(refused.contains("0.0 to 1.0"), "{refused}");
}

#[test]
fn a_hang_shows_no_sign_of_life_and_ends_when_it_is_cancelled() {
    let mut mock = load(&mut play(r#"[{"hang": true}]"#)).unwrap();
    let cancel = Cancel::default();
    let end = cancel.clone();
    let sequence = mock.open().unwrap();
    let checks = std::thread::scope(|scope| {
        let hangs = scope.spawn(move || mock.extend(sequence, &[], &[], &cancel).is_err());
        std::thread::sleep(Duration::from_millis(60));
        let checks = end.checks();
        end.cancel();
        assert!(hangs.join().unwrap());
        checks
    });
    assert_eq!(checks, 0);
}
