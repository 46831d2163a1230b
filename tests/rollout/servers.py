"""An inference server with the routes of vLLM and SGLang that heedful uses, over the engine of this process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from heedful.configs.shared import Compute, Generation
from heedful.models import load
from heedful.rollout.engine import open_engine
from heedful.rollout.types import Stream
from heedful.rollout.worker.heedful_worker import Receiver

ROOT = Path(__file__).parents[2]


class Fake(ThreadingHTTPServer):
    """`fault`: what goes wrong from the call number `after` on. `calls`: (path, body) of all calls so far."""

    daemon_threads = True

    def __init__(self, folder: str, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        super().__init__(address, Handler)
        self.lock, self.calls, self.version = threading.Lock(), [], 0
        self.fault, self.after, self.answered = "", 0, 0
        self.asleep: set[str] = set()
        self.paused, self.stopping, self.worker = False, threading.Event(), Worker(self)
        self.read(folder)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def read(self, folder: str) -> None:
        self.model, self.tokenizer = load.load_policy(folder)

    def sample(self, ids: list[int], new: int, temperature: float, seed: int) -> Any:
        settings = Generation(max_new_tokens=new, temperature=temperature)
        (sample,) = open_engine(self.model, self.tokenizer, Compute()).generate([ids], [Stream(seed, 0, 0)], settings)
        return sample


class Worker(Receiver):
    """What vLLM mixes heedful's receiver into."""

    device, rank = torch.device("cpu"), 0

    def __init__(self, server: Fake) -> None:
        self.server = server

    def reload_weights(self, weights_iterator: Iterator[tuple[str, torch.Tensor]]) -> None:
        found = dict(weights_iterator)
        if self.server.fault != "wrong weights":
            self.server.model.load_state_dict(found, strict=not self.server.model.config.tie_word_embeddings)


class Handler(BaseHTTPRequestHandler):
    server: Fake
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client that does not wait
            super().handle()

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}"))

    def answer(self, body: Any) -> None:
        path = self.path.partition("?")[0]
        with self.server.lock:
            self.server.calls.append((self.path, body))
            sampling = path in ("/inference/v1/generate", "/generate")
            self.server.answered += sampling
            fault = self.server.fault if sampling and self.server.answered > self.server.after else ""
        if self.server.fault == "no receiver" and path == "/collective_rpc":
            return self.send(500, b'{"error": "no method heedful_about"}')
        if fault == "500":
            return self.send(500, b'{"error": "out of memory"}')
        if fault == "403":
            return self.send(403, b'{"error": "start with --enable-scale-out"}')
        if fault == "hang":
            self.server.stopping.wait(60)
        if fault == "dies":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        with self.server.lock:
            found = json.dumps(getattr(self, "on" + path.replace("/", "_").replace(".", "_"))(body)).encode()
        if fault == "half":
            return self.send(200, found[: len(found) // 2])
        if fault == "short":
            found = json.dumps(json.loads(found) | {"choices": [{"token_ids": [], "finish_reason": "stop"}]}).encode()
        if fault == "slow":
            time.sleep(0.05)
        self.send(200, found)

    def send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def on_health(self, _: Any) -> Any:
        return {}

    def on_sleep(self, _: Any) -> Any:
        if self.server.fault != "awake":
            self.server.asleep = {"weights", "kv_cache"}
        return {}

    def on_is_sleeping(self, _: Any) -> Any:
        return {"is_sleeping": bool(self.server.asleep)}

    def on_wake_up(self, _: Any) -> Any:
        self.server.asleep.remove(self.path.partition("?tags=")[2])
        return {}

    def on_v1_models(self, _: Any) -> Any:
        return {"data": [{"id": "policy", "max_model_len": 100}]}

    def on_get_model_info(self, _: Any) -> Any:
        return {"model_path": "policy"}

    def on_tokenize(self, body: Any) -> Any:
        return {"tokens": self.server.tokenizer.encode(body["prompt"], add_special_tokens=body["add_special_tokens"])}

    def on_inference_v1_generate(self, body: Any) -> Any:
        assert not self.server.asleep
        settings = body["sampling_params"]
        s = self.server.sample(body["token_ids"], settings["max_tokens"], settings["temperature"], settings["seed"])
        content = [{"token": str(i), "logprob": p} for i, p in zip(s.response_ids, s.logprobs, strict=True)]
        spans = [{"version": str(self.server.version), "start": 0, "end": len(content)}]
        choice = {"token_ids": s.response_ids, "logprobs": {"content": content}, "finish_reason": s.finish}
        return {"choices": [choice | {"weight_versions": spans}]}

    def on_generate(self, body: Any) -> Any:
        settings = body["sampling_params"]
        s = self.server.sample(
            body["input_ids"], settings["max_new_tokens"], settings["temperature"], settings["sampling_seed"]
        )
        pairs = [[p, i, None] for i, p in zip(s.response_ids, s.logprobs, strict=True)]
        version = {"weight_version": str(self.server.version)}
        return {"meta_info": {"output_token_logprobs": pairs, "finish_reason": {"type": s.finish}, **version}}

    def on_collective_rpc(self, body: Any) -> Any:
        if body["method"].startswith("heedful_"):
            assert self.server.paused is (body["method"] == "heedful_receive")
            return {"results": [getattr(self.server.worker, body["method"])(**body.get("kwargs", {}))]}
        assert body["method"] == "reload_weights"
        assert self.server.asleep in (set(), {"kv_cache"})
        assert self.server.paused
        if self.server.fault != "wrong weights":
            self.server.read(body["kwargs"]["weights_path"])
        return {"results": [None]}

    def on_update_weights_from_disk(self, body: Any) -> Any:
        if self.server.fault != "wrong weights":
            self.server.read(body["model_path"])
        self.server.version = int(body["weight_version"])
        return {"success": True}

    def on_v1_load_lora_adapter(self, body: Any) -> Any:
        config = json.loads((Path(body["lora_path"]) / "adapter_config.json").read_text())
        assert Path(config["base_model_name_or_path"]).is_dir()
        self.server.read(body["lora_path"])
        return {}

    def on_update_weight_version(self, body: Any) -> Any:
        self.server.version = int(body["new_version"])
        return {}

    def on_pause(self, _: Any) -> Any:
        self.server.paused = True
        return {}

    def on_resume(self, _: Any) -> Any:
        self.server.paused = False
        return {}

    on_reset_prefix_cache = on_unload_lora_adapter = on_v1_unload_lora_adapter = on_pause_generation = (
        on_continue_generation
    ) = lambda *_: {}
    on_load_lora_adapter = on_v1_load_lora_adapter


@contextlib.contextmanager
def serving(folder: str, count: int = 1) -> Iterator[list[Fake]]:
    """So many servers of the model in a folder."""
    fakes = [Fake(folder) for _ in range(count)]
    for fake in fakes:
        threading.Thread(target=fake.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield fakes
    finally:
        for fake in fakes:
            fake.stopping.set()
            fake.shutdown()
            fake.server_close()


def main(given: list[str]) -> None:
    """Serve as the command of a real server would: --model, --host and --port are read, the rest is printed."""
    print(os.environ.get("CUDA_VISIBLE_DEVICES"), *given, flush=True)
    value = {name: given[given.index(name) + 1] for name in ("--model", "--host", "--port")}
    Fake(value["--model"], (value["--host"], int(value["--port"]))).serve_forever(0.02)


def stand_in(folder: Path) -> Path:
    """A program that takes the place of the Python of a server's environment."""
    program, paths = folder / "python", f"{ROOT / 'src'}:{ROOT / 'tests'}"
    start = "import sys; from rollout import servers; servers.main(sys.argv[1:])"
    program.write_text(f"#!/bin/sh\nPYTHONPATH={paths} exec '{sys.executable}' -c '{start}' \"$@\"\n", encoding="utf-8")
    program.chmod(0o755)
    return program
