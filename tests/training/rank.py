"""One of two ranks that meet, and then stops itself if it is the second: `python -m training.rank SIGNAL`."""

from __future__ import annotations

import os
import signal
import sys

from heedful.config import UserError
from heedful.configs.shared import Compute
from heedful.training.parallel import join_ranks

if __name__ == "__main__":
    try:
        ranks = join_ranks(Compute(device="cpu"))
        for _ in range(5):
            assert ranks.gather(ranks.rank) == [0, 1]
        print("met", flush=True)
        if ranks.rank == 1:
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        ranks.wait()
    except UserError as error:
        print(error, flush=True)
        os._exit(2)
