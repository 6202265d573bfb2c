// SPDX-License-Identifier: MPL-2.0

//! Devices that fail after they were opened: `tools/tpu/count.c` is preloaded and makes calls fail.

use std::ffi::{CStr, c_char};
use std::sync::PoisonError;

use gstvlmcaption::backend::sophgo::{Described, Options, Sophgo, Tables};
use gstvlmcaption::backend::{Cancel, Error, Program, Segment};

use super::{TURN, bmodel};

/// Makes a net's launches (or `copy`: copies on the device) fail from now on.
#[expect(unsafe_code, reason = "calls what is preloaded")]
fn fail(what: &CStr) {
    let process = libloading::os::unix::Library::this();
    // SAFETY: the shim declares it so, and copies the string.
    unsafe {
        let fail = process.get::<unsafe extern "C" fn(*const c_char)>(b"tpu_count_fail");
        fail.expect("count.so is preloaded")(what.as_ptr());
    }
}

fn load() -> Result<Sophgo, Error> {
    let options = Options {
        device: 0,
        vocab_size: 2048,
        tables: Tables::default(),
        embedding: None,
    };
    let described = Described::open(&bmodel("q3_static")).unwrap();
    described.load(&options, &mut |_| {}, &Cancel::default())
}

#[test]
#[ignore = "needs bmodels and libsophon: cargo xtask test --tpu"]
fn a_chip_that_does_not_copy_is_told_what_is_not_installed() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    fail(c"copy");
    let error = load().err().unwrap().to_string();
    for words in [
        "libbm1684x_kernel_module.so is missing",
        "install libsophon 0.5.1 or newer",
    ] {
        assert!(error.contains(words), "{error}");
    }
}

#[test]
#[ignore = "needs bmodels and libsophon: cargo xtask test --tpu"]
fn a_launch_that_fails_names_the_net_and_the_next_prompt_is_computed() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut program = load().unwrap();
    assert_eq!(program.health().chip.as_deref(), Some("BM1684X"));
    let cancel = Cancel::default();
    let positions: Vec<_> = (0..11).map(|n| [n; 3]).collect();
    // Prompts that begin differently, so that no rows are taken over.
    let mut ask = |first: u32| {
        let ids: Vec<u32> = (first..first + 11).collect();
        let sequence = program.open().unwrap();
        let tokens = [Segment::Tokens(&ids)];
        let next = program.extend(sequence, &tokens, &positions, &cancel);
        let said = next
            .map(|next| super::token(&next))
            .map_err(|e| e.to_string());
        program.close(sequence);
        said
    };
    let token = ask(1).unwrap();
    fail(c"block_1");
    let error = ask(101).unwrap_err();
    for words in ["net block_1 failed on device 0", "status of the chip"] {
        assert!(error.contains(words), "{error}");
    }
    fail(c"");
    assert_eq!(
        ask(1),
        Ok(token),
        "nothing of the failed prompt is taken for computed"
    );
}
