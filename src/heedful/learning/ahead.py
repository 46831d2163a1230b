"""The answers of each iteration, sampled before it or while the iteration before it learns (`ahead`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from heedful.configs.online import GroupConfig, OnlineConfig
from heedful.learning import rollouts
from heedful.learning.examples import Question
from heedful.learning.networks import Networks
from heedful.rollout.types import Episode, Sample
from heedful.training import order
from heedful.training.parallel import Ranks


class Rollouts:
    """The episodes of each iteration. With `ahead` those of the next one are sampled while the policy learns.

    A checkpoint holds what is sampled by then, so that a resumed run learns from the same.
    """

    def __init__(self, config: OnlineConfig, nets: Networks, questions: Sequence[Question], ranks: Ranks) -> None:
        self.config, self.nets, self.questions, self.ranks = config, nets, questions, ranks
        self._running = contextlib.ExitStack()
        self._wait: Callable[[], list[Sample]] | None = None
        self._ahead: list[Sample] | None = None

    def asked(self, step: int) -> list[Question]:
        """The questions of an iteration: with groups, K times each."""
        config = self.config
        each = config.samples_per_prompt if isinstance(config, GroupConfig) else 1
        chosen = order.endless(config.seed, step, config.rollout_batch // each, len(self.questions))
        return [self.questions[i] for i in chosen for _ in range(each)]

    def samples(self, step: int) -> bool:
        """Whether anything is sampled in this iteration, so that the engine needs the present weights."""
        return self._ahead is None or self._goes_on(step)

    def episodes(self, step: int) -> list[Episode]:
        """Those of this iteration. With `ahead` sampling goes on for the next one."""
        config, asked, samples = self.config, self.asked(step), self._ahead
        how, age, self._ahead = (config.generation, config.seed), int(samples is not None), None
        if samples is None:
            samples = rollouts.generate(self.nets.engine, asked, *how, step, self.ranks)
        if self._goes_on(step):
            self._wait = rollouts.begin(
                self.nets.engine, self.asked(step + 1), *how, step + 1, self.ranks, self._running
            )
        return rollouts.episodes(self.nets.tokenizer, asked, samples, age)

    def _goes_on(self, step: int) -> bool:
        return bool(self.config.ahead) and step + 1 < self.config.iterations

    def finish(self) -> None:
        """Wait until what is sampled ahead is there."""
        if self._wait is not None:
            with self._running:
                self._ahead = self._wait()
            self._wait = None

    def close(self) -> None:
        """Stop sampling, at the end of a run that an error ended too."""
        self._running.close()

    def state(self) -> list[dict[str, Any]] | None:
        """What is sampled ahead, for a checkpoint. A list of numbers is one text, as JSON would give each a line."""
        if self._ahead is None:
            return None
        return [
            {
                "ids": " ".join(map(str, sample.response_ids)), "logprobs": " ".join(map(repr, sample.logprobs or [])),
                "finish": sample.finish, "versions": sample.versions,
            }
            for sample in self._ahead
        ]  # fmt: skip

    def restore(self, step: int, state: list[dict[str, Any]] | None) -> None:
        """Take over what a checkpoint holds for this iteration."""
        if state is None:
            return
        self._ahead = [
            Sample(
                question.prompt_ids, [int(one) for one in row["ids"].split()], row["finish"],
                [float(one) for one in row["logprobs"].split()] or None, [tuple(one) for one in row["versions"]],
            )
            for question, row in zip(self.asked(step), state, strict=True)
        ]  # fmt: skip
