"""What inference servers are asked, and how their answers are read: vLLM and SGLang. Token ids in, token ids out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from heedful.configs.shared import Generation
from heedful.rollout.types import Finish

JsonObject = Mapping[str, Any]
ServerCall = Callable[[str, JsonObject | None], Any]
"""call(path, body): POST, or GET without a body. Returns the JSON of the answer."""
ADAPTER = "heedful-policy-"
"""What the names of adapters begin with. The version of the weights follows."""


class Unreadable(Exception):
    """A server's answer is not what its interface says."""


class ServerAnswer(NamedTuple):
    """A response. `versions`: (version of the weights, first token), if the server says so."""

    ids: list[int]
    logprobs: list[float]
    finish: Finish
    versions: list[tuple[int, int]] | None = None


@dataclass(frozen=True)
class About:
    """What a server says of itself."""

    model: str
    context: int | None


class Dialect(Protocol):
    """The interface of one kind of server."""

    name: str
    needs: str
    """How the server must be started, for messages."""
    forbidden: tuple[int, ...]
    """Status codes that mean: it was started otherwise."""

    def about(self, call: ServerCall) -> About:
        """What it serves."""
        ...

    def tokenize(self, call: ServerCall, model: str, text: str) -> list[int] | None:
        """The ids of a text by the server's tokenizer, without added tokens. None if it has no such route."""
        ...

    def generate(
        self, call: ServerCall, model: str, ids: Sequence[int], settings: Generation, stops: list[int], seed: int
    ) -> ServerAnswer:
        """One response, with log-probs under the sampling temperature."""
        ...

    def load(self, call: ServerCall, folder: str, version: int) -> None:
        """Replace all weights by those of a folder."""
        ...

    def workers(self, call: ServerCall) -> list[JsonObject]:
        """The server's processes that take weights by a process group, with the `device` of each."""
        ...

    def join(self, call: ServerCall, plan: str) -> None:
        """All of them join a process group."""
        ...

    def receive(self, call: ServerCall, plan: str, version: int) -> None:
        """Replace all weights by those that come through the group."""
        ...

    def sleep(self, call: ServerCall) -> None:
        """Move the weights out of the GPU's memory and forget keys and values. Raises Unreadable if it stays awake."""
        ...

    def wake(self, call: ServerCall, what: Literal["weights", "kv_cache"]) -> None:
        """Take back the memory of the weights, or that of keys and values."""
        ...

    def load_adapter(self, call: ServerCall, folder: str, name: str) -> None:
        """Load the adapter of a folder under a name."""
        ...

    def drop_adapter(self, call: ServerCall, name: str) -> None:
        """Forget an adapter."""
        ...


class _Tokenizes:
    """The route that both kinds of servers have."""

    def tokenize(self, call: ServerCall, model: str, text: str) -> list[int] | None:
        """See `Dialect`."""
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        return [int(token) for token in _of(call("/tokenize", body), "tokens")]


class VLLM(_Tokenizes):
    """vLLM from 0.32 on. Weights are read from a folder while requests in flight wait."""

    name = "vLLM"
    needs = (
        "Start vllm serve with --enable-scale-out --logprobs-mode processed_logprobs and VLLM_SERVER_DEV_MODE=1 "
        "(for sync = adapter also --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, for sleep "
        "--enable-sleep-mode)"
    )
    forbidden: tuple[int, ...] = (403, 404, 405)

    def about(self, call: ServerCall) -> About:
        """See `Dialect`."""
        first = _of(call("/v1/models", None), "data", 0)
        return About(str(_of(first, "id")), first.get("max_model_len"))

    def generate(
        self, call: ServerCall, model: str, ids: Sequence[int], settings: Generation, stops: list[int], seed: int
    ) -> ServerAnswer:
        """See `Dialect`."""
        sampling = {
            "max_tokens": settings.max_new_tokens, "temperature": settings.temperature, "top_p": settings.top_p,
            "top_k": settings.top_k or -1, "seed": seed, "stop_token_ids": stops, "logprobs": 0, "detokenize": False,
        }  # fmt: skip
        body = {"model": model, "token_ids": list(ids), "sampling_params": sampling}
        choice = _of(call("/inference/v1/generate", body), "choices", 0)
        logprobs = [float(_of(one, "logprob")) for one in _of(choice, "logprobs", "content")]
        spans = choice.get("weight_versions") or []
        return ServerAnswer([*_of(choice, "token_ids")], logprobs, _finish(choice.get("finish_reason")), _spans(spans))

    def load(self, call: ServerCall, folder: str, version: int) -> None:
        """See `Dialect`."""
        self._replace(call, "reload_weights", {"weights_path": folder}, version)

    def workers(self, call: ServerCall) -> list[JsonObject]:
        """See `Dialect`."""
        return [*_of(call("/collective_rpc", {"method": "heedful_about"}), "results")]

    def join(self, call: ServerCall, plan: str) -> None:
        """See `Dialect`."""
        call("/collective_rpc", {"method": "heedful_join", "kwargs": {"plan": plan}})

    def receive(self, call: ServerCall, plan: str, version: int) -> None:
        """See `Dialect`."""
        self._replace(call, "heedful_receive", {"plan": plan}, version)

    def _replace(self, call: ServerCall, method: str, arguments: JsonObject, version: int) -> None:
        """Let the workers replace their weights while requests wait."""
        call("/pause?mode=keep", {})
        try:
            call("/collective_rpc", {"method": method, "kwargs": arguments})
            call("/reset_prefix_cache", {})
            call("/update_weight_version", {"new_version": str(version)})
        finally:
            call("/resume", {})

    def sleep(self, call: ServerCall) -> None:
        """See `Dialect`. At level 2 the weights would be gone, and the base of adapters with them."""
        call("/sleep?level=1", {})
        if not _of(call("/is_sleeping", None), "is_sleeping"):
            raise Unreadable("it stays awake")

    def wake(self, call: ServerCall, what: Literal["weights", "kv_cache"]) -> None:
        """See `Dialect`."""
        call(f"/wake_up?tags={what}", {})

    def load_adapter(self, call: ServerCall, folder: str, name: str) -> None:
        """See `Dialect`. Not in place: vLLM would read it from the disk again with every step."""
        call("/v1/load_lora_adapter", {"lora_name": name, "lora_path": folder})

    def drop_adapter(self, call: ServerCall, name: str) -> None:
        """See `Dialect`."""
        call("/v1/unload_lora_adapter", {"lora_name": name})


class SGLang(_Tokenizes):
    """SGLang's own interface."""

    name = "SGLang"
    needs = "Start sglang.launch_server with the policy's folder (for sync = adapter with --enable-lora)"
    forbidden: tuple[int, ...] = (403, 404, 405)

    def about(self, call: ServerCall) -> About:
        """See `Dialect`."""
        info = call("/get_model_info", None)
        return About(str(_of(info, "model_path")), info.get("max_context_length"))

    def generate(
        self, call: ServerCall, model: str, ids: Sequence[int], settings: Generation, stops: list[int], seed: int
    ) -> ServerAnswer:
        """See `Dialect`."""
        sampling = {
            "max_new_tokens": settings.max_new_tokens, "temperature": settings.temperature, "top_p": settings.top_p,
            "top_k": settings.top_k or -1, "sampling_seed": seed, "stop_token_ids": stops,
        }  # fmt: skip
        body: dict[str, Any] = {"input_ids": list(ids), "sampling_params": sampling, "return_logprob": True}
        if model.startswith(ADAPTER):
            body["lora_path"] = model
        meta = _of(call("/generate", body), "meta_info")
        pairs = [(int(pair[1]), float(pair[0])) for pair in _of(meta, "output_token_logprobs")]
        finish = _of(meta, "finish_reason")
        version = str(meta.get("weight_version", ""))
        versions = [(int(version), 0)] if version.isdigit() else None
        return ServerAnswer([i for i, _ in pairs], [p for _, p in pairs], _finish(finish.get("type")), versions)

    def load(self, call: ServerCall, folder: str, version: int) -> None:
        """See `Dialect`."""
        call("/pause_generation", {})
        try:
            body = {"model_path": folder, "weight_version": str(version)}
            answer = call("/update_weights_from_disk", body)
            if answer.get("success") is False:
                raise Unreadable(f"/update_weights_from_disk: {answer.get('message')}")
        finally:
            call("/continue_generation", {})

    def workers(self, call: ServerCall) -> list[JsonObject]:
        """See `Dialect`. `open_policy_engine` refuses it before."""
        raise NotImplementedError

    def join(self, call: ServerCall, plan: str) -> None:
        """See `Dialect`."""
        raise NotImplementedError

    def receive(self, call: ServerCall, plan: str, version: int) -> None:
        """See `Dialect`."""
        raise NotImplementedError

    def sleep(self, call: ServerCall) -> None:
        """See `Dialect`."""
        raise NotImplementedError

    def wake(self, call: ServerCall, what: Literal["weights", "kv_cache"]) -> None:
        """See `Dialect`."""
        raise NotImplementedError

    def load_adapter(self, call: ServerCall, folder: str, name: str) -> None:
        """See `Dialect`."""
        call("/load_lora_adapter", {"lora_name": name, "lora_path": folder})

    def drop_adapter(self, call: ServerCall, name: str) -> None:
        """See `Dialect`."""
        call("/unload_lora_adapter", {"lora_name": name})


DIALECTS: dict[str, Dialect] = {"vllm": VLLM(), "sglang": SGLang()}


def _of(value: Any, *keys: str | int) -> Any:
    """value[key][key]... Raises Unreadable for an answer without it."""
    for key in keys:
        try:
            value = value[key]
        except (LookupError, TypeError):
            raise Unreadable(f"the answer has no {key!r}") from None
    return value


def _finish(reason: Any) -> Finish:
    if reason not in ("stop", "length"):
        raise Unreadable(f"the answer ended with {reason!r}")
    return "stop" if reason == "stop" else "length"


def _spans(spans: Sequence[JsonObject]) -> list[tuple[int, int]] | None:
    """(version, first token) of each span. None if a version is not one that heedful gave."""
    found = []
    for span in spans:
        version, start = str(_of(span, "version")), _of(span, "start")
        if not version.isdigit():
            return None
        found.append((int(version), int(start)))
    return found or None
