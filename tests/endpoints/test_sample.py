"""`heedful sample --model URL#MODEL`: rows, what is left out, interruption, and no torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from endpoints.scripted import Endpoint, Reply, error, said, serving
from heedful.config import UserError, load
from heedful.configs.sample import SampleConfig
from heedful.data import formats
from heedful.data.records import Completions
from heedful.inference import sampling
from heedful.runs.manifest import Manifest, manifest_path, model_path

CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]
WITHOUT_TORCH = (
    "import sys; sys.modules.update({name: None for name in ('torch', 'transformers', 'rich', 'safetensors')});"
    "from heedful.cli import main; main()"
)


def echo(number: int, body: dict[str, Any]) -> Reply:
    return said(f"{body['messages'][-1]['content']} {body['seed']}")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    formats.write(path, [{"prompt": "Why?", "id": "1", "colour": "red"}, {"prompt": CHAT}, {"prompt": "  How? \n"}])
    return path


def sample(endpoint: Endpoint, prompts: Path, *sets: str, **inputs: Any) -> list[Completions]:
    config = load(SampleConfig, None, list(sets), model=endpoint.ref, prompts=str(prompts), **{"k": 2} | inputs)
    return formats.read(sampling.run(config, prompts.parent / "out.jsonl", overwrite=True), Completions)


def manifest(prompts: Path) -> Manifest:
    return Manifest.read(manifest_path(prompts.parent / "out.jsonl"))


def test_rows(prompts: Path) -> None:
    with serving(echo) as endpoint:
        rows = sample(endpoint, prompts, "generation.max_new_tokens=9", "generation.temperature=0.5", k=3)
        assert [row.prompt for row in rows] == ["Why?", rows[1].prompt, "  How? \n"]
        assert (rows[0].id, rows[0].model_extra) == ("1", {"colour": "red"})
        assert [len(set(row.completions)) for row in rows] == [3, 3, 3]
        assert rows[0].completions[0].startswith("Why? ")
        assert rows[0].models == [endpoint.ref] * 3
        assert rows[0].finish == ["stop"] * 3
        assert rows[0].token_ids is None
        asked = {json.dumps(body["messages"]) for body in endpoint.requests}
        assert json.dumps(CHAT) in asked
        assert {(body["max_tokens"], body["temperature"]) for body in endpoint.requests} == {(9, 0.5)}
        assert "top_p" not in endpoint.requests[0]
        results = manifest(prompts).results
        assert results == {"rows": 3, "completions": 9, "finished": 1.0, "asked": 9, "from_cache": 0}
        before = len(endpoint.requests)
        assert sample(endpoint, prompts, "generation.max_new_tokens=9", "generation.temperature=0.5") == [
            row.model_copy(update={name: getattr(row, name)[:2] for name in ("completions", "models", "finish")})
            for row in rows
        ]
        assert len(endpoint.requests) == before
        assert manifest(prompts).results["from_cache"] == 6


@pytest.mark.medium
def test_each_setting_reaches_the_endpoint(prompts: Path) -> None:
    with serving(echo) as endpoint:
        first = sample(endpoint, prompts)
        assert sample(endpoint, prompts, seed=1)[0].completions != first[0].completions
        sample(endpoint, prompts, "generation.top_p=0.9", "generation.top_k=5")
        assert (endpoint.requests[-1]["top_p"], endpoint.requests[-1]["top_k"]) == (0.9, 5)
        before = len(endpoint.requests)
        sample(endpoint, prompts, "endpoint.cache=false")
        assert len(endpoint.requests) == before + 6


def test_tools_and_calls_reach_the_endpoint(tmp_path: Path) -> None:
    """The arguments of a call are an object in a row, and JSON text for an endpoint."""
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Arden"}}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    turns = [
        {"role": "user", "content": "Will it rain?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "no"},
    ]
    path = tmp_path / "prompts.jsonl"
    formats.write(path, [{"prompt": turns, "tools": tools}])
    with serving(echo) as endpoint:
        (row,) = sample(endpoint, path, k=1)
        (request,) = endpoint.requests
    assert request["tools"] == tools
    assert request["messages"][1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Arden"}'}
    assert request["messages"][2]["tool_call_id"] == "c1"
    assert row.tools == tools


def test_prompts_without_an_answer_are_named(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def script(number: int, body: dict[str, Any]) -> Reply:
        return error(400, "too long") if body["messages"] == CHAT else echo(number, body)

    with serving(script) as endpoint:
        assert [row.prompt for row in sample(endpoint, prompts)] == ["Why?", "  How? \n"]
    assert "prompt 2 is left out: status 400, too long" in capsys.readouterr().err
    results = manifest(prompts).results
    assert results["prompts_left_out"] == 1
    assert results["left_out"] == {"prompt 2": "status 400, too long"}
    with (
        serving(lambda number, body: error(400, "never")) as endpoint,
        pytest.raises(UserError, match="The first: status 400, never"),
    ):
        sample(endpoint, prompts)


def test_another_model_answers(prompts: Path) -> None:
    def script(number: int, body: dict[str, Any]) -> Reply:
        reply = said("x", reasoning="because")
        return Reply(body=reply.body | {"model": "other-7b"})

    with serving(script) as endpoint:
        sample(endpoint, prompts)
    results = manifest(prompts).results
    assert (results["answered_as"], results["thoughts_left_out"]) == ("other-7b", 6)


@pytest.mark.parametrize(
    "setting", ["compute.device=cpu", "trust_remote_code=true", "skip_long=true", "chunk=3", "generation.max_rows=2"]
)
def test_settings_that_mean_nothing_here_are_refused(prompts: Path, setting: str) -> None:
    name = setting.partition("=")[0]
    named = "compute" if name.startswith("compute") else name
    with serving(echo) as endpoint, pytest.raises(UserError, match=f"'{named}' is for models on this machine"):
        sample(endpoint, prompts, setting)


def test_settings_of_endpoints_are_refused_for_other_models(prompts: Path) -> None:
    config = load(SampleConfig, None, ["endpoint.retries=1"], model="runs/sft", prompts=str(prompts))
    with pytest.raises(UserError, match="runs/sft: the settings of 'endpoint'"):
        sampling.run(config, prompts.parent / "out.jsonl")


def test_commands_that_need_the_weights_refuse_an_address() -> None:
    with pytest.raises(UserError, match="a model behind an address"):
        model_path("http://h/v1#m")


def heedful(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HEEDFUL_CACHE": str(folder / "cache")}
    command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=folder)


@pytest.mark.medium
def test_the_command_needs_no_torch(prompts: Path) -> None:
    with serving(lambda number, body: error(400, "no") if body["messages"] == CHAT else echo(number, body)) as endpoint:
        ended = heedful(
            "sample", "--model", endpoint.ref, "--prompts", "prompts.jsonl", "-k", "2", "--out", "o.jsonl",
            folder=prompts.parent,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[:2] == ["o.jsonl", "  rows 2"]
        assert "left out, prompt 2 status 400, no" in ended.stdout
        ended = heedful(
            "sample", "--model", f"{endpoint.url}/v1", "--prompts", "prompts.jsonl", "--out", "p.jsonl",
            folder=prompts.parent,
        )  # fmt: skip
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == f"{endpoint.url}/v1: names no model. Write it as {endpoint.url}/v1#MODEL\n"


@pytest.mark.medium
def test_an_interruption_loses_no_answer(prompts: Path) -> None:
    """The second prompt is never answered in time. What was answered before the signal is not asked again."""
    environment = os.environ | {"HEEDFUL_CACHE": str(prompts.parent / "cache")}
    command = [sys.executable, "-m", "heedful", "sample", "--prompts", "prompts.jsonl", "--out", "o.jsonl", "--model"]
    slow = Reply(wait=10, body={})
    with serving(lambda number, body: slow if number == 1 else echo(number, body)) as endpoint:
        command += [endpoint.ref, "--endpoint.parallel", "1", "--endpoint.retries", "0"]
        how: dict[str, Any] = {"env": environment, "cwd": prompts.parent, "stderr": subprocess.PIPE, "text": True}
        heeded = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
        with subprocess.Popen(command, **how, preexec_fn=heeded) as process:
            while len(endpoint.requests) < 2:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "o.jsonl: interrupted. The answers so far are kept" in told
        assert not (prompts.parent / "o.jsonl").exists()
        endpoint.script = echo
        assert subprocess.run(command, **how, stdout=subprocess.DEVNULL, timeout=60).returncode == 0
        assert len(endpoint.requests) == 4
