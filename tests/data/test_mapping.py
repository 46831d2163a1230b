"""Fields that the user names: what each target makes of a row, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heedful.config import UserError
from heedful.data.explain import explain
from heedful.data.shapes import mapping

ROW = {
    "q": "Which tea?", "good": "Green.", "bad": "None.", "who": 7, "vote": "right", "s1": "2", "s2": 3.5,
    "options": [{"text": "Green.", "points": 1}, {"text": "Black.", "points": 1}, {"text": "None.", "points": 0}],
    "chat": [{"from": "human", "value": "Which tea?"}, {"from": "gpt", "value": "Green."}],
    "deep": {"ask": "Which tea?", "page": 3}, "order": [[1], [0]], "system_text": "Be brief.", "completions": "x",
}  # fmt: skip
Q = {"prompt": "Which tea?"}


@pytest.mark.parametrize(
    ("given", "kind", "record"),
    [
        ({"prompt": "q"}, "prompts", Q),
        ({"prompt": "deep.ask", "id": "who", "source": "good"}, "prompts", Q | {"id": "7", "source": "Green."}),
        ({"prompt": "q", "completion": "good", "labeler": "who"}, "demonstrations",
         Q | {"completion": "Green.", "labeler": "7"}),
        ({"prompt": "q", "completion": "good", "system": "system_text"}, "demonstrations",
         {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which tea?"}],
          "completion": "Green."}),
        ({"messages": "chat"}, "demonstrations",
         {"prompt": [{"role": "user", "content": "Which tea?"}], "completion": "Green."}),
        ({"prompt": "q", "chosen": "good", "rejected": "bad", "group": "who"}, "comparisons",
         Q | {"completions": ["Green.", "None."], "ranking": [[0], [1]], "group": "7"}),
        ({"prompt": "q", "completions": ["good", "bad"], "scores": ["s1", "s2"]}, "comparisons",
         Q | {"completions": ["Green.", "None."], "ranking": [[1], [0]]}),
        ({"prompt": "q", "completions": "options.text", "scores": "options.points"}, "comparisons",
         Q | {"completions": ["Green.", "Black.", "None."], "ranking": [[0, 1], [2]]}),
        ({"prompt": "q", "completions": ["good", "bad"], "ranking": "order"}, "comparisons",
         Q | {"completions": ["Green.", "None."], "ranking": [[1], [0]]}),
        ({"prompt": "q", "completions": ["good", "bad"]}, "completions", Q | {"completions": ["Green.", "None."]}),
        ({"prompt": "q", "a": "good", "b": "bad", "preferred": "vote"}, "choices",
         Q | {"a": {"text": "Green."}, "b": {"text": "None."}, "preferred": "b"}),
        ({"prompt": "q", "a": "good", "b": "bad", "preferred": "vote:right,left,both"}, "choices",
         Q | {"a": {"text": "Green."}, "b": {"text": "None."}, "preferred": "a"}),
        ({"text": "good"}, "texts", {"text": "Green."}),
        ({"prompt": "chat.0.value", "completion": "options.1.text", "labeler": "s2", "source": "good"},
         "demonstrations", Q | {"completion": "Black.", "labeler": "3.5", "source": "Green."}),
    ],
)  # fmt: skip
def test_named_fields_make_a_record(tmp_path: Path, given: Any, kind: str, record: dict[str, Any]) -> None:
    told = explain(written(tmp_path, ROW), given)
    assert (told.kind, told.problem, told.shapes) == (kind, "", {"mapped": 1})
    (made,) = told.preview
    assert {name: made[name] for name in record} == record
    sources = [source for value in given.values() for source in ([value] if isinstance(value, str) else value)]
    used = {source.partition(":")[0].partition(".")[0] for source in sources}
    assert set(told.unused) == set(made) - set(record)
    assert {name.removesuffix("_as_given") for name in told.unused} >= ROW.keys() - used


def test_what_is_not_named_stays_without_a_meaning(tmp_path: Path) -> None:
    told = explain(written(tmp_path, ROW), {"prompt": "deep.ask", "completions": "options.text"})
    assert {name: told.preview[0][name] for name in ("deep", "options", "completions_as_given", "order_as_given")} == {
        "deep": {"page": 3}, "options": [{"points": 1}, {"points": 1}, {"points": 0}],
        "completions_as_given": "x", "order_as_given": [[1], [0]],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("vote", "preferred"),
    [
        ("A", "a"),
        ("B", "b"),
        ("model_a", "a"),
        ("tie", "tie"),
        ("good", "a"),
        ("None.", "b"),
        (" Left ", "a"),
        ("TIE", "tie"),
    ],
)
def test_usual_words_fields_and_answers_say_which_is_better(tmp_path: Path, vote: Any, preferred: str) -> None:
    told = explain(written(tmp_path, ROW | {"vote": vote}), ["prompt=q", "a=good", "b=bad", "preferred=vote"])
    assert told.preview[0]["preferred"] == preferred


@pytest.mark.parametrize("vote", [0, 1, "1", "2", 1.0, "-1"])
def test_a_number_is_a_vote_only_where_the_count_is_told(tmp_path: Path, vote: Any) -> None:
    fields = ["prompt=q", "a=good", "b=bad"]
    told = explain(written(tmp_path, ROW | {"vote": vote}), [*fields, "preferred=vote"])
    assert (
        "does not say where the count begins. Give the numbers of a and b, such as preferred=vote:0,1" in told.problem
    )
    if float(vote) in (0, 1):
        told = explain(written(tmp_path, ROW | {"vote": vote}), [*fields, "preferred=vote:0,1"])
        assert told.preview[0]["preferred"] == ("b" if float(vote) else "a")


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("bad", "'bad' marks an answer"),
        (0, "0 marks an answer"),
        ("so so", "is neither good nor bad"),
        ("good", ""),
        (1, ""),
    ],
)
def test_a_mapped_label_says_which_answers_are_demonstrations(tmp_path: Path, label: Any, reason: str) -> None:
    told = explain(written(tmp_path, ROW | {"v": label}), ["prompt=q", "completion=good", "label=v"])
    assert reason in told.problem
    assert bool(told.problem) == bool(reason)
    assert told.records == (0 if reason else 1)


@pytest.mark.parametrize(("vote", "words"), [("Both bad", ""), ("tie (bothbad)", ""), ("0", ":1,2,3,0")])
def test_both_bad_is_a_tie_of_which_neither_is_acceptable(tmp_path: Path, vote: str, words: str) -> None:
    given = ["prompt=q", "a=good", "b=bad", f"preferred=vote{words}"]
    (made,) = explain(written(tmp_path, ROW | {"vote": vote}), given).preview
    assert (made["preferred"], made["none_acceptable"]) == ("tie", True)


def test_a_row_that_nobody_judged_is_no_tie(tmp_path: Path) -> None:
    told = explain(written(tmp_path, ROW | {"vote": ""}), ["prompt=q", "a=good", "b=bad", "preferred=vote"])
    assert "field 'vote': " in told.problem


def test_a_vote_that_names_both_sides_is_refused(tmp_path: Path) -> None:
    row = {"q": "Which?", "left": "B", "right": "A", "vote": "A"}
    told = explain(written(tmp_path, row), ["prompt=q", "a=left", "b=right", "preferred=vote"])
    assert "field 'vote': 'A' may be a or b. Give the words as preferred=vote:A,B" in told.problem


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    row = {"q": "Which?", "one": "Green.", "two": "Black.", "s1": "nan", "s2": 2}
    fields = ["completions=one", "completions=two", "scores=s1", "scores=s2"]
    assert "field 'scores': 'nan' is no number" in explain(written(tmp_path, row), ["prompt=q", *fields]).problem


def test_places_are_ranks_and_no_scores(tmp_path: Path) -> None:
    """Two answers share place 2: they tie. As scores, the order would be turned around."""
    row = {"q": "Which?", "one": "Green.", "two": "Black.", "three": "Red.", "rank 1": 2, "rank 2": "1", "rank 3": 2.0}
    answers = ["prompt=q", "completions=one", "completions=two", "completions=three"]
    (read,) = explain(written(tmp_path, row), [*answers, *(f"ranks=rank {n}" for n in "123")]).preview
    assert read["ranking"] == [[1], [0, 2]]
    for name in ("rank 1", "options.place", "Position_b"):
        with pytest.raises(UserError, match=f"--map scores={name}: seems to hold places, .* Write ranks={name}"):
            explain(written(tmp_path, row), [*answers, f"scores={name}"])
    with pytest.raises(UserError, match="scores: ranks orders the answers as well"):
        explain(written(tmp_path, row), [*answers, "scores=one", "ranks=two"])
    told = explain(written(tmp_path, row | {"s": ["3,5", "1", "2"]}), [*answers, "scores=s"])
    assert "field 'scores': '3,5' is no number. Write a point for the comma" in told.problem


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (
            ["prompt=q", "a=good", "b=bad", "preferred=s2"],
            "field 's2': '3.5' says neither a, b nor tie. Give",
        ),
        (["prompt=question"], "field 'question' (the prompt): missing. The row has q, good, bad, who"),
        (["prompt=Q"], "Did you mean q?"),
        (["prompt=q", "completion=goood"], "field 'goood' (the completion): missing. The row has q, good, bad, "),
        (["prompt=q", "completions=options.text", "scores=options.point"], "'options.point' (the scores): missing."),
        (["prompt=q", "completion=options.text"], "holds 3 texts. Name one, such as options.0.text"),
        (["prompt=q", "completion=options.9.text"], "field 'options.9.text' (the completion): missing"),
        (
            ["prompt=q", "completion=good", "labeler=deep"],
            "field 'deep' (the labeler): must be a text or a number, not",
        ),
        (["prompt=q", "completions=options.text", "scores=s1"], "field 'scores': 1 number for 3 answers"),
        (["prompt=q", "completions=options.text", "scores=chat.from"], "field 'scores': 'human' is no number"),
        (["prompt=q", "completion=options"], "field 'completion': a list of messages must end with"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_its_field(tmp_path: Path, given: list[str], reason: str) -> None:
    told = explain(written(tmp_path, ROW), given)
    assert (told.records, told.refused_rows) == (0, 1)
    assert reason in told.problem


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["question=q"], "--map question: no such target. Choose from prompt, system, messages"),
        (["prompt"], "--map prompt: write it as TARGET=FIELD"),
        (["prompt="], "--map prompt=: name a field"),
        (["prompt=q", "prompt=good"], "--map prompt: given twice. Only completions, scores and ranks"),
        (["prompt=q", "chosen=good"], "--map chosen: needs rejected too"),
        (["prompt=q", "a=good", "b=bad"], "--map a: needs preferred too"),
        (["completion=good"], "--map: name the prompt too"),
        (["prompt=q", "completion=q"], "--map completion=q: this field is the prompt already. Name another field"),
        (
            ["prompt=q", "completions=good", "completions=good"],
            "completions=good: this field is the completions already",
        ),
        (["prompt=q", "text=good"], "--map text: has no place in prompts made of prompt. Leave it out"),
        (["prompt=q", "messages=chat"], "--map prompt: has no place in demonstrations made of messages"),
        (
            ["prompt=q", "completion=good", "chosen=good", "rejected=bad"],
            "--map completion: has no place in comparisons",
        ),
        (["prompt=q", "a=x", "b=y", "preferred=v:l,l"], "give 2 to 4 words, for a, b, tie and both bad"),
    ],
)
def test_a_mapping_that_makes_no_record_is_refused(tmp_path: Path, given: list[str], reason: str) -> None:
    with pytest.raises(UserError) as caught:
        explain(written(tmp_path, ROW), given)
    assert reason in str(caught.value)


def test_no_mapping_is_none() -> None:
    assert mapping.parse([]) is mapping.parse({}) is None


def written(folder: Path, row: dict[str, Any]) -> Path:
    (folder / "rows.jsonl").write_text(json.dumps(row))
    return folder / "rows.jsonl"
