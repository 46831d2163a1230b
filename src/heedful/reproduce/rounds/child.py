"""`python -m heedful` as a child process that ends with its parent: `python -m heedful.reproduce.rounds.child serve`.

The parent holds the other end of the standard input. When it ends, also by `kill -9`, the child gets a signal.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

GRACE = 30  # seconds


def main() -> None:
    """Run the command of the arguments."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("heedful", run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    while sys.stdin.buffer.read(1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


if __name__ == "__main__":
    main()
