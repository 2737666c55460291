"""The package: a wheel carries the page, and a build that cannot make the page says why in one sentence."""

import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = "llmscope/dashboard/index.html"
NPM = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/asked"
[ "$1" = ci ] || { mkdir -p ../src/llmscope/dashboard && echo built > ../src/llmscope/dashboard/index.html; }
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a build reads, without node_modules and without a page."""
    copy = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("node_modules", "dashboard", "__pycache__", "tests", ".*_cache")
    for name in ("src", "web", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore", "constraints.txt"):
        shutil.copy2(ROOT / name, copy / name)
    (copy / ".git").mkdir()
    return copy


def with_page(checkout: Path) -> Path:
    page = checkout / "src" / PAGE
    page.parent.mkdir()
    page.write_text("the page")
    return page


def with_tools(folder: Path, node_version: str = "v22.1.0") -> Path:
    """A folder with an npm that writes a page, and a node of that version."""
    for name, text in (("npm", NPM), ("node", f"#!/bin/sh\necho {node_version}\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    return folder


def build(
    checkout: Path, target: str = "wheel", tools: Path | None = None, **variables: str
) -> tuple[Path | None, str]:
    """What hatchling made, None when it failed, and what it said; `tools` is where npm and node may be."""
    made = checkout.parent / f"made-{target}"
    path = "/nowhere" if tools is None else f"{tools}:{os.defpath}"
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(made)],
        cwd=checkout,
        env={"PATH": path, "HOME": str(checkout.parent), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return (next(made.iterdir()) if done.returncode == 0 else None), done.stdout + done.stderr


def names(wheel: Path | None) -> list[str]:
    assert wheel is not None
    with zipfile.ZipFile(wheel) as packed:
        return packed.namelist()


def test_the_wheel_of_this_checkout_carries_the_whole_page(tmp_path: Path) -> None:
    page = ROOT / "src" / "llmscope" / "dashboard"
    assert (page / "index.html").exists(), "scripts/install builds it"
    (tmp_path / "made").mkdir()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "made")],
        cwd=ROOT,
        env={**os.environ, "LLMSCOPE_SKIP_WEB": "1"},
        capture_output=True,
        check=True,
    )
    packed = names(next((tmp_path / "made").iterdir()))

    files = {str(path.relative_to(ROOT / "src")) for path in page.rglob("*") if path.is_file()}
    assert files - set(packed) == set()
    assert "llmscope/py.typed" in packed
    assert [name for name in packed if not name.startswith(("llmscope/", "llmscope-"))] == []


def test_without_npm_and_page_the_build_stops_with_one_sentence(checkout: Path) -> None:
    wheel, said = build(checkout)

    assert wheel is None
    assert "Traceback" not in said
    assert said.strip().splitlines()[-1] == (
        "llmscope: building the dashboard needs Node.js 20.19 or newer; npm was not found. "
        "Install it, or set LLMSCOPE_SKIP_WEB=1 to build without the dashboard."
    )


def test_an_old_node_is_named_with_its_version(checkout: Path, tmp_path: Path) -> None:
    wheel, said = build(checkout, tools=with_tools(tmp_path, "v18.20.4"))

    assert wheel is None
    assert "needs Node.js 20.19 or newer; this is v18.20.4." in said


def test_the_page_is_built_when_there_is_none(checkout: Path, tmp_path: Path) -> None:
    wheel, _ = build(checkout, tools=with_tools(tmp_path))

    assert PAGE in names(wheel)
    assert [line.split()[0] for line in (tmp_path / "asked").read_text().splitlines()] == ["ci", "run"]


def test_a_page_newer_than_its_sources_is_not_built_again(checkout: Path, tmp_path: Path) -> None:
    with_page(checkout)
    wheel, _ = build(checkout, tools=with_tools(tmp_path))

    assert PAGE in names(wheel)
    assert not (tmp_path / "asked").exists()


def test_a_page_older_than_its_sources_is_built_again_where_npm_is(checkout: Path, tmp_path: Path) -> None:
    page = with_page(checkout)
    os.utime(page, (0, 0))
    wheel, said = build(checkout)
    assert PAGE in names(wheel)
    assert "the dashboard is packed as it was last built" in said

    build(checkout, tools=with_tools(tmp_path))
    assert page.read_text() == "built\n"


def test_a_wheel_without_the_page_can_be_asked_for(checkout: Path) -> None:
    wheel, _ = build(checkout, LLMSCOPE_SKIP_WEB="1")

    assert PAGE not in names(wheel)


def test_a_source_package_carries_the_page_and_needs_no_npm(checkout: Path, tmp_path: Path) -> None:
    with_page(checkout)
    packed, _ = build(checkout, "sdist")
    assert packed is not None
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()

    assert (unpacked / "web" / "package-lock.json").exists()
    assert (unpacked / "web" / ".npmrc").exists()
    assert PAGE in names(build(unpacked)[0])
