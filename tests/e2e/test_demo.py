"""The whole loop, small: every stage runs on what the one before it wrote, and the end is a table and a report."""

from __future__ import annotations

import json
import re
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch

from heedful.data import formats
from heedful.data.records import Text
from heedful.demo import base, data, loop
from heedful.runs.run import Run, prompts_to_try
from heedful.sandbox import corpus, generate, tasks
from heedful.sandbox.world import make_world

SMALL = {
    "sizes": {
        "documents": 300, "held_out_documents": 40, "raw_prompts": 2000, "demonstrations": 40, "valid_demonstrations":
        10,
        "ranked_prompts": 48, "valid_ranked_prompts": 12, "rl_prompts": 60, "test_prompts": 30, "few_shot_prompts": 6,
    },
    "sft": {"epochs": 1},
    "ppo": {"episodes": 32, "rollout_batch": 16, "minibatch": 8},
    "ppo_ptx": {"ptx_ratio": 0.25},
    "generation": {"max_new_tokens": 12},
    "evaluation": {"few_shot_draws": 2, "best_of": 5},
    "lesson": {"rankings": 20},
}  # fmt: skip


@pytest.mark.slow
def test_from_an_empty_folder_to_table_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    torch.set_num_threads(2)  # PPO, samples and measurements run in processes of their own
    request.addfinalizer(partial(torch.set_num_threads, 1))
    fewer = {"ranked_prompts": 12, "valid_ranked_prompts": 6, "demonstrations": 24, "test_prompts": 20}
    small = SMALL | {"sizes": SMALL["sizes"] | fewer, "lesson": {"rankings": 8}}
    outcome = loop.run(tmp_path / "demo", seed=3, lesson=True, changes=small)
    printed = capsys.readouterr().out
    for name in ("base", "prompted base", "SFT", "PPO", "PPO-ptx", "PPO, fooled", "best of 5"):
        assert name in outcome.results
        assert name in printed
    assert "GFLOP/s" in printed
    tried = prompts_to_try(tmp_path / "demo" / "runs" / "ppo_ptx")
    assert 2 <= len(tried) <= 3
    assert all(tasks.parse(3, prompt) for prompt in tried)
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert "PPO-ptx" in page
    assert f"the webs of {base.record()['worlds']:,} made-up worlds, but not of this one" in page
    assert base.record()["weights_sha256"] in page
    assert "<svg" in page
    assert "://" not in page.replace("http://www.w3.org", "")  # nothing to fetch
    headings = re.findall(r"^\[(\d+)/10\] (.+), (?:about|less than)", printed, re.MULTILINE)
    assert [int(number) for number, _ in headings] == list(range(1, 11))
    assert (tmp_path / "demo" / "report.html").as_uri() in printed
    demo = loop.opened(tmp_path / "demo", 3, changes=small)
    assert demo.seconds.keys() == {name for _, name in headings}

    before = {path: path.read_bytes() for path in (tmp_path / "demo" / "runs").rglob("model/*.safetensors")}
    again = loop.run(tmp_path / "demo", seed=3, changes=small)
    assert {path: path.read_bytes() for path in before} == before
    assert again.results["PPO"].completions == outcome.results["PPO"].completions


@pytest.mark.medium
def test_from_scratch_the_base_model_reads_the_web_of_its_own_world(tmp_path: Path) -> None:
    pretraining = {"depth": 1, "vocab_size": 300, "tokens": 1000, "checkpoint": {"every": 100}}
    demo = loop.opened(tmp_path, 5, from_scratch=True, changes={**SMALL, "pretrain": pretraining})
    data.make(5, demo.files, demo.sizes, demo.base)
    loop.start_from_base(demo)
    run = Run.open(demo.run_at("base"))
    assert run.finished
    assert run.manifest.data["data"]["path"] == demo.files.corpus
    texts = [row.text for row in formats.read(demo.files.corpus, Text)]
    assert texts == [text.text for text in corpus.documents(make_world(5), 300)]


@pytest.mark.medium
def test_from_the_package_it_mixes_in_what_the_base_model_has_read(tmp_path: Path) -> None:
    demo = loop.opened(tmp_path, 5, changes=SMALL)
    data.make(5, demo.files, demo.sizes, demo.base)
    texts, held_out = (
        [row.text for row in formats.read(path, Text)] for path in (demo.files.corpus, demo.files.corpus_held_out)
    )
    assert texts == [text.text for text in islice(generate.webs(base.FIRST_WORLD + 20_000, 100, 16), 300)]
    assert held_out == [text.text for text in corpus.documents(make_world(5), 40)]


@pytest.mark.medium
def test_no_prompt_serves_two_purposes_and_no_user_is_in_two_splits(tmp_path: Path) -> None:
    sizes = data.Sizes(**SMALL["sizes"])
    files = data.Files(tmp_path / "world")
    data.make(5, files, sizes, None)
    purposes = (
        "sft_prompts",
        "ranked_prompts",
        "rl_prompts",
        "valid_sft_prompts",
        "valid_ranked_prompts",
        "few_shot_prompts",
        "test_prompts",
    )
    rows = {
        name: [json.loads(line) for line in Path(getattr(files, name)).read_text().splitlines()] for name in purposes
    }
    ids = [row["id"] for given in rows.values() for row in given]
    assert len(ids) == len(set(ids))
    users = {
        split: {row["user"] for given in rows.values() for row in given if row["split"] == split}
        for split in ("train", "valid", "test")
    }
    assert not users["train"] & users["test"]
    assert not users["train"] & users["valid"]
    by_k = [Path(getattr(files, f"ranked_prompts_{k}")).read_text().splitlines() for k in range(4, 10)]
    assert [len(part) for part in by_k] == [8] * 6
    assert data.curation(files)["raw"] == sizes.raw_prompts
