"""What a stage holds in memory and computes, read from its config before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from heedful.config import UserError
from heedful.configs.dpo import DPOConfig
from heedful.configs.engine import EngineConfig
from heedful.configs.offline import OfflineConfig
from heedful.configs.online import OnlineConfig
from heedful.configs.ppo import PPOConfig
from heedful.configs.pretrain import PretrainConfig
from heedful.configs.sft import SFTConfig
from heedful.configs.shared import Lora, StageConfig, TrainingCompute
from heedful.planning.shapes import ModelShape, of_body, shape_of, to_pretrain
from heedful.rewards.specs import models_of

ANSWERS = 4
"""Answers of a ranking where the data has not been read."""


@dataclass(frozen=True)
class Network:
    """One model of a stage. `held`: parameters in memory that no other one holds. `trained`: how many of them learn."""

    role: str
    shape: ModelShape
    held: int
    trained: int = 0
    writes: bool = True
    """Whether it has a head for text. Else it gives one number."""
    copy: bool = False
    """Whether it is a moving average, which stays in float32."""
    lowered: bool = False
    """Whether its frozen weights are in the precision of the passes on one GPU too (`adapters.lower`)."""

    @property
    def adapted(self) -> bool:
        """Whether it trains adapters and not its own weights."""
        return 0 < self.trained < self.shape.body


@dataclass(frozen=True)
class StepShape:
    """The rows that a stage computes with, as upper bounds."""

    step: int
    """Tokens in an optimiser step."""
    longest: int
    """Tokens of the longest row."""
    whole: int = 0
    """Tokens that one pass cannot do without, such as all answers of a ranking. 0 = the longest row."""
    losses: int = 1
    """Losses of a step. Each has backward passes of its own."""
    sampled: int = 0
    """Answers sampled at the same time."""
    columns: int = 0
    """Tokens of a prompt with its answer, where answers are sampled."""


@dataclass(frozen=True)
class PlannedStage:
    """A stage as the plan sees it."""

    stage: str
    compute: TrainingCompute
    networks: tuple[Network, ...]
    rows: StepShape
    lora: Lora
    updates: int = 1
    """Optimiser steps of an iteration."""
    scored: int = 0
    """Answers scored in an iteration by every network that does not learn, and by those that do."""
    servers: bool = False
    """Whether servers sample, and not this process."""
    sleeps: bool = False
    """Whether servers sleep while the policy learns."""
    ahead: bool = False
    """Whether it samples while the policy learns."""
    joint_loss: bool = False
    """Whether the loss of text is a sum, whose gradients are computed with it (fast/cross_entropy.py)."""
    assumed: tuple[str, ...] = ()
    """What was not known."""

    @property
    def shard(self) -> str:
        """How models are cut, as in `compute.shard`."""
        return self.compute.shard

    @property
    def trained(self) -> tuple[Network, ...]:
        """Those that learn. Where targets of LoRA name no layer, the first one: the loader says what is wrong."""
        return tuple(one for one in self.networks if one.trained) or self.networks[:1]

    def with_rows(self, rows: StepShape) -> PlannedStage:
        """The same with rows that have been read."""
        return replace(self, rows=rows)


def job_of(stage: str, config: StageConfig) -> PlannedStage:
    """The job of a config. Raises UserError for a model whose shape is not to be found."""
    if isinstance(config, PretrainConfig):
        job = _pretrain(stage, config)
    elif isinstance(config, OnlineConfig):
        job = _online(stage, config)
    elif isinstance(config, OfflineConfig):
        job = _offline(stage, config)
    else:
        raise UserError(f"{stage}: a stage without a plan")
    return replace(job, assumed=(*job.assumed, *_extras(job)))


def _extras(job: PlannedStage) -> Iterator[str]:
    """What the plan does not know of compiled layers and of Liger's kernels."""
    if job.compute.compile != "none":
        yield "compiled layers keep as much as plain ones and are as fast, without the minute or more of compiling"
    if job.compute.liger:
        yield "Liger's kernels are as fast as plain ones"
        for name in sorted({one.shape.name for one in job.trained if not one.shape.for_liger}):
            yield f"what Liger's kernels save in {name} is not counted"


def _pretrain(stage: str, config: PretrainConfig) -> PlannedStage:
    shape = shape_of(config.model, "text") if config.model is not None else to_pretrain(config)
    tokens = config.batch_tokens or 8 * config.context
    model = Network("model", shape, shape.policy, shape.policy)
    rows = StepShape(tokens, min(tokens, config.context, shape.context))
    return PlannedStage(stage, config.compute, (model,), rows, Lora(), joint_loss=True)


def _offline(stage: str, config: OfflineConfig) -> PlannedStage:
    writes = stage != "reward"
    shape = shape_of(config.model, "text" if writes else "reward")
    networks = [_trained("model", shape, config.lora, writes)]
    assumed: list[str] = []
    longest = min(shape.context, config.max_prompt_tokens + config.max_response_tokens)
    answers = 1 if isinstance(config, SFTConfig) else ANSWERS
    rows = StepShape(config.batch * answers * longest, longest, answers * longest)
    if answers > 1:
        assumed.append(f"{ANSWERS} answers to a prompt")
    if isinstance(config, DPOConfig) and config.reference is not None:
        networks.append(_frozen("reference", shape_of(config.reference, "text")))
    if isinstance(config, SFTConfig) and config.select_with is not None:
        networks += _rewards([config.select_with], "select_with", shape, assumed)
        columns = min(shape.context, config.max_prompt_tokens + config.generation.max_new_tokens)
        rows = replace(rows, sampled=min(config.generation.max_rows, config.select_samples), columns=columns)
    if isinstance(config, SFTConfig) and config.pretrain_data is not None:
        rows = replace(rows, losses=2)
    joint = isinstance(config, SFTConfig)
    return PlannedStage(
        stage, config.compute, tuple(networks), rows, config.lora, joint_loss=joint, assumed=tuple(assumed)
    )  # fmt: skip


def _online(stage: str, config: OnlineConfig) -> PlannedStage:
    shape, lora, assumed = shape_of(config.policy, "text"), config.lora, list[str]()
    policy = _trained("policy", shape, lora, True)
    networks = [policy]
    if config.reference is not None:
        networks.append(_frozen("reference", shape_of(config.reference, "text")))
    elif not lora.rank:
        networks.append(_frozen("reference", shape))
    rewards = _rewards(config.reward, "reward", shape, assumed)
    value: Network | None = None
    if isinstance(config, PPOConfig):
        start = shape_of(config.value) if config.value is not None else rewards[0].shape if rewards else shape
        value = _trained("value", start, lora, False)
        if lora.rank and config.value is None:  # its body is that of the reward model or of the policy
            value = replace(value, held=value.trained)
            rewards[:1] = [replace(one, lowered=one.shape.low) for one in rewards[:1]]
    networks += rewards if value is None else [*rewards, value]
    if config.ema_decay:
        networks.append(Network("average", shape, policy.trained, copy=True))
    networks += _rewards(config.watch, "watch", shape, assumed)
    columns = min(shape.context, config.max_prompt_tokens + config.generation.max_new_tokens)
    longest, losses = columns, 1
    step = config.minibatch * columns
    if config.pretrain_data is not None:
        piece = min(config.ptx_tokens, shape.context)
        step = max(step, round(config.minibatch * config.ptx_ratio) * piece)
        longest, losses = max(longest, piece), 2
    rows = StepShape(
        step, longest, losses=losses, sampled=min(config.generation.max_rows, config.rollout_batch), columns=columns
    )  # fmt: skip
    return PlannedStage(
        stage, config.compute, tuple(networks), rows, lora,
        updates=config.epochs * max(1, config.rollout_batch // config.minibatch), scored=config.rollout_batch,
        servers=config.engine.kind != "local", sleeps=config.engine.sleep, ahead=bool(config.ahead),
        assumed=tuple(assumed),
    )  # fmt: skip


def _trained(role: str, shape: ModelShape, lora: Lora, writes: bool) -> Network:
    whole = shape.policy if writes else shape.scorer
    if not lora.rank:
        return Network(role, shape, whole, whole, writes)
    trained = shape.adapters(lora) + (0 if writes else shape.width)
    lowered = shape.low and not lora.load_in_4bit
    return Network(role, shape, whole + shape.adapters(lora), trained, writes, lowered=lowered)


def _frozen(role: str, shape: ModelShape, writes: bool = True) -> Network:
    return Network(role, shape, shape.policy if writes else shape.scorer, writes=writes)


def _rewards(specs: list[str], role: str, policy: ModelShape, assumed: list[str]) -> list[Network]:
    """The reward models of some specs. One that is not there yet counts as large as the policy."""
    found = []
    for name, ref in models_of(specs, role).items():
        try:
            shape = shape_of(ref)
        except UserError:
            shape = policy
            assumed.append(f"{ref} has the shape of {policy.name}")
        found.append(_frozen(name, shape, writes=False))
    return found


def loaded(stage: str, config: StageConfig, models: Mapping[str, Any], rows: StepShape) -> PlannedStage:
    """The job of models that are in memory already, all of which learn."""
    networks = []
    for role, model in models.items():
        shape = of_body(model.base_model, role)
        count = sum(weight.numel() for weight in model.parameters())
        learns = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        writes = hasattr(model, "get_output_embeddings") and model.get_output_embeddings() is not None
        lowered = any(weight.dtype == torch.bfloat16 for weight in model.parameters() if not weight.requires_grad)
        networks.append(Network(role, shape, count, learns, writes, lowered=lowered))
    engine, lora = getattr(config, "engine", EngineConfig()), getattr(config, "lora", Lora())
    servers = engine.kind != "local"
    joint = stage in ("pretrain", "sft")
    return PlannedStage(
        stage, config.compute, tuple(networks), rows, lora, servers=servers, sleeps=servers and engine.sleep,
        ahead=bool(getattr(config, "ahead", 0)), joint_loss=joint,
    )  # fmt: skip
