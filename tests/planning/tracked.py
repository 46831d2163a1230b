"""What torch's own trackers count for a training step on fake tensors, to compare the plan with.

`python tests/planning/tracked.py` prints the table of docs/scale.md. It takes minutes, and no memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from heedful.configs.shared import Lora, TrainingCompute
from heedful.fast import attention
from heedful.fast import cross_entropy as fast
from heedful.planning.job import Network, PlannedStage, StepShape
from heedful.planning.memory import Hardware, needs
from heedful.planning.shapes import named, of_config

ROWS = 4
LAYERS = 4
"""So many of each model in the table: all of its layers are alike, and torch takes half a minute for each."""


def config_of(name: str) -> Any:
    values = {key: value for key, value in named()[name].items() if key != "hub"}
    return AutoConfig.for_model(values.pop("model_type"), **values)


def tracked(config: Any, tokens: int, dtype: str, checkpointing: bool, gpus: int = 1) -> dict[str, int]:
    """Bytes of a step of two passes, on one of `gpus` ranks: weights, gradients, moments, and all that a pass adds."""
    with _ranks(gpus) as mesh, FakeTensorMode():
        make: Any = AutoModelForCausalLM if mesh is None else AutoModel
        model = make.from_config(config, dtype=torch.float32, attn_implementation=attention.install("sdpa")).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        if mesh is not None:
            _cut(model, mesh, dtype)
        adam = torch.optim.AdamW(model.parameters(), foreach=False)
        ids = torch.zeros(ROWS, tokens // ROWS, dtype=torch.long)
        tracker = FSDPMemTracker(model, adam) if mesh is not None else MemTracker()
        tracker.track_inputs((ids,)) if mesh is not None else tracker.track_external(model, ids)
        with tracker:
            for _ in range(2):
                tracker.reset_mod_stats()
                _loss(model, ids, dtype, sharded=mesh is not None).backward()
            peak = next(iter(tracker.get_tracker_snapshot("peak").values()))["Total"]
        own = [getattr(p, "_local_tensor", p) for p in model.parameters()]
        weights = sum(p.numel() * p.element_size() for p in own)
        adam.step()
        states = [x for state in adam.state.values() for x in state.values() if x.ndim]
        moments = sum(4 * getattr(x, "_local_tensor", x).numel() for x in states)
    return {"weights": weights, "gradients": weights, "optimiser": moments, "pass": peak - 2 * weights}


def _loss(model: Any, ids: Any, dtype: str, sharded: bool) -> Any:
    low = dtype == "bfloat16" and not sharded
    # packed: there is no mask
    with attention.packed(), torch.autocast("cpu", torch.bfloat16) if low else contextlib.nullcontext():
        states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)
        if sharded:
            return states.float().sum()
        return fast.cross_entropy(states, model.lm_head.weight, None, ids.flatten())


def _cut(model: Any, mesh: Any, dtype: str) -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if dtype == "bfloat16" else None)
    for layer in model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


@contextlib.contextmanager
def _ranks(gpus: int) -> Iterator[Any]:
    if gpus == 1:
        yield None
        return
    from torch import distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=gpus)
    try:
        yield dist.init_device_mesh("cpu", (gpus,))
    finally:
        dist.destroy_process_group()


def planned(config: Any, tokens: int, dtype: str, checkpointing: bool, gpus: int = 1) -> dict[str, int]:
    """The same from the plan."""
    shape = of_config(config, "x")
    compute = TrainingCompute(dtype=dtype, activation_checkpointing=checkpointing, micro_tokens=tokens)
    compute = compute.model_copy(update={"shard": "full"})
    whole = shape.policy if gpus == 1 else shape.body  # what is sharded is the body alone
    network = Network("model", replace(shape, head=shape.head * (gpus == 1)), whole, whole, writes=gpus == 1)
    rows = StepShape(2 * tokens * gpus, tokens // ROWS)
    found = needs(PlannedStage("sft", compute, (network,), rows, Lora(), joint_loss=True), Hardware(gpus))
    return {
        "weights": found.weights,
        "gradients": found.gradients,
        "optimiser": found.optimiser,
        "pass": found.activations + found.loss,
    }


def main() -> None:
    fast.LOGITS["cpu"] = fast.LOGITS["cuda"]
    for name in named():
        for dtype, checkpointing, gpus in (("bfloat16", False, 1), ("bfloat16", True, 1), ("bfloat16", True, 8)):
            config = config_of(name)
            config.num_hidden_layers = LAYERS
            case = config, 8192, dtype, checkpointing, gpus
            theirs, ours = tracked(*case), planned(*case)
            a, b = ({part: size / 2**30 for part, size in found.items()} for found in (theirs, ours))
            held = "/".join(f"{a[part]:.2f}" for part in ("weights", "gradients", "optimiser"))
            same = "/".join(f"{b[part]:.2f}" for part in ("weights", "gradients", "optimiser"))
            apart = sum(b.values()) / sum(a.values()) - 1
            shown = f"{a['pass']:.2f} | {b['pass']:.2f} | {b['pass'] / a['pass'] - 1:+.0%} | {apart:+.0%}"
            print(f"| {name} | {gpus} | {'yes' if checkpointing else 'no'} | {held} | {same} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
