"""Dependencies point one way: who may import whom, with the imports that hide inside functions counted too."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "llmscope"

ALLOWED: dict[str, set[str]] = {
    "observation": set(),
    "settings": {"access"},
    "live": set(),
    "host": set(),
    "simulator": set(),
    "spc": set(),
    "access": set(),
    "destination": set(),
    "probe": {"observation", "destination"},
    "outbox": {"observation"},
    "monitor": {"observation", "probe", "host", "outbox"},
    "engine": {"observation", "spc"},
    "store": {"observation", "spc", "access"},
    "rolling": {"store"},
    "notify": {"spc"},
    "cause": {"store"},
    "documents": {"observation", "spc", "store", "engine", "cause"},
    "findings": {"observation", "spc", "store", "engine", "live", "documents", "cause"},
    "ingest": {"observation", "spc", "store", "engine", "live", "notify", "documents", "findings"},
    "api": {"access", "observation", "spc", "store", "engine", "ingest", "findings", "live", "documents"},
    "opening": {"store"},
    "app": {
        "observation", "settings", "live", "host", "simulator", "spc", "probe", "outbox", "monitor", "engine", "store",
        "opening", "rolling", "notify", "documents", "findings", "ingest", "api", "access",
    },
    "doctor": {"settings", "host", "probe", "store"},
    "analyze": {"spc"},
    "plot": {"analyze"},
    "backtest": {"observation", "spc", "engine", "store", "documents"},
    "offline": {"settings", "spc", "analyze", "plot", "backtest"},
    "exchange": {"observation", "store", "documents", "ingest"},
    "upkeep": {"settings", "store"},
    "transfer": {"app", "opening", "documents", "exchange", "settings", "store", "upkeep"},
    "cli": {"app", "monitor", "simulator", "settings", "doctor", "offline", "opening", "credentials", "upkeep",
        "transfer",
    },
    "credentials": {"access", "settings", "store"},
    "reference": {"api", "cli", "settings"},
    "__main__": {"cli"},
    "__init__": set(),
}  # fmt: skip
"""Part by part, what of ours it may import; what is not listed is forbidden. The version, which stands in the
package itself, is everybody's."""

WITHOUT_INPUT_OR_CLOCK = ("spc", "engine")
THE_WORLD = {
    "aiohttp", "asyncio", "datetime", "http", "io", "logging", "os", "pathlib", "socket", "sqlite3", "subprocess",
    "threading", "time", "urllib", "uvicorn",
}  # fmt: skip


def part_of(module: Path) -> str:
    """The package or module of ours to which a file belongs."""
    return module.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(module: Path) -> set[str]:
    """Absolute names of everything that a file imports, at the top, in functions, or for types only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import hides where it leads"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "__import__",
        ):
            assert isinstance(node.args[0], ast.Constant), f"{module}: an import of a computed name"
            names.add(str(node.args[0].value))
    return names


def ours(module: Path) -> set[str]:
    """The parts of ours that a file imports, its own left out."""
    dotted = (name.split(".") for name in imported(module) if name.split(".")[0] == "llmscope")
    parts = {name[1] if len(name) > 1 else "__init__" for name in dotted}
    return parts - {part_of(module), "__version__"}


MODULES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(SOURCE)))
def test_a_module_imports_only_what_its_part_may(module: Path) -> None:
    assert part_of(module) in ALLOWED, "say in ALLOWED what the new part may import"

    assert ours(module) - ALLOWED[part_of(module)] == set()


def test_nothing_goes_in_circles() -> None:
    left = dict(ALLOWED)
    while free := {part for part, needs in left.items() if not needs & left.keys()}:
        left = {part: needs for part, needs in left.items() if part not in free}

    assert left == {}


@pytest.mark.parametrize("part", WITHOUT_INPUT_OR_CLOCK)
def test_what_judges_reads_no_clock_and_touches_no_disk_or_network(part: str) -> None:
    modules = [module for module in MODULES if part_of(module) == part]
    reached = {name.split(".")[0] for module in modules for name in imported(module)}

    assert modules
    assert reached & THE_WORLD == set()


def test_imports_hidden_in_functions_are_seen(tmp_path: Path) -> None:
    module = tmp_path / "hidden.py"
    module.write_text("def late():\n    from llmscope import app\n    import llmscope.store.rows\n")

    assert imported(module) == {"llmscope.app", "llmscope.store.rows"}
