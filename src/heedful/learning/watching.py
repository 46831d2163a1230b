"""Rewards that are watched and not optimised: measured on fixed prompts, with an alarm for over-optimisation.

The policy learns to please the reward that it is trained on (the proxy). A second reward model, or a truth, that nobody
optimises shows whether its answers get better.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from random import Random
from typing import Any

from heedful.config import UserError
from heedful.configs.online import OnlineConfig
from heedful.data.records import Prompt
from heedful.learning import experience, rollouts
from heedful.learning.examples import Question
from heedful.learning.networks import Networks
from heedful.learning.passes import Passes
from heedful.maths.kl import sequence_kl
from heedful.maths.statistics import FEWEST, mean_interval
from heedful.rewards.functions import Reward, open_reward
from heedful.rewards.specs import identities
from heedful.rollout.types import Episode
from heedful.runs.run import short

STREAM = 2_000_003
"""Offset of the seed for samples that are watched, so that they share no stream with training."""
LOOK_BACK = 3
"""Measurements over which the alarm looks."""
Measurement = dict[str, Any]
"""`step`, `proxy` (its mean) and `scores`: those of each answer by the name of the watched reward."""


class WatchedRewards:
    """The watched rewards of a run, and what they have measured so far."""

    def __init__(self, config: OnlineConfig, nets: Networks, questions: Sequence[Question], passes: Passes) -> None:
        self.config, self.nets, self.passes = config, nets, passes
        self.rewards: dict[str, Reward] = {}
        for spec in config.watch:
            if spec in self.rewards:
                raise UserError(f"watch names {spec} twice. Name it once")
            self.rewards[spec] = open_reward(
                [spec], policy_tokenizer=nets.tokenizer, compute=config.compute, device=passes.ranks.device,
                trust_remote_code=config.trust_remote_code, shards=passes.ranks.shards,
            )  # fmt: skip
        count = min(len(questions), config.watch_prompts)
        chosen = Random(f"watch {config.seed}").sample(range(len(questions)), count)
        self.questions = [questions[i] for i in sorted(chosen)]
        for reward in self.rewards.values():
            reward.check(question.record for question in questions)
            reward.check_prompts((question.prompt, question.record.tools) for question in questions)
        self.recent: list[Measurement] = []
        """The last measurements. A checkpoint keeps them."""
        self.alarm: str | None = None
        self.rows: list[dict[str, Any]] = []
        """The answers of the last measurement with their scores, for watched.jsonl."""

    def due(self, step: int) -> bool:
        """Whether to measure after 0-based `step`: after the first, every `watch_every` and the last iteration."""
        done = step + 1
        return bool(self.rewards) and (
            step == 0 or done % self.config.watch_every == 0 or done == self.config.iterations
        )

    def restore(self, facts: dict[str, Any]) -> None:
        """Take over what a checkpoint holds."""
        self.recent, self.alarm = list(facts.get("watched") or []), facts.get("alarm")

    def measure(self, step: int) -> dict[str, float]:
        """Sample answers to the fixed prompts and score them. Returns metrics, and sets `alarm` if there is cause.

        The random numbers are the same each time, so that two measurements differ by the policy alone.
        """
        config, nets, passes = self.config, self.nets, self.passes
        nets.engine.load_weights(nets.policy, step + 1)
        samples = rollouts.generate(
            nets.engine, self.questions, config.generation, config.seed + STREAM, 0, passes.ranks
        )
        episodes = rollouts.episodes(nets.tokenizer, self.questions, samples)
        proxy = experience.score(
            nets.reward, episodes, missing_eos_penalty=config.missing_eos_penalty, passes=passes
        ).total_B
        scores = {name: self._scores(reward, episodes) for name, reward in self.rewards.items()}
        self.rows = _rows(episodes, proxy.double().tolist(), scores)
        found: Measurement = {"step": step, "proxy": float(proxy.double().mean()), "scores": scores}
        metrics = {"watch/proxy": found["proxy"], "watch/kl": self._kl(episodes)}
        metrics |= {f"watch/{name}": sum(own) / len(own) for name, own in scores.items()}
        self.recent = [*self.recent, found][-LOOK_BACK:]
        self.alarm = self.alarm or alarm_of(self.recent, [question.record.prompt for question in self.questions])
        return metrics

    def value(self) -> float:
        """The mean of the first watched reward in the last measurement: what the best checkpoint is chosen by."""
        own = next(iter(self.recent[-1]["scores"].values()))
        return float(sum(own) / len(own))

    def _scores(self, reward: Reward, episodes: list[Episode]) -> list[float]:
        scores = experience.score(reward, episodes, missing_eos_penalty=None, passes=self.passes)
        found: list[float] = scores.total_B.double().tolist()
        return found

    def _kl(self, episodes: list[Episode]) -> float:
        """Mean sequence KL from the reference, in nats."""
        how: Any = {"temperature": self.config.generation.temperature, "passes": self.passes}
        ours_BT = experience.old_logprobs(self.nets.policy, episodes, exact=self.nets.engine.exact, **how)
        reference_BT = experience.logprobs(self.nets.reference, episodes, name="the reference", **how)
        mask_BT = experience.response_mask(episodes)
        return float(sequence_kl(ours_BT, reference_BT, mask_BT).double().mean())


def remarks(config: OnlineConfig, prompts: Sequence[Any]) -> list[str]:
    """Settings of watched rewards that do nothing here, and why."""
    if not config.watch:
        fields = OnlineConfig.model_fields
        names = [name for name in ("watch_every", "watch_prompts", "on_alarm")
                 if getattr(config, name) != fields[name].default]  # fmt: skip
        return [f"{name} is unused without watch" for name in names]
    if both := [spec for spec in config.watch if identities([spec]) & identities(config.reward)]:
        return [f"{both[0]} is watched and optimised too, so it cannot show over-optimisation. Watch another reward"]
    every = range(config.watch_every, config.iterations + 1, config.watch_every)[:LOOK_BACK]
    measurements = len({1, config.iterations, *every})
    if measurements < LOOK_BACK:
        told = f"it takes {LOOK_BACK} measurements, and this run makes {measurements}"
        return [f"no alarm can go off: {told}. Lower watch_every, or raise episodes"]
    different = len({repr(prompt) for prompt in prompts})
    if different < FEWEST:
        return [f"no alarm can go off: it takes {FEWEST} different prompts, and this run watches {different}"]
    return []


def _rows(episodes: Sequence[Episode], proxy: Sequence[float], scores: dict[str, list[float]]) -> list[dict[str, Any]]:
    """One row an answer. `question` is the place of its prompt, which is the same in every measurement."""
    found = []
    for place, episode in enumerate(episodes):
        asked = episode.record.row() if episode.record is not None else {"prompt": episode.prompt}
        found.append({
            "question": place, **{name: asked[name] for name in Prompt.model_fields if name in asked},
            "completion": episode.completion, "finish": "stop" if episode.finished else "length",
            "proxy": short(proxy[place]), "watch": {name: short(own[place]) for name, own in scores.items()},
        })  # fmt: skip
    return found


def alarm_of(recent: Sequence[Measurement], prompts: Sequence[Any]) -> str | None:
    """Why to stop: over the last three measurements the proxy rises while a watched reward falls beyond its interval.

    Both move in one direction from each measurement to the next. The interval is that of the fall, paired over prompts.
    """
    if len(recent) < LOOK_BACK:
        return None
    window = recent[-LOOK_BACK:]
    proxies = [one["proxy"] for one in window]
    if not all(a < b for a, b in itertools.pairwise(proxies)):
        return None
    for name in window[0]["scores"]:
        means = [math.fsum(one["scores"][name]) / len(one["scores"][name]) for one in window]
        if not all(a > b for a, b in itertools.pairwise(means)):
            continue
        first, last = (one["scores"][name] for one in (window[0], window[-1]))
        fall = mean_interval([b - a for a, b in zip(first, last, strict=True)], [repr(prompt) for prompt in prompts])
        # all answers that fall by the same have no interval, and need none
        bounds = (fall.low, fall.high) if fall.low is not None and fall.high is not None else (fall.mean, fall.mean)
        if bounds[1] < 0 and len({repr(prompt) for prompt in prompts}) >= FEWEST:
            return (
                f"over-optimisation: from iteration {window[0]['step'] + 1} to {window[-1]['step'] + 1} the reward "
                f"rises from {proxies[0]:.3g} to {proxies[-1]:.3g}, and {name} falls by {-fall.mean:.3g} "
                f"({-bounds[1]:.3g} to {-bounds[0]:.3g})"
            )
    return None
