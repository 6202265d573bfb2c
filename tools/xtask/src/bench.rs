// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask bench`: captions of the same clip by this engine and by its peers.

use std::path::PathBuf;

use crate::args::Args;
use crate::{Outcome, python, shell};

const HELP: &str = "\
cargo xtask bench [--python PROGRAM] [options of tools/bench/bench.py]

Measures, in turns and as ratios, a caption of the same 10-frame clip by this engine, by transformers
on torch, by llama.cpp and by OpenVINO: processor time by stage, tokens a second, memory; then
captions through the element. Installs the peers below cargo's output folder (some GB to download, a
build of llama.cpp, 15 GB of weights of noise); one that cannot be installed is said and left out.

  --python PROGRAM   an interpreter that has torch and transformers already
  --peers NAME,...   only these: ours, ours-bf16, transformers, llamacpp, llamacpp-images,
                     llamacpp-q4_k, openvino-genai, openvino, ours-tower, llamacpp-tower,
                     transformers-tower, element
  --rounds N         rounds of ours and those with a target (3), of llamacpp-images at most two;
                     the medians count, and the others are measured once
  --tokens N         tokens of the caption (48)
  --checkpoint DIR   another Qwen3-VL checkpoint than the one of noise
  --isa NAME         hold the engine and its peers to an instruction set, which the processor must
                     have; without it each takes the best that it finds:

    NAME         ours (VLMCAPTION_ISA)  llama.cpp is built for      ONEDNN_MAX_CPU_ISA  ATEN_CPU_CAPABILITY
    avx2         avx2                   x86-64-v3                   AVX2                avx2
    avxvnni      avxvnni                and AVX-VNNI                AVX2_VNNI           avx2
    avx512       avx512                 x86-64-v4 and AVX-512 VNNI  AVX512_CORE_VNNI    avx512
    avx512bf16   avx512bf16             and AVX-512 BF16            AVX512_CORE_BF16    avx512";

/// `cargo xtask bench`.
///
/// # Errors
/// A sentence that says which part did not work.
pub fn command(mut args: Args) -> Outcome {
    if args.help(HELP) {
        return Ok(());
    }
    let mut left = Vec::new();
    if let Some(isa) = args.value::<String>("--isa")? {
        // Before anything is downloaded.
        let check = shell::root().join("tools/bench/isa.py");
        shell::run(shell::program("python3").arg(check).arg(&isa))?;
        left = vec!["--isa".to_owned(), isa];
    }
    let python = match args.value::<PathBuf>("--python")? {
        Some(python) => python,
        None => python::environment()?,
    };
    shell::run(
        shell::program(python)
            .arg(shell::root().join("tools/bench/bench.py"))
            .arg(shell::target().join("bench"))
            .args(left)
            .args(args.rest()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What isa.py says for a processor with these flags besides those of AVX2; nothing if all is well.
    fn said(name: &str, more: &str, peer: &str) -> String {
        let folder = std::env::temp_dir().join(format!("xtask-isa-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let cpuinfo = folder.join(format!("cpuinfo{}", more.replace(' ', "-")));
        std::fs::write(
            &cpuinfo,
            format!("flags\t\t: sse2 fma f16c avx2 bmi2 {more}\n"),
        )
        .unwrap();
        let check = shell::root().join("tools/bench/isa.py");
        let output = shell::program("python3")
            .arg(check)
            .args([name, "--said", peer, "--cpuinfo"])
            .arg(cpuinfo)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), text.is_empty(), "{text}");
        text.trim_end().to_owned()
    }

    #[test]
    fn an_instruction_set_that_the_processor_has_not_got_is_refused_with_those_it_has() {
        let avx512 = "avx512f avx512bw avx512cd avx512dq avx512vl avx512_vnni";
        assert_eq!(said("avx2", "", ""), "");
        assert_eq!(said("avxvnni", "avx_vnni", ""), "");
        assert_eq!(said("avx512", avx512, ""), "");
        assert_eq!(
            said("avx512", "", ""),
            "--isa avx512: this processor has avx2"
        );
        assert_eq!(
            said("avxvnni", avx512, ""),
            "--isa avxvnni: this processor has avx2, avx512"
        );
        assert_eq!(
            said("neon", "", ""),
            "--isa neon: is none of avx2, avxvnni, avx512, avx512bf16, and this processor has avx2"
        );
    }

    #[test]
    fn a_peer_that_says_it_ran_more_is_found_out() {
        let built = "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | F16C = 1 | AVX512 = 0 | FMA = 1 |";
        assert_eq!(said("avx2", "", built), "");
        let built = built.replace("AVX512 = 0", "AVX_VNNI = 1");
        assert_eq!(
            said("avx2", "", &built),
            format!("it ran avx_vnni: {built}")
        );
        let openvino = "OpenVINO brgemm_avx2_f32 jit_avx512_f32 ref_any";
        assert_eq!(
            said("avx2", "", openvino),
            format!("it ran avx512: {openvino}")
        );
        let torch = "ATen AVX2, oneDNN brg_matmul:avx2 jit:avx512_core_bf16";
        assert_eq!(
            said("avx2", "", torch),
            format!("it ran avx512_core_bf16: {torch}")
        );
    }
}
