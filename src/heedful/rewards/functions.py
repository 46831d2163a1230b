"""Rewards: reward models and Python functions that score texts, and weighted sums of them.

A spec names a reward model (run, directory or hub name) or a function (`module:function`). A weight may stand in front:
`0.5*runs/rm`. A function is called as f(prompts, completions) and returns one number for each completion.
"""

from __future__ import annotations

import importlib
import math
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from heedful.config import NonFinite, UserError
from heedful.configs.shared import Compute
from heedful.data.records import PromptText
from heedful.models import batches, load, render, scoring
from heedful.rollout.types import Episode

MOST = 1e30  # largest reward or weight: float32 can still hold sums of them
TextFunction = Callable[[list[PromptText], list[str]], Sequence[float]]
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
WEIGHTED = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\*(.+)")


@dataclass(frozen=True)
class Part:
    """A named scorer: score_B in float32 on the CPU. Raises NonFinite for a score that is not finite."""

    name: str
    weight: float
    score: Callable[[list[Episode]], Tensor]

    def __call__(self, episodes: list[Episode]) -> Tensor:
        scores_B = self.score(episodes)
        if not scores_B.isfinite().all():
            raise NonFinite(f"the score of {self.name}")
        return scores_B


class Reward:
    """A weighted sum of scorers: `reward(episodes)` is (total_B, {name: unweighted score_B}), float32 on the CPU."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts

    @property
    def models(self) -> dict[str, Any]:
        """The reward models by name."""
        return {part.name: part.score.model for part in self.parts if isinstance(part.score, ModelScorer)}

    def __call__(self, episodes: list[Episode]) -> tuple[Tensor, dict[str, Tensor]]:
        scores = {part.name: part(episodes) for part in self.parts}
        total = sum((part.weight * scores[part.name] for part in self.parts), start=torch.zeros(len(episodes)))
        return total, scores


class ModelScorer:
    """A reward model as a scorer. It reads the policy's token ids if both have the same tokenizer, else the text."""

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        policy_tokenizer: PreTrainedTokenizerBase | None,
        micro_tokens: int = 16_384,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model, self.tokenizer, self.micro_tokens, self.dtype = model, tokenizer, micro_tokens, dtype
        self.same_tokens = policy_tokenizer is not None and render.same_tokens(tokenizer, policy_tokenizer)
        self._special = render.special_ids(tokenizer)

    def _ids(self, episode: Episode) -> tuple[list[int], list[int]]:
        if self.same_tokens:
            prompt_ids, response_ids = episode.prompt_ids, episode.response_ids
            if episode.finished and response_ids and response_ids[-1] in self._special:
                # A policy may stop with any of its stop ids. Reward models were trained with one of them (R1).
                response_ids = [*response_ids[:-1], render.end_id(self.tokenizer)]
        else:
            prompt_ids, response_ids = render.answered(
                self.tokenizer, episode.prompt, episode.completion, finished=episode.finished
            )
        total, limit = len(prompt_ids) + len(response_ids), load.context_length(self.model)
        if total > limit:
            raise UserError(
                f"the reward model reads at most {limit} tokens, a prompt with its response has {total}. "
                "Lower generation.max_new_tokens or leave out the long prompts"
            )
        return prompt_ids, response_ids

    @torch.no_grad()
    def __call__(self, episodes: list[Episode]) -> Tensor:
        rows = [self._ids(episode) for episode in episodes]
        scores_B = torch.empty(len(rows))
        for chosen in scoring.passes(self.model, [len(p) + len(r) for p, r in rows], self.micro_tokens):
            batch = batches.collate(
                [rows[i][0] for i in chosen], [rows[i][1] for i in chosen], self.tokenizer.pad_token_id
            ).to(self.model.device)
            with torch.autocast(self.model.device.type, self.dtype, enabled=self.dtype != torch.float32):
                scores_B[chosen] = scoring.rewards(self.model, batch).float().cpu()
        return scores_B


def open_reward(
    specs: Sequence[str],
    *,
    policy_tokenizer: PreTrainedTokenizerBase | None = None,
    compute: Compute,
    device: torch.device | str,
    trust_remote_code: bool = False,
) -> Reward:
    """Open every spec. Bodies of reward models run as `compute` says. Raises UserError with the spec and the remedy."""
    if not specs:
        raise UserError("no reward given. Name a reward-model run or a module:function")
    parts: list[Part] = []
    for spec in specs:
        weight, target = split_weight(spec)
        if is_function(target):
            scorer: Callable[[list[Episode]], Tensor] = _function_scorer(target, open_function(target))
        else:
            model, tokenizer = load.load_reward(target, trust_remote_code=trust_remote_code)
            load.place(model, device, compute)
            dtype = getattr(torch, compute.dtype)
            scorer = ModelScorer(model, tokenizer, policy_tokenizer, compute.micro_tokens, dtype)
        name = target if target not in [part.name for part in parts] else f"{target}#{len(parts)}"
        parts.append(Part(name, weight, scorer))
    return Reward(parts)


def split_weight(spec: str) -> tuple[float, str]:
    """Weight and target of a spec: '0.5*runs/rm' gives (0.5, 'runs/rm')."""
    found = WEIGHTED.fullmatch(spec.strip())
    if not found or Path(spec).exists():
        return 1.0, spec.strip()
    weight = float(found[1])
    if abs(weight) > MOST:
        raise UserError(f"{spec}: a weight of {found[1]} is too large. Give a smaller one")
    return weight, found[2].strip()


def models_of(specs: Sequence[str]) -> dict[str, str]:
    """The models among reward specs, by their role in a manifest."""
    targets = {f"reward.{i}": split_weight(spec)[1] for i, spec in enumerate(specs)}
    return {role: target for role, target in targets.items() if not is_function(target)}


def is_function(spec: str) -> bool:
    """Whether a spec without weight names a function. A path that exists is a model."""
    return FUNCTION.fullmatch(spec) is not None and not Path(spec).exists()


def open_function(spec: str) -> TextFunction:
    """Import `module:function`. Modules in the current directory are found, too."""
    module_name, _, name = spec.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with _Foreign(spec, "module"):
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            why = f"cannot import {module_name} ({error}). Is it in this directory or installed?"
            raise UserError(f"{spec}: {why}") from None
        except SyntaxError as error:
            raise UserError(f"{spec}: {error.filename}, line {error.lineno}: {error.msg}. Fix the module") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"{spec}: {module_name} has no function {name}")
    return function


def _function_scorer(spec: str, function: TextFunction) -> Callable[[list[Episode]], Tensor]:
    def score(episodes: list[Episode]) -> Tensor:
        with _Foreign(spec, "function"):
            found: object = function([e.prompt for e in episodes], [e.completion for e in episodes])
            if not isinstance(found, Iterable) or isinstance(found, str):
                raise UserError(f"{spec}: returned {_named(found)}. It must return one number for each completion")
            numbers = list(found)
        if len(numbers) != len(episodes):
            raise UserError(f"{spec}: returned {len(numbers)} numbers for {len(episodes)} completions")
        return torch.tensor([_finite(number, spec) for number in numbers])

    return score


class _Foreign:
    """A context for the user's code: any exception becomes a UserError that names the code and its line.

    A reward function may call servers and libraries, so it may raise anything. The exception stays as the cause.
    """

    def __init__(self, spec: str, what: str) -> None:
        self.spec, self.what = spec, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if not isinstance(error, Exception | SystemExit) or isinstance(error, UserError | NonFinite):
            return
        raised = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".removesuffix(": ")
        raise UserError(f"{self.spec}: raised {raised}{_line_of(trace)}. Fix the {self.what}") from error


def _line_of(trace: TracebackType | None) -> str:
    """The last line of the user's own file before an exception, or "" if none of that is Python."""
    frames = [
        frame
        for frame in traceback.extract_tb(trace)
        if frame.filename not in (__file__, importlib.__file__) and not frame.filename.startswith("<frozen")
    ]
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _finite(number: object, spec: str) -> float:
    try:
        value = math.nan if isinstance(number, str) else float(number)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not abs(value) <= MOST:
        raise UserError(f"{spec}: returned {_named(number)}. A reward must be a finite number")
    return value


def _named(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}..."
