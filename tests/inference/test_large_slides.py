"""Test that what a run holds besides the counts does not grow with them, and that blocks change no number."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.memory import traced_peak
from helpers.tiling import use_small_tiles
from scipy import sparse

from napari_srast._utils import row_blocks
from napari_srast.api import upsample
from napari_srast.checkpoints.storage import load_checkpoint
from napari_srast.core.sinks import InMemorySink
from napari_srast.core.slide import Slide
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.raster import make_raster
from napari_srast.inference import expression_field
from napari_srast.inference.expected_information import ExpectedInformation
from napari_srast.inference.expression_tiles import ExpressionSink
from napari_srast.inference.fitted_slide import SlideInput


def test_hash_of_a_slide_copies_no_counts() -> None:
    counts = sparse.random(400, 500, 0.5, format="csr", dtype=np.float32, random_state=0)
    centers = np.argwhere(np.ones((20, 20))) * 10.0
    slide = SlideInput(
        counts=counts, centers=centers, lattice=detect_lattice(centers), checkpoint=load_checkpoint("default")
    )
    with traced_peak() as peak:
        assert slide.digest
    assert peak.n_bytes < counts.data.nbytes / 4


def test_expected_information_in_blocks_equals_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    centers = np.argwhere(np.ones((14, 14))) * 100.0
    raster = make_raster(centers, factor=2, spot_diameter=100.0, spot_shape="square")
    spot_counts = sparse.csr_matrix(rng.poisson(2.0, (196, 6)).astype(np.float32))
    information = ExpectedInformation(spot_counts, raster)
    information.add(sparse.csr_matrix(spot_counts[raster.parent] / 4, dtype=np.float32))
    whole = information.nats_per_count()
    monkeypatch.setattr(row_blocks, "MAX_WHOLE_ROWS", 20)
    monkeypatch.setattr(row_blocks, "_VALUES_PER_BLOCK", 100)
    np.testing.assert_allclose(information.nats_per_count(), whole, rtol=1e-9, atol=1e-12)


@pytest.fixture
def run_expression(make_slide: Callable[..., Slide]) -> Callable[[], np.ndarray]:
    """Return a function that upsamples a small slide and returns its expression, shape (Q, 3)."""
    slide = make_slide(rows=9, cols=9)

    def run() -> np.ndarray:
        expression = upsample(slide, genes=list(slide.genes[:3]), factor=2, method="gp").expression
        assert expression is not None
        return expression.toarray()

    return run


def test_expression_of_a_large_slide_equals_that_of_a_small_one(
    run_expression: Callable[[], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_expression()
    monkeypatch.setattr(expression_field, "MAX_WHOLE_ROWS", 20)
    monkeypatch.setattr(expression_field, "_LARGE_SPOT_SAMPLES", expression_field._SPOT_SAMPLES)
    monkeypatch.setattr(expression_field, "_VALUES_PER_BLOCK", 4000)
    np.testing.assert_allclose(run_expression(), whole, rtol=1e-5)


def test_fewer_points_represent_a_spot_of_a_large_slide(
    run_expression: Callable[[], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_expression()
    monkeypatch.setattr(expression_field, "MAX_WHOLE_ROWS", 20)
    n_points: list[int] = []
    part = expression_field.SpotsAround.part

    def recorded(self: expression_field.SpotsAround, pixels: np.ndarray, parent: np.ndarray) -> Any:
        n_points.append(len(pixels) // len(np.unique(parent)))
        return part(self, pixels, parent)

    monkeypatch.setattr(expression_field.SpotsAround, "part", recorded)
    large = run_expression()
    assert set(n_points) == {3, 4}  # of a spot, for its mean and as its pixels
    assert not np.array_equal(large, whole)
    np.testing.assert_allclose(large, whole, rtol=0.05, atol=1e-6)


def test_expression_is_computed_in_the_threads_of_the_tiles(
    make_slide: Callable[..., Slide], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_tiles(monkeypatch)
    names: list[str] = []
    derive = ExpressionSink.derive

    def recorded(self: ExpressionSink, *arguments: Any) -> Any:
        names.append(threading.current_thread().name)
        return derive(self, *arguments)

    monkeypatch.setattr(ExpressionSink, "derive", recorded)
    result = upsample(make_slide(rows=9, cols=9), factor=2, method="gp")
    assert len(names) > 1
    assert all(name.startswith("napari-srast") for name in names)
    assert result.expression is not None
    assert np.diff(result.expression.indptr).min() > 0


def test_plain_sink_derives_nothing() -> None:
    assert InMemorySink().derive(np.arange(1), sparse.csr_matrix((1, 1), dtype=np.float32)) == (None, None)
