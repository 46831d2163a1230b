"""A report from run directories alone. Runs of a stage stand side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.configs import registry
from heedful.data.records import Message, as_text
from heedful.data.text import as_words
from heedful.files import rows_of
from heedful.plots.layout import number
from heedful.report import comparison, examined, lineage, page
from heedful.report.curves import other_charts, over_optimisation, stage_charts, watched
from heedful.report.page import Estimate, Estimates, Fact, Grid, Group, Report, RunFacts, SampleAnswer, SampleView
from heedful.runs.listing import duration, flat, named, origin
from heedful.runs.manifest import Manifest
from heedful.runs.run import Run

MOST_MORE = 30
FEW = 6
CHECKED = {True: "passed", False: "failed", None: "not checked"}
RIGHT, LONGER = "right on held-out pairs", "longer wins"
SAMPLES = 24


def write_for_runs(given: Sequence[str | Path], out: str | Path, *, title: str | None = None) -> Path:
    """Write the report of runs of any stages, and of results of `heedful evaluate`, `benchmark` and `trust`.

    UserError for any other path.
    """
    if not given:
        raise UserError("no run given. Name at least one run directory")
    page.check_replaceable(Path(out))
    everything = named(given)
    compared = {
        name: comparison.of_folder(name, path) for name, path in everything.items() if comparison.is_evaluation(path)
    } | {name: examined.of_folder(name, path) for name, path in everything.items() if examined.is_examined(path)}
    paths = {name: path for name, path in everything.items() if name not in compared}
    manifests = {name: Run.open(path).manifest for name, path in paths.items()}
    stages = sorted(
        {manifest.stage for manifest in manifests.values()}, key=lambda stage: (registry.stage(stage).place, stage)
    )
    by_stage = {stage: {n: p for n, p in paths.items() if manifests[n].stage == stage} for stage in stages}
    content = Report(
        title or ", ".join(everything),
        story=_story(manifests) if manifests else "",
        figures=[figure for one in compared.values() for figure in one.figures],
        grids=[grid for one in compared.values() for grid in one.grids],
        checks=[grid for name, manifest in manifests.items() for grid in _checks(name, manifest)],
        lineage=[lineage.of_run(name, path) for name, path in paths.items()],
        facts=[fact for one in compared.values() for fact in one.facts],
        signs=[
            *(sign for one in compared.values() for sign in one.signs),
            *(sign for name, manifest in manifests.items() for sign in _signs(name, manifest)),
        ],
        groups=[
            *(group for one in compared.values() for group in one.groups),
            *together([stage_group(stage, chosen) for stage, chosen in by_stage.items()]),
        ],
        quality=[part for name, manifest in manifests.items() for part in reward_quality(name, manifest.results)],
        samples=told.samples
        if (told := next((one for one in compared.values() if one.samples), None))
        else samples(paths),
        tally=told.tally if told else None,
        samples_note=told.samples_note if told else "",
        shown=told.shown if told else (),
        score_name="score",
        runs=[run_facts(name, paths[name], manifest) for name, manifest in manifests.items()],
    )
    return page.write(out, content)


def stage_group(stage: str, runs: Mapping[str, str | Path]) -> Group:
    """The charts of the runs of a stage. Metrics without a chart of the stage are folded."""
    record = registry.stage(stage)
    charts = stage_charts(stage, runs)
    score_for_kl = over_optimisation(runs) if record.online else None
    if score_for_kl is not None:
        charts.append(score_for_kl)
    if record.online and (beside := watched(runs)) is not None:
        charts.append(beside)
    others = other_charts(stage, runs)[:MOST_MORE]
    if not charts:
        charts, others = others[:6], others[6:]
    return Group(record.heading, charts, more=others)


def together(groups: Sequence[Group]) -> list[Group]:
    """The same charts with fewer headings: neighbours with few charts share one."""
    joined: list[Group] = []
    for group in groups:
        last = joined[-1] if joined else None
        if last and len(last.charts) + len(group.charts) <= FEW:
            joined[-1] = Group(f"{last.title} · {group.title}", last.charts + group.charts, more=last.more + group.more)
        elif group.charts or group.more:
            joined.append(group)
    return joined


def reward_quality(name: str, results: Mapping[str, Any]) -> list[Estimates]:
    """The accuracy of a reward model on held-out rankings (R6), from the results of its run. Empty for other runs."""
    valid = results.get("valid")
    if not isinstance(valid, dict):
        return []
    main = [
        _estimate(RIGHT, valid.get("accuracy")),
        _estimate(LONGER, valid.get("longer_wins"), reference=True),
    ]
    parts = [Estimates(f"{name}: accuracy", [row for row in main if row is not None])]
    headings = {"by_length_difference": "by difference of length", "by_labeler": "by labeler", "by_group": "by group"}
    for key, heading in headings.items():
        rows = [_estimate(label, rate) for label, rate in (valid.get(key) or {}).items()]
        parts.append(Estimates(f"{name}: {heading}", [row for row in rows if row is not None]))
    return [part for part in parts if part.rows]


def samples(runs: Mapping[str, Path], most: int = SAMPLES) -> list[SampleView]:
    """The latest texts of each run. Answers to one prompt stand side by side."""
    answers: dict[str, list[SampleAnswer]] = {}
    for name, path in runs.items():
        rows = [row for row in rows_of(path / "samples.jsonl") if "prompt" in row and "completion" in row]
        for row in rows[-most:]:
            score = next((row[key] for key in ("score", "reward") if isinstance(row.get(key), int | float)), None)
            label = f"{name}, step {row['step'] + 1}" if isinstance(row.get("step"), int) else name
            answers.setdefault(_prompt_text(row["prompt"]), []).append(
                SampleAnswer(label, str(row["completion"]), score)
            )
    latest = list(answers.items())[::-1]
    shared = sorted(latest, key=lambda item: -len(item[1]))
    return [SampleView(prompt, found) for prompt, found in shared[:most]]


def run_facts(name: str, path: Path, manifest: Manifest) -> RunFacts:
    """A manifest as facts: first the results, then the origin of the run."""
    results = {key: value for key, value in flat(manifest.results).items() if isinstance(value, int | float | str)}
    shown = {key: _result(value) for key, value in results.items()}
    facts = [Fact(as_words(key), value) for key, value in shown.items() if not key.startswith("valid.by_")]
    versions = ", ".join(f"{key} {value}" for key, value in manifest.versions.items() if value)
    about = {
        "status": manifest.status, "seed": manifest.seed, "took": duration(manifest.seconds),
        "started": manifest.created, "run": manifest.id, "directory": path,
        "code": manifest.revision, "versions": versions,
    }  # fmt: skip
    facts += [Fact(key, str(value)) for key, value in about.items() if value not in (None, "")]
    for sources in (manifest.parents, manifest.data):
        facts += [Fact(role, origin(source)) for role, source in sources.items()]
    config = [Fact(key, str(value)) for key, value in flat(manifest.config).items() if value is not None]
    return RunFacts(name, manifest.stage, facts, config)


def _checks(name: str, manifest: Manifest) -> list[Grid]:
    """What was checked before a run began, from its manifest."""
    cells = []
    for row in manifest.preflight:
        passed, remedy = row.get("passed"), str(row.get("remedy", ""))
        said = [str(row.get(key, "")) for key in ("name", "figure", "bound")]
        cells.append([*said, CHECKED[passed], "" if passed else remedy])
    return [Grid(name, ["check", "figure", "bound", "result", "remedy"], cells)] if cells else []


def _story(manifests: Mapping[str, Manifest]) -> str:
    told = []
    for name, manifest in manifests.items():
        parents = [source.get("ref") for source in manifest.parents.values()]
        origin = f" from {', '.join(str(parent) for parent in dict.fromkeys(parents))}" if parents else ""
        told.append(f"{name} ({as_words(manifest.stage)}{origin}, {manifest.status}, {duration(manifest.seconds)})")
    return ". ".join(told) + "."


def _signs(name: str, manifest: Manifest) -> list[str]:
    """What to know about a run before you trust its figures."""
    results = manifest.results
    found = [f"{name}: {sign}" for sign in results.get("signs") or []]
    if manifest.status != "finished":
        reason = f" ({manifest.reason})" if manifest.reason else ""
        found.append(f"{name}: {manifest.status}, not finished{reason}")
    if told := results.get("stopped") or results.get("alarm"):
        found.append(f"{name}: {told}")
    found += [
        f"{name}: check before the run failed. {check.get('name')}: {check.get('figure')}, and the bound is "
        f"{check.get('bound')}"
        for check in manifest.preflight
        if check.get("passed") is False
    ]
    rows = {row.name: row.rate for part in reward_quality(name, results)[:1] for row in part.rows}
    if len(rows) == 2 and rows[RIGHT] <= rows[LONGER]:
        found.append(
            f"{name}: right on {rows[RIGHT]:.1%} of held-out pairs, no better than longer wins ({rows[LONGER]:.1%})"
        )
    return found


def _estimate(name: str, rate: Any, *, reference: bool = False) -> Estimate | None:
    if not isinstance(rate, dict) or not {"rate", "low", "high", "n"} <= rate.keys():
        return None
    return Estimate(name, rate["rate"], rate["low"], rate["high"], int(rate["n"]), reference=reference)


def _result(value: float | str) -> str:
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else number(value)


def _prompt_text(prompt: Any) -> str:
    if isinstance(prompt, str):
        return prompt
    try:
        return as_text([Message.model_validate(message) for message in prompt])
    except (TypeError, ValueError):
        return json.dumps(prompt, ensure_ascii=False)
