"""Several answers with a score or a rank for each."""

from __future__ import annotations

from typing import Any

from heedful.data.shapes.chats import prompt_of
from heedful.data.shapes.pairs import nemo
from heedful.data.shapes.parts import by_score, comparison, items, number, rest, text
from heedful.files import Row


def ultrafeedback(row: Row) -> list[Row]:
    """A comparison by `overall_score`. What else is said of each completion stays in `annotations`."""
    answers = items(row, "completions")
    scores = [number(answer, "overall_score") for answer in answers]
    models = [answer.get("model") for answer in answers]
    notes = [rest(answer, "response", "overall_score", "model") for answer in answers]
    more = rest(row, "instruction", "completions", "models") | {"annotations": notes}
    texts = [text(answer, "response") for answer in answers]
    return [comparison(text(row, "instruction"), texts, by_score(scores), more, models=models)]


def nectar(row: Row) -> list[Row]:
    """A comparison by `rank`, 1 is best."""
    answers = items(row, "answers")
    prompt, used = prompt_of(row)
    more = rest(row, "answers", *used)
    if isinstance(more.get("source"), list):
        more["source"] = ", ".join(map(str, more["source"]))
    ranking = by_score([-number(answer, "rank") for answer in answers])
    models = [answer.get("model") for answer in answers]
    return [comparison(prompt, [text(answer, "answer") for answer in answers], ranking, more, models=models)]


def stack_exchange(row: Row) -> list[Row]:
    """A comparison by `pm_score`, which follows from the votes of an answer."""
    answers = items(row, "answers")
    ranking = by_score([number(answer, "pm_score") for answer in answers])
    notes = [rest(answer, "text", "pm_score") for answer in answers]
    more = rest(row, "question", "answers", "qid") | {"annotations": notes}
    more |= {"id": row["qid"]} if row.get("qid") is not None else {}
    return [comparison(text(row, "question"), [text(answer, "text") for answer in answers], ranking, more)]


_GRADES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def helpsteer(rows: list[Row]) -> list[Row]:
    """A comparison of the responses to one prompt by `helpfulness`. The other grades stay in `grades`."""
    if len(rows) < 2:
        raise ValueError(
            "field 'response': the only one to its prompt, so its grades compare nothing. Leave the row out."
        )
    ranking = by_score([number(row, "helpfulness") for row in rows])
    grades = [{name: row[name] for name in _GRADES if name in row} for row in rows]
    left = [rest(row, "prompt", "response", *_GRADES) for row in rows]
    names = dict.fromkeys(name for row in left for name in row)
    columns = {name: [row.get(name) for row in left] for name in names}
    more = {name: values[0] if values.count(values[0]) == len(values) else values for name, values in columns.items()}
    more |= {"grades": grades}
    return [comparison(nemo(text(rows[0], "prompt")), [text(row, "response") for row in rows], ranking, more)]


def helpsteer_prompt(rows: list[Row]) -> list[Row]:
    """The prompt alone, also if it has one response."""
    return [{"prompt": nemo(text(rows[0], "prompt")), **rest(rows[0], "prompt", "response", *_GRADES)}]


def reward_bench_2(row: Row) -> list[Row]:
    """A comparison of the right answers with the wrong ones, which are alike among themselves."""
    right, wrong = row["chosen"], row["rejected"]
    answers = [*right, *wrong]
    if not right or not wrong or not all(isinstance(answer, str) for answer in answers):
        raise ValueError("field 'chosen': must be a list of texts that is not empty, and 'rejected' too")
    more: dict[str, Any] = rest(row, "prompt", "chosen", "rejected", "models")
    models = row.get("models")
    fits = isinstance(models, list) and len(models) == len(answers)
    if models is not None and not fits:
        more["models_as_given"] = models
    tiers = [list(range(len(right))), list(range(len(right), len(answers)))]
    return [comparison(row["prompt"], answers, tiers, more, models=models if fits else None)]


def are_texts(value: Any) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and bool(value) and all(isinstance(part, str) for part in value)
