"""The sections that several commands share."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from heedful.config import MOST, Config, Count, Length

MOST_EPOCHS = 1_000_000


def _named(ref: str) -> str:
    """A path without letters would be the present folder."""
    if not ref.strip():
        raise ValueError("is empty. Give a path or a name")
    return ref


FilePath = Annotated[str, "FILE", AfterValidator(_named)]
ModelRef = Annotated[str, "MODEL", AfterValidator(_named)]
RewardRef = Annotated[str, "REWARD", AfterValidator(_named)]
RunRef = Annotated[str, "RUN", AfterValidator(_named)]
RefusedRows = Literal["stop", "skip", "join"]
TemplateArguments = dict[str, Annotated[Any, "VALUE"]]


class Compute(Config):
    """Where and how a command computes."""

    may_change: ClassVar[tuple[str, ...]] = ("device", "micro_tokens", "fast")

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device. auto = the GPU if there is one."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the forward and backward passes. Weights and optimiser stay in float32."""
    micro_tokens: Count = 16_384
    """Most tokens in one forward pass, with padding if the model needs it. This changes memory and speed. It changes
    results only through dropout.
    """
    fast: bool = True
    """Use the fast path if the model allows it. Off: the model's own padded forward, slow and easy to step through."""


class TrainingCompute(Compute):
    """Where and how a training stage computes."""

    may_change = ("activation_checkpointing", "shard", "compile", "liger")

    shard: Literal["none", "full", "hybrid", "auto"] = "none"
    """Cut models, gradients and Adam's moments into shards, one for each rank. hybrid: within each machine, with a
    copy on every machine. auto: full on several GPUs, else none.
    """
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more computing, the same results."""
    compile: Literal["none", "layer"] = "none"
    """layer: compile each decoder layer of a model with torch.compile. This takes a minute or more at the start."""
    liger: bool = False
    """Use Liger's Triton kernels for norms and MLPs. Needs a GPU and liger-kernel."""

    @model_validator(mode="after")
    def _on_the_fast_path(self) -> TrainingCompute:
        for name in ("compile", "liger") if not self.fast else ():
            if getattr(self, name) not in ("none", False):
                raise ValueError(f"{name} works on the fast path alone. Leave out fast = false, or {name}")
        return self


class Optimiser(Config):
    """Adam as in the paper (S1, R4, P19): beta = (0.9, 0.95). The paper gives no epsilon, decay or clipping."""

    lr: float = Field(ge=0, le=10)
    """Peak learning rate."""
    schedule: Literal["cosine", "constant", "linear", "stable"] = "cosine"
    """Learning-rate schedule: cosine falls to a tenth, linear falls to 0. stable is constant and then falls to 0.
    """
    decay: float = Field(default=0.25, ge=0, le=1)
    """Share of the steps at the end in which a stable rate falls."""
    warmup: int = Field(default=0, ge=0, le=MOST)
    """Steps (iterations in PPO) of linear warm-up. It starts from 0, in PPO or before a constant rate from a tenth."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of Adam's first moment."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of Adam's second moment."""
    eps: float = Field(default=1e-8, gt=0, le=1)
    """Adam's epsilon."""
    weight_decay: float = Field(default=0.0, ge=0, le=1000)
    """Decoupled weight decay of matrices."""
    clip_norm: float = Field(default=0.0, ge=0, le=1e6)
    """Largest gradient norm. 0 = no clipping."""


class Lora(Config):
    """Train small matrices next to frozen weights, instead of all weights (Hu et al. 2021). Needs peft."""

    rank: int = Field(default=0, ge=0, le=4096)
    """Rank of the trained matrices. 0 = train all weights. 8 to 64 is usual."""
    alpha: float | None = Field(default=None, gt=0, le=1e6)
    """Their product is scaled by alpha / rank. none = twice the rank."""
    targets: list[str] = []
    """Linear layers to adapt, by the last part of their names, such as q_proj. Without it: all but the head."""
    load_in_4bit: bool = False
    """Hold the frozen weights of linear layers in 4 bits (QLoRA, Dettmers et al. 2023). Needs bitsandbytes."""
    save: Literal["merged", "adapter"] = "merged"
    """What model/ is: a plain model with the matrices added to its weights, or the adapter alone in peft's format."""


class Checkpointing(Config):
    """When to save and how much to keep."""

    may_change = ("every", "keep")

    every: int = Field(default=0, ge=0, le=MOST)
    """Steps (iterations in PPO) between checkpoints. 0 = twenty checkpoints in the run."""
    keep: Count = 2
    """Number of latest checkpoints to keep. The best one is kept too."""

    def interval(self, total: int) -> int:
        return self.every or max(1, total // 20)


class StageConfig(Config):
    """Settings of every training stage."""

    shown_last = True
    may_change: ClassVar[tuple[str, ...]] = ("trackers",)

    trackers: list[Literal["tensorboard", "trackio", "wandb"]] = []
    """Where to send metrics besides metrics.jsonl. TensorBoard writes into the run's folder."""
    save_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the weights in model/. auto = that of the files of the model that the run starts from."""
    compute: TrainingCompute = TrainingCompute()
    checkpoint: Checkpointing = Checkpointing()


class TextStageConfig(StageConfig):
    """Settings of stages that read prompts through a chat template."""

    shown_last = True
    may_change: ClassVar[tuple[str, ...]] = ("trust_remote_code",)

    max_prompt_tokens: Length = 1024
    """Most tokens of a prompt. A longer one is an error, or left out with `skip_long`."""
    refused_rows: RefusedRows = "stop"
    """What happens to rows that the chat template refuses. join = the system message begins the first question."""
    special_text: Literal["plain", "refuse"] = "plain"
    """A text that spells a special token: read as plain characters, or an error."""
    template: TemplateArguments = {}
    """Arguments of the chat template, such as enable_thinking=false. They are saved with the model. `chat_template` is
    the template itself: Jinja text, or a file that ends in .jinja.
    """
    trust_remote_code: bool = False
    """Run Python code that comes with a model."""
    lora: Lora = Lora()


class Generation(Config):
    """How to sample."""

    may_change = ("max_rows",)

    max_new_tokens: int = Field(default=128, ge=1, le=2**24)
    """Most tokens of an answer. The prompt must leave room for them in the context."""
    temperature: float = Field(default=1.0, ge=0.0, le=1000)
    """Sampling temperature. 0 = always the most probable token."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Sample from the most probable tokens with this total probability. 1 = off. PPO needs 1 (P3)."""
    top_k: int = Field(default=0, ge=0, le=MOST)
    """Sample from this many most probable tokens. 0 = off. PPO needs 0 (P3)."""
    max_rows: int = Field(default=256, ge=1, le=MOST)
    """Answers sampled at the same time. This changes memory and speed, not the samples."""

    @property
    def truncated(self) -> bool:
        """Whether the sampled distribution is cut (P3)."""
        return self.top_k > 0 or self.top_p < 1.0
