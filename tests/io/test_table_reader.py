from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.slides import import_slide_with_image

from napari_srast.errors import InputError
from napari_srast.io.pixel_classes import add_pixel_classes
from napari_srast.io.result_reader import read_result
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.store import open_store
from napari_srast.io.table_reader import read_table


@pytest.fixture
def stored(make_result, written_slide, tmp_path):
    """A result, and its store with classes of its pixels."""
    result = make_result(written_slide, run="r")
    path = write_result(result, tmp_path / "fine.zarr")
    classes = pd.Categorical.from_codes(np.arange(result.n_pixels) % 3, ["1", "2", "3"])
    for name in ("good", "bad"):
        add_pixel_classes(result, path, name, classes, {"kind": name})
    return result, path, path / "tables" / "srast_r_table"


def damage(node):
    files = [file for file in node.rglob("*") if file.is_file() and file.name != "zarr.json"]
    assert files
    for file in files:
        file.write_bytes(b"damaged")


@pytest.mark.parametrize("part", ["obs/bad", "obs/bad/codes", "uns/bad"])
def test_result_opens_without_a_damaged_addition(stored, part):
    result, path, table = stored
    damage(table / part)
    found = []
    read = read_result(path, on_damage=found.append)
    (sentence,) = found
    assert sentence.startswith(f"'{part.removesuffix('/codes')}' of table 'srast_r_table' is damaged")
    np.testing.assert_array_equal(read.counts.toarray(), result.counts.toarray())
    np.testing.assert_array_equal(read.raster.parent, result.raster.parent)
    obs = read_table(table).obs
    assert list(obs["good"].cat.categories) == ["1", "2", "3"]


@pytest.mark.parametrize("part", ["obs/row", "obs/spot", "X", "uns/napari_srast/reopen"])
def test_damage_of_what_the_result_needs_is_an_error(stored, part):
    _, path, table = stored
    damage(table / part)
    with pytest.raises(InputError, match="cannot be read as a result"):
        read_result(path)


@pytest.mark.contract(
    section="Stores",
    case="the table of a saved result in the store of a slide is damaged",
    response="named; the slide opens, and a result without the damaged addition, too",
)
def test_slide_opens_although_the_table_of_a_result_in_its_store_is_damaged(make_result, tmp_path):
    source = import_slide_with_image(tmp_path)
    slide = read_slide(source)
    result = make_result(slide)
    write_result(result, source, into_slide=True)
    damage(source / "tables" / f"srast_{result.run}_table" / "obs" / "row")
    opened = read_slide(source)
    np.testing.assert_array_equal(opened.counts.toarray(), slide.counts.toarray())
    assert opened.image is not None
    store, skipped = open_store(source)
    assert skipped == (
        f"'tables/srast_{result.run}_table', the table of a saved result, is damaged; restore the store from a copy.",
    )
    assert "table" in store.tables
    damage(source / "tables" / "table" / "X")
    with pytest.raises(InputError, match="cannot be read as a SpatialData store"):
        open_store(source)
