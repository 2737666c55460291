"""`llmscope token`: what it prints, what it keeps, and what is wrong with what it was given."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llmscope.access import digest_of
from llmscope.cli import cli


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder and an environment in which nothing is set."""
    for variable in os.environ:
        if variable.startswith("LLMSCOPE_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def token(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(cli, ["token", *words])


def test_a_token_is_shown_once_and_only_its_digest_is_kept(bare: Path) -> None:
    made = token("create", "--scope", "read", "--name", "grafana")
    text = made.stdout.strip()
    assert made.exit_code == 0
    assert text.startswith("llmscope_")

    with closing(sqlite3.connect("data/llmscope.db")) as database:
        (digest,) = database.execute("SELECT digest FROM token").fetchone()
    assert digest == digest_of(text)
    assert text not in token("list").output + token("list", "--json").output
    kept = b"".join(path.read_bytes() for path in (bare / "data").iterdir())
    assert text.encode() not in kept


def test_the_list_says_which_tokens_work() -> None:
    token("create", "--scope", "ingest", "--name", "a", "--expires", "30d")
    token("create", "--scope", "admin", "--name", "b")
    assert token("revoke", "2").output == "Token 2 is revoked.\n"

    first, second = json.loads(token("list", "--json").stdout)
    assert (first["name"], first["scope"], first["state"]) == ("a", "ingest", "works")
    assert first["expires"] > first["made"]
    assert (second["state"], second["expires"]) == ("revoked", None)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("create", "--scope", "read", "--name", " "), "--name must be a printable name"),
        (("create", "--scope", "read", "--name", "a", "--expires", "soon"), "--expires must be a duration"),
        (("create", "--scope", "read", "--name", "a", "--expires", "0d"), "--expires must be a duration"),
        (("revoke", "7"), "there is no token 7 that works"),
        (("list", "--db", "/proc/none/x.db"), "cannot use the database"),
    ],
)
def test_what_is_wrong_is_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    done = token(*words)

    assert done.exit_code == 2
    assert done.stderr.startswith("llmscope: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_thousand_tokens_are_the_most(bare: Path) -> None:
    token("create", "--scope", "read", "--name", "first")
    with closing(sqlite3.connect("data/llmscope.db")) as database, database:
        database.executemany(
            "INSERT INTO token (digest, name, scope, made_us) VALUES (?, 'x', 'read', 0)",
            [(bytes([n // 256, n % 256]),) for n in range(999)],
        )

    assert "1,000 tokens, the most" in token("create", "--scope", "read", "--name", "one more").stderr
