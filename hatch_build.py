"""Build hook: puts the built dashboard into the wheel and the sdist.

An editable install does not build the page (scripts/install does). A page that is newer than its sources is taken
as it is, and so is the one in an sdist, which therefore needs no Node. `LLMSCOPE_SKIP_WEB=1` takes what is there;
without a page the API then says so at `/`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_AT_LEAST = (20, 19)
NEEDS = "building the dashboard needs Node.js 20.19 or newer"
GENERATED = "schema.ts"  # from docs/openapi.json, by each build and each type check
REMEDY = "Install it, or set LLMSCOPE_SKIP_WEB=1 to build without the dashboard."


class DashboardHook(BuildHookInterface):
    """Runs npm in web/ unless the page is there already."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        page = root / "src" / "llmscope" / "dashboard" / "index.html"
        is_sdist = (root / "PKG-INFO").exists()
        if version == "editable" or os.environ.get("LLMSCOPE_SKIP_WEB") == "1":
            return
        if page.exists() and (is_sdist or not is_stale(page, root)):
            return
        if (npm := shutil.which("npm")) is None or (node := shutil.which("node")) is None:
            if page.exists():
                print(
                    "llmscope: npm was not found; the dashboard is packed as it was last built",
                    file=sys.stderr,
                )
                return
            stop(f"{NEEDS}; npm was not found. {REMEDY}")
        shown = subprocess.run(
            [node, "--version"], capture_output=True, text=True, check=False
        ).stdout.strip()
        found = re.match(r"v(\d+)\.(\d+)", shown)
        if found is None or (int(found[1]), int(found[2])) < NODE_AT_LEAST:
            stop(f"{NEEDS}; this is {shown}. {REMEDY}")
        for words in (["ci", "--no-audit", "--no-fund", "--loglevel=error"], ["run", "--silent", "build"]):
            if subprocess.run([npm, *words], cwd=root / "web", check=False).returncode != 0:
                stop(f"building the dashboard failed at `npm {words[0]}` in web/; what it said stands above.")


def is_stale(page: Path, root: Path) -> bool:
    """Whether a source of the page is newer than the page; the same question as in scripts/install."""
    built = page.stat().st_mtime
    for folder, folders, files in os.walk(root / "web"):
        folders[:] = [name for name in folders if name != "node_modules"]
        sources = [Path(folder) / name for name in files if name != GENERATED]
        if any(source.stat().st_mtime > built for source in sources):
            return True
    return (root / "docs" / "openapi.json").stat().st_mtime > built


def stop(sentence: str) -> NoReturn:
    """End the build with one sentence instead of a traceback."""
    raise SystemExit(f"llmscope: {sentence}")
