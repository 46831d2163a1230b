"""A conversation with a model in a terminal or a pipe. The answer appears as it is sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from heedful.configs.chat import ChatConfig
from heedful.data.records import Message, PromptText
from heedful.models import render, templates
from heedful.rollout.engine import load_engine
from heedful.rollout.room import tokens_left
from heedful.rollout.text import TextStream
from heedful.rollout.types import Sample, Stream
from heedful.runs.run import prompts_to_try
from heedful.training.parallel import join_ranks

QUIT, RESET, HELP = "/quit", "/reset", "/help"
# Characters that a terminal obeys instead of showing, except newline and tab.
_CONTROLS = {code: "�" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class ChatSession:
    """The turns so far, and the model that answers the next."""

    def __init__(self, config: ChatConfig) -> None:
        device = join_ranks(config.compute).device
        self.engine, self.tokenizer = load_engine(
            config.model, config.compute, device, trust_remote_code=config.trust_remote_code, template=config.template
        )
        self.config = config
        self.history = templates.facts(self.tokenizer).turns if config.history is None else config.history
        self.messages: list[Message] = []
        self.turn = 0
        self.prompts = prompts_to_try(config.model)

    def answer(self, line: str, write: Callable[[str], None]) -> str | None:
        """Write the answer to one line piece by piece. Returns a remark if the answer did not end by itself.

        The part of an interrupted answer (KeyboardInterrupt) that was written stays in the conversation.
        """
        asked = Message(role="user", content=line)
        prompt: PromptText = [*self.messages, asked] if self.history else line
        prompt_ids = render.prompt_ids(self.tokenizer, prompt)
        wanted = self.config.generation.max_new_tokens
        left = tokens_left(self.engine.context, len(prompt_ids), wanted)
        if left == 0:
            return f"{self._full(len(prompt_ids))}, not answered"
        settings = self.config.generation.model_copy(update={"max_new_tokens": left})
        text, shown = TextStream(self.tokenizer), ""
        sample: Sample | None = None
        self.turn += 1
        try:
            for token in self.engine.stream(prompt_ids, Stream(self.config.seed, self.turn, 0), settings):
                sample = token.sample
                piece = text.push(token.id) + (text.end() if sample is not None else "")
                shown += piece
                write(piece.translate(_CONTROLS))
        finally:
            write("\n")
            if self.history:
                self.messages += [asked, Message(role="assistant", content=shown)]
        assert sample is not None
        if sample.finish == "stop":
            return None
        if left < wanted:
            return f"{self._full(len(prompt_ids) + left)}, the answer is cut off"
        return f"cut off at {left} tokens. More with --generation.max-new-tokens {2 * left}"

    def _full(self, used: int) -> str:
        remedy = f"{RESET} starts over" if self.messages else "ask something shorter"
        return f"the context of {self.engine.context} tokens is full ({used} used, {remedy})"


def help_lines(prompts: list[str]) -> list[str]:
    """The commands of a conversation, and the prompts that suit the model."""
    commands = (
        f"{RESET} starts a new conversation, {QUIT} or Ctrl-D ends it, Ctrl-C stops an answer, {HELP} shows this."
    )
    return [commands, *(f"/{number} asks: {prompt}" for number, prompt in enumerate(prompts, 1))]


def converse(
    chat: ChatSession, lines: Iterable[str], write: Callable[[str], None], remark: Callable[[str], None]
) -> None:
    """Answer line after line until `/quit` or the end. Ctrl-C ends an answer, not the conversation."""
    numbered = {f"/{number}": prompt for number, prompt in enumerate(chat.prompts, 1)}
    for line in lines:
        said = line.strip()
        if said in numbered:
            said = numbered[said]
            remark(said)
        if said == QUIT:
            return
        if said == RESET:
            chat.messages = []
            remark("started over")
        elif said == HELP:
            for told in help_lines(chat.prompts):
                remark(told)
        elif said:
            try:
                ending = chat.answer(said, write)
            except KeyboardInterrupt:
                ending = "stopped"
            if ending is not None:
                remark(ending)
