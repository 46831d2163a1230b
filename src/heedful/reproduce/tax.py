"""The alignment tax: what PPO loses on base text, and whether a pretraining mix or a KL penalty gives it back."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from heedful.demo.records import BASE, PPO, PTX, SFT
from heedful.demo.settings import DemoSettings
from heedful.report.tables import ModelResult
from heedful.reproduce import sizes, workbench
from heedful.reproduce.parts import Figures, Folders, Part

MINUTES = {"tax-ptx": 6.0, "tax-kl": 6.0}
KINDS = {"tax-ptx": "ptx_coef", "tax-kl": "kl_coef"}


def parts(
    seed: int, start: Part, judged: Part, settings: DemoSettings, resolved: DemoSettings, changes: DemoSettings,
    minutes: dict[str, float], home: str,
) -> list[Part]:  # fmt: skip
    """A sweep of the weight of the pretraining loss, and one of the KL coefficient."""
    found = []
    for name, setting in KINDS.items():
        values = settings["tax"][setting]
        own = resolved["ppo_ptx" if setting == "ptx_coef" else "ppo"][setting]
        facts = {setting: values, "of the demo": own}
        work = partial(_sweep, seed, changes, setting, values, own)
        found.append(Part(name, minutes[name], seed, facts, work, (start, judged), home))
    return found


def _sweep(
    seed: int, changes: DemoSettings, setting: str, values: list[float], own: float, folder: Path, before: Folders
) -> Figures:
    demo, middle = workbench.opened(before, seed, changes), sizes.results(before["judged"])
    ptx = setting == "ptx_coef"
    runs: dict[str, dict[str, Any]] = {str(v): {"ptx": ptx, "changes": {setting: v}} for v in values}
    trained = workbench.trained_and_measured(demo, folder, runs)
    by_value: dict[float, ModelResult] = {float(name): one for name, one in trained.items()}
    by_value[own] = middle[PTX if ptx else PPO]
    by_value |= {0.0: middle[PPO]} if ptx else {}
    users, sft = workbench.users(demo), middle[SFT]
    return {
        "setting": setting,
        "base": middle[BASE].corpus_loss,
        "sft": sft.corpus_loss,
        "runs": [
            {"value": value, "corpus_loss": one.corpus_loss, "kl": one.kl, "win": workbench.wins(one, sft, users)}
            for value, one in sorted(by_value.items())
        ],
    }
