"""Sampling by inference servers: token ids go out, token ids and log-probs come back.

The servers run elsewhere, in environments of their own. heedful gives them the policy's weights, and after each load it
compares their log-probs with those of the trainer (`_compare`). A server that does not answer is lost, and the others
get its rows. An answer is not reproducible bit for bit, since servers batch requests as they come.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx
import torch
import torch.distributed as dist
from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.configs.engine import EngineConfig
from heedful.configs.shared import Generation
from heedful.fast.api import eval_mode
from heedful.models import adapters, batches, load, scoring, streamed
from heedful.models.ids import ids_of
from heedful.models.load import context_length
from heedful.models.render import stop_ids
from heedful.models.shards import assembled, is_sharded
from heedful.models.unread import tell_sampling
from heedful.rollout import group
from heedful.rollout.dialects import ADAPTER, DIALECTS, Dialect, ServerAnswer, Unreadable
from heedful.rollout.types import Sample, SampledToken, Stream

TRIES = 4  # of one row, on all servers together
BESIDES = 32_000_000  # bytes of tokenizer and configs next to the weights, at most
PROBES, PROBE_TOKENS = 4, 16  # what is compared after a load
TOLERANCE = {torch.float32: 1e-3}
ROUGH = 0.1  # of lower precisions
PROBE_TEXT = "heedful: the quick brown fox, 12 × 3.5 — naïve ✓\n\tend"
_log = logging.getLogger(__name__)


class Lost(Exception):
    """A server does not answer, or answers what nobody can read."""


class Server:
    """One server. Calls may come from many threads."""

    def __init__(self, url: str, dialect: Dialect, timeout: float, connections: int) -> None:
        self.url, self.dialect, self.lost, self.model = url.rstrip("/"), dialect, "", ""
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.Client(base_url=self.url, timeout=timeout, limits=limits)

    def call(self, path: str, body: Any = None) -> Any:
        """POST, or GET without a body. Raises Lost, or UserError where the server refuses what it is asked."""
        try:
            answer = self._http.request("GET" if body is None else "POST", path, json=body)
        except httpx.TimeoutException:
            raise Lost(f"no answer from {path} within {self._http.timeout.read:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Lost(f"{path}: {type(error).__name__} {error}".rstrip()) from None
        if answer.status_code >= 500:
            raise Lost(f"{path}: status {answer.status_code}: {_brief(answer)}")
        if answer.status_code in self.dialect.forbidden:
            raise UserError(f"{self.url}: refuses {path} (status {answer.status_code}). {self.dialect.needs}")
        if answer.status_code >= 400:
            raise UserError(f"{self.url}: {path}: status {answer.status_code}: {_brief(answer)}")
        try:
            return answer.json()
        except ValueError:
            if "json" in answer.headers.get("content-type", ""):
                raise Lost(f"{path}: the answer is not whole JSON") from None
            return {}  # some routes answer with a word

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class HttpEngine:
    """An engine of inference servers. `once(work)` does work on one rank and lets all know of its error."""

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype, settings: EngineConfig,
        once: Callable[[Callable[[], None]], None],
    ) -> None:  # fmt: skip
        self.model, self.tokenizer, self.settings, self._once = model, tokenizer, settings, once
        self._trained = model
        self.version, self.ids = 0, ids_of(model)
        tell_sampling(tokenizer, model)
        self.stops = stop_ids(tokenizer, model.config, getattr(model, "generation_config", None))
        self.tolerance = settings.tolerance or TOLERANCE.get(dtype, ROUGH)
        self.gap = 0.0
        """Mean difference between log-probs of the servers and the trainer after the last load, in nats a token."""
        dialect = DIALECTS[settings.kind]
        self.servers = [Server(url, dialect, settings.timeout, 256) for url in settings.urls]
        weakref.finalize(self, _close, self.servers)
        self._lock = threading.Lock()
        self._busy: Counter[str] = Counter()
        self._stopped = False
        self._groups: dict[str, group.WeightGroup] = {}
        self._adapter: tuple[str, Path] | None = None  # name and folder of what the servers sample with
        self.context = self._meet()
        self._asleep = settings.sleep
        """Whether the servers have left the GPU's memory to the trainer. All ranks know it."""
        if settings.sleep:
            once(self._first_sleep)

    @property
    def exact(self) -> bool:
        """Never: another program computes the log-probs."""
        return False

    @property
    def metrics(self) -> dict[str, float]:
        """See `types.Engine`."""
        return {"engine_gap": self.gap, "servers": float(sum(not server.lost for server in self.servers))}

    @property
    def decoder(self) -> str:
        """The kind of the servers and their addresses."""
        return f"{self.settings.kind} at {', '.join(server.url for server in self.servers)}"

    def generate(
        self, prompts: Sequence[Sequence[int]], streams: Sequence[Stream], settings: Generation | Sequence[Generation]
    ) -> list[Sample]:
        """See `types.Engine`."""
        each = [settings] * len(prompts) if isinstance(settings, Generation) else settings
        if not prompts:
            return []
        with ThreadPoolExecutor(min(len(prompts), max(one.max_rows for one in each))) as pool:
            jobs = [pool.submit(self._row, list(p), s, g) for p, s, g in zip(prompts, streams, each, strict=True)]
            try:
                return [job.result() for job in jobs]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def stream(self, prompt_ids: Sequence[int], stream: Stream, settings: Generation) -> Iterator[SampledToken]:
        """See `types.Engine`. The tokens come when the answer is whole."""
        (sample,) = self.generate([prompt_ids], [stream], settings)
        logprobs, last = sample.logprobs or [], len(sample.response_ids) - 1
        for number, token in enumerate(sample.response_ids):
            yield SampledToken(0, token, logprobs[number], sample if number == last else None)

    @contextlib.contextmanager
    def gathered(self, *, apart: bool = False) -> Iterator[None]:
        """See `types.Engine`. The servers have the weights, and with `engine.sleep` they sleep at its end."""
        if self._asleep:
            self._give_memory()
            self._once(lambda: self._wake("weights", "kv_cache"))
            self._asleep = False
        try:
            yield
        finally:
            self._stopped = False
        if self.settings.sleep:
            self._once(lambda: self._each(lambda server: server.dialect.sleep(server.call)))
            self._asleep = True

    def stop(self) -> None:
        """See `types.Engine`. Rows that servers have begun are waited for."""
        self._stopped = True

    def load_weights(self, model: Any, version: int) -> None:
        """Give all servers the weights that `model` has now, and compare what they compute.

        Raises UserError if no server is left, or if one computes other log-probs than the trainer.
        """
        self.model = self._trained = model
        if is_sharded(model):
            main = dist.get_rank() == 0
            self._trained = streamed.with_trained(model) if self._by_adapter else None
            self.model = assembled(model, torch.float32, device=torch.device("cpu"), keep=main)
        if self._asleep:
            self._give_memory()
        self._once(lambda: self._load(version))
        self.version, self._asleep = version, False

    def _meet(self) -> int:
        """Ask each server what it serves. Returns the tokens that model and servers can read."""
        contexts = [context_length(self.model)]
        ours = self.tokenizer.encode(PROBE_TEXT, add_special_tokens=False)
        for server in self.servers:
            try:
                about = server.dialect.about(server.call)
                theirs = server.dialect.tokenize(server.call, about.model, PROBE_TEXT)
            except (Lost, Unreadable) as error:
                raise UserError(f"{server.url}: not a {server.dialect.name} server that answers ({error})") from None
            if theirs is not None and theirs != ours:
                raise UserError(
                    f"{server.url}: serves {about.model}, whose tokenizer is not the policy's. Start it with the "
                    "policy's own folder"
                )
            server.model = about.model
            contexts += [about.context] if about.context else []
        return min(contexts)

    def _row(self, prompt_ids: list[int], stream: Stream, settings: Generation) -> Sample:
        seed = int.from_bytes(hashlib.sha256(repr(tuple(stream)).encode()).digest()[:6], "big")
        for _ in range(TRIES):
            if self._stopped:
                raise CancelledError
            server = self._least_busy()
            try:
                answer = self._ask(server, prompt_ids, settings, seed)
            except (Lost, Unreadable) as error:
                self._lose(server, str(error))
                continue
            finally:
                with self._lock:
                    self._busy[server.url] -= 1
            self._check_ids(server, answer)
            versions = answer.versions or [(self.version, 0)]
            return Sample(prompt_ids, answer.ids, answer.finish, answer.logprobs, versions)
        raise UserError(f"{self.decoder}: a row failed {TRIES} times. The last checkpoint is kept")

    def _ask(self, server: Server, prompt_ids: list[int], settings: Generation, seed: int) -> ServerAnswer:
        model = self._adapter[0] if self._adapter is not None else server.model
        answer = server.dialect.generate(server.call, model, prompt_ids, settings, self.stops, seed)
        if not answer.ids or len(answer.ids) != len(answer.logprobs) or len(answer.ids) > settings.max_new_tokens:
            raise Unreadable(f"{len(answer.ids)} tokens with {len(answer.logprobs)} log-probs")
        return answer

    def _check_ids(self, server: Server, answer: ServerAnswer) -> None:
        foreign = [token for token in answer.ids if not 0 <= token < self.ids.end or token in self.ids.holes]
        if foreign:
            raise UserError(
                f"{server.url}: sampled the id {foreign[0]}, which is no token of the policy's tokenizer. Start it "
                "with the policy's own folder"
            )

    def _least_busy(self) -> Server:
        with self._lock:
            there = [server for server in self.servers if not server.lost]
            if not there:
                why = "; ".join(f"{server.url}: {server.lost}" for server in self.servers)
                raise UserError(f"no inference server is left ({why}). Start them again, then continue with --resume")
            chosen = min(there, key=lambda server: self._busy[server.url])
            self._busy[chosen.url] += 1
            return chosen

    def _lose(self, server: Server, why: str) -> None:
        with self._lock:
            first, server.lost = not server.lost, server.lost or why
        if first:
            _log.warning("%s is lost (%s). The others get its rows", server.url, why)

    @property
    def _by_adapter(self) -> bool:
        return self.settings.sync == "adapter"

    def _first_sleep(self) -> None:
        """Let all servers sleep. Raises UserError if one cannot."""
        for server in self.servers:
            try:
                server.dialect.sleep(server.call)
            except (Lost, Unreadable) as error:
                raise UserError(f"{server.url}: does not sleep ({error}). {server.dialect.needs}") from None

    def _wake(self, *parts: Literal["weights", "kv_cache"]) -> None:
        for part in parts:
            self._each(partial(_wake, part))

    def _give_memory(self) -> None:
        """Give back what torch keeps for later, which is the memory that the servers need now."""
        if self._trained is not None and self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _load(self, version: int) -> None:
        """Load, then compare. Servers that sleep take back keys and values last: a load may need room of its own."""
        if self._asleep:
            self._wake("weights")
        self._replace(version)
        if self._asleep:
            self._wake("kv_cache")
        self._compare(version)

    def _replace(self, version: int) -> None:
        if self.settings.sync == "group":
            self._send(version)
            return
        shared = self.settings.shared_dir or tempfile.gettempdir()
        try:
            folder = Path(tempfile.mkdtemp(prefix=f"heedful-weights-{version}-", dir=shared))
        except OSError as error:
            raise UserError(f"engine.shared_dir {shared}: cannot be written ({error.strerror})") from None
        stale: Path | None = folder
        try:
            self._check_room(shared)
            self._write(folder)
            folder.chmod(0o755)  # a server may be another user
            if self._by_adapter:
                stale = self._load_adapter(folder, f"{ADAPTER}{version}-{folder.name[-8:]}")
            else:
                self._each(lambda server: server.dialect.load(server.call, str(folder), version))
        finally:
            if stale is not None:
                shutil.rmtree(stale, ignore_errors=True)

    def _send(self, version: int) -> None:
        """Weights through a process group of each server. One that cannot join at the start is refused."""
        weights = group.weights_of(adapters.merged(self.model))

        def send(server: Server) -> None:
            try:
                self._groups[server.url].send(weights, version)
            except group.GroupFailed as error:
                raise Lost(str(error)) from None

        for server in self.servers:
            if not server.lost and server.url not in self._groups:
                self._groups[server.url] = self._joined(server)
        self._each(send)

    def _joined(self, server: Server) -> group.WeightGroup:
        where = self.settings.timeout, self._trained.device
        try:
            return group.WeightGroup(server.url, server.call, server.dialect, *where)
        except (Lost, Unreadable, group.GroupFailed, OSError, RuntimeError) as error:
            raise group.explained(server.url, error) from None

    def _check_room(self, shared: str) -> None:
        """Raise UserError if the folder has too little room for the weights: a server must not read half of them."""
        weights = [each for each in self.model.parameters() if each.requires_grad or not self._by_adapter]
        needed, free = sum(each.numel() * each.element_size() for each in weights), shutil.disk_usage(shared).free
        if needed + BESIDES > free:
            raise UserError(
                f"engine.shared_dir {shared}: weights and tokenizer need {(needed + BESIDES) / 1e6:.0f} MB, and "
                f"{free / 1e6:.0f} MB are free. Free some space, or choose another folder, then continue with --resume"
            )

    def _load_adapter(self, folder: Path, name: str) -> Path | None:
        """Load an adapter and drop the one before, whose folder is returned. Servers may read the new one again."""
        self._each(lambda server: server.dialect.load_adapter(server.call, str(folder), name))
        before, self._adapter = self._adapter, (name, folder)
        if before is None:
            return None
        self._each(lambda server: server.dialect.drop_adapter(server.call, before[0]))
        return before[1]

    def _each(self, work: Callable[[Server], None]) -> None:
        """Do something with each server that is left. One that does not answer is lost."""
        for server in self.servers:
            if not server.lost:
                try:
                    work(server)
                except (Lost, Unreadable) as error:
                    self._lose(server, str(error))

    def _write(self, folder: Path) -> None:
        if self._by_adapter:
            load.save_adapter(self._trained, self.tokenizer, folder / "model")
        else:
            load.save(adapters.merged(self.model), self.tokenizer, folder / "model")
        for file in (folder / "model").iterdir():
            file.rename(folder / file.name)
        (folder / "model").rmdir()

    def _compare(self, version: int) -> None:
        """The handshake: each server samples a few short answers, and the trainer computes their log-probs itself."""
        draw = torch.Generator().manual_seed(version)
        known = torch.tensor([i for i in range(self.ids.end) if i not in set(self.ids.holes)])
        prompts = [known[torch.randint(len(known), (8,), generator=draw)].tolist() for _ in range(PROBES)]
        settings = Generation(max_new_tokens=min(PROBE_TOKENS, max(1, self.context - 8)))
        self.gap = 0.0
        for server in [server for server in self.servers if not server.lost]:
            try:
                answers = [self._ask(server, ids, settings, seed) for seed, ids in enumerate(prompts)]
            except (Lost, Unreadable) as error:
                self._lose(server, str(error))
                continue
            for answer in answers:
                self._check_ids(server, answer)
            gap = self._gap(prompts, answers)
            if not gap <= self.tolerance:
                raise UserError(
                    f"{server.url}: with the weights of iteration {version} its log-probs differ from the trainer's by "
                    f"{gap:.3g} nats a token, and engine.tolerance is {self.tolerance:g}. It has other "
                    "weights, another precision, or log-probs at another temperature"
                )
            self.gap = max(self.gap, gap)
        with self._lock:
            left = any(not server.lost for server in self.servers)
        if not left:
            self._least_busy()

    @torch.no_grad()
    def _gap(self, prompts: Sequence[list[int]], answers: Sequence[ServerAnswer]) -> float:
        pad = self.tokenizer.pad_token_id or 0
        batch = batches.collate(list(prompts), [answer.ids for answer in answers], pad).to(self.model.device)
        with eval_mode(self.model):
            own_BT = scoring.response_logprobs(self.model, batch)
        own_N = own_BT[batch.response_mask_BT].float().cpu()
        theirs_N = torch.tensor([value for answer in answers for value in answer.logprobs])
        return float((own_N - theirs_N).abs().mean())


def _wake(part: Literal["weights", "kv_cache"], server: Server) -> None:
    server.dialect.wake(server.call, part)


def _close(servers: Sequence[Server]) -> None:
    for server in servers:
        server.close()


def _brief(answer: httpx.Response) -> str:
    try:
        said = json.dumps(answer.json())
    except ValueError:
        said = answer.text
    return " ".join(said.split())[:200]
