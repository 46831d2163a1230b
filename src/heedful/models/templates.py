"""Write chats with the chat template of a tokenizer, and find by rendering what the template writes around messages.

Nothing here knows the name of a model. The token that ends a turn, the tokens that frame messages and the text around a
question are those that the template writes around the words of two probes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import mark_control_tokens

from heedful.config import UserError
from heedful.data.records import Message

_ASKED, _ANSWERED = "whichway", "thatway"  # words of the probes
_TAG = re.compile(r"</?\w+>")  # <think>, </think>: a model writes them inside an answer
_NEVER = re.compile(r"(?!)")


@dataclass(frozen=True)
class Facts:
    """What one tokenizer and its template write. Without a template only `end`, `frame` and `spelled` say something."""

    end: int | None
    """The token that ends an answer: the first one that the template writes after it, else the tokenizer's EOS."""
    bos: str
    """BOS where the template writes it."""
    before: str
    """Text before a lone question, without BOS."""
    after: str
    """Text between a lone question and its answer."""
    opening: str
    """The part of `after` that asks for an answer."""
    by_others: re.Pattern[str]
    """Tokens that users and tools only spell: their text is read as plain characters there."""
    by_authors: re.Pattern[str]
    """The same for system messages, tools and arguments. Tokens such as <tool_call> may stand there."""
    in_answers: re.Pattern[str]
    """The same for answers. Thoughts, tool calls and other tags are tokens there, as a model samples them."""
    hidden: frozenset[int]
    """Special tokens that are no part of an answer's text: the end, the pad, the frame. Tags are part of it."""


_KNOWN: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[Any, Facts]] = WeakKeyDictionary()


def facts(tokenizer: PreTrainedTokenizerBase) -> Facts:
    """What the template of a tokenizer writes, found once for each state of the tokenizer."""
    ids = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
    state = (str(tokenizer.chat_template), ids, len(tokenizer.added_tokens_decoder))
    known = _KNOWN.get(tokenizer)
    if known is None or known[0] != state:
        known = (state, _found(tokenizer))
        _KNOWN[tokenizer] = known
    return known[1]


def written(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, ask: bool, tools: Any = None) -> str:
    """The text of a chat as the template writes it. `ask`: up to where the next answer begins.

    Tokens that a message only spells carry marks, which `encode` takes off.
    """
    known = facts(tokenizer)
    turns = [_marked(message, known) for message in messages]
    try:
        return _rendered(tokenizer, turns, ask=ask, tools=mark_control_tokens(tools, known.by_authors))
    except (TemplateError, TypeError, LookupError, ValueError) as error:
        reason = getattr(error, "message", None) or str(error) or type(error).__name__
        raise UserError(f"the chat template of {name(tokenizer)} refuses this chat: {reason}") from None


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text in which special tokens are tokens, and marked ones plain characters. No BOS is added."""
    marked = any(mark in text for mark in _MARKS)
    how = {"sanitize_control_tokens": True} if marked else {"split_special_tokens": False}
    try:
        return list(tokenizer(text, add_special_tokens=False, verbose=False, **how)["input_ids"])
    except ValueError as error:
        raise UserError(f"{name(tokenizer)}: {error}. Take it out of the text") from None


def encode_after(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text that continues another one: without the space that some tokenizers put before a text."""
    if encode(tokenizer, "a") != _after_newline(tokenizer, "a"):
        return _after_newline(tokenizer, text)
    return encode(tokenizer, text)


def mark(text: str, pattern: re.Pattern[str]) -> str:
    """The text with marks around the tokens that it spells and that `pattern` names."""
    return str(mark_control_tokens(text, pattern)) if pattern.search(text) or any(m in text for m in _MARKS) else text


def is_written(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether a text is a chat in the template's own form already: from its first mark to where an answer begins."""
    known = facts(tokenizer)
    asks = known.after
    tags = [found.start() for found in _TAG.finditer(asks) if not known.in_answers.fullmatch(found[0])]
    asks = asks[: tags[0]].strip() if tags else asks.strip()
    first = known.by_authors.search(known.before)
    begins = first[0] if first else known.before.strip()
    if not asks or not (begins or known.by_authors.search(asks)):
        return False
    text = text.strip().removeprefix(str(tokenizer.bos_token or "")).lstrip()
    without_tags = re.sub(r"(\s|</?\w+>)+$", "", text)
    return text.startswith(begins) and (text.endswith(asks) or without_tags.endswith(asks))


def without_frame(tokenizer: PreTrainedTokenizerBase, answer: str) -> str:
    """An answer without the tokens that the template, or the tokenizer, puts around it."""
    known = facts(tokenizer)
    ends = [] if known.end is None else [str(tokenizer.convert_ids_to_tokens(known.end)), str(tokenizer.eos_token)]
    while (stripped := answer.rstrip()).endswith(tuple(ends)) and ends:
        answer = next(stripped.removesuffix(end) for end in ends if stripped.endswith(end))
    opening = known.opening.strip()
    if known.by_authors.match(opening) and answer.lstrip().startswith(opening):
        answer = answer.lstrip().removeprefix(opening).lstrip()
    return answer


def opened(text: str) -> str | None:
    """The closing of a tag that a text opens and does not close: "</think>" for "<think>\\n"."""
    tags = re.findall(r"<[^<>]+>|\[/?[A-Z_]+\]", text)
    if not tags or re.match(r"</|\[/|.*END", tags[-1]):
        return None
    last: str = tags[-1]
    return last.replace("START", "END") if "START" in last else f"{last[0]}/{last[1:]}"


def shared(*sequences: Sequence[Any]) -> int:
    """How many items all sequences begin with."""
    pairs = enumerate(zip(*sequences, strict=False))
    return next((i for i, items in pairs if len(set(items)) > 1), min(map(len, sequences)))


def squashed(text: str) -> str:
    """A text without white space and marks, to compare what templates trim and indent."""
    return "".join(text.translate({ord(mark): None for mark in _MARKS}).split())


def name(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's name for messages."""
    return str(tokenizer.name_or_path or "the tokenizer")


_MARKS = mark_control_tokens("a", re.compile("a")).split("a")


def _after_newline(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    newline, ids = encode(tokenizer, "\n"), encode(tokenizer, "\n" + text)
    return ids[len(newline) :] if ids[: len(newline)] == newline else encode(tokenizer, text)


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, Any]], *, ask: bool, tools: Any = None) -> str:
    return str(tokenizer.apply_chat_template(turns, tools=tools, add_generation_prompt=ask, tokenize=False))


def _marked(message: Message, known: Facts) -> dict[str, Any]:
    """A message as the template gets it, the tokens that it spells marked."""
    turn = message.row()
    if message.role == "assistant":
        pattern = known.in_answers
    else:
        pattern = known.by_authors if message.role == "system" else known.by_others
    marked: dict[str, Any] = mark_control_tokens({**turn, "role": ""}, pattern)
    return marked | {"role": turn["role"]}


def _found(tokenizer: PreTrainedTokenizerBase) -> Facts:
    added = {token.content: token for token in tokenizer.added_tokens_decoder.values() if not token.content.isspace()}
    own = {content for content in _named(tokenizer) if content in added}
    special = {content for content, token in added.items() if token.special} | own
    tags = {one for one in added if _TAG.fullmatch(one) and _counterpart(one) in added} - own
    if not tokenizer.chat_template:
        plain, answers = _pattern(special), _pattern(special - tags)
        hidden = {added_id(tokenizer, one) for one in special - tags}
        return Facts(tokenizer.eos_token_id, "", "", "", "", plain, plain, answers, frozenset(hidden))
    user, assistant = ({"role": "user", "content": _ASKED}, {"role": "assistant", "content": _ANSWERED})
    base, question = _tried(tokenizer, [user], ask=False), _tried(tokenizer, [user], ask=True)
    answered, chat = _tried(tokenizer, [user, assistant]), _tried(tokenizer, [user, assistant, user])
    # 1) The first token after an answer ends it. A closing tag belongs to the answer.
    known = _pattern(added)
    ends = [one for one in known.findall(answered.rpartition(_ANSWERED)[2]) if one not in tags]
    end = added_id(tokenizer, ends[0]) if ends else tokenizer.eos_token_id
    # 2) Tokens around messages frame them. Tags such as <think> do not, though some templates write them.
    around = known.findall((chat or answered or question).replace(_ASKED, " ").replace(_ANSWERED, " "))
    frame = own | ({*around, *ends[:1]} - tags)
    source = str(tokenizer.chat_template)
    mentioned = {content for content in added if content in source}
    before, _, after = question.partition(_ASKED)
    bos = str(tokenizer.bos_token or "")
    bos = bos if before.startswith(bos) else ""
    hidden = {added_id(tokenizer, one) for one in special & (frame | (special - mentioned - tags))}
    return Facts(
        end=end,
        bos=bos,
        before=before.removeprefix(bos),
        after=after,
        opening=question.removeprefix(base),
        by_others=_pattern(special | frame | mentioned),
        by_authors=_pattern(special | frame),
        in_answers=_pattern(frame | (special - mentioned - tags)),
        hidden=frozenset(hidden if end is None else hidden | {end}),
    )


def added_id(tokenizer: PreTrainedTokenizerBase, content: str) -> int:
    """The id of an added token."""
    return int(tokenizer.added_tokens_encoder[content])


def _named(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """EOS, BOS, pad and unknown, which no text holds."""
    tokens = (tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token, tokenizer.unk_token)
    return {str(token) for token in tokens if token is not None}


def _counterpart(tag: str) -> str:
    """The closing of an opening tag, and the reverse."""
    return tag.replace("</", "<") if tag.startswith("</") else tag.replace("<", "</")


def _tried(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, Any]], *, ask: bool = False) -> str:
    """A probe as the template writes it, "" if the template refuses it."""
    try:
        return _rendered(tokenizer, turns, ask=ask)
    except (TemplateError, TypeError, LookupError, ValueError):
        return ""


def _pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else _NEVER
