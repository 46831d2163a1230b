"""Rewards: reward models, Python functions and ensembles of these, and weighted sums of them.

A spec names a reward model (run, directory or hub name) or a function (`rewards.modules`). A weight may stand in front:
`0.5*runs/rm`. `min(A,B,C)`, `mean(A,B,C)` and `mean-0.5*std(A,B,C)` are ensembles (`rewards.specs`). How functions are
called is in `rewards.calls`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from heedful.config import NonFinite, UserError
from heedful.configs.shared import Compute
from heedful.data.records import Prompt, PromptText, Record, as_text
from heedful.models import batches, encoders, heads, load, render, scoring
from heedful.models.shards import Shards
from heedful.models.templates import TemplateRefused
from heedful.rewards import specs as named
from heedful.rewards.calls import FunctionScorer
from heedful.rewards.modules import is_function
from heedful.rewards.specs import ensemble_of, split_weight
from heedful.rollout.types import Episode

_log = logging.getLogger(__name__)
Spread = Callable[[list[list[int]], Callable[[list[int]], Tensor]], list[Tensor]]
"""Parts of some rows, as indices, and what computes one of them: the results of all parts, on every rank."""


def here(cut: list[list[int]], compute: Callable[[list[int]], Tensor]) -> list[Tensor]:
    """All parts in this process."""
    return [compute(chosen) for chosen in cut]


def _in_place(cut: list[list[int]], found: list[Tensor]) -> Tensor:
    """The results of the parts in the order of the rows."""
    out: list[Tensor] = [torch.empty(0)] * sum(map(len, cut))
    for chosen, values in zip(cut, found, strict=True):
        for i, value in zip(chosen, values, strict=True):
            out[i] = value
    return torch.stack(out)


@dataclass(frozen=True)
class RewardPart:
    """A named scorer: score_B in float32 on the CPU, NaN where a function has no opinion.

    Raises NonFinite for the score of a model that is not finite.
    """

    name: str
    weight: float
    score: Callable[[list[Episode]], Tensor]

    def __call__(self, episodes: list[Episode]) -> Tensor:
        scores_B = self.score(episodes)
        self.check(scores_B)
        return scores_B

    def check(self, scores_B: Tensor) -> None:
        """Raise NonFinite for a score of a model that is not finite."""
        if isinstance(self.score, ModelScorer) and not scores_B.isfinite().all():
            raise NonFinite(f"the score of {self.name}")

    def together(self, episodes: list[Episode], cut: list[list[int]], passes: Spread, calls: Spread) -> Tensor:
        """The scores of all episodes by ranks that share forward passes, and calls of functions on parts of `cut`."""
        if isinstance(self.score, Ensemble):
            members = [part.together(episodes, cut, passes, calls) for part in self.score.parts]
            return self.score.aggregate(torch.stack(members))
        if isinstance(self.score, ModelScorer):
            scores_B = self.score.over([self.score.ids(episode) for episode in episodes], scoring.rewards, passes)
        else:
            scores_B = _in_place(cut, calls(cut, lambda chosen: self.score([episodes[i] for i in chosen])))
        self.check(scores_B)
        return scores_B


class Reward:
    """A weighted sum of scorers: `reward(episodes)` is (total_B, {name: unweighted score_B}), float32 on the CPU.

    A scorer without an opinion (NaN) is left out of the sum.
    """

    def __init__(self, parts: list[RewardPart]) -> None:
        self.parts = parts
        self.no_opinion: Counter[str] = Counter()
        """How many answers each scorer has left out so far, in this process."""

    @property
    def models(self) -> dict[str, Any]:
        """The reward models by name, those of ensembles too."""
        return {part.name: part.score.model for part in self.members() if isinstance(part.score, ModelScorer)}

    def members(self) -> Iterator[RewardPart]:
        """The parts, with the members of an ensemble in place of it. A member has the weight of its ensemble."""
        for part in self.parts:
            if isinstance(part.score, Ensemble):
                yield from (RewardPart(one.name, part.weight, one.score) for one in part.score.parts)
            else:
                yield part

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
        for part in self.members():
            if isinstance(part.score, FunctionScorer):
                part.score.check(records)

    def check_prompts(self, asked: Iterable[tuple[PromptText, render.Tools]]) -> None:
        """Raise UserError if a model with a chat template of its own cannot read an answer to one of these prompts."""
        asked = list(asked)
        for part in self.members():
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
        # a reward model of the hub was trained on whole chats, so its score is read behind the line break after a turn
        self._tail = render.tail_ids(tokenizer) if heads.is_foreign(model) and heads.reads_last_token(model) else []

    def ids(self, episode: Episode) -> tuple[list[int], list[int]]:
        """(prompt ids, response ids) as the model reads them. Raises UserError if they are too many."""
        prompt_ids, response_ids = self.read(episode)
        total, limit = len(prompt_ids) + len(response_ids), load.context_length(self.model)
        if total > limit:
            raise UserError(
                f"the reward model reads at most {limit} tokens, a prompt with its response has {total}. "
                "Lower generation.max_new_tokens or leave out the long prompts"
            )
        return prompt_ids, response_ids

    def read(self, episode: Episode) -> tuple[list[int], list[int]]:
        """The same, however many they are."""
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
        if self._tail and response_ids[-1:] == [render.end_id(self.tokenizer)]:
            response_ids = [*response_ids, *self._tail]
        return prompt_ids, response_ids

    def check(self, name: str, asked: Iterable[tuple[PromptText, render.Tools]]) -> None:
        """Raise UserError for a prompt whose answers its template refuses."""
        if self.same_tokens or not self.tokenizer.chat_template:
            return
        for prompt, tools in asked:
            try:
                render.answered(self.tokenizer, prompt, "Yes.", tools=tools)
            except TemplateRefused as error:
                shown = " ".join(as_text(prompt).split())[:60]
                raise UserError(
                    f"{name}: {str(error).rstrip('.')}. Change such prompts, or take another reward model. The first "
                    f"of them: '{shown}'"
                ) from None

    def __call__(self, episodes: list[Episode]) -> Tensor:
        """score_B. Equal answers to equal prompts are scored once: files of pairs repeat an answer in many rows."""
        places: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        found = []
        for prompt_ids, response_ids in map(self.ids, episodes):
            found.append(places.setdefault((tuple(prompt_ids), tuple(response_ids)), len(places)))
        rows = [(list(prompt_ids), list(response_ids)) for prompt_ids, response_ids in places]
        return self.over(rows, scoring.rewards)[torch.tensor(found, dtype=torch.long)]

    @torch.no_grad()
    def over(
        self, rows: Sequence[tuple[list[int], list[int]]], compute: Callable[[Any, Any], Tensor], spread: Spread = here
    ) -> Tensor:
        """compute(model, batch) of rows of (prompt ids, response ids), in float32 on the CPU.

        `spread`: how several ranks share the passes. Without it this process does all of them.
        """

        def computed(chosen: list[int]) -> Tensor:
            batch = batches.collate(
                [rows[i][0] for i in chosen], [rows[i][1] for i in chosen], self.tokenizer.pad_token_id
            ).to(self.model.device)
            with torch.autocast(self.model.device.type, self.dtype, enabled=self.dtype != torch.float32):
                return compute(self.model, batch).float().cpu()

        cut = scoring.passes(self.model, [len(p) + len(r) for p, r in rows], self.micro_tokens)
        return _in_place(cut, spread(cut, computed))


class Ensemble:
    """Several scorers as one. `aggregate` maps scores_MB of the members to score_B.

    An ensemble has no opinion (NaN) where one of its members has none.
    """

    def __init__(self, spec: str, parts: Sequence[RewardPart], aggregate: Callable[[Tensor], Tensor]) -> None:
        self.spec, self.parts, self.aggregate = spec, list(parts), aggregate
        models = [part for part in self.parts if isinstance(part.score, ModelScorer)]
        for other in models[1:]:
            first = models[0]
            if not render.same_tokens(first.score.tokenizer, other.score.tokenizer):  # type: ignore[attr-defined]
                raise UserError(
                    f"{spec}: {first.name} and {other.name} have different tokenizers. "
                    "Choose reward models that were trained from one model"
                )

    def __call__(self, episodes: list[Episode]) -> Tensor:
        return self.aggregate(torch.stack([part(episodes) for part in self.parts]))


def open_reward(
    specs: Sequence[str],
    *,
    policy_tokenizer: PreTrainedTokenizerBase | None = None,
    compute: Compute,
    device: torch.device | str,
    trust_remote_code: bool = False,
    shards: Shards | None = None,
) -> Reward:
    """Open every spec. Bodies of reward models run as `compute` says, in `shards` if there are some.

    Raises UserError with the spec and the remedy."""
    if not specs:
        raise UserError("no reward given. Name a reward-model run or a module:function")
    named.check(specs)
    parts: list[RewardPart] = []
    for spec in specs:
        weight, target = split_weight(spec)
        if not weight:
            _log.warning("%s: the weight is 0, so this reward is measured and changes no sum", spec)
        scorer = _open(target, policy_tokenizer, compute, device, trust_remote_code, shards)
        parts.append(RewardPart(target, weight, scorer))
    return Reward(parts)


def _open(
    target: str,
    policy_tokenizer: PreTrainedTokenizerBase | None,
    compute: Compute,
    device: torch.device | str,
    trust_remote_code: bool,
    shards: Shards | None,
) -> Callable[[list[Episode]], Tensor]:
    """The scorer of a spec without weight."""
    if (found := ensemble_of(target)) is not None:
        how = policy_tokenizer, compute, device, trust_remote_code, shards
        opened = {one: _open(one, *how) for one in found.members}
        return Ensemble(target, [RewardPart(name, 1.0, scorer) for name, scorer in opened.items()], found.aggregate)
    if is_function(target):
        return FunctionScorer(target)
    model, tokenizer = load.load_reward(target, trust_remote_code=trust_remote_code, shards=shards)
    if shards is not None:
        model.requires_grad_(False)  # frozen shards may be in a lower precision
    load.place(model, device, compute, shards=shards)
    return ModelScorer(model, tokenizer, policy_tokenizer, compute.micro_tokens, getattr(torch, compute.dtype))
