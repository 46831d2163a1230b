"""No golden case is forgotten, and what the project copied is whole."""

from __future__ import annotations

import importlib
from pathlib import Path

from maths import golden


def test_every_case_is_run_or_named_as_not_offered():
    for path in Path(__file__).parent.glob("test_*.py"):
        importlib.import_module(f"maths.{path.stem}")
    groups = sorted(path.stem for path in golden.FOLDER.glob("*.json"))
    assert len(groups) == 12
    everything = {(case.group, case.variant) for group in groups for case in golden.load(group)}
    assert golden.RUN | golden.NOT_OFFERED.keys() == everything
    assert not golden.RUN & golden.NOT_OFFERED.keys()


def test_no_normative_variant_is_left_out():
    normative = {
        (case.group, case.variant)
        for group, _ in golden.NOT_OFFERED
        for case in golden.load(group)
        if case.conformance == "normative"
    }
    assert normative & golden.NOT_OFFERED.keys() == set()
