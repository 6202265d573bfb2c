// SPDX-License-Identifier: MPL-2.0

//! The client against a real server, whatever it is:
//!
//! ```sh
//! VLMCAPTION_SERVER=http://127.0.0.1:8000/v1 VLMCAPTION_JPEGS=one.jpg,two.jpg \
//!     cargo test -p openai-client --test real -- --ignored --nocapture
//! ```

use std::time::Instant;

use openai_client::{
    Answer, Cancel, ChatRequest, Client, Config, Form, Media, Message, Piece, Probe, Retry,
    ServerUri, Support,
};

fn client() -> Client {
    let server = std::env::var("VLMCAPTION_SERVER").expect("VLMCAPTION_SERVER names a server");
    Client::new(Config::new(ServerUri::parse(&server).unwrap())).unwrap()
}

fn jpegs() -> Vec<Vec<u8>> {
    let files = std::env::var("VLMCAPTION_JPEGS").expect("VLMCAPTION_JPEGS names two JPEGs");
    files
        .split(',')
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

fn say(text: &str) {
    eprintln!("{text}");
}

fn ask(client: &Client, request: &ChatRequest) -> Answer {
    let answer = client.chat(request, &Retry::default(), &Cancel::default(), &mut |_| ());
    let answer = answer.unwrap();
    say(&format!("{answer:?}"));
    answer
}

#[test]
#[ignore = "needs a real server, named by VLMCAPTION_SERVER"]
fn a_text_is_streamed_in_pieces_with_its_usage() {
    let request = ChatRequest {
        max_tokens: Some(16),
        temperature: Some(0.0),
        ..ChatRequest::new(vec![Message::user("Say hello.")])
    };
    let mut pieces = String::new();
    let mut on = |piece: Piece<'_>| {
        if let Piece::Text(text) = piece {
            pieces.push_str(text);
        }
    };
    let answer = client()
        .chat(&request, &Retry::default(), &Cancel::default(), &mut on)
        .unwrap();
    say(&format!("{answer:?}"));
    assert_eq!(answer.text, pieces);
    assert!(answer.usage.is_some_and(|usage| usage.prompt > 0));
    assert!(answer.effort.traffic.received > 0);
}

#[test]
#[ignore = "needs a real server, named by VLMCAPTION_SERVER"]
fn a_probe_finds_out_what_it_takes() {
    let client = client();
    let probe = Probe {
        frames: jpegs(),
        ask: true,
    };
    let traits = client.probe(&probe, &Cancel::default()).unwrap();
    say(&format!("{}\n{traits:?}", traits.sentence()));
    assert_eq!(traits.images, Support::Yes);
}

#[test]
#[ignore = "needs a real server, named by VLMCAPTION_SERVER"]
fn an_image_is_described() {
    let image = Media::jpeg(&jpegs()[0]);
    let request = ChatRequest {
        max_tokens: Some(24),
        temperature: Some(0.0),
        ..ChatRequest::new(vec![Message::about(
            &[image],
            "Describe the video in one sentence.",
        )])
    };
    assert!(!ask(&client(), &request).text.is_empty());
}

#[test]
#[ignore = "needs a real server, named by VLMCAPTION_SERVER, that tells probabilities"]
fn a_choice_comes_with_its_probability() {
    let client = client();
    let traits = client
        .probe(
            &Probe {
                frames: jpegs(),
                ask: true,
            },
            &Cancel::default(),
        )
        .unwrap();
    let form = Form::Choice(vec!["yes".into(), "no".into()]);
    let image = Media::jpeg(&jpegs()[0]);
    let question = "Is there a square? Answer yes or no.";
    let mut request = ChatRequest {
        max_tokens: Some(4),
        temperature: Some(0.0),
        ..ChatRequest::new(vec![Message::about(&[image], question)])
    };
    form.apply(&mut request, &traits);
    let verdict = form.read(&ask(&client, &request)).unwrap();
    say(&format!("{verdict:?}"));
    assert!(
        verdict
            .probability
            .is_some_and(|p| (0.5..=1.0).contains(&p))
    );
}

#[test]
#[ignore = "needs a real server, named by VLMCAPTION_SERVER"]
fn a_cancel_ends_a_stream() {
    let client = client();
    let cancel = Cancel::default();
    let request = ChatRequest {
        max_tokens: Some(1000),
        ..ChatRequest::new(vec![Message::user("Count from 1 to 1000.")])
    };
    let mut cancelled = None;
    let mut on = |_: Piece<'_>| {
        cancelled.get_or_insert_with(Instant::now);
        cancel.cancel();
    };
    let error = client
        .chat(&request, &Retry::never(), &cancel, &mut on)
        .unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    let took = cancelled.map(|at| at.elapsed());
    say(&format!("{took:?} from the cancel to its return"));
}
