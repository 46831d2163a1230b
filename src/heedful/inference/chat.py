"""A conversation with a model in a terminal or a pipe, the answer appearing as it is sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from transformers import PreTrainedTokenizerBase

from heedful.configs.chat import ChatConfig
from heedful.data.records import Message, PromptText
from heedful.models import load, render
from heedful.rollout.local import LocalEngine
from heedful.rollout.types import Stream
from heedful.training.parallel import join_ranks

QUIT, RESET = "/quit", "/reset"
# What a terminal would obey rather than show, newline and tab aside.
_CONTROLS = {code: "�" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class Chat:
    """The turns so far, and the model that answers the next."""

    def __init__(self, config: ChatConfig) -> None:
        with join_ranks(config.compute) as ranks:
            model, self.tokenizer = load.load_policy(
                config.model, dtype=ranks.dtype, trust_remote_code=config.trust_remote_code
            )
            self.engine = LocalEngine(model.to(ranks.device), self.tokenizer)
        self.config = config
        self.history = bool(self.tokenizer.chat_template) if config.history is None else config.history
        self.messages: list[Message] = []
        self.turn = 0

    def reset(self) -> None:
        self.messages = []

    def answer(self, line: str, write: Callable[[str], None]) -> str | None:
        """Write the answer to one line piece by piece; returns a remark where it ended other than by itself.

        An interrupted answer (KeyboardInterrupt) stays in the conversation as far as it came.
        """
        asked = Message(role="user", content=line)
        prompt: PromptText = [*self.messages, asked] if self.history else line
        prompt_ids = render.prompt_ids(self.tokenizer, prompt)
        room = self.engine.context - len(prompt_ids)
        if room < 1:
            return f"{self._full(len(prompt_ids))}, not answered"
        ids: list[int] = []
        shown: list[str] = []
        self.turn += 1
        try:
            stream = self.engine.stream(prompt_ids, Stream(self.config.seed, self.turn, 0), self.config.generation)
            for piece in pieces(self.tokenizer, _noted(stream, ids)):
                shown.append(piece)
                write(piece.translate(_CONTROLS))
        finally:
            write("\n")
            if self.history:
                self.messages += [asked, Message(role="assistant", content="".join(shown))]
        if ids and ids[-1] in self.engine.stops:
            return None
        if len(ids) >= room:
            return f"{self._full(len(prompt_ids) + len(ids))}, the answer is cut off"
        return f"cut off at {len(ids)} tokens; more with --set generation.max_new_tokens={2 * len(ids)}"

    def _full(self, used: int) -> str:
        remedy = f"; {RESET} begins anew" if self.messages else "; ask something shorter"
        return f"the context of {self.engine.context} tokens is full ({used}{remedy})"


def converse(chat: Chat, lines: Iterable[str], write: Callable[[str], None], remark: Callable[[str], None]) -> None:
    """Answer line after line until `/quit` or the end; Ctrl-C ends an answer, not the conversation."""
    for line in lines:
        said = line.strip()
        if said == QUIT:
            return
        if said == RESET:
            chat.reset()
            remark("begun anew")
        elif said:
            try:
                ending = chat.answer(said, write)
            except KeyboardInterrupt:
                ending = "stopped"
            if ending is not None:
                remark(ending)


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> Iterator[str]:
    """The text of ids in pieces as soon as they are certain: a character whose bytes are not complete yet is held back.

    The pieces add up to the text of all ids.
    """
    seen: list[int] = []
    written = text = ""
    for token in ids:
        seen.append(token)
        text = render.response_text(tokenizer, seen)
        certain = text.rstrip("�")
        if len(certain) > len(written) and certain.startswith(written):
            yield certain[len(written) :]
            written = certain
    if text != written:
        yield text[len(written) :]


def _noted(ids: Iterable[int], into: list[int]) -> Iterator[int]:
    for token in ids:
        into.append(token)
        yield token
