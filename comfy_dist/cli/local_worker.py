"""comfyui-worker as a frontend starts it on its own machine (comfy_dist/local_workers): it ends with that.

Standard input is a pipe that the frontend holds open and never writes to: it ends with the frontend, however
that ends, on every system. Then what is executed is given back, as by a second SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

#: Seconds for an orderly end; after that all that the worker started is killed with it.
_END_SECONDS = 15.0


def main() -> None:
    lifeline = os.dup(0)
    with open(os.devnull) as empty:  # noqa: PTH123
        os.dup2(empty.fileno(), 0)
    threading.Thread(target=_end_with, args=(lifeline,), name="lifeline", daemon=True).start()

    from comfy_dist.cli.worker import main as worker

    worker(sys.argv[1:])


def _end_with(lifeline: int) -> None:
    while os.read(lifeline, 4096):
        pass
    # The first is taken for patience.
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
    time.sleep(_END_SECONDS)
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
