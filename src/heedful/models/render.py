"""Convert prompts, responses and documents to tokens and back. All stages use this module, and nothing else does it.

The rules are the same in training, sampling and chat:
- A tokenizer with a chat template uses it. A plain string is then one message of the user.
- Without a template a plain string does not change. A blank line follows, unless the string ends in whitespace. A chat
  of one user message is that string. A longer chat has the line "User:", the text, a blank line, the line "Assistant:",
  the text, a blank line, and so on. It ends with "Assistant:".
- BOS comes once: from the template, or without one where the tokenizer adds it itself. EOS ends a finished response and
  a document, and nothing else. Only this module writes special tokens. In people's text they are plain characters.
- Prompt and response are encoded separately and their ids joined. So a model trains on exactly the ids that it sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.data.records import Message, PromptText

RARE_TEXT = "\u2603 \U0001f9ff \ue000 \u0b85 \u4e2d \u200b"


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: PromptText) -> list[int]:
    """Token ids of a prompt, up to where the answer begins. Never empty."""
    messages = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
    if tokenizer.chat_template:
        return _templated(tokenizer, messages)
    ids = _bos(tokenizer) + encode(tokenizer, _plain(messages))
    if not ids:
        raise UserError("an empty prompt: this tokenizer gives no tokens for it. Leave it out.")
    return ids


def response_ids(tokenizer: PreTrainedTokenizerBase, completion: str, *, finished: bool) -> list[int]:
    """Token ids of a response. EOS follows if and only if it is finished (not cut off by length)."""
    ids = encode(tokenizer, completion)
    return [*ids, _eos(tokenizer)] if finished else ids


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a pretraining document: BOS if the tokenizer uses one, the text, EOS."""
    return [*_bos(tokenizer), *encode(tokenizer, text), _eos(tokenizer)]


def response_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of response ids, without EOS, pad and other special tokens."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def encode(tokenizer: PreTrainedTokenizerBase, string: str) -> list[int]:
    """Ids of ordinary text. No BOS or EOS, and names of special tokens are ordinary characters."""
    return list(tokenizer.encode(string, add_special_tokens=False, split_special_tokens=True, verbose=False))


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
    """Ids that no text has: the named special tokens (EOS, pad) and the others (<|im_end|>)."""
    added = {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def stop_ids(tokenizer: PreTrainedTokenizerBase, *configs: Any) -> list[int]:
    """Ids that end a response: the tokenizer's EOS, and special tokens that the configs list as EOS.

    Chat models often have several. Pass `model.config` and `model.generation_config`.
    """
    special = tokenizer.added_tokens_decoder
    ids = {_eos(tokenizer)}
    for config in configs:
        named = getattr(config, "eos_token_id", None)
        named = named if isinstance(named, list | tuple) else [named]
        ids.update(int(token) for token in named if token in special and special[token].special)
    return sorted(ids)


def _templated(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[int]:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        # The template writes BOS itself if the model wants one. transformers adds none here.
        ids = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=True, return_dict=False, sanitize_control_tokens=True
        )
    except TemplateError as error:
        raise UserError(f"the chat template of {_name(tokenizer)} refuses this chat: {error.message}") from None
    return list(ids)


def _plain(messages: list[Message]) -> str:
    if len(messages) == 1 and messages[0].role == "user":
        string = messages[0].content
        return string if string[-1:].isspace() else string + "\n\n"
    turns = [f"{message.role.capitalize()}:\n{message.content}\n\n" for message in messages]
    return "".join(turns) + "Assistant:\n"


def _bos(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """[BOS] if the tokenizer adds one before text by itself, else []."""
    ids = tokenizer.encode("a", add_special_tokens=True)
    return ids[:1] if ids and ids[0] == tokenizer.bos_token_id and ids[0] not in encode(tokenizer, "a") else []


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.name_or_path or "the tokenizer")


def _eos(tokenizer: PreTrainedTokenizerBase) -> int:
    if not isinstance(tokenizer.eos_token_id, int):
        raise UserError(f"{_name(tokenizer)} has no end-of-text token. Set its eos_token.")
    return tokenizer.eos_token_id
