"""Fields of a chat's messages: a field that the model would never see is refused by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from heedful.data.records import Message
from heedful.models import templates
from heedful.serve.types import ApiError

NAME = re.compile(r"\.name\b|\[\s*['\"]name['\"]\s*\]|\(\s*['\"]name['\"]")


def check(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> None:
    """Raise ApiError 400 for a field of a message that the chat template does not write.

    A field that holds nothing, such as `"refusal": null`, is left out. So are the name and the id of a tool's answer:
    it follows its call.
    """
    for place, message in enumerate(messages):
        for name, value in (message.model_extra or {}).items():
            if value is False or value in ("", [], {}) or (message.role == "tool" and name in ("name", "tool_call_id")):
                continue
            if not _is_written(tokenizer, name):
                where = f"messages.{place}.{name[:100]}"
                words = f"'{where}': this model does not read it. Leave it out."
                raise ApiError(400, words, param="messages", code="unknown_parameter")


def told(tokenizer: PreTrainedTokenizerBase, words: str) -> str:
    """What a refused chat is told: no path of the server, and nothing of rows of files."""
    words = words.replace(templates.name(tokenizer), "this model")
    return words.replace("Leave the row out, or use another template", "Leave it out").replace("the row", "it")


def _is_written(tokenizer: PreTrainedTokenizerBase, name: str) -> bool:
    source = str(tokenizer.chat_template or "")
    if name == "name":
        return any(_of_message(source, match) for match in NAME.finditer(source))
    return re.search(rf"\b{re.escape(name)}\b", source) is not None


def _of_message(source: str, match: re.Match[str]) -> bool:
    """Whether `.name` is that of a message, and not that of a function or tool."""
    before = re.search(r"(\w+)\s*(?:\.get)?$", source[: match.start()])
    return before is not None and re.search(r"message|msg|turn|^m$", before[1]) is not None
