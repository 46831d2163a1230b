"""Settings of `heedful round`: the plan of a project's rounds, in round.toml in its folder."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from heedful.config import Config, Count, Seed
from heedful.configs.shared import Compute, FilePath, Generation, ModelRef


class GateConfig(Config):
    """What a candidate must show before it replaces the model that is served."""

    prompts: Count | None = None
    """Prompts of held-out users on which a gate decides. It is fixed when the round begins. none = as many as find a
    model that wins `detect` of the comparisons with a chance of `power`.
    """
    detect: float = Field(default=0.6, gt=0.5, lt=1)
    """True win rate that the gate is to find."""
    power: float = Field(default=0.9, ge=0.5, lt=1)
    """Chance with which the gate finds it."""
    design: float = Field(default=1.0, ge=1, le=1e6)
    """Factor on the number of prompts where prompts of one user vary together."""
    flag: float = Field(default=0.0, ge=0, le=1)
    """How much more often the candidate may have a flag (D9), as a share of its answers. It must exceed this beyond
    chance. The interval allows for all flags together.
    """
    flags: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """Bounds of single flags, such as hallucination = 0.02."""
    unrated: Literal["undecided", "allow"] = "undecided"
    """What a gate without ratings says. allow = decide without flags, for a judge that rates none."""
    tax: Annotated[float, Field(ge=0, le=1e6)] | Literal["off"] = "off"
    """Most nats a token by which the loss on `tax_data` may exceed that of the served model (E6). off = no bound."""
    length: Annotated[float, Field(gt=1, le=1e6)] | Literal["off"] = 1.5
    """Largest ratio of mean lengths, in both directions. off = no bound."""
    kl: Annotated[float, Field(gt=0, le=1e6)] | Literal["off"] = "off"
    """Largest KL of an answer from the start, in nats, at the end of the training. off = no bound."""


class RoundConfig(Config):
    """The plan. A round keeps the plan with which it began."""

    project: str
    """Project of the labelling app that curates what users send, and whose labelers rank the answers."""
    serving: ModelRef
    """Model that is served before the first promotion, as on the command line of the server."""
    model: str = "model"
    """Name of the served model, as in `heedful serve --model NAME=RUN`."""
    sft: ModelRef
    """First SFT model. Every reward model begins here, and every policy."""
    start: Literal["sft", "last"] = "sft"
    """Start of the policy. last = the served model, with the KL from the first SFT model. An early hack stays then."""
    others: list[ModelRef] = []
    """Further models to sample from, one answer each."""
    prompts: Count = 400
    """Fresh prompts of a round. It waits until there are as many."""
    k: int = Field(default=4, ge=2, le=9)
    """Answers to each prompt (D10), those of the other models among them."""
    labels: float = Field(default=1.0, gt=0, le=1)
    """Share of the labels after which a round goes on."""
    demonstrations: FilePath | None = None
    """Demonstrations. Their mean reward becomes 0 (R5)."""
    pretrain_data: FilePath | None = None
    """Texts for the pretraining gradient (PPO-ptx)."""
    tax_data: FilePath | None = None
    """Held-out texts for the alignment tax (E6)."""
    judge: str | None = None
    """Who judges for the gate: a reward, module:function, or URL#MODEL. none = people, the held-out labelers of
    `gate_project`.
    """
    gate_project: str = "gate"
    """Project in which held-out labelers judge. A new one is created."""
    promote: Literal["auto", "ask"] = "auto"
    """Whether a candidate that passes the gate is promoted at once. ask = `heedful round promote` does it."""
    seed: Seed = 0
    """Random seed."""
    generation: Generation = Generation(max_new_tokens=256)
    compute: Compute = Compute()
    reward: dict[str, Any] = {}
    """Further settings of `heedful reward`."""
    ppo: dict[str, Any] = {}
    """Further settings of `heedful ppo`."""
    gate: GateConfig = GateConfig()

    @model_validator(mode="after")
    def _fits(self) -> RoundConfig:
        if len(self.others) >= self.k:
            raise ValueError(f"k = {self.k} leaves no answer of the served model. Raise k, or name fewer others")
        if self.gate.tax != "off" and self.tax_data is None:
            raise ValueError("gate.tax needs tax_data. Name held-out texts, or set gate.tax to off")
        taken = {"reward": {"model", "data", "demonstrations"}}
        taken["ppo"] = {"policy", "reference", "reward", "prompts", "pretrain_data", "tax_data", "generation"}
        for name, fixed in taken.items():
            if both := sorted(fixed & getattr(self, name).keys()):
                raise ValueError(f"{name}.{both[0]} follows from the plan. Leave it out")
        return self
