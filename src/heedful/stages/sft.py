"""Supervised fine-tuning on demonstrations (section 3.5 and C.1 of the paper, items S1-S3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.configs.sft import SFTConfig
from heedful.data.text import counted
from heedful.learning import examples, likelihood, preflight, rollouts
from heedful.learning.examples import Example, Question, TokenLimits
from heedful.learning.passes import Passes, step_shape
from heedful.models import adapters, dropout, load, vocabulary
from heedful.models.ids import ids_of
from heedful.planning.job import StepShape
from heedful.rewards.functions import Reward, open_reward
from heedful.rewards.specs import functions_of, models_of
from heedful.rollout.engine import open_engine
from heedful.training import optimiser as optim
from heedful.training import order
from heedful.training.metrics import Means
from heedful.training.parallel import Ranks
from heedful.training.stage_run import StageRun, open_stage

PAPER_DROPOUT = 0.2
FEW_EPOCHS = 2  # up to this number, the validation loss tells the epochs apart


def train(config: SFTConfig, out: str | Path, *, resume: bool = False) -> Path:
    """Fine-tune `config.model` on demonstrations. Returns the run directory."""
    if (config.select_with is None) != (config.prompts is None):
        raise UserError(
            "--select-with needs --prompts to sample for, and --prompts is only for it. Give both or neither"
        )
    files = {
        "data": config.data,
        "valid_data": config.valid_data,
        "pretrain_data": config.pretrain_data,
        "prompts": config.prompts,
    }
    judge = [config.select_with] if config.select_with is not None else []
    models = {"model": config.model, **models_of(judge)}
    code = functions_of(judge)
    with open_stage("sft", config, out, models=models, files=files, functions=code, resume=resume) as s:
        if not s.finished:
            _loop(config, s)
    return Path(out)


def _loop(config: SFTConfig, s: StageRun) -> None:
    model, tokenizer = _start(config, s)
    write_model = load.writer(model, tokenizer, config.save_dtype, config.lora)
    s.try_saving(write_model)
    preflight.settle(s, config.preflight, preflight.of_demonstrations(config.data, config.valid_data))
    limits = examples.limits_of(config, load.context_length(model))
    training, validation = _split(config, tokenizer, limits, lambda line: s.say(f"sft: {line}"))
    texts = examples.documents(config.pretrain_data, tokenizer, limits.context) if config.pretrain_data else []
    selector = _Selector(config, tokenizer, limits, s.ranks) if config.select_with else None
    if selector is not None:
        s.note(decoder={"model": open_engine(model, tokenizer, config.compute).decoder})
    s.note(rows=limits.counts)
    passes = Passes(tokenizer.pad_token_id, config.compute.micro_tokens, s.ranks)
    adam = optim.adam(model, config.optimiser)
    parts = {"model": model, "optimiser": adam}
    per_epoch = order.steps_per_epoch(len(training), config.batch)
    total = config.epochs * per_epoch
    every = max(1, total // config.evaluations) if config.evaluations else per_epoch
    remark = _how_chosen(config, bool(validation))
    if remark is not None:
        s.say(f"sft: {remark}")
    s.say_if_few(total, "raise epochs or lower batch")
    for step in s.steps(s.restore(parts, _shape(config, training, texts, selector)), total):
        model.train()
        chosen = [training[i] for i in order.epochs(config.seed, step, config.batch, len(training))]
        metrics = _gradients(config, model, chosen, _mixed_in(config, texts, step), passes)
        lr = optim.learning_rate(config.optimiser, step, total)
        metrics["gradient_norm"] = optim.step(model, adam, config.optimiser, lr)
        best = False
        if (step + 1) % every == 0 or step + 1 == total:
            if validation:
                metrics["valid_loss"] = likelihood.mean_loss(model, validation, passes)
            if selector is not None:
                metrics["valid_reward"] = selector.mean_reward(model, s, step)
                best = s.improved(step + 1, -metrics["valid_reward"])
            elif validation:
                best = s.improved(step + 1, metrics["valid_loss"])
        s.log(step, metrics | {"lr": lr, "epoch": (step + 1) / per_epoch}, show=("loss", "valid_loss", "valid_reward"))
        s.checkpoint(step, parts, always=best)
    chosen_by = {}
    if s.best is not None:
        s.load_best({"model": model})
        chosen_by = {"valid_reward": -s.best["value"]} if selector is not None else {"valid_loss": s.best["value"]}
    results = {
        "best_step": s.best["step"] if s.best is not None else total,
        **chosen_by,
        "steps": total,
        "examples": len(training),
        "valid_examples": len(validation),
    }
    s.finish(write_model, results)


def _start(config: SFTConfig, s: StageRun) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model to train, with its tokens, adapters and dropout, where it is trained."""
    model, tokenizer = load.load_policy(
        config.model,
        trust_remote_code=config.trust_remote_code,
        shards=None if config.special_tokens else s.ranks.shards,  # new tokens begin from rows that are there
    )
    vocabulary.use_template(model, tokenizer, config.template)
    if config.special_tokens and config.lora.rank:
        raise UserError("--special-tokens need trained embeddings, and LoRA freezes them. Leave one of the two out")
    if config.special_tokens:
        tokenizer = vocabulary.add_tokens(model, tokenizer, config.special_tokens)
        s.say(f"sft: one id each: {', '.join(config.special_tokens)}. The model now has {ids_of(model).rows} rows")
    adapters.add(model, config.lora, seed=config.seed, base=config.model)
    load.place(model, s.ranks.device, config.compute, trained=True, shards=s.ranks.shards)
    _set_dropout(model, config, s)
    return model, tokenizer


def _shape(config: SFTConfig, training: list[Example], texts: list[Example], selector: _Selector | None) -> StepShape:
    rows = max(config.batch, len(_mixed_in(config, texts, 0)))
    sampled = selector.sampled if selector is not None else {}
    return step_shape([*training, *texts], rows, losses=2 if texts else 1, **sampled)


def _gradients(
    config: SFTConfig, model: Any, examples: list[Example], texts: list[Example], passes: Passes
) -> dict[str, float]:
    """Backward pass over this rank's passes. The loss: token means of responses and texts, weighted."""
    weight = config.pretrain_fraction if texts else 0.0
    means = Means()
    likelihood.add_gradients(model, examples, passes, means, "loss", weight=1 - weight)
    likelihood.add_gradients(model, texts, passes, means, "pretrain_loss", weight=weight)
    passes.ranks.sum_gradients(model)
    return means.reduce(passes.ranks)


def _split(
    config: SFTConfig, tokenizer: PreTrainedTokenizerBase, limits: TokenLimits, say: Callable[[str], None]
) -> tuple[list[Example], list[Example]]:
    rows = examples.demonstrations(config.data, tokenizer, limits, config.turns)
    records, elsewhere = [record for record, _ in rows], config.valid_data is not None
    parts = examples.divided(records, config.valid_fraction, config.seed, say, elsewhere=elsewhere)
    training, validation = ([rows[i][1] for i in part] for part in parts)
    if config.valid_data is not None:
        validation = [
            example for _, example in examples.demonstrations(config.valid_data, tokenizer, limits, config.turns)
        ]
    if not training or (elsewhere and not validation):
        if training:
            raise UserError(f"{config.valid_data}: has no row to validate on. Give more demonstrations")
        raise UserError(
            f"{config.data}: {counted(len(rows), 'demonstrations', 'leave')} none to train on. Give more of them, or "
            "another valid_fraction"
        )
    return training, validation


def _how_chosen(config: SFTConfig, held_out: bool) -> str | None:
    """A remark on how the run chooses its weights, if there is one to make."""
    if not held_out and config.select_with is None:
        return "no demonstration is held out, so the last weights are kept"
    if config.select_with is None and config.epochs > FEW_EPOCHS:
        return (
            f"the lowest validation loss chooses among {config.epochs} epochs. It rises early, while answers still get "
            "better (S2). To choose by the reward of samples, give --select-with and --prompts"
        )
    return None


def _mixed_in(config: SFTConfig, texts: list[Example], step: int) -> list[Example]:
    if not texts:
        return []
    count = max(1, round(config.batch * config.pretrain_fraction / (1 - config.pretrain_fraction)))
    return [texts[i] for i in order.endless(config.seed, step, count, len(texts), stream=1)]


def _set_dropout(model: Any, config: SFTConfig, s: StageRun) -> None:
    if config.dropout is not None:
        dropout.set_dropout(model, config.dropout)
    elif dropout.has_dropout(model):
        dropout.set_dropout(model, PAPER_DROPOUT)
        s.say(f"sft: residual dropout {PAPER_DROPOUT} (the paper's)")


class _Selector:
    """Mean reward of samples on fixed prompts: what picks the checkpoint in the paper (S2)."""

    def __init__(
        self, config: SFTConfig, tokenizer: PreTrainedTokenizerBase, limits: TokenLimits, ranks: Ranks
    ) -> None:
        assert config.select_with is not None
        assert config.prompts is not None
        limits = limits.leaving_room(config.generation.max_new_tokens)
        self.questions: list[Question] = examples.questions(config.prompts, tokenizer, limits)[: config.select_samples]
        self.reward: Reward = open_reward(
            [config.select_with], policy_tokenizer=tokenizer, compute=config.compute, device=ranks.device,
            trust_remote_code=config.trust_remote_code, shards=ranks.shards,
        )  # fmt: skip
        self.reward.check(question.record for question in self.questions)
        self.reward.check_prompts((question.prompt, question.record.tools) for question in self.questions)
        self.config, self.tokenizer = config, tokenizer
        self.sampled = rollouts.sampled(self.questions, config.generation, len(self.questions))

    def mean_reward(self, model: Any, s: StageRun, step: int) -> float:
        engine = open_engine(model, self.tokenizer, self.config.compute)
        samples = rollouts.generate(engine, self.questions, self.config.generation, self.config.seed, 0, s.ranks)
        episodes = rollouts.episodes(self.tokenizer, self.questions, samples)
        total_B, _ = self.reward(episodes)
        shown = zip(episodes[:4], total_B.tolist(), strict=False)
        s.sample(
            step, [{"prompt": rollouts.readable(e.prompt), "completion": e.completion, "reward": r} for e, r in shown]
        )
        return float(total_B.mean())
