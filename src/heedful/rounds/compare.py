"""The evaluation of a round: candidate against served model on prompts of held-out users, and what the gate reads."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from heedful.config import build
from heedful.configs.evaluate import EvaluateConfig
from heedful.data import formats
from heedful.data.records import Choice, Comparison, Completions
from heedful.evaluation.answers import key
from heedful.evaluation.judges import OUTCOME
from heedful.feedback import final
from heedful.feedback.store import Store
from heedful.rounds import people, promotions
from heedful.rounds.choose import GATE
from heedful.rounds.gate import Difference, Evidence, difference, win
from heedful.rounds.state import Round
from heedful.rounds.train import seed_of

SERVING, CANDIDATE = "serving", "candidate"
ANSWERS, VOTES, RESULT = "answers", "votes", "evaluation"
ALARM = "over-optimisation"


def compare(store: Store, one: Round, consent: str | None) -> dict[str, Any]:
    """Answer the gate's prompts with both models. A judge judges them, or people get them in their queue."""
    from heedful.evaluation import evaluate  # needs torch

    plan = one.plan
    serving = one.facts("sample").get("models", [None])[0] or promotions.serving(one.folder, plan)
    values = {
        "model": [f"{SERVING}={serving}", f"{CANDIDATE}={one.place('ppo')}"], "baseline": SERVING, "cluster": "user",
        "prompts": str(one.place(GATE)), "seed": seed_of(one), "generation": plan.generation, "compute": plan.compute,
        "judge": [plan.judge] if plan.judge is not None else [], "skip_long": True,
    }  # fmt: skip
    config = build(EvaluateConfig, values, "the plan")
    if plan.judge is not None:
        evaluate.run(config, one.place(RESULT))
        return {"serving": serving, "judge": plan.judge}
    exchanges = people.exchanges_of(one.place(GATE))

    def put(pairs: Sequence[Completions]) -> dict[str, Any]:
        with store.writing() as db:
            now = datetime.now(UTC)
            queued = final.queue(db, plan.gate_project, people.for_labelers(pairs), now, consent=consent)
            project = people.project_of(db, plan.gate_project).id
            people.note_origins(db, project, one.gate_source, exchanges)
        return {"pairs": queued.pairs, "known": queued.known, "held_out_labelers": queued.held_out_labelers}

    result = evaluate.run(config, one.place(ANSWERS), put)
    return {"serving": serving, **result["queue"]}


def evaluated(one: Round) -> dict[str, Any]:
    """Read what people said into a result, and what decides in the gate. Returns the win rate and all that it reads."""
    from heedful.evaluation import evaluate

    if one.plan.judge is None:
        serving = one.facts("compare")["serving"]
        values = {
            "model": [f"{SERVING}={serving}", f"{CANDIDATE}={one.place('ppo')}"], "baseline": SERVING,
            "cluster": "user", "judge": [str(one.place(VOTES))], "compute": one.plan.compute,
        }  # fmt: skip
        evaluate.run(build(EvaluateConfig, values, "the plan"), one.place(RESULT))
    return shown(evidence(one))


def shown(seen: Evidence) -> dict[str, Any]:
    """The evidence as JSON."""
    return {
        "win": seen.win._asdict() if seen.win is not None else None,
        "flags": {name: one._asdict() for name, one in seen.flags.items()} if seen.flags is not None else None,
        "tax": seen.tax, "length": seen.length, "alarms": list(seen.alarms),
    }  # fmt: skip


def evidence(one: Round) -> Evidence:
    """What was measured, from the files of the round."""
    outcomes, users = outcomes_of(formats.read(str(one.place(RESULT) / "choices.1.jsonl"), Choice))
    rated = one.place(VOTES)
    found = flags_of(formats.read(str(rated), Comparison)) if rated.is_dir() else None
    answers = one.place(RESULT if one.plan.judge is not None else ANSWERS) / "answers.jsonl"
    return Evidence(
        win(outcomes, users), found or None, _tax(one), length_of(formats.read(str(answers), Completions)),
        alarms_of(one, one.facts("ppo").get("results", {})),
    )  # fmt: skip


def outcomes_of(choices: Iterable[Choice]) -> tuple[list[float], list[str]]:
    """The mean outcome of the candidate on each prompt, and the user of each."""
    by_prompt: dict[str, list[float]] = defaultdict(list)
    users: dict[str, str] = {}
    for row in choices:
        outcome = OUTCOME[row.preferred]
        by_prompt[key(row.prompt)].append(outcome if row.a.model == CANDIDATE else 1 - outcome)
        users[key(row.prompt)] = str(row.user)
    return [float(np.mean(by_prompt[one])) for one in by_prompt], [users[one] for one in by_prompt]


def flags_of(rows: Sequence[Comparison]) -> dict[str, Difference]:
    """How much more often the candidate has each flag that was asked, paired by judgement, with users as clusters."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    users: dict[str, str] = {}
    for row in rows:
        if not row.ratings or not row.models:
            continue
        by_model = {name: rating.row() for name, rating in zip(row.models, row.ratings, strict=True)}
        users[key(row.prompt)] = str(row.user)
        ours, theirs = by_model.get(CANDIDATE, {}), by_model.get(SERVING, {})
        for name in ours.keys() & theirs.keys() - {"overall"}:
            if isinstance(ours[name], bool) and isinstance(theirs[name], bool):
                values[name][key(row.prompt)].append(float(ours[name]) - float(theirs[name]))
    found = {}
    for name in sorted(values):
        prompts = values[name]
        means = [float(np.mean(one)) for one in prompts.values()]
        found[name] = difference(means, [users[prompt] for prompt in prompts], len(values))
    return found


def length_of(rows: Iterable[Completions]) -> float | None:
    """The mean length of the candidate's answers over that of the served model's, in characters."""
    total: dict[str | None, int] = defaultdict(int)
    for row in rows:
        for text, model in zip(row.completions, row.models or [], strict=True):
            total[model] += len(text)
    if not total[SERVING]:
        return None if not total[CANDIDATE] else math.inf
    return total[CANDIDATE] / total[SERVING]


def alarms_of(one: Round, results: dict[str, Any]) -> list[str]:
    """The alarms of a run of PPO: a watched reward that fell, a sign of over-optimisation, too far from the start."""
    found = [str(results["alarm"])] if results.get("alarm") else []
    found += [sign for sign in results.get("signs") or [] if ALARM in sign]
    found += [str(results["stopped"])] if results.get("stopped") and not results.get("alarm") else []
    bound, kl = one.plan.gate.kl, results.get("kl")
    if bound != "off" and kl is not None and kl > bound:
        found.append(f"distance: KL {kl:.2f} nats an answer from the start. The bound is {bound:g}")
    return found


def _tax(one: Round) -> float | None:
    """How much higher the loss of the candidate on held-out texts is."""
    if one.plan.tax_data is None or one.plan.gate.tax == "off":
        return None
    from heedful.rounds.tax import loss

    serving = one.facts("compare")["serving"]
    candidate, served = (loss(ref, one.plan.tax_data, one.plan.compute) for ref in (str(one.place("ppo")), serving))
    return candidate - served
