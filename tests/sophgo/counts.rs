// SPDX-License-Identifier: MPL-2.0

//! What a caption asks of the device, beside what the vendor's demo program asks for the same bmodel
//! and input. `tools/tpu/count.c` counts and is preloaded; `tools/tpu/demo_calls.py` makes the demo's
//! calls.

use std::ffi::{CStr, c_char};
use std::sync::{Arc, PoisonError};

use gst::prelude::*;
use gstvlmcaption::backend::sophgo::{Described, Options, Tables};
use gstvlmcaption::backend::{Cancel, GridThw, Patches, Position, Program, Segment};

use super::reference::Case;
use super::{TURN, bmodel, common, load, token};

/// What `tools/tpu/count.c` counted since the mark before; `None` if it is not preloaded.
#[expect(unsafe_code, reason = "calls what is preloaded")]
fn counted(mark: &CStr) -> Option<serde_json::Value> {
    let process = libloading::os::unix::Library::this();
    // SAFETY: the shim declares both functions so.
    let (begin, json) = unsafe {
        (
            process
                .get::<unsafe extern "C" fn(*const c_char)>(b"tpu_count_mark")
                .ok()?,
            process
                .get::<unsafe extern "C" fn(*mut c_char, usize)>(b"tpu_count_json")
                .ok()?,
        )
    };
    let mut text = vec![0_u8; 1 << 20];
    // SAFETY: a C string; a buffer with its length, which ends with a zero.
    unsafe {
        json(text.as_mut_ptr().cast(), text.len());
        begin(mark.as_ptr());
    }
    let text = CStr::from_bytes_until_nul(&text).unwrap();
    let sections: serde_json::Value = serde_json::from_slice(text.to_bytes()).unwrap();
    sections.as_array().unwrap().last().cloned()
}

/// Launches since the mark before; a section of that name begins.
pub fn launches(mark: &str) -> u64 {
    let mark = std::ffi::CString::new(mark).unwrap();
    let counts = counted(&mark).expect("count.so is preloaded");
    let launches = counts["launches"].as_object().unwrap().values();
    launches.map(|n| n.as_u64().unwrap()).sum()
}

/// For the same bmodel, prompt and 11 tokens the vendor's demo makes 59 launches, 43 uploads of
/// 856,948 bytes (737,280 of them pixels), 11 downloads, 13 copies on the device and 25 memsets of
/// 1,219,840 bytes: `tools/tpu/demo_calls.py`.
#[test]
#[ignore = "needs bmodels, references and libsophon: cargo xtask test --tpu"]
fn a_caption_asks_less_of_the_device_than_the_vendors_demo() {
    let mut loaded = load("q3_static");
    loaded.program.unwatch();
    let cases = std::mem::take(&mut loaded.reference.cases);
    let turn = cases.iter().find_map(|case| match case {
        Case::One { name, turn } if name == "two_pairs" => Some(turn),
        _ => None,
    });
    counted(c"first").expect("count.so is preloaded");
    for which in [c"second", c"end"] {
        let sequence = loaded.program.open().unwrap();
        let first = loaded.prefill(sequence, turn.unwrap()).unwrap();
        let mut token = first;
        for step in 0..10 {
            let position = turn.unwrap().next_position + step;
            token = loaded.feed(sequence, token, position).unwrap();
        }
        loaded.program.close(sequence);
        let counts = counted(which).unwrap();
        println!("  a caption, compared with the demo's: {counts}");
        let number = |kind: &str, i: usize| counts[kind][i].as_u64().unwrap();
        let launches = counts["launches"].as_object().unwrap().values();
        assert!(launches.map(|n| n.as_u64().unwrap()).sum::<u64>() <= 59);
        assert_eq!(number("memset", 0), 0);
        assert!(number("s2d", 0) <= 43 && number("d2s", 0) <= 11 && number("d2d", 0) <= 13);
        let sent = number("s2d", 1) + number("memset", 1);
        assert!(sent <= (856_948 + 1_219_840) / 2, "{sent} bytes");
    }
}

/// The demo's calls for one of these captions: `demo_calls.py BMODEL --blank 5,H,W --steps 48`.
struct Demo {
    variant: &'static str,
    /// Patches of a frame.
    grid: [usize; 2],
    launches: u64,
    /// Calls and bytes.
    uploads: [u64; 2],
    copies: u64,
}

/// Ten frames and 48 tokens, launches counted and not run (`TPU_COUNT_ONLY`): what is sent does not
/// depend on what comes out. Bytes up of the first caption and of the next ones.
fn sent(demo: &Demo) -> [u64; 2] {
    const N_PAIRS: usize = 5;
    const N_TOKENS: u32 = 48;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let options = Options {
        device: 0,
        vocab_size: 512,
        tables: Tables::default(),
        embedding: None,
    };
    let cancel = Cancel::default();
    let described = Described::open(&bmodel(demo.variant)).unwrap();
    let mut program = described.load(&options, &mut |_| {}, &cancel).unwrap();
    let [h, w] = demo.grid;
    counted(c"first").expect("count.so is preloaded");
    [c"second", c"end"].map(|mark| {
        // Each caption has pictures of its own.
        let pairs: Vec<_> = (0..N_PAIRS)
            .map(|_| {
                let patches = Patches {
                    grid: GridThw { t: 1, h, w },
                    pixels: vec![128; h * w * 1536].into(),
                    mean: [0.5; 3],
                    std: [0.5; 3],
                };
                Arc::new(program.encode(&patches, &cancel).unwrap())
            })
            .collect();
        // Template, each pair with its times, question.
        let mut segments = vec![Segment::Tokens(&[1; 14])];
        for pair in &pairs {
            segments.extend([Segment::Tokens(&[1; 9]), Segment::Visual(pair)]);
        }
        segments.push(Segment::Tokens(&[1; 12]));
        let n_rows = 14 + 12 + N_PAIRS * (9 + h * w / 4);
        let position = |n: u32| -> Position { [n; 3] };
        let positions: Vec<_> = (0..n_rows as u32).map(position).collect();
        let sequence = program.open().unwrap();
        let next = program.extend(sequence, &segments, &positions, &cancel);
        let mut said = token(&next.unwrap());
        for step in 1..N_TOKENS {
            let tokens = [said];
            let positions = [position(n_rows as u32 + step - 1)];
            let fed = [Segment::Tokens(&tokens)];
            said = token(&program.extend(sequence, &fed, &positions, &cancel).unwrap());
        }
        program.close(sequence);
        let counts = counted(mark).unwrap();
        println!("  {}, compared with the demo's: {counts}", demo.variant);
        let number = |kind: &str, i: usize| counts[kind][i].as_u64().unwrap();
        let launches = counts["launches"].as_object().unwrap().values();
        let launches: u64 = launches.map(|n| n.as_u64().unwrap()).sum();
        assert!(launches <= demo.launches, "{launches} launches");
        assert!(number("s2d", 0) <= demo.uploads[0] && number("d2d", 0) <= demo.copies);
        assert_eq!(number("memset", 0), 0);
        number("s2d", 1)
    })
}

/// As wide as published files: pictures of up to 768 x 768, prompts of 1024, a context of 2048.
#[test]
#[ignore = "needs bmodels, references and libsophon: cargo xtask test --tpu"]
fn a_caption_of_a_wide_bmodel_sends_less_than_half() {
    let demo = Demo {
        variant: "q3_wide",
        grid: [18, 32],
        launches: 247,
        uploads: [169, 126_285_134],
        copies: 22,
    };
    for bytes in sent(&demo) {
        assert!(2 * bytes <= demo.uploads[1], "{bytes} bytes");
    }
}

/// The demo model as released: its pictures of 128 x 128 have small masks, and pixels are most of
/// what any program sends.
#[test]
#[ignore = "needs bmodels, references and libsophon: cargo xtask test --tpu"]
fn a_caption_of_the_demo_model_sends_its_pixels_and_little_else() {
    let demo = Demo {
        variant: "demo_bm1684x",
        grid: [8, 8],
        launches: 295,
        uploads: [169, 2_410_830],
        copies: 24,
    };
    let pixels = 5 * 64 * 1536 * 4;
    let [first, next] = sent(&demo);
    assert!(
        first <= demo.uploads[1] && next - pixels <= 10_000,
        "{first}, {next} bytes"
    );
}

#[test]
#[ignore = "needs bmodels, references and libsophon: cargo xtask test --tpu"]
fn two_elements_load_a_1688_bmodel_once_and_say_the_same() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    common::init();
    counted(c"elements").expect("count.so is preloaded");
    let branch = format!(
        "t. ! queue ! vlmcaption window=2 drop-policy=block eos-timeout=7200000000000 model={} !
         fakesink sync=false",
        bmodel("demo_bm1688").display()
    );
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=2 ! video/x-raw,width=128,height=128,framerate=1/1 ! tee name=t
         {branch} {branch}"
    ))
    .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let mut messages = Vec::new();
    while messages
        .last()
        .is_none_or(|last: &gst::Message| last.type_() != gst::MessageType::Eos)
    {
        let message = bus.timed_pop(gst::ClockTime::from_seconds(8000)).unwrap();
        if let gst::MessageView::Error(error) = message.view() {
            panic!("{} {:?}", error.error(), error.debug());
        }
        messages.push(message);
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let captions = common::captions(&messages);
    let texts: Vec<String> = captions.iter().map(|c| c.get("text").unwrap()).collect();
    assert_eq!(texts, ["SMPTE color bars.", "SMPTE color bars."]);
    assert_eq!(counted(c"end").unwrap()["loads"], 1);
}
