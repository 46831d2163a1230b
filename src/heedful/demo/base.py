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
LARGEST = 8 * 2**20  # bytes of the weights in the package
# How the models of the demo read a prompt: a blank line follows it, then the answer. They answer one prompt.
CHAT_TEMPLATE = (
    "{% if messages | length > 2 %}{{ raise_exception('the model answers one prompt, without earlier turns') }}"
    "{% endif %}"
    "{% for message in messages %}{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n\\n' }}{% endif %}{% endfor %}"
)


class Webs(Config):
    """Which texts the base model reads."""

    worlds: int
    documents: int
    held_out_worlds: int


def make(out: Path, *, seed: int = 1, minutes: float = 30.0, settings: Path = SETTINGS) -> Path:
    """Start or continue the base model under `out`, for so many minutes. Returns the finished folder `out`/base.

    Raises Interrupted if more parts are left.
    """
    read = tomllib.loads(settings.read_text(encoding="utf-8"))
    webs = build(Webs, read["webs"], f"{settings.name}, [webs]")
    texts, held_out = write_webs(out, webs)
    config = build(
        PretrainConfig, {**read["pretrain"], "data": str(texts), "valid_data": str(held_out), "seed": seed},
        f"{settings.name}, [pretrain]",
    )  # fmt: skip
    with _stopping_after(minutes):
        run = pretrain.train(config, out / "run", resume=True)
    if join_ranks(config.compute).main:
        package(run, out / "base", webs)
    return out / "base"


def write_webs(out: Path, webs: Webs) -> tuple[Path, Path]:
    """Write the texts to learn from and held-out texts of other worlds, unless an earlier part has."""
    texts, held_out = out / "webs.jsonl", out / "webs_held_out.jsonl"
    if not held_out.exists():
        formats.write(texts, list(generate.webs(FIRST_WORLD, webs.worlds, webs.documents)))
        others = generate.webs(FIRST_WORLD + webs.worlds, webs.held_out_worlds, webs.documents)
        formats.write(held_out, list(others))
    return texts, held_out


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


def package(run: Path, out: Path, webs: Webs) -> Path:
    """Write the model of a finished run in bfloat16, with a record of how it was made."""
    model, tokenizer = load.load_policy(run)
    load.save(model.to(torch.bfloat16), tokenizer, out)
    weights = out / "model.safetensors"
    if weights.stat().st_size > LARGEST:
        raise UserError(f"{weights}: {weights.stat().st_size:,} bytes. The package takes at most {LARGEST:,}")
    manifest = Run.open(run).manifest
    write_json(out / RECORD, {
        "seed": manifest.seed,
        "worlds": [FIRST_WORLD, FIRST_WORLD + webs.worlds - 1],
        "documents_of_each_world": webs.documents,
        "minutes": round(manifest.seconds / 60, 1),
        "settings": manifest.config,
        "data": {role: {"sha256": source["sha256"], "rows": source["rows"]} for role, source in manifest.data.items()},
        "results": manifest.results,
        "versions": manifest.versions,
        "weights_sha256": parent(out)["weights_sha256"],
    })  # fmt: skip
    return out


def record(folder: Path = SHIPPED) -> dict[str, Any]:
    """How a base model was made."""
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
    """`count` of the texts that a base model has read."""
    first, last = record(folder)["worlds"]
    each = record(folder)["documents_of_each_world"]
    return list(islice(generate.webs(first, last - first + 1, each), count))
