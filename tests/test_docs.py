"""The documentation is correct: examples run, commands exist, links have targets."""

from __future__ import annotations

import ast
import copy
import doctest
import importlib
import importlib.util
import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import napari_srast
from napari_srast.cli import app

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(napari_srast.__file__).parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_EXAMPLES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstring_examples_run(path: Path) -> None:
    name = ".".join(("napari_srast", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    done = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert done.attempted > 0
    assert done.failed == 0


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_in_pages_are_accepted(path: Path) -> None:
    """The real parser accepts every ``napari-srast`` line of a page: options, values and number of arguments."""
    commands: Any = typer.main.get_command(app)
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["napari-srast"] and len(words) > 1 and words[1] != "--version":
                commands.commands[words[1]].make_context(words[1], words[2:])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_python_examples_use_public_names(path: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "srast":
                assert node.attr in napari_srast.__all__, f"{path.name}: srast.{node.attr}"
            elif isinstance(node, ast.ImportFrom) and importlib.util.find_spec(str(node.module).partition(".")[0]):
                module = importlib.import_module(str(node.module))
                for name in node.names:
                    assert hasattr(module, name.name), f"{path.name}: {name.name} of {node.module}"


def test_messages_in_the_faq_are_printed_by_the_package() -> None:
    """A heading in quotation marks is a part of a message; it changes with the message."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    joined = re.sub(r"\"\s*\n\s*f?\"", "", sources)  # literals that continue on the next line
    messages = re.findall(r'^### "(.*)"$', (ROOT / "docs" / "faq.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(messages) >= 5
    for message in messages:
        assert message.replace("'spatial'", "'{key}'") in joined or message in joined, message


@pytest.fixture(scope="module")
def make_quotes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_quotes", ROOT / "docs" / "make_quotes.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_figures_in_pages_are_those_of_their_json_files(make_quotes: ModuleType) -> None:
    """After a new measurement run ``python docs/make_quotes.py``, and read the sentences around the numbers."""
    assert make_quotes.update(check=True) == []
    assert len(make_quotes.quotes()) > 30


def test_changed_figure_is_found_and_written(make_quotes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    load = make_quotes.load
    changed = copy.deepcopy(load("results/fine_truth.json"))
    changed["visiumhd_human_kidney_a"]["methods"]["srast"]["nats_per_count"] = 0.5
    monkeypatch.setattr(make_quotes, "load", lambda name: changed if name.endswith("fine_truth.json") else load(name))
    differs = make_quotes.update(check=True)
    assert {"docs/results/index.md", "README.md"} <= {line.partition(":")[0] for line in differs}
    table = next(quote for quote in make_quotes.quotes() if quote.page == "README.md")
    page = make_quotes.written(table, (ROOT / "README.md").read_text(encoding="utf-8"))
    assert "pixels of 16 µm | 0.500 |" in page


def test_version_matches_citation() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert f"version: {project['tool']['hatch']['version']['fallback-version']}\n" in citation
    if "dev" not in napari_srast.__version__:
        assert f"version: {napari_srast.__version__}\n" in citation
