"""Layers are found by their objects and roles: napari adds " [1]" to a name that exists already."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from napari_srast import gui

pytestmark = pytest.mark.gui
FOLDER = Path(gui.__file__).parent
KEEPS_NAMES = FOLDER / "layers" / "layer_names.py"
"""Compares the name of a layer with the one that it has given it, to see whether the user has changed it."""


def lookups(code: str) -> Iterator[int]:
    """Yield the lines in which a layer is found by its name."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant | ast.JoinedStr):
            is_text = isinstance(node.slice, ast.JoinedStr) or isinstance(node.slice.value, str)
            if is_text and isinstance(node.value, ast.Attribute | ast.Name) and "layers" in ast.unparse(node.value):
                yield node.lineno
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
            if any(ast.unparse(part).endswith(("layer.name", "l.name")) for part in parts):
                yield node.lineno


def test_no_layer_is_found_by_its_name() -> None:
    files = [path for path in FOLDER.rglob("*.py") if path != KEEPS_NAMES]
    assert len(files) > 100
    found = [f"{path.name}:{line}" for path in files for line in lookups(path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    "code",
    ["viewer.layers['SRast region']", "layers[f'{name}']", "[l for l in x if l.name == 'a']", "layer.name in names"],
)
def test_lookups_by_name_are_detected(code: str) -> None:
    assert list(lookups(code)) == [1]
