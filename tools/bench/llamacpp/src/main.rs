// SPDX-License-Identifier: MPL-2.0

//! One caption of a clip of noise by llama.cpp, one thread, in process CPU time.
//!
//! ```text
//! bench-llamacpp LLM.gguf MMPROJ.gguf pairs|images FRAMES TOKENS WIDTH HEIGHT
//! ```
//!
//! `pairs` hands two frames each to the vision net as one temporal patch, as the model was trained;
//! `images` each frame alone, as llama.cpp's own tools do. Prints one line of JSON.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{null, null_mut};

use llama_cpp_sys_2 as sys;

/// Rows that sequences may have together.
const CONTEXT: u32 = 4096;

/// Streams of the batch.
const STREAMS: i32 = 4;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, llm, mmproj, how, frames, tokens, width, height] = &args[..] else {
        panic!("usage: bench-llamacpp LLM MMPROJ pairs|images FRAMES TOKENS WIDTH HEIGHT");
    };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let merge = how == "pairs";
    let (frames, tokens) = (number(frames), number(tokens));
    let (width, height) = (number(width) as u32, number(height) as u32);
    // SAFETY: the calls follow the order of llama.h and mtmd.h; every handle lives to the end of the
    // program, and every pointer is checked before it is used.
    unsafe {
        sys::llama_log_set(Some(quiet), null_mut());
        sys::llama_backend_init();
        let (model, context) = load(llm);
        let mut params = sys::mtmd_context_params_default();
        params.use_gpu = false;
        params.n_threads = 1;
        params.print_timings = false;
        params.warmup = true;
        params.image_min_tokens = -1;
        let path = CString::new(mmproj.as_str()).expect("a path");
        let vision = sys::mtmd_init_from_file(path.as_ptr(), model, params);
        assert!(!vision.is_null(), "{mmproj} was not loaded");

        let bitmaps: Vec<*const sys::mtmd_bitmap> = (0..frames)
            .map(|frame| {
                let seed = (frame as u32).wrapping_mul(977);
                let noise = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 24) as u8;
                let pixels: Vec<u8> = (0..width * height * 3).map(noise).collect();
                let bitmap = sys::mtmd_bitmap_init(width, height, pixels.as_ptr());
                sys::mtmd_bitmap_set_mergeable(bitmap, merge);
                bitmap.cast_const()
            })
            .collect();
        let prompt = format!("hello {} describe", "<__media__>".repeat(frames));
        let prompt = CString::new(prompt).expect("no zero");
        let input = sys::mtmd_input_text {
            text: prompt.as_ptr(),
            text_len: prompt.as_bytes().len(),
            add_special: false,
            parse_special: true,
        };
        let chunks = sys::mtmd_input_chunks_init();
        let mut pointers = bitmaps;
        let begin = cpu_seconds();
        let status =
            sys::mtmd_tokenize(vision, chunks, &input, pointers.as_mut_ptr(), pointers.len());
        assert_eq!(status, 0, "mtmd_tokenize");
        let prepare = cpu_seconds() - begin;

        let (mut see, mut prefill, mut rows, mut past) = (0.0, 0.0, 0, 0);
        let (mut last_see, mut last_prefill) = (0.0, 0.0);
        let n_chunks = sys::mtmd_input_chunks_size(chunks);
        for i in 0..n_chunks {
            let chunk = sys::mtmd_input_chunks_get(chunks, i);
            rows += sys::mtmd_input_chunk_get_n_tokens(chunk);
            let is_last = i + 1 == n_chunks;
            let mut now = past;
            let begin = cpu_seconds();
            if sys::mtmd_input_chunk_get_type(chunk) == sys::MTMD_INPUT_CHUNK_TYPE_IMAGE {
                assert_eq!(sys::mtmd_encode_chunk(vision, chunk), 0, "mtmd_encode_chunk");
                last_see = cpu_seconds() - begin;
                see += last_see;
                let begin = cpu_seconds();
                let embeddings = sys::mtmd_get_output_embd(vision);
                let status = sys::mtmd_helper_decode_image_chunk(
                    vision, context, chunk, embeddings, past, 0, 512, &mut now, None, null_mut(),
                );
                assert_eq!(status, 0, "mtmd_helper_decode_image_chunk");
                sys::llama_synchronize(context);
                last_prefill = cpu_seconds() - begin;
                prefill += last_prefill;
            } else {
                let status = sys::mtmd_helper_eval_chunk_single(
                    vision, context, chunk, past, 0, 512, is_last, &mut now,
                );
                assert_eq!(status, 0, "mtmd_helper_eval_chunk_single");
                sys::llama_synchronize(context);
                let took = cpu_seconds() - begin;
                prefill += took;
                last_prefill += took;
            }
            past = now;
        }
        let begin = cpu_seconds();
        for i in 0..tokens as i32 {
            step(context, &[(i * 31 % 150_000, past + i, 0)]);
        }
        let decode = cpu_seconds() - begin;

        let four = streams(context);
        println!(
            "{{\"prepare\": {prepare:.4}, \"vision\": {see:.4}, \"prefill\": {prefill:.4}, \
             \"decode\": {decode:.4}, \"rows\": {rows}, \"tokens\": {tokens}, \
             \"last\": {:.4}, \"streams\": {four:.3}, \"peak\": {}, \"isa\": \"{}\"}}",
            last_see + last_prefill,
            peak_bytes(),
            CStr::from_ptr(sys::llama_print_system_info()).to_string_lossy()
        );
    }
}

/// A model and a context of one thread.
unsafe fn load(path: &str) -> (*mut sys::llama_model, *mut sys::llama_context) {
    // SAFETY: as in `main`.
    unsafe {
        let mut params = sys::llama_model_default_params();
        params.n_gpu_layers = 0;
        let name = CString::new(path).expect("a path");
        let model = sys::llama_load_model_from_file(name.as_ptr(), params);
        assert!(!model.is_null(), "{path} was not loaded");
        let mut params = sys::llama_context_default_params();
        params.n_ctx = CONTEXT;
        params.n_batch = 1024;
        params.n_ubatch = 512;
        params.n_threads = 1;
        params.n_threads_batch = 1;
        params.n_seq_max = STREAMS as u32;
        params.kv_unified = true;
        let context = sys::llama_init_from_model(model, params);
        assert!(!context.is_null(), "no context for {path}");
        (model, context)
    }
}

/// Tokens of four streams in a batch per token of one, in the same time.
unsafe fn streams(context: *mut sys::llama_context) -> f64 {
    const ROWS: i32 = 144;
    const STEPS: i32 = 12;
    // SAFETY: as in `main`.
    unsafe {
        sys::llama_memory_clear(sys::llama_get_memory(context), false);
        for stream in 0..STREAMS {
            let rows: Vec<_> = (0..ROWS).map(|i| (i * 7919 % 150_000, i, stream)).collect();
            step(context, &rows);
        }
        let mut took = [0.0; 2];
        for i in 0..STEPS {
            for (n, took) in [1, STREAMS].into_iter().zip(&mut took) {
                let memory = sys::llama_get_memory(context);
                for stream in 0..STREAMS {
                    sys::llama_memory_seq_rm(memory, stream, ROWS + i, -1);
                }
                let rows: Vec<_> = (0..n).map(|stream| (i + 100, ROWS + i, stream)).collect();
                let begin = cpu_seconds();
                step(context, &rows);
                *took += cpu_seconds() - begin;
            }
        }
        f64::from(STREAMS) * took[0] / took[1]
    }
}

/// Evaluates rows `(token, position, sequence)`; of each sequence the last says what follows.
unsafe fn step(context: *mut sys::llama_context, rows: &[(i32, i32, i32)]) {
    // SAFETY: as in `main`; the batch has room for all rows.
    unsafe {
        let mut batch = sys::llama_batch_init(rows.len() as i32, 0, 1);
        for (i, &(token, position, sequence)) in rows.iter().enumerate() {
            let is_last = rows.get(i + 1).is_none_or(|next| next.2 != sequence);
            *batch.token.add(i) = token;
            *batch.pos.add(i) = position;
            *batch.n_seq_id.add(i) = 1;
            **batch.seq_id.add(i) = sequence;
            *batch.logits.add(i) = i8::from(is_last);
        }
        batch.n_tokens = rows.len() as i32;
        assert_eq!(sys::llama_decode(context, batch), 0, "llama_decode");
        sys::llama_synchronize(context);
        sys::llama_batch_free(batch);
    }
}

unsafe extern "C" fn quiet(_: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if std::env::var_os("VERBOSE").is_some() && text != null() {
        // SAFETY: llama.cpp hands over a text that ends with a zero.
        eprint!("{}", unsafe { CStr::from_ptr(text) }.to_string_lossy());
    }
}

/// Processor time of this process.
fn cpu_seconds() -> f64 {
    #[repr(C)]
    struct Time {
        seconds: i64,
        nanos: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Time) -> i32;
    }
    const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
    let mut time = Time {
        seconds: 0,
        nanos: 0,
    };
    // SAFETY: `time` has the layout of `timespec` on 64-bit Linux.
    unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.seconds as f64 + 1e-9 * time.nanos as f64
}

/// `VmHWM`.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    1024 * kib.unwrap_or(0)
}
