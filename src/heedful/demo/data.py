"""The world's files: corpus, curated prompts by purpose, demonstrations, rankings."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

from heedful.config import Config
from heedful.data import formats
from heedful.data.curation import CurationConfig, curate
from heedful.data.records import Comparison, Completions, Prompt
from heedful.files import read_json, write_json
from heedful.sandbox import generate, labelers
from heedful.sandbox.labelers import Labeler
from heedful.sandbox.world import World, make_world

# K = 4 to 9 completions a prompt (D10), prompts taking turns.
K_OF_TURN = {k: turn for turn, k in enumerate(range(4, 10))}
HALVES = ("test_prompts_1", "test_prompts_2")  # of the test prompts, in their order: work for two cores


class Sizes(Config):
    """How much of everything; prompts unless said otherwise."""

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
    """Where everything of one world lies: any name is a JSON Lines file in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):  # what pickle asks for is no file
            raise AttributeError(name)
        return str(self.folder / f"{name}.jsonl")


def make(seed: int, files: Files, sizes: Sizes) -> World:
    """Corpus, prompts before and after curation, prompts by purpose, demonstrations; nothing where that is done."""
    done = files.folder / "curation.json"
    if done.exists():
        return make_world(seed)
    world = generate.write_world(files.folder, seed, sizes.documents, sizes.raw_prompts, sizes.held_out_documents)
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
    """How many prompts came in and how many each step left out."""
    report = read_json(files.folder / "curation.json")
    return {
        "raw": report["given"],
        **{step["name"]: step["removed"] for step in report["steps"]},
        "kept": report["kept"],
    }


def _write_by_purpose(curated: list[Prompt], files: Files, sizes: Sizes, rng: Random) -> None:
    """Every prompt serves one purpose, so that nothing is graded on what it was taught."""
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
        assert len(pool) >= sum(purposes.values()), f"{len(pool)} {split} prompts are too few; raise raw_prompts"
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
    """Everyone, with the noise at which the good ones agree on these completions as the paper's labelers did (D12)."""
    everyone, kept = labelers.make_labelers(world), files.folder / "labelers.json"
    if not kept.exists():
        rows = [row for path in sampled for row in formats.read(path, Completions)]
        Random(f"calibration {world.seed}").shuffle(rows)
        write_json(kept, {"noise": labelers.calibrate(world, rows, labelers.good_ones(everyone))[0].noise})
    noise = read_json(kept)["noise"]
    return [replace(one, noise=noise) for one in everyone]


def rank(world: World, sampled: list[str], out: str, hired: list[Labeler], *, shuffled: bool = False) -> None:
    """The completions of every row, ranked by one labeler; the labelers take turns.

    `shuffled` deals the places anew among the completions: the negative control.
    """
    if Path(out).exists():
        return
    rng = Random(f"turns {world.seed} {Path(out).name}")
    given = [row for path in sampled for row in formats.read(path, Completions)]
    rng.shuffle(given)
    rows = generate.comparisons(world, given, hired, world.seed)
    formats.write(out, [_deal_anew(row, rng) for row in rows] if shuffled else rows)


def _deal_anew(row: Comparison, rng: Random) -> Comparison:
    indices = list(range(len(row.completions)))
    rng.shuffle(indices)
    return row.model_copy(update={"ranking": [[indices[index] for index in tier] for tier in row.ranking]})
