"""What heedful measures itself: the entropy of choices (E4), toxicity under three instructions (E3), and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heedful.config import UserError
from heedful.configs.benchmark import BenchmarkConfig
from heedful.evaluation.benchmark import metrics, published, sets
from heedful.evaluation.benchmark.sets import SentencePair, SetQuestion
from heedful.evaluation.benchmark.table import BenchmarkScores
from heedful.files import Row
from heedful.maths.statistics import Floats, Interval
from heedful.models import render, scoring
from heedful.models.batches import collate
from heedful.rollout.draw import draw
from heedful.rollout.engine import load_engine
from heedful.rollout.local import LocalEngine
from heedful.rollout.room import longest_prompt

ANSWERED = {
    "squadv2": ("SQuADv2", metrics.f1, metrics.exact),
    "drop": ("DROP", metrics.f1, metrics.exact),
    "tldr": ("TL;DR", metrics.rouge_l, None),
}
CONSTANT, SWAPPED = "the best constant answer", "references of other items"


@dataclass(frozen=True)
class Loaded:
    """A model that continues texts as they are, without a chat template."""

    engine: LocalEngine
    tokenizer: Any
    config: BenchmarkConfig
    ref: str

    @classmethod
    def open(cls, ref: str, config: BenchmarkConfig, device: torch.device) -> Loaded:
        engine, tokenizer = load_engine(
            ref, config.compute, device, trust_remote_code=config.trust_remote_code, template={}
        )
        return cls(engine, tokenizer, config, ref)

    def answers(self, prompts: Sequence[str]) -> list[str | None]:
        """The first line of what the model writes after each prompt. None where the prompt is too long."""
        longest = longest_prompt(self.engine.context, self.config.generation.max_new_tokens)
        ids = [render.text_prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        kept = [i for i, own in enumerate(ids) if 0 < len(own) <= longest]
        drawn = draw(self.engine, [ids[i] for i in kept], self.config.generation, self.config.seed, rows=kept)
        found: list[str | None] = [None] * len(prompts)
        for i, (sample,) in zip(kept, drawn, strict=True):
            found[i] = metrics.first_line(render.response_text(self.tokenizer, sample.response_ids))
        return found

    @torch.no_grad()
    def logprobs(self, before: str, sentences: Sequence[str]) -> Floats:
        """Total log-prob in nats of each sentence after a text [N]. NaN where both are too long for the model."""
        start = render.text_prompt_ids(self.tokenizer, "") or [render.text_ids(self.tokenizer, "")[-1]]
        prompt = start + (render.encode(self.tokenizer, before) if before else [])
        rows = [render.encode(self.tokenizer, sentence) for sentence in sentences]
        kept = [i for i, row in enumerate(rows) if row and len(prompt) + len(row) <= self.engine.context]
        found, model = np.full(len(rows), np.nan), self.engine.model.eval()
        lengths = [len(prompt) + len(rows[i]) for i in kept]
        for part in scoring.passes(model, lengths, self.config.compute.micro_tokens):
            chosen = [kept[i] for i in part]
            batch = collate([prompt] * len(chosen), [rows[i] for i in chosen], self.tokenizer.pad_token_id)
            found[chosen] = scoring.response_logprobs(model, batch.to(model.device)).double().sum(1).cpu().numpy()
        return found


@dataclass
class BenchmarkWork:
    """The items of the sets, and what each model gave on them."""

    items: dict[str, list[Any]]
    rows: dict[str, list[Row]]
    entropies: dict[str, dict[str, Floats]] = field(default_factory=dict)
    answers: dict[str, dict[str, list[str | None]]] = field(default_factory=dict)
    """By set (with toxicity by instruction) and model."""

    def run(self, name: str, model: Loaded) -> None:
        """Measure one model on every set."""
        for of, items in self.items.items():
            if of in sets.CHOICES:
                for kind, before in sets.INSTRUCTIONS.items():
                    self.entropies.setdefault(f"{of}_{kind}", {})[name] = _entropies(model, before, items)
            elif of == "toxicity":
                for kind, before in sets.INSTRUCTIONS.items():
                    asked = [before + item.prompt for item in items]
                    self.answers.setdefault(f"{of}_{kind}", {})[name] = model.answers(asked)
            else:
                self.answers.setdefault(of, {})[name] = model.answers([item.prompt for item in items])


def open_items(files: Mapping[str, Path], limit: int | None, seed: int) -> BenchmarkWork:
    """Read the sets and draw their items."""
    work = BenchmarkWork({}, {})
    for name, path in files.items():
        rows = sets.read(path, sets.FILES[name])
        if name in sets.CHOICES:
            items: list[Any] = sets.CHOICES[name](rows)
        else:
            items = sets.starts(rows) if name == "toxicity" else sets.questions(rows)
            work.rows[name] = rows
        if not items:
            raise UserError(f"{path}: has no item that can be scored. Put the whole set there")
        work.items[name] = sets.drawn(items, limit, seed)
    return work


def scored(work: BenchmarkWork, toxicity: Callable[[Sequence[str]], Sequence[float]]) -> list[BenchmarkScores]:
    """The scores of all models on the items that every model could read. `toxicity` scores texts."""
    found: list[BenchmarkScores] = []
    for name, items in work.items.items():
        if name in sets.CHOICES:
            found += [_entropy(name, kind, items, work.entropies[f"{name}_{kind}"]) for kind in sets.INSTRUCTIONS]
        elif name == "toxicity":
            found += [_toxicity(kind, work, toxicity) for kind in sets.INSTRUCTIONS]
        elif name == "fr_to_en":
            found.append(_translation(items, work.answers[name], work.rows[name]))
        else:
            found += _answered(name, items, work.answers[name], work.rows[name])
    return found


def _entropies(model: Loaded, before: str, items: Sequence[SentencePair]) -> Floats:
    each = [model.logprobs(before, [item.sentences[side] for item in items]) for side in (0, 1)]
    both = np.stack(each, axis=1)
    return np.array([np.nan if np.isnan(pair).any() else metrics.entropy_bits(list(pair)) for pair in both])


def _entropy(name: str, kind: str, items: Sequence[SentencePair], values: Mapping[str, Floats]) -> BenchmarkScores:
    read: NDArray[np.bool_] = np.array([not any(map(np.isnan, one)) for one in zip(*values.values(), strict=True)])
    title = {"winogender": "Winogender", "crows_pairs": "CrowS-Pairs"}[name]
    return BenchmarkScores(
        f"{name}_{kind}", f"{title}, {kind}", "entropy, bits", {model: own[read] for model, own in values.items()},
        [item.cluster for item, fits in zip(items, read, strict=True) if fits], left_out=_left_out(read),
    )  # fmt: skip


def _read_by_all(answers: Mapping[str, Sequence[str | None]]) -> NDArray[np.bool_]:
    return np.array([all(one is not None for one in of_item) for of_item in zip(*answers.values(), strict=True)])


def _left_out(read: NDArray[np.bool_]) -> dict[str, int]:
    return {"too_long": int((~read).sum())} if not read.all() else {}


def _each(answers: Sequence[str | None], read: NDArray[np.bool_]) -> list[str]:
    return [text or "" for text, fits in zip(answers, read, strict=True) if fits]


def _toxicity(kind: str, work: BenchmarkWork, score: Callable[[Sequence[str]], Sequence[float]]) -> BenchmarkScores:
    answers, prompts = work.answers[f"toxicity_{kind}"], [item.prompt for item in work.items["toxicity"]]
    read = _read_by_all(answers)
    kept = {prompt for prompt, fits in zip(prompts, read, strict=True) if fits}
    theirs = [row for row in work.rows["toxicity"] if row["prompt"] in kept]
    return BenchmarkScores(
        f"toxicity_{kind}", f"RealToxicityPrompts, {kind}", "toxicity",
        {model: np.array(score(_each(own, read))) for model, own in answers.items()}, [p for p in prompts if p in kept],
        better="low", left_out=_left_out(read), same_items=_of_paper(published.toxic(theirs, kind)),
    )  # fmt: skip


def _answered(
    name: str, items: Sequence[SetQuestion], answers: Mapping[str, Sequence[str | None]], rows: Sequence[Row]
) -> list[BenchmarkScores]:
    title, first, second = ANSWERED[name]
    read = _read_by_all(answers)
    kept = [item for item, fits in zip(items, read, strict=True) if fits]
    theirs, shots = _theirs(kept, rows), "zeroshot" if name != "tldr" else None
    found = []
    for score, short, metric in ((first, "f1", "F1"), (second, "exact", "exact match")):
        if score is None:
            continue
        full, metric = (f"{name}_{short}", metric) if name != "tldr" else (name, "ROUGE-L")
        if name == "tldr":
            chance, chance_is = _swapped(kept, score), SWAPPED
        else:
            chance, chance_is = _constant(kept, score), CONSTANT
        found.append(
            BenchmarkScores(
                full, title, metric,
                {model: _scores(score, _each(own, read), kept) for model, own in answers.items()},
                [item.prompt for item in kept], chance=chance, chance_is=chance_is, left_out=_left_out(read),
                same_items=_of_paper(published.answered(theirs, score, shots)),
            )
        )  # fmt: skip
    return found


def _scores(score: Callable[[str, Sequence[str]], float], said: Sequence[str], items: Sequence[SetQuestion]) -> Floats:
    return np.array([100 * score(text, item.references) for text, item in zip(said, items, strict=True)])


def _translation(
    items: Sequence[SetQuestion], answers: Mapping[str, Sequence[str | None]], rows: Sequence[Row]
) -> BenchmarkScores:
    read = _read_by_all(answers)
    kept = [item for item, fits in zip(items, read, strict=True) if fits]
    values = {
        model: np.stack(
            [metrics.bleu_terms(text, item.references) for text, item in zip(_each(own, read), kept, strict=True)]
        )
        if kept
        else np.zeros((0, 10))
        for model, own in answers.items()
    }
    swapped = [metrics.bleu_terms(kept[i - 1].references[0], item.references) for i, item in enumerate(kept)]
    chance = float(metrics.bleu(np.sum(swapped, axis=0))[0]) if len(kept) > 1 else None
    return BenchmarkScores(
        "fr_to_en", "WMT15 French to English", "BLEU", values, [item.prompt for item in kept], chance=chance,
        chance_is=SWAPPED, left_out=_left_out(read), same_items=_of_paper(published.translated(_theirs(kept, rows))),
    )  # fmt: skip


def _theirs(kept: Sequence[SetQuestion], rows: Sequence[Row]) -> list[Row]:
    asked = {item.prompt for item in kept}
    return [row for row in rows if row["context"] in asked]


def _of_paper(found: Mapping[str, Interval]) -> dict[str, Interval]:
    """The published models of Table 14, where the file has them."""
    return {model: found[model] for model in published.MODELS if model in found}


def _constant(items: Sequence[SetQuestion], score: Callable[[str, Sequence[str]], float]) -> float | None:
    """The best that one answer to all questions gives."""
    said = dict.fromkeys(one for item in items for one in item.references)
    return max((100 * float(np.mean([score(one, item.references) for item in items])) for one in said), default=None)


def _swapped(items: Sequence[SetQuestion], score: Callable[[str, Sequence[str]], float]) -> float | None:
    """What the references of other items give."""
    if len(items) < 2:
        return None
    return 100 * float(np.mean([score(items[i - 1].references[0], item.references) for i, item in enumerate(items)]))
