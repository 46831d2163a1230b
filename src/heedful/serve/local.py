"""A model in this process behind OpenAI's API."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from typing import Any

import psutil
import torch
from starlette.concurrency import run_in_threadpool
from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.configs.serve import ServeLimits
from heedful.configs.shared import Generation
from heedful.data.records import Message
from heedful.models import render
from heedful.rollout.local import LocalEngine
from heedful.serve import fields, requests
from heedful.serve.answers import ServedAnswer, ServedPrompt
from heedful.serve.batching import Lane
from heedful.serve.replicas import AnyLane, Load, Replica
from heedful.serve.requests import Plan
from heedful.serve.spelling import Spelling
from heedful.serve.types import ApiError, Call, Reply

log = logging.getLogger("heedful.serve")
EARLIER = [Message(role=role, content="Hello") for role in ("user", "assistant", "user")]
AWAY = "The model is not there at the moment."
SMALL = 64 << 20
"""Bytes of weights up to which a step is too short for several threads."""
MOST_LANES = 4
"""Of a small model. Each one takes half a gigabyte for torch."""
FEW = 16
"""Requests of a lane before another one gets some."""
FULL = "Too many requests wait for this model. Try again in a moment."


class LocalBackend:
    """A model that this process samples from."""

    upstream = False
    one_message = False

    def __init__(self, path: str, load: Load, limits: ServeLimits, threads: int = 1) -> None:
        """`threads`: that compute. 0: see `lanes_of`."""
        self.path, self.load, self.limits, self.threads = path, load, limits, threads
        self.created = int(time.time())
        self.waiting = 0
        """Answers that are asked for and not finished."""
        self.lanes: list[AnyLane] = []
        """The one of this process first. Empty while there is no model."""
        self._spelling: Spelling | None = None
        self._rendering = threading.Lock()
        self._swapping = asyncio.Lock()
        self._there = asyncio.Event()
        """Set while there are lanes."""

    async def start(self) -> None:
        self._use(*await run_in_threadpool(self.load, self.path))

    async def swap(self, path: str) -> bool:
        """Put another checkpoint in place. Running answers end on the old one. See `types.Backend`.

        If memory holds only one of them, new requests wait until the old one has ended and the new one is loaded.
        """
        async with self._swapping:
            old = self.lanes
            drained = bool(old) and not await run_in_threadpool(_fits_twice, old[0].engine, len(old))
            if drained:
                log.warning("%s: memory does not hold two models. The old one ends first, and requests wait.", path)
                self._there.clear()
                self.lanes = []
                for lane in old:
                    lane.retire()
                for lane in old:
                    await lane.ended.wait()
            try:
                loaded = await run_in_threadpool(self.load, path)
            except BaseException:
                if drained:  # the old weights are still in the old engine
                    self._use(old[0].engine, old[0].tokenizer)
                raise
            self.path = path
            self._use(*loaded)
            for lane in [] if drained else old:
                lane.retire()
            log.warning("%s is in place of the model before.", path)
            return drained

    def _use(self, engine: LocalEngine, tokenizer: PreTrainedTokenizerBase) -> None:
        lanes, threads = lanes_of(engine, self.threads)
        lanes = min(lanes, self.limits.rows)
        each = -(-self.limits.rows // lanes)
        lane = Lane(engine, tokenizer, each, threads=threads, lanes=lanes)
        others = [Replica(lane, self.load, self.path, each, threads=threads, lanes=lanes) for _ in range(lanes - 1)]
        self.lanes = [lane, *others]
        self._spelling = Spelling(tokenizer)
        with self._rendering:
            self.one_message = not _reads(tokenizer, EARLIER)
        self._there.set()
        self.created = int(time.time())

    def _ended(self, answers: int) -> None:
        self.waiting -= answers

    async def close(self, grace: float) -> None:
        for lane in self.lanes:
            lane.close()
        try:
            async with asyncio.timeout(grace):
                for lane in self.lanes:
                    await lane.ended.wait()
        except TimeoutError:
            for lane in self.lanes:
                lane.stop()

    def state(self) -> dict[str, Any]:
        failure = self.lanes[0].failure if self.lanes else "not loaded"
        return {"status": failure or "ok", "path": self.path, "answers": self.waiting}

    async def respond(self, call: Call) -> Reply:
        plan = requests.read(call.route, call.body, self.limits)
        if not self._there.is_set():
            await self._arrival(call)
        lane, spelling = self._lane(), self._spelling
        if lane is None or spelling is None:
            raise ApiError(503, AWAY, code="model_unavailable", retry_after=5)
        lane.users += 1
        try:
            prompts = await run_in_threadpool(self._prompts, lane, plan)
            answer = self._admit(call, plan, prompts, lane, spelling)
        except BaseException:
            lane.leave()
            raise
        try:
            await answer.begin(lambda prompt: self.settings(lane, plan, prompt))
            if plan.stream:
                return Reply(answer, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
            return Reply(await answer.whole())
        except BaseException:
            await answer.aclose()
            raise

    def _lane(self) -> AnyLane | None:
        """The first lane with few requests, else the one with the fewest: a step costs little more for a few rows."""
        there = [lane for lane in self.lanes if not lane.failure]
        return next((one for one in there if one.users < FEW), min(there, key=lambda one: one.users, default=None))

    async def _arrival(self, call: Call) -> None:
        """Wait for a model that is being replaced. Raises ApiError."""
        try:
            async with asyncio.timeout(max(0.0, call.deadline - time.perf_counter())):
                await self._there.wait()
        except TimeoutError:
            raise ApiError(503, AWAY, code="model_unavailable", retry_after=5) from None

    def _admit(
        self, call: Call, plan: Plan, prompts: list[ServedPrompt], lane: AnyLane, spelling: Spelling
    ) -> ServedAnswer:
        """Take a place in the queue. Raises ApiError 503 if it is full."""
        answers = plan.n * len(prompts)
        if self.waiting + answers > self.limits.rows + self.limits.queue:
            raise ApiError(503, FULL, code="overloaded", retry_after=1)
        self.waiting += answers
        return ServedAnswer(call, plan, prompts, lane, spelling, self._ended)

    def _prompts(self, lane: AnyLane, plan: Plan) -> list[ServedPrompt]:
        """The tokens of the prompts, as heedful makes them everywhere. Raises ApiError 400."""
        tokenizer = lane.tokenizer
        with self._rendering:
            try:
                if plan.messages is not None:
                    fields.check(tokenizer, plan.messages)
                    found = [ServedPrompt(render.prompt_ids(tokenizer, plan.messages))]
                else:
                    found = [_prompt(tokenizer, given, lane.engine.ids.end, plan.echo) for given in plan.prompts]
            except UserError as error:
                name = "messages" if plan.messages is not None else "prompt"
                raise ApiError(400, fields.told(tokenizer, str(error)), param=name) from None
        context = self.context(lane)
        for prompt in found:
            left, wanted = context - len(prompt.ids), plan.max_tokens
            words = f"this model reads {context} tokens in all, and the prompt has {len(prompt.ids)}."
            if left < (1 if wanted is None else wanted):
                name = "max_tokens" if wanted and left > 0 else "messages" if plan.messages is not None else "prompt"
                raise ApiError(400, f"'{name}': {words}", param=name, code="context_length_exceeded")
        return found

    def context(self, lane: AnyLane) -> int:
        """Most tokens of a prompt and its answer."""
        return min(lane.engine.context, self.limits.context)

    def settings(self, lane: AnyLane, plan: Plan, prompt: ServedPrompt) -> Generation:
        most = self.context(lane) - len(prompt.ids) if plan.max_tokens is None else plan.max_tokens
        return Generation(max_new_tokens=most, temperature=plan.temperature, top_p=plan.top_p, top_k=plan.top_k)


def _prompt(tokenizer: PreTrainedTokenizerBase, given: str | list[int], end: int, echo: bool) -> ServedPrompt:
    if isinstance(given, str):
        ids = render.text_prompt_ids(tokenizer, given)
        if not ids:
            raise UserError("'prompt' is empty: this tokenizer gives no tokens for it.")
        return ServedPrompt(ids, given if echo else "")
    if max(given) >= end:
        raise UserError(f"'prompt' holds the token {max(given)}. The last one of this model is {end - 1}.")
    return ServedPrompt(given, str(tokenizer.decode(given, clean_up_tokenization_spaces=False)) if echo else "")


def _reads(tokenizer: PreTrainedTokenizerBase, chat: list[Message]) -> bool:
    """Whether the model can be asked a chat."""
    try:
        render.prompt_ids(tokenizer, chat)
    except UserError:
        return False
    return True


def lanes_of(engine: LocalEngine, threads: int) -> tuple[int, int]:
    """(lanes of a model, threads in each) for so many threads that compute.

    A step of a small model is too short for several threads: at the end of each operator they wait for the last one.
    So each of them has a lane of its own, and all but the first a process (`replicas`). A larger model has one lane,
    which takes all of them. 0: a small model gets all cores, and a larger one leaves one to the event loop, since a
    turn of the system's scheduler would come at the end of an operator, 150 times in a step. OMP_NUM_THREADS counts as
    a number that was given.
    """
    found = torch.get_num_threads()
    given = threads or (found if "OMP_NUM_THREADS" in os.environ else 0)
    small = weights_of(engine) <= SMALL and engine.model.device.type == "cpu" and engine.decoder == "fast"
    if not small:
        return 1, given or max(1, found - 1)
    lanes = min(given or found, MOST_LANES)
    return lanes, (given or found) // lanes


def weights_of(engine: LocalEngine) -> int:
    """Bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in engine.model.state_dict().values())


def _fits_twice(engine: LocalEngine, lanes: int) -> bool:
    """Whether memory holds another model like this one, with the copies of its weights that its decoders keep."""
    weights = weights_of(engine)
    device = engine.model.device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return bool(free > (1 + lanes) * weights + weights // 4)
