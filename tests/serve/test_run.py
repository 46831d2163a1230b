"""`heedful serve`: from its options to a server that answers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest

import tiny
from heedful.config import UserError
from heedful.configs.serve import ServeConfig
from heedful.feedback import keys, people
from heedful.feedback.store import Store
from heedful.runs import placed
from heedful.serve import run


def test_what_cannot_be_served_is_named() -> None:
    with pytest.raises(UserError, match="nothing to serve"):
        run.backends(ServeConfig())
    with pytest.raises(UserError, match="both have this name"):
        run.backends(ServeConfig(model={"a": "x"}, upstream={"a": "http://h/v1#m"}))
    with pytest.raises(UserError, match="names no model"):
        run.backends(ServeConfig(upstream={"a": "http://h/v1"}))


def test_settings_reach_the_application(tmp_path: Path) -> None:
    policy = tmp_path / "policy.md"
    policy.write_text("Be kind.\n")
    given: dict[str, Any] = {"folder": tmp_path, "policy": policy, "url": "https://models.example/serve/"}
    made = run.settings_of(ServeConfig(**given, limits={"body_mb": 0.5, "rows": 3}))
    assert (made.policy, made.base_url, made.root) == ("Be kind.", "https://models.example/serve", "/serve")
    assert (made.body_mb, made.limits.rows, made.folder) == (0.5, 3, tmp_path)
    with pytest.raises(UserError, match=r"--policy .*cannot be read"):
        run.settings_of(ServeConfig(policy=tmp_path / "none"))
    policy.write_text(" ")
    with pytest.raises(UserError, match=r"--policy .*empty"):
        run.settings_of(ServeConfig(policy=policy))
    for url in ("models.example", "http://h/v1", "http://h/keys"):
        with pytest.raises(UserError, match="--url"):
            run.settings_of(ServeConfig(url=url))


def test_the_first_start_has_a_link_and_the_next_has_none(tmp_path: Path) -> None:
    store, now = Store.open(tmp_path / "heedful.db"), datetime.now(UTC)
    *_, programs, link = run.welcome(store, "http://localhost:8000", ["m"], now)
    assert "http://localhost:8000/keys" in programs
    token = link.rpartition("/")[2]
    with store.writing() as db:
        people.accept(db, token, people.add_person(db, "ada", None, now).id, now)
    assert len(run.welcome(store, "http://localhost:8000", ["m"], now)) == 2
    store.close()


def test_what_was_put_in_place_comes_before_the_option(tmp_path: Path) -> None:
    placed.place(tmp_path, "a", "runs/new")
    models, lines = run.backends(ServeConfig(model={"a": "runs/old", "b": "runs/b"}, folder=tmp_path))
    assert [model.state()["path"] for model in models.values()] == ["runs/new", "runs/b"]
    assert lines == [f"a is runs/new, which {tmp_path / 'serving.json'} has put in place of runs/old."]


@pytest.mark.slow
def test_the_command_serves_a_model_and_ends_with_a_signal(tmp_path: Path, python: Path) -> None:
    tiny.policy("llama").save_pretrained(tmp_path / "model")
    tiny.tokenizer(template=True).save_pretrained(tmp_path / "model")
    store, now = Store.open(tmp_path / "heedful.db"), datetime.now(UTC)
    with store.writing() as db:
        secret = keys.new(db, people.add_person(db, "ada", None, now, admin=True).id, "test", now)[1]
    store.close()
    command = [python, "-m", "heedful", "serve", "--model", f"demo={tmp_path / 'model'}"]
    command += ["--folder", str(tmp_path), "--port", "0", "--limits.rows", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        assert process.stdout is not None
        found = re.search(r"http://localhost:\d+", process.stdout.readline())
        assert found is not None
        with openai.OpenAI(api_key=secret, base_url=f"{found[0]}/v1", max_retries=8) as client:
            given: Any = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20, "seed": 2}
            whole = client.chat.completions.create(**given).choices[0].message.content
            stream = client.chat.completions.create(**given, stream=True)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
        assert process.stdout is not None
        process.stdout.close()
    again = Store.open(tmp_path / "heedful.db")
    with again.reading() as db:
        assert keys.used(db, 1, datetime.now(UTC).date())[0] == 2
    again.close()
