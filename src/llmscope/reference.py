"""The documentation that is made from the program: settings, commands, and the OpenAPI file.

`python -m llmscope.reference` writes them into docs/; a test fails when they drift.
"""

import json
import re
import sys
from pathlib import Path

from typer.testing import CliRunner

from llmscope.api import openapi
from llmscope.cli import cli
from llmscope.settings import Settings, flag_of, variables_of

COMMANDS = (
    "up",
    "serve",
    "monitor",
    "simulate",
    "analyze",
    "backtest",
    "backup",
    "restore",
    "repair",
    "export",
    "import",
    "token",
    "doctor",
)
PARTS = {"token": ("create", "list", "revoke")}
WITHOUT_FLAG = (
    "api_key",
    "password",
    "password_file",
    "login_lasts",
    "ingest_token",
    "token",
    "published_on",
    "allowed_hosts",
    "trusted_proxies",
    "allow_link_local",
)
MADE = "<!-- Made by `python -m llmscope.reference`; do not edit. -->\n"
COLOUR = re.compile("\x1b\\[[0-9;]*m")  # Typer writes it into pipes too where it thinks that it runs in a CI
TARGETS = """
A wrong value stops the start with one sentence that names the flag, variable or key (exit code 2); so does an
unknown key in the file. An `LLMSCOPE_` variable that no setting reads is only pointed out. An empty variable counts
as not set.

## Targets

What to watch comes from the first of these that names an address:

1. `--target`, repeated for several, each with the `--model` at the same place;
2. `LLMSCOPE_TARGETS`, a JSON list such as `[{"url": "http://a:11434", "model": "llama3"}]`;
3. `OLLAMA_BASE_URL`, else `OLLAMA_HOST`, in all the forms that Ollama takes (`gpu-box`, `gpu-box:9000`, `0.0.0.0`);
4. `targets` in `llmscope.toml`;
5. `http://localhost:11434`.

A single address takes its model from `--model`, else `OLLAMA_MODEL`, else the file, else it is the loaded one, else
the first that the server lists. An address that ends in `/v1` is OpenAI-compatible; of others the server is asked.
When none of 1 to 4 says anything, no model is named, and no Ollama answers, `llmscope up` watches the simulator and
says so.

## llmscope.toml

```toml
interval = "2s"

[[targets]]
url = "http://localhost:11434"
model = "llama3.1:8b"

[[targets]]
url = "http://gpu-box:8000/v1"
model = "qwen2.5"
provider = "openai"   # "auto" (the default) finds it out
```
"""


def settings_page() -> str:
    """Every setting with its flag, variables and default, as Markdown."""
    lines = [
        MADE,
        "# Settings\n",
        "Flags win over environment variables, these over `llmscope.toml` in the working directory (or the file that\n"
        "`--config` or `LLMSCOPE_CONFIG` names), that over the default.\n",
        "| in llmscope.toml | flag | environment | default | meaning |",
        "|---|---|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        flags = ["--target", "--model"] if name == "targets" else [flag_of(name)]
        cells = (
            _code([name]),
            "" if name in WITHOUT_FLAG else _code(flags),
            _code(variables_of(name)),
            "" if field.default_factory or field.default in (None, ()) else _code([_shown(field.default)]),
            field.description,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n" + TARGETS


def _code(texts: list[str]) -> str:
    return ", ".join(f"`{text}`" for text in texts)


def _shown(value: object) -> str:
    """A default as it is written in a variable or in the file."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def commands_page() -> str:
    """`--help` of every command, as Markdown."""
    runner = CliRunner(env={"COLUMNS": "100", "TERM": "xterm", "LLMSCOPE_CONFIG": None})
    parts = [MADE, "# Commands\n"]
    whole = [name for command in COMMANDS for name in (command, *_parts_of(command))]
    for command in ("", *whole):
        words = [*command.split(), "--help"]
        shown = COLOUR.sub("", runner.invoke(cli, words, prog_name="llmscope").output)
        text = "\n".join(line.rstrip() for line in shown.strip("\n").splitlines())
        parts.append(f"## `{('llmscope ' + command).strip()}`\n")
        parts.append(f"```text\n{text}\n```\n")
    return "\n".join(parts)


def _parts_of(command: str) -> list[str]:
    return [f"{command} {part}" for part in PARTS.get(command, ())]


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
    main()
