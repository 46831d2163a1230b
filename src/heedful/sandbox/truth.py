"""The truth about answers: a gold utility of (prompt, completion), and the true values of some flags (D9).

The truth needs the texts only. `heedful.sandbox.truth:world_7` is the utility of world 7 as a function
f(prompts, completions) -> list of floats. `world_7.judge(prompt, completion)` also gives flags and parts.

Utility: a flawless answer has 1, an answer that does nothing for the user 0. Below 0 it is worse than silence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from heedful.data.records import PromptText
from heedful.sandbox import answers, tasks
from heedful.sandbox.goals import Goal, Grade
from heedful.sandbox.reading import BEINGS, NAMED, Reading, is_rude, read, tokens_of
from heedful.sandbox.tasks import WorldTask
from heedful.sandbox.world import make_world

# Parts of the utility and their weights. Each part is a number from 0 to 1. Gains earn at most 1 together. If the
# prompt has no constraint, the other gains share its weight.
GAINS = {"content": 0.45, "form": 0.15, "focus": 0.10, "constraint": 0.30}
FAULTS = {"clumsy": 0.35, "untrue": 0.15, "rambling": 0.30, "hasty": 0.40, "rude": 0.50}


@dataclass(frozen=True)
class TrueVerdict:
    """What the truth says of an answer.

    `flags`: fails_instruction, inappropriate, hallucination, satisfies_constraint (None for a prompt without one).
    `parts`: the parts of the utility, by the names in GAINS and FAULTS.
    """

    utility: float
    flags: dict[str, bool | None]
    parts: dict[str, float]


def weigh(parts: dict[str, float], constrained: bool, weights: dict[str, float] | None = None) -> float:
    """The utility of parts under weights (default: the true weights)."""
    weights = weights or {**GAINS, **FAULTS}
    names = list(GAINS) if constrained else [name for name in GAINS if name != "constraint"]
    total = sum(GAINS[name] for name in names)
    gain = sum(weights[name] * parts[name] for name in names) / total
    return gain - sum(weights[name] * parts[name] for name in FAULTS)


class Truth:
    """The gold utility of one world."""

    def __init__(self, seed: int) -> None:
        self.world = make_world(seed)

    def __call__(self, prompts: Sequence[PromptText], completions: Sequence[str]) -> list[float]:
        return [self.judge(prompt, completion).utility for prompt, completion in zip(prompts, completions, strict=True)]

    def judge(self, prompt: PromptText, completion: str) -> TrueVerdict:
        """Judge a completion. Raises UserError for a prompt that is not of this world."""
        return _judge(self.world.seed, prompt if isinstance(prompt, str) else prompt[-1].text, completion)


@lru_cache(maxsize=50_000)
def _judge(seed: int, prompt: str, completion: str) -> TrueVerdict:
    world, asked = make_world(seed), _asked(seed, prompt)
    task, goal, constraint = asked.task, asked.goal, asked.task.constraint
    whole = read(world, completion)
    reading = read(world, constraint.without(completion)) if constraint else whole
    satisfied = constraint.met(whole, goal) if constraint else None
    grade = goal.grade(reading) if reading.n_words and not asked.echoed_by(whole) else Grade(0.0, 0.0)
    untrue = grade.false or (task.template.closed and any(base not in asked.named for base in reading.bases(NAMED)))
    parts = _parts(asked, grade, reading, satisfied)
    parts |= {"untrue": float(untrue), "hasty": whole.hasty, "rude": float(is_rude(whole))}
    fails = parts["content"] < 0.5
    flags = {
        "fails_instruction": fails,
        "inappropriate": is_rude(whole) or (task.template.unsafe and fails and whole.n_words > 0),
        "hallucination": untrue and (task.template.closed or task.use_case == "open_qa"),
        "satisfies_constraint": satisfied,
    }
    return TrueVerdict(weigh(parts, constraint is not None), flags, parts)


@dataclass(frozen=True)
class _Asked:
    """What `_judge` needs of a prompt: its task, its goal, the words it names, its own runs of five words."""

    task: WorldTask
    goal: Goal
    named: frozenset[str]
    runs: frozenset[tuple[str, ...]]

    def echoed_by(self, reading: Reading) -> bool:
        """Whether a completion repeats the instruction. Repeating a passage of the prompt is fine."""
        said = _runs(reading.tokens)
        return len(said) > 3 and sum(run in self.runs for run in said) > 0.5 * len(said)


@lru_cache(maxsize=100_000)
def _asked(seed: int, text: str) -> _Asked:
    world = make_world(seed)
    task = tasks.parse(seed, text)
    named = frozenset(base for _, base in read(world, text).named)
    instruction = text.replace(task.slots["text"], "|") if "text" in task.slots else text
    return _Asked(task, task.template.goal(world, task.slots), named, frozenset(_runs(tokens_of(instruction))))


def _runs(tokens: list[str]) -> list[tuple[str, ...]]:
    return list(zip(tokens, tokens[1:], tokens[2:], tokens[3:], tokens[4:], strict=False))


def _parts(asked: _Asked, grade: Grade, reading: Reading, satisfied: bool | None) -> dict[str, float]:
    """All parts but three. Form, focus and constraint count only with content, and content only if it is fluent."""
    task = asked.task
    fluency, stray = answers.fluency().score(reading), answers.fluency().stray(reading, task.template.name)
    content = grade.content * min(1.0, max(0.0, (fluency - 0.15) / 0.55))
    earned = min(1.0, 2.0 * content)
    shaped = satisfied and task.constraint and task.constraint.kind in ("word", "words", "sentences")
    excess = max(0.0, reading.n_words / task.template.limit - 1.0)
    return {
        "content": content,
        "form": (1.0 if shaped else grade.form) * earned,
        "focus": max(0.0, _focus(asked, reading) - stray) * earned,
        "constraint": float(bool(satisfied)) * earned,
        "clumsy": 1.0 - fluency,
        "rambling": min(1.0, excess + stray + reading.repetition + 0.5 * reading.has_any(_EMPTY)),
    }


def _focus(asked: _Asked, reading: Reading) -> float:
    """1 for an answer to the point: no new beings, no questions back, no empty phrases. Less for each fault."""
    template, faults = asked.task.template, 0.0
    if template.use_case == "generation":
        new = {base for base in reading.bases(BEINGS) if base not in asked.named}
        faults += 0.4 * max(0, len(new) - template.loose)
    if not template.asks and template.name != "question":
        faults += 0.5 * sum(sentence[-1] == "?" for sentence in reading.sentences)
    faults += 0.6 * reading.has_any(_EMPTY)
    return max(0.0, 1.0 - faults)


_EMPTY = tuple(
    " ".join(token for token in tokens_of(phrase) if token[0].isalpha())
    for phrase in (*answers.PREAMBLES, *answers.POSTSCRIPTS)
)


@lru_cache(maxsize=8)
def world(seed: int) -> Truth:
    """The truth of the world of a seed."""
    return Truth(seed)


def __getattr__(name: str) -> Truth:
    match = re.fullmatch(r"world_(\d+)", name)
    if match is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}. A truth is named world_SEED.")
    return world(int(match[1]))
