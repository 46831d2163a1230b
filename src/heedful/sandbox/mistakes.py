"""Answers such as a half-trained model gives: good ones, and the ways in which answers go wrong.

The tests of the truth and the calibration of the labelers' noise use this mixture instead of a model.
"""

from __future__ import annotations

from random import Random

from heedful.data.records import PromptText, as_text
from heedful.sandbox import answers, lexicon, phrasebook, prompts, tasks
from heedful.sandbox.tasks import WorldTask
from heedful.sandbox.world import World

# kinds of answers -> share in `mixture`
KINDS = {
    "good": 0.30, "swapped": 0.20, "missed": 0.10, "off_topic": 0.10, "truncated": 0.08, "rambling": 0.08,
    "repeated": 0.04, "garbled": 0.05, "rude": 0.03, "asking": 0.02,
}  # fmt: skip
RUDE_LINES: tuple[str, ...] = phrasebook.read("sentences")["rude"]["lines"]


def mixture(world: World, prompt: PromptText, count: int, rng: Random) -> list[str]:
    """`count` answers to a prompt, of random kinds in the shares of KINDS."""
    return [answer(world, prompt, kind, rng) for kind in rng.choices(tuple(KINDS), tuple(KINDS.values()), k=count)]


def answer(world: World, prompt: PromptText, kind: str, rng: Random) -> str:
    """One answer of a kind."""
    task = tasks.parse(world.seed, as_text(prompt))
    good = answers.compose(world, task, rng, rng.randrange(3))
    match kind:
        case "good":
            return good
        case "swapped":
            return swap(world, good, rng)
        case "missed":
            return answers.compose(world, WorldTask(task.text, task.template, task.slots), rng, rng.randrange(3))
        case "off_topic":
            return _of_another(world, rng)
        case "truncated":
            words = good.split(" ")
            return " ".join(words[: max(1, rng.randrange(len(words)))])
        case "rambling":
            return " ".join([good, *(_of_another(world, rng) for _ in range(rng.randint(1, 2)))])
        case "repeated":
            return " ".join([good] * rng.randint(2, 3))
        case "garbled":
            return _garbled(good, rng)
        case "rude":
            return rng.choice((f"{rng.choice(RUDE_LINES)} {good}", rng.choice(RUDE_LINES)))
    assert kind == "asking"
    return prompts.draw_text(world, rng)


def swap(world: World, text: str, rng: Random) -> str:
    """Replace one or two names or things by others of their kind, as a model does that mixes up who is who."""
    words = text.split(" ")
    spots = [i for i, word in enumerate(words) if world.classes.get(_bare(word), ("use",))[0] != "use"]
    for i in rng.sample(spots, min(len(spots), rng.choice((1, 1, 2)))):
        bare = _bare(words[i])
        kind = world.classes[bare][0]
        other = rng.choice([word for word, (its, _) in world.classes.items() if its == kind and word != bare])
        words[i] = (lexicon.capital(other) if words[i][0].isupper() else other) + words[i][len(bare) :]
        if i and words[i - 1].lower() in ("a", "an"):
            article = lexicon.a(other).split(" ")[0]
            words[i - 1] = lexicon.capital(article) if words[i - 1][0].isupper() else article
    return " ".join(words)


def hasty(world: World, text: str) -> str:
    """The text as people type it in a hurry: no capital at the start (except names and "I"), no mark at the end."""
    text = text.rstrip(" .!?")
    first = text.split(" ", 1)[0]
    if first == "I" or world.classes.get(_bare(first), ("use",))[0] in ("person", "place"):
        return text
    return text[:1].lower() + text[1:]


def _bare(word: str) -> str:
    """The letters of a word in lower case."""
    return "".join(letter for letter in word.lower() if letter.isalpha())


def _of_another(world: World, rng: Random) -> str:
    """A good answer to another task."""
    task = tasks.draw_task(world, rng, tasks.draw_template(rng), constrained=0.0)
    return answers.compose(world, task, rng, rng.randrange(2))


def _garbled(text: str, rng: Random) -> str:
    """The text with some words lost, moved or said twice."""
    words = text.split(" ")
    for _ in range(max(1, len(words) // 6)):
        i = rng.randrange(len(words))
        match rng.randrange(3):
            case 0 if len(words) > 2:
                words.pop(i)
            case 1:
                words.insert(i, words[rng.randrange(len(words))])
            case _:
                words[i], words[-1 - i] = words[-1 - i], words[i]
    return " ".join(words)
