"""What a run leaves can be written: that is tried before the first step, and the result has the input's precision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

import tiny
from heedful.config import UserError
from heedful.models import load, saving
from heedful.training import checkpoint
from stages import worlds
from stages.worlds import Files

STARTS = {"sft": "model", "reward": "model", "ppo": "policy"}


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(run / "model" / "model.safetensors")
    return found


def with_greedy_defaults(path: str) -> dict[str, Any]:
    """Public models have a temperature next to do_sample = false. transformers loads that and refuses to save it."""
    file = Path(path) / "generation_config.json"
    defaults: dict[str, Any] = json.loads(file.read_text()) | {"do_sample": False, "temperature": 0.6, "top_p": 0.9}
    file.write_text(json.dumps(defaults))
    return defaults


@pytest.mark.medium
@pytest.mark.parametrize("stage", ["sft", "ppo"])
def test_a_generation_config_that_contradicts_itself_is_kept_as_it_is(files: Files, tmp_path: Path, stage: str) -> None:
    start = worlds.save(tmp_path / "start", tiny.policy())
    defaults = with_greedy_defaults(start)
    run = worlds.train(stage, files, tmp_path / "run", **{STARTS[stage]: start})
    found = json.loads((run / "model" / "generation_config.json").read_text())
    assert {key: found[key] for key in ("do_sample", "temperature", "top_p")} == {
        key: defaults[key] for key in ("do_sample", "temperature", "top_p")
    }
    model, _ = load.load_policy(run)
    assert GenerationConfig.from_pretrained(run / "model").temperature == 0.6
    assert model.generation_config.pad_token_id == 1


@pytest.mark.medium
@pytest.mark.parametrize("stage", STARTS)
def test_the_output_has_the_precision_of_the_input_unless_save_dtype_says_otherwise(
    files: Files, tmp_path: Path, stage: str
) -> None:
    start = worlds.save(tmp_path / "start", tiny.policy().bfloat16())
    runs = {
        save_dtype: worlds.train(stage, files, tmp_path / save_dtype, save_dtype=save_dtype, **{STARTS[stage]: start})
        for save_dtype in ("auto", "float32", "float16")
    }
    exact = weights_of(runs["float32"])
    for save_dtype, dtype in (("auto", torch.bfloat16), ("float32", torch.float32), ("float16", torch.float16)):
        found = weights_of(runs[save_dtype])
        assert found.keys() == exact.keys()
        for name, weight in found.items():
            assert weight.dtype == dtype
            assert torch.equal(weight, exact[name].to(dtype)), name  # training itself is in float32
        config = json.loads((runs[save_dtype] / "model" / "config.json").read_text())
        assert config["dtype"] == str(dtype).removeprefix("torch.")


def test_tied_weights_are_saved_once_in_any_precision(tmp_path: Path) -> None:
    model = tiny.policy(tie_word_embeddings=True)
    before = model.lm_head.weight
    load.save(model, tiny.tokenizer(), tmp_path / "model", torch.bfloat16)
    found = load_file(tmp_path / "model" / "model.safetensors")
    assert "lm_head.weight" not in found
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert again.lm_head.weight.data_ptr() == again.model.embed_tokens.weight.data_ptr()
    assert model.lm_head.weight is before is model.model.embed_tokens.weight
    assert before.dtype == torch.float32


def test_a_weight_too_large_for_float16_keeps_float32(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny.policy()
    with torch.no_grad():
        model.model.norm.weight[0] = 1e5
    load.save(model, tiny.tokenizer(), tmp_path / "model", torch.float16)
    assert load_file(tmp_path / "model" / "model.safetensors")["model.norm.weight"].dtype == torch.float32
    assert "too large for float16" in caplog.text


def test_the_files_say_the_precision_where_the_config_does_not(tmp_path: Path) -> None:
    path = worlds.save(tmp_path / "start", tiny.policy().bfloat16())
    config = Path(path) / "config.json"
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "dtype"}))
    model, _ = load.load_policy(path)
    assert model.dtype == torch.float32
    assert saving.stored_dtype(model) == torch.bfloat16


@pytest.mark.parametrize("stage", ["pretrain", *STARTS, "grpo"])
def test_what_cannot_be_saved_stops_the_run_before_its_first_step(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("this family cannot be written")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", refuse)
    with pytest.raises(UserError, match=r"cannot write the model \(this family cannot be written\)"):
        worlds.train(stage, files, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.medium
def test_a_disk_that_will_be_full_stops_the_run_before_its_first_step(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = worlds.train("sft", files, tmp_path / "run", checkpoint={"keep": 2})
    size = sum(file.stat().st_size for file in (run / "checkpoints").glob("step-*/*.safetensors"))
    model = sum(file.stat().st_size for file in (run / "model").iterdir())
    needed = size // len(list((run / "checkpoints").iterdir())) * 3 + model
    for free, fits in ((needed + 50_000, True), (needed - 50_000, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        if fits:
            worlds.train("sft", files, tmp_path / "fits", checkpoint={"keep": 2})
        else:
            with pytest.raises(UserError, match=r"need \d+ MiB of the disk, \d+ MiB are free\. Lower checkpoint\.keep"):
                worlds.train("sft", files, tmp_path / "not", checkpoint={"keep": 2})
    # what is there already needs no room again
    for path in (run / "checkpoints").iterdir():
        assert checkpoint.latest(run / "checkpoints") is not None, path
    shutil.rmtree(run / "model")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=model + size // 2))
    worlds.train("sft", files, run, resume=True, checkpoint={"keep": 2})


def test_a_model_with_code_of_its_own_is_saved_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "start"
    load.save(tiny.policy(), tiny.tokenizer(), folder)
    (folder / "modeling_own.py").write_text(
        "from transformers import LlamaForCausalLM\n\n\nclass OwnForCausalLM(LlamaForCausalLM):\n    pass\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["OwnForCausalLM"], "auto_map": {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}}
    (folder / "config.json").write_text(json.dumps(config))
    model, tokenizer = load.load_policy(folder, trust_remote_code=True)
    load.save(model, tokenizer, tmp_path / "again")
    again, _ = load.load_policy(tmp_path / "again", trust_remote_code=True)
    assert type(again).__name__ == "OwnForCausalLM"
