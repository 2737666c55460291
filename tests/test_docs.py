"""The documentation is true: pages made from the program are up to date, and what the prose names exists."""

import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from llmscope.cli import cli
from llmscope.reference import COMMANDS, PAGES, WITHOUT_FLAG
from llmscope.settings import Settings, flag_of

ROOT = Path(__file__).parent.parent
PROSE = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_says_what_the_program_does(name: str) -> None:
    made = (ROOT / "docs" / name).read_text(encoding="utf-8")

    assert made == PAGES[name](), "run .venv/bin/python -m llmscope.reference"


def test_every_command_is_documented() -> None:
    assert set(get_command(cli).commands) == set(COMMANDS)  # type: ignore[attr-defined]


def test_every_setting_has_the_flag_that_its_page_names() -> None:
    flags = {
        option
        for command in get_command(cli).commands.values()  # type: ignore[attr-defined]
        for parameter in command.params
        for option in parameter.opts
    }
    named = {flag_of(name) for name in Settings.model_fields if name not in (*WITHOUT_FLAG, "targets")}

    assert named | {"--target", "--model"} <= flags


@pytest.mark.parametrize("document", PROSE, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if "://" not in link and not link.startswith("#")]

    assert [link for link in local if not (document.parent / link).exists()] == []


def test_every_decision_is_in_the_list_of_decisions() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))

    assert listed == sorted(path.name for path in folder.glob("0*.md"))


def test_every_dependency_is_pinned_by_name_and_version_alone() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {_normal(line.partition("==")[0]) for line in lines}
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"], "hatchling"]

    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)] == []
    assert {_normal(re.split(r"[\[<>=~! ]", name)[0]) for name in asked} - pinned == set()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_changelog_has_an_entry_for_this_version() -> None:
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
