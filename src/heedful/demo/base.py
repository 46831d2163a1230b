"""The base model that comes with the package, and `heedful demo --make-base`, which makes it.

It is pretrained on the webs of thousands of worlds, each with its own names, places and facts. The worlds of demos
are never among them. The work is done in parts: each call goes on for half an hour and then stops at a checkpoint.
"""

from __future__ import annotations

import os
import signal
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from heedful.config import Config, UserError, build
from heedful.configs.pretrain import PretrainConfig
from heedful.data import formats
from heedful.data.records import Text
from heedful.files import read_json, replacing, write_json
from heedful.models import load
from heedful.runs.manifest import parent
from heedful.runs.run import Run
from heedful.sandbox import generate
from heedful.stages import pretrain
from heedful.training.parallel import join_ranks

SHIPPED = Path(__file__).with_name("base")
SETTINGS = Path(__file__).with_name("base.toml")
FIRST_WORLD = 2**31  # the demo's seeds end before it
RECORD = "record.json"
HELD_OUT, PHASES = "held_out", ("webs", "answers")
LARGEST = 8 * 2**20  # bytes of the weights in the package
# How the models of the demo read a prompt: a blank line follows it, then the answer. They answer one prompt.
CHAT_TEMPLATE = (
    "{% if messages | length > 2 %}{{ raise_exception('the model answers one prompt, without earlier turns') }}"
    "{% endif %}"
    "{% for message in messages %}{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n\\n' }}{% endif %}{% endfor %}"
)


class Texts(Config):
    """Which texts the base model reads in a phase, or is measured on."""

    first: int
    """First world, counted from FIRST_WORLD."""
    worlds: int
    documents: int
    """Of each world."""
    answer_pages: float | None = None
    """Share of the pages of questions and answers. None = that of every web."""
    train: dict[str, Any] = {}
    """Settings of `heedful pretrain`."""

    def draw(self) -> Iterator[Text]:
        return generate.webs(FIRST_WORLD + self.first, self.worlds, self.documents, self.answer_pages)


def make(out: Path, *, seed: int = 1, minutes: float = 30.0, settings: Path = SETTINGS) -> Path:
    """Start or continue the base model under `out`, for `minutes`. Returns the finished folder `out`/base.

    Raises Interrupted if more parts are left.
    """
    read = tomllib.loads(settings.read_text(encoding="utf-8"))
    texts = {name: build(Texts, read[name], f"{settings.name}, [{name}]") for name in (HELD_OUT, *PHASES)}
    before: dict[str, str] = {}
    with _stopping_after(minutes):
        held_out = _written(out, HELD_OUT, texts)
        for name in PHASES:
            inputs = {"data": _written(out, name, texts), "valid_data": held_out, "seed": seed, **before}
            config = build(PretrainConfig, {**texts[name].train, **inputs}, f"{settings.name}, [{name}.train]")
            before = {"model": str(pretrain.train(config, out / name, resume=True))}
    if join_ranks(config.compute).main:
        package(out, texts)
    return out / "base"


def _written(out: Path, name: str, texts: dict[str, Texts]) -> str:
    """The file of texts, written unless an earlier part has."""
    path = out / f"{name}.jsonl"
    if not path.exists():
        formats.write(path, list(texts[name].draw()))
    return str(path)


@contextmanager
def _stopping_after(minutes: float) -> Iterator[None]:
    """Send this process SIGTERM when the time is over. A stage then saves a checkpoint and stops."""
    timer = threading.Timer(60 * minutes, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def package(made: Path, texts: dict[str, Texts]) -> Path:
    """Write `made`/base: the model of the last phase in bfloat16, with a record of how it was made."""
    out, manifests = made / "base", {name: Run.open(made / name).manifest for name in PHASES}
    model, tokenizer = load.load_policy(made / PHASES[-1])
    load.save(model.to(torch.bfloat16), tokenizer, out)
    size = (out / "model.safetensors").stat().st_size
    if size > LARGEST:
        raise UserError(f"{out}: {size:,} bytes of weights. The package takes at most {LARGEST:,}")
    last = manifests[PHASES[-1]]
    write_json(out / RECORD, {
        "seed": last.seed,
        "first_world": FIRST_WORLD,
        "worlds": sum(texts[name].worlds for name in PHASES),
        "parameters": last.results["parameters"],
        "tokens": sum(manifest.results["tokens"] for manifest in manifests.values()),
        "minutes": round(sum(manifest.seconds for manifest in manifests.values()) / 60, 1),
        "valid_loss": last.results["valid_loss"],
        "weights_sha256": parent(out)["weights_sha256"],
        "texts": {name: texts[name].model_dump(exclude={"train"}) for name in texts},
        "phases": {
            name: {
                "minutes": round(manifest.seconds / 60, 1), "settings": manifest.config, "results": manifest.results,
                "data": {role: {"sha256": one["sha256"], "rows": one["rows"]} for role, one in manifest.data.items()},
                "versions": manifest.versions,
            }
            for name, manifest in manifests.items()
        },
    })  # fmt: skip
    return out


def record(folder: Path = SHIPPED) -> dict[str, Any]:
    """How a base model was made. Raises UserError for a folder without a record."""
    if not (folder / RECORD).is_file():
        raise UserError(f"{folder}: not a base model for demos (no {RECORD}). Make one with heedful demo --make-base")
    found: dict[str, Any] = read_json(folder / RECORD)
    return found


def unpack(folder: Path, out: Path) -> None:
    """Copy a base model in float32, the precision in which the demo trains, unless that is done."""
    if out.exists():
        return
    model, tokenizer = load.load_policy(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    with replacing(out) as temporary:
        load.save(model, tokenizer, temporary)
        write_json(temporary / RECORD, record(folder))


def texts(folder: Path, count: int) -> list[Text]:
    """`count` of the texts that a base model has read first."""
    return list(islice(build(Texts, record(folder)["texts"][PHASES[0]], RECORD).draw(), count))
