"""Direct preference optimisation on rankings, the baseline without reward model and sampling (section A).

All pairs of a prompt are learned from together, with one forward for each completion. The reference is the frozen
start or a model of its own. Its log-probs are computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heedful.config import UserError
from heedful.configs.dpo import DPOConfig
from heedful.learning import examples, networks
from heedful.learning.examples import Ranked
from heedful.learning.passes import Passes, ranking_shape
from heedful.maths.losses import SumCount, dpo_loss
from heedful.models import adapters, batches, load, scoring, vocabulary
from heedful.training import optimiser as optim
from heedful.training import order
from heedful.training.metrics import Means
from heedful.training.stage_run import StageRun, open_stage


@dataclass(frozen=True)
class ReferencedRanking:
    """One ranking with the reference's log-prob of each completion."""

    ranked: Ranked
    pairs: list[tuple[int, int]]
    """(winner, loser) indices."""
    reference_K: Tensor


def train(config: DPOConfig, out: str | Path, *, resume: bool = False) -> Path:
    """Move the policy towards the preferred completions. Returns the run directory."""
    if config.kind == "ipo" and config.label_smoothing:
        raise UserError("label_smoothing belongs to dpo. Set it to 0 for kind = 'ipo'")
    files = {"data": config.data, "eval_data": config.eval_data}
    models = {"model": config.model, "reference": config.reference}
    with open_stage("dpo", config, out, models=models, files=files, resume=resume) as s:
        if not s.finished:
            _loop(config, s)
    return Path(out)


def _loop(config: DPOConfig, s: StageRun) -> None:
    model, tokenizer = load.load_policy(config.model, trust_remote_code=config.trust_remote_code, shards=s.ranks.shards)
    vocabulary.use_template(model, tokenizer, config.template)
    adapters.add(model, config.lora, seed=config.seed, base=config.model)
    load.place(model, s.ranks.device, config.compute, trained=True, shards=s.ranks.shards)
    write_model = load.writer(model, tokenizer, config.save_dtype, config.lora)
    s.try_saving(write_model)
    # the model itself before its first step: no copy is needed
    reference = networks.open_reference(config, model, tokenizer, s.ranks) if config.reference else model
    context = min(load.context_length(model), load.context_length(reference))
    limits = examples.limits_of(config, context)
    passes = Passes(tokenizer.pad_token_id, config.compute.micro_tokens, s.ranks)
    rankings, held_out, tied = examples.divided_rankings(config, tokenizer, limits, lambda line: s.say(f"dpo: {line}"))
    if any(row.record.weight not in (None, 1) for row in rankings):
        raise UserError(f"{config.data}: rankings have weights, which dpo does not use. Freeze them without any")
    s.note(rows=limits.counts)
    training = with_reference(reference, rankings, passes)
    validation = with_reference(reference, held_out, passes)
    del reference
    adam = optim.adam(model, config.optimiser)
    parts = {"model": model, "optimiser": adam}
    total = config.epochs * order.steps_per_epoch(len(training), config.batch)
    every = max(1, total // config.evaluations)
    s.say_if_few(total, "raise epochs or lower batch")
    for step in s.steps(s.restore(parts, ranking_shape(rankings, config.batch)), total):
        model.train()
        chosen = [training[i] for i in order.epochs(config.seed, step, config.batch, len(training))]
        metrics = gradients(config, model, chosen, passes)
        lr = optim.learning_rate(config.optimiser, step, total)
        metrics["gradient_norm"] = optim.step(model, adam, config.optimiser, lr)
        if (step + 1) % every == 0 or step + 1 == total:
            metrics |= validate(config, model, validation, passes)
        s.log(step, metrics | {"lr": lr}, show=("loss", "accuracy", "valid_loss", "valid_accuracy"))
        s.checkpoint(step, parts)
    counts = {"rankings": len(training), **tied, "pairs": sum(len(row.pairs) for row in training)}
    results = {**counts, "steps": total, **validate(config, model, validation, passes)}
    s.finish(write_model, results)


def gradients(config: DPOConfig, model: Any, rows: Sequence[ReferencedRanking], passes: Passes) -> dict[str, float]:
    """Backward pass over this rank's micro-batches. Gradients are those of the mean over all pairs of the batch."""
    count = sum(len(row.pairs) for row in rows)
    means = Means()
    for total, pairs, metrics in _losses(config, model, rows, passes):
        passes.ranks.backward(total / count, model)
        means.add({"loss": (total, pairs), **metrics})
    passes.ranks.sum_gradients(model)
    return means.reduce(passes.ranks)


@torch.no_grad()
def validate(config: DPOConfig, model: Any, rows: Sequence[ReferencedRanking], passes: Passes) -> dict[str, float]:
    """Mean loss and accuracy over held-out pairs. Nothing without one."""
    model.eval()
    means = Means()
    for total, pairs, metrics in _losses(config, model, rows, passes):
        means.add({"valid_loss": (total, pairs), "valid_accuracy": metrics["accuracy"]})
    return means.reduce(passes.ranks)


@torch.no_grad()
def with_reference(model: Any, rows: Sequence[Ranked], passes: Passes) -> list[ReferencedRanking]:
    """The rankings with `model`'s log-probs as the reference's."""
    model.eval()

    def logprobs(chosen: list[int]) -> list[tuple[int, Tensor]]:
        with passes.ranks.autocast():
            own = _logprobs(model, [rows[i] for i in chosen], passes)
        return [(i, own_K.cpu()) for i, own_K in zip(chosen, own, strict=True)]

    reference = dict(pair for part in passes.ranks.each_pass(_micro_batches(rows, passes), logprobs) for pair in part)
    return [ReferencedRanking(row, row.pairs, reference[i]) for i, row in enumerate(rows)]


def _losses(
    config: DPOConfig, model: Any, rows: Sequence[ReferencedRanking], passes: Passes
) -> Iterator[tuple[Tensor, Tensor, dict[str, SumCount]]]:
    """(sum, count, metrics) over pairs, for each of this rank's micro-batches."""
    ranks = passes.ranks
    for chosen, counts in ranks.deal(_micro_batches([row.ranked for row in rows], passes)):
        micro = [rows[i] for i in chosen]
        with ranks.autocast():
            policy = _logprobs(model, [row.ranked for row in micro], passes)
        reference = [row.reference_K.to(ranks.device) for row in micro]
        total, pairs, metrics = dpo_loss(
            *_of_pairs(policy, micro), *_of_pairs(reference, micro), config.beta, config.label_smoothing, config.kind
        )
        yield total * counts, pairs * counts, {name: (a * counts, b * counts) for name, (a, b) in metrics.items()}


def _of_pairs(logprobs: Sequence[Tensor], rows: Sequence[ReferencedRanking]) -> tuple[Tensor, Tensor]:
    """Log-probs of winners and losers, pair by pair."""
    winners, losers = (
        torch.cat([own_K[[pair[side] for pair in row.pairs]] for own_K, row in zip(logprobs, rows, strict=True)])
        for side in (0, 1)
    )
    return winners, losers


def _logprobs(model: Any, rows: Sequence[Ranked], passes: Passes) -> list[Tensor]:
    """Summed response log-probs [K] of every ranking: each completion goes through the model once."""
    batch = passes.batch([example for row in rows for example in row.examples])
    logprobs_BT = scoring.response_logprobs(model, batch)
    return list(logprobs_BT.sum(1).split([len(row.responses) for row in rows]))


def _micro_batches(rows: Sequence[Ranked], passes: Passes) -> list[list[int]]:
    """Whole rankings, at most `passes.micro_tokens` padded tokens where that is possible, and some for each rank."""
    widths = [len(row.responses) * max(map(len, row.examples)) for row in rows]
    return batches.micro_batches(widths, max_tokens=min(passes.micro_tokens, -(-sum(widths) // passes.ranks.size)))
