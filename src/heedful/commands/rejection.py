"""`heedful rejection`: best of n, then SFT on the best answers. A baseline for PPO on the same reward."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful import terminal
from heedful.commands.base import AS_JSON, RESUME, TRAIN, command, option
from heedful.errors import UserError
from heedful.headings import RUN

if TYPE_CHECKING:
    from heedful.configs.rejection import RejectionConfig

BEST, CHOSEN, TRAINED = "best.jsonl", "chosen.jsonl", "sft"


def train(config: RejectionConfig, out: str | Path, *, resume: bool = False) -> dict[str, Any]:
    """Choose the best of n answers to each prompt, fine-tune the model on them, and return the results.

    OUT/best.jsonl holds the choice, OUT/chosen.jsonl the demonstrations, OUT/sft the run. Answers that the length limit
    cut off are left out: as demonstrations they would teach the model to end in the middle. So are empty ones.
    """
    from heedful.config import build
    from heedful.configs.best_of_n import BestOfNConfig
    from heedful.configs.sft import SFTConfig
    from heedful.inference import best_of_n
    from heedful.runs.run import Run
    from heedful.stages import sft

    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: a file. Choose another --out")
    if not resume and out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: not empty. Continue with --resume, or choose another --out")
    _check_splits(config.data)
    out.mkdir(parents=True, exist_ok=True)
    given = config.model_dump()
    shared = {name: given[name] for name in BestOfNConfig.model_fields if name in given}
    for name in ("activation_checkpointing", "shard", "compile", "liger"):  # of training
        shared["compute"].pop(name)
    best = build(BestOfNConfig, {**shared, "prompts": config.data}, "rejection")
    best_of_n.run(best, out / BEST, resume=True)
    counts = _choose(out)
    own = {name: given[name] for name in SFTConfig.model_fields if name in given}
    sft.train(build(SFTConfig, {**own, "data": str(out / CHOSEN)}, "rejection"), out / TRAINED, resume=True)
    results = Run.open(out / TRAINED).manifest.results
    return {**counts, "model": str(out / TRAINED), **results}


def _check_splits(path: str) -> None:
    """Raise UserError, before anything is sampled, if no prompt is left to train on."""
    from heedful.data import formats
    from heedful.data.records import Prompt

    if all(prompt.split in ("valid", "test") for prompt in formats.read(path, Prompt, remarks=False)):
        raise UserError(
            f"{path}: every prompt has split valid or test, so none is left to train on. Give other prompts"
        )


def _choose(out: Path) -> dict[str, Any]:
    """Write the best answers as demonstrations, unless that is done, and return their counts and mean scores."""
    from statistics import fmean

    from heedful.data import formats
    from heedful.data.records import Completions, Demonstration, Prompt

    rows = formats.read(str(out / BEST), Completions)
    ended = [row for row in rows if row.finish is None or row.finish[0] == "stop"]
    whole = [row for row in ended if row.completions[0].strip()]
    if not whole:
        raise UserError(
            f"{out / BEST}: every best answer is empty or cut off by the length limit. Raise "
            "generation.max_new_tokens, or choose another reward, in a new --out"
        )
    if not (out / CHOSEN).exists():
        asked = [{name: getattr(row, name) for name in Prompt.model_fields} for row in whole]
        formats.write(
            str(out / CHOSEN),
            [Demonstration(**one, completion=row.completions[0]) for one, row in zip(asked, whole, strict=True)],
        )
    scores = [row.scores[0] for row in whole if row.scores]
    return {
        "answers": len(whole), "cut_off": len(rows) - len(ended), "empty": len(ended) - len(whole),
        "best_score": fmean(scores),
    }  # fmt: skip


@command(
    "rejection", TRAIN,
    option("--out", type=Path, required=True, metavar="DIR", panel=RUN, help="New folder: best.jsonl, chosen.jsonl and "
           "the run sft/."),
    RESUME, AS_JSON, config="heedful.configs.rejection:RejectionConfig",
)  # fmt: skip
def _rejection(settings: Any, out: Path, resume: bool, as_json: bool) -> None:
    """Fine-tune a model on the best of n of its own answers (rejection sampling).

    It is a baseline for PPO. best.jsonl keeps the scores of all n answers. Answers that the length limit cut off are
    left out and counted as `cut_off`, and those without a word as `empty`.
    """
    with terminal.guard(out):
        results = train(settings, out, resume=resume)
    print(json.dumps(results)) if as_json else terminal.show(str(out), results, False)
