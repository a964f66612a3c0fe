"""Columns of the slide's table that a result keeps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import write_elem
from helpers.slides import make_slide

from napari_srast.core.slide import Slide, SlideSource
from napari_srast.errors import InputError, SettingsError
from napari_srast.io.spot_columns import read_spot_columns


@pytest.fixture
def slide(tmp_path: Path) -> Slide:
    """A slide of six spots, and the part of its store that holds the table's columns, in another order of the rows."""
    ids = np.array([f"spot{i}" for i in range(6)])
    obs = pd.DataFrame({"cluster": list("abcabc"), "row": range(6), "region": "spots", "key": range(6)}, index=ids)
    group = zarr.open_group(tmp_path / "slide.zarr" / "tables" / "table", mode="w")
    write_elem(group, "obs", obs.iloc[::-1])
    attributes = {"region": "spots", "region_key": "region", "instance_key": "key"}
    write_elem(group.create_group("uns"), "spatialdata_attrs", attributes)
    source = SlideSource(path=str(tmp_path / "slide.zarr"), table="table")
    return dataclasses.replace(make_slide(2, 3), spot_ids=ids, source=source)


def test_columns_are_in_the_order_of_the_spots(slide: Slide) -> None:
    table = read_spot_columns(slide, ["row", "cluster", "row"])
    assert list(table.columns) == ["row", "cluster"]
    assert table["row"].tolist() == list(range(6))
    part = dataclasses.replace(
        slide, **{name: getattr(slide, name)[[4, 1]] for name in ("counts", "spot_ids", "centers")}
    )
    assert read_spot_columns(part, ["row"])["row"].tolist() == [4, 1]


def test_all_leaves_out_what_links_the_table_to_the_spots(slide: Slide) -> None:
    assert list(read_spot_columns(slide, "all").columns) == ["cluster", "row"]


def test_no_names_need_no_table() -> None:
    assert read_spot_columns(make_slide(), ()) is None
    with pytest.raises(SettingsError, match="not read from a store"):
        read_spot_columns(make_slide(), "all")


def test_what_cannot_be_kept_is_named(slide: Slide) -> None:
    with pytest.raises(InputError, match=r"no column 'x' to keep; it has: cluster, row\."):
        read_spot_columns(slide, ["x"])
    renamed = dataclasses.replace(slide, spot_ids=np.array([f"other{i}" for i in range(6)]))
    with pytest.raises(InputError, match="have other names than the spots"):
        read_spot_columns(renamed, ["row"])
    moved = dataclasses.replace(slide, source=dataclasses.replace(slide.source, path="/nowhere"))
    with pytest.raises(InputError, match="cannot be read"):
        read_spot_columns(moved, ["row"])
