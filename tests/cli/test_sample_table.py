from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_srast.cli.sample_table import SampleRow, read_sample_table
from napari_srast.errors import InputError, RegionError

WKT = "POLYGON ((0 0, 10 0, 10 10, 0 0))"


def write(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path = folder / "samples.csv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def row(**fields: str) -> SampleRow:
    return SampleRow(number=2, slide=Path("a.zarr"), donor="d", group="g", **fields)


def test_rows_are_read_with_paths_relative_to_the_table(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "Donor,slide,GROUP,Region,class,age",
        "# a remark",
        f'd1,a.zarr,tumor,"{WKT}",,61',
        "",
        f"d2,{tmp_path / 'b.zarr'},tumor,b.geojson,Tumor,58",
        "d1, a.zarr,stroma",
    )
    table = read_sample_table(path)
    assert table.path == path
    assert table.unused == ("age",)
    first, second, third = table.rows
    assert first == SampleRow(number=3, slide=tmp_path / "a.zarr", donor="d1", group="tumor", region=WKT)
    assert (second.number, second.slide, second.group) == (6, tmp_path / "a.zarr", "stroma")  # one slide after another
    assert third.slide == tmp_path / "b.zarr"
    assert (third.region, third.classification) == (str(tmp_path / "b.geojson"), "Tumor")


def test_link_to_a_slide_is_the_same_slide(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "link.zarr").symlink_to(tmp_path / "a.zarr", target_is_directory=True)
    table = read_sample_table(write(tmp_path, "slide,donor,group", "a.zarr,d1,tumor", "link.zarr,d2,tumor"))
    assert [sample.slide for sample in table.rows] == [tmp_path / "a.zarr"] * 2  # so that no spot is counted twice


@pytest.mark.parametrize(("delimiter", "encoding"), [("\t", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16")])
def test_tables_of_spreadsheet_programs_are_read(tmp_path: Path, delimiter: str, encoding: str) -> None:
    lines = (delimiter.join(cells) for cells in (("slide", "donor", "group"), ("a.zarr", "d1, left", "g")))
    (only,) = read_sample_table(write(tmp_path, *lines, encoding=encoding)).rows
    assert (only.slide, only.donor, only.group) == (tmp_path / "a.zarr", "d1, left", "g")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "has no column 'slide' and no column 'donor' and no column 'group'"),
        (("slide,group", "a.zarr,g"), "has no column 'donor'; its columns are slide, donor, group"),
        (("slide,donor,group,donor", "a.zarr,d,g,d"), "has several columns 'donor'"),
        (("slide,donor,group", ""), "has no row below its header"),
        (("slide,donor,group", "a.zarr,,g"), "Line 2 of '.*' has no donor; complete it"),
        (("slide,donor,group", "a.zarr,d"), "Line 2 of '.*' has no group; complete it"),
        (("slide,donor,group,region", f"a.zarr,d,g,{WKT}"), "Line 2 of '.*' has more fields than its header"),
        (("slide,donor,group,class", "a.zarr,d,g,Tumor"), "has the class 'Tumor', but no GeoJSON file"),
        (("slide,donor,group,region,class", f'a.zarr,d,g,"{WKT}",Tumor'), "has the class 'Tumor', but no GeoJSON"),
    ],
)
def test_incomplete_tables_are_refused(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_sample_table(write(tmp_path, *lines))


def test_unreadable_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    with pytest.raises(InputError, match="cannot be read \\(No such file or directory\\)"):
        read_sample_table(path)
    path.write_bytes(b"\xff\x00\x13")
    with pytest.raises(InputError, match="cannot be read \\(not UTF-8 text\\)"):
        read_sample_table(path)


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Three squares of one side, 100 apart: two of class Tumor, and one without a class."""
    features = [
        {
            "type": "Feature",
            "properties": {"classification": {"name": kind}} if kind else {},
            "geometry": {"type": "Polygon", "coordinates": [[[x, 0], [x + 10, 0], [x + 10, 10], [x, 10], [x, 0]]]},
        }
        for x, kind in ((0, "Tumor"), (100, ""), (200, "Tumor"))
    ]
    path = tmp_path / "annotations.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def test_region_is_that_of_a_class_of_annotations(annotations: Path) -> None:
    assert row().read_region("global") is None
    text = row(region=WKT).read_region("um")
    assert text is not None
    assert (text.geometry.area, text.coordinate_system) == (50, "um")
    everything = row(region=str(annotations)).read_region("global")
    tumor = row(region=str(annotations), classification="Tumor").read_region("um")
    assert everything is not None
    assert tumor is not None
    assert (everything.geometry.area, tumor.geometry.area) == (300, 200)
    assert tumor.coordinate_system == "um"


def test_unknown_class_is_refused_with_the_known_ones(annotations: Path) -> None:
    with pytest.raises(RegionError, match="has no annotation of class 'tumor'; choose from Tumor"):
        row(region=str(annotations), classification="tumor").read_region("global")


def test_class_in_several_coordinate_systems_is_refused(annotations: Path) -> None:
    content = json.loads(annotations.read_text(encoding="utf-8"))
    content["features"][0]["properties"]["coordinate_system"] = "um"
    annotations.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RegionError, match="several coordinate systems"):
        row(region=str(annotations), classification="Tumor").read_region("global")
