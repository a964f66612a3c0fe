"""A reader can type what a page says: its commands and Python code run in order, in one folder, on small slides.

Runs use ``--method gp`` in place of the network, which the pages do not name; everything else is as written. Commands
that open a window, take long or need a cluster are left out.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shlex
import shutil
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import geopandas
import numpy as np
import pytest
import shapely
import spatialdata
from helpers.space_ranger import capture_area, write_visium, write_visium_hd
from PIL import Image
from scipy import sparse
from spatialdata.models import ShapesModel

import napari_srast
from napari_srast.cli import main

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LEFT_OUT = {"open", "demo", "train", "evaluate", "bench"}
GENES = ("ERBB2", "KRT19", "COL1A1", "COL3A1", "ESR1", "GeneA", "GeneB", "GeneC")
SIDE = 12
TISSUES = ("tumor", "stroma")


def steps(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the commands ("sh") and blocks of code ("python") of a page in order."""
    for kind, block in re.findall(r"```(sh|python)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        if kind == "python":
            yield kind, block
        else:
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("napari-srast ") and line.split()[1] not in LEFT_OUT | {"--version"}:
                    yield kind, line


def follow(page: Path, **names: Any) -> list[str]:
    """Run the steps of a page; ``names`` are the variables that its code does not define. Returns what ran."""
    namespace: dict[str, Any] = {"__name__": "page", "srast": napari_srast, **names}
    done: list[str] = []
    for kind, text in steps(page):
        if kind == "sh":
            words = shlex.split(text, comments=True)[1:]
            if words[0] == "upsample":
                words += ["--method", "gp"]
            assert main(words) == 0, f"{page.name}: {text}"
        else:
            packages = re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE)
            if any(importlib.util.find_spec(name) is None for name in packages):
                continue  # squidpy and spatialdata-plot, which the notebooks test
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(compile(text, page.name, "exec"), namespace)
        done.append(text)
    return done


def image_coordinates(folder: Path) -> str:
    """Return the coordinate system of the full-resolution image: pixels, and not micrometers."""
    store = spatialdata.read_zarr(folder / "hd.zarr")
    names = [name for name in store.coordinate_systems if name != "global" and not name.endswith(("hires", "lowres"))]
    (name,) = names
    return str(name)


def add_nuclei(path: Path) -> None:
    """Add shapes of two nuclei to a slide."""
    store = spatialdata.read_zarr(path)
    shapes = geopandas.GeoDataFrame(geometry=[shapely.box(300, 300, 420, 400), shapely.box(900, 500, 1000, 640)])
    store.shapes["cellpose_boundaries"] = ShapesModel.parse(shapes)
    store.write_element("cellpose_boundaries")


def write_samples(folder: Path, page: Path) -> None:
    """Write the table of samples of a page, its slides, which are those of ``breast.zarr``, and their annotations."""
    (table,) = re.findall(r"```text\n(slide,donor.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (folder / "samples.csv").write_text(table)
    features = []
    for name in TISSUES:
        feature = json.loads((folder / f"{name}.geojson").read_text())["features"][0]
        features.append(feature | {"properties": {"classification": {"name": name.capitalize()}}})
    for row in csv.DictReader(table.splitlines()):
        shutil.copytree(folder / "breast.zarr", folder / row["slide"], dirs_exist_ok=True)
        (folder / row["region"]).write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def box(x0: float, y0: float, x1: float, y1: float) -> str:
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    return json.dumps({"type": "FeatureCollection", "features": [feature]})


def write_table(
    path: Path, *, spacing: float = 200.0, unit: str | None = "um", image: bool = True, side: int = SIDE
) -> None:
    """Write a table of counts on a square lattice, and its image."""
    rng = np.random.default_rng(0)
    row, col = (a.ravel() for a in np.mgrid[:side, :side])
    waves = 2 + np.sin(row[:, None] / 2 + np.arange(len(GENES))) + np.cos(col[:, None] / 3)
    table = anndata.AnnData(sparse.csr_matrix(rng.poisson(10 * waves).astype(np.float32)))
    table.var_names, table.obs_names = list(GENES), [f"spot{i}" for i in range(side * side)]
    table.obsm["spatial"] = np.column_stack([col, row]) * spacing
    if unit is not None:
        table.uns["meta"] = {"coord_unit": unit}
    if image:
        table.obsm["spatial_px"] = np.column_stack([col, row]) * 20.0 + 20
        pixels = rng.integers(80, 240, (side * 20 + 20, side * 20 + 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path.with_name(f"{path.stem}_he.jpg"))
    table.write_h5ad(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder with the files of a reader the current one."""
    monkeypatch.setattr("napari_srast.cli._silence_third_parties", lambda: None)
    quick: Callable[..., Any] = partial(napari_srast.upsample, method="gp")
    monkeypatch.setattr(napari_srast, "upsample", quick, raising=False)
    monkeypatch.setattr(
        napari_srast, "upsample_to_store", partial(napari_srast.upsample_to_store, method="gp"), raising=False
    )
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "breast.h5ad")
    half = SIDE * 100
    (tmp_path / "tumor.geojson").write_text(box(-100, -100, half, 2 * half))
    (tmp_path / "stroma.geojson").write_text(box(half, -100, 2 * half, 2 * half))
    (tmp_path / "markers.txt").write_text("GeneA\nGeneB\n")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md"])
def test_first_slide(folder: Path, name: str) -> None:
    write_visium(folder, capture_area(10, 24))
    done = follow(ROOT / name)
    assert len(done) >= 4
    result = napari_srast.read_result(folder / "fine.zarr")
    assert result.genes.tolist() == ["ERBB2", "KRT19"]


@pytest.mark.slow
def test_visium(folder: Path) -> None:
    write_visium(folder, capture_area(10, 24))
    with Image.open(folder / "outs" / "spatial" / "tissue_hires_image.png") as half_size:
        half_size.resize((2 * half_size.width, 2 * half_size.height)).save("full_resolution.tif")
    (folder / "region.geojson").write_text(box(0, 0, 700, 5000))
    assert len(follow(DOCS / "visium.md")) >= 4
    assert napari_srast.read_result(folder / "fine.zarr").genes.tolist() == ["GeneA", "GeneB"]


@pytest.mark.slow
def test_visium_hd(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outs = write_visium_hd(folder, [capture_area(20, 20, bin_um=8), capture_area(10, 10, bin_um=16)])
    monkeypatch.chdir(outs)
    (outs / "markers.txt").write_text("GeneA\nGeneB\n")
    (outs / "region.geojson").write_text(box(0, 0, 100, 100))
    (outs / "segmented_outputs").mkdir()
    (outs / "segmented_outputs" / "cell_segmentations.geojson").write_text(box(10, 10, 40, 30))
    page = (DOCS / "visium_hd.md").read_text(encoding="utf-8")
    before, cells = page.split("\nnapari-srast cells")
    for name, text in (("before.md", f"{before}\n```"), ("cells.md", f"```sh\nnapari-srast cells{cells}")):
        if "SAMPLE" in text:
            text = text.replace("--coordinate-system SAMPLE", f"--coordinate-system {image_coordinates(outs)}", 1)
        (outs / name).write_text(text)
        follow(outs / name)
    assert (outs / "cells.h5ad").is_file()


@pytest.mark.slow
def test_legacy_slides_and_beads(folder: Path) -> None:
    write_table(folder / "mob1.h5ad", spacing=1.4, unit=None)
    write_table(folder / "puck.h5ad", spacing=15.0, unit=None, image=False)
    assert len(follow(DOCS / "other_platforms.md")) == 5


@pytest.mark.slow
def test_analysis_and_exports(folder: Path) -> None:
    pytest.importorskip("igraph")
    pytest.importorskip("scanpy")
    write_table(folder / "breast.h5ad", side=14)
    assert main(["import", "breast.h5ad", "--image", "breast_he.jpg", "-o", "breast.zarr"]) == 0
    add_nuclei(folder / "breast.zarr")
    (folder / "tumor.geojson").write_text(box(-100, -100, 1300, 2800))
    (folder / "stroma.geojson").write_text(box(1300, -100, 2800, 2800))
    (folder / "markers.txt").write_text("\n".join(GENES))
    (folder / "sets.gmt").write_text("Tumor\tna\tERBB2\tKRT19\nStroma\tna\tCOL1A1\tCOL3A1\n")
    (folder / "nucleus_segmentations.geojson").write_text(box(200, 200, 800, 700))
    write_samples(folder, DOCS / "analysis.md")
    slides = {donor: napari_srast.read_slide("breast.zarr") for donor in "ab"}
    groups = {name: napari_srast.Region.from_geojson((folder / f"{name}.geojson").read_text()) for name in TISSUES}
    regions = [(slide, region, donor, name) for donor, slide in slides.items() for name, region in groups.items()]
    assert len(follow(DOCS / "analysis.md", regions=regions)) > 15
    assert len(follow(DOCS / "other_tools.md", viewer=SimpleNamespace(open=lambda path, plugin: None))) == 6


@pytest.mark.slow
def test_result_format(folder: Path) -> None:
    assert main(["import", "breast.h5ad", "--image", "breast_he.jpg", "-o", "breast.zarr"]) == 0
    for output in ("fine.zarr", "fine.h5ad"):
        words = ["upsample", "breast.zarr", "-o", output, "--genes", "ERBB2,KRT19", "--name", "tumor", "--method", "gp"]
        assert main(words) == 0
    assert len(follow(DOCS / "result.md")) >= 3
