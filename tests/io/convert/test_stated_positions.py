"""Positions are found where tools put them, and the names of columns decide which one is x."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

from napari_srast.cli import main
from napari_srast.errors import InputError
from napari_srast.io.convert.importer import import_slide
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.store import open_store

pytestmark = pytest.mark.filterwarnings("ignore")

ROW, COL = (a.ravel() for a in np.mgrid[:6, :7])
PLACES = np.column_stack([COL * 100.0, ROW * 90.0])


def _table(**obs: Any) -> anndata.AnnData:
    counts = np.random.default_rng(0).poisson(5, (len(PLACES), 3)).astype(np.float32) + 1
    return anndata.AnnData(counts, obs=pd.DataFrame(obs, index=[f"s{i}" for i in range(len(PLACES))]))


def _frame(**columns: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(columns, index=[f"s{i}" for i in range(len(PLACES))])


def _imported(table: anndata.AnnData, folder: Path) -> Any:
    table.write_h5ad(folder / "in.h5ad")
    return read_slide(import_slide(folder / "in.h5ad", folder / "out.zarr"))


@pytest.mark.contract(
    section="Imports",
    case="positions in a table whose columns are (y, x) or (row, column) by their names",
    response="read as (x, y)",
)
@pytest.mark.parametrize(
    ("y", "x"), [("y", "x"), ("pxl_row_in_fullres", "pxl_col_in_fullres"), ("imagerow", "imagecol"), ("Y", "X")]
)
def test_names_of_columns_decide_which_one_is_x(tmp_path: Path, x: str, y: str) -> None:
    table = _table()
    table.obsm["spatial"] = _frame(**{y: PLACES[:, 1], x: PLACES[:, 0]})
    np.testing.assert_allclose(_imported(table, tmp_path).centers, PLACES)


def test_other_columns_next_to_the_positions_are_ignored(tmp_path: Path) -> None:
    table = _table()
    table.obsm["spatial"] = _frame(barcode=table.obs_names.to_numpy(), y=PLACES[:, 1], x=PLACES[:, 0])
    np.testing.assert_allclose(_imported(table, tmp_path).centers, PLACES)


def test_columns_without_known_names_are_taken_in_their_order(tmp_path: Path) -> None:
    table = _table()
    table.obsm["spatial"] = _frame(first=PLACES[:, 0], second=PLACES[:, 1])
    np.testing.assert_allclose(_imported(table, tmp_path).centers, PLACES)


@pytest.mark.contract(
    section="Imports",
    case="positions in obsm['X_spatial'] or in columns of obs",
    response="read, with a notice that names the place",
)
@pytest.mark.parametrize("key", ["X_spatial", "Spatial", "spatial_coords"])
def test_positions_under_another_key_are_read_with_a_notice(tmp_path: Path, key: str) -> None:
    table = _table()
    table.obsm[key] = PLACES
    slide = _imported(table, tmp_path)
    np.testing.assert_allclose(slide.centers, PLACES)
    assert f"'in.h5ad' has no obsm['spatial']; the positions were read from obsm['{key}']." in slide.notices


@pytest.mark.parametrize(
    ("x", "y"),
    [("x", "y"), ("pxl_col_in_fullres", "pxl_row_in_fullres"), ("SPATIAL_1", "SPATIAL_2"), ("xcoord", "ycoord")],
)
def test_positions_in_columns_of_obs_are_read_with_a_notice(tmp_path: Path, x: str, y: str) -> None:
    slide = _imported(_table(**{y: PLACES[:, 1], x: PLACES[:, 0]}), tmp_path)
    np.testing.assert_allclose(slide.centers, PLACES)
    assert any(f"read from the columns '{x}' and '{y}' of obs" in notice for notice in slide.notices)


@pytest.mark.contract(
    section="Imports",
    case="no positions, but names of spots such as 12x7 (Spatial Transcriptomics, DBiT-seq)",
    response="*notice:* read from the names, in array units",
)
@pytest.mark.parametrize("name", ["{0}x{1}", "X{0}x{1}", "{0}.0x{1}.0_1", "A1_{0}x{1}"])
def test_names_of_spots_state_their_positions(tmp_path: Path, name: str) -> None:
    table = _table()
    table.obs_names = [name.format(x, y) for x, y in zip(COL, ROW, strict=True)]
    slide = _imported(table, tmp_path)
    np.testing.assert_array_equal(slide.centers, np.column_stack([COL, ROW]))
    assert (slide.unit, slide.spot_shape) == ("array units", "circle")
    assert any("read from the names of the spots" in notice for notice in slide.notices)


def test_message_on_missing_positions_says_what_the_table_has(tmp_path: Path) -> None:
    table = _table(pixel_x=PLACES[:, 0], pixel_y=PLACES[:, 1])
    table.obsm["X_pca"] = PLACES
    with pytest.raises(InputError, match=r"\(the table has obsm: X_pca; columns of numbers in obs: pixel_x, pixel_y\)"):
        _imported(table, tmp_path)
    (tmp_path / "in.h5ad").unlink()
    table.obsm["spatial"] = PLACES
    with pytest.raises(InputError, match=r"spots in columns and its genes in rows; transpose it"):
        _imported(table.T.copy(), tmp_path)
    (tmp_path / "in.h5ad").unlink()
    with pytest.raises(InputError, match="has no spots; export the slide again"):
        _imported(table[:0].copy(), tmp_path)


def test_array_coordinates_and_text_in_obs_are_no_positions(tmp_path: Path) -> None:
    table = _table(array_row=ROW, array_col=COL, x=[f"{x} um" for x in PLACES[:, 0]], y=PLACES[:, 1].astype(str))
    with pytest.raises(InputError, match=r"no obsm\['spatial'\]"):
        _imported(table, tmp_path)


@pytest.mark.contract(
    section="Imports",
    case="positions that are text",
    response="read as numbers",
)
@pytest.mark.parametrize("where", ["obs", "obsm", "frame"])
def test_positions_that_are_text_are_read(tmp_path: Path, where: str) -> None:
    x, y = PLACES.astype(str).T
    table = _table(**({"x": x, "y": y} if where == "obs" else {}))
    if where != "obs":
        table.obsm["spatial"] = PLACES.astype(str) if where == "obsm" else _frame(y=y, x=x)
    np.testing.assert_allclose(read_slide(table).centers, PLACES)
    if where == "obs":
        np.testing.assert_allclose(_imported(table, tmp_path).centers, PLACES)  # the file has categories


def test_positions_among_other_columns_need_names() -> None:
    table = _table()
    table.obsm["spatial"] = np.column_stack([np.ones(len(PLACES)), ROW, COL, PLACES[:, ::-1]])
    with pytest.raises(InputError, match="has 5 columns, so which of them are x and y is unknown; keep these two"):
        read_slide(table)


def test_columns_of_obs_without_a_finite_position_are_refused(tmp_path: Path) -> None:
    table = _table(x=np.full(len(PLACES), np.nan), y=PLACES[:, 1])
    with pytest.raises(InputError, match=r"columns 'x' and 'y' of obs of 'in.h5ad' must contain finite coordinates"):
        _imported(table, tmp_path)


@pytest.mark.contract(
    section="Stores",
    case="a Zarr store of AnnData",
    response="convert it with: napari-srast import; imported like an .h5ad file",
)
def test_zarr_store_of_anndata_is_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = _table()
    table.obsm["spatial"] = PLACES
    source = tmp_path / "table.zarr"
    table.write_zarr(source)
    with pytest.raises(InputError, match="convert it with: napari-srast import"):
        open_store(source)
    assert main(["info", str(source)]) == 2
    assert "napari-srast import" in capsys.readouterr().err
    slide = read_slide(import_slide(source, tmp_path / "out.zarr"))
    np.testing.assert_allclose(slide.centers, PLACES)
    np.testing.assert_array_equal(slide.counts.toarray(), table.X)


def test_damaged_zarr_store_of_anndata_is_refused(tmp_path: Path) -> None:
    table = _table()
    table.obsm["spatial"] = PLACES
    table.write_zarr(tmp_path / "table.zarr")
    for file in (tmp_path / "table.zarr" / "X").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"cannot be read|damaged"):
        import_slide(tmp_path / "table.zarr", tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()
