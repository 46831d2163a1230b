"""Best of n, then SFT: the same as its two steps by hand, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from heedful import cli
from heedful.commands import rejection
from heedful.config import UserError, build, load
from heedful.configs.best_of_n import BestOfNConfig
from heedful.configs.rejection import RejectionConfig
from heedful.configs.sft import SFTConfig
from heedful.data import formats
from heedful.data.records import Completions, Demonstration
from heedful.inference import best_of_n
from heedful.runs.run import Run
from heedful.stages import sft
from stages.worlds import Files

SMALL = {"max_new_tokens": 60}
SHORT = "commands.test_rejection:short"


def short(prompts: list[str], completions: list[str]) -> list[float]:
    """A reward for answers that end early."""
    return [-float(len(text)) for text in completions]


def config(files: Files, **changes: Any) -> RejectionConfig:
    inputs = {"model": files.policy, "data": files.prompts, "reward": [SHORT], "n": 6, "chunk": 7, "seed": 5}
    more = {"epochs": 1, "batch": 4, "generation": SMALL, "optimiser": {"lr": 1e-3}, "max_response_tokens": 64}
    return build(RejectionConfig, {**inputs, **more, **changes}, "test")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


@pytest.mark.medium
def test_it_is_best_of_n_and_then_sft(files: Files, tmp_path: Path) -> None:
    results = rejection.train(config(files), tmp_path / "out")
    asked = load(BestOfNConfig, None, ["generation.max_new_tokens=60"], model=files.policy, prompts=files.prompts,
                 reward=[SHORT], n=6, seed=5)  # fmt: skip
    best = formats.read(best_of_n.run(asked, tmp_path / "best.jsonl"), Completions)
    ended = [row for row in best if row.finish == ["stop"]]
    whole = [row for row in ended if row.completions[0].strip()]
    assert 0 < len(whole) < len(ended) < len(best)  # some are empty, and some are cut off
    chosen = formats.read(str(tmp_path / "out" / "chosen.jsonl"), Demonstration)
    assert [(one.prompt, one.completion) for one in chosen] == [(row.prompt, row.completions[0]) for row in whole]
    counts = len(whole), len(best) - len(ended), len(ended) - len(whole)
    assert (results["answers"], results["cut_off"], results["empty"]) == counts
    assert results["best_score"] == pytest.approx(sum(row.scores[0] for row in whole if row.scores) / len(whole))

    given = {"model": files.policy, "data": str(tmp_path / "out" / "chosen.jsonl"), "epochs": 1, "batch": 4, "seed": 5}
    more = {"optimiser": {"lr": 1e-3}, "valid_fraction": 0.05, "max_response_tokens": 64}
    by_hand = sft.train(build(SFTConfig, {**given, **more}, "test"), tmp_path / "sft")
    ours, theirs = weights(tmp_path / "out" / "sft"), weights(by_hand)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    start = load_file(Path(files.policy) / "model.safetensors")
    assert any(not torch.equal(ours[name], start[name]) for name in start)


@pytest.mark.medium
def test_it_resumes_and_refuses_a_folder_that_is_taken(files: Files, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rejection.train(config(files), out)
    before = {path: path.read_bytes() for path in out.rglob("*.safetensors")}
    (out / "sft" / "model" / "model.safetensors").unlink()
    (out / "sft" / "model").rename(tmp_path / "gone")  # as if it was stopped before its end
    with pytest.raises(UserError, match="not empty"):
        rejection.train(config(files), out)
    rejection.train(config(files), out, resume=True)
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(UserError, match="'n' was 6, now 4"):
        rejection.train(config(files, n=4), out, resume=True)


@pytest.mark.medium
def test_answers_that_are_all_cut_off_stop_it(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="every best answer is empty or cut off"):
        rejection.train(config(files, generation={"max_new_tokens": 1}), tmp_path / "out")
    assert not (tmp_path / "out" / "sft").exists()


def test_held_out_prompts_are_refused_before_anything_is_sampled(files: Files, tmp_path: Path) -> None:
    data = tmp_path / "test.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"p{i}", "split": "test"}) + "\n" for i in range(3)))
    with pytest.raises(UserError, match=r"test\.jsonl: every prompt has split valid or test, so none is left"):
        rejection.train(config(files, data=str(data)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.medium
def test_the_command_prints_its_results(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rejection", "--model", files.policy, "--data", files.prompts, "--reward", SHORT, "-n", "6"]
    words += ["--generation.max-new-tokens", "60", "--epochs", "1", "--out", str(tmp_path / "out"), "--json"]
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert not left.value.code
    printed = json.loads(capsys.readouterr().out)
    assert printed["model"] == str(tmp_path / "out" / "sft")
    assert Run.open(printed["model"]).finished
