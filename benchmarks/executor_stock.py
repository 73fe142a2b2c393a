"""Runs in a stock ComfyUI's own Python, in its folder: its validation and executor, without its server.

One JSON line for each shape and size asked for: microseconds per node.
"""

import asyncio
import json
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

SHAPES_AND_SIZES = [argument.split(":") for argument in sys.argv[1:]]

sys.path.insert(0, str(Path.cwd()))
sys.argv[1:] = ["--cpu"]
# Its cache keys recurse once per node of a chain.
sys.setrecursionlimit(100_000)

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import execution  # noqa: E402
import nodes  # noqa: E402


def graphs():
    spec = spec_from_file_location("executor_graphs", Path(__file__).with_name("executor_graphs.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Server:
    """Takes the events of a client that nobody listens for."""

    client_id = last_node_id = last_prompt_id = None
    sockets_metadata = {}

    def send_sync(self, event, data, sid=None):
        pass


def main():
    made = graphs()
    nodes.NODE_CLASS_MAPPINGS.update(made.NODE_CLASS_MAPPINGS)
    for number, (shape, size) in enumerate(SHAPES_AND_SIZES):
        prompt = made.SHAPES[shape](int(size), number)
        began = time.perf_counter()
        valid, error, outputs, _ = asyncio.run(execution.validate_prompt("p", prompt, None))
        validated = time.perf_counter()
        assert valid, error
        executor = execution.PromptExecutor(Server(), cache_type=execution.CacheType.CLASSIC)
        started = time.perf_counter()
        executor.execute(prompt, "p", {"client_id": "c"}, outputs)
        ended = time.perf_counter()
        assert executor.success, executor.status_messages
        line = {"validate": (validated - began) / int(size) * 1e6, "execute": (ended - started) / int(size) * 1e6}
        print(json.dumps({"shape": shape, "size": int(size), **line}), flush=True)


if __name__ == "__main__":
    main()
