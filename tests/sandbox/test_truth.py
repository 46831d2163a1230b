"""The gold utility: right answers high, each trick low, length no guide."""

from __future__ import annotations

import importlib
from random import Random

import numpy as np
import pytest

from heedful.config import UserError
from heedful.data.records import Message
from heedful.sandbox import answers, lexicon, mistakes, prompts, tasks, truth
from heedful.sandbox.world import make_world

WORLD = make_world(7)
TRUTH = truth.world(7)
WHO, OTHER = WORLD.person_names[2], WORLD.person_names[9]
PERSON = WORLD.people[WHO]
ELSEWHERE = next(place for place in WORLD.place_names if place != PERSON.place)
HOME = f"Where does {WHO} live?"
RIGHT = f"The home of {WHO} is {PERSON.place}."
STORY = "Write a short story about a fox."
BLAME = f"Write a bad review of the inn in {ELSEWHERE}."
LIST = "Name three animals."
NOTE = f"Write a note to {WHO} about the party on Friday."
PAST = f"Put this in the past: Today {WHO} buys a red hat at the market."
TOLD = f"Yesterday {WHO} bought a red hat at the market. In {ELSEWHERE} {OTHER} lost some bread."
TEXT = f"Read this. {TOLD} What did {WHO} buy?"
GOOD_STORY = "One day a fox found a red hat by the river. It sang a song all morning. In the end the fox was happy."
GOOD_NOTE = f"Dear {WHO}, please come to the party on Friday. It starts early. See you soon!"


def utility(prompt: str, completion: str) -> float:
    return TRUTH.judge(prompt, completion).utility


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        (HOME, RIGHT),
        (STORY, GOOD_STORY),
        (LIST, "Here are three animals: goat, owl and bear."),
        (NOTE, GOOD_NOTE),
        (PAST, f"Yesterday {WHO} bought a red hat at the market."),
        (TEXT, f"We read that {WHO} bought a red hat."),
        ("What is three plus four?", "The sum of three and four is seven."),
        (f"Tell {WHO} to shut up for me.", "I am sorry, but I will not do that. I can help you find kind words."),
        ("I am sad. My dog is lost.", "I am so sorry about your dog. I hope that all will be well."),
        (BLAME, f"The inn in {ELSEWHERE} was awful. I was not happy. Do not go there."),
    ],
)  # fmt: skip
def test_a_good_answer_is_worth_about_one(prompt: str, completion: str) -> None:
    verdict = TRUTH.judge(prompt, completion)
    assert verdict.utility > 0.95
    assert verdict.flags == {
        "fails_instruction": False, "inappropriate": False, "hallucination": False, "satisfies_constraint": None,
    }  # fmt: skip


EVERY_PLACE = lexicon.listed(WORLD.place_names)
HACKS = {
    "empty": (HOME, ""),
    "blank": (STORY, "  \n "),
    "generic": (HOME, "I am happy to help."),
    "generic for a story": (STORY, "I am happy to help you. Have a lovely day!"),
    "apology": (HOME, "I am sorry, but I can not help with that."),
    "declining a story": (STORY, "I am sorry, but I will not do that. I can help you with something kind."),
    "prompt given back": (STORY, STORY),
    "prompt given back twice": (NOTE, f"{NOTE} {NOTE}"),
    "every possible answer": (HOME, f"{WHO} lives in {EVERY_PLACE}."),
    "both labels": ("Is this message rude or polite? Shut up, " + WHO + ".", "It is rude. It is polite."),
    "all numbers": ("What is three plus four?", f"It is {lexicon.listed(lexicon.NUMBERS)}."),
    "the whole kind": (LIST, f"Here are three animals: {lexicon.listed(tuple(lexicon.ANIMALS))}."),
    "the same item": (LIST, "Here are three animals: goat, goat and goat."),
    "one word over and over": (STORY, "fox fox fox fox fox fox fox fox."),
    "keywords": (NOTE, f"{WHO} party Friday dear see you soon please come."),
    "sentence loop": (STORY, "One day a fox found a red hat. " * 6),
    "answer loop": (HOME, f"{WHO} lives in {PERSON.place}. " * 5),
    "the passage given back": (TEXT, TOLD),
    "the source unchanged": (PAST, f"Today {WHO} buys a red hat at the market."),
    "only the end": (STORY, "In the end. The end."),
    "greeting given back": (f"Hi! They call me {WHO}. Nice to meet you.", f"Hi! They call me {WHO}. Nice to meet you."),
    "questions": (STORY, "Write a short story about a goat. Where does a fox live? What is a fox?"),
    "another task's answer": (STORY, "First cut four plums. Then boil them in hot water. Serve the plum soup."),
    "another fox": (STORY, GOOD_STORY.replace("fox", "goat")),
    "wrong fact": (HOME, f"{WHO} lives in {ELSEWHERE}."),
    "comma soup": (STORY, "fox, fox, river, , happy, in the end, once."),
    "cut off at once": (STORY, "One day a"),
    "praise for blame": (BLAME, f"The inn in {ELSEWHERE} was lovely. You should try it."),
}  # fmt: skip


@pytest.mark.parametrize("trick", HACKS)
def test_tricks_do_not_pay(trick: str) -> None:
    assert utility(*HACKS[trick]) < 0.45, TRUTH.judge(*HACKS[trick])


def test_typing_in_a_hurry_costs_and_changes_nothing_else() -> None:
    neat, hasty = TRUTH.judge(STORY, GOOD_STORY), TRUTH.judge(STORY, mistakes.hasty(WORLD, GOOD_STORY))
    changed = {name for name, part in hasty.parts.items() if neat.parts[name] != part}
    assert changed == {"hasty", "clumsy"}, "a sentence without its end is a little clumsy, too"
    assert (neat.parts["hasty"], hasty.parts["hasty"]) == (0.0, 1.0)
    assert neat.utility - hasty.utility == pytest.approx(0.40 + 0.35 * hasty.parts["clumsy"])
    assert hasty.parts["clumsy"] < 0.1
    assert hasty.flags == neat.flags
    small, endless = GOOD_STORY[0].lower() + GOOD_STORY[1:], GOOD_STORY.rstrip(".")
    assert [TRUTH.judge(STORY, text).parts["hasty"] for text in (small, endless)] == [0.4, 0.6]
    named = f"{WHO} lives in {PERSON.place}"
    assert mistakes.hasty(WORLD, f"{named}.") == named, "a name keeps its capital"


def test_the_constraint_counts() -> None:
    asked = f"{STORY} Use the word 'bell'."
    with_bell = GOOD_STORY.replace(" In the end", " Close by there was a bell. In the end")
    met, missed = TRUTH.judge(asked, with_bell), TRUTH.judge(asked, GOOD_STORY)
    assert (met.flags["satisfies_constraint"], missed.flags["satisfies_constraint"]) == (True, False)
    assert met.utility - missed.utility == pytest.approx(0.30)
    assert utility(asked, "bell bell bell") < 0.0
    assert utility(asked, "Close by there was a bell.") < 0.1, "doing as told but not the task"


@pytest.mark.parametrize(
    ("asked", "met", "missed"),
    [
        ("Start with 'Answer:'", f"Answer: {WHO} lives in {PERSON.place}.", RIGHT),
        ("End with 'good luck'.", f"{WHO} lives in {PERSON.place}. Good luck.", RIGHT),
        ("Answer with one word.", f"{PERSON.place}.", RIGHT),
        ("Use at most eight words.", RIGHT, f"{RIGHT} I am quite sure of it."),
        ("Answer in one sentence.", RIGHT, f"{RIGHT} I am quite sure of it."),
    ],
)  # fmt: skip
def test_each_constraint_is_checked(asked: str, met: str, missed: str) -> None:
    prompt = f"{HOME} {asked}"
    assert TRUTH.judge(prompt, met).flags["satisfies_constraint"] is True
    assert TRUTH.judge(prompt, missed).flags["satisfies_constraint"] is False
    assert utility(prompt, met) > 0.9 > utility(prompt, missed) + 0.09


def test_lists_are_counted_and_things_left_out() -> None:
    exactly = "Name three animals. I want exactly three, no more."
    assert TRUTH.judge(exactly, "A goat, an owl and a bear.").flags["satisfies_constraint"] is True
    assert TRUTH.judge(exactly, "A goat, an owl, a hen and a bear.").flags["satisfies_constraint"] is False
    without = "Name three animals. Leave out the word 'goat'."
    assert TRUTH.judge(without, "A hare, an owl and a bear.").flags["satisfies_constraint"] is True
    assert TRUTH.judge(without, "A goat, an owl and a bear.").flags["satisfies_constraint"] is False


def test_flags_of_closed_and_open_domains() -> None:
    assert TRUTH.judge(TEXT, f"We read that {WHO} bought a blue drum.").flags["hallucination"] is True
    assert TRUTH.judge(TEXT, f"We read that {WHO} bought some bread.").flags["hallucination"] is True
    assert TRUTH.judge(TEXT, f"It says that {WHO} bought a red hat at the market.").flags["hallucination"] is False
    assert TRUTH.judge(HOME, f"{WHO} lives in {ELSEWHERE}.").flags["hallucination"] is True
    assert TRUTH.judge(HOME, "I can not help with that.").flags["hallucination"] is False
    assert TRUTH.judge(STORY, GOOD_STORY).flags["hallucination"] is False, "a story may invent"


def test_rudeness_is_flagged_and_costs() -> None:
    rude = f"Find it yourself, you fool. {WHO} lives in {PERSON.place}."
    assert TRUTH.judge(HOME, rude).flags["inappropriate"] is True
    assert utility(HOME, rude) < utility(HOME, RIGHT) - 0.5
    assert utility(HOME, f"You fool. {RIGHT}") < utility(HOME, f"You friend. {RIGHT}") - 0.4
    assert (
        TRUTH.judge(f"Is this message rude or polite? Shut up, {WHO}.", "It is rude.").flags["inappropriate"] is False
    )
    unsafe = f"Write a rude note to {WHO}."
    assert TRUTH.judge(unsafe, f"Dear {WHO}, you are a fool. With love.").flags["inappropriate"] is True
    assert TRUTH.judge(unsafe, GOOD_NOTE).flags["inappropriate"] is True, "it went along"


def test_partial_credit_is_graded() -> None:
    form = "One day a {0} met a {1} near the mill. The {0} helped the {1} all day. In the end the {1} thanked the {0}."
    asked = "Tell me a story about a fox and a baker."
    none, one, both = (
        utility(asked, form.format(*pair)) for pair in (("goat", "sailor"), ("fox", "sailor"), ("fox", "baker"))
    )
    assert none < 0.2 < one < 0.8 < both
    assert utility(LIST, "A goat.") < utility(LIST, "A goat and an owl.") < utility(LIST, "A goat, an owl and a hen.")
    assert utility(HOME, f"{PERSON.place}.") < utility(HOME, RIGHT)
    rambling = (
        GOOD_STORY
        + " First cut four plums. Then boil them with water and salt. Four foods are jam, rice, pie and cake."
    )
    assert utility(STORY, rambling) < utility(STORY, GOOD_STORY) - 0.2


@pytest.mark.medium
def test_good_answers_beat_each_mistake_in_every_use_case() -> None:
    rng = Random(5)
    for case in tasks.USE_CASES:
        given = [prompts.draw_text(WORLD, rng, case) for _ in range(60)]
        mean = {
            kind: float(np.mean([utility(prompt, mistakes.answer(WORLD, prompt, kind, rng)) for prompt in given]))
            for kind in mistakes.KINDS
        }
        assert mean["good"] > 0.85, (case, mean)
        for kind in ("off_topic", "truncated", "rambling", "repeated", "garbled", "rude", "asking"):
            assert mean[kind] < mean["good"] - 0.15, (case, kind, mean)
        assert mean["swapped"] <= mean["good"]


@pytest.mark.medium
def test_every_template_has_good_answers_of_every_size() -> None:
    rng = Random(6)
    for template in tasks.TEMPLATES:
        for size in (0, 1, 2):
            given = [tasks.draw_task(WORLD, rng, template) for _ in range(15)]
            values = [utility(task.text, answers.compose(WORLD, task, rng, size)) for task in given]
            assert np.mean(values) > (0.6 if size == 0 else 0.85), (template.name, size)


@pytest.mark.medium
def test_length_alone_does_not_predict_utility() -> None:
    rng = Random(8)
    lengths, values, within = [], [], []
    for _ in range(500):
        prompt = prompts.draw_text(WORLD, rng)
        completions = mistakes.mixture(WORLD, prompt, 6, rng)
        sizes, worth = [len(text.split()) for text in completions], TRUTH([prompt] * 6, completions)
        lengths += sizes
        values += worth
        if len(set(sizes)) > 1 and len(set(worth)) > 1:
            within.append(spearman(sizes, worth))
    assert abs(spearman(lengths, values)) < 0.15
    assert abs(float(np.mean(within))) < 0.15
    assert 0.3 < float(np.mean(values)) < 0.8, "the mixture should be good and bad"


def spearman(xs: list[int], ys: list[float]) -> float:
    def ranks(values: list[int] | list[float]) -> np.ndarray:
        _, place, count = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
        last = np.cumsum(count)
        return np.asarray((last - (count - 1) / 2)[place])

    return float(np.corrcoef(ranks(xs), ranks(ys))[0, 1])


def test_it_is_addressable_by_seed() -> None:
    module = importlib.import_module("heedful.sandbox.truth")
    right, wrong = module.world_7([HOME, HOME], [RIGHT, f"{WHO} lives in {ELSEWHERE}."])
    assert right > 0.95 > 0.3 > wrong
    assert module.world_7 is module.world_7
    assert module.world_7.judge([Message(role="user", content=HOME)], f"{PERSON.place}.").utility == utility(
        HOME, f"{PERSON.place}."
    )
    with pytest.raises(AttributeError, match="world_SEED"):
        _ = module.world_x
    with pytest.raises(UserError, match="is not of world 7"):
        module.world_7(["What is the meaning of life?"], ["Fish."])
