"""Rewards: reward models and Python functions that score texts, and weighted sums of them.

A spec names a reward model (run, directory or hub name) or a function (`module:function`). A weight may stand in front:
`0.5*runs/rm`. How functions are called is in `rewards.calls`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from heedful.config import NonFinite, UserError
from heedful.configs.shared import Compute
from heedful.data import formats
from heedful.data.records import Prompt, PromptText, Record, as_text
from heedful.models import batches, encoders, load, render, scoring
from heedful.models.templates import Refused
from heedful.rewards.calls import MOST, FunctionScorer, file_of
from heedful.rollout.types import Episode

FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
WEIGHTED = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\*(.+)")


@dataclass(frozen=True)
class Part:
    """A named scorer: score_B in float32 on the CPU, NaN where a function has no opinion.

    Raises NonFinite for the score of a model that is not finite.
    """

    name: str
    weight: float
    score: Callable[[list[Episode]], Tensor]

    def __call__(self, episodes: list[Episode]) -> Tensor:
        scores_B = self.score(episodes)
        if not isinstance(self.score, FunctionScorer) and not scores_B.isfinite().all():
            raise NonFinite(f"the score of {self.name}")
        return scores_B


class Reward:
    """A weighted sum of scorers: `reward(episodes)` is (total_B, {name: unweighted score_B}), float32 on the CPU.

    A scorer without an opinion (NaN) is left out of the sum.
    """

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.no_opinion: Counter[str] = Counter()
        """How many answers each scorer has left out so far, in this process."""

    @property
    def models(self) -> dict[str, Any]:
        """The reward models by name."""
        return {part.name: part.score.model for part in self.parts if isinstance(part.score, ModelScorer)}

    def __call__(self, episodes: list[Episode]) -> tuple[Tensor, dict[str, Tensor]]:
        scores = {part.name: part(episodes) for part in self.parts}
        return self.total(scores, episodes), scores

    def total(self, scores: Mapping[str, Tensor], episodes: Sequence[Episode]) -> Tensor:
        """total_B of the scores. Raises UserError for an answer on which no scorer has an opinion."""
        total, silent = torch.zeros(len(episodes)), torch.ones(len(episodes), dtype=torch.bool)
        for part in self.parts:
            known = ~scores[part.name].isnan()
            total += torch.where(known, part.weight * scores[part.name], 0.0)
            silent &= ~known
            self.no_opinion += Counter({part.name: int((~known).sum())})  # an addition drops zeros
        if silent.any():
            asked = " ".join(as_text(episodes[int(silent.nonzero()[0])].prompt).split())
            names = " and ".join(part.name for part in self.parts)
            raise UserError(
                f"{names}: no opinion on an answer to '{asked[:60]}'. Add a reward that scores every answer"
            )
        return total

    def check(self, records: Iterable[Record]) -> None:
        """Raise UserError if a function asks for a field that none of these rows has."""
        records = list(records)
        for part in self.parts:
            if isinstance(part.score, FunctionScorer):
                part.score.check(records)

    def check_prompts(self, asked: Iterable[tuple[PromptText, render.Tools]]) -> None:
        """Raise UserError if a model with a chat template of its own cannot read an answer to one of these prompts."""
        asked = list(asked)
        for part in self.parts:
            if isinstance(part.score, ModelScorer):
                part.score.check(part.name, asked)


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
        same = policy_tokenizer is not None and render.same_tokens(tokenizer, policy_tokenizer)
        self.same_tokens = same and encoders.pair_of(tokenizer) is None  # an encoder has marks between the texts
        self._special = render.special_ids(tokenizer)

    def _ids(self, episode: Episode) -> tuple[list[int], list[int]]:
        if self.same_tokens:
            prompt_ids, response_ids = episode.prompt_ids, episode.response_ids
            if episode.finished and response_ids and response_ids[-1] in self._special:
                # A policy may stop with any of its stop ids. Reward models were trained with one of them (R1).
                response_ids = [*response_ids[:-1], render.end_id(self.tokenizer)]
        else:
            tools = episode.record.tools if isinstance(episode.record, Prompt) else None
            prompt_ids, response_ids = render.answered(
                self.tokenizer, episode.prompt, episode.completion, finished=episode.finished, tools=tools
            )
        total, limit = len(prompt_ids) + len(response_ids), load.context_length(self.model)
        if total > limit:
            raise UserError(
                f"the reward model reads at most {limit} tokens, a prompt with its response has {total}. "
                "Lower generation.max_new_tokens or leave out the long prompts"
            )
        return prompt_ids, response_ids

    def check(self, name: str, asked: Iterable[tuple[PromptText, render.Tools]]) -> None:
        """Raise UserError for a prompt whose answers its template refuses."""
        if self.same_tokens or not self.tokenizer.chat_template:
            return
        for prompt, tools in asked:
            try:
                render.answered(self.tokenizer, prompt, "Yes.", tools=tools)
            except Refused as error:
                shown = " ".join(as_text(prompt).split())[:60]
                raise UserError(f"{name}: {str(error).rstrip('.')}. The prompt: '{shown}'") from None

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
            scorer: Callable[[list[Episode]], Tensor] = FunctionScorer(target)
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


def functions_of(specs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The functions among reward specs as a manifest has them, by their role. One without a file is left out."""
    targets = {f"reward.{i}": split_weight(spec)[1] for i, spec in enumerate(specs)}
    files = {role: file_of(target) for role, target in targets.items() if is_function(target)}
    return {
        role: {"ref": targets[role], "path": str(file), "sha256": formats.sha256(file)}
        for role, file in files.items()
        if file is not None
    }


def is_function(spec: str) -> bool:
    """Whether a spec without weight names a function. A path that exists is a model."""
    return FUNCTION.fullmatch(spec) is not None and not Path(spec).exists()
