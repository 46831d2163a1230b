"""The fixed sample of planted mistakes still fits the code."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SPEC = importlib.util.spec_from_file_location("mutants", ROOT / "scripts" / "mutants.py")
assert SPEC is not None
assert SPEC.loader is not None
mutants = importlib.util.module_from_spec(SPEC)
sys.modules["mutants"] = mutants  # dataclasses look it up
SPEC.loader.exec_module(mutants)


@pytest.mark.medium
def test_every_mistake_is_code_that_differs() -> None:
    mistakes = [*mutants.planted(), *mutants.drawn()]
    assert len({mistake.name for mistake in mistakes}) == len(mistakes) > 60
    for mistake in mistakes:
        ast.parse(mistake.code)
        assert mistake.code != (mutants.CODE / mistake.module).read_text(encoding="utf-8")
        assert all((ROOT / test).exists() for test in mistake.tests)


def test_the_sample_is_fixed() -> None:
    assert mutants.drawn() == mutants.drawn()
