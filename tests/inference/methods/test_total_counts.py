"""The pool has its own share of the totals where the network was trained for the pixels, and only there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from helpers.results import same_bytes
from scipy import sparse

from napari_srast.api import upsample
from napari_srast.calibration import pooling
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.inference.methods import srast

MakeSlide = Callable[..., Slide]
pytestmark = pytest.mark.usefixtures("short_fits")


@pytest.fixture
def slide(make_slide: MakeSlide) -> Slide:
    """Return squares without gaps, with six genes that follow two waves and depend on a common density."""
    row, column = np.divmod(np.arange(400), 20)
    density = 1 + 0.8 * np.sin(row / 2.5 + column / 4)
    waves = np.stack([1 + 0.7 * np.sin(column / 3), 1 + 0.7 * np.cos(row / 4)] * 3, axis=1)
    counts = np.random.default_rng(0).poisson(8 * density[:, None] * waves)
    return make_slide(20, 20, counts=sparse.csr_matrix(counts))


def of_share(slide: Slide, share: float, **options: object) -> UpsampleResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooling, "TOTALS_SHARE", share)
        return upsample(slide, **options)


@pytest.mark.parametrize("per_gene_limit", [512, 3])
def test_share_changes_totals_and_keeps_compositions(
    slide: Slide, monkeypatch: pytest.MonkeyPatch, per_gene_limit: int
) -> None:
    monkeypatch.setattr(srast, "PER_GENE_LIMIT", per_gene_limit)
    low, high = (of_share(slide, share, factor=2).counts.toarray() for share in (pooling.POOL_SHARE, 0.9))
    assert np.abs(low.sum(axis=1) - high.sum(axis=1)).max() > 0.5
    np.testing.assert_allclose(low.sum(), high.sum(), rtol=1e-6)
    assert upsample(slide, factor=2).provenance["calibration"]["share"] == {
        "totals": pooling.TOTALS_SHARE,
        "composition": pooling.POOL_SHARE,
    }
    if per_gene_limit == 512:
        parent = upsample(slide, factor=2, method="uniform").raster.parent
        contrast = [np.log(one[:, 0] + 1e-12) - np.log(one[:, 1] + 1e-12) for one in (low, high)]
        means = [np.bincount(parent, one)[parent] / np.bincount(parent)[parent] for one in contrast]
        counted = (low[:, :2] > 0.05).all(axis=1)
        np.testing.assert_allclose((contrast[0] - means[0])[counted], (contrast[1] - means[1])[counted], atol=1e-3)


@pytest.mark.parametrize(
    ("diameter", "factor"), [(55.0, 2), (None, 5)], ids=["discs with gaps", "smaller pixels than in training"]
)
def test_share_is_not_used_elsewhere(make_slide: MakeSlide, diameter: float | None, factor: float) -> None:
    slide = make_slide(8, 8, pitch=100.0, spot_diameter=diameter)
    results = [of_share(slide, share, factor=factor) for share in (pooling.POOL_SHARE, 0.9)]
    assert same_bytes(results[0].counts, results[1].counts)
    assert results[0].provenance["calibration"]["share"] == {"totals": 0.2, "composition": 0.2}
