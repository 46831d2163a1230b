"""The published figures of real judgements, where DATA names the folder that holds them; all else is hand-made."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("DATA") or "nowhere")
pytestmark = pytest.mark.skipif(not (DATA / "pandalm_human").is_dir(), reason="DATA names no folder of judgements")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_judgements", ROOT / "benchmarks" / "real_judgements.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_three_kappas_of_pandalm(benchmark: ModuleType) -> None:
    found = benchmark.pandalm(DATA / "pandalm_human")
    assert found.keys() == benchmark.PUBLISHED_KAPPAS.keys()
    for pair, kappa in found.items():
        assert kappa.mean == pytest.approx(benchmark.PUBLISHED_KAPPAS[pair], abs=0.02)
        assert kappa.low < kappa.mean < kappa.high


def test_the_agreement_of_tldr_workers_is_uncertain_by_item(benchmark: ModuleType) -> None:
    found = benchmark.tldr(DATA / "tldr_comparisons")
    assert found.items == 39  # as counted when the data were collected
    assert found.rate.high - found.rate.low > 0.2  # 684 pairs of judgements, but 39 items
