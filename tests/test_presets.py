"""Presets are whole configs for their commands, and lie below the file and the options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heedful import cli
from heedful.cli import main
from heedful.commands.plans import config_of
from heedful.config import load
from heedful.configs import presets, registry
from heedful.options import settings
from heedful.planning import gpus, table

SECTIONS = [(name, command) for name in presets.names() for command in registry.stages() if command != "pretrain"]


@pytest.mark.parametrize(("name", "command"), SECTIONS)
def test_every_preset_is_a_config_of_every_stage(name: str, command: str) -> None:
    chosen = presets.read(name, command)
    config = registry.stages()[command].config
    needed = {one.path: ["x"] if one.path == "reward" else "x" for one in settings(config) if one.required}
    made = load(config, None, [], chosen, **{key: value for key, value in needed.items() if key not in chosen})
    for key, value in chosen.items():
        found: Any = getattr(made, key)
        for part, wanted in (value if isinstance(value, dict) else {"": value}).items():
            assert (getattr(found, part) if part else found) == wanted


STAGES = ("sft", "reward", "dpo", "ppo", "grpo")


def plan_rows() -> list[str]:
    """The table of docs/scale.md: each preset on one, two and eight cards of 80 GB. No model is loaded."""
    rows = ["| preset | " + " | ".join(STAGES) + " |", "| --- |" + " --- |" * len(STAGES)]
    for name in presets.names():
        cells = []
        for stage in STAGES:
            config = config_of(stage, ("--preset", name))
            _, found = table.columns(stage, config, (1, 2, 8), gpus.find("h100-80"))
            words = {"fits": "", "tight": " tight", "too small": " no"}
            cells.append(" / ".join(f"{one.needs.total / gpus.GIB:.0f}{words[one.verdict]}" for one in found))
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return rows


@pytest.mark.medium
def test_every_preset_is_planned_as_the_docs_say() -> None:
    page = (Path(__file__).parent.parent / "docs" / "scale.md").read_text("utf-8").splitlines()
    assert [row for row in plan_rows() if row not in page] == []


@pytest.mark.medium
def test_every_stage_of_every_preset_fits_eight_cards() -> None:
    cells = [cell for row in plan_rows()[2:] for cell in row.strip("| ").split(" | ")[1:]]
    assert len(cells) == len(STAGES) * len(presets.names())
    assert [cell for cell in cells if cell.split(" / ")[2].endswith("no")] == []


def _settings_of(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    found: list[Any] = []
    monkeypatch.setattr(cli.app.commands["sft"], "callback", lambda settings, **_: found.append(settings))
    with pytest.raises(SystemExit) as end:
        main(["sft", "--data", "d.jsonl", "--out", "run", *arguments])
    assert not end.value.code
    return found[0]


def test_file_and_options_replace_a_preset_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sft.toml"
    file.write_text("epochs = 5\n[optimiser]\nlr = 1e-3\n", encoding="utf-8")
    made = _settings_of(monkeypatch, "--preset", "qwen3-0.6b", "--config", str(file), "--optimiser.warmup", "7")
    assert (made.model, made.batch, made.epochs) == ("Qwen/Qwen3-0.6B-Base", 32, 5)
    assert (made.optimiser.lr, made.optimiser.clip_norm, made.optimiser.warmup) == (1e-3, 1.0, 7)
    assert made.compute.dtype == "bfloat16"
    assert _settings_of(monkeypatch, "--model", "mine", "--preset", "qwen3-0.6b").model == "mine"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            "sft --preset big --data d --out r",
            "--preset big: no such preset. Choose from llama-3.1-8b, ",
        ),
        ("pretrain --preset qwen3-0.6b --data d --out r", "--preset qwen3-0.6b: has no settings for heedful pretrain"),
    ],
)
def test_a_preset_that_does_not_fit_is_named(command: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(command.split())
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(said)
