"""What is said to vLLM and SGLang, word for word, and how their answers are read. No server and no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from heedful.configs.shared import Generation
from heedful.rollout.dialects import DIALECTS, About, ServerAnswer, Unreadable

VLLM, SGLANG = DIALECTS["vllm"], DIALECTS["sglang"]
SETTINGS = Generation(max_new_tokens=6, temperature=0.7, top_k=5, top_p=0.9)
Calls = list[tuple[str, Any]]


def answering(calls: Calls, **answers: Any) -> Callable[[str, Any], Any]:
    """A call that writes itself down and gives the answer of its route, or {}. An error is raised."""

    def call(path: str, body: Any) -> Any:
        calls.append((path, body))
        found = answers.get(path.partition("?")[0].rpartition("/")[2], {})
        if isinstance(found, Exception):
            raise found
        return found

    return call


def choice(**changes: Any) -> dict[str, Any]:
    content = [{"logprob": -0.5}, {"logprob": -1.5}, {"logprob": -2.5}]
    made = {"token_ids": [7, 8, 9], "logprobs": {"content": content}, "finish_reason": "stop"}
    return {"choices": [made | changes]}


def test_what_vllm_is_asked_to_sample() -> None:
    calls: Calls = []
    spans = [{"version": "3", "start": 0, "end": 2}, {"version": "4", "start": 2, "end": 3}]
    call = answering(calls, generate=choice(weight_versions=spans))
    found = VLLM.generate(call, "policy", [5, 6], SETTINGS, [0, 2], 17)
    assert found == ServerAnswer([7, 8, 9], [-0.5, -1.5, -2.5], "stop", [(3, 0), (4, 2)])
    sampling = {
        "max_tokens": 6, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "seed": 17, "stop_token_ids": [0, 2],
        "logprobs": 0, "detokenize": False,
    }  # fmt: skip
    asked = {"model": "policy", "token_ids": [5, 6], "sampling_params": sampling}
    assert calls == [("/inference/v1/generate", asked)]
    VLLM.generate(call, "policy", [5, 6], Generation(), [0], 1)
    assert calls[1][1]["sampling_params"]["top_k"] == -1  # all tokens: 0 would be none


def test_what_sglang_is_asked_to_sample() -> None:
    calls: Calls = []
    meta = {"output_token_logprobs": [[-0.5, 7, None], [-1.5, 8, None]], "finish_reason": {"type": "length"}}
    call = answering(calls, generate={"meta_info": meta | {"weight_version": "3"}})
    found = SGLANG.generate(call, "policy", [5, 6], SETTINGS, [0, 2], 17)
    assert found == ServerAnswer([7, 8], [-0.5, -1.5], "length", [(3, 0)])
    sampling = {
        "max_new_tokens": 6, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "sampling_seed": 17,
        "stop_token_ids": [0, 2],
    }  # fmt: skip
    asked = {"input_ids": [5, 6], "sampling_params": sampling, "return_logprob": True}
    assert calls == [("/generate", asked)]
    SGLANG.generate(call, "heedful-policy-4-ab", [5, 6], Generation(), [0], 1)
    assert calls[1][1]["lora_path"] == "heedful-policy-4-ab"
    assert calls[1][1]["sampling_params"]["top_k"] == -1
    unnamed = answering([], generate={"meta_info": meta})
    assert SGLANG.generate(unnamed, "policy", [5], SETTINGS, [0], 1).versions is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"finish_reason": "abort"}, "the answer ended with 'abort'"),
        ({"logprobs": None}, "the answer has no 'content'"),
        ({"logprobs": {"content": [{}]}}, "the answer has no 'logprob'"),
    ],
)
def test_an_answer_that_is_none(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        VLLM.generate(answering([], generate=choice(**changes)), "policy", [5], SETTINGS, [0], 1)


def test_versions_that_heedful_did_not_give_are_none() -> None:
    ours, first, theirs = ({"version": version, "start": 0} for version in ("3", "initial", "x"))
    for spans in (None, [], [first], [ours, theirs]):
        call = answering([], generate=choice(weight_versions=spans))
        assert VLLM.generate(call, "policy", [5], SETTINGS, [0], 1).versions is None


def test_vllm_loads_weights_while_requests_wait() -> None:
    """Keys and values of the old weights are forgotten. Requests go on even if the load fails."""
    calls: Calls = []
    VLLM.load(answering(calls), "/shared/weights", 8)
    assert calls == [
        ("/pause?mode=keep", {}),
        ("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": "/shared/weights"}}),
        ("/reset_prefix_cache", {}),
        ("/update_weight_version", {"new_version": "8"}),
        ("/resume", {}),
    ]
    calls.clear()
    with pytest.raises(Unreadable):
        VLLM.load(answering(calls, collective_rpc=Unreadable("half")), "/shared/weights", 8)
    assert [path for path, _ in calls] == ["/pause?mode=keep", "/collective_rpc", "/resume"]


def test_sglang_loads_weights_while_requests_wait() -> None:
    calls: Calls = []
    SGLANG.load(answering(calls), "/shared/weights", 8)
    assert calls == [
        ("/pause_generation", {}),
        ("/update_weights_from_disk", {"model_path": "/shared/weights", "weight_version": "8"}),
        ("/continue_generation", {}),
    ]
    calls.clear()
    refused = {"success": False, "message": "no such folder"}
    with pytest.raises(Unreadable, match="/update_weights_from_disk: no such folder"):
        SGLANG.load(answering(calls, update_weights_from_disk=refused), "/shared/weights", 8)
    assert calls[-1] == ("/continue_generation", {})


def test_what_servers_say_of_themselves() -> None:
    call = answering([], models={"data": [{"id": "policy", "max_model_len": 100}]})
    assert VLLM.about(call) == About("policy", 100)
    assert VLLM.about(answering([], models={"data": [{"id": "policy"}]})) == About("policy", None)
    call = answering([], get_model_info={"model_path": "runs/sft", "max_context_length": 90})
    assert SGLANG.about(call) == About("runs/sft", 90)
    calls: Calls = []
    assert VLLM.tokenize(answering(calls, tokenize={"tokens": [4, 5]}), "policy", "a b") == [4, 5]
    assert calls == [("/tokenize", {"model": "policy", "prompt": "a b", "add_special_tokens": False})]
