"""Starts a ComfyUI under its own Python and ends it when the worker is gone.

    python launcher.py PRIVATE_FOLDER MAIN.PY ARGUMENT...

Standard input is a pipe that the worker holds open and never writes to: it ends with the worker, however that
ends, on every system. Then ComfyUI is interrupted, as by Ctrl-C, and after a moment killed with what it
started; PRIVATE_FOLDER is removed. Runs outside of our package, so it imports the standard library alone.
"""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import sys
import threading
import time

#: How long ComfyUI may take to end by itself.
_END_SECONDS = 3.0


def main() -> None:
    private, program, *arguments = sys.argv[1:]
    if hasattr(os, "setsid"):
        # A group of its own: Ctrl-C is the worker's to handle, and the whole of it can be killed.
        os.setsid()
    lifeline = os.dup(0)
    with open(os.devnull) as empty:  # noqa: PTH123
        os.dup2(empty.fileno(), 0)
    # What nodes print goes where logs go.
    os.dup2(2, 1)
    ending = threading.Event()
    threading.Thread(target=_end_with, args=(lifeline, private, ending), name="lifeline", daemon=True).start()
    sys.argv = [program, *arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(program))  # noqa: PTH100, PTH120
    try:
        runpy.run_path(program, run_name="__main__")
    finally:
        shutil.rmtree(private, ignore_errors=True)
        if ending.is_set():
            # Threads that a node left behind must not hold the process.
            sys.stderr.flush()
            os._exit(0)


def _end_with(lifeline: int, private: str, ending: threading.Event) -> None:
    while os.read(lifeline, 4096):
        pass
    ending.set()
    if os.name == "posix":
        os.kill(os.getpid(), signal.SIGINT)
    else:
        import _thread

        _thread.interrupt_main()
    time.sleep(_END_SECONDS)
    shutil.rmtree(private, ignore_errors=True)
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
