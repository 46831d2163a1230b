"""Curation: from the prompts that people sent to the prompts that models learn from.

The steps come in the paper's order (D2): deduplicate by a long shared prefix, cap each user, split by user, and remove
personal data from the training split.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from pydantic import Field, field_validator, model_validator

from heedful.config import Config, UserError
from heedful.data.personal_data import personal_data
from heedful.data.records import Completions, Demonstration, Prompt, as_text

P = TypeVar("P", bound=Prompt)
log = logging.getLogger(__name__)


class CurationConfig(Config):
    """Settings of curation. The paper does not state the prefix length (in characters) and the fractions of users."""

    prefix_length: int = Field(100, ge=1)
    """Two prompts are repeats if they share this many first characters."""
    prompts_per_user: int = Field(200, ge=1)
    """Most prompts of one user."""
    fractions: dict[str, float] = {"train": 0.8, "valid": 0.1, "test": 0.1}
    """Share of the users in each split."""
    personal_data_splits: list[str] = ["train"]
    """Splits from which prompts with personal data are removed."""
    seed: int = 0
    """Random seed."""

    @field_validator("fractions")
    @classmethod
    def _whole(cls, fractions: dict[str, float]) -> dict[str, float]:
        _check_fractions(fractions)
        return fractions

    @model_validator(mode="after")
    def _filtered_splits_exist(self) -> CurationConfig:
        """Refuse the filter of a split that does not exist: it would silently keep all personal data."""
        unknown = [name for name in self.personal_data_splits if name not in self.fractions]
        if unknown:
            known = ", ".join(self.fractions)
            raise ValueError(
                f"personal_data_splits names {', '.join(unknown)}, no split of fractions. Choose from {known}, or []."
            )
        return self


class Step(Config):
    """How many prompts one step removed, and why."""

    name: str
    why: str
    before: int
    removed: int


class CurationReport(Config):
    """What each step did. `model_dump()` gives plain JSON values."""

    settings: CurationConfig
    given: int
    kept: int
    steps: list[Step]
    personal_data: dict[str, int]  # kind -> prompts of the filtered splits that held it
    prompts_by_split: dict[str, int]
    users_by_split: dict[str, int]


def curate(prompts: Sequence[P], config: CurationConfig | None = None) -> tuple[list[P], CurationReport]:
    """Run all steps. Returns the kept prompts, each with its `split`, and a report."""
    config = config or CurationConfig()
    unique = deduplicate(prompts, config.prefix_length)
    capped = cap_per_user(unique, config.prompts_per_user)
    split = split_by_user(capped, config.fractions, config.seed)
    clean = filter_personal_data(split, config.personal_data_splits)
    survivors = {id(prompt) for prompt in clean}
    kinds = Counter(kind for prompt in split if id(prompt) not in survivors for kind in _kinds(prompt))
    filtered = " and ".join(config.personal_data_splits) or "no"
    steps = [
        _step("deduplicate", f"shares its first {config.prefix_length} characters with a kept prompt", prompts, unique),
        _step("cap_per_user", f"its user has {config.prompts_per_user} kept prompts already", unique, capped),
        _step("filter_personal_data", f"holds personal data ({filtered} split)", split, clean),
    ]
    report = CurationReport(
        settings=config,
        given=len(prompts),
        kept=len(clean),
        steps=steps,
        personal_data=dict(sorted(kinds.items())),
        prompts_by_split=_by_split(config, clean),
        users_by_split=_by_split(config, {_owner(prompt): prompt for prompt in clean}.values()),
    )
    return clean, report


def warn_of_empty(report: CurationReport) -> None:
    """Log the splits for which no prompt is left."""
    shares = report.settings.fractions
    empty = [name for name, count in report.prompts_by_split.items() if not count and shares[name] > 0]
    if empty:
        log.warning(
            "no prompt is left for %s. Give prompts of more users, or change the fractions.", " and ".join(empty)
        )


def deduplicate(prompts: Iterable[P], prefix_length: int) -> list[P]:
    """Keep the first of all prompts that share a prefix of `prefix_length` characters. Case and spacing do not count.

    Shorter prompts are compared as a whole. System messages do not count: the application writes them, not the user.
    """
    if prefix_length < 1:
        raise UserError(f"prefix_length must be at least 1, not {prefix_length}")
    first: dict[str, P] = {}
    for prompt in prompts:
        first.setdefault(normal(prompt)[:prefix_length], prompt)
    return list(first.values())


def cap_per_user(prompts: Iterable[P], limit: int = 200) -> list[P]:
    """Keep the first `limit` prompts of each user. Prompts without a user are all kept."""
    seen: Counter[str] = Counter()
    kept = []
    for prompt in prompts:
        if prompt.user is not None:
            seen[prompt.user] += 1
        if prompt.user is None or seen[prompt.user] <= limit:
            kept.append(prompt)
    return kept


def split_by_user(prompts: Iterable[P], fractions: dict[str, float], seed: int = 0) -> list[P]:
    """Set `split` by a hash of the user, so that no user is in two splits. `fractions` of users sum to 1.

    The split of a user depends on the seed and their name only, not on other prompts. A prompt without a user counts as
    its own user. Its name is its id, or else its text.
    """
    _check_fractions(fractions)
    return [prompt.model_copy(update={"split": split_of(_owner(prompt), fractions, seed)}) for prompt in prompts]


def filter_personal_data(prompts: Iterable[P], splits: Sequence[str] = ("train",)) -> list[P]:
    """Leave out prompts with personal data in the named splits. Other splits do not change."""
    return [prompt for prompt in prompts if prompt.split not in splits or not _kinds(prompt)]


def _check_fractions(fractions: dict[str, float]) -> None:
    shares = fractions.values()
    if not (all(share >= 0 for share in shares) and abs(sum(shares) - 1) <= 1e-6):  # this form refuses NaN too
        raise UserError(f"fractions of the splits must be at least 0 and sum to 1, not {fractions}")


def split_of(owner: str, fractions: dict[str, float], seed: int) -> str:
    digest = hashlib.sha256(f"{seed}\0{owner}".encode("utf-8", errors="surrogatepass")).digest()
    left = (int.from_bytes(digest[:8], "big") >> 11) / 2**53
    for name, fraction in fractions.items():
        left -= fraction
        if left < 0:
            return name
    return max(fractions, key=lambda name: fractions[name])  # the fractions sum to slightly less than 1


def _owner(prompt: Prompt) -> str:
    if prompt.user is not None:
        return f"user\0{prompt.user}"
    return f"id\0{prompt.id}" if prompt.id is not None else f"text\0{normal(prompt)}"


def normal(prompt: Prompt) -> str:
    """The words of the prompt in one case with single spaces, to compare prompts."""
    turns = prompt.prompt
    text = turns if isinstance(turns, str) else as_text([turn for turn in turns if turn.role != "system"])
    return " ".join(text.casefold().split())


def _kinds(prompt: Prompt) -> set[str]:
    texts = [as_text(prompt.prompt)]
    if isinstance(prompt, Demonstration):
        texts.append(prompt.completion)
    if isinstance(prompt, Completions):
        texts.extend(prompt.completions)
    return {finding.kind for text in texts for finding in personal_data(text)}


def _step(name: str, why: str, before: Sequence[Any], after: Sequence[Any]) -> Step:
    return Step(name=name, why=why, before=len(before), removed=len(before) - len(after))


def _by_split(config: CurationConfig, prompts: Iterable[Prompt]) -> dict[str, int]:
    counts = Counter(prompt.split for prompt in prompts)
    return {name: counts[name] for name in config.fractions}
