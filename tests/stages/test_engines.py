"""Stages that sample from inference servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from heedful.config import UserError
from heedful.runs.run import Run, metrics
from rollout.servers import serving
from stages import worlds
from stages.worlds import Files


@pytest.mark.medium
def test_ppo_samples_from_servers_and_reports_the_gap(files: Files, tmp_path: Path) -> None:
    with serving(files.policy, 2) as fakes:
        servers = {"kind": "vllm", "urls": [fake.url for fake in fakes], "shared_dir": str(tmp_path)}
        run = worlds.train("ppo", files, tmp_path / "run", engine=servers, episodes=24, ahead=1, pretrain_data=None)
        rows = metrics(run)
        assert [row["mismatch/age"] for row in rows] == [0.0, 1.0, 1.0]
        assert max(row["engine_gap"] for row in rows) < 1e-4
        assert max(row["logprob_gap"] for row in rows) < 1e-4
        assert Run.open(run).manifest.decoder["policy"].startswith("vllm at http://127.0.0.1:")
        assert {fake.version for fake in fakes} == {1}  # nothing is sampled in the last iteration
        fakes[0].fault, fakes[1].fault = "dies", "500"
        with pytest.raises(UserError, match=r"^no inference server is left"):
            worlds.train("ppo", files, tmp_path / "other", engine=servers)
