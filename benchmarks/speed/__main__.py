"""heedful beside transformers and TRL on the same work, same models, same numbers.

    python benchmarks/speed                      # the whole table; writes benchmarks/results/DATE-MACHINE-SHAPES.json
    python benchmarks/speed --shapes T --rows sft_padded sft_packed --repetitions 3

Builds the peers' environments under build/peers on first use. Both sides of a row live in processes of their own and
take turns; the ratio is the median of the peer's times over ours in the same turn. Counts must be equal, and so must
be the loss on the same batch.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))
import work  # noqa: E402

TORCH, TRANSFORMERS, PPO, TRL = "2.13.0", "5.24.0", "1.12.0", "1.16.0"


class Row(NamedTuple):
    name: str
    peer: str
    trl: str
    """Version of TRL in the peer's environment."""
    at_least: float
    aim: float


ROWS = (
    Row("rollout_fixed", "generate", TRL, 2.5, 5),
    Row("rollout_mixed", "generate", TRL, 5, 12),
    Row("rollout_mixed_continuous", "continuous batching", TRL, 4, 12),
    Row("ppo_1", "TRL PPOTrainer, 1 epoch", PPO, 4, 6),
    Row("ppo_4", "TRL PPOTrainer, 4 epochs", PPO, 4, 6),
    Row("sft_padded", "TRL SFTTrainer, padded", TRL, 5, 9),
    Row("sft_packed", "TRL SFTTrainer, packed", TRL, 2.5, 5),
    Row("reward_2", "TRL RewardTrainer, K = 2", TRL, 4, 6),
    Row("reward_9", "TRL RewardTrainer, K = 9", TRL, 25, 50),
    Row("rollout_fixed_bf16", "generate", TRL, 2.5, 5),
    Row("ppo_1_bf16", "TRL PPOTrainer, 1 epoch", PPO, 6, 9),
    Row("sft_padded_bf16", "TRL SFTTrainer, padded", TRL, 5, 9),
    Row("sft_packed_bf16", "TRL SFTTrainer, packed", TRL, 2.5, 5),
)
"""Rows in bfloat16 are bfloat16 on both sides, and left out where the processor has no units for it."""


class Side:
    """One worker process."""

    def __init__(
        self, python: Path, script: str, row: str, shape: str, place: Path, threads: int, path: str = ""
    ) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "SPEED_THREADS": str(threads)}
        environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRL_EXPERIMENTAL_SILENCE": "1"}
        self.log = place / f"{script.removesuffix('.py')}-{row}.log"
        self.process = subprocess.Popen(
            [str(python), str(HERE / script), row, shape, str(place)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("w"), text=True, env=environment,
        )  # fmt: skip

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.log}: a side of the benchmark ended; its last lines:\n{self.log.read_text()[-1500:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def go(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def peer_python(trl: str) -> Path:
    """The environment of a peer, built once."""
    place = ROOT / "build" / "peers" / f"trl-{trl}"
    python = place / "bin" / "python"
    if not (place / ".ready").exists():
        print(f"building {place.relative_to(ROOT)} (minutes, once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        wanted = [f"torch=={TORCH}", f"trl=={trl}", f"transformers=={TRANSFORMERS}", "datasets", "accelerate", "pandas"]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
        (place / ".ready").touch()
    return python


def take_turns(sides: list[Side], repetitions: int) -> list[list[dict[str, Any]]]:
    """One answer a turn and side; the first turn, in which everything is met for the first time, comes along."""
    for side in sides:
        side.answer()  # it is ready
    turns = []
    for turn in range(repetitions + 1):
        order = list(range(len(sides)))[:: 1 if turn % 2 else -1]
        answers = {index: sides[index].go() for index in order}
        turns.append([answers[index] for index in range(len(sides))])
    return turns


def measure(row: Row, shape: str, repetitions: int, threads: int, rate: float) -> dict[str, Any]:
    place = ROOT / "build" / "speed" / shape
    work.prepare(shape, place)
    ours = Side(Path(sys.executable), "ours.py", row.name, shape, place, threads)
    peer = Side(peer_python(row.trl), "peers.py", row.name, shape, place, threads)
    turns = take_turns([ours, peer], repetitions)
    ours.close()
    peer.close()
    for key in ("tokens", "prompt_tokens", "pairs"):
        mine, theirs = (turns[0][side].get(key) for side in (0, 1))
        assert mine == theirs, f"{row.name}: {key} differ, {mine} and {theirs}"
    apart = abs(turns[0][0].get("loss", 0.0) - turns[0][1].get("loss", 0.0))
    assert apart < (1e-2 if work.is_bfloat16(row.name) else 1e-4), (
        f"{row.name}: the losses of the same batch differ by {apart}"
    )
    seconds = [[turn[side]["seconds"] for turn in turns[1:]] for side in (0, 1)]
    units, unit = work.amount(row.name, shape)
    floor = work.floor(row.name, shape) / rate
    return {
        "row": row.name, "shape": shape, "peer": row.peer, "unit": unit,
        "ratio": statistics.median(theirs / mine for mine, theirs in zip(*seconds, strict=True)),
        "at_least": row.at_least, "aim": row.aim,
        "ours": units / statistics.median(seconds[0]), "theirs": units / statistics.median(seconds[1]),
        "floor_seconds": floor, "share_of_floor": floor / statistics.median(seconds[0]),
        "seconds": seconds, "peak_mib": [turns[-1][side]["peak_mib"] for side in (0, 1)], "loss_apart": apart,
    }  # fmt: skip


def logprobs_apart(shape: str, threads: int) -> float:
    """How far the mean log-prob of the same responses is apart on both sides: what PPO rests on."""
    place = ROOT / "build" / "speed" / shape
    work.prepare(shape, place)
    sides = [
        Side(Path(sys.executable), "ours.py", "logprobs", shape, place, threads),
        Side(peer_python(TRL), "peers.py", "logprobs", shape, place, threads),
    ]
    mine, theirs = take_turns(sides, 0)[0]
    for side in sides:
        side.close()
    assert abs(mine["loss"] - theirs["loss"]) < 1e-4
    return float(abs(mine["loss"] - theirs["loss"]))


def growth(shape: str, repetitions: int, threads: int) -> dict[str, Any]:
    """Seconds an episode of a PPO iteration at constant length: 64 episodes beside 1,024."""
    place = ROOT / "build" / "speed" / shape
    sides = [Side(Path(sys.executable), "ours.py", f"growth_{n}", shape, place, threads) for n in (64, 1024)]
    turns = take_turns(sides, repetitions)
    for side in sides:
        side.close()
    ratios = [turn[1]["seconds"] / 16 / turn[0]["seconds"] for turn in turns[1:]]
    return {"row": "growth", "shape": shape, "ratio": statistics.median(ratios), "seconds": [
        [turn[side]["seconds"] for turn in turns[1:]] for side in (0, 1)]}  # fmt: skip


def has_bfloat16() -> bool:
    """Whether bfloat16 has units of its own here."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return work.DEVICE == "cuda" or "avx512_bf16" in flags or "amx_bf16" in flags


def machine() -> str:
    if work.DEVICE == "cuda":
        return work.torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    model = named.get("model name", platform.processor() or platform.machine())
    family = f" (family {named['cpu family']}, model {named['model']})" if "cpu family" in named else ""
    return f"{os.cpu_count()} cores {model}{family}, {work.torch.backends.cpu.get_cpu_capability()}"


def table(results: list[dict[str, Any]]) -> str:
    lines = ["| work | model | ratio | at least | ours | peer | share of floor | MiB ours / peer |", "|" + " --- |" * 8]
    for r in results:
        if r["row"] == "growth":
            lines.append(f"| seconds an episode, 1,024 / 64 | {r['shape']} | {r['ratio']:.2f} | 1.1 at most | | | | |")
            continue
        lines.append(
            f"| {r['row']}: {r['peer']} | {r['shape']} | {r['ratio']:.1f} | {r['at_least']:g} "
            f"| {r['ours']:.3g} {r['unit']} | {r['theirs']:.3g} | {r['share_of_floor']:.0%} "
            f"| {r['peak_mib'][0]:,.0f} / {r['peak_mib'][1]:,.0f} |"
        )
    return "\n".join(lines)


def keep(facts: dict[str, Any], out: Path) -> None:
    """Write what there is so far."""
    facts["load_after"] = os.getloadavg()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="heedful beside transformers and TRL")
    parser.add_argument("--shapes", nargs="+", choices=list(work.SHAPES),
        default=["T", "S"] if work.DEVICE == "cpu" else ["T", "S", "L"])  # fmt: skip
    parser.add_argument("--rows", nargs="+", help="default: all, and of S and L all but growth (a quarter of an hour)")
    parser.add_argument("--repetitions", type=int, default=0, help="0: three on S and L, else five")
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 8))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work.torch.set_num_threads(options.threads)
    rates = {False: work.matmul_rate()} | ({True: work.matmul_rate(work.torch.bfloat16)} if has_bfloat16() else {})
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    today = datetime.date.today().isoformat()
    facts: dict[str, Any] = {
        "date": today, "machine": machine(), "threads": options.threads, "commit": commit.strip(),
        "command": "python benchmarks/speed " + " ".join(sys.argv[1:]), "matmul_gflops": rates[False] / 1e9,
        "matmul_gflops_bfloat16": rates.get(True, 0.0) / 1e9,
        "torch": work.torch.__version__, "peers": {"transformers": TRANSFORMERS, "trl": TRL, "trl_ppo": PPO},
        "load_before": os.getloadavg(), "logprobs_apart": {}, "rows": [],
    }  # fmt: skip
    named = f"{facts['machine']} {options.threads} threads {' '.join(options.shapes)}".lower()
    slug = re.sub("[^a-z0-9]+", "-", named).strip("-")
    out = options.out or ROOT / "benchmarks" / "results" / f"{today}-{slug}.json"
    for shape in options.shapes:
        repetitions = options.repetitions or (3 if shape in ("S", "L") else 5)
        facts["logprobs_apart"][shape] = logprobs_apart(shape, options.threads)
        for row in ROWS:
            if row.name in (options.rows or [row.name]) and work.is_bfloat16(row.name) in rates:
                rate = rates[work.is_bfloat16(row.name)]
                facts["rows"].append(measure(row, shape, repetitions, options.threads, rate))
                keep(facts, out)
                print(table(facts["rows"]).splitlines()[-1], file=sys.stderr, flush=True)
        if "growth" in (options.rows or ["growth"] * (shape not in ("S", "L"))):
            facts["rows"].append(growth(shape, max(1, repetitions // 2), options.threads))
            keep(facts, out)
    rates_told = " and ".join(f"{rate / 1e9:,.0f}" for rate in rates.values())
    print(f"{facts['machine']}; {rates_told} GFLOP/s in a linear layer, {options.threads} threads\n")
    print(table(facts["rows"]))


if __name__ == "__main__":
    main()
