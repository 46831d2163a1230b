"""Two commits of our own side on the same work, turn by turn: is a change faster than its parent?

    python benchmarks/commits.py HEAD~1 HEAD             # about two minutes
    python benchmarks/commits.py main my-branch --rows ppo_1 --shape S

Each side is a worktree under build/commits and runs the ours.py of its own commit, since modules move. Both sides use
this checkout's work.py, so that the work is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "benchmarks" / "speed"
RUN = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
sys.path.insert(0, str(WORK))
import work  # noqa: E402

ROWS = ("rollout_fixed", "rollout_mixed", "ppo_1", "sft_padded", "reward_2", "reward_9")


def checkout(commit: str) -> Path:
    """The worktree of a commit, made where it is not there."""
    found = subprocess.run(
        ["git", "rev-parse", "--verify", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True, text=True
    )
    if found.returncode:
        sys.exit(f"{commit}: no such commit")
    place = ROOT / "build" / "commits" / found.stdout.strip()[:12]
    if not place.exists():
        subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(place), commit], cwd=ROOT, check=True)
    return place


class Side:
    def __init__(self, source: Path, row: str, shape: str, threads: int) -> None:
        script = source / "benchmarks" / "speed" / "ours.py"
        path = os.pathsep.join((str(WORK), str(source / "src")))
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(script), row, shape, str(place_of(shape))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "SPEED_THREADS": str(threads)},
        )  # fmt: skip
        self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(
                "a side ended early: does the benchmarks/speed/ours.py of its commit work with this checkout's work.py?"
            )
        found: dict[str, Any] = json.loads(line)
        return found

    def go(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        print("go", file=self.process.stdin, flush=True)
        return self.answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def place_of(shape: str) -> Path:
    return ROOT / "build" / "speed" / shape


def compare(row: str, shape: str, before: Path, after: Path, repetitions: int, threads: int) -> str:
    sides = [Side(source, row, shape, threads) for source in (before, after)]
    first = [side.go() for side in sides]
    seconds: list[list[float]] = [[], []]
    for turn in range(repetitions):
        for index in (0, 1) if turn % 2 else (1, 0):
            seconds[index].append(sides[index].go()["seconds"])
    for side in sides:
        side.close()
    ratios = sorted(old / new for old, new in zip(*seconds, strict=True))
    same = all(first[0].get(key) == first[1].get(key) for key in ("tokens", "pairs"))
    apart = abs(first[0].get("loss", 0.0) - first[1].get("loss", 0.0))
    return (
        f"{row:<16} {statistics.median(seconds[0]):8.3f} s {statistics.median(seconds[1]):8.3f} s   "
        f"{statistics.median(ratios):5.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        f"{'' if same else '   OTHER WORK'}{'' if apart < 1e-5 else f'   losses {apart:.1e} apart'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="two commits, turn by turn")
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--rows", nargs="+", default=list(ROWS))
    parser.add_argument("--shape", default="T", choices=list(work.SHAPES))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 8))
    options = parser.parse_args()
    work.prepare(options.shape, place_of(options.shape))
    before, after = checkout(options.before), checkout(options.after)
    print(f"model {options.shape}, {options.threads} threads: {options.before}, {options.after}", flush=True)
    for row in options.rows:
        print(compare(row, options.shape, before, after, options.repetitions, options.threads), flush=True)


if __name__ == "__main__":
    main()
