from __future__ import annotations

from pathlib import Path

import pytest
from spatialdata._core.validation import check_valid_name

from napari_srast.errors import InputError
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.store import element_name, open_store


@pytest.mark.parametrize("text", ["H&E, slide 1", "åäö", "__x", ".hidden", "a/b", ""])
def test_any_text_becomes_a_valid_element_name(text):
    check_valid_name(element_name(text))


def test_paths_that_are_no_store_are_refused(tmp_path):
    with pytest.raises(InputError, match="no slide at"):
        open_store(tmp_path / "missing.zarr")
    (tmp_path / "x.h5ad").write_bytes(b"")
    with pytest.raises(InputError, match="napari-srast import"):
        open_store(tmp_path / "x.h5ad")
    (tmp_path / "outs" / "spatial").mkdir(parents=True)
    with pytest.raises(InputError, match="napari-srast import"):
        open_store(tmp_path / "outs")
    (tmp_path / "plain").mkdir()
    with pytest.raises(InputError, match="not a SpatialData store"):
        open_store(tmp_path / "plain")


def test_message_names_a_few_of_many_invalid_elements(make_slide, make_store, tmp_path, monkeypatch):
    path = tmp_path / "slide.zarr"
    make_store(make_slide(3, 3)).write(path)
    lines = [f"  tables/t{i}: `table.obs[region]` must be of type `categorical`{'.' * (i % 2)}" for i in range(5000)]

    def fail(*_, **__):
        raise ValueError("\n".join(["Validation failed:", *lines[: invalid[-1]]]))

    invalid = []
    monkeypatch.setattr("spatialdata.read_zarr", fail)
    for n_invalid, message in (
        (3, "tables/t2: [^;]*\\)"),
        (4, "tables/t2: [^;]*; and 1 more"),
        (5000, "and 4,997 more"),
    ):
        invalid.append(n_invalid)
        with pytest.raises(InputError, match=message) as caught:
            open_store(path)
        assert "tables/t3" not in str(caught.value)
        assert len(str(caught.value)) < 600

    def fail_at_length(*_, **__):
        raise ValueError("x" * 10**6)

    monkeypatch.setattr("spatialdata.read_zarr", fail_at_length)
    with pytest.raises(InputError, match="x…\\)") as caught:
        open_store(path)
    assert len(str(caught.value)) < 600


def test_half_written_store_is_refused_in_one_sentence(tmp_path):
    half_written = tmp_path / "half_written.zarr"
    half_written.mkdir()
    (half_written / "zarr.json").write_text('{"zarr_form')
    with pytest.raises(InputError, match="half-written") as caught:
        open_store(half_written)
    assert "\n" not in str(caught.value)


def test_half_written_element_is_skipped_and_named(make_slide, make_store, tmp_path):
    from spatialdata.models import ShapesModel

    store = make_store(make_slide(3, 3))
    store.shapes["other"] = ShapesModel.parse(make_slide(2, 2).centers, geometry=0, radius=1.0)
    path = tmp_path / "slide.zarr"
    store.write(path)
    (path / "shapes" / "other" / "shapes.parquet").unlink()
    slide = read_slide(path)
    assert slide.n_spots == 9
    assert any("shapes/other" in notice for notice in slide.notices)


def test_notices_name_a_few_of_many_skipped_elements(make_slide, make_store, tmp_path, monkeypatch):
    import warnings

    import spatialdata

    path = tmp_path / "slide.zarr"
    make_store(make_slide(3, 3)).write(path)
    read = spatialdata.read_zarr

    def read_some(*args, **options):
        for i in range(damaged[-1]):
            warnings.warn(f"shapes/other{i}: lost its parquet file", stacklevel=1)
        return read(*args, **options)

    damaged = []
    monkeypatch.setattr(spatialdata, "read_zarr", read_some)
    for n_damaged, n_notices in ((3, 3), (4, 4), (5, 4), (2000, 4)):
        damaged.append(n_damaged)
        _, skipped = open_store(path)
        assert len(skipped) == n_notices
        assert "'shapes/other2'" in skipped[2]
    assert skipped[3].startswith("1,997 more elements")
    monkeypatch.setattr(spatialdata.SpatialData, "gen_elements", lambda _: iter(()))
    with pytest.raises(InputError, match="2,000 damaged elements were skipped"):
        open_store(path)


def test_store_without_readable_elements_is_refused(tmp_path):
    import spatialdata

    spatialdata.SpatialData().write(tmp_path / "empty.zarr")
    with pytest.raises(InputError, match="no readable"):
        open_store(Path(tmp_path / "empty.zarr"))
