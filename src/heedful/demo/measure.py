"""Evaluate every model of the demo on the test prompts. The truth of the world judges the answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from heedful.config import Config
from heedful.configs.shared import Compute, Generation
from heedful.data import formats
from heedful.data.records import Comparison, Completions, Demonstration, Prompt, as_text
from heedful.demo.data import Files
from heedful.evaluation.quality import Bin, calibration, preferences
from heedful.learning import examples, experience, likelihood, rollouts
from heedful.learning.examples import Question
from heedful.learning.passes import Passes
from heedful.maths.kl import best_of_n_kl, sequence_kl
from heedful.maths.statistics import WinRate, ordered_pairs, pair_accuracy
from heedful.models import load, render
from heedful.report.tables import ModelResult
from heedful.rollout.draw import draw
from heedful.rollout.engine import open_engine
from heedful.rollout.room import longest_prompt
from heedful.rollout.types import Episode
from heedful.sandbox import fewshot, generate, labelers, tasks
from heedful.sandbox.labelers import Labeler
from heedful.sandbox.truth import TrueVerdict, Truth
from heedful.sandbox.world import World
from heedful.training.parallel import Ranks

FLAGS = ("fails_instruction", "satisfies_constraint", "hallucination", "inappropriate")
CLOSED = "closed_hallucination"  # hallucination on closed-domain prompts alone, as in section 4.1 of the paper
TEST_STREAM = 1_000_003  # offset that no seed of training reaches
ALONE = Ranks(0, 1, torch.device("cpu"), torch.float32)


class Evaluation(Config):
    """Settings of the measurement."""

    few_shot_draws: int
    best_of: int
    generation: Generation


@dataclass
class Examiner:
    """Samples the answers of models to the test prompts and judges them."""

    truth: Truth
    files: Files
    settings: Evaluation
    seed: int

    def __post_init__(self) -> None:
        self.prompts = formats.read(self.files.test_prompts, Prompt)

    def model(self, name: str, ref: Path, sft: Path) -> ModelResult:
        """A model without a prefix, with its KL to the SFT model and its loss on held-out base text."""
        model, tokenizer = load.load_policy(ref)
        questions = [Question(p.prompt, render.prompt_ids(tokenizer, p.prompt), p) for p in self.prompts]
        episodes = self._sample(model, tokenizer, questions)
        texts = [episode.completion for episode in episodes]
        moved = 0.0 if ref == sft else kl(episodes, model, load.load_policy(sft)[0], tokenizer)
        return self._result(name, tokenizer, texts, moved, self.corpus_loss(model, tokenizer))

    def prompted(self, name: str, base: Path) -> ModelResult:
        """The base model with a few-shot prefix: of several, the one with the best answers to validation prompts."""
        model, tokenizer = load.load_policy(base)
        shown = formats.read(self.files.demonstrations, Demonstration)
        tried = formats.read(self.files.few_shot_prompts, Prompt)
        prefixes = fewshot.draws(shown, self.settings.few_shot_draws, shots=3, seed=self.seed)

        def answers(prefix: str, prompts: list[Prompt]) -> list[str]:
            longest = longest_prompt(load.context_length(model), self.settings.generation.max_new_tokens)
            ids = [render.text_prompt_ids(tokenizer, fewshot.wrap(prefix, p.prompt))[-longest:] for p in prompts]
            questions = [Question(p.prompt, own, p) for p, own in zip(prompts, ids, strict=True)]
            return [fewshot.answer_of(e.completion) for e in self._sample(model, tokenizer, questions)]

        def worth(prefix: str) -> float:
            texts = answers(prefix, tried)
            return fmean(self.truth.judge(p.prompt, text).utility for p, text in zip(tried, texts, strict=True))

        best = max(prefixes, key=worth)
        return self._result(name, tokenizer, answers(best, self.prompts), None, self.corpus_loss(model, tokenizer))

    def best_of(self, name: str, scored: list[str], sft: Path, n: int) -> ModelResult:
        """The answer with the highest reward of the first n to each test prompt. The KL is an upper bound (O2)."""
        rows = [row for path in scored for row in formats.read(path, Completions)]
        scores = [row.scores[:n] for row in rows if row.scores]
        texts = [row.completions[own.index(max(own))] for row, own in zip(rows, scores, strict=True)]
        found = self._result(name, load.load_policy(sft)[1], texts, best_of_n_kl(n), None)
        return replace(found, kl_bound=True)

    def demonstrations_utility(self) -> float:
        """Mean utility of the labelers' demonstrations."""
        rows = formats.read(self.files.demonstrations, Demonstration)
        return fmean(self.truth.judge(row.prompt, row.completion).utility for row in rows)

    def corpus_loss(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> float:
        """Loss in nats a token on held-out text of the world (E6)."""
        rows = examples.documents(self.files.corpus_held_out, tokenizer, load.context_length(model))
        return likelihood.mean_loss(model, rows, _passes(tokenizer))

    def _sample(self, model: Any, tokenizer: PreTrainedTokenizerBase, questions: list[Question]) -> list[Episode]:
        engine, prompts = open_engine(model, tokenizer, Compute()), [question.prompt_ids for question in questions]
        drawn = draw(engine, prompts, self.settings.generation, self.seed + TEST_STREAM)
        return rollouts.episodes(tokenizer, questions, [only for (only,) in drawn])

    def _result(
        self, name: str, tokenizer: PreTrainedTokenizerBase, texts: list[str], kl_nats: float | None, loss: float | None
    ) -> ModelResult:
        verdicts = [self.truth.judge(p.prompt, text) for p, text in zip(self.prompts, texts, strict=True)]
        return ModelResult(
            name,
            [verdict.utility for verdict in verdicts],
            [float(len(render.encode(tokenizer, text))) for text in texts],
            {**{flag: [verdict.flags[flag] for verdict in verdicts] for flag in FLAGS}, CLOSED: self._closed(verdicts)},
            kl_nats,
            loss,
            texts,
        )

    def _closed(self, verdicts: list[TrueVerdict]) -> list[bool | None]:
        """Whether each answer hallucinates, None for prompts outside the closed domain."""
        closed = [tasks.parse(self.seed, as_text(p.prompt)).template.closed for p in self.prompts]
        return [v.flags["hallucination"] if one else None for v, one in zip(verdicts, closed, strict=True)]


def kl(episodes: list[Episode], policy: Any, reference: Any, tokenizer: PreTrainedTokenizerBase) -> float:
    """Mean sequence KL in nats of the policy that sampled the episodes, from a reference (P9)."""
    passes = _passes(tokenizer)
    logprobs_BT = experience.old_logprobs(policy, episodes, exact=True, temperature=1.0, passes=passes)
    ref_logprobs_BT = experience.logprobs(reference, episodes, temperature=1.0, passes=passes, name="the reference")
    return float(sequence_kl(logprobs_BT, ref_logprobs_BT, experience.response_mask(episodes)).double().mean())


def _passes(tokenizer: PreTrainedTokenizerBase) -> Passes:
    return Passes(tokenizer.pad_token_id, Compute().micro_tokens, ALONE)


@dataclass(frozen=True)
class RewardQuality:
    """The reward model compared with labelers, on the same held-out rankings."""

    labels: WinRate
    """Pair accuracy of the reward model by the rankings of held-out labelers."""
    truth: WinRate
    """Pair accuracy of the reward model by the truth."""
    longer: WinRate
    """How often held-out labelers prefer the longer answer."""
    agreement: float
    """Pairwise agreement of training labelers on the same completions (D12)."""
    agreement_pairs: int
    calibration: list[Bin]


def reward_quality(world: World, truth: Truth, people: list[Labeler], scored: str) -> RewardQuality:
    """Measure on held-out prompts whose answers have scores of the reward model. All held-out labelers rank each."""
    rows = formats.read(scored, Comparison)
    scores = [row.scores or [] for row in rows]
    utilities = [[truth.judge(row.prompt, text).utility for text in row.completions] for row in rows]
    panel = [one for one in people if one.group == "held_out"]
    preferred = preferences([row for ranked in _ranked(world, rows, panel) for row in ranked])
    prompts = list(range(len(rows))) * len(panel)
    lengths = [[float(len(text)) for text in rows[i].completions] for i in prompts]
    pairs = ordered_pairs(preferred)
    by_labeler = _ranked(world, rows, labelers.good_ones(people))
    ranked_alike = [[one.ranking for one in same] for same in zip(*by_labeler, strict=True)]
    return RewardQuality(
        pair_accuracy(scores * len(panel), pairs, prompts), pair_accuracy(scores, ordered_pairs(utilities)),
        pair_accuracy(lengths, pairs, prompts), *labelers.agreement(ranked_alike),
        calibration(scores * len(panel), preferred, prompts),
    )  # fmt: skip


def _ranked(world: World, rows: list[Comparison], panel: list[Labeler]) -> list[list[Comparison]]:
    """For each labeler, their rankings of all rows."""
    return [generate.comparisons(world, rows, [who], seed=index) for index, who in enumerate(panel)]


def matmul_rate(size: int = 1024, seconds: float = 0.3) -> float:
    """GFLOP/s of the float32 matrix product on this machine, so that times of machines can be compared."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < seconds:
        began = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best / 1e9
