"""One answer of a local model: from the pieces of its rows to OpenAI's JSON."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from heedful.configs.shared import Generation
from heedful.rollout.types import Stream, Top
from heedful.serve.answering import DONE
from heedful.serve.batching import AnswerPiece, Ticket, TokenEntry, WantedAnswer
from heedful.serve.replicas import AnyLane
from heedful.serve.requests import Plan
from heedful.serve.shapes import AnswerChoice, ResponseShape, error_event
from heedful.serve.spelling import Spelling
from heedful.serve.types import ApiError, Call


@dataclass
class ServedPrompt:
    """The tokens of a prompt. `text` and `tops`: if the request wants it echoed, with log-probabilities."""

    ids: list[int]
    text: str = ""
    tops: list[Top] | None = None


class ServedAnswer:
    """The answer to a request: whole, or as the events of a stream. Closing it frees its rows."""

    def __init__(
        self,
        call: Call,
        plan: Plan,
        prompts: list[ServedPrompt],
        lane: AnyLane,
        spelling: Spelling,
        ended: Callable[[int], None],
    ) -> None:
        """`ended(answers)` is called once for each answer, when it ends or is dropped."""
        self.call, self.plan, self.prompts, self.lane, self.spelling = call, plan, prompts, lane, spelling
        self.shape = ResponseShape(plan.route, call.outcome.id, call.model, usage=plan.usage)
        self.answers = plan.n * len(prompts)
        self.ticket = Ticket(self.answers, ended)
        self._first: list[AnswerPiece] = []
        self._tokens = [0] * self.answers
        self._begun = [False] * self.answers
        self._unfinished = self.answers
        self._state, self._closed = "running", False
        call.outcome.prompt_tokens = sum(len(prompt.ids) for prompt in prompts)
        call.outcome.finish = [""] * self.answers
        if call.outcome.answers is not None:
            call.outcome.answers = [""] * self.answers

    async def begin(self, settings: Callable[[ServedPrompt], Generation]) -> None:
        """Start the rows, and wait for the first token. Raises ApiError."""
        plan = self.plan
        if plan.echo and plan.top is not None:
            for prompt in self.prompts:
                prompt.tops = await self.lane.score(prompt.ids, plan.top) if len(prompt.ids) > 1 else []
        if plan.max_tokens == 0:
            self._first = [AnswerPiece(index, "", [], "length", 0) for index in range(self.answers)]
            return
        wanted = [
            WantedAnswer(
                place * plan.n + j, prompt.ids, Stream(plan.seed, j, 0), settings(prompt), plan.stops, plan.top
            )
            for place, prompt in enumerate(self.prompts)
            for j in range(plan.n)
        ]
        self.lane.submit(self.ticket, wanted)
        self._first = await self._next()
        self.call.outcome.first = time.perf_counter()

    async def whole(self) -> bytes:
        """The answer that is not streamed. Raises ApiError."""
        choices = [AnswerChoice(index) for index in range(self.answers)]
        entries: list[list[TokenEntry]] = [[] for _ in choices]
        while self._unfinished:
            for piece in await self._pieces():
                choices[piece.answer].text += piece.text
                choices[piece.answer].finish = piece.finish
                entries[piece.answer] += piece.entries
        for choice in choices:
            choice.logprobs = self._logprobs(choice.index, entries[choice.index], whole=True)
            if self.plan.echo:
                choice.text = self._prompt(choice.index).text + choice.text
        await self.aclose()
        outcome = self.call.outcome
        return self.shape.whole(choices, outcome.prompt_tokens, outcome.completion_tokens)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The events of the next step, the one with the usage, the last one."""
        if self._state == "done":
            raise StopAsyncIteration
        if self._unfinished:
            try:
                return self._events(await self._pieces())
            except ApiError as error:
                self._state, self.call.outcome.failed = "done", error.status
                return error_event(error)
        self._state = "done"
        outcome = self.call.outcome
        if self.plan.usage:
            return self.shape.used(outcome.prompt_tokens, outcome.completion_tokens) + DONE
        return DONE

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self.lane.cancel(self.ticket)
            self.lane.leave()

    async def _pieces(self) -> list[AnswerPiece]:
        """The next pieces, noted in the outcome."""
        pieces, self._first = self._first or await self._next(), []
        outcome = self.call.outcome
        for piece in pieces:
            outcome.completion_tokens += piece.tokens - self._tokens[piece.answer]
            self._tokens[piece.answer] = piece.tokens
            if outcome.answers is not None:
                outcome.answers[piece.answer] += piece.text
            if piece.finish is not None:
                outcome.finish[piece.answer] = piece.finish
                self._unfinished -= 1
        return pieces

    async def _next(self) -> list[AnswerPiece]:
        left = self.call.deadline - time.perf_counter()
        return await self.ticket.next(self.lane.loop.time() + left)

    def _events(self, pieces: list[AnswerPiece]) -> bytes:
        """One event for each answer that went on."""
        parts: list[bytes] = []
        merged: dict[int, tuple[AnswerChoice, list[TokenEntry]]] = {}
        for piece in pieces:
            choice, entries = merged.setdefault(piece.answer, (AnswerChoice(piece.answer), []))
            choice.text += piece.text
            choice.finish = piece.finish
            entries += piece.entries
        for index, (choice, entries) in merged.items():
            if not self._begun[index]:
                self._begun[index] = True
                parts.append(self.shape.begin(index))
                if self.plan.echo:
                    choice.text = self._prompt(index).text + choice.text
            choice.logprobs = self._logprobs(index, entries, whole=False)
            parts.append(self.shape.chunk(choice))
        return b"".join(parts)

    def _prompt(self, index: int) -> ServedPrompt:
        return self.prompts[index // self.plan.n]

    def _logprobs(self, index: int, entries: list[TokenEntry], *, whole: bool) -> object:
        if self.plan.top is None:
            return None
        if self.plan.route == "chat":
            return self.spelling.chat(entries, self.plan.top)
        prompt = self._prompt(index)
        before = len(prompt.text)
        tokens: list[tuple[int, int, Top | None]] = [(before + one.start, one.id, one.top) for one in entries]
        if whole and self.plan.echo:
            starts = self.spelling.offsets(prompt.ids)
            tops = [None, *(prompt.tops or [])]
            tokens = [*zip(starts, prompt.ids, tops, strict=True), *tokens]
        return self.spelling.completion(tokens, self.plan.top)
