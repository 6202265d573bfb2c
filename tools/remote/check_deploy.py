# SPDX-License-Identifier: MPL-2.0
"""Holds deploy/ against the programs that read it: run it with the Python of an installed vLLM.

    FOLDER/vllm/bin/python tools/remote/check_deploy.py

Reads every YAML file, and gives the options of vllm.service, and those of the Kubernetes values, to
vLLM's own parser of its command line.
"""

import pathlib
import re
import shlex

import yaml
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

DEPLOY = pathlib.Path(__file__).resolve().parent.parent.parent / "deploy"


def settings(path):
    """NAME=value lines, as systemd reads them."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    return {name: shlex.split(value)[0] for name, value in pairs}


def unit_words():
    """The command of vllm.service, each ${NAME} as one word."""
    known = settings(DEPLOY / "vllm/vllm.env")
    text = (DEPLOY / "vllm/vllm.service").read_text().replace("\\\n", " ")
    command = re.search(r"^ExecStart=(.*)$", text, re.M).group(1).split()
    return [re.sub(r"\$\{(\w+)\}", lambda name: known[name.group(1)], word) for word in command]


def parse(words):
    parser = make_arg_parser(FlexibleArgumentParser())
    parsed = parser.parse_args(words)
    validate_parsed_serve_args(parsed)
    return parsed


for path in sorted(DEPLOY.rglob("*.yaml")):
    print(f"{path.relative_to(DEPLOY)}: {len(yaml.safe_load(path.read_text()))} keys")
unit = parse(unit_words()[2:])
print(f"vllm.service: {unit.limit_mm_per_prompt}, {unit.max_num_queued_reqs} may wait")
values = yaml.safe_load((DEPLOY / "kubernetes/values.yaml").read_text())
for model in values["servingEngineSpec"]["modelSpec"]:
    parsed = parse([model["modelURL"], *model["vllmConfig"]["extraArgs"]])
    print(f"values.yaml, {model['name']}: {parsed.limit_mm_per_prompt}")
