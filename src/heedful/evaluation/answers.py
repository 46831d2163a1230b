"""Answers to compare: read from a file, or sampled from a model. Both models get the same random streams."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field, ValidationInfo, field_validator, model_validator

from heedful.config import UserError
from heedful.configs.shared import Compute, Generation, RefusedRows
from heedful.data import formats
from heedful.data.records import Message, Prompt, PromptText, as_text, with_text
from heedful.models import refusals, render
from heedful.models.templates import TemplateRefused
from heedful.rollout.draw import draw
from heedful.rollout.engine import load_engine
from heedful.rollout.room import keep_fitting, longest_prompt
from heedful.rollout.types import Finish


class Written(NamedTuple):
    """One answer. `finish` is "length" if it was cut off, None if that is unknown."""

    text: str
    finish: Finish | None = None


Answers = dict[str, list[Written]]
"""The answers of one side, by `key` of the prompt."""


class Answered(Prompt):
    """A row of a file of demonstrations or completions."""

    completion: str | None = None
    completion_message: Message | None = None
    completions: list[str] = Field(default=[], validate_default=True)
    finish: list[Finish] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_message(cls, row: Any) -> Any:
        """Accept a message as the completion, such as one with thoughts."""
        return with_text(row)

    @field_validator("completions")
    @classmethod
    def _some(cls, completions: list[str], info: ValidationInfo) -> list[str]:
        if not completions and info.data.get("completion") is None:
            raise ValueError("missing. A row needs completion or completions")
        return completions

    @field_validator("finish")
    @classmethod
    def _aligned(cls, finish: list[Finish] | None, info: ValidationInfo) -> list[Finish] | None:
        if finish is not None and len(finish) != len(info.data.get("completions", [])):
            raise ValueError("needs one entry for each completion")
        return finish

    def written(self) -> list[Written]:
        """The answers of the row. Raises UserError for tool calls."""
        if self.completion_message is not None and self.completion_message.tool_calls:
            raise UserError("its answer has tool calls. Only texts can be compared. Leave the row out")
        if not self.completions:
            assert self.completion is not None
            return [Written(self.completion)]
        finishes: Sequence[Finish | None] = self.finish or [None] * len(self.completions)
        return [Written(*pair) for pair in zip(self.completions, finishes, strict=True)]


def key(prompt: PromptText) -> str:
    """The key of a prompt: its text. A chat of one user message has the key of that message."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].text
    turns = [[turn.role, turn.content, *([turn.tool_calls] if turn.tool_calls else [])] for turn in prompt]
    return json.dumps(turns, ensure_ascii=False)


def is_file(ref: str) -> bool:
    """Whether `ref` names a file of answers (or a snapshot of one) rather than a model."""
    path = Path(ref)
    return path.is_file() or ref.endswith(formats.READABLE) or (path / formats.SNAPSHOT_ROWS).is_file()


def unique(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The first row of each prompt. Raises UserError for rows that differ in their tools alone."""
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        if first.setdefault(key(prompt.prompt), prompt).tools != prompt.tools:
            raise UserError(f"{shown(prompt.prompt)}: stands in two rows with other `tools`. Leave one of them out")
    return list(first.values())


def read(path: str) -> tuple[list[Prompt], Answers]:
    """The prompts and answers of a file of completions or demonstrations. Rows of one prompt are joined."""
    answers: Answers = {}
    rows = formats.read(path, Answered)
    for number, row in enumerate(rows, start=1):
        try:
            answers.setdefault(key(row.prompt), []).extend(row.written())
        except UserError as error:
            raise UserError(f"{path}: row {number}: {error}") from None
    return unique(rows), answers


def sample(
    ref: str,
    prompts: Sequence[Prompt],
    settings: Generation,
    *,
    seed: int,
    compute: Compute,
    device: torch.device,
    template: Mapping[str, Any],
    skip_long: bool = False,
    refused_rows: RefusedRows = "stop",
    trust_remote_code: bool = False,
) -> Answers:
    """Sample one answer a prompt. For every model, row r draws from the stream (seed, 0, r).

    A prompt that leaves no room for `max_new_tokens` raises UserError, or has no answer with `skip_long`. With
    `refused_rows` "skip", a prompt that the chat template refuses has an empty list of answers.
    """
    engine, tokenizer = load_engine(ref, compute, device, trust_remote_code=trust_remote_code, template=template)
    longest = longest_prompt(engine.context, settings.max_new_tokens)
    ids: list[list[int]] = []
    asked: list[int] = []
    refused: Answers = {}
    for row, prompt in enumerate(prompts):
        try:
            ids.append(refusals.asked(tokenizer, prompt, refused_rows)[1])
            asked.append(row)
        except TemplateRefused as error:
            if refused_rows != "skip":
                raise UserError(
                    f"prompt {shown(prompt.prompt)}: {refusals.with_remedy(error, prompt, tokenizer)}"
                ) from None
            refused[key(prompt.prompt)] = []
    fitting = keep_fitting(ids, longest, context=engine.context, skip_long=skip_long, where=ref)
    kept = [asked[index] for index in fitting]
    drawn = draw(engine, [ids[index] for index in fitting], settings, seed, rows=kept)
    return refused | {
        key(prompts[row].prompt): [Written(render.response_text(tokenizer, found.response_ids), found.finish)]
        for row, (found,) in zip(kept, drawn, strict=True)
    }


def shown(prompt: PromptText, width: int = 60) -> str:
    """The beginning of a prompt on one line, for messages."""
    text = " ".join(as_text(prompt).split())
    return repr(text if len(text) <= width else text[: width - 1] + "…")
