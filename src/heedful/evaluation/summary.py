"""The figures of one judge: win rates over the baseline, and what shows how far to trust them (E1, T3)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from heedful.config import UserError
from heedful.configs.evaluate import EvaluateConfig
from heedful.data.records import Prompt, Rating
from heedful.data.text import counted
from heedful.evaluation.answers import key
from heedful.evaluation.judges import Judged, Rated, Verdict
from heedful.evaluation.models import Models
from heedful.evaluation.result import Result
from heedful.maths.comparisons import agreement_of, bradley_terry, controlled_rate, prompts_needed
from heedful.maths.statistics import mean_interval, rate_interval, win_rate

LIST_LINE = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)
FLAGS = tuple(name for name in Rating.model_fields if name != "overall")
TRAINING, HELD_OUT = "training", "held_out"


def of_judge(judged: Judged, models: Models, config: EvaluateConfig) -> Result:
    """Every figure of a judge. Models that it compares with nothing are not in them."""
    cluster = cluster_of(config, [verdict.prompt for verdict in judged.verdicts])
    figures = PromptFigures(models, cluster, config.similar_length)
    verdicts = judged.verdicts
    rates = figures.rates(verdicts)
    parts: dict[str, Callable[[Verdict], str | None]] = {
        "by_use_case": lambda verdict: verdict.prompt.use_case,
        "by_source": lambda verdict: verdict.prompt.source,
        "by_group": lambda verdict: verdict.group,
    }
    if judged.kind == "people":
        parts["by_labelers"] = lambda verdict: HELD_OUT if verdict.held_out else TRAINING
    return {
        "kind": judged.kind,
        "prompts": len({key(verdict.prompt.prompt) for verdict in verdicts}),
        "verdicts": len(verdicts),
        "ties": sum(verdict.outcome == 0.5 for verdict in verdicts),
        "both_bad": sum(verdict.both_bad for verdict in verdicts),
        "cluster": cluster,
        "win_rates": rates,
        "controlled": figures.controlled(verdicts),
        "prompts_needed": {name: prompts_needed(rate) for name, rate in rates.items()},
        "differences": figures.differences(verdicts),
        "head_to_head": figures.head_to_head(verdicts),
        "scale": figures.scale(verdicts),
        "length": figures.length(verdicts),
        **{name: figures.parts(verdicts, of) for name, of in parts.items()},
        **({"ratings": figures.ratings(judged.ratings)} if judged.ratings else {}),
        **judged.facts,
    }


def agreement(judges: Sequence[Judged]) -> list[Result]:
    """For every two judges the share of comparisons that they decide alike, and the number that both decide (D12)."""
    tables = [_by_comparison(judged.verdicts) for judged in judges]
    found = []
    for i, j in combinations(range(len(judges)), 2):
        shared = [name for name in tables[i] if name in tables[j]]
        rate, pairs = agreement_of([tables[i][name] for name in shared], [tables[j][name] for name in shared])
        found.append({"judges": [judges[i].name, judges[j].name], "rate": rate, "pairs": pairs})
    return found


def cluster_of(config: EvaluateConfig, prompts: Sequence[Prompt]) -> str:
    """What intervals count. Raises UserError if they are to count users and a prompt names none."""
    users = {key(prompt.prompt): prompt.user for prompt in prompts}
    missing = list(users.values()).count(None)
    if config.cluster == "user" and missing:
        some = counted(missing, "prompts", "name", of=len(users))
        raise UserError(f"cluster = user, but {some} no user. Use cluster = prompt")
    return "user" if config.cluster != "prompt" and not missing else "prompt"


def list_lines(text: str) -> int:
    """Number of lines of a text that are entries of a list."""
    return len(LIST_LINE.findall(text))


class PromptFigures:
    """Figures over prompts. A prompt with several verdicts counts once, with their mean."""

    def __init__(self, models: Models, cluster: str, similar: float) -> None:
        self.models, self.cluster, self.similar = models, cluster, similar

    def rates(self, verdicts: Sequence[Verdict]) -> Result:
        """The win rate of each model over the baseline."""
        found = {name: self._rate(between(verdicts, name, self.models.baseline)) for name in self.models.others}
        return {name: rate for name, rate in found.items() if rate is not None}

    def head_to_head(self, verdicts: Sequence[Verdict]) -> Result:
        """The win rate of each model over each later one, of all pairs that are judged."""
        found = {(a, b): self._rate(between(verdicts, a, b)) for a, b in combinations(self.models.names, 2)}
        return {a: {b: rate for (one, b), rate in found.items() if one == a and rate} for a in self.models.names[:-1]}

    def controlled(self, verdicts: Sequence[Verdict]) -> Result:
        """The win rate over the baseline at equal length and equal list markup, or `why` there is none."""
        found: Result = {}
        for name in self.models.others:
            chosen = between(verdicts, name, self.models.baseline)
            if not chosen:
                continue
            prompts = [key(verdict.prompt.prompt) for verdict in chosen]
            counts = Counter(prompts)
            features = [(len(v.a.text), len(v.b.text), list_lines(v.a.text), list_lines(v.b.text)) for v in chosen]
            logs = np.log1p(np.asarray(features, dtype=np.float64))
            differences = np.column_stack([logs[:, 0] - logs[:, 1], logs[:, 2] - logs[:, 3]])
            outcomes = [verdict.outcome for verdict in chosen]
            controlled = controlled_rate(
                outcomes, differences, [self._cluster(v) for v in chosen], [1 / counts[prompt] for prompt in prompts]
            )
            found[name] = {"why": controlled.why} if controlled.rate is None else controlled.rate._asdict()
            found[name] |= {} if controlled.rate is None else {"n": len(set(prompts))}
        return found

    def differences(self, verdicts: Sequence[Verdict]) -> list[Result]:
        """How much higher the win rate of A over the baseline is than that of B, on the prompts of both."""
        table = {name: _outcomes(between(verdicts, name, self.models.baseline)) for name in self.models.others}
        clusters = {key(verdict.prompt.prompt): self._cluster(verdict) for verdict in verdicts}
        found = []
        for a, b in combinations([name for name in table if table[name]], 2):
            shared = [prompt for prompt in table[a] if prompt in table[b]]
            if shared:
                values = [table[a][prompt] - table[b][prompt] for prompt in shared]
                interval = mean_interval(values, [clusters[prompt] for prompt in shared])
                found.append({"a": a, "b": b, **interval._asdict()})
        return found

    def scale(self, verdicts: Sequence[Verdict]) -> Result | None:
        """The Bradley-Terry scale of three models or more (T1). Each pair of a prompt counts once."""
        names = [name for name in self.models.names if any(name in verdict.models for verdict in verdicts)]
        if len(names) < 3:
            return None
        prompts = {key(verdict.prompt.prompt): verdict for verdict in verdicts}
        row = {prompt: number for number, prompt in enumerate(prompts)}
        wins = np.zeros((len(prompts), len(names), len(names)))
        for (i, a), (j, b) in combinations(enumerate(names), 2):
            for prompt, outcome in _outcomes(between(verdicts, a, b)).items():
                wins[row[prompt], i, j], wins[row[prompt], j, i] = outcome, 1 - outcome
        found = bradley_terry(wins, [self._cluster(verdict) for verdict in prompts.values()])
        strengths = {name: interval._asdict() for name, interval in zip(names, found.strengths, strict=True)}
        return {"strengths": strengths, "regularised": found.regularised}

    def length(self, verdicts: Sequence[Verdict]) -> Result:
        """How often each model is longer than the baseline, and its win rate where it is shorter, longer or similar."""
        found: Result = {}
        for name in self.models.others:
            chosen = between(verdicts, name, self.models.baseline)
            if chosen:
                sizes = [(len(v.a.text), len(v.b.text)) for v in chosen]
                longer = _means(chosen, [float(a > b) for a, b in sizes])
                found[name] = {
                    "longer_share": float(np.mean(list(longer.values()))),
                    "similar": self._where(chosen, [abs(a - b) <= self.similar * max(1, min(a, b)) for a, b in sizes]),
                    "shorter": self._where(chosen, [a < b for a, b in sizes]),
                    "longer": self._where(chosen, [a > b for a, b in sizes]),
                }
        return found

    def parts(self, verdicts: Sequence[Verdict], of: Callable[[Verdict], str | None]) -> Result:
        """Win rates in each part of the verdicts. Those without a name are in none."""
        named = [(of(verdict), verdict) for verdict in verdicts]
        names = sorted({name for name, _ in named if name is not None})
        return {name: self.rates([verdict for own, verdict in named if own == name]) for name in names}

    def ratings(self, ratings: Sequence[Rated]) -> Result:
        """Mean overall quality and the rate of each flag for each model (D9), and apart for held-out labelers."""
        found = {name: self._rated([one for one in ratings if one.model == name]) for name in self.models.names}
        groups = {one.held_out for one in ratings}
        result: Result = {"models": found}
        if len(groups) > 1:
            for held_out, label in ((False, TRAINING), (True, HELD_OUT)):
                chosen = [one for one in ratings if one.held_out == held_out]
                result[label] = {
                    name: self._rated([one for one in chosen if one.model == name]) for name in self.models.names
                }
        return result

    def _rated(self, ratings: Sequence[Rated]) -> Result:
        rows = [(one, one.rating.row()) for one in ratings]
        overall = [(one, float(row["overall"])) for one, row in rows if row.get("overall") is not None]
        extra = sorted({name for _, row in rows for name in row} - set(Rating.model_fields))
        flags: Result = {}
        for name in (*FLAGS, *extra):
            said = [(one, float(row[name])) for one, row in rows if isinstance(row.get(name), bool)]
            if said:
                flags[name] = rate_interval(*self._of_prompts(said))._asdict()
        return {"overall": mean_interval(*self._of_prompts(overall))._asdict() if overall else None, "flags": flags}

    def _of_prompts(self, said: Sequence[tuple[Rated, float]]) -> tuple[list[float], list[object]]:
        """Mean values by prompt, and the cluster of each."""
        means = _means([one for one, _ in said], [value for _, value in said])
        clusters = {key(one.prompt.prompt): self._cluster(one) for one, _ in said}
        return list(means.values()), [clusters[prompt] for prompt in means]

    def _where(self, verdicts: Sequence[Verdict], chosen: Sequence[bool]) -> Result | None:
        return self._rate([verdict for verdict, is_in in zip(verdicts, chosen, strict=True) if is_in])

    def _rate(self, verdicts: Sequence[Verdict]) -> Result | None:
        if not verdicts:
            return None
        clusters = {key(verdict.prompt.prompt): self._cluster(verdict) for verdict in verdicts}
        outcomes = _outcomes(verdicts)
        return win_rate(list(outcomes.values()), [clusters[prompt] for prompt in outcomes])._asdict()

    def _cluster(self, one: Verdict | Rated) -> object:
        return one.prompt.user if self.cluster == "user" else key(one.prompt.prompt)


def between(verdicts: Sequence[Verdict], ours: str, theirs: str) -> list[Verdict]:
    """The verdicts on two models, each with our model on side A."""
    return [
        verdict if verdict.models == (ours, theirs) else verdict.turned()
        for verdict in verdicts
        if verdict.models in ((ours, theirs), (theirs, ours))
    ]


def _outcomes(verdicts: Sequence[Verdict]) -> dict[str, float]:
    return _means(verdicts, [verdict.outcome for verdict in verdicts])


def _means(rows: Sequence[Verdict | Rated], values: Sequence[float]) -> dict[str, float]:
    """The mean value of each prompt, in the order in which the prompts first occur."""
    groups: dict[str, list[float]] = {}
    for row, value in zip(rows, values, strict=True):
        groups.setdefault(key(row.prompt.prompt), []).append(value)
    return {prompt: float(np.mean(group)) for prompt, group in groups.items()}


def _by_comparison(verdicts: Sequence[Verdict]) -> dict[tuple[str, str, str], float]:
    """The mean outcome of each comparison, by prompt and models in the order of their names."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for verdict in verdicts:
        one = verdict if verdict.models[0] <= verdict.models[1] else verdict.turned()
        groups.setdefault((key(one.prompt.prompt), *one.models), []).append(one.outcome)
    return {name: float(np.mean(group)) for name, group in groups.items()}
