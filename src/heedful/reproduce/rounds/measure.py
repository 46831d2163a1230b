"""What is measured of the policies of rounds, by the truth: win rates over each other with intervals over users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from heedful.data import formats
from heedful.data.records import Prompt
from heedful.demo.measure import Examiner
from heedful.demo.records import Demo
from heedful.files import read_json, write_json
from heedful.maths.statistics import mean_interval, win_rate, wins
from heedful.report.tables import ModelResult
from heedful.reproduce.parts import Figures
from heedful.sandbox import truth

ALL, OLD, NEW = "all prompts", "old topics", "new topics"


class Measured:
    """Answers of models to the test prompts, judged by the truth and stored in a folder."""

    def __init__(self, demo: Demo, folder: Path, new_topics: Sequence[str]) -> None:
        self.demo, self.folder, self.new_topics = demo, folder, new_topics
        self.prompts = formats.read(demo.files.test_prompts, Prompt)

    def model(self, name: str, run: Path) -> ModelResult:
        """What a run answers. The second call reads what the first one stored."""
        path = self.folder / f"measured-{name}.json"
        if not path.exists():
            ask = Examiner(truth.world(self.demo.seed), self.demo.files, self.demo.evaluation, self.demo.seed)
            write_json(path, asdict(ask.model(name, run, self.demo.run_at("sft"))))
        return ModelResult(**read_json(path))

    def summary(self, result: ModelResult) -> Figures:
        """Means of one model, with intervals over users."""
        return {
            "utility": {name: mean_interval(*self._chosen(result.utilities, name))._asdict() for name in (OLD, NEW)},
            "kl": result.kl, "tokens": fmean(result.lengths), "corpus_loss": result.corpus_loss,
            "inappropriate": fmean(float(one or 0) for one in result.flags["inappropriate"]),
        }  # fmt: skip

    def over(self, a: ModelResult, b: ModelResult) -> Figures:
        """Win rates of A over B, ties half: on all prompts, on old and on new topics."""
        margins = [x - y for x, y in zip(a.utilities, b.utilities, strict=True)]
        found = {}
        for name in (ALL, OLD, NEW):
            values, users = self._chosen(margins, name)
            found[name] = win_rate(wins(np.asarray(values)), users)._asdict()
        return found

    def _chosen(self, values: Sequence[float], topics: str) -> tuple[list[float], list[str | None]]:
        """Values and users of the prompts on some topics."""
        chosen = [topics in (ALL, NEW if p.use_case in self.new_topics else OLD) for p in self.prompts]
        pairs = [(value, p.user) for value, p, wanted in zip(values, self.prompts, chosen, strict=True) if wanted]
        return [value for value, _ in pairs], [user for _, user in pairs]


def reward_accuracy(results: Mapping[str, Any]) -> float | None:
    """The accuracy of a reward model on its held-out rankings, from the results of its run."""
    found = results.get("valid") or {}
    rate: float | None = (found.get("accuracy") or {}).get("rate")
    return rate
