"""From people to a reward model and back: the sandbox's labelers at work in the labelling app, through the JSON API.

    python benchmarks/simulated_labelers.py --out DIR [--items 2000] [--held-out 300] [--model M] [--seed 1]

Starts `heedful label`; a lead accepts the first link, founds a project, imports the items (completions as a half-
trained model gives them, K = 4 to 9) and invites both groups of labelers and the held-out ones, who join, consent and
rank until nothing is left. Then `heedful snapshot`, `heedful reward` on it, and `heedful lineage` both ways. Without
`--model`, a short `heedful pretrain` on the sandbox's corpus makes the base model. Prints what each step did and took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from api_client import Client
from labelling_load import Server

from heedful.data import formats
from heedful.data.records import Comparison, Completions
from heedful.maths.statistics import ends
from heedful.sandbox import generate, labelers, mistakes, prompts
from heedful.sandbox.labelers import Labeler
from heedful.sandbox.world import World

T = TypeVar("T")
PROJECT, K_LEAST, K_MOST = "sandbox", 4, 9
DOCUMENTS, CORPUS_TOKENS = 3000, 200_000
PRETRAIN = (
    "depth=2", "vocab_size=1400", "context=224", "batch_tokens=448", f"tokens={CORPUS_TOKENS}",
    "optimiser.lr=3e-3", "optimiser.warmup=40",
)  # fmt: skip
REWARD = (
    "epochs=2", "batch=8", "max_prompt_tokens=112", "max_response_tokens=64", "skip_long=true", "optimiser.lr=3e-4",
    "optimiser.clip_norm=1.0",
)  # fmt: skip


def step(name: str, work: Callable[[], T], told: Callable[[T], str]) -> T:
    start = time.perf_counter()
    result = work()
    print(f"{name:<22} {time.perf_counter() - start:7.1f} s  {told(result)}", flush=True)
    return result


def heedful(*arguments: str | Path) -> Any:
    """The JSON that a command ends with."""
    command = [sys.executable, "-m", "heedful", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    return told.get("results", told)


def settings(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


def rows(world: World, count: int, seed: int) -> bytes:
    """Prompts of the world with K answers each, as JSON Lines."""
    rng = random.Random(f"simulated {seed}")
    made = []
    for number, prompt in enumerate(prompts.prompts(world, count, seed=seed)):
        texts = mistakes.mixture(world, prompt.prompt, K_LEAST + number % (K_MOST - K_LEAST + 1), rng)
        made.append(Completions.model_validate({**prompt.row(), "completions": texts}))
    return "".join(json.dumps(row.row()) + "\n" for row in made).encode()


def agreed(found: Any) -> str:
    """The rate of D12 and its interval."""
    rate = found["all"]["rate"]
    return f"{rate['mean']:.1%} of {rate['n']:,} pairs ({ends(rate)})"


class People:
    """The lead and the labelers, each with a token of the server's."""

    def __init__(self, port: int, world: World, hired: list[Labeler]) -> None:
        self._port, self._world, self._hired = port, world, hired
        self._path = f"/api/projects/{PROJECT}"
        self._lead: Client
        self._tokens: dict[str, str] = {}

    async def found(self, invitation: str, items: dict[str, bytes]) -> dict[str, int]:
        """Project and items, by purpose; how many there are."""
        joined = await Client(self._port, invitation).post(
            "/api/join", {"name": "lead", "password": secrets.token_hex()}
        )
        self._lead = Client(self._port, joined["token"])
        chosen = {"kinds": ["ranking"], "gold_share": 0, "attention_share": 0, "labelers_evaluate": False}
        await self._lead.post("/api/projects", {"name": PROJECT, "settings": chosen})
        counts = {}
        for purpose, content in items.items():
            path = f"{self._path}/items?purpose={purpose}&source=mixture"
            counts[purpose] = (await self._lead.call("POST", path, content, "application/x-ndjson"))["items"]
        return counts

    async def join(self) -> int:
        for one in self._hired:
            role = "held_out" if one.group == "held_out" else "labeler"
            invited = await self._lead.post(f"{self._path}/invitations", {"role": role, "group": one.group})
            account = {"name": one.name, "password": secrets.token_hex()}
            client = Client(self._port, invited["token"])
            token = self._tokens[one.name] = (await client.post("/api/join", account))["token"]
            client.close()
            client = Client(self._port, token)
            text = await client.get(f"{self._path}/consent")
            await client.post(f"{self._path}/consent", {"version": text["version"]})
            client.close()
        self._lead.close()  # the server ends connections that nobody uses for some seconds; the next call opens one
        return len(self._tokens)

    async def rank(self) -> Counter[str]:
        """Everybody until there is nothing left; how many each group ranked."""
        counts = await asyncio.gather(*map(self._work, self._hired))
        total: Counter[str] = Counter()
        for one, count in zip(self._hired, counts, strict=True):
            total[one.group] += count
        return total

    async def agreement(self) -> Any:
        return await self._lead.get(f"{self._path}/agreement")

    async def _work(self, one: Labeler) -> int:
        client, rng = Client(self._port, self._tokens[one.name]), random.Random(f"ranks {one.name}")
        for done in range(10**9):
            task = (await client.post(f"{self._path}/next"))["task"]
            if task is None:
                client.close()
                return done
            tiers, ratings = labelers.rank(self._world, task["prompt"], task["completions"], one, rng)
            answer = {"ranking": tiers, "ratings": [rating.model_dump(exclude_none=True) for rating in ratings]}
            body = {"answer": answer, "idempotency_key": secrets.token_hex(8), "seconds": 30.0}
            await client.post(f"{self._path}/tasks/{task['lease']}/submit", body)
        raise AssertionError


def label(out: Path, world: World, hired: list[Labeler], items: dict[str, bytes]) -> str:
    """Let them rank on a server of our own; the database."""
    database = str(out / "heedful.db")
    server = Server(database, out)
    step("server", server.start, lambda _: f"`heedful label` on {database}")
    try:
        invitation = re.search(r"admin account.*/join/(\S+)", (out / "server.log").read_text())
        assert invitation is not None, "no link for the admin account"
        at_work = People(server.port, world, hired)
        with asyncio.Runner() as runner:
            step("project, items", lambda: runner.run(at_work.found(invitation[1], items)), str)
            step("people", lambda: runner.run(at_work.join()), lambda count: f"{count} joined and consented")
            step("rankings", lambda: runner.run(at_work.rank()), lambda found: f"{found.total():,}: {dict(found)}")
            step("agreement", lambda: runner.run(at_work.agreement()), agreed)
    finally:
        server.stop()
    return database


def pretrain(out: Path, world_folder: Path, seed: int) -> Path:
    run = out / "runs" / "base"
    data = world_folder / "corpus.jsonl"
    heedful("pretrain", "--data", data, "--out", run, "--seed", str(seed), *settings(*PRETRAIN))
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--model", help="base of the reward model")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True)
    world = step(
        "world",
        lambda: generate.write_world(out / "world", options.seed, DOCUMENTS, 10),
        lambda _: f"{DOCUMENTS} texts",
    )
    hired = labelers.make_labelers(world)
    hired = labelers.good_ones(hired) + [one for one in hired if one.group == "held_out"]
    items = {
        "train": rows(world, options.items, options.seed + 100),
        "evaluate": rows(world, options.held_out, options.seed + 200),
    }
    database = label(out, world, hired, items)
    freeze = ("snapshot", "--db", database, "--project", PROJECT, "--records", "comparison", "--out")
    train, held_out = out / "snapshots" / "train", out / "snapshots" / "held_out"
    step("snapshot", lambda: heedful(*freeze, train), lambda told: f"{told['rows']:,} {told['records']} rows")
    chosen = settings('roles=["held_out"]', 'purposes=["evaluate"]')
    step("snapshot, held out", lambda: heedful(*freeze, held_out, *chosen), lambda told: f"{told['rows']:,} rows")
    base = options.model or step("pretrain", lambda: pretrain(out, out / "world", options.seed), lambda _: "base model")
    run = out / "runs" / "reward"
    data = ("--data", train, "--eval-data", held_out)
    learn = ("reward", "--model", base, *data, "--out", run, "--seed", str(options.seed))
    step("reward model", lambda: heedful(*learn, *settings(*REWARD)), lambda told: json.dumps(told))
    backward = step(
        "lineage of the run", lambda: heedful("lineage", run, "--db", database, "--runs", out / "runs"),
        lambda told: f"{len(told['judgements']):,} judgements of {len(told['labelers'])} labelers, {told['unknown']}",
    )  # fmt: skip
    name = hired[0].name
    forward = step(
        "lineage of a labeler",
        lambda: heedful("lineage", "--labeler", name, "--db", database, "--runs", out / "runs"),
        lambda told: f"{name}: {[each['hers'] for each in told['snapshots']]} rankings, in {told['runs']}",
    )
    ranked = {row.labeler for path in (train, held_out) for row in formats.read(path, Comparison)}
    assert set(backward["labelers"]) == ranked, "the run's labelers are not those of its snapshots"
    assert str(run) in forward["runs"], "the labeler's work is not found in the run"


if __name__ == "__main__":
    main()
