"""Exports of labelling tools: Label Studio, Argilla, Prodigy and Potato."""

from __future__ import annotations

import json
import re
from typing import Any

from heedful.data.shapes.chats import ANSWERS
from heedful.data.shapes.parts import NoJudgement, by_score, comparison, number, rest
from heedful.files import Row

_ASKING = ("prompt", "instruction", "question", "input", "context", "text", "query")


def _prompt_in(fields: Row, answers: set[str]) -> str:
    """The name of the field that holds the prompt: one of the usual names, or the only text that is no answer."""
    free = [name for name, value in fields.items() if isinstance(value, str | list) and name not in answers]
    usual = [name for name in _ASKING if name in free]
    if usual or len(free) == 1:
        return (usual or free)[0]
    shown = ", ".join(free) or "none"
    raise ValueError(f"no field is the prompt (found: {shown}). Call it prompt, or name it with --map prompt=FIELD.")


# --- Label Studio


def label_studio(row: Row) -> list[Row]:
    """A comparison for each annotation of a task: of a Ranker, or of Pairwise."""
    data = row["data"] if isinstance(row["data"], dict) else {}
    found = []
    for annotation in (kept := _kept(row)):
        results = annotation.get("result") or []
        values = [result.get("value") if isinstance(result, dict) else None for result in results]
        for result, value in zip(results, values, strict=True):
            if isinstance(value, dict) and (ranked := _judged(data, value, str(result.get("to_name", "")))):
                others = [other for other in results if other is not result]
                found.append(_compared(data, ranked, _annotated(row, annotation, others), _who(annotation)))
    return found or _without(kept, row, "a Ranker or of Pairwise")


def _kept(row: Row) -> list[Row]:
    return [annotation for annotation in row["annotations"] or [] if not annotation.get("was_cancelled")]


def _without(kept: list[Row], row: Row, tags: str) -> list[Row]:
    """The error of a task whose annotations hold nothing to read."""
    types = dict.fromkeys(str(result.get("type")) for one in kept for result in one.get("result") or [])
    if types:
        raise ValueError(f"field 'annotations': holds no result of {tags} (but {', '.join(types)}). Leave the row out.")
    cancelled = len(row["annotations"] or []) - len(kept)
    raise NoJudgement("the task has no annotation" + (f" that counts ({cancelled} cancelled)" if cancelled else ""))


def label_studio_kind(row: Row) -> str:
    """demonstrations for tasks in which people only wrote texts, else comparisons."""
    annotations = row["annotations"] if isinstance(row["annotations"], list) else []
    results = [one for kept in annotations if isinstance(kept, dict) for one in kept.get("result") or []]
    types = {str(result.get("type")) for result in results if isinstance(result, dict)}
    return "demonstrations" if "textarea" in types and not types & {"pairwise", "ranker"} else "comparisons"


def label_studio_texts(rows: list[Row]) -> list[Row]:
    """A demonstration for each annotation of a task in which a person wrote an answer into a TextArea."""
    (row,) = rows
    data = row["data"] if isinstance(row["data"], dict) else {}
    found = []
    for annotation in (kept := _kept(row)):
        results = annotation.get("result") or []
        texts = [result for result in results if result.get("type") == "textarea"]
        written = [result for result in texts if result.get("from_name") in ANSWERS] if len(texts) > 1 else texts
        if not written:
            names = ", ".join(str(result.get("from_name")) for result in texts)
            if names:
                raise ValueError(f"field 'annotations': none of the texts {names} is called answer. Rename its tag.")
            continue
        said = written[0]["value"]["text"]
        said = said if isinstance(said, list) else [said]
        if len(written) > 1 or len(said) != 1:
            raise ValueError("field 'annotations': holds several texts of one person. Keep the one that is the answer.")
        field = _prompt_in({k: v for k, v in data.items() if k in _ASKING} or data, set())
        more = _annotated(row, annotation, [other for other in results if other is not written[0]])
        answer = {"completion": said[0], "labeler": _who(annotation)}
        found.append({"prompt": data[field], **rest(data, field), **more, **answer})
    return found or _without(kept, row, "a TextArea")


def _annotated(task: Row, annotation: Row, others: list[Row]) -> Row:
    """What else an annotation says, such as its other results."""
    found = {"id": task.get("id"), "annotation_id": annotation.get("id"), "other_results": others}
    found |= {name: annotation.get(name) for name in ("lead_time", "ground_truth")}
    found["predictions"] = task.get("predictions")
    return {name: value for name, value in found.items() if value or (value == 0 and value is not False)}


def _who(annotation: Row) -> Any:
    who = annotation.get("completed_by")
    return who.get("email") or who.get("id") if isinstance(who, dict) else who


def label_studio_min(row: Row) -> list[Row]:
    """A comparison from a task of JSON_MIN or CSV: the field of the tag holds the value."""
    tags = [name for name in row if _value(row[name]) is not None]
    data = rest(row, *tags, "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "id")
    for name in tags:
        if ranked := _judged(data, _value(row[name]) or {}, ""):
            named = {key: row[key] for key in ("id", "annotation_id", "lead_time") if row.get(key) is not None}
            return [_compared(data, ranked, named, row.get("annotator"))]
    raise NoJudgement("the task has no annotation")


def is_label_studio_min(row: Row) -> bool:
    """Whether a row is a task of JSON_MIN or CSV with Pairwise or a Ranker."""
    return "annotation_id" in row and "annotator" in row and any(_value(value) is not None for value in row.values())


def _value(value: Any) -> Row | None:
    """The value of Pairwise or a Ranker, which the export writes as a list of one, in CSV as JSON."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[{")):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return value if isinstance(value, dict) and {"selected", "ranker"} & value.keys() else None


_Ranked = tuple[list[str], list[Any], list[list[int]]]
"""(fields of the answers, answers, ranking)"""


def _judged(data: Row, value: Row, to_name: str) -> _Ranked | None:
    if "selected" in value:
        return _pairwise(data, value["selected"], to_name)
    if isinstance(value.get("ranker"), dict):
        return _ranker(data, value["ranker"])
    return None


def _pairwise(data: Row, selected: Any, to_name: str) -> _Ranked:
    names = [name.strip() for name in to_name.split(",")]
    if len(names) != 2 or not all(name in data for name in names):
        prompt = _prompt_in({k: v for k, v in data.items() if k in _ASKING} or data, set())
        names = [name for name, value in data.items() if isinstance(value, str) and name != prompt]
    if len(names) != 2:
        raise ValueError(
            f"two fields must hold the answers, and these could: {', '.join(names)}. Call them as the tag's toName."
        )
    if selected not in ("left", "right"):
        raise ValueError(f"Pairwise selected {selected!r}, which is neither left nor right. Leave the row out.")
    better = 0 if selected == "left" else 1
    return names, [data[name] for name in names], [[better], [1 - better]]


def _ranker(data: Row, value: Row) -> _Ranked:
    orders = [order for order in value.values() if isinstance(order, list) and order]
    if len(orders) != 1:
        raise ValueError("the Ranker has several buckets, which are no one ranking. Leave the row out.")
    (order,) = orders
    for name, found in data.items():
        if isinstance(found, list) and found and all(isinstance(item, dict) and "id" in item for item in found):
            place = {item["id"]: k for k, item in enumerate(found)}
            if set(order) != set(place):
                raise ValueError(f"field '{name}': the Ranker ranks other items ({', '.join(map(str, order))})")
            texts = [item.get("body", item.get("text", item.get("html"))) for item in found]
            return [name], texts, [[place[item]] for item in order]
    raise ValueError("no field holds the list of items that the Ranker ranks. Export the tasks with their data.")


def _compared(data: Row, ranked: _Ranked, named: Row, labeler: Any) -> Row:
    names, answers, ranking = ranked
    field = _prompt_in(data, set(names))
    return comparison(data[field], answers, ranking, rest(data, field, *names) | named, labeler=labeler)


# --- Argilla


def argilla(row: Row) -> list[Row]:
    """A comparison for each submitted response to a ranking question, from records of version 2."""
    fields = row["fields"]
    found = []
    for name, responses in (row["responses"] or {}).items():
        for response in responses or []:
            if response.get("status", "submitted") == "submitted" and (tiers := _tiers(response.get("value"))):
                found.append(_ranked(fields, tiers, name, response.get("user_id"), row) | _others(row, name))
    return _some(found, [name for name, responses in (row["responses"] or {}).items() if responses])


def _others(row: Row, question: str) -> Row:
    """What else an Argilla record holds: answers to other questions, and suggestions."""
    answers = {name: given for name, given in (row["responses"] or {}).items() if name != question and given}
    found = {"other_responses": answers, "suggestions": row.get("suggestions")}
    return {name: value for name, value in found.items() if value}


def argilla_flat(row: Row) -> list[Row]:
    """The same from the columns of a data set: `QUESTION.responses`, `.users` and `.status`."""
    questions = [name.removesuffix(".responses") for name in row if name.endswith(".responses")]
    fields = {
        name: value for name, value in row.items()
        if name not in ("id", "status", "_server_id") and not any(name.startswith(f"{q}.") for q in questions)
    }  # fmt: skip
    found: list[Row] = []
    answered: list[str] = []
    for question in questions:
        values = row[f"{question}.responses"] or []
        users = row.get(f"{question}.responses.users") or [None] * len(values)
        states = row.get(f"{question}.responses.status") or ["submitted"] * len(values)
        if not len(values) == len(users) == len(states):
            raise ValueError(f"field '{question}.responses': its users or states are more or fewer. Leave the row out.")
        for value, user, status in zip(values, users, states, strict=True):
            answered.append(question)
            if status == "submitted" and (tiers := _tiers(value)):
                others = {
                    name: row[name] for q in questions for name in row if q != question and name.startswith(f"{q}.")
                }
                others |= {name: row[name] for name in row if name.startswith(f"{question}.suggestion")}
                left = {name: value for name, value in others.items() if value is not None}
                found.append(_ranked(fields, tiers, question, user, row) | left)
    return _some(found, answered)


def argilla_first(row: Row) -> list[Row]:
    """The same from data sets of version 1: a list of responses in the field of the question."""
    questions = [name for name in row if _is_response_list(row[name])]
    tools = {part for name in questions for part in (name, f"{name}-suggestion", f"{name}-suggestion-metadata")}
    fields = rest(row, *tools, "external_id", "metadata", "status", "vectors")
    found = []
    for name in questions:
        for response in row[name]:
            if response.get("status") == "submitted" and (tiers := _tiers(response.get("value"))):
                others = {part: row[part] for part in tools - {name} if row.get(part) and not _is_empty(row[part])}
                found.append(_ranked(fields, tiers, name, response.get("user_id"), row) | others)
    return _some(found, questions)


def _is_empty(value: Any) -> bool:
    """Whether a suggestion of version 1 says nothing."""
    return isinstance(value, dict) and not any(value.values())


def is_argilla_first(row: Row) -> bool:
    """Whether a row has a question with responses as version 1 of Argilla writes them."""
    return any(_is_response_list(value) for value in row.values())


def _is_response_list(value: Any) -> bool:
    wanted = {"user_id", "value", "status"}
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and wanted <= v.keys() for v in value)


def _tiers(value: Any) -> list[tuple[str, float]]:
    """(option, rank) of the value of a ranking question. Empty for another question."""
    if isinstance(value, dict) and isinstance(value.get("value"), list) and isinstance(value.get("rank"), list):
        if len(value["value"]) != len(value["rank"]):
            raise ValueError("field 'rank': holds another number of entries than 'value'. Leave the row out.")
        parts = zip(value["value"], value["rank"], strict=True)
        return [(str(option), number({"rank": rank}, "rank")) for option, rank in parts]
    if isinstance(value, list) and value and all(isinstance(option, str) for option in value):
        return [(option, float(rank)) for rank, option in enumerate(value)]
    if isinstance(value, list) and value and all(isinstance(part, dict) and "rank" in part for part in value):
        return [(str(part.get("value")), number(part, "rank")) for part in value]
    return []


def _ranked(fields: Row, tiers: list[tuple[str, float]], question: str, user: Any, row: Row) -> Row:
    spelled = {_plain(name): name for name in fields}
    names = [spelled.get(_plain(option)) for option, _ in tiers]
    if None in names or len(names) < 2:
        shown = ", ".join(option for option, _ in tiers)
        raise ValueError(
            f"field '{question}': ranks {shown}, which are no fields of the record. Name the options as the fields."
        )
    order = sorted(range(len(names)), key=lambda k: list(fields).index(str(names[k])))
    answers = [fields[str(names[k])] for k in order]
    field = _prompt_in(fields, {str(name) for name in names})
    more = rest(fields, field, *map(str, names)) | ({"id": row["id"]} if row.get("id") is not None else {})
    if row.get("metadata") not in (None, {}, "{}"):
        more["metadata"] = row["metadata"]
    ranking = by_score([-tiers[k][1] for k in order])
    return comparison(fields[field], answers, ranking, more, labeler=user)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _some(found: list[Row], answered: list[str]) -> list[Row]:
    if not found and answered:
        names = ", ".join(dict.fromkeys(answered))
        raise NoJudgement(f"no submitted response ranks the answers (answered: {names})")
    if not found:
        raise NoJudgement("the record has no response")
    return found


# --- Prodigy and Potato


def prodigy(row: Row) -> list[Row]:
    """A comparison from the choice interface: accepted options against the others."""
    if row["answer"] != "accept":
        raise NoJudgement(f"the task was answered with {row['answer']}")
    options = row.get("options")
    accepted = row.get("accept")
    if not isinstance(options, list) or not isinstance(accepted, list):
        raise ValueError(
            "field 'answer': is Prodigy's verdict on a task, and no answer to it. Only the choice interface, with"
            " options and accept, can be read as a comparison."
        )
    ids = [option.get("id") for option in options if isinstance(option, dict)]
    best = [k for k, name in enumerate(ids) if name in accepted]
    worse = [k for k in range(len(ids)) if k not in best]
    if not best or not worse:
        raise NoJudgement("none or all of the options were accepted")
    texts = [option.get("text", option.get("html")) for option in options]
    more = rest(row, "options", "accept", "answer", "_annotator_id", "_session_id")
    notes = [rest(option, "id", "text", "html") for option in options]
    more |= {"option_notes": notes} if any(notes) else {}
    field = _prompt_in(more, set())
    labeler = row.get("_annotator_id", row.get("_session_id"))
    return [comparison(more[field], texts, [best, worse], rest(more, field), labeler=labeler)]


def is_prodigy(row: Row) -> bool:
    """Whether a row is a task that was answered in Prodigy."""
    return "_task_hash" in row and row.get("answer") in ("accept", "reject", "ignore")


def potato(row: Row) -> list[Row]:
    """Nothing: Potato writes the page that people saw, and not the prompt and the answers."""
    raise ValueError(
        "field 'displayed_text': is a page, in which prompt and answers are no longer apart. Join label_annotations"
        " with your own data by instance_id, and write prompt, completions, ranking and labeler."
    )
