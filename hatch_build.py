"""Build hook: puts the built dashboard into the wheel and the sdist.

An editable install does not build the page (scripts/install does). An sdist that already carries the page
needs no Node. `LLMSCOPE_SKIP_WEB=1` builds a wheel without the page; the API then says so at `/`.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DashboardHook(BuildHookInterface):
    """Runs npm in web/ unless the page is there already."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or os.environ.get("LLMSCOPE_SKIP_WEB") == "1":
            return
        root = Path(self.root)
        page = root / "src" / "llmscope" / "dashboard" / "index.html"
        if page.exists() and not (root / ".git").exists():
            return  # an unpacked sdist: the page came with it
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit(
                "llmscope: building the dashboard needs Node.js 20 or newer (npm was not found). "
                "Install it, or set LLMSCOPE_SKIP_WEB=1 to build without the dashboard."
            )
        web = root / "web"
        subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=web, check=True)
        subprocess.run([npm, "run", "build"], cwd=web, check=True)
