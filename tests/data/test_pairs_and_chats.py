"""Public rows, written by hand in the shapes of public data sets, as our records; and our records as public rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.config import UserError
from heedful.data import formats
from heedful.data.export import to_public
from heedful.data.records import Choice, Comparison, Completions, Demonstration, Prompt, Record, Text

HH = "\n\nHuman: Which tea?\n\nAssistant: Green or black?\n\nHuman: Green: \n\n- a lot"
HH_TURNS = [
    {"role": "user", "content": "Which tea?"},
    {"role": "assistant", "content": "Green or black?"},
    {"role": "user", "content": "Green: \n\n- a lot"},
]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def read(tmp_path: Path, row: dict[str, Any], record_type: type[Record]) -> dict[str, Any]:
    (tmp_path / "row.jsonl").write_text(json.dumps(row) + "\n")
    return formats.read(tmp_path / "row.jsonl", record_type)[0].row()


def told(tmp_path: Path, row: dict[str, Any], record_type: type[Record]) -> str:
    with pytest.raises(UserError) as caught:
        read(tmp_path, row, record_type)
    return str(caught.value)


# --- pairs

PAIR = {"completions": ["Sencha.", "Earl Grey."], "ranking": [[0], [1]]}


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "Which tea?", "chosen": "Sencha.", "rejected": "Earl Grey."}, "Which tea?"),
        # messages: the answers alone, the whole chat with and without the prompt, and a prompt in words
        ({"prompt": HH_TURNS, "chosen": [assistant("Sencha.")], "rejected": [assistant("Earl Grey.")]}, HH_TURNS),
        (
            {
                "prompt": HH_TURNS,
                "chosen": [*HH_TURNS, assistant("Sencha.")],
                "rejected": [*HH_TURNS, assistant("Earl Grey.")],
            },
            HH_TURNS,
        ),
        ({"chosen": [*HH_TURNS, assistant("Sencha.")], "rejected": [*HH_TURNS, assistant("Earl Grey.")]}, HH_TURNS),
        (
            {
                "prompt": "Tea?",
                "chosen": [user("Tea?"), assistant("Sencha.")],
                "rejected": [user("Tea?"), assistant("Earl Grey.")],
            },
            [user("Tea?")],
        ),
        ({"prompt": "Tea?", "chosen": [assistant("Sencha.")], "rejected": [assistant("Earl Grey.")]}, "Tea?"),
        # transcripts: full, cut after the last "Assistant:", and full beside the prompt
        (
            {"chosen": f"{HH}\n\nAssistant: Sencha.", "rejected": f"{HH}\n\nAssistant: Earl Grey."},
            HH_TURNS,
        ),
        ({"prompt": f"{HH}\n\nAssistant:", "chosen": "Sencha.", "rejected": "Earl Grey."}, HH_TURNS),
        ({"prompt": f"{HH}\n\nAssistant:", "chosen": " Sencha.", "rejected": " Earl Grey."}, HH_TURNS),
        ({"prompt": HH, "chosen": " Sencha.", "rejected": " Earl Grey."}, HH_TURNS),
        (
            {
                "prompt": f"{HH}\n\nAssistant:",
                "chosen": f"{HH}\n\nAssistant: Sencha.",
                "rejected": f"{HH}\n\nAssistant: Earl Grey.",
            },
            HH_TURNS,
        ),
    ],
)
def test_a_public_pair_is_a_comparison_of_two(tmp_path: Path, row: dict[str, Any], prompt: Any) -> None:
    expected = {"prompt": prompt, "id": "7", "subset": "helpful", **PAIR}
    assert read(tmp_path, row | {"id": 7, "subset": "helpful"}, Comparison) == expected
    assert read(tmp_path, row | {"id": 7, "subset": "helpful"}, Completions) == expected
    assert read(tmp_path, row | {"id": 7}, Prompt) == {"prompt": prompt, "id": "7"}


def test_answers_to_a_plain_prompt_are_kept_to_the_last_space(tmp_path: Path) -> None:
    row = {"prompt": "Human: what is a human?", "chosen": " a\n", "rejected": "Human: b"}
    expected = {"prompt": row["prompt"], "completions": [" a\n", "Human: b"], "ranking": [[0], [1]]}
    assert read(tmp_path, row, Comparison) == expected


def test_answers_in_a_transcript_lose_the_space_after_the_colon_alone(tmp_path: Path) -> None:
    row = {"prompt": "\n\nHuman: Tea?\n\nAssistant:", "chosen": "  a\n", "rejected": "\n b"}
    assert read(tmp_path, row, Comparison)["completions"] == [" a\n", "\n b"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"chosen": "a", "rejected": "b"}, "field 'prompt': missing. Give the prompt, or full transcripts"),
        ({"prompt": "p", "chosen": "a", "rejected": [assistant("b")]}, "field 'chosen': must be a string or a list"),
        ({"prompt": "p", "chosen": [user("a")], "rejected": [assistant("b")]}, "field 'chosen': must end with the"),
        ({"prompt": "p", "chosen": [], "rejected": [assistant("b")]}, "field 'chosen': must end with the assistant"),
        (
            {"chosen": f"{HH}\n\nAssistant: a", "rejected": "\n\nHuman: Tea?\n\nAssistant: b"},
            "field 'rejected': differs from 'chosen' before the last answer",
        ),
        (
            {"prompt": "q", "chosen": [user("p"), assistant("a")], "rejected": [user("p"), assistant("b")]},
            "field 'prompt': is not the last question of 'chosen'",
        ),
        ({"prompt": "p", "chosen": [{"role": "assistant"}], "rejected": [assistant("b")]}, "field 'completions.0'"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "field 'prompt': is empty"),
    ],
)
def test_a_malformed_pair_is_told(tmp_path: Path, row: dict[str, Any], expected: str) -> None:
    assert expected in told(tmp_path, row, Comparison)


def test_preferred_answers_are_no_demonstrations_unasked(tmp_path: Path) -> None:
    row = {"prompt": "p", "chosen": "a", "rejected": "b"}
    assert "field 'completion': missing" in told(tmp_path, row, Demonstration)


# --- demonstrations


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "Add 1 and 2.", "completion": "3"}, "Add 1 and 2."),
        ({"prompt": [user("Add 1 and 2.")], "completion": [assistant("3")]}, [user("Add 1 and 2.")]),
        ({"messages": [*HH_TURNS, assistant("3")]}, HH_TURNS),
        ({"instruction": "Add.", "input": "1, 2", "output": "3"}, "Add.\n\n1, 2"),
        ({"instruction": "Add.", "input": "", "output": "3"}, "Add."),
        ({"instruction": "Add.", "input": None, "output": "3"}, "Add."),
        ({"instruction": "Add.", "response": "3"}, "Add."),
        ({"instruction": "Add.", "context": "1, 2", "response": "3"}, "Add.\n\n1, 2"),
    ],
)
def test_a_public_demonstration(tmp_path: Path, row: dict[str, Any], prompt: Any) -> None:
    expected = {"prompt": prompt, "id": "x", "category": "sums", "completion": "3"}
    assert read(tmp_path, row | {"id": "x", "category": "sums"}, Demonstration) == expected
    assert read(tmp_path, row, Prompt) == {"prompt": prompt}


@pytest.mark.parametrize("name", ["prompt", "question"])
def test_the_answer_to_a_question_stays_with_the_prompt_for_rewards(tmp_path: Path, name: str) -> None:
    row = {name: "1 + 2?", "answer": "3"}
    assert read(tmp_path, row, Demonstration) == {"prompt": "1 + 2?", "completion": "3"}
    assert read(tmp_path, row, Prompt) == {"prompt": "1 + 2?", "answer": "3"}


def test_a_worked_solution_is_the_completion_and_the_answer_stays_beside_it(tmp_path: Path) -> None:
    row = {"question": "1 + 2?", "solution": "1 + 2 = 3", "answer": "3"}
    expected = {"prompt": "1 + 2?", "completion": "1 + 2 = 3", "answer": "3"}
    assert read(tmp_path, row, Demonstration) == expected


def test_a_chat_that_waits_for_its_answer_is_a_prompt(tmp_path: Path) -> None:
    assert read(tmp_path, {"messages": HH_TURNS}, Prompt) == {"prompt": HH_TURNS}
    assert "ends with a message of the user" in told(tmp_path, {"messages": HH_TURNS}, Demonstration)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": "hi"}, "field 'messages': must be a list of messages"),
        ({"messages": [assistant("a")]}, "field 'prompt': has no messages"),
        ({"messages": [{"role": "tool", "content": "a"}, assistant("b")]}, "has no message of the user"),
        ({"prompt": "p", "completion": [user("a")]}, "field 'completion': a list of messages must end with"),
        ({"instruction": ["a"], "output": "b"}, "field 'instruction': must be a string"),
        ({"instruction": "a", "input": 3, "output": "b"}, "field 'input': must be a string"),
        ({"instruction": " ", "output": "b"}, "field 'prompt': is empty"),
        ({"instruction": "a"}, "field 'completion': missing"),
    ],
)
def test_a_malformed_public_demonstration_is_told(tmp_path: Path, row: dict[str, Any], expected: str) -> None:
    assert expected in told(tmp_path, row, Demonstration)


def test_our_own_rows_are_never_reinterpreted(tmp_path: Path) -> None:
    prompt = {"prompt": f"{HH}\n\nAssistant:", "instruction": "a", "messages": [], "question": "b"}
    assert read(tmp_path, prompt, Prompt) == prompt
    row = {"prompt": "p", "chosen": "a", "rejected": "b", **PAIR}
    assert read(tmp_path, row, Comparison) == row
    text = {"text": "t", "instruction": "a", "output": "b"}
    assert read(tmp_path, text, Text) == text


# --- the other way


def test_a_ranking_is_exported_as_all_its_pairs() -> None:
    ranked = Comparison(prompt="p", completions=["a", "b", "c"], ranking=[[2], [0, 1]])
    assert list(to_public([ranked])) == [
        {"prompt": "p", "chosen": "c", "rejected": "a"},
        {"prompt": "p", "chosen": "c", "rejected": "b"},
    ]


def test_chats_are_exported_as_chats() -> None:
    shown = Demonstration.model_validate({"prompt": HH_TURNS, "completion": "Sencha."})
    assert list(to_public([shown])) == [{"prompt": HH_TURNS, "completion": [assistant("Sencha.")]}]


@pytest.mark.parametrize(("preferred", "pair"), [("a", ("x", "y")), ("b", ("y", "x")), ("tie", None)])
def test_a_choice_is_exported_as_a_pair(preferred: str, pair: tuple[str, str] | None) -> None:
    choice = Choice.model_validate({"prompt": "p", "a": {"text": "x"}, "b": {"text": "y"}, "preferred": preferred})
    expected = [{"prompt": "p", "chosen": pair[0], "rejected": pair[1]}] if pair else []
    assert list(to_public([choice])) == expected


def test_an_export_keeps_tools_and_split_and_one_type_of_prompt() -> None:
    tools = [{"type": "function", "function": {"name": "weather"}}]
    rows = [{"prompt": HH_TURNS, **PAIR, "tools": tools, "split": "test"}, {"prompt": "p", **PAIR}]
    ranked = [Comparison.model_validate(row) for row in rows]
    pair = {"chosen": [assistant("Sencha.")], "rejected": [assistant("Earl Grey.")]}
    assert list(to_public(ranked)) == [
        {"prompt": HH_TURNS, **pair, "tools": tools, "split": "test"}, {"prompt": [user("p")], **pair},
    ]  # fmt: skip
    assert [row["input"] for row in to_public(ranked, "openai")] == [
        {"messages": HH_TURNS, "tools": tools}, {"messages": [user("p")]},
    ]  # fmt: skip
    assert ranked[1].prompt == "p"


def test_forms_keep_who_judged_where_they_have_room(tmp_path: Path) -> None:
    ranked = Comparison.model_validate({"prompt": HH_TURNS, **PAIR, "labeler": "ada", "group": "held-out", "page": 3})
    shown = Demonstration(prompt="p", completion="a", labeler="ada")
    people = {"labeler": "ada", "group": "held-out"}
    pair = {"chosen": [assistant("Sencha.")], "rejected": [assistant("Earl Grey.")]}
    for form in ("trl", "openrlhf"):
        assert list(to_public([ranked, shown], form)) == [
            {"prompt": HH_TURNS, **pair, **people},
            {"prompt": [user("p")], "completion": [assistant("a")], "labeler": "ada"},
        ]  # fmt: skip
    assert list(to_public([ranked, shown], "openai")) == [
        {"input": {"messages": HH_TURNS}, "preferred_output": pair["chosen"], "non_preferred_output": pair["rejected"]},
        {"messages": [user("p"), assistant("a")]},
    ]
    formats.write(tmp_path / "pairs.csv", to_public([ranked]))
    assert formats.read(tmp_path / "pairs.csv", Comparison)[0].row() == {"prompt": HH_TURNS, **PAIR, **people}
    formats.write(tmp_path / "openai.jsonl", to_public([ranked], "openai"))
    assert formats.read(tmp_path / "openai.jsonl", Comparison)[0].row() == {"prompt": HH_TURNS, **PAIR}


def test_what_has_no_public_form_is_refused() -> None:
    with pytest.raises(UserError, match="no public form for a completions row"):
        list(to_public([Completions(prompt="p", completions=["a"])]))


texts = st.text(min_size=1).filter(str.strip)
prompts = texts | st.lists(st.tuples(texts, texts), max_size=2).map(
    lambda turns: [message for ask, reply in turns for message in (user(ask), assistant(reply))] + [user("and?")]
)


@pytest.mark.medium
@settings(max_examples=30)
@given(prompts, st.lists(st.text(), min_size=2, max_size=4, unique=True))
def test_exported_pairs_are_read_back_as_they_were_ranked(
    tmp_path_factory: pytest.TempPathFactory, prompt: Any, completions: list[str]
) -> None:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    ranked = Comparison(prompt=prompt, completions=completions, ranking=[[k] for k in range(len(completions))])
    formats.write(path, to_public([ranked]))
    pairs = formats.read(path, Comparison)
    assert all(pair.prompt == ranked.prompt and pair.ranking == [[0], [1]] for pair in pairs)
    assert [pair.completions for pair in pairs] == [[completions[i] for i in pair] for pair in ranked.pairs()]
