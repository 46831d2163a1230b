"""What a project asks: flags and their keys, own flags by name, the scale, and what evaluation reads of them."""

from __future__ import annotations

from typing import Any

import pytest

from heedful.config import UserError, build
from heedful.data.records import Comparison, Completions, Rating
from heedful.feedback import judgements
from heedful.feedback.quality import combine
from heedful.feedback.rubric import D9, KEYS, PRESETS, Rubric

PAYLOAD = Completions(prompt="Why?", completions=["Because.", "Who knows."])
ELSEWHERE = set("abcdefghi" + "spur")  # answers, and keys of every page


def rubric(**given: Any) -> Rubric:
    return build(Rubric, given, source="rubric")


def check(rating: dict[str, Any], asked: Rubric) -> Any:
    answer = {"ranking": [[0], [1]], "ratings": [{"overall": 2}, {"overall": 2, **rating}]}
    return judgements.check("ranking", answer, PAYLOAD, rate_first=True, rubric=asked)


def test_flags_and_answers_share_no_key() -> None:
    many = rubric(own_flags=["Rude", "Off topic", *(f"Reason {n}" for n in range(8))])
    keys = [flag.key for flag in many.asked() if flag.key]
    assert len(set(keys)) == len(keys) == len(KEYS)
    assert not set(keys) & ELSEWHERE
    assert [flag.key for flag in many.asked()][-1] == ""  # more flags than letters


def test_the_paper_is_the_default() -> None:
    """D9, one after the other; every flag is a field of the record."""
    assert set(Rubric().names) == set(Rating.model_fields) - {"overall"}
    assert Rubric().scale == 7
    assert list(D9) == Rubric().names


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("Off topic", "off_topic", "Off topic"),
        ("  Cites no source!  ", "cites_no_source", "Cites no source!"),
        ("off_topic: The answer is off topic", "off_topic", "The answer is off topic"),
        ("thema: Ist am Thema vorbei: ja", "thema", "Ist am Thema vorbei: ja"),
    ],
)
def test_own_flags_from_a_line(text: str, name: str, words: str) -> None:
    (own,) = rubric(own_flags=[text]).own_flags
    assert (own.name, own.words) == (name, words)
    assert rubric(own_flags=[f"{own.name}: {own.words}"]).own_flags == (own,)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"own_flags": ["Rude", "rude"]}, "two flags have the name rude"),
        ({"own_flags": ["sexual: Sexual"]}, "sexual is a name of the paper's own"),
        ({"own_flags": ["Overall"]}, "overall is a name of the paper's own"),
        ({"own_flags": ["跑题"]}, "is no name of a flag"),
        ({"own_flags": ["rude:"]}, "at least 1 character"),
        ({"flags": ["rude"]}, "the paper has no flag 'rude'"),
        ({"qualities": ["good"]}, "at least 2 items"),
        ({"qualities": list("12345678")}, "at most 7 items"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
)
def test_what_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        rubric(**given)


def test_a_judgement_has_the_flags_and_the_scale_of_its_project() -> None:
    asked = rubric(own_flags=["Off topic"], qualities=["bad", "so-so", "good"])
    kept = check({"off_topic": True, "sexual": False}, asked)
    assert kept.model_dump(exclude_none=True)["ratings"][1] == {"overall": 2, "sexual": False, "off_topic": True}
    for rating, says in (
        ({"overall": 4}, "overall 4 is beyond the scale of this project, 1 to 3"),
        ({"rude": True}, "this project has no flag 'rude'. It asks for .*off_topic"),
        ({"off_topic": 1}, "off_topic must be true or false, not 1"),
        ({"off_topic": "yes"}, "off_topic must be true or false, not 'yes'"),
    ):
        with pytest.raises(UserError, match=says):
            check(rating, asked)
    assert check({"sexual": True}, rubric(flags=[]))  # of the paper: it may have been asked a moment ago


def test_words_of_a_rating() -> None:
    asked = rubric(own_flags=["Off topic"], flags=["sexual"])
    assert asked.said({"overall": 3, "off_topic": True, "sexual": False, "opinion": True, "gone_by": True}) == [
        "off topic", "opinion", "gone by",
    ]  # fmt: skip
    assert Rubric().said({"satisfies_constraint": False, "violent": True}) == ["constraint broken", "violent"]


def test_evaluation_reads_own_flags_by_name() -> None:
    """Three labelers, two of whom set the flag on the first answer. Alpha is by hand (T2)."""
    said = {"ann": (True, False), "ben": (True, False), "cy": (False, False)}
    rows = [
        Comparison(
            prompt="Why?", completions=["x", "y"], ranking=[[0], [1]], labeler=name,
            ratings=[{"overall": 4, "off_topic": flag} for flag in flags],
        )
        for name, flags in said.items()
    ]  # fmt: skip
    figures = combine.figures(rows)
    # units (1, 1, 0) and (0, 0, 0): D_o = (4 / 2) / 6 = 1/3; n_1 = 2, n_0 = 4: D_e = 2 * 2 * 4 / (6 * 5) = 8/15
    assert figures["alpha_of_flags"]["off_topic"]["mean"] == pytest.approx(1 - (1 / 3) / (8 / 15))
    (together,) = combine.combined(rows)
    assert [set(rating.model_extra) for rating in together.ratings] == [{"off_topic"}, {"off_topic"}]


def test_presets_are_settings() -> None:
    from heedful.feedback.projects import ProjectSettings

    rank_only = build(ProjectSettings, PRESETS["rank_only"][1], source="preset")
    assert (rank_only.rate_first, rank_only.rubric.asked()) == (False, [])
    assert build(ProjectSettings, PRESETS["paper"][1], source="preset") == ProjectSettings()
