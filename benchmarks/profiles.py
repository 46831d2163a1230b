"""Where the time of a row of `benchmarks/speed` goes: shares of the whole by kind of operator, for docs/performance.md.

python benchmarks/profiles.py --shapes T S --rows rollout_fixed ppo_1
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks" / "speed"))
import ours  # noqa: E402
import work  # noqa: E402

from heedful.training.parallel import keep_freed_memory  # noqa: E402

KINDS = {  # the first that fits
    "products": r"_linear_pointwise|::mm$|addmm|_reorder_linear_weight",
    "attention": r"bmm|softmax|attention|embedding_bag",
    "Adam": r"adam",
    "copies and places": r"copy|clone|cat$|index|gather|scatter|embedding|fill|zero|pad|slice|resize|contiguous|repeat",
    "elementwise": r"::_?(fused_rms|rms|silu|mul|add|sub|div|pow|rsqrt|neg|sum|mean|exp_|exp$|log|amax|where|cumsum)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shapes", nargs="+", default=["T", "S"])
    parser.add_argument("--rows", nargs="+", default=["rollout_fixed", "ppo_1", "sft_packed", "reward_2"])
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print("| row | model | " + " | ".join([*KINDS, "all else"]) + " |")
    print("|" + " --- |" * (len(KINDS) + 3))
    for shape in options.shapes:
        place = ROOT / "build" / "speed" / shape
        work.prepare(shape, place)
        for row in options.rows:
            shares = measured(ours.open_row(row, shape, place), options.turns)
            print(f"| {row} | {shape} | " + " | ".join(f"{share:.0%}" for share in shares.values()) + " |", flush=True)


def measured(turn: ours.Work, turns: int) -> dict[str, float]:
    """Share of each kind in the time of the turns."""
    turn()
    turn()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        start = time.perf_counter()
        for _ in range(turns):
            turn()
        whole = 1e6 * (time.perf_counter() - start)
    spent: Counter[str] = Counter()
    for event in found.key_averages():
        name = event.key.lower()
        spent[next((kind for kind, names in KINDS.items() if re.search(names, name)), "all else")] += (
            event.self_cpu_time_total
        )
    shares = {kind: spent[kind] / whole for kind in KINDS}
    shares["all else"] = 1 - sum(shares.values())  # Python between the operators, too
    return shares


if __name__ == "__main__":
    main()
