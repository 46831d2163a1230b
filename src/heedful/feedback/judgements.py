"""What a labeler answers, by kind of item.

A labeler sees completions blind, in their own order, and refers to them by place: 0 is shown first (A), 1 second (B).
Judgements are stored by index. `by_index` turns places into indices, and `by_place` turns them back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import Field, StrictBool, StrictInt, ValidationError

from heedful.config import Config, UserError, explain
from heedful.data.records import Answer, Completions, Message, Prompt, Rating, Record
from heedful.feedback.rubric import Rubric
from heedful.feedback.schema import Kind

LongText = Annotated[str, Field(max_length=1_000_000)]


class Versus(Prompt):
    """The payload of a choice: two answers to a prompt."""

    a: Answer
    b: Answer


class ServedReply(Prompt):
    """The payload of a thumb or an edit: what a served model answered, and with which settings."""

    answer: Answer
    settings: dict[str, Any] | None = None


class SideBySide(Versus):
    """The payload of a pick: two answers of served models, `a` on the left. `blind`: no model was named."""

    settings: dict[str, Any] | None = None
    blind: StrictBool


class PromptRequest(Record):
    """The payload of an item that asks for a prompt (D1)."""

    form: Literal["plain", "few_shot", "user_based"]
    use_case: str | None = None
    about: str | None = None
    """Topic of the prompt. Of a user-based prompt the use case as a user stated it."""


class RankingJudgement(Config):
    """`ranking`: tiers of all K completions, best first. `ratings`: one for each, if the project rates first."""

    ranking: list[list[StrictInt]]
    none_acceptable: StrictBool = False
    ratings: list[Rating] | None = None
    note: LongText | None = None


class ChoiceJudgement(Config):
    """`a` is the answer shown first. Both are bad: `tie` with `none_acceptable`."""

    preferred: Literal["a", "b", "tie"]
    none_acceptable: StrictBool | None = None
    note: LongText | None = None


class DemonstrationJudgement(Config):
    completion: LongText
    pasted: int = Field(0, ge=0)
    """Number of pasted characters."""
    note: LongText | None = None


class Shot(Config):
    """One pair of a few-shot prompt."""

    query: LongText
    response: LongText


class PromptJudgement(Config):
    """A prompt that a labeler wrote. A few-shot prompt has an instruction (`prompt`), shots, and a query to answer."""

    prompt: LongText | list[Message]
    use_case: str | None = Field(None, max_length=200)
    shots: list[Shot] | None = None
    query: LongText | None = None
    note: LongText | None = None

    def text(self) -> str | list[dict[str, str]]:
        """The prompt as a model reads it."""
        if not isinstance(self.prompt, str):
            return [message.row() for message in self.prompt]
        if not self.shots:
            return self.prompt
        shots = [f"Query: {shot.query}\nResponse: {shot.response}" for shot in self.shots]
        return "\n\n".join([self.prompt, *shots, f"Query: {self.query}\nResponse:"])


class ThumbJudgement(Config):
    up: StrictBool
    reasons: list[str] = []
    comment: LongText | None = None


class EditJudgement(Config):
    """The answer as the user would have it."""

    text: LongText


class PickJudgement(Config):
    """`both_bad` is a tie of two answers that the user would not accept."""

    outcome: Literal["left", "right", "tie", "both_bad"]


JUDGEMENTS: dict[Kind, type[Config]] = {
    "ranking": RankingJudgement,
    "choice": ChoiceJudgement,
    "demonstration": DemonstrationJudgement,
    "prompt": PromptJudgement,
    "thumb": ThumbJudgement,
    "edit": EditJudgement,
    "pick": PickJudgement,
}
PAYLOADS: dict[Kind, type[Record]] = {
    "ranking": Completions,
    "choice": Versus,
    "demonstration": Prompt,
    "prompt": PromptRequest,
    "thumb": ServedReply,
    "edit": ServedReply,
    "pick": SideBySide,
}
_SWAPPED = {"a": "b", "b": "a", "tie": "tie"}


def completions(payload: Record) -> list[str]:
    """The completions of an item, by index. Empty for demonstrations and prompts."""
    if isinstance(payload, Versus):
        return [payload.a.text, payload.b.text]
    if isinstance(payload, ServedReply):
        return [payload.answer.text]
    return payload.completions if isinstance(payload, Completions) else []


def constraint(payload: Record) -> str | None:
    """What a prompt asks for beyond its task, in words, where the imported file says so."""
    found = (payload.model_extra or {}).get("constraint")
    return found if isinstance(found, str) and found.strip() else None


def check(
    kind: Kind,
    answer: Any,
    payload: Record,
    *,
    rate_first: bool = False,
    chars: tuple[int, int] = (1, 1_000_000),
    rubric: Rubric | None = None,
) -> Config:
    """Check an answer and return it as a judgement. UserError says in one line what is missing or wrong."""
    model = JUDGEMENTS[kind]
    if not isinstance(answer, dict):
        raise UserError(f"a {kind}: must be an object with {', '.join(model.model_fields)}")
    try:
        judgement = model.model_validate(answer)
    except ValidationError as error:
        raise UserError(f"a {kind}: {explain(error, model)}") from None
    if isinstance(judgement, RankingJudgement):
        _check_ranking(judgement, len(completions(payload)), rate_first)
        if rubric is not None:
            rubric.check(judgement.ratings or ())
    elif isinstance(judgement, DemonstrationJudgement):
        length = len(judgement.completion.strip())
        if not chars[0] <= length <= chars[1]:
            raise UserError(f"completion: it has {length:,} characters. Write {chars[0]:,} to {chars[1]:,}")
    elif isinstance(judgement, PromptJudgement):
        _check_prompt(judgement, cast(PromptRequest, payload).form)
    return judgement


def _check_ranking(judgement: RankingJudgement, K: int, rate_first: bool) -> None:
    placed = sorted(place for tier in judgement.ranking for place in tier)
    if placed != list(range(K)) or not all(judgement.ranking):
        missing = ", ".join(_letter(place) for place in range(K) if place not in placed)
        raise UserError(f"ranking: {f'{missing} not placed yet' if missing else 'place each answer exactly once'}")
    if judgement.ratings is not None and len(judgement.ratings) != K:
        raise UserError(f"ratings: {len(judgement.ratings)} for {K} answers. Give one for each")
    unrated = [place for place, rating in enumerate(judgement.ratings or [Rating()] * K) if rating.overall is None]
    if rate_first and unrated:
        raise UserError(f"ratings: {', '.join(map(_letter, unrated))} not rated yet")


def _check_prompt(judgement: PromptJudgement, form: str) -> None:
    try:
        Prompt.model_validate({"prompt": judgement.prompt})
    except ValidationError as error:
        raise UserError(f"a prompt: {explain(error, Prompt)}") from None
    if form == "few_shot":
        if not judgement.shots or not judgement.query or not judgement.query.strip():
            raise UserError("a few-shot prompt: needs its instruction, at least one shot, and the query to be answered")
        if not isinstance(judgement.prompt, str):
            raise UserError("a few-shot prompt: its instruction must be text")
    elif judgement.shots or judgement.query:
        raise UserError("shots: only a few-shot prompt has them")


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def by_index(kind: Kind, answer: dict[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """Turn the places of a judgement into indices."""
    return _renamed(kind, answer, dict(enumerate(order)))


def by_place(kind: Kind, content: dict[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """Turn the indices of a judgement into places."""
    return _renamed(kind, content, {index: place for place, index in enumerate(order)})


def _renamed(kind: Kind, answer: dict[str, Any], new: dict[int, int]) -> dict[str, Any]:
    if kind == "choice":
        return {**answer, "preferred": answer["preferred"] if new[0] == 0 else _SWAPPED[answer["preferred"]]}
    if kind != "ranking":
        return answer
    changed = {**answer, "ranking": [sorted(new[name] for name in tier) for tier in answer["ranking"]]}
    if answer.get("ratings") is not None:
        ratings = {new[name]: rating for name, rating in enumerate(answer["ratings"])}
        changed["ratings"] = [ratings[name] for name in range(len(ratings))]
    return changed
