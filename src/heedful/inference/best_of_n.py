"""Best of n: sample n answers and keep the one with the highest reward, a baseline without training (O2)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.config import UserError
from heedful.configs.best_of_n import BestOfNConfig
from heedful.files import Row
from heedful.inference import sample
from heedful.inference.job import RowsJob, open_job
from heedful.learning import rollouts
from heedful.maths.kl import best_of_n_kl
from heedful.rewards.functions import Reward, open_reward
from heedful.rewards.specs import functions_of, models_of
from heedful.rollout.engine import load_engine
from heedful.rollout.types import Episode


def run(config: BestOfNConfig, out: str | Path, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Write a row with the best answer to each prompt and the scores of all n as `all_scores`. Returns `out`.

    The results hold the mean `score` of the best, `mean_score` of all, and the KL bound in nats.
    """
    if config.n > 1 and config.generation.temperature == 0:
        raise UserError(
            f"at generation.temperature 0 all {config.n} answers are equal, so there is no best. Set one above 0"
        )
    with open_job(
        "best_of_n", config, out, models={"model": config.model, **models_of(config.reward)},
        data={"prompts": config.prompts}, compute=config.compute, functions=functions_of(config.reward), resume=resume,
        overwrite=overwrite,
    ) as job:  # fmt: skip
        if not job.finished:
            _choose(config, job)
    return Path(out)


def _choose(config: BestOfNConfig, job: RowsJob) -> None:
    ranks, n = job.ranks, config.n
    engine, tokenizer = load_engine(
        config.model, config.compute, ranks.device, trust_remote_code=config.trust_remote_code,
        template=config.template,
    )  # fmt: skip
    questions = sample.fitting(config, engine, tokenizer, job)
    reward = open_reward(
        config.reward, policy_tokenizer=tokenizer, compute=config.compute, device=ranks.device,
        trust_remote_code=config.trust_remote_code,
    )  # fmt: skip
    reward.check(question.record for question in questions)
    reward.check_prompts((question.prompt, question.record.tools) for question in questions)
    job.note({"model": engine.model, **reward.models}, engine)

    def work(rows: range) -> list[Row]:
        asked = questions[rows.start : rows.stop]
        drawn = sample.answers(config, engine, asked, rows.start, n, ranks)
        flat = [one for samples in drawn for one in samples]
        episodes = rollouts.episodes(tokenizer, [question for question in asked for _ in range(n)], flat)
        scored = ranks.spread(episodes, lambda mine: _scored(reward, mine))
        made = []
        for i, question in enumerate(asked):
            own = [total for total, _ in scored[i * n : (i + 1) * n]]
            silent = Counter(name for _, names in scored[i * n : (i + 1) * n] for name in names)
            best = i * n + own.index(max(own))
            chosen, text = [flat[best]], [episodes[best].completion]
            more = {"no_opinion": dict(silent)} if silent else {}
            made.append(sample.row(question, chosen, text, config.model, scores=[max(own)], all_scores=own, **more))
        return made

    job.run([question.record for question in questions], config.chunk, work, lambda rows: _summary(rows, n))


def _scored(reward: Reward, episodes: list[Episode]) -> list[tuple[float, list[str]]]:
    """The reward of each answer, and which parts of it have no opinion."""
    if not episodes:
        return []
    total_B, parts = reward(episodes)
    silent = [[name for name, scores_B in parts.items() if scores_B[b].isnan()] for b in range(len(episodes))]
    return list(zip(total_B.tolist(), silent, strict=True))


def _summary(rows: list[Row], n: int) -> dict[str, Any]:
    silent: Counter[str] = sum((Counter(row.get("no_opinion", {})) for row in rows), Counter())
    same = sum(n > 1 and len(set(row["all_scores"])) == 1 for row in rows)
    return {
        "score": fmean(row["scores"][0] for row in rows),
        "mean_score": fmean(score for row in rows for score in row["all_scores"]),
        "kl_bound": best_of_n_kl(n),
        **({"without_choice": same} if same else {}),
        **({"no_opinion": dict(silent)} if silent else {}),
    }
