"""Files of answers with the scores of a reward, and every judged pair in them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from heedful.config import UserError
from heedful.data import formats
from heedful.data.kinds import kind_of
from heedful.data.records import Comparison, Completions, Demonstration, as_text
from heedful.data.text import counted
from heedful.maths.lengths import length_bin
from heedful.models import load
from heedful.models.templates import TemplateRefused
from heedful.rewards.functions import ModelScorer, Reward
from heedful.rollout.types import Episode
from heedful.runs.manifest import NAME, Manifest

AnyRow = TypeVar("AnyRow")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """Rows of a file, their answers as episodes, and the score of each answer."""

    path: str
    rows: list[Comparison]
    episodes: list[list[Episode]]
    scores: list[list[float]]
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def prompts(self) -> list[str]:
        return [as_text(row.prompt) for row in self.rows]

    @property
    def flat(self) -> list[Episode]:
        return [episode for own in self.episodes for episode in own]

    @property
    def owners(self) -> list[str]:
        """The prompt of each answer of `flat`."""
        return [prompt for prompt, own in zip(self.prompts, self.episodes, strict=True) for _ in own]


@dataclass(frozen=True)
class JudgedPair:
    """One judged pair of answers: how the row is called, and by how much each baseline prefers the better answer."""

    row: int
    better: int
    worse: int
    prompt: str
    labeler: str | None
    group: str | None
    use_case: str | None
    length_difference: str
    tier_distance: str
    margins: dict[str, float]
    """Score of the better answer minus that of the worse one, by the name of the judge."""
    agreeing: float = 0.0
    """Other labelers of the same two answers who agree."""
    others: float = 0.0
    """Other labelers of the same two answers who do not call it a tie."""


def read(path: str, reward: Reward, limit: int | None, seed: int, training: str | None = None) -> Scored:
    """Comparisons of a file with their scores, without the rows that a model cannot read.

    If the reward learned from the same file (`training`), only rows with split "valid" or "test" are held out for sure.
    Raises UserError if none is left.
    """
    rows, left_out = formats.read(path, Comparison), Counter[str]()
    if training is not None and formats.fingerprint(training)["sha256"] == formats.fingerprint(path)["sha256"]:
        kept = [row for row in rows if row.split in ("valid", "test")]
        if not kept:
            raise UserError(
                f"{path}: the reward learned from this file, and no row has the split valid or test. "
                "Give comparisons that it has not seen"
            )
        left_out["in_training"] = len(rows) - len(kept)
        rows = kept
    return _scored(path, drawn(rows, limit, seed), reward, left_out)


def answers(path: str, reward: Reward, limit: int | None, seed: int) -> list[Episode]:
    """The answers of a file of comparisons, completions or demonstrations, without those that a model cannot read."""
    rows: Sequence[Completions | Demonstration]
    if kind_of(path, lenient=True) == "demonstrations":
        rows = formats.read(path, Demonstration)
    else:
        rows = formats.read(path, Completions)
    episodes = [episode for row in drawn(rows, limit, seed) for episode in episodes_of(row)]
    kept = [episode for episode in episodes if unreadable(reward, [episode]) is None]
    if 0 < len(kept) < len(episodes):
        some = counted(len(episodes) - len(kept), "answers", "are", of=len(episodes))
        _log.warning("%s: %s left out, which the reward model cannot read", path, some)
    if not kept:
        raise UserError(f"{path}: the reward model can read no answer. Check their length and the roles of the chats")
    return kept


def episodes_of(row: Completions | Demonstration) -> list[Episode]:
    """The answers of a row as a reward takes them."""
    if isinstance(row, Demonstration):
        return [Episode(row.prompt, [], [], row.completion, True, record=row)]
    finish = row.finish or ["stop"] * len(row.completions)
    return [
        Episode(row.prompt, [], [], text, end != "length", record=row)
        for text, end in zip(row.completions, finish, strict=True)
    ]


def unreadable(reward: Reward, episodes: Iterable[Episode]) -> str | None:
    """Why a model of the reward cannot read one of the answers: `too_long` or `refused_by_the_template`."""
    scorers = [part.score for part in reward.members() if isinstance(part.score, ModelScorer)]
    for episode in episodes:
        for scorer in scorers:
            try:
                prompt_ids, response_ids = scorer.read(episode)
            except TemplateRefused:
                return "refused_by_the_template"
            if len(prompt_ids) + len(response_ids) > load.context_length(scorer.model):
                return "too_long"
    return None


def scores_of(reward: Reward, episodes: list[Episode]) -> list[float]:
    """The scores of answers."""
    found: list[float] = reward(episodes)[0].double().tolist() if episodes else []
    return found


def training_file(reward: Sequence[str], given: str | None) -> tuple[str | None, str]:
    """The file that a reward model learned from, and why there is none."""
    if given is not None:
        return given, ""
    for ref in reward:
        if not (Path(ref) / NAME).is_file():
            continue
        source = Manifest.read(Path(ref) / NAME).data.get("data", {})
        path = source.get("path")
        if path is None:
            continue
        if not Path(path).exists():
            return None, f"{path}, which {ref} learned from, is not there. Name it with --training-data"
        if source.get("sha256") not in (None, formats.fingerprint(path)["sha256"]):
            return None, f"{path} has changed since {ref} learned from it. Name a copy with --training-data"
        return path, ""
    return None, "no run names the file that the reward learned from. Name it with --training-data"


def judged(found: Scored, baselines: dict[str, list[list[float]]]) -> list[JudgedPair]:
    """Every pair of answers from different tiers. `baselines`: scores of other judges by name.

    Raises UserError if there is none.
    """
    judges = {"reward": found.scores, **baselines}
    votes: dict[tuple[str, frozenset[str]], dict[str, str]] = {}
    pairs: list[tuple[int, int, int]] = []
    for i, row in enumerate(found.rows):
        for better, worse in row.pairs():
            texts = row.completions[better], row.completions[worse]
            if texts[0] == texts[1]:
                continue
            pairs.append((i, better, worse))
            if row.labeler is not None:
                votes.setdefault((found.prompts[i], frozenset(texts)), {})[row.labeler] = texts[0]
    if not pairs:
        raise UserError(
            f"{found.path}: no two different answers of a prompt are ranked one above the other. "
            "Give comparisons with a preference"
        )
    made, prompts = [], found.prompts
    for i, better, worse in pairs:
        row, ranks = found.rows[i], found.rows[i].ranks()
        texts = row.completions[better], row.completions[worse]
        same = votes.get((prompts[i], frozenset(texts)), {}) if row.labeler is not None else {}
        others = [text for labeler, text in same.items() if labeler != row.labeler]
        made.append(
            JudgedPair(
                i, better, worse, prompts[i], row.labeler, row.group, row.use_case,
                length_bin(len(texts[0]), len(texts[1])), str(ranks[worse] - ranks[better]),
                {name: scores[i][better] - scores[i][worse] for name, scores in judges.items()},
                float(sum(text == texts[0] for text in others)), float(len(others)),
            )
        )  # fmt: skip
    return made


def _scored(path: str, rows: Sequence[Comparison], reward: Reward, left_out: Counter[str]) -> Scored:
    kept, episodes = [], []
    for row in rows:
        own = episodes_of(row)
        why = unreadable(reward, own)
        if why is None:
            kept.append(row)
            episodes.append(own)
        else:
            left_out[why] += 1
    if not kept:
        raise UserError(f"{path}: the reward model can read no row ({_told(left_out)}). Shorten them")
    flat = scores_of(reward, [episode for own in episodes for episode in own])
    ends = np.cumsum([len(own) for own in episodes])
    scores = [flat[end - len(own) : end] for own, end in zip(episodes, ends, strict=True)]
    return Scored(path, kept, episodes, scores, dict(left_out))


def drawn(rows: Sequence[AnyRow], limit: int | None, seed: int) -> list[AnyRow]:
    """At most `limit` rows, drawn by the seed, in their order."""
    if limit is None or len(rows) <= limit:
        return list(rows)
    return [rows[i] for i in sorted(np.random.default_rng(seed).choice(len(rows), size=limit, replace=False))]


def _told(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in left_out.items())
