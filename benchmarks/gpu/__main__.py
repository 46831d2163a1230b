"""The table of speed on a GPU, made unattended in parts of at most 9 minutes, the most telling first.

    python benchmarks/gpu --out build/gpu                       # all parts. The same command skips those that are done
    python benchmarks/gpu --out build/gpu --minutes 25          # those that matter most, within 25 minutes
    python benchmarks/gpu --out build/gpu --peer /opt/trl/bin/python --peer-ppo /opt/trl-ppo/bin/python
    python benchmarks/gpu --out build/gpu --shapes tiny --rows sft_packed   # a try on a CPU

Each part is a row of `benchmarks/speed` for one shape, in processes of its own. It leaves OUT/SHAPE-ROW.json,
also where it failed, with the reason. Delete that file to try again. `--peer` names a Python with TRL, and `--peer-ppo`
one with a TRL that still has PPOTrainer. Without them the cells of the peers stay empty.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

SPEED = Path(__file__).resolve().parent.parent / "speed"
sys.path.insert(0, str(SPEED))
import work  # noqa: E402

SECONDS = 540
"""Most of one part."""
ROWS = (
    "sft_packed_bf16", "ppo_1_bf16", "rollout_fixed_bf16", "sft_packed_compiled_bf16", "sft_packed_liger_bf16",
    "sft_packed_compiled_liger_bf16", "sft_padded_bf16", "rollout_mixed", "reward_2", "reward_9",
)  # fmt: skip
OURS_ALONE = ("compiled", "liger")
"""Settings of ours in names of rows. The peer's figure is in the row without them."""
SHAPES = ("llama-3.2-1b", "qwen3-0.6b", "S")


def speed() -> ModuleType:
    """`benchmarks/speed/__main__.py` as a module."""
    spec = importlib.util.spec_from_file_location("speed_main", SPEED / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def part(row: str, shape: str, repetitions: int, peer: str | None, out: Path) -> dict[str, Any]:
    """Measure one row, turn by turn with the peer where there is one."""
    main, place = speed(), out / "models" / shape
    work.prepare(shape, place)
    threads = work.torch.get_num_threads()
    sides = [main.Side(Path(sys.executable), "ours.py", row, shape, place, threads)]
    if peer is not None:
        sides.append(main.Side(Path(peer), "peers.py", row, shape, place, threads))
    turns = main.take_turns(sides, repetitions)
    for side in sides:
        side.close()
    seconds = [[turn[number]["seconds"] for turn in turns[1:]] for number in range(len(sides))]
    units, unit = work.amount(row, shape)
    rate = work.matmul_rate(work.torch.bfloat16 if work.is_bfloat16(row) else work.torch.float32)
    best = statistics.median(seconds[0])
    found = {
        "ours": units / best, "unit": unit, "share_of_matmul": work.floor(row, shape) / best / rate,
        "matmul_tflops": rate / 1e12, "peak_mib": turns[-1][0]["peak_mib"], "seconds": seconds,
        "device": main.machine(), "torch": work.torch.__version__,
    }  # fmt: skip
    if peer is not None:
        pairs = zip(*seconds, strict=True)
        found["theirs"] = units / statistics.median(seconds[1])
        found["ratio"] = statistics.median(theirs / mine for mine, theirs in pairs)
        found["peer_peak_mib"] = turns[-1][1]["peak_mib"]
    return found


def run(row: str, shape: str, given: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """The part in a process of its own, so that a crash or the end of its time costs this row alone."""
    peer = given.peer_ppo if row.startswith("ppo") else given.peer
    if any(setting in row for setting in OURS_ALONE):
        peer = None
    command = [sys.executable, str(Path(__file__).parent), "--out", str(given.out), "--part", shape, row]
    command += ["--repetitions", str(given.repetitions), *(["--peer", peer] if peer else [])]
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        kill_all(process)
        return {"error": f"not done within {seconds:.0f} s"}
    except BaseException:
        kill_all(process)
        raise
    if process.returncode:
        lines = errors.strip().splitlines() or [f"ended with {process.returncode}"]
        return {"error": lines[-1][:300]}
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found | {"minutes": round((time.monotonic() - began) / 60, 2)}


def kill_all(process: subprocess.Popen[str]) -> None:
    """End a part with the sides that it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """A row for each part. What could not be measured stays empty, with the reason."""
    lines = ["| part | ours | TRL | ratio | share of the matmul rate | MiB ours / TRL | note |", "|" + " --- |" * 7]
    for name, one in found.items():
        if "error" in one:
            lines.append(f"| {name} | | | | | | {one['error']} |")
            continue
        theirs = f"{one['theirs']:.3g} | {one['ratio']:.2f}" if "theirs" in one else "|"
        peak = f"{one['peak_mib']:,.0f} / " + (f"{one['peer_peak_mib']:,.0f}" if "theirs" in one else "")
        lines.append(
            f"| {name} | {one['ours']:.3g} {one['unit']} | {theirs} | {one['share_of_matmul']:.0%} | {peak} | |"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are not done, in order."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--shapes", nargs="+", choices=list(work.SHAPES), default=list(SHAPES))
    options.add_argument("--rows", nargs="+", default=list(ROWS))
    options.add_argument("--repetitions", type=int, default=3)
    options.add_argument("--minutes", type=float, default=24 * 60, help="begin no part that may end after these")
    options.add_argument("--peer", metavar="PYTHON", help="with TRL")
    options.add_argument("--peer-ppo", metavar="PYTHON", help="with a TRL that has PPOTrainer")
    options.add_argument("--part", nargs=2, metavar=("SHAPE", "ROW"), help="measure this alone and print its JSON")
    given = options.parse_args(arguments)
    if given.part:
        shape, row = given.part
        print(json.dumps(part(row, shape, given.repetitions, given.peer, given.out)))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    found, end = {}, time.monotonic() + 60 * given.minutes
    for shape in given.shapes:
        for row in given.rows:
            name, left = f"{shape}-{row}", end - time.monotonic()
            file = given.out / f"{name}.json"
            if not file.exists():
                if left < 30:
                    continue
                print(f"{name} ...", file=sys.stderr, flush=True)
                file.write_text(json.dumps(run(row, shape, given, min(SECONDS, left)), indent=1) + "\n")
            found[name] = json.loads(file.read_text())
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
