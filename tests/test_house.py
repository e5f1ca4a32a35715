"""The house rules of the code: floors, names, docstrings, and what travels with the package.

The rules for the documents stand in `test_documents`, those for the containers in `test_containers`.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("app", "models", "training", "workers")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "misc", "manager"}
MACHINE_PATH = re.compile(rb"/(home/\w+|Users/\w+|root)/|" + re.escape(bytes(ROOT)) + rb"\b")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a Python module's command line in the project's folder."""
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120)


def tracked_files() -> list[Path]:
    """Every file of the project that git keeps and that is there, relative to its root."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in names.split("\0") if name and (ROOT / name).is_file()]


def test_the_floors_hold() -> None:
    report = run("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
    assert report.returncode == 0, report.stdout


def test_importing_the_http_face_loads_no_engine() -> None:
    heavy = "{'torch', 'onnxruntime', 'monai', 'onnx'}"
    report = run("-c", f"import sys, app.main; print(sorted({heavy} & sys.modules.keys()))")
    assert report.stdout.strip() == "[]", report.stderr


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [path for path in tracked_files() if path.stem in EMPTY_NAMES] == []


def test_no_tracked_file_knows_a_path_of_the_machine_it_was_made_on() -> None:
    assert [path for path in tracked_files() if MACHINE_PATH.search((ROOT / path).read_bytes())] == []


def test_every_test_folder_is_a_package() -> None:
    folders = {path.parent for path in tracked_files() if path.match("tests/**/test_*.py")}
    assert [folder for folder in folders if not (ROOT / folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("room", ROOMS)
def test_everything_public_in_a_room_is_documented(room: str) -> None:
    assert [name for path in sorted((ROOT / room).rglob("*.py")) for name in undocumented(path)] == []


def undocumented(path: Path) -> Iterator[str]:
    """Yields the module, and its public classes, functions and methods, that have no docstring."""
    module = ast.parse(path.read_text())
    if module.body and not ast.get_docstring(module):
        yield str(path.relative_to(ROOT))
    for name, node in public_definitions(module):
        if not ast.get_docstring(node):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {name}"


def public_definitions(
    scope: ast.Module | ast.ClassDef,
) -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yields name and node of the public definitions in a module or class, and of those in its public classes.

    A property is a value with a name, like any other field of its class, and is told by that.
    """
    for node in scope.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        if any(isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in node.decorator_list):
            continue
        yield node.name, node
        if isinstance(node, ast.ClassDef):
            yield from public_definitions(node)


def test_what_is_not_python_travels_with_its_package() -> None:
    package_data = PYPROJECT["tool"]["setuptools"]["package-data"]
    left_behind = [
        path
        for path in tracked_files()
        if path.parts[0] in ROOMS and path.suffix != ".py" and path.parts[:2] != ("models", "bundles")
        if not any(fnmatch("/".join(path.parts[1:]), glob) for glob in package_data.get(path.parts[0], []))
    ]
    assert left_behind == []


def test_the_changelog_opens_with_what_is_to_come_and_the_version_of_the_package() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    versions = [heading for heading in headings[:2] if heading != "Unreleased"]
    assert versions[0] == PYPROJECT["project"]["version"]
