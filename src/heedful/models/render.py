"""Convert prompts, responses and documents to tokens and back. All stages use this module, and nothing else does it.

The rules are the same in training, sampling and chat:
- A tokenizer with a chat template uses it. A plain string is then one message of the user, unless it is a chat in the
  template's form already. The ids of a prompt with its answer are those of `apply_chat_template`.
- Without a template a plain string does not change, and nothing comes between it and the answer. A chat of one user
  message is that string. A longer chat has the line "User:", the text, a blank line, the line "Assistant:", the text, a
  blank line, and so on. It ends with "Assistant:".
- BOS comes once: from the template, or without one where the tokenizer adds it itself. A finished response ends with
  the token that the template ends a turn with. If it ends turns with words, EOS ends the response instead of them. So
  does EOS without a template. EOS ends a document. Only this module writes these tokens. Where people's text spells
  one, it is plain characters.
- Where a template writes an answer in another way than a model samples it, `answered` says what is trained on.
- An encoder reads a pair of texts in the form of its tokenizer (`models.encoders`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.data.records import Message, PromptText
from heedful.models import encoders, templates

Tools = Sequence[dict[str, Any]] | None
"""Tools that a model may call, as the field `tools` has them."""
RARE_TEXT = "\u2603 \U0001f9ff \ue000 \u0b85 \u4e2d \u200b"


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: PromptText, tools: Tools = None) -> list[int]:
    """Token ids of a prompt, up to where the answer begins. Never empty.

    Raises `templates.TemplateRefused` for a chat that the template does not take, or of which it leaves out a part.
    """
    pair = encoders.pair_of(tokenizer)
    if pair is not None:
        if tools:
            raise _needs_template(tokenizer, "`tools`")
        return [*pair.before, *encode(tokenizer, _first_of_pair(tokenizer, prompt)), *pair.between]
    if tokenizer.chat_template:
        text = templates.as_written(tokenizer, prompt) if isinstance(prompt, str) and not tools else None
        if text is None:
            text = templates.written(tokenizer, _messages(tokenizer, prompt), ask=True, tools=tools)
        return templates.encode(tokenizer, text)
    if tools:
        raise _needs_template(tokenizer, "`tools`")
    ids = text_prompt_ids(tokenizer, _plain(tokenizer, _messages(tokenizer, prompt)))
    if not ids:
        raise UserError("an empty prompt: this tokenizer gives no tokens for it. Leave it out.")
    return ids


def text_prompt_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text that a model continues: no template, nothing added but BOS where the tokenizer adds it."""
    return _bos(tokenizer) + encode(tokenizer, text)


def answered(
    tokenizer: PreTrainedTokenizerBase,
    prompt: PromptText,
    completion: str | Message,
    *,
    finished: bool = True,
    tools: Tools = None,
) -> tuple[list[int], list[int]]:
    """(ids of the prompt, ids of the response). The end of a turn follows if it is finished (not cut off by length).

    Together they are the ids of the whole chat by `apply_chat_template`, up to the end of the turn. Under a template
    without a token there, they are the ids of the question and of the answer's text. Two kinds of answers follow the
    prompt that a model samples from instead: those that were cut off, and those of which the template leaves out a
    part, such as thoughts. So do the answers of templates that ask with more than they write before an answer, such as
    empty thoughts. Open thoughts before an answer without any are left out.
    """
    reply = completion if isinstance(completion, Message) else Message(role="assistant", content=completion)
    if reply.tool_calls and not tokenizer.chat_template:
        raise _needs_template(tokenizer, "`tool_calls`")
    text = templates.without_frame(tokenizer, reply.text)
    as_sampled = not finished or (isinstance(prompt, str) and templates.is_written(tokenizer, prompt))
    if (as_sampled and not reply.tool_calls) or not tokenizer.chat_template:
        return prompt_ids(tokenizer, prompt, tools), response_ids(tokenizer, text, finished=finished)
    known, messages = templates.facts(tokenizer), _messages(tokenizer, prompt)
    reply = reply.model_copy(update={"content": text if reply.content is not None else None})
    question = templates.written(tokenizer, messages, ask=True, tools=tools)
    asked = templates.encode(tokenizer, question)
    whole = templates.written(tokenizer, [*messages, reply], ask=False, tools=tools)
    shared = templates.parting(tokenizer, question, whole)
    turn, more = whole[max(0, shared - len(known.opening)) :], question[shared:]
    closing = templates.opened(tokenizer, more)
    if templates.squashed(text) not in templates.squashed(turn) or (closing and closing in text):
        if reply.tool_calls:
            raise templates.TemplateRefused(
                f"the chat template of {templates.name(tokenizer)} leaves out the text of an answer with tool calls. "
                "Delete one of both"
            )
        opening = question[len(question) - len(known.opening) :]
        return asked, response_ids(tokenizer, _continuing(tokenizer, opening, text), finished=True)
    whole = whole.removesuffix(known.words)
    # A template may write earlier turns in another way once the answer is there. The answer begins after its opening.
    if (place := _nth(whole, known.opening, more.count(known.opening), shared)) is not None:
        answer = templates.encode_after(tokenizer, whole[place + len(known.opening) :])
        return templates.encode(tokenizer, whole[: place + len(known.opening)]), _to_end(tokenizer, answer, reply)
    # Without a token between them, a token could reach from the question into the answer: no model samples that.
    if closing is None and (more or not known.ends):
        said = whole[shared:]
        behind = templates.continued(more, said)  # the same as in the question, but for white space
        # empty thoughts in the question and none here: as sampled. Thoughts here: as the template writes them
        if behind is not None or not any(tag in said for tag in re.findall(r"</\w+>", more)):
            response = templates.encode_after(tokenizer, said if behind is None else behind)
            return asked, _to_end(tokenizer, response, reply)
    ids = templates.encode(tokenizer, whole)
    begun = templates.shared(asked, ids)
    return ids[:begun], _to_end(tokenizer, ids[begun:], reply)


def response_ids(tokenizer: PreTrainedTokenizerBase, completion: str, *, finished: bool) -> list[int]:
    """Token ids of a response right after a prompt. The end of the turn follows if and only if it is finished."""
    pair = encoders.pair_of(tokenizer)
    if pair is not None:
        return [*encode(tokenizer, completion), *pair.after]
    marked = templates.mark(completion, templates.facts(tokenizer).in_answers)
    ids = templates.encode_after(tokenizer, marked)
    return [*ids, end_id(tokenizer)] if finished else ids


def tail_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of what the template writes after the end of an answer, in a chat that ends there."""
    return templates.encode_after(tokenizer, templates.facts(tokenizer).tail)


def end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an answer. Raises UserError if there is none."""
    end = templates.facts(tokenizer).end
    return _eos(tokenizer) if end is None else end


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a pretraining document: BOS if the tokenizer uses one, the text, EOS."""
    return [*_bos(tokenizer), *encode(tokenizer, text), _eos(tokenizer)]


def response_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of response ids, without EOS, pad and what frames a turn. Tags such as <answer> stay."""
    hidden = templates.facts(tokenizer).hidden
    shown = [token for token in ids if token not in hidden]
    before = lead_ids(tokenizer)
    return _decoded(tokenizer, before + shown).removeprefix(_decoded(tokenizer, before) if before else "")


def lead_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids to decode before those of an answer, where decoding alone takes off the space that begins it.

    Without a chat template that space is part of the answer. Empty for other tokenizers.
    """
    return encode(tokenizer, "a") if templates.facts(tokenizer).spaced and not tokenizer.chat_template else []


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def encode(tokenizer: PreTrainedTokenizerBase, string: str) -> list[int]:
    """Ids of ordinary text. No BOS or EOS, and names of special tokens are ordinary characters."""
    return templates.encode(tokenizer, templates.mark(string, templates.facts(tokenizer).by_others))


def same_tokens(a: PreTrainedTokenizerBase, b: PreTrainedTokenizerBase) -> bool:
    """Whether both give the same ids for the same text, so that a model with `a` reads the ids of one with `b`.

    `a` may have further special tokens, such as the pad of a reward model.
    """
    if a is b:
        return True
    own, others = a.get_vocab(), b.get_vocab()
    if not own.items() >= others.items():
        return False
    more = {own[token] for token in own.keys() - others.keys()}
    if not more <= special_ids(a) or a.chat_template != b.chat_template or a.eos_token_id != b.eos_token_id:
        return False
    probe = "Hello, world!\n\n  A tab:\t numbers 12345, " + RARE_TEXT
    return encode(a, probe) == encode(b, probe) and _bos(a) == _bos(b)


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids that no text has: the named special tokens (EOS, pad), the others, and the end of a turn."""
    added = {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    end = templates.facts(tokenizer).end
    return added | set(tokenizer.all_special_ids) | ({end} if end is not None else set())


def stop_ids(tokenizer: PreTrainedTokenizerBase, *configs: Any) -> list[int]:
    """Ids that end a response: the end of a turn, the tokenizer's EOS, and special tokens that the configs list as EOS.

    Chat models often have several. Pass `model.config` and `model.generation_config`.
    """
    special = tokenizer.added_tokens_decoder
    ids = {end_id(tokenizer)} | ({tokenizer.eos_token_id} if isinstance(tokenizer.eos_token_id, int) else set())
    for config in configs:
        named = getattr(config, "eos_token_id", None)
        named = named if isinstance(named, list | tuple) else [named]
        ids.update(int(token) for token in named if token in special and special[token].special)
    return sorted(ids)


def ensure_end(tokenizer: PreTrainedTokenizerBase, config: Any, generation: Any) -> None:
    """Make a saved model stop at the end of a turn wherever it is loaded: in its config and its generation config."""
    end = templates.facts(tokenizer).end
    if end is None or generation is None:
        return
    named = generation.eos_token_id
    named = [] if named is None else named if isinstance(named, list) else [named]
    if end not in named:
        generation.eos_token_id = [end, *named] if named else end
    own = getattr(config, "eos_token_id", None)  # a model that also sees has none of its own
    if end not in (own if isinstance(own, list) else [own]):
        config.eos_token_id = end


def _messages(tokenizer: PreTrainedTokenizerBase, prompt: PromptText) -> list[Message]:
    """The prompt as messages, earlier answers without the tokens around them."""
    if isinstance(prompt, str):
        return [Message(role="user", content=prompt)]
    return [
        message.model_copy(update={"content": templates.without_frame(tokenizer, message.content)})
        if message.role == "assistant" and message.content
        else message
        for message in prompt
    ]


def _continuing(tokenizer: PreTrainedTokenizerBase, opening: str, completion: str) -> str:
    """An answer without the tag that the prompt ends with already."""
    tag = re.search(r"(<[^<>]+>|\[[A-Z_]+\])\s*$", opening)
    if tag and templates.opened(tokenizer, opening) and completion.lstrip().startswith(tag[1]):
        return completion.lstrip().removeprefix(tag[1]).lstrip("\n")
    return completion


def _needs_template(tokenizer: PreTrainedTokenizerBase, what: str) -> templates.TemplateRefused:
    return templates.TemplateRefused(
        f"{templates.name(tokenizer)} has no chat template, which {what} need. Leave the row out"
    )


def _to_end(tokenizer: PreTrainedTokenizerBase, ids: list[int], reply: Message) -> list[int]:
    """The ids up to the end of the turn, which follows if the template writes none.

    Some templates write the token that ends a turn inside an answer too, such as between its text and its calls. It
    ends the turn only after all of the answer. So does the token that begins the next turn.
    """
    end, begins = end_id(tokenizer), templates.encode(tokenizer, templates.facts(tokenizer).opening)[:1]
    special, words = special_ids(tokenizer), _words(reply)

    def after_all(place: int) -> bool:
        said = templates.squashed(str(tokenizer.decode(ids[:place])))
        return all(max(said.count(form) for form in forms) >= words.count(forms) for forms in words)

    for stop in (end, tokenizer.eos_token_id):
        places = [place for place, token in enumerate(ids) if token == stop]
        if not places:
            continue
        place = places[0] if len(places) == 1 else next(filter(after_all, places), places[-1])
        other = next((ids.index(token) for token in begins if token in special and token in ids), place)
        return [*ids[:other], end] if other < place and after_all(other) else ids[: place + 1]
    # some templates end a call with another token
    last = max((index for index, token in enumerate(ids) if token in special), default=-1)
    cut = last < 0 or str(tokenizer.decode(ids[last + 1 :])).strip()
    return [*ids, end] if cut else ids[: last + 1]


def _words(reply: Message) -> list[tuple[str, ...]]:
    """What an answer says: its text, names and arguments of its calls. Each in the forms that templates write."""

    def leaves(value: Any) -> list[Any]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return [value] if inner is None else [leaf for one in inner for leaf in leaves(one)]

    calls = [call["function"] for call in reply.tool_calls or []]
    texts = [reply.text, *(leaf for one in calls for leaf in leaves([one["name"], one.get("arguments")]))]
    both = [
        {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
        for text in texts
        if isinstance(text, str)
    ]
    return [tuple(sorted(templates.squashed(form) for form in forms)) for forms in both]


def _nth(text: str, part: str, count: int, start: int) -> int | None:
    """Where a part comes for the nth time in a text from `start` on. None if it does not, or says nothing."""
    places = [found.start() for found in re.finditer(re.escape(part), text[start:])] if part.strip() else []
    return start + places[count - 1] if 0 < count <= len(places) else None


def _first_of_pair(tokenizer: PreTrainedTokenizerBase, prompt: PromptText) -> str:
    """A prompt for an encoder: the text itself, or a longer chat with its roles."""
    if isinstance(prompt, str):
        return prompt
    return _plain(tokenizer, prompt).rstrip()


def _plain(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> str:
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].text
    if any(message.tool_calls or message.role == "tool" for message in messages):
        raise _needs_template(tokenizer, "tool calls and the role tool")
    roles = {"developer": "system"}
    turns = [f"{roles.get(m.role, m.role).capitalize()}:\n{m.text}\n\n" for m in messages]
    return "".join(turns) + "Assistant:\n"


def _bos(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """[BOS] if the tokenizer adds one before text by itself, else []."""
    ids = tokenizer.encode("a", add_special_tokens=True)
    return ids[:1] if ids and ids[0] == tokenizer.bos_token_id and ids[0] not in encode(tokenizer, "a") else []


def _eos(tokenizer: PreTrainedTokenizerBase) -> int:
    if not isinstance(tokenizer.eos_token_id, int):
        raise UserError(f"{templates.name(tokenizer)} has no end-of-text token. Set its eos_token.")
    return tokenizer.eos_token_id
