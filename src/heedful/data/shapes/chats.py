"""Chats and instructions: prompts and demonstrations from messages of several spellings."""

from __future__ import annotations

import re
from typing import Any

from heedful.data.reading.values import parsed
from heedful.data.records import joined, wrong_weight
from heedful.data.shapes.parts import filled, rest
from heedful.files import Row

_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant): ?")
ROLES = {
    "human": "user", "user": "user", "prompter": "user", "user_message": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
    "model": "assistant", "bot": "assistant", "ai": "assistant",
    "system": "system", "developer": "system",
    "tool": "tool", "function": "tool", "observation": "tool", "tool_response": "tool",
    "function_call": "assistant", "tool_call": "assistant",
}  # fmt: skip
_NAMES = {"from": "role", "value": "content"}
_LEARNED = ("loss", "train", "training")
"""What other trainers call the weight of a message."""
CHATS = ("messages", "conversations", "conversation")
_ASKING = ("instruction", "question", "query", "input", "inputs")
_EXTRAS = ("input", "context", "query")
LATER = "later_messages"
ANSWERS = ("completion", "output", "response", "solution", "answer", "target", "targets")


def is_transcript(value: str) -> bool:
    """Whether a text is a dialogue written as "\\n\\nHuman: ...\\n\\nAssistant: ..."."""
    return value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def transcript(value: str) -> list[Row]:
    """The turns of such a dialogue, as messages."""
    _, *parts = _TURN.split(value)
    return [
        {"role": ROLES[speaker.lower()], "content": content}
        for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    ]


def asked(turns: list[Row]) -> list[Row]:
    """The turns without an empty last one: a transcript that stops at "Assistant:" asks for the answer."""
    return turns[:-1] if turns and turns[-1]["role"] == "assistant" and not turns[-1]["content"].strip() else turns


def chat(value: Any, field: str) -> list[Any]:
    """A list of messages with `role` and `content`, from any spelling of it."""
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise ValueError(f"field '{field}': must be a list of messages {{'role': ..., 'content': ...}}")
    if value and all(turn.keys() == {"input", "output"} for turn in value):
        return [said for turn in value for said in turns_of(turn["input"], turn["output"])]
    return [message(turn, field, n) for n, turn in enumerate(value)]


def message(turn: Row, field: str, number: int = 0) -> Row:
    """A message with `role` and `content`. Its other fields stay."""
    for other, name in _NAMES.items():
        if other in turn and name not in turn:
            turn = {name: turn[other], **rest(turn, other)}
    for name in _LEARNED:
        if isinstance(turn.get(name), bool) and "weight" not in turn:
            turn = {**rest(turn, name), "weight": int(turn[name])}
    if (reason := wrong_weight(turn)) is not None:
        raise ValueError(f"field '{field}': message {number} {reason}")
    role = turn.get("role")
    made = {**turn, "role": ROLES.get(role.lower(), role) if isinstance(role, str) else role}
    if role in ("function_call", "tool_call"):
        made["content"], made["tool_calls"] = "", _called(turn.get("content"), field, number)
    elif isinstance(turn.get("content"), list):
        try:
            made["content"] = joined(turn["content"])
        except ValueError as error:
            raise ValueError(f"field '{field}': message {number} {error}") from None
    return made


def _called(content: Any, field: str, number: int) -> list[Row]:
    """The tool calls that a message of the role function_call spells as JSON."""
    try:
        calls = parsed(content) if isinstance(content, str) else content
    except ValueError:
        calls = None
    calls = calls if isinstance(calls, list) else [calls]
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        raise ValueError(f"field '{field}': message {number}: its function call is not JSON with a name and arguments")
    return [{"type": "function", "function": call} for call in calls]


def with_system(prompt: Any, system: Any, field: str = "system") -> Any:
    """A prompt with a system message before it, if there is one."""
    if system is None or system == "" or not isinstance(prompt, str | list):
        return prompt
    if not isinstance(system, str):
        raise ValueError(f"field '{field}': must be a string")
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if turns and turns[0].get("role") == "system":
        if turns[0].get("content") == system:
            return turns
        raise ValueError(f"field '{field}': the chat has a system message too. Delete one of the two.")
    return [{"role": "system", "content": system}, *turns]


def chat_field(row: Row) -> str | None:
    """The field of the row that holds a chat."""
    return next((name for name in CHATS if isinstance(row.get(name), list) and row[name]), None)


def messages(row: Row) -> list[Row]:
    """A demonstration from a chat: the last turn of the assistant is the completion. Else a prompt.

    Turns of the assistant with `weight` 0 are not to be learned, so the last one with another weight counts. What
    follows it stays in the field `later_messages`.
    """
    name = next(name for name in CHATS if name in row)
    if not isinstance(row[name], list) or not row[name]:
        raise ValueError(f"field '{name}': must be a list of messages {{'role': ..., 'content': ...}}")
    turns = chat(row[name], name)
    more = rest(row, name, "system")
    if isinstance(row.get("functions"), list) and "tools" not in row:  # OpenAI's older name
        more["tools"] = [{"type": "function", "function": called} for called in more.pop("functions")]
    given = more.pop("prompt", None)
    if given is not None and not any(given in (turn.get("content"), [turn]) for turn in turns):
        more["prompt_as_given"] = given
    if turns[-1].get("role") != "assistant":
        return [{"prompt": with_system(turns, row.get("system")), **more}]
    last = max((n for n, turn in enumerate(turns) if _to_learn(turn)), default=None)
    if last is None:
        raise ValueError(f"field '{name}': every answer has weight 0, so there is nothing to learn. Leave the row out.")
    more |= {LATER: turns[last + 1 :]} if turns[last + 1 :] else {}
    prompt = with_system(turns[:last], row.get("system"))
    return [{"prompt": prompt, **more, **answer(turns[last])}]


def demonstration(rows: list[Row]) -> list[Row]:
    """A demonstration from a chat. ValueError for one that asks."""
    made = messages(rows[0])
    if "completion" not in made[0]:
        name = next(name for name in CHATS if name in rows[0])
        last = made[0]["prompt"][-1].get("role")
        raise ValueError(
            f"field '{name}': ends with a message of the {last}, so it has no answer to learn from. Delete that message"
            " or leave the row out."
        )
    return made


def _to_learn(turn: Row) -> bool:
    return turn.get("role") == "assistant" and turn.get("weight") not in (0, 0.0, False)


def answer(turn: Row) -> Row:
    """The fields of a demonstration for the assistant's message. It stays whole unless it is only a text to learn."""
    more = {key for key, value in turn.items() if value is not None} - {"role", "content", "weight"}
    return {"completion": turn if more or not _to_learn(turn) else turn.get("content")}


def messages_kind(row: Row) -> str:
    """demonstrations if the chat ends with the assistant, else prompts."""
    turns = row[next(name for name in CHATS if name in row)]
    last = turns[-1] if isinstance(turns, list) and turns and isinstance(turns[-1], dict) else {}
    role = last.get("role", last.get("from", "assistant" if "output" in last else None))
    return "demonstrations" if isinstance(role, str) and ROLES.get(role.lower()) == "assistant" else "prompts"


def instruction_prompt(row: Row) -> tuple[Any, list[str]]:
    """(prompt, fields that it used) of an instruction or a question, with input, system message and earlier turns."""
    name = next(name for name in _ASKING if name in row)
    extra = next((key for key in _EXTRAS if name == "instruction" and key in row), None)
    for field in (name, extra):
        if field is not None and row[field] is not None and not isinstance(row[field], str):
            raise ValueError(f"field '{field}': must be a string")
    parts = [row[name], row[extra] if extra else None]
    prompt: Any = "\n\n".join(part for part in parts if part and part.strip())
    if history := row.get("history"):
        prompt = [*_history(history), {"role": "user", "content": prompt}]
    return with_system(prompt, row.get("system")), [name, "system", "history", *([extra] if extra else [])]


def _history(value: Any) -> list[Row]:
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise ValueError("field 'history': must be a list of pairs [question, answer]")
    return [turn for ask, reply in value for turn in turns_of(ask, reply)]


def turns_of(ask: Any, reply: Any) -> list[Row]:
    """A question and its answer as messages."""
    return [{"role": "user", "content": ask}, {"role": "assistant", "content": reply}]


def instruction(row: Row) -> list[Row]:
    """A demonstration from an instruction or a question, and the answer. If there is a solution, `answer` stays."""
    prompt, used = instruction_prompt(row)
    name = next((key for key in ANSWERS if row.get(key) is not None), None)
    more = rest(row, *used, *([name] if name else []))
    return [{"prompt": prompt, **more, **({"completion": row[name]} if name else {})}]


def asked_alone(rows: list[Row]) -> list[Row]:
    """The prompt of a row with its answer. The answer stays as a field, since a reward may compare with it."""
    row = rows[0]
    if "prompt" in row:
        return prompt_alone(row)
    prompt, used = instruction_prompt(row)
    return [{"prompt": prompt, **rest(row, *used)}]


def prompt_completion(row: Row) -> list[Row]:
    """A demonstration from `prompt` and an answer: a text, or messages of which the last is the assistant's."""
    name = next((key for key in ANSWERS if row.get(key) is not None), None)
    if name is None:
        empty = next(key for key in ANSWERS if key in row)
        raise ValueError(f"field '{empty}': missing. Give it or leave the row out.")
    prompt, completion = row["prompt"], row[name]
    if isinstance(prompt, list):
        prompt = chat(prompt, "prompt")
    if isinstance(completion, list):
        turns = chat(completion, name)
        if not turns or turns[-1].get("role") != "assistant":
            raise ValueError(f"field '{name}': a list of messages must end with the assistant's. Complete it.")
        if len(turns) > 1:
            prompt = [*([{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt), *turns[:-1]]
        fields = answer(turns[-1])
    else:
        fields = {"completion": completion}
    return [{"prompt": with_system(prompt, row.get("system")), **rest(row, "prompt", name, "system"), **fields}]


def prompt_alone(row: Row) -> list[Row]:
    """A prompt as it is, with its chat in one spelling."""
    prompt = row["prompt"]
    if isinstance(prompt, list) and all(isinstance(turn, dict) for turn in prompt):
        prompt = chat(prompt, "prompt")
    return [{"prompt": with_system(prompt, row.get("system")), **rest(row, "prompt", "system")}]


def is_chat(value: Any) -> bool:
    """Whether a value is a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) for turn in value)


def is_question(row: Row) -> bool:
    """Whether a row has a question as text."""
    return any(isinstance(row.get(name), str) for name in _ASKING)


def prompt_of(row: Row) -> tuple[Any, list[str]]:
    """(prompt, fields that it used) of a row whose answers are in other fields: whatever holds the question."""
    if filled(row, "prompt"):
        prompt = row["prompt"]
        if isinstance(prompt, str) and is_transcript(prompt):
            return with_system(asked(transcript(prompt)), row.get("system")), ["prompt", "system"]
        prompt = chat(prompt, "prompt") if is_chat(prompt) else prompt
        return with_system(prompt, row.get("system")), ["prompt", "system"]
    if (name := chat_field(row)) is not None:
        return with_system(chat(row[name], name), row.get("system")), [name, "system"]
    if "instruction" in row or is_question(row):
        return instruction_prompt(row)
    return None, []
