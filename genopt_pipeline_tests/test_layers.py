"""The direction of imports, as the design draws it."""

import ast
from pathlib import Path

import pytest

import genopt_pipeline

PACKAGE = Path(genopt_pipeline.__file__).parent
ALLOWED = {
    "core": {"core"},
    "store": {"store", "core", "settings"},
    "sandbox": {"sandbox", "core"},
    "sources": {"sources", "sandbox", "core"},
    "report": {"report", "core"},
    "settings": set(),
    "defs": {"defs", "store", "sources", "sandbox", "report", "core", "settings"},
    "definitions": {"defs"},
    "cli": {"cli", "defs", "store", "sources", "sandbox", "report", "core", "settings"},
    "__init__": {"store"},
}
NOT_IN_CORE = {"dagster", "sqlalchemy", "psycopg", "httpx", "authlib", "requests", "typer"}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            if node.module == "genopt_pipeline":
                yield from (f"genopt_pipeline.{alias.name}" for alias in node.names)


def layer_of(path):
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_layers_below_it(path):
    allowed = ALLOWED[layer_of(path)]
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "genopt_pipeline" and len(parts) > 1:
            known = (PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").is_file()
            if known:
                assert parts[1] in allowed, f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_defs_and_commands_import_dagster(path):
    if layer_of(path) not in {"defs", "cli"}:
        assert not any(name.split(".")[0].startswith("dagster") for name in imported(path))


def test_core_is_pure():
    for path in modules():
        if layer_of(path) == "core":
            tops = {name.split(".")[0] for name in imported(path)}
            assert not tops & NOT_IN_CORE, path
            text = path.read_text(encoding="utf-8")
            for impure in ("datetime.now(", "time.time(", "np.random.seed", "os.environ", "open("):
                assert impure not in text, f"{path}: {impure}"


def test_every_package_of_the_tests_mirrors_one_of_the_code():
    tests = Path(__file__).parent
    mirrored = {path.name for path in tests.iterdir() if path.is_dir()} - {"__pycache__", "data"}
    assert mirrored <= {path.name for path in PACKAGE.iterdir() if path.is_dir()}
