"""The code of docs/result.md plots results with scanpy, squidpy and spatialdata-plot, as far as they are installed."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import numpy as np
import pytest
from helpers.results import make_result

from napari_srast.core.result import UpsampleResult
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide

pytestmark = pytest.mark.filterwarnings("ignore")  # of the plotting libraries

PAGE = Path(__file__).parents[2] / "docs" / "result.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_slide: Any, make_store: Any) -> UpsampleResult:
    """A result of the run and the gene of the page, written as fine.zarr and fine.h5ad into the working directory."""
    import dataclasses

    from spatialdata.models import Image2DModel

    from napari_srast.io.transforms import to_affines

    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    pyplot.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    store = make_store(make_slide(5, 6, n_genes=4))
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 96), dtype=np.uint8)
    to_spots = np.array([[8.0, 0, -100], [0, 8, -100], [0, 0, 1]])
    store.images["breast_he"] = Image2DModel.parse(
        pixels, dims=("c", "y", "x"), transformations=to_affines({"global": to_spots})
    )
    (table,) = store.tables.values()
    table.var_names = ["ERBB2", *table.var_names[1:]]
    store.write(tmp_path / "slide.zarr")
    result = make_result(read_slide(tmp_path / "slide.zarr"), expression=("ERBB2",), method="gp")
    result = dataclasses.replace(result, run="tumor")
    write_result(result, tmp_path / "fine.zarr")
    write_result(result, tmp_path / "fine.h5ad")
    return result


def _run(block: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a block of the page; a library that is not installed draws nothing."""
    for name in ("squidpy", "spatialdata_plot"):
        if importlib.util.find_spec(name) is None:
            block = block.replace(f"import {name}\n", "")
            monkeypatch.setitem(
                sys.modules, name, SimpleNamespace(pl=SimpleNamespace(spatial_scatter=lambda *_, **__: None))
            )  # type: ignore[arg-type]
    names: dict[str, Any] = {"table": anndata.read_h5ad("fine.h5ad"), "sq": sys.modules.get("squidpy")}
    exec(block, names)
    return names


def _block(text: str) -> str:
    (block,) = [block for block in BLOCKS if text in block]
    return block


@pytest.mark.contract(
    section="Other programs",
    case="results in scanpy and squidpy",
    response="plotted at the places of their pixels",
)
def test_tables_are_plotted_at_the_places_of_their_pixels(
    result: UpsampleResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanpy = pytest.importorskip("scanpy", reason="scanpy is not installed")
    drawn: list[Any] = []
    for name in ("spatial", "embedding"):
        plot = getattr(scanpy.pl, name)
        monkeypatch.setattr(
            scanpy.pl, name, lambda *args, plot=plot, **options: drawn.append(plot(*args, **options, show=False))
        )
    _run(_block("spot_size=side"), monkeypatch)
    spatial, embedding = (np.atleast_1d(np.asarray(axes, dtype=object))[0] for axes in drawn)
    order = np.argsort(result.counts[:, [0]].toarray().ravel(), kind="stable")
    expected = {spatial: result.counts, embedding: result.expression}
    for axes, matrix in expected.items():
        points = axes.collections[0]
        values = matrix[:, [0]].toarray().ravel()
        np.testing.assert_allclose(np.sort(np.asarray(points.get_array())), np.sort(values), rtol=1e-6)
    (circles,) = [one for one in spatial.collections if len(one.get_paths()) == result.n_pixels]
    extents = np.array([path.get_extents().bounds for path in circles.get_paths()])
    assert len(order) == len(extents)
    np.testing.assert_allclose(extents[:, 2:], result.raster.pixel_size, rtol=1e-3)
    np.testing.assert_allclose(
        np.sort(extents[:, 0] + extents[:, 2] / 2), np.sort(result.raster.centers[:, 0]), atol=1e-3
    )


@pytest.mark.contract(
    section="Other programs",
    case="results in spatialdata-plot",
    response="`render_images` and `render_labels` draw them over the histology",
)
def test_pixels_are_drawn_on_the_histology(result: UpsampleResult, monkeypatch: pytest.MonkeyPatch) -> None:
    scanpy = pytest.importorskip("scanpy", reason="scanpy is not installed")
    pytest.importorskip("spatialdata_io", reason="spatialdata-io is not installed")
    plot = scanpy.pl.spatial
    drawn: list[Any] = []
    monkeypatch.setattr(scanpy.pl, "spatial", lambda *args, **options: drawn.append(plot(*args, **options, show=False)))
    table = _run(_block("to_legacy_anndata"), monkeypatch)["table"]
    ((name, library),) = table.uns["spatial"].items()
    assert name == "breast_he"
    image, factors = library["images"]["hires"], library["scalefactors"]
    um_per_px = 8 * 96 / image.shape[1]  # in the image that spatialdata-io has resampled
    in_image = table.obsm["spatial"] * factors["tissue_hires_scalef"]
    np.testing.assert_allclose(in_image, (result.raster.centers + 100) / um_per_px, rtol=1e-3)
    side = factors["spot_diameter_fullres"] * factors["tissue_hires_scalef"]
    assert side == pytest.approx(result.raster.pixel_size / um_per_px, rel=1e-3)
    (axes,) = np.atleast_1d(np.asarray(drawn[0], dtype=object))
    assert len(axes.images) == 1
