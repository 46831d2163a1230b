"""Rows that a chat template refuses, such as system messages where it knows none: what to do with them."""

from __future__ import annotations

from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from heedful.configs.shared import RefusedRows
from heedful.data.records import Message, Prompt, PromptText
from heedful.models import render
from heedful.models.templates import TemplateRefused

P = TypeVar("P", bound=Prompt)


def asked(tokenizer: PreTrainedTokenizerBase, record: P, how: RefusedRows) -> tuple[P, list[int]]:
    """(the record as the model is asked, the ids of its prompt). Raises Refused if the template refuses it.

    With `how` "join" the system message becomes the beginning of the first question, where the template refuses it as
    a message of its own.
    """
    try:
        return record, render.prompt_ids(tokenizer, record.prompt, record.tools)
    except TemplateRefused:
        joined = _joined(record.prompt)
        if how != "join" or joined is None:
            raise
        record = record.model_copy(update={"prompt": joined})
        return record, render.prompt_ids(tokenizer, joined, record.tools)


def with_remedy(error: TemplateRefused, record: Prompt, tokenizer: PreTrainedTokenizerBase) -> str:
    """The message of a refusal with the ways on."""
    join = ", or join the system message to the question with join" if _helps_to_join(record, tokenizer) else ""
    return f"{str(error).rstrip('.')}. Leave such rows out with --refused-rows skip{join}"


def _helps_to_join(record: Prompt, tokenizer: PreTrainedTokenizerBase) -> bool:
    try:
        return _joined(record.prompt) is not None and bool(asked(tokenizer, record, "join"))
    except TemplateRefused:  # something else than the system message, such as tools
        return False


def _joined(prompt: PromptText) -> list[Message] | None:
    """The prompt without its system message, whose text begins the first question. None: it has no such message."""
    if isinstance(prompt, str) or len(prompt) < 2 or (prompt[0].role, prompt[1].role) != ("system", "user"):
        return None
    system, first, *others = prompt
    return [first.model_copy(update={"content": f"{system.text}\n\n{first.text}"}), *others]
