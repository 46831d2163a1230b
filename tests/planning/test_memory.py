"""The plan against counts by hand and against torch's own tracker, for many configs and numbers of GPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import tiny
from heedful.configs import registry
from heedful.configs.engine import EngineConfig
from heedful.configs.grpo import GRPOConfig
from heedful.configs.ppo import PPOConfig
from heedful.configs.sft import SFTConfig
from heedful.configs.shared import Generation, Lora, TrainingCompute
from heedful.fast import rows as packed
from heedful.fast.decoder import FastDecoder
from heedful.models import batches, scoring
from heedful.planning import gpus, shapes, speed
from heedful.planning.check import NEAR, advice, planned
from heedful.planning.job import Network, PlannedStage, StepShape, job_of, loaded
from heedful.planning.memory import RESERVED, Hardware, layer_bytes, needs, tokens_of
from heedful.planning.shapes import named, of_config, shape_of
from heedful.training.parallel import Ranks
from planning import tracked

H100 = gpus.find("h100-80")
# parameters of each model, as their authors publish them
COUNTS = {
    "qwen3-0.6b": 596_049_920,
    "llama-3.2-1b": 1_235_814_400,
    "qwen3-4b": 4_022_468_096,
    "llama-3.1-8b": 8_030_261_248,
}


def compute(**settings: Any) -> TrainingCompute:
    """`shard` too."""
    return TrainingCompute().model_copy(update=settings)


LOW = {"dtype": "bfloat16", "activation_checkpointing": True}


def ppo(model: str, lora: int = 0, **settings: Any) -> PPOConfig:
    config = PPOConfig(policy=model, reward=["reward"], prompts="p", lora=Lora(rank=lora))
    return config.model_copy(update={"compute": compute(**settings)})


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_shapes_have_the_published_number_of_parameters(name: str, count: int) -> None:
    assert shape_of(name).policy == count
    assert {shape_of(alias) for alias in named()[name]["hub"]} == {shape_of(name)}


def test_the_parts_by_hand() -> None:
    """A tiny Llama with tied embeddings, 32 wide, 2 layers, 4 heads, 2 of keys; float32 on one GPU, rows of 100."""
    shape = of_config(tiny.config("llama"), "tiny")
    P = shape.policy
    assert sum(weight.numel() for weight in tiny.policy().parameters()) == P
    one = Network("model", shape, P, P)
    found = needs(PlannedStage("sft", compute(), (one,), StepShape(400, 100), Lora(), joint_loss=True), Hardware())
    assert (found.weights, found.optimiser, found.gradients, found.frozen) == (4 * P, 8 * P, 4 * P, 0)
    layer = 24 * 32 + 16 * 32 + 16 * 96 + 4 * 4
    kept = 400 * (3 * 4 * 32 + 2 * layer)
    loss = 12 * 400 * 320 + 4 * 320 * 32  # logits, and the gradient of the head
    assert found.activations + found.loss == max(kept + loss, kept + 400 * 2 * 4 * 96 + 4 * 320 * 32)
    assert found.spare == int(RESERVED * (16 * P + found.activations + found.loss))


@pytest.mark.parametrize(
    ("low", "heads", "layer"),
    [
        (False, False, 16 * 32 + 16 * 32 + 12 * 96 + 4 * 4),  # norms: input and output, MLP: gate, up and their product
        (True, False, 18 * 32 + 4 * (32 + 16) + 6 * 96 + 4 * 4),
        (True, True, 18 * 32 + 4 * (32 + 16) + 6 * 96 + 4 * 4 + 6 * (32 + 16)),  # Qwen3's norms of heads stay
    ],
)
def test_a_layer_with_ligers_kernels_by_hand(low: bool, heads: bool, layer: int) -> None:
    """Bytes of a token. Liger's norm keeps its input, and not what it has normalised (4 bytes a number)."""
    shape = of_config(tiny.config("qwen3" if heads else "llama"), "tiny")
    one = Network("model", shape, shape.policy, shape.policy)
    job = PlannedStage(
        "sft", compute(dtype="bfloat16" if low else "float32", liger=True), (one,), StepShape(400, 100), Lora()
    )
    assert layer_bytes(job, one, "cuda") == layer
    plain = replace(job, compute=compute(dtype=job.compute.dtype))
    size = 2 if low else 4
    assert layer_bytes(plain, one, "cuda") == layer + 8 * 32 + size * 96
    foreign = replace(one, shape=replace(shape, family="gpt2"))
    assert layer_bytes(job, foreign, "cuda") == layer_bytes(plain, foreign, "cuda")


def test_what_is_not_counted_of_compiling_and_of_liger_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(model: str, **settings: Any) -> tuple[str, ...]:
        return job_of("sft", SFTConfig(model=model, data="d", compute=compute(**settings))).assumed

    assert said("qwen3-0.6b") == ()
    (one,) = said("qwen3-0.6b", compile="layer")
    assert one.startswith("compiled layers keep as much as plain ones")
    assert said("qwen3-0.6b", liger=True) == ("Liger's kernels are as fast as plain ones",)
    monkeypatch.setattr(shapes, "LIGER", ("llama",))
    assert said("qwen3-0.6b", liger=True)[1:] == ("what Liger's kernels save in qwen3-0.6b is not counted",)


def test_what_the_plan_counts_is_what_the_fast_decoder_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the order of oneDNN, as on a GPU: storage that the model does not hold."""
    monkeypatch.setattr("heedful.fast.linear._reordered", lambda weight: None)
    model = tiny.policy(tie_word_embeddings=False)
    decoder = FastDecoder(model, 1)
    held = {weight.data_ptr() for weight in model.parameters()}
    products = [one for own in decoder.layers for one in (own.inputs.whole, own.gated.whole, own.output, own.down)]
    copied = [one.weight for one in [*products, decoder.head] if one.weight.data_ptr() not in held]
    assert sum(weight.numel() for weight in copied) == 2 * (32 * 32 + 2 * 32 * 16 + 2 * 32 * 96)


def test_a_large_model_has_no_second_copy_for_the_fast_decoder() -> None:
    """qwen3-0.6b without its embedding of 151,936 x 1,024 is tied: 1.19 GB in bfloat16 are above 1 GiB."""
    shape = shape_of("qwen3-0.6b")
    one = Network("policy", shape, shape.policy, shape.policy)
    job = PlannedStage("ppo", compute(dtype="bfloat16"), (one,), StepShape(26, 26, sampled=8, columns=26), Lora())
    assert needs(job, Hardware()).copies == 2 * shape.policy
    untied = replace(shape, head=shape.table)  # its head counts, the embedding does not
    assert needs(replace(job, networks=(replace(one, shape=untied),)), Hardware()).copies == 2 * untied.policy
    narrow = replace(untied, body=untied.body - 100_000_000)  # 0.99 GB
    linear = 28 * (1024 * 2048 + 2 * 1024 * 1024 + 2 * 1024 * 3072)
    found = needs(replace(job, networks=(replace(one, shape=narrow),)), Hardware()).copies
    assert found == 2 * (narrow.policy + linear)


def test_sampling_and_learning_come_one_after_the_other() -> None:
    """8 rows of 26 columns: 2 layers, 2 heads of keys and of values, 8 wide. bfloat16 copies the weights.

    The fast decoder joins queries 32x32, keys and values 32x16 and two matrices 32x96 of each layer in one more copy.
    """
    shape = of_config(tiny.config("llama"), "tiny")
    one = Network("policy", shape, shape.policy, shape.policy)
    job = PlannedStage("ppo", compute(dtype="bfloat16"), (one,), StepShape(26, 26, sampled=8, columns=26), Lora())
    found = needs(job, Hardware())
    joined = 2 * (32 * 32 + 2 * 32 * 16 + 2 * 32 * 96)
    assert (found.cache, found.copies) == (2 * 2 * 2 * 8 * 2 * 8 * 26, 2 * shape.policy + 2 * joined)
    assert needs(replace(job, compute=compute(dtype="bfloat16", fast=False)), Hardware()).copies == 2 * shape.policy
    assert needs(replace(job, compute=compute()), Hardware()).copies == 4 * joined
    assert needs(replace(job, compute=compute()), Hardware(device="cpu")).copies == 4 * shape.policy
    assert found.total == found.always + max(found.learning, found.sampling) + found.spare
    assert needs(replace(job, servers=True), Hardware()).sampling == 0
    ahead = needs(replace(job, ahead=True), Hardware())
    assert ahead.total == ahead.always + ahead.learning + ahead.sampling + ahead.spare
    assert not needs(replace(job, ahead=True, servers=True), Hardware()).at_once
    exact = replace(job, compute=compute(), ahead=True)  # which samples from a copy only then
    assert needs(exact, Hardware()).copies == needs(replace(exact, ahead=False), Hardware()).copies + 4 * shape.policy
    assert needs(job, Hardware(), engine=10**9).total >= found.total + 10**9
    asleep = needs(replace(job, servers=True, sleeps=True), Hardware(), engine=10**9)
    assert asleep.total == found.always + 10**9 + asleep.spare  # more than learning takes
    assert asleep.spare == int(RESERVED * (found.always + 10**9))


@pytest.mark.medium
@pytest.mark.parametrize(
    ("family", "checkpointing", "dtype"),
    [
        ("llama", True, "bfloat16"),
        ("qwen3", False, "bfloat16"),
        ("qwen3", True, "float32"),
    ],
)
def test_the_plan_covers_what_torch_tracks_and_not_much_more(family: str, checkpointing: bool, dtype: str) -> None:
    """On fake tensors. Weights, gradients and moments are equal, what a pass adds is at most a quarter above."""
    config = tiny.config(family, hidden=64, layers=2, vocab=512, tie_word_embeddings=True)
    theirs, ours = (count(config, 2048, dtype, checkpointing) for count in (tracked.tracked, tracked.planned))
    for part in ("weights", "gradients", "optimiser"):
        assert ours[part] == pytest.approx(theirs[part], rel=1e-3)
    assert theirs["pass"] <= ours["pass"] <= 1.25 * theirs["pass"]


@pytest.mark.medium
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("length", [64, 128])
@pytest.mark.parametrize("enough", [0, 1 << 40], ids=["row by row", "side by side"])
def test_the_plan_covers_what_a_pass_keeps_on_a_cpu(
    length: int, enough: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that the backward pass keeps, counted as autograd saves them."""
    for name in ("ENOUGH", "ENOUGH_NARROW"):
        monkeypatch.setattr(packed, name, enough)
    model = tiny.policy("llama", hidden=64, layers=4).train()
    batch = batches.collate([[3]] * 8, [[4] * (length - 1)] * 8, tiny.VOCAB - 1)
    kept: dict[int, int] = {}

    def note(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    world = Ranks(0, 1, torch.device("cpu"), getattr(torch, dtype))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x), world.autocast():
        loss = scoring.response_logprobs(model, batch).sum()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    real = sum(size for place, size in kept.items() if place not in weights)
    config = SFTConfig(model="m", data="d").model_copy(update={"compute": compute(dtype=dtype)})
    found = needs(loaded("dpo", config, {"model": model}, StepShape(8 * length, length)), Hardware(1, 1, "cpu"))
    loss.backward()
    assert real <= found.activations + found.loss <= 2.5 * real


def configs() -> list[Any]:
    """Every stage with every shape, with and without LoRA, in both precisions."""
    found = []
    for model in (*named(), "llama-3.1-8b"):
        for lora in (0, 16):
            for low in (LOW, {"dtype": "float32"}):
                for shard in ("none", "full", "hybrid"):
                    found.append(("ppo", ppo(model, lora, shard=shard, **low)))
    for stage in ("sft", "reward", "dpo"):
        for low in (LOW, {"dtype": "bfloat16"}, {"dtype": "float32"}):
            for shard in ("none", "full", "auto"):
                made = registry.stages()[stage].config(model="qwen3-4b", data="d")  # type: ignore[call-arg]
                found.append((stage, made.model_copy(update={"compute": compute(shard=shard, **low)})))
    return found


def test_more_gpus_never_need_more_memory_each() -> None:
    for stage, config in configs():
        job = job_of(stage, config)
        totals = [needs(job, Hardware(count)).total for count in (1, 2, 3, 4, 6, 8, 16, 24, 64)]
        assert totals == sorted(totals, reverse=True), (stage, config)
        if job.shard in ("full", "auto"):
            assert totals[-1] < totals[0]


@pytest.mark.medium
def test_the_advice_makes_a_run_fit() -> None:
    tried = 0
    for stage, config in configs()[::3]:
        for count in (1, 8):
            place, measure = Hardware(count), planned(stage)
            if measure(config, place) <= H100.memory:
                continue
            said = advice(config, place, H100.memory, measure)
            if not said:
                continue
            tried += 1
            assert measure(changed(config, said), at(said, place)) <= H100.memory, said
    assert tried > 10


def changed(config: Any, said: str) -> Any:
    """A config with the options of an advice."""
    for option in said.split(" and "):
        words = option.partition(" with ")[2] or option
        name, _, value = words.removeprefix("--").replace("-", "_").partition(" ")
        section, _, field = name.rpartition(".")
        held = getattr(config, section) if section else config
        now: Any = value if value and not value[0].isdigit() else float(value) if "." in value else int(value or 1)
        held = held.model_copy(update={field: now})
        config = config.model_copy(update={section: held}) if section else held
    return config


def at(said: str, place: Hardware) -> Hardware:
    return replace(place, gpus=int(said.split()[0])) if said[0].isdigit() else place


def test_one_setting_is_named_before_several() -> None:
    config = SFTConfig(model="llama-3.2-1b", data="d", compute=TrainingCompute(dtype="bfloat16"))
    assert advice(config, Hardware(), H100.memory, planned("sft")) == "--compute.activation-checkpointing"
    assert advice(config, Hardware(), 0, planned("sft")) == ""


def test_the_networks_of_ppo() -> None:
    shape = shape_of("qwen3-0.6b")
    found = {one.role: one for one in job_of("ppo", ppo("qwen3-0.6b")).networks}
    assert list(found) == ["policy", "reference", "reward.0", "value", "average"]
    assert found["value"].trained == found["value"].held == shape.scorer
    lora = {one.role: one for one in job_of("ppo", ppo("qwen3-0.6b", 16)).networks}
    assert "reference" not in lora
    assert lora["value"].held == lora["value"].trained == shape.adapters(Lora(rank=16)) + shape.width
    assert lora["policy"].held == shape.policy + lora["policy"].trained
    assert lora["average"].held == lora["policy"].trained
    config = ppo("qwen3-0.6b").model_copy(update={"ema_decay": 0.0, "reference": "qwen3-4b", "watch": ["min(a,b)"]})
    roles = [one.role for one in job_of("ppo", config).networks]
    assert "average" not in roles
    assert sum(role.startswith("watch") for role in roles) == 2
    grpo = GRPOConfig(policy="qwen3-0.6b", reward=["tests:f"], prompts="p", engine=EngineConfig(kind="vllm"))
    job = job_of("grpo", grpo)
    assert [one.role for one in job.networks] == ["policy", "reference", "average"]
    assert job.servers


def test_adapters_are_counted_as_peft_makes_them() -> None:
    from heedful.models import adapters

    model = adapters.add(tiny.policy(), Lora(rank=4, targets=["q_proj", "down_proj"]), seed=0, base="x")
    count = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert of_config(tiny.config("llama"), "x").adapters(Lora(rank=4, targets=["q_proj", "down_proj"])) == count


def test_a_base_in_4_bits_and_one_from_bfloat16_files_are_counted_so() -> None:
    """Products of 8B in about half a byte each, the rest in float32. Without 4 bits: all in two bytes."""
    shape = shape_of("llama-3.1-8b")
    config = ppo("llama-3.1-8b", 16, **LOW)

    def frozen(lora: Lora) -> int:
        made = SFTConfig(model="llama-3.1-8b", data="d", lora=lora, compute=config.compute)
        return needs(job_of("sft", made), Hardware()).frozen

    assert frozen(Lora(rank=16)) == 2 * shape.policy
    products = int(0.52 * shape.products)
    assert frozen(Lora(rank=16, load_in_4bit=True)) == products + 4 * (shape.policy - shape.products)
    config = config.model_copy(update={"generation": Generation(max_new_tokens=512, max_rows=64)})
    assert needs(job_of("ppo", config), Hardware()).total <= NEAR * H100.memory  # PPO of 8B on one card


def test_a_pass_has_no_more_tokens_than_asked_or_than_a_rank_gets() -> None:
    shape = of_config(tiny.config("llama"), "tiny")
    job = PlannedStage("sft", compute(micro_tokens=1000), (Network("m", shape, 1, 1),), StepShape(6000, 100), Lora())
    assert [tokens_of(job, Hardware(count)) for count in (1, 6, 8, 100)] == [1000, 1000, 750, 100]
    assert tokens_of(job.with_rows(StepShape(6000, 100, whole=1500)), Hardware()) == 1500


def test_time_by_hand() -> None:
    """Two operations a weight and token, four passes' worth with recomputation, attention over half a row."""
    shape = of_config(tiny.config("llama"), "tiny")
    one = Network("model", shape, shape.policy, shape.policy)
    job = PlannedStage("sft", compute(**LOW), (one,), StepShape(400, 100), Lora(), joint_loss=True)
    flops = 400 * (2 * (shape.products + 320 * 32) + 4 * 2 * 32 * 50)
    found = speed.times(job, Hardware(), H100)
    assert found is not None
    assert found.total == found.update == pytest.approx(4 * flops / (H100.flops * speed.UTILISATION))
    half = speed.times(job, Hardware(), H100, tokens=50)
    assert half is not None
    assert half.update < found.update / 2
    assert speed.times(job, Hardware(), gpus.find("24")) is None


def test_targets_of_the_four_shapes() -> None:
    """Every stage of 8B fits eight cards of 80 GB, with room for gaps."""
    for stage in ("sft", "reward", "dpo", "ppo"):
        known = {"policy": "llama-3.1-8b", "reward": ["reward"], "prompts": "p"} if stage == "ppo" else {
            "model": "llama-3.1-8b", "data": "d"}  # fmt: skip
        config = registry.stages()[stage].config(**known)
        changed = {"compute": compute(shard="full", micro_tokens=8192, **LOW)}
        if stage == "ppo":
            changed["generation"] = Generation(max_new_tokens=512, max_rows=64)  # type: ignore[assignment]
        assert needs(job_of(stage, config.model_copy(update=changed)), Hardware(8)).total <= NEAR * H100.memory, stage
