"""Tiny data, tiny models and tiny configs of every training stage."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

import tiny
from heedful.config import build
from heedful.configs import registry
from heedful.models import load
from heedful.runs.run import metrics
from heedful.training import checkpoint

WORDS = "red blue green dog cat tree house river stone bread apple miller wind seven".split()
ONLINE = ("ppo", "rloo", "grpo")


@dataclasses.dataclass(frozen=True)
class Files:
    """Paths of one tiny world."""

    root: Path

    def __getattr__(self, name: str) -> str:
        found = sorted(self.root.glob(f"{name}*"))
        if not found:
            raise AttributeError(name)
        return str(found[0])


def make(root: Path) -> Files:
    """Texts, demonstrations, rankings, prompts; a policy (`policy`) and a reward model (`judge`)."""
    root.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    write(root / "texts.jsonl", ({"text": " ".join(draw.choices(WORDS, k=draw.randint(5, 60)))} for _ in range(60)))
    write(root / "demos.jsonl", demonstrations(24))
    write(root / "rankings.jsonl", rankings(24))
    write(
        root / "prompts.jsonl",
        ({"prompt": f"Say {draw.choice(WORDS)} " * draw.randint(1, 3) + str(i)} for i in range(20)),
    )
    save(root / "policy", tiny.policy())
    for family in ("gpt2", "llama"):
        save(root / f"policy-{family}", tiny.policy(family))
    save(root / "judge", tiny.reward(seed=1))
    return Files(root)


def demonstrations(count: int) -> list[dict[str, Any]]:
    """Ragged prompts and answers."""
    draw = random.Random(1)
    return [
        {"prompt": f"Say {word} {'please ' * draw.randint(0, 4)}{i}", "completion": f"{word} " * draw.randint(1, 6)}
        for i, word in enumerate(draw.choices(WORDS, k=count))
    ]


def rankings(count: int, sizes: Iterable[int] = (2, 3, 4)) -> list[dict[str, Any]]:
    """Rankings with and without ties; three labelers in two groups."""
    draw, sizes, rows = random.Random(2), list(sizes), []
    for i in range(count):
        K = sizes[i % len(sizes)]
        tiers: list[list[int]] = [[0]]
        for k in range(1, K):
            tiers[-1].append(k) if k > 1 and draw.random() < 0.3 else tiers.append([k])
        completions = [" ".join(draw.choices(WORDS, k=draw.randint(1, 8))) for _ in range(K)]
        labeler = {"labeler": f"l{i % 3}", "group": "ab"[i % 2]}
        rows.append({"prompt": f"Say something {i}", "completions": completions, "ranking": tiers, **labeler})
    return rows


def texts(files: Files) -> list[str]:
    return [json.loads(line)["text"] for line in Path(files.texts).read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def save(path: Path, model: Any, tokenizer: Any = None) -> str:
    load.save(model, tokenizer or tiny.tokenizer(), path)
    return str(path)


def config(stage: str, files: Files, **changes: Any) -> Any:
    """A small config of a stage; sections in `changes` are merged into its own."""
    values = _SMALL[stage](files)
    for key, value in changes.items():
        values[key] = values[key] | value if isinstance(value, dict) and key in values else value
    return build(registry.stages()[stage].config, values, "the test")


_SMALL: dict[str, Callable[[Files], dict[str, Any]]] = {
    "pretrain": lambda files: {
        "data": files.texts, "depth": 1, "vocab_size": 300, "context": 16, "tokens": 6 * 64, "batch_tokens": 64,
        "optimiser": {"lr": 1e-3, "warmup": 1}, "checkpoint": {"every": 2},
    },
    "sft": lambda files: {
        "model": files.policy, "data": files.demos, "pretrain_data": files.texts,
        "epochs": 2, "batch": 8, "dropout": 0.0,
        "optimiser": {"lr": 1e-3}, "checkpoint": {"every": 2},
    },
    "reward": lambda files: {
        "model": files.policy, "data": files.rankings, "demonstrations": files.demos,
        "valid_fraction": 0.2, "epochs": 2, "batch": 6,
        "optimiser": {"lr": 1e-3}, "checkpoint": {"every": 2},
    },
    "ppo": lambda files: _online(files) | {"value_optimiser": {"lr": 1e-3, "schedule": "constant"}},
    "rloo": lambda files: _online(files) | {"samples_per_prompt": 2},
    "grpo": lambda files: _online(files) | {"samples_per_prompt": 4},
}  # fmt: skip

STAGES = tuple(_SMALL)


def _online(files: Files) -> dict[str, Any]:
    return {
        "policy": files.policy, "reward": [files.judge], "prompts": files.prompts, "pretrain_data": files.texts,
        "episodes": 32, "rollout_batch": 8, "minibatch": 4, "ptx_coef": 0.5, "ptx_ratio": 0.5, "ptx_tokens": 16,
        "max_prompt_tokens": 60, "generation": {"max_new_tokens": 12},
        "optimiser": {"lr": 1e-3, "schedule": "constant", "warmup": 0},
        "checkpoint": {"every": 2},
    }  # fmt: skip


def train(stage: str, files: Files, out: str | Path, *, resume: bool = False, **changes: Any) -> Path:
    """Run a stage on its small config."""
    return registry.stages()[stage].run(config(stage, files, **changes), out, resume=resume)


def count_e(prompts: list[Any], completions: list[str]) -> list[float]:
    """A reward: how many of the characters are an e."""
    return [completion.count("e") / max(1, len(completion)) for completion in completions]


def hashes(run: Path) -> dict[str, str]:
    """Content of model/, file by file."""
    files = sorted(path for path in (run / "model").rglob("*") if path.is_file())
    assert any(path.suffix == ".safetensors" for path in files)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def parallel_case(case: str, files: Files, out: Path, *, resume: bool = False, **changes: Any) -> Path:
    """One run for the comparison of ranks: ragged rows, no dropout, a rate of 1e-3, several parts for every rank.

    GPT-2 takes padded rows in online stages. Packed, more ranks cut finer, and its bias of attention keys, whose true
    gradient is 0, would follow the rounding. Adam's epsilon is larger there, because the gradient of a single weight
    may cancel to almost 0, and Adam would turn its rounding into a step.
    """
    stage, family, seed, ahead = [*case.split("-"), "0", "0"][:4]
    fast = not (family == "gpt2" and stage in ONLINE)
    compute = {"micro_tokens": 16 if stage == "pretrain" else 64, "fast": fast}
    changes["compute"] = compute | changes.get("compute", {})
    if stage != "pretrain":
        changes["policy" if stage in ONLINE else "model"] = str(files.root / f"policy-{family}")
    if stage in ONLINE:
        changes["ahead"] = int(ahead)
        changes |= {"generation": {"max_rows": 3}, "ema_decay": 0.5, "checkpoint": {"every": 1, "keep": 9}}
        adam = {"lr": 1e-3, "schedule": "constant", "eps": 1e-6}
        changes["optimiser"] = {**adam, "warmup": 0} | changes.get("optimiser", {})
        changes |= {"value_optimiser": adam | changes.get("value_optimiser", {})} if stage == "ppo" else {}
    return train(stage, files, out / case, resume=resume, **{"seed": int(seed), **changes})


def disagreements(one: Path, other: Path, atol: float = 1e-5, step: int | None = None) -> list[str]:
    """What differs between two runs: logged figures, and weights of models and checkpoints beyond `atol`.

    `step`: look at that one alone, and at the moments of Adam, too. They show each gradient before epsilon divides it.
    """
    found = []
    rows = [(a, b) for a, b in zip(metrics(one), metrics(other), strict=step is None) if step in (None, a["step"])]
    assert rows
    for a, b in rows:
        assert a.keys() == b.keys()
        found += [key for key in a if abs(a[key] - b[key]) > atol * max(1.0, abs(a[key]))]
    folder = one if step is None else checkpoint.at(one / "checkpoints", step + 1)
    weights = [
        path.relative_to(one)
        for path in folder.rglob("*.safetensors")
        if step is not None or "optimiser" not in path.name
    ]
    assert len(weights) > (2 if step is None else 0)
    for file in weights:
        a, b = load_file(one / file), load_file(other / file)
        found += [f"{file}: {name}" for name in a if (a[name] - b[name]).abs().max() > atol]
    return found


def no_number(prompts: list[Any], completions: list[str]) -> list[float]:
    """A reward that fails."""
    return [float("nan") for _ in completions]
