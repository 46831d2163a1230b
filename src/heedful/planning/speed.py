"""How long an iteration takes, by arithmetic. The assumptions are named in every table."""

from __future__ import annotations

from dataclasses import dataclass

from heedful.planning.gpus import Gpu
from heedful.planning.job import Network, PlannedStage
from heedful.planning.memory import Hardware

UTILISATION = 0.35
"""Share of a card's bfloat16 rate that training and scoring reach. Published figures for 1B to 8B: 0.24 to 0.45."""
FLOAT32 = 0.1
"""The rate in float32 as a share of that in bfloat16."""
BANDWIDTH = 0.6
"""Share of a card's bandwidth that reading weights, keys and values reaches."""
STEP = 0.0007
"""Seconds that one layer of the local decoder takes at least for a step: an H100 took 17 ms for 24 (docs/LOG.md)."""
LINK = 0.5
"""Share of a link's rate that gathering weights reaches. It is hidden behind the computing where that takes longer."""
FILE = 1.5e9
"""Bytes a second of weights to a server by file."""
ASSUMED = (
    f"{UTILISATION:.0%} of the card's bfloat16 rate, {BANDWIDTH:.0%} of its bandwidth, {LINK:.0%} of its links, "
    "rows as long as --mean-tokens says"
)


@dataclass(frozen=True)
class Times:
    """Seconds of an iteration, or of a step where nothing is sampled."""

    rollout: float
    scoring: float
    update: float
    sync: float
    at_once: bool = False
    """Whether servers sample while the policy learns."""

    @property
    def total(self) -> float:
        learning = self.scoring + self.update
        return (max(self.rollout, learning) if self.at_once else self.rollout + learning) + self.sync


def times(job: PlannedStage, place: Hardware, gpu: Gpu, tokens: int = 0) -> Times | None:
    """The times of a job. None where the speed of the card is not known. `tokens`: of a mean row, 0 = the longest."""
    if not gpu.flops:
        return None
    low = job.compute.dtype == "bfloat16"
    rate = gpu.flops * UTILISATION * (1.0 if low else FLOAT32)
    longest = job.rows.columns or job.rows.longest
    share = min(1.0, (tokens or longest) / longest)
    mean = max(1, round(share * longest))
    step = share * job.rows.step / place.gpus
    recompute = 1 if job.compute.activation_checkpointing else 0
    update = job.updates * sum(
        (3 + recompute - one.adapted) * flops(one, step, mean) for one in job.trained
    )  # an adapter has no gradient of the weights
    answers = share * job.scored * longest / place.gpus
    scored = sum(flops(one, answers, mean) for one in job.networks if not one.copy)
    if job.scored and "reference" not in {one.role for one in job.networks}:
        scored += flops(job.trained[0], answers, mean)  # the policy without its adapters
    gathered = _gathered(job, place, gpu, step)
    return Times(
        rollout=_rollout(job, place, gpu, mean),
        scoring=scored / rate if job.scored else 0.0,
        update=max(update / rate, gathered),
        sync=2 * job.trained[0].shape.policy / FILE if job.servers else 0.0,
        at_once=job.servers and job.ahead,
    )


def flops(network: Network, tokens: float, length: int) -> float:
    """Of a forward pass: two for each weight and token, and attention, which sees half of the row on average."""
    s = network.shape
    head = s.table if network.writes else 0
    return tokens * (2.0 * (s.products + head) + 4.0 * s.layers * s.queries * length / 2)


def _gathered(job: PlannedStage, place: Hardware, gpu: Gpu, step: float) -> float:
    """Seconds in which sharded weights are gathered twice a pass, and their gradients summed."""
    shards = place.shards(job.shard)
    if shards == 1 or not gpu.link:
        return 0.0
    passes = max(1.0, step / job.compute.micro_tokens)
    size = 2 if job.compute.dtype == "bfloat16" else 4
    moved = sum(one.shape.policy * 2 * size + one.trained * 4 for one in job.trained)
    return job.updates * passes * moved * (shards - 1) / shards / (gpu.link * LINK)


def _rollout(job: PlannedStage, place: Hardware, gpu: Gpu, mean: int) -> float:
    """Seconds to sample: every step reads all weights, and the keys and values of the rows in flight."""
    if not job.rows.sampled or not job.scored:
        return 0.0
    s, size = job.trained[0].shape, 2 if job.compute.dtype == "bfloat16" else 4
    waves = -(-job.scored // job.rows.sampled)
    turns = -(-waves // place.gpus)
    read = size * s.policy + job.rows.sampled * mean / 2 * 2 * s.layers * s.keys * size
    step = max(read / (gpu.bandwidth * BANDWIDTH), 0.0 if job.servers else STEP * s.layers)
    return turns * mean * step
