"""What is told about the texts of a file before a model reads them: how they are read, and what is not used."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence

from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.data.records import Completions, Demonstration, Message, Prompt
from heedful.data.shapes.chats import LATER
from heedful.data.text import counted
from heedful.models import encoders, render, template_arguments, templates

log = logging.getLogger(__name__)
_MARKER = re.compile(r"<\|[a-z_]+\|>|<(?:start|end)_of_turn>|\[/?INST\]|<｜[^｜<>]+｜>")
_ANY_TEXT = "".join(map(chr, range(33, 127))) + " \u00c9\ufb01 " + render.RARE_TEXT
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_KNOWN = {"role", "content", "tool_calls", "weight"}


def tell(
    path: str, tokenizer: PreTrainedTokenizerBase, records: Sequence[Prompt], place: Callable[[int], str],
    *, refuse_special: bool,
) -> None:  # fmt: skip
    """Log how the texts of a file are read where that may surprise. `place(i)`: where record i stands.

    Raises UserError for the first row that spells a special token, if they are refused.
    """
    spelled = {row: token for row, record in enumerate(records) if (token := _spelled(tokenizer, record))}
    if spelled and refuse_special:
        row, token = next(iter(spelled.items()))
        raise UserError(f"{place(row)}: spells {token}. Delete the row, or read it as text with special_text = plain")
    remarks = {  # each begins with its verb
        f"spell a special token, such as {next(iter(spelled.values()), '')}. It is read as plain text": len(spelled),
        "have a prompt in the form of the chat template. It is used as it is": sum(
            isinstance(record.prompt, str) and templates.is_written(tokenizer, record.prompt) for record in records
        ),
        "have an answer that ends or begins with the template's own tokens. It has them once": sum(
            any(templates.without_frame(tokenizer, answer) != answer for answer in _answers(record))
            for record in records
        ),
    }
    tokens = tokenizer.added_tokens_encoder.keys()
    foreign = {row: mark for row, record in enumerate(records) if (mark := _foreign(record, tokens))}
    mark = next(iter(foreign.values()), "")
    remarks[f"hold {mark}, which this tokenizer does not know as a token. It is read as plain text"] = len(foreign)
    opening = templates.facts(tokenizer).opening
    if closing := templates.opened(tokenizer, opening):
        remarks[
            f"have an answer without {closing}, though the chat template asks with '{' '.join(opening.split())}'. "
            "The model learns them as the template writes them in a chat"
        ] = sum(any(closing not in answer for answer in _answers(record)) for record in records)
    remarks["have messages after the last answer to learn. They are not used"] = sum(
        LATER in (record.model_extra or {}) for record in records
    )
    if lost := [thoughts for record in records if (thoughts := _lost(tokenizer, record))]:
        remarks[f"have thoughts ({lost[0]}) that the chat template leaves out of the answer. They are not used"] = len(
            lost
        )
    if changed := _changed(tokenizer, records):
        remarks[f"hold text that this tokenizer changes, such as {changed[0]}. It is read as changed"] = len(changed)
    if not tokenizer.chat_template:
        remarks["have nothing between prompt and answer, and the model has no chat template"] = sum(
            _glued(record) for record in records
        )
    for remark, count in remarks.items():
        if count:
            verb, _, what = remark.partition(" ")
            log.warning("%s: %s %s", path, counted(count, "rows", verb, of=len(records)), what)
    if tokenizer.chat_template and not templates.facts(tokenizer).ends:
        words = templates.facts(tokenizer).words.strip()
        instead = f", and not with {words!r}" if words else ""
        end = tokenizer.eos_token
        log.warning("%s: the chat template writes no token after an answer. Answers end with %s%s", path, end, instead)
    if date := template_arguments.tell_date(tokenizer):
        log.warning("%s: %s", path, date)
    source = str(tokenizer.chat_template or "")
    fields = {name for record in records for turn in _messages(record) for name in turn.row()} - _KNOWN
    if unused := sorted(name for name in fields if name not in source):
        log.warning("%s: fields of messages that the chat template does not use: %s", path, ", ".join(unused))


def tell_documents(path: str, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> None:
    """Log how many documents spell special tokens: they are read as plain text too."""
    pattern = templates.facts(tokenizer).by_others
    found = [match[0] for text in texts if (match := pattern.search(text))]
    if found:
        log.warning(
            "%s: %s a special token, such as %s. It is read as plain text",
            path, counted(len(found), "documents", "spell", of=len(texts)), found[0],
        )  # fmt: skip


def _messages(record: Prompt) -> list[Message]:
    own = [] if isinstance(record.prompt, str) else record.prompt
    last = record.completion_message if isinstance(record, Demonstration) else None
    return [*own, *([last] if last is not None else [])]


def _lost(tokenizer: PreTrainedTokenizerBase, record: Prompt) -> str | None:
    """The field with thoughts of the last answer that the template knows, and leaves out there."""
    message = record.completion_message if isinstance(record, Demonstration) else None
    given = {} if message is None else message.row()
    source = str(tokenizer.chat_template or "")
    fields = [name for name in _THOUGHTS if given.get(name) and isinstance(given[name], str) and name in source]
    if not fields or message is None:
        return None
    prompt, response = render.answered(tokenizer, record.prompt, message, tools=record.tools)
    said = templates.squashed(str(tokenizer.decode(prompt + response)))
    return next((name for name in fields if templates.squashed(given[name]) not in said), None)


def _changed(tokenizer: PreTrainedTokenizerBase, records: Sequence[Prompt]) -> list[str]:
    """Of each row that comes back as another text: the first word that does, "'Café' to 'Caf<unk>'".

    White space aside. Empty for tokenizers that keep every text, and for those of encoders.
    """

    def kept(text: str) -> str:
        ids = render.encode(tokenizer, text)
        return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def differs(text: str) -> bool:
        return templates.squashed(kept(text)) != templates.squashed(text)

    if encoders.pair_of(tokenizer) is not None or not differs(_ANY_TEXT):
        return []
    found: list[str] = []
    for record in records:
        own = [record.prompt] if isinstance(record.prompt, str) else [message.text for message in record.prompt]
        if text := next(filter(differs, [*own, *_answers(record)]), None):
            word = "" if found else next(filter(differs, text.split()), text)
            found.append(f"{word[:20]!r} to {kept(word).strip()[:40]!r}")
    return found


def _answers(record: Prompt) -> list[str]:
    if isinstance(record, Completions):
        return record.completions
    return [record.completion] if isinstance(record, Demonstration) else []


def _spelled(tokenizer: PreTrainedTokenizerBase, record: Prompt) -> str | None:
    """The first special token that a text of the row spells and that does not stand for itself."""
    known = templates.facts(tokenizer)
    texts = [(known.in_answers, templates.without_frame(tokenizer, answer)) for answer in _answers(record)]
    if isinstance(record.prompt, str):
        if not templates.is_written(tokenizer, record.prompt):
            texts.append((known.by_others, record.prompt))
    else:
        for message in record.prompt:
            answer = message.role == "assistant"
            text = templates.without_frame(tokenizer, message.text) if answer else message.text
            texts.append((known.pattern(message.role), text))
    return next((found[0] for pattern, text in texts if (found := pattern.search(text))), None)


def _foreign(record: Prompt, tokens: Collection[str]) -> str | None:
    """A marker of chat templates in a text prompt that is no token here, as in prompts for another model."""
    if not isinstance(record.prompt, str):
        return None
    return next((mark for mark in _MARKER.findall(record.prompt) if mark not in tokens), None)


def _glued(record: Prompt) -> bool:
    """Whether no white space separates a text prompt from its answer."""
    if not isinstance(record.prompt, str) or record.prompt[-1:].isspace():
        return False
    return any(answer and not answer[0].isspace() for answer in _answers(record))
