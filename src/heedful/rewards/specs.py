"""How rewards are named: a model or a function, with a weight in front, or an ensemble of these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from heedful.config import UserError
from heedful.data import formats
from heedful.rewards.calls import MOST
from heedful.rewards.modules import file_of, is_function

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
WEIGHTED = re.compile(rf"([+-]?{_NUMBER})\s*\*\s*(.+)")
ENSEMBLE = re.compile(rf"(min|mean|mean-({_NUMBER})\*std)\((.*)\)")
CALL = re.compile(r"[\w.*+-]+\(.*\)")
UNCLOSED = re.compile(r"[\w.*+-]+\([^)]*")
_FORMS = "min(A,B), mean(A,B) or mean-0.5*std(A,B)"


@dataclass(frozen=True)
class EnsembleSpec:
    """`min(A,B,C)`, `mean(A,B,C)` or `mean-0.5*std(A,B,C)`."""

    members: list[str]
    worst: bool
    """Whether it takes the lowest score of all members."""
    doubt: float
    """Standard deviations of the members that are taken off their mean."""

    def aggregate(self, scores_MB: Tensor) -> Tensor:
        """score_B. The standard deviation is that of the members at hand, divided by their number."""
        if self.worst:
            worst_B: Tensor = scores_MB.amin(0)
            return worst_B
        mean_B = scores_MB.mean(0)
        return mean_B - self.doubt * scores_MB.std(0, unbiased=False) if self.doubt else mean_B


def split_weight(spec: str) -> tuple[float, str]:
    """Weight and target of a spec: '0.5*runs/rm' gives (0.5, 'runs/rm')."""
    found = WEIGHTED.fullmatch(spec.strip())
    if not found or Path(spec).exists():
        return 1.0, spec.strip()
    weight = float(found[1])
    if abs(weight) > MOST:
        raise UserError(f"{spec}: a weight of {found[1]} is too large. Give a smaller one")
    return weight, found[2].strip()


def check(specs: Sequence[str]) -> None:
    """Raise UserError for a reward that is given twice, or if all have the weight 0."""
    weighted = [split_weight(spec) for spec in specs]
    if weighted and not any(weight for weight, _ in weighted):
        raise UserError(f"{' and '.join(specs)}: the weight 0 makes all answers equal. Give another weight")
    names = [identity(target) for _, target in weighted] if len(specs) > 1 else []
    for own, (_, target) in zip(names, weighted, strict=False):
        if names.count(own) > 1:
            total = sum(weight for name, (weight, _) in zip(names, weighted, strict=True) if name == own)
            raise UserError(f"{target}: is given twice as a reward. Give it once, as {total:g}*{target}")


def identity(target: str) -> str:
    """One text for all names of a model or function, such as those of a run and of the model in it."""
    if ensemble_of(target) is not None or is_function(target):
        return "".join(target.split())
    found = Path(target)
    found = found / "model" if (found / "model" / "config.json").is_file() else found
    return str(found.resolve()) if found.exists() else target


def identities(specs: Sequence[str]) -> set[str]:
    """Those of all models and functions among specs, members of ensembles too."""
    return {identity(target) for target in _targets(specs, "").values()}


def ensemble_of(spec: str) -> EnsembleSpec | None:
    """The ensemble that a spec without weight names, or None. Raises UserError for one that cannot be."""
    found = ENSEMBLE.fullmatch(spec)
    if found is None and CALL.fullmatch(spec) and not Path(spec).exists():
        raise UserError(f"{spec}: no ensemble is called that. Write {_FORMS}")
    if UNCLOSED.fullmatch(spec) and not Path(spec).exists():
        raise UserError(f"{spec}: the bracket is not closed. Write {_FORMS}")
    if found is None or Path(spec).exists():
        return None
    kind, doubt, inside = found.groups()
    members = [one.strip() for one in inside.split(",")]
    if len(members) < 2 or not all(members):
        raise UserError(f"{spec}: an ensemble has two members or more. Write {_FORMS}")
    if len(set(members)) < len(members):
        raise UserError(f"{spec}: names a member twice. Name each once")
    bracketed = (one for one in members if set("()") & set(one) and not Path(one).exists())
    inner = next((one for one in members if split_weight(one)[1] != one), None) or next(bracketed, None)
    if inner is not None:
        raise UserError(
            f"{spec}: '{inner}' is no plain member. Name models and functions, without weights. Write {_FORMS}"
        )
    return EnsembleSpec(members, kind == "min", float(doubt or 0.0))


def models_of(specs: Sequence[str], role: str = "reward") -> dict[str, str]:
    """The models among reward specs, by their role in a manifest. A member of an ensemble has its own role."""
    return {name: target for name, target in _targets(specs, role).items() if not is_function(target)}


def functions_of(specs: Sequence[str], role: str = "reward") -> dict[str, dict[str, Any]]:
    """The functions among reward specs as a manifest has them, by their role. One without a file is left out."""
    targets = _targets(specs, role)
    files = {name: file_of(target) for name, target in targets.items() if is_function(target)}
    return {
        name: {"ref": targets[name], "path": str(file), "sha256": formats.sha256(file)}
        for name, file in files.items()
        if file is not None
    }


def _targets(specs: Sequence[str], role: str) -> dict[str, str]:
    """Every model and function by its role."""
    targets: dict[str, str] = {}
    for i, spec in enumerate(specs):
        target = split_weight(spec)[1]
        found = ensemble_of(target)
        targets |= {f"{role}.{i}.{j}": one for j, one in enumerate(found.members)} if found else {f"{role}.{i}": target}
    return targets
