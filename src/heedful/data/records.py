"""Records: what people and models exchange. One record is one row of a file.

Records keep unknown fields, so that the metadata of a file survives its way through heedful. docs/data-formats.md lists
every field with an example.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from heedful.data.reading.values import parsed
from heedful.data.text import counted

ROLES = ("system", "developer", "user", "assistant", "tool")
_TEXTS = ("text", "input_text", "output_text")  # parts of OpenAI's chat and responses API


class Record(BaseModel):
    """Base of all records. Immutable, keeps unknown fields, and does not write declared fields that are empty."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    @model_serializer(mode="wrap")
    def _without_empty_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        declared = type(self).model_fields
        return {key: value for key, value in handler(self).items() if value is not None or key not in declared}

    def row(self) -> dict[str, Any]:
        """The record as one JSON object, as a file has it."""
        return self.model_dump()


class Text(Record):
    """A document for pretraining."""

    text: str

    @field_validator("text")
    @classmethod
    def _not_blank(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("is empty. Leave the row out.")
        return text


class Message(Record):
    """One turn of a chat. Chat templates get its other fields too, such as `tool_call_id` or `reasoning_content`."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    """None only in an answer that holds something else, such as tool calls."""
    tool_calls: list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """Its content, "" for none."""
        return self.content or ""

    @property
    def shown(self) -> str:
        """What people read of it: the content, and each tool call as JSON."""
        calls = [json.dumps(call.get("function", call), ensure_ascii=False) for call in self.tool_calls or []]
        return "\n".join([*([self.text] if self.text or not calls else []), *calls])


PromptText = str | list[Message]


def _check_prompt(prompt: Any) -> Any:
    """Check a prompt by hand: pydantic would report a union of types in several lines."""
    if isinstance(prompt, str):
        if not prompt.strip():
            raise ValueError("is empty. Give the text of the prompt or leave the row out.")
        return prompt
    if not isinstance(prompt, list):
        raise ValueError("must be a string or a list of messages {'role': ..., 'content': ...}")
    if not prompt:
        raise ValueError("has no messages. Give at least one, from the user.")
    messages = [_message(position, turn) for position, turn in enumerate(prompt)]
    if messages[-1].role not in ("user", "tool"):
        raise ValueError(
            f"ends with a message of the {messages[-1].role}. The last one must be the user's or a tool's."
        )
    if all(message.role != "user" for message in messages):
        raise ValueError("has no message of the user. Give at least one.")
    if messages[-1].role == "user" and not messages[-1].text.strip():
        raise ValueError("ends with an empty message. Give its text or leave the row out.")
    return messages


def _message(position: int, turn: Any) -> Message:
    if isinstance(turn, Message):
        return turn
    if not isinstance(turn, dict) or not isinstance(turn.get("role"), str):
        raise ValueError(f"message {position} must be an object with the strings 'role' and 'content'")
    if turn["role"] not in ROLES:
        raise ValueError(f"message {position} has the role {turn['role']!r}. The roles are {', '.join(ROLES)}.")
    turn = {key: value for key, value in turn.items() if value is not None}
    if (reason := wrong_weight(turn)) is not None:
        raise ValueError(f"message {position} {reason}")
    if isinstance(turn.get("content"), list):
        try:
            turn["content"] = joined(turn["content"])
        except ValueError as error:
            raise ValueError(f"message {position} {error}") from None
    if "tool_calls" in turn or "function_call" in turn:
        called = turn.pop("function_call", None)  # the older form, of one call
        turn["tool_calls"] = _calls(position, turn.get("tool_calls") or ([called] if called else []))
    holds = any(value for key, value in turn.items() if key not in ("role", "content", "name", "weight"))
    if not isinstance(turn.get("content"), str) and not (
        "content" not in turn and turn["role"] == "assistant" and holds
    ):
        raise ValueError(f"message {position} must be an object with the strings 'role' and 'content'")
    return Message.model_validate(turn)


def wrong_weight(turn: dict[str, Any]) -> str | None:
    """What is wrong with the weight of a message. None if there is none, or if it is 0 or 1."""
    weight = turn.get("weight")
    if weight is None or (isinstance(weight, int | float) and weight in (0, 1)):
        return None
    return f"has the weight {weight!r:.40}. Write 1 for an answer to learn, or 0 for context"


def joined(parts: list[Any]) -> str:
    """The text of content parts, as OpenAI's API has them. ValueError for other parts than text."""
    for part in parts:
        if not isinstance(part, dict) or part.get("type") not in _TEXTS or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise ValueError(f"holds a part of type {kind}. Only text can be read.")
    return "".join(part["text"] for part in parts)


def _calls(position: int, calls: Any) -> list[dict[str, Any]] | None:
    """Tool calls with their arguments as objects, which templates expect. OpenAI's API writes them as JSON text."""
    if not isinstance(calls, list):
        raise ValueError(f"message {position}: 'tool_calls' must be a list of calls")
    made = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError(f"message {position}: a tool call must be an object with a function that has a name")
        arguments = function.get("arguments", {})
        told = f"message {position}: the arguments of {function['name']}"
        try:
            arguments = parsed(arguments) if isinstance(arguments, str) else arguments
        except json.JSONDecodeError:
            arguments = None
        except ValueError as error:
            raise ValueError(f"{told} are no JSON ({error})") from None
        if not isinstance(arguments, dict):
            raise ValueError(f"{told} must be an object, or JSON of one")
        outer = call if "function" in call else {"type": "function"}
        made.append({**outer, "function": {**function, "arguments": arguments}})
    return made or None


def _tools(tools: Any) -> Any:
    """Descriptions of tools: a list, or JSON of one, as some files have it."""
    try:
        tools = (parsed(tools) if tools.strip() else None) if isinstance(tools, str) else tools
    except ValueError:
        tools = {}
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise ValueError("must be a list of objects that describe tools, or JSON of one")
    return [_tool(tool) for tool in tools or []] or None


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """The description of a tool in the form that templates expect. Some write nothing for a tool without `function`."""
    if "function" in tool or not isinstance(tool.get("name"), str):
        return tool
    names = {"input_schema": "parameters"}
    return {"type": "function", "function": {names.get(key, key): tool[key] for key in tool if key != "type"}}


def _name(value: Any) -> Any:
    """Accept a whole number as a name, since some files number their users and rows."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Name = Annotated[str, BeforeValidator(_name)]


class Prompt(Record):
    """A prompt: a string, or chat messages of which the last is the user's or a tool's."""

    prompt: Annotated[PromptText, BeforeValidator(_check_prompt)]
    tools: Annotated[list[dict[str, Any]] | None, BeforeValidator(_tools)] = None
    """Tools that the model may call, for its chat template."""
    id: Name | None = None
    user: Name | None = None
    source: str | None = None
    use_case: str | None = None
    split: str | None = None


class Demonstration(Prompt):
    """A prompt with the answer that a person wrote."""

    completion: str
    completion_message: Message | None = None
    """The answer as a message of the assistant, if it holds more than its text, such as tool calls."""
    labeler: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_message(cls, row: Any) -> Any:
        return with_text(row)


def with_text(row: Any) -> Any:
    """A row with the text of its completion, where that is a message. What else it holds is `completion_message`."""
    answer = row.get("completion") if isinstance(row, dict) else None
    if not isinstance(answer, dict):
        return row
    try:
        message = _message(0, answer | {"role": "assistant"})
    except ValueError as error:
        raise ValueError(str(error).replace("message 0", "the answer")) from None
    more = message.row().keys() - {"role", "content"}
    return {**row, "completion": message.text, **({"completion_message": message} if more else {})}


class Completions(Prompt):
    """A prompt with K sampled answers. Each optional list has one entry for each answer."""

    completions: list[str]
    models: list[str | None] | None = None
    finish: list[Literal["stop", "length"]] | None = None
    token_ids: list[list[Annotated[StrictInt, Field(ge=0)]]] | None = None
    scores: list[Annotated[float, Field(allow_inf_nan=False, strict=True)]] | None = None

    @field_validator("completions")
    @classmethod
    def _some(cls, completions: list[str]) -> list[str]:
        if not completions:
            raise ValueError("is empty. Give at least one completion or leave the row out.")
        return completions

    @field_validator("models", "finish", "token_ids", "scores", "ratings", check_fields=False)
    @classmethod
    def _aligned(cls, values: list[Any] | None, info: ValidationInfo) -> list[Any] | None:
        K = len(info.data.get("completions", []))
        if values is not None and K and len(values) != K:
            fit = f"{counted(len(values), 'entries')} for {counted(K, 'completions')}"
            raise ValueError(f"has {fit}. Give one for each completion.")
        return values


class Rating(Record):
    """One completion judged alone (D9): overall quality 1-7 and true/false statements. None: not asked."""

    overall: Annotated[StrictInt, Field(ge=1, le=7)] | None = None
    fails_instruction: StrictBool | None = None
    inappropriate: StrictBool | None = None
    hallucination: StrictBool | None = None
    satisfies_constraint: StrictBool | None = None
    sexual: StrictBool | None = None
    violent: StrictBool | None = None
    encourages_harm: StrictBool | None = None
    denigrates: StrictBool | None = None
    harmful_advice: StrictBool | None = None
    opinion: StrictBool | None = None
    moral_judgment: StrictBool | None = None


Weight = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False, strict=True)]
"""Of a judgement in the training of a reward model. None: 1."""


class Comparison(Completions):
    """K >= 2 completions ranked by a labeler (D10). `ranking` lists tiers of indices, best first. Ties share a tier."""

    ranking: list[list[StrictInt]]
    none_acceptable: StrictBool | None = None
    order: list[StrictInt] | None = None
    labeler: Name | None = None
    group: Name | None = None
    ratings: list[Rating] | None = None
    labeler_model: str | None = None
    """The model that judged, if no person did."""
    weight: Weight | None = None

    @field_validator("completions")
    @classmethod
    def _comparable(cls, completions: list[str]) -> list[str]:
        if len(completions) == 1:
            raise ValueError(
                "has one completion, a comparison needs two or more. Sample with -k 2 or leave the row out."
            )
        return completions

    @field_validator("ranking")
    @classmethod
    def _partition(cls, ranking: list[list[int]], info: ValidationInfo) -> list[list[int]]:
        K = len(info.data.get("completions", []))
        if not K:
            return ranking  # the error is in the completions, which report it
        example = [[k] for k in range(K)] if K < 5 else f"[[0], [1], ..., [{K - 1}]]"
        if not all(ranking):
            raise ValueError("has an empty tier. Every tier holds at least one index.")
        flat = [index for tier in ranking for index in tier]
        if sorted(flat) != list(range(K)):
            raise ValueError(
                f"must name each of 0..{K - 1} exactly once, as in {example} (best first, ties share a tier)"
            )
        return ranking

    @field_validator("order")
    @classmethod
    def _permutation(cls, order: list[int] | None, info: ValidationInfo) -> list[int] | None:
        K = len(info.data.get("completions", []))
        if order is not None and K and sorted(order) != list(range(K)):
            raise ValueError(
                f"must list each of 0..{K - 1} once, in the order in which the labeler saw the completions"
            )
        return order

    def ranks(self) -> list[int]:
        """The tier of each completion. 0 is the best, and equal numbers are ties."""
        tier_of = {index: tier for tier, indices in enumerate(self.ranking) for index in indices}
        return [tier_of[k] for k in range(len(self.completions))]

    def pairs(self) -> list[tuple[int, int]]:
        """All (winner, loser) indices from different tiers. Ties give no pair (R3)."""
        tiers = self.ranking
        return [
            (winner, loser)
            for better, tier in enumerate(tiers)
            for worse in tiers[better + 1 :]
            for winner in tier
            for loser in worse
        ]


class Answer(Record):
    """One side of a choice."""

    text: str
    model: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, side: Any) -> Any:
        """Accept the text alone."""
        return {"text": side} if isinstance(side, str) else side


class Choice(Prompt):
    """Two answers to a prompt and which one a person prefers."""

    a: Answer
    b: Answer
    preferred: Literal["a", "b", "tie"]
    none_acceptable: StrictBool | None = None
    labeler: Name | None = None
    group: Name | None = None
    labeler_model: str | None = None
    weight: Weight | None = None


class Reacted(Prompt):
    """What a user of a served model said about an answer. Reward training reads none of these rows."""

    answer: Answer
    settings: dict[str, Any] | None = None
    labeler: Name | None = None


class Thumb(Reacted):
    """A thumb up or down."""

    up: StrictBool
    reasons: list[str] | None = None
    comment: str | None = None


class Edit(Reacted):
    """The answer as its user would have it."""

    edited: str


class Pick(Prompt):
    """A choice between two answers side by side. `blind`: no model was named before it."""

    left: Answer
    right: Answer
    outcome: Literal["left", "right", "tie", "both_bad"]
    blind: StrictBool
    settings: dict[str, Any] | None = None
    labeler: Name | None = None

    def choice(self) -> dict[str, Any]:
        """The judgement as a `Choice` has it."""
        preferred = {"left": "a", "right": "b"}.get(self.outcome, "tie")
        return {"preferred": preferred, **({"none_acceptable": True} if self.outcome == "both_bad" else {})}


def as_text(prompt: PromptText) -> str:
    """The words of a prompt, to show and to compare. `models.render` makes the text that models read."""
    return prompt if isinstance(prompt, str) else "\n\n".join(message.shown for message in prompt)
