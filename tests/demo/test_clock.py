"""The numbered headings of the demo and its estimate of the time left."""

from __future__ import annotations

import pytest

from heedful.demo import settings
from heedful.demo.clock import Clock, said

STEPS = {"world": 10.0, "SFT": 50.0, "PPO": 140.0, "evaluation": 100.0}


def test_headings_count_steps_and_minutes() -> None:
    clock = Clock(STEPS, {})
    assert clock.heading("world") == "[1/4] world, about 5 minutes left"
    clock.start(95.0)  # half the speed of the reference
    assert clock.left() == 600.0
    assert clock.heading("SFT") == "[2/4] SFT, about 10 minutes left"


def test_the_pace_so_far_replaces_the_speed_of_the_machine() -> None:
    clock = Clock(STEPS, {})
    clock.start(190.0)
    clock.done("world", 40.0)  # too short to tell
    assert clock.left() == 290.0
    clock.done("SFT", 80.0)  # 120 seconds for 60
    assert clock.left() == pytest.approx(2.0 * 240.0)
    clock.done("SFT", 0.1)  # finished already
    assert clock.left() == pytest.approx(2.0 * 240.0)


def test_finished_steps_and_more_steps() -> None:
    clock = Clock(STEPS, {"world": 9.0, "SFT": 44.0})
    assert clock.left() == 240.0
    clock.add("PPO, fooled", 60.0)
    assert list(clock.expected)[-2:] == ["PPO, fooled", "evaluation"]
    assert clock.heading("PPO, fooled").startswith("[4/5] ")
    assert clock.left() == 300.0


@pytest.mark.parametrize(
    ("seconds", "words"), [(20, "less than a minute"), (40, "about 1 minute"), (200, "about 3 minutes")]
)
def test_words(seconds: float, words: str) -> None:
    assert said(seconds) == words


def test_every_demo_has_eight_steps_with_a_time_for_each() -> None:
    plain, scratch, quick = settings.read(), settings.read(from_scratch=True), settings.read(quick=True)
    for one in (plain, scratch, quick):
        assert len(one["seconds"]) == 8
    assert "pretrain" in scratch
    assert "pretrain" not in plain
    assert scratch["sizes"]["documents"] > plain["sizes"]["documents"]
    assert sum(quick["seconds"].values()) <= 120 < sum(plain["seconds"].values()) <= 300
    assert quick["sft"]["optimiser"] == plain["sft"]["optimiser"]  # what a layer does not name stays


def test_later_layers_win_setting_by_setting() -> None:
    changed = settings.read(quick=True, changes={"sizes": {"test_prompts": 7}})
    assert changed["sizes"]["test_prompts"] == 7
    assert changed["sizes"]["raw_prompts"] == settings.read(quick=True)["sizes"]["raw_prompts"]
