"""Records of the commands that have a config. The command line, the report and the app read them.

The records themselves are in `records`. They load no config, so that `heedful --help` is fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heedful.config import Config


@dataclass(frozen=True)
class ChartSpec:
    """A chart of one or more metrics. One run draws them together, several runs get a chart for each metric."""

    title: str
    unit: str
    metrics: dict[str, str]
    """Metric to its name in the chart."""
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class CommandRecord:
    """A command whose options are the fields of its config."""

    name: str
    help: str
    """One line."""
    config_name: str
    """`module:class` of the config."""
    function: str
    """`module:function`. Both are imported when the command runs."""
    details: str = ""
    """What the help says below: what the command writes, and what one must know to use it."""

    @property
    def config(self) -> type[Config]:
        """The class of the config."""
        found: type[Config] = named(self.config_name)
        return found

    def run(self, config: Config, out: str | Path, **how: bool) -> Path:
        """Import the function and call it."""
        path: Path = named(self.function)(config, out, **how)
        return path


def named(place: str) -> Any:
    """What `module:name` names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True, kw_only=True)
class Stage(CommandRecord):
    """A training algorithm. Its function writes a run directory."""

    place: int
    """Position in lists of stages."""
    heading: str
    """Heading in reports."""
    charts: tuple[ChartSpec, ...]
    headline: tuple[str, ...]
    """The metrics that `heedful runs` shows for a run."""
    writes_text: bool = True
    """Whether the trained model writes text, so that one can sample from it."""
    online: bool = False
    """Whether it learns from its own samples. `step` then counts iterations, and the metrics hold `score` and `kl`."""


LOSSES = {"loss": "training", "valid_loss": "held out", "pretrain_loss": "texts mixed in"}
ACCURACY = ChartSpec("Ranking accuracy", "share of pairs", {"accuracy": "training", "valid_accuracy": "held out"})
SAMPLED = (
    ChartSpec("Score", "reward model", {"score": "score"}, "What the reward model says, before the KL penalty."),
    ChartSpec("Reward", "score − β·KL", {"reward": "reward"}, "The objective: the score minus the KL penalty."),
    ChartSpec(
        "KL from the start",
        "nats an answer",
        {"kl": "KL"},
        "How far the policy is from the reference, its start.",
    ),
    ChartSpec("Length", "tokens an answer", {"length": "length"}, "A score that only buys length shows here."),
    ChartSpec("Entropy", "nats a token", {"entropy": "entropy"}, "How much choice is left in each token."),
    ChartSpec("Base-corpus loss", "nats a token", {"corpus_loss": "loss"}, "The alignment tax, on held-out base text."),
    ChartSpec(
        "Sampler and policy",
        "nats a token",
        {"mismatch/kl": "KL"},
        "How far the weights that sampled are from those that learn.",
    ),
    ChartSpec("Answers that end", "share", {"finished": "finished"}, "The others reached the length limit."),
)  # for an algorithm that learns from its own samples
GROUPS = ChartSpec(
    "Prompts without a difference", "share", {"flat_groups": "flat"}, "All answers have one reward: nothing to learn."
)
