"""Who says which of two answers is better: a reward, or people whose choices lie in a file."""

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
    """One judgement of an answer of A beside one of B: 1 where A is better, 0.5 for a tie, 0 where B is."""

    prompt: Prompt
    a: Written
    b: Written
    outcome: float
    scores: tuple[float, float] | None = None
    labeler: str | None = None

    def choice(self, names: tuple[str, str]) -> Choice:
        """As a record, so that a file of verdicts is a file of choices."""
        sides = []
        for written, name, side in zip((self.a, self.b), names, (0, 1), strict=True):
            extra = {"finish": written.finish, "score": None if self.scores is None else self.scores[side]}
            known = {field: value for field, value in extra.items() if value is not None}
            sides.append(Answer.model_validate({"text": written.text, "model": name, **known}))
        facts = {name: getattr(self.prompt, name) for name in Prompt.model_fields}
        facts |= {"preferred": PREFERRED[self.outcome], "labeler": self.labeler}
        return Choice.model_validate({**facts, "a": sides[0], "b": sides[1]})


def by_reward(reward: Reward, prompts: Sequence[Prompt], a: Answers, b: Answers) -> list[Verdict]:
    """Every answer of A beside every answer of B to the same prompt, by score. Equal texts get equal scores.

    Answers are judged as texts: a reward model reads them through its own tokenizer.
    """
    places: dict[tuple[str, Written], int] = {}
    episodes: list[Episode] = []
    for prompt in prompts:
        name = key(prompt.prompt)
        for written in [*a[name], *b[name]]:
            if (name, written) not in places:
                places[name, written] = len(episodes)
                episodes.append(Episode(prompt.prompt, [], [], written.text, written.finish != "length"))
    totals = reward(episodes)[0].tolist()
    for episode, total in zip(episodes, totals, strict=True):
        if not math.isfinite(total):
            raise UserError(
                f"the reward of an answer to {shown(episode.prompt)} is {total}; a judge needs finite numbers"
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
    """The choices between A and B in a file, whichever side each stood on, and how many rows are between others.

    A and B are named as the file names them: by reference or by run id. Where it names no models its sides count.
    """
    choices = formats.read(path, Choice)
    named = {answer.model for choice in choices for answer in (choice.a, choice.b)}
    if named == {None}:
        return [_verdict(choice, flipped=False) for choice in choices], 0
    ours, theirs = _names(a), _names(b)
    if ours & theirs:
        raise UserError(f"{path}: A and B are both {a}; name two of the models in it: {_listed(named)}")
    verdicts = []
    for choice in choices:
        if choice.a.model in ours and choice.b.model in theirs:
            verdicts.append(_verdict(choice, flipped=False))
        elif choice.a.model in theirs and choice.b.model in ours:
            verdicts.append(_verdict(choice, flipped=True))
    if not verdicts:
        raise UserError(f"{path}: no choice between {a} and {b}; it compares {_listed(named)}")
    return verdicts, len(choices) - len(verdicts)


def _verdict(choice: Choice, *, flipped: bool) -> Verdict:
    sides = [Written(choice.a.text), Written(choice.b.text)]
    outcome = OUTCOME[choice.preferred]
    if flipped:
        sides, outcome = sides[::-1], 1.0 - outcome
    return Verdict(choice, sides[0], sides[1], outcome, labeler=choice.labeler)


def _names(ref: str) -> set[str]:
    """What a file may call a model: the reference, and the run's id."""
    return {ref, Run.open(ref).manifest.id} if manifest_path(ref).is_file() else {ref}


def _listed(named: set[str | None]) -> str:
    names = sorted(name for name in named if name is not None)
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
