"""Whether a reward can be trusted: accuracy, calibration, distance from what it learned, and shortcuts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from heedful.config import UserError, refused
from heedful.configs.trust import TrustConfig
from heedful.data import formats
from heedful.data.records import Comparison, as_text
from heedful.evaluation import trust_accuracy, trust_distance, trust_shortcuts, trust_text
from heedful.evaluation.quality import calibration
from heedful.evaluation.result import Result
from heedful.evaluation.trust_data import (
    JudgedPair,
    Scored,
    answers,
    judged,
    read,
    scores_of,
    training_file,
)
from heedful.evaluation.trust_distance import Far
from heedful.files import replacing, write_json, write_text
from heedful.maths.calibration import expected_error, temperature
from heedful.maths.statistics import Interval, ordered_pairs, pair_accuracy
from heedful.models.devices import device_of
from heedful.rewards.functions import Reward, open_reward
from heedful.rewards.specs import identities
from heedful.rollout.types import Episode
from heedful.runs.progress import Reporter

STEPS = 3  # scores, shortcuts and distance


def run(config: TrustConfig, out: Path, *, overwrite: bool = False) -> Result:
    """Examine a reward and write the folder `out`: trust.json with every figure, trust.txt with the tables."""
    if out.exists() and not overwrite:
        raise UserError(f"{out}: already exists. Choose another --out, or replace it with --overwrite")
    if overwrite and out.exists() and not (out / "trust.json").is_file():
        raise UserError(f"{out}: already exists and is not a result of heedful trust. Choose another --out")
    result = examine(config)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as folder:
            folder.mkdir()
            write_json(folder / "trust.json", result)
            write_text(folder / "trust.txt", trust_text.describe(result) + "\n")
    except OSError as error:
        raise UserError(refused(error, out)) from None
    return result


def examine(config: TrustConfig) -> Result:
    """Every figure about the reward, as JSON."""
    with closing(Reporter("trust", STEPS + len(config.external))) as reporter:
        return _examine(config, _counter(reporter))


def _counter(reporter: Reporter) -> Callable[[], None]:
    """A function that counts the finished parts of the work."""
    done = itertools.count(1)
    return lambda: reporter.step(next(done), {})


def _examine(config: TrustConfig, step: Callable[[], None]) -> Result:
    if len(set(config.external)) < len(config.external) or config.data in config.external:
        raise UserError("--external: a file is named twice. Name each file once")
    if config.truth is not None and identities([config.truth]) == identities(config.reward):
        raise UserError(f"--truth {config.truth}: is the reward itself, so it can only agree. Give another truth")
    device = device_of(config.compute)
    opened = {"compute": config.compute, "device": device, "trust_remote_code": config.trust_remote_code}
    reward = open_reward(config.reward, **opened)  # type: ignore[arg-type]
    truth = open_reward([config.truth], **opened) if config.truth is not None else None  # type: ignore[arg-type]
    training, why_not = training_file([part.name for part in reward.members()], config.training_data)
    found = read(config.data, reward, config.limit, config.seed, training)
    for one in (reward, truth):
        if one is not None:
            one.check(found.rows)
    step()
    judges, learned = {"longer_wins": trust_accuracy.longer(found)}, {"why": why_not}
    bag = None
    if training is not None:
        bag, learned = trust_accuracy.bag_of_words(training, set(found.prompts), config.seed)
    if bag is not None:
        judges["bag_of_words"] = trust_accuracy.by_bag(bag, found)
    pairs = judged(found, judges)
    result: Result = {
        "reward": config.reward, "data": formats.fingerprint(config.data), "training_data": training,
        "rankings": len(found.rows), "pairs": len(pairs), "left_out": found.left_out, "seed": config.seed,
        "shared_prompts": _shared(found, training), "bag_of_words": learned,
        "accuracy": trust_accuracy.pairs(pairs), "lead": trust_accuracy.leads(pairs),
        "best_of_k": trust_accuracy.best_of_k(found, judges), "by": trust_accuracy.slices(pairs),
        "calibration": _calibration(pairs, found, config.seed),
    }  # fmt: skip
    true = None
    if truth is not None:
        true = scores_of(truth, found.flat)
        result["accuracy"] |= _by_truth(found, true)
    result["external"] = {}
    elsewhere: dict[str, list[Episode]] = {}
    for path in config.external:
        result["external"][path], elsewhere[path] = _external(path, reward, bag, config)
        step()
    result["shortcuts"], changed = trust_shortcuts.measure(reward, found, truth, config.shortcut_rows, config.seed)
    step()
    elsewhere |= {path: answers(path, reward, config.limit, config.seed) for path in config.outside}
    if config.hacked is not None:
        elsewhere["hacked"] = answers(config.hacked, reward, config.limit, config.seed)
    elsewhere |= {f"answers {name}": changed[name] for name in ("repeated", "padded") if name in changed}
    distance, why = trust_distance.learned(reward, training, why_not, set(found.prompts), config.seed)
    result["distance"] = {"why": why}
    if distance is not None:
        result["distance"] = trust_distance.measure(Far.of(distance, found), found, pairs, elsewhere, true)
    step()
    result = _without_nan(result)
    return result | {"findings": trust_text.findings(result)}


def _without_nan(value: Any) -> Any:
    """The same with None for what is undefined, such as a correlation with something that never varies."""
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _shared(found: Scored, training: str | None) -> int:
    """How many held-out prompts are also training prompts, beyond the rows of the same file."""
    if training is None or formats.fingerprint(training)["sha256"] == formats.fingerprint(found.path)["sha256"]:
        return 0
    learned = {as_text(row.prompt) for row in formats.read(training, Comparison) if row.split not in ("valid", "test")}
    return len(learned & set(found.prompts))


def _by_truth(found: Scored, true: Sequence[float]) -> Result:
    """Accuracy of the reward by the truth."""
    rest, rows = list(true), []
    for own in found.scores:
        rows.append(rest[: len(own)])
        rest = rest[len(own) :]
    pairs = ordered_pairs(rows)
    return {"by_truth": pair_accuracy(found.scores, pairs, found.prompts)._asdict()} if pairs else {}


def _calibration(pairs: Sequence[JudgedPair], found: Scored, seed: int) -> Result:
    """The curve, the expected calibration error, and a temperature from half of the prompts, measured on the others."""
    margins, prompts = [pair.margins["reward"] for pair in pairs], [pair.prompt for pair in pairs]
    preferred = [[-float(tier) for tier in row.ranks()] for row in found.rows]
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(found.prompts))}
    bins = calibration(found.scores, preferred, [numbers[prompt] for prompt in found.prompts])
    result: Result = {
        "curve": [{"predicted": one.predicted, **one.observed._asdict()} for one in bins],
        "error": expected_error(margins, prompts)._asdict(),
    }
    names = sorted(set(prompts))
    half = set(np.random.default_rng(seed).permutation(np.array(names, dtype=object))[: len(names) // 2])
    fitting = [prompt in half for prompt in prompts]
    if not any(fitting) or all(fitting):
        return result | {"temperature": None}
    mended = temperature(margins, prompts, fitting)
    figures = mended._asdict()
    return result | {
        "temperature": {
            name: value._asdict() if isinstance(value, Interval) else value for name, value in figures.items()
        }
    }


def _external(path: str, reward: Reward, bag: Any, config: TrustConfig) -> tuple[Result, list[Episode]]:
    """Accuracy on comparisons from elsewhere, and their answers."""
    found = read(path, reward, config.limit, config.seed)
    judges = {"longer_wins": trust_accuracy.longer(found)}
    if bag is not None:
        judges["bag_of_words"] = trust_accuracy.by_bag(bag, found)
    pairs = judged(found, judges)
    figures = {
        **formats.fingerprint(path), "rankings": len(found.rows), "pairs": len(pairs), "left_out": found.left_out,
        "accuracy": trust_accuracy.pairs(pairs), "lead": trust_accuracy.leads(pairs),
    }  # fmt: skip
    return figures, found.flat
