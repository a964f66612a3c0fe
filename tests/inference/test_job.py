"""Jobs: where the counts of some spots are read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.inference.job import UpsampleJob


@pytest.mark.parametrize("columns", [[0, 1, 2, 3, 4], [3, 1]])
def test_counts_of_spots_are_the_same_from_the_stored_ones(
    make_slide: Callable[..., Slide], columns: list[int]
) -> None:
    slide = make_slide(4, 5, 5)
    order = np.random.default_rng(0).permutation(slide.n_spots)
    lattice = detect_lattice(slide.centers)

    def job(stored: bool) -> UpsampleJob:
        return UpsampleJob(
            counts=slide.counts[order],
            centers=slide.centers[order],
            lattice=lattice,
            layout=SpotPixelMap.without_pixels(slide.centers[order], lattice.pitch),
            target_pixels=np.zeros(0, dtype=bool),
            columns=np.array(columns),
            genes=slide.genes,
            settings=UpsampleSettings(),
            stored=(slide.counts, order) if stored else None,
        )

    for spots in (None, np.array([7, 2, 11])):
        one, other = (job(stored).select_counts(spots) for stored in (True, False))
        np.testing.assert_array_equal(one.toarray(), other.toarray())
        np.testing.assert_array_equal(one.indices, other.indices)
    job(stored=True).release_counts()
