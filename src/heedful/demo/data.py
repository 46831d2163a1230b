"""The files of the demo's world: corpus, curated prompts by purpose, demonstrations, rankings."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

from heedful.config import Config
from heedful.data import formats
from heedful.data.curation import CurationConfig, curate
from heedful.data.records import Comparison, Completions, Prompt
from heedful.demo import base
from heedful.files import read_json, write_json
from heedful.sandbox import generate, labelers
from heedful.sandbox.labelers import Labeler
from heedful.sandbox.world import World, make_world

# K = 4 to 9 completions for a prompt (D10). Prompts take turns.
K_OF_TURN = {k: turn for turn, k in enumerate(range(4, 10))}
HALVES = ("test_prompts_1", "test_prompts_2")  # the test prompts in two halves: work for two cores


class Sizes(Config):
    """How much of each kind of data. Prompts, where the name does not say otherwise."""

    documents: int
    held_out_documents: int
    raw_prompts: int
    demonstrations: int
    valid_demonstrations: int
    ranked_prompts: int
    valid_ranked_prompts: int
    rl_prompts: int
    test_prompts: int
    few_shot_prompts: int


class Files:
    """The files of one world: the attribute NAME is the path of NAME.jsonl in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):  # pickle asks for such names
            raise AttributeError(name)
        return str(self.folder / f"{name}.jsonl")


def make(seed: int, files: Files, sizes: Sizes, base_model: Path | None) -> World:
    """Write corpus, raw prompts, prompts by purpose and demonstrations, unless an earlier run has written them.

    The corpus is what the base model has learned from: the web of this world, or the webs that the base model in the
    package has read. Held-out text is always of this world.
    """
    done = files.folder / "curation.json"
    if done.exists():
        return make_world(seed)
    own = 0 if base_model is not None else sizes.documents
    world = generate.write_world(files.folder, seed, own, sizes.raw_prompts, sizes.held_out_documents)
    if base_model is not None:
        formats.write(files.corpus, base.texts(base_model, sizes.documents))
    raw = formats.read(files.prompts, Prompt)
    curated, report = curate(raw, CurationConfig(fractions={"train": 0.62, "valid": 0.12, "test": 0.26}, seed=seed))
    _write_by_purpose(curated, files, sizes, Random(f"purposes {seed}"))
    hired = labelers.good_ones(labelers.make_labelers(world))
    for source, target in (("sft_prompts", "demonstrations"), ("valid_sft_prompts", "valid_demonstrations")):
        given = formats.read(getattr(files, source), Prompt)
        formats.write(getattr(files, target), generate.demonstrations(world, given, hired, seed))
    write_json(done, report.model_dump())
    return world


def curation(files: Files) -> dict[str, int]:
    """The number of raw prompts, of those that each step removed, and of those kept."""
    report = read_json(files.folder / "curation.json")
    return {
        "raw": report["given"],
        **{step["name"]: step["removed"] for step in report["steps"]},
        "kept": report["kept"],
    }


def _write_by_purpose(curated: list[Prompt], files: Files, sizes: Sizes, rng: Random) -> None:
    """Give every prompt one purpose only, so that no model is tested on its training data."""
    wanted = {
        "train": {
            "sft_prompts": sizes.demonstrations,
            "ranked_prompts": sizes.ranked_prompts,
            "rl_prompts": sizes.rl_prompts,
        },
        "valid": {
            "valid_sft_prompts": sizes.valid_demonstrations,
            "valid_ranked_prompts": sizes.valid_ranked_prompts,
            "few_shot_prompts": sizes.few_shot_prompts,
        },
        "test": {"test_prompts": sizes.test_prompts},
    }
    for split, purposes in wanted.items():
        pool = [prompt for prompt in curated if prompt.split == split]
        assert len(pool) >= sum(purposes.values()), f"{len(pool)} {split} prompts are too few"
        rng.shuffle(pool)
        rest = iter(pool)
        for name, count in purposes.items():
            chosen = list(islice(rest, count))
            formats.write(getattr(files, name), chosen)
            if "ranked" in name:
                for k, turn in K_OF_TURN.items():
                    formats.write(getattr(files, f"{name}_{k}"), chosen[turn :: len(K_OF_TURN)])
            elif name == "test_prompts":
                middle = count // 2
                for half, rows in zip(HALVES, (chosen[:middle], chosen[middle:]), strict=True):
                    formats.write(getattr(files, half), rows)


def people(world: World, files: Files, sampled: list[str]) -> list[Labeler]:
    """All labelers, with the noise at which the good ones agree as often as the labelers of the paper (D12).

    `sampled`: files of completions, on which the first call sets the noise.
    """
    everyone, kept = labelers.make_labelers(world), files.folder / "labelers.json"
    if not kept.exists():
        rows = [row for path in sampled for row in formats.read(path, Completions)]
        Random(f"calibration {world.seed}").shuffle(rows)
        write_json(kept, {"noise": labelers.calibrate(world, rows, labelers.good_ones(everyone))[0].noise})
    noise = read_json(kept)["noise"]
    return [replace(one, noise=noise) for one in everyone]


def rank(world: World, sampled: list[str], out: str, hired: list[Labeler], *, shuffled: bool = False) -> None:
    """Write a ranking of every row by one labeler. The labelers take turns.

    `shuffled`: assign the places to the completions at random. This is the negative control.
    """
    if Path(out).exists():
        return
    rng = Random(f"turns {world.seed} {Path(out).name}")
    given = [row for path in sampled for row in formats.read(path, Completions)]
    rng.shuffle(given)
    rows = generate.comparisons(world, given, hired, world.seed)
    formats.write(out, [_with_random_places(row, rng) for row in rows] if shuffled else rows)


def _with_random_places(row: Comparison, rng: Random) -> Comparison:
    indices = list(range(len(row.completions)))
    rng.shuffle(indices)
    return row.model_copy(update={"ranking": [[indices[index] for index in tier] for tier in row.ranking]})
