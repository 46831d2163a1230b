"""The models of a comparison: their names, what they refer to, and which of them is the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from heedful.config import UserError
from heedful.runs.manifest import manifest_path
from heedful.runs.run import Run


@dataclass(frozen=True)
class Models:
    """References by name, in the order given."""

    refs: dict[str, str]
    baseline: str

    @property
    def names(self) -> list[str]:
        return list(self.refs)

    @property
    def others(self) -> list[str]:
        """Every model but the baseline."""
        return [name for name in self.refs if name != self.baseline]

    def pairs(self, which: str = "all") -> list[tuple[str, str]]:
        """The pairs to judge. In each pair with the baseline, the baseline is the second."""
        against = [(name, self.baseline) for name in self.others]
        return against + (list(combinations(self.others, 2)) if which == "all" else [])

    def known_as(self) -> dict[str, str]:
        """From every name that a file may use for a model to our name: that name, the reference, the id of its run."""
        found: dict[str, str] = {}
        for name, ref in self.refs.items():
            ids = [Run.open(ref).manifest.id] if manifest_path(ref).is_file() else []
            for known in dict.fromkeys((name, ref, *ids)):
                if found.get(known, name) != name:
                    raise UserError(f"{known}: is both {found[known]} and {name}. Give each model once")
                found[known] = name
        return found


def parse(given: Sequence[str], baseline: str | None, fewest: int = 2) -> Models:
    """The models of `NAME=REF` texts. A reference alone is its own name. Raises UserError if there are fewer."""
    refs: dict[str, str] = {}
    for text in given:
        name, equals, ref = text.partition("=")
        if not equals or Path(text).exists():
            name, ref = text, text
        name, ref = name.strip(), ref.strip()
        if not name or not ref:
            raise UserError(f"--model {text}: write NAME=MODEL, such as sft=runs/sft")
        if name in refs:
            raise UserError(f"--model {text}: there is a model {name} already. Give each model its own name")
        twice = next((known for known, other in refs.items() if _same(other, ref)), None)
        if twice is not None:
            raise UserError(f"--model {text}: {twice} is the same model. Give each model once")
        refs[name] = ref
    if not refs:
        raise UserError("there is no model. Give --model NAME=MODEL")
    if len(refs) < fewest:
        raise UserError("a comparison needs two models. Give --model NAME=MODEL twice or more often")
    baseline = next(iter(refs)) if baseline is None else baseline
    if baseline not in refs:
        raise UserError(f"--baseline {baseline}: no such model. The models are {', '.join(refs)}")
    return Models(refs, baseline)


def _same(a: str, b: str) -> bool:
    """Whether two references are one, also if one is the run of the other or they spell one path differently."""
    return a == b or _place(a) == _place(b) is not None


def _place(ref: str) -> Path | None:
    """The file or folder behind a reference, or None."""
    path = Path(ref) / "model" if (Path(ref) / "model").is_dir() else Path(ref)
    return path.resolve() if path.exists() else None
