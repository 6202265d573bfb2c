# SPDX-License-Identifier: MPL-2.0
"""Runs a server that install.py installed, on loopback alone and offline, in place of this program.

    serve.py FOLDER NAME PORT [--model DIR] [--behind URL,...] [--replicas N]

NAME is vllm, router (with the vLLMs that it stands in front of as --behind), ray, transformers or llama.
The model is models/demo unless --model says otherwise. It serves until it is killed.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
DEMO = HERE.parent.parent / "models/demo"

OFFLINE = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1", "RAY_USAGE_STATS_ENABLED": "0",
    # 1 GB of keys and values; one thread a server, left where the system puts it.
    "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
}


def vllm(place, args):
    """Eager: its compiler takes minutes, and the demo model is small."""
    return [place / "bin/vllm", "serve", args.model, "--host", "127.0.0.1", "--port", args.port,
            "--served-model-name", "demo", "--enforce-eager", "--max-model-len", "4096",
            "--max-num-seqs", "8", "--max-num-queued-reqs", "32", "--trust-request-mm-kwargs",
            "--limit-mm-per-prompt", json.dumps({"image": 16, "video": 4}),
            # The demo model's budget is for all frames of a clip together; the element's sizes fit as they are.
            "--mm-processor-kwargs", json.dumps({"do_resize": False}),
            "--structured-outputs-config",
            json.dumps({"backend": "xgrammar", "disable_any_whitespace": True})]


def router(place, args):
    return [place / "bin/python", "-m", "vllm_router.launch_router", "--host", "127.0.0.1", "--port",
            args.port, "--worker-urls", *args.behind.split(","), "--policy", "round_robin",
            "--health-check-interval-secs", "2", "--prometheus-host", "127.0.0.1",
            "--prometheus-port", str(free_port())]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def ray(place, args):
    return [place / "bin/python", "-B", HERE / "ray_app.py", args.port, args.replicas,
            checkpoint_for_ray(place, args.model)]


def checkpoint_for_ray(place, model):
    """vLLM 0.29, which Ray Serve LLM 2.60 goes with, wants the name of the text half said."""
    copy = place / "checkpoint"
    shutil.copytree(model, copy, dirs_exist_ok=True)
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["architectures"] = ["Qwen3ForCausalLM"]
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def transformers(place, args):
    return [place / "bin/transformers", "serve", args.model, "--host", "127.0.0.1", "--port", args.port,
            "--device", "cpu"]


def llama(place, args):
    """Converts the checkpoint first, with the packages of vLLM's environment."""
    text, vision = place / "demo.gguf", place / "mmproj-demo.gguf"
    for file, more in ((text, []), (vision, ["--mmproj"])):
        if not file.is_file():
            subprocess.run([str(place.parent / "vllm/bin/python"), "-B", str(HERE / "to_gguf.py"),
                            str(place / "source"), str(args.model), "--outfile", str(file), *more],
                           check=True)
    return [place / "bin/llama-server", "-m", text, "--mmproj", vision, "--host", "127.0.0.1", "--port",
            args.port, "-c", "8192", "-np", "2", "-t", "2", "--jinja"]


SERVERS = {"vllm": vllm, "router": router, "ray": ray, "transformers": transformers, "llama": llama}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("name", choices=sorted(SERVERS))
    parser.add_argument("port")
    parser.add_argument("--model", type=pathlib.Path, default=DEMO)
    parser.add_argument("--behind", default="", help="addresses of the router's vLLMs, with commas")
    parser.add_argument("--replicas", default="2", help="of Ray Serve")
    args = parser.parse_args()
    place = args.folder.absolute() / args.name
    if not (place / "installed").is_file():
        sys.exit(f"serve.py: {args.name} is not in {place}; install.py {args.folder} {args.name}")
    args.model = args.model.resolve()
    command = [str(word) for word in SERVERS[args.name](place, args)]
    os.execve(command[0], command, {**os.environ, **OFFLINE})


if __name__ == "__main__":
    main()
