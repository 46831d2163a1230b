"""Runs stages under torchrun: `torchrun -m stages.ranks WORLD OUT stage-family ...`."""

from __future__ import annotations

import sys
from pathlib import Path

from stages import worlds

if __name__ == "__main__":
    world, out, *cases = sys.argv[1:]
    for case in cases:
        worlds.parallel_case(case, worlds.Files(Path(world)), Path(out))
