"""Deletion: somebody leaves a word wherever a person can, and nothing of it may be left in the folder afterwards."""

from __future__ import annotations

import random
from pathlib import Path

from siege.work import Work
from web import test_privacy as privacy
from web.site import Site

WORDS = ("canary-{}", "kanarienvögelchen-{}", "канарейка{}", "金丝雀{}", "canário \u2013 {}")


def attack(folder: Path, work: Work) -> None:
    for number in work.parts(work.of(100, 2)):
        word = WORDS[number % len(WORDS)].format(random.Random(f"16 {number}").randrange(10**6))
        home = folder / str(number)
        home.mkdir()
        site = Site(home)
        try:
            lead = privacy.work_of(site, word)
            before = privacy.holding(home, word)
            answer = lead.request("DELETE", f"{privacy.TEA}/people/{site.ids['zoe']}", json={"name": f"Zoe {word}"})
            wrong = [] if before else ["the word was nowhere before the deletion"]
            wrong += [] if answer.status_code == 200 else [f"not deleted: {answer.status_code}"]
            work.outcome.add([f"{word}: {line}" for line in wrong + privacy.holding(home, word)])
        finally:
            site.store.close()
