"""Plant mistakes in a copy of the code and list those that no test finds.

    .venv/bin/python scripts/mutants.py [--only WORD] [--workers N] [--list]

The sample is fixed: typical mistakes of RLHF, written down below, and some that a seed draws from the core
(comparisons, operators, conditions). Each runs the narrow tests of its module in a copy of src. After 28 minutes the
rest is named as not tried. `--only` takes the mistakes whose name contains the word, such as `learning/`. `--list` runs
nothing.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ROOT / "src" / "heedful"
SECONDS, EACH, SEED = 28 * 60, 240, 0
ONLINE = tuple(f"tests/stages/test_{name}.py" for name in ("ppo_experience", "ppo_update", "iterations", "groups"))
TURNS, QUEUE = (
    ("tests/stages/test_iterations.py",),
    ("tests/feedback/test_assignment.py", "tests/feedback/test_work.py"),
)
MATHS, SIGNS = ("tests/maths",), ("tests/learning/test_signs.py",)
OPTIM = ("tests/training/test_optimiser.py", "tests/training/test_metrics.py", "tests/training/test_parallel.py")
DRAWN: dict[str, tuple[int, tuple[str, ...]]] = {
    "maths/advantages.py": (6, MATHS),
    "maths/kl.py": (4, MATHS),
    "maths/losses.py": (8, MATHS),
    "maths/schedules.py": (3, MATHS),
    "maths/statistics.py": (5, MATHS),
    "learning/signs.py": (8, SIGNS),
    "learning/groups.py": (2, ONLINE),
    "learning/steps.py": (3, ONLINE),
    "learning/experience.py": (3, ("tests/stages/test_ppo_experience.py", "tests/stages/test_ahead.py")),
    "stages/ppo.py": (3, ONLINE),
    "training/optimiser.py": (3, OPTIM),
}
"""How many mistakes a module gets, and the tests that ought to find them."""
PLANTED: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("maths/advantages.py", "deltas_BT[:, :-1] += gamma * values_BT[:, 1:]", "deltas_BT += gamma * values_BT", MATHS),
    ("maths/advantages.py", "delta_B + gamma * lam * advantage_B", "delta_B + lam * advantage_B", MATHS),
    ("maths/advantages.py", "advantages_BT, advantages_BT + values_BT", "advantages_BT, rewards_BT", MATHS),
    ("maths/advantages.py", "/ (K - 1)\n", "/ K\n", MATHS),
    ("maths/advantages.py", "mean = x_BT.sum() / count.clamp(min=1)", "mean = x_BT.mean()", MATHS),
    ("maths/losses.py", "torch.maximum(unclipped_BT, clipped_BT)", "torch.minimum(unclipped_BT, clipped_BT)", MATHS),
    ("maths/losses.py", "ratio_BT.clamp(1 - clip, 1 + clip)", "ratio_BT.clamp(max=1 + clip)", MATHS),
    ("maths/kl.py", "return logprobs - ref_logprobs\n", "return ref_logprobs - logprobs\n", MATHS),
    ("maths/kl.py", "torch.expm1(log_ratio) - log_ratio", "torch.expm1(log_ratio) + log_ratio", MATHS),
    ("maths/kl.py", "steps_T == lengths_B[:, None] - 1", "steps_T == mask_BT.shape[1] - 1", MATHS),
    ("maths/logprobs.py", "prompt_lengths_B[:, None] - 1 + steps_T", "prompt_lengths_B[:, None] + steps_T", MATHS),
    ("learning/ahead.py", "asked, *how, step, self.ranks)", "asked, *how, 0, self.ranks)", ONLINE),
    ("stages/ppo.py", "shaped_rewards(scores.total_B,", "shaped_rewards(scores.raw_B,", ONLINE),
    ("stages/ppo.py", "return whiten(advantages_BT, mask_BT), returns_BT", "return advantages_BT, returns_BT", ONLINE),
    ("stages/ppo.py", "whiten(rewards_BT, mask_BT, shift_mean=False)", "whiten(rewards_BT, mask_BT)", ONLINE),
    ("stages/ppo.py", "nets.reference, episodes, temperature", "nets.policy, episodes, temperature", ONLINE),
    ("stages/ppo.py", "temperature=config.generation.temperature, lr", "temperature=1.0, lr",
     ("tests/stages/test_ppo_update.py",)),
    ("learning/online.py", "number = step * updates + update", "number = update", ONLINE),
    ("learning/online.py", 's.facts.get("kl_coef", config.kl_coef)', "config.kl_coef", ONLINE),
    ("learning/online.py", "load_weights(self.nets.policy, step)", "load_weights(self.nets.reference, step)", ONLINE),
    ("learning/steps.py", "optim.learning_rate(self.settings, step, total, first=0.1)", "self.settings.lr", ONLINE),
    ("learning/experience.py", "float(kl_B.mean())", "float(e.kl_BT.mean())", ONLINE),
    ("stages/reward.py", "scores_B.double().sum(), counts * len(chosen)", "scores_B.double().mean(), counts", TURNS),
    ("learning/steps.py", "minibatch.tokens, value)", "minibatch.tokens / len(minibatch.passes), value)", TURNS),
    ("learning/steps.py", "counts / minibatch.tokens, value)", "counts / real, value)", TURNS),
    ("models/heads.py", " / (weight.shape[1] + 1) ** 0.5", " * 0.02", TURNS),
    ("configs/online.py", "self.episodes // self.rollout_batch", "self.episodes * self.rollout_batch", TURNS),
    ("stages/sft.py", "return float(total_B.mean())", "return float(total_B.sum())", TURNS),
    ("stages/sft.py", "if (step + 1) % every == 0 or step + 1 == total:", "if (step + 1) % every == 0:", TURNS),
    ("stages/reward.py", "((step + 1) % every == 0 or step + 1 == total)", "((step + 1) % every == 0)", TURNS),
    ("feedback/assignment.py", "if expired:\n        assignment.expires = end", "if expired:\n        end", QUEUE),
    ("learning/signs.py", "max(kl) < -0.05", "min(kl) < -0.05", SIGNS),
    ("learning/signs.py", "recent < finished[0] - 0.2", "recent < finished[0]", SIGNS),
    ("learning/signs.py", "statistics.median(losses[:-1])", "statistics.median(losses)", SIGNS),
    ("learning/signs.py", "max(explained) <= 0", "min(explained) <= 0", SIGNS),
    ("learning/signs.py", "entropy[-1] < 0.2 * entropy[0]", "entropy[-1] < 0.2", SIGNS),
    ("learning/signs.py", "statistics.fmean(loss[:3]) + 0.1", "statistics.fmean(loss[:3])", SIGNS),
]  # fmt: skip
"""Module, text, mistake, tests."""
BROKEN = "raise RuntimeError\n"
COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
CALCULATED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}


@dataclass(frozen=True)
class Mistake:
    name: str
    module: str
    code: str
    """The whole module with the mistake."""
    tests: tuple[str, ...]


def planted() -> list[Mistake]:
    """The mistakes that are written down. AssertionError if the code no longer has the text of one, or has it twice."""
    found = []
    for module, text, mistake, tests in PLANTED:
        code = (CODE / module).read_text(encoding="utf-8")
        assert code.count(text) == 1, f"{module} has {code.count(text)} times: {text}"
        line = code[: code.index(text)].count("\n") + 1
        found.append(Mistake(f"{module}:{line}: {mistake.strip()}", module, code.replace(text, mistake), tests))
    return found


def drawn() -> list[Mistake]:
    """The mistakes that the seed draws."""
    found = []
    for module, (count, tests) in DRAWN.items():
        code = (CODE / module).read_text(encoding="utf-8")
        places = [node for node in ast.walk(ast.parse(code)) if _changed(node) is not None]
        for node in random.Random(f"{SEED}/{module}").sample(places, min(count, len(places))):
            new = _changed(node)
            assert new is not None
            lines = code.splitlines(keepends=True)
            start = sum(len(line.encode()) for line in lines[: node.lineno - 1]) + node.col_offset
            stop = sum(len(line.encode()) for line in lines[: node.end_lineno - 1]) + node.end_col_offset
            raw = code.encode()
            name = f"{module}:{node.lineno}: {raw[start:stop].decode()} -> {new}"
            found.append(
                Mistake(" ".join(name.split()), module, (raw[:start] + new.encode() + raw[stop:]).decode(), tests)
            )
    return found


def _changed(node: ast.AST) -> str | None:
    """An expression with one mistake, or None if it is of another kind."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARED:
        return ast.unparse(ast.Compare(node.left, [COMPARED[type(node.ops[0])]()], node.comparators)).join("()")
    if isinstance(node, ast.BinOp) and type(node.op) in CALCULATED and not _is_text(node):
        return ast.unparse(ast.BinOp(node.left, CALCULATED[type(node.op)](), node.right)).join("()")
    if isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return ast.unparse(ast.BoolOp(other, node.values)).join("()")
    return None


def _is_text(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Constant | ast.JoinedStr) and isinstance(getattr(one, "value", ""), str)
               for one in ast.walk(node))  # fmt: skip


class Copies:
    """Copies of the code in which one mistake at a time is planted."""

    def __init__(self, folder: Path, count: int) -> None:
        self.free = [folder / str(number) for number in range(count)]
        for place in self.free:
            for part in ("src", "tests", "benchmarks"):
                shutil.copytree(ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            shutil.copy(ROOT / "pyproject.toml", place)

    def survives(self, module: str, code: str | None, tests: tuple[str, ...]) -> bool:
        """Whether the tests pass with this code of the module."""
        place = self.free.pop()
        path = place / "src" / "heedful" / module
        right = path.read_text(encoding="utf-8")
        try:
            path.write_text(right if code is None else code, encoding="utf-8")
            environment = os.environ | {
                "PYTHONPATH": os.pathsep.join([str(place / "src"), str(place / "tests")]), "OMP_NUM_THREADS": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
            }  # fmt: skip
            command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", *tests]
            done = subprocess.run(
                command, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=EACH
            )
            return done.returncode == 0
        except subprocess.TimeoutExpired:
            return False  # a loop without an end is found, too
        finally:
            path.write_text(right, encoding="utf-8")
            self.free.append(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--workers", type=int, default=max(1, min(8, os.cpu_count() or 2)))
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    mistakes = [mistake for mistake in [*planted(), *drawn()] if given.only in mistake.name]
    if given.list:
        print("\n".join(mistake.name for mistake in mistakes))
        return
    began, workers = time.monotonic(), given.workers
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        copies = Copies(Path(folder), workers)

        def tried(mistake: Mistake) -> bool | None:
            late = time.monotonic() - began > SECONDS
            return None if late else copies.survives(mistake.module, mistake.code, mistake.tests)

        right = {mistake.tests: mistake.module for mistake in mistakes}
        for code, wanted, said in ((None, True, "the right code does not pass"), (BROKEN, False, "no code is run by")):
            passed = pool.map(lambda tests, code=code: copies.survives(right[tests], code, tests), right)
            if wrong := [tests for tests, passes in zip(right, passed, strict=True) if passes is not wanted]:
                sys.exit(f"{said} {' '.join(wrong[0])}")
        results = list(zip(mistakes, pool.map(tried, mistakes), strict=True))
    for mistake, survived in results:
        if survived or survived is None:
            print(f"{'survives' if survived else 'not tried'}: {mistake.name}")
    count = {state: sum(result is state for _, result in results) for state in (False, True, None)}
    print(f"{count[False]} of {len(results)} mistakes found, {count[True]} survive, {count[None]} not tried")
    print(f"{time.monotonic() - began:.0f} seconds")
    sys.exit(1 if count[True] else 0)


if __name__ == "__main__":
    main()
