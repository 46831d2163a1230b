"""Convert the row shapes of public data sets to records, and records to the two shapes that other trainers read.

Each reader takes one row and returns the fields of a record. Other fields do not change. A ValueError says
"field 'x': what. Remedy.".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from heedful.config import UserError
from heedful.data.records import Choice, Comparison, Completions, Demonstration, Prompt, PromptText, Record

Row = dict[str, Any]

_ANSWER_FIELDS = {name for cls in (Demonstration, Completions, Comparison, Choice) for name in cls.model_fields} - set(
    Prompt.model_fields
)
_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant): ?")
_ROLE_OF = {"Human": "user", "Assistant": "assistant"}


def to_native(row: Row, record_type: type[Record]) -> Row:
    """The row in the fields of records if its shape is a known public one, else the row itself."""
    if not issubclass(record_type, Prompt):
        return row
    if "completions" not in row and "chosen" in row and "rejected" in row:
        row = pairwise(row)
    elif isinstance(row.get("completion"), list):
        row = prompt_completion(row)
    elif "prompt" not in row:
        for field, convert in (("messages", messages), ("instruction", instruction), ("question", question)):
            if field in row:
                row = convert(row)
                break
    return without_answers(row) if record_type is Prompt else row


def without_answers(row: Row) -> Row:
    """A demonstration, comparison or choice without the fields of its answers: a prompt."""
    if not {"completion", "completions", "preferred"} & row.keys():
        return row
    return {key: value for key, value in row.items() if key not in _ANSWER_FIELDS}


def pairwise(row: Row) -> Row:
    """A comparison of two from `chosen` and `rejected`, with or without `prompt`.

    The answers are strings, message lists, or full "\\n\\nHuman: ...\\n\\nAssistant: ..." transcripts.
    """
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if isinstance(prompt, str) and is_transcript(prompt):
        prompt = _without_cue(transcript(prompt))
    if isinstance(chosen, list) and isinstance(rejected, list):
        prompt, completions = _cut(prompt, {"chosen": chosen, "rejected": rejected})
    elif not isinstance(chosen, str) or not isinstance(rejected, str):
        raise ValueError("field 'chosen': must be a string or a list of messages, and 'rejected' of the same kind")
    elif is_transcript(chosen) and is_transcript(rejected):
        prompt, completions = _cut(prompt, {"chosen": transcript(chosen), "rejected": transcript(rejected)})
    elif prompt is None:
        raise ValueError("field 'prompt': missing. Give the prompt, or full transcripts in 'chosen' and 'rejected'.")
    elif prompt != row["prompt"]:  # the answers of a transcript start with the space after "Assistant:"
        completions = [chosen.removeprefix(" "), rejected.removeprefix(" ")]
    else:
        completions = [chosen, rejected]
    rest = _rest(row, "prompt", "chosen", "rejected")
    return {"prompt": prompt, **rest, "completions": completions, "ranking": [[0], [1]]}


def prompt_completion(row: Row) -> Row:
    """A demonstration from a `completion` that is a list with one message of the assistant."""
    completion = row["completion"]
    if len(completion) != 1 or _role(completion[0]) != "assistant":
        raise ValueError("field 'completion': a list must hold exactly one message, the assistant's")
    return {**row, "completion": completion[0].get("content")}


def messages(row: Row) -> Row:
    """A demonstration from `messages`: the last turn of the assistant is the completion, the rest the prompt."""
    turns = row["messages"]
    if not isinstance(turns, list) or not turns:
        raise ValueError("field 'messages': must be a list of messages {'role': ..., 'content': ...}")
    rest = _rest(row, "messages")
    if _role(turns[-1]) != "assistant":
        return {"prompt": turns, **rest}
    return {"prompt": turns[:-1], **rest, "completion": turns[-1].get("content")}


def instruction(row: Row) -> Row:
    """A demonstration from `instruction`, `input` or `context`, and `output` or `response`."""
    extra = next((key for key in ("input", "context") if key in row), None)
    parts = [row["instruction"], row[extra] if extra else None]
    for field, part in zip(("instruction", extra), parts, strict=True):
        if part is not None and not isinstance(part, str):
            raise ValueError(f"field '{field}': must be a string")
    prompt = "\n\n".join(part for part in parts if part and part.strip())
    return _answered(row, prompt, ("output", "response"), "instruction", *([extra] if extra else []))


def question(row: Row) -> Row:
    """A demonstration from `question` and `solution`, or `answer` if there is no solution."""
    return _answered(row, row["question"], ("solution", "answer"), "question")


def is_transcript(text: str) -> bool:
    """Whether a text is a dialogue written as "\\n\\nHuman: ...\\n\\nAssistant: ..."."""
    return text.lstrip().startswith("Human:") and "\n\nAssistant:" in text


def transcript(text: str) -> list[Row]:
    """The turns of such a dialogue, as messages."""
    _, *parts = _TURN.split(text)
    return [
        {"role": _ROLE_OF[speaker], "content": content}
        for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    ]


def to_public(records: Iterable[Record]) -> Iterator[Row]:
    """Rows for TRL and OpenRLHF: `prompt`, `completion`, or `prompt`, `chosen`, `rejected` for every ranked pair.

    Ties give no row. If the prompt is a list of messages, each answer is a list of one message.
    """
    for record in records:
        if isinstance(record, Demonstration):
            yield {"prompt": _plain(record.prompt), "completion": _reply(record.prompt, record.completion)}
        elif isinstance(record, Comparison):
            answers = record.completions
            for winner, loser in record.pairs():
                yield _pair(record.prompt, answers[winner], answers[loser])
        elif isinstance(record, Choice):
            if record.preferred != "tie":
                sides = (record.a.text, record.b.text)
                yield _pair(record.prompt, *(sides if record.preferred == "a" else sides[::-1]))
        else:
            kind = type(record).__name__.lower()
            raise UserError(f"no public form for a {kind} row. Export demonstrations, comparisons or choices.")


def _cut(prompt: Any, sides: dict[str, list[Row]]) -> tuple[Any, list[Any]]:
    """Split two dialogues into the prompt that they share and the last answer of each."""
    if isinstance(prompt, list):
        sides = {name: turns if turns[: len(prompt)] == prompt else prompt + turns for name, turns in sides.items()}
    for name, turns in sides.items():
        if not turns or _role(turns[-1]) != "assistant":
            raise ValueError(f"field '{name}': must end with the assistant's answer. Complete it or leave the row out.")
    shared, other = ([*turns[:-1]] for turns in sides.values())
    if shared != other:
        raise ValueError(
            "field 'rejected': differs from 'chosen' before the last answer. Cut both there or leave the row out."
        )
    if isinstance(prompt, str):
        if shared and (_role(shared[-1]) != "user" or shared[-1].get("content") != prompt):
            raise ValueError("field 'prompt': is not the last question of 'chosen'. Delete the field or correct it.")
        prompt = shared or prompt
    else:
        prompt = shared
    return prompt, [turns[-1].get("content") for turns in sides.values()]


def _without_cue(turns: list[Row]) -> list[Row]:
    """The turns without an empty last one: a transcript that stops at "Assistant:" asks for the answer."""
    return turns[:-1] if turns[-1]["role"] == "assistant" and not turns[-1]["content"].strip() else turns


def _answered(row: Row, prompt: Any, answers: tuple[str, ...], *consumed: str) -> Row:
    answer = next((key for key in answers if row.get(key) is not None), None)
    rest = _rest(row, *consumed, *([answer] if answer else []))
    return {"prompt": prompt, **rest, **({"completion": row[answer]} if answer else {})}


def _rest(row: Row, *consumed: str) -> Row:
    return {key: value for key, value in row.items() if key not in consumed}


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _plain(prompt: PromptText) -> Any:
    return prompt if isinstance(prompt, str) else [message.row() for message in prompt]


def _reply(prompt: PromptText, text: str) -> Any:
    return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]


def _pair(prompt: PromptText, better: str, worse: str) -> Row:
    return {"prompt": _plain(prompt), "chosen": _reply(prompt, better), "rejected": _reply(prompt, worse)}
