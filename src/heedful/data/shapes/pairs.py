"""Pairs of answers: comparisons of two, and choices with the models that wrote the answers."""

from __future__ import annotations

import json
from typing import Any

from heedful.data.reading.values import parsed
from heedful.data.shapes.chats import asked, chat, is_transcript, message, prompt_of, transcript, turns_of
from heedful.data.shapes.parts import (
    NoJudgement,
    better_of_two,
    by_score,
    comparison,
    items,
    number,
    rest,
    text,
    truth,
)  # fmt: skip
from heedful.files import Row

_LAST = "must end with the assistant's answer. Complete it or leave the row out."
_MODELS = (("chosen_model", "rejected_model"), ("chosen-model", "rejected-model"))


def pairwise(row: Row) -> list[Row]:
    """A comparison of two from `chosen` and `rejected`, and whatever field holds the prompt.

    The answers are strings, messages, message lists, or full "\\n\\nHuman: ...\\n\\nAssistant: ..." transcripts.
    """
    chosen, rejected = (_messages(row[name], name) for name in ("chosen", "rejected"))
    prompt, used = prompt_of(row)
    if isinstance(chosen, list) and isinstance(rejected, list):
        prompt, completions = _cut(prompt, {"chosen": chosen, "rejected": rejected})
    elif not isinstance(chosen, str) or not isinstance(rejected, str):
        raise ValueError("field 'chosen': must be a string or a list of messages, and 'rejected' of the same kind")
    elif is_transcript(chosen) and is_transcript(rejected):
        prompt, completions = _cut(prompt, {"chosen": transcript(chosen), "rejected": transcript(rejected)})
    elif prompt is None and row.get("prompt") is None:
        raise ValueError("field 'prompt': missing. Give the prompt, or full transcripts in 'chosen' and 'rejected'.")
    elif isinstance(row.get("prompt"), str) and is_transcript(row["prompt"]):
        # the answers of a transcript start with the space after "Assistant:"
        completions = [chosen.removeprefix(" "), rejected.removeprefix(" ")]
    else:
        prompt, completions = row.get("prompt") if prompt is None else prompt, [chosen, rejected]
    names = next((pair for pair in _MODELS if pair[0] in row and pair[1] in row), ())
    more = rest(row, "chosen", "rejected", *used, *names) | _left({"chosen": chosen, "rejected": rejected})
    models = [row[name] for name in names] or None
    return [comparison(prompt, completions, [[0], [1]], more, models=models)]


def _messages(value: Any, field: str) -> Any:
    """An answer in one spelling: a string, or a list of messages."""
    if isinstance(value, dict):
        return [message(value, field)]
    return chat(value, field) if isinstance(value, list) else value


def _left(sides: dict[str, Any]) -> Row:
    """What else the last messages hold besides their texts, such as thoughts."""
    last = {name: turns[-1] for name, turns in sides.items() if isinstance(turns, list) and turns}
    notes = {f"{name}_message": rest(turn, "role", "content", "weight") for name, turn in last.items()}
    return {name: note for name, note in notes.items() if any(value is not None for value in note.values())}


def _cut(prompt: Any, sides: dict[str, list[Row]]) -> tuple[Any, list[Any]]:
    """Split two dialogues into the prompt that they share and the last answer of each."""
    if isinstance(prompt, list):
        sides = {name: turns if turns[: len(prompt)] == prompt else prompt + turns for name, turns in sides.items()}
    for name, turns in sides.items():
        if not turns or turns[-1].get("role") != "assistant":
            raise ValueError(f"field '{name}': {_LAST}")
        if turns[-1].get("tool_calls"):
            raise ValueError(f"field '{name}': the last answer calls a tool. Only text can be compared. Leave it out.")
    shared, other = ([*turns[:-1]] for turns in sides.values())
    if shared != other:
        one, two = sides
        raise ValueError(
            f"field '{two}': differs from '{one}' before the last answer. Cut both there or leave the row out."
        )
    if isinstance(prompt, str):
        if shared and (shared[-1].get("role") != "user" or shared[-1].get("content") != prompt):
            raise ValueError("field 'prompt': is not the last question of 'chosen'. Delete the field or correct it.")
        prompt = shared or prompt
    else:
        prompt = shared
    return prompt, [turns[-1].get("content") for turns in sides.values()]


def rejected_response(row: Row) -> list[Row]:
    """A comparison from `messages` with the good answer last, and `rejected_response`."""
    turns = chat(row["messages"], "messages")
    if not turns or turns[-1].get("role") != "assistant":
        raise ValueError(f"field 'messages': {_LAST}")
    return pairwise({**rest(row, "messages", "rejected_response"), "prompt": turns[:-1], "chosen": turns[-1:],
                     "rejected": [{"role": "assistant", "content": text(row, "rejected_response")}]})  # fmt: skip


def openai_preference(row: Row) -> list[Row]:
    """A comparison from OpenAI's files for preference fine-tuning."""
    given = row["input"] if isinstance(row["input"], dict) else {}
    outputs = [chat(row[name], name) for name in ("preferred_output", "non_preferred_output")]
    more = {key: value for key, value in given.items() if key != "messages" and value not in (None, [])}
    prompt, completions = _cut(
        chat(given.get("messages"), "input.messages"),
        dict(zip(("preferred_output", "non_preferred_output"), outputs, strict=True)),
    )
    extra = rest(row, "input", "preferred_output", "non_preferred_output")
    notes = _left({"preferred": outputs[0], "non_preferred": outputs[1]})
    return [comparison(prompt, completions, [[0], [1]], extra | more | notes)]


def arena(row: Row) -> list[Row]:
    """A choice from two conversations with a `winner`. Conversations of several turns must share all but the last."""
    sides = {name: chat(row[name], name) for name in ("conversation_a", "conversation_b")}
    prompt, answers = _cut(None, sides)
    return [_choice(row, prompt, answers, _winner(row["winner"]), *sides) | _left(sides)]


_WINNERS = {
    "model_a": "a", "model_b": "b", "a": "a", "b": "b",
    "tie": "tie", "tie (bothbad)": "both_bad", "both_bad": "both_bad", "bothbad": "both_bad",
}  # fmt: skip


def _winner(value: Any) -> str:
    if value not in _WINNERS:
        raise ValueError(f"field 'winner': {value!r} is none of {', '.join(_WINNERS)}")
    return _WINNERS[value]


def _choice(row: Row, prompt: Any, answers: list[Any], winner: str, *used: str) -> Row:
    more = rest(row, *used, "prompt", "model_a", "model_b", "winner", "judge", "question_id")
    named: Row = {"id": row["question_id"]} if row.get("question_id") is not None else {}
    if row.get("judge") is not None:
        named["labeler"] = row["judge"]
    if winner == "both_bad":
        named["none_acceptable"] = True
    sides = {
        side: {"text": answer, **({"model": row[f"model_{side}"]} if row.get(f"model_{side}") is not None else {})}
        for side, answer in zip("ab", answers, strict=True)
    }
    return {"prompt": prompt, **more, **named, **sides, "preferred": "tie" if winner == "both_bad" else winner}


def arena_55k(row: Row) -> list[Row]:
    """A choice from turns as JSON lists in `prompt`, `response_a` and `response_b`, with a column for each outcome."""
    turns = {name: _json_list(row, name) for name in ("prompt", "response_a", "response_b")}
    if len({len(parts) for parts in turns.values()}) != 1:
        raise ValueError("field 'prompt': has another number of turns than the responses")
    sides = {
        name: [turn for ask, reply in zip(turns["prompt"], turns[name], strict=True) for turn in turns_of(ask, reply)]
        for name in ("response_a", "response_b")
    }
    prompt, answers = _cut(None, sides)
    columns = {"winner_model_a": "a", "winner_model_b": "b", "winner_tie": "tie"}
    won = [winner for column, winner in columns.items() if truth(row.get(column))]
    if len(won) != 1:
        raise ValueError("field 'winner_model_a': exactly one of winner_model_a, winner_model_b, winner_tie must be 1")
    return [_choice(row, prompt, answers, won[0], *sides, *columns)]


def _json_list(row: Row, name: str) -> list[str]:
    value = row[name]
    if isinstance(value, str):
        try:
            value = parsed(value)
        except json.JSONDecodeError:
            raise ValueError(f"field '{name}': must be a JSON list of texts, as in [\"...\"]") from None
        except ValueError as error:
            raise ValueError(f"field '{name}': {error}") from None
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise ValueError(f"field '{name}': must be a list of texts without gaps. Leave the row out.")
    return value


def response_j(row: Row) -> list[Row]:
    """A comparison of two answers, of which `response_j` has more votes."""
    more = rest(row, "question", "response_j", "response_k", "qid")
    more |= {"id": row["qid"]} if row.get("qid") is not None else {}
    answers = [text(row, "response_j"), text(row, "response_k")]
    return [comparison(text(row, "question"), answers, [[0], [1]], more)]


def shp(row: Row) -> list[Row]:
    """A comparison of two comments on a post: `labels` is 1 if the first one has more votes."""
    label = truth(row["labels"])
    if label is None:
        raise ValueError("field 'labels': must be 0 or 1")
    more = rest(row, "history", "human_ref_A", "human_ref_B", "labels")
    answers = [text(row, "human_ref_A"), text(row, "human_ref_B")]
    return [comparison(text(row, "history"), answers, better_of_two(0 if label else 1), more)]


def webgpt(row: Row) -> list[Row]:
    """A comparison of two answers by their scores. Equal scores are a tie."""
    question = row["question"]
    prompt = question.get("full_text") if isinstance(question, dict) else question
    more = rest(row, "question", "answer_0", "answer_1", "score_0", "score_1")
    if isinstance(question, dict):
        more |= {"question_" + key: value for key, value in question.items() if key not in ("full_text", "id")}
        more |= {"id": question["id"]} if question.get("id") is not None else {}
    ranking = by_score([number(row, "score_0"), number(row, "score_1")])
    return [comparison(prompt, [text(row, "answer_0"), text(row, "answer_1")], ranking, more)]


def summaries(row: Row) -> list[Row]:
    """A comparison of two summaries of a post: `choice` is the better one."""
    answers = items(row, "summaries")
    choice = int(number(row, "choice"))
    if len(answers) != 2 or choice not in (0, 1):
        raise ValueError("field 'choice': must be 0 or 1, for one of two summaries")
    prompt, named = post(row)
    notes = [answer.get("note") for answer in answers]
    more = rest(row, "info", "summaries", "choice", "worker") | named | ({"notes": notes} if any(notes) else {})
    texts = [text(answer, "text") for answer in answers]
    models = [answer.get("policy") for answer in answers]
    return [comparison(prompt, texts, better_of_two(choice), more, models=models, labeler=row.get("worker"))]


def summary(row: Row) -> list[Row]:
    """One summary with the overall grade of a labeler (1 to 7). Grades on other axes stay."""
    judged = row["summary"] if isinstance(row["summary"], dict) else {}
    axes: Row = judged["axes"] if isinstance(judged.get("axes"), dict) else {}
    prompt, named = post(row)
    more = rest(row, "info", "summary", "worker") | named | {"labeler": row.get("worker")}
    more |= {"axes": {name: value for name, value in axes.items() if name != "overall"}}
    if judged.get("note"):
        more["note"] = judged["note"]
    if axes.get("overall") is None:
        raise NoJudgement("the summary has no overall grade")
    fields = {"completions": [text(judged, "text")], "models": [judged.get("policy")]}
    return [{"prompt": prompt, **more, **fields, "ratings": [{"overall": int(number(axes, "overall"))}]}]


def post(row: Row) -> tuple[str, Row]:
    """(prompt, other fields) of a post or an article, in the words of the paper: the summary follows TL;DR."""
    info = row["info"] if isinstance(row["info"], dict) else {}
    used = {"id"}
    if info.get("post") is not None:
        parts = [("SUBREDDIT: r/", "subreddit"), ("TITLE: ", "title"), ("POST: ", "post")]
    else:
        parts = [("Title: ", "title"), ("", "article")]
    used |= {name for _, name in parts}
    lines = [mark + info[name] for mark, name in parts if isinstance(info.get(name), str)]
    if not lines or not any(info.get(name) for name in ("post", "article")):
        raise ValueError("field 'info': must hold a post or an article")
    more = {name: value for name, value in info.items() if name not in used and value is not None}
    return "\n\n".join([*lines, "TL;DR:"]), more | ({"id": info["id"]} if info.get("id") is not None else {})


def pku(row: Row) -> list[Row]:
    """A comparison of two answers by helpfulness (`better_response_id`). What is said of safety stays."""
    better = number(row, "better_response_id")
    if better not in (0, 1):
        raise ValueError("field 'better_response_id': must be 0 or 1")
    names = ["response_0", "response_1"]
    sources = [row.get(f"{name}_source") for name in names]
    more = rest(row, "prompt", *names, "better_response_id", *(f"{name}_source" for name in names))
    answers = [text(row, name) for name in names]
    models = sources if any(sources) else None
    return [comparison(row["prompt"], answers, better_of_two(int(better)), more, models=models)]


def strength(row: Row) -> list[Row]:
    """A comparison of two by a signed strength: below 0 the first answer is better, 0 is a tie (HelpSteer 2 and 3)."""
    name, answers = (
        ("preference_strength", ("response_1", "response_2"))
        if "preference_strength" in row
        else ("overall_preference", ("response1", "response2"))
    )
    sign = number(row, name)
    better = None if sign == 0 else 0 if sign < 0 else 1
    field = "context" if "context" in row else "prompt"
    prompt: Any = chat(row[field], field) if isinstance(row[field], list) else nemo(text(row, field))
    more = rest(row, field, *answers) | {name: row[name]}
    return [comparison(prompt, [text(row, answer) for answer in answers], better_of_two(better), more)]


def nemo(prompt: str) -> Any:
    """A prompt of several turns as HelpSteer writes them, as messages. Other prompts stay."""
    mark = "<extra_id_1>"
    if mark not in prompt:
        return prompt
    turns = [{"role": "user", "content": ""}]
    first, *others = prompt.split(mark)
    turns[0]["content"] = first.removesuffix("\n")
    for part in others:
        speaker, _, content = part.partition("\n")
        turns.append(
            {"role": "assistant" if speaker.strip() == "Assistant" else "user", "content": content.removesuffix("\n")}
        )
    return asked(turns)
