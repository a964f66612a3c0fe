"""The import rules: light at the start, one direction of arrows, napari only in gui/ and spatialdata only in io/."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import napari_srast

PACKAGE = Path(napari_srast.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("anndata", "geopandas", "napari", "pandas", "qtpy", "spatialdata", "torch", "zarr")
LAYERS = {  # a part may import parts of its own or a lower level
    "__init__": 0,
    "drivers": 0,
    "errors": 0,
    "slide": 1,
    "geometry": 1,
    "interpolation": 2,
    "histology": 3,
    "models": 3,
    "splitting": 4,
    "forecast": 5,
    "pipeline": 5,
    "io": 5,
    "summary": 5,
    "checks": 5,
    "evaluation": 6,
    "training": 6,
    "gui": 7,
    "cli": 8,
    "__main__": 9,
}
LATE = {"slide": {"io"}}  # to_anndata and friends of a result, imported when called


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[str]:
    """Yield every imported module, save those that only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in only_typing:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            yield node.module
            if node.module == "napari_srast":
                yield from (f"napari_srast.{alias.name}" for alias in node.names)


def _fresh(code: str) -> dict[str, object]:
    """Run code in a new interpreter; return which heavy modules it loaded, and the processor's seconds."""
    script = (
        "import json, sys, time\nstart = time.process_time()\n"
        f"{code}\n"
        "seconds = time.process_time() - start\n"
        f"print(json.dumps({{'seconds': seconds, 'loaded': [m for m in {HEAVY!r} if m in sys.modules]}}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("code", ["import napari_srast", "import napari_srast.cli"])
def test_import_is_light_and_fast(code: str) -> None:
    figures = _fresh(code)
    assert figures["loaded"] == []
    assert figures["seconds"] < 0.5


def test_slides_and_settings_need_neither_torch_nor_napari_nor_spatialdata() -> None:
    figures = _fresh("import napari_srast as srast\nsrast.Slide, srast.Region, srast.UpsampleSettings(factor=4)")
    assert not {"torch", "napari", "qtpy", "spatialdata"} & set(figures["loaded"])


def test_running_without_a_window_loads_no_napari() -> None:
    code = "import napari_srast as srast\nsrast.read_slide, srast.upsample, srast.write_result, srast.evaluate"
    assert not {"napari", "qtpy"} & set(_fresh(code)["loaded"])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_module_keeps_the_arrows(path: Path) -> None:
    part = _part(path)
    assert part in LAYERS, f"{part} is new: give it a place in LAYERS and in docs/architecture.md"
    for name in _imports(path):
        top = name.partition(".")[0]
        if top in ("napari", "qtpy", "superqt", "magicgui", "vispy", "PyQt6"):
            assert part == "gui", f"only gui/ may import {top}"
        if top in ("spatialdata", "spatialdata_io"):
            assert part == "io", f"only io/ may import {top}"
        if top == "napari_srast" and "." in name:
            target = name.split(".")[1]
            allowed = target not in LAYERS or LAYERS[target] <= LAYERS[part] or target in LATE.get(part, set())
            assert allowed, f"{part} is below {target} and must not import it"


def test_public_names_exist() -> None:
    for name in napari_srast.__all__:
        assert getattr(napari_srast, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        napari_srast.nothing  # noqa: B018


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    names = {_requirement(text) for text in declared}
    distribution = {
        "PIL": "pillow",
        "skimage": "scikit_image",
        "sklearn": "scikit_learn",
        "lightning": "lightning_fabric",
        "umap": "umap_learn",
    }
    used = {name.partition(".")[0] for path in MODULES for name in _imports(path)}
    foreign = used - set(sys.stdlib_module_names) - {"napari_srast"}
    assert {top for top in foreign if distribution.get(top, top).lower() not in names} == set()


def _requirement(text: str) -> str:
    end = next((i for i, letter in enumerate(text) if not (letter.isalnum() or letter in "-_.")), len(text))
    return text[:end].replace("-", "_").lower()
