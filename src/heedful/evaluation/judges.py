"""What judges say of two answers to one prompt, and the judge that is a reward.

People judge in `people`, models behind an address in `asked`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

import numpy as np

from heedful.config import UserError
from heedful.data.records import Answer, Choice, Prompt, Rating
from heedful.evaluation.answers import Answers, Written, key, shown
from heedful.maths.statistics import wins
from heedful.rewards.functions import Reward
from heedful.rollout.types import Episode

PREFERRED = {1.0: "a", 0.5: "tie", 0.0: "b"}
OUTCOME = {preferred: outcome for outcome, preferred in PREFERRED.items()}
Pairs = Sequence[tuple[str, str]]
"""Names of models to compare."""


@dataclass(frozen=True)
class Verdict:
    """One judgement of an answer of model A against one of B: 1 if A is better, 0.5 for a tie, 0 if B is better."""

    prompt: Prompt
    models: tuple[str, str]
    a: Written
    b: Written
    outcome: float
    scores: tuple[float, float] | None = None
    labeler: str | None = None
    group: str | None = None
    held_out: bool = False
    none_acceptable: bool | None = None
    """Whether neither answer is good. None: not asked."""

    @property
    def both_bad(self) -> bool:
        """A tie in which neither answer is good."""
        return self.outcome == 0.5 and bool(self.none_acceptable)

    def turned(self) -> Verdict:
        """The same judgement with the sides exchanged."""
        return replace(
            self, models=self.models[::-1], a=self.b, b=self.a, outcome=1.0 - self.outcome,
            scores=None if self.scores is None else self.scores[::-1],
        )  # fmt: skip

    def choice(self) -> Choice:
        """The verdict as a record. A file of verdicts is a file of choices."""
        sides = []
        for side, (written, name) in enumerate(zip((self.a, self.b), self.models, strict=True)):
            extra = {"finish": written.finish, "score": None if self.scores is None else self.scores[side]}
            known = {field: value for field, value in extra.items() if value is not None}
            sides.append(Answer.model_validate({"text": written.text, "model": name, **known}))
        facts = {name: getattr(self.prompt, name) for name in Prompt.model_fields}
        facts |= {"preferred": PREFERRED[self.outcome], "labeler": self.labeler, "group": self.group}
        facts |= {"role": "held_out"} if self.held_out else {}
        facts |= {"none_acceptable": self.none_acceptable} if self.none_acceptable is not None else {}
        return Choice.model_validate({**facts, "a": sides[0], "b": sides[1]})


@dataclass(frozen=True)
class Rated:
    """One person's rating of one answer of a model (D9)."""

    prompt: Prompt
    model: str
    rating: Rating
    held_out: bool = False


@dataclass(frozen=True)
class Judged:
    """Everything that one judge said. `facts` go into the result as they are."""

    name: str
    kind: Literal["reward", "people", "endpoint"]
    verdicts: list[Verdict]
    ratings: list[Rated] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def by_reward(
    name: str, reward: Reward, prompts: Sequence[Prompt], answers: Mapping[str, Answers], pairs: Pairs
) -> Judged:
    """Judge by score every answer of one model against every answer of the other to the same prompt, for all pairs.

    Equal texts get equal scores: a reward model reads the texts through its own tokenizer. Raises UserError for a score
    that is not finite.
    """
    places: dict[tuple[str, Written], int] = {}
    episodes: list[Episode] = []
    silent = reward.no_opinion.copy() if hasattr(reward, "no_opinion") else None
    for prompt in prompts:
        asked = key(prompt.prompt)
        for written in [one for of_model in answers.values() for one in of_model[asked]]:
            if (asked, written) not in places:
                places[asked, written] = len(episodes)
                episodes.append(Episode(prompt.prompt, [], [], written.text, written.finish != "length", record=prompt))
    totals = reward(episodes)[0].tolist()
    for episode, total in zip(episodes, totals, strict=True):
        if not math.isfinite(total):
            raise UserError(
                f"{name}: the score of an answer to {shown(episode.prompt)} is {total}. A judge needs finite numbers"
            )
    verdicts = []
    for prompt, (a, b) in product(prompts, pairs):
        asked = key(prompt.prompt)
        for ours, theirs in product(answers[a][asked], answers[b][asked]):
            x, y = totals[places[asked, ours]], totals[places[asked, theirs]]
            verdicts.append(Verdict(prompt, (a, b), ours, theirs, wins(x - y), (x, y)))
    facts: dict[str, Any] = {"mean_score": _mean_scores(totals, places, prompts, answers)}
    if silent is not None and (none := reward.no_opinion - silent):
        facts["no_opinion"] = dict(none)
    return Judged(name, "reward", verdicts, facts=facts)


def _mean_scores(
    totals: Sequence[float],
    places: Mapping[tuple[str, Written], int],
    prompts: Sequence[Prompt],
    answers: Mapping[str, Answers],
) -> dict[str, float]:
    """The mean score of each model, where every prompt counts once."""
    asked = [key(prompt.prompt) for prompt in prompts]
    return {
        model: float(np.mean([np.mean([totals[places[one, written]] for written in found[one]]) for one in asked]))
        for model, found in answers.items()
    }
