"""What surrounds the iterations of PPO, RLOO and GRPO: data, KL coefficient, failure signs, checkpoints, the end."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.configs.online import GroupConfig, OnlineConfig
from heedful.data.text import counted
from heedful.learning import budget, examples, experience, likelihood, preflight, rollouts, steps, watching
from heedful.learning.ahead import Rollouts
from heedful.learning.examples import Example, Question, TokenLimits
from heedful.learning.experience import Experience
from heedful.learning.networks import Networks
from heedful.learning.passes import Passes, step_shape
from heedful.learning.signs import Setup, Watch
from heedful.learning.steps import Minibatch, PretrainingMix
from heedful.learning.watching import WatchedRewards
from heedful.maths.kl import adapt_kl_coef
from heedful.models import load, render
from heedful.planning.job import StepShape
from heedful.rewards import specs
from heedful.rewards.functions import ModelScorer, RewardPart
from heedful.rewards.specs import functions_of, models_of
from heedful.training import order
from heedful.training.stage_run import StageRun, open_stage

RAISE, LOWER = 1.5, 0.9
"""What a KL coefficient is multiplied by above the ceiling, and below it if it has been raised."""
RAISED_FROM_0 = 0.02
"""The first coefficient above the ceiling where there was none: the paper's."""
log = logging.getLogger(__name__)


@contextlib.contextmanager
def open_online(
    stage: str, config: OnlineConfig, out: str | Path, *, resume: bool, models: Mapping[str, str | None] | None = None
) -> Iterator[StageRun]:
    """Check the settings and open the run. `models`: references by role, beyond the policy and the rewards."""
    _check(stage, config)
    files = {"prompts": config.prompts, "pretrain_data": config.pretrain_data, "tax_data": config.tax_data}
    models = {"policy": config.policy, "reference": config.reference, **(models or {}), **models_of(config.reward)}
    models |= models_of(config.watch, "watch")
    code = functions_of(config.reward) | functions_of(config.watch, "watch")
    with open_stage(stage, config, out, models=models, files=files, functions=code, resume=resume) as s:
        yield s


def _check(stage: str, config: OnlineConfig) -> None:
    specs.check(config.reward)
    if config.generation.top_p < 1 or config.generation.top_k > 0 or config.generation.temperature <= 0:
        raise UserError(
            f"{stage.upper()} samples from the policy itself. Set generation.top_p = 1, top_k = 0 and a temperature "
            "above 0, or the KL to the reference is wrong"
        )
    if config.kl_target is not None and config.kl_coef == 0:
        raise UserError("kl_target multiplies kl_coef, and 0 stays 0. Start with a kl_coef above 0")
    if config.rollout_batch % config.minibatch:
        raise UserError(
            f"rollout_batch {config.rollout_batch} is not a multiple of minibatch {config.minibatch}. Change one"
        )
    if config.one_action == "sequence" and config.correction == "token":
        raise UserError(
            f"{stage.upper()} takes a whole answer as one action, whose tokens have no weights of their own. "
            "Set correction = sequence"
        )
    if config.ahead and config.lora.load_in_4bit and config.engine.kind == "local":
        raise UserError(
            "ahead = 1 samples in this process from a second copy of the policy, which 4 bits do not have. Take "
            "engine.kind = vllm or sglang, or ahead = 0"
        )
    if config.ahead and config.engine.sleep:
        raise UserError(
            "ahead = 1 samples while the policy learns, and engine.sleep lets servers sleep then. Take ahead = 0, or "
            "give the servers GPUs of their own"
        )
    if isinstance(config, GroupConfig) and config.rollout_batch % config.samples_per_prompt:
        raise UserError(
            f"rollout_batch {config.rollout_batch} is not a multiple of samples_per_prompt "
            f"{config.samples_per_prompt}. Change one"
        )


def _not_held_out(path: str, found: list[Question], limits: TokenLimits) -> list[Question]:
    """The prompts without those of the splits valid and test. If there are no others, all, with a remark."""
    free = [question for question in found if question.record.split not in ("valid", "test")]
    if not free:
        log.warning("%s: every prompt has split valid or test. They are trained on", path)
        return found
    held_out = len(found) - len(free)
    some = counted(held_out, "prompts", "have", of=len(found))
    remark = f"{some} split valid or test. {'It is' if held_out == 1 else 'They are'} left out"
    limits.count(path, "held_out", held_out, remark)
    return free


def tell_repeated(path: str, found: Sequence[Question], limits: TokenLimits) -> None:
    """Say how many prompts are there more than once. Each row counts, and few prompts teach little."""
    different = len({tuple(question.prompt_ids) for question in found})
    repeated = len(found) - different
    some = counted(repeated, "prompts", "repeat", of=len(found))
    limits.count(path, "repeated", repeated, f"{some} an earlier one. {different:,} are different")


class Online:
    """The state of a run around its iterations. The stage owns the loop:

    for step in run.steps():
        metrics, experience = iteration(config, nets, run, step)
        run.log(step, metrics, experience)
    run.finish()
    """

    def __init__(
        self, config: OnlineConfig, s: StageRun, nets: Networks, *, whiten_rewards: bool = False, **facts: Any
    ) -> None:
        """`facts` go into the manifest and the results. The signs need to know `whiten_rewards`."""
        self.config, self.s, self.nets, self.facts = config, s, nets, facts
        self._write_model = load.writer(nets.average.model, nets.tokenizer, config.save_dtype, config.lora)
        s.try_saving(self._write_model)
        self.setup = Setup(config.compute.dtype != "float32", whiten_rewards, config.reference is not None)
        self.passes = Passes(nets.tokenizer.pad_token_id, config.compute.micro_tokens, s.ranks)
        limits = TokenLimits(
            load.context_length(nets.policy),
            config.max_prompt_tokens,
            0,
            config.skip_long,
            config.special_text == "refuse",
            config.refused_rows,
        )
        self.questions = _not_held_out(
            config.prompts,
            examples.questions(config.prompts, nets.tokenizer, limits.leaving_room(config.generation.max_new_tokens)),
            limits,
        )
        tell_repeated(config.prompts, self.questions, limits)
        s.note(rows=limits.counts)
        nets.reward.check(question.record for question in self.questions)
        nets.reward.check_prompts((question.prompt, question.record.tools) for question in self.questions)
        self.longest = max(len(question.prompt_ids) for question in self.questions) + config.generation.max_new_tokens
        if config.reference is not None:
            self.check_reads(nets.reference, config.reference)
        for part in nets.reward.members():
            self._check_context(part)
        texts = texts_of(config.pretrain_data, nets, config.ptx_tokens)
        rows = max(1, round(config.minibatch * config.ptx_ratio))
        self.mix = PretrainingMix(texts, config.ptx_coef, rows, config.seed) if texts else None
        self._tax = texts_of(config.tax_data, nets, config.ptx_tokens)
        records = [question.record for question in self.questions]
        checks = itertools.chain(preflight.of_rewards(nets.reward, records), budget.of_budget(config))
        preflight.settle(s, config.preflight, checks)
        self.rollouts = Rollouts(config, nets, self.questions, s.ranks)
        s.at_end.callback(self.rollouts.close)
        self.kl_coef = config.kl_coef
        self.stopped: str | None = None
        self._watched = WatchedRewards(config, nets, self.questions, self.passes)
        for part in (part for reward in self._watched.rewards.values() for part in reward.members()):
            self._check_context(part)

    def check_reads(self, model: Any, name: str) -> None:
        """Raise UserError if a model that reads the policy's tokens cannot read the longest prompt with its answer."""
        context = load.context_length(model)
        if context < self.longest:
            raise UserError(
                f"{name}: reads at most {context} tokens, the longest prompt with its answer may have {self.longest}. "
                "Lower generation.max_new_tokens or max_prompt_tokens (with skip_long), or name another model"
            )

    def _check_context(self, part: RewardPart) -> None:
        """Check that a reward model reads the longest prompt with its answer. With other tokens that is a guess."""
        if not isinstance(part.score, ModelScorer):
            return
        if part.score.same_tokens:
            self.check_reads(part.score.model, part.name)
            return
        asked = [(question.prompt, question.record.tools) for question in self.questions]
        prompt = max(len(render.prompt_ids(part.score.tokenizer, *one)) for one in asked)
        context, new = load.context_length(part.score.model), self.config.generation.max_new_tokens
        if prompt >= context:
            raise UserError(
                f"{part.name}: reads at most {context} tokens, the longest prompt alone has {prompt}. "
                "Lower max_prompt_tokens (with skip_long), or name another model"
            )
        if prompt + new > context:
            self.s.say(
                f"{self.s.stage}: {part.name} reads {context} of its own tokens. The longest prompt has {prompt}, and "
                f"an answer of about {context - prompt} would end the run with an error"
            )

    def steps(self) -> Iterator[int]:
        """The iterations that are still to do, until one of them stops the run."""
        s, config = self.s, self.config
        s.note(decoder={"policy": self.nets.engine.decoder}, **self.facts)
        first = s.restore(self.nets.parts, self._shape())
        self.kl_coef = s.facts.get("kl_coef", config.kl_coef)
        self.stopped = s.facts.get("stopped")
        self._watched.restore(s.facts)
        self.rollouts.restore(first, s.facts.get("ahead"))
        self._say_unused()
        updates = config.iterations * config.epochs * (config.rollout_batch // config.minibatch)
        s.say_if_few(updates, "raise episodes, or lower rollout_batch and minibatch")
        if self.stopped is not None:
            s.say(f"{s.stage}: {self.stopped}")
        self._watch = Watch(self.setup, s.history)
        for step in s.steps(first, config.iterations if self.stopped is None else first):
            if self.rollouts.samples(step):
                self.nets.engine.load_weights(self.nets.policy, step)
            yield step
            if self.stopped is not None:
                s.say(f"{s.stage}: {self.stopped}")
                return

    def _say_unused(self) -> None:
        config = self.config
        where = "engine.kind = local and ahead = 0: the sampler's log-probs are those of the policy"
        if config.correction in ("token", "sequence") and not config.ahead and self.nets.engine.exact:
            self.s.say(f"{self.s.stage}: correction is unused with {where}")
        elif config.corrected is None and config.correction_cap != type(config).model_fields["correction_cap"].default:
            self.s.say(f"{self.s.stage}: correction_cap is unused, since there is no correction")
        if config.peak_from is not None and config.preflight == "off":
            self.s.say(f"{self.s.stage}: peak_from is unused with preflight = off")
        for remark in watching.remarks(config, [question.record.prompt for question in self._watched.questions]):
            self.s.say(f"{self.s.stage}: {remark}")

    def minibatches(self, e: Experience, step: int) -> Iterator[Minibatch]:
        """The minibatches of one iteration's update: `epochs` passes over the episodes, shuffled."""
        config, B = self.config, len(e.episodes)
        updates = config.epochs * (B // config.minibatch)
        for update in range(updates):
            number = step * updates + update
            chosen = order.epochs(config.seed, number, config.minibatch, B, stream=1)
            yield steps.minibatch(
                e, chosen, number=number, first=update == 0, model=self.nets.policy, passes=self.passes
            )

    def _shape(self) -> StepShape:
        config, mix = self.config, self.mix
        sampled = rollouts.sampled(self.questions, config.generation, config.rollout_batch)
        longest, tokens = sampled["columns"], config.minibatch * sampled["columns"]
        if mix is None:
            return StepShape(tokens, longest, **sampled)
        texts = step_shape(mix.texts, mix.rows)
        return StepShape(max(tokens, texts.step), max(longest, texts.longest), losses=2, **sampled)

    def log(self, step: int, metrics: dict[str, float], e: Experience) -> None:
        """Log an iteration, watch for failure signs, set the next KL coefficient, save a checkpoint if one is due."""
        s = self.s
        self.rollouts.finish()  # before something else samples, and before a checkpoint
        if s.due(step) and self._tax:
            metrics["corpus_loss"] = likelihood.mean_loss(self.nets.average.model, self._tax, self.passes)
        watched = self._watched
        alarm, better = watched.alarm, False
        if watched.due(step):
            metrics |= watched.measure(step)
            s.watched(step, watched.rows)
            better = s.improved(step + 1, -watched.value())
        s.log(step, metrics | self.nets.engine.metrics, show=("reward", "score", "kl", "length"))
        if s.due(step):
            s.sample(step, experience.readable(e, 4))
        for sign in self._watch.see(metrics):
            s.say(f"{s.stage}: {sign}")
        self.kl_coef, self.stopped = next_kl_coef(self.config, self.kl_coef, metrics["kl"], step + 1)
        if watched.alarm is not None and alarm is None:
            s.say(f"{s.stage}: {watched.alarm}")
            if self.config.on_alarm == "stop":
                self.stopped = f"stopped after iteration {step + 1}: {watched.alarm}"
        facts: dict[str, Any] = {"kl_coef": self.kl_coef, "stopped": self.stopped}
        if watched.rewards:
            facts |= {"watched": watched.recent, "alarm": watched.alarm}
        if self.config.ahead:
            facts["ahead"] = self.rollouts.state()
        s.checkpoint(step, self.nets.parts, always=better or self.stopped is not None, **facts)

    def finish(self) -> None:
        """Save the averaged policy as the run's model."""
        history = self.s.history
        last = history[-1] if history else {}
        watched = self._watched
        if watched.rewards and self.s.best is not None:
            best = self.s.best
            self.facts |= {"alarm": watched.alarm, "best_iteration": int(best["step"]), "best_watch": -best["value"]}
            if watched.alarm is not None and self.config.on_alarm == "stop":
                self.s.load_best(self.nets.parts)
        results: dict[str, Any] = {
            "steps": len(history), "stopped": self.stopped, **self.facts, "signs": self._watch.messages,
            **{key: last[key] for key in ("score", "kl", "reward", "length", "entropy") if key in last},
        }  # fmt: skip
        self.s.finish(self._write_model, results)


def texts_of(path: str | None, nets: Networks, longest: int) -> list[Example]:
    """Texts of a file in pieces of at most `longest` tokens and the context. No file has no texts."""
    return examples.documents(path, nets.tokenizer, min(longest, load.context_length(nets.policy))) if path else []


def next_kl_coef(config: OnlineConfig, kl_coef: float, kl: float, done: int) -> tuple[float, str | None]:
    """The KL coefficient of the next iteration, and why to stop now, if so (P10).

    A coefficient that the ceiling has raised comes down again below it, to that of the config or of the target.
    """
    if config.kl_target is not None:
        kl_coef = adapt_kl_coef(kl_coef, kl, config.kl_target, config.kl_horizon, config.rollout_batch)
    if config.kl_ceiling is None:
        return kl_coef, None
    if kl > config.kl_ceiling:
        if config.at_ceiling == "stop":
            return kl_coef, (
                f"stopped after iteration {done}: sequence KL {kl:.2f} passed the ceiling of {config.kl_ceiling:g}"
            )
        return RAISE * kl_coef if kl_coef else RAISED_FROM_0, None
    if config.kl_target is None and kl_coef > config.kl_coef:
        kl_coef = max(LOWER * kl_coef, config.kl_coef)
        return (kl_coef if config.kl_coef or kl_coef >= RAISED_FROM_0 else 0.0), None
    return kl_coef, None
