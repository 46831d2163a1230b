from __future__ import annotations

import re
import statistics
from collections import Counter
from random import Random

import pytest

from heedful.config import UserError
from heedful.data.curation import curate
from heedful.data.personal_data import personal_data
from heedful.data.records import Prompt
from heedful.sandbox import prompts, tasks
from heedful.sandbox.constraints import Constraint
from heedful.sandbox.world import make_world

COUNT = 5000


@pytest.fixture(scope="module")
def raw() -> list[Prompt]:
    return list(prompts.prompts(make_world(7), COUNT))


@pytest.mark.medium
@pytest.mark.parametrize("seed", [2, 7, 31])
def test_every_template_and_phrasing_is_read_back_exactly(seed: int) -> None:
    world, rng = make_world(seed), Random(seed)
    for template in tasks.TEMPLATES:
        for constrained in [0.0] * len(template.phrasings) * 2 + [1.0] * 12:
            drawn = tasks.draw_task(world, rng, template, constrained)
            read = tasks.parse(seed, prompts.dress(world, rng, drawn))
            assert (read.template.name, read.slots, read.constraint) == (template.name, drawn.slots, drawn.constraint)


@pytest.mark.medium
def test_every_prompt_of_a_stream_is_read_back(raw: list[Prompt]) -> None:
    assert all(tasks.parse(7, str(prompt.prompt)).use_case == prompt.use_case for prompt in raw)


@pytest.mark.medium
def test_use_cases_come_in_the_papers_shares(raw: list[Prompt]) -> None:
    counts = Counter(prompt.use_case for prompt in raw)
    curated, _ = curate(raw)
    kept = Counter(prompt.use_case for prompt in curated)
    for case, share in tasks.USE_CASES.items():
        assert abs(100 * counts[case] / COUNT - share) < 2.0, case
        assert abs(100 * kept[case] / len(curated) - share) < 4.0, case


@pytest.mark.medium
def test_a_few_users_send_most(raw: list[Prompt]) -> None:
    sent = sorted(Counter(prompt.user for prompt in raw).values(), reverse=True)
    assert sent[0] > 200, "the cap of 200 has nothing to cut"
    assert len(sent) > 150
    assert statistics.median(sent) < 0.7 * COUNT / len(sent), "no heavy tail"


@pytest.mark.medium
def test_curation_has_something_to_do(raw: list[Prompt]) -> None:
    _, report = curate(raw)
    removed = {step.name: step.removed for step in report.steps}
    assert removed["deduplicate"] > 0.05 * COUNT
    assert removed["cap_per_user"] > 0.01 * COUNT
    assert removed["filter_personal_data"] > 0.01 * COUNT
    assert set(report.personal_data) >= {"email", "phone"}
    long_pairs = Counter(str(prompt.prompt)[:100] for prompt in raw if len(str(prompt.prompt)) > 100)
    assert any(count > 1 for count in long_pairs.values()), "no two long prompts share a beginning"
    clean = [prompt for prompt in raw[:1000] if not re.search(r"@|\d", str(prompt.prompt))]
    assert not [prompt.prompt for prompt in clean if personal_data(str(prompt.prompt))]


@pytest.mark.medium
def test_a_good_quarter_has_an_explicit_constraint(raw: list[Prompt]) -> None:
    parsed = [tasks.parse(7, str(prompt.prompt)) for prompt in raw]
    share = sum(task.constraint is not None for task in parsed) / COUNT
    assert 0.22 < share < 0.31  # D6: 26.3 %
    kinds = Counter(task.constraint.kind for task in parsed if task.constraint)
    assert kinds.keys() == {"start", "end", "use", "avoid", "sentences", "words", "word", "exactly"}
    assert 0.005 < sum(task.template.unsafe for task in parsed) / COUNT < 0.06


def test_prompts_are_short(raw: list[Prompt]) -> None:
    lengths = sorted(len(str(prompt.prompt).split()) for prompt in raw)
    assert 12 <= lengths[COUNT // 2] <= 25
    assert lengths[-1] < 75


def test_prompts_are_a_function_of_world_and_seed() -> None:
    world = make_world(3)
    assert list(prompts.prompts(world, 40)) == list(prompts.prompts(world, 40))
    assert list(prompts.prompts(world, 40)) != list(prompts.prompts(world, 40, seed=1))


def test_a_task_is_found_within_what_stands_around_it() -> None:
    world = make_world(7)
    who, place = world.person_names[3], world.place_names[5]
    text = (
        f"Hello. I come from {place}. Where does {who} live? Use at most eight words. Thank you. Call me at 555-0100."
    )
    task = tasks.parse(7, text)
    assert (task.template.name, task.slots, task.constraint) == ("home", {"who": who}, Constraint("words", "eight"))
    first = tasks.parse(7, f"Use the word 'bell'. Write a short story about {who} and an owl.")
    assert (first.template.name, first.slots) == ("story_of_two", {"hero": who, "hero2": "an owl"})
    assert first.constraint == Constraint("use", "bell")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What is the meaning of life?",
        "Write a short story about a unicorn.",
        "Where does Abraham live?",
        "Name nine animals.",
    ],
)
def test_a_prompt_from_elsewhere_is_refused_by_name(text: str) -> None:
    with pytest.raises(UserError, match="is not of world 7"):
        tasks.parse(7, text)
