"""All templates, and the parts of a prompt: the sentences around the task, the task, its slots, its constraint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from heedful.config import UserError
from heedful.sandbox import constraints, lexicon, phrasebook
from heedful.sandbox.constraints import Constraint
from heedful.sandbox.tasks_know import KNOWING
from heedful.sandbox.tasks_read import READING
from heedful.sandbox.tasks_talk import TALKING, pool_of
from heedful.sandbox.tasks_write import WRITING
from heedful.sandbox.templates import Slots, Template
from heedful.sandbox.world import World, make_world

# D4: shares of the use cases, in percent
USE_CASES = {
    "generation": 45.6, "open_qa": 12.4, "brainstorming": 11.2, "chat": 8.4, "rewrite": 6.6, "summarization": 4.2,
    "classification": 3.5, "other": 3.5, "closed_qa": 2.6, "extract": 1.9,
}  # fmt: skip
TEMPLATES: tuple[Template, ...] = (*WRITING, *KNOWING, *READING, *TALKING)
BY_USE_CASE = {case: [t for t in TEMPLATES if t.use_case == case] for case in USE_CASES}
CONSTRAINED = 0.27  # share of prompts with an explicit constraint (D6: 26.3 %)

# sentences that may come before or after the task. Slots: {who}, {place}, {job}, {mail}, {phone}
_AROUND = phrasebook.read("prompts")["around"]
OPENERS: tuple[str, ...] = _AROUND["openers"]
CLOSERS: tuple[str, ...] = _AROUND["closers"]
CONTACTS: tuple[str, ...] = _AROUND["contacts"]
# A mail or phone may be what curation puts in place of personal data.
_SHAPES = {
    "who": r"[A-Z][a-z]+", "place": r"[A-Z][a-z]+", "job": r"an? [a-z]+",
    "mail": r"[a-z.]+@[a-z.]+\.example|\[email\]", "phone": r"\+?[0-9 -]+[0-9]|\[phone\]",
}  # fmt: skip


@dataclass(frozen=True)
class WorldTask:
    """A prompt with its template, slots and constraint. `text` is the whole prompt."""

    text: str
    template: Template
    slots: Slots
    constraint: Constraint | None = None

    @property
    def use_case(self) -> str:
        return self.template.use_case


def draw_body(world: World, rng: Random, template: Template) -> tuple[str, Slots]:
    """Fill a phrasing of the template with random slots. Returns the text and the slots that it shows."""
    phrasing = rng.choice(template.phrasings)
    slots = {name: value for name, value in template.draw(world, rng).items() if f"{{{name}}}" in phrasing}
    return phrasing.format(**slots), slots


def draw_constraint(template: Template, slots: Slots, rng: Random) -> Constraint | None:
    """A random constraint that fits the template, or None."""
    if not template.constraints:
        return None
    taken = frozenset(re.findall("[a-z]+", " ".join(slots.values()).lower()))
    pool = pool_of(slots) if template.use_case == "brainstorming" else lexicon.AVOID_WORDS
    return constraints.draw(template.constraints, pool, taken, slots.get("n", ""), rng)


def draw_task(world: World, rng: Random, template: Template, constrained: float = CONSTRAINED) -> WorldTask:
    """A random task with nothing around it: a body, in the share `constrained` with a constraint before or after it."""
    body, slots = draw_body(world, rng, template)
    constraint = draw_constraint(template, slots, rng) if rng.random() < constrained else None
    text = body
    if constraint is not None:
        asked = constraint.phrase(rng)
        first = rng.random() < 0.12 and not asked.endswith("'")
        text = f"{asked} {body}" if first else f"{body} {asked}"
    return WorldTask(text, template, slots, constraint)


def draw_template(rng: Random, use_case: str | None = None) -> Template:
    """A random template of the use case, or of a random use case."""
    case = use_case or rng.choices(tuple(USE_CASES), tuple(USE_CASES.values()))[0]
    pool = BY_USE_CASE[case]
    return rng.choices(pool, [template.weight for template in pool])[0]


def _frame_pattern(frames: tuple[str, ...]) -> str:
    return "|".join(re.sub(r"\\\{(\w+)\\\}", lambda m: f"(?:{_SHAPES[m[1]]})", re.escape(frame)) for frame in frames)


_BEFORE = re.compile(rf"^(?:{_frame_pattern(OPENERS)}) ")
_AFTER = re.compile(rf" (?:{_frame_pattern((*CLOSERS, *CONTACTS))})$")


@lru_cache(maxsize=100_000)
def parse(world_seed: int, text: str) -> WorldTask:
    """Read a prompt of this world. Raises UserError if no template could have made the prompt."""
    world = make_world(world_seed)
    for core in _cores(text.strip()):
        readings: list[tuple[Constraint | None, str]] = [*constraints.cut_off(core), (None, core)]
        for constraint, body in readings:
            for template in TEMPLATES:
                if constraint is not None and not constraints.fits(constraint, template.constraints):
                    continue
                if (slots := template.parse(world, body)) is not None:
                    return WorldTask(text, template, slots, constraint)
    raise UserError(
        f"prompt {text[:60]!r} is not of world {world_seed}. Use prompts that heedful.sandbox made for this world."
    )


def _cores(text: str) -> Iterator[str]:
    """The prompt, then the prompt without one, two, ... of the sentences that may stand around the task."""
    seen = [text]
    for core in seen:
        yield core
        for cut in (_AFTER.sub("", core), _BEFORE.sub("", core)):
            if cut not in seen:
                seen.append(cut)
