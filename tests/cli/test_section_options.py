"""The options --library, --spot-shape and --counts on import, info and upsample, and what upsample saves."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest

from napari_srast import read_result
from napari_srast.cli import main
from napari_srast.io.slide_reader import read_slide

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def two_sections(tmp_path):
    """Write an .h5ad of two overlapping sections of 36 bins, with counts in X and twice as many in a layer."""
    row, col = (a.ravel() for a in np.mgrid[:6, :6])
    points = np.column_stack([col, row]) * 50.0
    counts = np.random.default_rng(0).poisson(5, (72, 3)).astype(np.float32) + 1
    anndata.AnnData(
        counts,
        obs=pd.DataFrame({"sample": np.repeat(["A", "B"], 36)}, index=[f"s{i}" for i in range(72)]),
        var=pd.DataFrame(index=["G0", "G1", "G2"]),
        obsm={"spatial": np.concatenate([points, points + 20])},
        layers={"counts": 2 * counts},
    ).write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad", counts


@pytest.fixture(autouse=True)
def _own_logging(monkeypatch):
    monkeypatch.setattr("napari_srast.cli._silence_third_parties", lambda: None)


def test_import_reads_the_named_section_counts_and_shape(two_sections, tmp_path, capsys):
    source, counts = two_sections
    out = str(tmp_path / "b.zarr")
    assert main(["import", str(source), "-o", out]) == 2
    assert "column 'sample' of obs: A, B); choose one with --library" in capsys.readouterr().err
    assert main(["import", str(source), "-o", out, "--library", "B"]) == 2
    assert "choose one with --counts: X, counts" in capsys.readouterr().err
    options = ["--library", "B", "--counts", "counts", "--spot-shape", "circle"]
    assert main(["import", str(source), "-o", out, *options]) == 0
    slide = read_slide(out)
    np.testing.assert_array_equal(slide.counts.toarray(), 2 * counts[36:])
    assert slide.spot_shape == "circle"


def test_info_and_upsample_read_the_named_section(two_sections, tmp_path, capsys):
    source, counts = two_sections
    store, out = str(tmp_path / "all.zarr"), tmp_path / "out.zarr"
    assert main(["import", str(source), "-o", store, "--library", "all", "--counts", "X"]) == 0
    capsys.readouterr()
    assert main(["info", store, "--library", "B", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_spots"] == 36
    assert main(["upsample", store, "-o", str(out), "--library", "B", "--method", "uniform", "--factor", "2"]) == 0
    result = read_result(out)
    assert result.slide.n_spots == 36
    assert result.slide.source.library == "B"
    assert not any("rebuilt" in notice for notice in result.slide.notices)
    assert float(result.counts.sum()) == pytest.approx(counts[36:].sum(), rel=1e-6)


def test_info_describes_the_named_elements(tmp_path, capsys):
    """A message of info names an option that info has."""
    import spatialdata
    from spatialdata.models import ShapesModel, TableModel

    row, col = (a.ravel() for a in np.mgrid[:6, :6])
    points, shapes, tables = np.column_stack([col, row]) * 50.0, {}, {}
    for name, pitch in (("small", 1), ("large", 2)):
        obs = pd.DataFrame({"region": pd.Categorical([name] * 36), "instance_id": np.arange(36)}).rename(str)
        table = anndata.AnnData(np.random.default_rng(0).poisson(5, (36, 3)).astype(np.float32) + 1, obs=obs)
        shapes[name] = ShapesModel.parse(points * pitch, geometry=0, radius=20)
        tables[f"{name}_table"] = TableModel.parse(table, region=name, region_key="region", instance_key="instance_id")
    spatialdata.SpatialData(shapes=shapes, tables=tables).write(tmp_path / "two.zarr")
    assert main(["info", str(tmp_path / "two.zarr")]) == 0
    assert "choose one with --spots: large, small." in capsys.readouterr().out
    assert main(["info", str(tmp_path / "two.zarr"), "--spots", "large", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pitch"] == pytest.approx(100)


@pytest.mark.parametrize("with_histology", [True, False])
def test_upsample_names_its_run_and_saves_what_is_asked_for(tmp_path, with_histology):
    import spatialdata
    from helpers.slides import import_slide_with_image

    slide, out = import_slide_with_image(tmp_path), tmp_path / "out.zarr"
    options = ["--name", "tumor", "--keep-obs", "all", "--method", "uniform", "--factor", "2"]
    if not with_histology:
        options.append("--no-histology")
    assert main(["upsample", str(slide), "-o", str(out), *options]) == 0
    store = spatialdata.read_zarr(out)
    histology = [name for name in store.images if not name.startswith("srast_")]
    assert len(histology) == with_histology
    assert "srast_tumor" in store.images
    assert (set(store.labels), set(store.shapes)) == ({"srast_tumor_labels"}, {"srast_tumor_pixels"})
    table = store.tables["srast_tumor_table"]
    assert table.obs_names.is_unique
    assert table.obs_names.str.startswith("tumor_").all()
    labels = store.labels["srast_tumor_labels"].values
    assert not np.isnan(store.images["srast_tumor"].values).any()
    assert (store.images["srast_tumor"].values[:, labels == 0] == 0).all()
