"""How much memory a stage needs on each GPU, by part, and what the formulas stand for.

The formulas count what autograd keeps in transformers' Llama-shaped layers with heedful's attention and losses.
`tests/planning/test_memory.py` compares them with torch's MemTracker, and docs/scale.md has the table for real models.
D width of the model, Q of all queries, K of all keys, F inner width, V vocabulary, N tokens in a pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from heedful.fast.api import footprint
from heedful.models import scoring
from heedful.planning.job import Network, PlannedStage
from heedful.planning.shapes import ModelShape

EXACT = 4  # bytes of a trained weight, of its gradient, and of each of Adam's two moments
FOUR_BITS = 0.52
"""Bytes of a weight in 4 bits, with its share of the scales."""
RESERVED = 0.06
"""Share of the need that is added for CUDA's own memory, buffers of NCCL, and gaps between blocks."""


@dataclass(frozen=True)
class Hardware:
    """Where a stage runs: `gpus` processes, `node` of them on each machine, on "cuda" or "cpu"."""

    gpus: int = 1
    node: int = 8
    device: str = "cuda"

    def shards(self, wanted: str) -> int:
        """Shards of a model, for a value of `compute.shard`."""
        if wanted == "auto":
            wanted = "full" if self.device == "cuda" else "none"
        if wanted == "none":
            return 1
        return self.gpus if wanted == "full" else min(self.gpus, self.node)


def part(label: str) -> int:
    """A field of `Needs` with its name in tables."""
    made: int = field(default=0, metadata={"label": label})
    return made


@dataclass(frozen=True)
class Needs:
    """Bytes on each GPU. What learns and what samples is needed one after the other, or `at_once`."""

    weights: int = part("weights")
    average: int = part("average of the weights")
    frozen: int = part("frozen models")
    optimiser: int = part("optimiser")
    gradients: int = part("gradients")
    activations: int = part("activations")
    loss: int = part("logits and loss")
    copies: int = part("copy to sample from")
    cache: int = part("keys and values")
    engine: int = part("server on the same GPU")
    spare: int = part("reserve")
    at_once: bool = False
    """Whether it samples while it learns."""
    asleep: bool = False
    """Whether the server has memory only while it samples."""

    @property
    def always(self) -> int:
        return self.weights + self.average + self.frozen + self.optimiser + (0 if self.asleep else self.engine)

    @property
    def learning(self) -> int:
        return self.gradients + self.activations + self.loss

    @property
    def sampling(self) -> int:
        return self.copies + self.cache + (self.engine if self.asleep else 0)

    @property
    def total(self) -> int:
        most = sum if self.at_once else max
        return self.always + most((self.learning, self.sampling)) + self.spare

    @property
    def loaded(self) -> int:
        """What is there before the first step."""
        return self.weights + self.average + self.frozen

    def parts(self) -> dict[str, int]:
        """Bytes by the label of the part."""
        return {str(one.metadata["label"]): getattr(self, one.name) for one in fields(self) if one.metadata}


def needs(job: PlannedStage, place: Hardware, *, engine: int = 0) -> Needs:
    """What a job needs. `engine`: bytes that a server takes on the same GPU."""
    shards = place.shards(job.shard)
    trained = sum(one.trained for one in job.trained)
    originals = [one for one in job.networks if not one.copy]
    bases = sum(_base(job, one, shards) for one in originals)
    passes = [_learning(job, one, place, shards) for one in job.trained]
    activations, loss = max(passes, key=sum)
    copies, cache = _sampling(job, place, shards)
    made = Needs(
        weights=_shard(EXACT * trained, shards),
        average=_shard(EXACT * sum(one.held for one in job.networks if one.copy), shards),
        frozen=_shard(bases, shards),
        optimiser=_shard(2 * EXACT * trained, shards),
        gradients=_shard(_gradient(job, place, shards) * max(one.trained for one in job.trained), shards),
        activations=activations,
        loss=loss,
        copies=copies,
        cache=cache,
        engine=engine,
        at_once=job.ahead and not job.servers,
        asleep=job.sleeps,
    )
    return Needs(**{**vars(made), "spare": int(RESERVED * made.total)})


def _base(job: PlannedStage, network: Network, shards: int) -> int:
    """Bytes of the frozen weights of a network."""
    size = 2 if _low(network, job.compute.dtype == "bfloat16", shards) else EXACT
    frozen = network.held - network.trained
    if not (network.adapted and job.lora.load_in_4bit and frozen):
        return frozen * size
    products = min(network.shape.products, frozen)
    return int(FOUR_BITS * products) + EXACT * (frozen - products)


def _low(network: Network, low: bool, shards: int) -> bool:
    """Whether the frozen weights of a network are in bfloat16."""
    return low and (shards > 1 or network.lowered)


def _shard(size: int, shards: int) -> int:
    return -(-size // shards)


def _gradient(job: PlannedStage, place: Hardware, shards: int) -> int:
    """Bytes of the gradient of a parameter. On a CPU in float32, several passes or ranks are added up in float64."""
    if place.device == "cuda" or job.compute.dtype != "float32":
        return EXACT
    several = job.rows.step > job.compute.micro_tokens or job.rows.losses > 1 or place.gpus > 1
    return EXACT + 8 * several


def tokens_of(job: PlannedStage, place: Hardware) -> int:
    """Tokens of the largest pass. Each rank computes its share of a step, in passes of at most `micro_tokens`."""
    share = -(-job.rows.step // place.gpus)
    return max(min(job.compute.micro_tokens, share), min(job.rows.whole or job.rows.longest, job.rows.step))


def layer_bytes(job: PlannedStage, network: Network, device: str, shards: int = 1) -> int:
    """Bytes that one layer keeps of one token for its backward pass."""
    s, low = network.shape, job.compute.dtype == "bfloat16"
    if low:  # norms and the residual stream are in float32, but where all weights are in bfloat16
        per = 16 if shards > 1 or network.lowered else 26
        kept = per * s.width + 4 * (s.queries + s.keys) + 8 * s.inner + 4 * s.heads
    else:  # keys and values are repeated for all heads
        kept = 24 * s.width + 16 * s.queries + 16 * s.inner + 4 * s.heads
    if s.head_norms:
        kept += (6 if low else 8) * (s.queries + s.keys)
    if job.compute.liger and s.for_liger:  # no normalised copies in float32, and no silu(gate)
        kept -= 2 * EXACT * s.width + (2 if low else EXACT) * s.inner
    if network.adapted:  # the inputs of each pair of matrices in their own precision, and what lies between them
        kept += EXACT * (2 * s.width + s.queries + s.inner + 7 * job.lora.rank)
    kept += 4 * s.heads * min(footprint(device).attended, job.rows.longest)  # attention weights of short rows
    return kept


def _learning(job: PlannedStage, network: Network, place: Hardware, shards: int) -> tuple[int, int]:
    """(activations, loss) in bytes at the worst moment of a forward and backward pass."""
    s, N, low = network.shape, tokens_of(job, place), job.compute.dtype == "bfloat16"
    size, checkpointing = (2 if low else EXACT), job.compute.activation_checkpointing
    layer = N * layer_bytes(job, network, place.device, shards)
    residual = N * s.width * (2 if _low(network, low, shards) else EXACT)
    kept = 3 * residual + s.layers * (residual if checkpointing else layer)
    work = N * 2 * size * s.inner + (layer if checkpointing else 0)
    forward, backward = _casts(network, low, checkpointing, shards)
    table = s.table if network.writes else 0
    tied = table and not s.head
    learns = 0 if network.adapted else EXACT * table
    held = learns if job.joint_loss else 0  # the gradient of the head is there before the backward pass
    most = footprint(place.device).logits if job.joint_loss else scoring.MAX_LOGITS
    logits = 12 * min(N * s.vocabulary, most) if table else 0
    moments = [
        (kept + forward, logits + held + (4 * table if low else 0)),  # the loss, with the head in low precision
        (kept + backward + work, held if tied else 0),  # the backward pass of the last layer
        (residual, 0 if network.adapted else EXACT * s.table * (3 if tied else 1)),  # its end: that of the embedding
    ]
    return max(moments, key=sum)


def _casts(network: Network, low: bool, checkpointing: bool, shards: int) -> tuple[int, int]:
    """(forward, backward) bytes of weights that a pass has next to those that a rank holds."""
    s, size = network.shape, 2 if low else EXACT
    if shards > 1:  # the root as long as the pass, two layers at a time, and the gradient of one
        gathered = size * (s.body - s.layer * s.layers + s.head) + min(2, s.layers) * size * s.layer
        return gathered, gathered + (0 if network.adapted else (size + EXACT) * s.layer)
    if not low or network.lowered:
        return 0, 0
    # autocast keeps a copy of each trained weight to the end of the forward pass, autograd of each that it will need
    one, every = 2 * s.layer, 2 * s.products
    if checkpointing:
        return (one if network.adapted else every), one
    return every, every


def _sampling(job: PlannedStage, place: Hardware, shards: int) -> tuple[int, int]:
    """(copies of weights, keys and values) in bytes while answers are sampled."""
    if not job.rows.sampled or job.servers:
        return 0, 0
    policy = job.trained[0]
    s, size = policy.shape, 2 if job.compute.dtype == "bfloat16" else EXACT
    whole = size * s.policy
    if job.lora.load_in_4bit and policy.adapted:  # it samples from what it holds
        copies = int(FOUR_BITS * s.products) + size * (s.policy - s.products)
        return copies, _keys(job, place, size)
    copies = whole if size != EXACT or shards > 1 or policy.adapted or job.ahead else 0
    if policy.adapted and size != EXACT and shards == 1 and not policy.lowered:  # merged in float32 first
        copies += EXACT * s.policy
    if job.compute.fast:
        copies += _decoder(s, place.device, size)
    return copies, _keys(job, place, size)


def _decoder(shape: ModelShape, device: str, size: int) -> int:
    """Bytes of the weights that the fast decoder copies. It reads the embedding where it is."""
    held, kind = shape.policy - (shape.table if shape.head else 0), footprint(device)
    if size * held > kind.copied:
        return 0
    if kind.joined is None:
        return size * held
    return size * sum(inputs * outputs for name, inputs, outputs in shape.linear if name in kind.joined)


def _keys(job: PlannedStage, place: Hardware, size: int) -> int:
    """Bytes of keys and values of the rows in flight."""
    s, cached = job.trained[0].shape, EXACT if place.device == "cpu" else size  # on a CPU the decoder keeps float32
    return job.rows.sampled * job.rows.columns * 2 * s.layers * s.keys * cached
