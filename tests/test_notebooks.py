"""The notebooks of the documentation run, and have the text of their sources."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import napari_srast
from napari_srast.core.region import Region
from napari_srast.core.slide import Slide

DOCS = Path(__file__).resolve().parents[1] / "docs"
SOURCES = sorted((DOCS / "notebooks").glob("*.py"))
_spec = importlib.util.spec_from_file_location("make_notebooks", DOCS / "make_notebooks.py")
make_notebooks: ModuleType = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_notebooks)


@pytest.fixture(scope="module")
def upsample_once() -> Callable[..., Any]:
    """Return ``upsample`` that computes equal runs of several notebooks once."""
    results: dict[Any, Any] = {}
    run = napari_srast.upsample

    def upsample(slide: Slide, region: Region | None = None, genes: Any = None, **settings: Any) -> Any:
        key = (str(slide.source), None if region is None else region.wkt, tuple(genes), tuple(sorted(settings.items())))
        if key not in results:
            results[key] = run(slide, region, genes, **settings)
        return results[key]

    return upsample


def imported(source: str) -> set[str]:
    """Return the packages that a script imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found


WITH_WINDOW = """
import sys
from functools import partial
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import make_notebooks, matplotlib, napari_srast
matplotlib.use("Agg")
napari_srast.upsample = partial(napari_srast.upsample, method="gp")  # the other notebooks run the network
namespace = {"__name__": "notebook"}
for kind, text in make_notebooks.cells(Path(sys.argv[2]).read_text(encoding="utf-8")):
    if kind == "code":
        exec(compile(text, "notebook", "exec"), namespace)
"""


def run_with_window(path: Path, folder: Path) -> None:
    """Run a notebook that opens napari in a process of its own, so that no window is left for other tests."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        pytest.skip("there is no display; start the tests with xvfb-run")
    command = [sys.executable, "-W", "ignore", "-c", WITH_WINDOW, str(DOCS), str(path)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "equal at 20 pixels" in done.stdout


def test_there_are_notebooks() -> None:
    assert len(SOURCES) >= 7


@pytest.mark.slow
@pytest.mark.xdist_group("notebooks")
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_notebook_runs(
    path: Path, upsample_once: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notebooks check their own statements by ``assert``."""
    source = path.read_text(encoding="utf-8")
    for package in sorted(imported(source)):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'napari-srast[analysis,notebooks]'")
    if "napari" in imported(source):
        run_with_window(path, tmp_path)
        return
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(napari_srast, "upsample", upsample_once, raising=False)
    namespace: dict[str, Any] = {"__name__": "notebook"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number, (kind, text) in enumerate(make_notebooks.cells(source)):
                if kind == "code":
                    exec(compile(text, f"{path.name}, cell {number}", "exec"), namespace)
            for figure in pyplot.get_fignums():
                pyplot.figure(figure).savefig(os.devnull, format="png", dpi=30)
    finally:
        pyplot.close("all")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_notebook_for_download_is_that_of_the_source(path: Path) -> None:
    """After a change of a source, run ``python docs/make_notebooks.py NAME``."""
    notebook = json.loads(path.with_suffix(".ipynb").read_text(encoding="utf-8"))
    stored = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert stored == make_notebooks.cells(path.read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)
    written = json.dumps(notebook)
    here = (Path.home(), DOCS.parent, Path(tempfile.gettempdir()))
    assert not [folder for folder in here if f"{folder}{os.sep}" in written]
    assert not re.search(r"/(home|Users)/\w", written)  # those of another computer


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_notebook_states_what_is_a_pixel_and_a_replicate(path: Path) -> None:
    text = "\n".join(
        text for kind, text in make_notebooks.cells(path.read_text(encoding="utf-8")) if kind == "markdown"
    )
    assert "**pixel**" in text
    assert "**replicate**" in text


def test_cells_of_a_script() -> None:
    script = "# %% [markdown]\n# # Title\n#\n# Text\n\n# %%\nx = 1\n\n# %%\ny = 2\n"
    assert make_notebooks.cells(script) == [("markdown", "# Title\n\nText"), ("code", "x = 1"), ("code", "y = 2")]
