"""The start of engine graph's child process: `python -m comfy_dist.engine.graph.main`."""

from __future__ import annotations

import gc


def main() -> None:
    # torch comes as hundreds of thousands of objects that stay. Looking for garbage among them as they come takes
    # a tenth of the start, and later 0.15 s each time, in which nodes stand still.
    gc.disable()
    from comfy_dist.engine.graph import process

    gc.freeze()
    gc.enable()
    process.main()


if __name__ == "__main__":
    main()
