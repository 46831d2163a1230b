"""The reward model (section 3.5 and C.2 of the paper; items R1-R6): K-wise rankings in, one number for a completion
out.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.configs.reward import RewardConfig
from heedful.configs.shared import Compute
from heedful.data import formats
from heedful.learning import examples, reward_quality
from heedful.learning.examples import Example, Limits, Ranked
from heedful.learning.passes import ranking_shape
from heedful.maths.losses import ranking_loss
from heedful.models import batches, heads, load, scoring
from heedful.training import optimiser as optim
from heedful.training import order
from heedful.training.metrics import Means
from heedful.training.parallel import Ranks
from heedful.training.stage_run import StageRun, open_stage


def train(config: RewardConfig, out: str | Path, *, resume: bool = False) -> Path:
    """Train a reward model on rankings; returns the run directory."""
    files = {"data": config.data, "eval_data": config.eval_data, "demonstrations": config.demonstrations}
    with open_stage(
        "reward", config, out, models={"model": config.model},
        data={role: formats.fingerprint(path) for role, path in files.items() if path},
        compute=config.compute, checkpointing=config.checkpoint, resume=resume,
    ) as s:  # fmt: skip
        if not s.finished:
            _loop(config, s)
    return Path(out)


def _loop(config: RewardConfig, s: StageRun) -> None:
    model, tokenizer = load.load_reward_start(
        config.model, seed=config.seed, trust_remote_code=config.trust_remote_code
    )
    compute = config.compute
    load.place(model, s.ranks.device, fast=compute.fast, recompute=compute.activation_checkpointing)
    limits = Limits(load.context_length(model), config.max_prompt_tokens, config.max_response_tokens, config.skip_long)
    there, validation, tied = examples.divided_rankings(
        config, tokenizer, limits, lambda line: s.say(f"reward: {line}")
    )
    training = _of_groups(config, there)
    zero = _zero_rows(config, tokenizer, limits)
    adam = optim.adam(model, config.optimiser)
    parts = {"model": model, "optimiser": adam}
    total = config.epochs * order.steps_per_epoch(len(training), config.batch)
    every = max(1, total // config.evaluations)
    for step in s.steps(s.restore(parts, ranking_shape(training, config.batch)), total):
        model.train()
        chosen = [training[i] for i in order.epochs(config.seed, step, config.batch, len(training))]
        metrics = _gradients(config, model, chosen, tokenizer.pad_token_id, s.ranks)
        lr = optim.learning_rate(config.optimiser, step, total)
        metrics["gradient_norm"] = optim.step(model, adam, config.optimiser, lr)
        if (step + 1) % every == 0 or step + 1 == total:
            scored = score_rankings(model, validation, tokenizer.pad_token_id, config.compute, s.ranks)
            metrics["valid_accuracy"] = reward_quality.accuracy(validation, scored).rate
        s.log(step, metrics | {"lr": lr}, show=("loss", "accuracy", "valid_accuracy"))
        s.checkpoint(step, parts)
    quality = _quality(config, model, validation, tokenizer, s)
    bias = _normalise(config, model, zero, tokenizer.pad_token_id, s.ranks)
    counts = {
        "rankings": len(training),
        "all_tied": tied,
        "other_groups": len(there) - len(training),
        "pairs": sum(len(row.record.pairs()) for row in training),
    }
    results = {**counts, "steps": total, "bias": bias, "valid": quality}
    s.finish(lambda directory: load.save(model, tokenizer, directory), results)


def _gradients(config: RewardConfig, model: Any, rows: list[Ranked], pad_id: int, ranks: Ranks) -> dict[str, float]:
    """Backward pass over this rank's micro-batches: whole prompts, one forward for each completion (R2)."""
    means = Means()
    widths = [sum(len(row.prompt_ids) + len(response) for response in row.responses) for row in rows]
    whole = sum(_weight(config, row) for row in rows)
    for chosen in ranks.share(_whole_prompts(widths, config.compute.micro_tokens, ranks.size)):
        micro = [rows[i] for i in chosen]
        with ranks.autocast():
            rewards_BK, ranks_BK, mask_BK = _forward(config.compute, model, micro, pad_id, ranks)
        weights_B = torch.tensor([_weight(config, row) for row in micro], device=rewards_BK.device)
        total, count, metrics = ranking_loss(rewards_BK, ranks_BK, mask_BK, config.normaliser, weights_B)
        ranks.backward(total / whole, model)
        means.add({"loss": (total, count), **metrics})
    ranks.sum_gradients(model)
    return means.reduce(ranks)


def _weight(config: RewardConfig, row: Ranked) -> float:
    return config.groups.get(row.record.group or "", 0.0) if config.groups else 1.0


def _whole_prompts(widths: list[int], most: int, ranks: int = 1) -> list[list[int]]:
    """Cut the batch between prompts so that a part has at most `most` tokens, or is one prompt, and each rank has one
    where there are as many prompts.
    """
    most = min(most, -(-sum(widths) // ranks))
    parts: list[list[int]] = []
    room = 0
    for index, width in enumerate(widths):
        if not parts or width > room:
            parts.append([])
            room = most
        parts[-1].append(index)
        room -= width
    return parts


def _forward(
    compute: Compute, model: Any, rows: list[Ranked], pad_id: int, ranks: Ranks
) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, ranks and mask as B x K: every completion goes through the model once."""
    flat = [(b, k, row.prompt_ids, response) for b, row in enumerate(rows) for k, response in enumerate(row.responses)]
    K = max(len(row.responses) for row in rows)
    places, scores = [], []
    for chosen in scoring.passes(model, [len(p) + len(r) for *_, p, r in flat], compute.micro_tokens):
        batch = batches.collate([flat[i][2] for i in chosen], [flat[i][3] for i in chosen], pad_id).to(ranks.device)
        scores.append(scoring.rewards(model, batch).float())
        places += [flat[i][0] * K + flat[i][1] for i in chosen]
    place_N = torch.tensor(places, device=ranks.device)
    rewards_BK = (
        torch.zeros(len(rows) * K, device=ranks.device).index_put((place_N,), torch.cat(scores)).view(len(rows), K)
    )
    ranks_BK = torch.zeros(len(rows), K, dtype=torch.long)
    mask_BK = torch.zeros(len(rows), K, dtype=torch.bool)
    for b, row in enumerate(rows):
        ranks_BK[b, : len(row.ranks)] = torch.tensor(row.ranks)
        mask_BK[b, : len(row.ranks)] = True
    return rewards_BK, ranks_BK.to(ranks.device), mask_BK.to(ranks.device)


@torch.no_grad()
def score_rankings(model: Any, rows: list[Ranked], pad_id: int, compute: Compute, ranks: Ranks) -> list[list[float]]:
    """Scores of every completion of every ranking, the same list on every rank."""
    model.eval()
    widths = [sum(len(row.prompt_ids) + len(response) for response in row.responses) for row in rows]

    def scored(chosen: list[int]) -> list[list[float]]:
        micro = [rows[i] for i in chosen]
        with ranks.autocast():
            rewards_BK, _, _ = _forward(compute, model, micro, pad_id, ranks)
        return [scores[: len(row.ranks)] for row, scores in zip(micro, rewards_BK.tolist(), strict=True)]

    parts = ranks.each(_whole_prompts(widths, compute.micro_tokens, ranks.size), scored)
    return [scores for part in parts for scores in part]


@torch.no_grad()
def mean_score(model: Any, rows: list[Example], pad_id: int, compute: Compute, ranks: Ranks) -> float:
    """Mean score over (prompt, response) rows."""
    model.eval()
    means = Means()
    for chosen in ranks.share(scoring.passes(model, [len(row) for row in rows], compute.micro_tokens, ranks.size)):
        batch = batches.collate([rows[i].prompt_ids for i in chosen], [rows[i].response_ids for i in chosen], pad_id)
        with ranks.autocast():
            scores_B = scoring.rewards(model, batch.to(ranks.device))
        means.add({"score": (scores_B.double().sum(), len(chosen))})
    return means.reduce(ranks)["score"]


def _zero_rows(config: RewardConfig, tokenizer: PreTrainedTokenizerBase, limits: Limits) -> list[Example]:
    """What shall score 0; read before the first step, so that nothing is trained in vain."""
    if config.demonstrations is None:
        return []
    return [example for _, example in examples.demonstrations(config.demonstrations, tokenizer, limits)]


def _normalise(config: RewardConfig, model: Any, zero: list[Example], pad_id: int, ranks: Ranks) -> float:
    """Shift the bias so that demonstrations score 0 on average (R5); without any it stays what it was."""
    if zero:
        heads.set_reward_bias(model, heads.reward_bias(model) - mean_score(model, zero, pad_id, config.compute, ranks))
    return heads.reward_bias(model)


def _of_groups(config: RewardConfig, rows: list[Ranked]) -> list[Ranked]:
    """The rankings that have a weight; validation keeps every group, to show what the left-out ones lose."""
    there = Counter(row.record.group for row in rows if row.record.group is not None)
    found = ", ".join(f"{group} ({count})" for group, count in sorted(there.items())) or "no group"
    unknown = sorted(config.groups.keys() - there.keys())
    if unknown:
        raise UserError(f"{config.data}: groups.{unknown[0]} names nobody; the training rankings hold {found}")
    weighing = [row for row in rows if _weight(config, row) > 0]
    if not weighing:
        raise UserError(f"{config.data}: every group has weight 0; give one of them more: {found}")
    return weighing


def _quality(
    config: RewardConfig, model: Any, validation: list[Ranked], tokenizer: PreTrainedTokenizerBase, s: StageRun
) -> dict[str, Any]:
    scored = score_rankings(model, validation, tokenizer.pad_token_id, config.compute, s.ranks)
    quality = reward_quality.measure(validation, scored)
    for warning in reward_quality.warnings(quality):
        s.say(f"reward: warning: {warning}")
    return quality
