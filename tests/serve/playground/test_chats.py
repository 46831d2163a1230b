"""Conversations as the API stores them: branches, answers in progress, reactions, consent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from heedful.collection import forget, react, retention
from heedful.collection.store import of_user
from heedful.feedback import chats, events
from heedful.feedback.chats import Conversation, Turn
from heedful.feedback.collected import Exchange
from heedful.feedback.schema import Item
from heedful.serve.playground import api, models
from heedful.serve.types import ApiError, Call, Reply
from serve.playground.scripted import Play, picks_of

CANARY = "canary-7f3a"
Playing = Callable[..., Play]


def start(client: TestClient, text: str = "What is 2 + 2?", **settings: Any) -> dict[str, Any]:
    """A new conversation whose answers have ended."""
    made = client.post("/api/chats", json={"text": text, "settings": settings})
    assert made.status_code == 201, made.text
    return ended(client, made.json()["ref"])


def ended(client: TestClient, ref: str) -> dict[str, Any]:
    until = time.monotonic() + 10
    while True:
        chat: dict[str, Any] = client.get(f"/api/chats/{ref}").json()
        if all(turn["state"] != "writing" for turn in chat["turns"]):
            return chat
        assert time.monotonic() < until
        time.sleep(0.005)


def lines(response: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


def tree(chat: dict[str, Any]) -> list[tuple[int | None, str, str]]:
    """(place of the parent, role, text) of each turn."""
    places = {turn["id"]: place for place, turn in enumerate(chat["turns"])}
    return [(places.get(turn["parent"]), turn["role"], turn["text"]) for turn in chat["turns"]]


@pytest.mark.medium
def test_messages_branch(playing: Playing) -> None:
    play = playing()
    play.model.says = lambda messages: f"{len(messages)}: {messages[-1]['content']}"
    with play.browser("ada") as ada:
        chat = start(ada, "One", system="Be brief.", temperature=0.5, seed=7)
        ref, (one, answer) = chat["ref"], [turn["id"] for turn in chat["turns"]]
        sent = {"parent": answer, "text": "Two", "key": "k1"}
        first = ada.post(f"/api/chats/{ref}/turns", json=sent).json()
        assert ada.post(f"/api/chats/{ref}/turns", json=sent).json()["turns"][0] == first["turns"][0]  # sent twice
        ended(ada, ref)
        ada.post(f"/api/chats/{ref}/turns", json={"parent": answer, "text": "Two, edited", "key": "k2"})
        ended(ada, ref)
        for _ in range(2):
            ada.post(f"/api/chats/{ref}/answers", json={"parent": one, "key": "k3"})
        chat = ended(ada, ref)
    assert tree(chat) == [
        (None, "user", "One"), (0, "assistant", "2: One"),
        (1, "user", "Two"), (2, "assistant", "4: Two"),
        (1, "user", "Two, edited"), (4, "assistant", "4: Two, edited"),
        (0, "assistant", "2: One"),
    ]  # fmt: skip
    assert chat["tip"] == chat["turns"][6]["id"]
    assert chat["title"] == "One"
    asked = play.model.asked[1]
    assert asked["messages"] == [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "One"},
        {"role": "assistant", "content": "2: One"}, {"role": "user", "content": "Two"},
    ]  # fmt: skip
    assert (asked["temperature"], asked["top_p"], asked["max_tokens"], asked["seed"]) == (0.5, 1.0, 512, 7)
    assert chat["turns"][1]["html"] == "<p>2: One</p>\n"


@pytest.mark.medium
def test_an_answer_is_followed_from_any_place_and_stopped(playing: Playing) -> None:
    play = playing()
    play.model.says, play.model.holds = "One two 🙂 three", 3
    with play.browser("ada") as ada:
        chat = ada.post("/api/chats", json={"text": "Count"}).json()
        turn = chat["turns"][1]["id"]
        here = f"/api/chats/{chat['ref']}/turns/{turn}"
        while ada.get(f"/api/chats/{chat['ref']}").json()["turns"][1]["text"] != "One two 🙂":
            time.sleep(0.005)
        assert play.model.running == 1
        ada.post(f"{here}/stop")
        assert play.model.running == 0  # its row is free
        (end,) = lines(ada.get(f"{here}/text?start=9"))
        assert (end["turn"]["text"], end["turn"]["state"]) == ("One two 🙂", "stopped")
        play.model.holds = None
        ada.post(f"/api/chats/{chat['ref']}/answers", json={"parent": chat["turns"][0]["id"], "key": "k"})
        found = lines(ada.get(f"/api/chats/{chat['ref']}/turns/{turn + 1}/text?start=4"))
        assert "".join(line.get("text", "") for line in found) in ("two 🙂 three", "")
        assert found[-1]["turn"]["text"] == "One two 🙂 three"


@pytest.mark.medium
def test_a_server_that_ends_leaves_what_it_wrote(playing: Playing) -> None:
    play = playing()
    play.model.says, play.model.holds = "One two three", 2
    with play.browser("ada") as ada:
        chat = ada.post("/api/chats", json={"text": "Count"}).json()
        while ada.get(f"/api/chats/{chat['ref']}").json()["turns"][1]["text"] != "One two":
            time.sleep(0.005)
    with play.store.writing() as db:
        turn = db.get_one(Turn, chat["turns"][1]["id"])
        assert (turn.text, turn.state) == ("One two", "interrupted")  # the server ended in order
        turn.state, turn.created = "writing", datetime(2026, 1, 1, tzinfo=UTC)  # and now as after `kill -9`
    with play.browser("ada") as ada:
        turn = ada.get(f"/api/chats/{chat['ref']}").json()["turns"][1]
    assert (turn["text"], turn["state"]) == ("One two", "interrupted")


@pytest.mark.medium
@pytest.mark.parametrize("holds", [None, 1])
def test_an_answer_that_fails_says_why(playing: Playing, holds: int | None) -> None:
    play = playing()
    play.model.fails, play.model.holds = "The model is away.", holds
    play.model.says = "One two"
    play.model.go.set()
    with play.browser("ada") as ada:
        answer = start(ada)["turns"][1]
    assert (answer["state"], answer["note"], answer["text"]) == ("failed", "The model is away.", "One" if holds else "")


@pytest.mark.medium
def test_an_answer_may_take_what_a_small_context_leaves(playing: Playing) -> None:
    play = playing()
    play.model.context = 100  # fewer than the 512 tokens that the settings begin with
    with play.browser("ada") as ada:
        turn = start(ada, "What is 2 + 2?")["turns"][1]
        assert (turn["state"], turn["text"]) == ("done", "Four.")
        assert ["max_tokens" in body for body in play.model.asked] == [True, False]
        long = start(ada, "word " * 30)["turns"][1]
    assert (long["state"], long["text"]) == ("failed", "")
    assert long["note"].startswith("The conversation is longer than this model can read. Start a new chat")


@pytest.mark.medium
def test_an_answer_at_the_limit_of_tokens_says_so(playing: Playing) -> None:
    play = playing()
    play.model.finish = "length"
    with play.browser("ada") as ada:
        assert "limit of tokens" in start(ada)["turns"][1]["note"]


@pytest.mark.medium
def test_conversations_are_for_their_person_alone(playing: Playing) -> None:
    play = playing()
    play.agree("bo")
    with play.browser("ada") as ada, play.browser("bo") as bo:
        chat = start(ada)
        here = f"/api/chats/{chat['ref']}"
        turn = f"{here}/turns/{chat['turns'][1]['id']}"
        refused = [
            bo.get(here), bo.patch(here, json={"title": "Mine"}), bo.delete(here), bo.get(f"/chat/{chat['ref']}"),
            bo.post(f"{here}/turns", json={"parent": None, "text": "x", "key": "k"}),
            bo.post(f"{here}/answers", json={"parent": 1, "key": "k"}), bo.get(f"{turn}/text"), bo.post(f"{turn}/stop"),
            bo.post(f"{turn}/thumb", json={"thumb": "up"}), bo.post(f"{turn}/edit", json={"text": "x"}),
            bo.post(f"{here}/pairs/x", json={"verdict": "tie"}),
        ]  # fmt: skip
        assert {one.status_code for one in refused} == {404}
        assert bo.get("/api/chats").json() == []
        assert [one["ref"] for one in ada.get("/api/chats").json()] == [chat["ref"]]
        anybody = TestClient(play.app, base_url="http://testserver", follow_redirects=False)
        assert anybody.get(here).status_code == 401
        assert anybody.get("/").headers["location"].startswith("/login")


@pytest.mark.medium
def test_deleting_a_conversation_or_an_account_leaves_nothing(playing: Playing) -> None:
    play = playing()
    with play.browser("ada") as ada:
        first, second = start(ada, CANARY), start(ada, "Another")
        assert ada.delete(f"/api/chats/{first['ref']}").status_code == 204
        assert ada.get(f"/api/chats/{first['ref']}").status_code == 404
        assert [one["ref"] for one in ada.get("/api/chats").json()] == [second["ref"]]
    with play.store.writing() as db:
        events.delete_person(db, play.ids["ada"], datetime.now(UTC), by=None)
    with play.store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Turn)) == 0
        assert db.scalar(sa.select(sa.func.count()).select_from(Conversation)) == 0


@pytest.mark.medium
def test_what_was_collected_goes_with_the_conversation_and_conversations_with_their_user(playing: Playing) -> None:
    play = playing("red", "sft-2")
    play.model.says = f"{CANARY} says"
    with play.browser("ada") as ada:
        first, here = compared(ada, play, CANARY)
        assert ada.post(here, json={"verdict": "tie"}).status_code == 200
        answer = f"/api/chats/{first['ref']}/turns/{first['turns'][1]['id']}"
        assert ada.post(f"{answer}/edit", json={"text": f"{CANARY} edits"}).status_code == 204
        play.model.says = "Four."
        start(ada, "Another")
        assert (len(kept_of(play)), len(picks_of(play, "ada"))) == (3, 1)
        assert ada.delete(f"/api/chats/{first['ref']}").status_code == 204
        assert [one.exchange.prompt for one in kept_of(play)] == [[{"role": "user", "content": "Another"}]]
        assert picks_of(play, "ada") == []
        assert found_in(play, CANARY) == []
        forget.forget(play.store, "ada", [play.folder], datetime.now(UTC), by=None)
        assert ada.get("/api/chats").json() == []


@pytest.mark.medium
def test_what_is_too_old_leaves_the_conversations(playing: Playing) -> None:
    """What a newer turn goes on from stays, without its thumb. Other branches go, and so do old conversations."""
    play = playing("red", "sft-2")
    for model in play.models.values():
        model.says = f"{CANARY} says"
    with play.browser("ada") as ada:
        old = start(ada, f"Old {CANARY}")
        first, here = compared(ada, play, f"First {CANARY}")
        assert ada.post(here, json={"verdict": "right"}).status_code == 200
        right = first["turns"][2]["id"]
        thumb = {"thumb": "down", "comment": f"{CANARY}!"}
        assert ada.post(f"/api/chats/{first['ref']}/turns/{right}/thumb", json=thumb).status_code == 204
        other = {"parent": None, "text": f"Edited {CANARY}", "key": "edited"}
        said = ada.post(f"/api/chats/{first['ref']}/turns", json=other).json()
        ended(ada, first["ref"])
        with play.store.writing() as db:
            for row in (*db.query(Conversation), *db.query(Turn), *db.query(Item)):
                row.created -= timedelta(days=20)
            for exchange in db.query(Exchange):
                exchange.started -= timedelta(days=20)
            db.flush()
            assert chats.delete_older(db, datetime.now(UTC) - timedelta(days=21)) == 0
        for model in play.models.values():
            model.says = "Four."
        assert ada.patch(f"/api/chats/{first['ref']}", json={"settings": {"model": "red"}}).status_code == 204
        later = ada.post(f"/api/chats/{first['ref']}/turns", json={"parent": right, "text": "And?", "key": "later"})
        ended(ada, first["ref"])
        ada.patch(f"/api/chats/{first['ref']}", json={"tip": said["turns"][0]["id"]})
        gone = retention.sweep(play.store, 10, [play.folder], datetime.now(UTC))
        assert (gone.exchanges, gone.turns) == (5, 2 + 1 + 3)  # the old one, the left answer, the other branch
        assert "6 messages and answers of chats are gone" in gone.lines()
        assert ada.get(f"/api/chats/{old['ref']}").status_code == 404
        chat = ada.get(f"/api/chats/{first['ref']}").json()
        assert [turn["text"] for turn in chat["turns"]] == [f"First {CANARY}", f"{CANARY} says", "And?", "Four."]
        _, answer, _, last = chat["turns"]
        assert [answer[name] for name in ("id", "pair", "verdict", "thumb")] == [right, None, None, None]
        assert (chat["title"], chat["tip"]) == (f"First {CANARY}", last["id"])
        assert last["id"] == later.json()["tip"]
        assert ada.delete(f"/api/chats/{first['ref']}").status_code == 204
    assert found_in(play, CANARY) == []


@pytest.mark.medium
def test_people_download_all_that_is_kept_of_them(playing: Playing) -> None:
    play = playing("red", "sft-2")
    with play.browser("ada") as ada, play.browser("bo") as bo:
        first, here = compared(ada, play, "Which?")
        answer = ada.get("/api/kept")
        assert answer.headers["content-disposition"] == 'attachment; filename="kept.jsonl"'
        assert [turn["model"] for turn in lines(answer)[-1]["turns"]] == [None, None, None]  # blind until the choice
        assert [row["model"] for row in lines(answer)[:2]] == [None, None]
        page = ada.get("/kept").text
        assert page.count("one of two answers, not chosen yet") == 2
        assert "<bdi>" not in page.split("<main")[1]
        ada.post(here, json={"verdict": "left"})
        page = ada.get("/kept").text
        assert ("<bdi>red</bdi>" in page, "<bdi>sft-2</bdi>" in page, "not chosen yet" in page) == (True, True, False)
        ada.post(f"/api/chats/{first['ref']}/turns/{first['turns'][1]['id']}/thumb", json={"thumb": "up"})
        rows = lines(ada.get("/api/kept"))
        assert [row["kind"] for row in rows] == ["exchange", "exchange", "pick", "chat"]
        assert sorted(row["model"] for row in rows[:2]) == ["red", "sft-2"]
        assert sorted(len(row["reactions"]) for row in rows[:2]) == [0, 1]
        assert (rows[2]["outcome"], rows[3]["title"]) == ("left", "Which?")
        assert [turn["text"] for turn in rows[3]["turns"]] == ["Which?", "Four.", "Four."]
        assert sorted(turn["model"] for turn in rows[3]["turns"][1:]) == ["red", "sft-2"]
        assert lines(bo.get("/api/kept")) == []


@pytest.mark.medium
def test_conversations_are_listed_page_by_page(playing: Playing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "LISTED", 2)
    play = playing()
    with play.browser("ada") as ada:
        refs = [start(ada, f"Number {place}")["ref"] for place in range(3)]
        first = [one["ref"] for one in ada.get("/api/chats").json()]
        then = [one["ref"] for one in ada.get(f"/api/chats?after={first[-1]}").json()]
        assert [*first, *then] == refs[::-1]


@pytest.mark.medium
def test_what_cannot_be_is_refused_in_one_line(playing: Playing) -> None:
    play = playing()
    with play.browser("ada") as ada:
        here = f"/api/chats/{start(ada)['ref']}"
        for method, path, body in (
            ("get", "/api/chats?after=%00", None),
            ("get", "/api/chats/%00%ff", None),
            ("get", f"{here}/turns/99999999999999999999/text", None),
            ("post", "/api/chats", {"text": " "}),
            ("post", "/api/chats", {"text": "x", "settings": {"temperature": 3}}),
            ("post", "/api/chats", {"text": "x", "settings": {"tempreature": 1}}),
            ("post", f"{here}/turns", {"parent": 2**70, "text": "x", "key": "k"}),
            ("post", f"{here}/turns", {"parent": None, "text": "x", "key": "\0"}),
            ("post", f"{here}/answers", {"parent": 10**9, "key": "k"}),
            ("patch", here, {"tip": 10**9}),
            ("post", f"{here}/pairs/%00", {"verdict": "tie"}),
            ("post", "/api/passing", {"messages": [{"role": "assistant", "content": "x"}]}),
        ):
            refused = ada.request(method, path, json=body)
            assert refused.status_code in (400, 404, 422), (path, refused.text)
            assert "\n" not in refused.json()["error"]


# Consent


def found_in(play: Play, words: str) -> list[str]:
    """Files of the folder that hold some words, as text or escaped in JSON."""
    return [str(path) for path in play.folder.rglob("*") if path.is_file() and words.encode() in path.read_bytes()]


@pytest.mark.medium
def test_without_consent_nothing_is_written(playing: Playing) -> None:
    play = playing("a1b", "c2d")
    play.model.says = f"The {CANARY} sings"
    with play.browser("bo") as bo:
        refused = bo.post("/api/chats", json={"text": CANARY})
        assert (refused.status_code, refused.json()["code"]) == (403, "consent")
        for name in ("ada", "bo"):
            with play.browser(name) as client:
                body = {
                    "messages": [{"role": "user", "content": CANARY}],
                    "settings": {"compare": True, "system": CANARY},
                }
                found = lines(client.post("/api/passing", json=body))
                ends = {line["place"]: line["end"] for line in found if "end" in line}
                texts = ["".join(line.get("text", "") for line in found if line["place"] == place) for place in (0, 1)]
                assert sorted(texts) == ["Four.", f"The {CANARY} sings"]
                assert {end["model"] for end in ends.values()} == {"a1b", "c2d"}
                assert all(end["state"] == "done" for end in ends.values())
                client.post("/api/passing", json=body | {"settings": {"model": "none"}})
                client.post("/api/passing", json={"messages": [{"role": "user", "content": CANARY, "more": 1}]})
    play.app.state.service.gate.save()
    assert found_in(play, CANARY) == []
    with play.browser("ada") as ada:  # the same words are found where they may be stored
        start(ada, CANARY)
    assert found_in(play, CANARY) != []


@pytest.mark.medium
def test_consent_is_given_and_withdrawn(playing: Playing) -> None:
    play = playing()
    version = play.collection.terms()[0]
    with play.browser("bo") as bo:
        assert bo.post("/api/playground/consent", json={"version": "old"}).json()["code"] == "consent"
        assert bo.post("/api/playground/consent", json={"version": version}).status_code == 204
        chat = start(bo)
        assert bo.post("/api/playground/consent", json={"version": None}).status_code == 204
        sent = {"parent": chat["turns"][1]["id"], "text": "More", "key": "k"}
        assert bo.post(f"/api/chats/{chat['ref']}/turns", json=sent).json()["code"] == "consent"


@pytest.mark.medium
def test_a_reader_who_leaves_frees_the_model(playing: Playing) -> None:
    play = playing()
    play.model.says, play.model.holds = "One two three", 1
    with play.browser("bo") as bo:
        # the test client reads whole answers, so the page's departure is a closed generator
        from heedful.serve.playground import asking, passing
        from heedful.serve.playground.records import ChatSettings

        async def leave() -> int:
            with play.store.writing() as db:
                caller = asking.caller_of(db, _Person(play.ids["bo"], "bo"), datetime.now(UTC))  # type: ignore[arg-type]
            messages = [{"role": "user", "content": "Count"}]
            speech = asking.speech(play.app.state.service, caller, "tiny", messages, ChatSettings(), refused=True)
            answer = passing._merged([speech])
            assert json.loads(await anext(answer)) == {"place": 0, "text": "One"}
            running = play.model.running
            await answer.aclose()  # type: ignore[attr-defined]
            return running

        assert bo.portal is not None
        assert bo.portal.call(leave) == 1
        assert play.model.running == 0


class _Person:
    def __init__(self, id: int, name: str) -> None:
        self.id, self.name, self.admin = id, name, False


# Reactions


@pytest.mark.medium
def test_a_thumb_and_an_edit_are_found_in_the_collection(playing: Playing) -> None:
    play = playing()
    with play.browser("ada") as ada:
        chat = start(ada, temperature=0.25)
        answer = f"/api/chats/{chat['ref']}/turns/{chat['turns'][1]['id']}"
        assert ada.post(f"{answer}/thumb", json={"thumb": "up"}).status_code == 204
        down = {"thumb": "down", "reasons": ["wrong"], "comment": " It is five. "}
        for _ in range(2):
            assert ada.post(f"{answer}/thumb", json=down).status_code == 204
        assert ada.post(f"{answer}/edit", json={"text": "Five."}).status_code == 204
        assert "same" in ada.post(f"{answer}/edit", json={"text": "Four. "}).json()["error"]
        assert ada.post(f"{answer}/thumb", json={"thumb": "up", "reasons": ["loud"]}).status_code == 400
        (kept,) = kept_of(play)
        assert (kept.exchange.prompt, kept.exchange.answers) == (
            [{"role": "user", "content": "What is 2 + 2?"}],
            ["Four."],
        )
        assert kept.exchange.model == "tiny"
        assert kept.exchange.settings["temperature"] == 0.25
        assert dict(kept.reactions) == {
            "thumb": {"up": False, "reasons": ["wrong"], "comment": "It is five."}, "edit": {"text": "Five."}
        }  # fmt: skip
        shown = ada.get(f"/api/chats/{chat['ref']}").json()["turns"][1]
        assert (shown["thumb"]["up"], shown["thumb"]["reasons"], shown["edit"]) == (False, ["wrong"], "Five.")
        assert ada.post(f"{answer}/thumb", json={"thumb": None}).status_code == 204
        assert [kind for kind, _ in kept_of(play)[0].reactions] == ["edit"]


def kept_of(play: Play) -> list[Any]:
    with play.store.reading() as db:
        return of_user(db, "ada")


def compared(ada: TestClient, play: Play, text: str = "What is 2 + 2?") -> tuple[dict[str, Any], str]:
    chat = start(ada, text, compare=True, top_p=0.5)
    left, right = chat["turns"][1:]
    assert left["pair"] == right["pair"]
    return chat, f"/api/chats/{chat['ref']}/pairs/{left['pair']}"


@pytest.mark.medium
def test_a_choice_between_two_blind_answers(playing: Playing) -> None:
    play = playing("red", "sft-2")
    play.models["red"].says = "Four."
    play.models["sft-2"].says = "It is 4."
    sides = set()
    with play.browser("ada") as ada:
        for _ in range(12):
            chat, here = compared(ada, play)
            left, right = chat["turns"][1:]
            assert (left["model"], right["model"]) == (None, None)  # blind
            thumb = ada.post(f"/api/chats/{chat['ref']}/turns/{left['id']}/thumb", json={"thumb": "up"})
            assert thumb.status_code == 400
            sides.add(left["text"])
        made = ada.post(here, json={"verdict": "right"})
        assert [turn["model"] for turn in made.json()["turns"]] == (
            ["red", "sft-2"] if left["text"] == "Four." else ["sft-2", "red"]
        )
        assert made.json()["tip"] == right["id"]
        assert ada.post(here, json={"verdict": "right"}).json() == made.json()  # sent twice
        again = ada.post(here, json={"verdict": "tie"})
        assert (again.status_code, again.json()["code"]) == (409, "done")
    assert sides == {"Four.", "It is 4."}  # 1 in 2048 fails
    ((pick, judged),) = picks_of(play, "ada")
    assert judged == {"outcome": "right"}
    assert pick["prompt"] == [{"role": "user", "content": "What is 2 + 2?"}]
    assert [pick[side]["text"] for side in "ab"] == [left["text"], right["text"]]
    assert {pick[side]["model"] for side in "ab"} == {"red", "sft-2"}
    assert (
        pick["settings"]["left"] == pick["settings"]["right"] == {"temperature": 1.0, "top_p": 0.5, "max_tokens": 512}
    )
    assert pick["blind"] is True
    asked = [model.asked[-1] for model in play.models.values()]
    assert asked[0] | {"model": ""} == asked[1] | {"model": ""}


@pytest.mark.medium
def test_a_choice_after_an_answer_that_names_its_model_is_not_blind(playing: Playing) -> None:
    play = playing("red", "sft-2")
    play.models["red"].says = "I am RED, and it is four."
    with play.browser("ada") as ada:
        _, here = compared(ada, play)
        made = ada.post(here, json={"verdict": "bad"}).json()
    assert [turn["verdict"]["blind"] for turn in made["turns"]] == [False] * 2
    assert picks_of(play, "ada")[0][0]["blind"] is False


@pytest.mark.medium
def test_a_comparison_needs_two_models_and_two_answers(playing: Playing) -> None:
    play = playing("red", "sft-2")
    play.model.fails = "away"
    with play.browser("ada") as ada:
        _, here = compared(ada, play)
        assert "complete" in ada.post(here, json={"verdict": "tie"}).json()["error"]
        play.app.state.service.models.pop("red")
        alone = ada.post("/api/chats", json={"text": "x", "settings": {"compare": True}})
        assert "needs two" in alone.json()["error"]
        unknown = ada.post("/api/chats", json={"text": "x", "settings": {"model": "blue"}})
        assert "not served here" in unknown.json()["error"]


@pytest.mark.medium
def test_only_models_that_read_earlier_turns_are_compared_in_a_longer_chat(playing: Playing) -> None:
    play = playing("red", "sft-2")
    play.model.one_message = True
    with play.browser("ada") as ada:
        first, here = compared(ada, play)  # they read the first message
        ada.post(here, json={"verdict": "left"})
        message, left = (turn["id"] for turn in first["turns"][:2])
        more = {"parent": left, "text": "And?", "key": "more"}
        refused = ada.post(f"/api/chats/{first['ref']}/turns", json=more)
        assert (refused.status_code, "Start a new chat" in refused.json()["error"]) == (400, True)
        again = ada.post(f"/api/chats/{first['ref']}/answers", json={"parent": message, "key": "again"})
        assert again.status_code == 201
        ended(ada, first["ref"])
        turns = [{"role": role, "content": "Hello"} for role in ("user", "assistant", "user")]
        passing = {"messages": turns, "settings": {"compare": True}}
        assert ada.post("/api/passing", json=passing).status_code == 400
        assert ada.post("/api/passing", json=passing | {"messages": turns[:1]}).status_code == 200


@pytest.mark.medium
def test_what_is_not_drawn_takes_reactions_in_the_conversation_alone(playing: Playing) -> None:
    play = playing()
    play.collection._draw = lambda: 1.0
    with play.browser("ada") as ada:
        chat = start(ada)
        answer = f"/api/chats/{chat['ref']}/turns/{chat['turns'][1]['id']}"
        assert ada.post(f"{answer}/thumb", json={"thumb": "up"}).status_code == 204
        assert ada.get(f"/api/chats/{chat['ref']}").json()["turns"][1]["thumb"]["up"] is True
    with play.store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Exchange)) == 0
        assert react.of_exchange(db, "x") == []


# Hostile texts


@pytest.mark.medium
def test_a_hostile_text_is_quick_and_plain(playing: Playing) -> None:
    play = playing()
    play.model.says = "[" * 20_000 + "<script>alert(1)</script>"
    with play.browser("ada") as ada:
        began = time.monotonic()
        answer = start(ada)["turns"][1]
        assert time.monotonic() - began < 2
    assert answer["rich"] is False
    assert "&lt;script&gt;" in answer["html"]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ApiError(400, "this chat is refused: no earlier turns", param="messages"),
            "This chat is refused: no earlier turns. Start a new chat, or choose another model.",
        ),
        (ApiError(400, "This model reads less", code="context_length_exceeded", param="messages"), models.FULL),
        (ApiError(503, "It is away."), "It is away."),
    ],
    ids=["refused", "full", "away"],
)
def test_a_failed_answer_tells_its_reader_what_to_do(
    playing: Playing, monkeypatch: pytest.MonkeyPatch, error: ApiError, told: str
) -> None:
    play = playing()

    async def respond(call: Call) -> Reply:
        raise error

    monkeypatch.setattr(play.model, "respond", respond)
    with play.browser("ada") as ada:
        assert start(ada)["turns"][1]["note"] == told
