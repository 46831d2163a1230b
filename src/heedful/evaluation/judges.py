"""Judges of two answers to one prompt: a reward, or the choices of people in a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from heedful.config import UserError
from heedful.data import formats
from heedful.data.records import Answer, Choice, Prompt
from heedful.evaluation.answers import Answers, Written, key, shown
from heedful.maths.statistics import wins
from heedful.rewards.functions import Reward
from heedful.rollout.types import Episode
from heedful.runs.manifest import manifest_path
from heedful.runs.run import Run

PREFERRED = {1.0: "a", 0.5: "tie", 0.0: "b"}
OUTCOME = {preferred: outcome for outcome, preferred in PREFERRED.items()}


@dataclass(frozen=True)
class Verdict:
    """One judgement of an answer of A against one of B: 1 if A is better, 0.5 for a tie, 0 if B is better."""

    prompt: Prompt
    a: Written
    b: Written
    outcome: float
    scores: tuple[float, float] | None = None
    labeler: str | None = None

    def choice(self, names: tuple[str, str]) -> Choice:
        """The verdict as a record. A file of verdicts is a file of choices."""
        sides = []
        for written, name, side in zip((self.a, self.b), names, (0, 1), strict=True):
            extra = {"finish": written.finish, "score": None if self.scores is None else self.scores[side]}
            known = {field: value for field, value in extra.items() if value is not None}
            sides.append(Answer.model_validate({"text": written.text, "model": name, **known}))
        facts = {name: getattr(self.prompt, name) for name in Prompt.model_fields}
        facts |= {"preferred": PREFERRED[self.outcome], "labeler": self.labeler}
        return Choice.model_validate({**facts, "a": sides[0], "b": sides[1]})


def by_reward(reward: Reward, prompts: Sequence[Prompt], a: Answers, b: Answers) -> list[Verdict]:
    """Judge every answer of A against every answer of B to the same prompt by their scores.

    Equal texts get equal scores: a reward model reads the texts through its own tokenizer. Raises UserError for a score
    that is not finite.
    """
    places: dict[tuple[str, Written], int] = {}
    episodes: list[Episode] = []
    for prompt in prompts:
        name = key(prompt.prompt)
        for written in [*a[name], *b[name]]:
            if (name, written) not in places:
                places[name, written] = len(episodes)
                episodes.append(Episode(prompt.prompt, [], [], written.text, written.finish != "length", record=prompt))
    totals = reward(episodes)[0].tolist()
    for episode, total in zip(episodes, totals, strict=True):
        if not math.isfinite(total):
            raise UserError(
                f"the reward of an answer to {shown(episode.prompt)} is {total}. A judge needs finite numbers"
            )
    verdicts = []
    for prompt in prompts:
        name = key(prompt.prompt)
        for ours in a[name]:
            for theirs in b[name]:
                x, y = totals[places[name, ours]], totals[places[name, theirs]]
                verdicts.append(Verdict(prompt, ours, theirs, wins(x - y), (x, y)))
    return verdicts


def by_people(path: str, a: str, b: str) -> tuple[list[Verdict], int]:
    """Read the choices between A and B from a file, on whichever side each was. Also returns the number of other rows.

    The file names A and B by reference or run id. If it names no models, its sides a and b are A and B.
    """
    choices = formats.read(path, Choice)
    named = {answer.model for choice in choices for answer in (choice.a, choice.b)}
    if named == {None}:
        return [_verdict(choice, flipped=False) for choice in choices], 0
    ours, theirs = _names(a), _names(b)
    if ours & theirs:
        raise UserError(f"{path}: A and B are both {a}. Name two of the models in it: {_listed(named)}")
    verdicts = []
    for choice in choices:
        if choice.a.model in ours and choice.b.model in theirs:
            verdicts.append(_verdict(choice, flipped=False))
        elif choice.a.model in theirs and choice.b.model in ours:
            verdicts.append(_verdict(choice, flipped=True))
    if not verdicts:
        raise UserError(f"{path}: no choice between {a} and {b}. It compares {_listed(named)}")
    return verdicts, len(choices) - len(verdicts)


def _verdict(choice: Choice, *, flipped: bool) -> Verdict:
    sides = [Written(choice.a.text), Written(choice.b.text)]
    outcome = OUTCOME[choice.preferred]
    if flipped:
        sides, outcome = sides[::-1], 1.0 - outcome
    return Verdict(choice, sides[0], sides[1], outcome, labeler=choice.labeler)


def _names(ref: str) -> set[str]:
    """Names of a model in a file: its reference and the id of its run."""
    return {ref, Run.open(ref).manifest.id} if manifest_path(ref).is_file() else {ref}


def _listed(named: set[str | None]) -> str:
    names = sorted(name for name in named if name is not None)
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
