"""The failure signs of P24, watched during a run: each by name, with its figure and the remedy, reported once."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

History = list[dict[str, float]]
MOST_MISMATCH = 0.05
"""Nats a token by which sampler and policy may differ."""


@dataclass(frozen=True)
class Setup:
    """What the signs need to know of a run."""

    low_precision: bool = False
    whiten_rewards: bool = False
    other_reference: bool = False
    """Whether the reference is not the start of the policy."""


Seen = Callable[[History, Setup], str | None]


@dataclass(frozen=True)
class Sign:
    """`seen(history, setup)` returns the telling figure, or None."""

    name: str
    seen: Seen
    remedy: str


SIGNS: list[Sign] = []


def sign(name: str, remedy: str) -> Callable[[Seen], Seen]:
    """Register the function below as the `seen` of a sign."""

    def register(seen: Seen) -> Seen:
        SIGNS.append(Sign(name, seen, remedy))
        return seen

    return register


@dataclass
class Watch:
    """Collects metrics and reports each sign when it first shows."""

    setup: Setup
    history: History
    reported: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    """Every sign that has shown: when, its name, its figure and the remedy."""

    def __post_init__(self) -> None:
        past, self.history = list(self.history), []
        for metrics in past:  # a resumed run has reported these already
            self.see(metrics)

    def see(self, metrics: dict[str, float]) -> list[str]:
        """Messages for the signs that are new with these metrics."""
        self.history.append(metrics)
        new = []
        for sign in SIGNS:
            figure = sign.seen(self.history, self.setup) if sign.name not in self.reported else None
            if figure is not None:
                self.reported.append(sign.name)
                new.append(f"iteration {len(self.history)}: {sign.name}: {figure}. {sign.remedy}")
        self.messages += new
        return new


def _column(history: History, key: str, last: int | None = None) -> list[float]:
    values = [row[key] for row in history if key in row]
    return values[-last:] if last else values


@sign("negative KL", "Sampling and scoring disagree: check temperature, top-k/top-p, dropout, positions")
def negative_kl(history: History, setup: Setup) -> str | None:
    kl = _column(history, "kl", 3)
    if kl[-1] < -1 or (len(kl) == 3 and max(kl) < -0.05):
        return f"sequence KL {kl[-1]:.3f}"
    return None


@sign("KL at the start", "Policy and reference differ: check dropout, dtype, padding, adapter merging")
def kl_at_start(history: History, setup: Setup) -> str | None:
    if len(history) == 1 and abs(history[0]["kl"]) > 1e-3 and not setup.other_reference:
        return f"sequence KL {history[0]['kl']:.4f} before the first update"
    return None


@sign("numerics drift", "Use compute.dtype float32, or one engine for both. The ratio starts off 1")
def numerics_drift(history: History, setup: Setup) -> str | None:
    gap, limit = history[-1].get("logprob_gap", 0.0), 0.2 if setup.low_precision else 1e-3
    return f"log-probs of rollout and training differ by up to {gap:.2g}" if gap > limit else None


@sign(
    "sampler and policy apart",
    "Check engine.sync, the temperature and compute.dtype. With ahead = 1 lower optimiser.lr",
)
def sampler_apart(history: History, setup: Setup) -> str | None:
    kl = history[-1].get("mismatch/kl", 0.0)
    if kl > MOST_MISMATCH:
        counts = history[-1].get("mismatch/effective", 1.0)
        return f"KL {kl:.2g} nats a token from the sampler to the policy, effective sample size {counts:.0%}"
    return None


@sign("ratio runs away", "Lower optimiser.lr or epochs")
def ratio_runs_away(history: History, setup: Setup) -> str | None:
    row = history[-1]
    if abs(row["ratio"] - 1) > 0.2 or row["ratio_max"] > 100 or row["clipfrac"] > 0.5:
        return f"ratio mean {row['ratio']:.2f}, max {row['ratio_max']:.1f}, clip fraction {row['clipfrac']:.2f}"
    return None


@sign("nothing moves", "Raise optimiser.lr. Check the advantages and the mask")
def nothing_moves(history: History, setup: Setup) -> str | None:
    rows = history[-5:]
    if len(rows) == 5 and all(row["clipfrac"] == 0 and row["approx_kl"] < 1e-10 for row in rows):
        return "clip fraction and approximate KL are 0 for five iterations"
    return None


@sign("over-optimisation", "Raise kl_coef, set kl_ceiling, stop earlier, or train a better reward model")
def over_optimisation(history: History, setup: Setup) -> str | None:
    kl, score = _column(history, "kl"), _column(history, "score")
    if len(kl) < 12 or kl[-1] < 10:
        return None
    third = len(kl) // 3
    early, middle, late = (statistics.fmean(kl[i * third : (i + 1) * third]) for i in range(3))
    climbs = statistics.fmean(score[-third:]) > statistics.fmean(score[:third])
    if climbs and late - middle > 1.2 * (middle - early) > 0:
        return f"KL {kl[-1]:.1f} nats and growing faster than in a straight line while the score climbs"
    return None


@sign("no end", "Set missing_eos_penalty. Check that the reward model saw truncated texts without EOS")
def no_end(history: History, setup: Setup) -> str | None:
    finished = _column(history, "finished")
    recent = statistics.fmean(finished[-3:])
    if recent < 0.5 and recent < finished[0] - 0.2 and history[-1]["score"] > history[0]["score"]:
        return f"{recent:.0%} of the responses end by themselves, {finished[0]:.0%} did at first"
    return None


@sign("value net fails", "Start it from the reward model, lower value_optimiser.lr, look for score outliers")
def value_fails(history: History, setup: Setup) -> str | None:
    losses, explained = _column(history, "value_loss"), _column(history, "explained_variance", 5)
    if len(losses) > 5 and losses[-1] > 10 * statistics.median(losses[:-1]):
        return f"value loss {losses[-1]:.3g}, ten times its median"
    if len(history) >= 10 and len(explained) == 5 and max(explained) <= 0:
        return f"explained variance {explained[-1]:.2f} after {len(history)} iterations"
    return None


@sign("entropy collapse", "The reference is peaked, or prompts repeat: check temperature and duplicates")
def entropy_collapse(history: History, setup: Setup) -> str | None:
    entropy = _column(history, "entropy")
    if entropy[-1] < 0.2 * entropy[0] and history[-1]["kl"] < 1:
        return f"entropy {entropy[-1]:.3f} nats a token, was {entropy[0]:.3f}, at a KL of only {history[-1]['kl']:.2f}"
    return None


@sign("pretraining lost", "Raise ptx_ratio or ptx_coef")
def pretraining_lost(history: History, setup: Setup) -> str | None:
    loss = _column(history, "ptx_loss")
    if len(loss) >= 10 and statistics.fmean(loss[-5:]) > statistics.fmean(loss[:3]) + 0.1:
        return f"pretraining loss {statistics.fmean(loss[-5:]):.3f}, was {statistics.fmean(loss[:3]):.3f}"
    return None


@sign("constant scores", "Turn whiten_rewards off or enlarge rollout_batch")
def constant_scores(history: History, setup: Setup) -> str | None:
    if setup.whiten_rewards and history[-1]["score_std"] < 1e-4:
        return f"scores vary by {history[-1]['score_std']:.1g} and rewards are whitened"
    return None


@sign("equal scores", "Check the reward: it does not tell these answers apart")
def equal_scores(history: History, setup: Setup) -> str | None:
    recent = history[-3:]
    if len(recent) == 3 and all(row.get("score_std", 1.0) == 0 and "flat_groups" not in row for row in recent):
        return "all answers of three iterations have one score, and the policy learns from noise"
    return None


@sign("flat groups", "Take a finer reward, harder prompts, or more samples_per_prompt")
def flat_groups(history: History, setup: Setup) -> str | None:
    flat = _column(history, "flat_groups", 3)
    if len(flat) == 3 and min(flat) > 0.8:
        return f"{flat[-1]:.0%} of the prompts have answers with one and the same reward, and teach nothing"
    return None
