"""Records as rows for other trainers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from heedful.config import UserError
from heedful.data.records import Choice, Comparison, Demonstration, Message, Prompt, PromptText, Record
from heedful.files import Row

_NOTED = {"labeler", "group", "split"}
_WRITTEN = {
    "prompt", "completion", "completion_message", "completions", "ranking", "a", "b", "preferred", "tools",
}  # fmt: skip


def to_public(records: Iterable[Record], form: str = "trl") -> Iterator[Row]:
    """Rows in one of FORMS: a row for each demonstration, for every ranked pair and for every decided choice.

    Ties give no row. Rows keep labeler, group and split if the form has room for them.
    """
    if form not in FORMS:
        raise UserError(f"--form {form}: no such form. Choose from {', '.join(FORMS)}")
    write_demonstration, write_pair = FORMS[form]
    for record in _of_one_type(list(records)):
        if isinstance(record, Demonstration):
            yield write_demonstration(record, record.completion)
        elif isinstance(record, Comparison):
            for winner, loser in record.pairs():
                yield write_pair(record, record.completions[winner], record.completions[loser])
        elif isinstance(record, Choice):
            if record.preferred != "tie":
                sides = (record.a.text, record.b.text)
                yield write_pair(record, *(sides if record.preferred == "a" else sides[::-1]))
        else:
            kind = type(record).__name__.lower()
            raise UserError(f"no public form for a {kind} row. Export demonstrations, comparisons or choices.")


def left_out(records: Iterable[Record], form: str = "trl") -> list[str]:
    """The fields of these records for which a form has no room."""
    kept = _WRITTEN if form == "openai" else _WRITTEN | _NOTED
    names: dict[str, None] = {}
    for record in records:
        row = record.row()
        names |= {name: None for name, value in row.items() if name not in kept and value not in (None, "", [], {})}
        for side in (row[side] for side in "ab" if isinstance(record, Choice)):
            names |= {f"a.{name}": None for name in side if name != "text"}
    return sorted(names)


def is_tied(record: Record) -> bool:
    """Whether a record says that all its answers are alike, so that it has no pair."""
    return (isinstance(record, Comparison) and not record.pairs()) or (
        isinstance(record, Choice) and record.preferred == "tie"
    )


def _of_one_type(records: list[Record]) -> list[Record]:
    """The records. If a prompt is a chat, all are: other trainers read columns of one type."""
    prompts = [record for record in records if isinstance(record, Prompt)]
    if all(isinstance(record.prompt, str) for record in prompts):
        return records
    return [record.model_copy(update={"prompt": _turns(record.prompt)}) for record in prompts]


def _turns(prompt: PromptText) -> list[Message]:
    return [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt


def _notes(record: Prompt) -> Row:
    """Who judged or wrote, and the split, as far as the record says."""
    named = {name: getattr(record, name, None) for name in ("labeler", "group", "split")}
    return {name: value for name, value in named.items() if value is not None}


def _plain(prompt: PromptText) -> Any:
    return prompt if isinstance(prompt, str) else [message.row() for message in prompt]


def _reply(prompt: PromptText, text: str) -> Any:
    return text if isinstance(prompt, str) else _assistant(text)


def _assistant(text: str) -> list[Row]:
    return [{"role": "assistant", "content": text}]


def _said(record: Prompt, text: str) -> list[Row]:
    """The answer of a demonstration as a message, with all that it holds."""
    message = record.completion_message if isinstance(record, Demonstration) else None
    return _assistant(text) if message is None else [message.row()]


def _tools(record: Prompt) -> Row:
    return {"tools": record.tools} if record.tools else {}


def _messages(prompt: PromptText) -> list[Row]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else _plain(prompt)


def _trl_demonstration(record: Prompt, text: str) -> Row:
    """`prompt` and `completion`. If the prompt is a chat, the answer is a list of one message."""
    turns = _said(record, text)
    answer = turns if turns[0].keys() > {"role", "content"} else _reply(record.prompt, text)
    return {"prompt": _plain(record.prompt), "completion": answer, **_tools(record), **_notes(record)}


def _trl_pair(record: Prompt, better: str, worse: str) -> Row:
    """`prompt`, `chosen` and `rejected`. If the prompt is a chat, each answer is a list of one message."""
    sides = {"chosen": _reply(record.prompt, better), "rejected": _reply(record.prompt, worse)}
    return {"prompt": _plain(record.prompt), **sides, **_tools(record), **_notes(record)}


def _openai_demonstration(record: Prompt, text: str) -> Row:
    """`messages`. OpenAI refuses fields that it does not know."""
    return {"messages": [*_messages(record.prompt), *_said(record, text)], **_tools(record)}


def _openai_pair(record: Prompt, better: str, worse: str) -> Row:
    """`input`, `preferred_output` and `non_preferred_output`."""
    return {
        "input": {"messages": _messages(record.prompt), **_tools(record)},
        "preferred_output": _assistant(better),
        "non_preferred_output": _assistant(worse),
    }


_Write = tuple[Callable[[Prompt, str], Row], Callable[[Prompt, str, str], Row]]
FORMS: dict[str, _Write] = {
    "trl": (_trl_demonstration, _trl_pair),
    "openrlhf": (_trl_demonstration, _trl_pair),  # with input_key and prompt_key "prompt", output_key "completion"
    "openai": (_openai_demonstration, _openai_pair),
}
"""The forms of rows, with the functions that write a demonstration and a pair."""
