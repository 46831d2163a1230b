"""The judge that is a file of people's choices, or of their rankings with ratings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from heedful.config import UserError
from heedful.data import formats, kinds
from heedful.data.records import Choice, Comparison, Prompt
from heedful.evaluation.answers import Written, key
from heedful.evaluation.judges import OUTCOME, Judged, Rated, Verdict
from heedful.evaluation.models import Models
from heedful.maths.statistics import agreement, wins

HELD_OUT = "held_out"
"""The role, or the group, of labelers who gave no training data (E1)."""


def by_people(path: str, models: Models) -> Judged:
    """Read what people said of these models, on whichever side each was. Rows about other models are counted.

    The file names a model by its name here, its reference or the id of its run. If a file of choices names no models,
    its sides a and b are the two models of the comparison.
    """
    kind = kinds.kind_of(path, lenient=True)
    if kind not in ("choices", "comparisons"):
        raise UserError(f"{path}: holds {kind}. A judge is a file of choices or rankings")
    rows: list[Choice] | list[Comparison] = (
        formats.read(path, Choice) if kind == "choices" else formats.read(path, Comparison)
    )
    if any(row.labeler_model is not None for row in rows):
        raise UserError(f"{path}: holds judgements of models, which do not count as people's. Freeze people's alone")
    named = {name for row in rows for name in _models(row)}
    known = models.known_as()
    if named == {None}:
        if kind != "choices" or len(models.names) != 2:
            raise UserError(f"{path}: names no models. Give its rows the model of each answer")
        first, second = models.names
        verdicts = [_verdict(row, (first, second)) for row in rows if isinstance(row, Choice)]
        return _judged(path, verdicts, [], 0)
    verdicts, ratings, others = [], [], 0
    for row in rows:
        found = list(_verdicts(row, known))
        verdicts += found
        ratings += _ratings(row, known)
        others += not found
    if not verdicts:
        raise UserError(f"{path}: compares no two of {', '.join(models.names)}. It compares {_listed(named)}")
    return _judged(path, verdicts, ratings, others)


def on_prompts(judged: Judged, prompts: Sequence[Prompt] | None, limit: int | None) -> Judged:
    """The judgements on these prompts alone, and of them on the first `limit`."""
    verdicts = judged.verdicts
    if prompts is not None:
        wanted = {key(prompt.prompt) for prompt in prompts}
        verdicts = [verdict for verdict in verdicts if key(verdict.prompt.prompt) in wanted]
        if not verdicts:
            raise UserError(f"{judged.name}: has no judgement on a prompt of --prompts. Leave --prompts out")
    kept = set(list(dict.fromkeys(key(verdict.prompt.prompt) for verdict in verdicts))[:limit])
    verdicts = [verdict for verdict in verdicts if key(verdict.prompt.prompt) in kept]
    ratings = [rated for rated in judged.ratings if key(rated.prompt.prompt) in kept]
    return _judged(judged.name, verdicts, ratings, judged.facts["other_rows"])


def labeler_agreement(verdicts: Sequence[Verdict]) -> dict[str, float] | None:
    """How often two labelers of the same two answers agree (D12), or None if no comparison has two labelers."""
    verdicts = [verdict for verdict in verdicts if verdict.labeler is not None]
    verdicts = [v if v.a.text <= v.b.text else v.turned() for v in verdicts]
    labelers = {name: row for row, name in enumerate(dict.fromkeys(v.labeler for v in verdicts))}
    items = {item: column for column, item in enumerate(dict.fromkeys(_item(v) for v in verdicts))}
    choices = np.zeros((len(labelers), len(items)), dtype=np.int8)
    for verdict in verdicts:
        choices[labelers[verdict.labeler], items[_item(verdict)]] = int(2 * verdict.outcome - 1)
    found = agreement(choices)
    return None if found.pairs == 0 else found._asdict()


def _item(verdict: Verdict) -> tuple[str, str, str]:
    return key(verdict.prompt.prompt), verdict.a.text, verdict.b.text


def _judged(path: str, verdicts: list[Verdict], ratings: list[Rated], others: int) -> Judged:
    labelers = {verdict.labeler for verdict in verdicts} - {None}
    facts = {"other_rows": others, "labelers": len(labelers), "labeler_agreement": labeler_agreement(verdicts)}
    return Judged(path, "people", verdicts, ratings, facts)


def _models(row: Choice | Comparison) -> list[str | None]:
    """The model of each answer as the file names it."""
    if isinstance(row, Choice):
        return [row.a.model, row.b.model]
    return list(row.models or [None] * len(row.completions))


def _verdicts(row: Choice | Comparison, known: dict[str, str]) -> Iterator[Verdict]:
    """The comparisons of two known models in a row."""
    names = [known.get(name) if name is not None else None for name in _models(row)]
    if isinstance(row, Choice):
        if None not in names and names[0] != names[1]:
            yield _verdict(row, (str(names[0]), str(names[1])))
        return
    tiers = row.ranks()
    for i, j in combinations(range(len(names)), 2):
        ours, theirs = names[i], names[j]
        if ours is not None and theirs is not None and ours != theirs:
            sides = Written(row.completions[i]), Written(row.completions[j])
            yield Verdict(
                row, (ours, theirs), *sides, wins(tiers[j] - tiers[i]),
                labeler=row.labeler, group=row.group, held_out=_held_out(row),
            )  # fmt: skip


def _ratings(row: Choice | Comparison, known: dict[str, str]) -> list[Rated]:
    if isinstance(row, Choice) or not row.ratings:
        return []
    named = zip(_models(row), row.ratings, strict=True)
    held_out = _held_out(row)
    return [Rated(row, known[name], rating, held_out) for name, rating in named if name is not None and name in known]


def _verdict(choice: Choice, models: tuple[str, str]) -> Verdict:
    sides = Written(choice.a.text), Written(choice.b.text)
    return Verdict(
        choice, models, *sides, OUTCOME[choice.preferred],
        labeler=choice.labeler, group=choice.group, held_out=_held_out(choice), none_acceptable=choice.none_acceptable,
    )  # fmt: skip


def _held_out(row: Choice | Comparison) -> bool:
    """Whether a held-out labeler judged: one with this role, or of a group of this name."""
    return HELD_OUT in ((row.model_extra or {}).get("role"), row.group)


def _listed(named: set[str | None]) -> str:
    names = sorted(name for name in named if name is not None)
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
