"""Slides, results, tables and regions are recognized by their layout; foreign files are left to other readers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import zarr
from helpers.results import make_result
from helpers.space_ranger import capture_area, write_visium

from napari_srast.cli import main
from napari_srast.errors import InputError
from napari_srast.io.convert.importer import import_slide
from napari_srast.io.file_kinds import enclosing_store, file_kind, has_suffix, is_result_table
from napari_srast.io.result_writer import write_result
from napari_srast.io.store import write_store


@pytest.fixture
def store(make_slide: Callable[..., Any], make_store: Callable[..., Any], tmp_path: Path) -> Path:
    write_store(make_store(make_slide(4, 4, n_genes=3)), tmp_path / "slide.zarr")
    return tmp_path / "slide.zarr"


def test_stores_with_spots_and_results_are_recognized(store: Path, tmp_path: Path) -> None:
    assert file_kind(store) == "store"
    assert file_kind(f"{store}/") == "store"
    assert file_kind(write_result(make_result(), tmp_path / "fine.zarr")) == "store"


def test_a_store_under_any_name_is_recognized(store: Path) -> None:
    assert file_kind(store.rename(store.with_name("slide"))) == "store"


def test_tables_and_regions_are_recognized_by_their_ending(tmp_path: Path) -> None:
    for name, kind in (("a.h5ad", "h5ad"), ("b.H5AD", "h5ad"), ("c.geojson", "geojson"), ("d.json", None)):
        (tmp_path / name).write_bytes(b"")
        assert file_kind(tmp_path / name) == kind


def test_endings_are_recognized_in_capitals() -> None:
    assert has_suffix("a.H5AD", ".h5ad")
    assert has_suffix(Path("b.csv.GZ"), ".zarr", ".csv.gz")
    assert not has_suffix("h5ad", ".h5ad")


@pytest.mark.contract(
    section="Stores",
    case="a file or folder inside a store",
    response="is a part of the store '…', not a slide; give the store",
)
def test_parts_of_a_store_name_the_store(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in (store / "zarr.json", store / "tables", store / "tables" / "table", store / "shapes" / "absent"):
        assert enclosing_store(part) == store
        if part.exists():
            assert main(["info", str(part)]) == 2
            assert f"'{part}' is a part of the store '{store}', not a slide; give the store." in capsys.readouterr().err
    assert enclosing_store(store) is None
    inner = store / "copied.zarr"
    shutil.copytree(store, inner, ignore=shutil.ignore_patterns("copied.zarr"))
    assert enclosing_store(inner) is None
    shutil.rmtree(inner)
    for part in (store / "zarr.json", store / "tables" / "table"):  # the table is a store of AnnData by itself
        with pytest.raises(InputError, match="is a part of the store"):
            import_slide(part, store.with_name("out.zarr"))


def test_counts_are_a_slide_if_their_positions_are_next_to_them(tmp_path: Path) -> None:
    counts = write_visium(tmp_path / "run", capture_area()) / "filtered_feature_bc_matrix.h5"
    assert file_kind(counts) == "space_ranger"
    alone = tmp_path / "alone" / counts.name
    alone.parent.mkdir()
    counts.rename(alone)
    assert file_kind(alone) is None


def test_space_ranger_folders_are_recognized(tmp_path: Path) -> None:
    (tmp_path / "run" / "outs" / "spatial").mkdir(parents=True)
    (tmp_path / "run" / "outs" / "spatial" / "scalefactors_json.json").write_text("{}")
    (tmp_path / "run" / "outs" / "spatial" / "tissue_positions.csv").write_text("")
    (tmp_path / "run" / "outs" / "filtered_feature_bc_matrix.h5").write_bytes(b"")
    assert file_kind(tmp_path / "run") == "space_ranger"
    assert file_kind(tmp_path / "run" / "outs") == "space_ranger"


@pytest.mark.parametrize("kind", ["ome", "ome_with_tables", "anndata", "array", "empty", "images_only", "no_zarr"])
def test_foreign_folders_are_left_to_other_readers(kind: str, tmp_path: Path, make_store: Any, make_slide: Any) -> None:
    path = tmp_path / "other.zarr"
    if kind.startswith("ome"):
        attributes = {"ome": {"version": "0.5", "multiscales": []}}
        group = zarr.create_group(path, attributes=attributes)
        group.create_array("0", data=np.zeros((2, 2)))
        if kind == "ome_with_tables":
            group.create_group("labels/nuclei")
            group.create_group("tables/rois", attributes={"encoding-type": "anndata"})
    elif kind == "anndata":
        anndata.AnnData(np.ones((2, 2)), obsm={"spatial": np.ones((2, 2))}).write_zarr(path)
    elif kind == "array":
        zarr.create_array(path, data=np.zeros((2, 2)))
    elif kind == "images_only":
        store = make_store(make_slide(4, 4, n_genes=3))
        del store.tables["table"]
        write_store(store, path)
    else:
        path = tmp_path / ("other.zarr" if kind == "empty" else "folder")
        path.mkdir()
    assert file_kind(path) is None


def test_damaged_slides_are_recognized_so_that_their_error_is_shown(store: Path) -> None:
    (store / "zarr.json").write_text("{ damaged")
    assert file_kind(store) == "store"
    (store / "zarr.json").unlink()
    assert file_kind(store) == "store"


@pytest.mark.parametrize("path", ["", "nothing.zarr", "https://example.org/slide.zarr", "x" * 5000, "a\0b"])
def test_paths_without_a_file_are_not_recognized(path: str) -> None:
    assert file_kind(path) is None


def test_old_stores_without_a_version_are_recognized(store: Path) -> None:
    (store / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}))
    assert file_kind(store) == "store"


def test_results_in_tables_are_found(tmp_path: Path) -> None:
    assert is_result_table(write_result(make_result(), tmp_path / "fine.h5ad"))
    anndata.AnnData(np.ones((2, 2))).write_h5ad(tmp_path / "plain.h5ad")
    (tmp_path / "empty.h5ad").write_bytes(b"")
    assert not is_result_table(tmp_path / "plain.h5ad")
    assert not is_result_table(tmp_path / "empty.h5ad")


def test_recognizing_a_store_loads_no_large_library(store: Path) -> None:
    code = (
        "import sys\nfrom napari_srast.io.file_kinds import file_kind\n"
        f"assert file_kind({str(store)!r}) == 'store'\n"
        "assert not {'spatialdata', 'anndata', 'torch', 'pandas', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
