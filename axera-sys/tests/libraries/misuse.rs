// SPDX-License-Identifier: MPL-2.0

//! What must not be done, and what the stand-ins say of it.

use std::ffi::c_void;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::{env, fs, thread};

use axera_sys::bindings::card::axclrtMemcpyKind;
use axera_sys::bindings::soc::{AX_ENGINE_IO_BUFFER_T, AX_ENGINE_IO_T, AX_ENGINE_NPU_MODE_T};
use axera_sys::{Api, Card, CardSlice, Side, SocMemory};

use super::{CARD, SOC, elsewhere_as, said};

/// What must not be done, on a board's stand-in: the process ends with a line that says what it was.
#[test]
fn a_boards_stand_in_minds_wrong_uses() {
    for (misuse, words) in [
        ("free twice", "memory that is not allocated"),
        ("use after free", "memory that is not allocated"),
        ("no flush", "was written and not flushed"),
        ("lost write", "loses bytes that were not flushed"),
        ("too long", "reaches beyond the memory"),
        ("other address", "the two addresses are not of one place"),
        ("stride", "strides"),
        ("size", "bytes for"),
        ("reserved", "a reserved field is not zero"),
        ("group", "there is no group 9"),
        ("after destroy", "a handle that is not loaded"),
        ("engine first", "with models loaded"),
    ] {
        let output = elsewhere_as("misuse::misuse_a_board", &SOC.1, &[("TEST_MISUSE", misuse)]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{misuse} went unnoticed");
        assert!(
            text.contains("standin:") && text.contains(words),
            "{misuse}: {text}"
        );
    }
}

/// Two inputs and an output of the net, one a block.
fn buffers(blocks: &[SocMemory; 3]) -> ([AX_ENGINE_IO_BUFFER_T; 2], AX_ENGINE_IO_BUFFER_T) {
    let buffer = |block: &SocMemory, size| {
        let whole = block.part("test", 0, 64).unwrap();
        AX_ENGINE_IO_BUFFER_T {
            phyAddr: whole.physical(),
            pVirAddr: whole.address().as_ptr(),
            nSize: size,
            ..Default::default()
        }
    };
    let [first, second, last] = blocks;
    ([buffer(first, 8), buffer(second, 4)], buffer(last, 8))
}

#[test]
#[ignore = "called by another"]
fn misuse_a_board() {
    let path = PathBuf::from(env::var_os("TEST_NET").unwrap());
    let misuse = env::var("TEST_MISUSE").unwrap();
    let api = Api::load().unwrap();
    let soc = api.soc().unwrap();
    let data = fs::read(path).unwrap();
    soc.sys_init().unwrap();
    soc.engine_init(AX_ENGINE_NPU_MODE_T(0)).unwrap();
    let handle = soc.create_handle(&data, "net").unwrap();
    let blocks: [SocMemory; 3] = std::array::from_fn(|_| soc.alloc(64).unwrap());
    let (mut inputs, mut output) = buffers(&blocks);
    let mut stride = [0i32; 4];
    let mut group = 0;
    // SAFETY: the libraries are the stand-in's, which looks at what it is given; the addresses that
    // are written to are those of its memory.
    unsafe {
        let context = soc.create_context(handle).unwrap();
        for block in &blocks {
            soc.write(block, 0, &[0; 64]).unwrap();
        }
        let first = blocks[0].part("test", 0, 64).unwrap();
        let bytes = first.address().cast::<u8>();
        // What no other than unsafe code can have: a block twice.
        let again = || std::ptr::read(&blocks[0]);
        match misuse.as_str() {
            "free twice" => {
                soc.free(again()).unwrap();
                let _ = soc.free(again());
            }
            "use after free" => soc.free(again()).unwrap(),
            "no flush" => bytes.write(1),
            "lost write" => {
                bytes.write(1);
                let _ = soc.read(&blocks[0], 0, &mut [0; 4]);
            }
            "too long" => {
                assert!(soc.read(&blocks[0], 60, &mut [0; 5]).is_err(), "checked");
                let (physical, address) = (first.physical(), first.address().as_ptr());
                let _ = soc.symbols().AX_SYS_MinvalidateCache(physical, address, 65);
            }
            "other address" => inputs[0].phyAddr += 8,
            "stride" => output.pStride = stride.as_mut_ptr(),
            "size" => output.nSize = 16,
            "reserved" => output.u64Reserved[3] = 1,
            "group" => group = 9,
            "after destroy" => soc.destroy_handle(handle).unwrap(),
            _ => {
                let _ = soc.engine_deinit();
            }
        }
        let mut io = AX_ENGINE_IO_T {
            pInputs: inputs.as_mut_ptr(),
            nInputSize: 2,
            pOutputs: &mut output,
            nOutputSize: 1,
            ..Default::default()
        };
        let _ = soc.run(handle, context, group, &mut io);
    }
    println!("said: nothing");
}

/// The same on a card's.
#[test]
fn a_cards_stand_in_minds_wrong_uses() {
    for (misuse, words) in [
        ("free twice", "memory that is not allocated"),
        ("use after free", "is no memory of the card"),
        ("too long", "reaches beyond the memory"),
        ("size", "bytes for"),
        ("group", "there is no group 9"),
        ("after unload", "a model that is not loaded"),
        ("unload first", "with a description alive"),
        ("context of another", "a context of another model"),
        ("no memory", "has no memory"),
        ("no reset", "the card was not reset"),
    ] {
        let output = elsewhere_as("misuse::misuse_a_card", &CARD.1, &[("TEST_MISUSE", misuse)]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{misuse} went unnoticed");
        assert!(
            text.contains("standin:") && text.contains(words),
            "{misuse}: {text}"
        );
    }
    let state = [("TEST_MISUSE", "other thread")];
    let output = elsewhere_as("misuse::misuse_a_card", &CARD.1, &state);
    assert!(said(&output).contains("0x80300284 (context: the thread has no context)"));
}

fn call_from_another_thread(card: &Card) {
    let refused = thread::scope(|s| s.spawn(|| card.malloc(8).map(|_| ())).join().unwrap());
    println!("said: {}", refused.unwrap_err());
}

/// Gives the net its two inputs and its output.
///
/// # Safety
/// `io` is alive, and the memory is the card's.
unsafe fn set_buffers(card: &Card, io: NonNull<c_void>, places: [CardSlice<'_>; 3]) {
    let ports = [(Side::Input, 0), (Side::Input, 1), (Side::Output, 0)];
    for ((side, index), place) in ports.into_iter().zip(places) {
        // SAFETY: by the caller.
        unsafe { card.set_buffer(io, side, index, place) }.unwrap();
    }
}

#[test]
#[ignore = "called by another"]
fn misuse_a_card() {
    let path = PathBuf::from(env::var_os("TEST_NET").unwrap());
    let misuse = env::var("TEST_MISUSE").unwrap();
    let api = Api::load().unwrap();
    let card = api.card().unwrap();
    card.init().unwrap();
    let id = card.devices().unwrap()[0];
    card.set_device(id).unwrap();
    card.create_context(id).unwrap();
    if misuse == "other thread" {
        return call_from_another_thread(card);
    }
    card.engine_init().unwrap();
    let model = card.load(&path).unwrap();
    let mut context = card.create_model_context(&model).unwrap();
    let info = card.io_info(&model).unwrap();
    let blocks = [0; 3].map(|_| card.malloc(64).unwrap());
    let mut group = 0;
    let mut size = 8;
    let mut memory = true;
    // SAFETY: the library is the stand-in's, which looks at what it is given.
    unsafe {
        // What no other than unsafe code can have: memory and a model twice.
        let again = || std::ptr::read(&blocks[0]);
        let model_again = || std::ptr::read(&model);
        let place = |i: usize, size| blocks[i].part("test", 0, size).unwrap();
        let io = card.create_io(info).unwrap();
        match misuse.as_str() {
            "free twice" => {
                card.free(again()).unwrap();
                let _ = card.free(again());
            }
            "use after free" => {
                card.free(again()).unwrap();
                let _ = card.write(place(0, 1), &[1]);
            }
            "too long" => {
                assert!(card.write(place(0, 64), &[0; 65]).is_err(), "checked");
                let to = place(0, 64).address();
                let kind = axclrtMemcpyKind::AXCL_MEMCPY_HOST_TO_DEVICE;
                let from = [0u8; 65];
                let from = from.as_ptr().cast();
                let _ = card.symbols().axclrtMemcpy(to.as_ptr(), from, 65, kind);
            }
            "size" => size = 16,
            "group" => group = 9,
            "after unload" => {
                card.destroy_io(io).unwrap();
                card.destroy_io_info(info).unwrap();
                card.unload(model_again()).unwrap();
                let _ = card.create_model_context(&model);
            }
            "unload first" => {
                let _ = card.unload(model_again());
            }
            "context of another" => {
                let other = card.load(&path).unwrap();
                context = card.create_model_context(&other).unwrap();
            }
            "no memory" => memory = false,
            _ => return,
        }
        if memory {
            let sizes = [size, 4, 8];
            set_buffers(card, io, [0, 1, 2].map(|i| place(i, sizes[i])));
        }
        let _ = card.execute(&model, &context, group, io);
    }
    println!("said: nothing");
}
