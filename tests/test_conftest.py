from __future__ import annotations

import numpy as np
import pytest

from napari_srast.geometry.lattice import detect_lattice


@pytest.mark.parametrize("lattice", ["square", "hex"])
def test_made_slides_lie_on_the_lattice_they_are_said_to(make_slide, lattice):
    slide = make_slide(6, 7, n_genes=4, lattice=lattice, pitch=50)
    assert slide.counts.shape == (42, 4)
    found = detect_lattice(slide.centers)
    assert found.kind == lattice
    assert found.pitch == pytest.approx(50)


def test_made_slides_repeat(make_slide):
    first, second = make_slide(), make_slide()
    np.testing.assert_array_equal(first.counts.toarray(), second.counts.toarray())
