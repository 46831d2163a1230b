"""Head-to-head items (D8) from two files of answers, and what of the files finds no partner."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heedful.config import UserError
from heedful.data.records import Completions, Prompt, as_text
from heedful.feedback.columns import digest
from heedful.feedback.judgements import Versus

SHOWN, LONGEST = 3, 60


@dataclass(frozen=True)
class Paired:
    """Pairs of answers, and what is left of each of the two files."""

    pairs: list[Versus]
    alone: tuple[list[str], list[str]]
    """The prompts of the rows that have no partner."""
    further: tuple[int, int]
    """The number of answers after the first of their row."""

    def left_out(self, names: Sequence[str]) -> list[str]:
        """What the pairs do not use, as lines. `names`: of the two files."""
        return [
            line
            for name, other, alone, further in zip(names, reversed(names), self.alone, self.further, strict=True)
            for line in (_alone(name, other, alone), _further(name, further))
            if line
        ]


def pair(a: Sequence[Completions], b: Sequence[Completions]) -> Paired:
    """Pair the rows of two files by their prompt: the n-th row of a prompt with the n-th of the other file.

    The first completion of each row counts. A chat of one user message is the same prompt as its text.
    """
    waiting: dict[str, deque[Completions]] = defaultdict(deque)
    for record in b:
        waiting[_key(record)].append(record)
    pairs, alone = [], []
    for record in a:
        theirs = waiting[_key(record)]
        if theirs:
            pairs.append(_versus(record, theirs.popleft()))
        else:
            alone.append(as_text(record.prompt))
    if not pairs:
        raise UserError("the two files answer no prompt in common. Sample both from the same prompts")
    left = {id(record) for records in waiting.values() for record in records}
    others = [as_text(record.prompt) for record in b if id(record) in left]
    return Paired(pairs, (alone, others), (_more(a), _more(b)))


def _key(record: Completions) -> str:
    """The same for the prompts that labelers read as the same."""
    prompt: Any = record.row()["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1 and prompt[0].keys() == {"role", "content"}:
        prompt = prompt[0]["content"] if prompt[0]["role"] == "user" else prompt
    return digest(prompt)


def _versus(ours: Completions, theirs: Completions) -> Versus:
    fields = {key: value for key, value in ours.row().items() if key in Prompt.model_fields}
    return Versus.model_validate({**fields, "a": _answer(ours), "b": _answer(theirs)})


def _answer(record: Completions) -> dict[str, Any]:
    return {"text": record.completions[0], "model": record.models[0] if record.models else None}


def _more(records: Sequence[Completions]) -> int:
    return sum(len(record.completions) - 1 for record in records)


def _alone(name: str, other: str, prompts: Sequence[str]) -> str:
    if not prompts:
        return ""
    shown = [text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for text in map(_line, prompts[:SHOWN])]
    more = f" and {len(prompts) - SHOWN:,} more" if len(prompts) > SHOWN else ""
    rows = "row answers a prompt" if len(prompts) == 1 else "rows answer prompts"
    return f"{name}: {len(prompts):,} {rows} that {other} does not answer: {', '.join(f'“{t}”' for t in shown)}{more}"


def _line(text: str) -> str:
    return " ".join(text[: 4 * LONGEST].split())


def _further(name: str, count: int) -> str:
    answers = "answer after the first of its row" if count == 1 else "answers after the first of their row"
    return f"{name}: {count:,} {answers}. Only the first is compared" if count else ""
