"""A store that is written during the run has the bytes of one that is written afterwards, or does not exist."""

from __future__ import annotations

import dataclasses
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import spatialdata
from helpers.results import assert_same_result, with_expression
from helpers.tiling import use_small_tiles
from scipy import sparse
from spatialdata.models import Image2DModel

from napari_srast._utils import scratch_file
from napari_srast._utils.spill import SpillBuffer
from napari_srast.api import upsample, upsample_to_store
from napari_srast.core.progress import Progress
from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleMetadata, UpsampleResult, no_columns
from napari_srast.core.sinks import ResultPlan
from napari_srast.core.slide import Slide
from napari_srast.core.summary import summarize
from napari_srast.errors import Cancelled, InputError, InternalError, OutputError, SettingsError
from napari_srast.inference import runner
from napari_srast.inference.executors.fallback import OutOfMemoryFallback
from napari_srast.inference.executors.local import ThreadExecutor
from napari_srast.io import streaming_writer
from napari_srast.io.result_reader import read_result
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.streaming_writer import StreamingResultWriter

MakeSlide = Callable[..., Slide]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide small slides into many tiles and writes."""
    use_small_tiles(monkeypatch)
    monkeypatch.setattr(streaming_writer, "_PORTION_ENTRIES", 500)
    monkeypatch.setattr(streaming_writer, "_CHUNK_VALUES", 300)


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
    """Return the image of the counts of a store."""
    (image,) = (image for name, image in store.images.items() if not name.endswith("_expression"))
    return np.asarray(image)


def stream(result: UpsampleResult, path: Path) -> UpsampleMetadata:
    """Write a result as tiles of scattered pixels that arrive in any order."""
    plan = ResultPlan(
        slide=result.slide,
        raster=result.raster,
        columns=np.arange(len(result.genes)),
        with_std=result.std is not None,
        validate=lambda *_: None,
        expression_columns=result.expression_columns,
        with_expression_std=result.expression_std is not None,
    )
    layers = (result.counts, result.std, result.expression, result.expression_std)
    rows = np.random.default_rng(0).permutation(result.n_pixels)
    with StreamingResultWriter(path) as sink:
        sink.begin(plan)
        for start in range(0, result.n_pixels, 50):
            tile = rows[start : start + 50]
            sink.add(tile, *(None if matrix is None else matrix[tile] for matrix in layers))
        return sink.finish(dataclasses.replace(result, expression_columns=no_columns()))


@pytest.mark.parametrize("std", [False, True])
def test_bytes_of_expression_equal_those_written_afterwards(
    make_result: Callable[..., UpsampleResult], tmp_path: Path, std: bool
) -> None:
    result = with_expression(make_result(), [0, 1, 3], std=std)
    metadata = stream(result, tmp_path / "a.zarr")
    write_result(result, tmp_path / "b.zarr")
    files = matrix_files(tmp_path / "a.zarr")
    assert files == matrix_files(tmp_path / "b.zarr")
    assert len([name for name in files if name.startswith("layers/expression/data/c/")]) > 2
    np.testing.assert_array_equal(metadata.expression_columns, [0, 1, 3])
    assert_same_result(read_result(tmp_path / "a.zarr"), result)
    stores = [spatialdata.read_zarr(tmp_path / name) for name in ("a.zarr", "b.zarr")]
    for element in stores[1].images:
        np.testing.assert_array_equal(stores[0].images[element].values, stores[1].images[element].values)


@pytest.mark.contract(
    section="Other programs",
    case="a run with a name; its histology",
    response="the name is in its elements; the histology is copied with the result",
)
def test_named_run_with_histology_and_columns_is_streamed(
    make_slide: MakeSlide, make_store: Callable[..., Any], tmp_path: Path
) -> None:
    image = Image2DModel.parse(np.full((3, 40, 40), 7, dtype=np.uint8), dims=("c", "y", "x"))
    store = make_store(make_slide(5, 6, n_genes=3), images={"he": image})
    (table,) = store.tables.values()
    table.obs["layer"] = np.arange(table.n_obs) % 4
    store.write(tmp_path / "slide.zarr")
    slide = read_slide(tmp_path / "slide.zarr")
    assert slide.image is not None
    upsample_to_store(slide, tmp_path / "a.zarr", method="uniform", name="tumor_4x", keep_obs=["layer"])
    written = spatialdata.read_zarr(tmp_path / "a.zarr")
    assert slide.image.name in written.images
    kept = written.tables["srast_tumor_4x_table"]
    np.testing.assert_array_equal(kept.obs["layer"], read_result(tmp_path / "a.zarr").raster.parent % 4)
    with pytest.raises(InputError, match="no column 'absent'"):
        upsample_to_store(slide, tmp_path / "b.zarr", method="uniform", keep_obs=["absent"])
    for name in ("a/b", "", "a_pixels", "region_1", "x" * 65):
        with pytest.raises(SettingsError, match="name of the run"):
            upsample_to_store(slide, tmp_path / "b.zarr", method="uniform", name=name)
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "slide.zarr"]


def test_tile_without_its_expression_is_refused(make_result: Callable[..., UpsampleResult], tmp_path: Path) -> None:
    result = dataclasses.replace(make_result(), expression_columns=np.array([0]))
    with pytest.raises(ValueError, match="rows are missing"):
        stream(result, tmp_path / "a.zarr")


@pytest.mark.parametrize("memory_limit", [0, 10**9], ids=["disk", "memory"])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("uniform", {"factor": 3}),
        ("pycnophylactic", {"mode": "integer"}),
        ("srast", {"mode": "sample", "steps": 2, "draws": 2}),
    ],
)
def test_bytes_equal_those_of_a_result_written_afterwards(
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
        lambda path, *content: StreamingResultWriter(path, *content, memory_limit=memory_limit),
    )
    slide = make_slide(9, 9, lattice="hex")
    expected = upsample(slide, method=method, **options)
    write_result(expected, tmp_path / "expected.zarr")
    for name, executor in (("one", ThreadExecutor(1)), ("three", ThreadExecutor(3))):
        path = tmp_path / f"{name}.zarr"
        record = upsample_to_store(slide, path, method=method, executor=executor, **options)
        assert type(record) is UpsampleMetadata
        files = matrix_files(path)
        assert files == matrix_files(tmp_path / "expected.zarr")
        assert len([file for file in files if file.startswith("X/data/c/")]) > 3
        store, reference = (spatialdata.read_zarr(tmp_path / f"{one}.zarr") for one in (name, "expected"))
        np.testing.assert_array_equal(image_of(store), image_of(reference))
        (table,), (other,) = store.tables.values(), reference.tables.values()
        left, right = (one.obs.drop(columns="region").reset_index(drop=True) for one in (table, other))
        assert left.equals(right)
        assert table.var.equals(other.var)
        got = read_result(path)
        assert got.run == record.run
        np.testing.assert_array_equal(got.counts.toarray(), expected.counts.toarray())
        if expected.std is not None:
            np.testing.assert_array_equal(got.std.toarray(), expected.std.toarray())
        figures = summarize(record)
        assert figures["max_relative_mass_error"] == record.provenance["max_relative_mass_error"] <= 1e-6
        assert set(figures) == set(summarize(expected))
    assert sorted(os.listdir(tmp_path)) == ["expected.zarr", "one.zarr", "three.zarr"]


def test_region_without_image_and_gene_without_counts(make_slide: MakeSlide, tmp_path: Path) -> None:
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
    nothing = upsample_to_store(slide, tmp_path / "b.zarr", None, [slide.genes[2]], method="uniform", factor=2)
    assert read_result(tmp_path / "b.zarr").counts.nnz == 0
    assert nothing.n_pixels == 256


def test_image_shows_some_of_many_genes(make_slide: MakeSlide, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(np.linspace(1, 50, 80), size=(36, 80))
    slide = make_slide(6, 6, counts=counts)
    upsample_to_store(slide, tmp_path / "a.zarr", method="bilinear")
    result = upsample(slide, method="bilinear")
    write_result(result, tmp_path / "b.zarr")
    a, b = (spatialdata.read_zarr(tmp_path / name) for name in ("a.zarr", "b.zarr"))
    assert image_of(a).shape[0] == 64
    np.testing.assert_array_equal(image_of(a), image_of(b))


def test_counts_are_on_disk_before_the_last_tile(
    make_slide: MakeSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one tile at a time, the rows before the last tile do not wait for the end of the run."""
    slide, predict = make_slide(16, 16), OutOfMemoryFallback.predict
    sizes = []
    monkeypatch.setattr(
        OutOfMemoryFallback,
        "predict",
        lambda self, *args: sizes.append(_rows_in(tmp_path)) or predict(self, *args),
    )
    upsample_to_store(slide, tmp_path / "a.zarr", method="uniform", executor=ThreadExecutor(1))
    assert len(sizes) > 8
    assert sizes[0] == 0
    assert sizes[-1] > 0.5 * read_result(tmp_path / "a.zarr").n_pixels
    assert (np.diff(sizes) >= 0).all()


def _rows_in(folder: Path) -> int:
    """Return the number of rows of counts on disk of a store that is being written."""
    import zarr

    (parts,) = folder.glob(".*.parts")
    return int(zarr.open_group(parts / "X", mode="r").attrs["shape"][0])


DISK_FULL = OSError(28, "No space left on device")


@pytest.fixture
def check_failure(make_slide: MakeSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Check that a run fails with a type of error and leaves nothing, and that the next run succeeds."""

    def check(error: type[BaseException], **callbacks: Any) -> str:
        path, options = tmp_path / "a.zarr", {"method": "uniform", "executor": ThreadExecutor(1)}
        before = set(threading.enumerate())
        with pytest.raises(error) as caught:
            upsample_to_store(make_slide(12, 12), path, **options, **callbacks)
        assert os.listdir(tmp_path) == []
        assert caught.traceback  # it refers to the frames of the run, but no thread of the run is alive
        started = set(threading.enumerate()) - before
        assert not [thread for thread in started if thread.name.startswith("napari-srast")]
        monkeypatch.undo()
        upsample_to_store(make_slide(12, 12), path, method="uniform")
        assert os.listdir(tmp_path) == ["a.zarr"]
        return str(caught.value)

    return check


@pytest.fixture
def fail_call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a function raise an error from its n-th call on."""

    def patch(owner: Any, name: str, error: BaseException, call: int = 1) -> None:
        function, calls = getattr(owner, name), itertools.count(1)

        def failing(*args: Any, **options: Any) -> Any:
            if next(calls) >= call:
                raise error
            return function(*args, **options)

        monkeypatch.setattr(owner, name, failing)

    return patch


def check_disk_full(message: str) -> None:
    assert "a.zarr' cannot be written (No space left on device)" in message
    assert "nothing was left behind" in message


def test_cancellation_leaves_nothing(check_failure: Callable[..., str]) -> None:
    calls = itertools.count(1)
    check_failure(Cancelled, should_stop=lambda: next(calls) > 8)


def test_cancellation_at_the_end_leaves_nothing(
    check_failure: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = threading.Event()

    def progress(step: Progress) -> None:
        if step.fraction == 1.0:
            # Cancellation is checked before the last portion of counts, so the elements are never built.
            monkeypatch.setattr(streaming_writer, "build_store_without_counts", None)
            finished.set()

    check_failure(Cancelled, progress=progress, should_stop=finished.is_set)


def test_invalid_counts_leave_nothing(check_failure: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    split, calls = OutOfMemoryFallback.predict, itertools.count(1)

    def halve_counts(self: OutOfMemoryFallback, *args: Any) -> Any:
        counts = split(self, *args)[0]
        return counts * (0.5 if next(calls) > 3 else 1), None

    monkeypatch.setattr(OutOfMemoryFallback, "predict", halve_counts)
    check_failure(InternalError)


def test_interrupt_leaves_nothing(check_failure: Callable[..., str], fail_call: Callable[..., None]) -> None:
    fail_call(StreamingResultWriter, "add", KeyboardInterrupt(), call=4)  # in the main thread, like Ctrl-C
    check_failure(KeyboardInterrupt)


def test_interrupt_at_the_end_leaves_nothing(check_failure: Callable[..., str], fail_call: Callable[..., None]) -> None:
    fail_call(streaming_writer, "write_store", KeyboardInterrupt())
    check_failure(KeyboardInterrupt)


def test_network_error_is_no_refused_write(check_failure: Callable[..., str], fail_call: Callable[..., None]) -> None:
    fail_call(OutOfMemoryFallback, "predict", ConnectionResetError(104, "reset"), call=4)
    check_failure(ConnectionResetError)


def test_disk_full_at_the_start_leaves_nothing(
    check_failure: Callable[..., str], fail_call: Callable[..., None]
) -> None:
    fail_call(streaming_writer, "_AppendableCsr", DISK_FULL)
    check_disk_full(check_failure(OutputError))


def test_disk_full_during_the_run_leaves_nothing(
    check_failure: Callable[..., str], fail_call: Callable[..., None]
) -> None:
    fail_call(streaming_writer._AppendableCsr, "append", DISK_FULL, call=2)
    check_disk_full(check_failure(OutputError))


def test_disk_full_at_the_end_leaves_nothing(check_failure: Callable[..., str], fail_call: Callable[..., None]) -> None:
    fail_call(streaming_writer.os, "rename", DISK_FULL)
    check_disk_full(check_failure(OutputError))


def test_invalid_output_is_refused_before_computation(
    make_slide: MakeSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "make_rasters", None)
    slide = make_slide(5, 5)
    (tmp_path / "there.zarr").mkdir()
    for name, message in (
        ("there.zarr", "exists already"),
        ("a.h5ad", "let it end in .zarr"),
        ("no/a.zarr", "not exist"),
    ):
        with pytest.raises(OutputError, match=message):
            upsample_to_store(slide, tmp_path / name)
    assert os.listdir(tmp_path) == ["there.zarr"]


def test_rows_are_reordered_with_a_full_scratch_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise DISK_FULL

    matrix = sparse.random(1000, 50, 0.3, format="csr", dtype=np.float32, random_state=0)
    matrix.sort_indices()
    rows = np.random.default_rng(0).permutation(1000)
    for name, scratch_disk in (("a", True), ("b", False)):
        with monkeypatch.context() as patched, ThreadPoolExecutor(1) as writer:
            if not scratch_disk:
                patched.setattr(scratch_file, "_open_unnamed", full)
            target = streaming_writer._AppendableCsr(tmp_path / name / "X", 1000, 50, matrix.nnz)
            buffer = streaming_writer._RowReorderBuffer(target, 1000, 50, SpillBuffer(0), writer)
            for start in range(0, 1000, 130):
                block = rows[start : start + 130]
                buffer.add(block, matrix[block])
            buffer.finish()
        written = anndata.io.read_elem(_group(tmp_path / name))
        assert (written != matrix).nnz == 0


def test_missing_rows_are_refused(tmp_path: Path) -> None:
    matrix = sparse.random(10, 5, 0.5, format="csr", dtype=np.float32, random_state=0)
    target = streaming_writer._AppendableCsr(tmp_path / "X", 10, 5, matrix.nnz)
    with ThreadPoolExecutor(1) as writer:
        buffer = streaming_writer._RowReorderBuffer(target, 10, 5, SpillBuffer(0), writer)
        buffer.add(np.arange(9), matrix[:9])
        with pytest.raises(ValueError, match="rows are missing"):
            buffer.finish()


def test_row_pointer_has_64_bits_for_many_counts(tmp_path: Path) -> None:
    target = streaming_writer._AppendableCsr(tmp_path / "X", 3, 4, 2**40)
    matrix = sparse.csr_matrix(np.arange(12, dtype=np.float32).reshape(3, 4))
    target.append(matrix[:2])
    target.append(matrix[2:])
    assert _group(tmp_path)["indptr"].dtype == np.int64
    written = anndata.io.read_elem(_group(tmp_path))
    np.testing.assert_array_equal(written.toarray(), matrix.toarray())


def _group(folder: Path) -> Any:
    import zarr

    return zarr.open_group(folder, mode="r")["X"]


def test_result_in_memory_reports_its_writing(make_result: Callable[..., UpsampleResult], tmp_path: Path) -> None:
    result = make_result()
    steps: list[Progress] = []
    write_result(result, tmp_path / "a.zarr", progress=steps.append)
    reports = [step.fraction for step in steps]
    np.testing.assert_array_equal(read_result(tmp_path / "a.zarr").counts.toarray(), result.counts.toarray())
    assert sorted(reports) == reports
    assert min(reports) == 0.0
    assert 0.5 < max(reports) < 1.0

    def stop(step: Progress) -> None:
        if step.fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_result(result, tmp_path / "b.zarr", progress=stop)
    assert os.listdir(tmp_path) == ["a.zarr"]
