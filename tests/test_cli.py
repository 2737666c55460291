"""The commands as a person meets them: help, one sentence for what is wrong, exit codes, a quiet end."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llmscope import __version__
from llmscope.cli import cli, main
from llmscope.doctor import examine
from llmscope.reference import COMMANDS
from llmscope.settings import load
from llmscope.simulator import MODELS, SCENARIOS, Simulator


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder and an environment in which nothing is set."""
    for variable in os.environ:
        if variable.startswith(("LLMSCOPE_", "OLLAMA_", "MONITOR_", "OPENAI_")):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port at which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def invoke(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "TERM": "xterm"}).invoke(cli, words)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answer(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as reply:
        return str(reply.read().decode())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    shown = invoke(command, "--help")

    assert shown.exit_code == 0
    assert f"llmscope {command}" in shown.output.partition("Example")[2]


def test_the_help_of_simulate_names_every_scenario() -> None:
    shown = invoke("simulate", "--help").output

    assert [name for name in SCENARIOS if name not in shown] == []


def test_help_does_not_wait_for_what_it_does_not_need() -> None:
    heavy = (
        "import sys, llmscope.cli; print([m for m in ('numpy', 'fastapi', 'aiohttp') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def test_the_version_is_that_of_the_package() -> None:
    assert invoke("--version").output == f"llmscope {__version__}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["up", "--interval", "soon"], "--interval must be a duration such as 2s or 500ms (it is 'soon')"),
        (["up", "--port", "99999"], "--port must be less than or equal to 65535 (it is 99999)"),
        (
            ["up", "--model", "x", "--model", "y"],
            "--model is given 2 times and --target 0 times: give them in pairs",
        ),
        (["serve", "--config", "none.toml"], "--config names none.toml, which does not exist"),
        (["monitor", "--api", "ftp://x"], "--api must be an address such as http://localhost:8000 (it is 'ftp://x')"),
        (["doctor", "--target", "gpu:x"], "--target must be an address such as http://localhost:11434 (it is 'gpu:x')"),
        (
            ["up", "--scenario", "storm"],
            f"--scenario must be one of {', '.join(SCENARIOS)} (it is 'storm')",
        ),
        (
            ["simulate", "--scenario", "storm"],
            f"--scenario must be one of {', '.join(SCENARIOS)} (it is 'storm')",
        ),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_sentence_on_standard_error_and_exit_code_2(
    words: list[str], sentence: str
) -> None:
    done = invoke(*words)

    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"llmscope: {sentence}\n")


@pytest.mark.parametrize("command", ["up", "serve"])
def test_listening_beyond_this_machine_is_refused(command: str) -> None:
    done = invoke(command, "--host", "0.0.0.0")

    assert done.exit_code == 2
    assert done.stderr.startswith(
        "llmscope: others than this machine could reach 0.0.0.0, and there is no login: "
    )
    assert all(way in done.stderr for way in ("LLMSCOPE_PASSWORD", "llmscope token create", "--insecure"))
    assert done.stderr.count("\n") == 1
    assert not Path("data").exists()


@pytest.mark.parametrize("command", ["up", "serve", "simulate"])
def test_a_port_in_use_is_named_with_the_remedy(command: str, taken_port: int) -> None:
    done = invoke(command, "--port", str(taken_port))

    assert done.exit_code == 2
    assert str(taken_port) in done.stderr
    assert "--port" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_database_that_is_none_is_named_with_the_remedy(bare: Path) -> None:
    (bare / "notes.db").write_text("not a database, " * 100)

    done = invoke("serve", "--db", "notes.db", "--port", str(free_port()))

    assert done.exit_code == 2
    assert "notes.db" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["watch"], r"llmscope: no such command 'watch'; see llmscope --help\n"),
        (["up", "--prot", "1"], r"llmscope: no such option: --prot.*; see llmscope --help\n"),
        (["up", "--port", "x"], r"llmscope: invalid value for '--port'.*; see llmscope --help\n"),
    ],
)
def test_a_line_that_cannot_be_understood_is_one_sentence_too(
    words: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["llmscope", *words])
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert re.fullmatch(sentence, capsys.readouterr().err)


def test_a_misspelt_variable_is_pointed_out(monkeypatch: pytest.MonkeyPatch, taken_port: int) -> None:
    monkeypatch.setenv("LLMSCOPE_INTERVALL", "3")

    assert (
        "llmscope: no setting reads the variable LLMSCOPE_INTERVALL; did you mean LLMSCOPE_INTERVAL?\n"
        in invoke("serve", "--port", str(taken_port)).stderr
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_answers_and_ends_quietly_when_it_is_told_to(number: signal.Signals) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "llmscope", "serve", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        assert json.loads(answer(f"http://127.0.0.1:{port}/healthz")) == {"status": "ok"}
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()

    assert (process.returncode, said) == (0, "")


def test_simulate_ends_quietly_on_ctrl_c() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "llmscope", "simulate", "--port", "0", "--scenario", "steady"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "Simulated Ollama at http://127.0.0.1:" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()

    assert (process.returncode, said) == (0, "")


# -- doctor


def checks(*words: str) -> dict[str, tuple[str, str]]:
    """State and text of each check, by its name; the last of one name wins."""
    found = json.loads(invoke("doctor", "--json", *words).stdout)
    return {check["what"]: (check["state"], check["said"]) for check in found}


def test_doctor_says_what_is_wrong_and_what_to_do_and_exits_with_1() -> None:
    done = invoke("doctor", "--target", f"127.0.0.1:{free_port()}")

    assert done.exit_code == 1
    assert re.search(r"^✗ target +http://127.0.0.1:\d+ does not answer .* → .*--target", done.stdout, re.M)
    assert re.search(rf"^✓ version +llmscope {re.escape(__version__)}, Python 3\.", done.stdout, re.M)
    assert re.search(r"^✓ database +data/llmscope.db, will be made$", done.stdout, re.M)
    assert not Path("data").exists()


async def test_doctor_finds_server_and_models() -> None:
    simulator = Simulator(SCENARIOS["steady"])
    await simulator.start("127.0.0.1", 0)
    try:
        loaded = load({"target": [simulator.url] * 2, "model": [MODELS[0].name, "no-such-model"]})
        found = [(check.what, check.state, check.said) for check in await examine(loaded)]
    finally:
        await simulator.stop()

    assert [state for what, state, _ in found if what == "target"] == ["ok", "ok"]
    assert [state for what, state, _ in found if what == "model"] == ["ok", "wrong"]
    assert ("model", "wrong", "no-such-model is not on the server") in found


def test_doctor_tells_a_running_llmscope_from_another_program_on_the_port(taken_port: int) -> None:
    state, said = checks("--port", str(taken_port))["port"]

    assert state == "wrong"
    assert str(taken_port) in said


def test_doctor_asks_the_api_only_when_one_is_named(taken_port: int) -> None:
    assert "api" not in checks()
    assert checks("--api", f"http://127.0.0.1:{free_port()}")["api"][0] == "wrong"


def test_doctor_reads_a_database_and_a_spool_without_changing_them(bare: Path) -> None:
    for name in ("notes.db", "spool.db"):
        with closing(sqlite3.connect(bare / name)) as connection:
            connection.execute("CREATE TABLE something (x)")
    before = (bare / "notes.db").read_bytes()
    found = checks("--db", "notes.db", "--spool", "spool.db")

    said = "notes.db is not a database of LLMscope (it is a database of another program)"
    assert found["database"] == ("wrong", said)
    assert found["spool"] == ("wrong", "spool.db is not a spool of LLMscope (no such table: waiting)")
    assert (bare / "notes.db").read_bytes() == before


def test_doctor_knows_an_llmscope_that_is_running() -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "llmscope", "serve", "--port", str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        found = checks("--port", str(port), "--api", f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.communicate(timeout=20)

    assert found["port"] == ("ok", f"LLMscope {__version__} is running at http://127.0.0.1:{port}")
    assert found["api"] == ("ok", f"LLMscope {__version__} answers at http://127.0.0.1:{port}")
    assert found["database"][0] == "ok"
    assert "schema" in found["database"][1]


@pytest.mark.parametrize(
    ("words", "password", "state", "said"),
    [
        ((), "", "ok", "only this machine reaches it"),
        ((), "correct horse", "ok", "callers must show the password or a token"),
        (("--host", "0.0.0.0"), "", "ok", "callers must show a token"),
        (("--host", "0.0.0.0", "--insecure"), "", "note", "nobody is asked who reaches 0.0.0.0"),
    ],
)
def test_doctor_says_who_is_let_in(
    words: tuple[str, ...], password: str, state: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCOPE_PASSWORD", password)
    found = checks("--port", str(free_port()), *words)["login"]

    assert found[0] == state
    assert said in found[1]


def test_doctor_knows_an_llmscope_that_asks_who_is_calling(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("LLMSCOPE_PASSWORD", "correct horse")
    monkeypatch.setenv("LLMSCOPE_INGEST_TOKEN", "0123456789abcdef")
    process = subprocess.Popen(
        [sys.executable, "-m", "llmscope", "serve", "--port", str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        asked = checks("--api", f"http://127.0.0.1:{port}")["api"]
        made = invoke("token", "create", "--scope", "read", "--name", "doctor").stdout.strip()
        monkeypatch.setenv("LLMSCOPE_TOKEN", made)
        known = checks("--api", f"http://127.0.0.1:{port}")["api"]
    finally:
        process.terminate()
        process.communicate(timeout=20)

    assert asked == ("note", f"LLMscope answers at http://127.0.0.1:{port} and asks who is calling")
    assert known == ("ok", f"LLMscope {__version__} answers at http://127.0.0.1:{port}")
