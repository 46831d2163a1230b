"""Runs stages under torchrun: `torchrun ranks.py WORLD OUT stage-family ...`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]

from stages import worlds  # noqa: E402

if __name__ == "__main__":
    world, out, *cases = sys.argv[1:]
    for case in cases:
        worlds.parallel_case(case, worlds.Files(Path(world)), Path(out))
