"""The result of an evaluation as aligned lines for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from heedful.data.text import as_words, counted
from heedful.evaluation.result import Result
from heedful.maths.statistics import ends

PARTS = {
    "by_use_case": "use case",
    "by_source": "source of the prompts",
    "by_group": "group of labelers",
    "by_labelers": "labelers",
}


def describe(result: Result) -> str:
    """One block for all judges, and one for each."""
    blocks = [[*_models(result), *result.get("remarks", [])]]
    for judge, found in result["judges"].items():
        blocks.append([f"judge {judge}", _counts(found), "", *_rates(found, result["baseline"])])
        blocks += [block for block in (_differences(found), _scale(found), *_parts(found), _ratings(found)) if block]
        blocks.append(_remarks(found))
    if result["agreement"]:
        blocks.append(["judges that decide alike, ties left out", *_judges(result["agreement"])])
    if result.get("queue"):
        blocks.append(_queued(result["queue"], result["models"], result["baseline"]))
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _queued(queued: Result, models: Result, baseline: str) -> list[str]:
    """What people have to do now, and the commands that read what they said."""
    name, named = queued["project"], " ".join(f"--model {model}" for model in models)
    lines = [
        f"{counted(queued['pairs'], 'pairs', 'are')} in project {name}"
        + (", which is new" if queued["new_project"] else "")
    ]
    if queued["known"]:
        lines.append(f"there already: {counted(queued['known'], 'pairs')}")
    if not queued["held_out_labelers"]:
        lines.append("It has no held-out labeler yet. Invite some on its page People")
    return [
        *lines,
        "When they have judged:",
        f"  {queued['freeze']}",
        f"  heedful evaluate {named} --baseline {baseline} --judge judged",
    ]


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _models(result: Result) -> list[str]:
    heading = ["model", "", "characters", "list lines", "finished"]
    rows = []
    for name, ref in result["models"].items():
        row = [name + (" (baseline)" if name == result["baseline"] else ""), ref if ref != name else ""]
        for field, form in (("mean_length", "{:.0f}"), ("list_lines", "{:.1f}"), ("finished", "{:.0%}")):
            row.append(form.format(result[field][name]) if result.get(field) else "")
        rows.append(row)
    lines = _table(heading, rows, left=2)
    left_out = [f"{count:,} {as_words(why)}" for why, count in result.get("left_out", {}).items() if count]
    return [*lines, *([f"left out: {', '.join(left_out)}"] if left_out else [])]


def _counts(found: Result) -> str:
    parts = [counted(found["prompts"], "prompts"), counted(found["verdicts"], "verdicts"), f"{found['ties']:,} tied"]
    if found.get("both_bad"):
        parts.append(f"{found['both_bad']:,} of them both bad")
    if found.get("labelers"):
        parts.append(counted(found["labelers"], "labelers"))
    return f"{', '.join(parts)}. Intervals of 95 % count {found['cluster']}s"


def _rates(found: Result, baseline: str) -> list[str]:
    rows: list[list[str]] = []
    reasons: list[str] = []
    for name, rate in found["win_rates"].items():
        length, controlled = found["length"][name], found["controlled"][name]
        rows.append([name, *_cells(rate), _needed(found["prompts_needed"][name])])
        why = controlled.get("why")
        rows.append(["  at equal length", *(["–", "", ""] if why else _cells(controlled)), ""])
        reasons += [f"no win rate of {name} at equal length: {why}"] if why else []
        for label in ("similar", "shorter", "longer"):
            rows.append([f"  where its length is {label}" if label == "similar" else f"  where it is {label}",
                         *_cells(length[label]), ""])  # fmt: skip
    heading = [f"wins over {baseline}", "%", "95 % interval", "prompts", "more prompts to settle it"]
    return [*_table(heading, rows), *reasons]


def _cells(rate: Result | None) -> list[str]:
    if rate is None:
        return ["–", "", "0"]
    return [percent(rate["rate"]), ends(rate, percent), f"{int(rate['n']):,}"]


def _needed(count: int | None) -> str:
    return "" if count is None else "settled" if count == 0 else f"{count:,}"


def _differences(found: Result) -> list[str]:
    rows = [
        [f"{one['a']} over {one['b']}", points(one["mean"]), ends(one, points), f"{one['n']:,}"]
        for one in found["differences"]
    ]
    return _table(["paired difference of these", "points", "95 % interval", "prompts"], rows) if rows else []


def _scale(found: Result) -> list[str]:
    scale = found["scale"]
    if scale is None:
        return []
    rows = [[name, f"{one['mean']:+.2f}", ends(one, "{:+.2f}".format)] for name, one in scale["strengths"].items()]
    rows.sort(key=lambda row: -float(row[1]))
    lines = _table(["Bradley-Terry scale", "", "95 % interval"], rows)
    note = "One model wins or loses all that connects it, so the scale is pulled towards 0 and has no interval."
    return [*lines, *([note] if scale["regularised"] else [])]


def _parts(found: Result) -> list[list[str]]:
    blocks = []
    for field, label in PARTS.items():
        parts = found.get(field, {})
        if len(parts) > (field == "by_labelers" and "held_out" not in parts):
            rows = [
                [as_words(part) if field == "by_labelers" else part, name, *_cells(rate)]
                for part, rates in parts.items()
                for name, rate in rates.items()
            ]
            blocks.append(_table([label, "", "%", "95 % interval", "prompts"], rows, left=2))
    return blocks


def _ratings(found: Result) -> list[str]:
    lines: list[str] = []
    for label, models in (found.get("ratings") or {}).items():
        rows = []
        for name, rated in models.items():
            overall = rated["overall"]
            if overall is not None:
                rows.append(
                    [name, "overall", f"{overall['mean']:.2f}", ends(overall, "{:.2f}".format), f"{overall['n']:,}"]
                )
            rows += [
                [name, as_words(flag), percent(rate["mean"]) + " %", ends(rate, percent), f"{rate['n']:,}"]
                for flag, rate in rated["flags"].items()
            ]
        whose = "ratings" if label == "models" else f"ratings of {as_words(label)} labelers"
        lines += [*([""] if lines else []), *_table([whose, "", "", "95 % interval", "prompts"], rows, left=2)]
    return lines


def _remarks(found: Result) -> list[str]:
    lines = []
    if found.get("mean_score"):
        lines.append("mean score: " + ", ".join(f"{name} {score:.3f}" for name, score in found["mean_score"].items()))
    if found.get("labeler_agreement"):
        agreed = found["labeler_agreement"]
        lines.append(f"labelers agree on {percent(agreed['rate'])} % of {counted(agreed['pairs'], 'pairs')} of choices")
    for name, count in found.get("no_opinion", {}).items():
        lines.append(f"no opinion: {name} on {counted(count, 'answers')}")
    if found.get("other_rows"):
        lines.append(f"rows about other models: {found['other_rows']:,}")
    if found["kind"] == "endpoint":
        bias, asked = found["position_bias"], found["requests"]
        if bias["turned"] is not None:
            first = bias["first_preferred"]
            side = "" if first is None else f", of these {percent(first)} % to the first answer"
            lines.append(f"position bias: {percent(bias['turned'])} % of verdicts turn with the order{side}")
        lines.append(f"requests: {asked:,} sent, {found['unreadable']:,} unreadable, {found['failed']:,} failed")
        if found["comparisons_left_out"]:
            left = counted(found["comparisons_left_out"], "comparisons")
            lines.append(f"left out: {left} without two readable verdicts")
        if found.get("first_failure"):
            lines.append(f"the first failure: {found['first_failure']}")
    return lines


def _judges(agreed: Sequence[Result]) -> list[str]:
    rows = [
        [
            " and ".join(one["judges"]),
            "–" if one["rate"] is None else f"{percent(one['rate'])} %",
            f"of {one['pairs']:,}",
        ]
        for one in agreed
    ]
    return _table([], rows)


def _table(heading: list[str], rows: list[list[str]], left: int = 1) -> list[str]:
    """Aligned columns, the first ones to the left, without empty ones."""
    every = [heading, *rows] if heading else rows
    used = [column for column in range(len(every[0])) if column == 0 or any(row[column] for row in rows)]
    widths = {column: max(len(row[column]) for row in every) for column in used}
    return [
        "  ".join(f"{row[c]:<{widths[c]}}" if c < left else f"{row[c]:>{widths[c]}}" for c in used).rstrip()
        for row in every
    ]
