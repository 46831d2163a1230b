"""The model card of a run: what it was made from, whom it is aligned to, what was measured, and what was not."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path, PureWindowsPath
from typing import Any

from heedful.config import UserError, refused
from heedful.configs import registry
from heedful.data import formats, kinds
from heedful.data.records import Choice, Comparison, Demonstration, as_text
from heedful.data.text import as_words, counted, rows_told, visible
from heedful.files import lines_of, read_json, write_text
from heedful.maths.statistics import ends
from heedful.report import comparison
from heedful.runs.listing import duration, origin
from heedful.runs.manifest import Manifest, Source, ancestry, maker
from heedful.runs.run import Run

NAME = "README.md"
FEWEST = 5  # people with one answer to a survey. A smaller count could point to a person
MARK = "<!-- written by heedful card -->"
FAILURES = {
    "false_premise": "accepts a false premise",
    "hedging": "hedges where the answer is plain",
    "several_constraints": "misses one of several constraints",
    "harmful_instructions": "follows harmful instructions",
}
"""Failures that the paper names (section 4.3), by the use case of the prompts that show them."""
LIMITS = """\
- The model follows what its labelers preferred, in the languages and subjects of its prompts. Other people may prefer \
otherwise.
- It can state false things, follow harmful instructions, and write toxic or biased text.
- A reward model is a proxy. A higher reward is no proof of a better answer."""
LIMITS_OF_A_REWARD = """\
- It scores what its labelers preferred, in the languages and subjects of its prompts. Other people may prefer \
otherwise.
- It is a proxy. A higher score is no proof of a better answer, the less so the longer a policy was trained on it.
- Scores of different prompts do not compare, and neither do scores of other reward models."""
NO_TEXT = "It writes no text. `heedful trust` measures where its scores go wrong."
MEASURED_ON = ("eval_data", "valid_data")  # files that a run is measured on, and learns nothing from
CardRecord = Demonstration | Comparison | Choice


def write(
    run: Path, out: Path | None = None, *, evaluations: Sequence[Path] = (), intended: str | None = None,
    survey: Path | None = None,
) -> Path:  # fmt: skip
    """Write the card into the run's `model/`, or to `out`. Replaces only an earlier card. Returns its path."""
    manifest = Run.open(run).manifest
    if out is None and not (run / "model").is_dir():
        if (run / "members").is_dir():
            raise UserError(f"{run}: an ensemble. Name one of {run}/members, or give --out")
        if (run / "folds").is_dir():
            raise UserError(f"{run}: a cross-validation leaves no model. Give --out")
        raise UserError(f"{run}: has no model/ yet. Finish the run, or give --out")
    place = run / "model" / NAME if out is None else out
    if place.exists() and MARK not in place.read_text(encoding="utf-8", errors="replace"):
        raise UserError(f"{place}: already exists and is no card of heedful. Choose another --out")
    for folder in evaluations:
        if not comparison.is_evaluation(folder):
            raise UserError(f"{folder}: holds no result of heedful evaluate. Give its --out folder")
    text = card(run, manifest, evaluations, intended, survey)
    try:
        write_text(place, text)
    except OSError as error:
        raise UserError(refused(error, place)) from None
    return place


def card(run: Path, manifest: Manifest, evaluations: Sequence[Path], intended: str | None, survey: Path | None) -> str:
    """The card as Markdown, with the front matter that the hub reads."""
    made = list(ancestry(run.name, manifest))
    refs = (str(source["ref"]) for _, one in made for source in one.parents.values())
    base = next((ref for ref in refs if maker(ref) is None), "")
    stage = registry.stage(manifest.stage)
    writes = stage.writes_text or stage.place == registry.LAST
    what = (
        f"A language model trained with {as_words(manifest.stage)}"
        if writes
        else "A reward model, which scores answers"
    )
    parts = [
        _front(manifest, base, "text-generation" if writes else "text-classification"),
        f"# {visible(run.resolve().name)}\n\n{MARK}\n\n{what}"
        f"{f', from {visible(_name(base))}' if base else ''}, by the method of InstructGPT.",
        _section("Intended use", [visible(intended) if intended else "Not stated by the people who trained it."]),
        _section("Data and consent", [line for name, one in made for line in _data(name, one)]),
        _section("Whom it is aligned to", list(_people(made, survey))),
        _section("Measured", list(_measured(manifest, evaluations))),
        _section("Measured failures", list(_failures(evaluations)) if writes else [NO_TEXT]),
        _section("Cost", [f"- {name} ({as_words(one.stage)}): {duration(one.seconds)}" for name, one in made]),
        _section("Limits", [LIMITS if writes else LIMITS_OF_A_REWARD]),
    ]
    return "\n\n".join(parts) + "\n"


def _front(manifest: Manifest, base: str, task: str) -> str:
    lines = ["---", "library_name: transformers", f"pipeline_tag: {task}"]
    lines += [f"base_model: {base}"] if base and not Path(base).exists() and "\n" not in base else []
    return "\n".join([*lines, "tags:", "- rlhf", f"- {manifest.stage}", "---"])


def _section(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n" + ("\n".join(lines) or "Nothing is known.")


def _data(name: str, manifest: Manifest) -> Iterator[str]:
    """A line for each file that a run learned from, with what is known of consent."""
    for role, source in manifest.data.items():
        rows = f", {rows_told(source['rows'])}" if isinstance(source.get("rows"), int) else ""
        records = _records(source)
        app = sum("judgement" in (record.model_extra or {}) for record in records)
        consent = (
            f". {app:,} of them come from heedful's labelling app, where labelers accept its text of consent"
            if app
            else ". Consent: not recorded"
        )
        yield f"- {as_words(role)} of {name}: {visible(_origin(source))}{rows}{consent}"


def _origin(source: Source) -> str:
    """Where a file came from. The card leaves the machine, so it has no path of it."""
    return origin({**source, "path": _name(str(source["path"]))} if source.get("path") else source)


def _name(ref: str) -> str:
    """A hub name or a relative path as it is, and of a place on this machine its name."""
    return PureWindowsPath(ref).name if Path(ref).is_absolute() or PureWindowsPath(ref).is_absolute() else ref


def _without_places(judge: str) -> str:
    """A judge, a reward or an ensemble with the names of its files and runs in place of where they are here.

    >>> _without_places("0.5*min(/data/rm1,/data/rm2) + my:score"), _without_places("https://host/v1#model")
    ('0.5*min(rm1,rm2) + my:score', 'https://host/v1#model')
    """
    return re.sub(r"(?<![\w.:/#-])(/|[A-Za-z]:[/\\])[^\s,()*+]+", lambda found: _name(found[0]), judge)


def _records(source: Source) -> list[CardRecord]:
    """The rows of people in a file, none if it is not here any more or holds something else."""
    path = str(source.get("path", ""))
    if not Path(path).exists():
        return []
    try:
        kind = kinds.kind_of(path, lenient=True)
        if kind not in ("demonstrations", "comparisons", "choices"):
            return []
        return [row for row in formats.read(path, kinds.KINDS[kind]) if isinstance(row, CardRecord)]
    except UserError:
        return []


def _people(made: Sequence[tuple[str, Manifest]], survey: Path | None) -> Iterator[str]:
    """The labelers behind all files of the ancestry: number, groups, and how often two of them agree (D12)."""
    files = {
        str(source.get("path")): source
        for _, one in made
        for role, source in one.data.items()
        if role not in MEASURED_ON
    }
    records = [record for source in files.values() for record in _records(source)]
    labelers = {record.labeler for record in records} - {None}
    if not labelers:
        yield "- Labelers: not recorded in the data that is here."
    else:
        yield f"- Labelers: {len(labelers):,}, with {len(records):,} demonstrations, rankings and choices."
        named = [getattr(record, "group", None) for record in records]  # a demonstration has none of its own
        groups = Counter(str(group) for group in named if group is not None)
        total = sum(groups.values())
        shares = ", ".join(f"{visible(group)} {count / total:.0%}" for group, count in groups.most_common())
        yield f"- Groups, by their share of the judgements: {shares or 'not recorded'}."
        same, pairs = _agreement(records)
        known = (
            f"{same / pairs:.1%} of {counted(pairs, 'pairs')}"
            if pairs
            else "unknown, nobody judged the same answers twice"
        )
        yield f"- Agreement of two labelers on the same two answers, ties left out: {known}."
    if survey is not None:
        yield from _survey(survey)
    yield "- The model was moved towards what these people preferred under the guide that they were given. It is not"
    yield "  aligned to everybody who uses it or is affected by it."


def _agreement(records: Sequence[CardRecord]) -> tuple[int, int]:
    """(pairs of judgements that agree, all pairs) of two answers that several labelers decided."""
    sides: dict[tuple[str, str, str], dict[str, bool]] = {}
    for record in records:
        if record.labeler is None or isinstance(record, Demonstration):
            continue
        if isinstance(record, Comparison):
            decided = [(record.completions[w], record.completions[loser]) for w, loser in record.pairs()]
        else:
            texts = (record.a.text, record.b.text)
            decided = {"a": [texts], "b": [texts[::-1]], "tie": []}[record.preferred]
        for better, worse in decided:
            one, other = sorted((better, worse))
            sides.setdefault((as_text(record.prompt), one, other), {})[record.labeler] = better == one
    both = [pair for said in sides.values() for pair in combinations(said.values(), 2)]
    return sum(one == other for one, other in both), len(both)


def _survey(path: Path) -> Iterator[str]:
    """The answers to an anonymous survey, a JSON object a line. Answers of few people are counted together."""
    for question, answers in _questions(path).items():
        counts = Counter(answers)
        shown = {answer: count for answer, count in counts.most_common() if count >= FEWEST}
        rest = sum(counts.values()) - sum(shown.values())
        told = [f"{visible(answer)} {count:,}" for answer, count in shown.items()]
        told += [f"fewer than {FEWEST} each: {rest:,}"] if rest else []
        yield f"- Survey, {visible(question)}: {', '.join(told)}."


def _questions(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if not path.is_file():
        raise UserError(f"{path}: no such file. Give the survey as JSON Lines")
    for place, line in enumerate(lines_of(path), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {place}: is no JSON object. Write the answers of one person on each line")
        for question, answer in row.items():
            found.setdefault(str(question), []).append(str(answer))
    return found


def _measured(manifest: Manifest, evaluations: Sequence[Path]) -> Iterator[str]:
    yield from _figures(manifest.results)
    alarm = manifest.results.get("alarm")
    for sign in [*(manifest.results.get("signs") or []), *([alarm] if alarm else [])]:
        yield f"- warning of the run: {_told(str(sign), manifest)}"
    for check in manifest.preflight:
        if check.get("passed") is False:
            told = f"{check.get('name')}: {check.get('figure')}, where {check.get('bound')} is asked for"
            yield f"- check before the run that failed: {_told(told, manifest)}"
    for judge, found, baseline in _judges(evaluations):
        for model, rate in found["win_rates"].items():
            yield f"- {visible(model)} is preferred to {visible(baseline)} on {_rate(rate)}, judged by {visible(judge)}"


def _figures(results: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The numbers of a run, and its rates with their intervals."""
    for key, value in results.items():
        name = f"{before}{as_words(key)}"
        if isinstance(value, dict) and {"rate", "low", "high", "n"} <= value.keys():
            yield f"- {name}: {100 * value['rate']:.1f} % of {value['n']:,} ({ends(value)})"
        elif isinstance(value, dict) and not key.startswith("by_"):
            yield from _figures(value, f"{name} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"- {name}: {value:,}" if value == int(value) else f"- {name}: {value:,.4g}"


def _told(text: str, manifest: Manifest) -> str:
    """A message of the run, with the names of its models and files in place of their paths."""
    sources = [*manifest.parents.values(), *manifest.data.values()]
    places = {str(source[key]) for source in sources for key in ("ref", "path") if source.get(key)}
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, _name(place))
    return visible(text)


def _failures(evaluations: Sequence[Path]) -> Iterator[str]:
    """The failures that the paper names, where prompts of that use case were judged, and the flags of ratings."""
    judged = list(_judges(evaluations))
    for use_case, words in FAILURES.items():
        found = [
            f"{visible(model)} is preferred to {visible(baseline)} on {_rate(rate)}, judged by {visible(judge)}"
            for judge, figures, baseline in judged
            for model, rate in figures.get("by_use_case", {}).get(use_case, {}).items()
        ]
        yield f"- {words}: {'. '.join(found) or f'not measured (evaluate prompts of the use case {use_case})'}"
    for judge, figures, _ in judged:
        for model, rated in (figures.get("ratings") or {}).get("models", {}).items():
            flags = [f"{as_words(flag)} {100 * rate['mean']:.1f} %" for flag, rate in rated["flags"].items()]
            if flags:
                yield f"- flags of {visible(model)} in {visible(judge)}: {', '.join(flags)}"


def _judges(evaluations: Sequence[Path]) -> Iterator[tuple[str, dict[str, Any], str]]:
    for folder in evaluations:
        result = read_json(folder / comparison.RESULT)
        for judge, found in result["judges"].items():
            yield _without_places(judge), found, result["baseline"]


def _rate(rate: dict[str, Any]) -> str:
    return f"{100 * rate['rate']:.1f} % of {counted(rate['n'], 'prompts')} ({ends(rate)})"
