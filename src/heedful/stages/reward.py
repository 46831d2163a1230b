"""The reward model (section 3.5 and C.2 of the paper, items R1-R6).

It learns from rankings of K answers, and gives one number for each answer.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heedful.config import UserError
from heedful.configs.reward import RewardConfig
from heedful.learning import examples, preflight, reward_quality
from heedful.learning.examples import Example, Ranked
from heedful.learning.passes import Passes, ranking_shape
from heedful.learning.rankings import Read, divided
from heedful.maths.losses import ranking_loss
from heedful.maths.masks import length_mask
from heedful.maths.padding import right_pad
from heedful.models import adapters, batches, heads, load, scoring, vocabulary
from heedful.stages import reward_folds
from heedful.training import optimiser as optim
from heedful.training import order
from heedful.training.metrics import Means
from heedful.training.stage_run import StageRun, open_stage


def train(config: RewardConfig, out: str | Path, *, resume: bool = False) -> Path:
    """Train a reward model on rankings, an ensemble of some, or one for each fold. Returns the run directory."""
    if config.members > 1 or config.folds:
        return reward_folds.train(config, Path(out), train_one, resume=resume)
    return train_one(config, out, divided, resume=resume)


def train_one(config: RewardConfig, out: str | Path, read: Read, *, resume: bool = False) -> Path:
    """Train one reward model on the rankings that `read` gives."""
    files = {"data": config.data, "eval_data": config.eval_data, "demonstrations": config.demonstrations}
    with open_stage("reward", config, out, models={"model": config.model}, files=files, resume=resume) as s:
        if not s.finished:
            _loop(config, s, read)
    return Path(out)


def _loop(config: RewardConfig, s: StageRun, read: Read) -> None:
    model, tokenizer = load.load_reward_start(
        config.model, seed=config.seed, trust_remote_code=config.trust_remote_code, shards=s.ranks.shards
    )
    vocabulary.use_template(model, tokenizer, config.template)
    adapters.add(model, config.lora, seed=config.seed, base=config.model)
    load.place(model, s.ranks.device, config.compute, trained=True, shards=s.ranks.shards)
    write_model = load.writer(model, tokenizer, config.save_dtype, config.lora)
    s.try_saving(write_model)
    preflight.settle(s, config.preflight, preflight.of_rankings(config.data, config.eval_data))
    limits = examples.limits_of(config, load.context_length(model))
    rows = read(config, tokenizer, limits, lambda line: s.say(f"reward: {line}"))
    training, validation = _of_groups(config, rows.training), rows.validation
    # read before the first step, so that a bad file stops the run at once
    shown = examples.demonstrations(config.demonstrations, tokenizer, limits) if config.demonstrations else []
    s.note(rows=limits.counts)
    passes = Passes(tokenizer.pad_token_id, config.compute.micro_tokens, s.ranks)
    adam = optim.adam(model, config.optimiser)
    parts = {"model": model, "optimiser": adam}
    total = config.epochs * order.steps_per_epoch(len(training), config.batch)
    every = max(1, total // config.evaluations)
    mean_weight = sum(_weight(config, row) for row in training) / len(training)
    if not shown:
        bias = heads.reward_bias(model)
        s.say(
            f"reward: without --demonstrations the bias stays {bias:g}, and a score of 0 means nothing by itself (R5)"
        )
    s.say_if_few(total, "raise epochs or lower batch")
    for step in s.steps(s.restore(parts, ranking_shape(training, config.batch)), total):
        model.train()
        chosen = [training[i] for i in order.epochs(config.seed, step, config.batch, len(training))]
        metrics = _gradients(config, model, chosen, mean_weight, passes)
        lr = optim.learning_rate(config.optimiser, step, total)
        metrics["gradient_norm"] = optim.step(model, adam, config.optimiser, lr)
        if validation and ((step + 1) % every == 0 or step + 1 == total):
            scores = score_rankings(model, validation, passes)
            metrics["valid_accuracy"] = reward_quality.accuracy(validation, scores).rate
        s.log(step, metrics | {"lr": lr}, show=("loss", "accuracy", "valid_accuracy"))
        s.checkpoint(step, parts)
    quality = {
        name: reward_quality.measure(part, score_rankings(model, part, passes))
        for name, part in (("valid", validation), ("new_labelers", rows.new_labelers))
        if part
    }
    for warning in reward_quality.warnings(quality["valid"]) if validation else ():
        s.say(f"reward: warning: {warning}")
    if shown:  # demonstrations score 0 on average (R5)
        score = mean_score(model, [example for _, example in shown], passes)
        heads.set_reward_bias(model, heads.reward_bias(model) - score)
    counts = {
        "rankings": len(training),
        **rows.tied,
        "other_groups": len(rows.training) - len(training),
        "pairs": sum(len(row.pairs) for row in training),
    }
    results = {**counts, "steps": total, "bias": heads.reward_bias(model), **quality}
    s.finish(write_model, results)


def _gradients(
    config: RewardConfig, model: Any, rows: list[Ranked], mean_weight: float, passes: Passes
) -> dict[str, float]:
    """Backward pass over this rank's micro-batches: whole prompts, one forward for each completion (R2).

    The loss is divided by the number of rankings and by the mean weight of the data set. Divided by the weights of the
    batch, a group of weight 0.1 would count in full where it is alone.
    """
    means, ranks = Means(), passes.ranks
    whole = len(rows) * mean_weight
    parts = _whole_prompts(rows, passes)
    for number, (chosen, counts) in enumerate(ranks.deal(parts)):
        micro = [rows[i] for i in chosen]
        at_once = parts[number * ranks.size : (number + 1) * ranks.size] if ranks.shards is not None else []
        least = max((len(_cut(model, [rows[i] for i in part], passes)) for part in at_once), default=0)
        with ranks.autocast():
            rewards_BK, ranks_BK, mask_BK = _forward(model, micro, passes, least)
        firsts_BK, _ = right_pad([row.firsts for row in micro], 0, rewards_BK.device)
        weights_B = torch.tensor([_weight(config, row) for row in micro], device=rewards_BK.device)
        total, _, metrics = ranking_loss(rewards_BK, ranks_BK, mask_BK, config.normaliser, weights_B, firsts_BK)
        ranks.backward(total * counts / whole, model)
        if counts:
            means.add({"loss": (total / mean_weight, len(micro)), **metrics})
    ranks.sum_gradients(model)
    return means.reduce(ranks)


def _weight(config: RewardConfig, row: Ranked) -> float:
    """The weight of the ranking itself, times that of its group."""
    own = row.record.weight or 1.0
    return own * config.groups.get(row.record.group or "", 0.0) if config.groups else own


def _whole_prompts(rows: list[Ranked], passes: Passes) -> list[list[int]]:
    """The rankings cut between prompts, with a part for each rank where there are as many prompts."""
    return batches.in_order([sum(map(len, row.examples)) for row in rows], passes.micro_tokens, passes.ranks.size)


def _cut(model: Any, rows: list[Ranked], passes: Passes) -> list[list[int]]:
    """The forward passes over all completions of these rankings."""
    return scoring.passes(model, [len(example) for row in rows for example in row.examples], passes.micro_tokens)


def _forward(model: Any, rows: list[Ranked], passes: Passes, least: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, ranks and mask as B x K: every completion goes through the model once.

    `least`: forward passes that another rank with shards needs. Those beyond the rankings repeat the first one.
    """
    device, K = passes.ranks.device, max(len(row.responses) for row in rows)
    flat = [(b * K + k, example) for b, row in enumerate(rows) for k, example in enumerate(row.examples)]
    places, scores = [], []
    cut = _cut(model, rows, passes)
    for chosen in cut:
        scores.append(scoring.rewards(model, passes.batch([flat[i][1] for i in chosen])).float())
        places += [flat[i][0] for i in chosen]
    for _ in range(least - len(cut)):
        repeated = scoring.rewards(model, passes.batch([flat[i][1] for i in cut[0]]))
        scores[0] = scores[0] + 0.0 * repeated.sum()
    place_N = torch.tensor(places, device=device)
    rewards_BK = torch.zeros(len(rows) * K, device=device).index_put((place_N,), torch.cat(scores)).view(len(rows), K)
    ranks_BK, lengths_B = right_pad([row.ranks for row in rows], 0, device)
    return rewards_BK, ranks_BK, length_mask(lengths_B, K)


@torch.no_grad()
def score_rankings(model: Any, rows: list[Ranked], passes: Passes) -> list[list[float]]:
    """Scores of every completion of every ranking, the same list on every rank.

    An answer that several rankings share is scored once.
    """
    model.eval()
    distinct = {_key(example): example for row in rows for example in row.examples}
    place = {key: index for index, key in enumerate(distinct)}
    examples = list(distinct.values())

    def scored(chosen: list[int]) -> list[float]:
        with passes.ranks.autocast():
            scores: list[float] = scoring.rewards(model, passes.batch([examples[i] for i in chosen])).tolist()
        return scores

    cut, found = passes.cut(model, examples), [0.0] * len(examples)
    for chosen, scores in zip(cut, passes.ranks.each_pass(cut, scored), strict=True):
        for index, score in zip(chosen, scores, strict=True):
            found[index] = score
    return [[found[place[_key(example)]] for example in row.examples] for row in rows]


def _key(example: Example) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(example.prompt_ids), tuple(example.response_ids)


@torch.no_grad()
def mean_score(model: Any, rows: list[Example], passes: Passes) -> float:
    """Mean score over (prompt, response) rows."""
    model.eval()
    means = Means()
    for chosen, counts in passes.ranks.deal(passes.cut(model, rows)):
        with passes.ranks.autocast():
            scores_B = scoring.rewards(model, passes.batch([rows[i] for i in chosen]))
        means.add({"score": (counts * scores_B.double().sum(), counts * len(chosen))})
    return means.reduce(passes.ranks)["score"]


def _of_groups(config: RewardConfig, rows: list[Ranked]) -> list[Ranked]:
    """The rankings that have a weight. Validation keeps every group, to show what the left-out ones lose."""
    there = Counter(row.record.group for row in rows if row.record.group is not None)
    found = ", ".join(f"{group} ({count})" for group, count in sorted(there.items())) or "no group"
    unknown = sorted(config.groups.keys() - there.keys())
    if unknown:
        raise UserError(f"{config.data}: groups.{unknown[0]} names nobody. The training rankings hold {found}")
    weighing = [row for row in rows if _weight(config, row) > 0]
    if not weighing:
        raise UserError(f"{config.data}: every group has weight 0. Give one of them more: {found}")
    return weighing
