"""Engines of inference servers: what they sample, how they get weights, and every way in which they fail."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tiny
from heedful.config import UserError
from heedful.configs.engine import EngineConfig
from heedful.configs.shared import Compute, Generation, Lora
from heedful.data.records import Prompt
from heedful.learning import rollouts
from heedful.learning.examples import Question
from heedful.models import adapters, load
from heedful.rollout import group
from heedful.rollout.engine import open_engine, open_policy_engine
from heedful.rollout.http import HttpEngine
from heedful.rollout.types import Stream
from heedful.training.parallel import Ranks
from rollout.servers import Fake, serving

KINDS = ("vllm", "sglang")
PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]
STREAMS = [Stream(0, 0, row) for row in range(3)]
SHORT = Generation(max_new_tokens=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("policy")
    load.save(tiny.policy(), tiny.tokenizer(), path / "model")
    return str(path / "model")


@pytest.fixture
def servers(folder: str) -> Iterator[list[Fake]]:
    with serving(folder, 2) as fakes:
        yield fakes


def engine(servers: list[Fake], model: Any = None, kind: str = "vllm", **settings: Any) -> HttpEngine:
    model = model if model is not None else tiny.policy()
    config = EngineConfig(kind=kind, urls=[server.url for server in servers], **settings)
    made = open_policy_engine(model, tiny.tokenizer(), Compute(), config, once)
    assert isinstance(made, HttpEngine)
    return made


def once(work: Callable[[], None]) -> None:
    work()


def moved(model: Any) -> Any:
    """The model after a step that changes what it says."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn_like(weight)
    return model


@pytest.mark.medium
@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_those_of_the_servers_in_the_order_of_the_prompts(servers: list[Fake], kind: str) -> None:
    found = engine(servers, kind=kind).generate(PROMPTS, STREAMS, SHORT)
    assert [sample.prompt_ids for sample in found] == PROMPTS
    assert all(1 <= len(sample.response_ids) == len(sample.logprobs or []) <= 6 for sample in found)
    again = engine(servers, kind=kind).generate(PROMPTS[::-1], STREAMS[::-1], SHORT)
    assert [s.response_ids for s in again[::-1]] == [s.response_ids for s in found]  # a seed belongs to its stream
    greedy = Generation(max_new_tokens=6, temperature=0)
    (own,) = open_engine(tiny.policy(), tiny.tokenizer(), Compute()).generate(PROMPTS[:1], STREAMS[:1], greedy)
    (theirs,) = engine(servers, kind=kind).generate(PROMPTS[:1], STREAMS[:1], greedy)
    assert theirs.response_ids == own.response_ids
    assert theirs.logprobs == pytest.approx(own.logprobs, abs=1e-5)
    assert [token.id for token in engine(servers, kind=kind).stream(PROMPTS[0], STREAMS[0], greedy)] == own.response_ids
    assert sum(len(server.calls) for server in servers) > min(len(server.calls) for server in servers) > 3  # both work


@pytest.mark.medium
@pytest.mark.parametrize("kind", KINDS)
def test_new_weights_are_loaded_by_all_and_samples_say_which_they_had(
    servers: list[Fake], tmp_path: Path, kind: str
) -> None:
    made = engine(servers, kind=kind, shared_dir=str(tmp_path))
    before = made.generate(PROMPTS, STREAMS, SHORT)
    made.load_weights(moved(tiny.policy()), 7)
    after = made.generate(PROMPTS, STREAMS, SHORT)
    assert before != after
    assert {span for sample in after for span in sample.versions} == {(7, 0)}
    assert made.metrics["engine_gap"] < 1e-5
    assert made.metrics["servers"] == 2
    assert not list(tmp_path.iterdir()), "the file of the weights stays"


@pytest.mark.medium
def test_weights_come_through_a_process_group(servers: list[Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "BUCKET", 30_000)
    model, cut = moved(tiny.policy()), group.in_buckets(group.weights_of(tiny.policy()))
    assert 3 < len(cut) < len(group.weights_of(model))
    made = engine(servers, model, sync="group", timeout=60)
    before = made.generate(PROMPTS, STREAMS, SHORT)
    for version in (7, 8):
        made.load_weights(moved(model), version)
        assert made.metrics["engine_gap"] < 1e-5
    after = made.generate(PROMPTS, STREAMS, SHORT)
    assert before != after
    assert {span for sample in after for span in sample.versions} == {(8, 0)}
    assert made.metrics["servers"] == 2
    joined = [body for path, body in servers[0].calls if body and body.get("method") == "heedful_join"]
    assert len(joined) == 1  # once for both loads
    servers[1].fault = "wrong weights"
    with pytest.raises(UserError, match=r"with the weights of iteration 9 its log-probs differ .* is 0\.001"):
        made.load_weights(moved(model), 9)


@pytest.mark.medium
def test_a_server_that_does_not_join_is_one_line(servers: list[Fake]) -> None:
    servers[1].worker.heedful_join = lambda plan: None  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"does not take weights by process group \(weights by process group: ") as said:
        engine(servers[1:], sync="group", timeout=0.5).load_weights(tiny.policy(), 1)
    assert "\n" not in str(said.value)
    servers[0].fault = "no receiver"
    with pytest.raises(UserError, match=r"status 500.*\)\. Start vLLM with --worker-extension-cls heedful_worker\.Rec"):
        engine(servers, sync="group").load_weights(tiny.policy(), 1)


@pytest.mark.medium
def test_servers_sleep_while_the_policy_learns(servers: list[Fake], tmp_path: Path) -> None:
    """From the start, and from the end of each rollout on. One without new weights wakes them all the same."""
    made = engine(servers, shared_dir=str(tmp_path), sleep=True)
    questions = [Question("p", ids, Prompt(prompt="p")) for ids in PROMPTS]
    ranks = Ranks(0, 1, torch.device("cpu"), torch.float32)
    assert [server.asleep for server in servers] == 2 * [{"weights", "kv_cache"}]
    made.load_weights(moved(tiny.policy()), 1)
    assert [server.asleep for server in servers] == [set(), set()]
    first = rollouts.generate(made, questions, SHORT, 0, 0, ranks)
    assert [server.asleep for server in servers] == 2 * [{"weights", "kv_cache"}]  # before anything learns
    assert rollouts.generate(made, questions, SHORT, 0, 0, ranks) == first
    shown = ("/sleep?level=1", "/wake_up?tags=weights", "/collective_rpc", "/wake_up?tags=kv_cache")
    for server in servers:
        assert [path for path, _ in server.calls if path in shown] == [
            "/sleep?level=1", "/wake_up?tags=weights", "/collective_rpc", "/wake_up?tags=kv_cache",
            "/sleep?level=1", "/wake_up?tags=weights", "/wake_up?tags=kv_cache", "/sleep?level=1",
        ]  # fmt: skip
    assert made.metrics["servers"] == 2
    never = engine(servers)
    before = len(servers[0].calls)
    for server in servers:
        server.asleep = set()
    rollouts.generate(never, questions, SHORT, 0, 0, ranks)
    assert not {"/sleep?level=1", "/is_sleeping"} & {path for path, _ in servers[0].calls[before:]}
    servers[1].fault = "awake"
    with pytest.raises(UserError, match=r"does not sleep \(it stays awake\)\. Start vllm serve .*--enable-sleep-mode"):
        engine(servers, sleep=True)


@pytest.mark.medium
def test_adapters_are_sent_alone(servers: list[Fake], folder: str, tmp_path: Path) -> None:
    model, _ = load.load_policy(folder)
    adapters.add(model, Lora(rank=2), seed=0, base=folder)
    made = engine(servers, model, sync="adapter", shared_dir=str(tmp_path))
    for version in (1, 2):
        made.load_weights(moved(model), version)
        assert made.metrics["engine_gap"] < 1e-5
        made.generate(PROMPTS, STREAMS, SHORT)
    paths = [(path, body["lora_name"]) for path, body in servers[0].calls if "lora_adapter" in path]
    first, second = paths[0][1], paths[1][1]
    assert paths == [
        (f"/v1/{verb}_lora_adapter", n) for verb, n in (("load", first), ("load", second), ("unload", first))
    ]
    assert first.startswith("heedful-policy-1-")
    assert servers[0].calls[-1][1]["model"] == second
    assert len(list(tmp_path.iterdir())) == 1  # what the servers may read again


@pytest.mark.medium
def test_a_server_with_other_weights_is_refused_with_both_figures(servers: list[Fake]) -> None:
    servers[1].fault = "wrong weights"
    with pytest.raises(
        UserError, match=rf"^{servers[1].url}: with the weights of iteration 3 its log-probs differ"
    ) as e:
        engine(servers).load_weights(moved(tiny.policy()), 3)
    assert "engine.tolerance is 0.001" in str(e.value)
    engine(servers, tolerance=50.0).load_weights(moved(tiny.policy()), 3)


@pytest.mark.medium
@pytest.mark.parametrize("fault", ["500", "hang", "half", "short", "dies"])
def test_the_rows_of_a_lost_server_go_to_the_other(
    servers: list[Fake], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = engine(servers).generate(PROMPTS * 4, STREAMS * 4, SHORT)
    servers[0].fault, servers[0].answered, servers[0].after = fault, 0, 1
    made = engine(servers, timeout=3 if fault == "hang" else 600)
    with caplog.at_level(logging.WARNING):
        assert made.generate(PROMPTS * 4, STREAMS * 4, SHORT) == whole
    assert made.metrics["servers"] == 1
    assert caplog.text.count(f"{servers[0].url} is lost (") == 1
    servers[1].fault, servers[1].answered = fault, 9
    with pytest.raises(UserError, match=r"^no inference server is left \(http.* continue with --resume$"):
        made.generate(PROMPTS, STREAMS, SHORT)


@pytest.mark.medium
def test_every_row_of_every_iteration_has_a_seed_of_its_own(servers: list[Fake]) -> None:
    """The seed of a stream stays the same in later versions: the first 48 bits of a hash of its name."""
    streams = [Stream(seed, step, row) for seed in (0, 1) for step in (0, 1) for row in (0, 1)]
    engine(servers[:1]).generate(8 * [[5, 6]], streams, Generation(max_new_tokens=1))
    seeds = [body["sampling_params"]["seed"] for path, body in servers[0].calls if path.endswith("/generate")]
    assert len(set(seeds)) == 8
    assert {4_612_229_282_685, 219_523_917_415_783} < set(seeds)


@pytest.mark.medium
def test_what_a_server_may_not_answer(servers: list[Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    """More tokens than asked for, or tokens that the policy does not know."""
    made, sample = engine(servers[:1]), servers[0].sample
    long = lambda ids, new, *how: sample(ids, new + 1, *how)  # noqa: E731
    servers[0].sample = long  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"no inference server is left .*7 tokens with 7 log-probs"):
        made.generate(PROMPTS, STREAMS, SHORT)
    foreign = lambda *how: replace(sample(*how), response_ids=[made.ids.end], logprobs=[-1.0])  # noqa: E731
    servers[1].sample = foreign  # type: ignore[method-assign]
    made = engine(servers[1:])
    said = f"{servers[1].url}: sampled the id {made.ids.end}, which is no token of the policy's tokenizer"
    with pytest.raises(UserError, match=re.escape(said)):
        made.generate(PROMPTS, STREAMS, SHORT)
    with pytest.raises(UserError, match=re.escape(said)):
        made.load_weights(tiny.policy(), 0)


@pytest.mark.medium
def test_the_shortest_context_counts(servers: list[Fake]) -> None:
    assert engine(servers).context == 100  # the servers', below the 128 of the model
    assert engine(servers, tiny.policy(context=64)).context == 64


@pytest.mark.medium
def test_the_gap_is_the_mean_of_absolute_differences_of_the_worst_server(servers: list[Fake], tmp_path: Path) -> None:
    """Differences of both signs do not cancel. bfloat16 allows 0.1, float32 0.001."""
    sample = servers[0].sample

    def apart(*how: Any) -> Any:
        found = sample(*how)
        return replace(found, logprobs=[p + 0.05 * (-1) ** i for i, p in enumerate(found.logprobs)])

    servers[0].sample = apart  # type: ignore[method-assign]
    made = engine(servers, shared_dir=str(tmp_path), tolerance=1.0)
    made.load_weights(tiny.policy(), 0)
    assert made.metrics["engine_gap"] == pytest.approx(0.05, abs=1e-4)
    with pytest.raises(UserError, match=r"by 0\.05 nats a token, and engine\.tolerance is 0\.001"):
        engine(servers, shared_dir=str(tmp_path)).load_weights(tiny.policy(), 0)
    config = EngineConfig(kind="vllm", urls=[server.url for server in servers], shared_dir=str(tmp_path))
    low = open_policy_engine(tiny.policy(), tiny.tokenizer(), Compute(dtype="bfloat16"), config, once)
    low.load_weights(tiny.policy(), 0)


@pytest.mark.medium
def test_a_slow_server_is_waited_for(servers: list[Fake]) -> None:
    servers[0].fault = servers[1].fault = "slow"
    made = engine(servers)
    assert len(made.generate(PROMPTS, STREAMS, SHORT)) == 3
    assert made.metrics["servers"] == 2


@pytest.mark.medium
def test_what_cannot_work_is_refused_in_one_line(servers: list[Fake], tmp_path: Path) -> None:
    servers[0].fault = servers[1].fault = "403"
    with pytest.raises(
        UserError, match=r"refuses /inference/v1/generate \(status 403\)\. Start vllm serve with --enable"
    ):
        engine(servers).generate(PROMPTS, STREAMS, SHORT)
    servers[0].fault = servers[1].fault = ""
    servers[1].tokenizer.add_tokens(["quick"])
    with pytest.raises(UserError, match=r"serves policy, whose tokenizer is not the policy's\. Start it with"):
        engine(servers)
    with pytest.raises(
        UserError, match=r"^http://127\.0\.0\.1:9: not a vLLM server that answers \(/v1/models: Connect"
    ):
        open_policy_engine(
            tiny.policy(), tiny.tokenizer(), Compute(), EngineConfig(kind="vllm", urls=["http://127.0.0.1:9"]), once
        )
    with pytest.raises(UserError, match=r"^engine\.shared_dir /nowhere: cannot be written"):
        engine(servers[:1], shared_dir="/nowhere").load_weights(tiny.policy(), 0)
    for settings, said in (
        ({"kind": "vllm"}, "give the addresses of running servers as engine.urls"),
        ({"urls": ["http://here"]}, "addresses are for engine.kind = vllm or sglang"),
        ({"kind": "sglang", "urls": ["http://here"], "sync": "group"}, "group: sglang gets its weights as files"),
        ({"kind": "sglang", "urls": ["http://here"], "sleep": True}, "engine.sleep: sglang servers do not sleep"),
        ({"sleep": True}, "engine.sleep: for servers alone"),
        ({"kind": "vllm", "urls": ["http://here"], "sync": "group", "sleep": True}, "two processes cannot join a grou"),
        ({"kind": "vllm", "urls": ["http://here"], "sync": "adapter"}, "the policy has no adapter. Give lora.rank"),
    ):
        with pytest.raises(UserError, match=said):
            open_policy_engine(tiny.policy(), tiny.tokenizer(), Compute(), EngineConfig(**settings), once)


@pytest.mark.medium
@pytest.mark.parametrize("sync", ["file", "adapter"])
def test_a_full_shared_folder_is_one_line_and_stays_empty(
    servers: list[Fake], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: str
) -> None:
    model, _ = load.load_policy(folder)
    if sync == "adapter":
        adapters.add(model, Lora(rank=2), seed=0, base=folder)
    made = engine(servers[:1], model, shared_dir=str(tmp_path), sync=sync)
    weights = sum(4 * weight.numel() for weight in model.parameters() if weight.requires_grad)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=32_000_000 + weights - 1))
    with pytest.raises(
        UserError, match=r"^engine\.shared_dir .*: weights and tokenizer need 32 MB, and 32 MB are free\."
    ):
        made.load_weights(model, 1)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=32_000_000 + weights))
    made.load_weights(model, 1)
    assert made.version == 1
