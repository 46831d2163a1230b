"""A run whose files are damaged is refused in one line when it is resumed, never continued with other content."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heedful.config import UserError
from stages import worlds
from stages.test_resume import Crash, at_step, crash

Damage = Callable[[Path], Any]
STEP = "checkpoints/step-00000002"


@pytest.fixture(scope="module")
def begun(files: worlds.Files, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A run that crashed in its third step, made once."""
    folder = tmp_path_factory.mktemp("begun")

    def run(stage: str) -> Path:
        if not (folder / stage).exists():
            with contextlib.suppress(Crash), at_step(2, crash):
                worlds.train(stage, files, folder / stage)
        return folder / stage

    return run


def text(file: str, content: str) -> Damage:
    return lambda run: (run / file).write_text(content)


def manifest(**changes: Any) -> Damage:
    def damage(run: Path) -> None:
        (run / "manifest.json").write_text(json.dumps(json.loads((run / "manifest.json").read_text()) | changes))

    return damage


def folder_for(file: str) -> Damage:
    return lambda run: ((run / file).unlink(), (run / file).mkdir())


def file_for(folder: str) -> Damage:
    return lambda run: (shutil.rmtree(run / folder), (run / folder).write_text("x"))


def flipped(file: str, place: float = 0.5) -> Damage:
    """A bit of a file is another one, at `place` of its length."""

    def damage(run: Path) -> None:
        content = bytearray((run / file).read_bytes())
        content[int(len(content) * place)] ^= 1
        (run / file).write_bytes(content)

    return damage


def unchecked(content: str) -> Damage:
    """Other numbers in the state, without sums."""
    return lambda run: ((run / STEP / "SHA256SUMS").unlink(), (run / STEP / "state.json").write_text(content))


def from_the_future(run: Path) -> None:
    shutil.copytree(run / STEP, run / "checkpoints" / "step-00000099")
    (run / "checkpoints" / "step-00000099" / "SHA256SUMS").unlink()
    (run / "checkpoints" / "step-00000099" / "state.json").write_text('{"step": 99}')
    rows = [json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(99)]
    (run / "metrics.jsonl").write_text("".join(rows))


CASES: dict[str, tuple[str, Damage, str]] = {
    "a flipped bit in the weights": ("ppo", flipped(f"{STEP}/policy.safetensors"), "bytes are not those"),
    "a flipped bit in the optimiser": ("sft", flipped(f"{STEP}/optimiser.safetensors"), "bytes are not those"),
    "a flipped bit in the state": ("ppo", flipped(f"{STEP}/state.json"), "bytes are not those"),
    "a flipped bit in the tokenizer": ("pretrain", flipped("tokenizer/tokenizer.json"), "Delete .*tokenizer and use"),
    "no tokenizer file": ("pretrain", lambda run: (run / "tokenizer/tokenizer.json").unlink(), "lists other files"),
    "a tokenizer file for the folder": ("pretrain", file_for("tokenizer"), "tokenizer"),
    "a coefficient that is text": ("ppo", unchecked('{"step": 2, "kl_coef": "x"}'), "kl_coef"),
    "a state that is too deep": ("sft", unchecked("[" * 100_000), "damaged"),
    "a best step that is gone": ("sft", unchecked('{"step": 2, "best": {"step": 1, "value": 1.0}}'), "missing"),
    "a step after the end": ("sft", from_the_future, "step 99, but the run has 6"),
    "an empty checkpoint": ("sft", lambda run: (run / "checkpoints/step-00000009").mkdir(), "damaged"),
    "a file for a checkpoint": ("sft", text("checkpoints/step-00000009", "x"), "step-00000009"),
    "a file for the checkpoints": ("sft", file_for("checkpoints"), "checkpoints"),
    "no metrics": ("sft", lambda run: (run / "metrics.jsonl").unlink(), "lines before step 2 have changed"),
    "binary metrics": ("ppo", lambda run: (run / "metrics.jsonl").write_bytes(bytes(range(256))), "have changed"),
    "metrics without the first step": ("ppo", text("metrics.jsonl", '{"step": 1, "kl": 0.1}\n'), "have changed"),
    "metrics that are words": ("ppo", text("metrics.jsonl", '{"step": 0}\n{"step": 1, "kl": "x"}\n'), "have changed"),
    "metrics without a name that is read": ("ppo", text("metrics.jsonl", '{"step": 0}\n{"step": 1}\n'), "have changed"),
    "a folder for the metrics": ("sft", folder_for("metrics.jsonl"), "Is a directory"),
    "a folder for the config": ("sft", folder_for("config.json"), "Is a directory"),
    "a folder for the lock": ("sft", lambda run: (run / ".lock").mkdir(), "Is a directory"),
    "a manifest that is too deep": ("sft", text("manifest.json", "[" * 100_000), "damaged"),
    "a manifest cut short": ("sft", text("manifest.json", '{"id": "a'), "damaged"),
    "an empty config": ("pretrain", manifest(config={}), "another config"),
    "a section that is a list": ("sft", manifest(config={"optimiser": []}), "another config"),
    "parents that are a list": ("sft", manifest(parents=[]), "not the manifest of a run"),
    "resumptions that are text": ("sft", manifest(resumed="often"), "not the manifest of a run"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_one_line(files: worlds.Files, begun: Callable[[str], Path], tmp_path: Path, case: str) -> None:
    stage, damage, told = CASES[case]
    run = tmp_path / "run"
    shutil.copytree(begun(stage), run)
    damage(run)
    with pytest.raises(UserError, match=told) as refused:
        worlds.train(stage, files, run, resume=True)
    assert "\n" not in str(refused.value)
