"""Hostile input on the command line is refused with one sentence or used with a warning, and never changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from napari_srast.cli import main
from napari_srast.core.region import Region
from napari_srast.errors import RegionError
from napari_srast.io.store import write_store

COUNTS = np.random.default_rng(0).poisson(5, (20, 4)).astype(np.float64)
CENTERS = np.column_stack([np.arange(20) % 5, np.arange(20) // 5]) * 100.0
LONG_RING = ", ".join(f"{x} -50" for x in np.linspace(-50, 449, 300))

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop ``main`` from hiding the warnings and log lines of later tests."""
    monkeypatch.setattr("napari_srast.cli._silence_third_parties", lambda: None)


def make(
    path: Path, *, x: Any = COUNTS, centers: Any = CENTERS, ids: Any = None, uns: Any = None, **names: Any
) -> Path:
    """Write a small slide with one error."""
    import spatialdata
    from spatialdata.models import ShapesModel, TableModel

    centers = np.asarray(centers, dtype=float)
    n = len(centers)
    shapes = ShapesModel.parse(centers, geometry=0, radius=names.get("radius", 50.0), index=pd.RangeIndex(n))
    obs = pd.DataFrame(
        {"region": pd.Categorical(["spots"] * n), "instance_id": np.arange(n) if ids is None else ids},
        index=names.get("spots", [f"s{i}" for i in range(n)]),
    )
    genes = names.get("genes", [f"Gene{i}" for i in range(x.shape[1])])
    table = anndata.AnnData(sparse.csr_matrix(x[:n]), obs=obs, var=pd.DataFrame(index=genes))
    table = TableModel.parse(table, region="spots", region_key="region", instance_key="instance_id")
    table.uns.update(uns or {})
    write_store(spatialdata.SpatialData(shapes={"spots": shapes}, tables={"table": table}), path)
    return path


def changed(array: np.ndarray, place: Any, value: float) -> np.ndarray:
    copy = array.copy()
    copy[place] = value
    return copy


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("hostile") / "slide.zarr")


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def upsample(
    slide: Path, folder: Path, capsys: pytest.CaptureFixture[str], *options: str, method: str = "uniform"
) -> tuple[int, str]:
    """Upsample into an empty folder, check the guarantees, and return the status and the messages."""
    before = files(slide)
    out = folder / "out"
    out.mkdir()
    capsys.readouterr()
    status = main(
        [
            "upsample",
            str(slide),
            "-o",
            str(out / "o.csv"),
            "--method",
            method,
            *(() if "--pixel-size" in options else ("--factor", "2")),
            "--expression",
            "none",
            *options,
        ]
    )
    messages = capsys.readouterr().err
    assert files(slide) == before
    assert status in (0, 2), messages
    if status == 2:
        sentences = [line for line in messages.splitlines() if line.startswith("napari-srast: ")]
        assert len(sentences) == 1
        assert "Traceback" not in messages
        assert list(out.iterdir()) == []
    return status, messages


@pytest.mark.contract(
    section="Tables and counts",
    case="ids that do not match",
    response="shows one of each; link the table again",
)
@pytest.mark.contract(
    section="Tables and counts",
    case="negative, NaN, infinite, fractional counts, above 2⁵³",
    response="says which and shows one; put raw counts in X or a layer 'counts'",
)
@pytest.mark.contract(
    section="Tables and counts",
    case="log-normalized counts",
    response="look log-normalized; put raw counts in X or a layer 'counts'",
)
@pytest.mark.contract(
    section="Tables and counts",
    case="all counts zero",
    response="holds zeros only",
)
@pytest.mark.contract(
    section="Tables and counts",
    case="no genes",
    response="has no genes",
)
@pytest.mark.contract(
    section="Spots and transformations",
    case="one spot 10⁹ away",
    response="the raster would have … pixels; use a region",
)
@pytest.mark.contract(
    section="Spots and transformations",
    case="circles whose radius is no length",
    response="set the column 'radius' to a length",
)
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"x": changed(COUNTS, (3, 2), -1)}, "negative"),
        ({"x": changed(COUNTS, (3, 2), np.nan)}, "missing or infinite"),
        ({"x": changed(COUNTS, (3, 2), np.inf)}, "missing or infinite"),
        ({"x": changed(COUNTS, (3, 2), 1.5)}, "fractions"),
        ({"x": changed(COUNTS, (3, 2), 1e300)}, "too large"),
        ({"x": np.log1p(COUNTS)}, "look log-normalized, which are not counts (such as "),
        ({"x": np.log1p(1e4 * COUNTS / COUNTS.sum(axis=1, keepdims=True))}, "look log-normalized"),
        ({"x": 1e4 * COUNTS / COUNTS.sum(axis=1, keepdims=True)}, "fractions, so it is normalized data"),
        ({"x": np.log1p(COUNTS)}, "put the raw counts in X or in a layer named 'counts'"),
        ({"x": COUNTS * 0}, "zeros only"),
        ({"x": COUNTS[:, :0]}, "no genes"),
        ({"genes": [""] * 4}, "gene names are empty"),
        ({"ids": np.arange(20) + 1000}, "(such as 1000)"),
        ({"centers": CENTERS * np.nan}, "No spot of 'spots' has finite coordinates"),
        ({"centers": changed(CENTERS, 3, 1e9)}, "pixels"),
        ({"centers": CENTERS * 1e-300}, "too close together"),
        ({"radius": 1e300}, "have a radius of 1e+300"),
        ({"uns": {"napari_srast": {"run": 7, "input": "text"}}}, "is a result of napari-srast (run 7)"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_unusable_slide_is_refused(
    fault: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, messages = upsample(make(tmp_path / "in.zarr", **fault), tmp_path, capsys)
    assert status == 2
    assert says in messages


@pytest.mark.contract(
    section="Stores",
    case="Zarr format 3",
    response="used",
)
@pytest.mark.contract(
    section="Tables and counts",
    case="rows without spot, spots without row",
    response="*notice:* how many were left out",
)
@pytest.mark.contract(
    section="Tables and counts",
    case="spots without counts",
    response="*notice:* their pixels stay zero",
)
@pytest.mark.contract(
    section="Tables and counts",
    case="genes without counts",
    response="used; their pixels are zero",
)
@pytest.mark.contract(
    section="Tables and counts",
    case="repeated gene names or barcodes",
    response="*notice:* a number was added",
)
@pytest.mark.contract(
    section="Tables and counts",
    case="gene names in any script, with slashes, like paths",
    response="used as they are",
)
@pytest.mark.contract(
    section="Spots and transformations",
    case="coordinates that are not finite",
    response="*notice:* how many were left out",
)
@pytest.mark.contract(
    section="Spots and transformations",
    case="1 spot, 2 spots, spots on one line",
    response="used",
)
@pytest.mark.contract(
    section="Spots and transformations",
    case="two spots at the same coordinates",
    response="*notice:* they share the pixels of that place",
)
@pytest.mark.contract(
    section="Spots and transformations",
    case="all spots 10⁹ away",
    response="used",
)
@pytest.mark.contract(
    section="Images",
    case="no image",
    response="used without",
)
@pytest.mark.parametrize(
    ("oddity", "says"),
    [
        ({"x": changed(COUNTS, (slice(None), 2), 0)}, ""),
        ({"x": changed(COUNTS, slice(2, 5), 0)}, "3 spots of table 'table' hold no counts"),
        ({"centers": changed(CENTERS, 3, CENTERS[2])}, "1 spots of 'spots' have the same center as another spot"),
        ({"centers": changed(CENTERS, 3, np.nan)}, "1 spots of 'spots' have no finite coordinates (such as 3)"),
        ({"centers": changed(CENTERS, 3, np.inf)}, "1 spots of 'spots' have no finite coordinates (such as 3)"),
        ({"genes": ["A", "A", "B", "B"]}, "2 gene names occur more than once"),
        ({"spots": ["same"] * 20}, "1 spot name occurs more than once"),
        ({"ids": np.arange(20) + 15}, "15 rows of table 'table' have no spot"),
        ({"genes": ["HLA/A", "../../etc/x", "日本語", 'a b\n"c']}, ""),
        ({"uns": {"napari_srast_slide": "text"}}, ""),
        ({"uns": {"napari_srast_slide": {"unit": np.arange(3), "notices": 7}}}, "Note: 7"),
        ({"x": COUNTS[:, :1]}, ""),
        ({"centers": CENTERS[:1]}, ""),
        ({"centers": CENTERS[:2]}, ""),
        ({"centers": np.column_stack([np.arange(20) * 100.0, np.zeros(20)])}, ""),
        ({"centers": CENTERS + 1e9}, ""),
    ],
)
def test_unusual_slide_is_used_with_a_warning(
    oddity: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = make(tmp_path / "in.zarr", **oddity)
    status, messages = upsample(slide, tmp_path, capsys)
    assert status == 0
    assert says in messages
    written = pd.read_csv(tmp_path / "out" / "o.csv").iloc[:, 3:].to_numpy()
    kept = oddity.get("x", COUNTS)[: len(oddity.get("centers", CENTERS))]
    kept = kept[np.isfinite(oddity.get("centers", CENTERS)).all(axis=1)]
    if "ids" in oddity:
        kept = kept[:5]
    np.testing.assert_allclose(written.sum(axis=0), kept.sum(axis=0), rtol=1e-6)


@pytest.mark.contract(
    section="Stores",
    case="store that lost a file or folder",
    response="names what is damaged or lost; restore it from a copy",
)
@pytest.mark.contract(
    section="Tables and counts",
    case="no table",
    response="The store has no table, so there are no counts",
)
@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("tables/table/X/data/c", "is missing on disk"),
        ("tables/table/X/indices/c", "is missing on disk"),
        ("tables/table/X/indptr/c", "is missing on disk"),
        ("tables/table/X/zarr.json", "is missing on disk"),
        ("tables/table/var/_index/**/c", "gene names are empty"),  # AnnData 0.13: in a folder "values"
        ("tables/table", "no table"),
        ("shapes/spots", "neither shapes nor labels"),
        ("shapes/spots/shapes.parquet", "'shapes/spots' of the store is damaged"),
        ("zarr.json", "not a SpatialData store"),
    ],
)
def test_store_with_missing_parts_is_refused(
    part: str, says: str, slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "torn.zarr"
    shutil.copytree(slide, torn)
    lost = next(torn.glob(part))
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    status, messages = upsample(torn, tmp_path, capsys)
    assert status == 2
    assert says in messages


@pytest.mark.contract(
    section="Stores",
    case="half-written store",
    response="cannot be read …; it may be only half-written",
)
@pytest.mark.parametrize("part", ["zarr.json", "tables/table/X/data/c/0", "shapes/spots/shapes.parquet"])
@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_truncated_file_is_refused(
    part: str, keep: float, slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "torn.zarr"
    shutil.copytree(slide, torn)
    content = (torn / part).read_bytes()
    (torn / part).write_bytes(content[: int(keep * len(content))])
    assert upsample(torn, tmp_path, capsys)[0] == 2


@pytest.mark.contract(
    section="Stores",
    case="indices that point outside the table",
    response="is damaged; restore the slide from a copy",
)
@pytest.mark.parametrize(("array", "at", "value"), [("indices", 0, 99), ("indices", 0, -5), ("indptr", 5, 9999)])
def test_out_of_range_indices_are_refused(
    array: str, at: int, value: int, slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import zarr

    torn = tmp_path / "torn.zarr"
    shutil.copytree(slide, torn)
    zarr.open_array(torn / "tables" / "table" / "X" / array, mode="r+")[at] = value
    status, messages = upsample(torn, tmp_path, capsys)
    assert status == 2
    assert "damaged" in messages


@pytest.mark.contract(
    section="Tables and counts",
    case="unknown genes",
    response="names the nearest",
)
@pytest.mark.contract(
    section="Images",
    case="named image that is not there",
    response="has no image '…'; choose one with --image",
)
@pytest.mark.contract(
    section="Requests",
    case="region empty, not finite, no polygon, no text, endless",
    response="says which; how to write one",
)
@pytest.mark.contract(
    section="Requests",
    case="factor 0, -1, 1000, NaN; pixels too small or too large",
    response="what it must be",
)
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--region", "POLYGON EMPTY"], "region is empty"),
        (["--region", "POLYGON ((0 0, nan 0, 1 1, 0 0))"], "not finite"),
        (["--region", "POLYGON ((0 0, inf 0, 1 1, 0 0))"], "not finite"),
        (["--region", "(" * 5000], "well-known text"),
        (["--region", "x" * 5000], "cannot be read"),
        (["--factor", "0"], "factor is 0"),
        (["--factor=-1"], "factor is -1"),
        (["--factor", "nan"], "factor is nan"),
        (["--factor", "1000"], "factor is 1000"),
        (["--pixel-size", "1e-300"], "pixel size"),
        (["--pixel-size", "1e300"], "pixel size"),
        (["--pixel-size", "nan"], "pixel size"),
        (["--pixel-size", "1000"], "too large"),
        (["--pixel-size", "0.001"], "raster would have"),
        (["--seed", "-1"], "seed is -1"),
        (["--steps", "0"], "steps is 0"),
        (["--genes", "gene0"], "did you mean Gene0"),
        (["--image", "he"], "leave --image out"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_invalid_request_is_refused(
    options: list[str], says: str, slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, messages = upsample(slide, tmp_path, capsys, *options)
    assert status == 2
    assert says in messages


@pytest.mark.contract(
    section="Requests",
    case="region that crosses itself, with holes, of 300 corners",
    response="used",
)
@pytest.mark.parametrize(
    ("wkt", "n_pixels"),
    [
        (f"POLYGON (({LONG_RING}, 450 350, -50 350, -50 -50))", 80),
        ("POLYGON ((-50 -50, 450 -50, 450 350, -50 350, -50 -50), (50 50, 250 50, 250 250, 50 250, 50 50))", 64),
        ("POLYGON ((-50 -50, 450 350, 450 -50, -50 350, -50 -50))", 48),
    ],
    ids=["long text", "hole", "crosses itself"],
)
def test_unusual_region_is_accepted(
    wkt: str, n_pixels: int, slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upsample(slide, tmp_path, capsys, "--region", wkt)[0] == 0
    assert len(pd.read_csv(tmp_path / "out" / "o.csv")) == n_pixels


def test_self_crossing_shapes_are_united() -> None:
    bow = [[-50, -50], [450, 350], [450, -50], [-50, 350], [-50, -50]]
    corner = [[-50, -50], [250, -50], [250, 250], [-50, -50]]
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        for ring in (bow, corner)
    ]
    region = Region.from_geojson(json.dumps({"type": "FeatureCollection", "features": features}))
    assert region.geometry.is_valid
    assert region.contains(np.array([[0.0, 100.0], [240.0, 0.0], [200.0, -40.0], [200.0, 340.0]])).tolist() == [
        True,
        True,
        True,
        False,
    ]
    with pytest.raises(RegionError, match="not finite"):
        Region.from_polygons([np.array([[0, 0], [np.nan, 0], [1, 1]])])


def test_bow_tie_with_a_spur_becomes_two_polygons() -> None:
    """The repaired shape is a collection of nested polygons and a line."""
    spurred = np.array([[0, 0], [10, 10], [10, 0], [0, 10], [0, 0], [-3, 0], [0, 0]])
    assert Region.from_polygons([spurred]).geometry.area == pytest.approx(50)
    bow = [spurred[:5].tolist()]
    nested = {"type": "GeometryCollection", "geometries": [{"type": "MultiPolygon", "coordinates": [bow]}]}
    feature = {"type": "Feature", "properties": {}, "geometry": nested}
    assert Region.from_geojson(json.dumps(feature)).geometry.area == pytest.approx(50)


@pytest.mark.contract(
    section="Outputs and system errors",
    case="output exists, or is inside the input, unknown ending, name too long",
    response="choose another name",
)
@pytest.mark.parametrize("name", ["x" * 240 + ".csv", "x" * 300 + ".csv"])
def test_invalid_file_name_is_refused(
    name: str, slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["upsample", str(slide), "-o", str(tmp_path / name)]) == 2
    assert "too long" in capsys.readouterr().err
    assert main(["upsample", str(tmp_path / name), "-o", str(tmp_path / "o.csv")]) == 2
    assert "There is no slide" in capsys.readouterr().err


def spoilt(**parts: Any) -> anndata.AnnData:
    """Return a valid table with one invalid part."""
    x = parts.pop("x", COUNTS)
    return anndata.AnnData(x, **{"obsm": {"spatial": CENTERS}, "uns": {"meta": {"spot_diameter": 100.0}}} | parts)


@pytest.mark.contract(
    section="Tables and counts",
    case="counts that are text or complex numbers",
    response="values that are not numbers",
)
@pytest.mark.contract(
    section="Imports",
    case="table without positions, or with positions that are text, complex, sparse or of one axis",
    response="put the spot centers there; must contain finite coordinates",
)
@pytest.mark.contract(
    section="Imports",
    case="spot diameter that is no length, stated or given",
    response="which it is; give it with --spot-diameter",
)
@pytest.mark.parametrize(
    ("parts", "options", "says"),
    [
        ({"x": COUNTS.astype(int).astype(str).astype(object)}, [], "not numbers"),
        ({"x": COUNTS.astype(complex)}, [], "not numbers"),
        ({"obsm": {"spatial": sparse.csr_matrix(CENTERS)}}, [], "must contain finite coordinates"),
        ({"obsm": {"spatial": CENTERS.astype(complex)}}, [], "must contain finite coordinates"),
        ({"obsm": {"spatial": CENTERS[:, :1]}}, [], "must contain finite coordinates"),
        ({"obsm": {"other": CENTERS}}, [], "has no obsm['spatial']"),
        ({}, ["--spot-diameter", "1e300"], "must be a length"),
    ],
    ids=["text", "complex", "sparse positions", "complex positions", "one axis", "no positions", "diameter"],
)
def test_unusable_table_is_refused(
    parts: dict[str, Any], options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.h5ad"
    spoilt(**parts).write_h5ad(source)
    before = source.read_bytes()
    capsys.readouterr()
    assert main(["import", str(source), "-o", str(tmp_path / "o.zarr"), *options]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert says in sentence
    assert source.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5ad"]


@pytest.mark.contract(
    section="Tables and counts",
    case="counts of any other type, halves and Booleans too",
    response="used",
)
@pytest.mark.parametrize("dtype", [np.float16, np.int8, bool, np.uint64])
def test_counts_of_any_number_type_are_accepted(
    dtype: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt(x=COUNTS.astype(dtype)).write_h5ad(tmp_path / "in.h5ad")
    assert main(["import", str(tmp_path / "in.h5ad"), "-o", str(tmp_path / "in.zarr")]) == 0
    assert upsample(tmp_path / "in.zarr", tmp_path, capsys)[0] == 0
    written = pd.read_csv(tmp_path / "out" / "o.csv").iloc[:, 3 : 3 + COUNTS.shape[1]].to_numpy()
    np.testing.assert_allclose(written.sum(axis=0), COUNTS.astype(dtype).astype(float).sum(axis=0), rtol=1e-6)


@pytest.mark.contract(
    section="Imports",
    case="image that is empty, damaged, no picture, of four axes, of 64-bit or complex pixels",
    response="save it as .jpg, .png or .tif; save it with 8 or 16 bits",
)
@pytest.mark.parametrize(
    ("name", "pixels", "says"),
    [
        ("he.tif", np.zeros((350, 450), np.int64), "pixels of type int64; save it with 8 or 16 bits"),
        ("he.tif", np.zeros((350, 450), np.complex64), "pixels of type complex64; save it with 8 or 16 bits"),
        ("he.tif", np.zeros((2, 5, 350, 450), np.uint8), "save it as a two-dimensional image"),
        ("he.tif", b"II*\0" + b"\xff" * 200, "save it"),
        ("he.tif", b"", "cannot be read as an image"),
        ("he.png", b"<svg/>", "cannot be read as an image"),
    ],
    ids=["long numbers", "complex", "four axes", "damaged", "empty", "no picture"],
)
def test_unusable_image_is_refused(
    name: str, pixels: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import tifffile

    spoilt().write_h5ad(tmp_path / "in.h5ad")
    image = tmp_path / name
    image.write_bytes(pixels) if isinstance(pixels, bytes) else tifffile.imwrite(image, pixels)
    words = ["import", str(tmp_path / "in.h5ad"), "-o", str(tmp_path / "o.zarr"), "--image", str(image)]
    capsys.readouterr()
    assert main([*words, "--pixel-size", "1"]) == 2
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("napari-srast: ")]
    assert says in sentence
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "in.h5ad"]


@pytest.mark.contract(
    section="Imports",
    case="Space Ranger folder that lacks its parts",
    response="what is missing, the file that is expected, and the layouts that work",
)
@pytest.mark.parametrize("bins", ["square_xum", "square_008um", "other"])
def test_incomplete_space_ranger_folder_is_refused(
    bins: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "binned_outputs" / bins).mkdir(parents=True)
    capsys.readouterr()
    assert main(["import", str(tmp_path / "run"), "-o", str(tmp_path / "o.zarr")]) == 2
    assert "has no counts (expected: filtered_feature_bc_matrix.h5" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.contract(
    section="Stores",
    case="table that SpatialData calls invalid",
    response="names the table and the column; write it again",
)
def test_invalid_spatialdata_table_is_named(slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import zarr
    from anndata.io import read_elem, write_elem

    torn = tmp_path / "torn.zarr"
    shutil.copytree(slide, torn)
    table = zarr.open_group(torn / "tables" / "table", mode="r+", use_consolidated=False)
    frame = read_elem(table["obs"])
    frame["region"] = ["spots"] * 20  # SpatialData needs categories, not text
    del table["obs"]
    write_elem(table, "obs", frame)
    (torn / "zarr.json").write_text(
        '{"zarr_format": 3, "node_type": "group", "attributes": '
        + json.dumps(json.loads((torn / "zarr.json").read_text())["attributes"])
        + "}"
    )
    status, messages = upsample(torn, tmp_path, capsys)
    assert status == 2
    assert "tables/table: `table.obs[region]` must be of type `categorical`" in messages


@pytest.mark.contract(
    section="Imports",
    case="spot diameter that is no length, stated or given",
    response="which it is; give it with --spot-diameter",
)
@pytest.mark.parametrize("diameter", ["big", -4.0, np.nan, np.arange(3)], ids=["text", "negative", "nan", "list"])
def test_invalid_spot_diameter_in_a_table_is_refused(
    diameter: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = anndata.AnnData(COUNTS, obsm={"spatial": CENTERS}, uns={"meta": {"spot_diameter": diameter}})
    table.write_h5ad(tmp_path / "in.h5ad")
    assert main(["import", str(tmp_path / "in.h5ad"), "-o", str(tmp_path / "o.zarr")]) == 2
    assert "spot diameter" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5ad"]


def _hear_interrupts() -> None:
    """Restore the interrupt handler, which a shell disables for background processes and their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.contract(
    section="Outputs and system errors",
    case="stopped with Ctrl-C",
    response="Stopped; nothing was written. (status 1)",
)
@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name == "nt", reason="needs the signals of POSIX")
def test_interrupt_leaves_nothing(slide: Path, tmp_path: Path) -> None:
    words = ["-m", "napari_srast", "upsample", str(slide), "-o", str(tmp_path / "o.zarr"), "--factor", "60"]
    run = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_interrupts,
    )
    assert run.stderr is not None
    assert "pixels" in run.stderr.readline()  # the estimate is printed when the run begins
    time.sleep(0.2)
    run.send_signal(signal.SIGINT)
    messages = run.communicate(timeout=60)[1]
    assert run.returncode == 1
    # Typer 0.19 ends the line of the ^C.
    assert messages.strip().splitlines() == ["napari-srast: Stopped; nothing was written."]
    assert list(tmp_path.iterdir()) == []
