"""`scripts/audit`: what it makes of the answers of the indexes, and of an index that does not answer."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parent.parent / "scripts" / "audit"
FOUND = '{"vulnerabilities": {"left-pad": {"severity": "%s"}, "fine": {"severity": "low"}}}'


def audited(folder: Path, npm: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script beside an npm that says so."""
    (folder / "npm").write_text(f"#!/bin/sh\n{npm}\n")
    (folder / "npm").chmod(stat.S_IRWXU)
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_PYTHON, str(AUDIT)],
        env={"PATH": f"{folder}:{os.defpath}", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


WITHOUT_PYTHON = """
import runpy, sys
script = runpy.run_path(sys.argv[1])
script["main"].__globals__["python"] = lambda: None
sys.exit(script["main"]())
"""  # the index of Python packages is not asked by a test


@pytest.mark.parametrize(("severity", "status"), [("critical", 1), ("high", 1), ("moderate", 0)])
def test_what_is_severe_fails(tmp_path: Path, severity: str, status: int) -> None:
    done = audited(tmp_path, f"echo '{FOUND % severity}'; exit 1")

    assert done.returncode == status, done.stdout + done.stderr
    assert ("left-pad" in done.stdout) == bool(status)
    assert "fine" not in done.stdout


def test_what_was_looked_at_can_be_left_out(tmp_path: Path) -> None:
    assert audited(tmp_path, f"echo '{FOUND % 'high'}'", AUDIT_IGNORE="left-pad").returncode == 0


@pytest.mark.parametrize("npm", ["exit 1", "echo '{\"error\": {}}'; exit 1", "echo no JSON"])
def test_an_index_that_does_not_answer_is_named_and_passes(tmp_path: Path, npm: str) -> None:
    done = audited(tmp_path, npm)

    assert done.returncode == 0
    assert "the npm index does not answer" in done.stdout
