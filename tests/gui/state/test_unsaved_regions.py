"""Files of regions that were not saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import shapely

from napari_srast.core.region import Region
from napari_srast.errors import OutputError, RegionError
from napari_srast.gui.state.unsaved_regions import UnsavedRegions
from napari_srast.io.annotations import Annotation

pytestmark = pytest.mark.gui
REGIONS = [Annotation(Region(shapely.box(0, 0, 4, 4), "global"), name="tumor", classification="Tumor")]


def test_regions_of_each_slide_are_kept_until_they_are_saved(tmp_path: Path) -> None:
    regions, slide = UnsavedRegions(tmp_path / "state"), tmp_path / "a.zarr"
    assert regions.read(slide) == []
    regions.write(slide, REGIONS)
    (read,) = regions.read(slide)
    assert (read.name, read.classification, read.region.geometry.area) == ("tumor", "Tumor", 16)
    assert regions.read(tmp_path / "b.zarr") == []
    regions.write(slide, [])
    assert regions.read(slide) == []


def test_damaged_file_is_kept_under_another_name(tmp_path: Path) -> None:
    regions, slide = UnsavedRegions(tmp_path / "state"), tmp_path / "a.zarr"
    regions.write(slide, REGIONS)
    regions.file(slide).write_text("half a fi")
    with pytest.raises(RegionError, match="their file is kept as"):
        regions.read(slide)
    assert regions.file(slide).with_suffix(".unreadable").read_text() == "half a fi"
    assert regions.read(slide) == []


def test_folder_that_cannot_be_created_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        UnsavedRegions(tmp_path / "file" / "state").write(tmp_path / "a.zarr", REGIONS)
