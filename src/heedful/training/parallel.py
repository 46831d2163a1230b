"""One process, or several under torchrun: the same numbers either way.

Every rank sees the whole global batch and computes its share of the micro-batches. Losses are divided by the *global*
count, and the gradients of all ranks are summed.

On a CPU, gradients computed in float32 are summed in float64. The weights then do not depend on the cut into
micro-batches, on the order of the sum, or on the rank that computed a part. In bfloat16, and with dropout, they do.
A float32 sum is not enough: Adam turns a gradient that is 0 but for rounding, as that of the bias of attention keys,
into steps of the full learning rate.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from heedful.config import NonFinite, UserError
from heedful.configs.shared import Compute, TrainingCompute
from heedful.models.devices import device_of
from heedful.models.shards import Shards
from heedful.runs.resumable import Interrupted
from heedful.training import launcher, meeting
from heedful.training.launcher import place
from heedful.training.meeting import Meeting

T = TypeVar("T")
R = TypeVar("R")
TOTAL = "_heedful_gradient"
PIECE = 1 << 26  # numbers that ranks add up at a time
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranks:
    """The place of this process among all ranks, and where it computes."""

    rank: int
    size: int
    device: torch.device
    dtype: torch.dtype
    meeting: Meeting | None = field(default=None, compare=False)
    """Where several ranks wait for each other."""
    shards: Shards | None = None
    """How models are cut into shards. None: every rank holds them whole."""

    def together(self) -> contextlib.AbstractContextManager[None]:
        """A context for what all ranks do at the same time."""
        return contextlib.nullcontext() if self.meeting is None else self.meeting.all_there()

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """A context around a run: an error that ends this rank ends the others."""
        try:
            yield
        except Interrupted:
            raise
        except BaseException as error:
            if self.meeting is not None:
                self.meeting.lifeline.fail(str(error) or type(error).__name__)
            raise

    def explained(self) -> contextlib.AbstractContextManager[None]:
        """A context in which the loss of another rank becomes one line."""
        return contextlib.nullcontext() if self.meeting is None else self.meeting.explained()

    @property
    def main(self) -> bool:
        return self.rank == 0

    @property
    def sums_exactly(self) -> bool:
        """Whether gradients are added up in float64: on a CPU in float32. On a GPU the copies would cost too much."""
        return self.dtype == torch.float32 and self.device.type == "cpu"

    def share(self, items: Sequence[T]) -> list[T]:
        """This rank's part of work that all ranks know: every n-th item."""
        return list(items[self.rank :: self.size])

    def deal(self, items: Sequence[T]) -> list[tuple[T, bool]]:
        """This rank's part of some forward passes, and whether each of them counts.

        Ranks with shards compute together. There a rank without a pass repeats one that does not count.
        """
        mine = [(item, True) for item in self.share(items)]
        if self.shards is not None and items:
            mine += [(items[0], False)] * (-(-len(items) // self.size) - len(mine))
        return mine

    def backward(self, loss: Tensor, model: nn.Module) -> None:
        """Add the gradients of one micro-batch to those of `model`, in float64 if this rank `sums_exactly`.

        What is there before is moved to float64 first: a single micro-batch needs no sum and gets none.
        """
        if self.sums_exactly:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    setattr(parameter, TOTAL, _sum(parameter))
                    parameter.grad = None
        loss.backward()

    def sum_gradients(self, model: nn.Module) -> None:
        """Put the sums over micro-batches and ranks into `.grad`. Parameters that no loss has touched get zeros."""
        trained = [p for p in model.parameters() if p.requires_grad]
        dtype = torch.float64 if self.sums_exactly else torch.float32
        if self.size == 1 and not any(TOTAL in p.__dict__ or p.grad is None for p in trained):
            return  # one micro-batch in all
        if self.shards is None and all(TOTAL not in p.__dict__ and p.grad is None for p in trained):
            _say_idle(self.rank, self.size)
        if self.size == 1 or self.shards is not None:  # shards are summed in each backward pass
            for parameter in trained:
                _give(parameter, self._taken(parameter, dtype))
            return
        for some in _pieces(trained):  # piece by piece: never all gradients twice
            taken = [self._taken(parameter, dtype).reshape(-1) for parameter in some]
            flat = torch.cat(taken) if len(taken) > 1 else taken[0]
            with self.together():
                dist.all_reduce(flat)
            for parameter, part in zip(some, flat.split([p.numel() for p in some]), strict=True):
                _give(parameter, part)

    def _taken(self, parameter: nn.Parameter, dtype: torch.dtype) -> Tensor:
        """Take the gradient so far away from the parameter."""
        total = _sum(parameter) if self.sums_exactly else parameter.grad
        parameter.__dict__.pop(TOTAL, None)
        parameter.grad = None
        return torch.zeros_like(parameter, dtype=dtype) if total is None else total

    def each(self, items: Sequence[T], work: Callable[[T], R]) -> list[R]:
        """work(item) of every item. The ranks share the work, and every rank gets all results."""
        return self.spread(items, lambda mine: [work(item) for item in mine])

    def each_pass(self, items: Sequence[T], work: Callable[[T], R]) -> list[R]:
        """The same where the work is one forward pass."""
        return self.spread(items, lambda mine: [work(item) for item in mine], passes=True)

    def spread(self, items: Sequence[T], work: Callable[[list[T]], list[R]], *, passes: bool = False) -> list[R]:
        """The same for `work` on a rank's whole share, with one result per item. `passes`: one forward pass for each.

        If one rank raises UserError or NonFinite, all ranks raise it.
        """
        if self.size == 1:
            return work(list(items))
        done: list[R] = []
        failure: Exception | None = None
        try:
            done = work([item for item, _ in self.deal(items)] if passes else self.share(items))
        except (UserError, NonFinite) as error:
            failure = error
        parts = self.gather((done, failure))
        for _, failed in parts:
            if failed is not None:
                raise failed
        return [parts[i % self.size][0][i // self.size] for i in range(len(items))]

    def gather(self, mine: T) -> list[T]:
        """The values of all ranks in their order, on every rank."""
        parts: list[Any] = [mine] * self.size
        if self.size > 1:
            with self.together():
                dist.all_gather_object(parts, mine)
        return parts

    def broadcast(self, value: T) -> T:
        """The main rank's value on every rank."""
        return self.gather(value)[0]

    def once(self, work: Callable[[], None]) -> None:
        """Do work on the main rank while the others wait. If it raises UserError, all ranks raise it."""
        failure: UserError | None = None
        if self.main:
            try:
                work()
            except UserError as error:
                failure = error
        failure = self.broadcast(failure)
        if failure is not None:
            raise failure

    def wait(self) -> None:
        if self.size > 1:
            with self.together():
                dist.barrier()

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def _pieces(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters cut into runs of at most `PIECE` numbers together. A larger one is alone."""
    some: list[nn.Parameter] = []
    for parameter in parameters:
        if some and sum(p.numel() for p in some) + parameter.numel() > PIECE:
            yield some
            some = []
        some.append(parameter)
    if some:
        yield some


def _sum(parameter: nn.Parameter) -> Tensor | None:
    """The gradient so far in float64: the sum of earlier micro-batches plus that of the last one."""
    total: Tensor | None = parameter.__dict__.get(TOTAL)
    if parameter.grad is None:
        return total
    return parameter.grad.double() if total is None else total.add_(parameter.grad)


def _give(parameter: nn.Parameter, gradient: Tensor) -> None:
    parameter.grad = gradient.view_as(parameter).to(parameter.dtype)


@functools.cache
def _say_idle(rank: int, size: int) -> None:
    _log.warning(
        "rank %d of %d has no part of a batch: lower compute.micro_tokens so that there is one for each", rank, size
    )


@functools.cache
def keep_freed_memory() -> None:
    """Let this process hold on to the memory that tensors of up to 32 MiB leave: every step needs as much again, and
    asking the system for pages again costs 4 to 9 % of one (docs/performance.md). glibc alone can be told so.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the most it takes
        mallopt(M_TRIM_THRESHOLD, -1)


def join_ranks(compute: Compute) -> Ranks:
    """Join the process group that torchrun announces, or be alone.

    The group is left when the process ends: a second group that meets at the same place could find the addresses of
    the first.
    """
    rank, size, local = place()
    device = device_of(compute, local)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    keep_freed_memory()
    met = _joined(cuda, rank, size) if size > 1 else None
    shape = shape_of(compute, size, device.type) if isinstance(compute, TrainingCompute) else ()
    dtype = getattr(torch, compute.dtype)
    shards = Shards(_mesh(device.type, shape), device, dtype) if shape else None
    return Ranks(rank, size, device, dtype, met, shards)


def shape_of(compute: TrainingCompute, size: int, device: str) -> tuple[int, ...]:
    """Shards of one copy, or copies and shards of each. () for models that every rank holds whole.

    Raises UserError where ranks cannot be divided in that way.
    """
    wanted = compute.shard
    if wanted == "auto":
        wanted = "full" if device == "cuda" else "none"
    if size == 1 or wanted == "none":
        return ()
    if wanted == "full":
        return (size,)
    local = launcher.on_this_machine()
    if local == 1 or local >= size or size % local:
        raise UserError(
            f"compute.shard hybrid: cuts models within each machine and copies them to every machine, and here are "
            f"{size} ranks, {local} on this machine. Start as many on each of several machines, or use full"
        )
    return (size // local, local)


@functools.cache
def _mesh(device: str, shape: tuple[int, ...]) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device, shape, mesh_dim_names=("replicate", "shard")[-len(shape) :])


@functools.cache
def _joined(cuda: bool, rank: int, size: int) -> Meeting:
    met = meeting.join("nccl" if cuda else "gloo", rank, size)
    atexit.register(dist.destroy_process_group)
    return met
