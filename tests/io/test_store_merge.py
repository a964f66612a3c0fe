from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import filelock
import pytest
import spatialdata

from napari_srast.errors import OutputError
from napari_srast.io import store_merge
from napari_srast.io.result_elements import to_spatialdata
from napari_srast.io.result_reader import list_runs
from napari_srast.io.result_writer import write_result
from napari_srast.io.store import write_store


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_table_is_moved_last_and_metadata_after_it(make_result, written_slide, tmp_path, monkeypatch):
    order = []
    rename, replace = os.rename, store_merge.replace_file
    monkeypatch.setattr(os, "rename", lambda a, b: (order.append(Path(b).name), rename(a, b)))
    monkeypatch.setattr(store_merge, "replace_file", lambda path, text: (order.append(path.name), replace(path, text)))
    write_result(make_result(written_slide, run="r"), tmp_path / "slide.zarr", into_slide=True)
    assert order == ["images", "labels", "srast_r_pixels", "srast_r_table", "zarr.json"]
    assert os.listdir(tmp_path) == ["slide.zarr"]


def test_consolidated_metadata_lists_the_new_elements(make_result, written_slide, tmp_path):
    path = tmp_path / "slide.zarr"
    write_result(make_result(written_slide, run="r"), path, into_slide=True)
    root = json.loads((path / "zarr.json").read_text())
    for key, value in root["consolidated_metadata"]["metadata"].items():
        on_disk = json.loads((path / key / "zarr.json").read_text())
        assert on_disk["node_type"] == value["node_type"]
        assert on_disk["attributes"] == value["attributes"]
    files = {str(file.parent.relative_to(path)) for file in path.rglob("zarr.json")} - {"."}
    assert files == set(root["consolidated_metadata"]["metadata"])


def test_store_without_consolidated_metadata_stays_without(make_result, written_slide, tmp_path):
    path = tmp_path / "slide.zarr"
    root = json.loads((path / "zarr.json").read_text())
    del root["consolidated_metadata"]
    (path / "zarr.json").write_text(json.dumps(root))
    before = content(path)
    write_result(make_result(written_slide, run="r"), path, into_slide=True)
    assert {name: content(path)[name] for name in before} == before
    assert set(spatialdata.read_zarr(path).tables) == {"table", "srast_r_table"}


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "stop"])
def test_failure_at_any_step_restores_every_byte(make_result, written_slide, tmp_path, monkeypatch, fails_at, error):
    path = tmp_path / "slide.zarr"
    before = content(path)
    calls = []

    def failing(original):
        def step(*arguments):
            calls.append(arguments)
            if len(calls) == fails_at:
                raise error
            return original(*arguments)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(store_merge.os, "rename", failing(os.rename))
        patch.setattr(store_merge, "replace_file", failing(store_merge.replace_file))
        with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
            write_result(make_result(written_slide), path, into_slide=True)
    assert content(path) == before
    assert os.listdir(tmp_path) == ["slide.zarr"]
    write_result(make_result(written_slide), path, into_slide=True)  # the name can be used again
    assert len(list_runs(path)) == 1


@pytest.mark.parametrize("n_moved", [0, 1, 2, 3, 4])
def test_next_writer_completes_or_reverts_a_killed_merge(make_result, written_slide, tmp_path, n_moved):
    path = tmp_path / "slide.zarr"
    slide = content(path)
    staging = tmp_path / ".slide.zarr.srast_dead_table.merging"
    write_store(to_spatialdata(make_result(written_slide, run="dead")), staging)
    for source, target in list(store_merge._moves(staging, path))[:n_moved]:
        os.rename(source, target)
    write_result(make_result(written_slide, run="next"), path, into_slide=True)
    assert os.listdir(tmp_path) == ["slide.zarr"]
    store = spatialdata.read_zarr(path)
    runs = {"next", "dead"} if n_moved == 4 else {"next"}
    assert set(store.tables) == {"table", *(f"srast_{run}_table" for run in runs)}
    assert set(store.images) == {f"srast_{run}" for run in runs}
    assert {name: data for name, data in content(path).items() if name in slide and name != "zarr.json"} == {
        name: data for name, data in slide.items() if name != "zarr.json"
    }


@pytest.mark.parametrize("moved", [False, True])
def test_region_of_a_killed_merge_is_kept_if_it_was_moved(make_result, written_slide, tmp_path, moved):
    path = tmp_path / "slide.zarr"
    result = to_spatialdata(make_result(written_slide, run="dead"), include_image=False)
    staging = tmp_path / ".slide.zarr.srast_region_1.merging"
    write_store(spatialdata.SpatialData(shapes={"srast_region_1": result.shapes["srast_dead_pixels"]}), staging)
    if moved:
        os.rename(staging / "shapes" / "srast_region_1", path / "shapes" / "srast_region_1")
    write_result(make_result(written_slide, run="next"), path, into_slide=True, include_image=False)
    assert os.listdir(tmp_path) == ["slide.zarr"]
    assert ("srast_region_1" in spatialdata.read_zarr(path).shapes) == moved


def test_hostile_staging_folder_removes_no_user_element(make_result, written_slide, tmp_path):
    path = tmp_path / "slide.zarr"
    before = content(path)
    staging = tmp_path / ".slide.zarr.srast_evil_table.merging"
    staging.mkdir()
    names = ["shapes/spots", "tables/table", "shapes/..", "images/srast_/../../shapes", "shapes/srast_x/../spots"]
    evil = {"consolidated_metadata": {"metadata": {key: {} for key in names}}}
    (staging / "zarr.json").write_text(json.dumps(evil))
    write_result(make_result(written_slide, run="next"), path, into_slide=True)
    assert not staging.exists()
    del before["zarr.json"]
    assert {name: content(path)[name] for name in before} == before


def test_store_of_another_process_is_refused_and_unchanged(written_slide, tmp_path):
    path = tmp_path / "slide.zarr"
    before = content(path)
    with filelock.FileLock(tmp_path / ".slide.zarr.lock"):
        with pytest.raises(OutputError, match="being written by another process"):
            store_merge.merge_into(path, {"tables": ["srast_r_table"]}, shutil.rmtree, wait=0.1)
    assert content(path) == before


def test_store_name_with_glob_characters_works(make_result, written_slide, tmp_path):
    path = tmp_path / "a[1]*.zarr"
    shutil.copytree(tmp_path / "slide.zarr", path)
    write_store(to_spatialdata(make_result(run="dead")), tmp_path / ".a[1]*.zarr.srast_dead_table.merging")
    write_result(make_result(written_slide, run="r"), path, into_slide=True)
    assert sorted(os.listdir(tmp_path)) == ["a[1]*.zarr", "slide.zarr"]
