"""The documentation that is made from the program: settings, commands, and the OpenAPI file.

`python -m llmscope.reference` writes them into docs/; a test fails when they drift.
"""

import json
import os
import sys
from pathlib import Path

from pydantic import AliasChoices
from typer.testing import CliRunner

from llmscope.api import openapi
from llmscope.cli import cli
from llmscope.settings import Settings

COMMANDS = ("up", "serve", "monitor", "simulate", "doctor")
MADE = "<!-- Made by `python -m llmscope.reference`; do not edit. -->\n"


def settings_page() -> str:
    """Every setting with its environment variables and default, as Markdown."""
    lines = [
        MADE,
        "# Settings\n",
        "Flags win over environment variables, these over `llmscope.toml` in the working directory (or the file "
        "that `--config` or `LLMSCOPE_CONFIG` names), that over the default.\n",
        "| setting (llmscope.toml) | environment | default | meaning |",
        "|---|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        if field.exclude:
            continue
        alias = field.validation_alias
        names = [f"LLMSCOPE_{name.upper()}"]
        if isinstance(alias, AliasChoices):
            names = [str(choice) for choice in alias.choices if str(choice).isupper()]
        default = "" if field.default_factory or field.default is None else _shown(field.default)
        variables = ", ".join(f"`{variable}`" for variable in names)
        lines.append(f"| `{name}` | {variables} | {default} | {field.description} |")
    lines += [
        "",
        "The target has names of its own: `OLLAMA_HOST` (or `OLLAMA_BASE_URL`) is its address, `OLLAMA_MODEL` its "
        "model. In `llmscope.toml`:\n",
        '```toml\ninterval = "2s"\n\n[[targets]]\nurl = "http://localhost:11434"\nmodel = "llama3.1:8b"\n\n'
        '[[targets]]\nurl = "http://gpu-box:8000/v1"\nmodel = "qwen2.5"\n```\n',
    ]
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`"
    return f"`{value}`"


def commands_page() -> str:
    """`--help` of every command, as Markdown."""
    runner = CliRunner(env={"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"})
    parts = [MADE, "# Commands\n"]
    for command in ("", *COMMANDS):
        words = [command, "--help"] if command else ["--help"]
        shown = runner.invoke(cli, words, prog_name="llmscope").output
        text = "\n".join(line.rstrip() for line in shown.strip("\n").splitlines())
        parts.append(f"## `{('llmscope ' + command).strip()}`\n")
        parts.append(f"```text\n{text}\n```\n")
    return "\n".join(parts)


def openapi_file() -> str:
    """The OpenAPI document, stable from run to run."""
    return json.dumps(openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


PAGES = {"settings.md": settings_page, "commands.md": commands_page, "openapi.json": openapi_file}


def main() -> None:
    """Write the pages into docs/ of the working directory."""
    folder = Path("docs")
    if not folder.is_dir():
        raise SystemExit("llmscope.reference: run it in the root of a checkout (there is no docs/ here)")
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")
        sys.stdout.write(f"{folder / name}\n")


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"
    main()
