"""All templates, and a prompt as its parts: what stands around the task, the task, its slots, its constraint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from heedful.config import UserError
from heedful.sandbox import constraints, lexicon
from heedful.sandbox.constraints import Constraint
from heedful.sandbox.tasks_know import KNOWING
from heedful.sandbox.tasks_read import READING
from heedful.sandbox.tasks_talk import TALKING, pool_of
from heedful.sandbox.tasks_write import WRITING
from heedful.sandbox.templates import Slots, Template
from heedful.sandbox.world import World

# D4: shares of the use cases, in percent
USE_CASES = {
    "generation": 45.6, "open_qa": 12.4, "brainstorming": 11.2, "chat": 8.4, "rewrite": 6.6, "summarization": 4.2,
    "classification": 3.5, "other": 3.5, "closed_qa": 2.6, "extract": 1.9,
}  # fmt: skip
TEMPLATES: tuple[Template, ...] = (*WRITING, *KNOWING, *READING, *TALKING)
BY_USE_CASE = {case: [t for t in TEMPLATES if t.use_case == case] for case in USE_CASES}
CONSTRAINED = 0.27  # share of prompts with an explicit constraint (D6: 26.3 %)

# sentences that may stand before or after the task; {who}, {place}, {job}, {mail}, {phone} are filled in
OPENERS = (
    "Hello.", "Hi there.", "Good morning.", "Please help me.", "I have a question.", "My name is {who}.",
    "This is {who}.", "I am {job} in {place}.", "I am a teacher in {place} and I need your help.",
    "It is for the school in {place}.",
    "I come from {place}.", "I hope that you can help me with this.", "I am not good at this.",
    "This is the first time that I ask you something.", "I thought about this all day.",
    "My friends said that you know a lot.",
)  # fmt: skip
CLOSERS = (
    "Thank you.", "Thanks a lot.", "It is for my children.", "I need it today.", "Please be quick.",
    "That is all for now.", "I will read it to my friends.",
)  # fmt: skip
CONTACTS = (
    "My mail is {mail}.", "You can write to me at {mail}.", "Please send it to {mail}.", "My number is {phone}.",
    "Call me at {phone}.", "You can reach me at {phone}.",
)  # fmt: skip
_SHAPES = {
    "who": r"[A-Z][a-z]+", "place": r"[A-Z][a-z]+", "job": r"an? [a-z]+",
    "mail": r"[a-z.]+@[a-z.]+\.example", "phone": r"\+?[0-9 -]+[0-9]",
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A prompt understood. `text` is the whole prompt."""

    text: str
    template: Template
    slots: Slots
    constraint: Constraint | None = None

    @property
    def use_case(self) -> str:
        return self.template.use_case


def draw_body(world: World, rng: Random, template: Template) -> tuple[str, Slots]:
    """A phrasing of the template with fresh slots; only the slots that it shows."""
    phrasing = rng.choice(template.phrasings)
    slots = {name: value for name, value in template.draw(world, rng).items() if f"{{{name}}}" in phrasing}
    return phrasing.format(**slots), slots


def draw_constraint(template: Template, slots: Slots, rng: Random) -> Constraint | None:
    """One that fits the template, or None."""
    if not template.constraints:
        return None
    taken = frozenset(re.findall("[a-z]+", " ".join(slots.values()).lower()))
    pool = pool_of(slots) if template.use_case == "brainstorming" else lexicon.AVOID_WORDS
    return constraints.draw(template.constraints, pool, taken, slots.get("n", ""), rng)


def draw_task(world: World, rng: Random, template: Template, constrained: float = CONSTRAINED) -> Task:
    """A bare task: body and perhaps a constraint before or after it, nothing around."""
    body, slots = draw_body(world, rng, template)
    constraint = draw_constraint(template, slots, rng) if rng.random() < constrained else None
    text = body
    if constraint is not None:
        asked = constraint.phrase(rng)
        first = rng.random() < 0.12 and not asked.endswith("'")
        text = f"{asked} {body}" if first else f"{body} {asked}"
    return Task(text, template, slots, constraint)


def draw_template(rng: Random, use_case: str | None = None) -> Template:
    case = use_case or rng.choices(tuple(USE_CASES), tuple(USE_CASES.values()))[0]
    pool = BY_USE_CASE[case]
    return rng.choices(pool, [template.weight for template in pool])[0]


def _frame_pattern(frames: tuple[str, ...]) -> str:
    return "|".join(re.sub(r"\\\{(\w+)\\\}", lambda m: f"(?:{_SHAPES[m[1]]})", re.escape(frame)) for frame in frames)


_BEFORE = re.compile(rf"^(?:{_frame_pattern(OPENERS)}) ")
_AFTER = re.compile(rf" (?:{_frame_pattern((*CLOSERS, *CONTACTS))})$")


@lru_cache(maxsize=100_000)
def parse(world_seed: int, text: str) -> Task:
    """The task of a prompt of this world. Raises UserError for a prompt that no template could have made."""
    from heedful.sandbox.world import make_world

    world = make_world(world_seed)
    for core in _cores(text.strip()):
        readings: list[tuple[Constraint | None, str]] = [*constraints.cut_off(core), (None, core)]
        for constraint, body in readings:
            for template in TEMPLATES:
                if constraint is not None and not constraints.fits(constraint, template.constraints):
                    continue
                if (slots := template.parse(world, body)) is not None:
                    return Task(text, template, slots, constraint)
    raise UserError(f"prompt {text[:60]!r} is not of world {world_seed}; use prompts that heedful.sandbox made for it")


def _cores(text: str) -> Iterator[str]:
    """The prompt with nothing, then more and more of what may stand around the task taken off."""
    seen = [text]
    for core in seen:
        yield core
        for cut in (_AFTER.sub("", core), _BEFORE.sub("", core)):
            if cut not in seen:
                seen.append(cut)
