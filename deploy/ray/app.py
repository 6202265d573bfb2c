# SPDX-License-Identifier: MPL-2.0
"""Ray Serve LLM for cameras: the application that serve.yaml names."""

import os

from ray.serve.llm import LLMConfig, build_openai_app

MODEL = os.environ.get("VLLM_MODEL", "Qwen/Qwen3-VL-8B-Instruct")
REPLICAS = int(os.environ.get("REPLICAS", "2"))

app = build_openai_app({"llm_configs": [LLMConfig(
    model_loading_config={"model_id": "qwen3-vl", "model_source": MODEL},
    deployment_config={
        "num_replicas": REPLICAS,
        # Windows that a replica is given at a time; the rest waits at the proxy, and is refused beyond.
        "max_ongoing_requests": 32,
        "max_queued_requests": 64,
        # A dead replica is found, and another one started, within this time.
        "health_check_period_s": 2,
        "health_check_timeout_s": 10,
    },
    engine_kwargs={
        "max_model_len": 8192,
        "max_num_seqs": 32,
        "limit_mm_per_prompt": {"image": 16, "video": 4},
        "enable_prefix_caching": True,
    },
)]})
