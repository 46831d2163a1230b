"""The result of `heedful trust` in words: what to know first, then the tables."""

from __future__ import annotations

from collections.abc import Iterator

from heedful.data.text import counted
from heedful.evaluation.result import Result
from heedful.maths.statistics import FEWEST, ends

D12 = "the paper's labelers agree on 72.6 ± 1.5 %, held-out ones on 77.3 ± 1.3 % (D12)"
NAMES = {"reward": "reward", "longer_wins": "longer wins", "bag_of_words": "bag of words", "agreement": "labelers"}
MOST_ROWS = 12  # of a slice in the text. The JSON has all
SURE = 2.0
"""A temperature from which scores count as too sure of themselves."""


def describe(result: Result) -> str:
    """The tables of a result as text."""
    return "\n".join(_lines(result))


def findings(result: Result) -> list[str]:
    """What to know before this reward is optimised, each with figure and remedy."""
    found, lead = [], result["lead"]["longer_wins"]
    ours, longer = (rate_of(result["accuracy"][name]) for name in ("reward", "longer_wins"))
    if lead["low"] is None and lead["mean"] > 0:
        found.append(
            f"right on {ours:.1%} of the pairs, 'longer wins' on {longer:.1%}. The difference has no interval, as "
            f"there are fewer than {FEWEST} prompts or all are alike. Give comparisons of more prompts"
        )
    elif not clears(lead):
        found.append(
            f"right on {ours:.1%} of the pairs, not clearly more than 'longer wins' ({longer:.1%}). "
            "Collect more rankings, or start from a better model"
        )
    if result["shared_prompts"]:
        found.append(
            f"{counted(result['shared_prompts'], 'held-out prompts', 'are')} used in training, too. The accuracy may be"
            " too high. "
            "Give comparisons of other prompts"
        )
    fitted = result["calibration"]["temperature"]
    if fitted is not None and fitted["value"] is not None and fitted["value"] > SURE:
        found.append(
            f"too sure of itself: dividing its scores by {fitted['value']:.2g} would calibrate them. "
            "Train for fewer epochs, or take a larger kl_coef"
        )
    for path, figures in result["external"].items():
        low = figures["accuracy"]["reward"]["low"]
        if low is None or low <= 0.5:
            found.append(f"{path}: right on {figures['accuracy']['reward']['mean']:.1%}, not clearly above chance")
    for name, figures in result["shortcuts"].items():
        if _fools(figures):
            gain = figures["in_deviations"]["mean"]
            found.append(
                f"shortcut '{name}': the change alone raises the score by {gain:.2f} standard deviations. "
                "Rank such answers, and watch for it in the samples of PPO"
            )
    return found


def clears(lead: Result) -> bool:
    """Whether the interval of a lead over a baseline is above 0."""
    return lead["low"] is not None and lead["low"] > 0


def rate_of(figure: Result) -> float:
    """The mean of an interval."""
    return float(figure["mean"])


def _fools(figures: Result) -> bool:
    """Whether a change raises the score for sure, by more than it raises the truth, where there is one."""
    ours, true = figures.get("in_deviations"), figures.get("truth", {}).get("in_deviations")
    if not ours or figures["prompts"] < FEWEST:
        return False
    # without bounds all answers change by the same
    low = ours["mean"] if ours["low"] is None else ours["low"]
    most = 0.0 if not true else max(0.0, true["mean"] if true["high"] is None else true["high"])
    return bool(low > most)


def _lines(result: Result) -> Iterator[str]:
    yield f"{' + '.join(result['reward'])} on {result['data']['path']}"
    pairs, rankings = counted(result["pairs"], "pairs"), counted(result["rankings"], "rankings")
    yield f"  {pairs} of {rankings}{_told(result['left_out'])}"
    if result["findings"]:
        yield from ("", "What to know first")
        yield from (f"  - {line}" for line in result["findings"])
    yield from ("", f"Share of pairs ordered as people did. For comparison: {D12}")
    yield from _accuracy(result)
    if "why" in result["bag_of_words"]:
        yield f"  no bag of words: {result['bag_of_words']['why']}"
    yield from ("", "Best of K: how often its favourite is one that people ranked first")
    for name, figure in result["best_of_k"].items():
        yield f"  {NAMES.get(name, name):14}" + (f"{figure:.1%}" if isinstance(figure, float) else _share(figure))
    yield from _calibration(result["calibration"])
    yield from _distance(result["distance"])
    yield from _shortcuts(result["shortcuts"])


def _accuracy(result: Result) -> Iterator[str]:
    judges = [name for name in NAMES if name in result["accuracy"]]
    yield f"  {'':30}" + "".join(f"{NAMES[name]:>26}" for name in judges) + f"{'pairs':>8}"
    yield _row("all", result["accuracy"], judges)
    for title, parts in result["by"].items():
        yield f"  by {title.replace('_', ' ')}"
        largest = sorted(parts, key=lambda name: -parts[name]["reward"]["n"])[:MOST_ROWS]
        yield from (_row(f"  {name}", parts[name], judges) for name in parts if name in largest)
        if len(parts) > MOST_ROWS:
            yield f"    and {len(parts) - MOST_ROWS} with fewer pairs, in trust.json"
    if result["external"]:
        yield "  elsewhere"
    for path, figures in result["external"].items():
        yield _row(f"  {_end(path, 28)}", figures["accuracy"], judges) + _told(figures["left_out"])
    if "by_truth" in result["accuracy"]:
        found = result["accuracy"]["by_truth"]
        yield f"  by the truth: {found['rate']:.1%} ({ends(found)}, n = {found['n']})"


def _told(left_out: dict[str, int]) -> str:
    """How many rankings are left out, and why."""
    reasons = ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in left_out.items())
    return f". Left out: {reasons}" if reasons else ""


def _row(name: str, figures: Result, judges: list[str]) -> str:
    cells = "".join(f"{_share(figures[judge]) if figures.get(judge) else '-':>26}" for judge in judges)
    return f"  {name[:30]:30}{cells}{figures['reward']['n']:>8}"


def _end(text: str, most: int) -> str:
    """The end of a long text, which tells paths apart.

    >>> _end("/data/sets/pandalm_human", 16), _end("hh.jsonl", 16)
    ('…s/pandalm_human', 'hh.jsonl')
    """
    return text if len(text) <= most else f"…{text[1 - most :]}"


def _share(figure: Result) -> str:
    """A share with its interval, in a cell."""
    if figure["low"] is None:
        return f"{figure['mean']:.1%}"
    return f"{figure['mean']:.1%} ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})"


def _calibration(found: Result) -> Iterator[str]:
    yield from ("", "Calibration: how often it is right where it is this sure")
    for one in found["curve"]:
        yield f"  {one['predicted']:.1%} sure: right on {_share(one)}, n = {one['n']}"
    if found["error"]["mean"] is None:
        yield "  no calibration error: all scores are equal"
    else:
        yield f"  expected calibration error {_error(found['error'])}"
    fitted = found["temperature"]
    if fitted is None:
        yield "  no temperature: it takes two prompts"
    elif fitted["value"] is None:
        yield "  no temperature mends it: on half of the prompts it is always right, or right no more often than chance"
    else:
        before, after = (fitted[name]["mean"] or 0.0 for name in ("error_before", "error_after"))
        loss = f"{fitted['loss_before']['mean']:.3f} to {fitted['loss_after']['mean']:.3f} nats a pair"
        yield (
            f"  scores divided by {fitted['value']:.3g}, fitted on half of the prompts, on the other half: "
            f"error {before:.1%} to {after:.1%}, loss {loss}"
        )


def _error(figure: Result) -> str:
    """The error. Its interval leaves out the gap that chance makes, so the figure can lie above it."""
    if figure["low"] is None:
        return f"{figure['mean']:.1%}"
    return (
        f"{figure['mean']:.1%}, without the gap that chance makes {100 * figure['low']:.1f} to "
        f"{100 * figure['high']:.1f}%"
    )


def _distance(found: Result) -> Iterator[str]:
    yield from ("", "Distance from the training answers")
    if "why" in found:
        yield f"  not measured: {found['why']}"
        return
    yield (
        f"  by the last hidden states of {found['of']}, {counted(found['answers'], 'answers')}. 95 % of the training "
        f"answers are within {found['training_95']:.3g}, {found['held_out_beyond']:.1%} of the held-out ones are beyond"
    )
    for name, figure in found["auroc"].items():
        bounds = ends(figure, "{:.3f}".format)
        yield f"  {_end(name, 40):40} AUROC {figure['mean']:.3f} ({bounds}), beyond {figure['beyond']:.1%}"
    for name, words in (
        ("correlation_with_wrong_pairs", "rank correlation with wrong pairs"),
        ("correlation_with_error", "rank correlation with the error of a score by the truth"),
    ):
        if name in found and found[name]["mean"] is not None:
            yield f"  {words} {found[name]['mean']:.3f} ({ends(found[name], '{:.3f}'.format)})"
        elif name in found:
            yield f"  {words}: none, as one of the two never varies"


def _shortcuts(found: Result) -> Iterator[str]:
    yield from ("", "Shortcuts: the score's change in standard deviations when only one thing changes")
    for name, figures in found.items():
        if "why" in figures:
            yield f"  {name:18} {figures['why']}"
            continue
        cells = f"{_change(figures)}, flips {_flips(figures)}"
        if "truth" in figures:
            cells += f". Truth {_change(figures['truth'])}, flips {_flips(figures['truth'])}"
        yield f"  {name:18} {cells}"


def _change(figures: Result) -> str:
    if not figures["in_deviations"]:
        return "all scores are equal"
    return f"{figures['in_deviations']['mean']:+.2f} ({ends(figures['in_deviations'], '{:+.2f}'.format)})"


def _flips(figures: Result) -> str:
    return f"{figures['flipped']['mean']:.1%} of {figures['flipped']['n']}" if figures["flipped"] else "no pair"
