"""A store that is written as its units come holds the very bytes of one that is written at the end, or is not there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import spatialdata
from scipy import sparse

from napari_srast import api
from napari_srast._utils import scratch_file
from napari_srast.api import upsample, upsample_to_store
from napari_srast.core.progress import Progress
from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleMetadata, UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.core.summary import summarize
from napari_srast.errors import Cancelled, InternalError, OutputError
from napari_srast.inference import tiles
from napari_srast.inference.executors.fallback import OutOfMemoryFallback
from napari_srast.inference.executors.local import ThreadExecutor
from napari_srast.io import streaming_writer
from napari_srast.io.result_writer import read_result, write_result
from napari_srast.io.streaming_writer import StreamingResultWriter

MakeSlide = Callable[..., Slide]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small slides come in many units, and go out in many writes."""
    monkeypatch.setattr(tiles, "_MAX_PIXELS", 60)
    monkeypatch.setattr(tiles, "_MIN_SPOTS", 1)
    monkeypatch.setattr(streaming_writer, "_AT_ONCE", 500)
    monkeypatch.setattr(streaming_writer, "_CHUNK", 300)


def matrix_files(store: Path) -> dict[str, bytes]:
    """Return every file of the counts and standard deviations of a store."""
    (table,) = (store / "tables").glob("*_table")
    return {
        str(path.relative_to(table)): path.read_bytes()
        for key in ("X", "layers")
        for path in sorted((table / key).rglob("*"))
        if path.is_file()
    }


def image_of(store: spatialdata.SpatialData) -> np.ndarray:
    (image,) = store.images.values()
    return np.asarray(image)


@pytest.mark.parametrize("memory_limit", [0, 10**9], ids=["waiting on disk", "waiting in memory"])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("uniform", {"factor": 3}),
        ("pycnophylactic", {"mode": "integer"}),
        ("srast", {"mode": "sample", "steps": 2, "draws": 2}),
    ],
)
def test_bytes_are_those_of_a_result_written_at_the_end(
    make_slide: MakeSlide,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    options: dict[str, Any],
    memory_limit: int,
) -> None:
    monkeypatch.setattr(
        streaming_writer,
        "StreamingResultWriter",
        lambda path, **more: StreamingResultWriter(path, **more, memory_limit=memory_limit),
    )
    slide = make_slide(9, 9, lattice="hex")
    expected = upsample(slide, method=method, **options)
    write_result(expected, tmp_path / "whole.zarr")
    for name, workers in (("one", ThreadExecutor(1)), ("three", ThreadExecutor(3))):
        path = tmp_path / f"{name}.zarr"
        record = upsample_to_store(slide, path, method=method, workers=workers, **options)
        assert type(record) is UpsampleMetadata
        files = matrix_files(path)
        assert files == matrix_files(tmp_path / "whole.zarr")
        assert len([file for file in files if file.startswith("X/data/c/")]) > 3
        store, whole = (spatialdata.read_zarr(tmp_path / f"{one}.zarr") for one in (name, "whole"))
        np.testing.assert_array_equal(image_of(store), image_of(whole))
        (table,), (other,) = store.tables.values(), whole.tables.values()
        assert table.obs.drop(columns="region").equals(other.obs.drop(columns="region"))
        assert table.var.equals(other.var)
        got = read_result(path)
        assert got.run == record.run
        np.testing.assert_array_equal(got.counts.toarray(), expected.counts.toarray())
        if expected.std is not None:
            np.testing.assert_array_equal(got.std.toarray(), expected.std.toarray())
        figures = summarize(record)
        assert figures["max_relative_mass_error"] == record.provenance["max_relative_mass_error"] <= 1e-6
        assert set(figures) == set(summarize(expected))
    assert sorted(os.listdir(tmp_path)) == ["one.zarr", "three.zarr", "whole.zarr"]


def test_region_without_image_and_a_gene_without_counts(make_slide: MakeSlide, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(2, (64, 4)).astype(np.float32)
    counts[:, 2] = 0
    slide = make_slide(8, 8, counts=counts)
    low, high = slide.centers.min(axis=0) - 1, np.median(slide.centers, axis=0)
    region = Region.from_polygons([[low, (high[0], low[1]), high, (low[0], high[1])]], slide.coordinate_system)
    record = upsample_to_store(slide, tmp_path / "a.zarr", region, method="uniform", include_image=False)
    expected = upsample(slide, region, method="uniform")
    store = spatialdata.read_zarr(tmp_path / "a.zarr")
    assert not store.images
    (table,) = store.tables.values()
    np.testing.assert_array_equal(table.X.toarray(), expected.counts.toarray())
    assert record.n_pixels == expected.n_pixels
    nothing = upsample_to_store(slide, tmp_path / "b.zarr", None, [slide.genes[2]], method="uniform")
    assert read_result(tmp_path / "b.zarr").counts.nnz == 0
    assert nothing.n_pixels == 256


def test_only_some_genes_are_shown_of_many(make_slide: MakeSlide, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(np.linspace(1, 50, 80), size=(36, 80))
    slide = make_slide(6, 6, counts=counts)
    upsample_to_store(slide, tmp_path / "a.zarr", method="bilinear")
    result = upsample(slide, method="bilinear")
    write_result(result, tmp_path / "b.zarr")
    a, b = (spatialdata.read_zarr(tmp_path / name) for name in ("a.zarr", "b.zarr"))
    assert image_of(a).shape[0] == 64
    np.testing.assert_array_equal(image_of(a), image_of(b))


def test_counts_are_on_disk_before_the_last_unit(
    make_slide: MakeSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One unit at a time: what is behind the last but one may not wait for the end."""
    slide, split = make_slide(16, 16), OutOfMemoryFallback.split
    sizes = []
    monkeypatch.setattr(
        OutOfMemoryFallback,
        "split",
        lambda self, packed, *args: sizes.append(_rows_in(tmp_path)) or split(self, packed, *args),
    )
    upsample_to_store(slide, tmp_path / "a.zarr", method="uniform", workers=ThreadExecutor(1))
    assert len(sizes) > 8
    assert sizes[0] == 0
    assert sizes[-1] > 0.5 * read_result(tmp_path / "a.zarr").n_pixels
    assert (np.diff(sizes) >= 0).all()


def _rows_in(folder: Path) -> int:
    """Return how many rows of counts lie on the disk of a store that is under way."""
    import zarr

    (parts,) = folder.glob(".*.parts")
    return int(zarr.open_group(parts / "X", mode="r").attrs["shape"][0])


ENDS = {
    "stop": Cancelled,
    "stop at the end": Cancelled,
    "fault": InternalError,
    "interrupt": KeyboardInterrupt,
    "interrupt at the end": KeyboardInterrupt,
    "network": ConnectionResetError,
    "disk at once": OutputError,
    "disk": OutputError,
    "disk at the end": OutputError,
}


@pytest.mark.parametrize("how", ENDS)
def test_what_stops_in_the_middle_leaves_nothing(
    make_slide: MakeSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    slide, calls = make_slide(12, 12), []
    full = OSError(28, "No space left on device")

    def raising(place: Any, name: str, error: BaseException, after: int = 3) -> None:
        true = getattr(place, name)

        def failing(*args: Any, **more: Any) -> Any:
            calls.append(1)
            if len(calls) > after:
                raise error
            return true(*args, **more)

        monkeypatch.setattr(place, name, failing)

    def should_stop() -> bool:
        calls.append(1)
        return how == "stop" and len(calls) > 8

    def progress(step: Progress) -> None:
        if how == "stop at the end" and step.fraction == 1.0:
            monkeypatch.setattr(streaming_writer, "as_store", None)  # it is asked before the last portion
            calls.append("end")

    if how == "fault":
        split = OutOfMemoryFallback.split
        monkeypatch.setattr(
            OutOfMemoryFallback,
            "split",
            lambda self, *args: (split(self, *args)[0] * (0.5 if len(calls) > 20 else 1), None),
        )
    elif how == "interrupt":  # in the thread that collects, as Ctrl-C is
        raising(StreamingResultWriter, "add", KeyboardInterrupt())
    elif how == "interrupt at the end":
        raising(streaming_writer, "write_store", KeyboardInterrupt(), after=0)
    elif how == "network":
        raising(OutOfMemoryFallback, "split", ConnectionResetError(104, "reset"))
    elif how == "disk at once":
        raising(streaming_writer, "_AppendableCsr", full, after=0)
    elif how == "disk":
        raising(streaming_writer._AppendableCsr, "append", full)
    elif how == "disk at the end":
        raising(streaming_writer.os, "rename", full, after=0)
    with pytest.raises(ENDS[how]) as caught:
        upsample_to_store(
            slide,
            tmp_path / "a.zarr",
            method="uniform",
            workers=ThreadExecutor(1),
            progress=progress,
            should_stop=lambda: should_stop() or "end" in calls,
        )
    if ENDS[how] is OutputError:
        assert "a.zarr' cannot be written (No space left on device)" in str(caught.value)
        assert "nothing was left behind" in str(caught.value)
    assert os.listdir(tmp_path) == []
    assert caught.traceback  # holds the frames of the run, and none of its threads
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("napari-srast")]
    monkeypatch.undo()
    upsample_to_store(slide, tmp_path / "a.zarr", method="uniform")
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_output_that_cannot_be_is_refused_before_anything_is_computed(
    make_slide: MakeSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "make_raster", None)
    slide = make_slide(5, 5)
    (tmp_path / "there.zarr").mkdir()
    for name, says in (("there.zarr", "exists already"), ("a.h5ad", "let it end in .zarr"), ("no/a.zarr", "not exist")):
        with pytest.raises(OutputError, match=says):
            upsample_to_store(slide, tmp_path / name)
    assert os.listdir(tmp_path) == ["there.zarr"]


def test_scattered_rows_are_put_in_order_with_a_full_scratch_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from napari_srast._utils.spill import SpillBuffer

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    whole = sparse.random(1000, 50, 0.3, format="csr", dtype=np.float32, random_state=0)
    whole.sort_indices()
    rows = np.random.default_rng(0).permutation(1000)
    for name, can_be_kept in (("a", True), ("b", False)):
        with monkeypatch.context() as patched, ThreadPoolExecutor(1) as writer:
            if not can_be_kept:
                patched.setattr(scratch_file, "_open_unnamed", full)
            to = streaming_writer._AppendableCsr(tmp_path / name / "X", 1000, 50, whole.nnz)
            ordered = streaming_writer._RowReorderBuffer(to, 1000, 50, SpillBuffer(0), writer)
            for start in range(0, 1000, 130):
                some = rows[start : start + 130]
                ordered.add(some, whole[some])
            ordered.finish()
        got = anndata.io.read_elem(_group(tmp_path / name))
        assert (got != whole).nnz == 0
    with ThreadPoolExecutor(1) as writer:
        ordered = streaming_writer._RowReorderBuffer(
            streaming_writer._AppendableCsr(tmp_path / "c" / "X", 1000, 50, whole.nnz), 1000, 50, SpillBuffer(0), writer
        )
        ordered.add(rows[:900], whole[rows[:900]])
        with pytest.raises(ValueError, match="not all rows"):
            ordered.finish()


def test_more_counts_than_32_bits_can_number_are_told_with_64(tmp_path: Path) -> None:
    rows = streaming_writer._AppendableCsr(tmp_path / "X", 3, 4, 2**40)
    whole = sparse.csr_matrix(np.arange(12, dtype=np.float32).reshape(3, 4))
    rows.append(whole[:2])
    rows.append(whole[2:])
    assert _group(tmp_path)["indptr"].dtype == np.int64
    got = anndata.io.read_elem(_group(tmp_path))
    np.testing.assert_array_equal(got.toarray(), whole.toarray())


def _group(folder: Path) -> Any:
    import zarr

    return zarr.open_group(folder, mode="r")["X"]


def test_a_result_is_still_written_from_memory_in_parts(
    make_result: Callable[..., UpsampleResult], tmp_path: Path
) -> None:
    result = make_result()
    told: list[float] = []
    write_result(result, tmp_path / "a.zarr", watch=told.append)
    np.testing.assert_array_equal(read_result(tmp_path / "a.zarr").counts.toarray(), result.counts.toarray())
    assert sorted(told) == told
    assert min(told) == 0.0
    assert 0.5 < max(told) < 1.0

    def stop(done: float) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_result(result, tmp_path / "b.zarr", watch=stop)
    assert os.listdir(tmp_path) == ["a.zarr"]
