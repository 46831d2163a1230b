"""Write chats with the chat template of a tokenizer, and find by rendering what the template writes around messages.

Nothing here knows the name of a model. The token that ends a turn, the tokens that frame messages and the text around a
question are those that the template writes around the words of two probes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from jinja2 import TemplateError, TemplateSyntaxError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import mark_control_tokens

from heedful.config import UserError
from heedful.data.records import Message

_ASKED, _ANSWERED = "whichway", "thatway"  # words of the probes
_TAG = re.compile(r"</?\w+>")  # <think>, </think>: a model writes them inside an answer
_SPELLED = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")  # an end of a turn that is no token of this tokenizer
# what a template may raise, such as one that divides by zero
RENDER_ERRORS = (TemplateError, TypeError, LookupError, ValueError, ArithmeticError, AttributeError, RecursionError)
_UNUSABLE = ("a mistake in it:", "multiple chat templates")  # no row can be written
_NEVER = re.compile(r"(?!)")


class TemplateRefused(UserError):
    """A chat that the template does not take, or of which it would leave out a part."""


@dataclass(frozen=True)
class TemplateFacts:
    """What one tokenizer and its template write. Without a template all that it would write is empty."""

    end: int | None
    """The token that ends an answer: the first one that the template writes after it, else the tokenizer's EOS."""
    ends: bool
    """Whether the template writes it."""
    closings: tuple[str, ...]
    """The end of an answer and of a text, as a text spells them."""
    words: str
    """What the template writes after an answer where no token ends it. It is no part of an answer: EOS ends that."""
    tail: str
    """What the template writes after that token in a chat that ends there, such as a line break."""
    bos: str
    """BOS where the template writes it."""
    before: str
    """Text before a lone question, without BOS."""
    after: str
    """Text between a lone question and its answer."""
    opening: str
    """The part of `after` that asks for an answer."""
    unasked: str
    """That part where the template knows no `add_generation_prompt`, so that heedful writes it."""
    turns: bool
    """Whether the template takes a chat with earlier turns."""
    spaced: bool
    """Whether the tokenizer puts a space before a text."""
    marks: re.Pattern[str]
    """All tokens that were added to the vocabulary, and tags."""
    by_others: re.Pattern[str]
    """Tokens that users and tools only spell: their text is read as plain characters there."""
    by_authors: re.Pattern[str]
    """The same for system messages, tools and arguments. Tokens such as <tool_call> may stand there."""
    in_answers: re.Pattern[str]
    """The same for answers. Thoughts, tool calls and other tags are tokens there, as a model samples them."""
    hidden: frozenset[int]
    """Special tokens that are no part of an answer's text: the end, the pad, the frame. Tags are part of it."""

    def pattern(self, role: str) -> re.Pattern[str]:
        """The tokens that are plain characters in the messages of a role."""
        if role == "assistant":
            return self.in_answers
        return self.by_authors if role in ("system", "developer") else self.by_others


_KNOWN: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[Any, TemplateFacts]] = WeakKeyDictionary()


def facts(tokenizer: PreTrainedTokenizerBase) -> TemplateFacts:
    """What the template of a tokenizer writes, found once for each state of the tokenizer."""
    named = (tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token, tokenizer.unk_token)
    state = (tokenizer.chat_template, named, len(tokenizer))
    known = _KNOWN.get(tokenizer)
    if known is None or known[0] != state:
        known = (state, _found(tokenizer))
        _KNOWN[tokenizer] = known
    return known[1]


def written(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, ask: bool, tools: Any = None) -> str:
    """The text of a chat as the template writes it. `ask`: up to where the next answer begins.

    Tokens that a message only spells carry marks, which `encode` takes off. Raises Refused for a chat that the template
    does not take, and for one of which it would leave out tools, tool calls or a message.
    """
    known, source = facts(tokenizer), str(tokenizer.chat_template)
    if tools and not re.search(r"\btools\b", source):
        raise TemplateRefused(f"the chat template of {name(tokenizer)} writes no `tools`. Leave the field out")
    if any(message.tool_calls for message in messages) and not re.search(r"\btool_calls\b", source):
        raise TemplateRefused(f"the chat template of {name(tokenizer)} writes no `tool_calls`. Leave the row out")
    turns = [_marked(message, known, source) for message in messages]
    tools = mark_control_tokens(tools, known.by_authors) if tools else None
    reason = ""
    for form in _forms(turns):
        try:
            text = _rendered(tokenizer, form, ask=ask, tools=tools)
        except RENDER_ERRORS as error:
            broken = _UNUSABLE[0] if isinstance(error, TemplateSyntaxError) else ""
            said = getattr(error, "message", None) or str(error) or type(error).__name__
            reason = reason or " ".join(filter(None, (broken, said)))
        else:
            if not _spells_objects(form, text):
                _check_all(tokenizer, form, text, ask=ask, tools=tools)
                return text + known.unasked if ask else text
    if any(unusable in reason for unusable in _UNUSABLE):
        raise UserError(
            f"the chat template of {name(tokenizer)} cannot be used ({reason.partition('. ')[0][:200]}). Give another "
            "one as template.chat_template, such as a file that ends in .jinja"
        )
    raise TemplateRefused(f"the chat template of {name(tokenizer)} refuses this chat: {reason}")


def _forms(turns: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The turns in the forms that templates take. Most take the arguments of calls as objects, some as JSON text.

    Some need the content of an answer that has none.
    """
    empty = [number for number, turn in enumerate(turns) if "content" not in turn]
    calls = any("tool_calls" in turn for turn in turns)
    for content in ({}, {"content": ""}) if empty else ({},):
        form = [turn | content if number in empty else turn for number, turn in enumerate(turns)]
        yield form
        if calls:
            yield _as_text(form)


def _spells_objects(turns: list[dict[str, Any]], text: str) -> bool:
    """Whether a template has written the arguments of a call as Python does, since it takes them as JSON text."""
    given = [call["function"].get("arguments") for turn in turns for call in turn.get("tool_calls", [])]
    return any(isinstance(one, dict) and one and str(one) in text for one in given)


def _as_text(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns with the arguments of tool calls as JSON text."""

    def called(call: dict[str, Any]) -> dict[str, Any]:
        function = call["function"]
        return call | {"function": function | {"arguments": json.dumps(function["arguments"], ensure_ascii=False)}}

    return [
        turn | {"tool_calls": [called(call) for call in turn["tool_calls"]]} if "tool_calls" in turn else turn
        for turn in turns
    ]


def _check_all(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, Any]], text: str, **how: Any) -> None:
    """Raise Refused for a message, a tool call or tools that make no difference to what the template writes."""
    everything = squashed(text)
    remedy = "Leave the row out, or use another template"
    if how["tools"] and _tried(tokenizer, turns, **how | {"tools": None}) == text:
        raise TemplateRefused(f"the chat template of {name(tokenizer)} leaves out the `tools` here. {remedy}")
    for number, turn in enumerate(turns):
        calls = turn.get("tool_calls", [])
        for place, call in enumerate(calls):
            other = turn | {"tool_calls": [*calls[:place], _other_call(call), *calls[place + 1 :]]}
            if _tried(tokenizer, [*turns[:number], other, *turns[number + 1 :]], **how) == text:
                raise TemplateRefused(
                    f"the chat template of {name(tokenizer)} leaves out call {place} of message {number}. {remedy}"
                )
    for number, turn in enumerate(turns):
        content = turn.get("content") or ""
        if squashed(content) in everything:
            continue
        others = [*turns[:number], turn | {"content": f"{content} {_ASKED}"}, *turns[number + 1 :]]
        if _rendered(tokenizer, others, **how) == text:
            raise TemplateRefused(
                f"the chat template of {name(tokenizer)} leaves out the text of message {number} "
                f"(role {turn['role']}). {remedy}"
            )


def _other_call(call: dict[str, Any]) -> dict[str, Any]:
    """A call with another id, name and arguments."""
    arguments: Any = {_ASKED: _ASKED}
    if isinstance(call["function"].get("arguments"), str):
        arguments = json.dumps(arguments)
    return call | {"id": _ASKED, "function": call["function"] | {"name": _ASKED, "arguments": arguments}}


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text in which special tokens are tokens, and marked ones plain characters. No BOS is added."""
    if not any(mark in text for mark in _MARKS):
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            return list(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=False, verbose=False))
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = False
        return list(backend.encode(text, add_special_tokens=False).ids)  # a fifth of the time of the call above
    try:
        return list(tokenizer(text, add_special_tokens=False, sanitize_control_tokens=True)["input_ids"])
    except ValueError as error:
        raise UserError(f"{name(tokenizer)}: {error}. Take it out of the text") from None


def encode_after(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text that continues another one: without the space that some tokenizers put before a text."""
    return _after_newline(tokenizer, text) if facts(tokenizer).spaced else encode(tokenizer, text)


def mark(text: str, pattern: re.Pattern[str]) -> str:
    """The text with marks around the tokens that it spells and that `pattern` names."""
    return str(mark_control_tokens(text, pattern)) if pattern.search(text) or any(m in text for m in _MARKS) else text


def is_written(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether a text is a chat in the template's own form already."""
    return as_written(tokenizer, text) is not None


def as_written(tokenizer: PreTrainedTokenizerBase, text: str) -> str | None:
    """A text that is a chat in the template's own form, up to where an answer begins. None for any other text.

    It begins with a mark of the template and ends where an answer begins, or with the end of the user's turn.
    """
    known = facts(tokenizer)
    tags = [found.start() for found in _TAG.finditer(known.after) if not known.in_answers.fullmatch(found[0])]
    asks, begins = known.after[: tags[0] if tags else None].strip(), known.before.strip()
    if not asks or not (begins or known.in_answers.search(asks)):
        return None
    own = text.strip().removeprefix(str(tokenizer.bos_token or "")).lstrip()
    framed = known.in_answers.match(own) if known.in_answers.search(known.before + asks) else own.startswith(begins)
    if not framed:
        return None
    text = text if text.startswith(known.bos) else known.bos + text
    without_tags = re.sub(r"(\s|</?\w+>)+$", "", own)
    if own.endswith(asks) or without_tags.endswith(asks):
        return text
    ends, opening = known.after.removesuffix(known.opening).strip(), known.opening.strip()
    asked = known.in_answers.search(ends) and own.endswith(ends) and own.rfind(opening) < own.rfind(begins)
    return text.rstrip().removesuffix(ends) + known.after if asked else None


def without_frame(tokenizer: PreTrainedTokenizerBase, answer: str) -> str:
    """An answer without the tokens that the template, or the tokenizer, puts around it."""
    known = facts(tokenizer)
    while known.closings and (stripped := answer.rstrip()).endswith(known.closings):
        answer = next(stripped.removesuffix(end) for end in known.closings if stripped.endswith(end))
    opening = known.opening.strip()
    if known.by_authors.match(opening) and answer.lstrip().startswith(opening):
        answer = answer.lstrip().removeprefix(opening).lstrip()
    return answer


def opened(tokenizer: PreTrainedTokenizerBase, text: str) -> str | None:
    """The closing of a tag that a text of the template opens and does not close: "</think>" for "<think>\\n"."""
    tags = re.findall(r"</?\w+>|\[/?[A-Z_]+\]|<\|\w+\|>", facts(tokenizer).in_answers.sub("", text))
    if not tags or re.match(r"</|\[/|.*END", tags[-1]):
        return None
    last: str = tags[-1]
    return last.replace("START", "END") if "START" in last else f"{last[0]}/{last[1:]}"


def shared(*sequences: Sequence[Any]) -> int:
    """How many items all sequences begin with."""
    shortest = min(sequences, key=len)
    if all(items[: len(shortest)] == shortest for items in sequences):
        return len(shortest)
    pairs = enumerate(zip(*sequences, strict=False))
    return next((i for i, items in pairs if len(set(items)) > 1), min(map(len, sequences)))


def parting(tokenizer: PreTrainedTokenizerBase, one: str, other: str) -> int:
    """Where two texts of the template part, before the token or tag in which they do."""
    return _parting(facts(tokenizer).marks, one, other)


def continued(begun: str, text: str) -> str | None:
    """The rest of a text that begins with another one, but for white space. None if it does not."""
    wanted, found = squashed(begun), 0
    for place, character in enumerate(text):
        if found == len(wanted):
            return text[place:]
        if not character.isspace():
            if character != wanted[found]:
                return None
            found += 1
    return "" if found == len(wanted) else None


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


def _marked(message: Message, known: TemplateFacts, source: str) -> dict[str, Any]:
    """A message as the template gets it, the tokens that it spells marked. A developer speaks as the system."""
    turn = message.row()
    role = "system" if message.role == "developer" and "developer" not in source else message.role
    marked: dict[str, Any] = mark_control_tokens({**turn, "role": ""}, known.pattern(role))
    if "tool_calls" in turn:
        marked["tool_calls"] = mark_control_tokens(turn["tool_calls"], known.by_authors)
    return marked | {"role": role}


def _found(tokenizer: PreTrainedTokenizerBase) -> TemplateFacts:
    added = {token.content: token for token in tokenizer.added_tokens_decoder.values() if not token.content.isspace()}
    own = {content for content in _named(tokenizer) if content in added}
    spaced = encode(tokenizer, "a") != _after_newline(tokenizer, "a")
    special = {content for content, token in added.items() if token.special} | own
    tags = {one for one in added if _TAG.fullmatch(one) and _counterpart(one) in added} - own
    if not tokenizer.chat_template:
        plain, answers = _pattern(special), _pattern(special - tags)
        closings = tuple(own & {str(tokenizer.eos_token)})
        no_text = frozenset(added_id(tokenizer, one) for one in special - tags)
        texts = {"tail": "", "bos": "", "before": "", "after": "", "opening": "", "unasked": ""}
        return TemplateFacts(
            end=tokenizer.eos_token_id, ends=False, closings=closings, words="", **texts, turns=False, spaced=spaced,
            marks=_NEVER, by_others=plain, by_authors=plain, in_answers=answers, hidden=no_text,
        )  # fmt: skip
    user, tool, assistant = ({"role": role, "content": _ASKED} for role in ("user", "tool", "assistant"))
    assistant["content"] = _ANSWERED
    base, question = _tried(tokenizer, [user], ask=False), _tried(tokenizer, [user], ask=True)
    answered, chat = _tried(tokenizer, [user, assistant]), _tried(tokenizer, [user, assistant, user])
    # 1) The first token after an answer ends it. A closing tag belongs to the answer.
    known = re.compile("|".join([pattern.pattern for pattern in [_pattern(added), _TAG] if pattern is not _NEVER]))
    # A template that changes the words of an answer, such as one that writes capitals, shows no end.
    behind = answered.rpartition(_ANSWERED)[2] if _ANSWERED in answered else ""
    head = answered.rpartition(_ANSWERED)[0]
    question += (unasked := _unasked(tokenizer, known, question, head))
    inside = known.findall(head[_parting(known, question, head) :])  # such as <|close|> after thoughts
    ends = [one for one in known.findall(behind) if one in added and one not in tags]
    ends = [one for one in ends if one not in inside] or ends
    end = added_id(tokenizer, ends[0]) if ends else tokenizer.eos_token_id
    words = "" if ends else _after_tags(behind, answered.rpartition(_ANSWERED)[0].rpartition(_ASKED)[2])
    spelled = {words.strip()} if _SPELLED.fullmatch(words.strip()) else set()
    # 2) Tokens around messages frame them. Tags such as <think> do not, though some templates write them.
    others = [_tried(tokenizer, [user | {"role": "system"}, user]), _tried(tokenizer, [user, assistant, tool])]
    written = (chat or answered or question) + "".join(others)
    around = _pattern(added).findall(written.replace(_ASKED, " ").replace(_ANSWERED, " "))
    frame = own | ({*around, *ends[:1]} - tags)
    mentioned = {content for content in added if content in str(tokenizer.chat_template)}
    before, _, after = question.partition(_ASKED)
    bos = str(tokenizer.bos_token or "")
    bos = bos if before.startswith(bos) else ""
    hidden = {added_id(tokenizer, one) for one in special & (frame | (special - mentioned - tags))}
    return TemplateFacts(
        end=end,
        ends=bool(ends),
        closings=tuple(sorted((own & {str(tokenizer.eos_token)}) | {*ends[:1]} | spelled)),
        words=words,
        tail=behind.partition(ends[0])[2] if ends else "",
        bos=bos,
        before=before.removeprefix(bos),
        after=after,
        opening=question[_parting(known, base, question) :],
        unasked=unasked,
        turns=bool(chat),
        spaced=spaced,
        marks=known,
        by_others=_pattern(special | frame | mentioned),
        by_authors=_pattern(special | frame),
        in_answers=_pattern(frame | (special - mentioned - tags)),
        hidden=frozenset(hidden if end is None else hidden | {end}),
    )


def _unasked(tokenizer: PreTrainedTokenizerBase, known: re.Pattern[str], question: str, head: str) -> str:
    """The tokens before an answer that a template without `add_generation_prompt` does not ask with."""
    if "add_generation_prompt" in str(tokenizer.chat_template) or not head.startswith(question):
        return ""
    opening = head[len(question) :]
    return opening if known.search(opening) and not _TAG.search(opening) else ""


def _after_tags(behind: str, opening: str) -> str:
    """The text after an answer, without the closings of tags that its opening opens: they belong to the answer."""
    while (tag := re.match(r"\s*(</\w+>)", behind)) and _counterpart(tag[1]) in opening:
        behind = behind[tag.end() :]
    return behind


def added_id(tokenizer: PreTrainedTokenizerBase, content: str) -> int:
    """The id of an added token."""
    return int(tokenizer.added_tokens_encoder[content])


def _named(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """EOS, BOS, pad and unknown, which no text holds."""
    tokens = (tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token, tokenizer.unk_token)
    return {str(token) for token in tokens if token is not None}


def _parting(marks: re.Pattern[str], one: str, other: str) -> int:
    at = shared(one, other)
    for text in (one, other):
        for found in marks.finditer(text, max(0, at - 100), at + 100):
            if found.start() < at < found.end():
                at = found.start()
    return at


def _counterpart(tag: str) -> str:
    """The closing of an opening tag, and the reverse."""
    return tag.replace("</", "<") if tag.startswith("</") else tag.replace("<", "</")


def _tried(
    tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, Any]], *, ask: bool = False, tools: Any = None
) -> str:
    """A probe as the template writes it, "" if the template refuses it."""
    try:
        return _rendered(tokenizer, turns, ask=ask, tools=tools)
    except RENDER_ERRORS:
        return ""


def _pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else _NEVER
