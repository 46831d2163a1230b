"""Sets of two answers that several people judged, and test sets for reward models."""

from __future__ import annotations

from typing import Any

from heedful.data.shapes.pairs import post
from heedful.data.shapes.parts import NoJudgement, better_of_two, comparison, rest, text
from heedful.files import Row

_SIDES: dict[str, int | None] = {"a": 0, "b": 1, "tie": None}
_NUMBERED: dict[str, int | None] = {"1": 0, "2": 1}
_PANDALM = ("annotator1", "annotator2", "annotator3")


def llmbar(row: Row) -> list[Row]:
    """A comparison of two answers of which one follows the instruction, as LLMBar has it or with sides a and b."""
    used: tuple[str, ...]
    if "output_1" in row:
        fields = ("output_1", "output_2", "label")
        prompt, used = text(row, "input"), ("input",)
    else:
        fields = ("response_a", "response_b", "better")
        prompt, used = _instruction(row), ("instruction", "input")
    first, second, verdict = fields
    better = better_of_two(_side(row[verdict], verdict, _NUMBERED))
    return [comparison(prompt, [text(row, first), text(row, second)], better, rest(row, *fields, *used))]


def pandalm(row: Row) -> list[Row]:
    """A comparison for each of the three annotators of two answers."""
    used: tuple[str, ...]
    if "votes" in row:
        names, votes = ("response_a", "response_b"), list(row["votes"])
        used = (*names, "votes", "majority")
    else:
        names, votes = ("response1", "response2"), [row[name] for name in _PANDALM]
        used = (*names, *_PANDALM)
    if not votes:
        raise NoJudgement("nobody judged the pair")
    answers = [_answer(row, name) for name in names]
    more, models = rest(row, "instruction", "input", "models", *used), None
    if isinstance(row.get("models"), str):  # as in bloom-7b_llama-7b
        models = row["models"].split("_")
        if len(models) != 2:
            more, models = more | {"models_as_given": row["models"]}, None
    return [
        comparison(
            _instruction(row),
            answers,
            better_of_two(_side(vote, "votes", _NUMBERED | {"0": None})),
            more,
            models=models,
            labeler=labeler,
        )
        for labeler, vote in zip(_PANDALM, votes, strict=False)
    ]


def convarg(row: Row) -> list[Row]:
    """A comparison of two arguments for each person who judged how convincing they are."""
    if not row["votes"]:
        raise NoJudgement("nobody judged the pair")
    prompt = " ".join(part.strip() for part in (text(row, "debate"), text(row, "stance")))
    answers = [text(row, name) for name in ("response_a", "response_b")]
    more = rest(row, "response_a", "response_b", "votes", "majority", "gold", "strict")
    return [
        comparison(prompt, answers, better_of_two(_side(vote["vote"], "votes")), more, labeler=vote["worker"])
        for vote in row["votes"]
    ]


def tldr(row: Row) -> list[Row]:
    """A comparison of two summaries of a post, from flat fields."""
    names = ("post", "title", "subreddit", "id")
    fields: tuple[str, ...]
    prompt, named = post({"info": {name: row[name] for name in names if row.get(name) is not None}})
    if "choice" in row:
        fields = ("summary_a", "summary_b", "choice", "worker")
        better = better_of_two(_side(row["choice"], "choice"))
    else:
        fields, better = ("chosen", "rejected", "worker"), [[0], [1]]
    answers = [text(row, name) for name in fields[:2]]
    more = rest(row, *names, *fields) | named
    return [comparison(prompt, answers, better, more, labeler=row.get("worker"))]


def _answer(row: Row, field: str) -> str:
    """An answer. Some models answer with a number, true or nothing, and PandaLM keeps no text there."""
    value = row[field]
    if value is None:
        return ""
    return str(value) if isinstance(value, bool | int | float) else text(row, field)


def _instruction(row: Row) -> str:
    """The instruction, and its input after an empty line."""
    parts = [text(row, "instruction"), str(row.get("input") or "")]
    return "\n\n".join(part for part in parts if part.strip())


def _side(value: Any, field: str, numbers: dict[str, int | None] | None = None) -> int | None:
    """0 or 1 for the better side, None for a tie. `numbers`: what numbers mean, also in cells of a table."""
    known = _SIDES | (numbers or {})
    word = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if isinstance(value, bool | list | dict) or word not in known:
        raise ValueError(f"field '{field}': {value!r:.40} is none of {', '.join(known)}")
    return known[word]
