"""The import rules: light start-up, imports go downwards, napari only in gui/, spatialdata only in io/."""

from __future__ import annotations

import ast
import json
import re
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
LAYERS = (  # from the bottom up: a folder imports only folders that are named before it
    "__init__",
    "_build_version",
    "_version",
    "errors",
    "arrays",
    "_utils",
    "geometry",
    "core",
    "interpolation",
    "histology",
    "models",
    "calibration",
    "checkpoints",
    "io",
    "simulation",
    "datasets",
    "inference",
    "api",
    "evaluation",
    "benchmarks",
    "training",
    "analysis",
    "gui",
    "cli",
    "__main__",
)


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _module(path: Path) -> str:
    return ".".join(("napari_srast", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def _imports(path: Path, *, type_checking: bool = True) -> Iterator[str]:
    """Yield every imported module; without ``type_checking``, not those that only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in only_typing and not type_checking:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            yield node.module
            if node.module.startswith("napari_srast"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


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
def test_each_module_imports_lower_folders_only(path: Path) -> None:
    part = _part(path)
    assert part in LAYERS, f"{part} is new: give it a place in LAYERS and in docs/architecture.md"
    for name in _imports(path):
        target = name.split(".")[1] if name.startswith("napari_srast.") else ""
        if target in LAYERS and part != "__init__":  # the package's __init__ names everything, for type checkers
            assert LAYERS.index(target) <= LAYERS.index(part), f"{part} is below {target} and must not import it"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_framework_has_one_home(path: Path) -> None:
    for name in _imports(path, type_checking=False):
        top = name.partition(".")[0]
        if top in ("napari", "qtpy", "superqt", "magicgui", "vispy", "PyQt6"):
            assert _part(path) == "gui", f"only gui/ may import {top}"
        if top in ("spatialdata", "spatialdata_io"):
            assert _part(path) == "io", f"only io/ may import {top}"


def test_no_modules_import_each_other_in_a_cycle() -> None:
    paths = {_module(path): path for path in MODULES if path != PACKAGE / "__init__.py"}
    graph = {module: {name for name in _imports(path) if name in paths} for module, path in paths.items()}
    graph = {module: {t for t in targets if t != module} for module, targets in graph.items()}
    # A package that a module imports from counts as the modules it names, so a re-exporting __init__ closes no cycle.
    while leaves := [module for module, targets in graph.items() if not targets & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert sorted(graph) == [], "these modules take part in an import cycle, or import one"


def test_public_names_exist() -> None:
    for name in napari_srast.__all__:
        assert getattr(napari_srast, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        napari_srast.nothing  # noqa: B018


def test_imported_packages_are_declared() -> None:
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    names = {_requirement(text) for text in declared}
    distribution = {
        "mpl_toolkits": "matplotlib",
        "PIL": "pillow",
        "skimage": "scikit_image",
        "sklearn": "scikit_learn",
        "lightning": "lightning_fabric",
        "umap": "umap_learn",
        "smoother": "smoother_omics",
        "smoothie": "smoothie_st",
        "gaston": "gaston_spatial",
    }
    used = {name.partition(".")[0] for path in MODULES for name in _imports(path, type_checking=False)}
    foreign = used - set(sys.stdlib_module_names) - {"napari_srast"}
    assert {top for top in foreign if distribution.get(top, top).lower() not in names} == set()


def _requirement(text: str) -> str:
    end = next((i for i, letter in enumerate(text) if not (letter.isalnum() or letter in "-_.")), len(text))
    return text[:end].replace("-", "_").lower()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_and_classes_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            methods = [item.name for item in node.body if isinstance(item, ast.FunctionDef)]
            assert len([name for name in methods if not name.startswith("_")]) <= 25, node.name


def test_files_named_in_the_architecture_exist() -> None:
    page = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^\| .*\? \| `", page, re.MULTILINE)) == 10
    for name in re.findall(r"`([a-z_/]+\.py)`", page):
        assert (PACKAGE / name).exists() or (PACKAGE.parents[1] / name).exists(), name
