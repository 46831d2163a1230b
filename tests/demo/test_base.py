"""The base model of the demo: made in parts from many worlds, and packaged with a record that tells how."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tiny
from heedful.config import UserError, build
from heedful.configs.pretrain import PretrainConfig
from heedful.data import formats
from heedful.data.records import Message, Text
from heedful.demo import base, loop
from heedful.models import load, render, templates
from heedful.runs.resumable import Interrupted
from heedful.runs.run import Run
from heedful.sandbox import corpus
from heedful.sandbox.world import make_world

TINY = """
[held_out]
first = 4
worlds = 2
documents = 4

[webs]
first = 0
worlds = 4
documents = 4

[webs.train]
depth = 1
width = 64
vocab_size = 300
context = 64
batch_tokens = 256
tokens = 3000
optimiser = { lr = 2e-3, schedule = "stable", warmup = 2 }
checkpoint = { every = 2, keep = 1 }

[answers]
first = 6
worlds = 2
documents = 4
answer_pages = 0.9

[answers.train]
context = 64
batch_tokens = 256
tokens = 2500
optimiser = { lr = 1e-3, schedule = "linear" }
checkpoint = { every = 2, keep = 1 }
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "base.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base.make(tmp_path_factory.mktemp("whole"), seed=3, settings=settings)


@pytest.mark.medium
def test_parts_end_with_the_same_weights_as_one_call(
    settings: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Impatient(threading.Timer):
        """Fires when the run has made a step, whatever time it was given."""

        def run(self) -> None:
            asked.append(self.interval)
            before = steps()
            while not self.finished.is_set() and steps() == before:
                time.sleep(0.001)
            if not self.finished.is_set():
                self.function(*self.args)

    def steps() -> int:
        return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in tmp_path.glob("*/metrics.jsonl"))

    monkeypatch.setattr(base.threading, "Timer", Impatient)
    for _ in range(100):
        try:
            parted = base.make(tmp_path, seed=3, settings=settings)
            break
        except Interrupted:
            continue
    assert len(asked) >= 3
    assert set(asked) == {1800.0}
    ours, theirs = (load_file(path / "model.safetensors") for path in (parted, made))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.medium
def test_the_record_says_how_it_was_made(made: Path) -> None:
    kept = base.record(made)
    weights = made / "model.safetensors"
    assert kept["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert kept["seed"] == 3
    assert kept["worlds"] == 6
    assert kept["phases"]["webs"]["data"]["data"]["rows"] == 16
    assert kept["phases"]["answers"]["settings"]["tokens"] == 2500
    manifests = [Run.open(made.parent / name).manifest for name in ("webs", "answers")]
    assert kept["tokens"] == sum(manifest.results["tokens"] for manifest in manifests) >= 5000
    assert kept["valid_loss"] == manifests[1].results["valid_loss"]
    assert manifests[1].parents["model"]["run"] == manifests[0].id
    assert manifests[1].results["parameters"] == manifests[0].results["parameters"]


@pytest.mark.medium
def test_it_reads_the_webs_of_worlds_that_no_demo_has(made: Path) -> None:
    texts = [row.text for row in formats.read(str(made.parent / "webs.jsonl"), Text)]
    assert texts[4:8] == [text.text for text in corpus.documents(make_world(2**31 + 1), 4)]
    held_out = [row.text for row in formats.read(str(made.parent / "held_out.jsonl"), Text)]
    assert held_out[:4] == [text.text for text in corpus.documents(make_world(2**31 + 4), 4)]
    answers = [row.text for row in formats.read(str(made.parent / "answers.jsonl"), Text)]
    assert answers[4:] == [text.text for text in corpus.documents(make_world(2**31 + 7), 4, answer_pages=0.9)]
    assert [row.text for row in base.texts(made, 5)] == texts[:5]
    with pytest.raises(UserError, match="out of range"):
        loop.opened(made.parent / "demo", 2**31)


def test_weights_are_bfloat16_in_the_package_and_float32_in_a_demo(made: Path, tmp_path: Path) -> None:
    packed = load_file(made / "model.safetensors")
    assert {tensor.dtype for tensor in packed.values()} == {torch.bfloat16}
    base.unpack(made, tmp_path / "base")
    model, tokenizer = load.load_policy(tmp_path / "base")
    opened = load_file(tmp_path / "base" / "model.safetensors")
    assert {tensor.dtype for tensor in opened.values()} == {torch.float32}
    assert all(torch.equal(opened[name], packed[name].float()) for name in packed)
    assert tokenizer("Hello.").input_ids == load.load_policy(made)[1]("Hello.").input_ids
    assert model.config.vocab_size == len(tokenizer)


def test_weights_that_are_too_large_are_refused(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(base, "LARGEST", 1000)
    read = tomllib.loads(TINY)
    for name in base.PHASES:
        shutil.copytree(made.parent / name, tmp_path / name)
    with pytest.raises(UserError, match=r"at most 1,000"):
        base.package(tmp_path, {name: base.Texts(**read[name]) for name in read})
    with pytest.raises(UserError, match="not a base model for demos"):
        base.record(tmp_path / "webs")


def test_a_folder_keeps_its_seed_base_and_length(made: Path, tmp_path: Path) -> None:
    loop.opened(tmp_path / "demo", 4, base_model=made)
    assert loop.opened(tmp_path / "demo", 4, base_model=made).seed == 4
    assert (
        json.loads((tmp_path / "demo" / "world" / "demo.json").read_text())["base"]
        == base.record(made)["weights_sha256"]
    )
    for other in ({"quick": True}, {"from_scratch": True}):
        with pytest.raises(UserError, match="another seed, base model or length"):
            loop.opened(tmp_path / "demo", 4, base_model=made, **other)
    with pytest.raises(UserError, match="another seed"):
        loop.opened(tmp_path / "demo", 5, base_model=made)


def test_models_of_the_demo_read_a_prompt_and_a_blank_line(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = base.CHAT_TEMPLATE
    assert render.prompt_ids(tokenizer, "Say red") == render.encode(tokenizer, "Say red\n\n")
    asked, answered = render.answered(tokenizer, "Say red", "Red.")
    assert asked + answered == [*render.encode(tokenizer, "Say red\n\nRed."), tokenizer.eos_token_id]
    assert not templates.facts(tokenizer).turns
    with pytest.raises(UserError, match="the model answers one prompt, without earlier turns"):
        render.prompt_ids(tokenizer, [Message(role=role, content="Hm") for role in ("user", "assistant", "user")])  # type: ignore[arg-type]


def test_the_model_in_the_package_is_the_one_that_its_record_and_settings_name() -> None:
    kept, settings = base.record(), tomllib.loads(base.SETTINGS.read_text(encoding="utf-8"))
    weights = base.SHIPPED / "model.safetensors"
    assert kept["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert weights.stat().st_size <= 8 * 2**20
    assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.bfloat16}
    for name in base.PHASES:
        ran = kept["phases"][name]["settings"]
        asked = build(PretrainConfig, {**settings[name]["train"], "data": ran["data"]}, name).model_dump(mode="json")
        kept_then = (asked.keys() & ran.keys()) - {"data", "valid_data", "seed", "model", "compute", "checkpoint"}
        assert {key: ran[key] for key in kept_then} == {key: asked[key] for key in kept_then}
        assert kept["texts"][name] == base.Texts(**settings[name]).model_dump(exclude={"train"})
