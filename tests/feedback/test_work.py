"""A labeler's tasks, submissions and the way back."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from heedful.data.records import Answer, Completions
from heedful.feedback import assignment, items, people, projects, search, work
from heedful.feedback.judgements import Versus
from heedful.feedback.schema import Event, Item, Membership, Role
from heedful.feedback.store import Store

from .team import Team


def test_a_judgement_knows_all_about_itself(store: Store) -> None:
    team = Team(store, "ada")
    with store.writing() as db:
        for text in ("Be kind.", "Be kind and brief."):
            guide = projects.write_instruction(db, team.project, "guide", text, team.now, by=None)
    (ref,) = team.rankings(1, K=4)
    task = team.task("ada")
    done = team.submit("ada", task, {"ranking": [[2], [0, 3], [1]]}, seconds=41.5)
    with store.reading() as db:
        event, item = db.get_one(Event, done.event), items.by_ref(db, team.project, ref)
        assert item is not None
        assert item.payload["models"] == ["m0", "m1", "m2", "m3"]
    shown = [item.payload["completions"][index] for index in event.order or []]
    assert shown == list(task.completions)
    ranked = [[item.payload["completions"][index] for index in tier] for tier in (event.content or {})["ranking"]]
    by_hand = [[task.completions[2]], [task.completions[0], task.completions[3]], [task.completions[1]]]
    assert [sorted(tier) for tier in ranked] == [sorted(tier) for tier in by_hand]
    assert (event.person_id, event.item_id, event.seconds) == (team.ids["ada"], item.id, 41.5)
    assert (
        (event.instructions, event.payload_sha256) == (guide.version, item.payload_sha256) == (2, item.payload_sha256)
    )
    assert event.when == team.now


@pytest.mark.medium
def test_every_labeler_sees_an_order_of_her_own_and_the_same_after_reloading(store: Store) -> None:
    team = Team(store, "ada", "bob", double_share=1.0)
    team.rankings(12, K=6)
    orders: dict[str, dict[str, tuple[int, ...]]] = {"ada": {}, "bob": {}}
    for name, found in orders.items():
        for _ in range(12):
            task = team.task(name)
            assert team.task(name) == task
            assert sorted(task.order) == list(range(6))
            found[task.ref] = task.order
            team.submit(name, task)
    # of 720 orders two of twelve are the same now and then; many never are
    assert sum(orders["ada"][ref] == orders["bob"][ref] for ref in orders["ada"]) < 4
    assert len(set(orders["ada"].values())) > 8


def test_the_next_task_is_ready_beside_the_one_at_hand(store: Store) -> None:
    team = Team(store, "ada")
    team.rankings(3)
    first = team.task("ada")
    second = team.task("ada", besides=first.lease)
    assert second.ref != first.ref
    assert team.task("ada", besides=first.lease) == second
    team.submit("ada", first)
    assert team.task("ada").lease == second.lease


def test_the_highest_priority_goes_first(store: Store) -> None:
    team = Team(store, "ada")
    team.rankings(5)
    urgent = team.rankings(2, start=10, priority=5)
    with store.writing() as db:
        last = search.listing(db, team.project, limit=100)[-1].ref
        items.change(db, team.project, [last], team.now, by=None, priority=9)
    assert [team.work("ada")[0].ref for _ in range(3)] == [last, *sorted(urgent, key=lambda ref: team.item(ref).rank)]


@pytest.mark.medium
def test_the_share_doubled_is_about_as_asked_and_can_be_changed(store: Store) -> None:
    team = Team(store, "ada", double_share=0.3, copies=3)
    refs = team.rankings(200)
    wanted = Counter(row.wanted for row in team.rows(Item.wanted))
    assert wanted.keys() == {1, 3}
    assert 40 <= wanted[3] <= 80  # 60 +- 3 standard deviations of 6.5
    team.task("ada")
    team.settle(double_share=1.0, copies=2)
    assert {team.item(ref).wanted for ref in refs} == {2}


@pytest.mark.medium
def test_gold_and_attention_items_are_mixed_in_and_look_like_others(store: Store) -> None:
    team = Team(store, "ada", "bob", gold_share=0.3, attention_share=0.2)
    team.rankings(100)
    golds, checks = team.gold_rankings(40), team.gold_rankings(40, "attention")
    for name in ("ada", "bob"):
        given = [team.task(name)]
        for _ in range(39):
            team.submit(name, given[-1])
            given.append(team.task(name))
        refs = [task.ref for task in given]
        assert len(set(refs)) == 40
        assert 5 <= sum(ref in golds for ref in refs) <= 20  # 12 expected
        assert 2 <= sum(ref in checks for ref in refs) <= 16  # 8 expected
        assert {(task.practice, task.corrects, task.draft) for task in given} == {(False, None, None)}
    assert "purpose" not in work.Task.__dataclass_fields__


@pytest.mark.medium
def test_held_out_labelers_get_evaluation_items_alone(store: Store) -> None:
    team = Team(store, "ada")
    team.join("eve", "held_out")
    team.rankings(3)
    evaluation = team.rankings(2, start=10, purpose="evaluate")
    assert {done.ref for done in team.work("eve", 2)} == set(evaluation)
    assert team.next("eve") == work.Nothing("empty")
    team.settle(labelers_evaluate=False)
    team.rankings(2, start=20, purpose="evaluate")
    team.work("ada", 3)
    assert team.next("ada") == work.Nothing("empty")
    team.settle(labelers_evaluate=True)
    assert len(team.work("ada", 2)) == 2


@pytest.mark.parametrize("role", ["held_out", "reader"])
def test_another_role_hands_back_what_it_may_not_have(store: Store, role: Role) -> None:
    """In hand, left with a draft, or submitted and not to be taken back: a training item is hers no more."""
    team = Team(store, "ada")
    team.rankings(3)
    done = team.work("ada")[0]
    left = team.task("ada")
    with store.writing() as db:
        work.save_draft(db, team.ids["ada"], left.lease, {"ranking": []}, team.now)
    team.wait(hours=2)
    kept = team.task("ada", besides=left.lease)
    (evaluated,) = team.rankings(1, start=9, purpose="evaluate")
    with store.writing() as db:
        people.change_member(db, team.project, team.ids["ada"], team.now, by=None, role=role)
    with store.writing() as db:  # an item that was handed back is free for another
        another = people.add_person(db, "bob", None, team.now).id
        people.join(db, team.project, another, "labeler", team.now)
        kept_item = db.get_one(Item, team.item(kept.ref).id)
        assert assignment.is_free(db, kept_item, another, team.now)
    for task in (left, kept):
        with pytest.raises(work.Refused, match="your role in this project has changed") as refused:
            team.submit("ada", task)
        assert refused.value.code == "lost"
        found = team.next("ada", besides=task.lease)
        assert found == work.Nothing("no_role") if role == "reader" else found.ref == evaluated  # type: ignore[union-attr]
    with pytest.raises(work.Refused):
        team.undo("ada", done.event)
    assert [(item.open, item.taken) for item in map(team.item, (left.ref, kept.ref))] == [(True, 0)] * 2


def test_a_role_given_back_finds_its_drafts(store: Store) -> None:
    team = Team(store, "ada")
    team.rankings(2)
    task = team.task("ada")
    with store.writing() as db:
        work.save_draft(db, team.ids["ada"], task.lease, {"ranking": [[2]]}, team.now)
        for role in ("held_out", "labeler"):
            people.change_member(db, team.project, team.ids["ada"], team.now, by=None, role=role)  # type: ignore[arg-type]
    assert (team.task("ada").lease, team.task("ada").draft) == (task.lease, {"ranking": [[2]]})


def test_a_newcomer_is_screened_then_practises_then_works(store: Store) -> None:
    team = Team(store, first_phase="screening")
    team.join("ada")
    team.rankings(2)
    tests, practice = team.gold_rankings(2, "screening"), team.gold_rankings(1, "practice", explanations=["Read it."])
    assert [done.ref for done in team.work("ada", 2)] == list(tests)
    assert team.next("ada") == work.Nothing("screened")
    with store.writing() as db:
        people.change_member(db, team.project, team.ids["ada"], team.now, by=None, phase="practice")
    task = team.task("ada")
    assert (task.ref, task.practice) == (practice[0], True)
    right = task.order.index(0), task.order.index(1), task.order.index(2)
    feedback = team.submit("ada", task, {"ranking": [[right[0]], [right[2]], [right[1]]]}).feedback
    assert feedback is not None
    assert feedback.expected["ranking"] == [[place] for place in right]
    assert feedback.share == pytest.approx(2 / 3)  # of three pairs, wrong before silly is not hers
    assert feedback.explanation == "Read it."
    assert not team.task("ada").practice
    assert [row.phase for row in team.rows(Membership.phase)] == ["work"]


def test_gold_answers_back_only_where_the_lead_allows(store: Store) -> None:
    team = Team(store, "ada", "bob", gold_share=1.0)
    team.gold_rankings(2)
    assert team.work("ada")[0].feedback is None
    team.settle(show_gold=True)
    assert team.work("ada")[0].feedback is not None
    with pytest.raises(work.Refused, match="answered already"):
        team.undo("ada")


@pytest.mark.parametrize("why", ["paused", "consent", "archived", "no_role"])
def test_no_task_and_why(store: Store, why: str) -> None:
    team = Team(store, "ada")
    team.rankings(1)
    assert isinstance(team.next("ada"), work.Task)
    with store.writing() as db:
        if why == "paused":
            people.change_member(db, team.project, team.ids["ada"], team.now, by=None, paused=True, why="a talk first")
        elif why == "consent":
            projects.write_instruction(db, team.project, "consent", "Your work is kept.", team.now, by=None)
        elif why == "archived":
            projects.archive(db, team.project, team.now)
        else:
            people.add_person(db, "lead", None, team.now)
            people.change_member(db, team.project, team.ids["ada"], team.now, by=None, role="reader")
    assert team.next("ada") == work.Nothing(why)  # type: ignore[arg-type]


def test_the_same_key_again_answers_the_same_and_another_use_of_it_is_refused(store: Store) -> None:
    team = Team(store, "ada", "bob", double_share=1.0)
    team.rankings(2)
    first = team.task("ada")
    done = team.submit("ada", first, key="k")
    again = team.submit("ada", first, {"ranking": [[2], [1], [0]]}, key="k")
    assert (again.event, again.repeated) == (done.event, True)
    assert len(team.rows(Event.id)) == 1
    second = team.task("ada")
    with pytest.raises(work.Refused, match="another submission"):
        team.submit("ada", second, key="k")
    with pytest.raises(work.Refused) as refused:
        team.submit("ada", first, key="k2")
    assert refused.value.code == "done"
    assert not team.submit("bob", team.task("bob"), key="k").repeated  # keys are a labeler's own


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "'ranking': missing"),
        ({"ranking": []}, "A, B, C not placed yet"),
        ({"ranking": [[0], [2]]}, "B not placed yet"),
        ({"ranking": [[0], [1, 1], [2]]}, "exactly once"),
        ({"ranking": [[0], [], [1, 2]]}, "exactly once"),
        ({"ranking": [[0], [1, 2], [3]]}, "exactly once"),
        ({"ranking": [[0], [1], [2]], "ratings": [{"overall": 3}]}, "1 for 3 answers"),
        ({"ranking": [[0], [1], [2]], "best": 1}, "unknown key 'best'"),
    ],
)
def test_an_answer_that_is_none_is_refused_in_a_line(store: Store, answer: dict[str, object], words: str) -> None:
    """An untouched order is not an answer."""
    team = Team(store, "ada")
    team.rankings(1)
    task = team.task("ada")
    with pytest.raises(work.Refused, match=words) as refused, store.writing() as db:
        work.submit(db, team.ids["ada"], task.lease, answer, team.now, idempotency_key="k")
    assert refused.value.code == "invalid"
    assert team.rows(Event.id) == []


def test_completions_are_rated_first_where_the_project_says_so(store: Store) -> None:
    team = Team(store, "ada", rate_first=True)
    team.rankings(1)
    task = team.task("ada")
    ranking = {"ranking": [[0], [1], [2]]}
    with pytest.raises(work.Refused, match="A, B, C not rated yet"):
        team.submit("ada", task, ranking)
    ratings = [{"overall": 5}, {"overall": 2, "violent": True}, {"sexual": False}]
    with pytest.raises(work.Refused, match="ratings: C not rated yet"):
        team.submit("ada", task, {**ranking, "ratings": ratings})
    ratings[2]["overall"] = 7
    event = team.submit("ada", task, {**ranking, "ratings": ratings}).event
    ((content,),) = team.rows(Event.content, where=Event.id == event)
    kept = [content["ratings"][index] for index in task.order]
    assert kept == [{"overall": 5}, {"overall": 2, "violent": True}, {"overall": 7, "sexual": False}]


@pytest.mark.medium
def test_a_choice_is_kept_by_side_whatever_the_order(store: Store) -> None:
    team = Team(store, "ada")
    rows = [Versus(prompt=f"Q{i}?", a=Answer(text="ours", model="new"), b=Answer(text="theirs")) for i in range(8)]
    team.add("choice", rows, "evaluate")
    orders = Counter()
    for _ in range(8):
        task = team.task("ada")
        orders[task.order] += 1
        event = team.submit("ada", task, {"preferred": "ab"[task.completions.index("ours")]}).event
        ((content,),) = team.rows(Event.content, where=Event.id == event)
        assert content == {"preferred": "a"}
        past = history(team, "ada")[0]
        assert past.answer == {"preferred": "ab"[task.completions.index("ours")]}
    assert orders.keys() == {(0, 1), (1, 0)}


def test_a_demonstration_has_its_length(store: Store) -> None:
    team = Team(store, "ada", demonstration_chars=(5, 20))
    team.prompts(1)
    task = team.task("ada")
    for text in ("   hi   ", "x" * 21):
        with pytest.raises(work.Refused, match="Write 5 to 20"):
            team.submit("ada", task, {"completion": text})
    team.submit("ada", task, {"completion": "A fine answer.", "pasted": 3})


def test_prompts_are_written_on_request(store: Store) -> None:
    team = Team(store, "ada")
    with store.writing() as db:
        items.ask_for_prompts(db, team.project, "few_shot", 2, team.now, by=None, use_case="rewrite")
    task = team.task("ada", kind="prompt")
    with pytest.raises(work.Refused, match="at least one shot"):
        team.submit("ada", task, {"prompt": "Make it polite."})
    answer = {"prompt": "Make it polite.", "shots": [{"query": "Go", "response": "Please go."}], "query": "Stop"}
    team.submit("ada", task, answer)
    assert team.task("ada", kind="prompt").ref != task.ref


def history(team: Team, name: str, **options: int) -> list[work.Past]:
    with team.store.reading() as db:
        return work.history(db, team.project, team.ids[name], **options)


def test_undo_is_a_new_event_and_so_is_the_correction(store: Store) -> None:
    team = Team(store, "ada")
    team.rankings(2)
    task = team.task("ada")
    first = team.submit("ada", task, {"ranking": [[2], [0], [1]]}, seconds=10)
    back = team.undo("ada")
    assert (back.lease, back.order, back.corrects) == (task.lease, task.order, first.event)
    assert back.draft["ranking"] == [[2], [0], [1]]
    second = team.submit("ada", back, {"ranking": [[0, 1, 2]]}, seconds=5)
    rows = team.rows(Event.id, Event.kind, Event.refers_to)
    assert rows == [(first.event, "judgement", None), (first.event + 1, "undo", first.event),
                    (second.event, "judgement", first.event)]  # fmt: skip
    assert [(past.event, past.stands) for past in history(team, "ada")] == [(second.event, True), (first.event, False)]
    assert history(team, "ada", before=second.event)[0].answer == {"none_acceptable": False, "ranking": [[2], [0], [1]]}
    with store.reading() as db:
        progress = work.progress(db, team.project, team.ids["ada"], team.now)
    assert (progress.today, progress.total, progress.seconds_today) == (1, 1, 5.0)


def test_undo_goes_back_step_by_step_and_says_when_there_is_no_more(store: Store) -> None:
    team = Team(store, "ada", "bob")
    team.rankings(3)
    first, second = team.work("ada", 2)
    assert team.undo("ada").ref == second.ref
    assert team.undo("ada", idempotency_key="u").ref == first.ref
    assert team.undo("ada", idempotency_key="u").ref == first.ref  # a retry takes nothing more back
    for name in ("ada", "bob"):
        with pytest.raises(work.Refused) as refused:
            team.undo(name)
        assert refused.value.code == "nothing_to_undo"


def test_an_older_judgement_can_be_taken_back_but_nobody_elses(store: Store) -> None:
    team = Team(store, "ada", "bob")
    team.rankings(3)
    first, _ = team.work("ada", 2)
    with pytest.raises(work.Refused):
        team.undo("bob", first.event)
    assert team.undo("ada", first.event).corrects == first.event
    with pytest.raises(work.Refused, match="undone already"):
        team.undo("ada", first.event)


@pytest.mark.parametrize("why", ["paused", "archived", "no_role"])
def test_nothing_is_taken_back_that_could_not_be_given_again(store: Store, why: str) -> None:
    team = Team(store, "ada")
    team.rankings(2)
    team.work("ada")
    ada = team.ids["ada"]
    with store.writing() as db:
        if why == "archived":
            projects.archive(db, team.project, team.now)
        elif why == "paused":
            people.change_member(db, team.project, ada, team.now, by=None, paused=True)
        else:
            people.change_member(db, team.project, ada, team.now, by=None, role="reader")
    with pytest.raises(work.Refused, match="What you submitted stays as it is") as refused:
        team.undo("ada")
    assert refused.value.code == why
    assert [(past.event_kind, past.stands) for past in history(team, "ada")] == [("judgement", True)]
    assert team.rows(Event.kind) == [("judgement",)]


def test_a_skipped_item_goes_to_others_and_can_be_taken_back_while_it_is_free(store: Store) -> None:
    team = Team(store, "ada", "bob")
    team.rankings(1)
    task = team.task("ada")
    event = team.skip("ada", task, key="s")
    assert team.skip("ada", task, key="s") == event
    assert team.next("ada") == work.Nothing("empty")
    assert team.undo("ada").ref == task.ref
    team.skip("ada", task)
    assert team.task("bob").ref == task.ref
    with pytest.raises(work.Refused) as refused:
        team.undo("ada")
    assert refused.value.code == "lost"


def test_an_item_that_many_skip_is_held_for_a_lead(store: Store) -> None:
    team = Team(store, "ada", "bob", "cyd", most_skips=2)
    (ref,) = team.rankings(1)
    for name in ("ada", "bob"):
        team.skip(name, team.task(name))
    assert team.next("cyd") == work.Nothing("empty")
    assert team.item(ref).held == "skipped by 2"
    with store.writing() as db:
        items.change(db, team.project, ref, team.now, by=None, held="")
    assert team.task("cyd").ref == ref


@pytest.mark.medium
def test_personal_data_holds_the_item_until_a_lead_has_looked(store: Store) -> None:
    team = Team(store, "ada", "bob", double_share=1.0)
    team.rankings(1)
    task = team.task("ada")

    def mark(marked: bool) -> None:
        with store.writing() as db:
            work.mark_personal(db, team.ids["ada"], task.lease, marked, team.now, note="a phone number")

    mark(True)
    mark(True)
    assert team.next("bob") == work.Nothing("in_other_hands", task.expires)
    mark(False)
    assert team.task("bob").ref == task.ref
    mark(True)
    team.submit("ada", task)  # her own task goes on
    marks = team.rows(Event.id, Event.content, where=Event.kind == "personal")
    assert [row.content["marked"] for row in marks] == [True, False, True]


def test_an_expired_lease_that_is_taken_up_again_is_live(store: Store) -> None:
    """Nobody else gets the item from then on, for the whole time of a lease."""
    team = Team(store, "ada", "bob", double_share=0.0)
    team.rankings(1)
    task = team.task("ada")
    whole = task.expires - team.now
    team.wait(seconds=whole.total_seconds() + 1)
    with store.writing() as db:
        again = work.task_of(db, team.ids["ada"], task.lease, team.now)
    assert again.expires == team.now + whole
    assert team.next("bob") == work.Nothing("in_other_hands", again.expires)
    team.wait(seconds=whole.total_seconds() - 1)
    assert team.next("bob") == work.Nothing("in_other_hands", again.expires)
    team.wait(seconds=2)
    assert team.task("bob").ref == task.ref


def test_only_her_own_lease_works(store: Store) -> None:
    team = Team(store, "ada", "bob")
    team.rankings(1)
    task = team.task("ada")
    with pytest.raises(work.Refused) as refused:
        team.submit("bob", task)
    assert refused.value.code == "unknown"
    for token in ("nonsense", "null \0", "é"):
        with pytest.raises(work.Refused), store.writing() as db:
            work.task_of(db, team.ids["ada"], token, team.now)


def test_a_paused_labeler_cannot_submit(store: Store) -> None:
    team = Team(store, "ada")
    team.rankings(1)
    task = team.task("ada")
    with store.writing() as db:
        people.change_member(db, team.project, team.ids["ada"], team.now, by=None, paused=True)
    with pytest.raises(work.Refused) as refused:
        team.submit("ada", task)
    assert refused.value.code == "paused"


def test_a_draft_may_hold_anything_and_renews_the_lease(store: Store) -> None:
    team = Team(store, "ada", lease_minutes=10)
    team.prompts(1)
    task = team.task("ada")
    for _ in range(5):
        team.wait(minutes=9)
        with store.writing() as db:
            assert work.save_draft(db, team.ids["ada"], task.lease, "half \0 \ud83d", team.now) == team.now + timedelta(
                minutes=10
            )
    assert team.task("ada").draft == "half \0 \ud83d"


def test_tasks_of_one_kind(store: Store) -> None:
    team = Team(store, "ada", kinds=["ranking", "demonstration"])
    team.rankings(2)
    team.prompts(2)
    assert team.task("ada", kind="demonstration").kind == "demonstration"
    assert team.task("ada", kind="ranking").kind == "ranking"
    assert team.next("ada", kind="choice") == work.Nothing("empty")
    team.settle(kinds=["ranking"])
    assert team.next("ada", kind="demonstration") == work.Nothing("empty")


def test_progress_counts_by_day_in_utc(store: Store) -> None:
    team = Team(store, "ada")
    team.rankings(3)
    team.prompts(1)
    team.work("ada", 2, seconds=30.25)
    team.wait(days=1)
    team.work("ada", 2, seconds=1)
    with store.reading() as db:
        progress = work.progress(db, team.project, team.ids["ada"], team.now)
        assert work.progress(db, team.project, team.ids["ada"], team.now, days=1).by_day == {team.now.date(): 2}
    yesterday = team.now.date() - timedelta(days=1)
    assert progress.by_day == {yesterday: 2, team.now.date(): 2}
    assert (progress.today, progress.total, progress.seconds_today) == (2, 4, 2.0)
    assert progress.by_kind == {"demonstration": 1, "ranking": 3}


@pytest.mark.medium
def test_the_most_informative_item_goes_first(store: Store) -> None:
    team = Team(store, "ada", policy="uncertainty")
    rows = [
        Completions(prompt=f"Q{i}?", completions=["x", "y"], scores=[0.0, gap]) for i, gap in enumerate((5, 0.1, 1))
    ]
    team.add("ranking", rows)
    unscored = team.rankings(1, start=50)
    order = [team.task("ada").payload.prompt]  # type: ignore[attr-defined]
    for _ in range(2):
        team.submit("ada", team.task("ada"))
        order.append(team.task("ada").payload.prompt)  # type: ignore[attr-defined]
    assert order == ["Q1?", "Q2?", "Q0?"]
    team.submit("ada", team.task("ada"))
    assert team.task("ada").ref == unscored[0]


def test_who_reported_personal_data_may_still_submit_when_the_lease_is_over(store: Store) -> None:
    team = Team(store, "ada", "bob", lease_minutes=10)
    team.rankings(1)
    task = team.task("ada")
    with store.writing() as db:
        work.mark_personal(db, team.ids["ada"], task.lease, True, team.now)
        work.save_draft(db, team.ids["ada"], task.lease, {"note": "half"}, team.now)
    team.wait(minutes=11)
    assert isinstance(team.next("bob"), work.Nothing)
    assert team.task("ada").draft == {"note": "half"}
    team.wait(minutes=11)
    with store.writing() as db:
        work.save_draft(db, team.ids["ada"], task.lease, {"note": "more"}, team.now)
    team.wait(minutes=11)
    team.submit("ada", task)
    assert team.item(task.ref).held == f"personal data, reported by {team.ids['ada']}"


def test_a_lead_who_holds_a_reported_item_takes_it_back(store: Store) -> None:
    team = Team(store, "ada", lease_minutes=10)
    team.rankings(1)
    task = team.task("ada")
    with store.writing() as db:
        work.mark_personal(db, team.ids["ada"], task.lease, True, team.now)
        items.change(db, team.project, task.ref, team.now, by=None, held="we look into it")
    team.wait(minutes=11)
    with pytest.raises(work.Refused):
        team.submit("ada", task)
