"""Numbers are never silently wrong: large counts keep their sums, and an invalid result is discarded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from scipy import sparse

from napari_srast import api
from napari_srast.cli import main
from napari_srast.core.slide import Slide
from napari_srast.errors import InternalError, SettingsError
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.raster import Raster, make_raster
from napari_srast.inference.validation import ResultValidator
from napari_srast.io.convert.importer import import_slide
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide

MakeSlide = Callable[..., Slide]
CENTERS = np.column_stack([np.arange(16) % 4, np.arange(16) // 4]) * 100.0


def imported(folder: Path, counts: Any) -> Slide:
    """Write counts as a table, import it, and read the slide."""
    table = anndata.AnnData(counts, obsm={"spatial": CENTERS}, uns={"meta": {"spot_diameter": 100.0}})
    table.write_h5ad(folder / "in.h5ad")
    return read_slide(import_slide(folder / "in.h5ad", folder / "slide.zarr"))


@pytest.mark.contract(
    section="Tables and counts",
    case="counts above 16 million, 64-bit counts, spots of 10⁵ counts",
    response="used; sums to 1e-6 of a count",
)
@pytest.mark.parametrize(
    ("dtype", "method"),
    [
        (np.float32, "gp"),
        (np.float64, "uniform"),
        (np.int32, "uniform"),
        (np.uint32, "gp"),
        (np.int64, "gp"),
        (np.int64, "srast"),
    ],
)
def test_large_counts_keep_their_sums_on_disk(dtype: type, method: str, tmp_path: Path) -> None:
    largest = 2**31 - 1 if dtype is not np.float32 else 2**31
    counts = np.random.default_rng(0).integers(2**24, largest, (16, 3)).astype(dtype)
    counts[3, 1] = 0
    slide = imported(tmp_path, sparse.csr_matrix(counts))
    np.testing.assert_array_equal(slide.counts.toarray(), counts.astype(np.float64))  # to the last digit
    result = api.upsample(slide, method=method, factor=2)
    path = write_result(result, tmp_path / "out.h5ad")
    stored = anndata.read_h5ad(path)
    sums = result.raster.sum_to_spots(stored.X.toarray())
    np.testing.assert_allclose(sums, counts.astype(np.float64), rtol=1e-6)
    assert sums[3, 1] == 0


@pytest.mark.parametrize("mode", ["mean", "integer"])
def test_deep_spots_keep_their_sums(mode: str, make_slide: MakeSlide) -> None:
    counts = np.random.default_rng(1).multinomial(100_000, np.full(200, 1 / 200), size=36)
    slide = make_slide(6, 6, counts=counts)
    result = api.upsample(slide, method="gp", mode=mode, factor=4)
    sums = result.raster.sum_to_spots(result.counts.toarray())
    np.testing.assert_allclose(sums, counts, rtol=0 if mode == "integer" else 1e-6)
    np.testing.assert_allclose(sums.sum(axis=1), 100_000, rtol=1e-6)


def test_integer_mode_refuses_counts_above_float32(tmp_path: Path) -> None:
    slide = imported(tmp_path, sparse.csr_matrix(np.full((16, 2), 2**24 + 1, dtype=np.int64)))
    with pytest.raises(SettingsError, match="mode 'mean'"):
        api.upsample(slide, method="uniform", mode="integer")


def tampered(counts: sparse.csr_matrix, how: str) -> sparse.csr_matrix:
    counts = counts.copy()
    if how == "lost":
        counts.data[0] = 0
    elif how == "moved between spots":
        counts.data[[0, -1]] += np.array([-0.5, 0.5], dtype=np.float32) * counts.data[0]
    elif how == "negative":
        counts.data[0] *= -1
    elif how in ("nan", "inf"):
        counts.data[0] = float(how)
    elif how == "pixel lost":
        counts = counts[:-1]
    return counts


@pytest.mark.contract(
    section="Outputs and system errors",
    case="a result breaks a promise of this package",
    response="names the run; please report it (status 1)",
)
@pytest.mark.parametrize("name", ["o.zarr", "o.h5ad"])
@pytest.mark.parametrize("how", ["lost", "moved between spots", "negative", "nan", "inf", "pixel lost"])
def test_failed_conservation_is_an_internal_error_and_writes_nothing(
    how: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store receives tiles one by one, so each tile is validated; other formats validate the complete result."""
    from napari_srast.core.sinks import InMemorySink
    from napari_srast.inference.executors.fallback import OutOfMemoryFallback

    counts = np.random.default_rng(0).poisson(9, (16, 3)) + 1
    imported(tmp_path, sparse.csr_matrix(counts))
    join, predict = InMemorySink._join, OutOfMemoryFallback.predict
    monkeypatch.setattr("napari_srast.cli._silence_third_parties", lambda: None)
    monkeypatch.delenv("NAPARI_SRAST_DEBUG", raising=False)
    if name.endswith(".zarr"):
        monkeypatch.setattr(
            OutOfMemoryFallback, "predict", lambda self, *args: (tampered(predict(self, *args)[0], how), None)
        )
    else:
        monkeypatch.setattr(InMemorySink, "_join", lambda self, blocks: tampered(join(self, blocks), how))
    before = sorted(path.name for path in tmp_path.iterdir())
    status = main(["upsample", str(tmp_path / "slide.zarr"), "-o", str(tmp_path / name), "--method", "uniform"])
    messages = capsys.readouterr().err.splitlines()
    assert status == 1
    (sentence,) = [line for line in messages if line.startswith("napari-srast: ")]
    assert "The result of run 20" in sentence
    assert "please report" in sentence
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def validated(
    counts: sparse.csr_matrix, spot_counts: sparse.csr_matrix, raster: Raster, *, integer: bool = False
) -> dict[str, float]:
    validator = ResultValidator(spot_counts, raster, run="r", integer=integer)
    validator.add(np.arange(raster.n_pixels), counts)
    return validator.figures()


def test_lost_or_repeated_tile_is_detected() -> None:
    raster, spots = make_raster(CENTERS, factor=2), sparse.csr_matrix(np.full((16, 1), 4.0))
    rows = [np.flatnonzero(np.isin(raster.parent, some)) for some in (np.arange(7), np.arange(7, 16))]
    parts = [sparse.csr_matrix(np.ones((len(some), 1), dtype=np.float32)) for some in rows]
    checks = ResultValidator(spots, raster, run="r")
    checks.add(rows[0], parts[0])
    with pytest.raises(InternalError, match="36 pixels are missing"):
        checks.figures()
    with pytest.raises(InternalError, match="a pixel was computed twice"):
        checks.add(rows[0], parts[0])
    checks = ResultValidator(spots, raster, run="r")
    with pytest.raises(InternalError, match="differ from the counts"):  # the pixels of a spot arrive in one tile
        checks.add(rows[0][:-1], parts[0][:-1])


def test_sum_off_by_one_is_detected_in_integer_mode() -> None:
    raster = make_raster(CENTERS, factor=2)
    spots = sparse.csr_matrix(np.full((16, 1), 4_000_000.0))
    counts = sparse.csr_matrix(np.full((64, 1), 1_000_000.0, dtype=np.float32))
    assert validated(counts, spots, raster, integer=True)["max_relative_mass_error"] == 0
    counts.data[5] += 1  # 2.5e-7 of the spot: within the tolerance of the other modes
    validated(counts, spots, raster)
    with pytest.raises(InternalError, match="not exactly"):
        validated(counts, spots, raster, integer=True)


def test_invalid_parent_is_detected() -> None:
    raster = make_raster(CENTERS, factor=2)
    counts = sparse.csr_matrix(np.ones((64, 1), dtype=np.float32))
    with pytest.raises(InternalError, match="belongs to no spot"):
        validated(counts, sparse.csr_matrix(np.full((10, 1), 4.0)), raster)


def test_lost_coordinates_are_refused() -> None:
    with pytest.raises(Exception, match="All 5 spots have the same coordinates") as caught:
        detect_lattice(np.full((5, 2), 7.0), 55.0)
    assert "export the slide again" in str(caught.value)
    with pytest.raises(Exception, match="single spot of unknown size"):
        detect_lattice(np.zeros((1, 2)))
    assert detect_lattice(np.zeros((1, 2)), 55.0).pitch == 55.0


@pytest.mark.parametrize("side", [1e-9, 1e-12, 1e-300])
@pytest.mark.parametrize("n_spots", [1, 2, 20])
def test_too_small_pixels_are_refused(side: float, n_spots: int) -> None:
    centers = np.column_stack([np.arange(n_spots) % 5, np.arange(n_spots) // 5]) * 100.0
    with pytest.raises(SettingsError, match="raster"):
        make_raster(centers, pixel_size=side, spot_diameter=50.0)
