"""The examples in the docstrings of `maths` are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from heedful import maths

MODULES = [found.name for found in pkgutil.iter_modules(maths.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(f"heedful.maths.{name}")).failed == 0
