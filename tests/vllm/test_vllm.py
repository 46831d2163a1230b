"""The real vLLM as an engine. `make test-vllm` installs it. Elsewhere these tests are skipped."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from heedful.config import UserError
from heedful.configs.engine import EngineConfig
from heedful.configs.shared import Compute, Generation, Lora
from heedful.files import read_json
from heedful.launch.machine import free_port
from heedful.models import adapters, load
from heedful.rollout.engine import open_policy_engine
from heedful.rollout.types import Stream
from heedful.rollout.worker import heedful_worker
from heedful.runs.run import metrics
from stages import worlds

PYTHON = os.environ.get("VLLM_PYTHON", "")
pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="vLLM: run make test-vllm, which sets VLLM_PYTHON"),
    pytest.mark.timeout(900),
]
ENVIRONMENT = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
RECEIVER = {"PYTHONPATH": str(Path(heedful_worker.__file__).parent)}  # fmt: skip
OPTIONS = (
    "--served-model-name policy --dtype float32 --enforce-eager --max-model-len 128 --enable-scale-out "
    "--logprobs-mode processed_logprobs --enable-lora --max-lora-rank 8 "
    "--worker-extension-cls heedful_worker.Receiver"
).split()
PROMPTS = [[5, 6, 7], [9, 10], [11, 12, 13, 14], [15]]
STREAMS = [Stream(0, 0, row) for row in range(4)]
SHAPE: dict[str, Any] = {
    "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "tie_word_embeddings": False,
}  # fmt: skip


def wide() -> Any:
    """A tiny policy of a size that vLLM computes: heads of 32."""
    return tiny.policy(**SHAPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return worlds.save(tmp_path_factory.mktemp("policy") / "model", wide())


@contextlib.contextmanager
def started(folder: str, log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """(address, process) of a vLLM server of the model in a folder."""
    port = free_port()
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--port", str(port), *OPTIONS]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | ENVIRONMENT | RECEIVER
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=environment, cwd=log.parent, start_new_session=True
        )
        try:
            for _ in range(600):
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                        break
                assert process.poll() is None, log.read_text()[-2000:]
                time.sleep(1)
            yield f"http://127.0.0.1:{port}", process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


@pytest.fixture(scope="module")
def server(folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(folder, tmp_path_factory.mktemp("server") / "log") as (url, _):
        yield url


def engine(url: str, model: Any, **settings: Any) -> Any:
    config = EngineConfig(kind="vllm", urls=[url], **settings)
    return open_policy_engine(model, tiny.tokenizer(), Compute(), config, lambda work: work())


def moved(model: Any) -> Any:
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn_like(weight)
    return model


def test_token_ids_in_token_ids_and_log_probs_out(server: str, folder: str) -> None:
    model, _ = load.load_policy(folder)
    made = engine(server, model)
    made.load_weights(model, 0)
    assert made.gap < 1e-4
    samples = made.generate(PROMPTS, STREAMS, Generation(max_new_tokens=12, temperature=0.7))
    assert [sample.prompt_ids for sample in samples] == PROMPTS
    assert all(len(sample.response_ids) == len(sample.logprobs) for sample in samples)
    assert {span for sample in samples for span in sample.versions} == {(0, 0)}


def test_weights_come_by_file_and_adapters_alone(server: str, folder: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, _ = load.load_policy(folder)
    by_file = engine(server, model, shared_dir=str(tmp_path))
    for version in (1, 2):
        by_file.load_weights(moved(model), version)
        assert by_file.gap < 1e-4
    base, _ = load.load_policy(folder)
    by_file.load_weights(base, 3)
    adapters.add(base, Lora(rank=4), seed=0, base=folder)
    by_adapter = engine(server, base, sync="adapter", shared_dir=str(tmp_path))
    for version in (4, 5):
        by_adapter.load_weights(moved(base), version)
        assert by_adapter.gap < 1e-4


def test_weights_come_through_a_process_group(server: str, folder: str) -> None:
    """Twice through one group, and once more by a second trainer, which makes a group of its own."""
    torch.manual_seed(1)
    model, _ = load.load_policy(folder)
    for versions in ((6, 7), (8,)):
        by_group = engine(server, model, sync="group", timeout=60.0)
        for version in versions:
            began = time.monotonic()
            by_group.load_weights(moved(model), version)
            print(f"gap {by_group.gap:.2g}, {time.monotonic() - began:.2f} s with the handshake")
            assert by_group.gap < 1e-4
        (sample, *_) = by_group.generate(PROMPTS, STREAMS, Generation(max_new_tokens=4))
        assert sample.versions == [(versions[-1], 0)]


@pytest.mark.parametrize("sync", ["file", "group"])
def test_three_iterations_of_ppo(server: str, folder: str, tmp_path: Path, sync: str) -> None:
    files = worlds.make(tmp_path / "world")
    servers = {"kind": "vllm", "urls": [server], "sync": sync}
    run = worlds.train("ppo", files, tmp_path / "run", policy=folder, engine=servers, episodes=24)
    rows = metrics(run)
    assert len(rows) == 3
    assert max(row["logprob_gap"] for row in rows) <= 1e-4
    assert max(row["engine_gap"] for row in rows) <= 1e-4
    assert load.load_policy(run)[0].config.vocab_size == wide().config.vocab_size


def test_one_command_for_two_ranks_with_shards_and_a_server(folder: str, tmp_path: Path) -> None:
    files = worlds.make(tmp_path / "world")
    run = tmp_path / "run"
    ours = f"""launch --processes 2 --servers 1 --server-python {PYTHON} --server-port {free_port()}
        --logs {tmp_path}/logs --server-options '--dtype float32 --enforce-eager --max-model-len 128' --"""
    stage = f"""ppo --policy {folder} --reward {files.judge} --prompts {files.prompts} --out {run}
        --compute.shard full --episodes 24 --rollout-batch 8 --minibatch 4
        --generation.max-new-tokens 12 --max-prompt-tokens 60"""
    subprocess.run(
        [sys.executable, "-m", "heedful", *shlex.split(ours), *shlex.split(stage)], check=True, timeout=800,
        env=os.environ | ENVIRONMENT | {"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    rows = metrics(run)
    assert len(rows) == 3
    assert max(row["logprob_gap"] for row in rows) <= 1e-4
    assert read_json(run / "manifest.json")["config"]["compute"]["shard"] == "full"
    plain = AutoModelForCausalLM.from_pretrained(run / "model")
    assert {name: weight.shape for name, weight in plain.state_dict().items()} == {
        name: weight.shape for name, weight in wide().state_dict().items()
    }


def test_a_server_killed_in_mid_rollout_is_one_line(folder: str, tmp_path: Path) -> None:
    model, _ = load.load_policy(folder)
    with started(folder, tmp_path / "log") as (url, process):
        made = engine(url, model, timeout=60.0)
        made.generate(PROMPTS, STREAMS, Generation(max_new_tokens=4))
        os.killpg(process.pid, 9)
        with pytest.raises(UserError, match=r"^no inference server is left \(http.* continue with --resume$"):
            made.generate(PROMPTS, STREAMS, Generation(max_new_tokens=4))
