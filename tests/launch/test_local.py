"""A launch on one machine: what processes get, their logs, how they end, and with which exit code."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from heedful.cli import main
from heedful.config import UserError
from heedful.launch import local, machine, processes
from heedful.launch import servers as inference
from heedful.launch.servers import Servers

ROOT = Path(__file__).parents[2]
PPO = "ppo --policy p --prompts p --reward r --out o"


@pytest.fixture(autouse=True)
def _no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", list)
    monkeypatch.setattr(processes, "GRACE", 5.0)


def launched(tmp_path: Path, script: str, count: int, **more: object) -> tuple[int, list[str]]:
    """(exit code, what was said) of a script in several processes."""
    (tmp_path / "script.py").write_text(textwrap.dedent(script), encoding="utf-8")
    said: list[str] = []
    program = (sys.executable, str(tmp_path / "script.py"))
    code = local.run(["a", "b"], tmp_path / "logs", said.append, processes=count, program=program, **more)  # type: ignore[arg-type]
    return code, said


def test_processes_get_their_places_and_logs_of_their_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, said = launched(
        tmp_path,
        """
        import os, sys
        names = "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR".split()
        print(*(os.environ[name] for name in names), *sys.argv[1:], int(os.environ["MASTER_PORT"]) > 1023)
        print("aside", file=sys.stderr)
        """,
        3,
    )
    assert (code, said) == (0, [])
    for rank in range(3):
        lines = (tmp_path / "logs" / f"rank-{rank}.log").read_text("utf-8").splitlines()
        assert sorted(lines) == [f"{rank} {rank} 3 3 127.0.0.1 a b True", "aside"]
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("0 0 3 3 127.0.0.1 a b True\n", "aside\n")


@pytest.mark.medium
def test_the_exit_code_is_that_of_the_trainer(tmp_path: Path) -> None:
    """A rank that fails ends the others, which would run for ever."""
    started = time.monotonic()
    code, said = launched(
        tmp_path,
        """
        import os, sys, time
        if os.environ["RANK"] == "1":
            sys.exit(7)
        time.sleep(1000)
        """,
        2,
    )
    assert (code, said) == (7, [])
    assert time.monotonic() - started < 300


@pytest.mark.medium
def test_an_error_of_one_rank_alone_is_said_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Rank 0 may know nothing of it, or it has the same error and says it itself."""
    script = """
        import os, sys, time
        if os.environ["RANK"] == "1":
            sys.exit("data.jsonl: no such file")
        time.sleep(1)
        sys.exit({0})
        """
    code, said = launched(tmp_path, script.format(0), 2)
    assert (code, said) == (1, ["launch: rank 1 ended with code 1: data.jsonl: no such file"])
    code, said = launched(tmp_path, script.format("'data.jsonl: no such file'"), 2)
    assert (code, said) == (1, [])
    assert capfd.readouterr().err == "data.jsonl: no such file\n"


@pytest.mark.medium
def test_a_killed_rank_is_named_in_one_line(tmp_path: Path) -> None:
    code, (line,) = launched(
        tmp_path,
        """
        import os, signal, time
        if os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1000)
        """,
        2,
    )
    assert code == 2
    assert line.startswith(
        "launch: rank 1 was killed by signal 9, so the others were stopped. The last checkpoint is kept."
    )
    assert line.endswith("continue with --resume")


def test_one_ctrl_c_ends_everything(tmp_path: Path) -> None:
    """The ranks end as they do on SIGINT: here they save first, and leave with 130."""
    waiting = tmp_path / "waiting"
    waiting.mkdir()

    def interrupt() -> None:
        while len(list(waiting.iterdir())) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    code, said = launched(
        tmp_path,
        f"""
        import os, signal, sys, time
        def stop(number, frame):
            print("saved", flush=True)
            sys.exit(130)
        signal.signal(signal.SIGINT, stop)
        open({str(waiting)!r} + "/" + os.environ["RANK"], "w").close()
        time.sleep(1000)
        """,
        2,
    )
    assert code == 130
    assert said == ["launch: SIGINT to 2 processes"]
    assert [(tmp_path / "logs" / f"rank-{n}.log").read_text() for n in (0, 1)] == ["saved\n", "saved\n"]
    assert signal.getsignal(signal.SIGINT) is not None


SERVER = """
    import http.server, os, sys
    port = int(sys.argv[sys.argv.index("--port") + 1])
    if os.environ.get("BROKEN"):
        sys.exit("no such model")
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
        do_POST = do_GET
        def log_message(self, *args):
            shown = os.environ.get("CUDA_VISIBLE_DEVICES", "none"), os.environ["VLLM_SERVER_DEV_MODE"]
            print(*shown, os.environ.get("PYTHONPATH"), *sys.argv[1:], self.path, flush=True)
    http.server.HTTPServer(("127.0.0.1", port), Answers).serve_forever()
"""


def served(tmp_path: Path, port: int) -> Servers:
    """A stand-in for the Python of a server's environment."""
    (tmp_path / "server.py").write_text(textwrap.dedent(SERVER), encoding="utf-8")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/server.py" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    return Servers("vllm", 1, str(python), "runs/sft/model", port, 8, ("--dtype", "float32"))


def test_servers_start_first_and_end_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: ["0", "1", "5"])
    port = machine.free_port()
    show = "import os, sys; print(os.environ['CUDA_VISIBLE_DEVICES'], *sys.argv[1:])"
    code, said = launched(tmp_path, show, 2, servers=served(tmp_path, port))
    assert code == 0
    assert said == [f"launch: vllm loads runs/sft/model. Its log is {tmp_path}/logs/server-0.log"]
    assert capfd.readouterr().out == f"0,1 a b --engine.kind vllm --engine.urls http://127.0.0.1:{port}\n"
    log = (tmp_path / "logs" / "server-0.log").read_text("utf-8")
    assert log.startswith(f"5 1 {inference.WORKER} -m vllm.entrypoints.openai.api_server --model runs/sft/model")
    assert f"processed_logprobs --host 127.0.0.1 --port {port} --worker-extension-cls heedful_worker.Receiver" in log
    assert "heedful_worker.Receiver --enable-lora --max-lora-rank 8 --dtype float32" in log
    assert (inference.WORKER / "heedful_worker.py").is_file()
    assert machine.free_port(port) == port  # it has ended


def test_servers_that_sleep_share_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """They sleep before the trainer starts."""
    monkeypatch.setattr(machine, "gpus", lambda: ["3", "7"])
    show = f"import os; print(os.environ['CUDA_VISIBLE_DEVICES'], open({str(tmp_path / 'logs/server-0.log')!r}).read())"
    code, _ = launched(tmp_path, show, 2, servers=replace(served(tmp_path, machine.free_port()), sleep=True))
    lines = capfd.readouterr().out.splitlines()
    assert code == 0
    assert lines[0].startswith("3,7 3 1 ")
    assert "--enable-sleep-mode --dtype float32 /health" in lines[0]
    assert lines[1].endswith(" /sleep?level=1")


def test_a_server_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: ["0", "1"])
    monkeypatch.setenv("BROKEN", "1")
    servers = served(tmp_path, machine.free_port())
    with pytest.raises(UserError, match=r"server 0 ended before it was ready \(no such model\)\. .*server-0\.log"):
        launched(tmp_path, "", 1, servers=servers)
    nowhere = Servers("vllm", 1, str(tmp_path / "nowhere"), "m", machine.free_port())
    with pytest.raises(UserError, match=r"nowhere: No such file or directory\. Check the path"):
        launched(tmp_path, "", 1, servers=nowhere)


def test_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.divided(None, 0) == (1, [], [])
    assert machine.divided(3, 0) == (3, [], [])
    assert machine.divided(None, 2) == (1, [], ["", ""])
    monkeypatch.setattr(machine, "gpus", lambda: ["0", "1", "2", "3"])
    assert machine.divided(None, 1) == (3, ["0", "1", "2"], ["3"])
    assert machine.divided(2, 1) == (2, ["0", "1"], ["3"])
    assert machine.divided(None, 0) == (4, ["0", "1", "2", "3"], [])
    with pytest.raises(UserError, match=r"4 processes and 1 server need 5 GPUs, and this machine has 4\. Lower"):
        machine.divided(4, 1)
    assert machine.divided(None, 1, shared=True) == (4, ["0", "1", "2", "3"], ["0"])
    assert machine.divided(2, 2, shared=True) == (2, ["0", "1"], ["0", "1"])
    for own, others in ((5, 1), (2, 3), (None, 5)):
        with pytest.raises(UserError, match=r"with engine\.sleep each server shares the GPU of a process, and this"):
            machine.divided(own, others, shared=True)
    with pytest.raises(UserError, match="1 process and 4 servers need 5 GPUs"):
        machine.divided(None, 4)


def test_the_gpus_of_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-ab")
    assert machine.gpus() == ["3", "GPU-ab"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 1,-1,2")
    assert machine.gpus() == ["3", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: A'\necho 'GPU 1: A'\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpus() == ["0", "1"]
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert machine.gpus() == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "launch: name a command behind --, such as heedful launch -- ppo --config ppo.toml"),
        ("-- label", "launch: label does not run in several processes. Choose from pretrain, sft, reward"),
        ("--nodes 2 -- sft", "--nodes: only for --slurm FILE. On this machine give --processes"),
        ("--servers 1 -- sft --model m", "--servers: heedful sft samples nothing while it learns. Leave it out"),
        (f"--servers 1 -- {PPO} --engine.urls http://a", "--servers: the settings name servers already"),
        (f"--servers 1 -- {PPO} --engine.kind sglang", "--server-kind is vllm and engine.kind sglang. Make them equal"),
        (f"--servers 1 -- {PPO} --engine.kind local", "--server-kind is vllm and engine.kind local. Make them equal"),
        (f"--servers 2 --port 8101 -- {PPO}", "--port 8101: a server gets it (--server-port 8100). Choose another one"),
        (f"--servers 1 --server-options --port=9 -- {PPO}", "--server-options: heedful sets --port itself. Leave it"),
        (f"--server-port 9000 -- {PPO}", "--server-port: only with --servers N"),
        (f"--server-kind vllm -- {PPO}", "--server-kind: only with --servers N"),
        (f"--server-python python -- {PPO}", "--server-python: only with --servers N"),
        ("--procesess 2 -- sft", "launch: --procesess is no option of launch. Those of the command follow its name"),
        ("--processes 2 sft --model m --epochs 1", "Missing option '--out'. See heedful sft --help"),
        ("-- sft --out o --data d", "--model is missing. See --help"),
        ("-- sft --out o --data d --model m --epochs few", "the options: 'epochs': must be a whole number"),
        ("--server-options '--dtype float32' -- ppo", "--server-options: only with --servers N"),
        (
            "--servers 1 --server-options \\' -- ppo --policy p --prompts p --reward r --out o",
            "--server-options: No closing quotation. Quote it as in a shell",
        ),
    ],
)
def test_what_cannot_be_launched_is_one_line(given: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["launch", *shlex.split(given)])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


@pytest.mark.medium
def test_servers_go_with_other_settings_of_the_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = f"--servers 1 --server-python /nowhere --logs {tmp_path} -- {PPO} --engine.shared-dir /dev/shm"
    with pytest.raises(SystemExit):
        main(["launch", *given.split()])
    assert capsys.readouterr().err == "launch: /nowhere: No such file or directory. Check the path\n"


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as end:
            main(["launch", "--processes", "2", "--port", str(port), "--", *"sft --model m --data d --out o".split()])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        f"launch: port {port} is taken. Choose another one, or stop what listens there\n"
    )


@pytest.mark.slow
def test_a_real_stage_in_two_processes(tmp_path: Path) -> None:
    """The command of a person, from the outside: a run that ends, and the exit code of one that cannot begin."""
    import tiny
    from heedful.models import load

    load.save(tiny.policy(), tiny.tokenizer(), tmp_path / "model")
    rows = "".join(f'{{"prompt": "say {number}", "completion": "red"}}\n' for number in range(20))
    (tmp_path / "data.jsonl").write_text(rows, encoding="utf-8")
    command = [
        sys.executable, "-m", "heedful", "launch", "--processes", "2", "--", "sft", "--model", "model", "--data",
        "data.jsonl", "--out", "run", "--epochs", "1", "--batch", "8",
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for code in (0, 2):  # the second time, the folder is there
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stderr
    assert "has begun here already" in done.stderr
    assert (tmp_path / "run" / "model" / "config.json").exists()
    assert (tmp_path / "logs" / "rank-1.log").exists()


def test_a_line_that_is_written_in_parts_is_whole_in_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two streams share a log. A letter of two bytes comes in two parts, and the last line has no end."""
    code, _ = launched(
        tmp_path,
        r"""
        import sys, time
        def say(stream, part):
            stream.buffer.write(part)
            stream.flush()
            time.sleep(0.05)
        for part in (b"one \xc3", b"\xa9 two"):
            say(sys.stdout, part)
            say(sys.stderr, b"aside ")
        say(sys.stderr, b"ends\n")
        say(sys.stdout, b" three\nno end")
        """,
        1,
    )
    assert code == 0
    log = (tmp_path / "logs" / "rank-0.log").read_text("utf-8")
    assert log == "aside aside ends\none é two three\nno end"
    assert capfd.readouterr().out == "one é two three\nno end"
