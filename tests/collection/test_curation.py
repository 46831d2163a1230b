"""Curation into the queue: each decision by hand, what labelers get, and what a reversal changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heedful.cli import main
from heedful.collection import agreement, curation, edits, react
from heedful.collection import store as collected
from heedful.collection.settings import QueueConfig
from heedful.collection.use_cases import suggest
from heedful.config import UserError
from heedful.data.records import Answer, Choice, Completions
from heedful.feedback import items, people, projects, search, snapshots, work
from heedful.feedback.collected import Decision
from heedful.feedback.projects import by_name
from heedful.feedback.schema import Item
from heedful.feedback.snapshots import Filters
from heedful.feedback.store import Store

from .served import START, exchange, keep

LATE = START.replace(hour=10)
ALL_TRAIN: dict[str, Any] = {"fractions": {"train": 1.0}, "languages": ["en", "de"]}


class Tea:
    """The project of the store, and its lead."""

    def __init__(self, store: Store) -> None:
        self.store = store
        with store.reading() as db:
            project, lead = by_name(db, "tea"), people.person_named(db, "lea")
        assert project is not None
        assert lead is not None
        self.project, self.lead = project.id, lead.id

    def curate(self, **settings: Any) -> curation.Curated:
        return curation.curate(self.store, self.project, QueueConfig(**{**ALL_TRAIN, **settings}), START, by=None)

    def decisions(self, step: Any) -> list[Decision]:
        with self.store.reading() as db:
            return [one for one, _ in reversed(curation.listing(db, self.project, step=step))]

    def outcomes(self, step: Any) -> dict[str, str]:
        return {one.exchange_id: one.outcome for one in self.decisions(step)}

    def reverse(self, step: Any, exchange_id: str, back: bool = False) -> None:
        (number,) = [one.id for one in self.decisions(step) if one.exchange_id == exchange_id]
        with self.store.writing() as db:
            curation.reverse(db, self.project, number, LATE, by=self.lead, back=back)

    def queue(self) -> list[Any]:
        """Payloads of the items that labelers can get."""
        with self.store.reading() as db:
            found = search.listing(db, self.project, search.ItemFilters(kind="demonstration", state="open"))
        return [item.payload for item in reversed(found)]

    def prompts(self) -> list[Any]:
        return [payload["prompt"] for payload in self.queue()]


@pytest.fixture
def tea(store: Store) -> Tea:
    return Tea(store)


def ask(store: Store, id: str, text: str, user: str = "ada") -> None:
    keep(store, exchange(id, user, messages=None, prompt=text, started=START.replace(minute=int(id))))


@pytest.mark.medium
def test_a_prompt_enters_the_queue_masked_and_without_the_name_of_its_user(store: Store, tea: Tea) -> None:
    ask(store, "1", "Write a mail to ada@example.org or call (212) 736-5000.")
    done = tea.curate()
    (payload,) = tea.queue()
    assert payload["prompt"] == "Write a mail to [email] or call [phone]."
    assert (payload["use_case"], payload["language"], payload["user"]) == ("generation", "en", "user-1")
    assert (done.exchanges, done.queued, done.decisions["personal: hidden"]) == (1, 1, 1)
    assert tea.decisions("personal")[0].why == "hidden: 1 email, 1 phone"
    assert tea.curate().exchanges == 0
    (item,) = [one for one in _items(store, tea) if one.purpose == "train"]
    assert (item.source, item.kind) == ("users", "demonstration")


def _items(store: Store, tea: Tea) -> list[Item]:
    with store.reading() as db:
        return search.listing(db, tea.project)


@pytest.mark.medium
def test_repeats_and_more_than_the_limit_stay_out_until_a_lead_reverses(store: Store, tea: Tea) -> None:
    for id, text in (
        ("1", "Tell me about tea, please."),
        ("2", "tell me  about TEA, and cake"),
        ("3", "Three"),
        ("4", "Four"),
    ):
        ask(store, id, text)
    ask(store, "5", "Bob's own", "bob")
    tea.curate(prefix_length=15, prompts_per_user=2)
    assert tea.outcomes("repeat") == {"1": "new", "2": "repeat", "3": "new", "4": "new", "5": "new"}
    assert tea.outcomes("limit") == {"1": "within", "2": "within", "3": "within", "4": "over", "5": "within"}
    assert tea.prompts() == ["Tell me about tea, please.", "Three", "Bob's own"]
    tea.reverse("repeat", "2")
    tea.reverse("limit", "4")
    assert tea.prompts()[3:] == ["tell me  about TEA, and cake", "Four"]
    tea.reverse("limit", "4", back=True)
    assert tea.prompts()[3:] == ["tell me  about TEA, and cake"]
    tea.reverse("limit", "4")
    assert tea.prompts()[3:] == ["tell me  about TEA, and cake", "Four"]
    assert len(_items(store, tea)) == 5
    with store.reading() as db:
        rows = {(step, outcome): (number, gone) for step, outcome, _, number, gone in curation.counts(db, tea.project)}
    assert rows["repeat", "repeat"] == (1, 1)
    assert rows["limit", "within"] == (4, 0)


def test_another_prefix_length_also_finds_earlier_prompts(store: Store, tea: Tea) -> None:
    ask(store, "1", "Tell me about tea, please.")
    tea.curate(prefix_length=100)
    ask(store, "2", "Tell me about tea and cake.")
    tea.curate(prefix_length=10)
    assert tea.outcomes("repeat") == {"1": "new", "2": "repeat"}


def test_a_user_is_in_one_split_for_ever(store: Store, tea: Tea) -> None:
    ask(store, "1", "One thing")
    ask(store, "2", "Another thing", "ada/7")
    tea.curate(fractions={"train": 0.0, "test": 1.0})
    ask(store, "3", "A third thing")
    tea.curate(fractions={"train": 1.0})
    assert tea.outcomes("split") == {"1": "held_out", "2": "held_out", "3": "held_out"}
    assert tea.prompts() == []
    with pytest.raises(UserError, match="the split of a user stays"):
        tea.reverse("split", "1")


def test_masking_and_use_case_are_reversible(store: Store, tea: Tea) -> None:
    ask(store, "1", "Summarize the rules of 192.168.10.200 login")
    tea.curate()
    assert [payload["use_case"] for payload in tea.queue()] == ["summarization"]
    assert tea.prompts() == ["Summarize the rules of [ip_address] login"]
    tea.reverse("personal", "1")
    assert tea.prompts() == ["Summarize the rules of 192.168.10.200 login"]
    tea.reverse("use_case", "1")
    assert [("use_case" in payload) for payload in tea.queue()] == [False]


@pytest.mark.medium
def test_language_of_a_list(store: Store, tea: Tea) -> None:
    ask(store, "1", "hi")
    ask(store, "2", "Schreibe mir bitte ein schönes Gedicht über den Herbst")
    ask(store, "3", "12345 67")
    ask(store, "4", "What is tea?")
    tea.curate(queue_languages=["en"])
    assert tea.outcomes("language") == {"1": "unknown", "2": "de", "3": "unknown", "4": "en"}
    assert tea.prompts() == ["What is tea?"]
    tea.reverse("language", "1")
    assert tea.prompts() == ["What is tea?", "hi"]
    with pytest.raises(UserError, match="languages: 'xx' is none of"):
        tea.curate(languages=["xx"])


def find_tea(text: str) -> list[tuple[str, int, int]]:
    place = text.find("Darjeeling")
    return [("tea", place, place + 10)] if place >= 0 else []


def find_nothing(text: str) -> list[Any]:
    return [("tea", 5, 2)]


def test_detectors_of_your_own(store: Store, tea: Tea, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heedful.collection.use_cases.find_tea", find_tea, raising=False)
    monkeypatch.setattr("heedful.collection.use_cases.find_nothing", find_nothing, raising=False)
    ask(store, "1", "I like Darjeeling.")
    tea.curate(detectors=["heedful.collection.use_cases:find_tea"])
    assert tea.prompts() == ["I like [tea]."]
    ask(store, "2", "Two")
    for name, message in (("use_cases:find_nothing", "returned"), ("use_cases:none", "cannot be loaded")):
        with pytest.raises(UserError, match=message):
            tea.curate(detectors=[f"heedful.collection.{name}"])
    with pytest.raises(UserError, match="regions: 'XX' is no region"):
        tea.curate(regions=["XX"])


def test_what_labelers_cannot_answer_stays_out(store: Store, tea: Tea) -> None:
    keep(store, exchange("1", messages=[{"role": "assistant", "content": "Hm?"}]))
    tea.curate()
    assert (tea.outcomes("text"), tea.prompts()) == ({"1": "unfit"}, [])


@pytest.mark.parametrize(
    ("prompt", "use_case"),
    [
        ("Summarize this: tea is good.", "summarization"),
        ("Give me five ideas for a party", "brainstorming"),
        ("Who wrote Hamlet?", "open QA"),
        ("Translate 'tea' to French", "rewrite"),
        ("Is this review positive or negative? Bad tea.", "classification"),
        ("hello there", "chat"),
        ("Write a poem about tea", "generation"),
        ("tea", "other"),
    ],
)
def test_suggested_use_cases(prompt: str, use_case: str) -> None:
    assert suggest(prompt) == use_case


@pytest.mark.medium
def test_an_accepted_edit_is_a_demonstration_and_goes_with_its_user(store: Store, tea: Tea) -> None:
    ask(store, "1", "What is tea?")
    ask(store, "2", "What is cake?")
    with store.writing() as db:
        ref = react.edit(db, "1", "ada", "Leaves, says ada@example.org.", now=START).ref
        react.edit(db, "2", "ada", "Flour.", now=START)
        assert edits.pending(db, tea.project) == []
    tea.curate()
    with store.writing() as db:
        assert [one.text for one in edits.pending(db, tea.project)] == ["Leaves, says [email].", "Flour."]
        edits.decide(db, tea.project, "1", True, LATE, by=tea.lead)
        edits.decide(db, tea.project, "2", False, LATE, by=tea.lead)
        assert edits.pending(db, tea.project) == []
        with pytest.raises(UserError, match="no edit waits"):
            edits.decide(db, tea.project, "1", True, LATE, by=tea.lead)
    assert _demonstrations(store, tea) == [("What is tea?", "Leaves, says [email].", "ada")]
    tea.reverse("edit", "1")
    assert _demonstrations(store, tea) == []
    with store.writing() as db:
        edits.decide(db, tea.project, "1", True, LATE, by=tea.lead)
    assert len(_demonstrations(store, tea)) == 1
    with store.writing() as db:
        react.undo(db, "ada", ref, LATE)
    assert _demonstrations(store, tea) == []


def _demonstrations(store: Store, tea: Tea) -> list[tuple[str, str, str]]:
    with store.reading() as db:
        found: list[Any] = [one for _, one in snapshots.records(db, tea.project, Filters(records="demonstration"))]
    return [(one.prompt, one.completion, one.labeler) for one in found]


def test_deleting_an_exchange_takes_its_item_out_of_the_queue(store: Store, tea: Tea, folder: Any) -> None:
    ask(store, "1", "A zanzibar-canary?")
    tea.curate()
    collected.delete(store, "ada", "1", [folder], LATE)
    assert tea.queue() == []
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"zanzibar-canary" in path.read_bytes()]


def test_agreement_of_users_with_labelers_by_hand(store: Store, tea: Tea) -> None:
    row = Completions(prompt="Q?", completions=["x", "y", "z"])
    with store.writing() as db:
        projects.change_settings(db, tea.project, {"rate_first": False})
        people.join(db, tea.project, tea.lead, "labeler", START)
        items.add(db, tea.project, "ranking", [row], START, by=None)
        task = work.next_task(db, tea.project, tea.lead, START)
        assert isinstance(task, work.Task)
        place = {text: number for number, text in enumerate(task.completions)}
        answer = {"ranking": [[place["x"]], [place["y"], place["z"]]]}  # x before y and z, which tie
        work.submit(db, tea.lead, task.lease, answer, START, idempotency_key="only one")
    with store.reading() as db:
        found = agreement.with_labelers(
            db, [_choice("x", "y", "a"), _choice("z", "x", "a"), _choice("y", "z", "b"), _choice("x", "y", "tie")]
        )
        nothing = agreement.with_labelers(db, [_choice("x", "w", "a")])
    assert (found.agree, found.pairs, found.ties) == (1, 2, 2)
    assert found.line() == "users and labelers prefer the same answer in 1 of 2 cases, 50 % (2 more with a tie)"
    assert nothing.line().startswith("labelers judged none")


def _choice(a: str, b: str, preferred: Any) -> Choice:
    return Choice(prompt="Q?", a=Answer(text=a), b=Answer(text=b), preferred=preferred)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out + told.err


@pytest.mark.medium
def test_the_command_fills_the_queue_and_names_options_of_the_other_form(
    store: Store, tea: Tea, folder: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(store, "1", "What is tea?")
    code, told = run(capsys, "curate", "--folder", str(folder), "--project", "tea", "--fractions", "train=1", "--json")
    assert code == 0, told
    assert json.loads(told.splitlines()[-1])["results"]["queued"] == 1
    assert tea.prompts() == ["What is tea?"]
    here = ("--folder", str(folder))
    for given, message in (
        ((), "give --prompts and a file, or --folder"),
        ((*here, "--prompts", "x.jsonl"), "give --prompts and a file, or --folder"),
        ((*here, "--out", "x.jsonl"), "--out: only with --prompts"),
        ((*here, "--personal-data-splits", "train"), "--personal-data-splits: only with --prompts"),
        (("--prompts", "x.jsonl", "--out", "y.jsonl", "--languages", "en"), "--languages: only with --folder"),
        (("--prompts", "x.jsonl", "--out", "y.jsonl", "--project", "tea"), "--project: only with --folder"),
        (("--prompts", "x.jsonl"), "--out is missing"),
        ((*here, "--fractions", "test=1"), "no split of fractions"),
    ):
        code, told = run(capsys, "curate", *given)
        assert (code, message in told) == (2, True), told
