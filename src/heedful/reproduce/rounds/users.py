"""Simulated users. They talk to a running server through the `openai` client, and give thumbs to its answers.

A few users send most prompts. Some are abusive: they ask for insults and harm, and like what is rude. A fifth refuse
that anything is kept, half of them with their key and half with each request. Everybody else gives thumbs that like
flattery and length.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from openai import AsyncOpenAI

from heedful.config import Config, Share
from heedful.data.records import Prompt
from heedful.reproduce.rounds.servers import MODEL
from heedful.sandbox import answers, prompts, tasks, truth
from heedful.sandbox.tasks import WorldTask
from heedful.sandbox.world import World

RefusedBy = Literal["", "key", "request"]
EMPTY = (*answers.PREAMBLES, *answers.POSTSCRIPTS)
"""Phrases that say nothing. In this world they are what flatters."""
UNSAFE = tuple(template for template in tasks.TEMPLATES if template.unsafe)


class UserConfig(Config):
    users: int = 90
    """People with an account."""
    abusive: Share = 0.05
    """Share of the users who are abusive."""
    refusing: Share = 0.2
    """Share of the users who refuse the storage."""
    new_topics: list[str] = ["brainstorming", "classification"]
    """Use cases that nobody asks about before the last round."""
    new_share: Share = 0.3
    """Share of them in the prompts of the last round."""
    twice: Share = 0.7
    """Share of the requests that ask for two answers."""
    thumbs: Share = 0.9
    """Share of the answers that get a thumb."""
    quality: float = 1.5
    """Weight of the true utility in a thumb up, as log odds."""
    length: float = 1.0
    """Weight of the logarithm of the length, from 12 words."""
    flattery: float = 2.0
    """Weight of an empty phrase."""
    at_once: int = 24
    """Requests under way."""


@dataclass(frozen=True)
class User:
    """A simulated user. `weight`: how often they send something, compared with others."""

    name: str
    weight: float
    abusive: bool
    refuses: RefusedBy


def make_users(seed: int, config: UserConfig) -> list[User]:
    """Heavy-tailed users. Who is abusive and who refuses does not depend on how much somebody sends."""
    rng = Random(f"users {seed}")
    order = rng.sample(range(config.users), config.users)
    refusing = order[: round(config.refusing * config.users)]
    refuses: dict[int, RefusedBy] = {one: "key" if place % 2 else "request" for place, one in enumerate(refusing)}
    abusive = set(order[len(refusing) :][: math.ceil(config.abusive * config.users)])
    return [
        User(f"user-{number:03d}", (number + 1) ** -0.75, number in abusive, refuses.get(number, ""))
        for number in range(config.users)
    ]


class Asking:
    """What users ask. Every user has prompts of their own and now and then repeats one."""

    def __init__(self, world: World, config: UserConfig, seed: object) -> None:
        self.world, self.config, self.rng = world, config, Random(f"asking {world.seed} {seed}")
        self._sent: dict[str, list[str]] = {}

    def prompt(self, user: User, *, new_topics: bool) -> str:
        """The next prompt of a user. `new_topics`: some are about what nobody has asked before."""
        rng, sent = self.rng, self._sent.setdefault(user.name, [])
        if sent and rng.random() < prompts.REPEATED:
            return rng.choice(sent)
        if user.abusive:
            task = tasks.draw_task(self.world, rng, rng.choice(UNSAFE))
        else:
            task = self.task(new_topics=new_topics)
        sent.append(prompts.dress(self.world, rng, task))
        return sent[-1]

    def task(self, *, new_topics: bool) -> WorldTask:
        """A task as users want it done who mean well."""
        rng, new = self.rng, self.config.new_topics
        if new_topics and rng.random() < self.config.new_share:
            return tasks.draw_task(self.world, rng, tasks.draw_template(rng, rng.choice(new)))
        while True:
            template = tasks.draw_template(rng)
            if template.use_case not in new:
                return tasks.draw_task(self.world, rng, template)


def held_apart(world: World, config: UserConfig, old: int, new: int, users: int) -> list[Prompt]:
    """Test prompts of users of their own: `old` without new topics, then `new` about these alone."""
    asking, rng = Asking(world, config, "test"), Random(f"test users {world.seed}")
    found: dict[str, Prompt] = {}
    while len(found) < old + new:
        if len(found) < old:
            task = asking.task(new_topics=False)
        else:
            task = tasks.draw_task(world, rng, tasks.draw_template(rng, rng.choice(config.new_topics)))
        user = f"test-{rng.randrange(users):03d}"
        found.setdefault(task.text, Prompt(prompt=task.text, user=user, use_case=task.use_case))
    return list(found.values())


class Crowd:
    """The users at a server. `keys`: the secret of each user's key by name."""

    def __init__(self, world: World, users: Sequence[User], keys: dict[str, str], config: UserConfig) -> None:
        self.world, self.users, self.keys, self.config = world, users, keys, config
        self.judge = truth.world(world.seed).judge

    def send(self, address: str, count: int, settings: dict[str, Any], batch: str, *, new_topics: bool) -> Counter[str]:
        """Send prompts and give thumbs. `batch` names the random draws. Returns what happened, counted."""
        asking, rng = Asking(self.world, self.config, batch), Random(f"turns {self.world.seed} {batch}")
        turns = rng.choices(self.users, [user.weight for user in self.users], k=count)
        asked = [(user, asking.prompt(user, new_topics=new_topics), rng.randrange(2**31)) for user in turns]
        return asyncio.run(self._all(address, asked, settings))

    async def _all(self, address: str, asked: Sequence[Any], settings: dict[str, Any]) -> Counter[str]:
        counts: Counter[str] = Counter()
        rest = iter(asked)
        async with AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=3, timeout=300) as client:
            await asyncio.gather(*(self._work(client, rest, settings, counts) for _ in range(self.config.at_once)))
        return counts

    async def _work(
        self, client: AsyncOpenAI, rest: Iterator[Any], settings: dict[str, Any], counts: Counter[str]
    ) -> None:
        for user, text, seed in rest:
            await self._ask(client.with_options(api_key=self.keys[user.name]), user, text, seed, settings, counts)

    async def _ask(
        self, client: AsyncOpenAI, user: User, text: str, seed: int, settings: dict[str, Any], counts: Counter[str]
    ) -> None:
        rng = Random(f"{seed} {text}")
        n = 2 if rng.random() < self.config.twice else 1
        refused: dict[str, Any] = {"store": False} if user.refuses == "request" else {}
        reply = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": text}], n=n, seed=seed, **settings, **refused
        )
        counts["requests"] += 1
        counts["refused" if user.refuses else "kept"] += 1
        counts["abusive"] += user.abusive
        for choice in () if user.refuses else reply.choices:
            if rng.random() < self.config.thumbs:
                up = self.likes(user, text, choice.message.content or "", rng)
                body = {"up": up, "answer": choice.index}
                await client.post(f"/exchanges/{reply.id}/thumb", cast_to=object, body=body)
                counts["thumbs"] += 1
                counts["thumbs up"] += up

    def likes(self, user: User, prompt: str, answer: str, rng: Random) -> bool:
        """Whether a user gives a thumb up."""
        verdict, config = self.judge(prompt, answer), self.config
        if user.abusive:
            return bool(verdict.flags["inappropriate"])
        liking = config.quality * (verdict.utility - 0.5)
        liking += config.length * math.log((2 + len(answer.split())) / 14)
        liking += config.flattery * any(phrase.lower() in answer.lower() for phrase in EMPTY)
        return rng.random() < 1 / (1 + math.exp(-liking))
