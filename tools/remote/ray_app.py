# SPDX-License-Identifier: MPL-2.0
"""Ray Serve LLM with several replicas of a checkpoint on this machine: ray_app.py PORT REPLICAS MODEL.

It prints the process of every replica, and serves until it is killed.
"""

import os
import signal
import sys

import ray
from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app

port, replicas, model = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
kept = {name: value for name, value in os.environ.items() if name.startswith(("HF_", "VLLM_", "OMP_"))}
ray.init(num_cpus=2 * replicas + 2, num_gpus=0, include_dashboard=False, _node_ip_address="127.0.0.1",
         object_store_memory=200_000_000)
serve.start(http_options={"host": "127.0.0.1", "port": port})
config = LLMConfig(
    model_loading_config={"model_id": "demo", "model_source": model},
    deployment_config={"num_replicas": replicas, "max_ongoing_requests": 16,
                       "ray_actor_options": {"num_cpus": 1}},
    placement_group_config={"bundles": [{"CPU": 1}], "strategy": "PACK"},
    accelerator_type=None,
    runtime_env={"env_vars": kept},
    engine_kwargs={"max_model_len": 4096, "max_num_seqs": 8, "enforce_eager": True,
                   "limit_mm_per_prompt": {"image": 16, "video": 4},
                   "distributed_executor_backend": "mp"},
)
serve.run(build_openai_app({"llm_configs": [config]}), name="llm", route_prefix="/", blocking=False)
print("serving", flush=True)
signal.pause()
