# SPDX-License-Identifier: MPL-2.0
"""One caption of a clip of noise by OpenVINO GenAI in int8, one thread, process CPU time.

    peer_openvino_genai.py MODEL PAIRS TOKENS WIDTH HEIGHT [PROPERTY=VALUE ...]

MODEL is what `optimum-cli export openvino --weight-format int8` wrote. Prints one line of JSON. The
whole clip is handed over at once: `VLMPipeline` takes no part of one. The vision net and the prefill
are one call; they are told apart by the part of it that the pipeline itself says went into
embeddings.

Needs: openvino-genai.
"""

import json
import pathlib
import sys
import time

import numpy
import openvino
import openvino_genai


# Of the vision net's input that is asked for its kernels.
PATCHES = 64


class Watch(openvino_genai.StreamerBase):
    """When the first token came, and how many came."""

    def __init__(self):
        super().__init__()
        self.first, self.tokens = None, 0

    def write(self, token):
        self.first = self.first or time.process_time()
        self.tokens += len(token) if isinstance(token, list) else 1
        return openvino_genai.StreamingStatus.RUNNING

    def end(self):
        pass


def peak_bytes():
    """`VmHWM`."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def caption(pipeline, frames, tokens, seed):
    """Captions a clip of noise: processor time at its begin, first token and end, and the rest."""
    noise = numpy.random.default_rng(seed).integers(0, 255, frames, dtype=numpy.uint8)
    config = openvino_genai.GenerationConfig(max_new_tokens=tokens, ignore_eos=True,
                                             do_sample=False)
    # Every frame, as it is: the default takes some of them.
    metadata = openvino_genai.VideoMetadata()
    metadata.fps, metadata.frames_indices = 1.0, list(range(frames[0]))
    watch, begin = Watch(), time.process_time()
    said = pipeline.generate("Describe the video.", videos=[openvino.Tensor(noise)],
                             videos_metadata=[metadata], generation_config=config, streamer=watch)
    return begin, watch, time.process_time(), said.perf_metrics


def isa(model, options):
    """What the plugin says that it runs the vision net with; the pipeline does not show its own."""
    path = next(pathlib.Path(model).glob("*vision_embeddings_merger_model.xml"))
    net = openvino.Core().compile_model(path, "CPU", options)
    request = net.create_infer_request()
    # It chooses kernels once it knows the shapes.
    request.infer([numpy.zeros([n.get_length() if n.is_static else PATCHES
                                for n in given.get_partial_shape()],
                               given.get_element_type().to_dtype()) for given in net.inputs])
    kinds = {node.get_rt_info()["primitiveType"].astype(str)
             for node in request.get_compiled_model().get_runtime_model().get_ordered_ops()}
    return "OpenVINO " + " ".join(sorted(kinds))


def main():
    model, (pairs, tokens, width, height) = sys.argv[1], map(int, sys.argv[2:6])
    options = dict(word.split("=", 1) for word in sys.argv[6:])
    pipeline = openvino_genai.VLMPipeline(
        model, "CPU", **({"INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1"} | options))
    # The first call readies the library's kernels.
    caption(pipeline, (2, height, width, 3), 2, 0)
    begin, watch, end, metrics = caption(pipeline, (2 * pairs, height, width, 3), tokens + 1, 1)
    first = watch.first - begin
    vision = first * min(1, metrics.get_prepare_embeddings_duration().mean / metrics.get_ttft().mean)
    print(json.dumps(dict(vision=vision, prefill=first - vision, decode=end - watch.first,
                          rows=metrics.get_num_input_tokens(), tokens=watch.tokens - 1,
                          peak=peak_bytes(), isa=isa(model, options))))


if __name__ == "__main__":
    main()
