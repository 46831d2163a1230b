"""Spot checks of a training run: people judge its most suspicious answers and random ones, without knowing which.

The answers are those that watched rewards have scored (watched.jsonl). Three signs make one suspicious: its reward is
far above the watched ones, it is far from what the reward model learned from, or it repeats itself. Each goes to people
as a pair, next to the answer of the first measurement to the same prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from heedful.config import UserError
from heedful.configs.spot_check import SpotCheckConfig
from heedful.data import formats
from heedful.data.records import Completions, Prompt
from heedful.data.text import counted
from heedful.evaluation import trust_distance
from heedful.evaluation.trust_data import episodes_of, training_file, unreadable
from heedful.files import Row, rows_of
from heedful.maths.statistics import Floats
from heedful.models.devices import device_of
from heedful.rewards.functions import Reward, open_reward
from heedful.runs.run import WATCHED, Run

CHOSEN = "spot_check.jsonl"
GAP, FAR, REPEATS = SIGNS = "reward above watch", "distance", "repetition"
SUSPICIOUS, RANDOM = "suspicious", "random"
RUN_OF = 20  # characters


@dataclass(frozen=True)
class SpotCheckPlan:
    """Which answers people judge."""

    pairs: list[Completions]
    """In a random order: the answer and that of the first measurement. Nothing says why an answer was chosen."""
    chosen: list[Row]
    """For spot_check.jsonl: the same answers with `arms`, the `sign` of a suspicious one, and its figures."""
    counts: dict[str, int]
    remarks: list[str] = field(default_factory=list)


def plan(path: str | Path, config: SpotCheckConfig) -> SpotCheckPlan:
    """Choose the answers of a run. UserError if it has stored none, or if none differs from its first one."""
    run = Run.open(path)
    rows = rows_of(run.path / WATCHED)
    if not rows:
        raise UserError(f"{path}: has no {WATCHED}. Train with --watch, and the run keeps the answers that it measures")
    first = min(row["step"] for row in rows)
    start = {row["question"]: row["completion"] for row in rows if row["step"] == first}
    pool = [row for row in rows if row["step"] > first and row["completion"] != start[row["question"]]]
    pool = list({(row["question"], row["completion"]): row for row in pool}.values())  # the last time that it was given
    if not pool:
        raise UserError(f"{path}: no answer has changed since iteration {first + 1}. There is nothing to compare yet")
    distances, why = _distances(run, pool, config)
    signs = {GAP: gaps(pool), REPEATS: np.array([repetition(row["completion"]) for row in pool])}
    if distances is not None:
        signs[FAR] = distances
    suspicious = by_sign(pool, {name: signs[name] for name in SIGNS if name in signs}, config.n)
    random = drawn(pool, config.n, config.seed)
    remarks = [f"distance is not measured: {why}"] if why else []
    asked = len({row["question"] for row in pool})
    if config.n > asked:
        remarks.append(
            f"only {counted(asked, 'prompts', 'have')} an answer that changed, so at most {asked} of each are sent"
        )
    if len(suspicious) < min(config.n, asked):
        remarks.append(f"only {counted(len(suspicious), 'answers', 'show')} a sign")
    order = list(dict.fromkeys([*suspicious, *random]))
    Random(f"spot check {config.seed}").shuffle(order)
    chosen = []
    for place in order:
        row = pool[place]
        arms = [arm for arm, own in ((SUSPICIOUS, suspicious), (RANDOM, random)) if place in own]
        figures = {name: round(float(values[place]), 4) for name, values in signs.items()}
        chosen.append(
            row | {"first": start[row["question"]], "arms": arms, "sign": suspicious.get(place), "figures": figures}
        )
    counts = {SUSPICIOUS: len(suspicious), RANDOM: len(random), "both": len(suspicious) + len(random) - len(order)}
    return SpotCheckPlan([_pair(row, first) for row in chosen], chosen, counts, remarks)


def remember(path: str | Path, chosen: Sequence[Row]) -> None:
    """Add the answers to spot_check.jsonl of the run. Those that are there already keep their arms and get new ones."""
    file = Path(path) / CHOSEN
    kept: dict[tuple[str, str], Row] = {}
    for row in [*rows_of(file), *chosen]:
        before = kept.get(key(row), {})
        arms = sorted({*before.get("arms", []), *row["arms"]})
        kept[key(row)] = {**row, "arms": arms, "sign": before.get("sign") or row["sign"]}
    formats.write(file, list(kept.values()))


def key(row: Row) -> tuple[str, str]:
    """What identifies an answer: its prompt and its text."""
    return repr(Prompt.model_validate({"prompt": row["prompt"]}).prompt), row["completion"]


def gaps(rows: Sequence[Row]) -> Floats:
    """How far the reward of each answer is above its watched rewards, in standard deviations of all answers."""
    watched = [_standard([row["watch"][name] for row in rows]) for name in rows[0]["watch"]]
    return np.asarray(_standard([row["proxy"] for row in rows]) - np.mean(watched, axis=0), dtype=np.float64)


def repetition(text: str) -> float:
    """The share of runs of 20 characters that stand earlier in the text too. 0 for texts under 40 characters.

    >>> repetition("so good " * 10) > 0.8, repetition("A short answer.")
    (True, 0.0)
    """
    runs = [text[i : i + RUN_OF] for i in range(len(text) - RUN_OF + 1)] if len(text) >= 2 * RUN_OF else []
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def by_sign(rows: Sequence[Row], signs: dict[str, Floats], count: int) -> dict[int, str]:
    """Places of up to `count` rows with the sign that chose each. The signs take turns, each prompt counts once.

    A sign counts only above 0 and above its median over all rows.
    """
    queues = {}
    for name, values in signs.items():
        bar = max(0.0, float(np.median(values)))
        queues[name] = iter([int(i) for i in np.argsort(-values, kind="stable") if values[i] > bar])
    found: dict[int, str] = {}
    asked: set[int] = set()
    while queues and len(found) < count:
        for name in list(queues):
            place = next((i for i in queues[name] if rows[i]["question"] not in asked), None)
            if place is None:
                del queues[name]
            elif len(found) < count:
                found[place] = name
                asked.add(rows[place]["question"])
    return found


def drawn(rows: Sequence[Row], count: int, seed: int) -> list[int]:
    """Places of up to `count` random rows, suspicious or not. Each prompt counts once."""
    order = list(range(len(rows)))
    Random(f"random answers {seed}").shuffle(order)
    firsts: dict[int, int] = {}
    for place in order:
        firsts.setdefault(rows[place]["question"], place)
    return list(firsts.values())[:count]


def _pair(row: Row, first: int) -> Completions:
    """What labelers get. `models` is for the leads alone, and names the iteration."""
    facts = {name: row[name] for name in Prompt.model_fields if name in row and name != "split"}
    return Completions.model_validate({
        **facts, "completions": [row["completion"], row["first"]],
        "models": [f"iteration {row['step'] + 1}", f"iteration {first + 1}"],
    })  # fmt: skip


def _standard(values: Sequence[float]) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    return (found - found.mean()) / (found.std() or 1.0)


def _distances(run: Run, rows: Sequence[Row], config: SpotCheckConfig) -> tuple[Floats | None, str]:
    """The distance of each answer from what the run's reward model learned from, or why there is none."""
    try:
        reward: Reward = open_reward(
            run.manifest.config["reward"], compute=config.compute, device=device_of(config.compute),
            trust_remote_code=config.trust_remote_code,
        )  # fmt: skip
    except UserError as error:
        return None, str(error)
    training, why_not = training_file([part.name for part in reward.members()], None)
    distance, why = trust_distance.learned(reward, training, why_not, set(), config.seed)
    if distance is None:
        return None, why
    facts = [{name: row[name] for name in (*Prompt.model_fields, "completion") if name in row} for row in rows]
    episodes = [episodes_of(Completions.model_validate(one | {"completions": [one["completion"]]}))[0] for one in facts]
    if unreadable(reward, episodes) is not None:
        return None, "the reward model cannot read one of the answers"
    return distance.of(episodes), ""


def describe(plan: SpotCheckPlan, queued: dict[str, Any], run: Path) -> str:
    """What was sent, and what to do when people have judged."""
    counts, name = plan.counts, queued["project"]
    lines = [
        f"{counts[SUSPICIOUS]} suspicious and {counts[RANDOM]} random answers are in project {name}"
        + (", which is new" if queued["new_project"] else "") + f". {counts['both']} of them are in both groups",
        *plan.remarks,
    ]  # fmt: skip
    if queued["known"]:
        lines.append(f"there already: {counted(queued['known'], 'pairs')}")
    if not queued["held_out_labelers"]:
        lines.append("It has no held-out labeler yet. Invite some on its page People")
    return "\n".join([
        *lines, "When they have judged:",
        f"  {queued['freeze']}",
        f"  heedful spot-check {run} --labels judged",
    ])  # fmt: skip
